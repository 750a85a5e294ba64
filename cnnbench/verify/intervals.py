"""A figure with its interval, written a second time: means on logs with Student's t, Welch, Wilson; n counts processes."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

from cnnbench.verify.number_parser import NumberKind

Cost = Mapping[tuple[str, int], float]
"""Seconds of the same work by run and round."""


@dataclass(frozen=True)
class RequiredText:
    """What must stand beside a figure with a number in it: `allows {}` and a ratio."""

    words: str
    kind: NumberKind
    value: float


@dataclass(frozen=True)
class ExpectedFigure:
    """What should be printed, in SI units; `beside` must stand in the brackets, `projected` asks for the mark ~."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    details: tuple[str | RequiredText, ...] = ()
    projected: bool = False

    def scaled(self, factor: float) -> ExpectedFigure:
        """In another unit; what stood beside it does not go with it."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return ExpectedFigure(self.value * factor, low, high, self.n, projected=self.projected)

    def inverse_of(self, numerator: float) -> ExpectedFigure:
        """An exact number divided by it: the ends change places."""
        low, high = (None if end is None else numerator / end for end in (self.high, self.low))
        return ExpectedFigure(numerator / self.value, low, high, self.n, projected=self.projected)

    def with_details(self, *beside: str | RequiredText, projected: bool = False) -> ExpectedFigure:
        """The same with what must be said of it."""
        return dataclasses.replace(self, details=beside, projected=projected)


def without_interval(value: float | None) -> ExpectedFigure | None:
    """A figure without an interval."""
    return None if value is None else ExpectedFigure(value)


def geometric(values: Sequence[float]) -> ExpectedFigure | None:
    """Geometric mean of positive values; None for none, or where one is not positive."""
    if not values or not min(values) > 0:
        return None
    return _from_logs([math.log(value) for value in values])


def _from_logs(logs: Sequence[float]) -> ExpectedFigure:
    mean, n = statistics.fmean(logs), len(logs)
    if n < 3:
        return ExpectedFigure(math.exp(mean), n=n)
    return _with_interval(mean, _t_quantile(n - 1) * statistics.stdev(logs) / math.sqrt(n), n)


def _with_interval(mean: float, half: float, n: int) -> ExpectedFigure:
    return ExpectedFigure(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n)


def _t_quantile(degrees: float) -> float:
    return float(stdtrit(degrees, 0.975))


def ratio(base: Cost, own: Cost) -> ExpectedFigure:
    """Base over own: paired by round from three pairs on, else Welch on the logs from three a side, else the means."""
    pairs = [math.log(base[key] / own[key]) for key in sorted(own.keys() & base.keys())]
    if len(pairs) >= 3:
        return _from_logs(pairs)
    first, second = ([math.log(value) for value in costs.values()] for costs in (base, own))
    n = min(len(first), len(second))
    middle = statistics.fmean(first) - statistics.fmean(second)
    if n < 3:
        return _from_logs(pairs) if pairs else ExpectedFigure(math.exp(middle), n=n)
    a, b = statistics.variance(first) / len(first), statistics.variance(second) / len(second)
    if a + b == 0:
        return _with_interval(middle, 0.0, n)
    degrees = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return _with_interval(middle, _t_quantile(degrees) * math.sqrt(a + b), n)


def wilson(correct: int, images: int) -> ExpectedFigure:
    """Share right of one process, with the interval for the choice of images."""
    z, share = float(ndtri(0.975)), correct / images
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images**2)) / (1 + z * z / images)
    return ExpectedFigure(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), 1)


def mean_share(shares: Sequence[float]) -> ExpectedFigure:
    """Mean share right of several processes, its interval clipped to [0, 1]."""
    mean, n = statistics.fmean(shares), len(shares)
    if n < 3:
        return ExpectedFigure(mean, n=n)
    half = _t_quantile(n - 1) * statistics.stdev(shares) / math.sqrt(n)
    return ExpectedFigure(mean, max(0.0, mean - half), min(1.0, mean + half), n)


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between order statistics."""
    ordered, place = sorted(values), share * (len(values) - 1)
    below = min(int(place), len(ordered) - 2)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])
