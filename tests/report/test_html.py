"""The report page: what it says, that it is self-contained and escapes what users give, and its refusals."""

import html
import html.parser
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.ceilings import CEILINGS
from tensorprog.cli import main
from tensorprog.report.html import page
from tensorprog.report.origins import distributions
from tensorprog.report.snippet import code
from tensorprog.report.subject import subject
from tensorprog.report.tikz import math
from tests.gallery import inputs_of, names

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(html.parser.HTMLParser):
    """Checks that tags close in order, and collects texts and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes, self.texts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.texts.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def data(net, count=2):
    if net.form not in ("vectors", "sequences"):
        return inputs_of(net, count)
    rng = np.random.default_rng(0)
    return (
        [rng.standard_normal((t, 3)) for t in (2, 3)[:count]]
        if net.takes_sequences
        else rng.standard_normal((count, 3))
    )


@pytest.fixture(scope="module")
def made():
    cache = {}

    def of(name):
        if name not in cache:
            net = tp.programs.GALLERY[name]()
            cache[name] = tp.verify(net, data(net), widths=(16, 32), seeds=8)
        return cache[name]

    return of


@pytest.mark.parametrize("name", names(("cnn", "gcn")))
def test_a_page_says_first_what_is_claimed_and_whether_it_held(made, name):
    v = made(name)
    text = page(v)
    reader = read(text)
    said = "".join(reader.texts)
    for claim in v.claims:
        assert claim.name in said and claim.detail in said
    assert said.index(v.claims[0].name) < said.index("Architecture")
    assert ("claims hold" in said) == v.passed
    assert "math" in reader.seen and "svg" in reader.seen and 'class="tex"' not in text


@pytest.mark.parametrize("name", names(("cnn", "gcn")))
def test_a_page_needs_no_network_and_no_script(made, name):
    reader = read(page(made(name)))
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(reader.seen)
    addresses = [v for k, v in reader.attributes if k in ("src", "href", "action", "data") or k.startswith("on")]
    assert all(a.startswith("#") for a in addresses)
    style = re.search(r"<style>(.*?)</style>", page(made(name)), re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style


def test_the_table_holds_the_numbers_of_every_way(made):
    v = made("mlp")
    theta = tp.ntk(v.evidence.net)(np.concatenate([v.evidence.data[i] for i in range(2)]))
    said = "".join(read(page(v)).texts)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        assert said.count(f"{theta[i, j]:.8g}") == 3  # backpropagation, path sums, one SGD step
    mean = v.evidence.runs["NTK"][1][-1][:, 0, 1].mean()
    assert f"{mean:.2f}"[:4] in said


def test_the_evidence_is_that_of_the_claims(made):
    v = made("mlp")
    limit, runs = v.evidence.runs["NTK"]
    assert [r.shape for r in runs] == [(8, 2, 2)] * 2
    z = tp.finite.estimate.extrapolate(v.widths, [r[:, [0, 0, 1], [0, 1, 1]] for r in runs]).zscores(
        limit[[0, 0, 1], [0, 1, 1]]
    )
    claim = next(c for c in v.claims if c.name == "NTK = empirical NTK")
    assert f"{np.abs(z).max():.2f}" in claim.detail


def test_what_gradient_independence_would_give_is_shown_where_it_fails(made):
    said = "".join(read(page(made("mean_readout"))).texts)
    assert "wrongly" in said and "Path sums do not apply" in said
    assert "wrongly" not in "".join(read(page(made("mlp"))).texts)


def test_a_failed_claim_is_said_at_once(made):
    v = made("deep_linear")
    claims = [*v.claims[:2], tp.Claim("the moon is <b>cheese</b>", False, "no & never")]
    text = page(tp.Verification(v.title, claims, v.widths, v.seeds, v.errors, v.evidence))
    said = "".join(read(text).texts)
    assert "1 of 3 claims failed" in said and "the moon is <b>cheese</b>" in said
    assert 'class="verdict failed"' in text and "<b>" not in text


@tp.network
def hostile(net, x, *, note="</style><script>alert(1)</script>", sigma=1):
    """<img src=x onerror=alert(1)> & "quotes"."""
    return net.readout("<V>", tp.tanh(net.dense('W"&<', tp.tanh(net.embed("<U onload='x'>", x, std=sigma)))))


def test_whatever_users_give_is_escaped():
    v = tp.verify(hostile(), [[1.0, 2.0], [0.5, -1.0]], widths=(8, 16), seeds=4)
    v.evidence.command = "tensorprog verify '<script>alert(2)</script>'"
    text = page(v)
    reader = read(text)
    assert not {"script", "img"} & set(reader.seen) and not any(k.startswith("on") for k, _ in reader.attributes)
    said = "".join(reader.texts)
    assert "<script>alert(2)</script>" in said and "</style><script>alert(1)</script>" in said and "<V>" not in text


def test_a_page_says_how_to_do_it_again(tmp_path, capsys):
    path = tmp_path / "r.html"
    words = [
        "verify",
        "mlp",
        "-p",
        "depth=2",
        "--inputs",
        "2",
        "--widths",
        "16,32",
        "--seeds",
        "4",
        "--report",
        str(path),
    ]
    assert main(words) in (0, 1)
    said = "".join(read(path.read_text(encoding="utf-8")).texts)
    assert f"tensorprog {' '.join(words)}" in said
    assert f"wrote {path}" in capsys.readouterr().out
    for fact in ("seeds", "0 to 3 at every width", "numpy", np.__version__, "16, 32", "sigma_w"):
        assert fact in said
    X = np.random.default_rng(0).standard_normal((2, 4))
    assert repr(X[1, 3].item()) in said  # with every digit


def test_symbols_are_listed_with_their_numbers():
    s = sp.Symbol("sigma_w")
    v = tp.verify(tp.programs.mlp(depth=2, sigma_w=s), [[1.0, 2.0]], widths=(8, 16), seeds=4, values={s: 1.5})
    assert "1.5" in "".join(read(page(v)).texts)


def test_a_network_too_large_to_draw_still_has_a_report(monkeypatch, made):
    monkeypatch.setitem(CEILINGS, "drawn", replace(CEILINGS["drawn"], most=3))
    assert "at most 3" in "".join(read(page(made("mlp"))).texts)


def test_the_origin_of_every_zdot_term_is_given():
    rows = {r.name: r for r in distributions(tp.programs.tied_autoencoder(phi=tp.abstract("phi")))}
    (total, term) = rows["h³"].lines
    assert total.tex == r"\dot Z^{h^{3}} = a \, Z^{h^{1}}"
    assert term.tex.endswith(r"= \mathsf{E}_{\phi'}\left[\langle x,x\rangle\right]") and "W h¹" in term.reason
    (none,) = rows["h²"].lines
    assert none.tex.endswith("= 0") and "has not been used before" in none.reason
    (zero,) = rows["dx²"].lines  # W dh³: Wᵀx² came before, but dh³ is odd in the readout
    assert zero.tex.startswith(r"\mathbb{E}\frac{\partial Z^{dh^{3}}}") and zero.tex.endswith("= 0")


@pytest.mark.parametrize("name", names(("cnn", "gcn")))
def test_vectors_are_named_as_in_the_drawing(name):
    net = tp.programs.GALLERY[name]()
    lengths = [3] if net.form == "sequences" else None
    rows = list(distributions(net, lengths))
    s = subject(net, backprop=True, lengths=lengths)
    assert [s.name(v) for v in s.drawn] == tp.draw(net, backprop=True, lengths=lengths).names
    assert [r.name for r in rows] == [s.name(v) for v in s.drawn if v.kind == "vector"]
    for row in rows:
        assert re.match(rf"Z\^\{{{re.escape(math(row.name))}\}}(\[p\])? ", row.z) and not re.search(
            r"Z\^\{d?[gx]_", row.z
        )


def test_operands_are_named_as_in_the_drawing():
    rows = {r.name: r for r in distributions(tp.programs.residual_mlp())}
    assert rows["h²"].how == "= W²x¹ + h¹" and rows["h³"].how == "= W³x² + h²"
    assert rows["W²x¹"].how == "= W² x¹" and rows["h¹"].how == "= U(x), initial vector"
    assert rows["h³"].z == r"Z^{h^{3}} = Z^{h^{1}} + \hat Z^{W^{2}x^{1}} + \hat Z^{W^{3}x^{2}}"


def test_initial_vectors_come_with_their_law_and_one_covariance_matrix():
    rows = {r.name: r for r in distributions(tp.programs.rnn(), [3])}
    assert rows["h¹"].z == r"Z^{h^{1}} \sim \mathcal{N}\left(0, \langle x_{1},x_{1}\rangle\right)"
    assert not rows["h¹"].lines and not rows["U(x₂)"].lines
    (line,) = rows["U(x₃)"].lines
    vector, matrix = re.findall(r"\\begin\{pmatrix\} (.*?) \\end\{pmatrix\}", line.tex)
    assert vector.split(r" \\ ") == ["Z^{h^{1}}", "Z^{U(x_{2})}", "Z^{U(x_{3})}"]
    entries = [row.split(" & ") for row in matrix.split(r" \\ ")]
    assert entries == [[rf"\langle x_{{{min(s, t)}}},x_{{{max(s, t)}}}\rangle" for t in (1, 2, 3)] for s in (1, 2, 3)]


# ---- formulas --------------------------------------------------------------------------------------------


def equations(text):
    """The formulas of the page, each as the texts of its parts."""
    rows = re.findall(r'<div class="eq" tabindex="0">(.*?)</div>', text)
    return [["".join(read(part).texts) for part in re.findall(r"<math.*?</math>", row)] for row in rows]


@pytest.mark.parametrize("name", names(("cnn", "gcn")))
def test_every_formula_scrolls_or_wraps(made, name):
    text = page(made(name))
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert re.search(r"pre, \.scroll, \.eq \{ overflow-x: auto", style)
    assert re.search(r"\.legend li \{ overflow-x: auto", style)
    outside = re.sub(r'<div class="eq" tabindex="0">.*?</div>|<div class="legend">.*?</div>', "", text, flags=re.DOTALL)
    assert "<math" not in outside
    assert all(len(row) > 2 for row in equations(text) if len("".join(row)) > 60 and not row[0].startswith("Cov"))


def test_lines_break_before_signs_and_dots(made):
    rows = equations(page(made("mlp")))
    theta = next(row for row in rows if row[0] == "Θ(x,x′)")
    assert theta[1][0] == "=" and {part[0] for part in theta[2:]} == {"+", "⋅"}
    assert "".join(theta).replace(" ", "") == (
        "Θ(x,x′)=Π(1)(x,x′)⋅Σ(1)(x,x′)+Π(2)(x,x′)⋅Σ(2)(x,x′)+𝖵relu[Σ(3)(x,x′)]+𝖵step[Σ(3)(x,x′)]⋅Σ(3)(x,x′)"
    )
    assert '<mo form="infix">+</mo>' in page(made("mlp"))


def test_covariances_are_matrices(made):
    for name in ("mlp", "rnn"):
        text = page(made(name))
        assert "[[" not in "".join(read(re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL)).texts)
        q, c, p = "<mi>q</mi>", "<mi>c</mi>", "<msup><mi>q</mi><mo>′</mo></msup>"
        cells = "".join(f"<mtr><mtd>{a}</mtd><mtd>{b}</mtd></mtr>" for a, b in ((q, c), (c, p)))
        assert f"<mtable>{cells}</mtable>" in text


# ---- to do it again in Python ------------------------------------------------------------------------------


def block(text):
    return html.unescape(re.search(r'<pre tabindex="0" class="python"><code>(.*?)</code></pre>', text, re.DOTALL)[1])


def run_as_pasted(text, folder):
    """What a fresh interpreter makes of the block."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"], input=block(text), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["rnn", "mlp"])
