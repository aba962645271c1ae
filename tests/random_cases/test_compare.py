"""What samples are no verdict on: events that they have not seen, and rounding beside terms that cancel."""

import numpy as np
import pytest

from tests.random_cases import paths
from tests.random_cases.case import Case, Line
from tests.random_cases.compare import Comparison, Effort
from tests.random_cases.examine import made
from tests.random_cases.pieces import Piece

CASE = next(case for case in (made("net", seed) for seed in range(50)) if not case.wild)


def held(value, draw, **more):
    """What is noted of an estimate of a kernel."""
    comparison = Comparison(CASE, "ntk", "K(X)", lambda: np.array([[value]]), Effort(every=True))
    comparison.hold_statistics("simulated", draw, **more)
    return comparison.report


def number(value, error=0.0):
    return lambda *_: (np.array([[value]]), np.array([[error]]))


def at_larger(value):
    return {"larger": lambda: np.array([[value]])}


def test_samples_of_0_are_no_verdict_on_an_event_that_larger_inputs_show():
    report = held(2e-9, number(0.0), **at_larger(0.3))
    assert not report.faults and not report.compared and "rare event" in str(report.skipped)


@pytest.mark.parametrize("value, found, larger", [(2e-9, 0.0, 0.0), (0.3, 0.0, 1.0), (2e-9, 5e-9, 0.3)])
def test_samples_are_a_verdict_where_nothing_was_there_to_be_seen(value, found, larger):
    """Of a 0 at all inputs, of an event that is not rare, and of samples that are not 0."""
    assert held(value, number(found), **at_larger(larger)).faults


@pytest.mark.parametrize("rounding, faults", [(1e-30, 0), (1e-33, 1)])
def test_samples_are_compared_up_to_their_rounding(rounding, faults):
    report = held(0.0, number(2e-31, 1e-35), rounding=lambda: np.array([[rounding]]))
    assert len(report.faults) == faults


def cancelling(shift):
    """v · (h − E h) of a constant h = shift: the input is 0."""
    lines = [('net.embed("U", x, std=1)', "h1"), (f"h1 + {shift}", "h2"), ("tp.moment(lambda u: u, h2)", "k"),
             ("h2 - k", "h3")]  # fmt: skip
    before = tuple(Line((target,), Piece(text, ""), ()) for text, target in lines)
    return Case("net", before, output=Line((), Piece('net.readout("R", h3, std=1)', ""), ()), data=[[0.0]])


def test_the_rounding_of_samples_is_that_of_their_terms():
    small, large = (paths.rounding(cancelling(shift), "nngp") for shift in ("sp.sqrt(2)", "1000 * sp.sqrt(2)"))
    assert (small > 1e-32).all() and (small < 1e-28).all()
    assert (1e5 * small < large).all() and (large < 1e7 * small).all()
