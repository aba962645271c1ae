"""Series of runs on disk: one JSON line each, resumed after an interruption, refused when they do not fit."""

import json

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite import runs
from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.finite.runs import collect
from tensorprog.ir.instructions import MatMul

WIDTHS, SEEDS = [16, 24], 5
ALL = [(w, s) for w in WIDTHS for s in range(SEEDS)]
HEADER = {"network": "mlp", "program": "0123"}


@pytest.fixture(scope="module")
def network():
    net = tp.programs.mlp(depth=2, phi=tp.erf, sigma_b=0.5)
    finite = FiniteNetwork.of(net, read_inputs([[1.0, 0.5], [0.0, -2.0]], "inputs", "vectors"))
    return finite, [v for v, op in finite.program if isinstance(op, MatMul)]


@pytest.fixture
def series(network):
    """collect(path, ..) on the small network."""

    def start(path, header=HEADER, widths=WIDTHS, seeds=SEEDS, progress=None):
        return collect(*network, widths, seeds, header, path, progress)

    return start


@pytest.fixture
def computed(monkeypatch):
    """The (width, seed) of every run computed, in order; batches of two."""
    done, run = [], runs._run

    def counting(finite, gvars, width, seeds):
        done.extend((width, s) for s in seeds)
        return run(finite, gvars, width, seeds)

    monkeypatch.setattr(runs, "_run", counting)
    pairs = lambda numbers, width, todo: [todo[i : i + 2] for i in range(0, len(todo), 2)]  # noqa: E731
    monkeypatch.setattr(runs, "_consecutive", pairs)
    return done


def equal(a, b):
    return a.keys() == b.keys() and all(
        np.array_equal(getattr(a[k], field), getattr(b[k], field)) for k in a for field in vars(a[k])
    )


def interrupt_at(calls):
    def progress(done, total, what):
        calls.append(done)
        if len(calls) == 4:
            raise KeyboardInterrupt

    return progress


# ---- on disk -------------------------------------------------------------------------------------


def test_every_run_is_one_json_line(series, network, tmp_path):
    path = tmp_path / "new" / "folder" / "runs.jsonl"
    records = series(path)
    header, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert header == HEADER
    assert [(r["width"], r["seed"]) for r in rows] == ALL == list(records)
    for row in rows:
        record = records[row["width"], row["seed"]]
        assert set(row) == {"width", "seed", *vars(record)}
        assert all(np.array_equal(row[k], v) for k, v in vars(record).items())
    assert records[16, 0].ntk.shape == (2, 2) and records[16, 0].outputs.shape == (2,)
    assert records[16, 0].second.shape == (len(network[1]),) * 2


def test_lines_are_on_disk_when_progress_is_reported(series, computed, tmp_path):
    path, seen = tmp_path / "runs.jsonl", []
    series(path, progress=lambda done, total, what: seen.append((done, len(path.read_text().splitlines()) - 1, total)))
    assert seen == [(k, k, 10) for k in (2, 4, 5, 7, 9, 10)]