def test_the_block_in_python_runs_as_pasted(made, name, tmp_path):
    v = made(name)
    assert run_as_pasted(page(v), tmp_path).strip() == v.text().strip()
    again = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert v.evidence.fingerprint in again


SCALE = sp.sqrt(2)


def doubled(h):
    """What a network may call."""
    return SCALE * h


@tp.network
def own(net, x, *, phi=tp.tanh, widen=True, sigma=(1, 0.5)):
    h = doubled(net.embed("U", np.asarray and x, std=sigma[0]))
    return net.readout("V", phi(h), std=sigma[1]), net.average(phi(h) if widen else h)


def test_the_block_holds_a_network_of_ones_own_and_all_it_needs(tmp_path):
    softer = tp.declare("softer_for_blocks", lambda x: sp.tanh(x) / 2, parity=-1)
    values = {"s": 0.75}
    net = own(phi=softer, sigma=[sp.Symbol("s", positive=True), 1])
    v = tp.verify(net, np.linspace(-1, 1, 6).reshape(2, 3), widths=(8, 16), seeds=4, values=values, outputs=0)
    text = block(page(v))
    for line in ("SCALE = sp.sqrt(2)", "def doubled(h):", "    return SCALE * h", "@tp.network", "import numpy as np",
                 "values={'s': 0.75}, outputs=0"):  # fmt: skip
        assert line in text
    assert run_as_pasted(page(v), tmp_path).strip() == v.text().strip()


