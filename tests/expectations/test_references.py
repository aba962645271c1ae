"""Every method against references that were computed without the package (make_references.py), bounds included.

Errors are measured relative to √(E f² E g²), the size that the Cauchy-Schwarz inequality gives the expectation.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import FAMILIES, evaluate, member

U, V, X = sp.symbols("u v x", real=True)
HERE = Path(__file__).parent
DATA = {group: dict(np.load(HERE / f"references_{group}.npz")) for group in ("closed", "kinked", "smooth", "large")}
NAMES = {group: sorted(data.keys() - {"q1", "q2", "c"}) for group, data in DATA.items()}
ROUNDING, TOLERANCE = 2.3e-16, 2e-24  # of references stored in double precision, and of their integrals


def function(name):
    """The function of a name such as tanh'', relu^2, x^3, He3 or relu(x-1)."""
    if name.startswith("He"):
        return tp.hermite(int(name[2:]))(X)
    if name.startswith("x^"):
        return X ** int(name[2:])
    if "^" in name:
        return function(name.split("^")[0]) ** int(name.split("^")[1])
    if name.endswith("(x-1)"):
        return function(name[:-5]).subs(X, X - 1)
    order = name.count("'")
    return sp.diff(member(FAMILIES[name.rstrip("'")], 0)(X), X, order)


def computed(group, name, rows=slice(None)):
    f, g = map(function, name.split(" "))
    q1, q2, c = (DATA[group][key][rows] for key in ("q1", "q2", "c"))
    got = expectation(f.subs(X, U) * g.subs(X, V), (U, V), [[q1, c], [None, q2]])
    scale = np.sqrt(square(f, q1) * square(g, q2))
    return got, DATA[group][name][rows], scale


def square(f, q):
    """E f(u)² by a fine midpoint rule, to a few digits."""
    z = (np.arange(4000) + 0.5) / 200 - 10
    weight = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / 200
    return np.broadcast_to(evaluate(f, {X: np.sqrt(q)[:, None] * z}) ** 2, (len(q), 4000)) @ weight


def holds(got, want, scale):
    return np.all(np.abs(got.value - want) <= got.error + ROUNDING * np.abs(want) + TOLERANCE)


@pytest.mark.parametrize("name", NAMES["closed"])
def test_closed_forms_to_14_digits(name):
    got, want, scale = computed("closed", name)
    assert np.max(np.abs(got.value - want) / scale) <= 1e-14
    assert holds(got, want, scale)
    assert got.method in ("closed form", "odd")


@pytest.mark.parametrize("name", NAMES["kinked"])
def test_functions_with_kinks_to_10_digits(name):
    got, want, scale = computed("kinked", name)
    limit = 1e-14
    piecewise = {"tanh", "sigmoid'", "silu"}.isdisjoint(name.split(" "))
    assert np.max(np.abs(got.value - want) / scale) <= (limit if piecewise else 1e-10)
    assert np.max(got.error / scale) <= 1e-10
    assert holds(got, want, scale)


@pytest.mark.parametrize("name", NAMES["smooth"])
@pytest.mark.parametrize("rows", [slice(0, 80), pytest.param(slice(None), marks=pytest.mark.slow)], ids=["80", "1000"])
def test_smooth_functions_to_12_digits(name, rows):
    got, want, scale = computed("smooth", name, rows)
    assert np.max(np.abs(got.value - want) / scale) <= 1e-12
    assert np.max(got.error / scale) <= 1e-11
    assert holds(got, want, scale)


@pytest.mark.parametrize("name", NAMES["large"])
@pytest.mark.parametrize(
    "rows", [slice(0, 40), slice(0, 100), pytest.param(slice(None), marks=pytest.mark.slow)], ids=["40", "100", "1000"]
)
def test_smooth_functions_of_large_variance_to_9_digits(name, rows):
    got, want, scale = computed("large", name, rows)
    assert np.max(np.abs(got.value - want) / scale) <= 1e-9
    assert np.max(got.error / scale) <= 1e-9
    assert holds(got, want, scale)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["closed", "smooth", "large", "kinked"])
def test_the_references_are_what_the_script_computes(group):
    pytest.importorskip("flint") if group == "kinked" else None
    spec = importlib.util.spec_from_file_location("make_references", HERE / "make_references.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    again = module.reference(group, slice(2, 12))
    assert again and all(np.array_equal(value, DATA[group][key][2:12]) for key, value in again.items())
