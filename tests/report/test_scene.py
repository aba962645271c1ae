"""Scenes: what the two renderings say, and that measured texts keep their width."""

import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from tensorprog.report.scene import COLOURS, Circle, Path, Scene, Style, Text, rectangle, text_width

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def scene():
    curve = Path((("M", (5, 5)), ("C", (10, 5), (10, 20), (15, 20))), Style("p", dash=True))
    shapes = [
        Circle(20, 20, 6, Style(fill="ink")),
        rectangle(40, 10, 8, 8, Style()),
        curve,
        Text(50, 40, "a < b & 'c'"),
    ]
    return Scene(100, 60, shapes, "x < y")


def test_svg_is_well_formed_and_escapes_text(scene):
    root = ET.fromstring(scene.svg())
    assert root.get("viewBox") == "0 0 100 60"
    assert root.find(f"{SVG}title").text == "x < y"
    assert root.find(f"{SVG}text").text == "a < b & 'c'"
    assert root.find(f"{SVG}circle").get("fill") == "currentColor"
    assert [p.get("stroke-dasharray") is None for p in root.iter(f"{SVG}path")] == [True, False]


def test_texts_are_as_wide_in_every_viewer_as_they_were_measured(scene):
    text = ET.fromstring(scene.svg()).find(f"{SVG}text")
    assert float(text.get("textLength")) == pytest.approx(text_width("a < b & 'c'", 11), abs=0.01)
    left, top, right, bottom = scene.texts[0].box()
    assert (left + right) / 2 == pytest.approx(50) and top < 40 < bottom


def test_pixels_are_where_the_shapes_are(scene):
    import io

    from matplotlib.image import imread

    image = imread(io.BytesIO(scene.png(scale=3)))
    assert image.shape[:2] == (180, 300)
    ink = [int(COLOURS["ink"][k : k + 2], 16) / 255 for k in (1, 3, 5)]
    assert image[60, 60, :3] == pytest.approx(ink, abs=0.01)  # the filled circle
    assert image[42, 132, :3] == pytest.approx(1)  # inside the square, which is not filled
    assert image[30, 132, :3].max() < 0.5  # its upper side


def test_text_that_the_font_lacks_is_drawn_without_a_warning():
    assert Scene(50, 20, [Text(25, 12, "重")]).png().startswith(b"\x89PNG")


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, tensorprog; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
