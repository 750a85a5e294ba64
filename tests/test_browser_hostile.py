"""Names and messages that are code somewhere are text on a page: nothing runs, nothing is asked for, all of it can be read."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET

import pages_browser as browsers
import pages_records as records
import pytest
import report_builders
from format_readers import STEERING

from cnnbench.report import chart_images, escaping
from cnnbench.report.render import html

pytestmark = pytest.mark.slow("browser")
BOTH = pytest.mark.parametrize("kind", browsers.KINDS)
FOREIGN = """() => [...document.querySelectorAll("*")].filter((element) =>
  ["IMG", "IFRAME", "OBJECT", "EMBED", "BASE", "foreignObject"].includes(element.tagName)
  || element.tagName === "FORM" && element.className !== "vega-bindings"
  || element.hasAttribute("autofocus")
  || element.getAttributeNames().some((name) => name.startsWith("on"))
  || /^\\s*(javascript|data|https?):/i.test(element.getAttribute("href") ?? element.getAttribute("src") ?? "")
).map((element) => element.outerHTML.slice(0, 200))"""
"""Elements that no page of ours has."""
SCRIPTS = "() => [...document.scripts].map((script) => script.type + (script.src && '!'))"


@pytest.fixture(scope="module")
def browser():
    with browsers.started() as started:
        yield started


def plain(text, longest=200):
    """How a page shows a text, as much of it as a machine's id or a label keeps."""
    return escaping.plain(text)[:longest].rstrip("…")


@BOTH
def test_what_a_ledger_names_is_shown_as_text_and_does_nothing(browser, kind):
    """Processors, machines, versions, systems and messages, each with fourteen ways to break out of a page."""
    charts = len(browsers.page_of("hostile").charts)
    # The values of the page, and of each chart its data and, where the browser draws it, its specification.
    data = ["application/json"] * (1 + charts * (2 if kind == "interactive" else 1))
    for scheme in ("light", "dark"):
        with browsers.opened(browser, browsers.file_of("hostile", kind), color_scheme=scheme) as (page, seen):
            assert page.evaluate(FOREIGN) == []
            found = page.evaluate(SCRIPTS)
            assert sorted(found) == sorted([*data, "", *(["module"] * 2 if kind == "interactive" else [])])
            text = page.evaluate("document.body.textContent")
            shown = page.evaluate(
                "[...document.querySelectorAll('.warning')].map((each) => each.textContent).join(' ')"
            )
            cells = page.evaluate(
                "[...document.querySelectorAll('td, th')].map((cell) => cell.textContent).join('\\n')"
            )
            for hostile in records.HOSTILE:
                for place, words in (("page", text), ("warnings", shown), ("tables", cells)):
                    assert plain(hostile) in words, (place, hostile)
            assert not STEERING.search(text)
            assert seen.nothing()


def test_tooltips_show_names_as_text(browser):
    with browsers.opened(browser, browsers.file_of("hostile", "interactive")) as (page, seen):
        names = set()
        for chart in browsers.page_of("hostile").charts:
            for datum, lines in browsers.hovered(page, chart.key, 12):
                names.add(datum.get("processor") or "")
                assert plain(str(datum["processor"]), 60) in " ".join(lines.values()), (chart.key, lines)
                inside = page.evaluate(
                    "[...document.querySelectorAll('#vg-tooltip-element *')].map((each) => each.tagName)"
                )
                assert set(inside) <= {"TABLE", "TBODY", "TR", "TD"}, inside
        assert len(names & {escaping.plain(text) for text in records.HOSTILE}) >= 8, "most of them were hovered"
        assert page.evaluate(FOREIGN) == []
        assert seen.nothing()


@BOTH
def test_nothing_happens_when_hostile_tables_are_sorted_and_filtered(browser, kind):
    with browsers.opened(browser, browsers.file_of("hostile", kind)) as (page, seen):
        for button in page.locator("thead button").all():
            button.evaluate("(each) => each.click()")
        field = page.locator("#filter-training")
        for hostile in records.HOSTILE:
            field.fill(plain(hostile))
            assert page.locator("#table-training .count").text_content().split(" of ")[0] != "0", hostile
        assert page.evaluate(FOREIGN) == []
        assert seen.nothing()


@pytest.mark.parametrize(
    "title", [*records.HOSTILE, "</title><script>alert(12)</script>"], ids=range(len(records.HOSTILE) + 1)
)
def test_a_title_is_text_too(browser, title, tmp_path):
    made = dataclasses.replace(report_builders.page([], title=title), sections=())
    path = tmp_path / "page.html"
    path.write_text(html.render(made, static=True), encoding="utf-8")
    with browsers.opened(browser, path) as (page, seen):
        assert page.title() == page.locator("h1").text_content() == escaping.plain(title)
        assert page.evaluate(FOREIGN) == []
        assert seen.nothing()


@pytest.mark.parametrize("key", ["speedup", "flops", "roofline", "ladder", "threads", "memory", "learning", "noise"])
def test_a_picture_opened_on_its_own_does_nothing(browser, key, tmp_path):
    """The SVG file: well-formed, no script in it, none run, nothing asked for."""
    chart = next(chart for chart in browsers.page_of("hostile").charts if chart.key == key)
    path = tmp_path / f"{chart.key}.svg"
    path.write_text(chart_images.svg(chart), encoding="utf-8")
    tags = {each.tag.rpartition("}")[2] for each in ET.parse(path).iter()}
    assert tags <= {
        "svg",
        "title",
        "desc",
        "metadata",
        "style",
        "g",
        "path",
        "line",
        "rect",
        "text",
        "tspan",
        "defs",
        "clipPath",
    }
    with browsers.opened(browser, path) as (page, seen):
        assert page.evaluate(FOREIGN) == []
        (shown,) = page.evaluate(browsers.CHART_TEXTS)
        assert browsers.overlaps(shown) == []
        assert seen.nothing()


def test_every_hostile_name_reaches_a_picture():
    """Else the tests above would prove little."""
    drawn = "".join(str(datum.get("processor")) for chart in browsers.page_of("hostile").charts for datum in chart.data)
    assert [text for text in records.HOSTILE if plain(text, 60) not in drawn] == []
    assert browsers.page_of("hostile").warnings
