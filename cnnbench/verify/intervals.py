"""A figure with its interval, written a second time: means on logs with Student's t, Welch, Wilson; n counts processes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

Cost = Mapping[tuple[str, int], float]
"""Seconds of the same work by run and round."""


@dataclass(frozen=True)
class DerivedFigure:
    """What should be printed, in SI units."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def scaled(self, factor: float) -> DerivedFigure:
        """In another unit."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return DerivedFigure(self.value * factor, low, high, self.n)

    def inverse_of(self, numerator: float) -> DerivedFigure:
        """An exact number divided by it: the ends change places."""
        low, high = (None if end is None else numerator / end for end in (self.high, self.low))
        return DerivedFigure(numerator / self.value, low, high, self.n)


def geometric(values: Iterable[float | None]) -> DerivedFigure | None:
    """Geometric mean of what is known, without zeros; None for none, or where one is negative."""
    known = [value for value in values if value]
    return _from_logs(list(map(math.log, known))) if known and min(known) > 0 else None


def _from_logs(logs: Sequence[float]) -> DerivedFigure:
    mean, n = statistics.fmean(logs), len(logs)
    if n < 3:
        return DerivedFigure(math.exp(mean), n=n)
    return _with_interval(mean, _t_quantile(n - 1) * math.sqrt(variance(logs) / n), n)


def variance(values: Sequence[float]) -> float:
    """With one degree of freedom less than values; `statistics` does it in fractions, many times slower."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _with_interval(mean: float, half: float, n: int) -> DerivedFigure:
    return DerivedFigure(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n)


def _t_quantile(degrees: float) -> float:
    return float(stdtrit(degrees, 0.975))


def ratio(base: Cost, own: Cost) -> DerivedFigure:
    """Base over own: paired by round from three pairs on, else Welch on the logs from three a side, else the means."""
    pairs = [math.log(base[key] / own[key]) for key in sorted(own.keys() & base.keys())]
    if len(pairs) >= 3:
        return _from_logs(pairs)
    first, second = ([math.log(value) for value in costs.values()] for costs in (base, own))
    n = min(len(first), len(second))
    middle = statistics.fmean(first) - statistics.fmean(second)
    if n < 3:
        return _from_logs(pairs) if pairs else DerivedFigure(math.exp(middle), n=n)
    a, b = (variance(side) / len(side) for side in (first, second))
    if a + b == 0:
        return _with_interval(middle, 0.0, n)
    degrees = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return _with_interval(middle, _t_quantile(degrees) * math.sqrt(a + b), n)


def wilson(correct: int, images: int) -> DerivedFigure:
    """Share right of one process, with the interval for the choice of images."""
    z, share = float(ndtri(0.975)), correct / images
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images**2)) / (1 + z * z / images)
    return DerivedFigure(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), 1)


def accuracy(right: Sequence[int], images: int) -> DerivedFigure:
    """Share right of one process, else the mean over processes, its interval clipped to [0, 1]."""
    if len(right) == 1:
        return wilson(right[0], images)
    shares, n = [each / images for each in right], len(right)
    mean = statistics.fmean(shares)
    if n < 3:
        return DerivedFigure(mean, n=n)
    half = _t_quantile(n - 1) * math.sqrt(variance(shares) / n)
    return DerivedFigure(mean, max(0.0, mean - half), min(1.0, mean + half), n)


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between order statistics."""
    ordered, place = sorted(values), share * (len(values) - 1)
    below = min(int(place), len(ordered) - 2)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])
