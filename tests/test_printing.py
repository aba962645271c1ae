"""How expressions and kernels print: text, LaTeX, and the names of the papers."""

import copy
import pickle
import re

import pytest
import sympy as sp
from matplotlib.mathtext import MathTextParser

import tensorprog as tp
from tensorprog.formulas.arguments import once
from tensorprog.formulas.typeset import Line
from tensorprog.printing import NameSymbol, inner, latex, text
from tests.gallery import SAMPLED

GALLERY = tp.programs.GALLERY
X, W, S1 = sp.symbols("x sigma_w sigma_w1")
SIGMA = NameSymbol("Σ^(1)(x,x')", r"\Sigma^{(1)}(x,x')")


@tp.network
def tied_mlp(net, x, *, depth=3, phi=tp.relu):
    """A weight-tied MLP: one matrix in every layer."""
    h = net.embed("U", x)
    for _ in range(depth):
        h = net.dense("W", phi(h))
    return net.readout("V", phi(h))


# ---- expressions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expr", "as_text", "as_latex"),
    [
        (W**2 * X + sp.Rational(1, 3), "σ_w²·x + 1/3", r"\sigma_{w}^{2} x + \frac{1}{3}"),
        (X**12, "x¹²", "x^{12}"),
        ((X + 1) ** 3, "(x + 1)³", r"\left(x + 1\right)^{3}"),
        (1 / X, "1/x", r"\frac{1}{x}"),
        (sp.sqrt(2) * X, "sqrt(2)·x", r"\sqrt{2} x"),
        (X ** sp.Rational(3, 2), "x**(3/2)", r"x^{\frac{3}{2}}"),
        (-X, "-x", "- x"),
        (2 * sp.pi, "2·pi", r"2 \pi"),
        (sp.Rational(7, 1000), "7/1000", r"\frac{7}{1000}"),
        (sp.Rational(123456, 1000003), "0.123455629633", "0.123455629633"),
        (sp.Symbol("alpha") * X, "α·x", r"\alpha x"),
        (SIGMA**2, "Σ^(1)(x,x')²", r"\left(\Sigma^{(1)}(x,x')\right)^{2}"),
        (2 * SIGMA, "2·Σ^(1)(x,x')", r"2 \Sigma^{(1)}(x,x')"),
        (inner("x", "x'"), "⟨x,x'⟩", r"\langle x,x'\rangle"),
        (inner("x1", "x'12"), "⟨x1,x'12⟩", r"\langle x_{1},x'_{12}\rangle"),
        (tp.relu(X), "relu(x)", r"\operatorname{relu}\left(x\right)"),
        (sp.S.Zero, "0", "0"),
    ],
    ids=str,
)
def test_expressions_print(expr, as_text, as_latex):
    assert text(expr) == as_text
    assert latex(expr) == as_latex


# ---- symbols with their own LaTeX ----------------------------------------------------------------


def test_symbols_are_equal_when_their_texts_are():
    other = NameSymbol("Σ^(1)(x,x')", "another")
    assert other == SIGMA and hash(other) == hash(SIGMA)
    assert NameSymbol("Σ^(2)(x,x')", r"\Sigma^{(1)}(x,x')") != SIGMA
    assert SIGMA - other == 0


def test_a_symbol_without_latex_gets_that_of_its_name():
    assert latex(NameSymbol("sigma_w")) == r"\sigma_{w}"
    assert latex(NameSymbol("a", "A")) == "A"


def test_symbols_are_real():
    assert SIGMA.is_real and sp.sqrt(SIGMA**2) == sp.Abs(SIGMA)


