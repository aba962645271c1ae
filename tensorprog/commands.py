"""What the commands do: derive, verify, train, draw, study."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tensorprog import studies
from tensorprog.appendix.argument import derivation
from tensorprog.ceilings import check_ceiling
from tensorprog.dsl.network import Network, refuse_lengths
from tensorprog.dsl.nonlinearities import NONLINEARITIES, Nonlinearity, by_name
from tensorprog.errors import DataError, ProgramError, nearest, shortly
from tensorprog.files import read_npy
from tensorprog.gallery import gallery_command
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import nngp, ntk
from tensorprog.lookup import blaming, builder
from tensorprog.passes.optimizer import SGD
from tensorprog.passes.parametrization import NAMED, Parametrization, abc, rational, standard
from tensorprog.passes.separate import axes_count
from tensorprog.report.claims import Verification
from tensorprog.report.draw import draw
from tensorprog.sgd.training import unroll
from tensorprog.studies.options import STUDY_OPTIONS
from tensorprog.train import train
from tensorprog.verify import verify


def load_network(spec: str, parameters: list[str]) -> Network:
    """A network from the gallery or from a Python file, with NAME=VALUE hyperparameters.

    Raises:
        ProgramError: no such network, file or hyperparameter (the nearest name is suggested).
    """
    build = builder(spec)
    defaults = {k: p.default for k, p in inspect.signature(build).parameters.items()}
    hyper = {}
    for item in parameters:
        name, equals, text = item.partition("=")
        if not equals:
            raise ProgramError(f"-p {item}: write NAME=VALUE")
        if name in hyper:
            raise ProgramError(f"-p {shortly(item)}: {name} is given twice; give it once")
        default = defaults.get(name)
        function = isinstance(default, Nonlinearity) or (
            default is inspect.Parameter.empty and text in {*NONLINEARITIES, "phi"}
        )
        hyper[name] = by_name(text) if function else parse_value(text)
    network: Network = build(**hyper)
    with blaming(f"{network!r} cannot be traced"):
        network.takes_sequences  # noqa: B018
    return network


SIDE = 4  # positions along each axis of random images
_UNSIGNED = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?"
_NUMBER = rf"[-+]?{_UNSIGNED}"
_NO_NUMBERS = {"nan", "inf", "infinity"}  # float() reads them; as names they would be symbols


def parse_value(text: str) -> Any:
    """A hyperparameter value from the command line; nothing is evaluated as code.

    >>> [parse_value(t) for t in ("3", "0.5", "1/3", "sqrt(2)", "true", "1,2", "sigma_w")]
    [3, 1/2, 1/3, sqrt(2), True, [1, 2], sigma_w]
    """
    if "," in text:
        return [parse_value(part) for part in text.split(",")]
    check_ceiling("digits", len(text), f"the value {shortly(text)}")
    number = _number(text)
    if number is not None:
        size = sp.Abs(number).evalf(20)
        if number and not sp.Float("1e-308") <= size <= sp.Float("1e308"):
            raise ProgramError(f"the value {shortly(text)} is not between 1e-308 and 1e308 in size, as numbers must be")
        return int(number) if re.fullmatch(r"[-+]?[0-9]+", text) else number
    if text in ("true", "false"):
        return text == "true"
    if text.lower() in _NO_NUMBERS:
        raise ProgramError(
            f"the value {text} is no finite number; a hyperparameter is one, or a symbol of another name"
        )
    if re.fullmatch(r"[A-Za-z]\w*", text):
        return sp.Symbol(text, positive=True)
    raise ProgramError(
        f"cannot read the value {shortly(text)}; write a number, 1/3, sqrt(2), true, 1,2,3 or a symbol's name"
    )


def _number(text: str) -> sp.Expr | None:
    """An integer, a decimal, p/q or sqrt(..) as it is written; None for anything else."""
    if re.fullmatch(_NUMBER, text):
        return sp.Rational(text)
    if match := re.fullmatch(r"([-+]?[0-9]+)/([0-9]+)", text):
        if int(match[2]) == 0:
            raise ProgramError(f"{text}: division by zero")
        return sp.Rational(int(match[1]), int(match[2]))
    match = re.fullmatch(rf"sqrt\(({_UNSIGNED})\)", text)
    return None if match is None else sp.sqrt(sp.Rational(match[1]))


def _integers(text: str, what: str) -> list[int]:
    if not re.fullmatch(r"[0-9]+(,[0-9]+)*", text):
        raise ProgramError(f"{what} must be integers separated by commas, got {shortly(text)}")
    for part in text.split(","):
        check_ceiling("digits", len(part), f"{what} {shortly(part)}")
    return [int(part) for part in text.split(",")]


def _lengths(a: argparse.Namespace) -> list[int] | None:
    """The lengths asked for; a program has an instruction or more for each time step."""
    lengths = _integers(a.lengths, "--lengths") if a.lengths else None
    check_ceiling("instructions", sum(lengths or ()), f"--lengths {shortly(a.lengths)}")
    return lengths


def derive_command(a: argparse.Namespace) -> int:
    """Print the equations of a kernel."""
    net = load_network(a.network, a.param)
    lengths = _lengths(a)
    kernel: Kernel = nngp(net, lengths) if a.kernel == "nngp" else ntk(net, a.method, lengths)
    if a.full:
        document = derivation(kernel)
        print(document.latex() if a.latex else document.text())
        return 0
    print(kernel.latex() if a.latex else kernel.text())
    if a.kernel == "ntk" and a.method in ("auto", "backprop") and not kernel.passes_gia_check and not a.latex:
        print("\nFor comparison, what assuming gradient independence would give:\n")
        print(kernel.under_gia.text())
    return 0


def verify_command(a: argparse.Namespace) -> int:
    """Verify a network's kernels against finite-width runs and print the verdicts."""
    net = load_network(a.network, a.param)
    if a.report is not None and (a.report.suffix != ".html" or not a.report.parent.is_dir()):
        raise ProgramError(f"--report {a.report}: use a name ending in .html, in an existing folder")
    inputs = _inputs(net, a)
    check_ceiling("runs", a.seeds, f"--seeds {a.seeds}")
    result = verify(net, inputs, _integers(a.widths, "--widths"), a.seeds, out=a.out)
    show(result)
    if a.report is not None:
        assert result.evidence is not None
        result.evidence.command = a.command
        print(f"wrote {result.save(a.report)}")
    if a.out is not None:
        result.save(a.out / "verdict.txt")
        print(f"wrote {a.out / 'verdict.txt'} and {result.save(a.out / 'error.png')}")
    return 0 if result.passed else 1


