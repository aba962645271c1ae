"""Attention and norms over positions: kernels against a loop over positions in the language, and by hand."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import AssumptionError, ProgramError

X = np.random.default_rng(0).normal(size=(3, 3, 2))
HOW = [(tied, causal, heads) for tied in (True, False) for causal in (True, False) for heads in (1, 2)]


@tp.network
def attentive(net, x, *, phi=tp.relu, tied=True, causal=False, heads=1, pool="global"):
    h = tp.erf(net.embed("U", x, std=1.3)) + net.bias("b", std=0.2)
    h = h + net.attention("A", net.layer_norm(h, 0.1), heads, tied=tied, causal=causal, std=1.2, std_q=0.9, std_v=0.8)
    h = h + net.dense("M", phi(net.dense("N", net.rms_norm(h, 0.1), std=1.4)), std=0.7)
    return net.readout("V", net.global_pool(h)) if pool == "global" else net.flatten("V", h)


@tp.network
def looped(net, x, *, phi=tp.relu, tied=True, causal=False, heads=1, pool="global"):
    """The same for the sequence of positions: one vector for each of them."""
    h = [tp.erf(net.embed("U", v, std=1.3)) + net.bias("b", std=0.2) for v in x]
    count, z = len(h), [net.layer_norm(v, 0.1) for v in h]
    for k in range(1, heads + 1):
        q = [net.dense(("Aq", k), v, 0.9) for v in z]
        keys = q if tied else [net.dense(("Ak", k), v, 0.9) for v in z]
        values = [net.dense(("Av", k), v, 0.8) for v in z]
        for p in range(count):
            read = range(p + 1) if causal else range(count)
            e = [tp.moment(sp.exp, params=[_score(q[p], keys[j])]) for j in read]
            total = sum(e[1:], e[0])
            y = sum((a / total * values[j] for a, j in zip(e[1:], read[1:], strict=True)), e[0] / total * values[0])
            h[p] = h[p] + net.dense(("Ao", k), y, 1.2 / sp.sqrt(heads))
    h = [v + net.dense("M", phi(net.dense("N", net.rms_norm(v, 0.1), std=1.4)), std=0.7) for v in h]
    if pool == "global":
        return net.readout("V", sum(h[1:], h[0]) * sp.Rational(1, count))
    return sum((net.readout(f"V{p}", v, std=1 / sp.sqrt(count)) for p, v in enumerate(h)), start=0)


def _score(x, y):
    return tp.moment(lambda a: a * a, x) if x.var == y.var else tp.moment(lambda a, b: a * b, x, y)


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk], ids=["nngp", "ntk"])
@pytest.mark.parametrize("pool", ["global", "flatten"])
@pytest.mark.parametrize(("tied", "causal", "heads"), HOW)
def test_attention_is_the_loop_over_positions(tied, causal, heads, pool, kind):
    options = {"tied": tied, "causal": causal, "heads": heads, "pool": pool}
    found, wanted = kind(attentive(**options))(X), kind(looped(**options))(X)
    assert np.abs(found - wanted).max() < 1e-14 * np.abs(wanted).max()


def softmax_kernel(x, causal):
    """NNGP of pooled attention with K = Q on embedded tokens: q, softmax and values by NumPy alone."""
    weights = []
    for one in x:
        e = np.exp(one @ one.T / one.shape[1])
        e = np.tril(e) if causal else e
        weights.append((e / e.sum(1, keepdims=True)).mean(0))
    return np.array([[a @ (s @ t.T / s.shape[1]) @ b for t, b in zip(x, weights, strict=True)]
                     for s, a in zip(x, weights, strict=True)])  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
def test_one_layer_of_attention_is_softmax_by_hand(causal):
    @tp.network
    def one(net, x):
        return net.readout("V", net.global_pool(net.attention("A", net.embed("U", x), tied=True, causal=causal)))

    np.testing.assert_allclose(tp.nngp(one())(X), softmax_kernel(X, causal), rtol=1e-13)


def test_independent_queries_and_keys_weigh_all_positions_alike():
    @tp.network
    def average(net, x):
        return net.readout("V", net.global_pool(net.embed("U", x)))

    @tp.network
    def attention(net, x):
        return net.readout("V", net.global_pool(net.attention("A", net.embed("U", x))))

    np.testing.assert_allclose(tp.nngp(attention())(X), tp.nngp(average())(X), rtol=1e-14)


def test_inputs_of_several_lengths():
    together = tp.nngp(attentive())([X[0], X[1][:2]])
    np.testing.assert_allclose(together[0, 0], tp.nngp(attentive())(X[:1])[0, 0], rtol=1e-14)
    np.testing.assert_allclose(together[1, 1], tp.nngp(attentive())([X[1][:2]])[0, 0], rtol=1e-14)


def test_the_limit_does_not_depend_on_the_order_of_positions_unless_causal():
    order = [2, 0, 1]
    for causal in (False, True):
        K = tp.ntk(attentive(causal=causal))
        same = np.allclose(K(X), K(X, X[:, order]), rtol=1e-12)
        assert same is not causal


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda net, x: net.attention("A", net.embed("U", x), scale="1/d"), r"'1/n' or '1/sqrt\(n\)', got '1/d'"),
        (
            lambda net, x: net.attention("A", net.embed("U", x), heads=0),
            "heads must be a positive integer or 'infinite', got 0",
        ),
        (lambda net, x: net.softmax(tp.moment(lambda a: a, net.embed("U", x))), "takes scores between positions"),
        (lambda net, x: net.layer_norm(net.embed("U", x), eps=-1), "eps of layer_norm is -1; it must not be negative"),
        (lambda net, x: net.layer_norm(x), "takes a vector of the network"),
    ],
)
def test_what_attention_and_norms_refuse(build, words):
    @tp.network
    def wrong(net, x):
        return net.readout("V", net.global_pool(build(net, x)))

    with pytest.raises(ProgramError, match=words):
        tp.nngp(wrong())


def test_a_nonlinearity_of_an_attended_nonlinearity_is_refused():
    @tp.network
    def direct(net, x):
        z = tp.relu(net.embed("U", x))
        y = net.weighted(net.softmax(net.scores(z, z)), z)
        return net.readout("V", net.global_pool(tp.relu(y)))

    with pytest.raises(AssumptionError, match="put a dense layer or a convolution in between"):
        tp.nngp(direct())(X)
