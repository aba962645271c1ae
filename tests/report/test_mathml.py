"""MathML: what is read from the package's LaTeX, and what is refused."""

import xml.etree.ElementTree as ET

import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import NoRuleError
from tensorprog.printing import inner
from tensorprog.report.mathml import formula, from_latex, systems_and_prose
from tests.gallery import DEAR

CASES = {
    r"\frac{1}{2}": "<mfrac><mn>1</mn><mn>2</mn></mfrac>",
    r"\sqrt{2}": "<msqrt><mn>2</mn></msqrt>",
    r"\sqrt[3]{x}": "<mroot><mi>x</mi><mn>3</mn></mroot>",
    r"x'_{2}": "<msubsup><mi>x</mi><mn>2</mn><mo>′</mo></msubsup>",
    r"\Theta^{1,2}": "<msup><mi>Θ</mi><mrow><mn>1</mn><mo>,</mo><mn>2</mn></mrow></msup>",
    r"(a)": '<mo stretchy="false">(</mo><mi>a</mi><mo stretchy="false">)</mo>',
    r"f'^{2}": "<msup><mi>f</mi><mrow><mo>′</mo><mn>2</mn></mrow></msup>",
    r"a - b": "<mi>a</mi><mo>−</mo><mi>b</mi>",
    r"\left[x\right]": "<mrow><mo>[</mo><mi>x</mi><mo>]</mo></mrow>",
    r"\mathsf{V}_{\phi}": "<msub><mi>𝖵</mi><mi>ϕ</mi></msub>",
    r"\hat Z^{W}": '<msup><mover accent="true"><mi>Z</mi><mo stretchy="false">^</mo></mover><mi>W</mi></msup>',
    r"x \operatorname{relu}": '<mi>x</mi><mspace width="0.17em"/><mi>relu</mi>',
    r"a < b": "<mi>a</mi><mo>&lt;</mo><mi>b</mi>",
    r"0.25": "<mn>0.25</mn>",
    r"\text{for all } x": "<mtext>for\u00a0all\u00a0</mtext><mi>x</mi>",
    r"\begin{pmatrix} q & c \\ c & p \end{pmatrix}": "<mrow><mo>(</mo><mtable><mtr><mtd><mi>q</mi></mtd>"
    "<mtd><mi>c</mi></mtd></mtr><mtr><mtd><mi>c</mi></mtd><mtd><mi>p</mi></mtd></mtr></mtable><mo>)</mo></mrow>",
    r"\begin{align*} a &= b \displaybreak[0] \\ &\quad c \end{align*}": '<mtable class="lines" displaystyle="true">'
    "<mtr><mtd><mi>a</mi></mtd><mtd><mo>=</mo><mi>b</mi></mtd></mtr><mtr><mtd></mtd>"
    '<mtd><mspace width="1em"/><mi>c</mi></mtd></mtr></mtable>',
    r"\begin{smallmatrix} a & b \\ c & 2 \end{smallmatrix}": "<mtable><mtr><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd>"
    "</mtr><mtr><mtd><mi>c</mi></mtd><mtd><mn>2</mn></mtd></mtr></mtable>",
    r"\begin{pmatrix} x \end{pmatrix}": "<mrow><mo>(</mo><mtable><mtr><mtd><mi>x</mi></mtd></mtr></mtable><mo>)</mo>"
    "</mrow>",
    r"\bigl[x\bigr]": "<mo>[</mo><mi>x</mi><mo>]</mo>",
}


@pytest.mark.parametrize("tex", CASES)
def test_latex_is_read_as(tex):
    assert from_latex(tex) == CASES[tex]


BROKEN = [
    r"\frac{1}",
    r"{x",
    r"x}",
    r"\left(x",
    r"\begin{cases}",
    r"\begin{tikzcd}x\end{tikzcd}",
    r"\begin{align}x\end{split}",
    r"\unknown",
    r"x^2^3",
    r"\operatorname x",
    r"\begin{pmatrix} a",
    r"\begin{pmatrix} a \end{smallmatrix}",
    r"\begin{pmatrix} a } \end{pmatrix}",
]


@pytest.mark.parametrize("tex", BROKEN)
def test_what_cannot_be_read_is_refused_and_shown_as_it_stands(tex):
    with pytest.raises(NoRuleError):
        from_latex(tex)
    assert formula(tex) == f'<code class="tex">{tex}</code>'


def test_expressions_and_latex_are_put_side_by_side():
    result = formula(sp.Symbol("K"), "=", inner("x1", "x'2") / 3)
    root = ET.fromstring(result)
    assert root.tag == "math" and root.get("display") == "block"
    assert "".join(root.itertext()) == "K=⟨x1,x2′⟩3"


NONLINEARITIES = sorted(tp.NONLINEARITIES)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_every_formula_of_a_kernel_is_well_formed_mathml(name):
    net = tp.programs.mlp(depth=2, phi=tp.NONLINEARITIES[name], sigma_w=sp.Symbol("sigma_w"), sigma_b=0.1)
    for equation in tp.ntk(net).equations:
        ET.fromstring(formula(equation.lhs, "=", equation.rhs))  # not the fallback, which is no math element
        assert formula(equation.rhs).startswith("<math")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEAR)) for n in sorted(tp.programs.GALLERY)]
)
def test_every_formula_of_the_gallery_is_mathml(name):
    net = tp.programs.GALLERY[name]()
    phi = {"phi": tp.abstract("phi")} if "phi" in net.hyperparameters else {}
    for kernel in (tp.ntk(net), tp.ntk(tp.programs.GALLERY[name](**phi))):
        assert all(formula(e.lhs, "=", e.rhs).startswith("<math") for e in kernel.equations)
        system, *rest = systems_and_prose(kernel.latex(closed=True))
        assert system.startswith('<math display="block"><mtable class="lines"')
        assert rest[0].startswith("<p>") and "$" not in rest[0] and "<code" not in "".join(rest)
