"""Random networks and programs: every way to a number gives that number, or an error of the package's own."""

import json
import subprocess
import sys

import pytest

import tensorprog as tp
from tests.random_cases import __main__ as command
from tests.random_cases.compare import Effort, Report
from tests.random_cases.examine import check, made, smallest

FEW = {"net": [*range(30), 81], "program": range(269)}  # of the networks, 81 is the first with a recursion
MANY = 2000  # a network costs ten times what a program does
CHUNK = 100
BEYOND = 10**6  # seeds of the many: others than those of the few
# the part of the cases that may be refused or left out, by what is asked for: an NTK with jumps in trained paths is
# infinite, a network without a random readout has no NNGP kernel, and some expectations take longer than a case may
REFUSED = {"ntk": 0.3, "nngp": 0.45, "limit": 0.1, "finite": 0.02}


COMMON = "fused", "renamed", "commuted", "sampled", "simulated"
GRAMS = "gram", "gram numpy", "gram numba", "single gram float32", "reordered", "blocks", "two sets"
WAYS = {
    "net": {f"ntk {way}" for way in (*COMMON, *GRAMS, "recursion", "paths", "sgd", "enumeration")}
    | {"finite program", "finite layerwise"},
    "program": {f"limit {way}" for way in (*COMMON, "canonical", "json")} | {"finite sample"},
}


def examined(kind, seeds):
    """What the checks of the cases of these seeds found."""
    report = Report()
    for seed in seeds:
        report.add(check(made(kind, seed), Effort(seconds=4.0)))
    return report


def agree(report):
    """Whether nothing disagrees; else the smallest cases."""
    first = {f.label: f for f in reversed(report.faults)}
    assert not first, "\n\n".join(str(smallest(fault, 20.0)) for fault in first.values())


@pytest.mark.parametrize("kind", ["net", "program"])
def test_all_ways_agree_and_are_taken(kind):
    report = examined(kind, FEW[kind])
    agree(report)
    for what, share in REFUSED.items():
        refused = sum(n for reason, n in report.skipped.items() if reason.startswith(f"{what}: "))
        assert refused <= share * report.cases[what], report.skipped
    assert WAYS[kind] <= set(report.compared), "some way is never taken"


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, MANY, CHUNK))
@pytest.mark.parametrize("kind", ["net", "program"])
def test_all_ways_agree_in_many_cases(kind, start):
    agree(examined(kind, range(BEYOND + start, BEYOND + start + CHUNK)))


def test_a_case_prints_as_python_that_runs(capsys):
    refused = 0
    for seed in range(3):
        for kind in ("net", "program"):
            try:
                exec(compile(made(kind, seed).script(), "<case>", "exec"), {})
            except tp.TensorProgramError:  # such as a network of jumps, whose NTK is infinite
                refused += 1
    assert "[[" in capsys.readouterr().out and refused <= 1


def test_a_seed_stands_for_one_case():
    assert made("net", 7) == made("net", 7) != made("net", 8)
    assert made("program", 7).text() == made("program", 7).text()


def test_the_command_goes_on_where_it_was_interrupted(tmp_path):
    journal = tmp_path / "journal.jsonl"
    call = [sys.executable, "-m", "tests.random_cases", "--networks", "0", "--programs", "3", "--jobs", "1"]
    call += ["--journal", str(journal), "--seed", "3"]
    first = subprocess.run(call, cwd=command.ROOT, capture_output=True, text=True)
    lines = journal.read_text().splitlines()
    assert len(lines) == 3 and "disagreements: 0" in first.stdout and first.returncode == 0, first.stdout + first.stderr
    journal.write_text("\n".join([*lines[:2], lines[2][:20]]))
    second = subprocess.run(call, cwd=command.ROOT, capture_output=True, text=True)
    assert "3 cases, 2 of them known" in second.stdout and "disagreements: 0" in second.stdout, second.stderr


def test_a_disagreement_is_the_exit_status(tmp_path, capsys):
    record = {
        "kind": "net",
        "seed": 5,
        "seconds": 1,
        "cases": {},
        "compared": {"ntk gram": 1},
        "skipped": {},
        "faults": [],
    }
    assert command.summary([record]) == 0
    wrong = {**record, "faults": [{"label": "ntk: gram value against K(X) value", "text": ""}]}
    assert command.summary([record, wrong]) == 1
    assert "(seeds 5)" in capsys.readouterr().out
    journal = tmp_path / "journal.jsonl"
    journal.write_text(json.dumps(record) + "\n{torn")
    assert list(command._read(journal)) == [record]
