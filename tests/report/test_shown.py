"""Every public result has a short text and a form for notebooks that says the same, well formed and self-contained."""

import functools
import inspect
import re
import sys
import xml.etree.ElementTree as ET

import pytest

import tensorprog as tp
from tensorprog import learn
from tensorprog.printing import COLUMNS, LINES, to_html
from tests.results import NET, RESULTS, made, program, sgd

# what results are made of, and what is no result: each prints itself in a line
INGREDIENTS = {"Var", "Output", "Readout", "Datum", "Parameter", "Nonlinearity", "SGD", "Loss", "Plan", "Scaling",
               "Axes", "Map", "Reading", "Poly", "Gaussian", "NameSymbol", "Folded", "Family", "Layout", "Bound",
               "Named", "Parts", "Channels", "Case", "Box", "Handle", "Front", "Line", "Net", "Said",
               "WeightLaw"}  # fmt: skip
ELSEWHERE = {"NTKRegressor", "NTKClassifier"}  # scikit-learn shows them
TEXTS_ONLY = ["Vec", "Mat", "Scal", "Parametrization", "Drawing", "Kernel", "OutputKernels", "Recursion"]


def words_of(markup):
    return " ".join(" ".join(ET.fromstring(f"<r>{markup}</r>").itertext()).split())


def numbers(text):
    return set(re.findall(r"\d+(?:\.\d+)?(?:e[-+]\d+)?", text))


@functools.cache
def page(name):
    return to_html(made(name))


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_has_a_short_text(name):
    shown = repr(made(name))
    assert len(shown) < 2000 and len(shown.splitlines()) <= LINES
    assert max(map(len, shown.splitlines())) <= COLUMNS
    assert "object at 0x" not in shown and "array(" not in shown and "Poly(" not in shown
    assert all(w in shown or w in str(made(name)) for w in RESULTS[name][1])


@pytest.mark.parametrize("name", [n for n in RESULTS if n not in ("Kernel", "OutputKernels", "Recursion", "Drawing")])
def test_a_notebook_shows_its_html(name):
    assert made(name)._repr_html_() == page(name)


@pytest.mark.parametrize("name", ["Kernel", "OutputKernels", "Recursion"])
def test_a_notebook_shows_the_formulas_of_kernels(name):
    assert made(name)._repr_latex_().startswith("\\begin{align*}")


@pytest.mark.parametrize("name", RESULTS)
def test_html_is_well_formed_and_needs_nothing_else(name):
    words = words_of(page(name))
    assert words and len(page(name)) < 400_000
    bare = page(name).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http" not in bare and "<script" not in bare and "<image" not in bare and "@import" not in bare


@pytest.mark.parametrize("name", RESULTS)
def test_pictures_are_where_there_are_some(name):
    assert ("<svg" in page(name)) == RESULTS[name][2]


@pytest.mark.parametrize("name", [n for n in RESULTS if n not in TEXTS_ONLY])
def test_html_says_what_the_text_says(name):
    text, words = repr(made(name)), words_of(page(name))
    assert all(w in words for w in RESULTS[name][1])
    assert numbers(text.replace("−", "-")) <= numbers(words.replace("−", "-"))


@pytest.mark.parametrize("name", ["Verification", "TrainingReport", "Certificate", "Certificate that fails"])
def test_the_verdict_of_every_claim_is_in_both(name):
    result, words = made(name), words_of(page(name))
    rows = [c.detail for c in result.claims] if hasattr(result, "claims") else [h.detail for h in result.hypotheses]
    assert all(" ".join(row.split()) in words and row in result.text() for row in rows)
    verdicts = {"Verification": "all claims hold", "Certificate": "passed", "Certificate that fails": "FAILED"}
    assert verdicts.get(name, "") in words


@pytest.mark.parametrize(
    "made",
    [
        lambda: tp.Verification("by hand"),
        lambda: tp.TrainingReport("by hand", [2, 4], 1, 1),
        lambda: tp.CoordinateCheck("by hand", [2, 4], 1),
        tp.Program,
        lambda: tp.limit(tp.Program()),
        lambda: tp.sample(tp.Program(), 4),
        lambda: tp.sample(tp.Program(), 4, seeds=2),
    ],
)
def test_what_holds_nothing_is_shown_too(made):
    assert repr(made()) and words_of(to_html(made()))


def test_a_long_title_hides_no_verdict():
    report = tp.Verification("net(" + ", ".join(f"sigma_{i}=1" for i in range(30)) + ")", widths=[2, 4], seeds=3)
    assert "all claims hold (widths 2, 4, 3 seeds each)" in " ".join(repr(report).split())


def test_the_fit_of_a_gaussian_process_is_that_of_its_mean():
    gp = learn.GaussianProcess([[2.0]], [3.0], alpha=1.0)  # mean K y/(K + α) = 2, so that y − mean = 1
    assert "root mean square of y − mean at the inputs: 1" in repr(gp)


def test_what_users_name_is_escaped():
    p = tp.Program()
    x = p.vector("<script>alert(1)</script>")
    for result in (p, x, tp.limit(p), tp.sample(p, 4)):
        assert "<script" not in to_html(result) and "alert" in "".join(words_of(to_html(result)).split())


# ---- which results there are -----------------------------------------------------------------------------


def classes_in(module, annotation):
    names = re.findall(r"\w+", annotation if isinstance(annotation, str) else getattr(annotation, "__name__", ""))
    found = (getattr(sys.modules[module], name, None) for name in names)
    return [c for c in found if inspect.isclass(c) and c.__module__.startswith("tensorprog")]


def reached(found, thing):
    """The classes of what a public object returns, and what those return in turn."""
    if inspect.isfunction(thing):
        for c in classes_in(thing.__module__, thing.__annotations__.get("return", "")):
            reached(found, c)
    if not inspect.isclass(thing) or thing in found or issubclass(thing, (Exception, Warning)):
        return
    found.add(thing)
    for name, member in inspect.getmembers_static(thing):
        call = getattr(member, "fget", None) or getattr(member, "func", None) or getattr(member, "__func__", member)
        if inspect.isfunction(call) and (not name.startswith("_") or name in ("__call__", "__getitem__")):
            reached(found, call)
    for name, annotation in inspect.get_annotations(thing).items():
        for c in [] if name.startswith("_") else classes_in(thing.__module__, annotation):
            reached(found, c)


def public_results():
    found = set()
    for space in (tp, learn, tp.studies):
        for name in dir(space):
            thing = getattr(space, name)
            if not name.startswith("_") and getattr(thing, "__module__", "tensorprog").startswith("tensorprog"):
                reached(found, thing if inspect.isclass(thing) or inspect.isfunction(thing) else type(thing))
    return {c for c in found if c.__module__.startswith("tensorprog")}


def test_every_class_that_a_public_call_returns_is_in_the_table():
    found = {c.__name__ for c in public_results()}
    assert len(found) > 40 and {"Verification", "Run", "FeatureLimit", "Spectrum", "Exponent"} <= found
    listed = {type(made(name)).__name__ for name in RESULTS}
    bases = {c.__name__ for name in RESULTS for c in type(made(name)).__mro__}
    assert found - listed - bases - INGREDIENTS - ELSEWHERE == set()


def test_ingredients_print_in_a_line():
    plan = sgd().plan
    trace = NET.trace([None])
    shown = [plan.optimizer, plan.loss, plan.scaling, trace.outputs[0], trace.inputs[0][0], tp.relu,
             next(iter(trace.parameters.values())), program()[0].named("x"), sgd().plan, tp.law([-1, 1])]  # fmt: skip
    assert all(len(repr(thing)) < 2000 for thing in shown)
