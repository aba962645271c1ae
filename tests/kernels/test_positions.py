"""Networks over positions: their kernels are those of the same networks with a vector for every position."""

import copy
import math
import pickle

import numpy as np
import pytest
import scipy.sparse
import sympy as sp

import tensorprog as tp
from tests.random_cases.positions import Stack, over_axes, random_stack, unrolled

SMOOTH_BELOW_KINKED = {"sigmoid", "tanh", "gelu"}
KINKED = {"relu", "abs_"}


def names_of(step):
    """The words in steps, at any depth."""
    return set().union(*map(names_of, step)) if isinstance(step, tuple) else {step} if isinstance(step, str) else set()


def check(stack, kind, seed=0):
    """K(X, X') of distinct inputs; K(x, x) too where no angle between equal vectors is lost in their covariances."""
    X = np.random.default_rng(seed).standard_normal((3, *stack.sizes, 2))
    flat = X.reshape(3, -1, 2)
    ours, loop = kind(over_axes(stack)), kind(unrolled(stack))
    value, expected = ours(X[:2], X[2:]), loop(flat[:2], flat[2:])
    assert np.abs(value - expected).max() <= 1e-13 * np.abs(expected).max(), stack
    names = names_of(stack.steps)
    if not (names & SMOOTH_BELOW_KINKED and names & KINKED):
        own, wanted = ours(X[:1]), loop(flat[:1])
        assert np.abs(own - wanted).max() <= 1e-13 * np.abs(wanted).max(), stack


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("seed", range(24))
def test_one_layer_over_positions_is_a_loop_over_them(seed, kind):
    check(random_stack(seed, depth=1), kind, seed)


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("seed", range(100, 116))
def test_two_layers_over_positions_are_a_loop_over_them(seed, kind):
    check(random_stack(seed, depth=2), kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(10))
def test_many_networks_over_positions_are_loops_over_them(chunk):
    for seed in range(1000 + 30 * chunk, 1030 + 30 * chunk):
        stack = random_stack(seed, depth=1 + seed % 3)
        for kind in (tp.nngp, tp.ntk):
            check(stack, kind, seed)


BY_HAND = {
    "pooled twice": Stack((6,), (("conv", "W0", 3, 1, 1, "same", 1), ("phi", "relu"), ("avg_pool", 2, 2, "valid"),
                                 ("avg_pool", 2, 1, "valid"), ("global", "V", 1))),
    "cropped after pooling": Stack((4, 4), (("conv", "W0", 2, 1, 1, "same", 1), ("phi", "erf"),
                                            ("avg_pool", 2, 1, "same"), ("crop", 1, 1), ("flatten", "V", 1))),
    "padded where the function is not 0": Stack((3,), (("embed", "W0", 1), ("phi", "sigmoid"), ("pad", 1, 1),
                                                       ("conv", "W1", 3, 1, 1, "same", 1), ("phi", "sigmoid"),
                                                       ("global", "V", 1))),
    "biases at positions pooled": Stack((2, 2), (("conv", "W0", 2, 1, 1, "circular", 1), ("bias_at", "b0", 1),
                                                 ("avg_pool", 2, 1, "same"), ("phi", "relu"), ("global", "V", 1))),
    "up and down": Stack((3,), (("conv", "W0", 3, 2, 1, "same", 1), ("phi", "relu"),
                                ("conv_transpose", "W1", 3, 2, 1, "same", 1), ("bias", "b1", 1), ("phi", "relu"),
                                ("flatten", "V", 1))),
    "untied twice": Stack((4,), (("local", "W0", 3, 1, 1, "same", 1), ("phi", "abs_"),
                                 ("local", "W1", 2, 2, 1, "valid", 1), ("phi", "relu"), ("global", "V", 1))),
}  # fmt: skip


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("name", BY_HAND)
def test_layers_in_a_row_are_a_loop(name, kind):
    check(BY_HAND[name], kind)


