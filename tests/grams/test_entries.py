"""Gram matrices of networks that mix offsets of positions, on whole arrays: attention, norms, pools, graphs, heads."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.errors import DataError
from tensorprog.expectations.angles import gaps
from tensorprog.grams import entries
from tensorprog.grams.compute import evaluator
from tensorprog.grams.entries import Entries
from tests.random_cases.positions import over_axes, random_stack


def both(net):
    return [tp.nngp(net), tp.ntk(net)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def take(X, rows):
    """Some inputs, of arrays or of named arrays."""
    return {k: [v[i] for i in rows] for k, v in X.items()} if isinstance(X, dict) else X[rows]


def agree(net, X, tolerance=1e-13):
    """gram = K(X) for both kernels, by whole arrays, and with the inputs of either side in either order."""
    kernels = both(net)
    first, rest = [2, 1], [0, 2, 3]
    for kernel, whole, part, turned in zip(
        kernels,
        tp.gram(kernels, X),
        tp.gram(kernels, take(X, first), take(X, rest)),
        tp.gram(kernels, take(X, rest), take(X, first)),
        strict=True,
    ):
        wanted = kernel(X)
        assert whole == pytest.approx(wanted, rel=tolerance, abs=0), kernel.kind
        assert part == pytest.approx(wanted[np.ix_(first, rest)], rel=tolerance, abs=0), kernel.kind
        assert turned == pytest.approx(wanted[np.ix_(rest, first)], rel=tolerance, abs=0), kernel.kind
    assert any(isinstance(getattr(made, "program", None), Entries) for made in kernels[0]._compiled.values())


@tp.network
def blocks(net, x, *, phi=tp.relu, norm="layer_norm", heads=1, tied=True, causal=False, eps=0.0, depth=2):
    h = net.embed("U", x)
    for l in range(depth):
        z = getattr(net, norm)(h, eps)
        h = h + net.attention(("A", l), z, heads, tied=tied, causal=causal)
        h = h + net.dense(("M", l), phi(net.dense(("N", l), getattr(net, norm)(h, eps))))
    return net.readout("V", net.global_pool(getattr(net, norm)(h, eps)))


ATTENTION = {
    "tied": {},
    "causal": {"causal": True},
    "uniform": {"tied": False},
    "heads": {"heads": 2, "eps": 0.1},
    "rms": {"norm": "rms_norm", "eps": 0.1},
    "erf": {"phi": tp.erf},
    "tanh": {"phi": tp.tanh},
}


SLOW = {"heads", "uniform", "erf"}


def cases(of):
    """Some are run on request."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in of]


@pytest.mark.parametrize("how", cases(ATTENTION))
def test_attention_and_norms(how):
    X = normal(4, 4, 3)
    agree(blocks(**ATTENTION[how]), X)
    X[1, :2], X[2] = X[0, :2], X[0]  # the same words at the beginning, and the same sequence again
    agree(blocks(**ATTENTION[how]), X)


def attention_by_hand(X, depth, causal):
    """NNGP and NTK of ``blocks`` with relu, written down: layer norm divides by the variance, dense layers and values
    leave covariances as they are, scores are covariances; gradients come back through the same weights."""
    _, T, d = X.shape
    C = np.einsum("ipd,jqd->ijpq", X, X) / d
    pairs, gates, weights = [], [], []

    def normed(C):
        q = np.sqrt(np.einsum("iipp->ip", C))
        Z = C / (q[:, None, :, None] * q[None, :, None, :])
        np.einsum("iipp->ip", Z)[:] = 1.0
        return Z, q

    for _ in range(depth):
        Z, q = normed(C)
        s = np.exp(np.einsum("iipq->ipq", Z)) * (np.tri(T) if causal else 1)
        a = s / s.sum(axis=-1, keepdims=True)
        A = np.einsum("ipt,jqs,ijts->ijpq", a, a, Z)
        weights.append((a, q, A))
        C = C + A
        Z, q = normed(C)
        angle = np.arccos(Z)
        relu = (np.sin(angle) + (np.pi - angle) * Z) / (2 * np.pi)
        gates.append(((np.pi - angle) / (2 * np.pi), q, Z))
        pairs.append(relu)
        C = C + relu
    K, q = normed(C)

    def below(G, q):
        return G / (q[:, None, :, None] * q[None, :, None, :])

    P = below(np.full(C.shape, 1 / T**2), q)  # of the stream
    ntk = K.mean(axis=(2, 3))
    for (a, qa, A), (step, q, Z), relu in zip(weights[::-1], gates[::-1], pairs[::-1], strict=True):
        ntk += np.einsum("ijpq,ijpq->ij", P, relu)  # M
        inner = P * step
        ntk += np.einsum("ijpq,ijpq->ij", inner, Z)  # N
        P = P + below(inner, q)
        ntk += 2 * np.einsum("ijpq,ijpq->ij", P, A)  # output and values
        P = P + below(np.einsum("ipt,jqs,ijpq->ijts", a, a, P), qa)
    return K.mean(axis=(2, 3)), ntk + np.einsum("ijpq,ijpq->ij", P, np.einsum("ipd,jqd->ijpq", X, X) / d)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_by_hand(causal):
    X = normal(4, 4, 3)
    for found, wanted in zip(tp.gram(both(blocks(causal=causal)), X), attention_by_hand(X, 2, causal), strict=True):
        assert found == pytest.approx(wanted, rel=1e-13)