def test_without_a_path_nothing_is_written(series, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(series(None)) == ALL
    assert list(tmp_path.iterdir()) == []


def test_results_read_from_disk_equal_those_in_memory(series, computed, tmp_path):
    first = series(tmp_path / "runs.jsonl")
    assert computed == ALL
    assert equal(series(tmp_path / "runs.jsonl"), first) and equal(series(None), first)
    assert computed == ALL + ALL  # the second time everything came from the file


def test_records_hold_the_moments_of_the_coordinates(series, network):
    finite, gvars = network
    record, parameters = series(None)[24, 3], finite.draw(24, [3])
    values = finite.run(parameters)
    g = np.stack([values[v][0] for v in gvars])
    assert record.first == pytest.approx(g.mean(axis=1), abs=1e-14)
    assert record.second == pytest.approx(g @ g.T / 24, abs=1e-14)
    assert record.outputs == pytest.approx(finite.outputs(values, parameters)[0], abs=1e-14)
    assert record.ntk == pytest.approx(finite.ntk(values)[0], rel=1e-13)


# ---- interruptions -----------------------------------------------------------------------------------


def test_an_interrupted_series_resumes_without_repeating_a_run(series, computed, tmp_path):
    path, calls = tmp_path / "runs.jsonl", []
    with pytest.raises(KeyboardInterrupt):
        series(path, progress=interrupt_at(calls))
    assert calls == [2, 4, 5, 7] and computed == ALL[:7]
    resumed = series(path)
    assert computed == ALL
    assert equal(resumed, series(None))
    assert len(path.read_text().splitlines()) == 1 + len(ALL)


def test_progress_after_a_resumption_counts_the_runs_on_disk(series, computed, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        series(tmp_path / "runs.jsonl", progress=interrupt_at([]))
    reported = []
    series(tmp_path / "runs.jsonl", progress=lambda done, total, what: reported.append((done, total, what)))
    assert reported == [(9, 10, "width 24"), (10, 10, "width 24")]


@pytest.mark.parametrize("kept", [0, 1, 30, -1, -20])
def test_a_line_cut_off_by_the_interruption_is_computed_again(series, computed, tmp_path, kept):
    path = tmp_path / "runs.jsonl"
    whole = series(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
    computed.clear()
    assert equal(series(path), whole)
    assert computed == ALL[-1:]
    assert path.read_bytes().splitlines(keepends=True) == lines


@pytest.mark.parametrize("left", ["", '{"network": "m', json.dumps(HEADER), json.dumps(HEADER) + "\n"])
def test_a_file_that_ends_in_its_header_starts_again(series, computed, tmp_path, left):
    path = tmp_path / "runs.jsonl"
    path.write_text(left)
    assert equal(series(path), series(None))
    assert json.loads(path.read_text().splitlines()[0]) == HEADER


def test_a_series_can_be_extended_to_more_seeds_and_widths(series, computed, tmp_path):
    path = tmp_path / "runs.jsonl"
    series(path, widths=[16], seeds=3)
    computed.clear()
    extended = series(path, widths=[16, 24], seeds=5)
    assert computed == [(16, 3), (16, 4), *((24, s) for s in range(5))]
    assert equal(extended, series(None))


# ---- files that do not fit -----------------------------------------------------------------------

DAMAGE = {
    "cut": lambda line: line[:40],
    "not JSON": lambda line: "nonsense",
    "not a record": lambda line: "[1, 2]",
    "a field less": lambda line: json.dumps({k: v for k, v in json.loads(line).items() if k != "first"}),
    "a word": lambda line: json.dumps({**json.loads(line), "first": ["a"]}),
    "ragged": lambda line: json.dumps({**json.loads(line), "ntk": [[1.0], [1.0, 2.0]]}),
    "empty": lambda line: "",
    "an empty record": lambda line: "{}",
    "a number": lambda line: "5",
    "null": lambda line: "null",
    "nested too deeply": lambda line: "[" * 100_000 + "]" * 100_000,
    "a width that is a list": lambda line: json.dumps({**json.loads(line), "width": [1]}),
    "a width that is no integer": lambda line: json.dumps({**json.loads(line), "width": "16"}),
    "a scalar": lambda line: json.dumps({**json.loads(line), "ntk": 1.0}),
    "no numbers": lambda line: json.dumps({**json.loads(line), "ntk": []}),
    "null for numbers": lambda line: json.dumps({**json.loads(line), "ntk": None}),
    "null among numbers": lambda line: json.dumps({**json.loads(line), "outputs": [None, 1.0]}),
    "numbers as text": lambda line: json.dumps({**json.loads(line), "outputs": ["1", "2"]}),
    "another shape": lambda line: json.dumps({**json.loads(line), "ntk": [[1.0]]}),
    "a huge integer": lambda line: line.replace('"seed": ', '"seed": ' + "9" * 5000),
    "not text": lambda line: "\udcff",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_is_refused_and_the_file_named(series, computed, tmp_path, damage):
    path = tmp_path / "runs.jsonl"
    series(path)
    lines = path.read_text().splitlines()
    lines[4] = damage(lines[4])
    path.write_bytes(("\n".join(lines) + "\n").encode(errors="surrogateescape"))
    before = path.read_bytes()
    computed.clear()
    with pytest.raises(tp.DataError, match="damaged") as error:
        series(path)
    assert str(path) in str(error.value)
    assert computed == [] and path.read_bytes() == before


@pytest.mark.parametrize("header", ['{"network": "rnn"}', "5", "[]", '"mlp"', "null"])
def test_runs_of_other_settings_are_refused_and_the_file_named(series, computed, tmp_path, header):
    path = tmp_path / "runs.jsonl"
    path.write_text(header + '\n{"another": "file"}\n')
    with pytest.raises(tp.DataError, match="other settings") as error:
        series(path)
    assert str(path) in str(error.value)
    assert computed == [] and path.read_text() == header + '\n{"another": "file"}\n'


def test_the_message_names_the_other_network(series, tmp_path):
    series(tmp_path / "runs.jsonl", widths=[16], seeds=1)
    with pytest.raises(tp.DataError, match=r"other settings \(mlp\); give another folder"):
        series(tmp_path / "runs.jsonl", header={**HEADER, "program": "4567"})


def test_a_folder_that_cannot_be_made_is_refused_by_name(series, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(tp.DataError, match="taken"):
        series(tmp_path / "taken" / "runs.jsonl")


# ---- memory --------------------------------------------------------------------------------------


def test_batches_stay_within_memory_and_do_not_change_the_numbers(series, network, monkeypatch):
    sizes, run = [], runs._run

    def counting(finite, gvars, width, seeds):
        sizes.append((width, len(seeds)))
        return run(finite, gvars, width, seeds)

    monkeypatch.setattr(runs, "_run", counting)
    at_once = series(None)
    assert sizes == [(16, 5), (24, 5)]
    finite, _ = network
    bytes_16 = 8 * finite.numbers(16)
    assert finite.numbers(16) > sum(w.size for w in finite.draw(16, [0]).values()) + 16 * len(finite.gradients[0].of)
    monkeypatch.setattr(runs, "MEMORY", 2 * bytes_16)
    sizes.clear()
    assert equal(series(None), at_once)
    assert sizes == [(16, 2), (16, 2), (16, 1), *[(24, 1)] * 5]
    monkeypatch.setattr(runs, "MEMORY", 1)
    sizes.clear()
    assert equal(series(None), at_once)
    assert sizes == [(w, 1) for w, _ in ALL]


def test_a_torn_line_is_cut_off_and_nothing_else_is_written(series, tmp_path, monkeypatch):
    """An interruption while the file is put in order loses no run: the whole lines are never written again."""
    path = tmp_path / "runs.jsonl"
    series(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    cut = []
    monkeypatch.setattr(runs.os, "truncate", lambda file, size: cut.append(size))

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_run", stop)
    with pytest.raises(KeyboardInterrupt):
        series(path)
    assert cut == [whole[:-1].rfind(b"\n") + 1] and path.read_bytes() == whole[:-20]


@pytest.mark.parametrize("text", ["notes", '{"network": "rnn"', "x" * 400])
def test_a_file_of_one_line_that_is_no_header_cut_short_is_left_alone(series, tmp_path, text):
    path = tmp_path / "runs.jsonl"
    path.write_text(text)
    with pytest.raises(tp.DataError, match="other settings") as error:
        series(path)
    assert path.read_text() == text and str(path) in str(error.value)
