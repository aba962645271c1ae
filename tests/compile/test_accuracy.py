"""Entries of compiled Gram matrices against recursions at 50 digits: sampled pairs, and large variances."""

import functools

import mpmath as mp
import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.grams.evaluator import Evaluator

BACKENDS = ["numba", "numpy"]
DEPTHS = 3, 10
NEAR = [0.3, 0.1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6, 0.0]  # differences of inputs that are nearly the same


def dot(x, y):
    return mp.fsum(mp.mpf(float(s)) * mp.mpf(float(t)) for s, t in zip(x, y, strict=True)) / len(x)


def relu(q1, q2, c):
    size = mp.sqrt(q1 * q2)
    angle = mp.acos(min(mp.mpf(1), c / size))
    return size * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi), (mp.pi - angle) / (2 * mp.pi)


def erf(q1, q2, c):
    both = (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt(both)), 4 / mp.pi / mp.sqrt(both - 4 * c * c)


def gelu(q1, q2, c):
    def value(c):
        both, more = (1 + q1) * (1 + q2), 1 / (1 + q1) + 1 / (1 + q2) - 1
        smooth = (q1 * q2 + c * c * more) / mp.sqrt(both - c * c)
        return c / 4 + (c * mp.asin(c / mp.sqrt(both)) + smooth) / (2 * mp.pi)

    return value(c), mp.diff(value, c)


def gauss(q1, q2, c):
    root = 1 / mp.sqrt((1 + q1) * (1 + q2) - c * c)
    return root, c * root**3


def sin(q1, q2, c):
    return mp.exp(-(q1 + q2) / 2) * mp.sinh(c), mp.exp(-(q1 + q2) / 2) * mp.cosh(c)


def cos(q1, q2, c):
    return sin(q1, q2, c)[::-1]


def exp(q1, q2, c):
    return (mp.exp(c + (q1 + q2) / 2),) * 2


def sign(q1, q2, c):
    return 2 / mp.pi * mp.asin(min(mp.mpf(1), c / mp.sqrt(q1 * q2))), mp.mpf(0)


def step(q1, q2, c):
    return (1 + sign(q1, q2, c)[0]) / 4, mp.mpf(0)


def absolute(q1, q2, c):
    return 4 * relu(q1, q2, c)[0] - c, sign(q1, q2, c)[0]


FORMS = {"relu": relu, "erf": erf, "gelu": gelu, "gauss": gauss, "sin": sin, "cos": cos, "exp": exp, "sign": sign,
         "step": step, "abs": absolute}  # fmt: skip


def exact(phi, x, y, depths, w2):
    """(NNGP, NTK) of networks without biases at each depth (Jacot et al. 2018)."""
    form, found = FORMS[phi], {}
    with mp.workdps(50):
        q1, q2, c = (w2 * dot(*p) for p in ((x, x), (y, y), (x, y)))
        theta = c
        for depth in range(1, max(depths) + 1):
            value, slope = form(q1, q2, c)
            theta = value + slope * theta  # of a readout of variance 1
            found[depth] = value, theta
            q1, q2, c, theta = w2 * form(q1, q1, q1)[0], w2 * form(q2, q2, q2)[0], w2 * value, w2 * theta
    return [found[depth] for depth in depths]


def errors(phi, ours, x, y, depths, w2):
    """The errors of [depth][kernel] of a pair relative to its lengths √(K(x,x) K(y,y)), for relu to the entry."""
    pair, *own = (exact(phi, a, b, depths, w2) for a, b in ((x, y), (x, x), (y, y)))
    result = np.empty((len(depths), 2))
    for i in range(len(depths)):
        for k in range(2):
            size = abs(pair[i][k]) if phi == "relu" else mp.sqrt(own[0][i][k] * own[1][i][k])
            result[i, k] = abs(mp.mpf(float(ours[i][k])) - pair[i][k]) / size
    return result


def both(phi, depth, sigma_w):
    network = programs.mlp(phi=tp.NONLINEARITIES[phi], depth=depth, sigma_w=sigma_w)
    return [tp.nngp(network), tp.ntk(network)]