# ---- an independent recursion --------------------------------------------------------------------------


def arc_cosine(c, q, r):
    """E relu(u) relu(v) and E step(u) step(v), for arrays of covariances and variances (Cho and Saul 2009)."""
    root = np.sqrt(q[:, None] * r[None, :])
    angle = np.arccos(np.clip(c / root, -1, 1))
    return root * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)


def windows(c, sizes, radius=1):
    """(1/|w|) Σ_k C[p + k, q + k], zero outside of the image, of an array over pairs of positions of two images."""
    height, width = sizes
    c = c.reshape(height, width, height, width)
    out = np.zeros_like(c)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            rows = [i for i in range(height) if 0 <= i + dy < height]
            columns = [j for j in range(width) if 0 <= j + dx < width]
            for i in rows:
                for j in columns:
                    for k in rows:
                        for l in columns:
                            out[i, j, k, l] += c[i + dy, j + dx, k + dy, l + dx]
    return out.reshape(height * width, height * width) / (2 * radius + 1) ** 2


def recursion(x, y, sizes, depth, sigma_w, sigma_b, pool):
    """Σ and Θ of a relu network with 3×3 windows, layer by layer (Arora et al. 2019, without their factor 2)."""
    pairs = {"xy": (x, y), "xx": (x, x), "yy": (y, y)}
    e = {k: a @ b.T / a.shape[1] for k, (a, b) in pairs.items()}
    t = {k: np.zeros_like(v) for k, v in e.items()}
    for _ in range(depth):
        s = {k: sigma_w**2 * windows(v, sizes) + sigma_b**2 for k, v in e.items()}
        h = {k: sigma_w**2 * windows(e[k] + t[k], sizes) + sigma_b**2 for k in e}
        q, r = np.diag(s["xx"]), np.diag(s["yy"])
        for k, (a, b) in {"xy": (q, r), "xx": (q, q), "yy": (r, r)}.items():
            e[k], derivative = arc_cosine(s[k], a, b)
            t[k] = derivative * h[k]
    read = np.mean if pool == "global" else lambda c: np.diag(c).mean()
    return read(e["xy"]), read(e["xy"] + t["xy"])


@pytest.mark.parametrize("pool", ["global", "flatten"])
def test_a_convolutional_network_follows_the_recursion_of_its_paper(pool):
    sizes, net = (3, 4), tp.programs.cnn(depth=3, pool=pool, sigma_w=1.3, sigma_b=0.2)
    X = np.random.default_rng(0).standard_normal((3, *sizes, 2))
    flat = X.reshape(3, -1, 2)
    for kind, which in ((tp.nngp, 0), (tp.ntk, 1)):
        value = kind(net)(X[:2], X[2:])
        wanted = [[recursion(flat[i], flat[2], sizes, 3, 1.3, 0.2, pool)[which]] for i in range(2)]
        assert value == pytest.approx(np.array(wanted), rel=1e-13)


def graph_recursion(a, b, depth):
    """Σ and Θ of the graph network H^l = A φ(H^{l−1}) W^l averaged over nodes; a, b are (features, A)."""
    pairs = {"xy": (a, b), "xx": (a, a), "yy": (b, b)}
    s = {k: A @ (x @ y.T / x.shape[1]) @ B.T for k, ((x, A), (y, B)) in pairs.items()}
    h = dict(s)
    for l in range(depth):
        q, r = np.diag(s["xx"]), np.diag(s["yy"])
        e, t = {}, {}
        for k, (c, d) in {"xy": (q, r), "xx": (q, q), "yy": (r, r)}.items():
            e[k], derivative = arc_cosine(s[k], c, d)
            t[k] = derivative * h[k]
        if l < depth - 1:
            s = {k: pairs[k][0][1] @ e[k] @ pairs[k][1][1].T for k in s}
            h = {k: pairs[k][0][1] @ (e[k] + t[k]) @ pairs[k][1][1].T for k in s}
    return e["xy"].mean(), (e["xy"] + t["xy"]).mean()


