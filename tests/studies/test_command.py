"""``tensorprog study``: every study, its options, and what it says of wrong ones."""

import json

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.cli import main
from tensorprog.studies.options import STUDIES, STUDY_OPTIONS
from tensorprog.studies.pictures import PICTURES

SMALL = {
    "phase": ["mlp", "-p", "phi=relu", "--grid", "sigma_w=1,1.5"],
    "critical": ["mlp", "-p", "phi=relu", "--by", "sigma_w"],
    "conditioning": ["mlp", "-p", "phi=erf", "--depths", "1,2,3", "--samples", "4"],
    "variance": ["mlp", "--grid", "depth=1,2", "--widths", "8,16", "--seeds", "50", "--trained", "W"],
    "convergence": ["rnn", "--grid", "tied=true,false", "--widths", "16,32,64", "--seeds", "16", "--seed", "1"],
    "drift": [
        "mlp",
        "-p",
        "phi=tanh",
        "-p",
        "depth=1",
        "--times",
        "2",
        "--widths",
        "16,64",
        "--seeds",
        "8",
        "--lr",
        "0.1",
    ],
    "sensitivity": ["rnn", "-p", "phi=erf", "--length", "3", "--pairs", "5"],
    "ntktrain": ["mlp", "-p", "phi=tanh", "-p", "depth=1", "--steps", "2", "--widths", "16,32,64", "--seeds", "8"],
    "ucr": ["rnn", "--grid", "sigma_w=1.4,1.5", "--sets", "Random,Nothing", "--folder", "."],
}


def test_the_command_knows_every_study_and_every_study_is_drawn():
    names = sorted(n for n in dir(tp.studies) if n != "Study")
    assert sorted(STUDIES) == names == sorted(SMALL) == sorted(PICTURES)
    known = {n for name in names for n in getattr(tp.studies, name).__kwdefaults__ or {}}
    assert known | {"by"} >= set(STUDY_OPTIONS)


QUICK = ("sensitivity", "convergence")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in SMALL])
def test_every_study_runs_and_writes_its_files(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, part in enumerate(("TRAIN", "TEST")):
        rows = np.random.default_rng(seed).standard_normal((10, 8)).round(3)
        np.savetxt(f"Random_{part}.txt", np.column_stack([np.arange(10) % 2, rows]))
    assert main(["study", name, *SMALL[name], "--out", str(tmp_path)]) in (0, 1)
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["study"] == name and found["title"] in printed and found["claims"]
    assert all(f"{c['verdict']:<6} {c['claim']}" in printed for c in found["claims"])
    assert (tmp_path / f"{name}.svg").read_text().startswith("<?xml")
    assert {p.suffix for p in tmp_path.glob(f"{name}.*")} >= {".json", ".png", ".svg", ".html"}


WRONG = {
    "no such option": (["study", "phase", "mlp", "--times", "3"], "takes no --times"),
    "no data": (["study", "phase", "mlp", "--data", "x.npy"], "cannot read --data"),
    "a grid": (["study", "phase", "mlp", "--grid", "sigma_w"], "write NAME=1,2,3 or NAME=FROM:TO:COUNT"),
    "a range": (["study", "phase", "mlp", "--grid", "sigma_w=a:2:3"], "is no number"),
    "a long range": (["study", "phase", "mlp", "--grid", "sigma_w=0:1:999999999"], "at most"),
    "a number": (["study", "drift", "mlp", "--lr", "fast"], "is no number"),
    "many": (["study", "variance", "mlp", "--seeds", "999999999"], "at most"),
    "without end": (["study", "drift", "mlp", "--times", "999999999"], "at most"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_named(name, capsys):
    argv, words = WRONG[name]
    assert main(argv) == 2
    assert words in capsys.readouterr().err


class Odd:
    """An object that nothing knows."""


ARGUMENTS = [
    (name, argument)
    for name in SMALL
    for argument in [*getattr(tp.studies, name).__code__.co_varnames[: getattr(tp.studies, name).__code__.co_argcount],
                     *(getattr(tp.studies, name).__kwdefaults__ or {})]
]  # fmt: skip


@pytest.mark.parametrize("name, argument", ARGUMENTS, ids=lambda v: str(v))
@pytest.mark.parametrize("value", [
    Odd(), *(pytest.param(v, marks=pytest.mark.slow) for v in ("é\0", [None]))
], ids=["an object", "a text", "a list of None"])  # fmt: skip
def test_what_no_argument_takes_is_refused_in_words(name, argument, value):
    given = {"net": tp.programs.mlp(depth=1, phi=tp.tanh)} | {argument: value}
    if argument == "X2":
        given["X"] = [[1.0], [2.0]]
    with pytest.raises(tp.TensorProgramError):
        getattr(tp.studies, name)(**given)
