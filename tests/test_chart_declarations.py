"""What every declared chart keeps to: its section exists, it has words for those who do not see it, its data are in SI units,
it is drawn for two widths, and no tooltip shows what is unknown.
"""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pages_browser as browsers
import pages_records
import pytest
import report_builders
import run_builders
import scaling_records
import verdict_builders

from cnnbench.analysis import process_table
from cnnbench.analysis.history import build_history
from cnnbench.regression.design import CheckPlan
from cnnbench.report import chart_images, sections
from cnnbench.report.charts.check import draw_detectable_effect, draw_forest
from cnnbench.report.charts.history import draw_history
from cnnbench.report.charts.kinds import TooltipField, show_known
from cnnbench.report.model import Chart, Page, Section
from cnnbench.report.render import html

PAGE_KEYS = [spec.key for spec in sections.CHARTS]
OTHER_KEYS = ("history", "forest", "detectable")
KEYS = pytest.mark.parametrize("key", [*PAGE_KEYS, *OTHER_KEYS])
UNITS = re.compile(
    r"(^|_)(seconds|milliseconds|bytes|mib|joules|watts|minutes|(g?flops|images)_per_(second|byte|image)|joules_per_image)(_|$)"
)
PURE = {
    *(
        "speedup",
        "speedup_over_reference",
        "scaling_speedup",
        "ideal",
        "ratio",
        "accuracy",
        "slowdown",
        "spread",
        "edge",
    ),
    *("block_p05", "block_p50", "block_p95"),
}
"""Figures without a unit: quotients and shares. `ideal` has the unit of the figure beside it."""
COUNTS = {"varied", "number", "panel", "round", "index", "order", "blocks", "images", "after_steps", "stretch"}
GUARD = re.compile(r'isValid\(datum\["(\w+)"\]\) \? ')


@cache
def charts() -> dict[str, Chart]:
    """Every declared chart, drawn from records that have something for it."""
    history = draw_history(build_history(process_table.read_processes(run_builders.runs())[0]))
    assert history is not None
    pages = (
        report_builders.page([scaling_records.ledger()]),
        report_builders.page(pages_records.everything()),
    )
    found = {chart.key: chart for page in pages for chart in page.charts}
    others = (
        history,
        draw_forest(verdict_builders.mixed(), verdict_builders.meta()),
        draw_detectable_effect({"a": 0.01, "b": 0.03}, CheckPlan()),
    )
    return found | {chart.key: chart for chart in others}


