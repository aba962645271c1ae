"""What a user writes, for mypy --strict against the installed package; the function is never called."""

from typing import assert_type

import numpy as np

import tensorprog as tp
from tensorprog import learn
from tensorprog.programs import rnn


@tp.network
def my_net(net: tp.Net, x: tp.Datum, *, depth: int = 2, phi: tp.Nonlinearity = tp.nn.relu) -> tp.Output:
    h = net.embed("U", x, std=2**0.5) + net.bias("b1")
    assert_type(h, tp.Vec)
    for l in range(2, depth + 1):
        h = 0.5 * net.dense(("W", l), phi(h)) + h / 2
    return net.readout("V", h)


@tp.network
def over_time(net: tp.Net, x: tuple[tp.Datum, ...]) -> tuple[tp.Output, tp.Output]:
    u, *_ = x
    h = tp.tanh(net.weight("W").T @ net.embed("U", u))
    return net.readout("V", h), net.readout("Q", h)


def uses() -> None:
    X = np.eye(3)
    net = my_net(depth=3)
    assert_type(net, tp.Network)
    assert_type(over_time(), tp.Network)
    assert_type(tp.programs.mlp(depth=2, phi=tp.erf), tp.Network)
    assert_type(rnn(tied=False), tp.Network)
    my_net(detph=3)  # type: ignore[call-arg]
    my_net(depth="3")  # type: ignore[arg-type]
    tp.programs.mlp(deep=3)  # type: ignore[call-arg]

    K = tp.ntk(net, trainable=["V"], rates={"V": 2})
    assert_type(K, tp.Kernel)
    assert_type(K(X), np.ndarray)
    assert_type(K([[1.0, 0.0]], [[0, 1]], values={"sigma_w": 1}), np.ndarray)
    assert_type(K([np.ones((3, 2)), np.ones((2, 2))]), np.ndarray)
    assert_type(K.text(), str)
    assert_type(K.passes_gia_check, bool)
    assert_type(tp.nngp(net).account(X).value, np.ndarray)
    assert_type(K.recursion(), tp.Recursion)
    assert_type(K.recursion()(X, depth=100), np.ndarray)
    K(3)  # type: ignore[arg-type]
    K(X, values=3)  # type: ignore[arg-type]
    tp.ntk(net, outputs="first")  # type: ignore[arg-type]

    p = tp.Program()
    W, v, s = p.matrix("W"), p.vector("v", variance=2), p.scalar("s", 0.5)
    assert_type(W @ v, tp.Vec)
    assert_type(s * v + 1, tp.Vec)
    assert_type(2 - s, tp.Scal)
    assert_type(tp.relu(v), tp.Vec)
    assert_type(tp.exp(s), tp.Scal)
    assert_type(tp.moment(lambda a: a**2, v), tp.Scal)
    assert_type(p.gaussian("a b", [[1, 0.5], [0.5, 1]]), list[tp.Vec])
    W @ s  # type: ignore[operator]
    p.vector(3)  # type: ignore[arg-type]

    lim = tp.limit(p)
    assert_type(lim, tp.Limit)
    assert_type(lim.evaluate(lim.cov(v, W @ v)), float)
    assert_type(tp.limit(p, "sampling", samples=2**10), tp.SampledLimit)
    assert_type(tp.limit(p, method="sampling").cov(v, v), tp.Estimate)
    assert_type(tp.sample(p, width=16)[v], np.ndarray)
    assert_type(tp.empirical_ntk(net, X, width=16), np.ndarray)

    run = tp.unroll(net, steps=2)
    assert_type(run, tp.Training)
    assert_type(run.certify().passed, bool | None)
    assert_type(tp.verify(net, X), tp.Verification)
    assert_type(tp.train(net, X, [1.0, 0.0, 1.0], optimizer=tp.SGD([0.1, 0.2])), tp.TrainingReport)
    assert_type(tp.feature_limit(net, X, X[:, 0]), tp.FeatureLimit)
    assert_type(tp.standard("1"), tp.Parametrization)
    assert_type(tp.coordinate_check(net, X, X[:, 0], [tp.mup()]), tp.CoordinateCheck)
    assert_type(tp.draw(net), tp.Drawing)
    assert_type(tp.__version__, str)

    assert_type(learn.Dynamics.of(net, X, X[:, 0]).mean(1.0), np.ndarray)
    assert_type(tp.learn.NTKRegressor(net).fit(X, X[:, 0]).predict(X), np.ndarray)
    print(tp.rellu)  # type: ignore[attr-defined]
