"""Declarations of charts, and their three kinds: rows with intervals, lines over x, and the roofline's two log axes.

A declaration has the chart's name, section and sentences, a function that selects its data, and one that draws them in a
layout. A drawing is a Vega-Lite specification of layers; `draw_points`, `draw_bars` and `draw_lines` draw ordinary charts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import COVERS
from cnnbench.plain_text import plain
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import ChartData, label_rows, list_numbers, list_values
from cnnbench.report.charts.theme import BLUE, INK, LINE, ChartLayout
from cnnbench.report.model import Chart, Datum

Specification = dict[str, Any]
"""A drawing, or a part of one: a layer, or the encoding of a channel."""
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.4.1.json"


@dataclass(frozen=True)
class Shown:
    """The data of a chart: a datum per mark, the caption's last sentences, and the words for the blanks in its texts."""

    data: list[Datum]
    more: str = ""
    blanks: Mapping[str, str] = field(default_factory=dict)
    band: tuple[float, float] = (1.0, 1.0)
    """The figures between which the plot is shaded, if the chart has such a band."""
    panels: Sequence[str] = ()
    """Names of the plots, one below the other, if the chart has several; a datum has its plot's number as `panel`."""


def show_rows(kept: tuple[Sequence[Row], str], marks: Callable[[Row], Iterable[Datum]]) -> Shown:
    """Show the marks of these rows, and the sentence about those that are left out."""
    rows, more = kept
    return Shown([{**own, **datum} for row, own in label_rows(rows, batch=True) for datum in marks(row)], more)


@dataclass(frozen=True)
class ChartSpec:
    """A chart's declaration. Its texts may have blanks in braces; `{marks}` is replaced by the phrases of `describe`."""

    key: str
    title: str
    caption: str
    draw: Callable[[Shown, ChartLayout], Specification]
    alt: str = "{title}. {marks}."
    describe: Callable[[Sequence[Datum]], Iterable[str]] = lambda data: ()
    section: str = ""
    """The section of the report's page with the chart; empty for charts of other commands, which select their own data."""
    select: Callable[[ChartData], Shown] = lambda chart_data: Shown([])


def draw_chart(spec: ChartSpec, shown: Shown) -> Chart:
    """Draw what was selected, in both layouts."""
    title = spec.title.format_map(shown.blanks)
    alt = spec.alt.format_map({**shown.blanks, "title": title, "marks": "; ".join(spec.describe(shown.data))})
    caption = spec.caption.format_map(shown.blanks) + shown.more
    wide, narrow = (
        {
            **spec.draw(shown, layout),
            "$schema": SCHEMA,
            "config": theme.configure(layout),
            "data": {"name": "rows"},
            "datasets": {"rows": shown.data},
        }
        for layout in (theme.WIDE, theme.NARROW)
    )
    texts = (plain(title), plain(alt, None), plain(caption, None))
    return Chart(spec.key, *texts, tuple(shown.data), wide, narrow)


@dataclass(frozen=True)
class TooltipField:
    """A field of a mark in its tooltip: under a title, a number in d3's format if one is given."""

    name: str
    title: str = ""
    number: str = ""


Tooltip = tuple[TooltipField | str, ...]
WHERE: Tooltip = ("processor", "place")


def count_processes(name: str) -> TooltipField:
    """Show the n of an estimate."""
    return TooltipField(f"{name}_n", "processes (n)")


def list_estimate(name: str, title: str, number: str) -> Tooltip:
    """List an estimate's fields in a tooltip: the figure, its interval, its n."""
    low, high = TooltipField(f"{name}_low", f"{COVERS}, from", number), TooltipField(f"{name}_high", "to", number)
    return TooltipField(name, title, number), low, high, count_processes(name)


def show_known(shown: TooltipField | str) -> str:
    """Write the expression for a tooltip's field as an object, which is empty if the value is unknown.

    Vega-Lite's own tooltips print `null` for an unknown value.
    """
    if isinstance(shown, str):
        shown = TooltipField(shown)
    value, title = f"datum[{json.dumps(shown.name)}]", json.dumps(shown.title or shown.name)
    text = f"format({value}, {json.dumps(shown.number)})" if shown.number else value
    return f"isValid({value}) ? {{{title}: {text}}} : {{}}"


def layer(mark: str, *, when: str = "", known: str = "", tooltip: Tooltip = (), **given: Any) -> Specification:
    """Make a layer of marks for the data for which the expression `when` is true, or whose field `known` has a value.

    Dictionaries encode channels; other arguments style all marks, by default filled and opaque points. Marks without a tooltip
    are hidden from screen readers, because they repeat those with one.
    """
    encoding = {name: value for name, value in given.items() if isinstance(value, dict)}
    look = {"filled": True, "opacity": 1} if mark == "point" else {}
    look |= {name: value for name, value in given.items() if name not in encoding}
    if tooltip:
        encoding["tooltip"] = {"value": {"expr": f"merge({', '.join(map(show_known, tooltip))})"}}
    else:
        look["aria"] = False
    condition = f"isValid(datum.{known})" if known else when
    filters = {"transform": [{"filter": condition}]} if condition else {}
    return {"mark": {"type": mark, **look}, "encoding": encoding, **filters}


