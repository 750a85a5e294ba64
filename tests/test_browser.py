"""Pages in a real browser: they are quiet, ask for nothing, draw every chart, sort, filter, explain themselves on hover."""

from __future__ import annotations

import math

import pages_browser as browsers
import pytest

from cnnbench.analysis.stats import COVERS

pytestmark = pytest.mark.slow("browser")
BOTH = pytest.mark.parametrize("kind", browsers.KINDS)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'{}; img-src data:"
TABLE = """(id) => [...document.getElementById(id).tBodies].map((body) => [...body.rows].slice(1).map((row) => ({
  hidden: row.hidden, text: row.textContent, keys: [...row.cells].map((cell) => cell.dataset.value),
  shown: [...row.cells].map((cell) => cell.firstChild ? cell.firstChild.textContent.trim() : "") })))"""
HEADS = "(id) => [...document.getElementById(id).tHead.rows[0].cells].map((head) => head.getAttribute('aria-sort'))"
IN_SIGHT = """(id) => {
  const box = document.getElementById(id).getBoundingClientRect();
  return box.top < 900 && box.bottom > 0;
}"""


@pytest.fixture(scope="module")
def browser():
    with browsers.started() as started:
        yield started


@pytest.fixture
def opened(browser):
    """Opens the page of everything."""
    contexts = []

    def go(kind, **options):
        contexts.append(browsers.opened(browser, browsers.file_of("everything", kind), **options))
        return contexts[-1].__enter__()

    yield go
    for context in contexts:
        context.__exit__(None, None, None)


def tables(page):
    return page.evaluate("[...document.querySelectorAll('.scroll table')].map((table) => table.id)")


@BOTH
def test_a_page_is_quiet_and_asks_for_nothing(opened, kind):
    """No complaint, no error, no request; and its policy would stop one."""
    page, seen = opened(kind)
    assert seen.nothing()
    policy = page.get_attribute("meta[http-equiv='Content-Security-Policy']", "content")
    assert policy == POLICY.format(" 'unsafe-eval'" if kind == "interactive" else "")
    stopped = """() => new Promise((resolve) => {
      document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
      fetch("https://example.invalid/").catch(() => null);
    })"""
    assert page.evaluate(stopped) == "connect-src"


@BOTH
@pytest.mark.parametrize("width", [1280, 390])
def test_every_chart_is_drawn(opened, kind, width):
    """Each figure shows one picture with words and marks, in the form for this width."""
    page, seen = opened(kind, width=width)
    charts = {chart["name"].removeprefix("chart-"): chart for chart in page.evaluate(browsers.CHART_TEXTS)}
    assert list(charts) == [chart.key for chart in browsers.page_of("everything").charts]
    assert all(chart["texts"] and chart["height"] > 100 for chart in charts.values())
    marks = page.evaluate(
        "[...document.querySelectorAll('.chart')].map((chart) => chart.querySelectorAll('svg .role-mark path').length)"
    )
    assert min(marks) > 0
    assert seen.nothing()


@BOTH
def test_tables_sort_up_and_down_within_their_groups(opened, kind):
    """Every column of every table: numbers by size, what is not known last either way, no row in another group."""
    page, seen = opened(kind)
    for table in tables(page):
        before = [{row["text"] for row in group} for group in page.evaluate(TABLE, table)]
        buttons = page.locator(f"#{table} thead button")
        heads = page.evaluate(
            f"[...document.querySelectorAll('#{table} thead th')].map((h) => !!h.querySelector('button'))"
        )
        columns = [n for n, has in enumerate(heads) if has]
        for place, column in enumerate(columns):
            for direction in ("ascending", "descending"):
                buttons.nth(place).evaluate("(button) => button.click()")
                groups = page.evaluate(TABLE, table)
                assert [{row["text"] for row in group} for group in groups] == before
                assert page.evaluate(HEADS, table)[column] == direction
                assert sum(state is not None for state in page.evaluate(HEADS, table)) == 1
                for group in groups:
                    assert_sorted([row["keys"][column] for row in group], up=direction == "ascending")
                    assert [row["shown"][column] in ("", "n/a") for row in group] == [
                        row["keys"][column] == "" for row in group
                    ]
    assert seen.nothing()


