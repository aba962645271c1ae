"""The command line: what it prints, what it writes, and its exit status for every kind of input."""

import importlib
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.cli import WIDTHS, main
from tensorprog.commands import parse_value
from tests.gallery import DEAR

verify_module = importlib.import_module("tensorprog.verify")
GALLERY = tp.programs.GALLERY
SMALL = ["--widths", "32,64", "--seeds", "4"]

MY_NET = '''
import tensorprog as tp
from tensorprog import network

@network
def my_net(net, x, *, phi=tp.relu, sigma_w=1):
    """One hidden layer and a residual one."""
    h = net.embed("U", x, std=sigma_w)
    return net.readout("V", phi(h + net.dense("W", phi(h), std=sigma_w)))
'''

TWO_NETS = (
    MY_NET
    + """
@network
def my_linear(net, x):
    return net.readout("V", net.embed("U", x))
"""
)


@pytest.fixture
def cli(capsys):
    """Run the command line: (exit status, standard output, standard error)."""

    def run(*words):
        try:
            status = main([str(w) for w in words])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def my_file(tmp_path):
    path = tmp_path / "my_file.py"
    path.write_text(MY_NET)
    return path


@pytest.fixture
def output(cli):
    """The standard output of a command that succeeds."""

    def run(*words):
        status, out, err = cli(*words)
        assert (status, err) == (0, "")
        return out

    return run


def equations(text):
    """The lines of a printed kernel; the order of independent equations is not part of what is promised."""
    return sorted(text.splitlines())


# ---- list and derive -----------------------------------------------------------------------------


