"""Pages as seen: at three widths, light, dark and on paper nothing overflows, is cut, lies on something else or is too faint."""

from __future__ import annotations

import shutil
import subprocess

import builders as b
import pages_browser as browsers
import pages_records as records
import pytest
from click.testing import CliRunner

from cnnbench.cli.main import cli

pytestmark = pytest.mark.slow("browser")
BOTH = pytest.mark.parametrize("kind", browsers.KINDS)
TREES = (
    *("everything", "modes", "many_machines", "one_record", "only_failures", "only_products", "nothing_measured"),
    "hostile",
)
WIDTH = "[document.documentElement.scrollWidth, window.innerWidth]"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
ENOUGH_CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3, for text of normal size."""
SMALLEST_TEXT = 10.5
"""Pixels of a chart's words as shown: drawn in 12, shrunk by an eighth at the most."""
ON_PAPER = 703
"""Pixels between the margins of A4: 210 mm less twice 12."""


@pytest.fixture(scope="module")
def browser():
    with browsers.started() as started:
        yield started


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The report of two machines side by side, as the command makes it."""
    folder = tmp_path_factory.mktemp("compare")
    for run in records.everything():
        b.write(folder, run)
    sides = [str(folder / name) for name in ("xeon-cloud-77c2", "epyc-rack-3f9a")]
    target = folder / "page.html"
    done = CliRunner().invoke(cli, ["report", *sides, "--template", "compare", "-o", str(target)])
    assert done.exit_code == 0, done.output
    return target


def assert_fits(page, *, wide, names_whole):
    """No sideways scrolling, no text wider than its place, no word on another or outside its picture, or too small."""
    across, window = page.evaluate(WIDTH)
    assert across == window
    assert page.evaluate(browsers.CLIPPED) == []
    for chart in page.evaluate(browsers.CHART_TEXTS):
        assert browsers.overlaps(chart) == []
        assert min(text["size"] for text in chart["texts"]) >= SMALLEST_TEXT, chart["name"]
        assert not names_whole or [text["text"] for text in chart["texts"] if "…" in text["text"]] == []
    if wide:
        assert page.evaluate(browsers.WIDER_THAN_THEIR_FRAME) == []


@BOTH
@pytest.mark.parametrize("tree", TREES)
def test_a_page_fits_every_width(browser, kind, tree, tmp_path):
    """1,280, 768 and 390 pixels; at 1,280 no table has to be scrolled sideways; no decent name is cut in a chart."""
    for width in browsers.WIDTHS:
        with browsers.opened(browser, browsers.file_of(tree, kind), width=width) as (page, seen):
            if kind == "interactive" or tree == TREES[0]:
                page.screenshot(path=browsers.artefact(f"{tree}-{kind}-{width}.png", tmp_path), full_page=True)
            assert_fits(page, wide=width == browsers.WIDTHS[0], names_whole=tree != "hostile")
            assert seen.nothing()


@pytest.mark.parametrize("width", browsers.WIDTHS)
def test_a_comparison_fits_every_width(browser, compared, width, tmp_path):
    with browsers.opened(browser, compared, width=width) as (page, seen):
        page.screenshot(path=browsers.artefact(f"compare-{width}.png", tmp_path), full_page=True)
        assert_fits(page, wide=width == browsers.WIDTHS[0], names_whole=True)
        assert "vegaEmbed" not in compared.read_text(encoding="utf-8"), "no charts, so nothing to draw them"
        assert seen.nothing()


def test_an_overlap_would_be_seen(browser):
    """The check itself: a word moved onto another, and one out of the picture."""
    with browsers.opened(browser, browsers.file_of("one_record", "static")) as (page, _):
        page.evaluate(
            """() => { const [a, b, c] = document.querySelector(".chart svg").querySelectorAll("text");
            for (const text of [a, b]) text.setAttribute("transform", "translate(50, 50)");
            c.setAttribute("transform", "translate(-500, 0)"); }"""
        )
        found = browsers.overlaps(page.evaluate(browsers.CHART_TEXTS)[0])
        assert any(" on " in text for text in found)
        assert any("outside" in text for text in found)


@BOTH
def test_a_dark_page_is_dark_and_its_charts_can_be_read(browser, kind, tmp_path):
    shown = {}
    for scheme in ("light", "dark"):
        with browsers.opened(browser, browsers.file_of("everything", kind), color_scheme=scheme) as (page, seen):
            if scheme == "dark":
                page.screenshot(path=browsers.artefact(f"everything-{kind}-dark.png", tmp_path), full_page=True)
            ground = page.evaluate(BACKGROUND)
            for chart in page.evaluate(browsers.CHART_TEXTS):
                faint = {t["text"] for t in chart["texts"] if browsers.contrast(t["fill"], ground) < ENOUGH_CONTRAST}
                assert not faint, (scheme, chart["name"])
            shown[scheme] = ground, page.evaluate("getComputedStyle(document.querySelector('td')).color")
            assert seen.nothing()
    assert browsers.luminance(shown["light"][0]) > 0.9
    assert browsers.luminance(shown["dark"][0]) < 0.05
    assert shown["light"][1] != shown["dark"][1]


@BOTH
def test_on_paper_a_page_is_light_whole_and_without_controls(browser, kind, tmp_path):
    """Even where the reader's system is dark; long tables in full, charts no taller than a page, A4 between its margins."""
    file = browsers.file_of("everything", kind)
    with browsers.opened(browser, file, color_scheme="dark") as (page, seen):
        page.emulate_media(media="print")
        page.set_viewport_size({"width": ON_PAPER, "height": 1000})
        across, window = page.evaluate(WIDTH)
        assert across == window
        assert browsers.luminance(page.evaluate("getComputedStyle(document.querySelector('td')).color")) < 0.2
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") in (
            "rgba(0, 0, 0, 0)",
            "rgb(255, 255, 255)",
        )
        assert page.locator("nav:visible, .filter:visible, details:not(.warning):visible").count() <= 1, (
            "the licence alone"
        )
        heights = "[...document.querySelectorAll('.scroll')].map((frame) => [frame.scrollHeight, frame.clientHeight])"
        assert all(inside == shown for inside, shown in page.evaluate(heights))
        tallest = page.evaluate("Math.max(...[...document.querySelectorAll('.chart')].map((c) => c.offsetHeight))")
        assert tallest < 1032  # 297 mm less twice 12, at 96 pixels an inch
        for chart in page.evaluate(browsers.CHART_TEXTS):
            assert browsers.overlaps(chart, slack=3.0) == []
        made = browsers.artefact(f"everything-{kind}.pdf", tmp_path)
        page.pdf(path=made, prefer_css_page_size=True)
        assert made.read_bytes().startswith(b"%PDF-")
        assert seen.nothing()
    if shutil.which("pdftoppm"):
        target = made.with_suffix("")
        subprocess.run(["pdftoppm", "-r", "60", "-png", str(made), str(target)], check=True)
        assert len(list(made.parent.glob(f"{made.stem}-*.png"))) > 5
