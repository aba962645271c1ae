"""The command line: derive, verify, train, draw, list."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tensorprog.dsl.network import Network
from tensorprog.dsl.nonlinearities import NONLINEARITIES, Nonlinearity, by_name
from tensorprog.errors import ProgramError, TensorProgramError, nearest
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import nngp, ntk
from tensorprog.passes.optimizer import SGD
from tensorprog.passes.parametrization import NAMED, Parametrization, abc, rational, standard
from tensorprog.programs import GALLERY
from tensorprog.report.draw import draw
from tensorprog.sgd.training import unroll
from tensorprog.train import train
from tensorprog.verify import WIDTHS, Verification, verify


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 when a claim failed, 2 for bad input."""
    arguments = _parser().parse_args(argv)
    arguments.command = shlex.join(["tensorprog", *(sys.argv[1:] if argv is None else argv)])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"tensorprog: warning: {message}", file=sys.stderr)
            return int(arguments.run(arguments))
    except TensorProgramError as error:
        print(f"tensorprog: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        kept = "; finished runs are kept, the same command resumes" if getattr(arguments, "out", None) else ""
        print(f"tensorprog: interrupted{kept}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tensorprog", description="Infinite-width limits, derived and verified.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, (run, text, add) in _COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        add(sub)
        sub.set_defaults(run=run)
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", help="a gallery name, or path.py[:network]")
    parser.add_argument("-p", "--param", action="append", default=[], metavar="NAME=VALUE",
                        help="hyperparameter: a number, sqrt(2), 1/3, true, a nonlinearity, a list 1,2,3, "
                        "or a name that becomes a symbol")  # fmt: skip
    parser.add_argument("--lengths", metavar="T,T'", help="sequence lengths, for networks that take sequences")


def _add_derive(parser: argparse.ArgumentParser) -> None:
    _add_network(parser)
    parser.add_argument("--kernel", choices=["ntk", "nngp"], default="ntk")
    parser.add_argument("--method", default="backprop", help="backprop (default), paths, sgd or enumeration")
    parser.add_argument("--latex", action="store_true", help="print LaTeX instead of text")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_network(parser)
    _add_data(parser, seeds=32)
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write everything as one page")


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_network(parser)
    parser.add_argument("--steps", type=int, default=10, help="SGD steps (default 10)")
    parser.add_argument("--lr", default="0.5", help="learning rate, or one per step: 0.5,0.4,..")
    parser.add_argument("--momentum", default="0")
    parser.add_argument("--weight-decay", default="0")
    parser.add_argument("--batch", type=int, default=1, help="samples per step (default 1)")
    parser.add_argument("--loss", default="mse", help="mse, (f − y)²/2, or logistic")
    parser.add_argument("--trainable", help="names or kinds of the parameters to train, separated by commas")
    parser.add_argument("--parametrization", metavar="NAME",
                        help="mup, ntk, standard, or exponents of the layers, 'a=-1/2,0,1/2;b=1/2,1/2,1/2;c=0'; "
                        "where it learns features, the limit of the run itself is compared")  # fmt: skip
    parser.add_argument("--lr-exponent", default="0", metavar="C", help="learning rate η·n^(−C), for standard")
    parser.add_argument("--method", default="auto", help="of that limit: auto (default), linear, quadrature, sampling")
    parser.add_argument("--samples", type=int, default=2**16, help="of that limit by sampling (default 65536)")
    parser.add_argument("--labels", type=Path, help=".npy file of labels; random ones when left out")
    _add_data(parser, seeds=16)


def _add_draw(parser: argparse.ArgumentParser) -> None:
    _add_network(parser)
    parser.add_argument("-o", "--out", type=Path, help="file to write, .svg or .png (default NETWORK.svg)")
    parser.add_argument("--inputs", type=int, default=1, help="number of inputs (default 1)")
    parser.add_argument("--backprop", action="store_true", help="draw the backward pass too")
    parser.add_argument("--sgd", type=int, metavar="STEPS", help="draw a training run of so many steps instead")
    parser.add_argument("--path", metavar="NAME[:K]", action="append", default=[],
                        help="highlight the longest path from a parameter, or number K, and with several inputs also "
                        "an isomorphic one; given twice: these two")  # fmt: skip
    parser.add_argument("--highlight", metavar="NAME", action="append", default=[], help="highlight a variable")


def _add_data(parser: argparse.ArgumentParser, seeds: int) -> None:
    parser.add_argument("--data", type=Path, help=".npy file of inputs; random ones when left out")
    parser.add_argument("--inputs", type=int, default=3, help="number of random inputs (default 3)")
    parser.add_argument("--dim", type=int, default=4, help="feature dimension of random inputs (default 4)")
    parser.add_argument("--data-seed", type=int, default=0, help="seed of random inputs and labels")
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)), help="comma-separated widths")
    parser.add_argument("--seeds", type=int, default=seeds, help=f"networks per width (default {seeds})")
    parser.add_argument("--out", type=Path, help="folder for the runs, the verdict and the pictures; resumes")