@pytest.mark.parametrize(
    "duplicate",
    [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
@pytest.mark.parametrize("expr", [SIGMA, SIGMA**2 * X + 1, inner("x1", "x'2")], ids=str)
def test_copies_are_equal_and_print_the_same(expr, duplicate):
    again = duplicate(expr)
    assert again == expr and hash(again) == hash(expr)
    assert (text(again), latex(again)) == (text(expr), latex(expr))
    assert {type(s) for s in again.free_symbols} == {type(s) for s in expr.free_symbols}


def test_substitution_keeps_symbols():
    assert (X**2 + X).xreplace({X: SIGMA}) == SIGMA**2 + SIGMA
    assert (SIGMA**2 + X).xreplace({SIGMA: X}) == X**2 + X
    assert latex((X * W).xreplace({X: SIGMA})) == r"\Sigma^{(1)}(x,x') \sigma_{w}"
    assert (SIGMA * X).subs(NameSymbol("Σ^(1)(x,x')"), 2) == 2 * X
    assert sp.lambdify([SIGMA], SIGMA**2)(3) == 9


# ---- the names of kernels --------------------------------------------------------------------------


def names(kernel):
    return [str(e.lhs) for e in kernel.equations]


def over_pairs(*indexed):
    return {f"{name}({a})" for name in indexed for a in ("x,x", "x,x'", "x',x'")}


def test_an_mlp_prints_as_in_the_papers():
    found = names(tp.ntk(tp.programs.mlp(depth=3)))
    assert set(found) == {*over_pairs("Σ^(1)", "Σ^(2)", "Σ^(3)"), "Π^(1)(x,x')", "Π^(2)(x,x')", "Θ(x,x')"}
    assert found[-1] == "Θ(x,x')"


def test_path_sums_name_the_tangent_kernels_of_the_layers():
    found = names(tp.ntk(tp.programs.mlp(depth=3), method="paths"))
    assert {n for n in found if n[0] == "Θ"} == {"Θ^(2)(x,x')", "Θ^(3)(x,x')", "Θ(x,x')"}
    assert not any(n.startswith("Π") for n in found)


def test_the_nngp_is_called_k():
    found = names(tp.nngp(tp.programs.mlp(depth=2)))
    assert set(found) == {*over_pairs("Σ^(1)", "Σ^(2)"), "K(x,x')"} and found[-1] == "K(x,x')"


def test_a_recurrent_network_prints_its_times():
    found = names(tp.ntk(tp.programs.rnn(), lengths=(2, 2)))
    assert set(found) == {*over_pairs("Σ^(2,2)"), "Π^(1,1)(x,x')", "Θ(x,x')"}
    found = names(tp.ntk(tp.programs.rnn(sigma_b=1), lengths=(3, 2)))
    assert {"Σ^(2,1)(x,x')", "Σ^(3,2)(x,x')", "Σ^(3,3)(x,x)", "Σ^(2,2)(x',x')"} <= set(found)
    assert not any("^(" in n and n.count(",") != 2 for n in found)


def test_two_recurrent_layers_print_layer_and_times():
    found = names(tp.ntk(tp.programs.rnn(layers=2, sigma_h=1), lengths=(2, 2)))
    assert {"Σ^(1,2,2)(x,x')", "Σ^(2,2,2)(x,x')", "Π^(1,1,1)(x,x')", "Π^(2,1,1)(x,x')"} <= set(found)
    assert all(re.fullmatch(r"[ΣΠ]\^\([12],[12],[12]\)\(x'?,x'?\)|Θ\(x,x'\)", n) for n in found)


def test_layers_that_share_one_matrix_are_numbered_by_its_uses():
    found = names(tp.ntk(tied_mlp(depth=3)))
    assert set(found) == {
        *over_pairs("Σ^(2)", "Σ^(3)", "Σ^(4)"),
        "Π^(1)(x,x')",
        "Π^(2)(x,x')",
        "Π^(3)(x,x')",
        "Θ(x,x')",
    }


def test_scalars_have_the_names_of_their_layers_and_heads():
    text = tp.ntk(tp.programs.transformer(depth=2, heads=2, tied=True, eps=0.1)).text()
    lefts = set(re.findall(r"\S+(?= += )", text))
    assert {"s^(1,1)(x)[p,q]", "a^(2,1)(x)[p,q]", "v^(3)(x)[p]", "v^(4)(x')[q]"} <= lefts
    assert not re.search(r"\b(?:m|s|sum)\d+\[", text) and "(1/sqrt" not in text


def test_inner_products_of_the_data_have_no_names():
    first = tp.ntk(tied_mlp(depth=1)).equations[0]
    assert text(first.rhs).startswith("V[relu](⟨x")


PLAIN = [
    name for name in GALLERY if not GALLERY[name]().takes_axes and name not in ("two_branch", *SAMPLED)
]  # no positions
CASES = [
    pytest.param(GALLERY[name], kind, id=f"{name}-{kind}")
    for name in PLAIN
    for kind in ("backprop", "paths", "nngp")
    if not (name == "mean_readout" and kind in ("paths", "nngp"))
] + [pytest.param(tied_mlp, kind, id=f"tied_mlp-{kind}") for kind in ("backprop", "paths", "nngp")]


def kernel_of(build, kind):
    has_phi = "phi" in build().hyperparameters
    net = build(phi=tp.abstract("phi")) if has_phi else build()
    lengths = (3, 2) if net.takes_sequences else None
    return tp.nngp(net, lengths) if kind == "nngp" else tp.ntk(net, kind, lengths)


@pytest.mark.parametrize(("build", "kind"), CASES)
def test_names_are_unique_and_defined_before_they_are_used(build, kind):
    kernel = kernel_of(build, kind)
    lefts = [e.lhs for e in kernel.equations]
    assert len(set(lefts)) == len(lefts) == len({latex(s) for s in lefts})
    known, used = set(), set()
    for e in kernel.equations:
        here = {s for s in lefts if re.search(re.escape(str(s)) + r"(?!\.\d)", text(e.rhs))}
        assert here <= known
        used |= here
        known.add(e.lhs)
    assert used == set(lefts[:-1])  # nothing is defined in vain
    assert lefts[-1] == kernel.symbol


def read(right, kernel):
    """The right side of a line of text as sympy reads it, with the symbols of all equations."""
    known = sorted({s for e in kernel.equations for s in (e.lhs, *e.rhs.free_symbols)}, key=lambda s: -len(str(s)))
    pattern = "|".join(re.escape(str(s).replace(" ", "")) for s in known)
    by_text = {str(s).replace(" ", ""): (f"s{k}_", s) for k, s in enumerate(known)}
    coded = re.sub(pattern, lambda m: by_text[m[0]][0], re.sub(r"\s+", "", right))
    coded = re.sub("([⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda m: "**" + m[0].translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")), coded)
    return sp.sympify(coded.replace("·", "*"), locals=dict(by_text.values()))


