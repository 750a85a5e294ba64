"""Step times over recorded runs: a panel a row, its intervals, where the runs before said it would fall, what changed when."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from cnnbench.analysis.history import Point, Series
from cnnbench.analysis.stats import Estimate
from cnnbench.report import cells
from cnnbench.report import history as words
from cnnbench.report.cells import KEY_CHARACTERS
from cnnbench.report.charts import theme
from cnnbench.report.model import Chart, Datum
from cnnbench.schema import digest

MOST_PANELS = 8
MOST_CHANGES = 12
"""Changes that the caption spells out; the table has all."""
NOT_PREDICTED = "too few runs before it"
_KINDS = {
    NOT_PREDICTED: (theme.GREY, "circle"),
    words.PREDICTION_OUTCOMES[0]: (theme.BLUE, "circle"),
    words.PREDICTION_OUTCOMES[1]: (theme.ORANGE, "triangle-up"),
    words.PREDICTION_OUTCOMES[-1]: (theme.GREEN, "triangle-down"),
}
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def history(found: Sequence[Series]) -> Chart | None:
    """The rows with the most timed runs; None where no row was timed in two."""
    timed = [series for series in found if sum(point.step is not None for point in series.points) > 1]
    if not timed:
        return None
    ranked = sorted(range(len(timed)), key=lambda place: (-len(timed[place].points), place))[:MOST_PANELS]
    shown = [timed[place] for place in sorted(ranked)]
    several = len({series.machine_id for series in shown}) > 1
    names = [words.title(series, several) for series in shown]
    data = [datum for panel, series in enumerate(shown) for datum in _data(panel, series)]
    marks = _number_changes(data)
    return _draw(data, names, _caption(marks, len(timed) - len(shown)), _describe(shown, names))


def _data(panel: int, series: Series) -> list[Datum]:
    """A datum a timed run, and one without a time for where the next should fall."""
    row = digest(series.job.row_key)[:KEY_CHARACTERS]
    timed = [point for point in series.points if point.step is not None]
    data = [_datum(panel, row, number, point) for number, point in enumerate(timed, start=1)]
    if series.next is not None:
        ends: Datum = {"predicted_low_seconds": series.next.low, "predicted_high_seconds": series.next.high}
        data.append({**dict.fromkeys(data[-1]), "panel": panel, "row": row, "number": len(timed) + 1, **ends})
    return data


def _datum(panel: int, row: str, number: int, point: Point) -> Datum:
    software, band = point.row.software, point.predicted
    return {
        **{"panel": panel, "row": row, "number": number, "run": point.row.run_id, "measured": point.row.created_at},
        **{"commit": software.git_commit, "cnnbench": software.cnnbench, "torch": software.torch},
        **{"stretch": point.stretch, "kind": words.describe_outcome(point) or NOT_PREDICTED},
        **cells.values("median_step_seconds", point.step),
        "predicted_low_seconds": None if band is None else band.low,
        "predicted_high_seconds": None if band is None else band.high,
        "changed": words.describe_changes(point.changed) or None,
        "mark": None,
    }


def _number_changes(data: Sequence[Datum]) -> list[str]:
    """Give each change its number, the same in every panel; returns them in words, first to last."""
    known: dict[str, str] = {}
    for datum in sorted(data, key=lambda datum: str(datum["measured"])):
        if datum["changed"] is not None:
            datum["mark"] = known.setdefault(str(datum["changed"]), str(len(known) + 1))
    return list(known)


def _caption(marks: Sequence[str], left_out: int) -> str:
    caption = (
        "Bars: 95 % interval between processes, from three on. Band: 95 % of next runs, from eight runs before it on."
    )
    if marks:
        shown = "; ".join(f"{number}: {text}" for number, text in enumerate(marks[:MOST_CHANGES], start=1))
        more = f"; {len(marks) - MOST_CHANGES} more in the table" if len(marks) > MOST_CHANGES else ""
        caption += f" Dashed lines, where something changed: {shown}{more}."
    if left_out:
        caption += f" The {MOST_PANELS} rows with the most runs are drawn, {left_out} more are in the table."
    return caption


def _describe(shown: Sequence[Series], names: Sequence[str]) -> str:
    parts = []
    for series, name in zip(shown, names, strict=True):
        steps = [point.step for point in series.points if point.step is not None]
        ends = f"{_short(steps[0])} in the first and {_short(steps[-1])} in the last"
        parts.append(f"{name}: {len(steps)} runs, {ends}")
    return "; ".join(parts)


def _short(estimate: Estimate) -> str:
    return cells.step_text(estimate.value)


def _draw(data: list[Datum], names: Sequence[str], caption: str, description: str) -> Chart:
    import altair as alt

    kinds = [kind for kind in _KINDS if any(datum["kind"] == kind for datum in data)]

    def draw(layout: theme.ChartLayout) -> Any:
        panels = [_panel(name, panel, data, kinds, layout) for panel, name in enumerate(names)]
        return alt.vconcat(*panels, spacing=18)

    title = "Step time over recorded runs"
    return theme.make_chart("history", title, f"{title}. {description}.", caption, data, draw)


def _panel(name: str, panel: int, data: Sequence[Datum], kinds: Sequence[str], layout: theme.ChartLayout) -> Any:
    """One row's runs at equal distances, since runs of one hour and gaps of months would hide each other on a time axis."""
    import altair as alt

    own = [datum for datum in data if datum["panel"] == panel]
    ends = [float(value) for datum in own for key in _FIGURES if isinstance(value := datum[key], int | float)]
    scale, unit = next((each for each in _UNITS if max(ends) >= each[0]), _UNITS[-1])
    room = (max(ends) - min(ends)) * 0.08 or max(ends) * 0.05
    y_scale = alt.Scale(domain=[min(ends) - room, max(ends) + 2 * room], zero=False, nice=False)
    y_axis = alt.Axis(labelExpr=f"format(datum.value / {scale}, ',~g')", gridOpacity=0.7, tickCount=5)
    x_scale = alt.Scale(domain=[0.5, len(own) + 0.5], nice=False)
    base = (
        alt.Chart(
            alt.NamedData("rows"),
            width=layout.whole,
            height=170,
            title=_heading(name, layout),
        )
        .transform_filter(f"datum.panel === {panel}")
        .transform_calculate(before="datum.number - 0.5", after="datum.number + 0.5")
    )

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=x_scale, axis=_run_axis(own, layout))

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=y_scale, axis=y_axis, title=f"{unit} a step")

    band = (
        base.transform_filter("isValid(datum.predicted_low_seconds)")
        .mark_rect(color=theme.BLUE, opacity=0.13, aria=False)
        .encode(x=x("before"), x2="after:Q", y=y("predicted_low_seconds"), y2="predicted_high_seconds:Q")
    )
    marked = base.transform_filter("isValid(datum.mark)")
    dashes = marked.mark_rule(strokeDash=[4, 4], color=theme.MUTED, aria=False).encode(x=x("before"))
    numbers = marked.mark_text(align="left", dx=4, color=theme.MUTED, aria=False).encode(
        x=x("before"), y=alt.value(7), text="mark:N"
    )
    timed = base.transform_filter("isValid(datum.median_step_seconds)").encode(x=x("number"))
    line = timed.mark_line(strokeWidth=1.5, opacity=0.6, color=theme.MUTED, aria=False).encode(
        y=y("median_step_seconds"), detail="stretch:N"
    )
    bars = (
        timed.transform_filter("isValid(datum.median_step_seconds_low)")
        .mark_rule(strokeWidth=5, opacity=0.35, aria=False)
        .encode(y=y("median_step_seconds_low"), y2="median_step_seconds_high:Q", color=_colour(kinds, layout))
    )
    points = timed.mark_point(filled=True, size=60, opacity=1).encode(
        y=y("median_step_seconds"),
        color=_colour(kinds, layout),
        shape=alt.Shape(
            "kind:N",
            scale=alt.Scale(domain=list(kinds), range=[_KINDS[kind][1] for kind in kinds]),
            legend=alt.Legend(**theme.legend(kinds, layout)),
        ),
        tooltip=_tooltips(),
    )
    return alt.layer(band, dashes, line, bars, points, numbers)