def data(rows, borders, d=784):
    """Inputs that are exact in single precision, near copies of others beside the borders of blocks."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(rows, d)).astype(np.float32)
    places = [b + k for b in borders for k in (-1, 0)]
    pairs = [(i, j) for i in places for j in places if j <= i]
    for i, eps in zip(rng.permutation(np.setdiff1d(np.arange(rows), places))[: 4 * len(NEAR)], NEAR * 4, strict=True):
        j = int(rng.choice(places))
        x[i] = x[j] * rng.choice([1, 1, 2]) + eps * rng.normal(size=d)
        pairs.append((int(i), j))
    return x, [(max(p), min(p)) for p in pairs], rng


def worst(phi, x, pairs, dtype, sigma_w=2**0.5, **kw):
    grams = [tp.gram(both(phi, depth, sigma_w), x.astype(dtype), dtype=dtype, **kw) for depth in DEPTHS]
    ours = lambda i, j: [[K[i, j] for K in kernels] for kernels in grams]  # noqa: E731
    w2 = mp.mpf(float(sigma_w) ** 2) if sigma_w != 2**0.5 else mp.mpf(2)
    return np.max([errors(phi, ours(i, j), x[i], x[j], DEPTHS, w2) for i, j in pairs], axis=0)


@functools.cache
def few():
    x, pairs, rng = data(600, [128, 256, 512])
    return x, [*rng.permutation(pairs)[:30].tolist(), *rng.integers(0, 600, size=(10, 2)).tolist(), [7, 7]]


@pytest.mark.parametrize("phi", ["relu", "erf"])
@pytest.mark.parametrize("dtype, bound", [(np.float64, 1e-13), (np.float32, 1e-6)])
def test_entries_of_deep_networks(phi, dtype, bound):
    assert worst(phi, *few(), dtype).max() < bound


@pytest.mark.slow
@pytest.mark.parametrize("phi", ["relu", "erf"])
@pytest.mark.parametrize("dtype, bound", [(np.float64, 1e-13), (np.float32, 1e-6)])
def test_entries_of_large_matrices(phi, dtype, bound):
    x, pairs, rng = data(8000, [128, 512, 4096, 7680])
    pairs += rng.integers(0, 8000, size=(300 - len(pairs), 2)).tolist()
    assert worst(phi, x, pairs, dtype).max() < bound


@pytest.mark.slow
@pytest.mark.parametrize("phi", ["relu", "erf"])
def test_entries_beside_the_border_of_columns(phi):
    x, pairs, rng = data(8400, [128, 512, 4096, 8192])
    few = rng.permutation(pairs)[:100]
    rows = np.unique(few[:, 0])
    grams = [tp.gram(both(phi, depth, 2**0.5), x[rows].astype(float), x.astype(float)) for depth in DEPTHS]
    for i, j in few:
        ours = [[K[np.searchsorted(rows, i), j] for K in kernels] for kernels in grams]
        assert errors(phi, ours, x[i], x[j], DEPTHS, mp.mpf(2)).max() < 1e-13


RNG = np.random.default_rng(0)
STEEP = [("erf", 1, 30), ("erf", 1, 300), ("erf", 0, 300), ("gelu", 1, 30), ("gelu", 1, 300), ("gauss", 0, 300),
         ("gauss", 1, 300), ("sin", 0, 100), ("sin", 1, 100), ("cos", 1, 100), ("sign", 0, 1), ("step", 0, 1),
         ("abs", 1, 1)]  # fmt: skip


def one_kernel(phi, kernel, depth, sigma_w):
    network = programs.mlp(phi=tp.NONLINEARITIES[phi], depth=depth, sigma_w=sigma_w)
    return (tp.ntk if kernel else tp.nngp)(network)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("phi, kernel, sigma_w", STEEP)
def test_large_variances_of_almost_parallel_inputs(phi, kernel, sigma_w, backend):
    x = RNG.normal(size=(60, 10))
    apart = np.repeat([0.3, 6e-2, 6e-3, 1e-4, 1e-8], 12)[:, None]
    y = np.where(np.arange(60)[:, None] % 4, 1, -1) * x + apart * RNG.normal(size=x.shape)
    K = one_kernel(phi, kernel, 1, sigma_w).gram(x, y, backend=backend)
    for i in range(60):
        ours = [[K[i, i]] * 2]
        assert errors(phi, ours, x[i], y[i], [1], mp.mpf(sigma_w) ** 2)[0, kernel] < 1e-13


SINGLE = [("sign", 0, 1), ("erf", 1, 20), ("gelu", 1, 20), ("sin", 0, 10), ("cos", 0, 10), ("gauss", 0, 20),
          ("step", 0, 1), ("abs", 1, 1), ("relu", 1, 1), ("exp", 0, 0.5)]  # fmt: skip


def in_single(gram, phi, kernel, sigma_w, depth):
    """The largest error of single precision relative to √(K(x,x) K(y,y)), for inputs 3e-3 apart."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(150, 10)).astype(np.float32)
    y = (x + 3e-3 * rng.normal(size=x.shape)).astype(np.float32)
    K = one_kernel(phi, kernel, depth, sigma_w)
    lengths = [np.sqrt(np.diag(K.gram(z.astype(float)))) for z in (x, y)]
    return np.abs((gram(K, x, y) - K.gram(x.astype(float), y.astype(float))) / np.outer(*lengths)).max()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("phi, kernel, sigma_w", SINGLE)
@pytest.mark.parametrize("depth", [1, 3])
def test_single_precision_of_almost_parallel_inputs(phi, kernel, sigma_w, depth, backend):
    def gram(K, x, y):
        return K.gram(x, y, dtype=np.float32, backend=backend)

    assert in_single(gram, phi, kernel, sigma_w, depth) < 1.5e-7


@pytest.mark.parametrize("phi, kernel, sigma_w", SINGLE)
def test_single_precision_of_arrays_of_a_device(phi, kernel, sigma_w):
    torch = pytest.importorskip("torch")

    def gram(K, x, y):
        return K.gram(torch.from_numpy(x), torch.from_numpy(y), dtype="float32").numpy()

    assert in_single(gram, phi, kernel, sigma_w, 3) < 1e-6


ORDINARY = [("erf", 10, 1, np.float64), ("relu", 10, 1, np.float32), ("gelu", 50, 100, np.float64),
            ("abs", 30, 1, np.float32)]  # fmt: skip


@pytest.mark.parametrize("phi, depth, size, dtype", ORDINARY)
@pytest.mark.parametrize("mean", [0, 2])
def test_ordinary_pairs_take_no_other_way(phi, depth, size, dtype, mean, monkeypatch):
    def refuse(*arguments):
        raise AssertionError

    monkeypatch.setattr(Evaluator, "mend_list", refuse)
    rng = np.random.default_rng(2)
    x = size * (rng.normal(size=(80, 100)) + mean * rng.normal(size=100))
    tp.gram(both(phi, depth, 2**0.5), x.astype(dtype), dtype=dtype)
