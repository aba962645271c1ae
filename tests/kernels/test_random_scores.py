"""Attention with scores over √n: kernels against quadrature, sampled heads, and networks with many heads."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.errors import AssumptionError, DataError, FoldError, NoRuleError, ProgramError

X2 = 1.5 * np.random.default_rng(0).normal(size=(3, 2, 3))
X3 = 1.5 * np.random.default_rng(1).normal(size=(3, 3, 2))
DRAWS = 2**16
ignored = pytest.mark.filterwarnings("ignore::tensorprog.AccuracyWarning")


@tp.network
def pooled(net, x, *, heads="infinite", causal=False, std_q=1):
    h = net.attention("A", net.embed("U", x), heads, scale="1/sqrt(n)", causal=causal, std_q=std_q)
    return net.readout("V", net.global_pool(h))


@tp.network
def block(net, x, *, heads="infinite", depth=1, phi=tp.relu):
    h = net.embed("U", x)
    for l in range(1, depth + 1):
        h = h + net.attention(f"A{l}", net.layer_norm(h), heads, scale="1/sqrt(n)", std_q=1.5)
        h = h + net.dense(("M", l), phi(net.dense(("N", l), net.layer_norm(h))))
    return net.readout("V", net.global_pool(h))


@tp.network
def one_head(net, x, *, phi=tp.relu):
    """A nonlinearity above one head: outputs are a mixture that is no average of second moments."""
    h = net.attention("A", net.embed("U", x), 1, scale="1/sqrt(n)", std_q=1.5)
    return net.readout("V", net.global_pool(phi(net.dense("W", h))))


# ---- by hand ---------------------------------------------------------------------------------------------


def expected(f, u, v, c, nodes=401):
    """E f(a) f(b) of jointly Gaussian a, b by the trapezoidal rule."""
    z = np.linspace(-10, 10, nodes)
    w = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    a = np.sqrt(u) * z[:, None]
    b = c / np.sqrt(u) * z[:, None] + np.sqrt(max(v - c * c / u, 0)) * z
    return w @ (f(a) * f(b)) @ w


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def two_positions(x, y, causal=False):
    """NNGP and NTK of ``pooled`` for two positions: a[p,1] = σ(u_p), u_p = s[p,1] − s[p,2].

    With K the NNGP kernel, readout, O, V and the embedding by way of values give K each; Q, K and the embedding by
    way of either give Z each, Z = (1/4) Σ E σ'(u_p)σ'(v_r) C[p,r] D², D = e·C e with e = (1,−1).
    """
    C, own, other = (a @ b.T / a.shape[1] for a, b in ((x, y), (x, x), (y, y)))
    e = np.array([1.0, -1.0])
    D, first, second = e @ C @ e, e @ own @ e, e @ other @ e
    K = Z = 0.0
    for p in range(2):
        for r in range(2):
            law = own[p, p] * first, other[r, r] * second, C[p, r] * D
            alone = (causal and p == 0, causal and r == 0)
            mean = [np.array([1.0, 0.0]) if a else np.array([0.5, 0.5]) for a in alone]
            K += mean[0] @ C @ mean[1] / 4
            if not any(alone):
                K += expected(lambda u: sigmoid(u) - 0.5, *law) * D / 4
                Z += expected(lambda u: sigmoid(u) * sigmoid(-u), *law) * C[p, r] * D**2 / 4
    return K, 4 * K + 4 * Z


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", ["infinite", 1, 3])
def test_two_positions_are_exact(heads, causal):
    wanted = np.array([[two_positions(x, y, causal) for y in X2] for x in X2])
    net = pooled(heads=heads, causal=causal)
    for k, kind in enumerate((tp.nngp, tp.ntk)):
        np.testing.assert_allclose(kind(net)(X2), wanted[..., k], rtol=1e-11)


def test_one_position_attends_to_itself_and_lengths_may_differ():
    C = X2[0][:1] @ X2[1].T / 3  # x has one position: a' is 1/2 on average
    np.testing.assert_allclose(tp.nngp(pooled())([X2[0][:1], X2[1]])[0, 1], C.mean(), rtol=1e-12)
    one = X2[:, :1]
    np.testing.assert_allclose(tp.nngp(pooled())(one), one[:, 0] @ one[:, 0].T / 3, rtol=1e-12)


# ---- by drawing heads ------------------------------------------------------------------------------------


def weights(x, std_q=1.0, draws=DRAWS, seed=5):
    """Softmax weights of heads for all inputs, (draws, N, T, T): Q and K on embedded tokens."""
    d = x.shape[-1]
    w = np.random.default_rng(seed).standard_normal((draws, d, d))
    s = std_q**2 * np.einsum("ipa,dab,iqb->dipq", x, w, x) / d
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def within(found, samples, account=0.0):
    """Whether means of samples are within 4 standard errors."""
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    return (np.abs(found - samples.mean(0)) < 4 * np.hypot(error, account)).all()


@ignored
def test_three_positions_are_sampled_with_errors():
    account = tp.nngp(pooled()).account(X3)
    a = weights(X3).mean(2)
    C = np.einsum("ipa,jqa->ijpq", X3, X3) / 2
    samples = np.einsum("dip,ijpq,djq->dij", a, C, a, optimize=True)
    assert account.methods == ("sampling",) and account.statistical and account.samples == 2**14
    assert within(account.value, samples, account.error)
    assert (account.relative < 0.02).all() and np.linalg.eigvalsh(account.value).min() > -1e-12


@ignored
@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("net", [pooled(), pooled(causal=True), pooled(heads=2), block(depth=2)], ids=repr)
def test_sampling_agrees_with_what_is_exact(net, kind):
    if net.name == "block" and kind is tp.nngp:
        return
    found, exact = kind(net, method="sampling", samples=2**13).account(X2), kind(net)(X2)
    assert (np.abs(found.value - exact) < 4 * found.error).all()


@ignored
def test_one_head_is_a_mixture_whose_covariance_is_the_kernel():
    """E V_relu(Σ(s)) over scores of two positions, given by the arc-cosine kernel."""
    a = weights(X2, 1.5)
    S = np.einsum("dipq,ijqt,djrt->dijpr", a, np.einsum("ipa,jqa->ijpq", X2, X2) / 3, a, optimize=True)
    q = np.sqrt(np.einsum("diipp->dip", S))
    size = q[:, :, None, :, None] * q[:, None, :, None, :]
    rho = np.clip(S / size, -1, 1)
    V = size * (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / (2 * np.pi)
    account = tp.nngp(one_head(), samples=2**15).account(X2)
    assert within(account.value, V.mean((-2, -1)), account.error)
    averaged = np.sqrt(np.einsum("diipp->ip", S) / len(S))  # what infinitely many heads would give
    assert abs(account.value[1, 1] - (averaged[1] ** 2).mean() / 2) > 10 * account.error[1, 1]


@ignored
def test_sampling_does_not_depend_on_the_order_of_inputs_and_has_a_seed():
    K = tp.nngp(pooled(), samples=2**10)
    np.testing.assert_allclose(K(X3[::-1])[::-1, ::-1], K(X3), rtol=1e-12)
    np.testing.assert_allclose(K(X3, X3[:2]), K(X3)[:, :2], rtol=1e-12)
    assert np.abs(tp.nngp(pooled(), samples=2**10, seed=1)(X3) - K(X3)).max() > 1e-4
    few, many = (tp.nngp(pooled(), rtol=r).account(X3) for r in (0.02, 0.004))
    assert few.relative.max() < 0.02 and many.relative.max() < 0.004


def test_estimates_come_with_a_warning():
    with pytest.warns(tp.AccuracyWarning, match="sampling: entry"):
        tp.nngp(pooled(), samples=2**10)(X3)


# ---- by networks -----------------------------------------------------------------------------------------


def empirical(net, x, width, seeds):
    return np.stack([tp.empirical_ntk(net, x, width=width, seed=s) for s in range(seeds)])


def test_the_ntk_is_that_of_networks_with_many_heads():
    assert within(tp.ntk(pooled())(X2[:2]), empirical(pooled(heads=4), X2[:2], 64, 40))


@pytest.mark.slow
@ignored
def test_blocks_are_the_limit_of_many_heads():
    """Two blocks: errors of order 1/H and 1/n are taken off by halving both."""
    small, large = (
        empirical(block(depth=2, heads=12), X2[:2], 96, 60),
        empirical(block(depth=2, heads=24), X2[:2], 192, 60),
    )
    assert within(tp.ntk(block(depth=2))(X2[:2]), 2 * large - small)


@pytest.mark.slow
@ignored
def test_scores_of_a_second_layer_are_gaussian_given_the_first():
    """E f² of two layers of one head each, by networks."""
    x, n, rng, f = X2[1], 96, np.random.default_rng(4), []
    for _ in range(6000):
        h = x @ rng.standard_normal((n, 3)).T / 3**0.5
        for q, k, v, o in rng.standard_normal((2, 4, n, n)):
            s = (h @ q.T / n**0.5) @ (h @ k.T / n**0.5).T / n**0.5
            e = np.exp(s - s.max(1, keepdims=True))
            h = (e / e.sum(1, keepdims=True)) @ (h @ v.T) @ o.T / n
        f.append(rng.standard_normal(n) @ h.mean(0) / n**0.5)
    account = tp.nngp(mixed_heads(second=1)).account([x])
    assert within(account.value[0, 0], np.array(f) ** 2, account.error[0, 0])


@pytest.mark.slow
@ignored
def test_outputs_of_one_head_have_the_kurtosis_of_a_mixture():
    """E f⁴ = 3 E K_s² for the covariance K_s given the scores, which infinitely many heads bring to 3 K²."""
    x, n, rng = X2[1] * 1.2, 128, np.random.default_rng(3)
    K = np.einsum("dp,pq,dq->d", *(a := weights(x[None])[:, 0].mean(1),), x @ x.T / 3, a)
    f = []
    for _ in range(6000):
        u, q, k, v, o = rng.standard_normal((n, 3)), *rng.standard_normal((4, n, n))
        h = x @ u.T / 3**0.5
        s = (h @ q.T / n**0.5) @ (h @ k.T / n**0.5).T / n**0.5
        e = np.exp(s - s.max(1, keepdims=True))
        y = ((e / e.sum(1, keepdims=True)).mean(0) @ (h @ v.T)) / n**0.5 @ o.T / n**0.5
        f.append(rng.standard_normal(n) @ y / n**0.5)
    f2 = np.array(f) ** 2
    assert within(tp.nngp(pooled(heads=1))([x])[0, 0], f2)
    error = (f2**2).std() / len(f2) ** 0.5
    assert abs((f2**2).mean() - 3 * (K**2).mean()) < 4 * error
    assert (K**2).mean() > 1.05 * K.mean() ** 2


# ---- what is said, and refused ---------------------------------------------------------------------------


def test_formulas_average_over_pairs_of_weights():
    text = tp.nngp(pooled(causal=True)).text()
    assert "Σ_(r,s) S≤(⟨x[p],x'[q]⟩; ⟨x[r],x'[s]⟩)·⟨x[r],x'[s]⟩" in text
    assert "S≤(A; B) = E a[p,r] a'[q,s] with a[p,r] = softmax_r≤p s[p,r]" in text and "mixture" not in text
    assert r"\dot{\mathsf{S}}(" in tp.ntk(pooled()).latex()
    mixed = tp.nngp(one_head()).text()
    assert (
        "mixture of Gaussians" in mixed
        and "= N(⟨x[p],x[q]⟩; ⟨x[p],x[q]⟩)" in mixed.replace("9/4·", "")
        and "E[V" in mixed
    )


@tp.network
def read_twice(net, x):
    q, k = (net.dense(name, net.embed("U", x)) for name in "qk")
    a = net.softmax(net.scores(q, k, "1/sqrt(n)"))
    return net.readout("V", net.global_pool(net.weighted(a, tp.relu(q) + tp.relu(k))))


@tp.network
def mixed_heads(net, x, *, first=1, second="infinite"):
    h = net.attention("A", net.embed("U", x), first, scale="1/sqrt(n)")
    return net.readout("V", net.global_pool(net.attention("B", h, second, scale="1/sqrt(n)")))


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (
            lambda: tp.ntk(one_head()).text(),
            AssumptionError,
            "nothing but dense layers and averages over positions reads",
        ),
        (lambda: tp.ntk(block(heads=2)).text(), AssumptionError, "heads='infinite' has no such restriction"),
        (lambda: tp.nngp(read_twice()).text(), AssumptionError, "a matrix that nothing else reads"),
        (
            lambda: tp.nngp(mixed_heads()).text(),
            AssumptionError,
            "infinitely many heads read, or are read by, finitely",
        ),
        (lambda: tp.ntk(block()).recursion(), FoldError, "averages over random scores"),
        (lambda: tp.empirical_ntk(pooled(), X2, width=8), NoRuleError, "a network of finite width has heads=64"),
        (
            lambda: tp.nngp(pooled(), method="sampling")([X2[0], X3[0][:1, [0, 1, 1]]]),
            NoRuleError,
            "inputs of one size",
        ),
        (lambda: tp.nngp(pooled(), method="forward")(X3), NoRuleError, "more than two positions are sampled"),
        (lambda: tp.unroll(pooled(), steps=1), AssumptionError, "training leaves as it is"),
        (lambda: tp.unroll(pooled(heads=1), steps=1), AssumptionError, "move by O\\(1\\) in training"),
        (lambda: pooled(heads=0).trace([None]), ProgramError, "a positive integer or 'infinite', got 0"),
        (lambda: pooled(heads="many").trace([None]), ProgramError, "or 'infinite', got 'many'"),
    ],
)
def test_what_is_not_derived_is_refused_in_words(ask, error, words):
    with pytest.raises(error, match=words):
        ask()


def test_equal_queries_and_keys_have_no_limit():
    @tp.network
    def tied(net, x):
        return net.readout("V", net.global_pool(net.attention("A", net.embed("U", x), scale="1/sqrt(n)", tied=True)))

    with pytest.raises(ProgramError, match="tied=True has no limit"):
        tp.nngp(tied())


def test_gaussian_processes_of_mixtures_warn():
    from tensorprog.learn import NTKRegressor

    with pytest.warns(tp.MixtureWarning, match="take heads='infinite'"):
        NTKRegressor(pooled(heads=2), kind="nngp").fit(X2, [0.0, 1.0, 2.0])
    NTKRegressor(pooled(), kind="nngp").fit(X2, [0.0, 1.0, 2.0])


def test_programs_with_random_scores_are_written_and_read():
    from tensorprog.passes.backprop import backprop
    from tensorprog.passes.canonicalize import canonicalize

    for net in (pooled(), pooled(heads=2, causal=True)):
        program = backprop(net.trace([None, None]))[0]
        again = tp.Program.from_json(program.to_json())
        assert again.to_json() == program.to_json()
        canonicalize(program)
    with pytest.raises(DataError, match="rate"):
        tp.sample(_masked(), width=4, values={"r": 1.5})


def _masked():
    from sympy import Symbol

    from tensorprog.ir.instructions import Kept

    p = tp.Program()
    x = p.vector("x")
    p.append("m", Kept(x.var, Symbol("r")))
    return p
