"""The report page: what it says, that it is self-contained and escapes what users give, and its refusals."""

import html.parser
import re

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.cli import main
from tensorprog.report.html import page
from tensorprog.report.origins import distributions

GALLERY = sorted(tp.programs.GALLERY)
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


@pytest.mark.parametrize("name", GALLERY)
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


@pytest.mark.parametrize("name", GALLERY)
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
    monkeypatch.setattr("tensorprog.report.subject.LARGEST", 3)
    assert "at most 3" in "".join(read(page(made("mlp"))).texts)


def test_the_origin_of_every_zdot_term_is_given():
    rows = {r.name: r for r in distributions(tp.programs.tied_autoencoder(phi=tp.abstract("phi")))}
    (total, term) = rows["g4"].lines
    assert total.tex == r"\dot Z^{g_{4}} = a \, Z^{U(x)}"
    assert term.tex.endswith(r"= \mathsf{E}_{\phi'}\left[\langle x,x\rangle\right]") and "W U(x)" in term.reason
    (none,) = rows["g2"].lines
    assert none.tex.endswith("= 0") and "has not been used before" in none.reason
    (zero,) = rows["dx₈"].lines  # W dg4: Wᵀx3 came before, but dg4 is odd in the readout
    assert zero.tex.startswith(r"\mathbb{E}\frac{\partial Z^{dg_{4}}}") and zero.tex.endswith("= 0")


def test_operands_are_named_as_in_the_drawing():
    rows = {r.name: r for r in distributions(tp.programs.residual_mlp())}
    assert rows["x5"].how == "= U(x) + W2(x)"  # x4 is a copy of W2(x), which the drawing leaves out
    assert rows["x10"].how == "= W3(x) + x5"


def test_initial_vectors_come_with_their_law():
    rows = {r.name: r for r in distributions(tp.programs.rnn(), [2])}
    assert rows["U(x1)"].z == r"Z^{U(x1)} \sim \mathcal{N}\left(0, \langle x_{1},x_{1}\rangle\right)"
    assert [line.tex for line in rows["U(x2)"].lines] == [
        r"\operatorname{Cov}(Z^{U(x2)}, Z^{U(x1)}) = \langle x_{1},x_{2}\rangle"
    ]


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
