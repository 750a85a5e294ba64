"""Sizes, colours and the frame of every chart. Colours come in pairs, for light and for dark pages: a chart is drawn in the
light ones, and on a dark page a style sheet replaces each by the other of its pair.

Pairs are GitHub's Primer palette; each light colour has a contrast of at least 4.5 to white and each dark one to #0d1117,
except the grid and the two greys, which carry no information that is not written beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

INK, MUTED, GRID, GREY = "#1f2328", "#59636e", "#d1d9e0", "#818b98"
BLUE, ORANGE, GREEN, PURPLE, RED, TEAL = "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#1b7c83"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, TEAL)
"""Colours of machines and devices in the order they appear; after six they repeat, and labels tell them apart."""
DARK = {
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


Scale = Mapping[str, Any]
"""A scale in Vega-Lite's form."""


@dataclass(frozen=True)
class ChartLayout:
    """The room of a drawing in pixels: the plot of rows, the widest label, and the plot of a chart without row labels.

    Labels are beside the plot, in a narrow layout above each row.
    """

    width: int
    label_limit: int
    whole: int
    narrow: bool


WIDE = ChartLayout(width=350, label_limit=230, whole=520, narrow=False)
"""With labels at most 604 pixels: two fit side by side, unscaled, on a page 1,280 wide."""
NARROW = ChartLayout(width=322, label_limit=318, whole=278, narrow=True)
"""With padding at most 358 pixels: a phone of 390 less the page's margins."""

LINE = 14
"""Pixels from line to line of a label."""
CHARACTER = 6.5
"""Pixels per character of 12-pixel text, the largest average over a figure or a name."""
LABEL_CHARACTER = 5.5
"""Pixels per character of a label, mostly lower case; a wider label is cut at its end."""
MARK = 16
"""Height of a row's marks in pixels."""
UPRIGHT = 1e6
"""The width of an upright axis: its numbers never meet side by side."""


def configure(layout: ChartLayout) -> dict[str, object]:
    """Make the configuration of every drawing: colours, fonts and the legend above the plot."""
    return {
        "background": "transparent",
        "font": FONT,
        "padding": {"left": 4, "right": 12, "top": 4, "bottom": 4},
        "view": {"continuousWidth": 300, "continuousHeight": 300, "stroke": None},
        "axis": {
            "labelColor": MUTED,
            "titleColor": INK,
            "gridColor": GRID,
            "domainColor": GRID,
            "tickColor": GRID,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 8,
        },
        "legend": {
            "labelColor": INK,
            "titleColor": INK,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "labelLimit": layout.whole + (22 if layout.narrow else 60),
            "orient": "top",
            "direction": "horizontal",
            "title": None,
            "symbolSize": 90,
            "columns": 2,
            "symbolBaseFillColor": MUTED,
            "symbolBaseStrokeColor": MUTED,
            "layout": {"top": {"direction": "vertical", "anchor": "start", "margin": 4}},
        },
        "text": {"color": INK, "fontSize": 12, "font": FONT},
    }


def log_scale(values: Sequence[float], *, below: float = 1.25, above: float = 1.25) -> Scale:
    """Make a log scale from the least value over `below` to the greatest times `above`, ends not rounded."""
    return {"type": "log", "domain": [min(values) / below, max(values) * above], "nice": False}


def text_width(texts: Iterable[str]) -> float:
    """Estimate the pixels that the longest of these texts takes beside its mark."""
    return 14 + CHARACTER * max(map(len, texts), default=0)


def log_scale_with_room(values: Sequence[float], width: float, *, before: float, after: float) -> Scale:
    """Make a log scale of `width` pixels with room `before` the least value and `after` the greatest.

    Its end is at least four times its start, so that it has two ticks.
    """
    low, high = math.log10(min(values)), math.log10(max(values))
    span = max((high - low) * width / max(width - before - after, width / 4), math.log10(4))
    start = low - (span - (high - low)) * before / (before + after)
    return {"type": "log", "domain": [10**start, 10 ** (start + span)], "nice": False}


def log_ticks(scale: Scale, layout: ChartLayout, width: float = UPRIGHT) -> list[float]:
    """List ticks at 1, 2, 5 times powers of ten within the scale, or at the powers alone if more would not fit.

    On an axis `width` pixels long, the numbers must fit side by side.
    """
    low, high = scale["domain"]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine, coarse = (
        [tick for e in exponents for n in steps if low <= (tick := float(f"{n}e{e}")) <= high]
        for steps in ((1, 2, 5), (1,))
    )
    most = 6 if layout.narrow else 12
    for ticks in (fine, *(coarse[::skip] for skip in range(1, len(coarse) + 1))):
        places = [
            (width * math.log(tick / low) / math.log(high / low), CHARACTER * len(f"{tick:,.15g}") / 2)
            for tick in ticks
        ]
        apart = (right - left > half + other + 6 for (left, half), (right, other) in pairwise(places))
        if 0 < len(ticks) <= most and all(apart):
            return ticks
    return fine[:1]


def log_axis(scale: Scale, layout: ChartLayout, title: str, width: float = UPRIGHT) -> dict[str, Any]:
    """Make a channel's log scale with its axis: plain numbers at the ticks."""
    axis = {"title": title, "format": ",~r", "gridOpacity": 0.7, "labelOverlap": False}
    return {"scale": scale, "axis": {**axis, "values": log_ticks(scale, layout, width)}}


def legend(kinds: Sequence[str], layout: ChartLayout) -> dict[str, Any]:
    """Make the legend of a few kinds, as many side by side as fit above the plot."""
    widest = 24 + LABEL_CHARACTER * max(map(len, kinds), default=0)
    columns = max(1, min(len(kinds), int(layout.width / widest)))
    return {"columns": columns, "symbolOpacity": 1, "symbolStrokeWidth": 2}
