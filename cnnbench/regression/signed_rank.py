"""Exact one-sample signed-rank tests (F. Wilcoxon, Biometrics Bulletin 1, 1945) for a handful of paired differences.

An array of differences d goes in, with the blocks along its last axis; critical values, the Hodges-Lehmann estimate and
exact confidence bounds come out. All of them are based on the Walsh averages (d_i + d_j) / 2, i <= j (J. W. Tukey,
1949; J. L. Hodges and E. L. Lehmann, Ann. Math. Statist. 34, 1963): W- about t is the number of them that are at most
t, so a test and the bound that inverts it never disagree.

Ties and zeros. They are always broken in the way that is worst for the claim: to claim "above t", a difference equal to
t counts as below it, and of two differences equally far from t on opposite sides the lower one gets the higher rank. So
p-values are never too small, and a run against itself (all d = 0) claims nothing. Without ties this is the textbook W.

The only assumption is that, under the hypothesis, each d is as likely to be x above t as x below it, independently.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64Array = NDArray[np.float64]
IndexArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]
MAX_DIFFERENCES = 32
"""The most blocks possible: 2^32 sign vectors are counted exactly, and the plan stops at 16."""


@cache
def count_sign_vectors(n: int) -> tuple[int, ...]:
    """Count, among the 2^n sign vectors of n ranks, those whose negative ranks sum to W = 0, 1, ..., n(n+1)/2.

    The product of (1 + x^r) for r = 1..n, multiplied out one rank at a time. Raises ValueError unless 1 <= n <= 32.
    """
    if not 1 <= n <= MAX_DIFFERENCES:
        raise ValueError(f"{n} differences: exact for 1 to {MAX_DIFFERENCES}")
    counts = [1]
    for rank in range(1, n + 1):
        shifted = [0] * rank + counts
        counts = [a + b for a, b in zip(counts + [0] * rank, shifted, strict=True)]
    return tuple(counts)


def tail_probability(n: int, w: int) -> float:
    """Compute P(W <= w) under the hypothesis: the one-sided p-value of W- = w (to claim "above") or of W+ = w
    ("below").
    """
    return sum(count_sign_vectors(n)[: max(w + 1, 0)]) / (1 << n)


def critical_value(n: int, alpha: float) -> int:
    """Find the largest w with P(W <= w) <= alpha.

    It is -1 if even W = 0, with probability 2^-n, is likelier than that.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha} is not between 0 and 1")
    return sum(count <= alpha * (1 << n) for count in accumulate(count_sign_vectors(n))) - 1


def walsh_averages(d: ArrayLike) -> Float64Array:
    """Compute the n(n+1)/2 averages of two differences, each with itself too, along the last axis.

    They are unordered.
    """
    values = np.asarray(d, dtype=np.float64)
    first, second = np.triu_indices(values.shape[-1])
    return np.asarray((values[..., first] + values[..., second]) / 2)


def hodges_lehmann(d: ArrayLike) -> float:
    """Compute the median of the Walsh averages: the shift, in the unit of d, that the signed-rank test finds most
    credible.
    """
    return float(np.median(walsh_averages(d)))


def confidence_bounds(d: ArrayLike, alpha: float) -> tuple[float, float] | tuple[None, None]:
    """Compute the one-sided (1 - alpha) lower and upper confidence bound.

    They are the (w+1)-th smallest and the (w+1)-th largest Walsh average, with w the critical value. The test at
    `alpha` claims "above t" exactly if the lower bound is above t. None for too few differences.
    """
    w = critical_value(np.shape(d)[-1], alpha)
    averages = np.sort(walsh_averages(d))
    return (None, None) if w < 0 else (float(averages[w]), float(averages[-1 - w]))
