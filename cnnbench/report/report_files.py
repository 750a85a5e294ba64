"""A page as files: render each file, and find those on disk that are out of date.

Text is compared byte by byte. Drawings are compared by the digest of their data, because fonts and the renderer move their
lines; so a page with drawings inside is compared without them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Literal, get_args

from cnnbench.report import chart_images, escaping, sections
from cnnbench.report.model import Page, shown_values
from cnnbench.report.render import html, latex, markdown, text

Extension = Literal["html", "md", "tex", "csv", "json"]
EXTENSIONS: tuple[Extension, ...] = get_args(Extension)
CHARTS = "charts"
DOCUMENT, VALUES = "report.md", "page.json"
_DRAWING = re.compile(r"<svg\b.*?</svg>", re.DOTALL)
_SEAL = re.compile(rf"{re.escape(markdown.PAGE_DIGEST)}[0-9a-f]{{64}} -->")


def render_file(page: Page, extension: Extension, *, static: bool) -> str:
    """Render the page as one file of that kind."""
    if extension == "html":
        return html.render(page, static=static)
    if extension == "md":
        return markdown.render_page(page, charts_at=None)
    return text.render(page.report, "latex" if extension == "tex" else extension)


def render_folder(page: Page, *, static: bool) -> dict[str, str | bytes]:
    """Render every file of a folder by its name: page, document, tables, and the charts as SVG.

    Unless `static`, the page is interactive, and each chart is also there as PNG and as Vega-Lite specification.
    """
    files: dict[str, str | bytes] = {
        "index.html": html.render(page, static=static),
        DOCUMENT: markdown.render_page(page, charts_at=CHARTS),
        "report.csv": text.comma_separated(page.report),
        "report.json": text.as_json(page.report),
        "report.tex": latex.render(page.report),
        VALUES: values_file(page),
    }
    for chart in page.charts:
        files[f"{CHARTS}/{chart.key}.svg"] = chart_images.svg(chart)
        if not static:
            files[f"{CHARTS}/{chart.key}.png"] = chart_images.png(chart)
            files[f"{CHARTS}/{chart.key}.vl.json"] = chart_images.specification(chart)
    return files


def render_undrawn(page: Page, name: str, *, static: bool) -> str | None:
    """Render one file by its ending, or a folder's values or chart by its file name; None for an unknown chart.

    Drawings are left out: inside a page they are empty, and a picture is only the data stored in it.
    """
    if name == VALUES:
        return values_file(page)
    if name.startswith(CHARTS):
        key, _, ending = name.removeprefix(f"{CHARTS}/").partition(".")
        render = chart_images.specification if ending == "vl.json" else chart_images.payload
        return next((render(chart) for chart in page.charts if chart.key == key), None)
    if name == ".html":
        return html.render(page, static=static, drawn=False)
    return text.render(page.report, "csv" if name == ".csv" else "json")


def values_file(page: Page) -> str:
    """Write the values of what the page shows."""
    return escaping.as_json(shown_values(sections.abridge(page))) + "\n"


def find_stale(root: Path, wanted: Mapping[str, str | bytes]) -> list[tuple[Path, str]]:
    """Find the files under the root that are missing, differ, or do not belong to this page, each with the reason."""
    found = [
        (root / name, why)
        for name, content in sorted(wanted.items())
        if (why := explain_difference(root / name, content))
    ]
    known = {root / name for name in wanted}
    extra = sorted(path for path in (root / CHARTS).glob("*") if path not in known)
    return [*found, *((path, "not a chart of this report") for path in extra)]


def explain_difference(path: Path, wanted: str | bytes) -> str | None:
    """Explain why a file is out of date; None if it is current."""
    if not path.is_file():
        return "is not there"
    if path.suffix in (".svg", ".png"):
        picture = path.read_bytes() if isinstance(wanted, bytes) else path.read_text(encoding="utf-8")
        same = chart_images.stored_digest(picture) == chart_images.stored_digest(wanted)
        return None if same else "shows other data"
    if isinstance(wanted, bytes):
        return None if path.read_bytes() == wanted else "differs"
    there, ours = (_comparable(page).splitlines() for page in (path.read_text(encoding="utf-8"), wanted))
    lines = enumerate(zip_longest(there, ours), start=1)
    return next((f"differs from line {number} on" for number, (old, new) in lines if old != new), None)


def _comparable(page: str) -> str:
    """Strip drawings from a text, and with them the seal, whose digest covers them."""
    bare, drawings = _DRAWING.subn("<svg>", page)
    return _SEAL.sub("", bare) if drawings else bare
