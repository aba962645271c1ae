"""The table of what is covered: asked of every architecture, none left out, nothing claimed without a check."""

from pathlib import Path

import pytest

from tensorprog import gallery
from tensorprog.cli import main
from tensorprog.errors import DataError, ProgramError
from tensorprog.gallery import examine, examine_all, html, markdown, text, write_between_markers
from tensorprog.programs import GALLERY

README = Path(__file__).parents[1] / "README.md"
FILES = {p.stem for p in (Path(__file__).parents[1] / "programs").glob("*.py")} - {"__init__"}


@pytest.fixture(scope="module")
def entries():
    return examine_all()


@pytest.mark.slow
def test_every_file_of_the_gallery_has_a_row_and_no_claim_fails(entries):
    assert {e.name for e in entries} == FILES
    assert [e for e in entries if not e.passed] == []


@pytest.mark.slow
def test_the_table_of_the_readme_is_what_the_command_makes(entries):
    found = README.read_text(encoding="utf-8").partition(gallery.START)[2].partition(gallery.END)[0]
    timeless = lambda table: [row.rsplit("|", 2)[0] for row in table.strip().splitlines()]  # noqa: E731
    assert timeless(found) == timeless(markdown(entries)), "run make readme"


@pytest.mark.slow
def test_what_does_not_apply_has_a_reason(entries):
    (mean,) = [e for e in entries if e.name == "mean_readout"]
    assert mean.claims["NNGP"].passed is None and "no Gaussian process" in mean.claims["NNGP"].detail
    assert mean.claims["train"].passed is None and "√n" in mean.claims["train"].detail
    assert "mean_readout, NNGP: this network's readout" in text(entries)
    assert f'title="{mean.claims["NNGP"].detail[:10]}' in html([mean]).replace("&#x27;", "'")


PAIR = '''"""Two inputs, added: f = V·φ(U u + Y y)/√n.

More."""

import tensorprog as tp


def inputs(rng, count):
    return [rng.standard_normal((2, 5)) for _ in range(count)]


@tp.network
def pair(net, x, *, phi=tp.erf):
    u, y = x
    return net.readout("V", phi(net.embed("U", u) + net.embed("Y", y)))
'''


def test_a_new_file_has_a_row_with_its_own_inputs(monkeypatch):
    namespace = {"__name__": "a_pair"}
    exec(PAIR, namespace)
    monkeypatch.setitem(GALLERY, "pair", namespace["pair"])
    found = examine("pair")
    assert found.summary == "Two inputs, added: f = V·φ(U u + Y y)/√n."
    assert found.subject.inputs(4)[3].shape == (2, 5)
    assert found.passed and found.claims["NTK"].passed and found.claims["recursion"].passed is None


def test_a_claim_that_fails_is_shown_and_is_the_exit_status(monkeypatch, capsys):
    monkeypatch.setattr(gallery, "COMPILED", -1.0)
    assert main(["gallery", "deep_linear"]) == 1
    out = capsys.readouterr().out
    assert "NO" in out and "deep_linear, compiled: largest difference" in out


def test_the_table_replaces_what_stood_between_the_markers(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{gallery.START}\nold\n{gallery.END}\nafter\n", encoding="utf-8")
    assert main(["gallery", "deep_linear", "--write", str(page)]) == 0
    found = page.read_text(encoding="utf-8")
    assert found.startswith("before\n") and found.endswith("after\n") and "| deep_linear | yes |" in found
    assert "old" not in found and str(page) in capsys.readouterr().out


@pytest.mark.parametrize("form, start", [("--markdown", "| architecture |"), ("--html", "<table>")])
def test_the_command_prints_the_table(form, start, capsys):
    assert main(["gallery", "deep_linear", form]) == 0
    assert capsys.readouterr().out.startswith(start)


def test_reasons_stand_below_the_table_where_they_are_asked_for(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{gallery.START}\n{gallery.END}\n", encoding="utf-8")
    assert main(["gallery", "hopfield", "--reasons", "--write", str(page)]) == 0
    assert "\n\n- hopfield, recursion: hopfield(" in page.read_text(encoding="utf-8")


def test_a_file_without_markers_and_an_unknown_name_are_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(DataError, match="no place for the table"):
        write_between_markers(page, "table")
    with pytest.raises(ProgramError, match="did you mean 'mlp'"):
        examine("mpl")
