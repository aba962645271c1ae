"""Verification: right kernels pass, wrong ones are caught by the claim they break."""

import dataclasses
import importlib

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.ntk import ntk_terms
from tensorprog.derivation.paths import PathSum
from tensorprog.ir.instructions import MatMul
from tensorprog.kernels import methods as methods_module
from tensorprog.limit.master import Interpreter
from tests import gallery
from tests.gates import gru, lstm

verify_module = importlib.import_module("tensorprog.verify")
GALLERY = tp.programs.GALLERY
WIDTHS, SEEDS = (64, 128, 256), 24
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((3, 4))
SEQUENCES = [RNG.standard_normal((t, 4)) for t in (3, 2, 3)]

WAYS = "backprop = "  # names of claims, or how they begin
DATA = "K(X) = limit of the traced program"
NTK = "NTK = empirical NTK"
ERROR = "NTK error ~ n^(-1/2)"
NNGP = "NNGP = output covariance"
MOMENTS = "coordinate moments"
LIMIT = "the output has a limit at the start"
GIA = "gradient independence fails here"


def inputs_of(net):
    if net.form not in ("vectors", "sequences"):
        return gallery.inputs_of(net)
    return SEQUENCES if net.takes_sequences else VECTORS


def check(net, inputs=None, **settings):
    given = {"widths": WIDTHS, "seeds": SEEDS, **settings}
    return tp.verify(net, inputs_of(net) if inputs is None else inputs, **given)


def verdicts(result):
    """Verdicts by claim."""
    return {next((n for n in (WAYS, MOMENTS) if c.name.startswith(n)), c.name): c.verdict for c in result.claims}


def failed(result):
    return {name for name, verdict in verdicts(result).items() if verdict == "FAILED"}


def claim(result, name):
    return next(c for c in result.claims if c.name.startswith(name))


# ---- right kernels -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", gallery.names())
def test_every_network_of_the_gallery_passes(name):
    result = check(GALLERY[name]())
    assert result.passed and failed(result) == set()
    expected = {WAYS, DATA, NTK, ERROR, NNGP, MOMENTS} | ({GIA, LIMIT} if name == "mean_readout" else set())
    assert set(verdicts(result)) == expected
    assert (result.widths, result.seeds) == ([64, 128, 256], 24)


@pytest.mark.slow
@pytest.mark.parametrize("name", GALLERY)
def test_every_network_of_the_gallery_passes_at_large_widths(name):
    result = check(GALLERY[name](), widths=(256, 512, 1024, 2048), seeds=48)
    assert result.passed
    assert abs(result.errors["NTK"].slope + 0.5) < 0.15


@pytest.mark.parametrize(
    "net",
    [
        tp.programs.mlp(depth=4, phi=tp.tanh, sigma_b=0.3),
        tp.programs.rnn(layers=2, phi=tp.erf, sigma_w=[1, 0.5], sigma_b=0.2, sigma_h=0.5),
        tp.programs.rnn(tied=False, sigma_h=1),
        tp.programs.residual_mlp(alpha=0.5, phi=tp.gelu),
        tp.programs.mean_readout(depth=3, phi=tp.gauss),
    ],
    ids=str,
)
def test_other_hyperparameters_pass(net):
    assert failed(check(net)) == set()


def test_a_network_whose_gradients_depend_on_the_forward_pass_says_what_does_not_apply():
    result = check(tp.programs.mean_readout())
    assert result.passed
    assert {n for n, v in verdicts(result).items() if v == "n/a"} == {NNGP, LIMIT}
    assert result.claims[0].name == LIMIT and "diverges like √n" in result.claims[0].detail
    assert "paths" not in claim(result, WAYS).name
    assert "path sums do not apply: the simple GIA check fails" in claim(result, WAYS).detail
    assert "not random" in claim(result, NNGP).detail
    assert claim(result, GIA).verdict == "ok"
    right, wrong = (
        k(VECTORS)[1, 1] for k in (tp.ntk(GALLERY["mean_readout"]()), tp.ntk(GALLERY["mean_readout"]()).under_gia)
    )
    assert f"would give {wrong:.6g} instead of {right:.6g}" in claim(result, GIA).detail