def graphs(count=3, seed=0):
    rng = np.random.default_rng(seed)
    weights = [np.triu(rng.random((n, n)), 1) for n in (4, 5, 3, 6)[:count]]
    return {"nodes": [rng.standard_normal((len(a), 2)) for a in weights], "A": [a + a.T for a in weights]}


NORMALISED = {
    "none": lambda a: a,
    "mean": lambda a: a / a.sum(axis=1, keepdims=True),
    "symmetric": lambda a: a / np.sqrt(np.outer(a.sum(axis=1), a.sum(axis=0))),
}


@pytest.mark.parametrize("normalise", NORMALISED)
def test_a_graph_network_has_the_covariances_a_c_a(normalise):
    X, net = graphs(), tp.programs.gcn(depth=3, normalise=normalise, loops=0.5)
    data = [(x, NORMALISED[normalise](a + 0.5 * np.eye(len(a)))) for x, a in zip(X["nodes"], X["A"], strict=True)]
    for kind, which in ((tp.nngp, 0), (tp.ntk, 1)):
        value = kind(net)(X)
        for i, j in ((0, 1), (1, 2), (2, 0)):
            assert value[i, j] == pytest.approx(graph_recursion(data[i], data[j], 3)[which], rel=1e-13)


# ---- matrices that come with inputs --------------------------------------------------------------------


@tp.network
def averaged(net, x, *, given=True, phi=tp.relu):
    h = phi(net.conv("U", x["x"], kernel=3))
    h = net.aggregate(h, x["A"]) if given else net.avg_pool(h, kernel=3, stride=1, padding="same")
    h = h + net.dense("W", h)
    h = net.aggregate(h, x["A"]) if given else net.avg_pool(h, kernel=3, stride=1, padding="same")
    return net.readout("V", net.global_pool(phi(net.dense("W2", h))))


def test_a_band_matrix_is_an_average_over_windows():
    x = np.random.default_rng(0).standard_normal((3, 5, 2))
    band = np.array([[abs(i - j) <= 1 for j in range(5)] for i in range(5)]) / 3
    X = {"x": x, "A": np.broadcast_to(band, (3, 5, 5))}
    for kind in (tp.nngp, tp.ntk):
        value, wanted = kind(averaged())(X), kind(averaged(given=False))({"x": x})
        assert value == pytest.approx(wanted, rel=1e-13)


def test_sparse_matrices_and_dense_ones_are_the_same_graph():
    X, K = graphs(), tp.ntk(tp.programs.gin())
    sparse = {"nodes": X["nodes"], "A": [scipy.sparse.csr_array(a) for a in X["A"]]}
    assert np.array_equal(K(X), K(sparse))


def test_the_numbers_of_nodes_change_nothing():
    X, K = graphs(4), tp.ntk(tp.programs.gin())
    order = [2, 0, 3, 1]
    moved = {k: [v[i] for i in order] for k, v in X.items()}
    assert K(moved) == pytest.approx(K(X)[np.ix_(order, order)], rel=1e-13)
    permuted = np.random.default_rng(1).permutation(5)
    again = {"nodes": [X["nodes"][1][permuted]], "A": [X["A"][1][np.ix_(permuted, permuted)]]}
    one = {k: v[:1] for k, v in X.items()}
    assert K(one, again)[0, 0] == pytest.approx(K(X)[0, 1], rel=1e-12)


def test_an_output_at_a_node_is_a_pool_with_one_weight():
    X, P = graphs(2), 4
    at_each = {"nodes": [X["nodes"][0]] * P, "A": [X["A"][0]] * P, "node": list(np.eye(P))}
    K = tp.nngp(tp.programs.gin(pool="node"))(at_each)
    pooled = tp.nngp(tp.programs.gin())({k: v[:1] for k, v in X.items()})
    assert K.mean() == pytest.approx(pooled[0, 0], rel=1e-13)  # the mean over nodes is the mean of their outputs