def assert_sorted(keys, *, up):
    known = [key for key in keys if key != ""]
    assert keys == known + [""] * (len(keys) - len(known)), "what is not known stands last"
    numbers = [float(key) for key in known if is_number(key)]
    if len(numbers) == len(known):
        assert numbers == sorted(numbers, reverse=not up)


def is_number(key):
    try:
        return math.isfinite(float(key))
    except ValueError:
        return False


def test_a_table_sorts_by_the_keyboard(opened):
    page, _ = opened("static")
    head = page.locator("#rows-training thead th").nth(1)
    head.locator("button").focus()
    for key, direction in (("Enter", "ascending"), ("Space", "descending")):
        page.keyboard.press(key)
        assert head.get_attribute("aria-sort") == direction
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('th').cellIndex") == 2


@BOTH
def test_a_filter_shows_the_rows_with_all_its_words_and_counts_them(opened, kind):
    page, seen = opened(kind)
    field, count = page.locator("#filter-training"), page.locator("#table-training .count")
    rows = [row for group in page.evaluate(TABLE, "rows-training") for row in group]
    for words in ("rtx bf16", "H100", "no such processor", "batch 1024 epyc"):
        field.fill(words)
        groups = page.evaluate(TABLE, "rows-training")
        titles = page.evaluate(
            "[...document.querySelectorAll('#rows-training tr.group')].map((g) => [g.textContent, g.hidden])"
        )
        shown = 0
        for (title, hidden), group in zip(titles, groups, strict=True):
            fits = [all(word in (title + row["text"]).lower() for word in words.lower().split()) for row in group]
            assert [not row["hidden"] for row in group] == fits
            assert hidden == (not any(fits)), "a group without rows has no title"
            shown += sum(fits)
        assert count.text_content() == f"{shown} of {len(rows)} rows"
    field.fill("")
    assert count.text_content() == ""
    assert page.locator("#rows-training tbody tr:visible").count() == len(rows) + len(titles)
    assert seen.nothing()


@pytest.mark.parametrize("key", ["speedup", "speedup-cpu"])
def test_a_tooltip_shows_the_exact_figure_and_its_interval(opened, key):
    """Six digits of the raw value, both ends of its interval, and n."""
    page, seen = opened("interactive", width=1280)
    value = {"speedup": "speedup_over_reference", "speedup-cpu": "speedup"}[key]
    found = [pair for pair in browsers.hovered(page, key, 12) if pair[0][f"{value}_low"] is not None]
    assert len(found) >= 3
    for datum, lines in found:
        for name, field in (("times the speed", ""), (f"{COVERS}, from", "_low"), ("to", "_high")):
            assert float(lines[name].replace("\N{MINUS SIGN}", "-")) == pytest.approx(datum[value + field], rel=1e-5)
        assert lines["processors" if "processors" in lines else "processor"] == datum["processor"]
        assert int(lines["processes (n)"]) == datum[f"{value}_n"]
    assert seen.nothing()


def test_every_chart_has_tooltips(opened):
    page, seen = opened("interactive")
    for chart in browsers.page_of("everything").charts:
        found = browsers.hovered(page, chart.key, 2)
        assert found, chart.key
        assert all(len(lines) >= 3 and all(lines.values()) for _, lines in found), (chart.key, found)
    assert seen.nothing()


@BOTH
def test_links_to_sections_lead_there(opened, kind):
    page, seen = opened(kind)
    links = page.locator("a[href^='#']")
    assert links.count() > len(browsers.page_of("everything").sections)
    for number in range(links.count()):
        target = links.nth(number).get_attribute("href")
        links.nth(number).click()
        page.wait_for_function(IN_SIGHT, arg=target.removeprefix("#"))
        assert page.url.endswith(target)
    assert page.evaluate(
        "[...document.querySelectorAll('[id]')].length === new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size"
    )
    assert seen.nothing()


def test_without_javascript_the_static_page_shows_everything(opened):
    page, seen = opened("static", java_script_enabled=False)
    made = browsers.page_of("everything")
    assert page.locator(".chart svg:visible").count() == len(made.charts)
    assert page.locator(".scroll table:visible").count() == len(made.tables)
    rows = sum(len(group.lines) + 1 for table in made.tables for group in table.groups)
    assert page.locator("tbody tr:visible").count() == rows
    assert page.locator(".filter:visible, thead button:visible").count() == 0, "what needs a script is not offered"
    assert seen.nothing()
