"""Fixed points, χ and critical lines against integrals written out here, to 1e-8."""

import json

import numpy as np
import pytest
from scipy import integrate, optimize

import tensorprog as tp
from tensorprog.studies import critical, phase
from tensorprog.studies.layer_map import LayerMap

mlp, rnn, residual = tp.programs.mlp, tp.programs.rnn, tp.programs.residual_mlp


def gauss(f):
    """E f(z) by adaptive quadrature."""
    return integrate.quad(lambda z: f(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), -12, 12, epsabs=1e-13, limit=200)[0]


def variance(w2, b2):
    """q* of tanh, by iteration."""
    return optimize.brentq(lambda q: w2 * gauss(lambda z: np.tanh(np.sqrt(q) * z) ** 2) + b2 - q, 1e-3, 50, xtol=1e-14)


def chi(w2, q):
    return w2 * gauss(lambda z: np.cosh(np.sqrt(q) * z) ** -4.0)


def test_tanh_is_the_integrals_of_the_source():
    study = phase(mlp(phi=tp.tanh), {"sigma_w": [1.0, 1.5, 2.5], "sigma_b": [0.3]})
    for k, w in enumerate((1.0, 1.5, 2.5)):
        q = variance(w * w, 0.09)
        assert study.numbers["q"][0, k, 0] == pytest.approx(q, abs=1e-8)
        assert study.numbers["chi"][k, 0] == pytest.approx(chi(w * w, q), abs=1e-8)
    assert study.passed and study.numbers["c"][0, 0, 0] == 1 > study.numbers["c"][0, 2, 0]


def test_the_fixed_correlation_of_erf_in_closed_form():
    w2, b2 = 4.0, 0.04
    q = optimize.brentq(lambda q: w2 * 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)) + b2 - q, 1, 9, xtol=1e-14)
    c = optimize.brentq(lambda c: w2 * 2 / np.pi * np.arcsin(2 * c / (1 + 2 * q)) + b2 - c, 0, 0.9 * q, xtol=1e-14)
    slope = w2 * 4 / np.pi / np.sqrt((1 + 2 * q) ** 2 - 4 * c * c)
    n = phase(mlp(phi=tp.erf, sigma_w=2, sigma_b=0.2), {}).numbers
    assert n["q"][0] == pytest.approx(q, abs=1e-9) and n["c"][0] == pytest.approx(c / q, abs=1e-9)
    assert n["chi"] == pytest.approx(w2 * 4 / np.pi / np.sqrt(1 + 4 * q), abs=1e-9)
    assert n["chi_c"] == pytest.approx(slope, abs=1e-9) and n["xi_c"] == pytest.approx(-1 / np.log(slope), rel=1e-8)
    assert n["slope"] == pytest.approx(w2 * 4 / np.pi / ((1 + 2 * q) * np.sqrt(1 + 4 * q)), abs=1e-9)


def test_relu_is_half_the_variance_of_the_weights_whatever_the_bias():
    study = phase(mlp(phi=tp.relu), {"sigma_w": [1.0, 2.0], "sigma_b": [0.0, 0.5]})
    np.testing.assert_allclose(study.numbers["chi"], [[0.5, 0.5], [2.0, 2.0]], rtol=1e-12)
    np.testing.assert_allclose(study.numbers["q"][0], [[0, 0.5], [np.inf, np.inf]], atol=1e-12)


@pytest.mark.parametrize("b2, w2, q", [(0.05, 1.760955, 0.570048), pytest.param(0.0, 1.0, 0.0, marks=pytest.mark.slow)])
def test_critical_tanh(b2, w2, q):
    study = critical(mlp(phi=tp.tanh), grid={"sigma_b": [np.sqrt(b2)]})
    found = study.numbers["sigma_w"][0] ** 2
    assert found == pytest.approx(w2, abs=1e-6) and study.numbers["q"][0, 0] == pytest.approx(q, abs=1e-6)
    if b2:
        line = optimize.brentq(lambda w: chi(w, variance(w, b2)) - 1, 1.5, 2, xtol=1e-13)
        assert found == pytest.approx(line, abs=1e-8)
    assert study.passed


@pytest.mark.slow
def test_critical_relu_is_he_initialisation():
    study = critical(mlp(phi=tp.relu), grid={"sigma_b": [0.0, 0.4]})
    np.testing.assert_allclose(study.numbers["sigma_w"] ** 2, [2, 2], atol=1e-10)


