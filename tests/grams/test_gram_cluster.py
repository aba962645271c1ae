"""Gram matrices on a Dask cluster: what is sent, what workers keep, and how failures are told."""

import logging
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.dsl.nonlinearities import Nonlinearity
from tensorprog.grams import cluster, compute

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")

NET = programs.mlp(depth=2, sigma_b=0.1)
K = tp.ntk(NET)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 5))


def started(**options):
    return distributed.LocalCluster(
        threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL, **options
    )


@pytest.fixture
def client():
    """A worker in this process, where calls can be counted."""
    with started(n_workers=1, processes=False) as local, distributed.Client(local) as found:
        yield found


def test_a_worker_derives_once_for_all_blocks(client, monkeypatch):
    made, evaluator = [], compute.Evaluator
    monkeypatch.setattr(compute, "Evaluator", lambda *args: made.append(args) or evaluator(*args))
    kernels = [tp.nngp(NET), K]
    for data in ((X,), (X, X[:9])):
        for found, expected in zip(
            tp.gram(kernels, *data, client=client, block=16), tp.gram(kernels, *data, block=16), strict=True
        ):
            assert np.array_equal(found, expected)
    assert len(made) == 2  # here and on the worker


def test_threads_of_a_worker_wait_for_the_one_that_derives(monkeypatch):
    made, evaluator = [], compute.SequenceEvaluator

    def slow(*args):
        made.append(args)
        time.sleep(0.1)
        return evaluator(*args)

    monkeypatch.setattr(compute, "SequenceEvaluator", slow)
    rnn, data = tp.ntk(programs.rnn()), RNG.normal(size=(12, 8, 3))
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: rnn.gram(data), range(4)))
    assert len(made) == 1 and all(np.array_equal(f, found[0]) for f in found)


def test_threads_of_a_worker_share_what_they_unpack(monkeypatch):
    made = []

    class Slow:
        @staticmethod
        def loads(packed):
            made.append(packed)
            time.sleep(0.2)
            return pickle.loads(packed)

    monkeypatch.setattr(compute, "pickle", Slow)
    compute._unpacked.cache_clear()
    many = distributed.LocalCluster(n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None)
    with many as local, distributed.Client(local) as four:
        found = K._of(programs.mlp(depth=3, sigma_b=0.1)).gram(X, client=four, block=16)
    assert len(made) == 1 and np.isfinite(found).all()


def test_values_of_symbols_and_precision_are_sent(client):
    import sympy as sp

    s = sp.Symbol("s", positive=True)
    net = tp.ntk(programs.mlp(depth=2, sigma_w=s))
    for value in (1.0, 1.5):
        options = {"values": {s: value}, "dtype": "float32", "block": 32}
        found = net.gram(X, client=client, **options)
        assert found.dtype == np.float32 and np.array_equal(found, net.gram(X, **options))


def test_sequences_of_all_lengths(client):
    rnn, data = tp.ntk(programs.rnn()), [RNG.normal(size=(t, 3)) for t in (1, 2, 3, 8, 9, 8, 2)]
    assert np.array_equal(rnn.gram(data, client=client, block=3), rnn.gram(data, block=3))


def test_a_block_that_fails_is_computed_once(client, monkeypatch):
    seen = []

    def arrays(self):
        seen.append(tuple(self.first.data[None].ravel()))
        raise tp.DataError("not finite on the data") if self.second is None else RuntimeError("out of luck")

    monkeypatch.setattr(compute.Job, "arrays", arrays)
    with pytest.raises(tp.DataError, match="^not finite on the data"):
        K.gram(X, client=client, block=80)
    with pytest.raises(
        tp.ComputeError, match=r"block \(0, 80, 0, 9\) failed on the cluster: RuntimeError: out of luck"
    ):
        K.gram(X, X[:9], client=client, block=80)
    assert len(seen) == 2


def test_networks_defined_in_functions_are_sent_with_their_code(client):
    @tp.network
    def inside(net, x):
        return net.readout("V", Nonlinearity("mine", lambda u: u**3)(net.embed("U", x)))

    K = tp.ntk(inside())
    assert np.array_equal(K.gram(X, client=client, block=80), K.gram(X, block=80))


class Held:
    """A cube that holds what belongs to this process."""

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, u):
        return u**3


def test_functions_of_this_process_cannot_be_sent(client):
    kernel = tp.nngp(programs.mlp(phi=Nonlinearity("mine", Held()), depth=1))
    with pytest.raises(tp.ComputeError, match="cannot be sent to a cluster: cannot pickle '_thread.lock' object"):
        kernel.gram(X, client=client, block=16)


@pytest.mark.parametrize("when", [0, 1])
def test_a_closed_client_is_told(client, monkeypatch, when):
    written, write = [], compute._write

    def close(*args):
        write(*args)
        written.append(1)
        client.close()

    monkeypatch.setattr(compute, "_write", close)
    if not when:
        client.close()
    with pytest.raises(tp.ComputeError, match="does not take work .*was the client closed"):
        K.gram(X, client=client, block=16)
    assert len(written) == when


@pytest.mark.slow
def test_a_call_that_kills_its_workers_is_told():
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        started(n_workers=1, processes=True) as local,
        distributed.Client(local) as client,
    ):
        with pytest.raises(tp.ComputeError, match="block 7 lost its worker more than 1 times.*allowed-failures"):
            list(cluster.results(client, os._exit, [(7, (1,))]))
        client.wait_for_workers(1)  # one that is being started cannot be stopped


@pytest.mark.parametrize("net", [programs.cnn(), programs.myrtle(), programs.gcn()], ids=lambda net: net.name)
def test_blocks_of_images_and_graphs(client, net):
    X = RNG.normal(size=(7, 4, 4, 2))
    if net.name == "gcn":
        edges = [np.triu(RNG.random((n, n)) < 0.5, 1).astype(float) for n in (3, 4, 5, 4, 3, 5)]
        X = {"nodes": [RNG.normal(size=(len(a), 2)) for a in edges], "A": [a + a.T for a in edges]}
    kernels = [tp.nngp(net), tp.ntk(net)]
    for found, expected in zip(tp.gram(kernels, X, client=client, block=3), tp.gram(kernels, X), strict=True):
        assert found == pytest.approx(expected, rel=1e-14)