def test_a_mask_that_is_normalised_is_the_mean_of_what_it_keeps():
    @tp.network
    def masked(net, x):
        return net.readout("V", net.weighted_pool(tp.relu(net.embed("U", x["x"])), x["m"], normalise="mean"))

    @tp.network
    def plain(net, x):
        return net.readout("V", net.global_pool(tp.relu(net.embed("U", x))))

    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    value = tp.ntk(masked())({"x": x, "m": np.array([[1.0, 1, 0, 0]] * 2)})
    assert value == pytest.approx(tp.ntk(plain())(x[:, :2]), rel=1e-13)


# ---- named arrays and tokens ---------------------------------------------------------------------------


@tp.network
def branches(net, x, *, phi=tp.erf):
    u, y = x
    return net.readout("V", phi(net.embed("U", u)) * phi(net.embed("Y", y)))


@tp.network
def named(net, x, *, phi=tp.erf):
    return net.readout("V", phi(net.embed("U", x["u"])) * phi(net.embed("Y", x["y"])))


def test_named_vectors_of_one_dimension_are_a_sequence():
    X = np.random.default_rng(0).standard_normal((4, 2, 3))
    for kind in (tp.nngp, tp.ntk):
        assert np.array_equal(kind(named())({"u": X[:, 0], "y": X[:, 1]}), kind(branches())(X))


def test_named_vectors_have_dimensions_of_their_own():
    rng = np.random.default_rng(0)
    X = {"u": rng.standard_normal((3, 5)), "y": rng.standard_normal((3, 2))}

    def second_moment(x):  # E erf erf of preactivations of covariance x x'/d
        c = x @ x.T / x.shape[1]
        q = np.diag(c)
        return 2 / math.pi * np.arcsin(2 * c / np.sqrt(np.outer(1 + 2 * q, 1 + 2 * q)))

    expected = second_moment(X["u"]) * second_moment(X["y"])
    assert tp.nngp(named())(X) == pytest.approx(expected, rel=1e-13)
    assert tp.ntk(named()).gram(X) == pytest.approx(tp.ntk(named())(X), rel=1e-13)


def test_what_is_equal_at_one_node_may_be_embedded_for_the_whole_input():
    @tp.network
    def both(net, x, *, whole=True):
        h = net.conv("U", x["image"], kernel=3)
        v = net.embed("Y", x["y"]) if whole else net.conv("Y", x["y"], kernel=1)
        return net.readout("V", net.global_pool(tp.relu(h + v)))

    rng = np.random.default_rng(0)
    image, y = rng.standard_normal((2, 3, 3, 2)), rng.standard_normal((2, 4))
    everywhere = np.broadcast_to(y[:, None, None, :], (2, 3, 3, 4))
    for kind in (tp.nngp, tp.ntk):
        value = kind(both())({"image": image, "y": y})
        assert value == pytest.approx(kind(both(whole=False))({"image": image, "y": everywhere}), rel=1e-13)


def test_tokens_are_one_hot_vectors_of_inner_product_one():
    @tp.network
    def text(net, x):
        return net.flatten("V", net.conv("W", tp.relu(net.embed("U", x)), kernel=1))

    T = np.array([[0, 3, 2], [0, 1, 2], [4, 4, 4]])
    same = (T[:, None] == T[None]).mean(axis=2)  # E relu(u) relu(v) is 1/2 of a token with itself, 1/2π of two
    expected = same / 2 + (1 - same) / (2 * math.pi)
    K = tp.nngp(text())
    assert K(T) == pytest.approx(expected, rel=1e-13)
    assert K(T, T[:2]) == pytest.approx(expected[:, :2], rel=1e-13)
    assert K(T.tolist()) == pytest.approx(expected, rel=1e-13)


