"""Inputs that come with matrices, and inputs of named arrays, at width n against torch on the same weights."""

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.empirical import FiniteNetwork
from tests.convolutions import assert_close, dense

WIDTH = 12


@tp.network
def graph(net, x):
    """Two aggregations, weights of nodes for the average."""
    h = net.aggregate(net.embed("U", x["nodes"], std=1.3), x["A"], "symmetric", loops=1)
    h = net.aggregate(net.dense("W", tp.tanh(h), std=1.2), x["A"])
    return net.readout("V", net.global_pool(tp.erf(h)))


def graph_torch(p, nodes, A):
    a = A + torch.eye(len(A))
    root = a.sum(1) ** -0.5
    h = dense(p["U"], nodes.T, 1.3) @ (root[:, None] * a * root).T
    h = dense(p["W"], torch.tanh(h), 1.2) @ A.T
    return (p["V"] * torch.erf(h).mean(1)).sum() / WIDTH**0.5


def graphs(count):
    rng = np.random.default_rng(6)
    edges = [np.triu(rng.random((4 + i % 2, 4 + i % 2)) < 0.6, 1).astype(float) for i in range(count)]
    return {"nodes": [rng.standard_normal((len(a), 3)) for a in edges], "A": [a + a.T for a in edges]}


def test_the_empirical_ntk_of_graphs_is_the_gram_matrix_of_torch_gradients():
    X, net = graphs(4), graph()
    finite = FiniteNetwork.of(net, read_inputs(X, "X", net.form))
    w = finite.draw(WIDTH, [2])
    p = {n: torch.tensor(a[0], requires_grad=True) for n, a in w.items()}
    f = [graph_torch(p, torch.tensor(x), torch.tensor(A)) for x, A in zip(X["nodes"], X["A"], strict=True)]
    J = torch.stack([torch.cat([g.ravel() for g in torch.autograd.grad(y, list(p.values()))]) for y in f]).numpy()
    values = finite.run(w)
    assert_close(finite.outputs(values, w)[0], [y.item() for y in f])
    assert_close(finite.ntk(values)[0], J @ J.T)
    assert_close(tp.empirical_ntk(net, X, width=WIDTH, seed=2), J @ J.T)


NETS = ["cnn", "gcn", "gin", "locally_connected", "mixer", "myrtle", "resnet", "two_branch"]


@pytest.mark.parametrize("name", NETS)
def test_networks_of_the_gallery_have_one_kernel_by_rows_and_by_one_program(name):
    net = tp.programs.GALLERY[name]()
    X = __import__(f"tensorprog.programs.{name}", fromlist=["inputs"]).inputs(np.random.default_rng(0), 2)
    finite = FiniteNetwork.of(net, read_inputs(X, "X", net.form))
    K = tp.empirical_ntk(net, X, width=8, seed=1)
    assert_close(finite.ntk(finite.run(finite.draw(8, [1])))[0], K)