def load_network(spec: str, parameters: list[str]) -> Network:
    """A network from the gallery or from a Python file, with NAME=VALUE hyperparameters.

    Raises:
        ProgramError: no such network, file or hyperparameter (the nearest name is suggested).
    """
    build = _builder(spec)
    defaults = {k: p.default for k, p in inspect.signature(build).parameters.items()}
    hyper = {}
    for item in parameters:
        name, equals, text = item.partition("=")
        if not equals:
            raise ProgramError(f"-p {item}: write NAME=VALUE")
        default = defaults.get(name)
        function = isinstance(default, Nonlinearity) or (
            default is inspect.Parameter.empty and text in {*NONLINEARITIES, "phi"}
        )
        hyper[name] = by_name(text) if function else parse_value(text)
    network: Network = build(**hyper)
    with _blaming(f"{network!r} cannot be traced"):
        network.takes_sequences  # noqa: B018
    return network


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Whatever a user's code raises, as a ProgramError."""
    try:
        yield
    except TensorProgramError:
        raise
    except (Exception, SystemExit) as error:
        raise ProgramError(f"{what}: {type(error).__name__}: {error}") from error


def _builder(spec: str) -> Callable[..., Any]:
    path, _, name = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    if not path.endswith(".py"):
        if spec not in GALLERY:
            raise ProgramError(f"no network {spec!r} in the gallery; {nearest(spec, GALLERY)}; or give path.py:network")
        return GALLERY[spec]
    if not Path(path).is_file():
        raise ProgramError(f"there is no file {path}")
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    with _blaming(f"{path} cannot be run"):
        module_spec.loader.exec_module(module)
    found = {k: v for k, v in vars(module).items() if inspect.isfunction(v) and hasattr(v, "network")}
    if not found:
        raise ProgramError(f"{path} defines no network; decorate a function with @tp.network")
    if name and name not in found:
        raise ProgramError(f"{path} defines no network {name!r}; {nearest(name, found)}")
    if not name and len(found) != 1:
        raise ProgramError(f"{path} defines {len(found)} networks ({', '.join(found)}); choose one with {path}:NAME")
    return found[name] if name else next(iter(found.values()))  # type: ignore[no-any-return]


_UNSIGNED = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
_NUMBER = rf"[-+]?{_UNSIGNED}"


def parse_value(text: str) -> Any:
    """A hyperparameter value from the command line; nothing is evaluated as code.

    >>> [parse_value(t) for t in ("3", "0.5", "1/3", "sqrt(2)", "true", "1,2", "sigma_w")]
    [3, 1/2, 1/3, sqrt(2), True, [1, 2], sigma_w]
    """
    if "," in text:
        return [parse_value(part) for part in text.split(",")]
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    if re.fullmatch(_NUMBER, text):
        return sp.Rational(text)
    if match := re.fullmatch(r"([-+]?\d+)/(\d+)", text):
        if int(match[2]) == 0:
            raise ProgramError(f"{text}: division by zero")
        return sp.Rational(int(match[1]), int(match[2]))
    if match := re.fullmatch(rf"sqrt\(({_UNSIGNED})\)", text):
        return sp.sqrt(sp.Rational(match[1]))
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[A-Za-z]\w*", text):
        return sp.Symbol(text, positive=True)
    raise ProgramError(f"cannot read the value {text!r}; write a number, 1/3, sqrt(2), true, 1,2,3 or a symbol's name")


def _integers(text: str, what: str) -> list[int]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise ProgramError(f"{what} must be integers separated by commas, got {text!r}")
    return [int(part) for part in text.split(",")]


def derive_command(a: argparse.Namespace) -> int:
    """Print the equations of a kernel."""
    net = load_network(a.network, a.param)
    lengths = _integers(a.lengths, "--lengths") if a.lengths else None
    kernel: Kernel = nngp(net, lengths) if a.kernel == "nngp" else ntk(net, a.method, lengths)
    print(kernel.latex() if a.latex else kernel.text())
    if a.kernel == "ntk" and a.method == "backprop" and not kernel.passes_gia_check and not a.latex:
        print("\nFor comparison, what assuming gradient independence would give:\n")
        print(kernel.under_gia.text())
    return 0


