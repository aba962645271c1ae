"""The command line: its arguments, and the commands that are not imported before one is asked for."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from tensorprog import __version__
from tensorprog.ceilings import CEILINGS, bounded_programs
from tensorprog.errors import TensorProgramError, shortly
from tensorprog.studies.options import STUDIES, STUDY_OPTIONS

WIDTHS = "128,256,512,1024"  # those of tp.verify


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 when a claim failed, 2 for bad input."""
    arguments = _parser().parse_args(argv)
    arguments.command = shlex.join(["tensorprog", *(sys.argv[1:] if argv is None else argv)])
    try:
        with warnings.catch_warnings():
            _show_warnings()
            with bounded_programs():
                return _run(arguments)
    except TensorProgramError as error:
        print(f"tensorprog: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        kept = "; finished runs are kept, the same command resumes" if getattr(arguments, "out", None) else ""
        print(f"tensorprog: interrupted{kept}", file=sys.stderr)
        return 130


def _show_warnings() -> None:
    """A line for each warning, whatever -W says: none ends a command; those for authors of packages are left out."""
    warnings.simplefilter("default")
    for aside in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning, SyntaxWarning):
        warnings.simplefilter("ignore", aside)
    warnings.showwarning = lambda message, *_: print(f"tensorprog: warning: {message}", file=sys.stderr)


def _run(arguments: argparse.Namespace) -> int:
    """The command itself; the engine is imported by all but ``list``."""
    if arguments.name == "list":
        return list_command()
    commands = importlib.import_module("tensorprog.commands").COMMANDS
    return int(commands[arguments.name](arguments))