def test_many_inputs_are_packed_to_the_last_digit():
    X = np.random.default_rng(0).standard_normal((40, 20))
    v = tp.verify(tp.programs.deep_linear(depth=1), X, widths=(4, 8), seeds=2)
    found = {}
    exec(block(page(v)).partition("v = tp")[0], found)
    assert np.array_equal(np.array(found["X"]), X) and "np.frombuffer" in block(page(v))


def test_what_cannot_be_written_is_named_in_the_block():
    local = object()

    @tp.network
    def odd(net, x):
        return net.readout("V", net.embed("U", x), std=1 if local else 2)

    v = tp.verify(odd(), [[1.0, 2.0]], widths=(4, 8), seeds=2)
    assert "# define local here: <object object" in block(page(v))
    assert code([1, local]) is None and code({1: local}) is None


@tp.network
def with_functions(net, x, *, phi=np.sin, psi=None):
    return net.readout("V", (psi or tp.tanh)(net.embed("U", x)))


def test_functions_that_have_no_code_are_left_to_defaults_or_named():
    v = tp.verify(with_functions(psi=lambda h: tp.tanh(h)), [[1.0, 2.0]], widths=(4, 8), seeds=2)
    text = block(page(v))
    assert "net = with_functions(psi=...)" in text and "# put for psi: <function" in text


