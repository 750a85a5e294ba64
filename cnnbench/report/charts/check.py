"""Charts of the regression check: head's time over base's in every series, and what a check could see on this machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from cnnbench import units
from cnnbench.plain_text import plain
from cnnbench.regression.decision import SeriesFinding, Verdict
from cnnbench.regression.design import CheckPlan, compute_detectable_effect
from cnnbench.regression.verdict_text import (
    VerdictContext,
    format_decision,
    format_estimate,
    format_label,
    format_tolerance,
    format_verdict,
)
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import MOST_MARKS, axis_labels, list_numbers
from cnnbench.report.charts.kinds import (
    ChartSpec,
    Shown,
    Specification,
    TooltipField,
    choose,
    draw_chart,
    frame_rows,
    layer,
    list_estimate,
    number,
    share,
    word,
)
from cnnbench.report.model import Chart, Datum

CONTROL = "control loop"
_BAR = "M-0.16,-1.5L0.16,-1.5L0.16,1.5L-0.16,1.5Z"
_LOOKS = {
    "REGRESSED": (theme.RED, "triangle-right"),
    "INCONCLUSIVE": (theme.ORANGE, "diamond"),
    "PASS": (theme.GREEN, "circle"),
    "IMPROVED": (theme.BLUE, "triangle-left"),
}
"""Colour and shape of each decision, which is also written beside the mark."""
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Distances between two ticks of the axis: the first one that leaves few enough ticks is used."""
FAR = 8.0
"""From this greatest over least ratio on, ticks are 1, 2, 5 times powers of ten."""


def draw_forest(verdict: Verdict, meta: VerdictContext) -> Chart:
    """Draw the chart of a check with a row for each series, an empty row if it has no finding.

    If not all series fit, those with the slowest head are drawn; the caption has their number.
    """
    slowest = sorted(verdict.findings, key=lambda finding: -finding.estimate)[:MOST_MARKS]
    shown = [finding for finding in verdict.findings if finding in slowest]
    found = f"would be found in {units.percent(verdict.plan.power, 0)} of checks"
    names = [plain(format_label(finding), 80) for finding in shown]
    rows = zip(names, map(format_decision, shown), map(format_estimate, shown), strict=True)
    data = [
        {"series": name, "label": label, **datum}
        for finding, name, label in zip(shown, names, axis_labels(rows), strict=True)
        for datum in _mark_finding(finding, meta, found)
    ]
    every, drawn = len(verdict.findings), len(shown)
    more = f" The slowest {drawn} of {every} series are drawn." if drawn < every else ""
    factor = 1 + verdict.plan.tolerance
    words = {
        "title": meta.title,
        "decision": verdict.decision.value.upper(),
        "head": meta.head,
        "base": meta.base,
        "factor": f"{factor:g}",
        "found": found,
        "tolerance": format_tolerance(verdict.plan).removeprefix("+"),
        "verdict": " ".join(f"{line}." for line in format_verdict(verdict, meta.controls)),
    }
    return draw_chart(FOREST, Shown(data, more, words, (1 / factor, factor)))


