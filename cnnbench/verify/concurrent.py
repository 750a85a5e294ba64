"""Concurrent copies, worked out again from each copy's blocks: the median copy, the slowest, and one over the other."""

from __future__ import annotations

import math
import statistics

from cnnbench.verify.intervals import ExpectedFigure, geometric, without_interval
from cnnbench.verify.raw_rows import RawRow


def expect_metrics(row: RawRow) -> dict[str, ExpectedFigure | None]:
    """Of a job of copies; nothing of another."""
    if row.job.copies == 1:
        return {}
    found = _step_seconds(row)
    count = without_interval(row.job.copies)
    if not found:
        return {"copies": count}
    slowest = _find_slowest(found)
    middles = [statistics.median(each.values()) for each in found]
    ratios = [each[slowest] / middle for each, middle in zip(found, middles, strict=True)]
    return {"copies": count, "median copy": geometric(middles), "slowest over median": geometric(ratios)}


def expect_words(row: RawRow) -> dict[str, str]:
    """The slowest copy's place."""
    found = _step_seconds(row)
    return {"slowest copy": _find_slowest(found) if found else "n/a"}


def _step_seconds(row: RawRow) -> list[dict[str, float]]:
    """Seconds of a step by place, of every launch in which each copy has a place and a time of its own."""
    if row.job.copies == 1:
        return []
    every = [{rank.place: sum(rank.block_seconds) / trial.steps for rank in trial.ranks} for _, trial in row.trials]
    places = {place for each in every for place in each}
    return [each for each in every if each.keys() == places and len(each) == row.job.copies and min(each.values()) > 0]


def _find_slowest(found: list[dict[str, float]]) -> str:
    means = {place: statistics.fmean(math.log(each[place]) for each in found) for place in sorted(found[0])}
    return max(means, key=lambda place: means[place])
