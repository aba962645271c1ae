"""What a Gram matrix in blocks takes beside its inputs, and what a bar is told."""

import tracemalloc

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.grams import blocks, compute, evaluator, sequences

NET = programs.mlp(depth=2, sigma_b=0.1)
RNG = np.random.default_rng(0)


@pytest.fixture
def peak():
    def measured(call):
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measured


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("count, d, memory", [(700, 5000, 2**26), (1500, 5000, 2**27), (200, 40000, 2**26)])
def test_blocks_of_long_inputs_keep_to_the_memory(tmp_path, peak, dtype, symmetric, count, d, memory):
    x = RNG.normal(size=(count, d))
    y = None if symmetric else RNG.normal(size=(count // 2, d))
    kernels, paths = [tp.nngp(NET), tp.ntk(NET)], [tmp_path / "a.npy", tmp_path / "b.npy"]
    tp.gram(kernels, x[:9, :7])  # compiled once, which is not of a block
    options = {"dtype": dtype, "memory": memory}
    assert peak(lambda: tp.gram(kernels, x, y, path=paths, **options)) < memory


@pytest.mark.parametrize("ending", ["npy", "zarr"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("threads", [1, 16])
def test_blocks_of_short_inputs_keep_to_the_memory(tmp_path, peak, monkeypatch, ending, dtype, threads):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    x, K = RNG.normal(size=(3000, 8)), tp.ntk(NET)
    K.gram(x[:9], path=tmp_path / f"small.{ending}")
    assert peak(lambda: K.gram(x, path=tmp_path / f"k.{ending}", dtype=dtype, memory=2**25)) < 2**25


@pytest.mark.parametrize("threads", [1, 16])
def test_blocks_of_short_sequences_keep_to_the_memory(tmp_path, peak, monkeypatch, threads):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    x, K = RNG.normal(size=(1500, 4, 3)), tp.nngp(programs.rnn())
    K.gram(x[:9])
    assert peak(lambda: K.gram(x, path=tmp_path / "k.npy", memory=2**25)) < 2**25


def test_strided_inputs_are_not_copied_to_be_told_apart(peak):
    x = RNG.normal(size=(2000, 1, 200))
    turned = x[::-1]
    assert peak(lambda: blocks.fingerprint(turned)) < 2**18
    assert blocks.fingerprint(turned) == blocks.fingerprint(turned.copy()) != blocks.fingerprint(x)


def test_memory_for_less_than_a_tile_gives_smaller_blocks():
    job = compute._job((tp.ntk(NET),), np.ones((500, 1000)), None, None, np.float64, None)
    sizes = [compute._block_size(job, None, 2**k) for k in range(1, 40)]
    assert sizes == sorted(sizes) and sizes[0] == 1 and sizes[-1] == 512
    assert all(s % compute.TILE == 0 for s in sizes if s > compute.TILE)


# ---- progress -------------------------------------------------------------------------------------------

RAGGED = [RNG.normal(size=(t, 3)) for t in (1, 2, 2, 3, 1, 3, 3)]
LONG = [RNG.normal(size=(t, 3)) for t in (8, 9, 8, 10, 8, 9, 10)]


@pytest.mark.parametrize("make, data", [
    (tp.programs.mlp, (RNG.normal(size=(17, 3)), None)), (tp.programs.mlp, (RNG.normal(size=(17, 3)), np.ones((9, 3)))),
    (tp.programs.rnn, (RAGGED, None)), (tp.programs.rnn, (RAGGED, LONG[:2])), (tp.programs.rnn, (LONG, None)),
    (tp.programs.rnn, (LONG, LONG[:3])),
])  # fmt: skip
@pytest.mark.parametrize("block", [None, 5])
@pytest.mark.parametrize("panel", [4, 1000])
def test_the_bar_ends_at_its_total(monkeypatch, make, data, block, panel):
    told = []
    for module, name in ((evaluator, "HEIGHT"), (compute, "HEIGHT"), (sequences, "PANEL"), (compute, "PANEL")):
        monkeypatch.setattr(module, name, panel)
    tp.nngp(make()).gram(*data, progress=lambda done, total, what: told.append((done, total)), block=block)
    assert told == sorted(told) and told[-1][0] == told[-1][1] and len({total for _, total in told}) == 1
