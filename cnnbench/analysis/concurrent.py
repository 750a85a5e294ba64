"""Concurrent copies: which device is slow while all of them do the same job at once."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from cnnbench.analysis import stats
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import Estimate


@dataclass(frozen=True)
class ConcurrentSpread:
    """The copies of one job: how many, the median one's step, and the slowest one with its step over the median's."""

    copies: int
    median_seconds: Estimate
    slowest: str
    """Its place: `cuda:3`, `cores 4,5`."""
    slowest_over_median: Estimate


def measure_spread(row: Row) -> ConcurrentSpread | None:
    """Of the launches in which every copy has a time; None without one. n counts launches."""
    places = set.union(set(), *map(set, row.copies))
    launches = [each for each in row.copies if len(each) == row.job.copies and set(each) == places]
    if not launches:
        return None
    means = {place: stats.geometric([each[place] for each in launches]).value for place in sorted(places)}
    slowest = max(means, key=lambda place: means[place])
    middles = [statistics.median(each.values()) for each in launches]
    ratios = [each[slowest] / middle for each, middle in zip(launches, middles, strict=True)]
    return ConcurrentSpread(len(places), stats.geometric(middles), slowest, stats.geometric(ratios))
