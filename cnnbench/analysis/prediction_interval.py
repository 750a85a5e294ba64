"""Where the next run will fall, from runs recorded before: Student's t prediction interval.

Enter the runs' values, one sequence of processes each; leaves the range that holds the next run's with 95 % confidence
where runs are independent and normal on that scale, 2.5 % beyond each end (each end alone is a one-sided 97.5 % bound):

    mean +- t(1 - tail; n - 1) * s * sqrt(1 + 1 / n)

with s the standard deviation between runs (G. J. Hahn and W. Q. Meeker, Statistical Intervals, 1991, chapter 4). Times
are taken as logs, because their errors are ratios. n counts runs: processes of one run share the hour and the machine's
state, and steps of one process share far more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench.analysis import stats

LEAST_RUNS = 8
"""Runs below which nothing is predicted. Half the interval is 3.56 standard deviations with 4 runs, 2.51 with 8, 2.20 with 16."""
TAIL = 0.025
"""Of next runs above the interval, and as many below it."""
ROUNDING = 1e-12
"""A value on an edge is inside: exp and log round in the 16th digit."""


@dataclass(frozen=True)
class Prediction:
    """The range of the next run's value, in the unit of the values; `processes` is how many of each run went into it."""

    value: float
    low: float
    high: float
    runs: int
    processes: int


def predict_mean(values: Sequence[float], tail: float = TAIL) -> tuple[float, float, float]:
    """The mean of the values, and the ends of the interval for one more. Raises ValueError below two values."""
    n = len(values)
    if n < 2:
        raise ValueError(f"{n} values have no spread")
    mean = math.fsum(values) / n
    half = stats.t_quantile(n - 1, 1 - tail) * math.sqrt(stats.estimate_variance(values)) * math.sqrt(1 + 1 / n)
    return mean, mean - half, mean + half


def predict_next_run(
    runs: Sequence[Sequence[float]], processes: int | None = None, tail: float = TAIL
) -> Prediction | None:
    """The range of the next run's geometric mean over `processes` processes; None from fewer than 8 runs.

    Each run is the positive values of its processes in the order of their rounds. A mean of three processes spreads less
    than one process, so every run gives the same number: as many as the run with the fewest, or the next one, has.
    """
    known = [run for run in runs if run]
    if len(known) < LEAST_RUNS:
        return None
    fewest = min(*(len(run) for run in known), processes or len(known[0]))
    mean, low, high = predict_mean([mean_log(run[:fewest]) for run in known], tail)
    return Prediction(math.exp(mean), math.exp(low), math.exp(high), len(known), fewest)


def mean_log(values: Sequence[float]) -> float:
    """Log of the geometric mean. Raises ValueError for none, or one that is not positive."""
    if not values:
        raise ValueError("no values have no mean")
    return math.fsum(map(math.log, values)) / len(values)


def compare_with_prediction(value: float, prediction: Prediction) -> int:
    """-1 below the range, 1 above it, 0 inside; a value on the edge is inside."""
    if value > prediction.high * (1 + ROUNDING):
        return 1
    return -1 if value < prediction.low * (1 - ROUNDING) else 0
