"""Sizes, colours and the frame of every chart. Colours come in pairs, for light and for dark pages: a chart is drawn in the
light ones, and where the page is dark its style sheet puts the other of the pair in their place.

Pairs are GitHub's Primer palette; each light colour has a contrast of at least 4.5 to white and each dark one to #0d1117,
except the grid and the two greys, which carry no information that is not written beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
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
class ChartLayout:
    """How much room a drawing has, in pixels: the plot of rows and the widest label beside it, or, where it is narrow, above
    each row; and the plot of a chart without row labels.
    """

    width: int
    label_limit: int
    whole: int
    narrow: bool


WIDE = ChartLayout(width=350, label_limit=230, whole=520, narrow=False)
"""With labels at most 604 pixels: two stand side by side on a page 1,280 wide, unscaled."""
NARROW = ChartLayout(width=322, label_limit=318, whole=278, narrow=True)
"""With padding at most 358 pixels: a phone of 390 less the page's margins."""

LINE = 14
"""Pixels from line to line of a label."""
CHARACTER = 6.5
"""Pixels that a character of 12-pixel text takes at the most, on the average over a figure or a name."""
LABEL_CHARACTER = 5.5
"""The same of a label, mostly lower case: if it takes more its end is cut."""
MARK = 16
"""Pixels that a row's marks are high."""

Draw = Callable[[ChartLayout], Any]
"""From a layout to an Altair chart over the data set named `rows`."""


_DRAWN = ContextVar("_DRAWN", default=True)


@contextmanager
def leave_undrawn() -> Iterator[None]:
    """Make charts without their drawings: for whoever looks at data and words alone, in a fifth of the time."""
    before = _DRAWN.set(False)
    try:
        yield
    finally:
        _DRAWN.reset(before)


def make_chart(key: str, title: str, alt: str, caption: str, data: Sequence[Mapping[str, Value]], draw: Draw) -> Chart:
    """The chart drawn in both layouts; its specification depends on the data alone."""
    if not _DRAWN.get():
        return Chart(key, title, alt, caption, tuple(data), {}, {})
    return Chart(key, title, alt, caption, tuple(data), _finish(draw, WIDE, data), _finish(draw, NARROW, data))


