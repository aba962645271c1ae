"""The limit of small programs, by hand: Z, Ẑ, Ż, moments, scalars, and questions that make no sense."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import special

import tensorprog as tp
from tensorprog.errors import DataError, NoRuleError, ProgramError
from tensorprog.limit.evaluate import same

C = sp.Symbol("c", real=True)
PROPERTY = settings(
    derandomize=True, deadline=None, max_examples=60, database=None, suppress_health_check=list(HealthCheck)
)


def product(a, b):
    return a * b


def start(variance=1, **vectors):
    """A program with a matrix W and named vectors of these variances."""
    p = tp.Program()
    return p, p.matrix("W", variance), *(p.vector(name, v) for name, v in vectors.items())


def number(lim, expr, values=None):
    return float(lim.evaluate(expr, values))


# ---- Z, Ẑ, Ż ---------------------------------------------------------------------------------------------


def test_an_initial_vector_is_its_own_gaussian():
    p = tp.Program()
    x, y = p.vector("x", 3, mean=2), p.vector("y", 0, mean=5)
    lim = tp.limit(p)
    assert str(lim.Z(x)) == "Z(x) + 2" and lim.Z(y) == 5
    assert (lim.mean(x), lim.cov(x, x), lim.cov(x, y)) == (2, 3, 0)


def test_a_matmul_of_an_initial_vector_has_no_correction():
    p, W, x = start(5, x=2)
    y = W @ x
    lim = tp.limit(p)
    assert lim.zdot(y) == 0 and lim.Z(y) == lim.zhat(y) and str(lim.Z(y)) == "Ẑ(W x)"
    assert lim.cov(y, y) == 10 and lim.mean(y) == 0 and lim.cov(x, y) == 0


def test_going_there_and_back_adds_the_vector_itself():
    p, W, x = start(3, x=2)
    y = W @ x
    z = W.T @ y
    lim = tp.limit(p)
    assert lim.zdot(z) == 3 * lim.Z(x) and lim.Z(z) == lim.zhat(z) + 3 * lim.Z(x)
    assert lim.cov(z, z) == 3 * (3 * 2) + 9 * 2 and lim.cov(x, z) == 6 and lim.cov(y, z) == 0


def test_the_correction_of_a_nonlinearity_is_the_mean_of_its_derivative():
    p, W, x = start(1, x=2)
    y = W @ x
    z = W.T @ tp.relu(y)
    lim = tp.limit(p)
    assert str(lim.zdot(z)) == "E[step](2)*Z(x)"
    slope = lim.zdot(z).coeff(lim.Z(x))
    assert number(lim, slope) == pytest.approx(0.5, abs=1e-14)
    assert number(lim, lim.cov(x, z)) == pytest.approx(1, rel=1e-14)
    assert number(lim, lim.cov(z, z)) == pytest.approx(1 + 0.25 * 2, rel=1e-14)


@pytest.mark.parametrize("variance", [sp.Rational(1, 2), 1, 4])
@pytest.mark.parametrize("sigma2", [sp.Rational(1, 3), 1, 3])
def test_a_kinked_function_has_its_dirac_mass(sigma2, variance):
    """lim ⟨x, Wᵀ step(Wx)⟩/n = E Z^{Wx} step(Z^{Wx}) = √(σ²q/2π); 1/√(2π) for σ = q = 1, and not 0."""
    p, W, x = start(sigma2, x=variance)
    y = W @ x
    m = tp.moment(product, x, W.T @ tp.step(y))
    lim = tp.limit(p)
    expected = np.sqrt(float(sigma2 * variance) / (2 * np.pi))
    assert number(lim, lim.value(m)) == pytest.approx(expected, rel=1e-14)
    assert number(lim, lim.E(lambda a: a * tp.step(a), y)) == pytest.approx(expected, rel=1e-14)


FUNCTIONS = {
    "relu": tp.relu, "step": tp.step, "sign": tp.sign, "abs": tp.abs, "tanh": tp.tanh, "erf": tp.erf, "gelu": tp.gelu,
    "cube": lambda u: u**3, "square step": lambda u: u**2 * tp.step(u), "cube of step": lambda u: tp.step(u) ** 3,
}  # fmt: skip


@pytest.mark.parametrize("psi", FUNCTIONS.values(), ids=FUNCTIONS)
def test_transposing_moves_from_one_side_to_the_other(psi):
    """E Z^x Z^{Wᵀy} = E Z^{Wx} Z^y, also where σ_W² = 3: the Stein form is (σ_W² C)⁺ b."""
    p, W, x1, x2 = start(3, x1=1, x2=2)
    x3 = x1 + x2
    g1, g2, g3 = W @ x1, W @ x2, W @ x3
    y = tp.nonlin(lambda a, b: psi(a) + a * b + 2 * psi(b), g1, g3)
    z = W.T @ y
    lim = tp.limit(p)
    for x, g in ((x1, g1), (x2, g2), (x3, g3)):
        left, right = number(lim, lim.E(product, x, z)), number(lim, lim.E(product, g, y))
        assert left == pytest.approx(right, rel=1e-10, abs=1e-12)
        assert same(lim._interpreter.moment(x, z), lim._interpreter.moment(g, y))


@st.composite
def two_way_programs(draw):
    """A program that uses one matrix both ways, and the pairs (x, Wx), (y, Wᵀy) in it."""
    p = tp.Program()
    W, pairs = p.matrix("W", draw(st.sampled_from([1, 3]))), []
    vectors = p.gaussian("a b", [[1, C], [C, 2]], mean=[0, draw(st.integers(0, 1))])
    for _ in range(draw(st.integers(2, 5))):
        x, f = draw(st.sampled_from(vectors)), draw(st.sampled_from([tp.identity, tp.relu, tp.tanh, tp.step]))
        x = f(x) if f is not tp.identity else x
        transpose = draw(st.booleans())
        y = (W.T if transpose else W) @ x
        vectors.append(y)
        pairs.append((transpose, x, y))
    return p, pairs


@given(two_way_programs())
@PROPERTY
def test_the_identity_of_transposition_holds_symbolically(case):
    p, pairs = case
    lim = tp.limit(p)
    for _, x, wx in (pair for pair in pairs if not pair[0]):
        for _, y, wty in (pair for pair in pairs if pair[0]):
            assert same(lim._interpreter.moment(x, wty), lim._interpreter.moment(wx, y))


def test_the_correction_reads_every_earlier_use():
    p, W, x1, x2 = start(2, x1=1, x2=1)
    y = tp.nonlin(lambda a, b: a + 3 * b + a * b, W @ x1, W @ x2)
    z = W.T @ y
    lim = tp.limit(p)
    assert sp.expand(lim.zdot(z) - 2 * (lim.Z(x1) + 3 * lim.Z(x2))) == 0


def test_a_matrix_and_its_transpose_have_independent_fields():
    p, W, x = start(1, x=1)
    V = p.matrix("V")
    y, z, u = W @ x, W.T @ x, V @ x
    lim = tp.limit(p)
    assert [lim.cov(y, z), lim.cov(y, u), lim.zdot(y), lim.zdot(z)] == [0, 0, 0, 0]


def test_a_matrix_of_variance_zero_gives_zero():
    p, W, x = start(0, x=1)
    y = W.T @ (W @ x)
    lim = tp.limit(p)
    assert lim.Z(y) == 0 and lim.zhat(y) == 0 and lim.cov(y, y) == 0


def test_a_symbolic_variance_stays_a_symbol():
    q = sp.Symbol("q", positive=True)
    p, W, x = start(q, x=2)
    y = W @ x
    z = W.T @ y
    lim = tp.limit(p)
    assert lim.zdot(z) == q * lim.Z(x) and number(lim, lim.cov(z, z), {q: 3.0}) == pytest.approx(36, rel=1e-14)


@pytest.mark.parametrize("psi", [tp.relu, tp.step, lambda u: u**3 - tp.sign(u)], ids=["relu", "step", "cube-sign"])
def test_the_limit_is_what_a_wide_program_computes(psi):
    """⟨x, Wᵀψ(Wx)⟩/n and |Wᵀψ(Wx)|²/n at σ_W² = 3: within 4 standard errors of 64 runs, plus the O(1/n) bias."""
    p, W, x = start(3, x=1)
    z = W.T @ psi(W @ x)
    moments = [tp.moment(product, x, z), tp.moment(lambda a: a**2, z)]
    lim, width = tp.limit(p), 400
    run = tp.sample(p, width=width, seed=5, seeds=64)
    for m in moments:
        limit, values = number(lim, lim.value(m)), run[m]
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - limit) <= 4 * error + 3 * abs(limit) / width


# ---- means, correlations, scalars ------------------------------------------------------------------------


def test_means_and_second_moments_of_shifted_vectors():
    p, W, _ = start(2, x=1)
    a = p.vector("a", variance=3, mean=2)
    y, sq = W @ a, a**2
    lim = tp.limit(p)
    assert lim.cov(y, y) == 2 * (3 + 4) and lim.mean(y) == 0
    assert lim.mean(sq) == 7 and lim.cov(sq, sq) == 2 * 9 + 4 * 4 * 3 and lim.cov(a, sq) == 2 * 2 * 3


def test_the_relu_of_a_shifted_gaussian():
    p = tp.Program()
    r = tp.relu(p.vector("a", variance=4, mean=1))
    lim = tp.limit(p)
    density, below = np.exp(-1 / 8) / np.sqrt(2 * np.pi), 0.6914624612740131
    assert number(lim, lim.mean(r)) == pytest.approx(below + 2 * density, rel=1e-10)


def test_correlated_vectors_with_a_symbol():
    p = tp.Program()
    a, b = p.gaussian("a b", [[1, C], [C, 1]])
    r, s = tp.relu(a), tp.relu(b)
    lim = tp.limit(p)
    assert lim.cov(a, b) == C and lim.evaluate(lim.cov(a, b), {C: 0.3}) == 0.3
    angle = np.arccos(0.3)
    arccosine = (np.sin(angle) + (np.pi - angle) * 0.3) / (2 * np.pi)
    assert number(lim, lim.E(product, r, s), {C: 0.3}) == pytest.approx(arccosine, rel=1e-14)
    assert number(lim, lim.cov(r, s), {C: 0.3}) == pytest.approx(arccosine - 1 / (2 * np.pi), rel=1e-13)
    many = lim.evaluate(lim.E(product, r, s), {C: np.array([-1.0, 0.0, 0.3, 1.0])})
    np.testing.assert_allclose(many, [0, 1 / (2 * np.pi), arccosine, 0.5], rtol=1e-14, atol=1e-15)


def test_expectations_of_polynomials_are_wick_sums():
    p = tp.Program()
    a, b = p.gaussian("a b", [[2, C], [C, 3]])
    lim = tp.limit(p)
    assert sp.expand(lim.E(lambda u, v: u**2 * v**2, a, b) - (6 + 2 * C**2)) == 0
    assert lim.E(lambda u, v: u**3 * v**2, a, b) == 0 and lim.E(lambda u: u**6, a) == 15 * 8


def test_scalars_enter_nonlins_and_moments():
    p, W, x = start(1, x=2)
    s = p.scalar("s", value=0.5)
    m = tp.moment(lambda u, t: t * u**2 + 1, x, params=[s])
    twice = tp.moment(lambda u, v: u * v, params=[s, m])
    y = tp.nonlin(lambda u, t: t * u, W @ x, params=[m])
    lim = tp.limit(p)
    assert [lim.value(v) for v in (s, m, twice)] == [sp.Rational(1, 2), 2, 1]
    assert lim.cov(y, y) == 8


def test_a_scalar_s_limit_is_a_number_at_any_width():
    p = tp.Program()
    x, s = p.vector("x"), p.scalar("s", value=C)
    m = tp.moment(lambda u, t: tp.relu(u) * t, x, params=[s])
    lim = tp.limit(p)
    assert number(lim, lim.value(m), {C: 2.0}) == pytest.approx(2 / np.sqrt(2 * np.pi), rel=1e-14)


def test_a_moment_is_deterministic_in_the_limit():
    p, W, x = start(1, x=3)
    m = tp.moment(lambda u: u**2, x)
    y = W @ (x * m)
    lim = tp.limit(p)
    assert lim.value(m) == 3 and lim.cov(y, y) == 27 and lim.zdot(y) == 0


def test_the_division_by_a_norm_is_a_scalar():
    p, W, x = start(1, x=4)
    norm = tp.moment(lambda u: u**2, x)
    y = W @ tp.nonlin(lambda u, q: u / sp.sqrt(q), x, params=[norm])
    lim = tp.limit(p)
    assert number(lim, lim.cov(y, y)) == pytest.approx(1, rel=1e-14)


# ---- linear dependence -----------------------------------------------------------------------------------


def linear():
    p, W, x1, x2 = start(3, x1=1, x2=2)
    return p, W, [W @ x for x in (x1, x2, x1 + x2, 2 * x1, x1 - x1)]


def test_dependent_products_share_their_gaussians():
    p, _, g = linear()
    lim = tp.limit(p)
    z1, z2 = lim.zhat(g[0]), lim.zhat(g[1])
    assert [sp.expand(lim.zhat(v)) for v in g] == [z1, z2, z1 + z2, 2 * z1, 0]
    cov = sp.Matrix(5, 5, lambda i, j: lim.cov(g[i], g[j]))
    A = sp.Matrix([[1, 0], [0, 1], [1, 1], [2, 0], [0, 0]])
    assert cov == A * sp.diag(3, 6) * A.T


def test_jumps_of_dependent_products_are_exact():
    p, _, g = linear()
    cube = tp.nonlin(lambda u: tp.step(u) ** 3, g[2])
    lim = tp.limit(p)
    values = [
        (lim.mean(cube), 0.5),
        (lim.E(product, cube, cube), 0.5),
        (lim.E(product, cube, g[2]), 3 / np.sqrt(2 * np.pi)),
        (lim.E(product, cube, g[0]), 1 / np.sqrt(2 * np.pi)),
        (lim.E(lambda u, v: tp.step(u) ** 3 * tp.step(v), g[0], g[3]), 0.5),
        (lim.E(lambda u, v: tp.step(u) ** 3 * tp.sign(v) ** 3, g[0], g[3]), 0.5),
        (lim.E(lambda u, v, w: tp.step(u + v - w), g[0], g[1], g[2]), 0.0),
        (lim.E(lambda u, v: tp.step(u) ** 3 * tp.step(v) ** 3, g[0], g[2]), 0.25 + np.arcsin(3**-0.5) / (2 * np.pi)),
    ]
    for expr, expected in values:
        assert number(lim, expr) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_a_correction_through_dependent_products_is_unique():
    """Ż of Wᵀψ(W(x1+x2)) is the same whether W x1 and W x2 were introduced before or not."""
    for introduced in ((), (0,), (0, 1)):
        p, W, *xs = start(2, x1=1, x2=1)
        for i in introduced:
            W.apply(xs[i])
        z = W.T @ tp.relu(W @ (xs[0] + xs[1]))
        lim = tp.limit(p)
        for x in xs:
            assert number(lim, lim.E(product, x, z)) == pytest.approx(1, rel=1e-14)
            assert number(lim, lim.zdot(z).expand().coeff(lim.Z(x))) == pytest.approx(1, rel=1e-14)


# ---- questions -------------------------------------------------------------------------------------------


def test_equations_are_in_order_and_name_each_other_only_backwards():
    p, W, x = start(1, x=2)
    y = W @ tp.relu(x)
    for _ in range(3):
        y = W @ tp.relu(y + x)
    lim = tp.limit(p)
    lim.cov(y, y)
    names = [e.lhs for e in lim.equations]
    assert len(set(names)) == len(names) >= 3
    for i, e in enumerate(lim.equations):
        assert not set(names[i:]) & e.rhs.free_symbols


def test_asking_again_gives_the_same_answer():
    p, W, x = start(1, x=2)
    y = W.T @ tp.relu(W @ x)
    lim = tp.limit(p)
    assert lim.cov(y, x) == lim.cov(x, y) and lim.E(product, x, y) == lim.E(product, y, x)
    assert lim.evaluate(lim.cov(y, x) * 2 + 1) == pytest.approx(2 * 1 + 1, rel=1e-14)


def questions():
    p, W, x = start(1, x=1)
    s, y = p.scalar("s", 1), W @ x
    q = tp.Program()
    return tp.limit(p), {"W": W, "x": x, "s": s, "y": y, "foreign": q.vector("foreign"), "theirs": q.scalar("theirs")}


BAD = {
    "Z of a scalar": (lambda lim, h: lim.Z(h["s"]), "s is not a vector of this program"),
    "Z of a matrix": (lambda lim, h: lim.Z(h["W"]), "W is not a vector of this program"),
    "Z of a name": (lambda lim, h: lim.Z("x"), "got str 'x'"),
    "Z of a foreign vector": (lambda lim, h: lim.Z(h["foreign"]), "foreign is not a vector of this program"),
    "value of a vector": (lambda lim, h: lim.value(h["x"]), "x is not a scalar of this program"),
    "value of a foreign scalar": (lambda lim, h: lim.value(h["theirs"]), "theirs is not a scalar"),
    "value of a number": (lambda lim, h: lim.value(1), "got int 1"),
    "mean of a scalar": (lambda lim, h: lim.mean(h["s"]), "s is not a vector"),
    "cov with a scalar": (lambda lim, h: lim.cov(h["x"], h["s"]), "s is not a vector"),
    "cov with a foreign vector": (lambda lim, h: lim.cov(h["foreign"], h["x"]), "foreign is not a vector"),
    "E of a scalar": (lambda lim, h: lim.E(lambda a: a, h["s"]), "s is not a vector"),
    "E with too few vectors": (lambda lim, h: lim.E(product, h["x"]), "1 operands"),
    "E of no function": (lambda lim, h: lim.E("x*y", h["x"], h["y"]), "expected a function"),
    "zdot of an initial vector": (lambda lim, h: lim.zdot(h["x"]), "x is not the result of a MatMul"),
    "zhat of a foreign vector": (lambda lim, h: lim.zhat(h["foreign"]), "not the result of a MatMul"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_questions_that_make_no_sense_are_refused(case):
    lim, handles = questions()
    ask, message = BAD[case]
    with pytest.raises(ProgramError, match=message):
        ask(lim, handles)


def test_a_symbol_without_a_value_is_named():
    p = tp.Program()
    a, b = p.gaussian("a b", [[1, C], [C, 1]])
    lim = tp.limit(p)
    with pytest.raises(DataError, match=r"no value for c: pass values=\{c"):
        lim.evaluate(lim.cov(a, b))
    with pytest.raises(DataError, match="no value for c"):
        lim.evaluate(C + 1, {sp.Symbol("c"): 1.0})


def test_an_unknown_method_is_refused_by_name():
    with pytest.raises(NoRuleError, match="method='guess'"):
        tp.limit(tp.Program(), method="guess")


def test_an_atom_of_five_dimensions_has_a_value():
    p = tp.Program()
    half = sp.Rational(1, 2)
    v = p.gaussian("a b d e f", [[1 if i == j else half for i in range(5)] for j in range(5)])
    m = tp.moment(lambda *u: sp.prod([tp.relu(t) for t in u]), *v)
    lim = tp.limit(p)
    z = np.linspace(-9, 9, 181)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    given = np.sqrt(0.5) * (z * special.ndtr(z) + density)  # E relu(√½ z + √½ ξ)
    assert lim.evaluate(lim.value(m)) == pytest.approx(0.1 * np.sum(density * given**5), rel=1e-13)


def test_an_atom_without_numbers_is_named():
    p = tp.Program()
    v = p.vector("v")
    phi = tp.abstract("phi")
    m = tp.moment(lambda u: phi(u) ** 2, v)
    lim = tp.limit(p)
    with pytest.raises(NoRuleError, match="abstract") as caught:
        lim.evaluate(lim.value(m))
    assert "E phi(u1)**2" in str(caught.value)


def test_independent_factors_are_no_high_dimension():
    p = tp.Program()
    v = [p.vector() for _ in range(6)]
    m = tp.moment(lambda *u: sp.prod([tp.relu(t) for t in u]), *v)
    lim = tp.limit(p)
    assert number(lim, lim.value(m)) == pytest.approx((2 * np.pi) ** -3, rel=1e-13)
