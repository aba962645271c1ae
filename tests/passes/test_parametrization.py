"""abc-parametrizations: their classification, its reasons, and the exponents that simulation finds."""

from fractions import Fraction

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.direct import DirectTraining
from tensorprog.finite.estimate import exponent
from tensorprog.passes.scaling import assign, scaling

HALF = sp.Rational(1, 2)
REFERENCE = {
    # Yang & Hu 2021, Table 1 and Section 3: (parametrization, stable, r)
    "ntk": (tp.ntk_parametrization(), True, HALF),
    "mup": (tp.mup(), True, 0),
    "standard, lr O(1)": (tp.standard(), False, -1),
    "standard, lr 1/n": (tp.standard(c=1), True, HALF),
    "mean field": (tp.abc([0, 1], [0, 0], c=-1), True, 0),  # one hidden layer: f = Σ/n, rate n
}


@pytest.mark.parametrize("name", REFERENCE)
def test_the_named_parametrizations_are_those_of_the_paper(name):
    parametrization, stable, r = REFERENCE[name]
    verdict = parametrization.classify()
    assert verdict.stable is stable and verdict.r == r
    assert verdict.regime == ("unstable" if not stable else "kernel regime" if r else "feature learning")


@pytest.mark.parametrize("theta", [HALF, -1, Fraction(2, 7), 0.25, "-3/8"])
@pytest.mark.parametrize("name", REFERENCE)
def test_a_shift_changes_nothing(name, theta):
    parametrization, *_ = REFERENCE[name]
    shifted = parametrization.shift(theta)
    assert shifted.classify() == parametrization.classify() or not parametrization.classify().stable
    assert (shifted.classify().regime, shifted.r) == (parametrization.classify().regime, parametrization.r)
    for x, y in zip(parametrization.layers(), shifted.layers(), strict=True):
        assert x.init == y.init and x.rate == y.rate
        assert (x.a, x.b, x.c) != (y.a, y.b, y.c)
    trace = tp.programs.mlp(depth=len(parametrization.a) - 1, phi=tp.tanh).trace([None])
    if parametrization.classify().stable:
        assert scaling(trace, parametrization) == scaling(trace, shifted)


UNSTABLE = {
    "rate O(1)": (
        tp.standard(),
        ["layer 3 (readout): 2a + c = 0, must be at least 1: its update moves the outputs by n",
         "layer 2 (hidden): 2a + c + G - 1 = -1, must be at least 1/2"],
    ),
    "rate n^(-1/2)": (
        tp.standard(c=HALF),
        ["layer 3 (readout): 2a + c = 1/2, must be at least 1", "outputs by n^(1/2)"],
    ),
    "large hidden weights": (
        tp.abc([0, 0, HALF], [0, 0, 0]),
        ["layer 2 (hidden): a + b = 0, must be 1/2: pre-activations grow like n^(1/2)"],
    ),
    "small input weights": (
        tp.abc([HALF, HALF, HALF], [0, 0, 0]),
        ["layer 1 (input): a + b = 1/2, must be 0: pre-activations vanish"],
    ),
    "large outputs": (
        tp.abc([0, HALF, 0.25], [0, 0, 0], HALF),
        ["layer 3 (readout): a + b = 1/4, must be at least 1/2: outputs start like n^(1/4)"],
    ),
    "large rate": (
        tp.abc([0, HALF, HALF], [0, 0, 0], -HALF),
        ["layer 1 (input): 2a + c + G = 0, must be at least 1/2", "layer 2 (hidden)",
         "layer 3 (readout): 2a + c = 1/2", "output bias: 2a + c = -1/2"],
    ),
    "large input rate": (
        tp.abc([-1, 0, HALF], [1, HALF, HALF]),
        ["layer 1 (input): 2a + c + G = -1, must be at least 0: its update moves the features by n and, through them, "
         "the outputs by n"],
    ),
    "large output bias": (tp.abc([0, HALF, HALF], [0, 0, 0], 0, output_bias=(0, -1)), ["output bias: a + b = -1"]),
    "fast output bias": (tp.abc([0, HALF, HALF], [0, 0, 0], 0, output_bias=(-1, 1)), ["output bias: 2a + c = -2"]),
}  # fmt: skip


@pytest.mark.parametrize(("parametrization", "reasons"), UNSTABLE.values(), ids=UNSTABLE)
def test_an_unstable_parametrization_is_refused_with_the_layer_and_the_exponent(parametrization, reasons):
    assert not parametrization.classify().stable
    with pytest.raises(tp.AssumptionError) as error:
        tp.unroll(tp.programs.mlp(depth=2, phi=tp.tanh), steps=1, parametrization=parametrization)
    for reason in reasons:
        assert reason in str(error.value) and reason in parametrization.text()


def test_outputs_that_do_not_move_are_refused():
    slow = tp.abc([0, HALF, HALF], [0, 0, 0], 1)
    assert slow.classify().regime == "trivial"
    with pytest.raises(tp.AssumptionError, match=r"layer 3 \(readout\): a \+ b \+ r = 2 and 2a \+ c = 2"):
        tp.unroll(tp.programs.mlp(depth=2), steps=1, parametrization=slow)


