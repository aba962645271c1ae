"""Formulas as MathML, made while the pages are built: no script and no font is loaded to read them."""

import re
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

from tensorprog.errors import NoRuleError
from tensorprog.report.mathml import from_latex, systems_and_prose

LOG = getLogger(__name__)
_LINES = re.compile(r"\\begin\{(?:align|gather)|\\\\")


def mathml(tex: str, display: bool) -> str:
    """A formula of LaTeX as a ``math`` element; several lines without an environment are set like ``align``.

    Raises:
        NoRuleError: a command without MathML.
    """
    if display and _LINES.search(tex) and r"\begin" not in tex:
        tex = rf"\begin{{align*}}{tex}\end{{align*}}"
    opening = '<math display="block">' if display else "<math>"
    return f"{opening}{from_latex(tex)}</math>"


def displayed(tex: str) -> str:
    """A formula of its own, or what ``latex()`` gives: systems of equations, and the prose below them."""
    found = systems_and_prose(tex) if r"\begin{align*}" in tex else [mathml(tex, True)]
    return "".join(f'<div class="formula" tabindex="0">{x}</div>' if x.startswith("<math") else x for x in found)


def _visit(display: bool) -> Any:
    def visit(self: Any, node: nodes.Element) -> None:
        tex = node.astext()
        try:
            found = displayed(tex) if display else mathml(tex, False)
        except NoRuleError as error:
            LOG.warning("formula %s: %s", tex, error, location=node)
            found = f"<code>{escape(tex)}</code>"
        self.body.append(found)
        raise nodes.SkipNode

    return visit


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (_visit(False), None), (_visit(True), None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
