"""The tests that the bounds of `regression.signed_rank` invert: W- and W+, their p-values, and the interval of both bounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cnnbench.regression.signed_rank import IndexArray, confidence_bounds, tail_probability, walsh_averages


def w_minus(d: ArrayLike, shift: float = 0.0) -> IndexArray:
    """W- of d - shift along the last axis: small where d lies above `shift`. Ties and zeros make it larger."""
    return np.asarray(np.count_nonzero(walsh_averages(d) <= shift, axis=-1))


def w_plus(d: ArrayLike, shift: float = 0.0) -> IndexArray:
    """W+ of d - shift along the last axis: small where d lies below `shift`. Ties and zeros make it larger."""
    return np.asarray(np.count_nonzero(walsh_averages(d) >= shift, axis=-1))


def p_above(d: ArrayLike, shift: float = 0.0) -> float:
    """One-sided p-value, from one series of differences, for the claim that they lie above `shift`."""
    return tail_probability(np.shape(d)[-1], int(w_minus(d, shift)))


def p_below(d: ArrayLike, shift: float = 0.0) -> float:
    """One-sided p-value, from one series of differences, for the claim that they lie below `shift`."""
    return tail_probability(np.shape(d)[-1], int(w_plus(d, shift)))


def confidence_interval(d: ArrayLike, alpha: float = 0.05) -> tuple[float, float] | None:
    """The two-sided (1 - alpha) interval, alpha / 2 on either side; at 0.05 its upper end is the 97.5 % upper bound."""
    low, high = confidence_bounds(d, alpha / 2)
    return None if low is None or high is None else (low, high)