def verify_command(a: argparse.Namespace) -> int:
    """Verify a network's kernels against finite-width runs and print the verdicts."""
    net = load_network(a.network, a.param)
    if a.report is not None and (a.report.suffix != ".html" or not a.report.parent.is_dir()):
        raise ProgramError(f"--report {a.report}: use a name ending in .html, in an existing folder")
    inputs = _inputs(net, a)
    with progress_bar() as progress:
        result = verify(net, inputs, _integers(a.widths, "--widths"), a.seeds, out=a.out, progress=progress)
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
    lengths = _integers(a.lengths, "--lengths") if a.lengths else None
    paths = [_path(text) for text in a.path]
    path = paths if len(paths) > 1 else paths[0] if paths else None
    if a.sgd is None:
        inputs = a.inputs if lengths is None else 1
        picture = draw(net, path, a.highlight, backprop=a.backprop, lengths=lengths, inputs=inputs)
    elif a.backprop or a.inputs != 1:
        raise ProgramError("--sgd draws the run on one test input, its backward passes included; leave out the rest")
    else:
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
    optimizer = SGD(parse_value(a.lr), parse_value(a.momentum), parse_value(a.weight_decay))
    with progress_bar() as progress:
        report = train(
            net, inputs, _labels(a, len(inputs)), steps=a.steps, optimizer=optimizer, batch=a.batch, loss=a.loss,
            trainable=a.trainable.split(",") if a.trainable else None,
            widths=_integers(a.widths, "--widths"), seeds=a.seeds, out=a.out, progress=progress,
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
        raise ProgramError(f"--parametrization {text!r}: {nearest(text, NAMED)}; or write 'a=..,..,..;b=..,..,..;c=..'")
    return abc(fields["a"].split(","), fields["b"].split(","), fields.get("c", c))


def _labels(a: argparse.Namespace, count: int) -> Any:
    if a.labels is not None:
        return _load(a.labels, "--labels")
    return np.random.default_rng([a.data_seed, 1]).standard_normal(count)


def _inputs(net: Network, a: argparse.Namespace) -> Any:
    if a.data is not None:
        return _load(a.data, "--data")
    if min(a.inputs, a.dim) < 1:
        raise ProgramError(f"--inputs and --dim must be positive, got {a.inputs} and {a.dim}")
    if a.data_seed < 0:
        raise ProgramError(f"--data-seed must not be negative, got {a.data_seed}")
    rng = np.random.default_rng(a.data_seed)
    if not net.takes_sequences:
        if a.lengths:
            raise ProgramError(f"{net.name} takes single vectors; leave out --lengths {a.lengths}")
        return rng.standard_normal((a.inputs, a.dim))
    lengths = _integers(a.lengths, "--lengths") if a.lengths else [3, 2]
    return [rng.standard_normal((lengths[i % len(lengths)], a.dim)) for i in range(max(a.inputs, len(lengths)))]


def _load(path: Path, option: str) -> Any:
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ProgramError(f"cannot read {option} {path}: {error}") from error


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on the error stream; yields the function to report to."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def update(done: int, total: int, what: str) -> None:
            task = bar.task_ids[0] if bar.task_ids else bar.add_task(what)
            bar.update(task, completed=done, total=total, description=what)

        yield update


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


def list_command(a: argparse.Namespace) -> int:
    """List the gallery and its hyperparameters."""
    for name, build in sorted(GALLERY.items()):
        module = sys.modules[build.__module__]
        print(f"{name}: {(module.__doc__ or '').strip().splitlines()[0]}")
        hyper = inspect.signature(build).parameters.values()
        print("    " + ", ".join(f"{p.name}={p.default}" for p in hyper if p.kind is p.KEYWORD_ONLY))
    return 0


_COMMANDS: dict[str, tuple[Callable[[Any], int], str, Callable[[Any], None]]] = {
    "derive": (derive_command, "print the equations of a network's NTK or NNGP kernel", _add_derive),
    "verify": (verify_command, "check a network's kernels against finite-width runs", _add_verify),
    "train": (train_command, "train networks and compare with kernel gradient descent", _add_train),
    "draw": (draw_command, "draw a network's program, its backward pass or its training", _add_draw),
    "list": (list_command, "list the gallery of architectures", lambda parser: None),
}

if __name__ == "__main__":
    sys.exit(main())
