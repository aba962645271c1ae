"""The coefficients of SGD are those of torch's update rule; bad optimizers, losses and data are named."""

import numpy as np
import pytest
import sympy as sp
import torch

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining
from tensorprog.functions import evaluate
from tensorprog.passes.optimizer import Loss
from tensorprog.passes.rates import Rates

STEPS = 7
LR_LIST = [0.3, 0.0, 0.2, 0.7, 0.05, 0.4, 0.1]
NET = tp.programs.mlp(depth=2, phi=tp.tanh)


def decreasing(t):
    """A learning rate as a function of time."""
    return 0.6 / (t + 1)


# ---- coefficients --------------------------------------------------------------------------------


def by_hand(lr, momentum, weight_decay, gradients, w):
    """w_0, .., w_T of torch's rule m_t = μ m_{t−1} + G_t + λ w_t, w_{t+1} = w_t − η_t m_t."""
    path, m = [w], 0.0
    for t, g in enumerate(gradients):
        m = momentum * m + g + weight_decay * path[-1]
        path.append(path[-1] - lr(t) * m)
    return np.array(path)


def by_torch(lr, momentum, weight_decay, gradients, w):
    """The same by torch, which is handed the gradients."""
    p = torch.tensor([w], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=1.0, momentum=momentum, weight_decay=weight_decay)
    path = [p.item()]
    for t, g in enumerate(gradients):
        optimizer.param_groups[0]["lr"] = lr(t)
        p.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        path.append(p.item())
    return np.array(path)


RULES = {"constant": 0.4, "list": LR_LIST, "tuple": tuple(LR_LIST), "function": decreasing}
KINDS = {"plain": (0, 0), "momentum": (0.9, 0), "weight-decay": (0, 0.3), "both": (0.5, 0.3)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_coefficients_are_those_of_the_linear_recursion(rule, kind):
    lr, (momentum, decay) = RULES[rule], KINDS[kind]
    rate = lr if callable(lr) else (lambda t: lr[t]) if isinstance(lr, (list, tuple)) else (lambda t: lr)
    rng = np.random.default_rng(8)
    gradients, w = rng.standard_normal(STEPS), rng.standard_normal()
    sgd = tp.SGD(lr, momentum, decay)
    weights = [[float(sgd.weight(t, s)) for s in range(t)] for t in range(STEPS + 1)]
    path = [float(sgd.decay(t)) * w - np.dot(weights[t], gradients[:t]) for t in range(STEPS + 1)]
    for expected in (by_hand, by_torch):
        np.testing.assert_allclose(path, expected(rate, momentum, decay, gradients, w), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_of_symbols_become_those_of_numbers(kind):
    momentum, decay = KINDS[kind]
    e, m, l = sp.symbols("e m l", positive=True)
    symbolic, numeric = tp.SGD(e, m, l), tp.SGD(0.4, momentum, decay)
    values = {e: 0.4, m: momentum, l: decay}
    for t in range(5):
        assert evaluate(symbolic.decay(t), values) == pytest.approx(float(numeric.decay(t)), abs=1e-13)
        for s in range(t):
            assert evaluate(symbolic.weight(t, s), values) == pytest.approx(float(numeric.weight(t, s)), abs=1e-13)


def test_plain_sgd_weighs_every_gradient_by_its_rate():
    rates = sp.symbols("r0:4")
    sgd = tp.SGD(rates)
    assert [sgd.weight(4, s) for s in range(4)] == list(rates)
    assert [sgd.decay(t) for t in range(5)] == [1] * 5
    assert sgd.plain and not sgd.decays


def test_momentum_and_decay_of_two_steps_by_hand():
    r0, r1, m, l = sp.symbols("r0 r1 m l", positive=True)
    sgd = tp.SGD([r0, r1], m, l)
    assert sp.expand(sgd.weight(2, 0) - (r0 + r1 * (m - l * r0))) == 0
    assert sgd.weight(2, 1) == r1
    assert sp.expand(sgd.decay(2) - ((1 - r0 * l) - r1 * (m * l + l * (1 - r0 * l)))) == 0
    assert sgd.decays and not sgd.plain


def test_two_optimizers_do_not_share_coefficients():
    assert tp.SGD(0.5).weight(1, 0) == sp.Rational(1, 2)
    assert tp.SGD(0.25).weight(1, 0) == sp.Rational(1, 4)


# ---- losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", lambda f, y: f - y),
        ("logistic", lambda f, y: -y / (1 + np.exp(y * f))),
        (lambda f, y: (f - y) ** 4 / 4, lambda f, y: (f - y) ** 3),
        (lambda f, y: sp.Abs(f - y), lambda f, y: np.sign(f - y)),
        (lambda f, y: sp.Max(0, 1 - y * f), lambda f, y: -y * (y * f < 1)),
        (sp.cosh, None),
    ],
    ids=["mse", "logistic", "quartic", "absolute", "hinge", "one-argument"],
)
def test_derivatives_of_losses(loss, expected):
    if expected is None:
        with pytest.raises(tp.ProgramError, match="the loss cosh must be a function of"):
            Loss(loss, 1)
        return
    rng = np.random.default_rng(2)
    f, y = 2 * rng.standard_normal(50), rng.choice([-1.0, 1.0], 50)
    np.testing.assert_allclose(Loss(loss, 1).values(0, [f], [y], {}), expected(f, y), rtol=1e-13, atol=1e-13)


