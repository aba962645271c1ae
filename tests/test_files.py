"""Files, sizes and disks as users give them: an answer or one of our errors, at once."""

import os

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import files
from tensorprog.cli import main
from tensorprog.errors import ComputeError, DataError
from tensorprog.files import check_space, plain_file, read_json, read_memory, read_npy
from tensorprog.grams.places import arrays_for

X = np.random.default_rng(0).standard_normal((6, 3))
NET = tp.programs.mlp(depth=1)
GB = 10**9


# ---- sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "wanted"), [
    ("4GB", 4 * GB), ("500MB", 5 * 10**8), ("2 GiB", 2**31), (" 1.5kb ", 1500), ("7", 7), ("1e9B", GB), (3, 3),
    (2.5, 2), (np.int64(9), 9), (np.float32(16), 16), (0.1, 1), (10**400, 2**62), ("9" * 30 + "PB", 2**62),
])  # fmt: skip
def test_memory_is_a_number_of_bytes_or_a_text(given, wanted):
    assert read_memory(given) == wanted


BAD_MEMORY = [
    np.nan, np.inf, -np.inf, None, True, 0, -1, "", "GB", "4 XB", "-4GB", "inf", "nan", "1e999", "1_000", "٣GB", "4GB;",
    b"4GB", [4], 1j, np.complex128(1), "9" * 5000, "4" + " " * 9 + "G B",
]  # fmt: skip


@pytest.mark.parametrize("memory", BAD_MEMORY, ids=lambda m: repr(m)[:12])
def test_what_is_no_memory_is_refused(memory):
    p = tp.Program()
    p.vector("v")
    for call in (
        lambda: tp.ntk(NET).gram(X, memory=memory),
        lambda: tp.sample(p, width=4, memory=memory),
        lambda: tp.limit(p, method="sampling", memory=memory),
    ):
        with pytest.raises(DataError, match="memory must be a positive number of bytes, or a text") as error:
            call()
        assert len(str(error.value)) < 200


def test_a_text_bounds_blocks_as_its_number_does(tmp_path):
    K = tp.ntk(NET)
    for name, memory in (("a", "1KB"), ("b", 1000)):
        K.gram(X, memory=memory, path=tmp_path / f"{name}.npy")
    assert (tmp_path / "a.npy.journal").read_text() == (tmp_path / "b.npy.journal").read_text()


# ---- room on a disk --------------------------------------------------------------------------------------


def free(monkeypatch, count):
    monkeypatch.setattr(files, "free_space", lambda path: count)
    monkeypatch.setattr("tensorprog.grams.places.free_space", lambda path: count)


@pytest.mark.parametrize("ending", ["npy", "zarr"])
def test_a_matrix_larger_than_the_disk_is_refused_before_anything_is_written(tmp_path, ending):
    rows = np.ones((2 * 10**6, 1))
    with pytest.raises(ComputeError) as error:
        tp.ntk(NET).gram(rows, path=tmp_path / f"k.{ending}")
    message = str(error.value)
    assert f"k.{ending} would take 32.0 TB, and " in message and "are free there" in message
    assert "a 2000000×2000000 float64 matrix" in message and "a larger disk" in message and "X[:" in message
    assert not list(tmp_path.iterdir())


def test_the_refusal_offers_single_precision_where_that_fits(tmp_path, monkeypatch):
    free(monkeypatch, 200)
    with pytest.raises(ComputeError, match=r"288 bytes, and 200 bytes are free.*float32', which needs 144 bytes") as e:
        tp.ntk(NET).gram(X, path=tmp_path / "k.npy")
    assert "K.gram(X[:4], X, path=..)" in str(e.value)  # 4 rows of 48 bytes
    assert tp.ntk(NET).gram(X, path=tmp_path / "k.npy", dtype="float32").dtype == np.float32
    free(monkeypatch, 100)
    with pytest.raises(ComputeError) as error:
        tp.ntk(NET).gram(X, path=tmp_path / "l.npy")
    assert "float32" not in str(error.value)


def test_two_files_on_one_disk_share_its_room_and_their_old_contents_are_room(tmp_path, monkeypatch):
    both, paths = [tp.nngp(NET), tp.ntk(NET)], [tmp_path / "a.npy", tmp_path / "b.npy"]
    free(monkeypatch, 500)
    with pytest.raises(ComputeError, match="would take 576 bytes, and 500 bytes are free"):
        tp.gram(both, X, path=paths)
    free(monkeypatch, 600)
    tp.gram(both, X, path=paths)
    free(monkeypatch, 0)
    tp.gram(both, X, path=paths)  # what is there already needs no room


def test_a_disk_that_fills_later_leaves_what_is_finished(tmp_path, monkeypatch):
    K, path, calls = tp.ntk(NET), tmp_path / "k.npy", []
    os_fsync, part = os.fsync, tp.grams.compute.Job.part

    def full(handle):
        calls.append(handle)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")
        os_fsync(handle)

    with monkeypatch.context() as patched, pytest.raises(ComputeError, match="No space left on device; finished"):
        patched.setattr(os, "fsync", full)
        K.gram(X, path=path, block=2)
    again = []
    monkeypatch.setattr("tensorprog.grams.compute.Job.part", lambda job, b: again.append(b) or part(job, b))
    assert np.array_equal(K.gram(X, path=path, block=2), K.gram(X)) and 0 < len(again) < 6


def test_room_is_counted_disk_by_disk(tmp_path, monkeypatch):
    free(monkeypatch, 10)
    check_space([(tmp_path / "deep" / "a", 10)])
    with pytest.raises(ComputeError, match=r"would take 20 bytes, and 10 bytes are free there; think"):
        check_space([(tmp_path / "a", 10), (tmp_path / "b", 10)], "; think")


