"""Step times over recorded runs, one panel per row: intervals, predictions from the runs before, what changed when."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence

from cnnbench.analysis.history import Series
from cnnbench.analysis.stats import COVERS
from cnnbench.report import cells
from cnnbench.report import history as words
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import list_numbers
from cnnbench.report.charts.kinds import (
    ChartSpec,
    Shown,
    Specification,
    TooltipField,
    choose,
    draw_chart,
    layer,
    list_estimate,
    place,
    share,
    word,
)
from cnnbench.report.model import Chart, Datum
from cnnbench.schema import digest

MOST_PANELS = 8
MOST_CHANGES = 12
"""Most changes that the caption lists; the table has all."""
NOT_PREDICTED = "too few runs before it"
_KINDS = {
    NOT_PREDICTED: (theme.GREY, "circle"),
    words.PREDICTION_OUTCOMES[0]: (theme.BLUE, "circle"),
    words.PREDICTION_OUTCOMES[1]: (theme.ORANGE, "triangle-up"),
    words.PREDICTION_OUTCOMES[-1]: (theme.GREEN, "triangle-down"),
}
STEP, LOW, HIGH = "median_step_seconds", "predicted_low_seconds", "predicted_high_seconds"


def draw_history(found: Sequence[Series]) -> Chart | None:
    """Draw the chart of the rows with the most timed runs; None if no row was timed in two runs."""
    timed = [series for series in found if sum(point.step is not None for point in series.points) > 1]
    ranked = sorted(range(len(timed)), key=lambda place: -len(timed[place].points))[:MOST_PANELS]
    shown = [timed[place] for place in sorted(ranked)]
    names = words.title_rows(shown)
    data = [datum for panel, series in enumerate(shown) for datum in _mark_runs(panel, series)]
    more = _number_changes(data)
    if any(point.several_boots for series in shown for point in series.points):
        more += f" {words.OTHER_BOOTS}"
    if left_out := len(timed) - len(shown):
        more += f" The {MOST_PANELS} rows with the most runs are drawn, {left_out} more are in the table."
    panels = []
    for series, name in zip(shown, names, strict=True):
        steps = [cells.step_text(point.step.value) for point in series.points if point.step is not None]
        panels.append(f"{name}: {len(steps)} runs, {steps[0]} in the first and {steps[-1]} in the last")
    blanks = {"panels": "; ".join(panels)}
    return draw_chart(HISTORY, Shown(data, more, blanks, panels=names)) if data else None


def _mark_runs(panel: int, series: Series) -> list[Datum]:
    """Make a mark for each timed run, and one without a time for the prediction of the next."""
    own: Datum = {"panel": panel, "row": digest(series.job.row_key)[: cells.KEY_CHARACTERS]}
    timed = [point for point in series.points if point.step is not None]
    data = [
        {
            **own,
            "number": number,
            "run": point.row.run_id,
            "measured": point.row.created_at,
            "commit": point.row.software.git_commit,
            "cnnbench": point.row.software.cnnbench,
            "torch": point.row.software.torch,
            "stretch": point.stretch,
            "kind": words.describe_outcome(point) or NOT_PREDICTED,
            **cells.values(STEP, point.step),
            LOW: point.predicted and point.predicted.low,
            HIGH: point.predicted and point.predicted.high,
            "changed": words.describe_changes(point.changed) or None,
            "mark": None,
        }
        for number, point in enumerate(timed, start=1)
    ]
    if (band := series.next) is not None:
        data.append({**dict.fromkeys(data[-1]), **own, "number": len(timed) + 1, LOW: band.low, HIGH: band.high})
    return data


def _number_changes(data: Sequence[Datum]) -> str:
    """Give each change a number, equal in every panel, and write them as a sentence, first to last."""
    known: dict[str, str] = {}
    for datum in sorted(data, key=lambda datum: str(datum["measured"])):
        if datum["changed"] is not None:
            datum["mark"] = known.setdefault(datum["changed"], str(len(known) + 1))
    if not known:
        return ""
    shown = "; ".join(f"{number}: {text}" for text, number in [*known.items()][:MOST_CHANGES])
    more = f"; {len(known) - MOST_CHANGES} more in the table" if len(known) > MOST_CHANGES else ""
    return f" Dashed lines, where something changed: {shown}{more}."


def _draw(shown: Shown, layout: theme.ChartLayout) -> Specification:
    """Draw a panel for each row, its name above it in at most four lines."""
    looks = {
        channel: choose(shown.data, "kind", {kind: look[n] for kind, look in _KINDS.items()}, layout)
        for n, channel in enumerate(("color", "shape"))
    }
    ends = [{"calculate": f"datum.number {sign} 0.5", "as": end} for end, sign in (("before", "-"), ("after", "+"))]
    style = {"anchor": "start", "fontSize": 12, "fontWeight": "normal", "color": theme.INK, "frame": "group"}
    panels = []
    for panel, name in enumerate(shown.panels):
        own = [datum for datum in shown.data if datum["panel"] == panel]
        text = textwrap.wrap(name, 44 if layout.narrow else 95)
        if len(text) > 4:
            text[3:] = [" ".join(text[3:])[:44] + "…"]
        plot = share({}, layout.whole, 170, _list_layers(own, looks, layout))
        transforms = [{"filter": f"datum.panel === {panel}"}, *ends]
        panels.append({**plot, "title": {"text": text, **style}, "transform": transforms})
    return {"vconcat": panels, "spacing": 18}


def _list_layers(own: Sequence[Datum], looks: Specification, layout: theme.ChartLayout) -> list[Specification]:
    """Draw one row's runs at equal distances: a time axis could not show runs of one hour and gaps of months."""
    x_scale = {"domain": [0.5, len(own) + 0.5], "nice": False}
    x = place(scale=x_scale, axis=_write_dates(own, layout))
    y = place(**_scale_times(own))
    changed: Specification = {"known": "mark", "x": x("before"), "color": theme.MUTED}
    timed: Specification = {"x": x("number"), "y": y(STEP), "known": STEP}
    low, high = f"{STEP}_low", {"field": f"{STEP}_high"}
    estimate = list_estimate(STEP, "seconds per step", ".4~g")
    predicted = (TooltipField(LOW, "predicted from", ".4~g"), TooltipField(HIGH, "predicted to", ".4~g"))
    tooltip = ("measured", "commit", "torch", "cnnbench", "changed", "kind", *estimate, *predicted)
    return [
        layer(
            "rect",
            x=x("before"),
            x2={"field": "after"},
            y=y(LOW),
            y2={"field": HIGH},
            known=LOW,
            color=theme.BLUE,
            opacity=0.13,
        ),
        layer("rule", **changed, strokeDash=[4, 4]),
        layer("line", **timed, detail=word("stretch"), strokeWidth=1.5, opacity=0.6, color=theme.MUTED),
        layer("rule", x=x("number"), y=y(low), y2=high, color=looks["color"], known=low, strokeWidth=5, opacity=0.35),
        layer("point", **timed, **looks, tooltip=tooltip, size=60),
        layer("text", **changed, y={"value": 7}, text=word("mark"), align="left", dx=4),
    ]


