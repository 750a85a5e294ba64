"""Intervals between processes: a few measured values go in, an estimate with its 95 % interval and its n comes out.

The unit of replication is a process, so n is a handful. Times and rates are averaged on the log scale (their geometric
mean), because their errors are ratios: an interval of A over B is then exactly the inverse of B over A's. With one or
two processes there is no interval, rather than a wide or a borrowed one.

Such an interval covers the processes of one run. Processes of one run share its minutes, so runs differ by more than
their intervals say. A ratio between two runs has their spread in its interval too (`ratio_between_runs`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
TWO_SIDED = 0.5 + CONFIDENCE / 2
"""The share of a distribution below the upper end of a two-sided interval with that confidence."""
COVERS = "95 %, processes of this run"
"""What an interval between processes of one run covers, wherever one is explained: not the machine's other hours."""
OVER_RUNS = "95 %, runs of one boot"
"""What an interval between runs covers."""
RoundKey = tuple[str, int]
"""A run and one of its rounds."""
MINIMUM_FOR_INTERVAL = 3
"""Processes (or pairs) needed before an interval is given: with 2 the t-quantile is 12.7, too wide to be of use."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` processes in the unit of its input, and its interval; `low` and `high` are None below n = 3."""

    value: float
    low: float | None
    high: float | None
    n: int

    def scaled(self, factor: float) -> Estimate:
        """Convert the estimate to another unit, or multiply it by a known constant.

        `factor` must be positive.
        """
        return self.map(lambda value: value * factor)

    def inverse_of(self, numerator: float) -> Estimate:
        """Divide an exact `numerator` by this estimate: FLOPs over seconds, or the published 6331 s over ours."""
        return Estimate(self.value, self.high, self.low, self.n).map(lambda value: numerator / value)

    def map(self, change: Callable[[float], float]) -> Estimate:
        """Apply an increasing function to the value and to both bounds."""
        low, high = (None if bound is None else change(bound) for bound in (self.low, self.high))
        return Estimate(change(self.value), low, high, self.n)


def geometric(values: Sequence[float]) -> Estimate:
    """Compute the geometric mean of positive values, with the t-interval of the mean log.

    Raises ValueError if there is no value, or one that is not positive.
    """
    return estimate_mean(_logs(values)).map(math.exp)


def paired_ratio(numerator: Mapping[RoundKey, float], denominator: Mapping[RoundKey, float]) -> Estimate | None:
    """Divide numerator by denominator, paired by key (the round both ran in); n counts pairs.

    The interval is the t-interval of the mean log ratio. Keys that only one side has are left out; None if no key is
    common.
    """
    common = sorted(numerator.keys() & denominator.keys(), key=repr)
    if not common:
        return None
    return estimate_mean([math.log(numerator[key]) - math.log(denominator[key]) for key in common]).map(math.exp)


def unpaired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Estimate:
    """Divide two geometric means, with Welch's interval on the logs; n is that of the smaller side.

    There is no interval below n = 3. Degrees of freedom by Welch and Satterthwaite (B. L. Welch, Biometrika 34, 1947).
    """
    first, second = _logs(numerator), _logs(denominator)
    n = min(len(first), len(second))
    difference = mean_log(numerator) - mean_log(denominator)
    if n < MINIMUM_FOR_INTERVAL:
        return Estimate(math.exp(difference), None, None, n)
    variances = estimate_variance(first) / len(first), estimate_variance(second) / len(second)
    half = welch_half_width(variances, (len(first), len(second)))
    return Estimate(difference, difference - half, difference + half, n).map(math.exp)


def welch_half_width(variances: tuple[float, float], sizes: tuple[int, int], share: float = TWO_SIDED) -> float:
    """Compute half of the t-interval of the difference of two means.

    It follows from their variances and the n of each.
    """
    return combine_variances(tuple(zip(variances, (n - 1 for n in sizes), strict=True)), share)


def combine_variances(parts: Sequence[tuple[float, float]], share: float = TWO_SIDED) -> float:
    """Compute half of the t-interval of a difference whose variance is the sum of independently estimated parts.

    Each part is a variance and its degrees of freedom; those of the sum are Satterthwaite's (F. E. Satterthwaite,
    Biometrics Bulletin 2, 1946).
    """
    total = math.fsum(variance for variance, _ in parts)
    if total == 0:
        return 0.0
    degrees = total**2 / math.fsum(variance**2 / degrees for variance, degrees in parts)
    return t_quantile(degrees, share) * math.sqrt(total)


