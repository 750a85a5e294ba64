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
RUN_SPREADS = {(False, True): (0.02, 8), (False, False): (0.06, 6), (True, True): (0.105, 5), (True, False): (0.155, 5)}
"""How much runs differ, by whether the work is a matrix product and whether both are of one boot: SD of the log and degrees
of freedom, as in docs/studies/compare-verdicts.md."""


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


def two_stages(values: Sequence[float], first: int) -> DerivedFigure:
    """Compute the geometric mean with the first values' variance of logs and its degrees of freedom (Stein)."""
    logs = [math.log(value) for value in values]
    middle = statistics.fmean(logs)
    return _with_interval(middle, variance(logs[:first]) / len(logs), first - 1, len(logs)).changed(math.exp)


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


def ratio_of_runs(base: Cost, own: Cost, products: tuple[bool, bool], one_boot: bool) -> DerivedFigure:
    """Divide the means of two runs; the interval covers processes and runs, and at least the processes alone.

    `products` says of each side whether it is a matrix product. Two sides of one kind share their estimate.
    """
    first, second = ([math.log(value) for value in costs.values()] for costs in (base, own))
    n, middle = min(len(first), len(second)), statistics.fmean(first) - statistics.fmean(second)
    if n < 3:
        return DerivedFigure(math.exp(middle), n=n)
    processes = [(variance(side) / len(side), len(side) - 1) for side in (first, second)]
    sides = [RUN_SPREADS[product, one_boot] for product in products]
    runs = [(2 * sides[0][0] ** 2, sides[0][1])] if products[0] == products[1] else [(sd**2, df) for sd, df in sides]
    halves = []
    for parts in (processes + runs, processes):
        error, weights = sum(part for part, _ in parts), sum(part**2 / df for part, df in parts)
        halves.append(float(stdtrit(error**2 / weights, 0.975)) * math.sqrt(error) if error else 0.0)
    half = max(halves)
    return DerivedFigure(middle, middle - half, middle + half, n).changed(math.exp)


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
