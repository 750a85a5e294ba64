"""The statistics that pytest-benchmark stores of a benchmark's rounds, as it computes them (version 5.3), name by name.

For its files alone: they are what its readers expect, not what cnnbench concludes from. Whiskers and outliers are
Tukey's (J. W. Tukey, Exploratory Data Analysis, 1977), quartiles the means of methods 2 and 3 of Wikipedia's "Quartile".
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Statistic = float | int | str
WHISKER = 1.5
"""Quartile ranges beyond a quartile where outliers begin."""


def summarise(seconds: Sequence[float]) -> dict[str, Statistic]:
    """All of its statistics of these rounds, in its order, without `data` and `iterations`. Raises ValueError for none."""
    if not seconds:
        raise ValueError("no rounds: there is nothing to summarise")
    data = sorted(seconds)
    mean, spread = statistics.mean(seconds), statistics.stdev(seconds) if len(seconds) > 1 else 0
    first, third = _quantile(data, 0.25), _quantile(data, 0.75)
    low, high = first - WHISKER * (third - first), third + WHISKER * (third - first)
    beyond_spread = sum(each < mean - spread or each > mean + spread for each in data)
    beyond_whiskers = sum(each < low or each > high for each in data)
    total = sum(seconds)
    return {
        "min": data[0],
        "max": data[-1],
        "mean": mean,
        "stddev": spread,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": third - first,
        "q1": first,
        "q3": third,
        "iqr_outliers": beyond_whiskers,
        "stddev_outliers": beyond_spread,
        "outliers": f"{beyond_spread};{beyond_whiskers}",
        "ld15iqr": next((each for each in data if each >= low), data[0]),
        "hd15iqr": next((each for each in reversed(data) if each <= high), data[-1]),
        "ops": len(data) / total if total else 0,
        "total": total,
    }


def _quantile(data: Sequence[float], share: float) -> float:
    """The quantile of sorted data, between the two values around its place where it is on neither (J. Hazen, 1914)."""
    place = min(max(share * len(data) - 0.5, 0), len(data) - 1)
    below = int(place)
    if place == below:
        return data[below]
    return (below + 1 - place) * data[below] + (place - below) * data[below + 1]
