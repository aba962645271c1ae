"""Drawings: what stands in them, that nothing overlaps or is cut off, and every refusal."""

import itertools
import random
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.report.scene import Circle, Path, Scene, Text, move
from tensorprog.report.subject import subject
from tests.gallery import DEAR, NO_STEP, PLAIN, QUICK, names, two
from tests.random_cases.generate import network

GALLERY = sorted(tp.programs.GALLERY)
ENDINGS = [".svg", ".pdf", ".png", ".tex"]


@tp.network
def gated(net, x):
    """Two outputs, a gate z ⊙ s and a function of many arguments."""
    s = tp.tanh(net.embed("U", x[0]))
    for t, x_t in enumerate(x, 1):
        z = tp.sigmoid(net.dense("A", s) + net.embed("B", x_t))
        s = tp.nonlin(lambda a, b, c, d: a * b + sp.tanh(c) * (1 - a) * d**2, z, s, net.dense(("W", t), s), z)
    return net.readout("V", s, bias=1), net.average(s, scale=2)


def jobs():
    for name in GALLERY:
        net = tp.programs.GALLERY[name]()
        yield name, lambda net=net: tp.draw(net)
        yield f"{name}, backprop", lambda net=net: tp.draw(net, backprop=True)
        yield f"{name}, two inputs", lambda net=net: tp.draw(net, backprop=True, **two(net))
        if name not in NO_STEP:
            yield f"{name}, one step", lambda net=net: tp.draw(tp.unroll(net, steps=1))
        yield f"{name}, as written", lambda net=net: tp.draw(net, backprop=True, reduced=False)
        yield f"{name}, reduced", lambda net=net: tp.draw(net, backprop=True, reduced=True)
    yield (
        "scaled branches",
        lambda: tp.draw(tp.programs.residual_mlp(alpha=sp.Symbol("alpha")), backprop=True, inputs=2),
    )
    biased = tp.programs.rnn(layers=2, sigma_b=1, sigma_h=1)
    yield "deep rnn with biases and a state", lambda: tp.draw(biased, backprop=True, path="W1", lengths=[3, 3])
    yield "mlp with biases", lambda: tp.draw(tp.programs.mlp(sigma_b=1), backprop=True)
    yield "two outputs and gates", lambda: tp.draw(gated(), backprop=True, lengths=[2])
    yield "linear", lambda: tp.draw(tp.programs.deep_linear(depth=5), backprop=True, inputs=3)
    yield "mse", lambda: tp.draw(tp.unroll(tp.programs.mlp(depth=2), steps=2, loss="mse"))


JOBS = dict(jobs())
LARGE = {f"{name}, one step" for name in GALLERY if name not in PLAIN}
LARGE |= {job for job in JOBS if job.partition(", ")[0] in {*GALLERY} - {*PLAIN, *QUICK} | {*DEAR}}
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in JOBS]


def inside(box, frame):
    return frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]


