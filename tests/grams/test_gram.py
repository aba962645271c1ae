"""tp.gram: several kernels, blocks, files, crashes, clusters and bad input."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.grams import blocks, compute

NET = programs.mlp(depth=2, sigma_b=0.1)
K = tp.ntk(NET)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(300, 7)), RNG.normal(size=(90, 7))


@pytest.mark.parametrize("block", [64, 128, 150, 299, 1000])
def test_blocks_equal_the_whole(block):
    whole, part = K.gram(X), K.gram(X, block=block)
    assert np.abs(part / whole - 1).max() < 1e-14 and np.array_equal(part, part.T)
    assert np.abs(K.gram(X, Y, block=block) / K.gram(X, Y) - 1).max() < 1e-14


@pytest.mark.parametrize("ending", ["npy", "zarr"])
def test_files_hold_what_memory_would(tmp_path, ending):
    kernels = [tp.nngp(NET), K]
    paths = [tmp_path / f"{name}.{ending}" for name in ("nngp", "ntk")]
    found = tp.gram(kernels, X, block=128, path=paths)
    for f, expected in zip(found, tp.gram(kernels, X, block=128), strict=True):
        assert np.array_equal(np.asarray(f[:]), expected)
    if ending == "npy":
        assert isinstance(found[0], np.memmap) and np.array_equal(np.load(paths[1]), found[1])


def test_out_is_written_and_checked():
    out = np.empty((300, 300))
    assert K.gram(X, out=out) is out and np.array_equal(out, K.gram(X))
    for bad in (np.empty((300, 299)), np.empty((300, 300), np.float32), np.empty((300, 300)).T[::-1], [[1.0]]):
        with pytest.raises(tp.DataError, match="out must be"):
            K.gram(X, out=bad)
    with pytest.raises(tp.DataError, match="one array for each of the 2 kernels"):
        tp.gram([K, K], X, out=[out])


def test_a_small_call_is_fast():
    deep = tp.ntk(programs.mlp(depth=10))
    times = []
    for _ in range(20):
        start = time.process_time()
        deep.gram(X[:10])
        times.append(time.process_time() - start)
    assert min(times) < 5e-3


def test_peak_memory():
    import tracemalloc

    x = RNG.normal(size=(2500, 10))
    K.gram(x[:200])
    tracemalloc.start()
    K.gram(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * (2 * 8 * 2500**2 + x.nbytes)


# ---- crashes -----------------------------------------------------------------------------------------

SCRIPT = """
import sys, numpy as np, tensorprog as tp
X = np.random.default_rng(0).normal(size=(300, 7))
K = tp.ntk(tp.programs.mlp(depth=2, sigma_b=0.1))
from tensorprog.grams import blocks, compute
add, part = blocks.Journal.add, compute.Job.part
def computed(self, block):
    print("block", *block, flush=True)
    if len(sys.argv) > 2 and len(self_done) == int(sys.argv[2]):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    return part(self, block)
self_done = []
def added(self, block):
    add(self, block)
    self_done.append(block)