def test_a_residual_network_has_slope_one_more_and_grows():
    layer = LayerMap(residual(phi=tp.tanh, sigma_w=1.5, alpha=0.5))
    q = np.array([[0.7]])
    value, slope = layer.step(q, q, {})
    assert slope[0, 0, 0] == pytest.approx(1 + 0.25 * chi(2.25, 0.7), abs=1e-9)
    assert value[0, 0] == pytest.approx(0.7 + 0.5625 * gauss(lambda z: np.tanh(np.sqrt(0.7) * z) ** 2), abs=1e-9)
    assert np.isinf(phase(residual(phi=tp.tanh), {}).numbers["q"]).all()


def test_a_recurrent_network_is_a_layer_with_its_input_as_bias():
    n = phase(rnn(phi=tp.tanh, sigma_w=2), {}, drive=0.09).numbers
    q = variance(4.0, 0.09)
    assert n["q"][0] == pytest.approx(q, abs=1e-8) and n["chi"] == pytest.approx(chi(4.0, q), abs=1e-8)


def test_a_layer_norm_keeps_the_variance_and_a_nonlinearity_of_ones_own_works():
    net = tp.programs.layer_norm_mlp(phi=tp.tanh, sigma_w=1.5, sigma_b=0.4)
    n = phase(net, {}).numbers
    power = 2.25 * gauss(lambda z: np.tanh(z) ** 2) + 0.16  # of what a layer adds up, before it is normalised
    assert abs(n["slope"]) < 1e-12 and n["q"][0] in (pytest.approx(1, abs=1e-9), pytest.approx(power, abs=1e-9))
    assert n["chi"] == pytest.approx(chi(2.25, 1.0) / power, abs=1e-8)
    own = phase(mlp(phi=tp.declare("cubic", lambda u: u**3 / 3), sigma_w=0.5, sigma_b=0.1), {}).numbers
    q = optimize.brentq(lambda q: 0.25 * 15 * q**3 / 9 + 0.01 - q, 0, 0.1, xtol=1e-16)
    assert own["q"][0] == pytest.approx(q, abs=1e-10) and own["chi"] == pytest.approx(0.25 * 3 * q * q, abs=1e-10)


def test_derivatives_are_those_of_differences():
    layer = LayerMap(rnn(phi=tp.erf, layers=2, sigma_w=1.3))
    q, c, h = np.array([[0.8], [0.6]]), np.array([[0.5], [0.2]]), 1e-5
    _, slope = layer.step(q, c, {"drive": 0.7})
    for k in range(2):
        up, down = (layer.step(q, c + s * h * np.eye(2)[:, k : k + 1], {"drive": 0.7})[0] for s in (1, -1))
        np.testing.assert_allclose(slope[:, k], (up - down) / (2 * h), atol=1e-8)


def test_a_study_is_saved_and_its_numbers_are_read_again(tmp_path):
    study = phase(mlp(phi=tp.relu), {"sigma_w": [1.0, 2.0]})
    paths = study.save(tmp_path)
    assert [p.name for p in paths] == ["phase.json", "phase.png", "phase.svg", "phase.html"]
    assert all(p.stat().st_size > 1000 for p in paths)
    assert json.loads(paths[0].read_text())["numbers"]["q"] == [[0.0, "inf"]]
    assert "http" not in paths[3].read_text().replace("http-equiv", "") and "order" in study.text()


BAD = {
    "no network": (lambda: phase(3), "network"),
    "a jump": (lambda: phase(mlp(phi=tp.sign)), "jumps"),
    "no hyperparameter": (lambda: phase(mlp(), {"sigma": [1]}), "no hyperparameter 'sigma'"),
    "no list": (lambda: phase(mlp(), {"sigma_w": 1}), "must be a list"),
    "a text": (lambda: phase(mlp(), {"sigma_w": ["a"]}), "finite numbers"),
    "three": (lambda: phase(mlp(), {"sigma_w": [1], "sigma_b": [1], "sigma_v": [1]}), "one or two"),
    "over": (lambda: phase(mlp(), {}, over="time"), "'depth' or 'lengths'"),
    "drive": (lambda: phase(mlp(), {}, drive=-1), "drive must be"),
    "by": (lambda: critical(mlp(), grid={"sigma_w": [1]}), "cannot be given"),
    "between": (lambda: critical(mlp(), between=(2, 1)), "increasing"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named(name):
    call, words = BAD[name]
    with pytest.raises(tp.TensorProgramError, match=words):
        call()
