"""Kernels whose terms cancel say in their errors what rounding has left of them."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.derivation.sampled.order import Order
from tensorprog.derivation.sampled.randomised import _Sampler


@tp.network
def cancelled(net, x, *, size=1e-6, phi=None):
    """Of h = size and −h′ + h′ with a gaussian h′ of variance 1, in two readouts or two products of one matrix."""
    h = net.embed("U", x)
    constant = size * tp.moment(lambda u: u * u, h)
    if phi is None:
        return net.readout("V", constant - h) + net.readout("V", h)
    W = net.weight("W")
    return net.readout("V", phi(W @ (constant - h) + W @ h))


@pytest.mark.parametrize(("phi", "share"), [(None, 1.0), (tp.relu, 0.5), (tp.abs, 1.0)])
@pytest.mark.parametrize("size", [1e-6, 3e-5])
def test_the_error_of_terms_that_cancel_is_their_rounding(phi, share, size):
    K = tp.nngp(cancelled(size=size, phi=phi))
    account = K.account([[1.0]])
    apart = np.abs(account.value - share * size**2)
    assert (apart <= account.error).all() and (account.error < 1e-14).all()
    assert apart.max() > 0
    with pytest.warns(tp.AccuracyWarning):
        K([[1.0]])


def test_terms_that_do_not_cancel_have_no_such_error():
    account = tp.nngp(cancelled(size=1.0)).account([[1.0]])
    assert account.relative.max() < 1e-14 and account.value == pytest.approx(1.0, rel=1e-14)
    tp.nngp(cancelled(size=1.0))([[1.0]])


def test_samples_say_what_single_precision_has_left_of_them():
    """An erf that rounds to 1 stands at a kink, where the slope is a convention."""
    shrunk = tp.declare("shrunk", kinks=(-1, 1), pieces=(lambda x: x + 1, lambda x: 0, lambda x: x - 1), parity=-1)

    @tp.network
    def net(net, x):
        return net.readout("R", shrunk(tp.erf(net.embed("U", x, std=3.0))))

    account = tp.ntk(net(), method="sampling", samples=2**13).account([[0.6, 1.0]])
    assert (account.value > 0).all() and (account.value < 6.5 * account.error).all()
    assert (account.error < 1e-13).all()


@pytest.mark.parametrize("phi", [tp.relu, tp.tanh])
def test_both_precisions_draw_the_same(phi):
    """Rounding decides the order of vectors of one length: their samples differ by rounding all the same."""
    net = tp.programs.mlp(depth=3, phi=phi)
    X = np.random.default_rng(0).normal(size=(5, 3))
    sampler = _Sampler(net, "ntk", Order(net, read_inputs(X, "X", "vectors"), None), {}, None)
    rounding = sampler.rounding(0)
    assert (rounding > 0).any() and rounding.max() < 1e-5


def test_what_is_rounded_below_a_matrix_is_known_too():
    shrunk = tp.declare("shrunk", kinks=(-1, 1), pieces=(lambda x: x + 1, lambda x: 0, lambda x: x - 1), parity=-1)

    @tp.network
    def net(net, x):
        return net.readout("R", shrunk(tp.erf(net.dense("W", net.embed("U", x, std=3.0)))))

    account = tp.ntk(net(), method="sampling", samples=2**13).account([[0.6, 1.0], [1.0, 0.3]])
    assert (np.diag(account.value) > 0).all()
    assert (np.diag(account.value) < 6.5 * np.diag(account.error)).all() and (account.error < 1e-13).all()
