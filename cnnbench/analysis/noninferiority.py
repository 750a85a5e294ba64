"""Whether one mean is not below another by more than a margin: a test of non-inferiority, in plain numbers.

"No significant difference" proves nothing: with few and noisy seeds nothing is ever significant. So the question is turned
round. The mode has to show that it is not worse than the reference by the margin or more: the lower one-sided 95 % bound
of the difference must lie above minus the margin. A mode that is worse by exactly the margin passes in at most 5 % of
all tests (see tests/test_noninferiority.py), however few the seeds. (Student's t on the differences where both sides have
the same seeds, else Welch's: B. L. Welch, Biometrika 34, 1947.)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from cnnbench.analysis.stats import CONFIDENCE, compute_half_width, t_quantile, welch_degrees

SeedKey = TypeVar("SeedKey", bound=Hashable)
ConvergenceOutcome = Literal["learns as well", "learns worse", "undecided"]
POWER = 0.80
MOST_SEEDS = 1000
"""Where more seeds than this are needed, the difference is practically the margin, and nobody will run them."""
LEAST_SEEDS = 2
"""Of a side, for a spread to exist."""


@dataclass(frozen=True)
class AccuracyDifference:
    """Mode less reference, with its one-sided 95 % bounds: of each by itself, both are a two-sided 90 % interval."""

    value: float
    low: float
    high: float
    paired: bool
    variance: float
    """Of the difference of one seed of either side; with n seeds a side its standard error is sqrt(variance / n)."""
    freedom: float
    """Degrees of freedom a seed: with n seeds a side there are (n - 1) times this."""

    def as_shares(self, images: float) -> AccuracyDifference:
        """Differences of counts as differences of shares."""
        bounds = (self.value / images, self.low / images, self.high / images)
        return AccuracyDifference(*bounds, self.paired, self.variance / images**2, self.freedom)


def estimate_difference(variant: Mapping[SeedKey, float], plain: Mapping[SeedKey, float]) -> AccuracyDifference:
    """Mean of the mode less mean of the reference, by seed where both have exactly the same seeds.

    Raises ValueError where a side has fewer than two.
    """
    if min(len(variant), len(plain)) < LEAST_SEEDS:
        raise ValueError(f"a spread needs {LEAST_SEEDS} seeds a side, there are {len(variant)} and {len(plain)}")
    if variant.keys() == plain.keys():
        return _paired_difference([variant[key] - plain[key] for key in variant])
    return _welch_difference(list(variant.values()), list(plain.values()))


def classify_difference(found: AccuracyDifference, margin: float) -> ConvergenceOutcome:
    """What the bounds say; `margin` is positive and in the unit of the difference."""
    if found.low > -margin:
        return "learns as well"
    return "learns worse" if found.high < -margin else "undecided"


def seeds_to_decide(found: AccuracyDifference, margin: float) -> int | None:
    """Seeds a side with which a new test would decide in 80 % of cases, were difference and spread what they seem now.

    From the quantiles of Student's t: (t(0.95) + t(0.80)) x standard error is the distance from the margin. By the
    noncentral t that is a chance of 80.0 to 80.7 %. None for more than 1,000.
    """
    distance = abs(found.value + margin)
    for seeds in range(LEAST_SEEDS + 1, MOST_SEEDS + 1):
        degrees = (seeds - 1) * found.freedom
        reach = (t_quantile(degrees, CONFIDENCE) + t_quantile(degrees, POWER)) * math.sqrt(found.variance / seeds)
        if reach < distance:
            return seeds
    return None


def _paired_difference(differences: Sequence[float]) -> AccuracyDifference:
    variance = float(statistics.variance(differences))
    half = compute_half_width(differences, CONFIDENCE)
    return _with_bounds(statistics.fmean(differences), half, True, variance, 1.0)


def _welch_difference(variant: Sequence[float], plain: Sequence[float]) -> AccuracyDifference:
    value = statistics.fmean(variant) - statistics.fmean(plain)
    ours, theirs = float(statistics.variance(variant)), float(statistics.variance(plain))
    a, b = ours / len(variant), theirs / len(plain)
    if a + b == 0:
        return _with_bounds(value, 0.0, False, 0.0, 2.0)
    half = t_quantile(welch_degrees(a, len(variant), b, len(plain)), CONFIDENCE) * math.sqrt(a + b)
    return _with_bounds(value, half, False, ours + theirs, (ours + theirs) ** 2 / (ours**2 + theirs**2))


def _with_bounds(value: float, half: float, paired: bool, variance: float, freedom: float) -> AccuracyDifference:
    return AccuracyDifference(value, value - half, value + half, paired, variance, freedom)
