"""Writes the reference pages from the public names, so that none can be forgotten."""

import inspect
from pathlib import Path

import tensorprog
from tensorprog.dsl.nonlinearities import Nonlinearity

PAGES = {
    "dsl": ("language", "Writing programs and networks"),
    "passes": ("language", ""),
    "limit": ("limit", "The limit of a program"),
    "kernels": ("kernels", "Kernels"),
    "finite": ("finite", "Finite width"),
    "train": ("training", "Training"),
    "verify": ("verification", "Verification"),
    "errors": ("errors", "Errors"),
}


def public() -> dict[str, object]:
    """The public names that are neither modules nor nonlinearities."""
    hidden = (Nonlinearity, dict)
    return {
        name: value
        for name in dir(tensorprog)
        if not inspect.ismodule(value := getattr(tensorprog, name)) and not isinstance(value, hidden)
    }


def page_of(value: object) -> tuple[str, str]:
    """(file name, title) of the page a public object belongs to: that of its room."""
    room = value.__module__.split(".")[1]
    return PAGES.get(room, (room, room.capitalize()))


def nonlinearities() -> str:
    """A table of the nonlinearities with their definitions."""
    rows = [
        (name, inspect.getdoc(value).splitlines()[0])
        for name in dir(tensorprog)
        if isinstance(value := getattr(tensorprog, name), Nonlinearity)
    ]
    lines = ["# Nonlinearities", "", "| name | definition |", "|---|---|"]
    return "\n".join([*lines, *(f"| `tensorprog.{n}` | {d.replace('|', chr(92) + '|')} |" for n, d in rows), ""])


def write(folder: Path) -> None:
    """Write one page per topic, and their index."""
    folder.mkdir(exist_ok=True)
    pages: dict[str, list[str]] = {}
    for name, value in public().items():
        file, title = page_of(value)
        directive = "autoclass" if inspect.isclass(value) else "autofunction"
        pages.setdefault(file, [f"# {title}"] if title else []).append(
            f"```{{eval-rst}}\n.. {directive}:: tensorprog.{name}\n```"
        )
    pages["learning"] = ["# Learning"] + [
        f"```{{eval-rst}}\n.. autoclass:: tensorprog.learn.{name}\n```" for name in dir(tensorprog.learn)
    ]
    texts = {file: "\n\n".join(parts) + "\n" for file, parts in pages.items()}
    texts["nonlinearities"] = nonlinearities()
    texts["index"] = "# Reference\n\n```{toctree}\n" + "\n".join(sorted(texts)) + "\n```\n"
    for file, text in texts.items():
        path = folder / f"{file}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
