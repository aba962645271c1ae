"""Recursions over depth of networks over positions: folded, printed, and right when read by hand."""

import numpy as np
import pytest

import tensorprog as tp

S_W, S_B, DEPTH, SIZE = 1.3, 0.2, 4, 5


@tp.network
def conv_net(net, x, *, depth=2, phi=tp.relu, pool="global", layer="conv"):
    h = net.conv("U", x, (3,), std=S_W) + net.bias("b1", std=S_B)
    for l in range(2, depth + 1):
        z = getattr(net, layer)(("W", l), phi(h), (3,), std=S_W)
        h = z + net.bias(("b", l), std=S_B)
    return net.readout("V", net.global_pool(phi(h))) if pool == "global" else net.flatten("V", phi(h))


@tp.network
def residual(net, x, *, depth=2, phi=tp.relu):
    h = net.conv("U", x, (3,), std=S_W)
    for l in range(2, depth + 1):
        h = h + net.conv(("W", l), phi(h), (3,), std=S_W)
    return net.flatten("V", phi(h))


@tp.network
def pooled(net, x, *, depth=2, phi=tp.relu):
    h = net.conv("U", x, (3,), std=S_W)
    for l in range(2, depth + 1):
        h = net.conv(("W", l), net.avg_pool(phi(h), 2), (3,), std=S_W)
    return net.readout("V", net.global_pool(phi(h)))


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).normal(size=(2, SIZE, 3))


def v(q, c, r, step):
    """V[relu] and V[step] (Cho and Saul)."""
    scale = np.sqrt(np.outer(q, r))
    angle = np.arccos(np.clip(c / scale, -1, 1))
    return (np.pi - angle) / (2 * np.pi) if step else (scale * np.sin(angle) + (np.pi - angle) * c) / (2 * np.pi)


def window(c):
    """1/3 Σ_k C[p+k,q+k]; terms outside are left out."""
    wide = np.pad(c, 1)
    return sum(wide[1 + k : 1 + k + SIZE, 1 + k : 1 + k + SIZE] for k in (-1, 0, 1)) / 3


def by_hand(x, y, pool):
    """The printed recursions, both forms, in NumPy."""

    def layers(a, b, own=None):
        """Σ^(1) to Σ^(L) of two inputs, given those of each with itself."""
        found = [S_W**2 * window(a @ b.T / a.shape[-1]) + S_B**2]
        for l in range(DEPTH - 1):
            q, r = (np.diag(sigmas[l]) for sigmas in own or (found, found))
            found.append(S_W**2 * window(v(q, found[-1], r, step=False)) + S_B**2)
        return found

    alone = [layers(a, a) for a in (x, y)]
    s = layers(x, y, alone)
    steps = [v(np.diag(a), c, np.diag(b), step=True) for a, c, b in zip(alone[0], s, alone[1], strict=True)]
    last = v(np.diag(alone[0][-1]), s[-1], np.diag(alone[1][-1]), step=False)
    end = np.ones((SIZE, SIZE)) / SIZE**2 if pool == "global" else np.eye(SIZE) / SIZE
    theta = s[0]
    for l in range(1, DEPTH):
        theta = s[l] + S_W**2 * window(steps[l - 1] * theta)
    forward = (end * last).sum() + (end * steps[-1] * theta).sum()
    pi = [end * steps[-1]]
    for l in range(DEPTH - 2, -1, -1):
        pi.append(S_W**2 * steps[l] * window(pi[-1]))
    total = sum((p * c).sum() for p, c in zip(pi[::-1], s, strict=True)) + (end * last).sum()
    return forward, total


@pytest.mark.parametrize("pool", ["global", "flatten"])
def test_both_forms_read_by_hand_are_the_kernel(pool, inputs):
    want = tp.ntk(conv_net(depth=DEPTH, pool=pool))(inputs)
    for i in range(2):
        for j in range(2):
            assert by_hand(inputs[i], inputs[j], pool) == pytest.approx((want[i, j],) * 2, rel=1e-13)


def test_the_sum_form_is_written_with_positions():
    text = tp.ntk(conv_net()).recursion().text()
    for line in (
        "Σ^(l)(x,x')[p,q] = 169/(100·3) Σ_k V[relu](Σ^(l-1)(x,x')[p+k,q+k]) + 1/25   (2 ≤ l ≤ L)",
        "Π^(L)(x,x')[p,q] = 1/(P·P')·V[step](Σ^(L)(x,x')[p,q])",
        "Π^(l)(x,x')[p,q] = 169/(100·3)·V[step](Σ^(l)(x,x')[p,q])·Σ_k Π^(l+1)(x,x')[p-k,q-k]",
        "Θ(x,x')          = Σ_(l=1..L) Σ_(p,q) Π^(l)(x,x')[p,q]·Σ^(l)(x,x')[p,q]",
        "+ 1/(P·P') Σ_(p,q) V[relu](Σ^(L)(x,x')[p,q])",
        "k in {-1,0,1}",
        "and the same for (x,x) and (x',x')",
    ):
        assert line in text


def test_the_forward_form_needs_equal_positions_only_where_the_output_does():
    text = tp.ntk(conv_net(pool="flatten")).recursion("forward").text()
    assert "+ 169/(100·3) Σ_k V[step](Σ^(l-1)(x,x')[p+k,q+k])·Θ^(l-1)(x,x')[p+k,q+k]" in text
    assert "Θ(x,x')          = 1/P Σ_p V[relu](Σ^(L)(x,x')[p,p])" in text
    assert "δ" not in text


@pytest.mark.parametrize("make", [conv_net, residual, pooled, lambda: conv_net(layer="local", phi=tp.erf)])
@pytest.mark.parametrize("form", ["sum", "forward"])
def test_networks_over_positions_fold_at_all_depths(make, form):
    R = tp.ntk(make()).recursion(form)
    assert R.proved == [(("L", n),) for n in (1, 2, 6, 9)] and not R.excluded


def test_residual_layers_keep_one_running_tangent_kernel():
    text = tp.ntk(residual()).recursion("forward").text()
    assert "Θ^(l)(x,x')[p,q] = Θ^(l-1)(x,x')[p,q] + " in text and "Σ_(l" not in text


def test_a_recursion_gives_numbers_at_any_depth(inputs):
    R = tp.ntk(conv_net()).recursion()
    assert np.allclose(R(inputs, depth=DEPTH), tp.ntk(conv_net(depth=DEPTH))(inputs), rtol=1e-14)
    assert R(inputs[:1], depth=12).shape == (1, 1)


def test_rules_hold_symbols_at_positions():
    rules = tp.nngp(conv_net()).recursion().rules
    names = [str(equation.lhs) for equation, _ in rules]
    assert "Σ^(l)(x,x')[p,q]" in names and names[-1] == "K(x,x')"


def test_latex_states_the_recursion_and_the_window():
    tex = tp.ntk(conv_net()).recursion().latex()
    assert r"\sum_{l=1}^{L} \sum_{p,q} \Pi^{(l)}(x,x')[p,q] \, \Sigma^{(l)}(x,x')[p,q]" in tex
    assert r"\sum_{k} \Pi^{(l+1)}(x,x')[p-k,q-k]" in tex and r"$k \in \{-1,0,1\}$" in tex