def draw_command(a: argparse.Namespace) -> int:
    """Draw a network's program."""
    net = load_network(a.network, a.param)
    lengths = _lengths(a)
    paths = [_path(text) for text in a.path]
    path = paths if len(paths) > 1 else paths[0] if paths else None
    if a.sgd is None:
        inputs = a.inputs if lengths is None else 1
        picture = draw(net, path, a.highlight, backprop=a.backprop, lengths=lengths, inputs=inputs)
    elif a.backprop or a.inputs != 1:
        raise ProgramError("--sgd draws the run on one test input, its backward passes included; leave out the rest")
    else:
        check_ceiling("drawn", a.sgd, f"--sgd {a.sgd}")
        picture = draw(unroll(net, a.sgd, lengths=lengths), path, a.highlight)
    for letter, found in zip("pq", picture.paths, strict=False):
        print(f"{letter}: {found}")
    print(f"wrote {picture.save(a.out or Path(f'{net.name}.svg'))}")
    return 0


def _path(text: str) -> Any:
    name, colon, number = text.partition(":")
    return (name, *_integers(number, "the number of a path")) if colon else name


def train_command(a: argparse.Namespace) -> int:
    """Train networks of several widths and compare with kernel gradient descent."""
    net = load_network(a.network, a.param)
    inputs = _inputs(net, a)
    check_ceiling("runs", a.seeds, f"--seeds {a.seeds}")
    check_ceiling("steps", a.steps * a.batch, f"--steps {a.steps} --batch {a.batch}")
    check_ceiling("samples", a.samples, f"--samples {a.samples}")
    optimizer = SGD(parse_value(a.lr), parse_value(a.momentum), parse_value(a.weight_decay))
    report = train(
        net, inputs, _labels(a, len(inputs)), steps=a.steps, optimizer=optimizer, batch=a.batch, loss=a.loss,
        trainable=a.trainable.split(",") if a.trainable else None,
        widths=_integers(a.widths, "--widths"), seeds=a.seeds, out=a.out,
        parametrization=parse_parametrization(a.parametrization, a.lr_exponent), method=a.method, samples=a.samples,
    )  # fmt: skip
    print(report.text())
    if a.out is not None:
        print("wrote " + ", ".join(map(str, report.save(a.out))))
    return 0 if report.passed else 1


