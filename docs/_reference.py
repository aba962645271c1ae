"""Writes the reference pages from the public names, ordered by task, so that none can be forgotten."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import tensorprog
from tensorprog.dsl.net import LAYERS, Net
from tensorprog.dsl.nonlinearities import Nonlinearity

TASKS = {  # file: (title, what stands before the names, the names in order)
    "network": ("Write a network", "", ["network", "nonlin", "moment", "abstract", "declare", "law"]),
    "nonlinearities": ("Nonlinearities", "", ["leaky_relu", "monomial", "polynomial", "hermite"]),
    "program": ("Write a program", "", ["Program", "nonlin", "moment", "canonicalize"]),
    "limit": ("Take the limit of a program", "", ["limit", "Limit", "SampledLimit", "Estimate"]),
    "kernel": ("Derive a kernel", "", ["ntk", "nngp", "Kernel", "Recursion", "derivative", "DerivativeKernel"]),
    "appendix": ("Read, compare and check derivations", "See also `Kernel.source`.",
                 ["derivation", "DerivationDocument",
                 "DerivationCheck", "compare", "Comparison", "check_formula", "FormulaCheck"]),
    "gram": ("Compute Gram matrices", "See also `Kernel.gram` and `Recursion.gram`.", ["gram"]),
    "finite": ("Run finite networks", "", ["sample", "empirical_ntk"]),
    "verify": ("Check against finite networks", "", ["verify", "Verification", "Claim"]),
    "training": ("Train", "", ["unroll", "Training", "Certificate", "SGD", "train", "TrainingReport"]),
    "features": ("Learn features", "", ["abc", "mup", "ntk_parametrization", "standard", "Parametrization",
                 "Classification", "feature_limit", "FeatureLimit", "FeatureTraining", "FeatureReport",
                 "coordinate_check", "CoordinateCheck"]),
    "studies": ("Repeat an experiment", "Names of `tensorprog.studies`.", []),
    "learn": ("Learn with a kernel", "Names of `tensorprog.learn`.", []),
    "draw": ("Draw", "", ["draw", "Drawing"]),
    "annotations": ("Annotate", "For code with types; `@tp.network` keeps the signature of its function.",
                    ["Network", "Net", "Datum", "Named", "Vec", "Mat", "Scal", "Output", "Nonlinearity", "WeightLaw"]),
    "errors": ("Errors and warnings", "", ["TensorProgramError", "ProgramError", "DataError", "AssumptionError",
               "NoRuleError", "FoldError", "AccuracyError", "ComputeError", "AccuracyWarning", "FrozenWarning",
               "MixtureWarning"]),
    "results": ("What calls return", "Classes that are not made by hand: a call above returns them, or they are "
                "part of what it returns.", []),
    "other": ("Other names", "", []),
}  # fmt: skip
RESULTS = {  # module: the classes without a public name whose objects users hold
    "dsl.trace": ["Trace"], "limit.grid": ["GridLimit"], "limit.linear_programs": ["LinearLimit"],
    "limit.auto": ["AutoLimit"], "limit.accounts": ["Account", "AtomValue"], "kernels.outputs": ["OutputKernels"],
    "derivation.kernel_account": ["KernelAccount"], "recursions.sized": ["SizedKernel"], "finite.sample": ["Run"],
    "finite.estimate": ["Exponent"], "verify": ["Evidence"], "derivation.data": ["Inputs"],
    "appendix.comparison": ["NewTerm"], "sgd.hypotheses": ["Hypothesis"], "passes.parametrization": ["Layer"],
}  # fmt: skip


def version(pyproject: Path) -> str:
    """The version that this checkout has, whichever one is installed."""
    found = re.search(r'^version = "(.*)"', pyproject.read_text(encoding="utf-8"), re.MULTILINE)
    return getattr(tensorprog, "__version__", found[1] if found else "")


def public() -> dict[str, object]:
    """The public names that are neither modules nor nonlinearities."""
    names = {name: getattr(tensorprog, name) for name in dir(tensorprog) if not name.startswith("_")}
    hidden = (Nonlinearity, dict)
    return {n: v for n, v in names.items() if not inspect.ismodule(v) and not isinstance(v, hidden)}


def unlisted() -> list[str]:
    """Public names that no task lists: they stand on a page of their own."""
    return sorted(public().keys() - {name for _, _, names in TASKS.values() for name in names})


def nonlinearities() -> str:
    """A table of the nonlinearities without parameters, with their definitions."""
    found = {name: getattr(tensorprog, name) for name in dir(tensorprog)}
    rows = [(n, _first_line(v)) for n, v in sorted(found.items()) if isinstance(v, Nonlinearity)]
    lines = ["| name | definition |", "|---|---|"]
    return "\n".join([*lines, *(f"| `tensorprog.{n}` | {_cell(d)} |" for n, d in rows)])


def layers() -> str:
    """A table of what ``net`` offers, each linked to its description."""
    rows = [
        f"| {{py:meth}}`net.{n}{_arguments(m)} <tensorprog.dsl.net.Net.{n}>` | {_cell(_first_line(m))} |"
        for n, m in LAYERS.items()
    ]
    return "\n".join([
        "`net`, the first argument of a network, hands out parameters: the same name is the same parameter.", "",
        "| method | what it is |", "|---|---|", *rows, "",
    ])  # fmt: skip


def _arguments(method: object) -> str:
    names = list(inspect.signature(method).parameters)[1:]  # type: ignore[arg-type]
    return f"({', '.join(names)})"


def _first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def members(cls: type) -> list[str]:
    """The public members that the package defines for a class, inherited ones too, in the order of the source."""
    found = {n: m for c in cls.__mro__ if c.__module__.startswith("tensorprog") for n, m in reversed(vars(c).items())}
    named = [n for n, m in reversed(found.items()) if inspect.getdoc(m) and not _plain(m)]
    return [n for n in named if not n.startswith("_") and not n.endswith("_request")]  # those are scikit-learn's


def _plain(member: object) -> bool:
    """Whether it is a value: the docstring of its type says nothing of it."""
    return isinstance(member, (str, int, float, tuple, dict, frozenset)) or member is None


def _entry(name: str, value: object) -> str:
    directive, listed = ("autoclass", members(value)) if inspect.isclass(value) else ("autofunction", [])
    options = f"   :members: {', '.join(listed)}\n" if listed else ""
    return f"```{{eval-rst}}\n.. {directive}:: {name}\n{options}```"


def pages() -> dict[str, str]:
    """The pages by file name."""
    known, shown = public(), set()
    texts = {}
    for file, (title, text, names) in TASKS.items():
        listed = names if file != "other" else unlisted()
        entries = [_entry(f"tensorprog.{n}", known[n]) for n in listed if n in known and n not in shown]
        shown.update(listed)
        if file == "network":
            entries = [entries[0], "## What `net` offers", layers(), _entry("tensorprog.dsl.net.Net", Net),
                       "## Functions of coordinates", *entries[1:]]  # fmt: skip
        if file == "nonlinearities":
            entries = [nonlinearities(), *entries]
        if file in ("learn", "studies"):
            room = getattr(tensorprog, file)
            entries += [_entry(f"tensorprog.{file}.{n}", getattr(room, n)) for n in dir(room) if n[0] != "_"]
        if file == "results":
            homes = [(f"tensorprog.{home}", name) for home, names in RESULTS.items() for name in names]
            entries = [_entry(f"{home}.{name}", getattr(import_module(home), name)) for home, name in homes]
        if entries:
            texts[file] = "\n\n".join([f"# {title}", *([text] if text else []), *entries]) + "\n"
    order = [file for file in TASKS if file in texts]
    texts["index"] = "# Reference\n\nOrdered by task.\n\n```{toctree}\n:maxdepth: 1\n\n" + "\n".join(order) + "\n```\n"
    return texts


def write(folder: Path) -> None:
    """Write the pages; those that are no longer made go."""
    folder.mkdir(exist_ok=True)
    texts = pages()
    for path in folder.glob("*.md"):
        if path.stem not in texts:
            path.unlink()
    for file, text in texts.items():
        path = folder / f"{file}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
