"""Files and arrays that results are written to: which are refused, and what a journal takes for finished."""

import errno
import json
import os
import shutil

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.grams import blocks, compute

NET = programs.mlp(depth=2, sigma_b=0.1)
K, OTHER = tp.ntk(NET), tp.ntk(programs.mlp(depth=3))
BOTH = [tp.nngp(NET), K]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 5))


class Stopped(Exception):
    pass


def stop_at(monkeypatch, count):
    """Let the journals take so many lines, and stop before the next."""
    added, add = [], blocks.Journal.add

    def counted(self, block):
        if len(added) == count:
            raise Stopped
        added.append(block)
        add(self, block)

    monkeypatch.setattr(blocks.Journal, "add", counted)


def begun(monkeypatch, call, count):
    with monkeypatch.context() as patched, pytest.raises(Stopped):
        stop_at(patched, count)
        call()


def computed(monkeypatch):
    """The blocks that are computed from now on."""
    found, part = [], compute.Job.part
    monkeypatch.setattr(compute.Job, "part", lambda self, block: found.append(block) or part(self, block))
    return found


def finished(path):
    return [tuple(json.loads(line)) for line in path.with_name(path.name + ".journal").read_text().splitlines()[1:]]


# ---- where results go -----------------------------------------------------------------------------------


def test_out_shares_no_memory_with_inputs_or_another():
    x, out = X[:5].copy(), np.empty((5, 5))
    ragged = [x, x[:2], x[:3]]
    for call in (
        lambda: K.gram(x, out=x),
        lambda: K.gram(X[:5], x, out=x),
        lambda: K.gram(x, out=x, block=2),
        lambda: K.gram(x[::-1, ::-1].T, out=x),
        lambda: tp.gram(BOTH, X[:5], out=[out, out]),
        lambda: tp.gram(BOTH, X[:1], out=[out.reshape(-1)[:1].reshape(1, 1), out.reshape(-1)[:1].reshape(1, 1)]),
    ):
        with pytest.raises(tp.DataError, match="out must be arrays of their own"):
            call()
    assert np.array_equal(x, X[:5])  # nothing was written
    rows = np.empty((10, 5))
    for found, expected in zip(tp.gram(BOTH, x, out=[rows[:5], rows[5:]]), tp.gram(BOTH, x), strict=True):
        assert np.array_equal(found, expected)
    square = np.ones((3, 3))  # ragged inputs are copied
    assert tp.ntk(programs.rnn()).gram(ragged, out=square) is square


