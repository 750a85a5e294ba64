"""Sizes, colours and the frame of every chart. Colours come in pairs, for light and for dark pages: a chart is drawn in the
light ones, and where the page is dark its style sheet puts the other of the pair in their place.

Pairs are GitHub's Primer palette; each light colour has a contrast of at least 4.5 to white and each dark one to #0d1117,
except the grid and the two greys, which carry no information that is not written beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.report.model import Chart, Value

INK, MUTED, GRID, GREY = "#1f2328", "#59636e", "#d1d9e0", "#818b98"
BLUE, ORANGE, GREEN, PURPLE, RED, TEAL = "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#1b7c83"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, TEAL)
"""Colours of machines and devices in the order they appear; after six they repeat, and labels tell them apart."""
DARK: Mapping[str, str] = {
    INK: "#f0f6fc",
    MUTED: "#9198a1",
    GRID: "#3d444d",
    GREY: "#9aa4af",
    BLUE: "#4493f8",
    ORANGE: "#f0883e",
    GREEN: "#3fb950",
    PURPLE: "#ab7df8",
    RED: "#f85149",
    TEAL: "#39c5cf",
}
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
PUBLISHED, MEASURED = "published in 2017", "measured"


@dataclass(frozen=True)
class Layout:
    """How much room a drawing has, in pixels: the plot without its labels, and the widest label."""

    width: int
    label_limit: int
    narrow: bool


WIDE = Layout(width=560, label_limit=230, narrow=False)
NARROW = Layout(width=205, label_limit=125, narrow=True)
"""Together with its labels and ticks at most 358 pixels: a phone of 390 less the page's margins."""

LINE = 14
"""Pixels from line to line of a label."""

Draw = Callable[[Layout], Any]
"""From a layout to an Altair chart over the data set named `rows`."""


def make(key: str, title: str, alt: str, caption: str, data: Sequence[Mapping[str, Value]], draw: Draw) -> Chart:
    """The chart drawn in both layouts; its specification depends on the data alone."""
    return Chart(key, title, alt, caption, tuple(data), _finish(draw(WIDE), data), _finish(draw(NARROW), data))


def _finish(chart: Any, data: Sequence[Mapping[str, Value]]) -> dict[str, object]:
    drawn: dict[str, object] = chart.configure(
        background="transparent",
        font=FONT,
        padding={"left": 4, "right": 12, "top": 4, "bottom": 4},
        view={"stroke": None},
        axis={
            **{"labelColor": MUTED, "titleColor": INK, "gridColor": GRID, "domainColor": GRID, "tickColor": GRID},
            **{"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8},
        },
        legend={
            **{"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "labelLimit": 320},
            **{"orient": "top", "direction": "horizontal", "title": None, "symbolSize": 90, "columns": 2},
            **{"symbolBaseFillColor": MUTED, "symbolBaseStrokeColor": MUTED},
        },
        text={"color": INK, "fontSize": 12, "font": FONT},
    ).to_dict()
    drawn["data"] = {"name": "rows"}
    drawn["datasets"] = {"rows": [dict(each) for each in data]}
    return drawn


_LINES = "split(datum.label, '\\n')"


def label_axis(layout: Layout) -> dict[str, Any]:
    """The axis of row labels: the first line, and the rest beside one another below it, or where it is narrow one below the
    other. The last part of a label, its counter, is not shown.
    """
    below = f"slice({_LINES}, 1, -1)"
    return {
        "title": None,
        "labelLimit": layout.label_limit,
        "labelExpr": f"slice({_LINES}, 0, -1)" if layout.narrow else f"[{_LINES}[0], join({below}, ', ')]",
        "labelLineHeight": LINE,
        "ticks": False,
        "domain": False,
        "labelPadding": 8,
        "grid": False,
        "labelColor": INK,
        "labelOffset": -LINE if layout.narrow else -LINE / 2,
        "minExtent": layout.label_limit if layout.narrow else 0,
    }


def height(rows: int, layout: Layout) -> int:
    """Pixels for that many rows of labels: of two lines, or where it is narrow three."""
    return rows * (3 if layout.narrow else 2) * LINE + (rows + 1) * 10


def log_scale(values: Sequence[float], *, below: float = 1.25, above: float = 1.25) -> dict[str, Any]:
    """A log scale from the least value over `below` to the greatest times `above`, ends not rounded to powers of ten."""
    return {"type": "log", "domain": [min(values) / below, max(values) * above], "nice": False}


def log_ticks(scale: Mapping[str, Any], layout: Layout) -> list[float]:
    """Ticks at 1, 2, 5 times powers of ten within the scale, or at the powers alone where those would not fit."""
    low, high = scale["domain"]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    most = 6 if layout.narrow else 12
    for steps in ((1, 2, 5), (1,)):
        ticks = [float(f"{step}e{exponent}") for exponent in exponents for step in steps]
        within = [tick for tick in ticks if low <= tick <= high]
        if len(within) <= most:
            return within
    return within[:: math.ceil(len(within) / most)]


def log_axis(scale: Mapping[str, Any], layout: Layout, title: str) -> dict[str, Any]:
    """The axis of a log scale: plain numbers at its ticks."""
    return {"title": title, "values": log_ticks(scale, layout), "format": ",~r", "gridOpacity": 0.7}


def legend(kinds: Sequence[str], layout: Layout) -> dict[str, Any]:
    """The legend of a few kinds: in one line on a wide page, one below the other on a narrow one."""
    columns = 1 if layout.narrow else len(kinds)
    return {"columns": columns, "symbolOpacity": 1, "symbolStrokeWidth": 2}