@pytest.mark.parametrize(("build", "kind"), CASES)
def test_text_has_one_line_an_equation_after_its_header(build, kind):
    kernel = kernel_of(build, kind)
    header, _, body = kernel.text().partition("\n\n")
    assert header.startswith(f"{kernel.kind.upper()} of {kernel.net!r}")
    assert ("GIA check" in header) == (kind != "nngp")
    unbroken = re.sub(r"\n {3,}", " ", body).splitlines()
    assert len(unbroken) == len(kernel.equations)
    for line, e in zip(unbroken, kernel.equations, strict=True):
        left, right = (side.strip() for side in line.split(" = ", 1))
        assert left == str(e.lhs)
        if "sqrt" in right:  # sympy has one fraction or several where the text has one of roots of products
            positive = {s: sp.Dummy(positive=True) for s in e.rhs.free_symbols}
            assert sp.expand(read(right, kernel).xreplace(positive) - e.rhs.xreplace(positive)) == 0
        else:
            assert sorted(right.replace(" ", "")) == sorted(text(e.rhs).replace(" ", ""))
    assert "*" not in body and "Symbol" not in body


@pytest.mark.parametrize(("build", "kind"), CASES)
def test_text_fits_a_terminal(build, kind):
    *_, body = kernel_of(build, kind).text().partition("\n\n")
    assert max(map(len, body.splitlines())) <= 100


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(("build", "kind"), CASES)
def test_latex_is_well_formed(build, kind, closed):
    kernel = kernel_of(build, kind)
    tex = kernel.latex(closed)
    systems, prose = parts(tex)
    assert len(systems) == 1 + (closed and "In closed form" in prose) and tex.startswith(r"\begin{align*}")
    assert tex.isascii() and tex.count("{") == tex.count("}") and tex.count(r"\left") == tex.count(r"\right")
    assert tex.count(r"\bigl") == tex.count(r"\bigr")
    for system in systems:
        *rows, last = re.split(r" (?:\\displaybreak\[0\] )?\\\\\n", system)
        assert all(row.count("&") == 1 and "\\\\" not in row and "\n" not in row for row in (*rows, last))
    assert "&" not in re.sub(r"\\begin\{smallmatrix\}.*?\\end\{smallmatrix\}", "", prose) and "$$" not in prose
    assert prose.count("$") % 2 == 0 and not any("\n" in formula for formula in prose.split("$")[1::2])
    parser = MathTextParser("path")
    for formula in prose.split("$")[1::2]:
        matrix = r"\\bigl\(\\begin\{smallmatrix\} (.*?) & (.*?) \\\\ (.*?) & (.*?) \\end\{smallmatrix\}\\bigr\)"
        known = re.sub(matrix, r"(\1,\2,\3,\4)", formula).replace(r"\bigl", "").replace(r"\bigr", "")
        parser.parse(f"${known}$")
    for row in systems[0].split("\n"):
        if " &= " in row:
            parser.parse(f"${row.split(' &= ')[0]}$")