def _scale_times(own: Sequence[Datum]) -> Specification:
    """Scale a panel's times, in the unit that suits the longest."""
    ends = list_numbers(own, STEP, f"{STEP}_low", f"{STEP}_high", LOW, HIGH)
    scale, unit = next((each for each in cells.STEP_UNITS if max(ends) >= each[0]), cells.STEP_UNITS[-1])
    room = (max(ends) - min(ends)) * 0.08 or max(ends) * 0.05
    return {
        "title": f"{unit} per step",
        "scale": {"domain": [min(ends) - room, max(ends) + 2 * room], "zero": False, "nice": False},
        "axis": {"labelExpr": f"format(datum.value / {scale}, ',~g')", "gridOpacity": 0.7, "tickCount": 5},
    }


def _write_dates(own: Sequence[Datum], layout: theme.ChartLayout) -> Specification:
    """Write the run's day below its point, as many as fit; `next` below the band of the run to come."""
    step = -(-len(own) // (4 if layout.narrow else 7))
    days = []
    for datum in own:
        # The text becomes part of an expression, so only a valid date is used.
        found = re.match(r"\d{4}-\d{2}-\d{2}", datum["measured"] or "")
        days.append("next" if datum["run"] is None else found.group() if found else f"run {datum['number']}")
    shown = [number for number in range(1, len(own) + 1) if (len(own) - number) % step == 0]
    labels = f"{json.dumps(days)}[datum.value - 1]"
    return {"title": None, "values": shown, "labelExpr": labels, "labelFlush": False, "grid": False}


HISTORY = ChartSpec(
    key="history",
    title="Step time over recorded runs",
    alt="{title}. {panels}.",
    caption=f"Bars: {COVERS}, from three on. Band: 95 % of next runs, from eight runs before it on.",
    draw=_draw,
)