@tp.network
def two_branches(net, x):
    """The mean of a product of two independent branches: its kernel is the one that gradient independence gives."""
    b, t = (net.dense(f"{k}o", tp.relu(net.embed(k, x))) for k in "BT")
    return net.average(b * t)


def test_a_kernel_that_gradient_independence_gives_too_is_no_failure():
    kernel = tp.ntk(two_branches())
    assert np.array_equal(kernel(VECTORS), kernel.under_gia(VECTORS))
    result = check(two_branches())
    assert result.passed and claim(result, GIA).verdict == "n/a"
    assert "gives the same kernel on these inputs" in claim(result, GIA).detail


def test_runs_too_few_to_tell_two_kernels_apart_decide_nothing():
    result = check(tp.programs.mean_readout(), widths=(8, 12), seeds=3)
    assert claim(result, GIA).verdict == "n/a" and "too few to tell: more widths or seeds" in claim(result, GIA).detail


def test_a_function_that_jumps_is_refused_in_words():
    with pytest.raises(tp.AssumptionError, match="verifying the NTK asks that derivatives are functions: sign jumps"):
        check(tp.programs.mlp(depth=1, phi=tp.sign))


def test_errors_of_the_kernel_count(monkeypatch):
    """A kernel that gives an account of its errors is compared within them."""

    class Account:
        def __init__(self, value, error):
            self.value, self.error, self.methods = value, error, ("closed form",)

    net, exact = GALLERY["mlp"](), tp.ntk(GALLERY["mlp"]())(VECTORS)
    for size, verdict in ((1e-3, "ok"), (1e-7, "FAILED")):

        def account(kernel, X, values=None, size=size):
            return Account(exact * (1 + 1e-4), np.full((len(X), len(X)), size))

        monkeypatch.setattr(tp.Kernel, "account", account)
        result = check(net, widths=(16, 32), seeds=4)
        assert claim(result, DATA).verdict == verdict
        assert "of K(X), which is known to" in claim(result, DATA).detail


def test_every_output_is_verified_and_the_kernel_between_them():
    @tp.network
    def pair(net, x):
        h = net.embed("U", x)
        return net.readout("V", tp.relu(h)), net.readout("V2", tp.tanh(h))

    result = check(pair())
    assert result.passed
    names = [c.name for c in result.claims]
    assert all(f"output {k}: {name}" in names for k in (0, 1) for name in (DATA, NTK, NNGP))
    assert names[-1] == "NTK between different outputs = empirical" and result.claims[-1].verdict == "ok"
    one = check(pair(), outputs=1)
    assert one.passed and "output 1 of pair" in one.title and NTK in verdicts(one)


def test_sequences_of_all_their_lengths_are_compared():
    result = check(tp.programs.rnn())
    assert claim(result, WAYS).detail == (
        "6 of 6 comparisons equal to 45 digits at a random point, (T, T') = (2, 2), (2, 3), (3, 3)"
    )


def test_symbols_take_their_values():
    w = sp.Symbol("sigma_w", positive=True)
    symbolic = check(tp.programs.mlp(sigma_w=w), values={w: 1.5})
    numeric = check(tp.programs.mlp(sigma_w=1.5))
    assert symbolic.passed
    for a, b in zip(symbolic.errors["NTK"].errors, numeric.errors["NTK"].errors, strict=True):
        assert a == pytest.approx(b, rel=1e-9)


def test_widths_are_sorted_and_the_order_does_not_matter():
    net = tp.programs.deep_linear(depth=2)
    assert check(net, widths=(128, 32, 64)).text() == check(net, widths=(32, 64, 128)).text()


