"""Progress: a bar where somebody looks on and the work is long, the same for every function, gone at the end."""

import io
import sys
import types

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import progress
from tensorprog.progress import telling

X, Y = np.array([[1.0, 0.5], [0.2, -1.0]]), np.array([1.0, -1.0])
NET = tp.programs.mlp(depth=1, phi=tp.erf, sigma_b=0)
SMALL = {"widths": (8, 16), "seeds": 2}
WAYS = {
    "K": lambda p: tp.nngp(NET, method="sampling", samples=2**12)(X, progress=p),
    "account": lambda p: tp.nngp(NET, method="sampling", samples=2**12).account(X, progress=p),
    "gram": lambda p: tp.gram(tp.nngp(NET), X, progress=p),
    "gram of a sampled kernel": lambda p: tp.gram(tp.nngp(NET, method="sampling", samples=2**12), X, progress=p),
    "recursion's gram": lambda p: tp.nngp(NET).recursion().gram(X, progress=p),
    "verify": lambda p: tp.verify(NET, X, progress=p, **SMALL),
    "train": lambda p: tp.train(NET, X, Y, steps=1, progress=p, **SMALL),
    "feature limit": lambda p: tp.feature_limit(NET, X, Y, steps=1, method="sampling", samples=2**12, progress=p),
    "coordinate check": lambda p: tp.coordinate_check(NET, X, Y, [tp.mup()], steps=1, progress=p, **SMALL),
    "empirical": lambda p: tp.empirical_ntk(NET, X, width=8, seeds=3, progress=p),
}
warns = pytest.mark.filterwarnings("ignore::tensorprog.AccuracyWarning")


class Screen(io.StringIO):
    """An error stream that is a terminal."""

    def isatty(self):
        return True


def on_screen(monkeypatch):
    monkeypatch.setattr(sys, "stderr", found := Screen())
    monkeypatch.setenv("TERM", "xterm")
    return found


@pytest.fixture
def cell(monkeypatch):
    """A notebook: what its output shows, picture after picture."""
    shown = []
    handle = types.SimpleNamespace(update=shown.append)
    display = types.ModuleType("IPython.display")
    display.HTML, display.display = str, lambda html, display_id: shown.append(html) or handle
    top = types.ModuleType("IPython")
    top.get_ipython, top.display = lambda: types.SimpleNamespace(kernel=object()), display
    monkeypatch.setitem(sys.modules, "IPython", top)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(progress, "OFTEN", 0.0)
    return shown


@warns
@pytest.mark.parametrize("way", WAYS)
def test_a_function_hears_of_all_that_is_done(way):
    told = []
    WAYS[way](lambda done, total, what: told.append((done, total, what)))
    assert told and told[-1][0] == told[-1][1] and all(isinstance(what, str) for *_, what in told)


@warns
@pytest.mark.parametrize("way", WAYS)
def test_everything_that_takes_long_shows_a_bar_where_it_is_asked_to(way, cell):
    WAYS[way](True)
    assert any("<progress" in html for html in cell) and cell[-1] == ""


@warns
@pytest.mark.parametrize("way", WAYS)
def test_no_bar_is_shown_where_none_is_wanted(way, cell, monkeypatch):
    monkeypatch.setattr(progress, "LONG", 0.0)
    WAYS[way](False)
    assert cell == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", ["yes", 1, np.array([True])], ids=repr)
def test_other_wishes_are_refused_in_words(way, given):
    with pytest.raises(tp.ProgramError, match=r"progress is True, False, None .* or a function of"):
        WAYS[way](given)


def test_by_default_short_work_shows_nothing_and_long_work_a_bar(cell):
    with telling() as tell:
        tell(1, 2, "quick")
    assert cell == []
    with telling() as tell:
        tell.__self__.start -= 1.0
        tell(1, 5, "slow")  # one second passed, five in all
    assert "slow, 20 %" in "".join(cell) and cell[-1] == ""


def test_a_terminal_shows_a_bar_and_a_file_does_not(monkeypatch):
    screen = on_screen(monkeypatch)
    with telling() as tell:
        tell.__self__.start -= 1.0
        tell(1, 5, "width 64")
    assert "width 64" in screen.getvalue()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with telling() as tell:
        tell.__self__.start -= 10.0
        tell(1, 5, "width 64")
    assert sys.stderr.getvalue() == ""


def test_an_interruption_leaves_the_cursor_and_no_bar(monkeypatch):
    screen = on_screen(monkeypatch)
    with pytest.raises(KeyboardInterrupt), telling(True) as tell:
        tell(1, 5, "width 64")
        raise KeyboardInterrupt
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert screen.getvalue().rindex(shown) > screen.getvalue().rindex(hidden)
    with telling(True) as tell:  # the next one is a bar of its own
        tell(5, 5, "again")
    assert "again" in screen.getvalue()


def test_an_interruption_clears_the_cell(cell):
    with pytest.raises(KeyboardInterrupt), telling(True) as tell, telling() as inner:
        tell(1, 5, "outer")
        inner(1, 2, "inner")
        raise KeyboardInterrupt
    assert "outer" in cell[-2] and "inner" in cell[-2] and cell[-1] == ""


def test_work_inside_other_work_has_a_row_of_the_same_display(cell):
    with telling(True) as tell:
        tell(1, 5, "outer")
        with telling() as inner:
            inner(1, 2, "inner")
        tell(2, 5, "outer")
    assert "inner" in cell[-3] and "outer" in cell[-3]
    assert "inner" not in cell[-2] and "outer, 40 %" in cell[-2]
