"""What random networks of layers are held against: ``hold(seed)`` says which ways disagree."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.finite.layerwise import layerwise_ntk
from tensorprog.passes.separate import Separated
from tests.random_cases.layers import GATED, Layers, by_autograd, inputs, random_layers, written
from tests.random_cases.paths import TooDear, at_most

WIDTH = 7


def far(a: Any, b: Any) -> float:
    """The largest difference relative to the largest entry."""
    if not np.isfinite(a).all():
        return np.inf
    return float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-300))


def finite(case: Layers, seed: int = 0) -> Iterator[tuple[str, float]]:
    """Outputs and NTK of one network by the package and by autograd."""
    net, X = written(case), inputs(case)
    network = FiniteNetwork.of(net, read_inputs(X, "X", net.form), {})
    w = network.draw(WIDTH, [seed])
    states = {v.name for v in network.trace.states}
    f, theta = by_autograd(case, X, {k: a[0] for k, a in w.items()}, states)
    values = network.run(w, network.used)
    yield "outputs", far(network.outputs(values, w)[0], f)
    yield "program", far(network.ntk(values)[0], theta)
    yield "layerwise", far(layerwise_ntk(net, network.inputs, None, WIDTH, [seed], {}, np.float64)[0], theta)


def sampled(case: Layers) -> bool:
    """Whether kernels are means over gates or scores of several variables."""
    return bool(case.names & (GATED | {"1/sqrt(n)"}))


def limit(case: Layers, kind: Any = tp.ntk) -> Iterator[tuple[str, float]]:
    """The kernel by compiled and by named equations, in another order, and of the network taken apart."""
    net, X = written(case), inputs(case)
    K = kind(net)
    value = K(X)
    yield "gram", far(K.gram(X), value)
    yield "numpy", far(K.gram(X, backend="numpy"), value)
    turned = {k: v[::-1] for k, v in X.items()} if isinstance(X, dict) else X[::-1]
    yield "reordered", far(K(turned)[::-1, ::-1], value)
    if case.form == "tokens":
        yield "apart", far(kind(Separated(net, [(case.count,)]))(X), value)
    if case.form == "tokens" and "attention" not in case.names:
        yield "symmetric", far(value, value.T)


def hold(case: Layers, kinds: Any = (tp.nngp, tp.ntk)) -> list[str]:
    """The ways that disagree; a limit may be refused where second moments are not enough."""
    wrong = [f"{way} {d:.1e}" for way, d in finite(case) if not d < 1e-9]
    if sampled(case):
        return wrong
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tp.AccuracyWarning)
        for kind in kinds:
            try:
                wrong += [f"{kind.__name__} {way} {d:.1e}" for way, d in limit(case, kind) if not d < 1e-8]
            except tp.AssumptionError as error:
                if "second moments are not enough" not in str(error):
                    raise
    return wrong


def agree(seed: int, seconds: float = 5.0) -> list[str]:
    """The ways that disagree for one seed, as far as they take no longer than this."""
    try:
        with at_most(seconds):
            return hold(random_layers(seed))
    except TooDear:
        return []


def record(seed: int, seconds: float) -> dict[str, Any]:
    """The same as a record of the command: what broke is a fault too."""
    case, start = random_layers(seed), time.process_time()
    counts: dict[str, Any] = {"cases": {"layers": 1}, "compared": {}, "skipped": {}}
    found: list[tuple[str, str]] = []
    try:
        with at_most(seconds):
            found = [(f"layers: {way.rsplit(' ', 1)[0]}", way) for way in hold(case)]
        counts["compared"] = {"layers finite" if sampled(case) else "layers": 1}
    except TooDear:
        counts["skipped"] = {"layers: TooDear": 1}
    except Exception as error:
        found = [(f"layers: {type(error).__name__}", traceback.format_exc())]
    faults = [{"label": label, "text": f"# layers {seed}: {case}\n{text}"} for label, text in found]
    return {
        "kind": "layers",
        "seed": seed,
        "seconds": round(time.process_time() - start, 3),
        **counts,
        "faults": faults,
    }