def test_a_network_that_vanishes_has_nothing_to_fit(tmp_path):
    result = check(tp.programs.mlp(), np.zeros((2, 3)), widths=(16, 32), seeds=3)
    assert result.passed and verdicts(result)[ERROR] == "n/a"
    assert result.save(tmp_path / "error.png").stat().st_size > 0


def test_a_kernel_of_tiny_inputs_is_checked_too(monkeypatch):
    assert check(tp.programs.mlp(), 1e-5 * VECTORS).passed
    monkeypatch.setattr(verify_module, "ntk_terms", scaled(4))
    assert {NTK, ERROR} <= failed(check(tp.programs.mlp(), 1e-5 * VECTORS))


# ---- wrong kernels -------------------------------------------------------------------------------


def scaled(by):
    """ntk_terms with a wrong factor at the terms of the matrices and the input layer."""

    def wrong(*arguments):
        return [dataclasses.replace(t, factor=by * t.factor) if t.gradient and t.activation else t
                for t in ntk_terms(*arguments)]  # fmt: skip

    return wrong


@pytest.mark.parametrize("name", ["mlp", "rnn", "tied_autoencoder", "residual_mlp"])
def test_a_wrong_factor_in_the_limit_of_the_ntk_is_caught(name, monkeypatch):
    monkeypatch.setattr(verify_module, "ntk_terms", scaled(4))  # σ_w⁴ for σ_w², at σ_w = 2
    result = check(GALLERY[name](sigma_w=2))
    assert not result.passed
    assert failed(result) == {DATA, NTK, ERROR}
    assert "SOME CLAIM FAILED" in result.text()


@pytest.mark.parametrize("name", ["mlp", "rnn", "tied_autoencoder"])
def test_a_wrong_factor_in_every_limit_is_caught_by_the_runs_and_by_the_paths(name, monkeypatch):
    monkeypatch.setattr(verify_module, "ntk_terms", scaled(4))
    monkeypatch.setattr(methods_module, "ntk_terms", scaled(4))
    result = check(GALLERY[name](sigma_w=2))
    assert not result.passed
    assert failed(result) == {WAYS, NTK, ERROR}


@pytest.mark.parametrize("name", ["mlp", "rnn", "tied_autoencoder", "deep_linear", "residual_mlp"])
def test_a_wrong_path_sum_is_caught_symbolically(name, monkeypatch):
    right = PathSum.factor
    monkeypatch.setattr(PathSum, "factor", lambda s, g, h, **kind: right(s, g, h, **kind) * right(s, g, h, **kind))
    result = check(GALLERY[name](sigma_w=2), widths=(32, 64), seeds=8)
    assert not result.passed
    assert failed(result) == {WAYS}
    good, total = claim(result, WAYS).detail.split(" comparisons")[0].split(" of ")
    assert int(total) == 2 * int(good)  # the comparison with one SGD step still holds


def test_a_path_sum_that_is_wrong_for_some_lengths_is_caught(monkeypatch):
    right = PathSum.kernel

    def wrong(s, i, j):
        value = right(s, i, j)
        return value + value if [len(x) for x in s.trace.inputs] == [2, 3] else value

    monkeypatch.setattr(PathSum, "kernel", wrong)
    result = check(tp.programs.rnn(), widths=(32, 64), seeds=8)
    assert failed(result) == {WAYS} and claim(result, WAYS).detail.startswith("5 of 6")


def test_wrong_moments_are_caught(monkeypatch):
    right = Interpreter.moment

    def wrong(limit, x, y):
        value = right(limit, x, y)
        both = all(isinstance(limit.program.op(v), MatMul) for v in (x, y))
        return value + value if both else value

    monkeypatch.setattr(Interpreter, "moment", wrong)
    result = check(tp.programs.mlp())
    assert not result.passed
    assert failed(result) == {MOMENTS}


