"""Relations of sums and functions of nearly equal variables against 60 digits, and the structure they are read from."""

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.data import input_relation
from tensorprog.expectations.angles.gaps import (
    CLOSE,
    Relation,
    function_relation,
    gap,
    near,
    relation,
    stretch,
    sum_relation,
)
from tensorprog.expectations.atoms import Expect
from tensorprog.functions import Abs, Erf, Exp, Relu, Sign, Sin, Step, Tanh
from tensorprog.limit.equations import reachable
from tensorprog.limit.gap import Gaps

U = sp.Symbol("u", real=True)
GAPS = [0.0, 1e-30, 1e-18, 1e-12, 1e-6, 1e-3, 0.1, 0.9]
STRETCHES = [0.0, 1e-15, -1e-9, 1e-6, -9e-4, 2e-3, 0.3]


# ---- references: E F(z1)F(z2) from q1, q2, c in 60 digits ------------------------------------------


def theta(q1, q2, c):
    return mp.acos(max(mp.mpf(-1), min(mp.mpf(1), c / mp.sqrt(q1 * q2))))


def absolute(q1, q2, c):
    t = theta(q1, q2, c)
    return 2 * mp.sqrt(q1 * q2) / mp.pi * (mp.sin(t) + (mp.pi / 2 - t) * mp.cos(t))


FUNCTIONS = {
    U: lambda q1, q2, c: c,
    Relu(U): lambda q1, q2, c: (c + absolute(q1, q2, c)) / 4,
    Relu(-U): lambda q1, q2, c: (c + absolute(q1, q2, c)) / 4,
    Abs(U): absolute,
    U / 2 + 3 * Relu(U): lambda q1, q2, c: 4 * c + sp.Rational(9, 4) * absolute(q1, q2, c),
    Step(U): lambda q1, q2, c: (mp.pi - theta(q1, q2, c)) / (2 * mp.pi),
    Sign(U): lambda q1, q2, c: 1 - 2 * theta(q1, q2, c) / mp.pi,
    2 + Sign(U): lambda q1, q2, c: 5 - 2 * theta(q1, q2, c) / mp.pi,
    Erf(U): lambda q1, q2, c: 2 / mp.pi * mp.asin(2 * c / mp.sqrt((1 + 2 * q1) * (1 + 2 * q2))),
    Sin(U): lambda q1, q2, c: mp.exp(-(q1 + q2) / 2) * mp.sinh(c),
    Exp(U): lambda q1, q2, c: mp.exp((q1 + q2) / 2 + c),
    U**3: lambda q1, q2, c: 9 * q1 * q2 * c + 6 * c**3,
}


def exact(minus, c_sign, e, q2):
    """q1, q2, c with these float relations, in 60 digits."""
    q2 = mp.mpf(q2)
    q1 = q2 * (1 + mp.mpf(e)) ** 2
    return q1, q2, c_sign * (1 - mp.mpf(minus)) * mp.sqrt(q1 * q2)