def list_layers(specification: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The layers of a drawing, of all its panels."""
    for part in specification.get("vconcat", (specification,)):
        yield from part["layer"]


def list_tooltips(chart: Chart) -> list[str]:
    """The expressions of the chart's tooltips, in both layouts."""
    layers = [*list_layers(chart.wide), *list_layers(chart.narrow)]
    return [layer["encoding"]["tooltip"]["value"]["expr"] for layer in layers if "tooltip" in layer["encoding"]]


def test_each_chart_has_a_key_of_its_own_and_a_section_of_the_page() -> None:
    assert len({*PAGE_KEYS, *OTHER_KEYS}) == len(PAGE_KEYS) + len(OTHER_KEYS) == len(charts())
    found = {section.key for section in report_builders.page(pages_records.everything()).sections}
    scaled = {section.key for section in report_builders.page([scaling_records.ledger()]).sections}
    assert {spec.section for spec in sections.CHARTS} <= found | scaled


@KEYS
def test_it_has_a_title_a_caption_and_words_with_its_figures(key: str) -> None:
    chart = charts()[key]
    assert chart.title
    assert chart.caption.rstrip().endswith(".")
    assert chart.alt.endswith(".")
    assert re.search(r"\d", chart.alt), "the words have the figures too"
    assert not re.search(r"[{}]", chart.title + chart.alt + chart.caption), "no blank is left"


@KEYS
def test_each_figure_in_its_data_has_its_unit_in_its_name(key: str) -> None:
    """Plain multiples are there for the axes (GFLOP/s, MiB, ms, minutes), beside or instead of the SI unit."""
    names = {
        re.sub(r"_(low|high|n)$", "", name)
        for datum in charts()[key].data
        for name, value in datum.items()
        if isinstance(value, int | float) and not name.endswith("_n")
    }
    assert [name for name in sorted(names - PURE - COUNTS) if not UNITS.search(name)] == []


@KEYS
def test_it_is_drawn_for_a_wide_page_and_for_a_phone(key: str) -> None:
    chart = charts()[key]
    wide, narrow = (
        float(ET.fromstring(chart_images.inline_svg(chart, narrow=form)).attrib["width"]) for form in (False, True)
    )
    assert narrow <= 390
    assert narrow < wide <= 620


@KEYS
def test_every_field_of_its_tooltips_is_left_out_where_it_is_unknown(key: str) -> None:
    """A tooltip merges an object for each field, which is empty unless the field has a value."""
    tooltips = list_tooltips(charts()[key])
    assert tooltips
    for expression in tooltips:
        guarded = GUARD.findall(expression)
        assert len(guarded) == len(set(guarded)) == expression.count(" : {}")
        assert {*re.findall(r'datum\["(\w+)"\]', expression)} == {*guarded}
        titles = re.findall(r'\? \{"((?:[^"\\]|\\.)*)": ', expression)
        assert len(titles) == len(set(titles)) == len(guarded), "two fields of one title hide one another"


def test_a_title_in_a_tooltip_cannot_end_its_expression() -> None:
    shown = show_known(TooltipField("a", 'x"}}); alert(1); ({"'))
    assert json.loads(shown[shown.index('{"') + 1 : shown.index('": datum') + 1]) == 'x"}}); alert(1); ({"'


TOOLTIPS = """() => [...document.querySelectorAll(".vega")].map((place) => [
  place.dataset.chart,
  [...place.querySelectorAll("svg .role-mark path")]
    .map((path) => path.__data__?.tooltip).filter(Boolean).map((each) => JSON.stringify(each)),
])"""
"""What the tooltip of each mark is of, by chart."""


def forget(chart: Chart) -> Chart:
    """The chart with every field unknown that is in a tooltip alone."""
    named = {name for text in list_tooltips(chart) for name in GUARD.findall(text)}
    drawn = json.dumps([without_tooltips(chart.wide), without_tooltips(chart.narrow)])
    gone = {name for name in named if not re.search(rf"\b{name}\b", drawn)}
    data = tuple({name: None if name in gone else value for name, value in datum.items()} for datum in chart.data)
    specs = ({**spec, "datasets": {"rows": list(data)}} for spec in (chart.wide, chart.narrow))
    return dataclasses.replace(chart, **dict(zip(("wide", "narrow"), specs, strict=True)), data=data)


def without_tooltips(value: Any) -> Any:
    """The drawing without tooltips and data."""
    if isinstance(value, Mapping):
        return {k: without_tooltips(v) for k, v in value.items() if k not in ("tooltip", "datasets")}
    return [without_tooltips(each) for each in value] if isinstance(value, list) else value


@pytest.mark.slow("browser")
@pytest.mark.parametrize("forgotten", [False, True], ids=["as recorded", "unknown"])
def test_no_tooltip_in_a_browser_prints_null(tmp_path: Any, forgotten: bool) -> None:
    drawn = [forget(chart) if forgotten else chart for chart in charts().values()]
    page = Page("Tooltips", (), (Section("all", "All", "", tuple(drawn)),), ())
    path = tmp_path / "tooltips.html"
    path.write_text(html.render(page, static=False), encoding="utf-8")
    with browsers.started() as browser, browsers.opened(browser, path) as (view, seen):
        found = dict(view.evaluate(TOOLTIPS))
        assert [key for key in charts() if not found[key]] == []
        shown = [(key, text) for key, texts in found.items() for text in texts]
        assert [pair for pair in shown if re.search(r"null|undefined|NaN", pair[1])] == []
        hovered = browsers.hovered(view, "forest", 3)
        assert hovered
        assert all("null" not in " ".join(lines.values()) for _, lines in hovered)
        assert seen.nothing()