def test_a_wrong_output_covariance_is_caught(monkeypatch):
    right = verify_module.nngp_terms
    monkeypatch.setattr(
        verify_module,
        "nngp_terms",
        lambda *a: [dataclasses.replace(t, factor=t.factor / 9) for t in right(*a)],
    )
    assert failed(check(tp.programs.mlp())) == {NNGP}


def test_assuming_gradient_independence_where_it_fails_is_caught(monkeypatch):
    net, limit = tp.programs.mean_readout(), verify_module.Interpreter
    forward = net.trace([None] * 3, ["x[0]", "x[1]", "x[2]"]).program

    def assuming(program, *names):
        return limit(verify_module.decouple(program, lambda var, op: var not in forward), *names)

    monkeypatch.setattr(verify_module, "Interpreter", assuming)
    assert {DATA, NTK, ERROR} <= failed(check(net, widths=(64, 128, 256, 512), seeds=48))


def test_a_wrong_finite_width_gradient_is_caught(monkeypatch):
    right = verify_module.FiniteNetwork.ntk
    monkeypatch.setattr(verify_module.FiniteNetwork, "ntk", lambda *a: 1.5 * right(*a))
    assert failed(check(tp.programs.mlp())) == {NTK}


def test_an_error_that_does_not_shrink_is_caught(monkeypatch):
    right = verify_module.collect

    def stuck(*arguments):
        records = right(*arguments)
        return {(w, s): records[64, s] for w, s in records}  # every width shows the runs of the smallest

    monkeypatch.setattr(verify_module, "collect", stuck)
    assert ERROR in failed(check(tp.programs.mlp(), widths=(64, 256, 1024)))


# ---- what it returns -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verified():
    return check(tp.programs.deep_linear(depth=2), widths=(32, 64, 128), seeds=8)


def test_a_verification_prints_one_line_a_claim(verified):
    first, *rows = str(verified).splitlines()
    assert first.startswith("deep_linear(depth=2, sigma_w=1, sigma_v=1): all claims hold")
    assert first.endswith("(widths 32, 64, 128, 8 seeds each)")
    assert len(rows) == len(verified.claims)
    for row, c in zip(rows, verified.claims, strict=True):
        assert row.split()[0] == c.verdict and c.name in row and row.endswith(c.detail)


def test_a_failed_claim_and_one_that_does_not_apply_are_told_apart():
    claims = [tp.Claim("a", True, ""), tp.Claim("b", None, "why")]
    assert tp.Verification("net", claims).passed
    assert not tp.Verification("net", [*claims, tp.Claim("c", False, "")]).passed
    assert [c.verdict for c in claims] == ["ok", "n/a"]
    assert tp.Claim("c", False, "").verdict == "FAILED"


def test_the_claims_are_saved_as_text(verified, tmp_path):
    path = verified.save(tmp_path / "verdict.txt")
    assert path.read_text(encoding="utf-8") == verified.text() + "\n"


def test_the_errors_are_saved_as_a_picture(verified, tmp_path):
    path = verified.save(str(tmp_path / "error.png"))
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["error.pdf", "error", "verdict.TXT.gz"])
def test_another_ending_is_refused_by_name(verified, tmp_path, name):
    with pytest.raises(tp.DataError, match=rf"{name}.*\.png or \.txt"):
        verified.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_runs_are_kept_and_used_again(tmp_path, monkeypatch):
    net, settings = tp.programs.mlp(depth=2), {"widths": (16, 32), "seeds": 4, "out": tmp_path / "here"}
    first = check(net, **settings)
    assert len((tmp_path / "here" / "runs.jsonl").read_text().splitlines()) == 1 + 8
    monkeypatch.setattr("tensorprog.finite.runs._run", None)  # nothing is left to run
    assert check(net, **settings).text() == first.text()


