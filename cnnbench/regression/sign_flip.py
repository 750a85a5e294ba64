"""Exact one-sample sign-flip tests on the mean (R. A. Fisher, The Design of Experiments, 1935) for a handful of paired
differences, and their joint level with the signed-rank test.

The p-value of the claim "the mean is above t" is the share of the 2^n subsets of the differences, the empty one too,
whose sum of d - t is at most 0: flipping the signs of exactly these leaves a mean at least as high. The bounds that
invert the test are means of subsets (J. A. Hartigan, J. Am. Stat. Assoc. 64, 1969). Ties count against the claim.

If any difference rises, no sum falls, so the p-value only falls. Therefore the test about a tolerance above 0 errs no
more often than the test about 0, which is exact for unchanged code. For changed code it assumes that d is symmetric
about its mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from cnnbench.regression.signed_rank import BoolArray, Float64Array, IndexArray

ROUNDING = 1e-12
"""A sum of log ratios so close to 0 counts as 0."""
_SERIES_AT_ONCE = 256
"""2^16 comparisons each: 16 MB."""


def count_low_subsets(d: ArrayLike, shift: float = 0.0) -> IndexArray:
    """Count the subsets along the last axis whose sum of d - shift is at most 0; 2^-n of that is the p-value."""
    values = np.asarray(d, dtype=np.float64) - shift
    blocks = values.shape[-1]
    rows = values.reshape(-1, blocks)
    counts = np.empty(len(rows), dtype=np.intp)
    for begin in range(0, len(rows), _SERIES_AT_ONCE):
        chosen = slice(begin, begin + _SERIES_AT_ONCE)
        first, second = _sum_subsets(rows[chosen, : blocks // 2]), _sum_subsets(rows[chosen, blocks // 2 :])
        low = first[:, :, np.newaxis] <= ROUNDING - second[:, np.newaxis, :]
        counts[chosen] = np.count_nonzero(low, axis=(1, 2))
    return counts.reshape(values.shape[:-1])


def is_mean_above(d: Float64Array, shift: float, alpha: float) -> BoolArray:
    """Test at `alpha` whether the mean of each series is above `shift`."""
    values, limit = d - shift, critical_count(d.shape[-1], alpha)
    below = np.count_nonzero(values <= ROUNDING, axis=-1)
    above = np.asarray((below == 0) & (limit > 0))
    # every subset of differences that are not above 0 counts, and one of two complements if the sum is not above 0
    open_ones = np.asarray((below > 0) & (2.0**below <= limit) & (values.sum(axis=-1) > 0))
    above[open_ones] = count_low_subsets(values[open_ones]) <= limit
    return above


def critical_count(n: int, alpha: float) -> int:
    """Find the largest number of the 2^n subsets that is significant at `alpha`; 0 if not even one is."""
    return int(alpha * (1 << n))


def mean_bounds(d: ArrayLike, alpha: float) -> tuple[float, float] | tuple[None, None]:
    """Compute the one-sided (1 - alpha) lower and upper confidence bound of one series' mean; None for too few."""
    values = np.asarray(d, dtype=np.float64)
    limit = critical_count(len(values), alpha)
    if limit == 0:
        return None, None
    means = _sum_subsets(values)[1:] / _count_members(len(values))
    ordered = np.partition(means, (limit - 1, len(means) - limit))
    return float(ordered[limit - 1]), float(ordered[len(means) - limit])


@cache
def joint_level(n: int, w: int, subsets: int) -> float:
    """Bound the probability, for unchanged code, that W- is at most w or at most `subsets` subsets have a low sum.

    Given the sizes of the differences, each test rejects on a number of the 2^n sign vectors: as many as there are sets
    of ranks with a sum of at most w, and `subsets`. A set of ranks with a sum of at most w is among the latter for sure,
    so that it must not be counted twice, if no more than `subsets` sets may have as small a sum, whatever the sizes.
    """
    low = list(_sets_of_ranks(n, w))
    certain = sum((1 << n) - _count_dominating(n, ranks) + 1 <= subsets for ranks in low)
    return (len(low) + subsets - certain) / (1 << n)


@cache
def _count_members(n: int) -> Float64Array:
    """Count the members of every subset but the empty one, in the order of `_sum_subsets`."""
    return _sum_subsets(np.ones(n))[1:]


def _sum_subsets(values: Float64Array) -> Float64Array:
    """Sum every subset along the last axis, the empty one first."""
    sums = np.zeros((*values.shape[:-1], 1))
    for place in range(values.shape[-1]):
        sums = np.concatenate([sums, sums + values[..., place, np.newaxis]], axis=-1)
    return sums


def _sets_of_ranks(largest: int, total: int) -> Iterator[frozenset[int]]:
    """Yield the sets of ranks up to `largest` with a sum of at most `total`."""
    if total >= 0:
        yield frozenset()
    for rank in range(1, min(largest, total) + 1):
        for rest in _sets_of_ranks(rank - 1, total - rank):
            yield rest | {rank}


def _count_dominating(n: int, ranks: frozenset[int]) -> int:
    """Count the sets whose sum is at least that of `ranks` for any increasing sizes, `ranks` itself included.

    They have, from each rank up, at least as many members.
    """
    by_members, needed = {0: 1}, 0
    for rank in range(n, 0, -1):
        needed += rank in ranks
        extended: dict[int, int] = {}
        for members, ways in by_members.items():
            for more in (members, members + 1):
                if more >= needed:
                    extended[more] = extended.get(more, 0) + ways
        by_members = extended
    return sum(by_members.values())
