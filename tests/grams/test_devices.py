"""Gram matrices of arrays of other libraries: torch, JAX, and one that refuses all that is not in the standard.

array_api_strict stands for libraries that cannot be run here, such as CuPy: its second device refuses to be read by
NumPy and to be mixed with the first, as a GPU does.
"""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.grams import compute, devices
from tests.gates import shared

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 6)), RNG.normal(size=(8, 6))
X[3], X[5], X[7], X[9] = X[4], X[6] * 2, 0, -X[8]


class Library:
    """How to make arrays of a library, and NumPy arrays of them."""

    def __init__(self, name, request):
        self.xp, self.name, self.device = pytest.importorskip(name), name, None
        if name == "jax":
            config, self.xp = self.xp.config, self.xp.numpy
            config.update("jax_enable_x64", True)
            request.addfinalizer(lambda: config.update("jax_enable_x64", False))
        if name == "array_api_strict":
            self.device = self.xp.Device("device1")

    def array(self, x, **kw):
        return self.xp.asarray(x, **kw, **({} if self.device is None else {"device": self.device}))

    def back(self, x):
        assert isinstance(x, type(self.array(X))) and (self.device is None or x.device == self.device)
        return np.array(np.from_dlpack(x))


QUICK = pytest.mark.parametrize("library", ["torch", "array_api_strict"], indirect=True)  # JAX compiles every shape
PHIS = ["relu", "erf", "sin", "tanh", "exp", "gelu", "hard_tanh"]
CASES = [(name, phi) for name in ("torch", "array_api_strict") for phi in PHIS] + [("jax", "relu"), ("jax", "tanh")]


@pytest.fixture(params=["torch", "jax", "array_api_strict"])
def library(request):
    return Library(request.param, request)


def net(phi, depth=2):
    return programs.mlp(phi=tp.NONLINEARITIES[phi], depth=depth, sigma_w=0.4 if phi == "exp" else 1.3, sigma_b=0.2)