def test_tokens_of_a_recurrent_network_are_one_hot_vectors():
    T = np.array([[0, 3, 2, 1], [0, 1, 1, 2]])
    K = tp.ntk(tp.programs.rnn())
    assert K(T) == pytest.approx(K(2.0 * np.eye(4)[T]), rel=1e-13)


def test_two_products_of_one_matrix_after_pooling_are_two_quantities():
    """E relu(a) relu(b) of a = W g, b = W φ(Q g) of one input is no expectation of a quantity with itself."""

    @tp.network
    def net(net, x, *, pooled=True):
        h = tp.relu(net.conv("U", x, kernel=1) if pooled else net.embed("U", x[0]))
        g = net.global_pool(h) if pooled else h
        a, b = net.dense("W", g), net.dense("W", tp.relu(net.dense("Q", g)))
        m = tp.moment(lambda u, v: tp.relu(u) * tp.relu(v), a, b)
        return net.readout("V", tp.nonlin(lambda u, s: s * tp.relu(u), a, params=[m]))

    x = np.random.default_rng(0).standard_normal((2, 1, 2))
    x = np.concatenate([x, x[:1]])  # two equal inputs
    value, wanted = tp.nngp(net())(x), tp.nngp(net(pooled=False))(x)
    assert value == pytest.approx(wanted, rel=1e-13)
    assert tp.nngp(net()).gram(x) == pytest.approx(wanted, rel=1e-13)


# ---- copies, accounts ----------------------------------------------------------------------------------


def test_kernels_and_limits_over_positions_are_copied_and_pickled():
    X, K = graphs(), tp.ntk(tp.programs.gcn())
    value = K(X)
    for again in (pickle.loads(pickle.dumps(K)), copy.deepcopy(K), copy.copy(K)):
        assert np.array_equal(again(X), value)
    d = K._derive()
    assert str(pickle.loads(pickle.dumps(d.limit)).program) == str(d.limit.program)
    form = tp.programs.gcn().form
    assert pickle.loads(pickle.dumps(form)) == form


def test_errors_of_expectations_are_those_of_their_own_inputs():
    """One expectation stands for (x, x'), (x, x) and (x', x'): each is moved by its own error."""
    net = tp.programs.cnn(depth=2, phi=tp.gelu)
    X = np.random.default_rng(0).standard_normal((2, 3, 3, 1)) * np.array([1.0, 30.0])[:, None, None, None]
    found = tp.ntk(net).account(X)
    assert (found.error > 0).all() and np.isfinite(found.error).all()
    small = tp.ntk(net).account(X[:1])
    assert found.error[0, 0] == pytest.approx(small.error[0, 0], rel=1e-6)


# ---- values, Gram matrices -------------------------------------------------------------------------------


def test_scales_that_are_symbols_stay_symbols():
    sigma = sp.Symbol("sigma", positive=True)
    net = tp.programs.cnn(depth=1, phi=tp.identity, sigma_w=sigma)
    X = np.random.default_rng(0).standard_normal((2, 3, 3, 1))
    value = tp.nngp(net)(X, values={"sigma": 2.0})
    assert value == pytest.approx(4 * tp.nngp(tp.programs.cnn(depth=1, phi=tp.identity))(X), rel=1e-13)


@pytest.mark.parametrize("name", ["gcn", "gin"])
def test_gram_matrices_of_graphs_are_those_of_the_equations(name, tmp_path):
    K, X = tp.ntk(tp.programs.GALLERY[name]()), graphs(4)
    value, two = K(X), {k: v[:2] for k, v in X.items()}
    for found in (K.gram(X), K.gram(X, block=2)):
        assert found == pytest.approx(value, rel=1e-13)
    assert K.gram(X, two) == pytest.approx(value[:, :2], rel=1e-13)
    K.gram(X, path=tmp_path / "K.npy")
    other = {**X, "A": [2 * a for a in X["A"]]}  # the same nodes: another job
    assert np.abs(K.gram(other, path=tmp_path / "other.npy") - value).max() > 0.01