_FIGURES = (
    *("median_step_seconds", "median_step_seconds_low", "median_step_seconds_high"),
    *("predicted_low_seconds", "predicted_high_seconds"),
)


def _colour(kinds: Sequence[str], layout: theme.ChartLayout) -> Any:
    import altair as alt

    colours = alt.Scale(domain=list(kinds), range=[_KINDS[kind][0] for kind in kinds])
    return alt.Color("kind:N", scale=colours, legend=alt.Legend(**theme.legend(kinds, layout)))


def _heading(name: str, layout: theme.ChartLayout) -> Any:
    import altair as alt

    lines = textwrap.wrap(name, 44 if layout.narrow else 95)
    most = 4
    text = [*lines[: most - 1], " ".join(lines[most - 1 :])[:44] + "…"] if len(lines) > most else lines
    return alt.TitleParams(text=text, anchor="start", fontSize=12, fontWeight="normal", color=theme.INK, frame="group")


def _run_axis(own: Sequence[Datum], layout: theme.ChartLayout) -> Any:
    """The day of the run below its point, as many as have room; `next` below the band of the run to come."""
    import altair as alt

    most = 4 if layout.narrow else 7
    step = -(-len(own) // most)
    days = [_day(datum) for datum in own]
    return alt.Axis(
        title=None,
        values=[number for number in range(1, len(own) + 1) if (len(own) - number) % step == 0],
        labelExpr=f"{json.dumps(days)}[datum.value - 1]",
        labelFlush=False,
        grid=False,
    )


def _day(datum: Datum) -> str:
    """The date alone, and only if it is one: the text becomes part of an expression."""
    if datum["run"] is None:
        return "next"
    found = _DATE.match(str(datum["measured"]))
    return found.group() if found is not None else f"run {datum['number']}"


def _tooltips() -> list[Any]:
    import altair as alt

    return [
        *(alt.Tooltip(f"{name}:N") for name in ("measured", "commit", "torch", "cnnbench", "changed", "kind")),
        alt.Tooltip("median_step_seconds:Q", title="seconds a step", format=".4~g"),
        alt.Tooltip("median_step_seconds_low:Q", title="95 % from", format=".4~g"),
        alt.Tooltip("median_step_seconds_high:Q", title="to", format=".4~g"),
        alt.Tooltip("median_step_seconds_n:Q", title="processes (n)"),
        alt.Tooltip("predicted_low_seconds:Q", title="predicted from", format=".4~g"),
        alt.Tooltip("predicted_high_seconds:Q", title="to", format=".4~g"),
    ]
