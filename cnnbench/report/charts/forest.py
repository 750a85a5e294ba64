"""The regression check at a glance: head's time over base's in every series, with its interval, against the tolerance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench import units
from cnnbench.regression.verdict import SeriesFinding, Verdict
from cnnbench.regression.verdict_text import (
    VerdictContext,
    format_decision,
    format_estimate,
    format_label,
    format_tolerance,
    format_verdict,
    to_ratio,
)
from cnnbench.report import escaping
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import MOST_MARKS, axis_labels, read_number
from cnnbench.report.model import Chart, Datum

CONTROL = "control loop"
_BAR = "M-0.16,-1.5L0.16,-1.5L0.16,1.5L-0.16,1.5Z"
_LOOKS = {
    "REGRESSED": (theme.RED, "triangle-right"),
    "INCONCLUSIVE": (theme.ORANGE, "diamond"),
    "PASS": (theme.GREEN, "circle"),
    "IMPROVED": (theme.BLUE, "triangle-left"),
}
"""Colour and shape; the decision stands in words beside the mark."""
LONGEST_NAME = 80
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Between two ticks of the axis: the first that leaves few enough."""
FAR = 8.0
"""Greatest over least ratio from which on the ticks are 1, 2, 5 times powers of ten."""


def forest(verdict: Verdict, meta: VerdictContext) -> Chart:
    """A row a series. Of more than fit, those whose head is slowest; the caption says how many."""
    slowest = sorted(verdict.findings, key=lambda finding: -finding.estimate)[:MOST_MARKS]
    shown = [finding for finding in verdict.findings if finding in slowest]
    found = f"would be found in {units.percent(verdict.plan.power, 0)} of checks"
    names = [(_name(finding), format_decision(finding), format_estimate(finding)) for finding in shown]
    data = [
        {**datum, "label": place}
        for finding, place in zip(shown, axis_labels(names), strict=True)
        for datum in _marks(finding, meta, found)
    ]
    title = f"{meta.title}: {verdict.decision.value.upper()}"
    caption = (
        f"Time of head over base, {meta.head} over {meta.base}, with its exact 95 % interval. Shaded: the tolerance, a "
        f"factor of {1 + verdict.plan.tolerance:g} either way; the interval of a PASS ends before its right edge. A "
        f"slowdown as large as the upright bar {found}. The control loop runs the same code in both arms."
        + _left_out(verdict, shown)
    )
    alt = " ".join(f"{line}." for line in format_verdict(verdict, meta.controls))
    return theme.make_chart(
        "forest",
        escaping.plain(title),
        escaping.plain(alt, None),
        escaping.plain(caption, None),
        data,
        lambda layout: _draw(data, verdict, found, layout),
    )


