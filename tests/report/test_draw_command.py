"""``tensorprog draw``: what it writes and prints, and its exit status."""

import pytest

from tensorprog.cli import main


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        status = main(["draw", *words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_a_picture_is_written_under_the_name_of_the_network(cli, tmp_path):
    assert cli("mlp") == (0, "wrote mlp.svg\n", "")
    assert (tmp_path / "mlp.svg").read_text(encoding="utf-8").startswith("<svg")


def test_png_and_options(cli, tmp_path):
    status, out, err = cli(
        "rnn", "--lengths", "3,2", "--path", "W", "--backprop", "-o", "a.png", "--highlight", "U(x1)"
    )
    assert (status, err) == (0, "")
    assert out.splitlines() == ["p: x²(x) —W→ Wx²(x) → x³(x)", "q: x¹(x') —W→ Wx¹(x') → x²(x')", "wrote a.png"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_number_of_a_path(cli):
    assert cli("rnn", "--path", "W:2")[1].count("—W→") == 1
    assert cli("rnn", "--path", "W:0")[1].count("—W→") == 3


def test_two_paths(cli):
    out = cli("mlp", "--path", "W2", "--path", "W3:0")[1]
    assert [line[:6] for line in out.splitlines()[:2]] == ["p: x¹ ", "q: x² "]


def test_a_path_along_which_nothing_is_trained_is_refused(cli):
    status, _, err = cli(
        "tied_autoencoder", "--sgd", "2", "--path", "U", "-p", "phi=sign"
    )  # the derivative of sign is 0
    assert status == 2 and "no path from U is drawn" in err


def test_a_training_run(cli, tmp_path):
    assert cli("mlp", "-p", "depth=2", "--sgd", "1")[0] == 0
    assert "forward, t = 1" in (tmp_path / "mlp.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("words, message", [
    (("mlp", "-o", "a.gif"), ".svg, .pdf, .png or .tex"),
    (("mlp", "-o", "no/folder/a.svg"), "existing folder"),
    (("mlp", "--path", "Q"), "no paths start at 'Q'"),
    (("mlp", "--path", "W2:x"), "the number of a path"),
    (("mlp", "--path", "W2:7"), "no path 7"),
    (("mlp", "--highlight", "nothing"), "no variable 'nothing'"),
    (("mlp", "-p", "depth=400"), "at most 300"),
    (("mlp", "--sgd", "0"), "steps must be a positive integer"),
    (("mlp", "--sgd", "1", "--backprop"), "its backward passes included"),
    (("mean_readout", "--path", "W2"), "simple GIA check"),
])  # fmt: skip
def test_bad_input_has_exit_status_2(cli, words, message):
    status, _, err = cli(*words)
    assert status == 2 and message in err and err.startswith("tensorprog: ")
