"""What a check could see on this machine: the minimum detectable slowdown over the spread of d, for each budget of blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnbench import units
from cnnbench.regression.design import CheckPlan, compute_detectable_effect
from cnnbench.report import escaping
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import read_number
from cnnbench.report.model import Chart, Datum

CURVE, JOB, LIMIT = "curve", "job", "limit"
POINTS = 13
"""Of a curve: nearly straight, since only its logarithm is."""
DASHES = ([1, 0], [6, 3], [2, 3])
SHAPES = ("circle", "diamond", "square", "triangle-up", "triangle-down")
"""Of the jobs in turn; with the colours of `theme.SERIES` thirty look different."""
LONGEST_NAME = 40


def detectable_curve(spreads: Mapping[str, float], plan: CheckPlan) -> Chart:
    """`spreads` are the calibrated standard deviations of d, a log, by job. A line a budget, a mark a job at the whole one.

    Raises ValueError where the plan is cut too short to suspect anything.
    """
    budgets = _budgets(plan)
    if not budgets:
        raise ValueError(f"a plan of {plan.max_blocks} blocks cannot suspect: it detects nothing")
    widest = 1.15 * max([plan.log_tolerance, *spreads.values()])
    data = [*_curves(budgets, widest), *_jobs(spreads, plan), *_limits(plan, widest)]
    share = units.percent(plan.power, 0)
    description = "; ".join(str(datum["text"]) for datum in data if datum["role"] == JOB)
    title = f"Slowdown that is found in {share} of checks"
    twice = units.percent(2 * plan.tolerance, 1)
    caption = (
        f"For normal d of that spread, a check of the job alone, tolerance {units.percent(plan.tolerance, 1)}. Above the "
        f"line at {twice} even twice the tolerance is missed too often: there the check is advisory."
    )
    return theme.make_chart(
        "detectable",
        title,
        f"{title}, over the spread of d: {description}.",
        caption,
        data,
        lambda at: _draw(data, plan, at),
    )


def _budgets(plan: CheckPlan) -> list[CheckPlan]:
    """The plan cut after each of its looks that may suspect."""
    places = [place for place, look in enumerate(plan.looks, start=1) if look.suspect_alpha is not None]
    return [replace(plan, looks=plan.looks[:place]) for place in places]


def _curves(budgets: Sequence[CheckPlan], widest: float) -> list[Datum]:
    spreads = [widest * place / (POINTS - 1) for place in range(POINTS)]
    return [
        {"role": CURVE, "name": f"at most {cut.max_blocks} blocks", **_point(spread, cut), "text": ""}
        for cut in budgets
        for spread in spreads
    ]


def _jobs(spreads: Mapping[str, float], plan: CheckPlan) -> list[Datum]:
    found: list[Datum] = []
    for job, spread in spreads.items():
        name, point = escaping.plain(job, LONGEST_NAME), _point(spread, plan)
        text = f"{name}: +{units.percent(read_number(point, 'slowdown'), 1)}"
        found.append({"role": JOB, "name": name, **point, "text": text})
    return found


def _limits(plan: CheckPlan, widest: float) -> list[Datum]:
    lines = (("the tolerance", plan.tolerance), ("twice the tolerance", 2 * plan.tolerance))
    return [
        {"role": LIMIT, "name": name, "spread": widest, "slowdown": slowdown, "text": name} for name, slowdown in lines
    ]


def _point(spread: float, plan: CheckPlan) -> Datum:
    effect = compute_detectable_effect(spread, plan)
    return {"spread": spread, "slowdown": None if effect is None else math.expm1(effect)}


def _draw(data: Sequence[Datum], plan: CheckPlan, layout: theme.ChartLayout) -> Any:
    import altair as alt

    names = list(dict.fromkeys(str(datum["name"]) for datum in data if datum["role"] == CURVE))
    slowest = max(read_number(datum, "slowdown") for datum in data)
    percent: dict[str, Any] = {"format": ".1~%", "gridOpacity": 0.7, "tickCount": 5 if layout.narrow else 8}
    x = alt.X(
        "spread:Q",
        title="spread of d between pairs of processes",
        scale=alt.Scale(domain=[0, max(read_number(datum, "spread") for datum in data)], nice=False),
        axis=alt.Axis(**percent),
    )
    y = alt.Y(
        "slowdown:Q",
        title="slowdown found",
        scale=alt.Scale(domain=[0, 1.05 * slowest], nice=False),
        axis=alt.Axis(**percent),
    )
    width = layout.whole
    base = alt.Chart(alt.NamedData("rows"), width=width, height=280)
    limits = base.transform_filter(alt.datum.role == LIMIT)
    rules = limits.mark_rule(color=theme.MUTED, strokeDash=[4, 4], aria=False).encode(y=y)
    limit_labels = limits.mark_text(align="right", dx=-4, dy=10, color=theme.MUTED, aria=False).encode(
        x=x, y=y, text="text:N"
    )
    curves = (
        base.transform_filter(alt.datum.role == CURVE)
        .mark_line(color=theme.INK, strokeWidth=2)
        .encode(
            x=x,
            y=y,
            strokeDash=alt.StrokeDash(
                "name:N",
                scale=alt.Scale(domain=names[::-1], range=[list(DASHES[n % len(DASHES)]) for n in range(len(names))]),
                legend=alt.Legend(**theme.legend(names, layout)),
            ),
        )
    )
    jobs = list(dict.fromkeys(str(datum["text"]) for datum in data if datum["role"] == JOB))
    if not jobs:
        return alt.layer(rules, limit_labels, curves)
    room: dict[str, Any] = {"columns": 1, "labelLimit": 165} if layout.narrow else {"columns": 2}
    listed = alt.Legend(**{**theme.legend(jobs, layout), **room})
    colours = [theme.SERIES[place % len(theme.SERIES)] for place in range(len(jobs))]
    shapes = [SHAPES[place % len(SHAPES)] for place in range(len(jobs))]
    points = (
        base.transform_filter(alt.datum.role == JOB)
        .mark_point(filled=True, size=110, opacity=1)
        .encode(
            x=x,
            y=y,
            color=alt.Color("text:N", scale=alt.Scale(domain=jobs, range=colours), legend=listed),
            shape=alt.Shape("text:N", scale=alt.Scale(domain=jobs, range=shapes), legend=listed),
            tooltip=["name:N", alt.Tooltip("spread:Q", format=".2%"), alt.Tooltip("slowdown:Q", format=".1%")],
        )
    )
    return alt.layer(rules, limit_labels, curves, points)
