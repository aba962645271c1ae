"""Every verdict prints the figure it rests on beside what is asked of it."""

import re
from html import unescape

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.finite.estimate import Exponent
from tensorprog.printing import to_html

X, Y = np.array([[1.0, 0.5], [0.2, -1.0], [-0.4, 0.3]]), np.array([1.0, -1.0, 0.5])
NET = tp.programs.mlp(depth=2, phi=tp.tanh)
SMALL = {"widths": (16, 32, 64, 128), "seeds": 8}
BESIDE = re.compile(r"(≤|<|>|meets|not below) -?\d|to \d+ digits|too wide to decide|at most .* of what is allowed")
REPORTS = {
    "verify": lambda: tp.verify(NET, X, **SMALL),
    "verify a readout that is not random": lambda: tp.verify(tp.programs.mean_readout(phi=tp.tanh), X, **SMALL),
    "verify a sampled kernel": lambda: tp.verify(gated(), SEQUENCES, widths=(16, 32), seeds=4),
    "verify two outputs": lambda: tp.verify(pair(), X, **SMALL),
    "train": lambda: tp.train(NET, X, Y, steps=3, **SMALL),
    "train a readout": lambda: tp.train(NET, X, Y, steps=3, trainable=["readout"], **SMALL),
    "train with decay": lambda: tp.train(NET, X, Y, steps=1, optimizer=tp.SGD(0.25, weight_decay=0.1), **SMALL),
    "train features": lambda: tp.train(NET, X, Y, steps=1, parametrization=tp.mup(), samples=2**12, **SMALL),
}


SEQUENCES = np.array([[[1.0], [0.5]], [[-0.3], [0.8]]])


@tp.network
def gated(net, x):
    h = tp.tanh(net.embed("U", x[0]))
    for x_t in x[1:]:
        gate = tp.sigmoid(net.embed("A", x_t) + net.dense("B", h))
        h = gate * h + (1 - gate) * tp.tanh(net.embed("U", x_t) + net.dense("W", gate * h))
    return net.readout("V", h)


@tp.network
def pair(net, x):
    h = net.dense("W", tp.relu(net.embed("U", x)))
    return net.readout("V", h), net.readout("V2", tp.relu(h))


@pytest.fixture(scope="module", params=REPORTS)
def report(request):
    return REPORTS[request.param]()


@pytest.mark.filterwarnings("ignore::tensorprog.AccuracyWarning")
def test_every_claim_that_was_decided_prints_its_figure_beside_its_tolerance(report):
    decided = [c for c in report.claims if c.passed is not None]
    assert decided
    for c in decided:
        assert BESIDE.search(c.detail), c.detail
        assert c.detail in report.text()
        assert c.detail in unescape(to_html(report))


def test_an_exponent_says_which_interval_meets_what():
    """1.679 times the half width of the 95 % interval is that of the 99.9 %: z(0.9995)/z(0.975) = 3.2905/1.9600."""
    fit = Exponent(-0.6, -0.7, -0.5, np.ones(2), np.ones(2))
    assert fit.words(-0.5, 0.1) == (
        "fitted exponent -0.600 [-0.700, -0.500]; [-0.768, -0.432] at 99.9 % meets -0.5 ± 0.1"
    )
    far = Exponent(-1.0, -1.1, -0.9, np.ones(2), np.ones(2))
    assert far.words(-0.5, 0.1).endswith("does not meet -0.5 ± 0.1") and far.verdict(-0.5, 0.1) is False
    assert "too wide to decide" in Exponent(-1.0, -2.1, -0.9, np.ones(2), np.ones(2)).words(-0.5, 0.1)


def test_a_deviation_is_beside_its_bound():
    claim = next(c for c in REPORTS["verify"]().claims if c.name == "NTK = empirical NTK")
    figure, bound = re.search(
        r"numbers ([\d.]+) standard errors ≤ ([\d.]+) \(bound at 99.9 % for all", claim.detail
    ).groups()
    assert claim.passed and float(figure) <= float(bound)


def test_a_certificate_says_to_how_many_digits_it_compared():
    K = tp.unroll(NET, 1).certify()
    assert "to 45 digits at a random point" in K.text() and "to 45 digits at a random point" in to_html(K)
    decaying = tp.unroll(NET, 1, optimizer=tp.SGD(1, weight_decay=sp.Rational(1, 10))).certify()
    assert "digits" not in decaying.text()  # nothing was compared


def test_a_coordinate_check_says_what_its_intervals_are():
    check = tp.coordinate_check(NET, X, Y, [tp.mup()], widths=(16, 32, 64), steps=1, seeds=4)
    assert "95 % interval" in check.text() and "95 % interval" in to_html(check)