@pytest.mark.parametrize("body", FUNCTIONS, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_relations_of_functions(body, sign):
    for t in GAPS:
        for e in STRETCHES:
            with mp.workdps(60):
                q1, q2, c = exact(t, sign, e, 1.7)
                one, two, both = (FUNCTIONS[body](*law) for law in ((q1, q1, q1), (q2, q2, q2), (q1, q2, c)))
                rho, longer = both / mp.sqrt(one * two), mp.sqrt(one / two) - 1
                want = [float(x) for x in (1 - rho, 1 + rho, longer)]
            floor = 1e-40 if abs(e) < CLOSE else 1e-31  # beyond, θ may have a rounding error
            arrays = (np.array([float(x)]) for x in (q1, q2))
            r = relation(np.array([t]), np.array([float(c)]), np.array([e]))
            got = function_relation(body, U, *arrays, r)
            for name, value, expected in zip(("1 - ρ", "1 + ρ", "stretch"), got, want, strict=True):
                assert value[0] == pytest.approx(expected, rel=2e-12, abs=floor), (name, t, e)


def test_functions_without_a_rule_are_declined():
    one = np.ones(1)
    r = Relation(1e-9 * one, 2 * one, 0 * one)
    for body in (Relu(U - 1), Relu(U) ** 2, Relu(U) + Step(U), Relu(U) * Tanh(U)):
        assert function_relation(body, U, one, one, r) is None
    assert function_relation(Tanh(U), U, 1e6 * one, 1e6 * one, r) is None  # 1024 coefficients do not reach


def test_relations_of_sums():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = rng.integers(1, 4)
        t = 10.0 ** rng.uniform(-30, 0, n) * rng.integers(0, 2, n)
        e = 10.0 ** rng.uniform(-20, 0, n) * rng.choice([-0.9, 0, 1], n)
        b, signs = rng.exponential(size=n), rng.choice([1, 1, 1, -1], n)
        with mp.workdps(60):
            laws = [exact(*args) for args in zip(t, map(int, signs), e, b, strict=True)]
            q1, q2, c = (mp.fsum(column) for column in zip(*laws, strict=True))
            rho = c / mp.sqrt(q1 * q2)
            want = [float(x) for x in (1 - rho, 1 + rho, mp.sqrt(q1 / q2) - 1)]
        parts = [relation(x, s, y) for x, s, y in zip(t, signs, e, strict=True)]
        got = sum_relation([float(q) for q, _, _ in laws], list(b), parts)
        scale = max(float(abs(mp.mpf(x))) for x in [*e, 0])
        assert float(got.minus) == pytest.approx(want[0], rel=1e-13, abs=(4e-16 * scale) ** 2)
        assert float(got.plus) == pytest.approx(want[1], rel=1e-13, abs=(4e-16 * scale) ** 2)
        assert float(got.stretch) == pytest.approx(want[2], rel=1e-13, abs=4e-16 * scale)


def test_a_part_that_only_one_sum_has():
    own = relation(np.array(1.0), 0.0, stretch(np.array(1.0), np.array(0.0)))
    got = sum_relation([3.0, 1.0], [3.0, 0.0], [Relation(0.0, 2.0, 0.0), own])
    assert [float(x) for x in got] == pytest.approx(
        [1 - np.sqrt(0.75), 1 + np.sqrt(0.75), np.sqrt(4 / 3) - 1], rel=1e-15
    )


def test_zero_variance_has_no_angle():
    assert gap(0.0, 1.0, 0.0) == 1 and not near(0.0, 0.0, 0.0)


# ---- data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, -3.0, 1e-120, 7e150])
@pytest.mark.parametrize("distance", [1e-3, 1e-8, 1e-13])
def test_the_angle_of_input_vectors(factor, distance):
    rng = np.random.default_rng(4)
    x, noise = rng.standard_normal((2, 9))
    y = factor * (x + distance * noise)
    with mp.workdps(60):
        xs, ys = [list(map(mp.mpf, v)) for v in (x, y)]
        lengths = [mp.sqrt(mp.fdot(v, v)) for v in (xs, ys)]
        want = 1 - abs(mp.fdot(xs, ys)) / (lengths[0] * lengths[1])
        t, e = (v[0] for v in input_relation(x[None], y[None], *(np.array([v]) for v in (x @ x, y @ y, x @ y))))
        assert float(t) == pytest.approx(float(want), rel=1e-14)
        assert float(e) == pytest.approx(float(lengths[0] / lengths[1] - 1), rel=1e-14, abs=1e-15 * distance)


def test_repeated_and_zero_input_vectors():
    x = np.random.default_rng(5).standard_normal((1, 1, 9))
    rows = np.concatenate([x, 0 * x, 2 * x], axis=1)
    own = np.einsum("abd,abd->ab", rows, rows)
    t, e = input_relation(x, rows, np.sum(x * x, axis=2), own, x[:, 0] @ rows[0].T)
    assert t.tolist() == [[0.0, 1.0, 0.0]] and e[0, 0] == 0.0 and e[0, 2] == pytest.approx(-0.5, rel=1e-15)


# ---- structure -------------------------------------------------------------------------------------


def parts_of(kernel):
    """The parts of the variables of all atoms of two variables."""
    d = kernel._derive()
    atoms = [g for g in reachable([d.poly]) if isinstance(g, Expect) and len(g.forms) == 2]
    return [part for g in atoms for part in d.limit.structure.parts(*g.forms)]


def test_an_mlp_is_made_of_data_biases_and_functions():
    parts = parts_of(tp.nngp(tp.programs.mlp(depth=3, sigma_b=1)))
    assert [p.same for p in parts] == [True, False] * 3 or [p.same for p in parts] == [False, True] * 3
    assert sum(p.data is not None for p in parts) == 1 and sum(p.functions is not None for p in parts) == 2


def test_a_function_is_recognised_through_expanded_arguments():
    """With biases, a u + b relu(u) holds the terms of u one by one."""
    slope = sp.Symbol("a")
    parts = parts_of(tp.nngp(tp.programs.mlp(depth=2, phi=tp.leaky_relu(slope), sigma_b=1)))
    (functions,) = [p.functions for p in parts if p.functions is not None][:1]
    u = functions[0].body.atoms(Relu).pop().args[0]
    assert sp.expand(functions[0].body - slope * u - (1 - slope) * Relu(u)) == 0


def test_linear_layers_pass_the_angle_on():
    @tp.network
    def net(net, x):
        h = net.dense("W2", net.dense("W1", net.embed("U", x)))
        return net.readout("V", tp.relu(h))

    assert {p.forms is not None for p in parts_of(tp.nngp(net()))} == {True}
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 5))
    y = x + 1e-9 * rng.standard_normal((1, 5))

    def linear(net, x):
        return net.readout("V", tp.sign(net.dense("W", net.embed("U", x))))

    shallow, deep = tp.programs.mlp(depth=1, sigma_w=1, phi=tp.sign), tp.network(linear)()
    one, two = (tp.ntk(n)(x, y) - tp.nngp(n)(x, y) for n in (shallow, deep))  # Σ E δδ, of size 1/θ, once and twice
    assert two == pytest.approx(2 * one, rel=1e-13) and one > 1e7


