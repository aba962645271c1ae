"""Derivations read in order, hold line by line, and lines that do not hold are found."""

import re
import shutil
import subprocess

import pytest

import tensorprog as tp
from tensorprog.algebra import ONE
from tensorprog.cli import main
from tests.gallery import BUILT

FAST = ("mlp", "tied_autoencoder", "cnn")
FORWARD = "batchnorm_mlp"  # kernels between members of batches are derived forward only
SLOW = [pytest.param(n, marks=[] if n in FAST else [pytest.mark.slow]) for n in BUILT if n != FORWARD]


def balanced(tex):
    """Whether braces and environments of a LaTeX file match."""
    depth, stack = 0, []
    for m in re.finditer(r"\\begin\{([a-z*]+)\}|\\end\{([a-z*]+)\}|\\[{}]|([{}])", tex):
        if m[1]:
            stack.append(m[1])
        elif m[2]:
            if not stack or stack.pop() != m[2]:
                return False
        elif m[3]:
            depth += 1 if m[3] == "{" else -1
            if depth < 0:
                return False
    return depth == 0 and not stack


@pytest.mark.parametrize("name", SLOW)
def test_derivations_of_the_gallery_hold_and_print(name):
    D = tp.derivation(BUILT[name])
    found = D.check()
    assert found.passed, found.text()
    assert found.checked >= 5 and f"{found.digits} digits" in found.text()
    text, tex, html = D.text(), D.latex(), D.html()
    for words in ("The architecture", "program", "Ż", "Assumptions", "Theorem B.4"):
        assert words in text
    assert tex.startswith(r"\documentclass") and tex.rstrip().endswith(r"\end{document}") and balanced(tex)
    assert re.findall(r"\\usepackage(?:\[.*\])?\{(.*)\}", tex) == ["amsmath"]
    assert all(ord(ch) < 128 for ch in tex), {ch for ch in tex if ord(ch) > 127}
    assert "http" not in html.replace("http://www.w3.org", "") and html.startswith("<!doctype html>")


def test_kernels_between_members_of_batches_have_no_document_and_say_so():
    with pytest.raises(tp.NoRuleError, match="has no backward program"):
        tp.derivation(BUILT[FORWARD])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("name", BUILT)
def test_derivations_compile(name, tmp_path):
    (tmp_path / "appendix.tex").write_text(tp.derivation(BUILT[name]).latex())
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "appendix.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mlp", "rnn", "residual_mlp", "tied_mlp", "mean_readout", "tied_autoencoder", "layer_norm_mlp"]
)
def test_what_is_long_is_told_once(name):
    assert len(tp.derivation(BUILT[name]).text().splitlines()) < 120


def section(D, words):
    return next(s for s in D.sections if words in s.title)


def lines(D, words, start):
    s = section(D, words)
    return next(x for one in [*s.statements, *s.silent] for x in (one, *one.others) if x.text.startswith(start))


def planted(s):
    """The same claim, and something on top."""
    right = s.right
    if isinstance(right, tuple) and isinstance(right[1], list):  # Ż of a product
        var, terms = right
        return (var, [(a + ONE, y) for a, y in terms]) if terms else right
    if isinstance(right, tuple) and hasattr(right[1], "terms"):
        return right[0], right[1] + ONE
    if isinstance(right, tuple) and len(right) == 2 and hasattr(right[1], "free_symbols"):
        return right[0], 2 * right[1]
    return right + ONE


MISTAKES = {  # a kind of step: network, section, start of the line
    "Nonlin": ("mlp", "Limits Z", "Z(x¹)"),
    "Ż": ("tied_autoencoder", "Limits Z", "Z(h³) = Ẑ(Wᵀ x²) + Ż"),
    "covariance": ("mlp", "Covariances", "Σ^(2)(x,x')"),
    "gradient covariance": ("mlp", "Covariances", "Π^(1)(x,x')"),
    "kernel": ("mlp", "Covariances", "Θ(x,x')"),
    "closed form": ("mlp", "Closed forms", "V[relu]"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_a_step_is_found_and_named(kind):
    name, where, start = MISTAKES[kind]
    D = tp.derivation(BUILT[name])
    line = lines(D, where, start)
    line.right = planted(line)
    found = D.check()
    assert not found.passed and len(found.failed) == 1 and start in found.failed[0], found.text()


@pytest.mark.slow
def test_a_wrong_sum_over_uses_and_a_wrong_fold_are_found():
    D = tp.derivation(tp.programs.rnn())
    total = section(D, "pairs of uses").silent[0]
    terms, limit = total.right
    total.right = (terms[:-1], limit)  # a use forgotten
    dead = next(s for s in section(D, "pairs of uses").statements if s.check is not None)
    alive = next(s for s in section(D, "pairs of uses").statements if s.check is None)
    dead.right = alive.right  # a pair that does not vanish
    fold = section(D, "induction").silent[-1]
    R, _ = fold.right
    folded = R._parts[0].folded
    folded.terms.pop()  # a term of the kernel forgotten in the induction
    found = D.check()
    assert len(found.failed) == 3 + (len(section(D, "induction").silent) - 1), found.text()


def test_a_zdot_that_is_not_0_is_found_where_0_is_claimed():
    D = tp.derivation(tp.programs.tied_autoencoder())
    line = lines(D, "Limits Z", "Z(h³) = Ẑ(Wᵀ x²) + Ż")
    line.right = (line.right[0], [])
    assert not D.check().passed


def test_programs_runs_and_kernels_have_derivations():
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    W.T @ tp.tanh(W @ x)
    D = tp.derivation(p)
    assert D.check().passed and "mean derivative" in D.text()
    run = tp.derivation(tp.unroll(tp.programs.mlp(depth=1), steps=1))
    assert run.check().passed and balanced(run.latex())
    nngp = tp.derivation(tp.nngp(tp.programs.mlp(depth=2)))
    assert nngp.check().passed and "backward" not in nngp.text()
    with pytest.raises(tp.ProgramError, match="takes a network"):
        tp.derivation("mlp")


def test_what_gradient_independence_would_give_is_shown_where_it_fails():
    text = tp.derivation(BUILT["mean_readout"]).text()
    assert "FAILS" in text and "Under the gradient independence assumption" in text


def test_the_command_line_prints_the_whole_derivation(capsys):
    assert main(["derive", "tied_autoencoder", "--full"]) == 0
    assert "Theorem B.4" in capsys.readouterr().out
    assert main(["derive", "tied_autoencoder", "--full", "--latex"]) == 0
    assert balanced(capsys.readouterr().out)