def test_named_losses_sum_over_outputs_and_others_get_tuples():
    rng = np.random.default_rng(2)
    f, y = rng.standard_normal((2, 9)), rng.standard_normal((2, 9))
    crossed = Loss(lambda f, y: (f[0] - y[0]) * (f[1] - y[1]), 2)
    for k in range(2):
        np.testing.assert_allclose(Loss("mse", 2).values(k, f, y, {}), f[k] - y[k], rtol=1e-14)
        np.testing.assert_allclose(crossed.values(k, f, y, {}), f[1 - k] - y[1 - k], rtol=1e-14)


# ---- bad optimizers ------------------------------------------------------------------------------

BAD_OPTIMIZERS = [
    ({"lr": 0.1, "momentum": 1}, r"momentum must be in \[0, 1\), got 1"),
    ({"lr": 0.1, "momentum": 1.5}, r"momentum must be in \[0, 1\), got 1.5"),
    ({"lr": 0.1, "momentum": -0.1}, r"momentum must be in \[0, 1\), got -0.1"),
    ({"lr": 0.1, "momentum": sp.I}, "momentum is I; it must be real"),
    ({"lr": 0.1, "momentum": float("nan")}, "momentum is nan; it must be finite"),
    ({"lr": 0.1, "momentum": "0.9"}, "momentum must be a number or a sympy expression, got str '0.9'"),
    ({"lr": 0.1, "weight_decay": -1e-3}, "weight_decay must not be negative, got -0.001"),
    ({"lr": 0.1, "weight_decay": sp.I}, "weight_decay is I; it must be real"),
    ({"lr": 0.1, "weight_decay": None}, "weight_decay must be a number or a sympy expression, got NoneType"),
    ({"lr": "fast"}, "lr must be a number or a sympy expression, got str 'fast'"),
    ({"lr": None}, "lr must be a number or a sympy expression, got NoneType"),
    ({"lr": True}, "lr must be a number or a sympy expression, got bool True"),
    ({"lr": float("inf")}, "lr is inf; it must be finite"),
    ({"lr": [0.1, "a", 0.1]}, r"lr\[1\] must be a number or a sympy expression, got str 'a'"),
    ({"lr": [0.1, 0.2]}, "lr lists 2 rates; step 2 has none"),
    ({"lr": []}, "lr lists 0 rates; step 0 has none"),
    ({"lr": lambda t: "a"}, r"lr\(0\) must be a number or a sympy expression, got str 'a'"),
    ({"lr": lambda: 0.1}, "lr must be a number, a list or a function of t"),
    ({"lr": lambda t: float("nan")}, r"lr\(0\) is nan; it must be finite"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIMIZERS, ids=[m for _, m in BAD_OPTIMIZERS])
def test_bad_optimizers_are_refused(options, message):
    with pytest.raises(tp.ProgramError, match=message):
        tp.unroll(NET, steps=3, optimizer=tp.SGD(**options))


@pytest.mark.parametrize("optimizer", ["adam", 0.1, torch.optim.SGD, tp.SGD], ids=str)
def test_unsupported_optimizers_are_refused(optimizer):
    with pytest.raises(tp.ProgramError, match=r"unsupported optimizer .*use tp\.SGD\(lr, momentum, weight_decay\)"):
        tp.unroll(NET, steps=1, optimizer=optimizer)


# ---- bad losses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "near"), [("mes", "mse"), ("logistics", "logistic"), ("MSE", None), ("", None)])
def test_unknown_losses_are_refused_and_the_nearest_suggested(name, near):
    with pytest.raises(tp.ProgramError, match=f"unknown loss {name!r}.*known: logistic, mse") as error:
        tp.unroll(NET, steps=1, loss=name)
    assert (f"did you mean {near!r}?" in str(error.value)) == (near is not None)


def steps_of_f(f, y):
    """A loss with jumps."""
    return sp.floor(f - y)


BAD_LOSSES = [
    (steps_of_f, "the loss steps_of_f has no derivative that can be computed"),
    (lambda f, y: sp.ceiling(f) * f, "no derivative that can be computed"),
    (lambda f, y: sp.sign(f - y), "no derivative that can be computed"),
    (lambda f, y: sp.Function("g")(f - y), "no derivative that can be computed"),
    (sp.floor, r"the loss floor must be a function of \(f, y\)"),
    (lambda f: f**2, r"must be a function of \(f, y\)"),
    (lambda f, y: np.sin(f - y), r"must be a function of \(f, y\) of sympy symbols"),
    (lambda f, y: 3, "must return a sympy expression of f, got 3"),
    (lambda f, y: y**2, "must return a sympy expression of f, got"),
    (lambda f, y: "f", "must return a sympy expression of f, got 'f'"),
    (7, "loss must be a name, a function of .* or None, got 7"),
]


@pytest.mark.parametrize(("loss", "message"), BAD_LOSSES, ids=[m for _, m in BAD_LOSSES])
def test_bad_losses_are_refused(loss, message):
    with pytest.raises(tp.ProgramError, match=message):
        tp.unroll(NET, steps=1, loss=loss)


# ---- bad plans -----------------------------------------------------------------------------------

BAD_PLANS = [
    ({"steps": 0}, "steps must be a positive integer, got 0"),
    ({"steps": -1}, "steps must be a positive integer, got -1"),
    ({"steps": 1.5}, "steps must be a positive integer, got 1.5"),
    ({"steps": True}, "steps must be a positive integer, got True"),
    ({"batch": 0}, "batch must be a positive integer, got 0"),
    ({"batch": 2.0}, "batch must be a positive integer, got 2.0"),
    ({"tests": 0}, "tests must be a positive integer, got 0"),
    ({"trainable": ["matrx"]}, "unknown parameter 'matrx'; did you mean 'matrix'"),
    ({"trainable": ["W2", "W22"]}, "unknown parameter 'W22'; did you mean 'W2'"),
    ({"trainable": [3]}, "unknown parameter 3"),
    ({"trainable": "matrix"}, "trainable must be a list of names, got the str 'matrix'"),
    ({"trainable": 3}, "trainable must be a list of names, got the int 3"),
    ({"lengths": [1, 2, 3]}, "mlp takes single vectors; leave out lengths"),
]


@pytest.mark.parametrize(("options", "message"), BAD_PLANS, ids=[m for _, m in BAD_PLANS])
def test_bad_plans_are_refused(options, message):
    with pytest.raises(tp.ProgramError, match=message):
        tp.unroll(NET, **{"steps": 2, **options})


@pytest.mark.parametrize("lengths", [[1, 2], [1, 2, 3, 4], 3, [1, 2, 2.5]], ids=str)
def test_wrong_lengths_are_refused(lengths):
    with pytest.raises(tp.ProgramError, match="one length for each of the 3 tests and samples"):
        tp.unroll(tp.programs.rnn(), steps=2, lengths=lengths)


def test_empty_sequences_are_refused():
    with pytest.raises(tp.ProgramError, match="input ξ1 is an empty sequence"):
        tp.unroll(tp.programs.rnn(), steps=2, lengths=[1, 2, 0])


@pytest.mark.parametrize("t", [-1, 3])
def test_outputs_are_known_at_the_times_of_the_run_only(t):
    with pytest.raises(tp.ProgramError, match=f"t must be an integer from 0 to 2, got {t}"):
        tp.unroll(NET, steps=2).f(t)


# ---- bad data ------------------------------------------------------------------------------------

X = read_inputs(np.eye(3), "X", "vectors")
BAD_DATA = [
    ([1, 2, 3, 4], {}, r"one row for each of the samples, got \(4,\) for 3 inputs"),
    ([], {}, r"one row for each of the samples, got \(0,\) for 3 inputs"),
    (5, {}, r"one row for each of the samples, got \(\) for 3 inputs"),
    ([1, float("nan")], {}, "y has values that are not finite"),
    ([1, float("inf")], {}, "y has values that are not finite"),
    ([[1, 2], [1, 2]], {}, "the network has 1 outputs, but y has 2 columns"),
    (["a", "b"], {}, "y is not an array of numbers"),
    ([1, 2], {"batch": 3}, "a batch of 3 needs as many samples, there are 2"),
    ([1, 2], {"batch": 0}, "batch must be a positive integer, got 0"),
    ([1, 2], {"batch": 1.0}, "batch must be a positive integer, got 1.0"),
    ([1, 2], {"steps": 0}, "steps must be a positive integer, got 0"),
    ([1, 2], {"steps": 2.5}, "steps must be a positive integer, got 2.5"),
    ([1, 2], {"loss": None}, "training needs a loss"),
    ([1, 2], {"optimizer": "adam"}, "unsupported optimizer 'adam'"),
    ([1, 2], {"chosen": Rates.of(["W3"])}, "unknown parameter 'W3'"),
    ([1, 2], {"probes": (3,)}, "probes must be times between 0 and 2, got 3"),
    ([1, 2], {"probes": (-1,)}, "probes must be times between 0 and 2, got -1"),
    ([1, 2], {"optimizer": tp.SGD(sp.Symbol("eta"))}, "no value for eta"),
]


@pytest.mark.parametrize(("y", "options", "message"), BAD_DATA, ids=[m for *_, m in BAD_DATA])
def test_bad_training_data_are_refused(y, options, message):
    with pytest.raises((tp.DataError, tp.ProgramError), match=message):
        FiniteTraining(NET, X, y, **{"steps": 2, "optimizer": tp.SGD(0.1), **options}).run(8, [0])


def test_predictions_with_weight_decay_need_the_decayed_start_at_every_time():
    run = FiniteTraining(NET, X, [1, 2], 2, tp.SGD(0.1, weight_decay=0.1))
    with pytest.raises(tp.DataError, match="weight decay f0 holds"):
        run.predict(np.zeros((1, 3, 1)))


def test_nesterov_needs_a_momentum_and_is_true_or_false():
    with pytest.raises(tp.ProgramError, match="nesterov=True is a kind of momentum"):
        tp.SGD(0.1, nesterov=True)
    with pytest.raises(tp.ProgramError, match="nesterov must be True or False, got 1"):
        tp.SGD(0.1, 0.9, nesterov=1)


def test_a_step_of_nesterov_by_hand():
    """w_1 = w_0 − η(1 + μ) G_0;  m_1 = μ G_0 + G_1, w_2 = w_1 − η (G_1 + μ m_1)."""
    eta, mu = sp.symbols("eta mu", positive=True)
    sgd = tp.SGD(eta, mu, nesterov=True)
    assert sp.expand(sgd.weight(1, 0) - eta * (1 + mu)) == 0
    assert sp.expand(sgd.weight(2, 0) - eta * (1 + mu + mu**2)) == 0
    assert sp.expand(sgd.weight(2, 1) - eta * (1 + mu)) == 0
    assert "nesterov=True" in repr(sgd)


# ---- divergence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [50, 1e200])
def test_a_diverging_learning_rate_warns_and_names_the_width(lr):
    run = FiniteTraining(tp.programs.mlp(depth=2), X, [1, 2], 6, tp.SGD(lr), probes=(0, 6))
    with pytest.warns(RuntimeWarning, match="training diverges at width 24: .*lower the learning rate") as caught:
        run.run(24, [0])
    assert len(caught) == 1


def test_a_small_learning_rate_does_not_warn():
    (run,) = FiniteTraining(tp.programs.mlp(depth=2), X, [1, 2], 6, tp.SGD(0.1)).run(24, [0])
    assert np.isfinite(run.f).all()
