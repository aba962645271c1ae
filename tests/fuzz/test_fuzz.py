"""Odd inputs have an answer or an error of the package, within a time and a memory; and the fuzzer sees where not."""

import subprocess
import sys

import pytest

from tests.fuzz.choices import Choices, smaller
from tests.fuzz.driver import KINDS, Worker, fuzz


@pytest.mark.slow
def test_two_minutes_of_odd_inputs(tmp_path):
    counts, found = fuzz(120, journal=tmp_path / "fuzz.jsonl")
    assert not found and counts.keys() == set(KINDS)


def test_choices_are_made_again():
    first = Choices(seed=5)
    values = [first.below(n) for n in (3, 100, 2, 7)]
    again = Choices(given=first.taken)
    assert [again.below(n) for n in (3, 100, 2, 7, 9)] == [*values, 0]


def test_choices_are_made_fewer_and_smaller():
    assert smaller([4, 9, 3, 7, 2, 2, 8], lambda given: 7 in given) == [7]


def test_a_case_that_does_not_end_or_kills_its_process_is_a_finding(monkeypatch):
    monkeypatch.setattr("tests.fuzz.driver.WALL", 1)
    worker = Worker()
    for code, words in (("import time; time.sleep(60)", "no end"), ("import os; os.abort()", "the process died")):
        monkeypatch.setattr(worker, "start", lambda code=code: started(code))
        answer = worker.ask(kind="arrays", seed=0)
        assert answer["found"][0].startswith(words) and worker.process is None


def started(code):
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