def ratio_ticks(low: float, high: float, most: int) -> list[float]:
    """List ticks within a range of ratios around 1: multiples of a step, 1 among them, or 1, 2, 5 if it is wide."""
    if high / low > FAR:
        scale = {"domain": [low, high]}
        return theme.log_ticks(scale, theme.NARROW if most < 8 else theme.WIDE)
    step = next((each for each in STEPS if (high - low) / each <= most), STEPS[-1])
    return [round(place * step, 2) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _mark_finding(finding: SeriesFinding, meta: VerdictContext, found: str) -> Iterator[Datum]:
    """Mark the series itself, what would be found, and its control loop if it has one."""
    marks = (
        (finding.decision.value.upper(), finding.estimate, finding.low, finding.high),
        (found, finding.detectable, None, None),
        (CONTROL, meta.controls.get(finding.series.job), None, None),
    )
    for kind, *logs in marks:
        value, low, high = (None if log is None else math.exp(log) for log in logs)
        if value is not None:
            ratios = {"ratio": value, "ratio_low": low, "ratio_high": high}
            yield {"kind": kind, "blocks": finding.blocks, "decision": format_decision(finding), **ratios}


def _draw_forest(shown: Shown, layout: theme.ChartLayout) -> Specification:
    """Draw the band of the tolerance and the line at 1, once each rather than once per row; intervals; marks."""
    data = shown.data
    looks = {**_LOOKS, shown.blanks["found"]: (theme.PURPLE, _BAR), CONTROL: (theme.GREY, "cross")}
    columns = 1 if layout.narrow else 2
    colour, shape = (
        choose(data, "kind", {kind: look[place] for kind, look in looks.items()}, symbolOpacity=1, columns=columns)
        for place in (0, 1)
    )
    low, high = shown.band
    scale = theme.log_scale(
        [low, high, *list_numbers(data, "ratio", "ratio_low", "ratio_high")], below=1.015, above=1.015
    )
    start, end = scale["domain"]
    ticks = ratio_ticks(start, end, 5 if layout.narrow else 10)
    title = f"time of head over base; shaded: {shown.blanks['tolerance']}"
    axis = {"title": title, "values": ticks, "format": ".2f" if end / start <= FAR else ",~r"}
    x = {"scale": scale, "axis": axis}
    scenery = [
        layer("rect", x={"datum": low, **x}, x2={"datum": high}, color=theme.GRID, opacity=0.45),
        layer("rule", x={"datum": 1, **x}, color=theme.MUTED, strokeWidth=1.5),
    ]
    ratio = list_estimate("ratio", "head over base", ".4f")[:3]  # without n: the field `blocks` has it
    tooltip = ("series", "decision", "kind", *ratio, "blocks")
    point = partial(layer, "point", x=number("ratio", **x), shape=shape, tooltip=tooltip)
    drawn = frame_rows(
        data,
        layout,
        {"color": colour},
        layer(
            "rule",
            x=number("ratio_low", **x),
            x2={"field": "ratio_high"},
            when="isValid(datum.ratio_low) && isValid(datum.ratio_high)",
            strokeWidth=3,
            opacity=0.55,
        ),
        point(when=f"(datum.kind === '{CONTROL}')", size=45, yOffset=10),
        point(when=f"(datum.kind !== '{CONTROL}')", size=120),
    )
    once = {"transform": [{"aggregate": [{"op": "count", "as": "rows"}]}]}
    return {**drawn, "layer": [*({**each, **once} for each in scenery), *drawn["layer"]]}


FOREST = ChartSpec(
    key="forest",
    title="{title}: {decision}",
    alt="{verdict}",
    caption="Time of head over base, {head} over {base}, with its exact 95 % interval. Shaded: the tolerance, a factor of "
    "{factor} either way; the interval of a PASS ends before its right edge. A slowdown as large as the upright bar {found}. "
    "The control loop runs the same code in both arms.",
    draw=_draw_forest,
)


CURVE, JOB, LIMIT = "curve", "job", "limit"
POINTS = 13
"""Points of a curve, which is a straight line only in logarithms."""
SHAPES = ("circle", "diamond", "square", "triangle-up", "triangle-down")
"""Shapes of the jobs in turn; with the colours of `theme.SERIES` thirty look different."""


def draw_detectable_effect(spreads: Mapping[str, float], plan: CheckPlan) -> Chart:
    """Draw the slowdown that checks find, a line for each budget and a mark for each job at the whole budget.

    `spreads` are the calibrated standard deviations of d, a log, by job. Raises ValueError if the plan is too short to suspect
    anything.
    """
    budgets = [
        replace(plan, looks=plan.looks[:place])
        for place, look in enumerate(plan.looks, start=1)
        if look.suspect_alpha is not None
    ]
    if not budgets:
        raise ValueError(f"a plan of {plan.max_blocks} blocks cannot suspect: it detects nothing")
    widest = 1.15 * max([plan.log_tolerance, *spreads.values()])

    def mark(name: str, spread: float, cut: CheckPlan) -> Datum:
        effect = compute_detectable_effect(spread, cut)
        return {"name": name, "spread": spread, "slowdown": None if effect is None else math.expm1(effect)}

    data: list[Datum] = [
        {"role": CURVE, "text": "", **mark(f"at most {cut.max_blocks} blocks", widest * n / (POINTS - 1), cut)}
        for cut in budgets
        for n in range(POINTS)
    ]
    for job, spread in spreads.items():
        made = mark(plain(job, 40), spread, plan)
        data.append({"role": JOB, "text": f"{made['name']}: +{units.percent(made['slowdown'], 1)}", **made})
    for name, slowdown in (("the tolerance", plan.tolerance), ("twice the tolerance", 2 * plan.tolerance)):
        data.append({"role": LIMIT, "name": name, "spread": widest, "slowdown": slowdown, "text": name})
    blanks = {
        "share": units.percent(plan.power, 0),
        "tolerance": units.percent(plan.tolerance, 1),
        "twice": units.percent(2 * plan.tolerance, 1),
    }
    return draw_chart(EFFECTS, Shown(data, blanks=blanks))


def _draw_effects(shown: Shown, layout: theme.ChartLayout) -> Specification:
    """Draw the two limits as dashed lines with their names, the curves, and the jobs as marks with a legend."""
    curves, jobs = ([datum for datum in shown.data if datum["role"] == role] for role in (CURVE, JOB))
    axis = {"format": ".1~%", "gridOpacity": 0.7, "tickCount": 5 if layout.narrow else 8}
    widest, slowest = (max(list_numbers(shown.data, name)) for name in ("spread", "slowdown"))
    x_scale, y_scale = ({"domain": [0, end], "nice": False} for end in (widest, 1.05 * slowest))
    x = number("spread", title="spread of d between pairs of processes", scale=x_scale, axis=axis)
    y = number("slowdown", title="slowdown found", scale=y_scale, axis=axis)
    curve, job, limit = (f"(datum.role === '{role}')" for role in (CURVE, JOB, LIMIT))
    muted: Specification = {"color": theme.MUTED, "when": limit}
    dashes = choose(curves[::-1], "name", ([1, 0], [6, 3], [2, 3]), layout)
    layers = [
        layer("rule", **muted, strokeDash=[4, 4]),
        layer("text", **muted, x=x, text=word("text"), align="right", dx=-4, dy=10),
        layer("line", x=x, strokeDash=dashes, when=curve, color=theme.INK, strokeWidth=2),
    ]
    if jobs:
        room = {"columns": 1, "labelLimit": 165} if layout.narrow else {"columns": 2}
        looks = {"color": theme.SERIES, "shape": SHAPES}
        names: Specification = {channel: choose(jobs, "text", each, layout, **room) for channel, each in looks.items()}
        tooltip = ("name", TooltipField("spread", number=".2%"), TooltipField("slowdown", number=".1%"))
        layers.append(layer("point", x=x, **names, when=job, tooltip=tooltip, size=110))
    return share({"y": y}, layout.whole, 280, layers)


EFFECTS = ChartSpec(
    key="detectable",
    title="Slowdown that is found in {share} of checks",
    alt="{title}, over the spread of d: {marks}.",
    caption="For normal d of that spread, a check of the job alone, tolerance {tolerance}. Above the line at {twice} even twice "
    "the tolerance is missed too often: there the check is advisory.",
    describe=lambda data: [datum["text"] for datum in data if datum["role"] == JOB],
    draw=_draw_effects,
)
