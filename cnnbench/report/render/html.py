"""A page as one HTML file that needs nothing else: no network, no fonts, no files beside it.

Two kinds: *static*, its charts drawn as SVG, and *interactive*, with Vega inside and tooltips. Both have tables that sort
and filter, light and dark colours, a layout for phones and one for paper. A content security policy forbids every request,
so a page that wanted one would show it. All text from records passes the template's escaping; what it marks as safe are
files of ours, drawings, and data in scripts: JSON with every character escaped that could end a script.
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
    """The page, ending in the digest of itself, for the audit. `static` draws the charts; else the reader's browser does. Where
    they are not to be `drawn`, drawings are empty.
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
    """Take both specifications without the data, which is in the page once."""
    return {
        form: {key: part for key, part in getattr(chart, form).items() if key != "datasets"}
        for form in ("wide", "narrow")
    }


def sort_key(cell: Cell, column: Column) -> str:
    """What a cell sorts by: its raw number where the column has one of its own, else its text."""
    for value in cell.values.values():
        if column.align == "right" and isinstance(value, int | float) and not isinstance(value, bool):
            return repr(float(value))
    return "" if cell.text in ("", "n/a") else cell.text


@cache
def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _load_vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the package that draws the static charts."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")