@tp.network
def pooled(net, x, *, std=0.3, phi=tp.relu):
    h = net.conv("U", x) + net.bias("b", std=std)
    h = net.conv("W", net.avg_pool(phi(h))) + net.bias("c", std=std)
    return net.readout("v", net.global_pool(phi(h)))


@tp.network
def headed(net, x, *, std=0.3):
    h = net.dense("W", net.global_pool(tp.relu(net.conv("U", x)))) + net.bias("c", std=std)
    return net.readout("v", tp.relu(h))


@tp.network
def squeezed(net, x):
    z = tp.relu(net.conv("U", x))
    gate = tp.sigmoid(net.dense("S", tp.relu(net.dense("R", net.global_pool(z)))))
    return net.readout("v", net.global_pool(net.conv("W", z) * gate))


@tp.network
def borders(net, x):
    h = net.conv("W", tp.relu(net.conv("U", x, padding="circular")))
    return net.flatten("v", tp.relu(net.conv_transpose("T", tp.relu(h), stride=2)))


IMAGES = {
    "pool": pooled(),
    "head": headed(),
    "borders": borders(),
    "erf": pooled(phi=tp.erf),
    "tanh": pooled(phi=tp.tanh),
}


@pytest.mark.parametrize("name", cases(IMAGES))
def test_pools_below_layers_heads_and_borders(name):
    X = normal(4, 4, 4, 2)
    agree(IMAGES[name], X)
    X[1, :2] = X[0, :2] = 0.0
    X[2] = X[3]
    agree(IMAGES[name], X)


def test_smooth_functions_where_no_series_serves():
    """tanh of variances of hundreds is a step: nearly equal patches are taken one by one."""
    X = 30 * normal(3, 3, 3, 2)
    X[1] = X[0] + 1e-3 * X[2]
    kernel = tp.nngp(pooled(phi=tp.tanh))
    assert kernel.gram(X) == pytest.approx(kernel(X), rel=1e-13)


def test_gates_by_means_over_positions():
    kernel, X = tp.nngp(squeezed()), normal(4, 3, 3, 2)
    assert kernel.gram(X) == pytest.approx(kernel(X), rel=1e-13)


def graphs(*counts, seed=0):
    rng = np.random.default_rng(seed)
    edges = [np.triu(rng.random((n, n)) < 0.5, 1).astype(float) for n in counts]
    return {"nodes": [rng.normal(size=(n, 3)) for n in counts], "A": [a + a.T for a in edges]}


@pytest.mark.parametrize("net", [tp.programs.gcn(), tp.programs.gin(epsilon=0.2)], ids=["gcn", "gin"])
def test_graphs_of_any_sizes(net):
    agree(net, graphs(4, 5, 4, 6))
    kernel, X = tp.ntk(net), graphs(4, 5, 4, 6, 5)
    whole = kernel.gram(X)
    order = [3, 0, 4, 2, 1]
    assert kernel.gram(take(X, order)) == pytest.approx(whole[np.ix_(order, order)], rel=1e-14)
    assert kernel.gram(X, block=2) == pytest.approx(whole, rel=1e-14)


def test_nodes_that_are_alike():
    """Nodes with the same label and the same neighbours have one vector: an angle of 0 that covariances do not have."""
    X = graphs(4, 4, 5, 5)
    X["nodes"] = [np.ones((len(x), 1)) for x in X["nodes"]]
    agree(tp.programs.gcn(depth=3), X)


@pytest.mark.parametrize("seed", range(8))
def test_random_networks(seed):
    stack = random_stack(seed, depth=1 + seed % 3)
    X = normal(4, *stack.sizes, 2, seed=seed)
    kernels = both(over_axes(stack))
    for kernel, found in zip(kernels, tp.gram(kernels, X), strict=True):
        wanted = kernel(X)
        assert np.abs(found - wanted).max() <= 1e-13 * np.abs(wanted).max(), stack


def test_nearly_equal_inputs():
    """What conv and dense layers make keeps its angles; what pools make of nearly equal patches is had from
    covariances, by the reference too, whose rounding e moves an angle θ by e/θ."""
    X = normal(4, 4, 4, 2)
    X[1], X[2] = X[0] * (1 + 1e-7), X[0] + 1e-7 * X[3]
    agree(headed(), X)
    nngp, ntk = both(pooled())
    assert nngp.gram(X) == pytest.approx(nngp(X), rel=1e-13)
    assert ntk.gram(X) == pytest.approx(ntk(X), rel=2e-16 / 1e-8)