@pytest.mark.parametrize("name", ["tied_autoencoder", "mean_readout", "residual_mlp", "deep_linear", "rnn"])
def test_numbers_far_from_one_do_not_change(name):
    kernel = tp.nngp if name != "mean_readout" else tp.ntk
    K = kernel(getattr(tp.programs, name)())
    x = np.random.default_rng(2).standard_normal((3, 3, 4) if name == "rnn" else (3, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gaps, "__call__", lambda self, g, value: None)
        plain = K(x)
    np.testing.assert_allclose(K(x), plain, rtol=1e-13)


def test_a_program_by_hand_carries_the_angle_on():
    """A covariance given to the last digit keeps its angle through any number of layers."""
    p, c = tp.Program(), sp.Symbol("c")
    h = p.gaussian(["a", "b"], cov=[[1, c], [c, 1]])
    for _ in range(6):
        W = p.matrix(variance=sp.Rational(7, 5))
        h = [W @ tp.relu(x) for x in h]
    limit = tp.limit(p)
    both = limit.E(lambda x, y: tp.sign(x) * tp.sign(y), *h)
    start = 1 - 2.0**-40
    with mp.workdps(60):
        rho = mp.mpf(start)
        for _ in range(6):
            rho = (rho + absolute(1, 1, rho)) / 2
        want = float(2 * theta(1, 1, rho) / mp.pi)
    assert 1 - limit.evaluate(both, {c: start}) == pytest.approx(want, rel=1e-9)
    assert limit.evaluate(both, {c: np.array([1.0, start])})[0] == 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gaps, "__call__", lambda self, g, value: None)
        assert 1 - limit.evaluate(both, {c: start}) != pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("factor", [3.0, 0.7, 1 / 3])
def test_multiples_have_no_angle_and_their_neighbours_have(factor):
    rows = np.array([[1.75, 0.25, -0.125], [1.7, 0.0, 0.0]])  # few digits: products with 3 are exact
    y = rows[:1] * 3 if factor == 3 else rows[1:] * factor  # all of one axis are parallel
    x = rows[:1] if factor == 3 else rows[1:]
    t, _ = input_relation(x, y, np.sum(x * x, 1), np.sum(y * y, 1), np.sum(x * y, 1))
    assert t[0] == 0
    y[0, 1] += 1e-35
    t, _ = input_relation(x, y, np.sum(x * x, 1), np.sum(y * y, 1), np.sum(x * y, 1))
    assert t[0] == (0 if factor == 3 else pytest.approx(0.5 * (1e-35 / y[0, 0]) ** 2, rel=1e-12))


def test_the_tangent_kernel_of_step_is_infinite_at_multiples():
    K = tp.ntk(tp.programs.mlp(phi=tp.step))
    x = np.array([[1.75, 0.25, -0.125]])
    for y in (3 * x, 5 * x, 2 * x):
        with pytest.raises(tp.DataError, match="infinite at two inputs that are equal or parallel"):
            K(x, y)