def _finish(draw: Draw, layout: ChartLayout, data: Sequence[Mapping[str, Value]]) -> dict[str, object]:
    chart = draw(layout)
    drawn: dict[str, Any] = chart.configure(
        background="transparent",
        font=FONT,
        padding={"left": 4, "right": 12, "top": 4, "bottom": 4},
        view={"stroke": None},
        axis={
            **{"labelColor": MUTED, "titleColor": INK, "gridColor": GRID, "domainColor": GRID, "tickColor": GRID},
            **{"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8},
        },
        legend={
            **{"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12},
            "labelLimit": layout.whole + (22 if layout.narrow else 60),
            **{"orient": "top", "direction": "horizontal", "title": None, "symbolSize": 90, "columns": 2},
            **{"symbolBaseFillColor": MUTED, "symbolBaseStrokeColor": MUTED},
        },
        text={"color": INK, "fontSize": 12, "font": FONT},
    ).to_dict(validate=False)  # test_chart_rows does: here it took a quarter of a report's time
    drawn["config"]["legend"]["layout"] = {"top": {"direction": "vertical", "anchor": "start", "margin": 4}}
    drawn["data"] = {"name": "rows"}
    drawn["datasets"] = {"rows": [dict(each) for each in data]}
    return drawn


_PARTS = "split(datum.label, '\\n')"


@dataclass(frozen=True)
class Rows:
    """Rows on a chart's vertical axis in their order, each with a label (`chart_data.axis_labels`) and marks `mark` high."""

    order: tuple[str, ...]
    mark: int = MARK

    def label(self, layout: ChartLayout) -> tuple[str, int]:
        """A Vega expression for the label's lines, and how many there are: the processor, then its place and what was timed
        in one line where every row's fit in it, then what tells rows apart that read alike. Its counter is not shown.
        """
        parts = [label.split("\n")[:-1] for label in self.order]
        room = int(layout.label_limit / LABEL_CHARACTER)
        joined = all(len(", ".join(each[1:3])) <= room for each in parts)
        lines = [
            f"{_PARTS}[0]",
            *([f"join(slice({_PARTS}, 1, 3), ', ')"] if joined else [f"{_PARTS}[1]", f"{_PARTS}[2]"]),
        ]
        lines += [f"{_PARTS}[3]"] if any("".join(each[3:]) for each in parts) else []
        return f"[{', '.join(lines)}]", len(lines)

    def step(self, layout: ChartLayout) -> int:
        """Pixels from row to row: label and marks beside each other, or one above the other."""
        words = self.label(layout)[1] * LINE
        return words + self.mark + 10 if layout.narrow else max(words, self.mark) + 10

    def height(self, layout: ChartLayout) -> int:
        """Pixels of the plot."""
        return len(self.order) * self.step(layout)

    def y(self, layout: ChartLayout, *, bars: bool) -> Any:
        """The axis. `bars` are as high as the marks; points stand in the middle of their row."""
        import altair as alt

        expression, lines = self.label(layout)
        above = self.mark / 2 + LINE / 2 + 1 if layout.narrow else -LINE / 2 * (lines - 1)
        axis = alt.Axis(
            title=None,
            labelExpr=expression,
            labelLimit=layout.label_limit,
            labelLineHeight=LINE,
            labelColor=INK,
            labelAlign="left" if layout.narrow else "right",
            labelPadding=0 if layout.narrow else 8,
            labelOffset=-above - LINE * (lines - 1) if layout.narrow else above,
            labelOverlap=False,
            ticks=False,
            domain=False,
            grid=False,
        )
        y = alt.Y("label:N", sort=list(self.order), axis=axis)
        between = 1 - self.mark / self.step(layout)
        return y.scale(paddingInner=between, paddingOuter=between / 2) if bars else y


def log_scale(values: Sequence[float], *, below: float = 1.25, above: float = 1.25) -> dict[str, Any]:
    """A log scale from the least value over `below` to the greatest times `above`, ends not rounded to powers of ten."""
    return {"type": "log", "domain": [min(values) / below, max(values) * above], "nice": False}


def text_width(texts: Iterable[str]) -> float:
    """Pixels that the longest of these takes beside its mark."""
    return 14 + CHARACTER * max((len(text) for text in texts), default=0)


def log_scale_with_room(
    values: Sequence[float], width: float, *, before: float = 8, after: float = 8
) -> dict[str, Any]:
    """A log scale of `width` pixels with so many of them free before the least value and after the greatest; at least four
    times from end to end, so that it has two ticks.
    """
    low, high = math.log10(min(values)), math.log10(max(values))
    span = max((high - low) * width / max(width - before - after, width / 4), math.log10(4))
    slack = span - (high - low)
    start = low - slack * before / (before + after)
    return {"type": "log", "domain": [10**start, 10 ** (start + span)], "nice": False}


def log_ticks(scale: Mapping[str, Any], layout: ChartLayout, width: float | None = None) -> list[float]:
    """Ticks at 1, 2, 5 times powers of ten within the scale, or at the powers alone where those would not fit: on an axis
    `width` pixels long their numbers side by side.
    """
    low, high = scale["domain"]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    most = 6 if layout.narrow else 12
    every: list[list[float]] = [[float(f"{n}e{e}") for e in exponents for n in steps] for steps in ((1, 2, 5), (1,))]
    found = [[tick for tick in ticks if low <= tick <= high] for ticks in every]
    choices = [found[0], *(found[1][::skip] for skip in range(1, len(found[1]) + 1))]
    fitting = (
        each for each in choices if 0 < len(each) <= most and (width is None or _fit_side_by_side(each, scale, width))
    )
    return next(fitting, found[0][:1])


def _fit_side_by_side(ticks: Sequence[float], scale: Mapping[str, Any], width: float) -> bool:
    """Whether the ticks' numbers have room side by side."""
    low, high = scale["domain"]
    places = [width * math.log(tick / low) / math.log(high / low) for tick in ticks]
    halves = [CHARACTER * len(f"{tick:,.15g}") / 2 for tick in ticks]
    pairs = zip(places, places[1:], halves, halves[1:], strict=False)
    return all(b - a > half_a + half_b + 6 for a, b, half_a, half_b in pairs)


def log_axis(scale: Mapping[str, Any], layout: ChartLayout, title: str, width: float | None = None) -> dict[str, Any]:
    """The axis of a log scale: plain numbers at its ticks."""
    ticks = log_ticks(scale, layout, width)
    return {"title": title, "values": ticks, "format": ",~r", "gridOpacity": 0.7, "labelOverlap": False}


def linear_with_room(most: float, width: float, *, after: float) -> list[float]:
    """The ends of a linear scale from 0 with so many pixels free after the greatest value."""
    return [0.0, most * width / (width - after) or 1.0]


def legend(kinds: Sequence[str], layout: ChartLayout) -> dict[str, Any]:
    """The legend of a few kinds: as many beside one another as have room above the plot."""
    widest = 24 + LABEL_CHARACTER * max(len(kind) for kind in kinds)
    columns = max(1, min(len(kinds), int(layout.width / widest)))
    return {"columns": columns, "symbolOpacity": 1, "symbolStrokeWidth": 2}