@dataclass(frozen=True)
class RunSpread:
    """How much runs of one row differ: the variance of the log of a run's time, and its degrees of freedom."""

    variance: float
    degrees: float
    with_processes: bool = False
    """Whether it is the variance of whole runs' means, which holds what their processes add."""

    @property
    def sd(self) -> float:
        """The standard deviation: 0.05 is 5 %."""
        return math.sqrt(self.variance)


def ratio_between_runs(
    numerator: Sequence[float], denominator: Sequence[float], spreads: tuple[RunSpread, RunSpread]
) -> Estimate:
    """Divide the geometric means of two runs; the interval covers the processes and how much runs differ.

    `spreads` are of the numerator's run and of the denominator's. Equal ones are one estimate, not two independent
    ones. The interval is never narrower than that of the processes alone. There is none below n = 3, which is that of
    the smaller side. docs/studies/compare-verdicts.md has the coverage.
    """
    n, difference = min(len(numerator), len(denominator)), mean_log(numerator) - mean_log(denominator)
    if n < MINIMUM_FOR_INTERVAL:
        return Estimate(math.exp(difference), None, None, n)
    first, second = spreads
    runs = [(2 * first.variance, first.degrees)] if first == second else [(s.variance, s.degrees) for s in spreads]
    logs = _logs(numerator), _logs(denominator)
    processes = [(estimate_variance(each) / len(each), len(each) - 1) for each in logs]
    added = [part for part, spread in zip(processes, spreads, strict=True) if not spread.with_processes]
    half = max(combine_variances([*runs, *added]), combine_variances(processes))
    return Estimate(difference, difference - half, difference + half, n).map(math.exp)


def ratio(numerator: Mapping[RoundKey, float], denominator: Mapping[RoundKey, float]) -> Estimate:
    """Divide numerator by denominator in the strongest way the data allow.

    Paired from three pairs up, else Welch's from three processes per side, else the pairs or the means without an
    interval.
    """
    paired = paired_ratio(numerator, denominator)
    if paired is not None and paired.n >= MINIMUM_FOR_INTERVAL:
        return paired
    unpaired = unpaired_ratio(list(numerator.values()), list(denominator.values()))
    return unpaired if paired is None or unpaired.low is not None else paired


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Estimate:
    """Compute the share of successes with Wilson's score interval (E. B. Wilson, JASA 22, 1927).

    n is 1, because it is one process's accuracy. The interval covers the sampling of the test images only, not how much
    another seed would change.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} of {trials} is not a share")
    from scipy.special import ndtri  # commands that only print do without it

    z = float(ndtri(0.5 + confidence / 2))
    share, shrink = successes / trials, 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    return Estimate(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), 1)


def estimate_accuracy(right: Sequence[int], images: int) -> Estimate:
    """Estimate the share of right images from one count per process.

    It is the mean over processes, or Wilson's share of a single one.
    """
    return wilson(right[0], images) if len(right) == 1 else mean_share([each / images for each in right])


def mean_share(shares: Sequence[float]) -> Estimate:
    """Average accuracies over processes, with the t-interval clipped to [0, 1]."""
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise ValueError("expected at least one share between 0 and 1")
    return estimate_mean(sorted(shares)).map(lambda share: max(0.0, min(1.0, share)))


@dataclass(frozen=True)
class MedianEstimate:
    """The median of `n` values, some of which may be infinite (a target never reached); None where the median is
    infinite.

    `low` and `high` are the ends of its interval, None where infinite; with fewer than `MINIMUM_FOR_MEDIAN` values
    there is no interval at all.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


MINIMUM_FOR_MEDIAN = 6
"""From this many values on, the smallest and the largest enclose the median with 95 %: they miss it with 2 x (1/2)^n,
3.1 % at 6 and 6.3 % at 5.
"""