def test_exponents_go_to_layers_by_what_they_are():
    @tp.network
    def net(net, x):
        W = net.weight("W")
        h = W.T @ tp.tanh(W @ net.embed("U", x)) + net.bias("b")
        return net.readout("V", tp.tanh(net.dense("Q", h)), bias=1)

    trace = net().trace([None])
    four = assign(trace, tp.abc([0, 1, 2, 3], [0, 0, 0, 0]))
    assert {name: x.a for name, x in four.items()} == {"U": 0, "b": 0, "W": 1, "Q": 2, "V": 3, "V.bias": 3 - HALF}
    three = assign(trace, tp.mup())
    assert {name: x.a for name, x in three.items()} == {"U": -HALF, "b": -HALF, "W": 0, "Q": 0, "V": HALF, "V.bias": 0}
    with pytest.raises(tp.ProgramError, match="exponents for 3 hidden matrices, the network has 2"):
        assign(trace, tp.abc([0] * 5, [0] * 5))
    with pytest.raises(tp.ProgramError, match="net.average"):
        assign(tp.programs.mean_readout().trace([None]), tp.mup())


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (([0, 1], [0, 1, 2]), "a has 2 exponents and b 3"),
        (([0], [0]), "must list the exponents"),
        (("0,1", [0, 0]), "must list the exponents"),
        (([0, "half"], [0, 0]), "'half'"),
        (([0, 2**0.5], [0, 0]), "rational"),
        (([0, "1/0"], [0, 0]), "1/0"),
        (([0, float("nan")], [0, 0]), "nan"),
        (([0, 0], [0, 0], sp.Symbol("c")), "rational"),
        (([0, 0], [0, 0], 0, [1, 2, 3]), "pair"),
    ],
    ids=str,
)
def test_bad_exponents_are_named(arguments, culprit):
    with pytest.raises(tp.ProgramError, match=culprit):
        tp.abc(*arguments)
    with pytest.raises(tp.ProgramError, match="tp.mup"):
        tp.unroll(tp.programs.mlp(), steps=1, parametrization=3)


# ---- what simulation finds ---------------------------------------------------------------------------

WIDTHS, SEEDS = [64, 128, 256, 512], list(range(12))
X = np.array([[1.0, -0.5, 0.3], [0.2, 0.9, -1.1]])


def predicted(parametrization):
    """Exponents of h, f at the start and of their changes in the first step, for relu and A_1 = 0, A_2 = 1/2.

    The gradient is that of the initial readout, n^(−A_3); χ has the size of f_0, at least 1; the second layer's update
    meets features that the first one's may have enlarged.
    """
    first, second, last = parametrization.layers()
    chi = max(0, HALF - last.init)
    own = [chi - (first.rate + last.init), chi - (second.rate + last.init - 1)]
    h = [own[0], max(own[0], own[1] + max(0, own[0]))]
    x1 = max(0, h[1])
    f = max(1 - last.init + h[1], chi + 1 - last.rate + x1)
    return {"h1": h[0], "h2": h[1], "f": f, "f0": HALF - last.init}


GRID = {
    "mup": tp.mup(),
    "mup with a rate n^(-1/2)": tp.abc(["-1/2", 0, HALF], [HALF, HALF, HALF], HALF),
    "mup with a rate n^(1/2), unstable": tp.abc(["-1/2", 0, HALF], [HALF, HALF, HALF], -HALF),
    "ntk": tp.ntk_parametrization(),
    "standard, unstable": tp.standard(),
    "standard, 1/n": tp.standard(c=1),
    "readout between": tp.abc([0, HALF, HALF], [0, 0, "1/4"], 0),
    "hidden layer frozen": tp.abc([-HALF, HALF, HALF], [HALF, 0, HALF]),
    "large hidden rate, unstable": tp.abc([0, 0, HALF], [0, HALF, 0]),
    "large outputs, unstable": tp.abc([0, HALF, HALF], [0, 0, "-1/4"], 0),
}


@pytest.mark.parametrize("name", GRID)
def test_the_first_step_has_the_predicted_exponents(name):
    parametrization = GRID[name]
    net = tp.programs.mlp(depth=2, phi=tp.relu)
    run = DirectTraining(net, read_inputs(X, "X", "vectors"), [3.0], parametrization, tp.SGD(0.25))
    sizes = {key: [] for key in ("h1", "h2", "f", "f0", "h1 start", "h2 start")}
    for n in WIDTHS:
        (before, f0), (after, f1) = run.run(n, SEEDS, 1)
        for h, var in (("h1", "U(x[0])"), ("h2", "W2(x[0])")):
            v = run.trace.program.named(var)
            sizes[h].append(after[v] - before[v])
            sizes[f"{h} start"].append(before[v])
        sizes["f"].append(f1 - f0)
        sizes["f0"].append(f0)
    expected = predicted(parametrization) | {"h1 start": 0, "h2 start": 0}
    for key, p in expected.items():
        fit = exponent(WIDTHS, sizes[key])
        assert fit.compatible(float(p), 0.1), (key, p, str(fit))
        assert fit.high - fit.low < 0.6


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("excess", [-HALF, 0, HALF])
def test_preactivations_grow_or_vanish_as_the_reasons_say(layer, excess):
    a = [0, HALF, HALF]
    a[layer - 1] += excess
    inputs = read_inputs(X, "X", "vectors")
    run = DirectTraining(tp.programs.mlp(depth=2, phi=tp.relu), inputs, [1.0], tp.abc(a, [0, 0, 0]),
                         tp.SGD(0.5))  # fmt: skip
    v = run.trace.program.named({1: "U(x[0])", 2: "W2(x[0])"}[layer])
    fit = exponent(WIDTHS, [next(run.run(n, SEEDS, 0))[0][v] for n in WIDTHS])
    assert fit.compatible(-float(excess), 0.02)
    reason = f"must be {[0, HALF][layer - 1]}: pre-activations {'grow' if excess < 0 else 'vanish'} like n^({-excess})"
    assert (reason in tp.abc(a, [0, 0, 0]).text()) == (excess != 0)
