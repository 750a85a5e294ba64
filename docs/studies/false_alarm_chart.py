"""How often each rule cries wolf: false alarms of six unchanged jobs in every noise, ours with the upper bound of its share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from false_alarm_page import CHECK_NAME
from false_alarm_study import SUITE_JOBS, FalseAlarmStudy
from noise_models import NOISE_MODELS
from other_tools import OTHER_TOOLS
from simulate import Proportion

from cnnbench import units
from cnnbench.report.charts import theme
from cnnbench.report.charts.kinds import ChartSpec, Shown, draw_chart
from cnnbench.report.model import Chart, Datum

TRACE = "a recorded trace"
LOOKS = (
    (theme.BLUE, "circle"),
    (theme.PURPLE, "square"),
    (theme.RED, "diamond"),
    (theme.ORANGE, "triangle-up"),
    (theme.GREEN, "triangle-down"),
    (theme.TEAL, "cross"),
)
"""Colour and shape of the noise models in their order; traces have a grey triangle."""
ROW = {False: 36, True: 44}
"""Pixels per rule, by whether the drawing is narrow: the marks of ten noises, one below the other."""


def draw_false_alarms(study: FalseAlarmStudy) -> Chart:
    """Draw one row per rule, one mark per noise, on a log scale; no alarm is at the left edge, under "none"."""
    floor = 0.4 / study.checks
    data = [
        _mark(CHECK_NAME, rates.noise, Proportion(rates.suite.regressed, rates.suite.checks), floor)
        for rates in study.ours
    ]
    for peer in OTHER_TOOLS:
        data += [_mark(peer.name, rates.noise, rates.suite, floor) for rates in study.peers if rates.peer == peer.name]
    bound = study.plan.false_alarm_bound(SUITE_JOBS + 1)
    worst = max(float(datum["upper"]) for datum in data if datum["rule"] == CHECK_NAME)
    title = "Checks of six unchanged jobs that raise a false alarm"
    caption = (
        f"{study.checks:,} simulated checks a mark; where none alarmed the mark stands at the left edge. Bars: 95 % upper "
        f"bound of {CHECK_NAME}. Dashed: what its levels allow, whatever the noise. A rule that cannot alarm has no false alarm "
        "either: what each finds stands in the tables of true slowdowns."
    )
    description = "; ".join(_describe(rule, data) for rule in dict.fromkeys(str(datum["rule"]) for datum in data))
    alt = f"{title}, by rule and noise. {description}. The upper bound of {CHECK_NAME} is {units.percent(worst, 3)}."
    spec = ChartSpec("false-alarms", title, caption, lambda _, layout: _draw(data, floor, bound, layout), alt=alt)
    return draw_chart(spec, Shown(data))


def _mark(rule: str, noise: str, share: Proportion, floor: float) -> Datum:
    known = [model.name for model in NOISE_MODELS]
    return {
        "rule": rule,
        "noise": noise,
        "kind": noise if noise in known else TRACE,
        "alarms": share.hits,
        "checks": share.of,
        "shown": max(floor, share.share),
        "upper": share.upper,
    }


def _describe(rule: str, data: Sequence[Datum]) -> str:
    shares = [float(datum["alarms"]) / float(datum["checks"]) for datum in data if datum["rule"] == rule]
    low, high = (units.percent(share, 2 if 0 < share < 0.01 else 1) for share in (min(shares), max(shares)))
    return f"{rule}: {low}" if low == high else f"{rule}: {low} to {high}"


def _draw(data: Sequence[Datum], floor: float, bound: float, layout: theme.ChartLayout) -> Any:
    import altair as alt

    rules = list(dict.fromkeys(str(datum["rule"]) for datum in data))
    kinds = list(dict.fromkeys(datum["kind"] for datum in data))
    looks = dict(zip([model.name for model in NOISE_MODELS], LOOKS, strict=True))
    chosen = [looks.get(kind, (theme.MUTED, "triangle-right")) for kind in kinds]
    size: dict[str, Any] = {"width": 200 if layout.narrow else 480, "height": ROW[layout.narrow] * len(rules)}
    scale = alt.Scale(type="log", domain=[floor / 1.6, 1], nice=False)
    ticks = [floor, *(share for share in (1e-4, 1e-3, 1e-2, 1e-1, 1) if share > 2 * floor)]
    axis = alt.Axis(
        title="checks with a false alarm (log)" if layout.narrow else "share of checks with a false alarm (log scale)",
        values=ticks,
        labelExpr=f"datum.value < {1.01 * floor} ? 'none' : format(100 * datum.value, '~r') + ' %'",
    )
    legend = alt.Legend(symbolOpacity=1, columns=1 if layout.narrow else 4, labelLimit=200)
    columns = list(dict.fromkeys(str(datum["noise"]) for datum in data))
    names: dict[str, Any] = {
        "title": None,
        "labelLimit": 140 if layout.narrow else 230,
        "labelColor": theme.INK,
        "domain": False,
        "ticks": False,
    }
    names |= {"labelExpr": _TWO_LINES, "labelOffset": -theme.LINE / 2} if layout.narrow else {}
    base = alt.Chart(alt.NamedData("rows"), **size).encode(
        y=alt.Y(
            "rule:N",
            sort=rules,
            axis=alt.Axis(**names, grid=True, tickBand="extent", gridOpacity=0.7),
            scale=alt.Scale(paddingInner=0.15),
        ),
        yOffset=alt.YOffset("noise:N", sort=columns),
        color=alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[each[0] for each in chosen]), legend=legend),
    )
    once = alt.Chart(alt.NamedData("rows"), **size).transform_aggregate(rows="count()")
    limit = once.mark_rule(color=theme.MUTED, strokeDash=[4, 4], aria=False).encode(
        x=alt.XDatum(bound, scale=scale, axis=axis)
    )
    labels = once.mark_text(align="left", dx=6, color=theme.INK, aria=False).encode(
        x=alt.XDatum(bound, scale=scale, axis=axis),
        y=alt.value(ROW[layout.narrow] / 2),
        text=alt.value(f"at most {units.percent(bound, 3)}"),
    )
    bars = base.transform_filter(alt.datum.rule == CHECK_NAME).mark_rule(strokeWidth=2, opacity=0.5, aria=False)
    marks = base.mark_point(filled=True, size=38, opacity=1).encode(
        x=alt.X("shown:Q", scale=scale, axis=axis),
        shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=[each[1] for each in chosen]), legend=legend),
        tooltip=["rule:N", "noise:N", alt.Tooltip("alarms:Q"), alt.Tooltip("checks:Q")],
    )
    bars = bars.encode(x=alt.X("shown:Q", scale=scale, axis=axis), x2="upper:Q")
    return alt.layer(limit, labels, bars, marks).to_dict(validate=False)


_TWO_LINES = (
    "indexof(datum.label, ' ') < 0 ? datum.label : [slice(datum.label, 0, indexof(datum.label, ' ')), "
    "slice(datum.label, indexof(datum.label, ' ') + 1)]"
)
