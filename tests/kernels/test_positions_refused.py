"""What has no meaning for networks over positions is refused in words."""

import numpy as np
import pytest
import scipy.sparse

import tensorprog as tp
from tensorprog.errors import AssumptionError, DataError, ProgramError


def built(fn):
    return tp.network(lambda net, x: fn(net, x))()


def kernel(fn, X):
    return tp.nngp(built(fn))(X)


ONES = np.ones((2, 4, 2))
READ = lambda net, h: net.readout("V", net.global_pool(h))  # noqa: E731


@pytest.mark.parametrize(
    "fn, X, error, words",
    [
        (lambda net, x: READ(net, net.conv("U", x, kernel=5, padding="valid")), ONES, DataError,
         "a window of 5 positions does not fit into 4"),
        (lambda net, x: net.flatten("V", net.conv("U", x)), [np.ones((3, 2)), np.ones((4, 2))], DataError,
         "takes inputs of equal sizes"),
        (lambda net, x: READ(net, net.conv("U", x)), [np.ones((3, 2)), np.ones((4, 1))], DataError, "channels"),
        (lambda net, x: READ(net, net.conv("U", x, kernel=(3, 3))), ONES, DataError, "has a kernel of 2 axes"),
        (lambda net, x: READ(net, net.conv("U", x, kernel=(3, 3), stride=(1, 1, 1))), ONES, ProgramError, "2, 3"),
        (lambda net, x: READ(net, net.conv("U", x, kernel=0)), ONES, ProgramError, "must be a positive integer"),
        (lambda net, x: READ(net, net.conv("U", x, kernel=2.5)), ONES, ProgramError, "must be a positive integer"),
        (lambda net, x: READ(net, net.conv("U", x, padding="reflect")), ONES, ProgramError, "'same', 'valid' or"),
        (lambda net, x: READ(net, net.conv("U", net.embed("E", x), initial="identity")), ONES, ProgramError,
         "must be None or 0 for a convolution"),
        (lambda net, x: READ(net, net.conv("W", net.global_pool(net.embed("U", x)))), ONES, ProgramError,
         "reads positions"),
        (lambda net, x: net.readout("V", net.embed("U", x) + 0 * net.conv("W", net.embed("U", x))), ONES,
         ProgramError, "global_pool"),
        (lambda net, x: READ(net, net.embed("U", x) + net.avg_pool(net.embed("U", x))), ONES, ProgramError,
         "different axes"),
        (lambda net, x: READ(net, net.beside(net.conv("U", x), net.conv("U2", x, stride=2))), ONES, ProgramError,
         "over the same axes"),
        (lambda net, x: READ(net, net.crop(net.conv("U", x), 2, 2)), ONES, DataError, "nothing is left"),
        (lambda net, x: READ(net, net.crop(net.conv("U", x), -1)), ONES, ProgramError, "a nonnegative integer"),
        (lambda net, x: READ(net, net.conv("U", net.avg_pool(x))), ONES, ProgramError, "embed it first"),
        (lambda net, x: READ(net, net.conv("W", net.conv("W", net.embed("U", x), 3), 5)), ONES, ProgramError,
         "used in two ways"),
        (lambda net, x: READ(net, net.dense("W", net.conv("W", net.embed("U", x)))), ONES, ProgramError,
         "used in two ways"),
        (lambda net, x: net.readout("V", net.global_pool(net.conv("U", x))) + net.flatten("V", net.conv("U", x)),
         ONES, ProgramError, "used in two ways"),
        (lambda net, x: READ(net, net.embed("U", x) + net.bias("b", like=net.embed("U", x), initial=2)), ONES,
         ProgramError, "must be None or 0 for a bias at positions"),
        (lambda net, x: net.flatten("V", net.global_pool(net.embed("U", x))), ONES, ProgramError, "use net.readout"),
        (lambda net, x: READ(net, net.aggregate(net.embed("U", x), np.eye(4))), ONES, ProgramError, r"x\['A'\]"),
        (lambda net, x: READ(net, net.aggregate(net.embed("U", x["a"]), x["A"], normalise="rows")), {}, ProgramError,
         "'none', 'mean' or 'symmetric'"),
        (lambda net, x: READ(net, net.aggregate(net.embed("U", x["A"]), x["A"])), {}, ProgramError,
         "is used as vector and as matrix"),
        (lambda net, x: READ(net, net.embed("U", x)) if isinstance(x, tuple) else READ(net, net.embed("U", x["a"], x)),
         {}, ProgramError, "must be a number"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_over_positions_is_refused(fn, X, error, words):
    with pytest.raises(error, match=words):
        kernel(fn, X)


GRAPH = {"nodes": [np.ones((3, 2))] * 2, "A": [np.eye(3)] * 2}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"A": [np.eye(3), np.ones((3, 2))]}, r"X1\['A'\]\[1\] has shape \(3, 2\); a matrix .* is square, \(3, 3\)"),
        ({"A": [np.eye(3), np.eye(4)]}, r"there are 3 positions: its shape must be \(3, 3\)"),
        ({"A": [np.eye(3)]}, r"2 in X1\['nodes'\]|1 in X1\['A'\]"),
        ({"nodes": [np.ones((3, 2)), np.ones((3, 1))]}, "does not go with .* 2 channels"),
        ({"nodes": np.ones((2, 3))}, "wanted are"),
        ({"a": [np.eye(3)] * 2}, "which the network does not read; known: A, nodes"),
        ({"A": [np.eye(3), -np.eye(3)]}, "rows or columns of negative sum"),
        ({"A": [np.eye(3), np.full((3, 3), np.nan)]}, r"X1\['A'\]\[1\] has the value nan"),
        ({"A": scipy.sparse.eye_array(3)}, "one sparse matrix; give a list"),
    ],
)
def test_graphs_that_do_not_go_together_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        tp.nngp(tp.programs.gcn(loops=0))(GRAPH | change)


def test_dictionaries_that_lack_an_array_are_refused():
    with pytest.raises(DataError, match="X1 lacks the array 'A'"):
        tp.nngp(tp.programs.gcn())({"nodes": GRAPH["nodes"]})
    with pytest.raises(DataError, match="must be a dictionary of named arrays"):
        tp.nngp(tp.programs.gcn())(np.ones((2, 3, 2)))
    with pytest.raises(DataError, match="must be a dictionary of named arrays"):
        tp.nngp(tp.programs.two_branch())(np.ones((2, 3)))


def test_arrays_embedded_by_one_matrix_have_one_dimension():
    @tp.network
    def shared(net, x):
        return net.readout("V", tp.relu(net.embed("U", x["a"])) * net.embed("U", x["b"]))

    with pytest.raises(DataError, match="are embedded by one matrix, 'U', and have dimensions 2 and 3"):
        tp.nngp(shared())({"a": np.ones((1, 2)), "b": np.ones((1, 3))})


def test_negative_tokens_are_refused():
    with pytest.raises(DataError, match=r"X1\[0\] holds the token -1"):
        tp.nngp(tp.programs.cnn())(np.array([[0, -1]]))


def test_what_is_not_gaussian_and_summed_over_positions_stays_out_of_nonlinearities():
    @tp.network
    def pooled_twice(net, x, *, phi=tp.relu):
        return net.readout("V", net.global_pool(phi(net.avg_pool(phi(net.conv("U", x))))))

    with pytest.raises(AssumptionError, match="put a dense layer or a convolution in between"):
        tp.nngp(pooled_twice())(ONES)
