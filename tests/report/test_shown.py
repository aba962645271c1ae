"""Every public result has a short text and a form for notebooks that says the same, well formed and self-contained."""

import functools
import inspect
import re
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog import learn
from tensorprog.printing import COLUMNS, LINES, to_html

X, Y = np.array([[1.0, 0.5], [0.2, -1.0], [-0.4, 0.3]]), np.array([1.0, -1.0, 0.5])
SIGMA = sp.Symbol("sigma_w", positive=True)
NET = tp.programs.mlp(depth=2, phi=tp.tanh, sigma_b=0.1)
RNN = tp.programs.rnn(phi=tp.relu, sigma_b=0.2)
C = {"c": 2}
SMALL = {"widths": (16, 32, 64), "seeds": 4}


@tp.network
def two_outputs(net, x):
    h = tp.relu(net.embed("U", x))
    return net.readout("V", h), net.readout("W", h)


@functools.cache
def program():
    p = tp.Program()
    W, x, c = p.matrix("W"), p.vector("x", variance=sp.Symbol("c", positive=True)), p.scalar("s", 0.5)
    y = W.T @ tp.relu(W @ x)
    z = tp.nonlin(lambda a, s: a * tp.tanh(a) + s, y, params=[c])
    return p, W, x, c, z, tp.moment(lambda a: a**2, z)


@functools.cache
def limit():
    p, _, x, _, z, m = program()
    lim = tp.limit(p)
    lim.cov(x, z), lim.value(m)
    return lim


def account():
    p = tp.Program()
    v = p.vector("v")
    lim = tp.limit(p)
    return lim.account(lim.E(lambda a: tp.tanh(a) ** 2 * tp.sigmoid(a), v))


@functools.cache
def verification():
    return tp.verify(NET, X, **SMALL)


@functools.cache
def training(**options):
    return tp.train(NET, X, Y, steps=3, **SMALL, **options)


def features():
    return training(parametrization=tp.mup(), samples=2**12, optimizer=tp.SGD(0.25))


@functools.cache
def check():
    return tp.coordinate_check(NET, X, Y, [tp.mup(), tp.ntk_parametrization()], steps=2, **SMALL)


@functools.cache
def dynamics():
    return learn.Dynamics.of(NET, X, Y, X[:2])


def sgd(net=NET, **options):
    return tp.unroll(net, steps=2, **options)