def test_list_shows_every_network_with_its_hyperparameters(output):
    out = output("list")
    assert [line.split(":")[0] for line in out.splitlines() if not line.startswith(" ")] == sorted(GALLERY)
    for name, build in GALLERY.items():
        hyper = [p for p in inspect.signature(build).parameters.values() if p.kind is p.KEYWORD_ONLY]
        shown = ", ".join(str(p.replace(annotation=p.empty)).replace(" = ", "=") for p in hyper)
        assert f"    {shown}" in out.splitlines(), name
    assert "The multilayer perceptron" in out


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["list"], ["verify", "--help"], ["verfiy"]], ids=" ".join)
def test_what_computes_nothing_starts_without_the_engine(words):
    code = f"""
import sys
from tensorprog.cli import WIDTHS, main
try:
    main({words})
except SystemExit:
    pass
print({{"numpy", "sympy", "scipy", "networkx", "matplotlib", "rich", "tensorprog.commands"}} & {{*sys.modules}})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "set()"


def test_the_version_is_that_of_the_package(cli):
    assert cli("--version") == (0, f"tensorprog {tp.__version__}\n", "")
    run = subprocess.run([sys.executable, "-m", "tensorprog", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"tensorprog {tp.__version__}\n"


def test_the_default_widths_are_those_of_verify():
    assert ",".join(map(str, verify_module.WIDTHS)) == WIDTHS


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEAR)) for n in GALLERY])
def test_derive_prints_the_equations_of_the_ntk(output, name):
    net = GALLERY[name]()
    out = output("derive", name)
    kernel = tp.ntk(net)
    lines = kernel.text().splitlines()
    assert equations("\n".join(out.splitlines()[: len(lines)])) == sorted(lines)
    assert ("what assuming gradient independence would give" in out) == (name == "mean_readout")


def test_derive_prints_the_wrong_kernel_beside_the_right_one(output):
    kernel = tp.ntk(tp.programs.mean_readout())
    out, wrong = output("derive", "mean_readout").splitlines(), kernel.under_gia.text().splitlines()
    assert sorted(out[-len(wrong) :]) == sorted(wrong)
    assert "would give" not in output("derive", "mean_readout", "--latex")


@pytest.mark.parametrize("name", sorted(set(GALLERY) - {"mean_readout", *DEAR}))
def test_derive_prints_the_nngp(output, name):
    assert equations(output("derive", name, "--kernel", "nngp")) == equations(tp.nngp(GALLERY[name]()).text())


@pytest.mark.parametrize("method", ["paths", "enumeration"])
def test_derive_prints_other_derivations(output, method):
    out = output("derive", "mlp", "--method", method)
    assert equations(out) == equations(tp.ntk(tp.programs.mlp(), method=method).text()) and f"by {method}" in out


def test_derive_prints_latex(output):
    out = output("derive", "mlp", "--latex")
    assert out.startswith("\\begin{align*}\n") and out.count("\\end{align*}\n") == 1
    assert out.rstrip("\n") == tp.ntk(tp.programs.mlp()).latex()


def test_derive_takes_the_lengths_of_both_sequences(output):
    out = output("derive", "rnn", "--lengths", "3,2")
    assert equations(out) == equations(tp.ntk(tp.programs.rnn(), lengths=(3, 2)).text())
    assert "T = 3, T' = 2" in out


def test_derive_takes_symbols_and_an_abstract_nonlinearity(output):
    w, b = (sp.Symbol(s, positive=True) for s in ("sigma_w", "b"))
    net = tp.programs.mlp(phi=tp.abstract("phi"), sigma_w=w, sigma_b=b)
    out = output("derive", "mlp", "-p", "phi=phi", "-p", "sigma_w=sigma_w", "--param", "sigma_b=b")
    assert equations(out) == equations(tp.ntk(net).text()) and "σ_w²" in out and "V[φ']" in out


def test_derive_takes_one_value_per_layer(output):
    net = tp.programs.mlp(depth=2, sigma_w=[1, sp.sqrt(2)], sigma_b=[0, sp.Rational(1, 3)])
    out = output("derive", "mlp", "-p", "depth=2", "-p", "sigma_w=1,sqrt(2)", "-p", "sigma_b=0,1/3")
    assert equations(out) == equations(tp.ntk(net).text())


def test_derive_takes_truth_values(output):
    out = output("derive", "rnn", "-p", "tied=false")
    assert equations(out) == equations(tp.ntk(tp.programs.rnn(tied=False)).text())


# ---- a user's file -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ":my_net"])
def test_derive_reads_a_network_from_a_file(output, my_file, suffix):
    out = output("derive", f"{my_file}{suffix}", "-p", "sigma_w=2", "-p", "phi=erf")
    assert out.startswith("NTK of my_net(phi=erf, sigma_w=2), by backprop")
    assert re.search(r"Θ\(x,x'\) += ", out)


def test_verify_reads_a_network_from_a_file(cli, my_file):
    status, out, _ = cli("verify", f"{my_file}:my_net", *SMALL, "-p", "phi=erf")
    assert status == 0 and "all claims hold" in out


@pytest.mark.parametrize("name", ["my_net", "my_linear"])
def test_a_network_is_chosen_by_name_from_a_file_with_two(output, tmp_path, name):
    (tmp_path / "two.py").write_text(TWO_NETS)
    assert output("derive", f"{tmp_path / 'two.py'}:{name}").startswith(f"NTK of {name}(")


# ---- verify --------------------------------------------------------------------------------------


def test_verify_prints_every_claim_and_writes_its_files(cli, tmp_path):
    out_folder = tmp_path / "out" / "linear"
    status, out, _ = cli("verify", "deep_linear", *SMALL, "--inputs", 2, "--dim", 3, "--out", out_folder)
    assert status == 0
    assert {p.name for p in out_folder.iterdir()} == {"runs.jsonl", "verdict.txt", "error.png"}
    verdict = (out_folder / "verdict.txt").read_text(encoding="utf-8")
    assert verdict.startswith(
        "deep_linear(depth=3, sigma_w=1, sigma_v=1): all claims hold (widths 32, 64, 4 seeds each)"
    )
    for line in verdict.splitlines()[1:]:
        assert " ".join(line.split()[1:4]) in out
    assert (out_folder / "error.png").read_bytes().startswith(b"\x89PNG")
    assert f"wrote {out_folder / 'verdict.txt'} and {out_folder / 'error.png'}" in out
    data = np.random.default_rng(0).standard_normal((2, 3))
    expected = tp.verify(tp.programs.deep_linear(), data, widths=(32, 64), seeds=4)
    assert verdict == expected.text() + "\n"


def test_verify_without_out_writes_nothing(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("verify", "deep_linear", *SMALL)[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_verify_resumes_from_its_folder(cli, tmp_path, monkeypatch):
    words = ["verify", "deep_linear", *SMALL, "--out", tmp_path]
    cli(*words)
    verdict, runs = (tmp_path / "verdict.txt").read_text(), (tmp_path / "runs.jsonl").read_text()
    (tmp_path / "runs.jsonl").write_text("".join(runs.splitlines(keepends=True)[:-2]))
    assert cli(*words)[0] == 0
    assert (tmp_path / "runs.jsonl").read_text() == runs and (tmp_path / "verdict.txt").read_text() == verdict
    monkeypatch.setattr("tensorprog.finite.runs._run", None)  # nothing is left to run
    assert cli(*words)[0] == 0


def test_an_interruption_says_how_to_resume(cli, tmp_path, monkeypatch):
    words = ["verify", "deep_linear", *SMALL, "--out", tmp_path]
    run = importlib.import_module("tensorprog.finite.runs")._run

    def interrupted(finite, gvars, width, seeds):
        if width == 64:
            raise KeyboardInterrupt
        return run(finite, gvars, width, seeds)

    monkeypatch.setattr("tensorprog.finite.runs._run", interrupted)
    status, _, err = cli(*words)
    assert status == 130 and "the same command resumes" in err
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 1 + 4
    monkeypatch.undo()
    assert cli(*words)[0] == 0


@pytest.mark.parametrize("dim", [1, 5])
def test_verify_reads_data(cli, tmp_path, dim):
    data = np.random.default_rng(1).standard_normal((2, dim))
    np.save(tmp_path / "data.npy", data)
    assert cli("verify", "deep_linear", *SMALL, "--data", tmp_path / "data.npy", "--out", tmp_path)[0] == 0
    expected = tp.verify(tp.programs.deep_linear(), data, widths=(32, 64), seeds=4)
    assert (tmp_path / "verdict.txt").read_text(encoding="utf-8") == expected.text() + "\n"


def test_verify_takes_sequences_from_a_file_or_of_the_given_lengths(cli, tmp_path):
    np.save(tmp_path / "data.npy", np.ones((2, 2, 3)))
    status, out, _ = cli("verify", "rnn", *SMALL, "--data", tmp_path / "data.npy")
    assert status == 0 and "at a random point, (T, T') = (2, 2)" in out
    status, out, _ = cli("verify", "rnn", *SMALL, "--lengths", "1,2")
    assert status == 0 and "at a random point, (T, T') = (1, 1), (1, 2), (2, 2)" in out


def test_the_data_seed_changes_the_data(cli, tmp_path):
    headers = []
    for k, seed in enumerate([0, 0, 1]):
        cli("verify", "deep_linear", *SMALL, "--data-seed", seed, "--out", tmp_path / str(k))
        headers.append(json.loads((tmp_path / str(k) / "runs.jsonl").read_text().splitlines()[0]))
    assert headers[0] == headers[1] != headers[2]


def test_a_failed_claim_gives_exit_status_1(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(
        verify_module._Check, "ways_agree", lambda check: tp.Claim("paths", False, "[b]they differ[/b]")
    )
    status, out, _ = cli("verify", "deep_linear", *SMALL, "--out", tmp_path)
    assert status == 1
    assert "FAILED" in out and "SOME CLAIM FAILED" in out and "[b]they differ[/b]" in out
    assert "FAILED paths" in (tmp_path / "verdict.txt").read_text(encoding="utf-8")


# ---- bad input: exit status 2, and the culprit is named -------------------------------------------


@pytest.mark.parametrize(
    ("words", "culprits"),
    [
        (["derive", "mpl"], ["'mpl'", "did you mean 'mlp'?"]),
        (["derive", "qqqq"], ["'qqqq'", "known: batchnorm_mlp"]),
        (["derive", "mlp", "-p", "sigmaw=2"], ["mlp", "'sigmaw'", "did you mean 'sigma_w'?"]),
        (["derive", "mlp", "-p", "phi=rellu"], ["'rellu'", "did you mean 'relu'?"]),
        (["derive", "mlp", "-p", "phi=3"], ["unknown nonlinearity '3'"]),
        (["derive", "mlp", "-p", "sigma_w"], ["-p sigma_w", "NAME=VALUE"]),
        (["derive", "mlp", "-p", "sigma_w="], ["''"]),
        (["derive", "mlp", "-p", "sigma_w=1+1"], ["'1+1'"]),
        (["derive", "mlp", "-p", "sigma_w=1/0"], ["1/0", "division by zero"]),
        (["derive", "mlp", "-p", "sigma_w=sqrt(-2)"], ["'sqrt(-2)'"]),
        (["derive", "mlp", "-p", "sigma_w=1e9999"], ["'1e9999'"]),
        (["derive", "mlp", "-p", "sigma_w=-1"], ["-1", "cannot be negative"]),
        (["derive", "mlp", "-p", "sigma_w=1,2"], ["sigma_w has 2 values for 3 layers"]),
        (["derive", "mlp", "-p", "depth=0"], ["number of layers", "got 0"]),
        (["derive", "mlp", "-p", "depth=n"], ["number of layers", "got n"]),
        (["derive", "deep_linear", "-p", "depth=2.5"], ["must be a positive integer, got 5/2"]),
        (["derive", "mlp", "--method", "bakprop"], ["'bakprop'", "did you mean 'backprop'?"]),
        (["derive", "mean_readout", "--method", "paths"], ["GIA check", "method='backprop'"]),
        (["derive", "mean_readout", "--kernel", "nngp"], ["no Gaussian process", "net.readout"]),
        (["derive", "mlp", "--lengths", "3,2"], ["mlp takes single vectors", "[3, 2]"]),
        (["derive", "rnn", "--lengths", "3"], ["[3]"]),
        (["derive", "rnn", "--lengths", "3,2,1"], ["[3, 2, 1]"]),
        (["derive", "rnn", "--lengths", "0,2"], ["[0, 2]"]),
        (["derive", "rnn", "--lengths", "a,b"], ["--lengths", "'a,b'"]),
        (["verify", "mlp", "--lengths", "3,2"], ["mlp takes single vectors", "3,2"]),
        (["verify", "cnn", "--lengths", "3,2"], ["cnn takes vectors at positions", "3,2"]),
        (["verify", "rnn", "--lengths", "0,2"], ["empty sequence"]),
        (["verify", "mlp", "--widths", "64"], ["two or more different widths", "[64]"]),
        (["verify", "mlp", "--widths", "64,64"], ["[64, 64]"]),
        (["verify", "mlp", "--widths", "64,x"], ["--widths", "'64,x'"]),
        (["verify", "mlp", "--widths", "64,-128"], ["--widths", "'64,-128'"]),
        (["verify", "mlp", "--widths", "0,64"], ["width", "got 0"]),
        (["verify", "mlp", "--seeds", "1"], ["seeds", "got 1"]),
        (["verify", "mlp", "--inputs", "0"], ["--inputs", "0"]),
        (["verify", "mlp", "--dim", "0"], ["--dim", "0"]),
        (["verify", "mlp", "--data-seed", "-1"], ["--data-seed", "-1"]),
        (["verify", "mlp", "-p", "phi=phi"], ["abstract"]),
        (["verify", "mlp", "-p", "sigma_w=sigma_w"], ["no value for sigma_w"]),
        (["verify", "mlp", "--seeds", "many"], ["--seeds", "'many'"]),
        (["derive", "mlp", "--kernel", "ntl"], ["--kernel", "'ntl'"]),
        (["dervie", "mlp"], ["'dervie'"]),
        (["derive"], ["network"]),
        ([], ["command"]),
    ],
    ids=" ".join,
)
def test_bad_input_is_named(cli, words, culprits):
    status, out, err = cli(*words)
    assert status == 2 and out == ""
    assert all(c in err for c in culprits), err
    assert "Traceback" not in err


FILES = {
    "raises.py": ("1 / 0", ["raises.py", "ZeroDivisionError"]),
    "no_python.py": ("def f(", ["no_python.py", "SyntaxError"]),
    "exits.py": ("raise SystemExit(0)", ["exits.py", "SystemExit"]),
    "imports.py": ("import no_such_module_anywhere", ["imports.py", "no_such_module_anywhere"]),
    "none.py": ("x = 1", ["none.py defines no network", "@tp.network"]),
    "undecorated.py": ("import tensorprog as tp\ndef my_net(net, x): pass", ["undecorated.py defines no network"]),
    "two.py": (TWO_NETS, ["two.py defines 2 networks", "my_net, my_linear", "two.py:NAME"]),
    "inside.py": (MY_NET.replace("phi(h +", "undefined(h +"), ["my_net", "NameError", "'undefined'"]),
    "returns.py": (MY_NET.replace("return", "unused ="), ["my_net must return net.readout", "None"]),
}


@pytest.mark.parametrize("command", ["derive", "verify"])
@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_named(cli, tmp_path, name, command):
    source, culprits = FILES[name]
    (tmp_path / name).write_text(source)
    status, out, err = cli(command, tmp_path / name)
    assert status == 2 and out == ""
    assert all(c in err for c in culprits), err


def test_a_missing_file_and_an_unknown_name_in_a_file_are_named(cli, my_file, tmp_path):
    status, _, err = cli("derive", tmp_path / "nothing.py")
    assert status == 2 and f"there is no file {tmp_path / 'nothing.py'}" in err
    status, _, err = cli("derive", f"{my_file}:mynet")
    assert status == 2 and "defines no network 'mynet'; did you mean 'my_net'?" in err
    status, _, err = cli("derive", my_file, "-p", "sigmaw=1")
    assert status == 2 and "my_net has no hyperparameter 'sigmaw'; did you mean 'sigma_w'?" in err


def test_a_hyperparameter_without_a_value_is_named(cli, tmp_path):
    (tmp_path / "open.py").write_text(MY_NET.replace("sigma_w=1", "sigma_w"))
    status, _, err = cli("derive", tmp_path / "open.py")
    assert status == 2 and "my_net needs a value for sigma_w" in err
    assert cli("derive", tmp_path / "open.py", "-p", "sigma_w=2")[0] == 0


def save(path, array, **settings):
    np.save(path, array, **settings)


def save_archive(path):
    with path.open("wb") as file:
        np.savez(file, x=np.ones((2, 2)))


DATA = {
    "missing": (lambda path: None, ["cannot read --data"]),
    "a folder": (lambda path: path.mkdir(), ["cannot read --data"]),
    "pickled": (
        lambda path: save(path, np.array([1, {}], object), allow_pickle=True),
        ["cannot read --data", "pickle"],
    ),
    "text": (lambda path: path.write_text("1 2 3"), ["cannot read --data"]),
    "empty": (lambda path: path.write_bytes(b""), ["cannot read --data"]),
    "an archive": (save_archive, ["cannot read --data"]),
    "cut off": (lambda path: (save(path, np.ones((9, 9))), path.write_bytes(path.read_bytes()[:200])), ["--data"]),
    "one vector": (lambda path: save(path, np.ones(3)), ["shape (N, d)", "(3,)"]),
    "sequences": (lambda path: save(path, np.ones((2, 2, 2))), ["(2, 2, 2)"]),
    "words": (lambda path: save(path, np.array([["a"]])), ["real numbers"]),
    "NaN": (lambda path: save(path, np.array([[np.nan]])), ["nan"]),
}


@pytest.mark.parametrize("kind", DATA)
def test_bad_data_is_named(cli, tmp_path, kind):
    make, culprits = DATA[kind]
    path = tmp_path / "data.npy"
    make(path)
    status, out, err = cli("verify", "mlp", *SMALL, "--data", path)
    assert status == 2 and out == ""
    assert all(c in err for c in culprits), err
    if "cannot read" in culprits[0]:
        assert str(path) in err


def test_a_folder_with_other_runs_is_refused(cli, tmp_path):
    assert cli("verify", "deep_linear", *SMALL, "--out", tmp_path)[0] == 0
    status, _, err = cli("verify", "deep_linear", *SMALL, "--out", tmp_path, "-p", "depth=2")
    assert status == 2 and "other settings" in err and str(tmp_path / "runs.jsonl") in " ".join(err.split("\n"))


def test_an_out_folder_that_is_a_file_is_refused(cli, tmp_path):
    (tmp_path / "taken").write_text("")
    status, _, err = cli("verify", "deep_linear", *SMALL, "--out", tmp_path / "taken")
    assert status == 2 and str(tmp_path / "taken") in err


# ---- parametrizations ----------------------------------------------------------------------------


TRAIN = ["train", "mlp", "-p", "depth=2", "-p", "phi=tanh", "--widths", "32,64,128", "--seeds", "8", "--steps", "2"]


def test_mup_is_trained_against_its_limit(cli, tmp_path):
    status, out, _ = cli(*TRAIN, "--parametrization", "mup", "--samples", "16384", "--out", tmp_path)
    assert status == 0 and "|f − limit| ~ n^(-0.5)" in out and "n = ∞" in out
    assert (tmp_path / "trajectories.png").stat().st_size > 1000
    exponents = "a=-1/2,0,1/2;b=1/2,1/2,1/2;c=0"
    status, same, _ = cli(*TRAIN, "--parametrization", exponents, "--samples", "16384")
    assert status == 0 and same.splitlines()[1:] == [x for x in out.splitlines()[1:] if not x.startswith("wrote")]


def test_the_standard_parametrization_needs_a_rate_that_shrinks(cli):
    status, out, err = cli(*TRAIN, "--parametrization", "standard")
    assert status == 2 and out == ""
    assert "layer 3 (readout): 2a + c = 0, must be at least 1: its update moves the outputs by n" in err
    status, out, _ = cli(*TRAIN, "--parametrization", "standard", "--lr-exponent", "1")
    assert status == 0 and "|f − prediction|" in out


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["--parametrization", "mpu"], "did you mean 'mup'?"),
        (["--parametrization", "a=0,0,0"], "write 'a="),
        (["--parametrization", "a=0,0,x;b=0,0,0"], "'x'"),
        (["--parametrization", "a=0,0,0;b=0,0,0;d=1"], "write 'a="),
        (["--parametrization", "mup", "--lr-exponent", "1"], "--lr-exponent 1 is for --parametrization standard"),
        (["--parametrization", "mup", "--method", "quadrature"], "matrix products"),
        (["--parametrization", "mup", "--samples", "0"], "samples must be an integer of at least 1"),
    ],
    ids=str,
)
def test_bad_parametrizations_are_named(cli, words, culprit):
    status, out, err = cli(*TRAIN, *words)
    assert status == 2 and out == "" and culprit in err


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("+3", 3),
        ("0.1", sp.Rational(1, 10)),
        (".5", sp.Rational(1, 2)),
        ("2.", sp.Integer(2)),
        ("1e-3", sp.Rational(1, 1000)),
        ("-1/3", sp.Rational(-1, 3)),
        ("sqrt(2)", sp.sqrt(2)),
        ("sqrt(0.25)", sp.Rational(1, 2)),
        ("true", True),
        ("false", False),
        ("sigma_w", sp.Symbol("sigma_w", positive=True)),
        ("pi", sp.Symbol("pi", positive=True)),
        ("1,sqrt(2),s", [1, sp.sqrt(2), sp.Symbol("s", positive=True)]),
    ],
)
def test_values_are_read_exactly(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('true')", "print(1)", "1+1", "2**9", "[1]", "lambda: 0", "os.sep", "x y", "", "1,", ",",
     "1/2/3", "1/x", "sqrt(x)", "sqrt(2", "sqrt(-1)", "0x10", "1e5000", "nan()", "{}", "'a'", "_x", "1_000", "x\n"],
)  # fmt: skip
def test_nothing_else_is_read_and_nothing_is_evaluated(text, monkeypatch):
    for name in ("eval", "exec", "compile"):
        monkeypatch.setattr(f"builtins.{name}", None)
    monkeypatch.setattr(sp, "sympify", None)
    with pytest.raises(tp.ProgramError, match="cannot read the value"):
        parse_value(text)


def test_the_module_runs_as_a_program(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tensorprog", "derive", "mpl"])
    assert main() == 2


def test_warnings_of_other_packages_end_no_command(tmp_path):
    """Not even under -W error; those for authors of packages are not shown."""
    (tmp_path / "mine.py").write_text(
        "import warnings\nimport tensorprog as tp\n"
        "warnings.warn('call it by its new name', DeprecationWarning)\nwarnings.warn('mind the step')\n"
        "@tp.network\ndef mine(net, x):\n    return net.readout('V', tp.relu(net.embed('U', x)))\n"
    )
    command = [sys.executable, "-W", "error", "-m", "tensorprog", "derive", str(tmp_path / "mine.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr
    assert done.stderr == "tensorprog: warning: mind the step\n"
