"""A drill: a chart is declared in one place, and is in the page, in the document, and in a file with its data."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial

import builders as b
import pytest
import report_builders

from cnnbench.analysis.rows import Row
from cnnbench.report import cells, chart_images, report_files, sections
from cnnbench.report.charts.chart_data import describe_texts, keep_fastest
from cnnbench.report.charts.kinds import WHERE, ChartSpec, draw_points, list_estimate, show_rows
from cnnbench.report.model import Chart, Datum, Page
from cnnbench.report.render import html, markdown
from cnnbench.report.table_builder import metric_cell

RATE = "images_per_second"


def mark_rate(row: Row) -> Iterator[Datum]:
    yield {"text": metric_cell(row, "images_per_second").text, **cells.values(RATE, row.images_per_second)}


RATES = ChartSpec(
    key="drill",
    section="resources",
    title="Images a second",
    alt="{title}: {marks}.",
    caption="Bars: 95 % interval between processes.",
    select=lambda data: show_rows(keep_fastest(data.training, lambda row: row.images_per_second), mark_rate),
    describe=describe_texts,
    draw=partial(
        draw_points,
        value=RATE,
        axis="images a second (log scale)",
        tooltip=(*WHERE, *list_estimate(RATE, "images a second", ",.6~g")),
    ),
)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    """The page of everything, with the chart declared."""
    monkeypatch.setattr(sections, "CHARTS", (*sections.CHARTS, RATES))
    return report_builders.page(report_builders.everything())


@pytest.fixture
def chart(page: Page) -> Chart:
    (section,) = (section for section in page.sections if section.key == "resources")
    assert section.charts[-1].key == "drill"
    return section.charts[-1]


def test_its_data_are_the_figures_of_the_rows_it_selects(chart: Chart) -> None:
    """A batch of 128 over the geometric mean step; three processes each."""
    (datum,) = (d for d in chart.data if d["machine"] == b.MACHINE_ID and d["precision"] == "bf16")
    assert datum[RATE] == pytest.approx(128 / 0.0006)
    assert datum[f"{RATE}_n"] == 3
    assert chart.data[0][RATE] == max(d[RATE] for d in chart.data)  # type: ignore[type-var]


def test_it_is_in_the_page_drawn_for_both_widths_with_its_words_and_data(page: Page, chart: Chart) -> None:
    text = html.render(page, static=True)
    _, _, figure = text.partition('<figure class="chart" id="chart-drill">')
    figure, _, _ = figure.partition("</figure>")
    assert [figure.count(f'<title id="drill-{form}-title">') for form in ("wide", "narrow")] == [1, 1]
    assert chart.caption in figure
    assert chart_images.payload(chart) in figure


def test_it_is_in_the_interactive_page_as_a_specification(page: Page, chart: Chart) -> None:
    text = html.render(page, static=False)
    _, _, stored = text.partition('<script type="application/json" id="spec-drill">')
    specification = json.loads(stored.partition("</script>")[0])
    assert specification["wide"]["layer"] == chart.wide["layer"]


def test_it_is_in_the_document_as_a_picture_or_in_words(page: Page, chart: Chart) -> None:
    assert "](charts/drill.svg)" in markdown.render_page(page, charts_at="charts")
    assert "Images a second: " in markdown.render_page(page, charts_at=None)


def test_it_is_a_file_that_carries_its_data(page: Page, chart: Chart) -> None:
    picture = report_files.render_folder(page, static=True)["charts/drill.svg"]
    assert isinstance(picture, str)
    stored = ET.fromstring(picture).find("{http://www.w3.org/2000/svg}metadata")
    assert stored is not None
    assert json.loads(stored.text or "")["rows"] == [dict(datum) for datum in chart.data]


def test_without_a_row_that_it_selects_there_is_no_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "CHARTS", (RATES,))
    assert report_builders.page([b.ledger([b.record(b.cnn_job(), status="oom")])]).charts == ()
