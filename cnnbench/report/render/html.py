"""Render a page as one self-contained HTML file: it needs no network, no fonts, no other files.

There are two kinds: *static*, with charts drawn as SVG, and *interactive*, with Vega inside and tooltips. Both have tables
that sort and filter, light and dark colours, a layout for phones and one for paper. A content security policy forbids every
request, so a page that tried one would fail visibly. The template escapes all text from records; marked as safe are only
cnnbench's own files, drawings, and data in scripts: JSON in which every character that could end a script is escaped.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cnnbench import __version__
from cnnbench.report import chart_images, escaping, sections
from cnnbench.report.model import Cell, Chart, Column, Document, Page, shown_values
from cnnbench.report.render.markdown import seal

TEMPLATES = Path(__file__).parent / "templates"


def render(page: Page, *, static: bool, drawn: bool = True) -> str:
    """Render the page, which ends in its digest for the audit.

    `static` draws the charts; otherwise the reader's browser does. Without `drawn`, drawings are empty.
    """
    page = sections.abridge(page)
    template = _environment().get_template("page.html")
    text = template.render(page=page, static=static or not page.charts, drawn=drawn, version=__version__)
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
    environment.filters.update(
        plain=escaping.plain,
        sort_key=sort_key,
        draw=chart_images.inline_svg,
        payload=chart_images.payload,
        take_specifications=_take_specifications,
        shown_values=shown_values,
        json_in_html=escaping.json_in_html,
    )
    environment.globals.update(read=_read, load_vega=_load_vega, dark_rules=chart_images.dark_rules)
    return environment


def _take_specifications(chart: Chart) -> Document:
    """Take both specifications of a chart without the data, which the page has once."""
    return {
        form: {key: part for key, part in getattr(chart, form).items() if key != "datasets"}
        for form in ("wide", "narrow")
    }


def sort_key(cell: Cell, column: Column) -> str:
    """Make the sort key of a cell: its raw number in a numeric column, else its text."""
    for value in cell.values.values():
        if column.align == "right" and isinstance(value, int | float) and not isinstance(value, bool):
            return repr(float(value))
    return "" if cell.text in ("", "n/a") else cell.text


@cache
def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _load_vega() -> str:
    """Load Vega, Vega-Lite and Vega-Embed as one script, from the package that draws the static charts."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")