def test_every_kernel_has_a_file_of_its_own(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    for paths in ([tmp_path / "k.npy"] * 2, [tmp_path / "k.zarr", str(tmp_path / "link" / "k.zarr")]):
        with pytest.raises(tp.DataError, match="a file of its own"):
            tp.gram(BOTH, X, path=paths)
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_a_path_that_is_refused_leaves_no_journal(tmp_path):
    with pytest.raises(tp.DataError, match=r"must end in .npy .* or .zarr, got .*b.txt"):
        tp.gram(BOTH, X, path=[tmp_path / "a.npy", tmp_path / "b.txt"])
    assert not list(tmp_path.iterdir())


def test_the_file_of_the_inputs_is_not_overwritten(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, X)
    mapped = np.load(path, mmap_mode="r")
    for x in (mapped, mapped[:50], mapped[::2]):
        with pytest.raises(tp.DataError, match=r"another file than that of the inputs, got .*x\.npy"):
            K.gram(x, path=path)
    assert np.array_equal(np.load(path), X)
    assert np.array_equal(K.gram(mapped, path=tmp_path / "k.npy"), K.gram(X))


# ---- several kernels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["npy", "zarr"])
@pytest.mark.parametrize("changed", [0, 1])
def test_a_file_that_another_computation_rewrote_is_refused(tmp_path, ending, changed):
    paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
    call = lambda **kw: tp.gram(BOTH, X, block=32, path=paths, **kw)  # noqa: E731
    call()
    with pytest.raises(tp.DataError, match=r"another computation: kernel differ"):
        OTHER.gram(X, block=32, path=paths[changed])
    OTHER.gram(X, block=32, path=paths[changed], resume=False)
    with pytest.raises(tp.DataError, match=rf"{'ab'[changed]}\.{ending}\.journal belongs to another .*kernel"):
        call()
    with pytest.raises(tp.DataError, match="kernel"):  # nor is one kernel taken for the other
        tp.gram(BOTH, X, block=32, path=paths[::-1])
    for found, expected in zip(call(resume=False), tp.gram(BOTH, X, block=32), strict=True):
        assert np.array_equal(np.asarray(found[:]), expected)


@pytest.mark.parametrize("ending", ["npy", "zarr"])
@pytest.mark.parametrize("lines", range(6))
def test_stopped_between_the_journals_of_a_block(tmp_path, monkeypatch, ending, lines):
    paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
    call = lambda: tp.gram(BOTH, X, block=32, path=paths)  # noqa: E731
    begun(monkeypatch, call, lines)
    again = computed(monkeypatch)
    found = call()
    assert len(again) == 10 - lines // 2  # what is in both journals is not computed again
    monkeypatch.undo()
    for path, matrix, expected in zip(paths, found, tp.gram(BOTH, X, block=32), strict=True):
        assert np.array_equal(np.asarray(matrix[:]), expected)
        assert len(finished(path)) == len(set(finished(path))) == 10


@pytest.mark.parametrize("ending", ["npy", "zarr"])
def test_a_file_deleted_with_its_journal_is_written_again(tmp_path, ending):
    paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
    tp.gram(BOTH, X, block=32, path=paths)
    for gone in (paths[1], paths[1].with_name(paths[1].name + ".journal")):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    for found, expected in zip(tp.gram(BOTH, X, block=32, path=paths), tp.gram(BOTH, X, block=32), strict=True):
        assert np.array_equal(np.asarray(found[:]), expected)


def test_a_refusal_leaves_the_other_files_as_they_were(tmp_path):
    paths = [tmp_path / f"{name}.npy" for name in "ab"]
    np.save(paths[0], X)
    OTHER.gram(X, block=32, path=paths[1])
    with pytest.raises(tp.DataError, match=r"b\.npy\.journal belongs to another computation"):
        tp.gram(BOTH, X, block=32, path=paths)
    assert np.array_equal(np.load(paths[0]), X) and not (tmp_path / "a.npy.journal").exists()


def test_another_version_is_another_computation(tmp_path, monkeypatch):
    path = tmp_path / "k.npy"
    begun(monkeypatch, lambda: K.gram(X, block=32, path=path), 3)
    monkeypatch.setattr(compute, "version", lambda: "0.0.1")
    with pytest.raises(tp.DataError, match="another computation: version differ"):
        K.gram(X, block=32, path=path)


# ---- damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 5, 20, 127])
def test_a_file_cut_inside_its_header_is_refused(tmp_path, monkeypatch, size):
    path = tmp_path / "k.npy"
    begun(monkeypatch, lambda: K.gram(X, block=32, path=path), 3)
    os.truncate(path, size)
    with pytest.raises(tp.DataError, match=r"k\.npy .* was cut short; .*resume=False"):
        K.gram(X, block=32, path=path)
    assert np.array_equal(K.gram(X, block=32, path=path, resume=False), K.gram(X, block=32))


def test_a_journal_that_is_no_text_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "k.npy"
    begun(monkeypatch, lambda: K.gram(X, block=32, path=path), 3)
    with open(tmp_path / "k.npy.journal", "ab") as file:
        file.write(b"\xff\xfe\n")
    with pytest.raises(tp.DataError, match=r"k\.npy\.journal is damaged .*resume=False"):
        K.gram(X, block=32, path=path)


def test_a_zarr_array_that_is_missing_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "k.zarr"
    begun(monkeypatch, lambda: K.gram(X, block=32, path=path), 3)
    shutil.rmtree(path)
    with pytest.raises(tp.DataError, match=r"k\.zarr is missing, .*resume=False"):
        K.gram(X, block=32, path=path)


@pytest.mark.parametrize("text", [None, "", "{bro", "{}", "[]", '{"zarr_format": 3, "node_type": "group"}'])
def test_a_zarr_array_with_damaged_metadata_is_refused(tmp_path, monkeypatch, text):
    path = tmp_path / "k.zarr"
    begun(monkeypatch, lambda: K.gram(X, block=32, path=path), 3)
    (path / "zarr.json").unlink() if text is None else (path / "zarr.json").write_text(text)
    with pytest.raises(tp.DataError, match=r"k\.zarr is no zarr array or was damaged .*resume=False"):
        K.gram(X, block=32, path=path)
    found = K.gram(X, block=32, path=path, resume=False)
    assert np.array_equal(np.asarray(found[:]), K.gram(X, block=32))


def test_a_zarr_array_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    import zarr

    def refused(**options):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "k.zarr"
    begun(monkeypatch, lambda: K.gram(X, block=32, path=path), 3)
    monkeypatch.setattr(zarr, "open_array", refused)
    with pytest.raises(tp.ComputeError, match="Permission denied; finished blocks are kept"):
        K.gram(X, block=32, path=path)


def test_a_lost_chunk_is_missed_where_another_was_written_but_not_noted(tmp_path, monkeypatch):
    path = tmp_path / "k.zarr"
    begun(monkeypatch, lambda: K.gram(X, block=32, path=path), 3)  # the fourth block is on disk, not in the journal
    (path / "c" / "0" / "0").unlink()
    with pytest.raises(tp.DataError, match="holds 3 of the 4 chunks"):
        K.gram(X, block=32, path=path)


def test_chunks_of_zeros_are_finished_too(tmp_path, monkeypatch):
    path, zero, plain = tmp_path / "k.zarr", np.zeros((100, 5)), tp.ntk(programs.mlp(depth=2))
    call = lambda: plain.gram(zero, block=32, path=path)  # noqa: E731
    begun(monkeypatch, call, 3)
    begun(monkeypatch, call, 3)
    assert not np.asarray(call()[:]).any() and len(finished(path)) == 10