# name ↦ (its maker, figures that text and HTML both hold, whether there is a picture)
RESULTS = {
    "Program": (lambda: program()[0], ["8 instructions"], True),
    "long program": (lambda: tp.programs.mlp(depth=60).trace([None]).program, ["instructions"], False),
    "ProgramGraph": (lambda: sgd().program, ["instructions"], False),
    "Vec": (lambda: program()[4], [], False),
    "Mat": (lambda: program()[1], [], False),
    "Scal": (lambda: program()[5], [], False),
    "Network": (lambda: NET, ["mlp", "tanh"], True),
    "Network of sequences": (lambda: RNN, ["rnn", "relu"], True),
    "Trace": (lambda: NET.trace([None, None]), ["2 inputs", "5 parameters"], False),
    "Run": (lambda: tp.sample(program()[0], 64, values=C), ["width 64"], False),
    "Run of seeds": (lambda: tp.sample(program()[0], 64, values=C, seeds=3), ["3 seeds"], False),
    "Limit": (limit, ["8 instructions"], False),
    "SampledLimit": (lambda: tp.limit(program()[0], "sampling", samples=2**12, values=C), ["4096 samples"], False),
    "GridLimit": (lambda: tp.limit(tp.Program(), "quadrature"), ["quadrature"], False),
    "LinearLimit": (lambda: tp.limit(tp.Program(), "linear"), ["linear"], False),
    "AutoLimit": (lambda: tp.limit(program()[0], "auto", values=C), ["exact"], False),
    "Estimate": (lambda: tp.limit(program()[0], "auto", values=C).value(program()[5]), ["±"], False),
    "Account": (account, ["1 expectation"], False),
    "AtomValue": (lambda: account().atoms[0], ["±"], False),
    "Kernel": (lambda: tp.ntk(NET), ["NTK"], False),
    "OutputKernels": (lambda: tp.ntk(two_outputs()), ["NTK"], False),
    "KernelAccount": (lambda: tp.ntk(NET).account(X), ["(3, 3)", "error"], False),
    "Recursion": (lambda: tp.nngp(NET).recursion(), ["NNGP"], False),
    "SizedKernel": (lambda: tp.nngp(NET).recursion().at(depth=7), ["7"], False),
    "Derivation": (lambda: tp.nngp(NET).derive(), ["instructions"], False),
    "Training": (lambda: tp.unroll(tp.programs.mlp(depth=1), 1), ["kernel regime", "1 step"], True),
    "FeatureTraining": (lambda: sgd(parametrization=tp.mup(), loss="mse"), ["features move"], False),
    "Certificate": (lambda: sgd().certify(), ["equal", "45 digits"], False),
    "Certificate that fails": (lambda: sgd().certify(kernel=tp.programs.mlp(phi=tp.tanh)), ["NOT EQUAL"], False),
    "Hypothesis": (lambda: sgd(tp.programs.mlp(phi=tp.sign)).certify().hypotheses[0], ["NOT MET"], False),
    "Parametrization": (lambda: tp.mup(), [], False),
    "Layer": (lambda: tp.mup().layers()[1], ["layer 2"], False),
    "Classification": (lambda: tp.mup().classify(), ["feature learning"], False),
    "FeatureLimit": (lambda: tp.feature_limit(NET, X, Y, steps=2, samples=2**12), ["sampling"], True),
    "Drawing": (lambda: tp.draw(NET), [], True),
    "Verification": (verification, ["all claims hold"], True),
    "Claim": (lambda: verification().claims[0], ["ok"], False),
    "Evidence": (lambda: verification().evidence, ["3 inputs"], False),
    "Inputs": (lambda: verification().evidence.data, ["3 inputs"], False),
    "Exponent": (lambda: verification().errors["NTK"], [], False),
    "TrainingReport": (training, ["kernel drift"], True),
    "FeatureReport": (features, ["limit"], True),
    "CoordinateCheck": (check, ["mup()", "Δx V"], True),
    "Spectrum": (lambda: dynamics().spectrum, ["rank 3 of 3"], True),
    "GaussianProcess": (lambda: learn.GaussianProcess(tp.nngp(NET)(X), Y, 0.1), ["3 inputs"], False),
    "Dynamics": (dynamics, ["3 training inputs"], True),
    "Stop": (lambda: dynamics().early_stopping(Y[:2]), ["time"], False),
    "NetworkKernel": (lambda: learn.NetworkKernel(values={"sigma_b": 0.1}), ["sigma_b=0.1"], False),
}  # fmt: skip
# what results are made of, and what is no result: each prints itself in a line
INGREDIENTS = {"Var", "Output", "Readout", "Datum", "Parameter", "Nonlinearity", "SGD", "Loss", "Plan", "Scaling",
               "Poly", "Gaussian", "NameSymbol", "Folded", "Family", "Layout", "Bound", "Case", "Box",
               "Handle", "Front", "Line", "Net", "Said"}  # fmt: skip
ELSEWHERE = {"NTKRegressor", "NTKClassifier"}  # scikit-learn shows them
TEXTS_ONLY = ["Vec", "Mat", "Scal", "Parametrization", "Drawing", "Kernel", "OutputKernels", "Recursion"]


def words_of(markup):
    return " ".join(" ".join(ET.fromstring(f"<r>{markup}</r>").itertext()).split())


def numbers(text):
    return set(re.findall(r"\d+(?:\.\d+)?(?:e[-+]\d+)?", text))


@functools.cache
def made(name):
    return RESULTS[name][0]()


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
    for space in (tp, learn):
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
             next(iter(trace.parameters.values())), program()[0].named("x"), sgd().plan]  # fmt: skip
    assert all(len(repr(thing)) < 2000 for thing in shown)
