"""Networks over positions in pictures and on pages: one gate a layer, with labels that say over what."""

import re

import pytest

import tensorprog as tp
from tensorprog.errors import ProgramError
from tensorprog.report.html import _equations, _z_row
from tensorprog.report.origins import distributions
from tensorprog.report.scene import Text


@tp.network
def conv_net(net, x, *, depth=3, phi=tp.relu, pool="global"):
    h = net.conv("U", x, (3, 3)) + net.bias("b1")
    for l in range(2, depth + 1):
        h = net.conv(("W", l), phi(h), (3, 3)) + net.bias(("b", l))
    return net.readout("V", net.global_pool(phi(h))) if pool == "global" else net.flatten("V", phi(h))


@tp.network
def mixed(net, x, *, phi=tp.relu):
    h = net.avg_pool(phi(net.conv("U", x, 3)), 2)
    h = net.local(("W", 2), h, 3, stride=2, dilation=2)
    return net.readout("V", net.global_pool(phi(h)))


def texts(drawing):
    return [shape.string for shape in drawing.scene.shapes if isinstance(shape, Text)]


def test_a_layer_is_one_gate_whatever_the_size():
    shallow, deep = (tp.draw(conv_net(depth=depth)) for depth in (2, 3))
    assert len(deep.variables) - len(shallow.variables) == 3  # W x, b, φ
    assert texts(deep).count("relu") == 3 and texts(deep).count("mean") == 1


def test_convolutions_pools_and_flattening_have_labels():
    found = texts(tp.draw(mixed()))
    assert {"mean 2 ↓2", "W²[p] ∗ 3 ↓2 ‥2", "mean", "x̄¹", "x̄²", "↓2: stride 2", "‥2: dilation 2"} <= {*found}
    assert any(t.startswith("h¹ = U ∗ 3 (x)") for t in found)
    flat = texts(tp.draw(conv_net(pool="flatten"), backprop=True))
    assert "f(x) = Σ_p V[p]·x³[p]/√(nP)" in flat and {"[p]", "W³ᵀ ∗ 3×3", "Σ"} <= {*flat}
    assert not any("Window" in t or ("windows of" in t and "convolution" not in t) for t in found + flat)


def test_drawings_in_tikz_know_every_sign():
    tex = tp.draw(mixed(), backprop=True).tikz()
    assert "U+" not in tex and r"\downarrow" in tex and r"d\bar{x}^{1}" in tex


def test_paths_over_positions_are_refused_in_words():
    with pytest.raises(ProgramError, match="without positions"):
        tp.draw(conv_net(), path="W2")


@pytest.mark.parametrize("net", [conv_net(), conv_net(pool="flatten"), mixed()], ids=repr)
def test_every_formula_of_a_page_is_read(net):
    page = _equations(tp.ntk(net)) + _equations(tp.nngp(net)) + "".join(map(_z_row, distributions(net)))
    assert not re.search(r"\\[A-Za-z]", page), "LaTeX was left as it is"


def test_what_a_vector_is_and_its_z_stand_beside_each_other():
    rows = {r.name: r for r in distributions(mixed())}
    assert rows["x̄¹"].how == "= mean of x¹ over windows of 2, stride 2, valid"
    assert rows["x̄¹"].z == r"Z^{\bar{x}^{1}}[p] = \frac{1}{|w|} \sum_{k} Z^{x^{1}}[2p+k]"
    assert rows["h²"].z.endswith(r"\hat Z^{h^{2}}") and "has not been used before" in rows["h²"].lines[0].reason
    back = next(r for r in distributions(conv_net()) if r.name == "dx²")
    assert "was computed before" in back.lines[0].reason


def test_programs_list_maps_in_words():
    text = mixed().trace([None]).program.text()
    assert "= mean of x1 over windows of 2, stride 2, valid" in text
    assert re.search(r"W2\(x\) = W2 x\d+ over windows of 3, stride 2, dilation 2, untied", text)
    assert re.search(r"= mean of x\d+ over all positions", text)


def test_the_reduced_form_of_a_program_keeps_its_maps():
    program = mixed().trace([None]).program
    reduced, of = tp.canonicalize(program)
    for var, op in program:
        if getattr(op, "by", None) is not None:
            assert reduced.op(of[var]).by == op.by
