"""Ladders, worked out again: rows of one run that differ only in how a step is computed, each against the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from cnnbench.verify import intervals
from cnnbench.verify.intervals import ExpectedFigure
from cnnbench.verify.raw_rows import RawRow

ORDER: Mapping[str, Sequence[str]] = {
    "division": ("reference", "tuned", "open"),
    "precision": ("fp32", "tf32", "bf16", "fp16"),
    "layout": ("nchw", "nhwc"),
    "execution": ("eager", "compiled", "auto", "fused", "native", "graph", "compiled-graph"),
    "loader": ("resident", "dataloader"),
}
OVER_PREVIOUS, OVER_FIRST = "speed over the one before", "speed over the first"


def expect_metrics(rows: Sequence[RawRow]) -> dict[int, dict[str, ExpectedFigure | None]]:
    """Both ratios of every rung that was measured and is not its ladder's first, by the row's `id`."""
    found: dict[int, dict[str, ExpectedFigure | None]] = {}
    for ladder in _find_ladders(rows):
        for before, row in pairwise(ladder):
            found[id(row)] = {
                OVER_PREVIOUS: intervals.ratio(before.costs, row.costs),
                OVER_FIRST: intervals.ratio(ladder[0].costs, row.costs),
            }
    return found


def _find_ladders(rows: Sequence[RawRow]) -> list[list[RawRow]]:
    same: dict[tuple[str, ...], list[RawRow]] = {}
    plain = {name: values[0] for name, values in ORDER.items()} | {"loader_workers": 0, "seed": 0, "round": 0}
    for row in rows:
        if row.job.workload != "gemm" and row.costs:
            work = row.job.model_copy(update=plain).model_dump_json()
            same.setdefault((row.header.run_id, str(row.protocol), work), []).append(row)
    return [sorted(members, key=_ladder_position) for members in same.values()]


def _ladder_position(row: RawRow) -> tuple[int, ...]:
    job = row.job
    return (*(list(ORDER[name]).index(getattr(job, name)) for name in ORDER), job.loader_workers)
