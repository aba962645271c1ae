"""Gram matrices of inputs with positions, by the machine that runs through all layers offset by offset."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.errors import DataError, NoRuleError
from tensorprog.grams import images as panels
from tensorprog.grams.compute import evaluator


@tp.network
def cnn(net, x, *, phi=tp.relu, first=None, second=None, third=None, out="global", bias=0.2, skip=False):
    h = net.conv("U", x, std=1.4, **(first or {}))
    h = h + net.bias("b", std=bias) if bias else h
    for name, how in (("V", second or {}), ("W", third or {})):
        z = net.conv(name, phi(h), std=1.3, **how)
        z = z + net.bias(f"b{name}", std=bias) if bias else z
        h = h + z if skip else z
    return net.readout("v", net.global_pool(phi(h))) if out == "global" else net.flatten("v", phi(h))


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def both(net):
    return [tp.nngp(net), tp.ntk(net)]


def program_of(net, *sizes):
    return evaluator(tuple(both(net)), sizes if len(sizes) == 2 else sizes * 2, {}, None).program


def agree(net, X, Z=None, tolerance=1e-13):
    """gram = K(X) for both kernels, computed offset by offset."""
    assert isinstance(program_of(net, *(x.shape[1:-1] for x in (X, X if Z is None else Z))), panels.Offset)
    for kernel, found in zip(both(net), tp.gram(both(net), X, Z), strict=True):
        wanted = kernel(X) if Z is None else kernel(X, Z)
        assert found == pytest.approx(wanted, rel=tolerance, abs=0), kernel.kind


WINDOWS = {
    "valid": {"third": {"padding": "valid"}},
    "all valid": {k: {"padding": "valid", "kernel": 2} for k in ("first", "second", "third")},
    "circular": {k: {"padding": "circular"} for k in ("first", "second", "third")},
    "wide": {"first": {"kernel": 5}, "second": {"kernel": (1, 4)}, "third": {"kernel": 2}},
    "one": {"second": {"kernel": 1}},
    "dilated": {"second": {"dilation": 2}, "third": {"dilation": (1, 3)}},
    "strided": {"first": {"stride": 2}, "third": {"stride": (1, 2)}},
    "strided valid": {"second": {"stride": 2, "padding": "valid", "kernel": (2, 3)}},
    "skip": {"skip": True},
    "skip without biases": {"skip": True, "bias": 0},
}


@pytest.mark.parametrize("out", ["global", "flatten"])
@pytest.mark.parametrize("how", WINDOWS)
def test_windows_of_every_kind(how, out):
    agree(cnn(**WINDOWS[how], out=out), images(3, 6, 5, 2))


@pytest.mark.parametrize("shape", [(9, 2), (11, 1), (2, 3, 4, 1), (1, 1, 3)])
def test_one_two_and_three_axes(shape):
    agree(cnn(), images(3, *shape))


def leaky(u):
    return tp.relu(u) - 0.3 * u


@pytest.mark.parametrize(
    "phi", [tp.erf, tp.abs, tp.gelu, tp.sin, tp.cos, leaky], ids=["erf", "abs", "gelu", "sin", "cos", "leaky"]
)
def test_nonlinearities_with_closed_forms(phi):
    agree(cnn(phi=phi), images(3, 3, 4, 2))


@pytest.mark.parametrize("how", ["circular", *(pytest.param(h, marks=pytest.mark.slow) for h in ("strided", "one"))])
def test_smooth_nonlinearities_by_series(how):
    X = images(9, 3, 5, 2)
    X[1] = X[0]
    for net in (cnn(phi=tp.tanh, **WINDOWS[how]), cnn(phi=lambda u: u + tp.sigmoid(u), out="flatten")):
        agree(net, X)


def test_inputs_of_different_sizes():
    agree(cnn(first={"stride": 2}), images(3, 7, 6, 2), images(2, 4, 9, 2, seed=1))
    mixed = [*images(2, 3, 4, 2), *images(2, 5, 2, 2)]
    for kernel in both(cnn()):
        assert kernel.gram(mixed) == pytest.approx(kernel(mixed), rel=1e-13)


@tp.network
def untied(net, x, *, std=0.3):
    h = net.local("U", x, 3) + net.bias("b", std=std)
    h = net.dense("D", tp.relu(h)) + net.bias("c", std=std)
    return net.readout("v", net.global_pool(tp.relu(net.local("W", tp.relu(h), 3) + net.bias("d", std=std))))


def test_weights_of_their_own_and_dense_layers():
    agree(untied(), images(3, 4, 3, 2))


@pytest.mark.parametrize("bias", [0, 0.2])
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e-7, 1e-3])
def test_nearly_equal_repeated_and_flat_images(scale, bias):
    X = images(3, 4, 5, 2)
    X[1, :3], X[2, 2:] = 1.0, 0.0
    Y = np.concatenate([X, X + scale * images(3, 4, 5, 2, seed=1), 0.7 * X, -X])
    for out in ("global", "flatten"):
        agree(cnn(bias=bias, out=out), Y)


def test_images_of_zeros():
    X = images(3, 4, 3, 1)
    X[1] = 0
    agree(cnn(), X)
    for kernel in both(cnn(bias=0)):
        assert (kernel.gram(X)[1] == 0).all()


@pytest.mark.parametrize("out", ["global", "flatten"])
def test_without_biases_kernels_of_relu_are_homogeneous(out):
    """relu(a u) = a relu(u), so that K(x, a x) = a K(x, x) to the last digits: the angles are 0, whatever covariances
    say, in every layer and by both evaluators."""
    x = images(1, 5, 4, 2)
    scales = np.array([1.0, 1 + 2**-40, 1.1, 7.0])
    for kernel in both(cnn(bias=0, out=out)):
        for found in (kernel.gram(x, scales[:, None, None, None] * x), kernel(x, scales[:, None, None, None] * x)):
            assert found[0] / found[0, 0] == pytest.approx(scales, rel=4e-15)


def test_one_position_is_the_network_without_positions():
    """Nearly equal inputs at one position: the kernels of a perceptron, whose angles are carried."""

    @tp.network
    def mlp(net, x, *, depth=1):
        h = net.embed("U", x, std=1.4) + net.bias("b", std=0.2)
        for name in ("V", "W"):
            h = net.dense(name, tp.relu(h), std=1.3) + net.bias(f"b{name}", std=0.2)
        return net.readout("v", tp.relu(h))

    ones = cnn(**{k: {"kernel": 1} for k in ("first", "second", "third")})
    X = images(4, 6)
    X[1], X[2] = X[0] + 1e-9 * X[3], X[0] * (1 + 1e-5)
    for a, b in zip(both(ones), both(mlp()), strict=True):
        assert a.gram(X[:, None]) == pytest.approx(b(X), rel=1e-14)
        assert a(X[:, None]) == pytest.approx(b(X), rel=1e-14)


def test_order_and_blocks_do_not_matter(tmp_path):
    X, net = images(21, 4, 4, 2), cnn()
    X[5] = X[17]
    kernels, order = both(net), np.random.default_rng(3).permutation(21)
    whole = tp.gram(kernels, X)
    for a, b in zip(tp.gram(kernels, X[order]), whole, strict=True):
        assert a == pytest.approx(b[np.ix_(order, order)], rel=1e-14)
    for a, b in zip(tp.gram(kernels, X, block=6), whole, strict=True):
        assert a == pytest.approx(b, rel=1e-14)
    assert tp.ntk(net).gram(X, path=tmp_path / "k.npy", block=5) == pytest.approx(whole[1], rel=1e-14)
    assert tp.ntk(net).gram(X[:2], X) == pytest.approx(whole[1][:2], rel=1e-14)
    assert tp.ntk(net).gram(X, X[:2]) == pytest.approx(whole[1][:, :2], rel=1e-14)
    assert all((a == a.T).all() for a in whole)


def test_single_precision():
    X = images(4, 5, 4, 3)
    X[1], X[2] = X[0] * (1 + 1e-4), X[0] + 1e-4 * X[3]
    for kernel in both(cnn()):
        found = kernel.gram(X, dtype="float32")
        assert found.dtype == np.float32 and found == pytest.approx(kernel(X), rel=1e-6)


def test_panels_of_what_is_known_per_input(monkeypatch):
    X, kernels = images(37, 3, 3, 1), both(cnn())
    whole = tp.gram(kernels, X)
    monkeypatch.setattr(panels, "TABLE", 8 * 300)
    for a, b in zip(tp.gram(kernels, X), whole, strict=True):
        assert a == pytest.approx(b, rel=1e-14)


@tp.network
def two_readouts(net, x, *, std=0.3):
    h = tp.relu(net.conv("U", x) + net.bias("b", std=std))
    return net.flatten("F", h) + net.readout("v", net.global_pool(h))


def test_sums_over_equal_positions_and_over_all():
    agree(two_readouts(), images(3, 4, 3, 2))


def test_all_pairs_are_told_of():
    X, kernel = images(19, 3, 3, 1), tp.ntk(cnn())
    for Z, count in ((None, 19 * 19), (X[:3], 19 * 3), (X[:9], 19 * 9)):
        seen = []
        kernel.gram(X, Z, progress=lambda done, total, *rest, seen=seen: seen.append((done, total)))
        assert seen[-1] == (count, count)


def test_random_networks():
    rng = np.random.default_rng(7)
    for _ in range(12):
        names = ("kernel", "stride", "dilation")
        ways = [{n: int(rng.integers(1, 4 if n == "kernel" else 3)) for n in names} for _ in range(3)]
        out, bias = rng.choice(["global", "flatten"]).item(), float(rng.choice([0, 0.3]))
        net = cnn(first=ways[0], second=ways[1], third=ways[2], out=out, bias=bias)
        agree(net, images(2, *rng.integers(2, 7, size=2), 2, seed=int(rng.integers(99))))


def test_offsets_that_are_not_needed_are_left_out():
    kernels = tuple(both(cnn(out="flatten")))
    assert len(evaluator(kernels, ((6, 5),) * 2, {}, None).program.layout.offsets) == 1
    for stride, count in ((1, 11 * 9), (2, 5 * 5)):
        kernels = tuple(both(cnn(third={"stride": stride})))
        offsets = evaluator(kernels, ((6, 5),) * 2, {}, None).program.layout.offsets
        assert len(offsets) == count
        assert {tuple(o) for o in offsets} == {tuple(-o) for o in offsets}


def test_weights_of_positions_and_unlike_sizes_are_refused_in_words():
    for kernel in both(cnn(out="flatten")):
        for backend in (None, "numpy"):
            with pytest.raises(DataError, match=r"weights for every position.*\(3, 3\) and \(3, 4\)"):
                kernel.gram(images(2, 3, 3, 1), images(2, 3, 4, 1), backend=backend)


def test_what_is_compiled_has_no_text():
    with pytest.raises(NoRuleError, match="sizes of its inputs"):
        tp.ntk(cnn()).source()


def test_journals_tell_networks_apart(tmp_path):
    """Two kernels that differ in a number deep in their equations are two computations."""
    X, path = images(3, 3, 3, 1), tmp_path / "k.npy"
    tp.ntk(cnn(bias=0.2)).gram(X, path=path)
    with pytest.raises(DataError, match="another computation"):
        tp.ntk(cnn(bias=0.25)).gram(X, path=path)
