"""Backpropagation, path sums and their enumeration derive the same kernel; where they must not, they do not."""

import itertools
import re

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.paths import PathSum
from tensorprog.limit.evaluate import numbers, same
from tensorprog.limit.master import Interpreter
from tests.gallery import DEAR

GALLERY = tp.programs.GALLERY
WITHOUT_PHI = {"deep_linear", "gru"}
FAILING_GIA = {"mean_readout"}
OVER_POSITIONS = {name for name, net in GALLERY.items() if net().takes_axes}
OVER_MEMBERS = {name for name, net in GALLERY.items() if net().takes_batches}
BY_PATHS = sorted(set(GALLERY) - FAILING_GIA - OVER_POSITIONS)

W, U, B, H, V = sp.symbols("sigma_w sigma_u sigma_b sigma_h sigma_v", positive=True)
W1, W2, ALPHA = sp.symbols("w_1 w_2 alpha", positive=True)

# (hyperparameters, (T, T') or None); every entry of the gallery is also tested with its defaults and with symbols
CASES = {
    "deep_linear": [({"depth": 1}, None), ({"depth": 6, "sigma_w": W}, None)],
    "mlp": [
        ({"depth": 1, "sigma_b": B}, None),
        ({"depth": 2, "sigma_w": [W1, W2], "sigma_b": [B, 0]}, None),
        ({"depth": 5, "sigma_w": 1.5, "sigma_b": 0.1, "sigma_v": V}, None),
    ],
    "residual_mlp": [
        ({"depth": 2, "alpha": ALPHA}, None),
        ({"depth": 5, "sigma_w": W, "alpha": sp.Rational(1, 3)}, None),
    ],
    "rnn": [
        ({"sigma_h": H, "sigma_b": B}, (3, 2)),
        ({"sigma_w": W, "sigma_u": U, "sigma_h": 1}, (2, 4)),
        ({"layers": 2, "sigma_w": [W1, W2], "sigma_b": B, "sigma_h": H}, (3, 3)),
        ({"layers": 3, "sigma_h": 0.5}, (2, 3)),
        ({"tied": False, "sigma_h": H, "sigma_b": B}, (3, 3)),
        ({"tied": False, "layers": 2, "sigma_b": 1}, (3, 2)),
    ],
    "tied_autoencoder": [({"sigma_w": 2, "sigma_u": U}, None)],
}


def build(name, **hyperparameters):
    """A network of the gallery with an abstract nonlinearity."""
    phi = {} if name in WITHOUT_PHI else {"phi": tp.abstract("phi")}
    return GALLERY[name](**{**phi, **hyperparameters})


def symbolic(name):
    """The same with a symbol for every standard deviation."""
    names = [k for k in build(name).hyperparameters if k.startswith("sigma_")]
    return build(name, **{k: sp.Symbol(k, positive=True) for k in names})


def every_network():
    """(id, network, lengths) of all cases."""
    for name in GALLERY:
        yield f"{name}-defaults", build(name), None
        yield f"{name}-symbols", symbolic(name), None
        for k, (given, lengths) in enumerate(CASES.get(name, [])):
            yield f"{name}-{k}", build(name, **given), lengths


def by_id(cases):
    slow = {name: [pytest.mark.slow] for name in DEAR}
    return [pytest.param(*rest, id=name, marks=slow.get(name.split("-")[0], [])) for name, *rest in cases]


WITH_PATHS = [case for case in every_network() if case[0].split("-")[0] in BY_PATHS]


def value(kernel):
    return kernel._derive().poly


# ---- three ways to one kernel --------------------------------------------------------------------


@pytest.mark.parametrize(("net", "lengths"), by_id(WITH_PATHS))
def test_backpropagation_and_path_sums_agree(net, lengths):
    assert same(value(tp.ntk(net, lengths=lengths)), value(tp.ntk(net, method="paths", lengths=lengths)))


@pytest.mark.parametrize(("net", "lengths"), by_id(WITH_PATHS))
def test_listing_all_pairs_of_paths_agrees(net, lengths):
    assert same(value(tp.ntk(net, lengths=lengths)), value(tp.ntk(net, method="enumeration", lengths=lengths)))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("lengths", [(1, 1), (1, 2), (2, 1), (4, 2)], ids=str)
def test_recurrent_kernels_agree_for_sequences_of_any_lengths(lengths, tied):
    net = build("rnn", sigma_w=W, sigma_u=U, sigma_b=B, sigma_h=H, sigma_v=V, tied=tied)
    polys = [value(tp.ntk(net, method=m, lengths=lengths)) for m in ("backprop", "paths", "enumeration")]
    assert same(polys[0], polys[1]) and same(polys[0], polys[2])


@pytest.mark.parametrize("layers", [1, 2])
def test_untied_weights_have_the_same_formulas_for_equal_lengths(layers):
    given = {"sigma_w": W, "sigma_u": U, "sigma_b": B, "sigma_h": H, "layers": layers}
    tied, untied = (build("rnn", tied=t, **given) for t in (True, False))
    assert same(value(tp.ntk(tied)), value(tp.ntk(untied)))
    assert not same(value(tp.ntk(tied, lengths=(3, 2))), value(tp.ntk(untied, lengths=(3, 2))))


