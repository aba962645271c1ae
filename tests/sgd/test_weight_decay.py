"""SGD with weight decay: what is derived, by hand, and against finite networks."""

import math

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining
from tensorprog.printing import inner

PHI = tp.abstract("phi")
PROGRAMS = tp.programs
ETA, LAMBDA = sp.symbols("eta lambda", positive=True)


def mlp(depth=2, **options):
    return PROGRAMS.mlp(**{"depth": depth, "phi": PHI, **options})


def test_with_weight_decay_the_derived_change_is_stated_without_a_verdict():
    certificate = tp.unroll(mlp(1, sigma_w=1), steps=2, optimizer=tp.SGD(ETA, weight_decay=LAMBDA)).certify()
    assert certificate.passed is None
    assert [row.equal for row in certificate.rows] == [None, None]
    text = certificate.text()
    assert "no fixed kernel" in text
    assert text.count("derived    f") == 2
    for part in ("f_0^1(x)", "f_0(x)", "λ", "χ₀", "V[φ']"):
        assert part in text


def test_the_first_step_with_weight_decay_by_hand():
    """f_1 = f̂_1 − η χ (E φ(a Z^h) φ(Z^ξ) + a ⟨x,ξ⟩ E φ'(a Z^h) φ'(Z^ξ)), a = 1 − ηλ, one hidden layer."""
    training = tp.unroll(mlp(1, sigma_w=1), steps=1, optimizer=tp.SGD(ETA, weight_decay=LAMBDA))
    limit, program = training.limit, training.program
    a = 1 - ETA * LAMBDA
    hs = program.named("U(x)"), program.named("U(ξ0)")
    values = limit.E(lambda p, q: PHI(a * p) * PHI(q), *hs)
    slopes = limit.E(lambda p, q: sp.diff(PHI(p), p).subs(p, a * p) * sp.diff(PHI(q), q), *hs)
    chi = program.op(training._unrolled.chi[0, 0, 0]).value
    scalars = {key: program.op(v).value for key, v in training._unrolled.outputs0.items()}
    i = training.plan.tests[0]
    expected = scalars[1, i, 0] - scalars[0, i, 0] - ETA * chi * (values + a * inner("x", "ξ0") * slopes)
    difference = training.delta_f(0) - expected
    definitions = {e.lhs: e.rhs for e in limit.equations}
    assert sp.expand(difference.xreplace(definitions)) == 0


@pytest.mark.parametrize("momentum", [0, 0.5])
@pytest.mark.parametrize(("phi", "power"), [(tp.tanh, 1), (tp.relu, 0.5)], ids=["tanh", "relu"])
def test_finite_networks_with_weight_decay_approach_the_limit(phi, power, momentum):
    """The mean of f_t minus its limit at the run's own initial scalars extrapolates to 0 at every t and input.

    It is a series in 1/n, or in n^(−1/2) for ReLU: the O(n^(1/2)) units that an update takes across 0 are those
    that were active, so their contributions do not cancel.
    """
    rng = np.random.default_rng(3)
    X = read_inputs(rng.standard_normal((3, 2)), "X", "vectors")
    net = PROGRAMS.mlp(depth=1, phi=phi, sigma_w=1.2)
    run = FiniteTraining(net, X, [1.0, -1.0], 2, tp.SGD(0.4, momentum, weight_decay=0.5))
    widths, seeds = (64, 128, 256, 512), 4000
    gaps, moves = {}, {}
    for k, n in enumerate(widths):
        gaps[n], moves[n] = gap_to_limit(run, n, list(range(seeds * k, seeds * (k + 1))))
    means = np.stack([gaps[n].mean(axis=0) for n in widths])
    errors = np.stack([gaps[n].std(axis=0, ddof=1) / math.sqrt(seeds) for n in widths])
    design = np.array([[1, n**-power, n ** (-2 * power)] for n in widths])
    weights = np.linalg.pinv(design)[0]
    limit = np.tensordot(weights, means, 1)
    error = np.sqrt(np.tensordot(weights**2, errors**2, 1))
    assert (10 * error < np.abs(moves[512].mean(axis=0)).max()).all()
    assert (np.abs(limit) < 4 * error + 1e-12).all()
    # the spread of a single run is the fluctuation of the kernel, of order n^(−1/2)
    spread = [gaps[n].std(axis=0).max() for n in widths]
    assert spread[3] / spread[1] == pytest.approx(0.5, rel=0.2)


def gap_to_limit(run, width, seeds):
    """f_t − lim f_t and f_t − f_0 for every seed, (S, steps, N), with the initial scalars and labels of the run."""
    values = run.execute(run.finite.draw(width, seeds))
    program, training = run.training.program, run.training
    scalars = {program.op(v).value: values[v][:, 0] for v in run.u.outputs0.values()}
    scalars |= {program.op(v).value: run.y[i, k] for (i, k), v in run.u.labels.items()}
    f = run.outputs(values)[..., 0]
    limits = [[training.limit.evaluate(training.f(t, i), {**run.finite.hyper, **scalars})
               for i in range(len(run.inputs))] for t in range(1, run.steps + 1)]  # fmt: skip
    limit = np.moveaxis(np.array([[np.broadcast_to(v, len(seeds)) for v in row] for row in limits]), -1, 0)
    return f[:, 1:] - limit, f[:, 1:] - f[:, :1]