def parts(tex):
    """The insides of the align* environments, and what stands outside them."""
    pattern = r"\\begin\{align\*\}\n(.*?)\n\\end\{align\*\}"
    prose = re.sub(pattern, "", tex, flags=re.DOTALL)
    assert "align" not in prose and r"\text" not in prose and r"\quad" not in prose
    return re.findall(pattern, tex, re.DOTALL), prose.strip()


def lefts_of(kernel):
    return [row.split(" &= ")[0] for row in parts(kernel.latex())[0][0].split("\n") if " &= " in row]


@pytest.mark.parametrize(("build", "kind"), CASES)
def test_latex_leaves_out_nothing_but_other_arguments(build, kind):
    kernel = kernel_of(build, kind)
    printed, expected = lefts_of(kernel), [latex(e.lhs) for e in kernel.equations]
    assert printed == [left for left in expected if left in printed]
    prose = parts(kernel.latex())[1]
    both = "What is written for neither $(x,x)$ nor $(x',x')$ holds for them as for $(x,x')$." in prose
    for left in set(expected) - set(printed):
        stem, _, arguments = left.rpartition("(")
        pairs = {p for p in ("x,x", "x,x'", "x',x'") if f"{stem}({p})" in printed}
        assert arguments in ("x,x)", "x',x')")
        assert (pairs == {"x,x'"} and both) or (arguments == "x',x')" and "x,x" in pairs and "holds for both" in prose)


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_what_is_left_out_has_the_value_of_what_stands_for_it(name):
    kernel = tp.ntk(GALLERY[name]())
    derived = kernel._derive()
    times = {s: sorted((a.time or 0, b.time or 0)) for s, (a, b) in derived.trace.grams.items()}
    same = {s: 1 + 0.1 * t if t == u else 0.3 + 0.01 * t + 0.02 * u for s, (t, u) in times.items()}  # x' = x
    named = {latex(e.lhs): e.lhs for e in kernel.equations}
    printed = lefts_of(kernel)
    left_out = named.keys() - set(printed)
    assert left_out or name == "deep_linear"
    for left in left_out:
        stem = left.rpartition("(")[0]
        other = next(f"{stem}({pair})" for pair in ("x,x'", "x,x") if f"{stem}({pair})" in printed)
        own, standing = (derived.limit.evaluate(named[key], same) for key in (left, other))
        assert own == pytest.approx(standing, rel=1e-9)