def off(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("dtype, bound", [("float64", 1e-13), ("float32", 1e-6)])
@pytest.mark.parametrize("library, phi", CASES, indirect=["library"])
def test_arrays_stay_in_their_library_and_on_their_device(library, phi, dtype, bound):
    K = tp.ntk(net(phi))
    ours, cross = (K.gram(library.array(X), other, dtype=dtype) for other in (None, library.array(Y)))
    assert ours.dtype == cross.dtype == getattr(library.xp, dtype)
    ours, cross = library.back(ours), library.back(cross)
    assert off(ours, K(X)) < bound and off(cross, K(X, Y)) < bound
    assert off(ours, ours.T) < bound


@QUICK
def test_several_kernels_in_pieces(library, monkeypatch):
    kernels = [tp.nngp(net("relu")), tp.ntk(net("relu"))]
    whole = tp.gram(kernels, X)
    monkeypatch.setattr(devices, "ROWS", 5 * len(X))  # three pieces, the last one smaller
    for ours, expected in zip(tp.gram(kernels, library.array(X)), whole, strict=True):
        assert off(library.back(ours), expected) < 1e-13


@QUICK
def test_functions_with_jumps_have_their_nngp(library):
    K = tp.nngp(net("sign"))
    assert off(library.back(K.gram(library.array(X))), K(X)) < 1e-13


@QUICK
@pytest.mark.parametrize("numbers", [np.eye(3, dtype=int), np.eye(3) > 0, np.eye(3, dtype=np.float32)])
def test_numbers_of_any_real_kind(library, numbers):
    K = tp.ntk(net("relu"))
    assert off(library.back(K.gram(library.array(numbers))), K(np.eye(3))) < 1e-13
    mixed = K.gram(library.array(numbers), library.array(Y[:, :3]))
    assert off(library.back(mixed), K(np.eye(3), Y[:, :3])) < 1e-13


@pytest.mark.parametrize("data, message", [
    ([[np.nan, 1.0]], "X1 holds a NaN or an infinity"), ([[1.0, np.inf]], "NaN or an infinity"),
    (np.empty((0, 2)), r"N, d > 0, got \(0, 2\)"), (np.empty((2, 0)), r"N, d > 0, got \(2, 0\)"),
    (np.ones(3), r"shape \(N, d\)"), (np.ones((2, 3, 4)), r"shape \(N, d\)"),
    (np.ones((2, 3)) * 1j, "X1 must hold real numbers, got dtype .*complex"),
])  # fmt: skip
def test_bad_data_are_named(library, data, message):
    with pytest.raises(tp.DataError, match=message):
        tp.ntk(net("relu")).gram(library.array(data))


LINEAR = tp.nngp(programs.deep_linear(depth=2, sigma_w=1e3))


def test_what_does_not_fit_is_named(library):
    K, x = tp.ntk(net("relu")), library.array(X)
    for call, message in (
        (lambda: K.gram(x, library.array(Y[:, :2])), "X1 has feature dimension 6 and X2 2"),
        (lambda: K.gram(x, Y), r"X1 is a .* and X2 a numpy.ndarray; both must be arrays of one library"),
        (lambda: K.gram(x * 1e200, dtype="float32"), "infinity as float32"),
        (lambda: K.gram(x, block=8), "computed there, whole"),
        (lambda: K.gram(x, out=library.array(np.ones((len(X), len(X))))), "computed there, whole"),
        (lambda: LINEAR.gram(x * 1e16, dtype="float32"), "not finite in float32"),
        (lambda: LINEAR.gram(x * 1e16, library.array(1e16 * Y), dtype="float32"), "not finite in float32"),
        (lambda: K.gram(x, backend="numba"), "computed there, whole"),
    ):
        with pytest.raises(tp.DataError, match=message):
            call()
    with pytest.raises(tp.NoRuleError, match="sequences"):
        tp.ntk(programs.rnn()).gram(library.array(np.ones((2, 3, 4))))


def test_two_devices_are_not_mixed():
    xp = pytest.importorskip("array_api_strict")
    far = xp.asarray(Y, device=xp.Device("device1"))
    with pytest.raises(tp.DataError, match=r"X1 is on .*CPU_DEVICE.* and X2 on .*device1"):
        tp.ntk(net("relu")).gram(xp.asarray(X), far)


def test_a_library_without_double_precision_is_told_what_to_do():
    jax = pytest.importorskip("jax")
    assert not jax.config.jax_enable_x64
    for dtype in ("float64", "float32"):
        with pytest.raises(tp.ComputeError, match=r"jax.numpy has no float64.*jax_enable_x64"):
            tp.ntk(net("relu")).gram(jax.numpy.asarray(X), dtype=dtype)


def test_gradients_are_not_lost_in_silence():
    import torch

    with pytest.raises(tp.DataError, match=r"X1 tracks gradients.*X1.detach"):
        tp.ntk(net("relu")).gram(torch.tensor(X, requires_grad=True))


def test_without_array_api_compat_the_extra_is_named(monkeypatch):
    import sys

    import torch

    monkeypatch.setitem(sys.modules, "array_api_compat", None)
    with pytest.raises(tp.ComputeError, match=r"arrays of torch need array-api-compat: pip install 'tensorprog\[arr"):
        tp.ntk(net("relu")).gram(torch.tensor(X))


@pytest.mark.parametrize("phi", ["hard_tanh", "selu", "relu6"])
@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-7, 1e-3])
def test_jumps_in_derivatives_see_the_smallest_angles(phi, angle):
    K = tp.ntk(net(phi))
    x = np.stack([X[0], X[0] + angle * X[1], -X[0], 2 * X[0]])
    assert off(K.gram(x), K(x)) < 1e-13 and off(K.gram(x, x[:2]), K(x, x[:2])) < 1e-13


# ---- precision and scale --------------------------------------------------------------------------------


def recorded(monkeypatch):
    """The dtypes that array_api_strict multiplies as matrices from now on."""
    xp = pytest.importorskip("array_api_strict")
    found, kind = set(), type(xp.asarray(X))
    product = kind.__matmul__
    monkeypatch.setattr(kind, "__matmul__", lambda a, b: found.update({a.dtype, b.dtype}) or product(a, b))
    return xp, found


@pytest.mark.parametrize("phi", ["relu", "tanh"])
def test_products_of_single_precision_are_taken_in_double(monkeypatch, phi):
    """Libraries round the factors of float32 to 10 bits on GPUs (TF32)."""
    xp, kinds = recorded(monkeypatch)
    tp.ntk(net(phi)).gram(xp.asarray(X, dtype=xp.float32), dtype="float32")
    assert kinds == {xp.float64}