def number(name: str, **options: Any) -> Specification:
    """Encode a figure."""
    return {"field": name, "type": "quantitative", **options}


def place(**options: Any) -> Callable[[str], Specification]:
    """Make the encoding of figures on one scale and axis."""
    return lambda name: number(name, **options)


def word(name: str, **options: Any) -> Specification:
    """Encode a word, or a number that only names something."""
    return {"field": name, "type": "nominal", **options}


def choose(
    data: Sequence[Datum],
    name: str,
    looks: Mapping[str, str] | Sequence[object],
    layout: ChartLayout | None = None,
    **legend: object,
) -> Specification:
    """Encode each value of a field by its own colour, shape or dash: by name, or else in turn.

    Without `looks` Vega chooses. The legend is that of a few kinds in a layout, with further properties; without both it is
    left out.
    """
    by_name = looks if isinstance(looks, Mapping) else {}
    values = list_values(data, name, by_name or None)
    colours = [by_name[value] for value in values] if by_name else list(looks)
    scale = {"domain": values, "range": colours} if colours else {"domain": values}
    shown = {**(theme.legend(values, layout) if layout else {}), **legend}
    return word(name, scale=scale, legend=shown or None)


colour_series = partial(choose, looks=theme.SERIES, columns=1)
"""Encode each series by a colour, with one name per line in the legend."""


def share(channels: Specification, width: int, height: int, layers: Iterable[Specification]) -> Specification:
    """Put layers in a plot; a layer uses these channels unless it has its own."""
    shared = [{**each, "encoding": {**channels, **each["encoding"]}} for each in layers]
    return {"width": width, "height": height, "layer": shared}


def write_label(order: Sequence[str], layout: ChartLayout) -> list[str]:
    """Write Vega expressions for a label's lines, without its counter.

    They are the processor, its place and what was timed (in one line if it fits for every row), and what distinguishes rows that
    read alike.
    """
    parts = [label.split("\n")[:-1] for label in order]
    room = int(layout.label_limit / theme.LABEL_CHARACTER)
    joined = all(len(", ".join(each[1:3])) <= room for each in parts)
    words = "split(datum.label, '\\n')"
    middle = [f"join(slice({words}, 1, 3), ', ')"] if joined else [f"{words}[1]", f"{words}[2]"]
    apart = [f"{words}[3]"] if any("".join(each[3:]) for each in parts) else []
    return [f"{words}[0]", *middle, *apart]


def frame_rows(
    data: Sequence[Datum],
    layout: ChartLayout,
    shared: Specification,
    *layers: Specification,
    mark: int = theme.MARK,
    bars: bool = False,
) -> Specification:
    """Put layers in a plot of all rows, which share its vertical axis and the given channels.

    Rows are in their order, each with its label (`chart_data.axis_labels`) and marks `mark` high. `bars` are as high as the
    marks; points are in the middle of their row.
    """
    order = list_values(data, "label")
    lines = write_label(order, layout)
    further = LINE * (len(lines) - 1)
    beside = {"labelAlign": "right", "labelPadding": 8, "labelOffset": -further / 2}
    above = {"labelAlign": "left", "labelPadding": 0, "labelOffset": -mark / 2 - LINE / 2 - 1 - further}
    axis = {
        "title": None,
        "ticks": False,
        "domain": False,
        "grid": False,
        "labelOverlap": False,
        "labelColor": INK,
        "labelExpr": f"[{', '.join(lines)}]",
        "labelLimit": layout.label_limit,
        "labelLineHeight": LINE,
        **(above if layout.narrow else beside),
    }
    # In a narrow layout the label is above the marks, else beside them.
    words = len(lines) * LINE
    step = 10 + (words + mark if layout.narrow else max(words, mark))
    between = 1 - mark / step
    scale = {"scale": {"paddingInner": between, "paddingOuter": between / 2}} if bars else {}
    y = word("label", sort=order, axis=axis, **scale)
    return share({"y": y, **shared}, layout.width, len(order) * step, layers)


