"""A figure with its interval, written a second time: means on logs with Student's t, Welch, Wilson; n counts processes."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

from cnnbench.audit.printed import Kind

Cost = Mapping[tuple[str, int], float]
"""Seconds of the same work by run and round."""


@dataclass(frozen=True)
class Said:
    """What must stand beside a figure with a number in it: `allows {}` and a ratio."""

    words: str
    kind: Kind
    value: float


@dataclass(frozen=True)
class Figure:
    """What should be printed, in SI units; `beside` must stand in the brackets, `projected` asks for the mark ~."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    beside: tuple[str | Said, ...] = ()
    projected: bool = False

    def times(self, factor: float) -> Figure:
        """In another unit; what stood beside it does not go with it."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Figure(self.value * factor, low, high, self.n, projected=self.projected)

    def under(self, numerator: float) -> Figure:
        """An exact number divided by it: the ends change places."""
        low, high = (None if end is None else numerator / end for end in (self.high, self.low))
        return Figure(numerator / self.value, low, high, self.n, projected=self.projected)

    def told(self, *beside: str | Said, projected: bool = False) -> Figure:
        """The same with what must be said of it."""
        return dataclasses.replace(self, beside=beside, projected=projected)


def plain(value: float | None) -> Figure | None:
    """A figure without an interval."""
    return None if value is None else Figure(value)


def geometric(values: Sequence[float]) -> Figure | None:
    """Geometric mean of positive values; None for none, or where one is not positive."""
    if not values or not min(values) > 0:
        return None
    return _from_logs([math.log(value) for value in values])


def _from_logs(logs: Sequence[float]) -> Figure:
    mean, n = statistics.fmean(logs), len(logs)
    if n < 3:
        return Figure(math.exp(mean), n=n)
    return _around(mean, _t(n - 1) * statistics.stdev(logs) / math.sqrt(n), n)


def _around(mean: float, half: float, n: int) -> Figure:
    return Figure(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n)


def _t(degrees: float) -> float:
    return float(stdtrit(degrees, 0.975))


def ratio(base: Cost, own: Cost) -> Figure:
    """Base over own: paired by round from three pairs on, else Welch on the logs from three a side, else the means."""
    pairs = [math.log(base[key] / own[key]) for key in sorted(own.keys() & base.keys())]
    if len(pairs) >= 3:
        return _from_logs(pairs)
    first, second = ([math.log(value) for value in costs.values()] for costs in (base, own))
    n = min(len(first), len(second))
    middle = statistics.fmean(first) - statistics.fmean(second)
    if n < 3:
        return _from_logs(pairs) if pairs else Figure(math.exp(middle), n=n)
    a, b = statistics.variance(first) / len(first), statistics.variance(second) / len(second)
    if a + b == 0:
        return _around(middle, 0.0, n)
    degrees = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return _around(middle, _t(degrees) * math.sqrt(a + b), n)


def wilson(correct: int, images: int) -> Figure:
    """Share right of one process, with the interval for the choice of images."""
    z, share = float(ndtri(0.975)), correct / images
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images**2)) / (1 + z * z / images)
    return Figure(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), 1)


def mean_share(shares: Sequence[float]) -> Figure:
    """Mean share right of several processes, its interval clipped to [0, 1]."""
    mean, n = statistics.fmean(shares), len(shares)
    if n < 3:
        return Figure(mean, n=n)
    half = _t(n - 1) * statistics.stdev(shares) / math.sqrt(n)
    return Figure(mean, max(0.0, mean - half), min(1.0, mean + half), n)


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between order statistics."""
    ordered, place = sorted(values), share * (len(values) - 1)
    below = min(int(place), len(ordered) - 2)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])