@QUICK
def test_single_precision_loses_roundings_of_inputs_and_results_only(library):
    K, x = tp.ntk(net("relu", depth=3)), RNG.normal(size=(30, 1000)).astype(np.float32)
    x[1] = x[0] * 2 + np.float32(1e-3) * x[2]  # near parallel
    ours, expected = library.back(K.gram(library.array(x), dtype="float32")), K(x.astype(float))
    assert np.abs(ours / expected - 1).max() < 1e-7


@QUICK
@pytest.mark.parametrize("dtype, scale", [("float64", 1e200), ("float32", 1e18)])
def test_inputs_whose_squares_overflow_are_named_as_on_the_host(library, dtype, scale):
    K, x = tp.ntk(net("relu")), np.concatenate([X, X[:2] * scale])
    for first, second in ((x, None), (x, Y), (Y, x)):
        with pytest.raises(tp.DataError) as there:
            K.gram(library.array(first), None if second is None else library.array(second), dtype=dtype)
        with pytest.raises(tp.DataError) as here:
            K.gram(first, second, dtype=dtype)
        assert str(here.value).startswith(f"X{1 if first is x else 2}[{len(X)}] has entries of size")
        assert f"leaves the range of {dtype}; scale the inputs" in str(there.value)
        assert str(there.value)[:28] == str(here.value)[:28]


@QUICK
@pytest.mark.parametrize("scale", [1e-170, 1e-155, 1e-150, 1e150])
def test_inputs_of_extreme_sizes(library, scale):
    K = tp.ntk(net("erf"))
    assert off(library.back(K.gram(library.array(scale * X), library.array(Y))), K.gram(scale * X, Y)) < 1e-13


def test_kernels_are_compiled_once(monkeypatch):
    import torch

    made, evaluator = [], compute.Evaluator
    monkeypatch.setattr(compute, "Evaluator", lambda *args: made.append(args) or evaluator(*args))
    kernels = [tp.nngp(net("relu")), tp.ntk(net("relu"))]
    for x in (X, Y, 2 * X):
        tp.gram(kernels, torch.tensor(x))
    assert len(made) == 1


@QUICK
def test_pairs_that_are_mended_are_read_in_lists(library, monkeypatch):
    K, x = tp.ntk(net("relu")), np.concatenate([X, 2 * X, -X])
    lists, mend = [], devices.Evaluator.mend_list
    monkeypatch.setattr(devices, "LIST", 7 * X.shape[1])
    monkeypatch.setattr(
        devices.Evaluator, "mend_list", lambda self, a, *rest: lists.append(len(a)) or mend(self, a, *rest)
    )
    assert off(library.back(K.gram(library.array(x))), K(x)) < 1e-13
    assert max(lists) == 7 and len(lists) > 10


def test_a_sampled_kernel_is_computed_on_the_host_beside_compiled_ones():
    torch = pytest.importorskip("torch")
    data = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32).astype(float)
    other = tp.nngp(tp.programs.mlp(depth=2))
    K = tp.nngp(shared(), samples=2**13)
    with pytest.warns(tp.AccuracyWarning) as caught:
        found, exact = tp.gram([K, other], torch.tensor(data))
        cross = K.gram(torch.tensor(data), torch.tensor(data[:2]), dtype="float32")
    assert len(caught) == 2 and isinstance(found, torch.Tensor) and cross.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), K.account(data).value)
    np.testing.assert_array_equal(cross.numpy(), K.account(data, data[:2]).value.astype(np.float32))
    np.testing.assert_allclose(exact.numpy(), other(data), rtol=1e-12)


@pytest.mark.parametrize("net", [programs.cnn(), programs.myrtle(), programs.transformer()], ids=lambda net: net.name)
def test_arrays_with_positions_are_computed_by_the_processor(library, net):
    """Values of NumPy arrays, as arrays of the library where the inputs are."""
    shape = (4, 3, 2) if net.name == "transformer" else (4, 4, 4, 2)
    images = RNG.normal(size=shape)
    images[1] = images[0]
    for kernel in (tp.nngp(net), tp.ntk(net)):
        assert (library.back(kernel.gram(library.array(images))) == kernel.gram(images)).all()
        found = library.back(kernel.gram(library.array(images[:3]), library.array(images), dtype="float32"))
        assert found.dtype == np.float32 and off(found, kernel.gram(images)[:3]) < 1e-6


def test_gradients_of_arrays_with_positions_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(tp.errors.DataError, match="tracks gradients"):
        tp.ntk(programs.cnn()).gram(torch.zeros((2, 3, 3, 1), requires_grad=True))