def test_a_matrix_larger_than_memory_is_refused_by_name():
    with pytest.raises(ComputeError, match=r"2 1000000000×1000000000 float64 matrices would take 16000\.0 PB, which"):
        arrays_for((10**9, 10**9), np.float64, 2)


# ---- paths -----------------------------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    return tmp_path / "pipe.npy"


BAD_PATHS = {"null": "a\0b.npy", "long": "x" * 300 + ".npy", "very long": "x/" * 3000 + "k.npy"}


@pytest.mark.parametrize("name", BAD_PATHS)
def test_impossible_paths_are_refused(name, tmp_path):
    bad = tmp_path / BAD_PATHS[name]
    for call in (
        lambda: tp.ntk(NET).gram(X, path=bad),
        lambda: tp.ntk(NET).gram(X, path=bad.with_suffix(".zarr")),
        lambda: plain_file(bad),
        lambda: read_npy(bad),
        lambda: tp.verify(NET, X[:2], [8, 16], 2, out=bad),
        lambda: tp.draw(NET).save(bad.with_suffix(".svg")),
    ):
        with pytest.raises(DataError) as error:
            call()
        assert len(str(error.value)) < 7000


@pytest.mark.parametrize("where", ["k.npy", "k.npy.journal"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_the_place_of_a_matrix_or_its_journal_is_refused(tmp_path, where, make):
    make(tmp_path / where)
    with pytest.raises(DataError, match=rf"{where} is a (folder|pipe, a socket or a device); give the path of a file"):
        tp.ntk(NET).gram(X, path=tmp_path / "k.npy")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_the_place_of_runs_is_refused(tmp_path, make):
    make(tmp_path / "runs.jsonl")
    with pytest.raises(DataError, match=r"runs\.jsonl is a "):
        tp.verify(NET, X[:2], [8, 16], 2, out=tmp_path)


# ---- journals --------------------------------------------------------------------------------------------

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("line", [
    "[]", "5", '"0202"', "null", "[0, 2, 0]", "[0.0, 2, 0, 2]", '["0", "2", "0", "2"]', "[0, 2, 0, null]",
    "[0, 99, 0, 99]", "[1, 3, 0, 2]", "[-2, 0, 0, 2]", "[[0], [2], [0], [2]]", '{"a": 1, "b": 2, "c": 3, "d": 4}',
    "[true, 2, 0, 2]", DEEP, "[" + "9" * 5000 + ", 2, 0, 2]", "[NaN, 2, 0, 2]",
], ids=lambda line: line[:12])  # fmt: skip
def test_a_line_of_a_journal_that_is_no_block_is_refused(tmp_path, line):
    K, path = tp.ntk(NET), tmp_path / "k.npy"
    K.gram(X, path=path, block=2)
    journal = tmp_path / "k.npy.journal"
    journal.write_text(journal.read_text() + line + "\n")
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"k\.npy\.journal is damaged \(.*resume=False") as error:
        K.gram(X, path=path, block=2)
    assert path.read_bytes() == before and len(str(error.value)) < 500


# ---- arrays ----------------------------------------------------------------------------------------------


def header(text, version=b"\x01\x00", rest=b""):
    long = version != b"\x01\x00"
    body = text.encode() + b" " * (63 - len(text) % 64) + b"\n"
    return b"\x93NUMPY" + version + len(body).to_bytes(4 if long else 2, "little") + body + rest


def described(shape, descr="<f8", **kw):
    return header(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}", **kw)


BAD_ARRAYS = {
    "empty": b"", "text": b"1 2 3", "magic only": b"\x93NUMPY", "another version": described((1,), version=b"\x09\x00"),
    "claims more than the file": described((4, 3), rest=b"\0" * 8), "claims 8 TB": described((10**6, 10**6)),
    "claims more than a number holds": described((10**15, 10**15)), "a negative axis": described((-4, 3)),
    "no shape": header("{'descr': '<f8', 'fortran_order': False}"), "no dict": header("[1, 2]"),
    "code": header("__import__('os').getcwd()"), "nested": header("(" * 3000 + ")" * 3000),
    "an odd type": described((1,), descr="<q99"), "objects": described((1,), descr="|O", rest=b"\0" * 8),
    "an archive": b"PK\x03\x04" + b"\0" * 60,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ARRAYS)
@pytest.mark.parametrize("option", ["--data", "--labels"])
def test_a_file_that_is_no_array_ends_the_command_with_a_message(tmp_path, capsys, name, option):
    path = tmp_path / "a.npy"
    path.write_bytes(BAD_ARRAYS[name])
    assert main(["train", "mlp", option, str(path), "--widths", "8,16", "--seeds", "2"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"tensorprog: cannot read {option} {path}: ") and "Traceback" not in said


def test_a_pipe_is_not_waited_for(pipe, capsys):
    assert main(["verify", "mlp", "--data", str(pipe)]) == 2
    assert "is a pipe, a socket or a device" in capsys.readouterr().err


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_npy_are_read(tmp_path, version):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, X, version)
    assert np.array_equal(read_npy(tmp_path / "a.npy"), X)


def test_an_array_that_memory_does_not_hold_is_refused(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", X)
    monkeypatch.setattr(files, "_physical", lambda: 100)
    with pytest.raises(DataError, match="holds 144 bytes, and this machine's memory 100 bytes"):
        read_npy(tmp_path / "a.npy")


def test_json_nested_too_deeply_is_a_value_error():
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(DEEP)
