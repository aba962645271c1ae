"""Sampling a program at width n: determinism, seeds, batches, laws of the initial values, errors."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp

C, M = sp.symbols("c m", real=True)
COV = [[2.0, 0.5, 0.0], [0.5, 1.0, -0.4], [0.0, -0.4, 0.7]]
SINGULAR = {
    "equal": [[1, 1], [1, 1]],
    "opposite": [[4, -2], [-2, 1]],
    "one constant": [[1, 0], [0, 0]],
    "rank 1": [[1, 2, -3], [2, 4, -6], [-3, -6, 9]],
    "rank 2": [[2, 1, 3], [1, 1, 2], [3, 2, 5]],
}


def small_program():
    """A program with every kind of instruction; returns it with its variables by name."""
    p = tp.Program()
    W, A = p.matrix("W", variance=2), p.matrix("A")
    a, b = p.gaussian("a b", cov=[[1, 0.5], [0.5, 2]], mean=[0, 1])
    v, s = p.vector("v", mean=0.5), p.scalar("s", value=0.5)
    y = W @ tp.relu(a)
    z = W.T @ tp.nonlin(lambda x, u, t: sp.tanh(x) + t * u, y, b, params=[s], name="x")
    m = tp.moment(lambda x, u: x * u, z, v, name="m")
    q = tp.moment(lambda t: t**2 + 1, params=[s], name="q")
    w = tp.nonlin(lambda x, t: x * t, A @ z, params=[q], name="w")
    return p, {"a": a, "b": b, "v": v, "s": s, "y": y, "z": z, "m": m, "q": q, "w": w}


def assert_equal_runs(one, other):
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def sampled(seed=0, width=32, **options):
    p, variables = small_program()
    run = tp.sample(p, width=width, seed=seed, **options)
    return {name: run[x] for name, x in variables.items()}


# ---- determinism ---------------------------------------------------------------------------------


def test_one_seed_always_gives_the_same_numbers():
    assert_equal_runs(sampled(seed=3), sampled(seed=3))


def test_different_seeds_give_different_numbers():
    one, other = sampled(seed=3), sampled(seed=4)
    for name in ("a", "b", "v", "y", "z", "m", "w"):
        assert not np.any(one[name] == other[name]), name


def test_different_variables_have_different_streams():
    p = tp.Program()
    W, A, x, y = p.matrix("W"), p.matrix("A"), p.vector("x"), p.vector("y")
    run = tp.sample(p, width=400)
    pairs = [(run[x], run[y]), (run[W].ravel(), run[A].ravel()), (run[W][0], run[x])]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) <= 4 / np.sqrt(a.size)


def test_names_with_equal_checksums_have_different_streams():
    p = tp.Program()
    x, y = p.vector("plumless"), p.vector("buckeroo")  # a known collision of CRC-32
    run = tp.sample(p, width=8)
    assert not np.any(run[x] == run[y])


def test_a_variable_does_not_depend_on_the_others_of_its_program():
    p, q = tp.Program(), tp.Program()
    q.matrix("before"), q.vector("first"), q.scalar("one", 1)
    values = []
    for program in (p, q):
        x = program.vector("x", variance=3, mean=1)
        y = program.matrix("W") @ x
        values.append([tp.sample(program, width=48, seed=9)[v] for v in (x, y)])
        program.vector("later")
    np.testing.assert_array_equal(values[0], values[1])


def test_jointly_gaussian_vectors_do_not_depend_on_the_others_of_their_program():
    p, q = tp.Program(), tp.Program()
    q.gaussian("d e", cov=[[5, 2], [2, 1]]), q.vector("f", variance=7)
    values = []
    for program in (p, q):
        vectors = program.gaussian("a b c", cov=COV)
        values.append([tp.sample(program, width=48)[v] for v in vectors])
    np.testing.assert_allclose(values[0], values[1], rtol=0, atol=1e-13)


def test_running_a_copy_of_the_program_gives_the_same_numbers():
    p, variables = small_program()
    copy = tp.Program.from_json(p.to_json())
    one, other = tp.sample(p, width=16), tp.sample(copy, width=16)
    for x in variables.values():
        np.testing.assert_array_equal(one[x], other[x.var])


# ---- many seeds, in batches ----------------------------------------------------------------------


def test_many_seeds_equal_single_runs():
    many = sampled(seed=7, seeds=4)
    for k in range(4):
        single = sampled(seed=7 + k)
        for name, value in single.items():
            np.testing.assert_allclose(many[name][k], value, rtol=1e-13, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("seeds", [1, 5])
def test_shapes_are_those_of_one_run_with_the_seeds_in_front(seeds):
    single, many = sampled(), sampled(seeds=seeds)
    for name, value in single.items():
        assert np.shape(many[name]) == (seeds, *np.shape(value)), name
    assert isinstance(single["m"], float) and single["a"].shape == (32,)


@pytest.mark.parametrize("per_batch", [1, 2, 3, 4, 5])
def test_a_bound_on_memory_changes_nothing(per_batch):
    width = 32
    each = 8 * (2 * width**2 + 20 * width)
    whole, batched = sampled(seeds=5), sampled(seeds=5, memory=each * per_batch)
    for name, value in whole.items():
        assert batched[name].shape == value.shape, name
        np.testing.assert_allclose(batched[name], value, rtol=1e-13, atol=1e-13, err_msg=name)


def test_memory_for_less_than_one_run_still_runs_one_at_a_time():
    assert sampled(seeds=3, memory=1)["z"].shape == (3, 32)


def test_matrices_are_kept_for_a_single_run_only():
    p = tp.Program()
    W = p.matrix("W")
    assert tp.sample(p, width=8)[W].shape == (8, 8)
    with pytest.raises(tp.ProgramError, match="matrices are not kept"):
        tp.sample(p, width=8, seeds=2)[W]


# ---- what the numbers are ------------------------------------------------------------------------


def test_the_program_is_run_on_the_drawn_values():
    p, x = small_program()
    run = tp.sample(p, width=40, seed=2)
    W, A, s = run[p.named("W")], run[p.named("A")], 0.5
    y = W @ np.maximum(run[x["a"]], 0)
    z = W.T @ (np.tanh(y) + s * run[x["b"]])
    expected = {"s": s, "y": y, "z": z, "m": np.mean(z * run[x["v"]]), "q": s**2 + 1, "w": A @ z * (s**2 + 1)}
    for name, value in expected.items():
        np.testing.assert_allclose(run[x[name]], value, rtol=1e-12, atol=1e-13, err_msg=name)


def test_matrix_entries_have_variance_over_width():
    p = tp.Program()
    W = p.matrix("W", variance=3)
    entries = tp.sample(p, width=500)[W].ravel() * np.sqrt(500 / 3)
    assert abs(entries.mean()) <= 4 / np.sqrt(entries.size)
    assert abs(np.mean(entries**2) - 1) <= 4 * np.sqrt(2 / entries.size)
    assert abs(np.mean(entries**4) - 3) <= 4 * np.sqrt(96 / entries.size)


def test_vectors_have_their_mean_and_variance():
    p = tp.Program()
    x = p.vector("x", variance=2.5, mean=-1.5)
    n = 200_000
    entries = (tp.sample(p, width=n)[x] + 1.5) / np.sqrt(2.5)
    assert abs(entries.mean()) <= 4 / np.sqrt(n)
    assert abs(np.mean(entries**2) - 1) <= 4 * np.sqrt(2 / n)


def test_gaussian_vectors_have_their_covariance():
    p = tp.Program()
    vectors = p.gaussian("a b c", cov=COV, mean=[0, 1, -2])
    n = 200_000
    run = tp.sample(p, width=n, seed=1)
    x = np.stack([run[v] for v in vectors]) - np.array([[0], [1], [-2]])
    cov = np.array(COV)
    error = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / n)
    assert np.all(np.abs(x @ x.T / n - cov) <= 4 * error)
    assert np.all(np.abs(x.mean(axis=1)) <= 4 * np.sqrt(np.diag(cov) / n))


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_covariances_are_drawn_on_their_range(name):
    cov = np.array(SINGULAR[name], float)
    p = tp.Program()
    vectors = p.gaussian([f"x{i}" for i in range(len(cov))], cov=SINGULAR[name])
    n = 50_000
    run = tp.sample(p, width=n)
    x = np.stack([run[v] for v in vectors])
    eigenvalues, basis = np.linalg.eigh(cov)
    null = basis[:, eigenvalues < 1e-10]
    assert null.shape[1] > 0
    assert np.max(np.abs(null.T @ x)) <= 1e-12
    error = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / n)
    assert np.all(np.abs(x @ x.T / n - cov) <= 4 * error + 1e-12)


def test_equal_vectors_stay_equal_beside_others():
    p = tp.Program()
    p.gaussian("c d", cov=[[2, 1], [1, 3]])
    a, b = p.gaussian("a b", cov=[[0.3, 0.3], [0.3, 0.3]])
    p.vector("e", variance=5)
    run = tp.sample(p, width=1000)
    np.testing.assert_allclose(run[a], run[b], rtol=0, atol=1e-13)


def test_zero_variance_gives_the_mean_exactly():
    p = tp.Program()
    x, W = p.vector("x", variance=0, mean=2), p.matrix("W", variance=0)
    run = tp.sample(p, width=8)
    np.testing.assert_array_equal(run[x], 2.0)
    np.testing.assert_array_equal(run[W], 0.0)


# ---- scalars and symbols -------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [None, 1, 3])
def test_initial_scalars_have_their_value_for_every_seed(seeds):
    p = tp.Program()
    s, x = p.scalar("s", value=0.25), p.vector("x")
    y = tp.nonlin(lambda a, t: a + t, x, params=[s])
    run = tp.sample(p, width=8, seeds=seeds)
    np.testing.assert_array_equal(run[s], 0.25 if seeds is None else np.full(seeds, 0.25))
    np.testing.assert_array_equal(run[y], run[x] + 0.25)


def test_symbols_take_their_values():
    def program(variance, cov, mean, scalar, factor):
        p = tp.Program()
        W = p.matrix("W", variance=variance)
        a, b = p.gaussian("a b", cov=[[1, cov], [cov, 1]], mean=mean)
        s = p.scalar("s", value=scalar)
        return p, tp.nonlin(lambda x, y, t: factor * x + t * y, W @ a, b, params=[s])

    symbolic, y = program(M**2, C, M, M + C, C)
    numeric, z = program(2.25, 0.3, 1.5, 1.8, sp.Float(0.3))
    one = tp.sample(symbolic, width=32, values={C: 0.3, M: 1.5})[y]
    np.testing.assert_allclose(one, tp.sample(numeric, width=32)[z], rtol=1e-13)


@pytest.mark.parametrize("place", ["variance", "mean", "scalar", "body"])
def test_a_symbol_without_a_value_is_named(place):
    p = tp.Program()
    x = p.vector("x", **({place: C} if place in ("variance", "mean") else {}))
    if place == "scalar":
        p.scalar("s", value=C)
    if place == "body":
        tp.nonlin(lambda a: C * a, x)
    with pytest.raises(tp.DataError, match=r"no value .*c.*values="):
        tp.sample(p, width=8)


@pytest.mark.parametrize("c", [1.5, -1.01])
def test_values_that_make_a_covariance_indefinite_are_refused(c):
    p = tp.Program()
    p.gaussian("a b", cov=[[1, C], [C, 1]])
    with pytest.raises(tp.DataError, match="a, b is not positive semidefinite"):
        tp.sample(p, width=8, values={C: c})


@pytest.mark.parametrize("variance", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("kind", ["matrix", "vector"])
def test_values_that_make_a_variance_invalid_are_refused(kind, variance):
    p = tp.Program()
    getattr(p, kind)("a", variance=C)
    with pytest.raises(tp.DataError, match=r"finite|semidefinite"):
        tp.sample(p, width=8, values={C: variance})


# ---- options -------------------------------------------------------------------------------------


def test_float32_stays_float32():
    one = sampled(dtype=np.float32, seeds=2)
    assert {name: value.dtype for name, value in one.items() if value.dtype != np.float32} == {}


def test_float32_differs_from_float64_by_rounding_only():
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    y = W @ tp.tanh(x)
    run = tp.sample(p, width=64, dtype=np.float32)
    expected = run[W].astype(float) @ np.tanh(run[x].astype(float))
    np.testing.assert_allclose(run[y], expected, rtol=0, atol=1e-5)


def test_width_one_runs():
    assert sampled(width=1)["z"].shape == (1,)


def test_numpy_integers_are_integers():
    assert_equal_runs(sampled(width=np.int64(16), seed=np.int64(2)), sampled(width=16, seed=2))


@pytest.mark.parametrize("width", [0, -3, 2.5, True, "8", None])
def test_bad_widths_are_refused(width):
    with pytest.raises(tp.DataError, match="width must be a positive integer, got"):
        sampled(width=width)


@pytest.mark.parametrize("seeds", [0, -1, 2.5, True, "3"])
def test_bad_seed_counts_are_refused(seeds):
    with pytest.raises(tp.DataError, match="seeds must be a positive integer, got"):
        sampled(seeds=seeds)


@pytest.mark.parametrize("seed", [-1, 1.5, None, "0"])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(tp.DataError, match="seed must be"):
        sampled(seed=seed)


@pytest.mark.parametrize("dtype", [np.int32, np.float16, complex, "foo", object])
def test_bad_dtypes_are_refused(dtype):
    with pytest.raises(tp.DataError, match="dtype must be float64 or float32, got"):
        sampled(dtype=dtype)


def test_a_variable_of_another_program_has_no_value():
    p, q = tp.Program(), tp.Program()
    p.vector("x")
    with pytest.raises(tp.ProgramError, match="y has no value in this run"):
        tp.sample(p, width=8)[q.vector("y")]


# ---- given initial matrices and vectors ------------------------------------------------------------


def given_program():
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    return p, W, x, W @ x, W.T @ x


def test_a_given_matrix_multiplies_and_leaves_the_other_draws_as_they_were():
    p, W, x, y, z = given_program()
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0]
    free = tp.sample(p, 16, seed=3)
    for key in ("W", W):
        run = tp.sample(p, 16, seed=3, initial={key: Q})
        assert np.array_equal(run[x], free[x])
        assert run[y] == pytest.approx(Q @ run[x], abs=1e-14) and run[z] == pytest.approx(Q.T @ run[x], abs=1e-14)


def test_a_given_vector_is_taken_as_it_is():
    p, _, x, y, _ = given_program()
    run = tp.sample(p, 4, initial={"W": 2 * np.eye(4), x: [1, 2, 3, 4]})
    assert run[y] == pytest.approx([2, 4, 6, 8], abs=0)


def test_many_seeds_share_a_given_matrix_or_have_one_each():
    p, _, x, y, _ = given_program()
    each = np.arange(3.0)[:, None, None] * np.eye(8)
    for memory in (2**30, 1):  # in one batch, and seed by seed
        run = tp.sample(p, 8, seeds=3, initial={"W": each}, memory=memory)
        assert run[y] == pytest.approx(np.arange(3.0)[:, None] * run[x], abs=1e-14)
        run = tp.sample(p, 8, seeds=3, initial={"W": each[2]}, memory=memory)
        assert run[y] == pytest.approx(2 * run[x], abs=1e-14)


@pytest.mark.parametrize(
    ("initial", "words"),
    [
        ({"W": np.eye(4)}, r"'W' has shape \(4, 4\); it must be \(8, 8\)"),
        ({"W": np.ones(8)}, r"'W' has shape \(8,\)"),
        ({"W": np.ones((2, 8, 8))}, r"'W' has shape \(2, 8, 8\)"),
        ({"x": np.ones(9)}, r"'x' has shape \(9,\)"),
        ({"w": np.eye(8)}, "no initial matrix or vector 'w'; known: W, x"),
        ({"g1": np.ones(8)}, "no initial matrix or vector 'g1'"),
        ({"W": np.full((8, 8), np.nan)}, "not finite"),
        ({"W": "identity"}, "'W' is not an array of numbers"),
        ({"W": None}, "'W' has"),
        ([np.eye(8)], "initial must map names to arrays"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_given_arrays_without_a_place_are_refused_in_words(initial, words):
    with pytest.raises(tp.DataError, match=words):
        tp.sample(given_program()[0], 8, initial=initial)


@pytest.mark.parametrize("small", [1e-8, 1e-150])
def test_small_vectors_beside_large_ones_keep_their_size(small):
    p = tp.Program()
    p.vector("large")
    a, b = p.gaussian("a b", cov=[[small**2, small**2 / 2], [small**2 / 2, small**2]])
    run = tp.sample(p, width=4096, seed=0)
    assert np.mean(run[a] ** 2) / small**2 == pytest.approx(1, rel=0.1)
    assert np.mean(run[a] * run[b]) / small**2 == pytest.approx(1 / 2, rel=0.1)