@pytest.mark.parametrize(
    ("net", "inputs"),
    [
        (tp.programs.mlp(depth=2, sigma_w=1), VECTORS),
        (tp.programs.mlp(depth=3), VECTORS),
        (tp.programs.mlp(depth=2), -VECTORS),
    ],
    ids=["other numbers", "other network", "other data"],
)
def test_runs_of_other_settings_are_not_mixed_in(net, inputs, tmp_path):
    settings = {"widths": (16, 32), "seeds": 2, "out": tmp_path}
    check(tp.programs.mlp(depth=2), **settings)
    with pytest.raises(tp.DataError, match="other settings"):
        check(net, inputs, **settings)


def test_progress_reaches_the_total():
    seen = []
    check(tp.programs.deep_linear(), widths=(16, 32), seeds=3, progress=lambda *a: seen.append(a))
    assert seen == [(3, 6, "width 16"), (6, 6, "width 32")]


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"widths": (64,)}, r"two or more different widths, got \[64\]"),
        ({"widths": ()}, r"two or more different widths, got \[\]"),
        ({"widths": (64, 64)}, r"different widths, got \[64, 64\]"),
        ({"widths": (1, 64)}, "a width must be an integer of at least 2, got 1"),
        ({"widths": (64, 128.0)}, "a width must be an integer of at least 2, got 128.0"),
        ({"widths": (64, True)}, "a width .* got True"),
        ({"widths": (64, "128")}, "a width .* got '128'"),
        ({"seeds": 1}, "seeds must be an integer from 2 to 1000000, got 1"),
        ({"seeds": 2.5}, "seeds must .* got 2.5"),
    ],
)
def test_bad_widths_and_seeds_are_named(settings, words):
    with pytest.raises(tp.DataError, match=words):
        check(tp.programs.mlp(), **settings)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([1.0, 2.0], r"inputs must have shape \(N, d\)"),
        (np.zeros((0, 3)), "inputs holds no inputs"),
        ([[1.0, np.nan]], "the value nan at index"),
        ([["a", "b"]], "real numbers"),
        ([[[1.0, 2.0]]], "shape"),
    ],
)
def test_bad_inputs_are_named(inputs, words):
    with pytest.raises(tp.DataError, match=words):
        check(tp.programs.mlp(), inputs)


def test_an_abstract_nonlinearity_has_no_runs():
    with pytest.raises(tp.NoRuleError, match="abstract; build the network with a concrete function such as tp.relu"):
        check(tp.programs.mlp(phi=tp.abstract("phi")))


def test_a_symbol_without_a_value_is_named():
    with pytest.raises(tp.DataError, match="no value for sigma_w"):
        check(tp.programs.mlp(sigma_w=sp.Symbol("sigma_w", positive=True)))


# ---- kernels that are sampled --------------------------------------------------------------------


def test_gated_networks_are_compared_by_their_sampled_kernels(tmp_path):
    data = np.random.default_rng(4).standard_normal((2, 2, 3))
    result = check(lstm(), data, widths=(32, 64, 128), seeds=12)
    found = verdicts(result)
    assert result.passed and found[DATA] == found[MOMENTS] == "n/a"
    assert found[WAYS] == found[NTK] == found[NNGP] == "ok"
    assert "K(X) is sampled and known to" in claim(result, DATA).detail
    np.testing.assert_array_equal(result.evidence.runs["NTK"][0], tp.ntk(lstm()).account(data).value)
    result.save(tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<th scope="col">sampling</th>' in report and "Path sums do not apply" not in report


@pytest.mark.slow
def test_derivations_of_gated_networks_are_compared_at_short_lengths():
    result = check(gru(), np.random.default_rng(4).standard_normal((2, 4, 3)), widths=(32, 64, 128), seeds=12)
    assert result.passed and claim(result, WAYS).verdict == claim(result, NTK).verdict == "ok"
    assert "(3, 3); longer sequences were not compared" in claim(result, WAYS).detail