def test_equations_that_differ_in_their_arguments_are_written_once():
    net = tp.programs.mlp(depth=2, phi=tp.abstract("phi"), sigma_w=1)
    (system,), prose = parts(tp.nngp(net).latex())
    assert system.split(" \\\\\n") == [
        r"\Sigma^{(2)}(x,x') &= \mathsf{V}_{\phi}\left[\langle x,x'\rangle\right]",
        r"K(x,x') &= \mathsf{V}_{\phi}\left[\Sigma^{(2)}(x,x')\right]",
    ]
    assert prose.split("\n") == [
        r"{\raggedright\noindent",
        "What is written for neither $(x,x)$ nor $(x',x')$ holds for them as for $(x,x')$.",
        r"Here $\mathsf{V}_{\phi}\bigl[q, c, q'\bigr] = \mathsf{E}\,\phi(u)\phi(v)$ with "
        r"$(u,v) \sim \mathcal{N}\bigl(0, \bigl(\begin{smallmatrix} q & c \\ c & q' \end{smallmatrix}\bigr)\bigr)$;",
        r"$\mathsf{V}_{\phi}\bigl[C(x,x')\bigr] = \mathsf{V}_{\phi}\bigl[C(x,x), C(x,x'), C(x',x')\bigr]$ "
        "for a covariance $C$;",
        r"and $\langle x,x'\rangle = x \cdot x'/d$.",
        r"\par}",
    ]


def test_equations_that_differ_in_more_are_all_written():
    kernel = tp.ntk(tp.programs.rnn(sigma_h=1))  # each input has its own initial state, which is the same for x and x
    lefts = lefts_of(kernel)
    assert r"\Sigma^{(1,1)}(x,x)" in lefts and r"\Sigma^{(2,2)}(x,x)" in lefts and r"\Sigma^{(2,2)}(x,x')" in lefts
    assert r"\Sigma^{(2,2)}(x',x')" not in lefts and "holds for both" in kernel.latex()
    whole = r"\left[\Sigma^{(1,1)}(x,x), \langle x_{1},x'_{1}\rangle, \Sigma^{(1,1)}(x',x')\right]"
    assert whole in kernel.latex()  # no covariance at (x,x), (x,x') and (x',x')


def line(left, *terms):
    return Line(left, [("+", factors) for factors in terms])


@pytest.mark.parametrize("own, kept", [
    (line("S(x,x)", ("E(x)^{2}", "a")), False),
    (line("S(x,x)", ("a", "E(x)", "E(x)")), False),
    (line("S(x,x)", ("E(x)^{2}", "b")), True),
    (line("S(x,x)", ("E(x)^{3}", "a")), True),
    (line("S(x,x)", ("E(x)^{2}", "a"), ("1",)), True),
    (line("S^{(2)}(x,x)", ("E(x)^{2}", "a")), True),
])  # fmt: skip
def test_a_line_is_left_out_only_when_another_says_it(own, kept):
    cross = line("S(x,x')", ("E(x')", "E(x)", "a"))
    lines, notes = once([own, cross], "x", "x'")
    assert (own in lines) == kept and bool(notes) != kept and cross in lines


def test_letters_in_braces_are_letters():
    own, cross = line(r"\mathsf{E}^{(2)}(x,x)", ("a",)), line(r"\mathsf{E}^{(2)}(x,x')", ("a",))
    assert once([own, cross], "x", "x'")[0] == [cross]