def parse_parametrization(text: str | None, c: str = "0") -> Parametrization | None:
    """A parametrization from the command line: a name, or its exponents.

    >>> parse_parametrization("a=-1/2,0,1/2;b=1/2,1/2,1/2").classify().regime
    'feature learning'
    """
    if text is None or text in NAMED:
        if text != "standard" and rational(c, "--lr-exponent") != 0:
            raise ProgramError(
                f"--lr-exponent {c} is for --parametrization standard; write 'a=..;b=..;c={c}' for others"
            )
        return None if text is None else standard(c) if text == "standard" else NAMED[text]()
    fields = dict(part.partition("=")[::2] for part in text.replace(" ", "").split(";"))
    if not {"a", "b"} <= fields.keys() <= {"a", "b", "c"}:
        raise ProgramError(
            f"--parametrization {shortly(text)}: {nearest(text, NAMED)}; or write 'a=..,..,..;b=..,..,..;c=..'"
        )
    return abc(fields["a"].split(","), fields["b"].split(","), fields.get("c", c))


def study_command(a: argparse.Namespace) -> int:
    """Repeat an experiment of the source papers, print what it says and write it."""
    study = getattr(studies, a.study)
    known = inspect.signature(study).parameters
    given: dict[str, Any] = {"grid": dict(map(_grid, a.grid)) or None, "out": a.out}
    given |= {
        "X": None if a.data is None else _load(a.data, "--data"),
        "y": None if a.labels is None else _load(a.labels, "--labels"),
    }
    given |= {name: _study_option(name, getattr(a, name)) for name in STUDY_OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    for name in sorted(given.keys() - known.keys() - {"out"}):
        option = {"X": "data", "y": "labels"}.get(name, name)
        raise ProgramError(f"the study {a.study} takes no --{option}; {nearest(option, known)}")
    if "seeds" in given:
        check_ceiling("runs", given["seeds"], f"--seeds {given['seeds']}")
    for steps in (*given.get("times", ()), given.get("steps", 0)):
        check_ceiling("steps", steps, f"{steps} steps")
    result = study(load_network(a.network, a.param), **{k: v for k, v in given.items() if k in known})
    print(result.text())
    if a.out is not None:
        print("wrote " + ", ".join(map(str, result.save(a.out))))
    return 1 if result.passed is False else 0


def _grid(text: str) -> tuple[str, list[Any]]:
    """NAME=1,2,3 or NAME=FROM:TO:COUNT.

    >>> _grid("sigma_w=1:2:3"), _grid("depth=2,8"), _grid("tied=true,false")
    (('sigma_w', [1.0, 1.5, 2.0]), ('depth', [2, 8]), ('tied', [True, False]))
    """
    name, equals, values = text.partition("=")
    ends = values.split(":")
    if not equals or not values or len(ends) not in (1, 3):
        raise ProgramError(f"--grid {shortly(text)}: write NAME=1,2,3 or NAME=FROM:TO:COUNT")
    if len(ends) == 3:
        count = _integers(ends[2], "COUNT of --grid")[0]
        check_ceiling("runs", count, f"--grid {shortly(text)}")
        first, last = (_real(end, f"--grid {shortly(text)}") for end in ends[:2])
        return name, [float(v) for v in np.linspace(first, last, count)]
    found = [parse_value(part) for part in values.split(",")]
    return name, [float(v) if isinstance(v, sp.Expr) and v.is_number and not v.is_Integer else v for v in found]


def _real(text: str, what: str) -> float:
    value = _number(text)
    if value is None:
        raise ProgramError(f"{what}: {shortly(text)} is no number")
    return float(value)


def _study_option(name: str, text: str | None) -> Any:
    """What an option of a study says, in the type of its argument."""
    if text is None or name in ("by", "over", "trained", "folder"):
        return text
    if name == "sets":
        return text.split(",")
    if name in ("widths", "times", "depths"):
        return _integers(text, f"--{name}")
    if name in ("drive", "error", "lr", "correlation"):
        return _real(text, f"--{name}")
    return _integers(text, f"--{name}")[0]


def _labels(a: argparse.Namespace, count: int) -> Any:
    if a.labels is not None:
        return _load(a.labels, "--labels")
    return np.random.default_rng([a.data_seed, 1]).standard_normal(count)


def _inputs(net: Network, a: argparse.Namespace) -> Any:
    if a.data is not None:
        array = _load(a.data, "--data")
        check_ceiling("vectors", int(np.prod(array.shape[:-1])), f"--data {a.data} of shape {array.shape}")
        return array
    if min(a.inputs, a.dim) < 1:
        raise ProgramError(f"--inputs and --dim must be positive, got {a.inputs} and {a.dim}")
    if a.data_seed < 0:
        raise ProgramError(f"--data-seed must not be negative, got {a.data_seed}")
    rng = np.random.default_rng(a.data_seed)
    if not net.takes_sequences:
        if a.lengths:
            refuse_lengths(net, f"--lengths {a.lengths}")
        check_ceiling("vectors", a.inputs, f"--inputs {a.inputs}")
        check_ceiling("drawn numbers", a.inputs * a.dim, f"--inputs {a.inputs} --dim {a.dim}")
        if net.form == "positions":
            return rng.standard_normal((a.inputs, *[SIDE] * (axes_count(net) or 2), a.dim))
        if net.form != "vectors":
            raise ProgramError(f"{net.name} takes named arrays, which no --data holds; call tensorprog from Python")
        return rng.standard_normal((a.inputs, a.dim))
    lengths = _lengths(a) or [3, 2]
    vectors = max(a.inputs, len(lengths)) * max(lengths)
    check_ceiling("vectors", vectors, f"--inputs {a.inputs} of the lengths {shortly(lengths)}")
    check_ceiling(
        "drawn numbers", vectors * a.dim, f"--inputs {a.inputs} --dim {a.dim} and the lengths {shortly(lengths)}"
    )
    return [rng.standard_normal((lengths[i % len(lengths)], a.dim)) for i in range(max(a.inputs, len(lengths)))]


def _load(path: Path, option: str) -> Any:
    try:
        array = read_npy(path)
    except DataError as error:
        raise ProgramError(f"cannot read {option} {path}: {error}") from error
    if array.ndim == 0:
        raise ProgramError(f"{option} {path} holds a single number, not an array with a row for each input")
    return array


def show(result: Verification) -> None:
    """Print a verification as a table."""
    table = Table(title=escape(result.title), title_justify="left", expand=False)
    for column in ("verdict", "claim", "detail"):
        table.add_column(column, overflow="fold")
    for c in result.claims:
        colour = {True: "green", False: "bold red", None: "yellow"}[c.passed]
        table.add_row(f"[{colour}]{c.verdict}[/]", escape(c.name), escape(c.detail))
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    console.print("all claims hold" if result.passed else "SOME CLAIM FAILED", highlight=False)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "derive": derive_command,
    "verify": verify_command,
    "train": train_command,
    "draw": draw_command,
    "study": study_command,
    "gallery": gallery_command,
}
