"""A page as one HTML file that needs nothing else: no network, no fonts, no files beside it.

Two kinds: *static*, its charts drawn as SVG, and *interactive*, with Vega inside and tooltips. Both have tables that sort
and filter, light and dark colours, a layout for phones and one for paper. A content security policy forbids every request,
so a page that wanted one would show it. All text from records passes the template's escaping; data in scripts is JSON with
every character escaped that could end a script.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cnnbench import __version__
from cnnbench.report import chart_images, escaping, page_values, sections
from cnnbench.report.model import Cell, Column, Page
from cnnbench.report.render.markdown import seal

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


def render(page: Page, *, static: bool, drawn: bool = True) -> str:
    """The page, ending in the digest of itself, for the audit. `static` draws the charts; else the reader's browser does. Where
    they are not to be `drawn`, drawings are empty.
    """
    page = sections.abridge(page, MOST_LINES)
    drawings = {}
    specifications = {}
    for chart in page.charts:
        if static:
            drawings[chart.key] = [
                Markup(chart_images.inline_svg(chart, narrow=form) if drawn else "<svg></svg>")
                for form in (False, True)
            ]
        else:
            # Without the data, which stands in the page once.
            bare = {
                form: {key: part for key, part in getattr(chart, form).items() if key != "datasets"}
                for form in ("wide", "narrow")
            }
            specifications[chart.key] = Markup(escaping.json_in_html(bare))
    dark = "\n".join(chart_images.dark_rules(".chart svg"))
    style = f"{_file('page.css')}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
    text = (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            most_warnings=MOST_WARNINGS,
            static=not specifications,
            version=__version__,
            style=Markup(style),
            script=Markup(_file("page.js")),
            filter_from=FILTER_FROM,
            long_from=LONG_FROM,
            chart_script=Markup(_file("charts.js")) if specifications else None,
            vega=Markup(_vega()) if specifications else None,
            licence=_file("vega-licence.txt") if specifications else None,
            drawings=drawings,
            specifications=specifications,
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
    for value in cell.values.values():
        if column.align == "right" and isinstance(value, int | float) and not isinstance(value, bool):
            return repr(float(value))
    return "" if cell.text in ("", "n/a") else cell.text


@cache
def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the package that draws the static charts."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")
