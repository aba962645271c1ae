"""Checking a network's kernels: derivations against each other and against finite-width runs."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.algebra import Poly
from tensorprog.derivation.data import Inputs, read_inputs
from tensorprog.derivation.kernel_account import KernelAccount, warn
from tensorprog.derivation.names import NetworkNames
from tensorprog.derivation.ntk import nngp_terms, ntk_terms, sum_terms
from tensorprog.derivation.route import SAMPLED, TRIED, gates_are_sampled, shortened
from tensorprog.derivation.underflow import ADVICE, UNDERFLOW
from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import AccuracyError, DataError, NoRuleError, folder
from tensorprog.finite.apart import Apart
from tensorprog.finite.empirical import FiniteNetwork, empirical_ntk
from tensorprog.finite.estimate import bound, errors, exponent, extrapolate
from tensorprog.finite.runs import ALL_PAIRS, Record, collect
from tensorprog.given import count
from tensorprog.ir.hyper import symbol_values
from tensorprog.ir.instructions import InitVector, MatMul, Var
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import nngp, ntk
from tensorprog.kernels.outputs import chosen_outputs, one_output
from tensorprog.limit.evaluate import DIGITS, numbers, same
from tensorprog.limit.master import Interpreter
from tensorprog.passes.decouple import decouple
from tensorprog.passes.parametrization import ParametrizationChoice
from tensorprog.passes.rates import ALL, Rates
from tensorprog.passes.separate import Separated, small
from tensorprog.progress import Progress, telling
from tensorprog.report.claims import ROUNDING, SLACK, Claim, Verification, claim_within
from tensorprog.report.evidence import Evidence
from tensorprog.sgd.hypotheses import derivatives_of, outputs_on_data, refuse_unmet
from tensorprog.sgd.training import check_widths
from tensorprog.types import Data, HyperValues, Number, Pattern
from tensorprog.verify_members import verify_members

WIDTHS = (128, 256, 512, 1024)
ERRORS = 6  # standard errors of a kernel that two ways to compute it may be apart


def verify(
    net: Network,
    inputs: Data,
    widths: Sequence[int] = WIDTHS,
    seeds: int = 32,
    *,
    values: HyperValues | None = None,
    outputs: int | Sequence[int] | None = None,
    trainable: Sequence[Pattern] | None = None,
    rates: Mapping[Pattern, Number] | None = None,
    parametrization: ParametrizationChoice | None = None,
    out: str | Path | None = None,
    progress: Progress = None,
) -> Verification:
    """Check the kernels of a network on given inputs.

    The claims: backpropagation, path sums and one SGD step agree symbolically; the kernel on data is the limit of the
    program traced on that data; the NTK, the output covariance and the coordinate moments of all G-vars
    are what finite-width runs converge to (means fitted by limit + a/n, within the stated number of
    standard errors, which include those of the kernel itself); the error of the empirical NTK shrinks like n^(−1/2).
    Gated recurrent networks, whose kernels are sampled, are compared symbolically at short lengths only.
    What theorems ask for and the network lacks is said first, as claims that do not apply.

    Args:
        net: an architecture, with a concrete nonlinearity.
        inputs: (N, d) vectors, (N, T, d) sequences or a list of (T_i, d).
        widths: increasing widths n.
        seeds: independent networks per width.
        values: numbers for hyperparameters that are symbols, by symbol or by name.
        outputs: of a network with several: the number of one, or several numbers; None for all, one after the other and
            the NTK between them.
        trainable, rates, parametrization: which parameters train, and how fast, as for ``tp.ntk``.
        out: a folder for ``runs.jsonl``; an interrupted run resumes from it.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        The claims with their verdicts.

    Raises:
        DataError: bad inputs, fewer than two widths or seeds, or a folder with the runs of other settings.
        AssumptionError: a function that jumps, which has no derivative that SGD uses.

    >>> import tensorprog as tp
    >>> v = tp.verify(tp.programs.deep_linear(depth=2), [[1.0, 0.5], [0.0, 1.0]], widths=(32, 64, 128), seeds=32)
    >>> v.passed
    True
    """
    check_network(net)
    widths = check_widths(widths, least=2)
    seeds = count(seeds, "seeds", 2)
    if len(set(widths)) < 2 or len(set(widths)) != len(widths):
        raise DataError(f"verify needs two or more different widths, got {widths}")
    data = read_inputs(inputs, "inputs", net.form)
    which, chosen = chosen_outputs(net, outputs, data.groups), Rates.of(trainable, rates, parametrization)
    if net.takes_batches:
        return verify_members(
            net, data, inputs, widths, seeds, values=values, members=which, chosen=chosen, progress=progress
        )
    if len(which) > 1:
        return _every_output(net, inputs, which, widths, seeds, chosen, values=values, out=out, progress=progress)
    net = one_output(net, which[0])
    hyper = symbol_values(values, lambda: net.symbols)
    refuse_unmet(derivatives_of(net, data.groups, _names(net, data, chosen)), "verifying the NTK")
    result = Verification(f"{net!r}{chosen.words}", widths=sorted(widths), seeds=seeds)
    with telling(progress) as tell:
        check = _Check(net, data, values, inputs, chosen)
        result.claims += [Claim(h.name, None, h.detail) for h in outputs_on_data(net, data, hyper)]
        result.claims += [check.ways_agree(), check.kernel_on_data()]
        result.evidence = Evidence(net, data, values, check.kernels, check.fingerprint(), given=check.copied())
        header = {
            "network": f"{net!r}{chosen.words}",
            "program": check.fingerprint(),
            "gvars": [v.name for v in check.gvars],
        }
        path = folder(out) / "runs.jsonl" if out is not None else None
        records = collect(check.finite, check.gvars, result.widths, seeds, header, path, tell)
        check.statistics(result, [[records[w, s] for s in range(seeds)] for w in result.widths])
    return result


def _names(net: Network, data: Inputs, chosen: Rates) -> frozenset[str] | None:
    """The names of what trains; None for all.

    Raises:
        ProgramError: an unknown parameter.
        AssumptionError: a parametrization without a kernel.
    """
    if chosen == ALL:
        return None
    trace = net.trace(list(data.groups))
    return frozenset(chosen.check(trace).moving(trace) or ())


def _every_output(net: Network, inputs: Data, which: list[int], widths: list[int], seeds: int, chosen: Rates, *,
                  values: HyperValues | None, out: str | Path | None, progress: Progress) -> Verification:  # fmt: skip
    """The claims about every output, and the NTK between different ones."""
    result = Verification(f"{net!r}{chosen.words}", widths=sorted(widths), seeds=seeds)
    trains = chosen.given
    for k in which:
        place = folder(out) / f"output{k}" if out is not None else None
        one = verify(net, inputs, widths, seeds, values=values, outputs=k, out=place, progress=progress, **trains)
        result.claims += [replace(c, name=f"output {k}: {c.name}") for c in one.claims]
        result.errors |= {f"{name} of output {k}": fit for name, fit in one.errors.items()}
    length = next(iter(read_inputs(inputs, "inputs", net.form).groups))
    lengths = (length, length) if net.takes_sequences and length else None
    K = ntk(net, outputs=which, lengths=lengths, **trains)(inputs, values=values, progress=progress)
    run = functools.partial(empirical_ntk, net, inputs, seeds=seeds, values=values, outputs=which, progress=progress)
    runs = [run(width=n, **trains) for n in result.widths]
    upper = np.triu_indices(len(which), 1)
    fit = extrapolate(result.widths, [r[..., upper[0], upper[1]] for r in runs])
    result.claims.append(claim_within("NTK between different outputs = empirical", fit, K[..., upper[0], upper[1]]))
    return result


class _Check:
    """The limit quantities of a network traced on data, and the claims about them."""

    def __init__(self, net: Network, data: Inputs, values: HyperValues | None, given: Data, chosen: Rates) -> None:
        self.net, self.data, self.values, self.given, self.chosen = net, data, values, given, chosen
        self.finite = FiniteNetwork.of(net, data, values, chosen)
        self.apart = None if not net.takes_axes else Apart(self.finite, values)
        self.gia = self.finite.trace.passes_gia_check
        ways = ("backprop", "paths", "sgd") if not self._sized.takes_axes else ("backprop",)
        self.ways = {m: ntk(self._sized, m, **self._of(self._sized).given) for m in ways if self.gia or m != "paths"}
        gated = net.form == "sequences" and gates_are_sampled(ntk(net), data, self.finite.hyper)
        self.unknown = SAMPLED if gated else "" if self.apart is None else self.apart.missing
        self.sampled = bool(self.unknown)  # or too large for a program with a vector for every position
        self.kernels = {"backprop": ntk(net, **chosen.given)} if self.sampled or self.apart else self.ways
        self.theta = self.value if self.sampled else self._limit_of_the_program()

    def _limit_of_the_program(self) -> np.ndarray:
        """The NTK as the limit of the program traced on the data; over positions, of that with a vector for each."""
        self.traced = self.finite if self.apart is None else self.apart.traced
        trace, gradients = self.traced.trace, self.traced.gradients
        self.limit = Interpreter(self.traced.program, NetworkNames(trace, gradients))
        trained = self.traced.chosen.moving(trace)
        return self._gram(lambda i, j: ntk_terms(trace, gradients, i, j, self.limit.correlated, trained))

    def _of(self, net: Network) -> Rates:
        """What trains, of the same network at given sizes with a vector for every position."""
        if not isinstance(net, Separated) or self.chosen == ALL:
            return self.chosen
        trace = self.finite.trace
        return self.chosen.of_names(trace, net.named(trace.trainable))

    @functools.cached_property
    def _sized(self) -> Network:
        """The network that is derived in several ways: over positions, at small sizes with a vector for each."""
        if self.net.form != "positions":
            return self.net
        return small(self.net, len(next(iter(self.data.groups))))

    @functools.cached_property
    def gvars(self) -> list[Var]:
        """The vectors whose moments are compared."""
        program = self.finite.program if self.apart is None else self.finite.trace.program
        found = [v for v, op in program if isinstance(op, MatMul)
                 or (isinstance(op, InitVector) and any(c != 0 for _, c in op.cov))]  # fmt: skip
        return found if self.apart is None or self.sampled else list(filter(self.apart.knows, found))

    def _gram(self, terms: Callable[[int, int], Any]) -> np.ndarray:
        n = len(self.data)
        polys = {(i, j): sum_terms(terms(i, j), self.limit) for i in range(n) for j in range(i, n)}
        result = np.empty((n, n))
        for (i, j), value in zip(polys, self._numbers(list(polys.values())), strict=True):
            result[i, j] = result[j, i] = value
        return result

    @property
    def _scale(self) -> float:
        return float(np.abs(self.theta).max()) or 1.0

    def _numbers(self, polys: list[Poly]) -> list[Any]:
        return numbers(polys, self.traced.hyper)

    def fingerprint(self) -> str:
        """A hash of the program and of the data."""
        digest = hashlib.sha256(str(self.finite.program).encode())
        digest.update(json.dumps(sorted((str(k), v) for k, v in self.finite.hyper.items() if np.ndim(v) == 0)).encode())
        for i in range(len(self.data)):
            digest.update(self.data[i].tobytes())
        return digest.hexdigest()[:16]

    # ---- derivations against each other ----------------------------------------------------------

    def ways_agree(self) -> Claim:
        """Backpropagation = path sums = one SGD step, with all names unfolded."""
        backprop, *others = self.ways.values()
        name = "backprop = paths = one SGD step" if self.gia else "backprop = one SGD step"
        if not others:
            return Claim(name, None, "the sums over positions that come with inputs are derived by backprop alone")
        lengths = sorted(self.data.groups, key=lambda t: t or 0)
        if isinstance(self._sized, Separated):
            lengths = [self._sized.fitting_length()]
        elif self.sampled:
            lengths = sorted({shortened(self.net, (t,), TRIED)[0] for t in lengths}, key=lambda t: t or 0)
        pairs = [(a, b) for a in lengths for b in lengths if (a or 0) <= (b or 0)]
        equal = [same(backprop._derive(p).poly, other._derive(p).poly) for p in pairs for other in others]
        shown = "" if lengths == [None] else f", (T, T') = {', '.join(map(str, pairs))}"
        if isinstance(self._sized, Separated):
            shown = f", on {self._sized.shown} with a vector for every position"
        elif self.sampled and max(t or 0 for t in self.data.groups) > max(t or 0 for t in lengths):
            shown += "; longer sequences were not compared: products of gates expand to too many terms"
        without = "" if self.gia else "; path sums do not apply: the simple GIA check fails"
        return Claim(name, all(equal), f"{sum(equal)} of {len(equal)} comparisons equal {DIGITS}{shown}{without}")

    def kernel_on_data(self) -> Claim:
        """K(X) from the two-input derivation = the limit of the program traced on all inputs."""
        name = "K(X) = limit of the traced program"
        if self.sampled:
            known = self.error.max() / self._scale
            how = f": K(X) is sampled and known to {known:.1e}, a relative standard error" if self.apart is None else ""
            return Claim(name, None, f"{self.unknown}{how}")
        difference = np.abs(self.value - self.theta)
        gap = difference.max() / self._scale
        bound = ROUNDING * self._scale + ERRORS * self.error
        close = bool((difference <= bound).all())
        detail = f"largest difference {gap:.1e} of the largest entry"
        if (known := self.error.max() / self._scale) > ROUNDING:
            most = f"tolerance {ROUNDING:.0e} and {ERRORS} errors of K(X), which is known to {known:.1e}"
            return Claim(name, close, f"{detail}, at most {(difference / bound).max():.2g} of what is allowed ({most})")
        return Claim(name, close, f"{detail} {'≤' if close else '>'} {ROUNDING:.0e} (tolerance)")

    @functools.cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        found = self._account(self.kernels["backprop"])
        if UNDERFLOW in found.methods:  # what is 0 on both sides agrees
            warn(found, repr(self.kernels["backprop"]), ADVICE)
        return found.value, found.error

    def copied(self) -> Any:
        """The inputs as they were given, where ``data`` holds them in another form."""
        return None if self.net.form in ("vectors", "sequences") else copy.deepcopy(self.given)

    def _account(self, kernel: Kernel) -> KernelAccount:
        if self.net.form not in ("vectors", "sequences"):
            return kernel.account(self.given, values=self.values)
        items = [self.data[i] for i in range(len(self.data))]
        X = items if self.net.takes_sequences else np.concatenate(items)
        return kernel.account(X, values=self.values)

    @property
    def value(self) -> np.ndarray:
        """K(X)."""
        return self._known[0]

    @property
    def error(self) -> np.ndarray:
        """Errors of K(X), entry by entry; 0 where it is exact."""
        return self._known[1]

    # ---- against finite width ------------------------------------------------------------------------

    def statistics(self, result: Verification, records: list[list[Record]]) -> None:
        """Add the claims about the runs, one list of records per width."""
        widths = result.widths
        upper = np.triu_indices(len(self.data))
        theta = [np.stack([r.ntk for r in rows])[:, upper[0], upper[1]] for rows in records]
        expected = self.theta[upper]
        if result.evidence is not None:
            result.evidence.runs["NTK"] = self.theta, [np.stack([r.ntk for r in rows]) for rows in records]
        result.claims.append(
            claim_within("NTK = empirical NTK", extrapolate(widths, theta), expected, self.error[upper])
        )
        self._exponent(result, widths, theta, expected)
        result.claims.append(self._outputs(result, records, upper))
        result.claims.append(self._moments(widths, records))
        if not self.gia:
            result.claims.append(self._wrong_kernel(widths, theta, upper))

    def _exponent(self, result: Verification, widths: list[int], theta: list[np.ndarray], expected: np.ndarray) -> None:
        name, deviations = "NTK error ~ n^(-1/2)", [(t - expected) / self._scale for t in theta]
        largest = max(float(np.abs(d).max()) for d in deviations)
        if largest <= ROUNDING:
            detail = f"the empirical NTK equals its limit at every width, {largest:.1e} ≤ {ROUNDING:.0e} of the largest"
            result.claims.append(Claim(name, None, detail))
            return
        fit = result.errors["NTK"] = exponent(widths, deviations)
        result.claims.append(Claim(name, fit.verdict(-0.5, SLACK), fit.words(-0.5, SLACK)))

    def _outputs(self, result: Verification, records: list[list[Record]], upper: Any) -> Claim:
        name = "NNGP = output covariance"
        if not self.gia:
            return Claim(name, None, "the readout is not random, so the outputs are no Gaussian process")
        K, error = self._covariance()
        squares = [np.stack([np.outer(r.outputs, r.outputs) for r in rows]) for rows in records]
        products = [s[:, upper[0], upper[1]] for s in squares]
        if result.evidence is not None:
            result.evidence.runs["NNGP"] = K, squares
        variance = np.outer(np.diag(K), np.diag(K)) + K**2  # of f(x) f(x') for Gaussian f
        return claim_within(name, extrapolate(result.widths, products, variance[upper]), K[upper], error[upper])

    def _covariance(self) -> tuple[np.ndarray, np.ndarray]:
        """The NNGP kernel and its errors, which are 0 where it comes from expectations."""
        if self.sampled:
            found = self._account(nngp(self.net))
            return found.value, found.error
        trace = self.traced.trace
        K = self._gram(lambda i, j: nngp_terms(trace, trace.outputs[i], trace.outputs[j]))
        return K, np.zeros_like(K)

    def _moments(self, widths: list[int], records: list[list[Record]]) -> Claim:
        gvars = self.gvars if self.apart is None or self.sampled else [v for g in self.gvars for v in self.apart.of(g)]
        k = len(gvars)
        name = f"coordinate moments of {k} G-vars"
        if not k:
            return Claim(name, None, "the network has no matrix products")
        if self.sampled:
            return Claim(name, None, f"{self.unknown}: their moments were not computed")
        pairs = np.triu_indices(k) if k <= ALL_PAIRS else (np.arange(k), np.arange(k))
        polys = [self.limit.expect(self.limit.z[v]) for v in gvars]
        polys += [self.limit.moment(gvars[i], gvars[j]) for i, j in zip(*pairs, strict=True)]
        try:
            expected = np.array(self._numbers(polys), float)
        except (NoRuleError, AccuracyError) as error:
            return Claim(name, None, str(error))
        chosen = pairs if k <= ALL_PAIRS else slice(None)
        samples = [np.stack([np.concatenate([r.first, r.second[chosen]]) for r in rows]) for rows in records]
        return claim_within(name, extrapolate(widths, samples), expected)

    def _wrong_kernel(self, widths: list[int], theta: list[np.ndarray], upper: Any) -> Claim:
        """What gradient independence would give is not what the runs give, where it differs at all."""
        name = "gradient independence fails here"
        if self.sampled:
            return Claim(name, None, f"{self.unknown}: what assuming gradient independence would give was not computed")
        trace, gradients = self.traced.trace, self.traced.gradients
        self.limit = Interpreter(decouple(self.traced.program, lambda var, op: var not in trace.program))
        right = self.theta[upper]
        trained = self.traced.chosen.moving(trace)
        wrong = self._gram(lambda i, j: ntk_terms(trace, gradients, i, j, trained=trained))[upper]
        difference, fit = np.abs(wrong - right), extrapolate(widths, theta)
        if difference.max() <= ROUNDING * self._scale + ERRORS * self.error.max():
            return Claim(name, None, "assuming gradient independence gives the same kernel on these inputs")
        z = np.abs(fit.zscores(wrong)).max()
        k = int(difference.argmax())
        detail = (f"assuming it would give {wrong[k]:.6g} instead of {right[k]:.6g} "
                  f"at {_entry(upper, k)}: {errors(z)} from the runs, {bound(z > fit.threshold, fit)}")  # fmt: skip
        if z <= fit.threshold and (difference <= 2 * fit.threshold * fit.stderr).all():
            return Claim(name, None, f"{detail}, too few to tell: more widths or seeds")
        return Claim(name, bool(z > fit.threshold), detail)


def _entry(upper: Any, k: int) -> str:
    i, j = upper[0][k], upper[1][k]
    return f"input {i}" if i == j else f"inputs {i} and {j}"