blocks.Journal.add, compute.Job.part = added, computed
K.gram(X, block=64, path=sys.argv[1])
"""


def run_script(path, *args):
    return subprocess.run([sys.executable, "-c", SCRIPT, str(path), *map(str, args)], capture_output=True, text=True)


def test_killed_twice_and_resumed_computes_every_block_once(tmp_path):
    path = tmp_path / "k.npy"
    first, second, last = run_script(path, 4), run_script(path, 5), run_script(path)
    assert first.returncode == second.returncode == -signal.SIGKILL and last.returncode == 0, last.stderr
    started = [r.stdout.splitlines() for r in (first, second, last)]
    finished = started[0][:-1] + started[1][:-1] + started[2]
    assert len(finished) == len(set(finished)) == 15  # 5·6/2 blocks
    assert np.array_equal(np.load(path), K.gram(X, block=64))


def interrupted(path, after=3):
    """A file some of whose blocks are done."""
    done = []

    class Stop(Exception):
        pass

    def write(self, block):
        original(self, block)
        done.append(block)
        if len(done) == after:
            raise Stop

    original, blocks.Journal.add = blocks.Journal.add, write
    try:
        with pytest.raises(Stop):
            K.gram(X, block=64, path=path)
    finally:
        blocks.Journal.add = original
    return path.with_name(path.name + ".journal")


def test_a_cut_last_line_of_the_journal_is_dropped(tmp_path, monkeypatch):
    path = tmp_path / "k.npy"
    journal = interrupted(path)
    text = journal.read_text()
    journal.write_text(text[:-4])
    computed, part = [], compute.Job.part
    monkeypatch.setattr(compute.Job, "part", lambda self, block: computed.append(block) or part(self, block))
    assert np.array_equal(K.gram(X, block=64, path=path), K.gram(X, block=64))
    assert len(journal.read_text().splitlines()) == 16
    assert len(computed) == 15 - 2 + 15  # the two whole lines stay finished; the comparison computes all


def test_another_computation_is_refused(tmp_path):
    path = tmp_path / "k.npy"
    interrupted(path)
    for call, what in (
        (lambda: K.gram(X + 1e-9, block=64, path=path), "inputs"),
        (lambda: tp.nngp(NET).gram(X, block=64, path=path), "kernel"),
        (lambda: tp.ntk(programs.mlp(depth=2, sigma_b=0.2)).gram(X, block=64, path=path), "kernel"),
        (lambda: K.gram(X, block=64, path=path, dtype="float32"), "dtype"),
        (lambda: K.gram(X, block=128, path=path), "block"),
    ):
        with pytest.raises(tp.DataError, match=f"another computation: .*{what}"):
            call()
    assert np.array_equal(K.gram(X, block=128, path=path, resume=False), K.gram(X, block=128))


def test_a_damaged_file_or_journal_is_refused(tmp_path):
    path = tmp_path / "k.npy"
    journal = interrupted(path)
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(tp.DataError, match="cut short"):
        K.gram(X, block=64, path=path)
    path.unlink()
    with pytest.raises(tp.DataError, match="is missing"):
        K.gram(X, block=64, path=path)
    journal.write_text(json.dumps({"kernel": 1}) + "\n{broken\n[0, 1\n")
    with pytest.raises(tp.DataError, match="damaged"):
        K.gram(X, block=64, path=path)


def test_a_zarr_array_that_lost_a_chunk_is_refused(tmp_path):
    path = tmp_path / "k.zarr"
    interrupted(path)
    chunks = sorted(p for p in (path / "c").rglob("*") if p.is_file())
    kept = chunks[0].read_bytes()
    chunks[0].unlink()
    with pytest.raises(tp.DataError, match=rf"holds {len(chunks) - 1} of the {len(chunks)} chunks"):
        K.gram(X, block=64, path=path)
    chunks[0].write_bytes(kept)
    assert np.array_equal(np.asarray(K.gram(X, block=64, path=path)[:]), K.gram(X, block=64))


def test_a_full_disk_is_an_error_and_recovers(tmp_path, monkeypatch):
    path, count = tmp_path / "k.npy", []
    original = blocks.NpyStore.write

    def full(self, block, value):
        count.append(block)
        if len(count) == 6:
            with blocks.on_disk(self.path):
                raise OSError(errno.ENOSPC, "No space left on device")
        original(self, block, value)

    monkeypatch.setattr(blocks.NpyStore, "write", full)
    with pytest.raises(tp.ComputeError, match="No space left on device; finished blocks are kept"):
        K.gram(X, block=64, path=path)
    monkeypatch.undo()
    assert np.array_equal(K.gram(X, block=64, path=path), K.gram(X, block=64))


def test_a_file_larger_than_the_disk_is_refused_at_once(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(tp.ComputeError, match="No space left"):
        K.gram(X, path=tmp_path / "k.npy")


# ---- clusters ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_gives_the_same_and_survives_a_killed_worker():
    from distributed import Client, LocalCluster

    x = RNG.normal(size=(2000, 20))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        killed, write = [], compute._write

        def kill_one(*args):
            write(*args)
            if len(killed) == 3:
                os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
            killed.append(1)

        compute._write = kill_one
        try:
            ours = K.gram(x, client=client, block=256)
        finally:
            compute._write = write
        assert len(killed) == 36 and np.array_equal(ours, K.gram(x, block=256))


def test_a_cluster_without_dask_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(tp.ComputeError, match=r"client=.. needs Dask: pip install 'tensorprog\[cluster\]'"):
        K.gram(X, client=object())


def test_zarr_without_zarr_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(tp.ComputeError, match=r"needs zarr: pip install 'tensorprog\[zarr\]'"):
        K.gram(X, path=tmp_path / "k.zarr")


def test_a_client_that_is_none_is_refused():
    with pytest.raises(tp.DataError, match=r"client must be a distributed.Client, got 'localhost:8786'"):
        K.gram(X, client="localhost:8786")


# ---- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: K.gram(X, X[:, :3]), tp.DataError, "X1 has feature dimension 7 and X2 3"),
        (lambda: K.gram(np.full((2, 3), np.nan)), tp.DataError, "clean the data"),
        (lambda: K.gram(np.empty((0, 3))), tp.DataError, "holds no inputs"),
        (lambda: K.gram(X, dtype=np.int64), tp.DataError, "float64 or float32"),
        (lambda: K.gram(X, dtype="nonsense"), tp.DataError, "float64 or float32"),
        (lambda: K.gram(X, backend="fortran"), tp.NoRuleError, "unknown backend 'fortran'"),
        (lambda: K.gram(X, block=0), tp.DataError, "positive integer"),
        (lambda: K.gram(X, path="k.txt"), tp.DataError, ".npy .* or .zarr"),
        (lambda: tp.gram([], X), tp.DataError, "a kernel or a list"),
        (lambda: tp.gram([K, tp.ntk(programs.rnn())], X), tp.DataError, "some sequences"),
        (lambda: tp.ntk(programs.mlp(phi=tp.elu)).gram(X, backend="numba"), tp.NoRuleError, "closed forms and smooth"),
        (lambda: tp.nngp(programs.mlp(phi=tp.exp, depth=3)).gram(100 * X), tp.DataError, "not finite"),
    ],
)
def test_bad_input_is_named(call, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        call()


def test_mixed_precision_follows_dtype():
    x = X.astype(np.float32)
    assert K.gram(x, Y).dtype == np.float64 and np.array_equal(K.gram(x, Y), K.gram(x.astype(float), Y))
    assert K.gram(x, Y, dtype="float32").dtype == np.float32


def test_importing_the_package_does_not_import_numba():
    code = "import sys, tensorprog; sys.exit('numba' in sys.modules or 'distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