@pytest.mark.parametrize("method", ["paths", "enumeration"])
@pytest.mark.parametrize("name", BY_PATHS)
def test_the_ways_agree_for_an_input_with_itself(name, method):
    net = symbolic(name)
    length = net.fitting_length() if net.takes_sequences else None
    a, b = (tp.ntk(net, method=m)._derive((length, length), same=True).poly for m in ("backprop", method))
    assert same(a, b)


@pytest.mark.parametrize("method", ["paths", "enumeration"])
@pytest.mark.parametrize("name", sorted(OVER_POSITIONS - OVER_MEMBERS))
def test_path_sums_over_positions_are_refused(name, method):
    with pytest.raises(tp.AssumptionError, match="path sums over positions are not derived; use method='backprop'"):
        tp.ntk(build(name), method=method)._derive()


# ---- negative controls ---------------------------------------------------------------------------

DIFFERENT = {
    "mlp": [{}, {"sigma_w": 1}, {"sigma_w": W}, {"depth": 2}, {"sigma_b": 1}, {"sigma_v": 2}],
    "deep_linear": [{}, {"sigma_w": 2}, {"depth": 2}, {"sigma_v": V}],
    "residual_mlp": [{}, {"alpha": 2}, {"depth": 2}, {"sigma_w": 2}],
    "rnn": [{}, {"sigma_w": 2}, {"sigma_u": 2}, {"sigma_b": 1}, {"layers": 2}, {"sigma_v": 2}],
    "tied_autoencoder": [{}, {"sigma_w": 2}, {"sigma_u": 2}],
    "mean_readout": [{}, {"sigma_w": 2}, {"depth": 1}],
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_networks_have_different_kernels(name):
    polys = [value(tp.ntk(build(name, **given))) for given in DIFFERENT[name]]
    assert not any(same(p, q) for p, q in itertools.combinations(polys, 2))
    assert all(same(p, value(tp.ntk(build(name, **given)))) for p, given in zip(polys, DIFFERENT[name], strict=True))


@pytest.mark.parametrize("lengths", list(itertools.combinations([(2, 2), (2, 3), (3, 3)], 2)), ids=str)
def test_different_lengths_have_different_kernels(lengths):
    p, q = (value(tp.ntk(build("rnn"), lengths=pair)) for pair in lengths)
    assert not same(p, q)


def test_a_different_nonlinearity_is_a_different_kernel():
    phi, psi = (tp.programs.mlp(phi=tp.abstract(name)) for name in ("phi", "psi"))
    assert not same(value(tp.ntk(phi)), value(tp.ntk(psi)))


def test_the_ntk_is_not_the_nngp():
    net = build("mlp")
    assert not same(value(tp.ntk(net)), value(tp.nngp(net)))


# ---- gradient independence -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(GALLERY))
def test_the_simple_gia_check_has_the_expected_verdict(name):
    assert tp.ntk(build(name)).passes_gia_check is (name not in FAILING_GIA)


@pytest.mark.parametrize("method", ["paths", "enumeration"])
def test_path_sums_refuse_a_mean_readout(method):
    with pytest.raises(tp.AssumptionError, match="method='backprop'"):
        tp.ntk(build("mean_readout"), method=method)._derive()


def test_a_mean_readout_has_another_kernel_than_gradient_independence_gives():
    kernel = tp.ntk(build("mean_readout", sigma_w=W))
    assert not same(value(kernel), value(kernel.under_gia))
    assert "FAILS" in kernel.text() and "which is wrong here" in kernel.under_gia.text()


def test_what_gradient_independence_drops_from_a_mean_readout_has_a_closed_form():
    """Z^{Wᵀdh} = Ẑ + E[φ''(h²)] φ(h¹), and φ'' = δ for ReLU: the kernel gains ⟨x,x'⟩ E[δ] E'[δ] V_φ."""
    X = np.random.default_rng(0).standard_normal((3, 4))
    kernel = tp.ntk(tp.programs.mean_readout(phi=tp.relu))
    dots = X @ X.T / 4
    norms = np.sqrt(np.diag(dots))
    angle = np.arccos(np.clip(dots / np.outer(norms, norms), -1, 1))
    v = np.outer(norms, norms) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    expected = dots * v / (2 * np.pi * np.outer(norms, norms) / 2)
    np.testing.assert_allclose(kernel(X) - kernel.under_gia(X), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["mlp", "residual_mlp", "rnn", "deep_linear"])
def test_gradient_independence_holds_where_the_readout_is_random(name):
    kernel = tp.ntk(symbolic(name))
    assert same(value(kernel), value(kernel.under_gia))


def test_wt_in_the_forward_pass_keeps_gradient_independence_but_needs_paths_along_zdot():
    """Backward matrices may be replaced by one independent copy; the source's path formula lacks a term."""
    net = build("tied_autoencoder")
    kernel = tp.ntk(net)
    assert same(value(kernel), value(kernel.under_gia))
    assert not same(value(kernel), paths_without_zdot(net, [None, None])[0](0, 1))


def paths_without_zdot(net, lengths):
    """The path sum of TP2b Prop. D.3 as printed, for pairs of inputs, and the trace it belongs to."""
    trace = net.trace(lengths)
    limit = Interpreter(trace.program)
    limit.zdot_terms.clear()
    return PathSum(trace, limit).kernel, trace


def wrong_kernel(net, X):
    """What the formula that fails for this network would give on data."""
    if net.name == "mean_readout":
        return tp.ntk(net).under_gia(X)
    value, trace = paths_without_zdot(net, [None] * len(X))
    pairs = [value(min(i, j), max(i, j)) for i in range(len(X)) for j in range(len(X))]
    dots = {s: X[a.owner] @ X[b.owner] / X.shape[1] for s, (a, b) in trace.grams.items()}
    return np.reshape(numbers(pairs, dots), (len(X), len(X)))


# ---- simulation ----------------------------------------------------------------------------------

WIDTHS, SEEDS = (256, 512, 1024), 96
SIMULATED = {
    "tied_autoencoder": {"phi": tp.erf, "sigma_w": 1.2, "sigma_u": 1.1},
    "mean_readout": {"phi": tp.relu, "sigma_w": 1.3},
}


@pytest.fixture(scope="module", params=SIMULATED)
def simulation(request):
    """Limit, limit under gradient independence, and (mean, variance of the mean) of simulations at each width."""
    X = np.random.default_rng(3).standard_normal((3, 4))
    net = GALLERY[request.param](**SIMULATED[request.param])
    kernel = tp.ntk(net)
    runs = [tp.empirical_ntk(net, X, width=n, seed=100 * k, seeds=SEEDS) for k, n in enumerate(WIDTHS)]
    return kernel(X), wrong_kernel(net, X), [r.mean(0) for r in runs], [r.var(0, ddof=1) / SEEDS for r in runs]


def intercept(widths, means, variances):
    """a of the weighted least-squares fit mean = a + b/n, with its standard error, for every entry."""
    x = 1 / np.reshape(widths, (-1, 1, 1))
    w, y = 1 / np.stack(variances), np.stack(means)
    s, sx, sxx, sy, sxy = (np.sum(w * a, axis=0) for a in (1, x, x * x, y, x * y))
    determinant = s * sxx - sx**2
    return (sxx * sy - sx * sxy) / determinant, np.sqrt(sxx / determinant)


def test_the_kernel_is_the_limit_of_simulations(simulation):
    limit, _, means, variances = simulation
    estimate, error = intercept(WIDTHS, means, variances)
    assert np.all(np.abs(estimate - limit) <= 4 * error)
    assert np.max(error) < 0.03 * np.max(limit)


def test_simulations_reject_the_kernel_without_zdot(simulation):
    _, without, means, variances = simulation
    estimate, error = intercept(WIDTHS, means, variances)
    assert np.max(np.abs(np.diag(estimate - without)) / np.diag(error)) > 6


# ---- what is printed -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(GALLERY) - WITHOUT_PHI - {"lstm"}))  # φ of an LSTM is not of a Gaussian
def test_formulas_name_the_expectations_of_phi_and_its_derivative(name):
    kernel, letter = tp.ntk(build(name)), "N" if name in OVER_MEMBERS else "V"
    formulas = kernel.text().split("\n\n", 1)[1].replace("φ", "phi")
    assert f"{letter}[phi](" in formulas or "V[phi·phi'](" in formulas
    assert f"{letter}[phi'](" in formulas
    for phi in r"\phi", r"\phi'":
        assert re.search(re.escape(rf"\mathsf{{{letter}}}_{{{phi}}}") + r"\\(left|bigl)\[", kernel.latex())


@pytest.mark.parametrize("name", sorted(GALLERY))
def test_the_last_equation_is_the_kernel_and_every_name_is_defined_before_its_use(name):
    equations = tp.ntk(build(name)).equations
    defined = {e.lhs for e in equations}
    seen = set()
    for e in equations:
        assert e.rhs.atoms(sp.Symbol) & defined <= seen
        seen.add(e.lhs)
    assert str(equations[-1].lhs).removesuffix("[p,q]") == "Θ(x,x')" and len(defined) == len(equations)


@tp.network
def layer_norm(net, x, *, phi=tp.relu):
    """The mean and the second moment of a layer, in a function that names them in another order."""
    h = net.embed("U", x)
    scalars = [tp.moment(lambda a: a, h), tp.moment(lambda a: a**2, h)]
    z = tp.nonlin(lambda a, m, v: (a - m) / sp.sqrt(v - m**2), h, params=scalars)
    return net.readout("V", phi(net.dense("W", z)))


def test_a_function_of_scalars_is_the_same_whatever_the_order_of_its_arguments():
    backprop, paths, sgd = (tp.ntk(layer_norm(), method=m)._derive() for m in ("backprop", "paths", "sgd"))
    assert same(backprop.poly, paths.poly) and same(backprop.poly, sgd.poly)
    assert not same(backprop.poly, tp.nngp(layer_norm())._derive().poly)