def ratio_ticks(low: float, high: float, most: int) -> list[float]:
    """Ticks within a range of ratios around 1: multiples of a step, 1 among them, or 1, 2, 5 where it is wide."""
    if high / low > FAR:
        scale = {"domain": [low, high]}
        return theme.log_ticks(scale, theme.NARROW if most < 8 else theme.WIDE)
    step = next((each for each in STEPS if (high - low) / each <= most), STEPS[-1])
    return [round(place * step, 2) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _name(finding: SeriesFinding) -> str:
    return escaping.plain(format_label(finding), LONGEST_NAME)


def _left_out(verdict: Verdict, shown: Sequence[SeriesFinding]) -> str:
    more = len(verdict.findings) - len(shown)
    return f" The slowest {len(shown)} of {len(verdict.findings)} series are drawn." if more else ""


def _marks(finding: SeriesFinding, meta: VerdictContext, found: str) -> list[Datum]:
    """The series itself, what would be found, and its control loop where there is one; a value each."""
    series: Datum = {"series": _name(finding), "blocks": finding.blocks, "decision": format_decision(finding)}
    nothing: Datum = {"ratio_low": None, "ratio_high": None}
    low, high = finding.low, finding.high
    ends: Datum = {
        "ratio_low": None if low is None else to_ratio(low),
        "ratio_high": None if high is None else to_ratio(high),
    }
    marks: list[Datum] = [
        {**series, "kind": finding.decision.value.upper(), "ratio": to_ratio(finding.estimate), **ends}
    ]
    control = meta.controls.get(finding.series.job)
    if finding.detectable is not None:
        marks.append({**series, "kind": found, "ratio": to_ratio(finding.detectable), **nothing})
    if control is not None:
        marks.append({**series, "kind": CONTROL, "ratio": to_ratio(control), **nothing})
    return marks


def _draw(data: Sequence[Datum], verdict: Verdict, found: str, layout: theme.ChartLayout) -> Any:
    import altair as alt

    rows = theme.Rows(tuple(dict.fromkeys(str(datum["label"]) for datum in data)))
    looks = {**_LOOKS, found: (theme.PURPLE, _BAR), CONTROL: (theme.GREY, "cross")}
    kinds = [kind for kind in looks if any(datum["kind"] == kind for datum in data)]
    colours, shapes = ([looks[kind][place] for kind in kinds] for place in (0, 1))
    legend = alt.Legend(symbolOpacity=1, columns=1 if layout.narrow else 2)
    size: dict[str, Any] = {"width": layout.width, "height": rows.height(layout)}
    x = _axis(data, verdict, layout)
    base = alt.Chart(alt.NamedData("rows"), **size).encode(
        y=rows.y(layout, bars=False),
        color=alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=colours), legend=legend),
    )
    known = base.transform_filter("isValid(datum.ratio_low) && isValid(datum.ratio_high)")
    spans = known.mark_rule(strokeWidth=3, opacity=0.55, aria=False)
    marks = base.encode(
        x=alt.X("ratio:Q", **x),
        shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=shapes), legend=legend),
        tooltip=[
            *(alt.Tooltip(f"{name}:N") for name in ("series", "decision", "kind")),
            alt.Tooltip("ratio:Q", title="head over base", format=".4f"),
            alt.Tooltip("ratio_low:Q", title="95 % from", format=".4f"),
            alt.Tooltip("ratio_high:Q", title="to", format=".4f"),
            alt.Tooltip("blocks:Q"),
        ],
    )
    return alt.layer(
        *_scenery(verdict, x, size),
        spans.encode(x=alt.X("ratio_low:Q", **x), x2="ratio_high:Q"),
        marks.transform_filter(alt.datum.kind == CONTROL).mark_point(filled=True, size=45, opacity=1, yOffset=10),
        marks.transform_filter(alt.datum.kind != CONTROL).mark_point(filled=True, size=120, opacity=1),
    )


def _axis(data: Sequence[Datum], verdict: Verdict, layout: theme.ChartLayout) -> dict[str, Any]:
    """Scale and axis of the ratios, the band and every mark within it."""
    import altair as alt

    scale = theme.log_scale([*_band(verdict), *_ends(data)], below=1.015, above=1.015)
    low, high = scale["domain"]
    title = f"time of head over base; shaded: {format_tolerance(verdict.plan).removeprefix('+')}"
    ticks = ratio_ticks(low, high, 5 if layout.narrow else 10)
    axis = alt.Axis(title=title, values=ticks, format=".2f" if high / low <= FAR else ",~r")
    return {"scale": alt.Scale(**scale), "axis": axis}


def _scenery(verdict: Verdict, x: Mapping[str, Any], size: Mapping[str, Any]) -> list[Any]:
    """The band of the tolerance and the line at 1, once each and not once a row."""
    import altair as alt

    low, high = _band(verdict)
    once = alt.Chart(alt.NamedData("rows"), **size).transform_aggregate(rows="count()")
    band = once.mark_rect(color=theme.GRID, opacity=0.45, aria=False)
    line = once.mark_rule(color=theme.MUTED, strokeWidth=1.5, aria=False)
    return [band.encode(x=alt.XDatum(low, **x), x2=alt.X2Datum(high)), line.encode(x=alt.XDatum(1, **x))]


def _band(verdict: Verdict) -> tuple[float, float]:
    return 1 / (1 + verdict.plan.tolerance), 1 + verdict.plan.tolerance


def _ends(data: Sequence[Datum]) -> list[float]:
    names = ("ratio", "ratio_low", "ratio_high")
    return [read_number(datum, name) for datum in data for name in names if datum[name] is not None]