def median_rank(n: int) -> int | None:
    """Find the largest r for which the r-th smallest and r-th largest of n values enclose the median with 95 %
    confidence.

    The values are independent; their distribution does not matter. None below 6 values. The two miss the median where
    fewer than r values are on one side: with probability 2 x P(Binomial(n, 1/2) < r), exact for a continuous
    distribution and less with ties (H. A. David and H. N. Nagaraja, Order Statistics, 2003, section 7.1).
    """
    below, found = 0, None
    for rank in range(1, n // 2 + 1):
        below += math.comb(n, rank - 1)
        if 2 * below > (1 - CONFIDENCE) * 2**n:
            break
        found = rank
    return found


def median_interval(values: Sequence[float | None]) -> MedianEstimate:
    """Compute the median and its distribution-free interval.

    A value of None is infinite, or larger than any other. The median between two values is infinite if one of them is.
    Raises ValueError if there are no values.
    """
    if not values:
        raise ValueError("no values have no median")
    ordered = sorted(math.inf if value is None else value for value in values)
    rank = median_rank(len(ordered))
    ends = (math.inf, math.inf) if rank is None else (ordered[rank - 1], ordered[-rank])
    low, high = (end if math.isfinite(end) else None for end in ends)
    value = statistics.median(ordered)
    return MedianEstimate(value if math.isfinite(value) else None, low, high, len(ordered))


def _logs(values: Sequence[float]) -> list[float]:
    if not values or not all(value > 0 and math.isfinite(value) for value in values):
        raise ValueError("expected at least one value, all of them positive and finite")
    return [math.log(value) for value in sorted(values)]


def estimate_variance(values: Sequence[float]) -> float:
    """Estimate the variance of the distribution that two or more values are drawn from."""
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def t_quantile(degrees: float, share: float = TWO_SIDED) -> float:
    """Compute a quantile of Student's t; without `share`, that of a two-sided 95 % interval."""
    from scipy.special import stdtrit  # commands that only print do without it

    return float(stdtrit(degrees, share))


def compute_half_width(values: Sequence[float], share: float = TWO_SIDED) -> float:
    """Compute half of the t-interval of the mean of two or more values."""
    return t_quantile(len(values) - 1, share) * math.sqrt(estimate_variance(values) / len(values))


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Compute the arithmetic mean of one or more values, with its t-interval."""
    mean, n = statistics.fmean(values), len(values)
    if n < MINIMUM_FOR_INTERVAL:
        return Estimate(mean, None, None, n)
    half = compute_half_width(values)
    return Estimate(mean, mean - half, mean + half, n)


def two_stage_mean(values: Sequence[float], first: int) -> Estimate:
    """Compute the mean of all values, with Stein's interval: the variance of the first ones, and its degrees of freedom.

    It covers the mean with 95 % although that variance decided how many values followed (C. Stein, 1945).
    """
    mean, n = statistics.fmean(values), len(values)
    half = t_quantile(first - 1) * math.sqrt(estimate_variance(values[:first]) / n)
    return Estimate(mean, mean - half, mean + half, n)


LEAST_RUNS = 8
"""Below this many runs nothing is predicted. Half the interval is 3.56 standard deviations with 4 runs, 2.51 with 8,
2.20 with 16.
"""
TAIL = 0.025
"""The share of next runs expected above the interval, and the same share below it."""
ROUNDING = 1e-12
"""A value on an edge counts as inside: exp and log round in the 16th digit."""


@dataclass(frozen=True)
class Prediction:
    """The range of the next run's value, in the unit of the values; `processes` is how many of each run went into it."""

    value: float
    low: float
    high: float
    runs: int
    processes: int


def predict_mean(values: Sequence[float], tail: float = TAIL) -> tuple[float, float, float]:
    """Compute the mean of the values and the ends of Student's t prediction interval for one more value.

    The next value is in it with 95 % confidence where values are independent and normal, 2.5 % beyond each end (each
    end alone is a one-sided 97.5 % bound): mean +- t(1 - tail; n - 1) * s * sqrt(1 + 1 / n), with s their standard
    deviation (G. J. Hahn and W. Q. Meeker, Statistical Intervals, 1991, chapter 4). Raises ValueError below two values.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"{n} values have no spread")
    mean = statistics.fmean(values)
    half = t_quantile(n - 1, 1 - tail) * math.sqrt(estimate_variance(values)) * math.sqrt(1 + 1 / n)
    return mean, mean - half, mean + half


def predict_next_run(runs: Sequence[Sequence[float]], processes: int | None = None) -> Prediction | None:
    """Predict the range of the next run's geometric mean over `processes` processes.

    None with fewer than 8 runs. Each run is the positive values of its processes in the order of their rounds. Their
    logs are used, because errors of times are ratios. n counts runs: processes of one run share the hour and the
    machine's state, and steps of one process share far more. A mean of three processes spreads less than one process,
    so every run contributes the same number: as many as the run with the fewest, or the next one, has.
    """
    known = [run for run in runs if run]
    if len(known) < LEAST_RUNS:
        return None
    fewest = min(*(len(run) for run in known), processes or len(known[0]))
    mean, low, high = predict_mean([mean_log(run[:fewest]) for run in known])
    return Prediction(math.exp(mean), math.exp(low), math.exp(high), len(known), fewest)


def mean_log(values: Sequence[float]) -> float:
    """Compute the log of the geometric mean of one or more positive values."""
    return statistics.fmean(map(math.log, values))


def compare_with_prediction(value: float, prediction: Prediction) -> int:
    """Return -1 below the range, 1 above it and 0 inside; a value on the edge is inside."""
    return (value > prediction.high * (1 + ROUNDING)) - (value < prediction.low * (1 - ROUNDING))
