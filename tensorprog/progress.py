"""Progress of long work: one bar, in a terminal or in a notebook, for every function that takes ``progress=``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from typing import Any, Protocol

from tensorprog.errors import ProgramError, shortly

LONG = 3.0  # seconds that work must take for a bar to be shown unasked
OFTEN = 0.1  # seconds between two pictures in a notebook
Tell = Callable[[int, int, str], None]
Progress = bool | Tell | None


class Display(Protocol):
    """Where bars are shown: one row for each piece of work."""

    def row(self, key: int, done: int, total: int, what: str) -> None: ...

    def drop(self, key: int) -> None: ...

    def stop(self) -> None: ...


class _Work:
    """One piece of work; work inside it shares its display."""

    def __init__(self, progress: Progress, outer: _Work | None) -> None:
        self.root: _Work = self if outer is None else outer.root
        self.asked: Progress = outer.asked if progress is None and outer is not None else progress
        self.display: Display | None = None
        self.start = time.monotonic()

    def tell(self, done: int, total: int, what: str) -> None:
        """So much of it is done."""
        if callable(self.asked):
            self.asked(done, total, what)
            return
        root = self.root
        if self.asked is not False and root.display is None and (self.asked or self._long(done, total)):
            root.display = _notebook() or _terminal(bool(self.asked))
        if self.asked is not False and root.display is not None:
            root.display.row(id(self), done, total, what)

    def _long(self, done: int, total: int) -> bool:
        """Whether all of it takes more than a few seconds, as far as can be told."""
        passed = time.monotonic() - self.start
        return passed > LONG or (done > 0 and passed / done * total > LONG)

    def end(self) -> None:
        """Take its row away; the outermost work takes the display away."""
        display = self.root.display
        if display is not None:
            display.drop(id(self))
        if self is self.root and display is not None:
            self.display = None
            display.stop()


_current: ContextVar[_Work | None] = ContextVar("work", default=None)


@contextmanager
def telling(progress: Progress = None) -> Iterator[Tell]:
    """Yields the function to report to: ``tell(done, total, what)``.

    Args:
        progress: True for a bar at once; False for none; None for a bar in a terminal or a notebook as soon as the work
            turns out to take more than a few seconds, or what the work around it was asked for; or a function of
            (done, total, what), which is called in the place of a bar.

    Raises:
        ProgramError: something else.

    >>> with telling(lambda done, total, what: print(f"{what}: {done} of {total}")) as tell:
    ...     tell(1, 2, "width 64")
    width 64: 1 of 2
    """
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ProgramError(
            f"progress is True, False, None (a bar for long work where somebody looks on) or a function of "
            f"(done, total, what), got {shortly(progress)}"
        )
    work = _Work(progress, _current.get())
    token = _current.set(work)
    try:
        yield work.tell
    finally:
        _current.reset(token)
        work.end()


@contextmanager
def counting(progress: Progress, total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Yields the function to tell of so many more that are done; ``progress`` as for ``telling``."""
    done = 0
    with telling(progress) as tell:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            tell(done, total, what)

        yield advance


# ---- where bars are shown ------------------------------------------------------------------------------


class _Silent:
    """Nobody looks on."""

    def row(self, key: int, done: int, total: int, what: str) -> None:
        pass

    def drop(self, key: int) -> None:
        pass

    def stop(self) -> None:
        pass


class _Terminal:
    """Bars on the error stream, which are gone when the work is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
        self.bars: Any = Bars(*columns, console=Console(stderr=True), transient=True)
        self.tasks: dict[int, Any] = {}
        self.bars.start()

    def row(self, key: int, done: int, total: int, what: str) -> None:
        if key not in self.tasks:
            self.tasks[key] = self.bars.add_task(what, total=total)
        self.bars.update(self.tasks[key], completed=done, total=total, description=what)

    def drop(self, key: int) -> None:
        if key in self.tasks:
            self.bars.remove_task(self.tasks.pop(key))

    def stop(self) -> None:
        self.bars.stop()


class _Cell:
    """Bars as HTML below the cell of a notebook; IPython is all that it needs."""

    def __init__(self, html: Any, display: Any) -> None:
        self.html, self.rows = html, dict[int, tuple[int, int, str]]()
        self.began, self.shown = time.monotonic(), 0.0
        self.handle = display(html(""), display_id=True)

    def row(self, key: int, done: int, total: int, what: str) -> None:
        self.rows[key] = done, total, what
        if time.monotonic() - self.shown > OFTEN:
            self.shown = time.monotonic()
            self.handle.update(self.html("".join(self._bar(*row) for row in self.rows.values())))

    def _bar(self, done: int, total: int, what: str) -> str:
        left = (time.monotonic() - self.began) / done * (total - done) if done else None
        words = f"{what}, {100 * done / max(total, 1):.0f} %" + (f", {left:.0f} s left" if left is not None else "")
        return f'<div><progress value="{done}" max="{total}"></progress> {escape(words)}</div>'

    def drop(self, key: int) -> None:
        self.rows.pop(key, None)

    def stop(self) -> None:
        self.handle.update(self.html(""))


def _notebook() -> Display | None:
    """The output of the running cell; None outside of notebooks."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if not hasattr(shell, "kernel"):
        return None
    from IPython.display import HTML, display

    return _Cell(HTML, display)


def _terminal(asked: bool) -> Display:
    return _Terminal() if asked or sys.stderr.isatty() else _Silent()