def test_what_is_of_one_input_is_found_once(monkeypatch):
    """Own values of 5 inputs are computed for 5 pairs, whatever the number of blocks."""
    own = []
    found = Entries._found

    def counted(self, x, *rest):
        own.append(len(x))
        return found(self, x, *rest)

    monkeypatch.setattr(Entries, "_found", counted)
    monkeypatch.setattr(entries, "ENTRIES", 40)  # two pairs in a block
    X = normal(5, 4, 3)
    kernel = tp.ntk(blocks())
    found_in_blocks = kernel.gram(X)
    assert own == [5]
    assert found_in_blocks == pytest.approx(kernel(X), rel=1e-13)


def test_inputs_that_are_written_over_are_other_inputs():
    X, kernel = normal(3, 4, 3), tp.ntk(blocks())
    first = kernel.gram(X)
    X[:] = X[::-1].copy()
    assert kernel.gram(X) == pytest.approx(first[::-1, ::-1], rel=1e-14)


def test_panels_whose_own_values_fit(monkeypatch):
    X, kernels = normal(5, 4, 3), both(blocks())
    whole, other = tp.gram(kernels, X), tp.gram(kernels, X, X[3:])
    monkeypatch.setattr(entries, "OWN", 2000)
    for a, b, c, d in zip(tp.gram(kernels, X.copy()), whole, tp.gram(kernels, X.copy(), X[3:]), other, strict=True):
        assert a == pytest.approx(b, rel=1e-14) and c == pytest.approx(d, rel=1e-14) and (a == a.T).all()


def test_thresholds_say_how_near_angles_may_be_read(monkeypatch):
    """From 1e-4 on an angle read from a covariance serves relu and step; others take it from 1e-2 on."""
    for phi, near in ((tp.relu, 1e-4), (tp.abs, gaps.NEAR)):
        kernel = tp.ntk(pooled(phi=phi))
        kernel.gram(normal(2, 4, 4, 2))
        [made] = [m for m in kernel._compiled.values() if isinstance(m, Entries)]
        assert made.near == near


def test_memory_files_and_given_arrays(tmp_path):
    X, kernels = normal(7, 4, 3), both(blocks(causal=True))
    whole = tp.gram(kernels, X)
    out = [np.empty((7, 7)) for _ in kernels]
    assert tp.gram(kernels, X, out=out)[0] is out[0]
    files = tp.gram(kernels, X, path=[tmp_path / "a.npy", tmp_path / "b.npy"], block=3)
    for a, b, c, d in zip(whole, out, files, tp.gram(kernels, X, memory=20_000, path=None, block=2), strict=True):
        assert (a == b).all() and np.asarray(c) == pytest.approx(a, rel=1e-14) and d == pytest.approx(a, rel=1e-14)
        assert (a == a.T).all()
    again = tp.gram(kernels[0], X, path=tmp_path / "a2.npy", block=3)
    assert np.asarray(again) == pytest.approx(whole[0], rel=1e-14)


def test_single_precision():
    X = normal(4, 4, 4, 3)
    X[1], X[2] = X[0] * (1 + 1e-4), X[0] + 1e-4 * X[3]
    for kernel in both(pooled()):
        found = kernel.gram(X, dtype="float32")
        assert found.dtype == np.float32 and found == pytest.approx(kernel(X), rel=1e-6)


def test_all_pairs_are_told_of():
    X, kernel = normal(9, 4, 3), tp.ntk(blocks())
    for Z, count in ((None, 81), (X[:3], 27)):
        seen = []
        kernel.gram(X, Z, progress=lambda done, total, *rest, seen=seen: seen.append((done, total)))
        assert seen[-1] == (count, count)


def test_backends():
    X, kernel = normal(3, 4, 4, 2), tp.ntk(pooled())
    assert kernel.gram(X, backend="numba") == pytest.approx(kernel(X), rel=1e-13)
    assert kernel.gram(X, backend="numpy") == pytest.approx(kernel(X), rel=1e-14)


def test_what_is_not_finite_is_named():
    @tp.network
    def steep(net, x):
        h = net.conv("W", net.avg_pool(tp.relu(net.conv("U", x))), std=1e10)
        return net.readout("v", net.global_pool(tp.relu(h)))

    with pytest.raises(DataError, match="not finite"):
        tp.ntk(steep()).gram(1e150 * normal(2, 4, 4, 2))


def test_sizes_share_what_is_lowered():
    kernels = tuple(both(pooled()))
    made = [evaluator(kernels, sizes, {}, None).program for sizes in (((4, 4), (4, 4)), ((4, 4), (6, 4)))]
    assert made[0] is made[1]
