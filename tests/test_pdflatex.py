"""``latex()`` compiles as it stands, with amsmath and nothing else, and fits the page; drawings compile with tikz."""

import re
import shutil
import subprocess

import pytest

import tensorprog as tp

GALLERY = tp.programs.GALLERY
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed"),
]
PICTURE = "\\documentclass{article}\n\\usepackage{tikz}\n\\begin{document}\n%s\n\\end{document}\n"
DOCUMENT = "\\documentclass{article}\n\\usepackage{amsmath}\n\\begin{document}\n%s\n\\end{document}\n"


def networks(name):
    """The network of the gallery as it is, and with an abstract φ."""
    yield GALLERY[name]()
    if "phi" in GALLERY[name]().hyperparameters:
        yield GALLERY[name](phi=tp.abstract("phi"))


def formulas(name):
    for net in networks(name):
        kernels = [tp.ntk(net)]
        if name != "mean_readout":
            kernels += [tp.ntk(net, "paths"), tp.nngp(net)]
        for K in kernels:
            yield K.latex()
            yield K.latex(closed=True)
            if name != "tied_autoencoder":
                for form in (None,) if K.kind == "nngp" else ("sum", "forward"):
                    yield K.recursion(form).latex(closed=True)


def compiled(tex, folder, document=DOCUMENT):
    (folder / "formulas.tex").write_text(document % tex)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "formulas.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", GALLERY)
def test_formulas_compile_and_fit_the_page(name, tmp_path):
    status, log = compiled("\n\n".join(formulas(name)), tmp_path)
    assert status == 0, log[-2000:]
    assert not re.findall(r"Overfull \\[hv]box \((?:\d{2,}|[2-9])\.\d+pt.*", log)  # 2pt are not seen


@pytest.mark.parametrize("name", GALLERY)
def test_drawings_compile_with_tikz_alone(name, tmp_path):
    net = GALLERY[name]()
    drawings = [tp.draw(net), tp.draw(net, backprop=True), tp.draw(tp.unroll(net, steps=1))]
    boxes = "\n\n".join(rf"\resizebox{{\linewidth}}{{!}}{{{drawing.tikz()}}}" for drawing in drawings)
    status, log = compiled(boxes, tmp_path, PICTURE)
    assert status == 0, log[-2000:]


def test_what_does_not_compile_is_noticed(tmp_path):
    status, log = compiled(r"\begin{align*} x &= \notacommand \end{align*}", tmp_path)
    assert status != 0 and "Undefined control sequence" in log
