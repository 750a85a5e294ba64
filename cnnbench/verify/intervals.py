"""Figures with intervals, written a second time: means on logs with Student's t, Welch, Wilson; n counts processes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import ndtri, stdtrit

T = TypeVar("T")
Cost = Mapping[tuple[str, int], float]
"""Seconds of the same work by run and round."""


@dataclass(frozen=True)
class DerivedFigure:
    """A figure that should be printed, in SI units."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def changed(self, change: Callable[[float], float]) -> DerivedFigure:
        """Apply an increasing function to the figure and to both ends."""
        low, high = (None if end is None else change(end) for end in (self.low, self.high))
        return DerivedFigure(change(self.value), low, high, self.n)

    def scaled(self, factor: float) -> DerivedFigure:
        """Multiply the figure and both ends by a factor."""
        return self.changed(lambda value: value * factor)


class NoFigure(LookupError):
    """The records lack the figure; a page may say so."""


def known(value: T | None) -> T:
    """Pass on a value that is known. Raises NoFigure for None."""
    if value is None:
        raise NoFigure
    return value


def geometric(values: Iterable[float | None]) -> DerivedFigure:
    """Compute the geometric mean of known values except zeros. Raises NoFigure if none is left or one is negative."""
    found = [value for value in values if value]
    if not found or min(found) < 0:
        raise NoFigure
    return arithmetic(list(map(math.log, found))).changed(math.exp)


def arithmetic(values: Sequence[float]) -> DerivedFigure:
    """Compute the mean with its t-interval from three values on. Raises NoFigure without a value."""
    if not values:
        raise NoFigure
    mean, n = statistics.fmean(values), len(values)
    return DerivedFigure(mean, n=n) if n < 3 else _with_interval(mean, variance(values) / n, n - 1, n)


def variance(values: Sequence[float]) -> float:
    """Compute the sample variance (n - 1), many times faster than `statistics`, which uses fractions."""
    return float(np.var(values, ddof=1))


def _with_interval(mean: float, error: float, degrees: float, n: int) -> DerivedFigure:
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(error)
    return DerivedFigure(mean, mean - half, mean + half, n)


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Compute the variance of the difference of two means, and its degrees of freedom."""
    a, b = (variance(side) / len(side) for side in (first, second))
    return a + b, (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1)) if a + b else 1.0


def ratio(base: Cost, own: Cost) -> DerivedFigure:
    """Divide base by own: paired by round from three pairs on, else with Welch's interval on logs, else means alone."""
    pairs = [math.log(base[key] / own[key]) for key in sorted(own.keys() & base.keys())]
    n = min(len(base), len(own))
    if len(pairs) >= 3 or (pairs and n < 3):
        return arithmetic(pairs).changed(math.exp)
    first, second = ([math.log(value) for value in costs.values()] for costs in (base, own))
    middle = statistics.fmean(first) - statistics.fmean(second)
    found = DerivedFigure(middle, n=n) if n < 3 else _with_interval(middle, *welch(first, second), n)
    return found.changed(math.exp)


def wilson(correct: int, images: int) -> DerivedFigure:
    """Compute one process's share of images right, with the interval for the choice of images."""
    z, share = float(ndtri(0.975)), correct / images
    shrink = 1 + z * z / images
    centre = (share + z * z / (2 * images)) / shrink
    half = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images**2)) / shrink
    return DerivedFigure(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), 1)


def accuracy(right: Sequence[int], images: int) -> DerivedFigure:
    """Compute the share right: Wilson's interval for one process, else the mean over processes, clipped to [0, 1]."""
    if len(right) == 1:
        return wilson(right[0], images)
    return arithmetic([each / images for each in right]).changed(lambda share: min(1.0, max(0.0, share)))
