"""Public names that are imported when first asked for; the stub beside a package lists them, once, for types too."""

from __future__ import annotations

import ast
import builtins
import difflib
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

OTHER_NAMES = {
    "swish": "silu", "logistic": "sigmoid", "expit": "sigmoid", "heaviside": "step", "linear": "dense", "fc": "dense",
    "matrix": "weight", "input": "embed", "output": "readout", "resnet": "residual_mlp",
}  # fmt: skip
EXTRAS = {"sklearn": ("scikit-learn", "learn")}  # a package that may be missing: what it is called, the extra with it


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was meant: the same but for case and underscores, another name of the same, or a similar one.

    >>> [closest(name, ["elu", "relu", "leaky_relu", "silu"]) for name in ("Relu", "LeakyReLU", "swish", "rellu", "f")]
    ['relu', 'leaky_relu', 'silu', 'relu', None]
    """
    names = sorted(known)
    same = [k for k in names if _bare(k) == _bare(name)]
    other = OTHER_NAMES.get(_bare(name))
    close = same or [k for k in names if k == other] or difflib.get_close_matches(name, names, n=1)
    return close[0] if close else None


def _bare(name: str) -> str:
    return name.lower().replace("_", "")


class Front(ModuleType):
    """A package that imports its public names when asked; they win over its modules: ``tp.limit`` is the function."""

    names: dict[str, tuple[str, str]]

    def __getattr__(self, name: str) -> Any:
        if name not in self.names:
            close = closest(name, self.names)
            hint = f"did you mean {close!r}?" if close else f"dir({self.__name__}) lists what it has"
            raise AttributeError(f"{self.__name__} has no {name!r}; {hint}")
        value = self.__dict__[name] = _imported(*self.names[name])
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        """Importing a module binds it here; a public name that is something else is left alone."""
        if not isinstance(value, ModuleType) or self.names.get(name, (self.__name__,))[0] == self.__name__:
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(self.names)

    def __reduce__(self) -> Any:
        """By name: cloudpickle writes the globals of a function, ``tp`` among them."""
        return importlib.import_module, (self.__name__,)


_SHOWN_BY: list[str] = []


def front(package: str, file: str, shown_by: str | None = None) -> list[str]:
    """Make a package a ``Front`` for what its stub imports.

    Args:
        package: its ``__name__``.
        file: its ``__file__``; ``__init__.pyi`` beside it holds lines ``from module import name as public``.
        shown_by: the module that registers how results look in notebooks, imported when the first is shown.

    Returns:
        What ``import *`` brings: all public names but those of builtins.
    """
    module = sys.modules[package]
    stub = ast.parse(Path(file).with_name("__init__.pyi").read_text(encoding="utf-8"))
    lines = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    names = {a.asname or a.name: (node.module or "", a.name) for node in lines for a in node.names}
    module.__dict__["names"] = names
    module.__class__ = Front
    _SHOWN_BY.extend([shown_by] if shown_by else [])
    return sorted(n for n in names if not hasattr(builtins, n))


def import_forms() -> None:
    """Import what registers how results look in notebooks."""
    for module in _SHOWN_BY:
        importlib.import_module(module)


def _imported(module: str, name: str) -> Any:
    """What ``from module import name`` gives."""
    try:
        home = importlib.import_module(module)
        return getattr(home, name) if name in vars(home) else importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in EXTRAS:
            raise
        title, extra = EXTRAS[missing]
        raise ImportError(f"{name} needs {title}: pip install 'tensorprog[{extra}]'") from error