def meet(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def samples(path):
    """Points along a path, close enough to each other that no letter fits between: (k, 2)."""
    parts, here = [], None
    for op, *points in path.moves:
        if op == "C":
            t = np.linspace(0, 1, 60)[:, None]
            a, b, c, d = map(np.array, (here, *points))
            parts.append((1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t * t * (1 - t) * c + t**3 * d)
        elif op == "L":
            parts.append(np.linspace(here, points[0], 2 + int(np.abs(np.subtract(here, points[0])).max() / 3)))
        here = points[-1] if points else here
    return np.concatenate(parts)


def collisions(scene):
    """Everything that makes a picture illegible, as sentences."""
    frame = (0, 0, scene.width, scene.height)
    texts = [(t, t.box()) for t in scene.texts]
    for shape in scene.shapes:
        if not inside(shape.box(), frame):
            yield f"{shape} is cut off"
    for (a, box), (b, box2) in itertools.combinations(texts, 2):
        if meet(box, box2):
            yield f"the texts {a.string!r} and {b.string!r} overlap"
    circles = [s for s in scene.shapes if isinstance(s, Circle)]
    for c, d in itertools.combinations(circles, 2):
        if meet(c.box(), d.box()):
            yield f"{c} and {d} overlap"
    points = np.concatenate([samples(s) for s in scene.shapes if isinstance(s, Path)])
    for t, (left, top, right, bottom) in texts:
        if any(meet((left, top, right, bottom), c.box()) for c in circles):
            yield f"the text {t.string!r} covers a node"
        within = (points > (left + 0.5, top + 1)) & (points < (right - 0.5, bottom - 1))
        if within.all(axis=1).any():
            yield f"a line runs through the text {t.string!r}"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_overlaps_or_is_cut_off(name):
    assert list(collisions(JOBS[name]().scene)) == []


@pytest.mark.parametrize("name", NO_STEP)
def test_steps_that_are_not_drawn_are_refused_in_words(name):
    with pytest.raises(tp.ProgramError, match=NO_STEP[name]):
        tp.draw(tp.unroll(tp.programs.GALLERY[name](), steps=1))


def random_program(seed):
    rng = random.Random(seed)
    p = tp.Program()
    matrices = [p.matrix(f"W{i}") for i in range(3)]
    vectors = [p.vector(f"v{i}") for i in range(rng.randint(1, 4))]
    scalars = [p.scalar(f"a scalar with a long name {i}", 1) for i in range(rng.randint(0, 3))]
    for _ in range(rng.randint(1, 25)):
        kind, x, y = rng.randrange(4), rng.choice(vectors), rng.choice(vectors)
        if kind == 0:
            W = rng.choice(matrices)
            vectors.append((W.T if rng.random() < 0.5 else W) @ x)
        elif kind == 1:
            vectors.append(tp.tanh(x + y))
        elif kind == 2:
            params = rng.sample(scalars, min(2, len(scalars)))
            args = rng.sample(vectors, min(5, len(vectors)))
            vectors.append(tp.nonlin(lambda *a: sum(v**k for k, v in enumerate(a, 1)), *args, params=params))
        else:
            scalars.append(tp.moment(lambda a, b: a * b, x, y))
    return p


@pytest.mark.parametrize("seed", range(20))
def test_pictures_of_random_programs_are_legible_too(seed):
    assert list(collisions(tp.draw(random_program(seed)).scene)) == []


@pytest.mark.filterwarnings("ignore::tensorprog.FrozenWarning")
@pytest.mark.parametrize("seed", range(12))
def test_pictures_of_random_networks_are_legible_too(seed):
    picture = tp.draw(network(seed).network(), backprop=True, reduced=seed % 2 == 0)
    assert list(collisions(picture.scene)) == []
    assert len(set(picture.names)) == len(picture.names) and picture.tikz().isascii()


def test_the_check_on_pictures_can_fail():
    scene = tp.draw(tp.programs.mlp()).scene
    label = next(t for t in scene.texts if t.string == "h²")
    for broken, complaint in [
        (move(label, 3, 0), "overlap"), (move(label, 0, -12), "covers a node"), (move(label, -1000, 0), "cut off"),
        (Path((("M", (label.x - 40, label.y - 3)), ("L", (label.x + 40, label.y - 3)))), "a line runs through"),
    ]:  # fmt: skip
        other = Scene(scene.width, scene.height, [*scene.shapes, broken])
        assert any(complaint in sentence for sentence in collisions(other)), complaint


def test_every_variable_of_the_reduced_program_is_drawn():
    net = tp.programs.mlp(depth=3, sigma_b=1)
    picture = tp.draw(net, backprop=True)
    strings = [t.string for t in picture.scene.texts]
    assert set(picture.names) <= set(strings)
    assert {"U(x)", "b1", "b2", "b3", "V", "W2(x)", "W3(x)", "f(x)"} <= set(picture.variables)
    assert [strings.count(s) for s in ("W²", "W³", "W²ᵀ", "W³ᵀ", "relu", "ψ₁", "Σ/√n")] == [1, 1, 1, 1, 3, 3, 1]
    circles = [c for c in picture.scene.shapes if isinstance(c, Circle)]
    filled = sum(c.style.fill == "ink" for c in circles)
    assert filled == 6  # φ(h^l) and dh^l
    assert len(circles) == 2 + 15  # two in the legend


def test_one_step_of_sgd_has_scalars_moments_and_differences():
    picture = tp.draw(tp.unroll(tp.programs.mlp(), steps=1))
    strings = [t.string for t in picture.scene.texts]
    assert "f₁(x)" in strings and strings.count("Δrelu") == 3 and "χ₀" in strings
    assert {"forward, t = 0", "backward, t = 0", "forward, t = 1"} <= set(strings)


def test_what_training_has_moved_stands_at_its_time():
    s = subject(tp.unroll(tp.programs.residual_mlp(), steps=2))
    band = {v.name: s.band[v] for v in s.drawn}
    assert {n: band[n] for n in ("δV@1", "δV@2", "x11", "f1(x)", "f2(x)")} == {
        "δV@1": 2, "δV@2": 4, "x11": 0, "f1(x)": 2, "f2(x)": 4}  # fmt: skip
    backward = {v.name.partition("@")[2]: s.band[v] for v in s.drawn if v.name.startswith("dx") and "@" in v.name}
    assert backward == {"0": 1, "1": 3}


def test_a_program_is_drawn_as_it_is_written():
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    s = p.scalar("s", 0.5)
    y = tp.relu(W @ x) * s
    tp.moment(lambda a, b: a * b, y, x)
    picture = tp.draw(p, highlight=["x"])
    assert picture.variables == [v.name for v, _ in p if v.kind != "matrix" and v.name != "s"]
    assert [c.style.stroke for c in picture.scene.shapes if isinstance(c, Circle)].count("p") == 1
    assert list(collisions(picture.scene)) == []


def test_a_path_is_drawn_from_its_parameter_to_the_output():
    picture = tp.draw(tp.programs.mlp(depth=4), path="W2")
    (p,) = picture.paths
    assert p.matrices == ("W2", "W3", "W4") and len(p) == 7
    assert str(p) == " ".join(t.string for t in picture.scene.texts if t.string.startswith("p:")).removeprefix("p: ")
    coloured = [s for s in picture.scene.shapes if isinstance(s, Circle) and s.style.stroke == "p"]
    assert len(coloured) == 7


def test_a_pair_of_isomorphic_paths_is_drawn_through_two_sequences():
    picture = tp.draw(tp.programs.rnn(), path="W", lengths=[4, 2])
    p, q = picture.paths
    assert p.matrices == q.matrices == ("W",) and p.isomorphic(q) and p.vectors != q.vectors
    longest = tp.draw(tp.programs.rnn(), path=("W", 0), lengths=[4, 2]).paths
    assert [len(r.matrices) for r in longest] == [3]  # T' = 2 has no partner for it
    assert not longest[0].isomorphic(p)


def test_two_paths_that_are_not_isomorphic_are_drawn_as_such():
    picture = tp.draw(tp.programs.mlp(), path=["W2", "W3"])
    p, q = picture.paths
    assert (p.parameter, q.parameter, p.isomorphic(q)) == ("W2", "W3", False)
    assert "p ≇ q: W² W³ against W³" in [t.string for t in picture.scene.texts]
    shared = [s for s in picture.scene.shapes if isinstance(s, Circle) and s.style.stroke == "pq"]
    assert len(shared) == 3  # q is the end of p
    assert list(collisions(picture.scene)) == []


def test_networks_with_skip_connections_are_drawn_as_they_are_written():
    net = tp.programs.residual_mlp()
    strings = [t.string for t in tp.draw(net).scene.texts]
    assert strings.count("+") == 2
    assert "+" not in [t.string for t in tp.draw(net, reduced=True).scene.texts]
    (p,) = tp.draw(net, path="U").paths
    (q,) = tp.draw(net, path="U", reduced=True).paths
    assert p.matrices == q.matrices == ("W2", "W3") and "Ż" not in p.links
    assert len(p) == len(q) + 2  # through both sums


def test_a_path_may_run_along_zdot():
    picture = tp.draw(tp.programs.tied_autoencoder(), path=("U", 1))
    assert "Ż" in picture.paths[0].links


def test_pictures_are_saved_and_shown(tmp_path):
    picture = tp.draw(tp.programs.mlp())
    svg = picture.save(tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ET.fromstring(svg).tag.endswith("svg") and picture._repr_svg_() == picture.svg == svg.rstrip("\n")
    assert picture.save(str(tmp_path / "a.png")).read_bytes().startswith(b"\x89PNG")


def test_the_same_program_gives_the_same_picture():
    assert tp.draw(tp.programs.rnn(), backprop=True).svg == tp.draw(tp.programs.rnn(), backprop=True).svg


def test_names_are_escaped():
    p = tp.Program()
    tp.relu(p.matrix("<W>") @ p.vector('"x" & <script>'))
    root = ET.fromstring(tp.draw(p).svg)
    assert '"x" & <script>' in [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", ["a.eps", "a", "a.svg.gz"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(tp.DataError, match=r"\.svg, \.pdf, \.png or \.tex"):
        tp.draw(tp.programs.mlp()).save(tmp_path / name)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", names(("cnn", "gcn")))
def test_every_ending_has_its_format(tmp_path, name, ending):
    picture = tp.draw(tp.programs.GALLERY[name](), backprop=True)
    found = picture.save(tmp_path / f"a{ending}").read_bytes()
    start = {".svg": b"<svg", ".pdf": b"%PDF-", ".png": b"\x89PNG", ".tex": b"\\definecolor"}[ending]
    assert found.startswith(start)
    assert found == picture.save(tmp_path / f"b{ending}").read_bytes()


def test_a_pdf_has_the_size_of_the_picture_and_one_page(tmp_path):
    picture = tp.draw(tp.programs.mlp())
    pdf = picture.save(tmp_path / "a.pdf").read_bytes()
    assert pdf.count(b"/Type /Page ") == 1
    box = [float(x) for x in re.search(rb"/MediaBox \[(.*?)\]", pdf)[1].split()]
    assert box == pytest.approx([0, 0, picture.scene.width, picture.scene.height], abs=0.01)


# ---- names and functions ---------------------------------------------------------------------------------


def lines(picture):
    """The texts in the picture, long ones put together again."""
    return [t.string for t in picture.scene.texts]


def test_the_output_and_its_readout_are_drawn():
    strings = lines(tp.draw(tp.programs.mlp()))
    assert {"f(x)", "Σ/√n", "V", "h¹ = U(x), f(x) = V·x³/√n"} <= set(strings)
    strings = lines(tp.draw(tp.programs.mean_readout()))
    assert "h¹ = U(x), 1 = (1, …, 1), f(x) = 1·x²/√n" in strings
    assert "f(x) = σᵥ·V·x³/√n" in " ".join(lines(tp.draw(tp.programs.mlp(sigma_v=sp.Symbol("sigma_v")))))


def test_several_outputs_are_drawn():
    picture = tp.draw(gated(), lengths=[1])
    assert picture.names[-2:] == ["f₁(x)", "f₂(x)"]
    (last,) = (s for s in lines(picture) if "/√n" in s and "=" in s)
    assert last.endswith("f₁(x) = V·x¹/√n + V.bias, f₂(x) = 2·1·x¹/√n")


def test_vectors_are_named_by_layer_as_in_papers():
    assert tp.draw(tp.programs.mlp()).names == ["h¹", "x¹", "h²", "x²", "h³", "x³", "V", "f(x)"]
    names = tp.draw(tp.programs.mlp(depth=2), backprop=True).names
    assert set(names) == {"h¹", "x¹", "h²", "x²", "V", "dh²", "dx¹", "dh¹", "f(x)"}


def test_what_a_sum_is_made_of_is_named_by_its_product():
    assert tp.draw(tp.programs.mlp(depth=2, sigma_b=1)).names == [
        "U(x)", "b¹", "x¹", "W²x¹", "b²", "x²", "V", "f(x)"]  # fmt: skip
    assert tp.draw(tp.programs.residual_mlp()).names == [
        "h¹", "x¹", "W²x¹", "h²", "x²", "W³x²", "h³", "x³", "V", "f(x)"]  # fmt: skip


def test_multiples_are_named_by_their_factor():
    alpha = sp.Symbol("alpha")
    for factor, name, gate in [(alpha, "α·W²x¹", "×α"), (0.5, "(1/2)·W²x¹", "×1/2")]:
        picture = tp.draw(tp.programs.residual_mlp(depth=2, alpha=factor), reduced=False)
        assert picture.names == ["h¹", "x¹", "W²x¹", name, "h²", "x²", "V", "f(x)"]
        assert lines(picture).count(gate) == 1 and not any("ψ" in line for line in lines(picture))


def test_vectors_of_a_recurrent_network_are_named_by_time():
    assert tp.draw(tp.programs.rnn(), lengths=[3]).names == [
        "h¹", "x¹", "U(x₂)", "Wx¹", "x²", "U(x₃)", "Wx²", "x³", "V", "f(x)"]  # fmt: skip
    deep = tp.draw(tp.programs.rnn(layers=2, sigma_h=1), lengths=[1]).names
    assert deep == ["x¹ʼ⁰", "x²ʼ⁰", "U¹(x₁)", "W¹x¹ʼ⁰", "x¹ʼ¹", "U²x¹ʼ¹", "W²x²ʼ⁰", "x²ʼ¹", "V", "f(x)"]


def test_vectors_of_several_inputs_name_theirs():
    names = tp.draw(tp.programs.mlp(depth=1), inputs=2, backprop=True).names
    assert set(names) == {"h¹(x)", "x¹(x)", "h¹(x')", "x¹(x')", "V", "dh¹(x)", "dh¹(x')", "f(x)", "f(x')"}


def test_vectors_of_a_training_run_name_their_step():
    names = tp.draw(tp.unroll(tp.programs.mlp(depth=2), steps=2)).names
    assert {"dh²₀(ξ₀)", "dx¹₀(ξ₀)", "δh²₁(x)", "δx²₂(x)", "dh²₁(ξ₁)", "f₁(x)", "f₂(x)"} <= set(names)


@pytest.mark.parametrize("name", NAMES)
def test_no_two_vectors_have_one_name(name):
    picture = JOBS[name]()
    assert len(set(picture.names)) == len(picture.names) == len(picture.variables)


def test_functions_are_numbered_and_written_out_once():
    strings = lines(tp.draw(tp.programs.mlp(), backprop=True))
    assert "ψ₁(u, v) = v·step(u):  dh³ = ψ₁(h³, V), dh² = ψ₁(h², dx²), dh¹ = ψ₁(h¹, dx¹)" in strings
    assert strings.count("ψ₁") == 3 and "ψ₂" not in " ".join(strings)


def test_functions_that_differ_in_the_order_of_arguments_are_one():
    strings = lines(tp.draw(tp.programs.residual_mlp(), backprop=True))
    assert "ψ₂(u, v, w) = u + v·step(w):  dh² = ψ₂(dh³, dx², h²), dh¹ = ψ₂(dh², dx¹, h¹)" in strings


def test_a_function_of_more_arguments_than_have_letters_numbers_them():
    p = tp.Program()
    a, b, c, d = (p.vector(name) for name in "abcd")
    tp.nonlin(lambda a, b, c, d: a * sp.tanh(b) + c**2 * d, a, b, c, d)
    assert "ψ₁(u₁, u₂, u₃, u₄) = u₁·tanh(u₂) + u₃²·u₄:  x4 = ψ₁(a, b, c, d)" in lines(tp.draw(p))


def test_variables_are_highlighted_by_both_their_names():
    for name in ("h²", "W2(x)"):
        picture = tp.draw(tp.programs.mlp(), highlight=name)
        (circle,) = (s for s in picture.scene.shapes if isinstance(s, Circle) and s.style.stroke == "p")
        labels = [t.string for t in picture.scene.texts if t.colour == "p"]
        assert labels == ["W²", "h²"] and circle.x == next(t.x for t in picture.scene.texts if t.string == "h²")


@pytest.mark.parametrize("name", [f"no/such/folder/a{ending}" for ending in ENDINGS])
def test_a_path_that_cannot_be_written_is_refused(tmp_path, name):
    with pytest.raises(tp.DataError, match="cannot write .*existing folder"):
        tp.draw(tp.programs.mlp()).save(tmp_path / name)


REFUSALS = [
    (lambda: tp.draw(tp.programs.mlp(depth=300)), "at most 300 vectors and scalars in a drawing; draw fewer layers"),
    (lambda: tp.draw(tp.programs.mlp(), inputs=10**5), "on inputs of 100000 vectors in all: at most 300 vectors"),
    (lambda: tp.draw(tp.programs.rnn(), lengths=[10**6]), "on inputs of 1000000 vectors in all: at most 300 vectors"),
    (lambda: tp.draw(tp.Program()), "no vectors or scalars"),
    (lambda: tp.draw(tp.programs.mlp(), highlight="W2x"), r"no variable 'W2x' to highlight; did you mean 'W2\(x\)'"),
    (lambda: tp.draw(tp.programs.mlp(), path="W4"), "no paths start at 'W4'.*known: U, W2, W3"),
    (lambda: tp.draw(tp.programs.mlp(), path="V"), "no paths start at 'V'"),
    (lambda: tp.draw(tp.programs.mlp(), path=("W2", 1)), "no path 1 from W2: there are 1"),
    (lambda: tp.draw(tp.programs.mlp(), path=("W2", True)), "no path True"),
    (lambda: tp.draw(tp.programs.mlp(), path=["W2"]), "a pair of paths is a list of two"),
    (lambda: tp.draw(tp.programs.mlp(), path=["W2", "Q"]), "no paths start at 'Q'"),
    (lambda: tp.draw(tp.programs.mlp(), path=()), "a path is asked for as"),
    (lambda: tp.draw(tp.programs.mlp(), path=("W2", 0, 1)), "a path is asked for as 'W2' or"),
    (lambda: tp.draw(tp.programs.residual_mlp(depth=14), path="U"), "more than 2000 paths lead to an output"),
    (lambda: tp.draw(tp.programs.mlp(), lengths=[3]), "takes single vectors"),
    (lambda: tp.draw(tp.programs.mlp(), inputs=0), "inputs must be a positive integer"),
    (lambda: tp.draw(tp.programs.rnn(), lengths=[0]), "positive integers"),
    (lambda: tp.draw(tp.programs.rnn(), lengths=[]), "positive integers"),
    (lambda: tp.draw(tp.Program(), backprop=True), "for drawings of a network"),
    (lambda: tp.draw(tp.Program(), reduced=True), r"tp\.canonicalize\(program\)\[0\]"),
    (lambda: tp.draw("mlp"), "draw takes a program, a network or tp.unroll"),
]


@pytest.mark.parametrize("call, message", REFUSALS, ids=[m for _, m in REFUSALS])
def test_refusals_say_what_to_do(call, message):
    with pytest.raises(tp.ProgramError, match=message):
        call()


def test_paths_through_a_program_by_hand_are_refused():
    p = tp.Program()
    p.vector("x")
    with pytest.raises(tp.ProgramError, match=r"use highlight=\[names\]"):
        tp.draw(p, path="x")


def test_paths_are_refused_where_gradient_independence_fails():
    with pytest.raises(tp.AssumptionError, match="simple GIA check"):
        tp.draw(tp.programs.mean_readout(), path="W2")


def test_texts_are_text_in_svg():
    texts = tp.draw(tp.programs.mlp()).scene.texts
    assert all(isinstance(t, Text) for t in texts) and len(texts) > 10


def test_gradients_are_numbered_like_their_vectors():
    @tp.network
    def two_matrices_a_block(net, x):
        h = net.embed("U", x)
        for l in (1, 2):
            h = h + net.dense(("B", l), tp.relu(net.dense(("A", l), tp.relu(h))))
        return net.readout("V", tp.relu(h))

    names = tp.draw(two_matrices_a_block(), backprop=True).names
    forward = [n for n in names if n.startswith("h")]
    assert forward == ["h¹₁", "h¹₂", "h¹₃", "h²₁", "h²₂"]
    assert [n[1:] for n in names if n.startswith("dh")] == forward[::-1]
