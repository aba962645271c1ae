"""Order and chaos: fixed points, χ₁, depth scales, the phase diagram and critical initialisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize

from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import DataError, FoldError, ProgramError, shortly
from tensorprog.given import number
from tensorprog.progress import Progress, telling
from tensorprog.studies.layer_map import LayerMap, check_values
from tensorprog.studies.mean_field import MeanField, mean_field
from tensorprog.studies.study import Study
from tensorprog.verify import Claim

Grid = Mapping[str, Sequence[float]]
SIGMA_W, SIGMA_B = np.linspace(0.2, 3.0, 29), np.linspace(0.0, 1.5, 16)
SCANNED = 41  # values at which χ₁ − 1 is looked at for a change of sign
FIXED, EXACT = 1e-9, 1e-10
DEPTH, RATIO = 48, 1e-3
WORDS = "χ₁ < 1 is order, gradients vanish and inputs become alike; χ₁ > 1 is chaos, gradients explode and inputs part"


def phase(net: Network, grid: Grid | None = None, *, over: str | None = None, drive: float = 1.0,
          progress: Progress = None) -> Study:  # fmt: skip
    """Fixed points and stability of a network's covariances in depth, or in time.

    The network's own recursion (q, c) ↦ (F(q), G(q, c)) has the fixed points q* = F(q*) and c* = G(q*, c*)/q*;

        χ₁ = ∂G/∂c at c = q*,  χ_c = ∂G/∂c at c*,  ξ_q = −1/log F'(q*),  ξ_c = −1/log χ_c.

    Of several covariances that a layer maps at once, χ is the largest eigenvalue. Where an input enters at every layer
    or time, both inputs are the same: χ₁ says whether different states forget that they were.

    Args:
        net: an architecture with a depth, or for sequences of any length.
        grid: values of one or two hyperparameters, such as ``{"sigma_w": [1, 2], "sigma_b": [0, 0.5]}``; when None that
            of the source for networks with ``sigma_w`` and ``sigma_b``, an empty one, the network as it is, for others.
        over: ``"depth"`` or ``"lengths"``; lengths for networks of sequences when None.
        drive: ⟨x,x⟩ of an input that enters at every layer or time.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        ``numbers`` q, slope, chi, c, chi_c, xi_q, xi_c over the grid, ``own`` those of the network as it is; claims.

    Raises:
        FoldError, AssumptionError: the network's recursion is no map of a layer.
        DataError, ProgramError: a grid that cannot be used.

    Reference:
        Poole et al. 2016; Schoenholz et al. 2017; Seleznova & Kutyniok 2021, Section 2.

    >>> import tensorprog as tp
    >>> study = phase(tp.programs.mlp(phi=tp.relu), {"sigma_w": [1.0, 2.0]})
    >>> study.numbers["chi"]  # σ_w²/2
    array([0.5, 2. ])
    """
    check_network(net)
    drive = number(drive, "drive", 0)
    given = _default(net, over) if grid is None else _read(grid)
    shape = tuple(len(v) for v in given.values())
    with telling(progress) as tell:
        tell(0, 2, "the recursion")
        alone = LayerMap(net, (), over)
        layer = LayerMap(net, tuple(given), over) if given else alone
        own = mean_field(alone, {"drive": drive})
        tell(1, 2, "fixed points")
        axes = np.meshgrid(*given.values(), indexing="ij") if given else []
        values = dict(zip(given, axes, strict=True))
        found = mean_field(layer, {**values, "drive": drive}) if given else own
    numbers = {"grid": {k: np.asarray(v) for k, v in given.items()}, **_numbers(found, shape), "own": _numbers(own, ())}
    title = f"phases of {net!r}" + (f" over {' and '.join(given)}" if given else "")
    claims = [_is_fixed(layer, found, {**values, "drive": drive}), _contracts(net, alone, own)]
    return Study("phase", title, numbers, claims, [WORDS + "."], *_table(given, numbers))


def critical(net: Network, by: str = "sigma_w", grid: Grid | None = None, *, between: Sequence[float] = (0.05, 10.0),
             over: str | None = None, drive: float = 1.0, progress: Progress = None) -> Study:  # fmt: skip
    """The initialisation at which χ₁ = 1: signals and gradients go through at any depth.

    Args:
        net: an architecture, as in ``phase``.
        by: the hyperparameter to find.
        grid: values of another one, such as ``{"sigma_b": [0, 0.1, 0.5]}``; the network's own when None.
        between: where to look; of several solutions the smallest is given.
        over, drive, progress: as in ``phase``.

    Returns:
        ``numbers``: under the name of ``by`` the solutions, nan where there is none, and q*.

    Raises:
        FoldError, AssumptionError, DataError, ProgramError: as ``phase``.

    >>> import tensorprog as tp
    >>> study = critical(tp.programs.mlp(phi=tp.tanh), grid={"sigma_b": [0.05**0.5]})
    >>> (study.numbers["sigma_w"] ** 2).round(6), study.numbers["q"].round(6)
    (array([1.760955]), array([[0.570048]]))
    """
    check_network(net)
    drive, given = number(drive, "drive", 0), {} if grid is None else _read(grid)
    if not isinstance(by, str):
        raise ProgramError(f"by must be the name of a hyperparameter, got {shortly(by)}")
    if by in given:
        raise ProgramError(f"{shortly(by)} is found, and cannot be given as well")
    if len(given) > 1:
        raise ProgramError(f"grid has values of one hyperparameter, got {', '.join(given)}")
    if not isinstance(between, (tuple, list)) or len(between) != 2:
        raise DataError(f"between must be two numbers, got {shortly(between)}")
    low, high = (number(b, "between", 0) for b in between)
    if not 0 < low < high:
        raise DataError(f"between must be two increasing positive numbers, got {shortly(between)}")
    layer = LayerMap(net, (by, *given), over)
    scan = np.geomspace(low, high, SCANNED)
    points = [dict(zip(given, p, strict=True)) for p in zip(*given.values(), strict=True)] or [{}]
    roots, q, claims = [], [], []
    with telling(progress) as tell:
        for k, point in enumerate(points):
            root, at = _root(layer, by, scan, {**point, "drive": drive})
            roots.append(root)
            q.append(at.q)
            claims.append(_critical_claim(by, root, point, at, (low, high)))
            tell(k + 1, len(points), "critical initialisation")
    numbers = {"grid": given, by: np.array(roots), "q": np.array(q), "by": by}
    rows = [[*(f"{v:.6g}" for v in p.values()), f"{r:.10g}", f"{r * r:.10g}", ", ".join(f"{x:.8g}" for x in at)]
            for p, r, at in zip(points, roots, q, strict=True)]  # fmt: skip
    return Study("critical", f"critical initialisation of {net!r} by {by}", numbers, claims, [],
                 [*given, by, f"{by}²", "q*"], rows)  # fmt: skip


def _default(net: Network, over: str | None) -> dict[str, np.ndarray]:
    names = ("sigma_w", "sigma_b")
    if not {*names} <= net.hyperparameters.keys():
        return {}
    try:
        LayerMap(net, names, over)
    except FoldError:  # with symbols for them, as where layers are normalised
        return {}
    return dict(zip(names, (SIGMA_W, SIGMA_B), strict=True))


def _read(grid: Any) -> dict[str, np.ndarray]:
    if not isinstance(grid, Mapping) or len(grid) > 2:
        raise DataError(f"grid must map one or two hyperparameters to their values, got {shortly(grid)}")
    check_values(grid)
    found = {name: np.asarray(values, float) for name, values in grid.items()}
    for name, values in found.items():
        if values.ndim != 1 or not len(values):
            raise DataError(f"grid[{shortly(name)}] must be a list of numbers, got {shortly(grid[name])}")
    return found


def _numbers(m: MeanField, shape: tuple[int, ...]) -> dict[str, Any]:
    found = {"q": m.q, "slope": m.slope, "chi": m.chi, "c": m.c, "chi_c": m.chi_c, "xi_q": m.xi_q, "xi_c": m.xi_c}
    return {k: np.broadcast_to(v, (*v.shape[: v.ndim - len(shape)], *shape)).copy() for k, v in found.items()}


def _table(grid: Mapping[str, np.ndarray], numbers: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = []
    shape = tuple(len(v) for v in grid.values())
    places = list(np.ndindex(shape))
    if len(places) > 60:  # a picture says more
        grid, numbers, places = {}, numbers["own"], [()]
    for i in places:
        at = [f"{v[k]:.4g}" for v, k in zip(grid.values(), i, strict=True)]
        q, c = (", ".join(f"{x:.8g}" for x in numbers[name][(slice(None), *i)]) for name in ("q", "c"))
        chi = float(numbers["chi"][i])
        word = "edge" if abs(chi - 1) < 1e-6 else "order" if chi < 1 else "chaos"
        rows.append(
            [*at, q, f"{chi:.8g}", c, *(f"{float(numbers[n][i]):.4g}" for n in ("chi_c", "xi_q", "xi_c")), word]
        )
    return [*grid, "q*", "χ₁", "c*", "χ at c*", "ξ_q", "ξ_c", "phase"], rows


def _is_fixed(layer: LayerMap, m: MeanField, values: Mapping[str, Any]) -> Claim:
    finite = np.isfinite(m.q).all(axis=0)
    q = np.where(np.isfinite(m.q), m.q, 1.0)
    after, _ = layer.step(q, None, values)
    gap = np.abs(after - q) / np.maximum(q, 1.0)
    worst = float(np.max(np.where(finite, gap, 0.0), initial=0.0))
    some = int(np.size(finite) - np.sum(finite))
    more = f"; q grows without end at {some} of {np.size(finite)} points" if some else ""
    return Claim("q* is a fixed point", worst <= FIXED, f"|F(q*) − q*| ≤ {worst:.1e} (tolerance {FIXED:.0e}){more}")


def _contracts(net: Network, layer: LayerMap, own: MeanField) -> Claim:
    """The compiled recursion, which knows nothing of derivatives, moves as they say."""
    name = f"the compiled recursion contracts as derived at depth {DEPTH}"
    rate = float(np.maximum(own.slope, own.chi_c))
    if layer.size != "L" or net.takes_axes or not 0.05 < rate < 0.95 or not np.isfinite(own.q).all():
        return Claim(name, None, f"largest rate {rate:.6g}; told for networks of vectors with a rate of 0.05 to 0.95")
    depth = max(4, min(DEPTH, int(18 / -np.log(rate))))
    try:
        a, b, c = (layer.recursion([[1.0, 0.0]], [[0.6, 0.8]], L=depth + k)[0, 0] for k in range(3))
    except DataError as error:
        return Claim(name, None, f"it has no numbers: {error}")
    ratio = (c - b) / (b - a)
    detail = f"increments of K(x,x') shrink by {ratio:.6f} a layer, derived {rate:.6f} (tolerance {RATIO:g})"
    return Claim(name.replace(str(DEPTH), str(depth)), bool(abs(ratio - rate) <= RATIO), detail)


def _root(layer: LayerMap, by: str, scan: np.ndarray, point: Mapping[str, float]) -> tuple[float, MeanField]:
    def excess(x: float) -> float:
        return float(mean_field(layer, {**point, by: x}, correlation=False).chi) - 1

    chi = mean_field(layer, {**point, by: scan}, correlation=False).chi - 1
    change = [k for k in range(len(scan) - 1) if chi[k] < 0 <= chi[k + 1] or chi[k + 1] < 0 <= chi[k]]
    if not change:
        return np.nan, mean_field(layer, {**point, by: scan[-1]}, correlation=False)
    root = float(optimize.brentq(excess, scan[change[0]], scan[change[0] + 1], xtol=1e-14, rtol=1e-14))
    return root, mean_field(layer, {**point, by: root}, correlation=False)


def _critical_claim(by: str, root: float, point: Mapping[str, float], at: MeanField,
                    between: tuple[float, float]) -> Claim:  # fmt: skip
    name = "χ₁ = 1" + "".join(f" at {k} = {v:g}" for k, v in point.items())
    if not np.isfinite(root):
        return Claim(name, None, f"χ₁ − 1 does not change its sign for {by} between {between[0]:g} and {between[1]:g}")
    off = abs(float(at.chi) - 1)
    return Claim(name, off <= EXACT, f"{by} = {root:.10g}, |χ₁ − 1| = {off:.1e} (tolerance {EXACT:.0e})")