def test_primes_of_functions_are_no_arguments():
    own, cross = line("S(x,x)", ("max(x)",)), line("S(x,x')", ("max'(x)",))
    assert once([own, cross], "x", "x'")[0] == [own, cross]


def test_certificates_print_greek_letters_as_commands():
    tex = tp.unroll(tp.programs.mlp(depth=1), steps=2).certify().latex()
    assert tex.isascii() and r"K(x,\xi_{0}) \eta \chi_{0}" in tex and r"\langle x,\xi_{1}\rangle" in tex


def test_notebooks_show_the_latex():
    kernel = tp.ntk(tp.programs.mlp(depth=1))
    shown = kernel._repr_latex_()
    bare = kernel.latex().replace("{\\raggedright\\noindent\n", "").replace("\n\\par}", "")
    assert re.sub(r"\\[()]", "$", shown) == bare and "$" not in shown and r"\(\langle x,x'\rangle" in shown
    deep = tp.ntk(tp.programs.mlp(depth=8))
    assert r"\displaybreak" in deep.latex() and r"\displaybreak" not in deep._repr_latex_()
    assert r"\Theta(x,x') &= \mathsf{V}_{\operatorname{relu}}\left[" in kernel.latex()


def test_kernels_have_a_short_representation():
    assert repr(tp.ntk(tp.programs.deep_linear(depth=2), "paths")) == (
        "<NTK of deep_linear(depth=2, sigma_w=1, sigma_v=1) by paths>"
    )
    assert repr(tp.nngp(tied_mlp())) == "<NNGP of tied_mlp(depth=3, phi=relu) by forward>"


def test_the_header_says_what_was_assumed():
    right = tp.ntk(tp.programs.mean_readout())
    assert "GIA check: FAILS; every ZDot was computed, none assumed away" in right.text()
    assert "GIA check: FAILS; gradient independence was assumed, which is wrong here" in right.under_gia.text()
    assert "GIA check: passes; gradient independence holds" in tp.ntk(tp.programs.mlp(), "paths").text()


def test_latex_of_an_equation_with_symbols():
    net = tp.programs.mlp(depth=1, phi=tp.abstract("phi"), sigma_w=sp.Symbol("sigma_w", positive=True))
    assert r"\Sigma^{(1)}(x,x') &= \sigma_{w}^{2} \, \langle x,x'\rangle" in tp.ntk(net).latex()
    assert r"\mathsf{V}_{\phi'}\left[\Sigma^{(1)}(x,x')\right]" in tp.ntk(net).latex()
    whole = r"\mathsf{V}_{\phi'}\left[\Sigma^{(1)}(x,x), \Sigma^{(1)}(x,x'), \Sigma^{(1)}(x',x')\right]"
    assert whole in latex(tp.ntk(net).equations[-1].rhs)


def test_named_arrays_are_told_apart_by_letters_and_not_by_times():
    kernel = tp.nngp(tp.programs.two_branch())
    assert "T = " not in kernel.text()
    assert "Σ_y^(2)(x,x')  = V[relu](⟨y,y⟩, ⟨y,y'⟩, ⟨y',y'⟩)" in kernel.text()
    lines = kernel.recursion().text()
    assert "Σ_u^(l)(x,x') = V[relu](Σ_u^(l-1)(x,x'))   (2 ≤ l ≤ L-1)" in lines
    assert "K(x,x')       = V[relu](Σ_u^(L-1)(x,x'))·V[relu](Σ_y^(L)(x,x'))" in lines


def test_named_arrays_of_one_matrix_are_told_apart_by_their_places():
    @tp.network
    def shared(net, x, *, phi=tp.relu):
        a, b = (net.dense("W", phi(net.embed("U", x[name]))) for name in ("u", "y"))
        return net.readout("V", phi(a) + phi(b))

    text = tp.nngp(shared()).text()
    assert "T = " not in text
    assert all(f"Σ^({s},{t})(x,x')" in text for s in (1, 2) for t in (1, 2))