VALUES = [
    3, -0.5, True, None, "a'b", [1, (2,)], {"a": 1}, sp.Rational(1, 3), sp.sqrt(3), sp.pi / 2, sp.Symbol("s"),
    sp.Symbol("t", positive=True) ** 2 + 1, np.float64(0.1), tp.relu, tp.leaky_relu(0.3), tp.polynomial(1, 2),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_values_are_written_as_what_they_are(value):
    found = {"np": np, "sp": sp, "tp": tp}
    exec(f"again = {code(value)}", found)
    assert found["again"] == value or repr(found["again"]) == repr(value)
    assert type(found["again"]) is type(value) or isinstance(value, np.generic | sp.Integer)


def test_a_report_is_saved(made, tmp_path):
    path = made("mlp").save(tmp_path / "r.html")
    assert path.read_text(encoding="utf-8") == page(made("mlp"))


def test_a_verification_without_evidence_has_no_report(tmp_path):
    with pytest.raises(tp.DataError, match=r"tp\.verify\(net, inputs\)"):
        tp.Verification("t", [tp.Claim("c", True, "")]).save(tmp_path / "r.html")


@pytest.mark.parametrize("name", ["r.html", "r.txt", "r.png"])
def test_a_report_that_cannot_be_written_is_refused(made, tmp_path, name):
    with pytest.raises(tp.DataError, match=r"cannot write .*r\.(html|txt|png)"):
        made("mlp").save(tmp_path / "no" / "folder" / name)


@pytest.mark.parametrize("name", ["r.pdf", "no/folder/r.html"])
def test_the_command_line_refuses_a_report_before_it_runs_anything(capsys, name, monkeypatch):
    monkeypatch.setattr("tensorprog.commands.verify", None)
    assert main(["verify", "mlp", "--report", name]) == 2
    assert "use a name ending in .html, in an existing folder" in capsys.readouterr().err
