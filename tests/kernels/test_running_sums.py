"""Residual networks whose input enters at every layer: covariances are running sums, with equations of their own."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.recursions.ranges import Bound, Box, cover, cover_sides

X = np.random.default_rng(0).standard_normal((3, 4))


@tp.network
def net(n, x, *, depth=4, fresh=True, bias=False, phi=tp.relu):
    u = n.embed("U", x, std=0.4) + (n.bias("b", std=0.5) if bias else 0)
    z = phi(u)
    for l in range(2, depth + 1):
        z = z + phi(n.dense(("W", l) if fresh else "W", z, std=0.5) + u)
    return n.readout("V", z)


def relu_moments(S):
    size = np.sqrt(np.outer(np.diag(S), np.diag(S)))
    angle = np.arccos(np.clip(S / size, -1, 1))
    return size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)


def by_hand(depth):
    """NNGP and NTK of fresh matrices, from the covariance of all h^(l)(x) at once."""
    N, U = len(X), 0.16 * X @ X.T / X.shape[1]
    S = np.tile(U, (depth, depth)).astype(float)  # of h^(1), .., h^(L), at all inputs
    theta = S.copy()
    sums = []
    for l in range(depth):
        own = slice(l * N, (l + 1) * N)
        if l:
            S[own, own] += 0.25 * sums[-1][0]
            theta[own, own] += 0.25 * (sums[-1][0] + sums[-1][1])
        V, V1 = relu_moments(S[: (l + 1) * N, : (l + 1) * N])
        T = V1 * theta[: (l + 1) * N, : (l + 1) * N]
        sums.append([m.reshape(l + 1, N, l + 1, N).sum(axis=(0, 2)) for m in (V, T)])
    return sums[-1][0], sums[-1][0] + sums[-1][1]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sum", "forward"])
def test_the_values_are_those_of_the_covariance_of_all_layers_at_once(form):
    nngp, ntk = by_hand(7)
    np.testing.assert_allclose(tp.ntk(net()).recursion(form)(X, depth=7), ntk, rtol=1e-12)
    if form == "sum":
        np.testing.assert_allclose(tp.nngp(net()).recursion()(X, depth=7), nngp, rtol=1e-12)


@pytest.mark.parametrize(
    ("fresh", "bias", "phi", "form"),
    [
        pytest.param(False, False, tp.relu, "sum", marks=pytest.mark.slow),
        (False, True, tp.erf, "forward"),
        pytest.param(True, True, tp.erf, "sum", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_depths_never_folded_at_have_the_values_of_the_kernel_derived_there(fresh, bias, phi, form):
    for kernel, own in ((tp.ntk, form), (tp.nngp, None)):
        R, deep = (kernel(net(depth=d, fresh=fresh, bias=bias, phi=phi)) for d in (4, 9))
        R = R.recursion(own)
        np.testing.assert_allclose(R(X, depth=9), deep(X), rtol=1e-12)
        np.testing.assert_allclose(R.gram(X, depth=9), R(X, depth=9), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sum", "forward"])
@pytest.mark.parametrize("phi", [tp.relu, tp.erf])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
def test_all_of_them(fresh, bias, phi, form):
    given = {"fresh": fresh, "bias": bias, "phi": phi}
    R = tp.ntk(net(**given)).recursion(form)
    np.testing.assert_allclose(R(X, depth=9), tp.ntk(net(depth=9, **given))(X), rtol=1e-12)


def test_the_equations_have_constant_length_and_say_what_their_letters_are():
    lines = tp.ntk(net()).recursion().text().splitlines()
    assert "z^(l) = z^(l-1) + r^(l): E = E z z', C = E z r' with z at the smaller index" in lines
    assert "D = E dz dz', of gradients" in lines
    assert "  E^(l)(x,x')     = C^(l)(x,x') + E^(l-1,l)(x,x')   (2 ≤ l ≤ L)" in lines
    assert "  C^(l,l')(x,x')  = C^(l-1,l')(x,x') + V[relu](Σ^(l,l')(x,x'))   (2 ≤ l ≤ L-1, l+1 ≤ l' ≤ L)" in lines
    assert "  Π^(l,l')(x,x')  = V[step](Σ^(l,l')(x,x'))·D^(l,l')(x,x')   (1 ≤ l ≤ L, 1 ≤ l' ≤ L)" in lines
    assert len(lines) < 40
    assert r"C = \mathsf{E}\, z r'" in tp.nngp(net()).recursion().latex()


@pytest.mark.slow
def test_there_is_no_fixed_point_of_a_sum_that_grows():
    with pytest.raises(tp.AssumptionError, match="does not contract|diverges"):
        tp.nngp(net()).recursion().fixed_point(X[:2])


def test_sides_of_a_diagonal_are_covered_apart_where_no_box_holds_all():
    sizes = (3, 4, 5, 6)
    off = {(("L", s),): frozenset((i, j) for i in range(1, s + 1) for j in range(1, s + 1) if i != j) for s in sizes}
    assert cover(off) is None
    below, above = cover_sides(off)
    assert below == Box((Bound("", 2), Bound("", 1)), (Bound("L", 0), Bound("", -1, 0)))
    assert above == Box((Bound("", 1), Bound("", 1, 0)), (Bound("L", -1), Bound("L", 0)))
