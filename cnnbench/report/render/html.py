"""A page as one HTML file that needs nothing else: no network, no fonts, no files beside it.

Two kinds: *static*, its charts drawn as SVG, and *interactive*, with Vega inside and tooltips. Both have tables that sort
and filter, light and dark colours, a layout for phones and one for paper. A content security policy forbids every request,
so a page that wanted one would show it. All text from records passes the template's escaping; data in scripts is JSON with
every character escaped that could end a script.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cnnbench import __version__
from cnnbench.report import chart_images, escaping, page_values, sections
from cnnbench.report.model import Cell, Chart, Column, Page
from cnnbench.report.render.markdown import seal


class DrawChart(Protocol):
    """How a chart becomes a picture inside a page."""

    def __call__(self, chart: Chart, *, narrow: bool) -> str:
        """DrawChart it for a wide page or a narrow one."""


TEMPLATES = Path(__file__).parent / "templates"
MOST_LINES = 300
"""Lines of one table in a page: more are no longer read, and make it slow; the CSV, JSON and ledgers have all."""
MOST_WARNINGS = 5
"""Warnings that stand above everything else; more are folded up below them, so that the page still begins on its first screen."""
FILTER_FROM = 6
"""Rows of a table from which it gets a filter."""
LONG_FROM = 15
"""Rows of a table from which it scrolls in a frame of its own, its headings staying in sight: the next section is then
within reach, on a phone too.
"""


def render(page: Page, *, static: bool, draw: DrawChart = chart_images.inline_svg) -> str:
    """The page, ending in the digest of itself, for the audit. `static` draws the charts; else the reader's browser does."""
    page = sections.abridge(page, MOST_LINES)
    static = static or not page.charts
    text = (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            most_warnings=MOST_WARNINGS,
            static=static,
            version=__version__,
            style=Markup(_style()),
            script=Markup(_file("page.js")),
            filter_from=FILTER_FROM,
            long_from=LONG_FROM,
            chart_script=None if static else Markup(_file("charts.js")),
            vega=None if static else Markup(_vega()),
            licence=None if static else _file("vega-licence.txt"),
            drawings={chart.key: _drawings(chart, draw) for chart in page.charts} if static else {},
            specifications={} if static else {chart.key: _specifications(chart) for chart in page.charts},
            payloads={chart.key: Markup(chart_images.payload(chart)) for chart in page.charts},
            values=Markup(escaping.json_in_html(page_values.shown_values(page))) if page.options else None,
        )
    )
    return seal(text.strip())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = escaping.plain
    environment.filters["sort_key"] = sort_key
    return environment


def sort_key(cell: Cell, column: Column) -> str:
    """What a cell sorts by: its raw number where the column has one of its own, else its text."""
    for value in (cell.values or {}).values():
        if column.align == "right" and isinstance(value, int | float) and not isinstance(value, bool):
            return repr(float(value))
    return "" if cell.text in ("", "n/a") else cell.text


def _drawings(chart: Chart, draw: DrawChart) -> tuple[Markup, Markup]:
    """The chart for wide and for narrow pages."""
    return Markup(draw(chart, narrow=False)), Markup(draw(chart, narrow=True))


def _specifications(chart: Chart) -> Markup:
    """Both specifications without their data, which stands in the page once."""
    bare = [{key: value for key, value in spec.items() if key != "datasets"} for spec in (chart.wide, chart.narrow)]
    return Markup(escaping.json_in_html({"wide": bare[0], "narrow": bare[1]}))


def _style() -> str:
    dark = "\n".join(chart_images.dark_rules(".chart svg"))
    return _file("page.css") + f"\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


@cache
def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the package that draws the static charts."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")