def list_command() -> int:
    """List the gallery and its hyperparameters, as its files are written."""
    gallery = find_spec("tensorprog.programs")
    assert gallery is not None and gallery.origin is not None
    for path in sorted(Path(gallery.origin).parent.glob("[!_]*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        (build,) = (f for f in module.body if isinstance(f, ast.FunctionDef) and f.name == path.stem)
        print(f"{path.stem}: {(ast.get_docstring(module) or '').partition(chr(10))[0]}")
        options = zip(build.args.kwonlyargs, build.args.kw_defaults, strict=True)
        print("    " + ", ".join(f"{a.arg}={_bare(d)}" for a, d in options))
    return 0


def _bare(value: ast.expr | None) -> str:
    """A default as written, without the modules of its names."""
    return "?" if value is None else re.sub(r"\b\w+\.(?=[a-z])", "", ast.unparse(value))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tensorprog", description="Infinite-width limits, derived and verified.")
    parser.add_argument("--version", action="version", version=f"tensorprog {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command", dest="name")
    for name, (text, add) in _COMMANDS.items():
        add(commands.add_parser(name, help=text, description=text))
    return parser


def _whole(text: str) -> int:
    """An integer in digits 0 to 9, of a length that is read as a number."""
    most = CEILINGS["digits"].most
    if not re.fullmatch(rf"[-+]?[0-9]{{1,{most}}}", text):
        raise argparse.ArgumentTypeError(f"an integer has at most {most} digits, 0 to 9, got {shortly(text)}")
    return int(text)


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", help="a gallery name, or path.py[:network]")
    parser.add_argument("-p", "--param", action="append", default=[], metavar="NAME=VALUE",
                        help="hyperparameter: a number, sqrt(2), 1/3, true, a nonlinearity, a list 1,2,3, "
                        "or a name that becomes a symbol")  # fmt: skip
    parser.add_argument("--lengths", metavar="T,T'", help="sequence lengths, for networks that take sequences")


def _add_derive(parser: argparse.ArgumentParser) -> None:
    _add_network(parser)
    parser.add_argument("--kernel", choices=["ntk", "nngp"], default="ntk")
    parser.add_argument("--method", default="auto", help="backprop (default), paths, sgd or enumeration")
    parser.add_argument("--latex", action="store_true", help="print LaTeX instead of text")
    parser.add_argument("--full", action="store_true", help="print the whole derivation, as the appendix of a paper")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_network(parser)
    _add_data(parser, seeds=32)
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write everything as one page")


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_network(parser)
    parser.add_argument("--steps", type=_whole, default=10, help="SGD steps (default 10)")
    parser.add_argument("--lr", default="0.5", help="learning rate, or one per step: 0.5,0.4,..")
    parser.add_argument("--momentum", default="0")
    parser.add_argument("--weight-decay", default="0")
    parser.add_argument("--batch", type=_whole, default=1, help="samples per step (default 1)")
    parser.add_argument("--loss", default="mse", help="mse, (f − y)²/2, or logistic")
    parser.add_argument("--trainable", help="names or kinds of the parameters to train, separated by commas")
    parser.add_argument("--parametrization", metavar="NAME",
                        help="mup, ntk, standard, or exponents of the layers, 'a=-1/2,0,1/2;b=1/2,1/2,1/2;c=0'; "
                        "where it learns features, the limit of the run itself is compared")  # fmt: skip
    parser.add_argument("--lr-exponent", default="0", metavar="C", help="learning rate η·n^(−C), for standard")
    parser.add_argument("--method", default="auto", help="of that limit: auto (default), linear, quadrature, sampling")
    parser.add_argument("--samples", type=_whole, default=2**16, help="of that limit by sampling (default 65536)")
    parser.add_argument("--labels", type=Path, help=".npy file of labels; random ones when left out")
    _add_data(parser, seeds=16)


def _add_draw(parser: argparse.ArgumentParser) -> None:
    _add_network(parser)
    parser.add_argument("-o", "--out", type=Path, help="file to write: .svg, .pdf, .png or .tex (default NETWORK.svg)")
    parser.add_argument("--inputs", type=_whole, default=1, help="number of inputs (default 1)")
    parser.add_argument("--backprop", action="store_true", help="draw the backward pass too")
    parser.add_argument("--sgd", type=_whole, metavar="STEPS", help="draw a training run of so many steps instead")
    parser.add_argument("--path", metavar="NAME[:K]", action="append", default=[],
                        help="highlight the longest path from a parameter, or number K, and with several inputs also "
                        "an isomorphic one; given twice: these two")  # fmt: skip
    parser.add_argument("--highlight", metavar="NAME", action="append", default=[], help="highlight a variable")


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", choices=STUDIES, metavar="study", help=", ".join(STUDIES))
    _add_network(parser)
    parser.add_argument("--grid", action="append", default=[], metavar="NAME=VALUES",
                        help="values of a hyperparameter, 1,2,3 or FROM:TO:COUNT; may be given twice")  # fmt: skip
    parser.add_argument("--data", type=Path, help=".npy file of inputs; the study's own when left out")
    parser.add_argument("--labels", type=Path, help=".npy file of labels, for drift and ntktrain")
    for name, text in STUDY_OPTIONS.items():
        parser.add_argument(f"--{name}", help=text)
    parser.add_argument(
        "--out", type=Path, help="folder for the runs, and the study as JSON, PNG, SVG and HTML; resumes"
    )


def _add_gallery(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("networks", nargs="*", metavar="network",
                        help="gallery names, or path.py[:network]; all of the gallery when left out")  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    form.add_argument("--html", action="store_true", help="print it in HTML")
    form.add_argument("--write", type=Path, metavar="FILE.md",
                      help="put it between <!-- gallery --> and <!-- end of gallery --> of a file")  # fmt: skip
    parser.add_argument("--reasons", action="store_true", help="in Markdown, list below why cells are empty or failed")


def _add_data(parser: argparse.ArgumentParser, seeds: int) -> None:
    parser.add_argument("--data", type=Path, help=".npy file of inputs; random ones when left out")
    parser.add_argument("--inputs", type=_whole, default=3, help="number of random inputs (default 3)")
    parser.add_argument("--dim", type=_whole, default=4, help="feature dimension of random inputs (default 4)")
    parser.add_argument("--data-seed", type=_whole, default=0, help="seed of random inputs and labels")
    parser.add_argument("--widths", default=WIDTHS, help="comma-separated widths")
    parser.add_argument("--seeds", type=_whole, default=seeds, help=f"networks per width (default {seeds})")
    parser.add_argument("--out", type=Path, help="folder for the runs, the verdict and the pictures; resumes")


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "derive": ("print the equations of a network's NTK or NNGP kernel", _add_derive),
    "verify": ("check a network's kernels against finite-width runs", _add_verify),
    "train": ("train networks and compare with kernel gradient descent", _add_train),
    "draw": ("draw a network's program, its backward pass or its training", _add_draw),
    "study": ("repeat an experiment of the source papers on a network", _add_study),
    "gallery": ("examine the gallery: a table of what holds for each architecture", _add_gallery),
    "list": ("list the gallery of architectures", lambda parser: None),
}

if __name__ == "__main__":
    sys.exit(main())
