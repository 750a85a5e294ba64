"""How sure: the timed blocks of every process against the mean of its row, so that within and between can be seen apart."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cnnbench.analysis.speedup import Row
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import ChartData, axis_labels, identity, one_line, read_number, row_names
from cnnbench.report.model import Chart, Datum

LINE_PIXELS = 7
"""From one process's line to the next."""
MOST_PROCESSES = 90
"""Processes drawn at the most, those of the noisiest rows first: more lines than this cannot be told apart."""


def noise(chart_data: ChartData) -> Chart | None:
    """Each process's blocks as a line from their 5th to their 95th percentile, the median as a mark on it."""
    rows = [(row, spread) for row in chart_data.comparison.rows if (spread := _spread(chart_data, row)) is not None]
    rows.sort(key=lambda pair: (-pair[1], pair[0].row_key, pair[0].run_id))
    shown: list[Row] = []
    processes = 0
    for row, _ in rows:
        processes += len(chart_data.trials(row))
        if shown and processes > MOST_PROCESSES:
            break
        shown.append(row)
    if not shown:
        return None
    names = axis_labels(row_names(shown, batch=True))
    data = [
        {**datum, "label": label} for row, label in zip(shown, names, strict=True) for datum in _blocks(chart_data, row)
    ]
    return _lines(data, len(rows) - len(shown))


def _spread(chart_data: ChartData, row: Row) -> float | None:
    """Widest 5-95 % span of the row's blocks over their mean; None where no process has two blocks."""
    data = _blocks(chart_data, row)
    if not data:
        return None
    low, high = _ends(data)
    return high - low


def _ends(data: Sequence[Datum]) -> tuple[float, float]:
    """The lowest 5th and the highest 95th percentile."""
    return min(read_number(datum, "block_p05") for datum in data), max(
        read_number(datum, "block_p95") for datum in data
    )


def _blocks(chart_data: ChartData, row: Row) -> list[Datum]:
    """One value a process: 5th, 50th and 95th percentile of its block times over the row's mean step (1 is the mean)."""
    if row.step_seconds is None:
        return []
    found = []
    for record, trial in chart_data.trials(row):
        steps = [seconds / trial.steps_per_block / row.step_seconds.value for seconds in trial.block_seconds]
        if len(steps) < 2 or not min(steps) > 0:
            continue
        low, middle, high = quantiles(steps)
        found.append(
            {
                **identity(row),
                **{"index": record.index, "round": record.job.round + 1, "blocks": len(steps)},
                **{"block_p05": low, "block_p50": middle, "block_p95": high},
            }
        )
    return found


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """5th, 50th and 95th percentile, linear between order statistics (R's type 7)."""
    cuts = statistics.quantiles(sorted(values), n=20, method="inclusive")
    return cuts[0], cuts[9], cuts[18]


def _lines(data: list[Datum], left_out: int) -> Chart:
    import altair as alt

    order = list(dict.fromkeys(str(datum["label"]) for datum in data))
    most = max(Counter(str(datum["label"]) for datum in data).values())
    rows = theme.Rows(tuple(order), mark=min(60, max(theme.MARK, most * LINE_PIXELS)))
    ends = [read_number(datum, name) for datum in data for name in ("block_p05", "block_p95")]

    def draw(layout: theme.ChartLayout) -> Any:
        base = alt.Chart(alt.NamedData("rows"), width=layout.width, height=rows.height(layout)).encode(
            y=rows.y(layout, bars=True),
            yOffset=alt.YOffset("round:O"),
        )
        axis = alt.Axis(format="+.0%", gridOpacity=0.7, tickCount=4 if layout.narrow else 6, labelExpr=_SIGNED)
        scale = alt.Scale(domain=[min(0.95, *ends), max(1.05, *ends)], nice=False)
        x = alt.X("block_p05:Q", title="block time against the mean", scale=scale, axis=axis)
        spans = base.mark_rule(strokeWidth=2.5, opacity=0.5, color=theme.BLUE, aria=False).encode(x=x, x2="block_p95:Q")
        marks = base.mark_point(filled=True, size=42, opacity=1, color=theme.BLUE).encode(
            x=alt.X("block_p50:Q", scale=scale, axis=axis, title="block time against the mean"),
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("processor", "place", "work")),
                alt.Tooltip("round:O"),
                alt.Tooltip("blocks:Q", title="timed blocks"),
                *(
                    alt.Tooltip(f"block_{name}:Q", title=f"{name[1:]}th percentile, of the mean", format=".4f")
                    for name in ("p05", "p50", "p95")
                ),
            ],
        )
        return alt.layer(spans, marks)

    descriptions = []
    for label in order:
        own = [datum for datum in data if datum["label"] == label]
        low, high = _ends(own)
        descriptions.append(f"{one_line(label)}: {low - 1:+.0%} to {high - 1:+.0%} in {len(own)} processes")
    more = f" The noisiest rows are drawn; {left_out} quieter ones are left out." if left_out else ""
    caption = (
        "One line a process: from the 5th to the 95th percentile of its timed blocks, the median marked; 0 % is the mean of "
        "the row. Marks apart from one another are noise between processes, long lines noise within one. Error bars "
        "elsewhere are between processes." + more
    )
    return theme.make_chart(
        "noise",
        "Noise within and between processes",
        f"Block times by process. {'; '.join(descriptions)}.",
        caption,
        data,
        draw,
    )


_SIGNED = "datum.value == 1 ? '0 %' : format(datum.value - 1, '+.0%')"
