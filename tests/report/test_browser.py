"""The report in a real headless Chromium: formulas, width of a phone, pictures, console, network, dark mode."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

import tensorprog as tp

pytestmark = pytest.mark.browser
GALLERY = sorted(tp.programs.GALLERY)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
SHOTS = Path("out") / "browser"

BOXES = """
return [...document.querySelectorAll(arguments[0])].map(e => {
  const r = e.getBoundingClientRect(), m = e.ownerSVGElement ? e.ownerSVGElement.getBoundingClientRect() : r;
  return [r.left, r.top, r.right, r.bottom, m.left, m.top, m.right, m.bottom, e.textContent];
});"""
HIDDEN = """
return [...document.querySelectorAll('main *')].filter(e => {
  const r = e.getBoundingClientRect();
  if (r.width == 0 || r.right <= document.documentElement.clientWidth + 1) return false;
  for (let p = e.parentElement; p; p = p.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(p).overflowX)) return false;
  return !['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
}).map(e => e.outerHTML.slice(0, 80));"""


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    profile = tempfile.mkdtemp()
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("reports"), {}
    rng = np.random.default_rng(0)

    def of(name):
        if name not in made:
            net = tp.programs.GALLERY[name]()
            X = [rng.standard_normal((t, 4)) for t in (3, 2)] if net.takes_sequences else rng.standard_normal((3, 4))
            made[name] = tp.verify(net, X, widths=(32, 64), seeds=8).save(folder / f"{name}.html")
        return made[name]

    return of


def show(browser, path, width, dark=False):
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())
    SHOTS.mkdir(parents=True, exist_ok=True)
    height = browser.execute_script("return document.documentElement.scrollHeight")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": min(height, 9000)})
    browser.save_screenshot(str(SHOTS / f"{path.stem}-{width}{'-dark' if dark else ''}.png"))


def wide(browser):
    """What is wider than the page and does not scroll in a box of its own."""
    page = browser.execute_script("return document.documentElement.scrollWidth")
    return [*(["the page"] if page > 390 else []), *browser.execute_script(HIDDEN)]


def meet(a, b):
    return a[0] < b[2] - 0.5 and b[0] < a[2] - 0.5 and a[1] < b[3] - 0.5 and b[1] < a[3] - 0.5


@pytest.mark.parametrize("name", GALLERY)
def test_formulas_have_boxes(browser, pages, name):
    show(browser, pages(name), 1100)
    formulas = browser.execute_script(BOXES, "math")
    assert len(formulas) > 10
    assert all(b[2] - b[0] > 5 and b[3] - b[1] > 8 for b in formulas)
    assert browser.execute_script("return document.querySelectorAll('code.tex').length") == 0
    parts = browser.execute_script(BOXES, "mi, mn")
    assert all(b[2] > b[0] and b[3] > b[1] for b in parts)


@pytest.mark.parametrize("name", GALLERY)
def test_nothing_is_said_on_the_console_and_nothing_is_fetched(browser, pages, name):
    browser.get_log("browser")
    show(browser, pages(name), 1100)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("name", GALLERY)
def test_a_phone_shows_everything(browser, pages, name):
    show(browser, pages(name), 390)
    assert wide(browser) == []
    wrapped = """return [...document.querySelectorAll('.eq')].some(e => {
      const tops = [...e.querySelectorAll('math')].map(m => m.getBoundingClientRect().bottom);
      return Math.max(...tops) > Math.min(...tops) + 25; })"""
    assert browser.execute_script(wrapped)  # wide formulas take several lines


@pytest.mark.parametrize("name", GALLERY)
def test_no_formula_is_wider_than_a_page_of_1100_pixels(browser, pages, name):
    show(browser, pages(name), 1100)
    cut = "return [...document.querySelectorAll('.eq, .legend li')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert browser.execute_script(cut) == 0


@pytest.mark.parametrize("name", GALLERY)
def test_texts_in_pictures_keep_apart_in_the_fonts_of_a_browser(browser, pages, name):
    show(browser, pages(name), 1100)
    texts = browser.execute_script(BOXES, "svg text")
    assert len(texts) > 20
    for k, a in enumerate(texts):
        left, top, right, bottom, *frame, string = a
        assert left >= frame[0] and top >= frame[1] and right <= frame[2] and bottom <= frame[3], string
        assert not [b[-1] for b in texts[k + 1 :] if b[4:8] == frame and meet(a, b)], string


def test_dark_mode_is_dark(browser, pages):
    colours = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
    show(browser, pages("mlp"), 1100)
    light = browser.execute_script(colours)
    show(browser, pages("mlp"), 1100, dark=True)
    dark = browser.execute_script(colours)
    assert light == ["rgb(255, 255, 255)", "rgb(27, 31, 36)"] and dark == ["rgb(21, 24, 28)", "rgb(230, 232, 235)"]
    stroke = "return getComputedStyle(document.querySelector('.drawing circle[stroke=currentColor]')).stroke"
    assert browser.execute_script(stroke) == dark[1]
    filled = "return [...document.querySelectorAll('svg [fill]')].map(e => getComputedStyle(e).fill)"
    assert "rgb(255, 255, 255)" not in browser.execute_script(filled)


@pytest.mark.parametrize("broken", ["<p style='white-space: nowrap'>" + "x " * 99, "<p style='min-width: 900px'>wide"])
def test_the_check_on_widths_can_fail(browser, pages, tmp_path, broken):
    path = tmp_path / "broken.html"
    path.write_text(pages("mlp").read_text(encoding="utf-8").replace("<h1>", f"{broken}</p><h1>"), encoding="utf-8")
    show(browser, path, 390)
    assert wide(browser)