def draw_points(
    shown: Shown,
    layout: ChartLayout,
    *,
    value: str,
    axis: str,
    tooltip: Tooltip,
    colours: str | Mapping[str, str] = BLUE,
    interval: bool = True,
    stems: bool = False,
) -> Specification:
    """Draw rows with intervals: a point at the figure `value` of each, on a log axis, and its `text` beside it.

    There is one colour for all, or one for each `kind`, BLUE for kinds not named; kinds then differ in shape too. With
    `interval`, a known 95 % interval is drawn as a bar. With `stems`, a line leads from 1 to each point, and the text begins
    after the field `edge`.
    """
    data, low, high = shown.data, f"{value}_low", f"{value}_high"
    figures = list_numbers(data, *((value, low, high) if interval else (value,)))
    figures += [1] if stems else []
    after = theme.text_width(list_values(data, "text"))
    scale = theme.log_scale_with_room(figures, layout.width, before=10 if stems else 12, after=after)
    x = place(**theme.log_axis(scale, layout, axis, layout.width))
    colour = _colour_kinds(data, colours, layout)
    shape: Specification = {} if isinstance(colours, str) else {"shape": choose(data, "kind", (), layout)}
    stem = layer("rule", color=colour, x=x(value), x2={"datum": 1}, strokeWidth=2, opacity=0.35)
    bars = layer("rule", color=colour, x=x(low), x2={"field": high}, known=low, strokeWidth=7, opacity=0.4)
    return frame_rows(
        data,
        layout,
        {},
        *([stem] if stems else []),
        *([bars] if interval and list_numbers(data, low) else []),
        layer("point", color=colour, **shape, x=x(value), tooltip=tooltip, size=110),
        layer("text", x=x("edge" if stems else value), text=word("text"), color={"value": INK}, align="left", dx=10),
    )


def draw_bars(
    shown: Shown,
    layout: ChartLayout,
    *,
    value: str,
    axis: str,
    tooltip: Tooltip,
    colours: str | Mapping[str, str] = BLUE,
    ink: str = INK,
    ticks: int = 8,
    number_format: str = "",
    mark: int = theme.MARK,
) -> Specification:
    """Draw rows as bars from 0 to the figure `value`, their `text` beside them; one bar per row, or one per `kind`."""
    data = shown.data
    room = layout.width - theme.text_width(list_values(data, "text"))
    scale = {"domain": [0.0, max(list_numbers(data, value)) * layout.width / room or 1.0], "nice": False}
    numbers = {"format": number_format} if number_format else {}
    ends = {"gridOpacity": 0.7, "tickCount": 4 if layout.narrow else ticks, **numbers}
    shared = {"x": number(value, title=axis, scale=scale, axis=ends)}
    if not isinstance(colours, str):
        shared["yOffset"] = word("kind", sort=list_values(data, "kind"))
    bars = layer("bar", color=_colour_kinds(data, colours, layout), tooltip=tooltip)
    texts = layer("text", text=word("text"), color={"value": ink}, align="left", dx=5)
    return frame_rows(data, layout, shared, bars, texts, mark=mark, bars=True)


def _colour_kinds(data: Sequence[Datum], colours: str | Mapping[str, str], layout: ChartLayout) -> str | Specification:
    if isinstance(colours, str):
        return colours
    return choose(data, "kind", {kind: colours.get(kind, BLUE) for kind in list_values(data, "kind")}, layout)


LOG_FROM = 20
"""Greatest over least figure from which on the axis is logarithmic: a linear one would press the small ones flat."""


def draw_lines(shown: Shown, layout: ChartLayout, *, value: str, words: str, axis: str, ideal: bool) -> Specification:
    """Draw lines over x: the figure `value` at each whole number `varied`, a line for each `series`.

    With `ideal`, the field of that name is drawn too, dashed.
    """
    data, low = shown.data, f"{value}_low"
    figures = list_numbers(data, value, "ideal")
    log = max(figures) > LOG_FROM * min(figures) and not ideal
    title = f"{words}{' (log scale)' if log else ''}"
    linear = {"scale": {"zero": True}, "axis": {"title": title, "gridOpacity": 0.7}}
    y = number(value, **(theme.log_axis(theme.log_scale(figures), layout, title) if log else linear))
    values = sorted({int(value) for value in list_numbers(data, "varied")})
    scale = {"type": "log", "base": 2, "domain": [values[0] / 1.1, values[-1] * 1.1], "nice": False}
    ticks = {"values": values, "format": ",d", "gridOpacity": 0.7, "labelOverlap": "greedy", "labelSeparation": 6}
    x = number("varied", title=f"{axis} (log scale)", scale=scale, axis=ticks)
    dashes = layer("line", y=number("ideal"), strokeDash=[5, 4], strokeWidth=1.5)
    y_low, y_high = number(low, title=title), {"field": f"{value}_high"}
    bars = layer("rule", y=y_low, y2=y_high, known=low, strokeWidth=6, opacity=0.35)
    tooltip = (*WHERE, "series", TooltipField("varied", axis, ",d"), *list_estimate(value, words, ",.6~g"))
    layers = [
        *([dashes] if ideal else []),
        layer("line", y=y, strokeWidth=2),
        *([bars] if list_numbers(data, low) else []),
        layer("point", y=y, tooltip=tooltip, size=90),
    ]
    shared = {"x": x, "color": colour_series(data, "series", symbolOpacity=1)}
    return share(shared, layout.whole, 240, layers)
