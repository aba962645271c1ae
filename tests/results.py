"""A maker of every public result, for the tests of how results are shown and of how they are copied."""

import functools

import numpy as np
import sympy as sp

import tensorprog as tp
from tensorprog import learn

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
    "DerivativeKernel": (lambda: tp.derivative(tp.ntk(NET), (0, 0), (1,)), ["∂"], False),
    "SphereSpectrum": (lambda: learn.spectrum(tp.nngp(NET), 3, degrees=6), ["S^2", "degree"], False),
    "KernelAccount": (lambda: tp.ntk(NET).account(X), ["(3, 3)", "error"], False),
    "Recursion": (lambda: tp.nngp(NET).recursion(), ["NNGP"], False),
    "SizedKernel": (lambda: tp.nngp(NET).recursion().at(depth=7), ["7"], False),
    "Derivation": (lambda: tp.nngp(NET)._derive(), ["instructions"], False),
    "DerivationDocument": (lambda: tp.derivation(NET), ["Theorem B.4"], False),
    "DerivationCheck": (lambda: tp.derivation(NET).check(), ["30 digits"], False),
    "Comparison": (lambda: tp.compare(NET, tp.programs.mlp(depth=2, phi=tp.tanh), X[:2]), ["only in a"], False),
    "NewTerm": (lambda: made("Comparison").new[0], ["only in"], False),
    "FormulaCheck": (lambda: tp.check_formula(tp.nngp(NET), "K(x,x') = 2"), ["different"], False),
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
    "Study": (lambda: tp.studies.phase(tp.programs.mlp(phi=tp.relu), {"sigma_w": [1.0]}), ["phases", "order"], True),
    "Spectrum": (lambda: dynamics().spectrum, ["rank 3 of 3"], True),
    "GaussianProcess": (lambda: learn.GaussianProcess(tp.nngp(NET)(X), Y, 0.1), ["3 inputs"], False),
    "Dynamics": (dynamics, ["3 training inputs"], True),
    "Stop": (lambda: dynamics().early_stopping(Y[:2]), ["time"], False),
    "NetworkKernel": (lambda: learn.NetworkKernel(values={"sigma_b": 0.1}), ["sigma_b=0.1"], False),
}  # fmt: skip


@functools.cache
def made(name):
    return RESULTS[name][0]()
