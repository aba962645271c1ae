"""TikZ: balanced, ASCII, of every shape, and of formulas that TeX can read."""

import functools
import re

import pytest
from matplotlib.mathtext import MathTextParser

import tensorprog as tp
from tensorprog.report.scene import COLOURS, Circle, Path, Scene, Style, rectangle
from tensorprog.report.tikz import set_text, tikz
from tests.gallery import NO_STEP, names, two

PARSER = MathTextParser("path")


def pictures(name):
    net = tp.programs.GALLERY[name]()
    yield tp.draw(net, backprop=True)
    yield tp.draw(net, backprop=True, reduced=False, **two(net))
    if name not in NO_STEP:
        yield tp.draw(tp.unroll(net, steps=1))


def balanced(tex):
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", tex):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@functools.cache
def read_by_tex(node):
    """Parse the math of a node as TeX would, by matplotlib's reader, which knows fewer boxes."""
    known = re.sub(r"\\stackrel\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}\{\\to\}", r"{\1}\\to ", node)
    known = re.sub(r"\\mbox", r"\\mathrm", known).replace(r"\colon", ":").replace(r"\surd", r"\sqrt{n}")
    PARSER.parse(known.replace(r"\not\cong", r"\cong").replace(r"\wedge", r"\cdot"))


@pytest.mark.parametrize("name", names())
def test_pictures_of_the_gallery_are_tikz(name):
    for picture in pictures(name):
        tex = picture.tikz()
        assert tex.isascii() and balanced(tex)
        body = tex.split("\n")
        colours = [row for row in body if row.startswith(r"\definecolor")]
        assert body[len(colours)].startswith(r"\begin{tikzpicture}") and body[-1] == r"\end{tikzpicture}"
        drawn = body[len(colours) + 2 : -1]
        assert len(drawn) == len(picture.scene.shapes)
        assert all(re.fullmatch(r"  \\(path|node)\[.*\] .*;", row) for row in drawn)
        used = set(re.findall(r"=tp(\w+)", tex))
        assert used == set(re.findall(r"\\definecolor\{tp(\w+)\}", tex))


@pytest.mark.parametrize("name", names(("gcn", "two_branch")))
def test_texts_are_formulas_that_tex_reads(name):
    for picture in pictures(name):
        nodes = [row for row in picture.tikz().split("\n") if row.startswith(r"  \node")]
        assert len(nodes) == len(picture.scene.texts)
        for row in nodes:
            inside = re.search(r"\) \{(.*)\};$", row)[1]
            read_by_tex(inside)
            assert not re.search(r"\^\{[^{}]*\}\^|_\{[^{}]*\}_|\^\{[^{}]*\}'", inside)  # no two scripts at one place


def test_shapes_keep_their_places():
    curve = Path((("M", (5, 5)), ("C", (10, 5), (10, 20), (15, 20)), ("Z",)), Style("p", dash=True))
    tex = tikz(Scene(100, 60, [Circle(20, 20, 6, Style(fill="ink")), rectangle(40, 10, 8, 8, Style()), curve]))
    assert r"(20,20) circle[radius=4.5pt]" in tex and "fill=tpink" in tex
    assert r"(40,10) -- (48,10) -- (48,18) -- (40,18) -- cycle" in tex
    assert r"(5,5) .. controls (10,5) and (10,20) .. (15,20) -- cycle" in tex and "dash pattern" in tex
    assert r"\path (0,0) rectangle (100,60);" in tex
    assert rf"\definecolor{{tpp}}{{HTML}}{{{COLOURS['p'][1:].upper()}}}" in tex and "tpq" not in tex


@pytest.mark.parametrize("text, tex", [
    ("h²", "$h^{2}$"), ("x²ʼ¹(x')", "$x^{2,1}(x')$"), ("W²ᵀ", r"$W^{2\top}$"), ("δx²₁", r"$\delta x^{2}_{1}$"),
    ("dh³", "$dh^{3}$"), ("Σ/√n", r"$\Sigma/\sqrt{n}$"), ("erf'(u)", r"$\mathrm{erf}'(u)$"), ("G-var", "G-var"),
    ("backward, t = 0", r"$\mathrm{backward},\ t = 0$"), ("f̂₀(x)", r"$\hat{f}_{0}(x)$"), ("x²'", "$x^{2}{}'$"),
    ("<W>", "$<W>$"), ("a_b & 50% #1_", r"$a_{b}\ \&\ 50\%\ \#1\_$"),
    ("σ_w·σᵥ", r"$\sigma_{w}\cdot\sigma_{v}$"), ("a_b_c", r"$a_{b}\_c$"), ("x₁_a", r"$x_{1}\_a$"),
    ("{x}\\", r"$\{x\}\backslash$"),
    ("p: a —W²→ b", r"$p\colon\ a\ \stackrel{W^{2}}{\to} b$"), ("重", r"$\mbox{U+91CD}$"), ("é", "$e$"),
])  # fmt: skip
def test_texts_are_set_as_a_paper_would(text, tex):
    assert set_text(text) == tex
    assert set_text(text).isascii() and balanced(set_text(text))


def test_what_users_name_their_vectors_cannot_break_the_picture():
    p = tp.Program()
    tp.relu(p.matrix("W}{\\end") @ p.vector("$x^2_{&%#~\\"))
    tex = tp.draw(p).tikz()
    assert tex.isascii() and balanced(tex) and r"\end{" in tex
    assert len(re.findall(r"(?<!\\)\$", tex)) % 2 == 0 and not re.search(r"(?<!\\)[&%#](?!$)", tex, re.MULTILINE)


def test_the_check_on_braces_can_fail():
    assert not balanced("{a}}{") and not balanced("{a") and balanced(r"\}{a}")
