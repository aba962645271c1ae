"""Every notebook runs from its source, and shows formulas and drawings rather than text."""

import ast
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.py"))
RICH = ("_repr_html_", "_repr_latex_", "_repr_svg_")


def shown(path):
    """What the cells of a notebook show: the values of last expressions, as Jupyter would show them."""
    namespace = {"__name__": "__main__"}
    for cell in re.split(r"^# %%", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        if cell.startswith(" [markdown]"):
            continue
        tree = ast.parse(cell)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(path), "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), str(path), "eval"), namespace)
            if value is not None:
                yield value


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_and_shows_formulas_and_a_drawing(path):
    forms = [[form for form in RICH if getattr(value, form, lambda: None)()] for value in shown(path)]
    assert sum("_repr_latex_" in found or "_repr_html_" in found for found in forms) >= 2
    assert any("_repr_svg_" in found for found in forms)
