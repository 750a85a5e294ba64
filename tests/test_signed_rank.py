"""Exact signed-rank tests, against published tables, scipy and enumeration of every sign vector."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from signed_rank_values import confidence_interval, p_above, p_below, w_minus, w_plus

from cnnbench.regression import signed_rank

differences = st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=1, max_size=12)
tied = st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=9)


def distinct(n, seed, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1.0, n)


def worst_case_w_minus(d):
    """W- by ranks, zeros called negative and ties broken for the negatives: the definition, without Walsh averages."""
    order = sorted(d, key=lambda value: (abs(value), value <= 0))
    return sum(rank for rank, value in enumerate(order, start=1) if value <= 0)


@pytest.mark.parametrize(
    ("n", "alpha", "w"),
    [
        *((6, 0.05, 2), (6, 0.025, 0), (6, 0.01, -1)),
        *((8, 0.05, 5), (8, 0.025, 3), (8, 0.01, 1), (8, 0.005, 0), (8, 0.001, -1)),
        *((10, 0.05, 10), (10, 0.025, 8), (10, 0.01, 5), (10, 0.005, 3)),
        *((12, 0.05, 17), (12, 0.025, 13), (12, 0.01, 9), (12, 0.005, 7), (12, 0.001, 2)),
        *((16, 0.05, 35), (16, 0.025, 29), (16, 0.01, 23), (16, 0.005, 19), (16, 0.001, 11)),
        *((20, 0.05, 60), (20, 0.025, 52), (20, 0.01, 43), (20, 0.005, 37), (30, 0.025, 137), (30, 0.005, 109)),
    ],
)
def test_critical_values_are_the_published_ones(n, alpha, w):
    """Wilcoxon and Wilcox, Some rapid approximate statistical procedures (1964), table 2; at 0.001 and -1: 2^n counted."""
    assert signed_rank.critical_value(n, alpha) == w


@pytest.mark.parametrize("n", range(1, 11))
def test_the_null_distribution_is_every_sign_vector_counted(n):
    sums = [sum(rank for rank, minus in enumerate(signs, 1) if minus) for signs in itertools.product((0, 1), repeat=n)]
    assert signed_rank.count_sign_vectors(n) == tuple(np.bincount(sums))


@pytest.mark.parametrize("n", [1, 5, 16, 31, 32])
def test_all_sign_vectors_are_counted_once_and_symmetrically(n):
    counts = signed_rank.count_sign_vectors(n)
    assert sum(counts) == 2**n
    assert counts == counts[::-1]
    assert signed_rank.tail_probability(n, 0) == 2.0**-n
    assert signed_rank.tail_probability(n, len(counts) + 5) == 1.0
    assert signed_rank.tail_probability(n, -1) == 0.0


@pytest.mark.parametrize("n", [3, 6, 8, 12, 16, 25, 32])
@pytest.mark.parametrize("seed", range(4))
def test_p_values_agree_with_scipy(n, seed):
    d = distinct(n, seed, shift=0.3)
    for shift in (0.0, 0.4):
        above = stats.wilcoxon(d - shift, alternative="greater", method="exact").pvalue
        below = stats.wilcoxon(d - shift, alternative="less", method="exact").pvalue
        assert p_above(d, shift) == pytest.approx(above, rel=1e-12)
        assert p_below(d, shift) == pytest.approx(below, rel=1e-12)


@given(tied)
def test_w_is_the_worst_over_all_ways_to_break_ties(d):
    assert w_minus(d) == worst_case_w_minus(d)
    assert w_plus(d) == worst_case_w_minus([-value for value in d])


@given(tied)
def test_ties_and_zeros_never_make_a_claim_easier(d):
    """Given |d|, at most the share alpha of all sign vectors is called above zero: by enumeration."""
    flips = np.array(list(itertools.product((-1.0, 1.0), repeat=len(d)))) * np.abs(d)
    w = w_minus(flips)
    for alpha in (0.05, 0.025, 0.01):
        assert np.mean(w <= signed_rank.critical_value(len(d), alpha)) <= alpha


@given(differences, st.floats(-1, 1).map(lambda x: round(x, 6)), st.sampled_from([0.2, 0.05, 0.025, 0.01]))
def test_the_bound_is_above_t_exactly_where_the_test_says_so(d, t, alpha):
    low, high = signed_rank.confidence_bounds(d, alpha)
    assert (low is not None and low > t) == (p_above(d, t) <= alpha)
    assert (high is not None and high < t) == (p_below(d, t) <= alpha)


@given(differences)
def test_swapping_the_arms_negates_estimate_and_bounds(d):
    swapped = [-value for value in d]
    assert signed_rank.hodges_lehmann(swapped) == -signed_rank.hodges_lehmann(d)
    assert w_minus(swapped) == w_plus(d)
    pair = confidence_interval(d)
    if pair is not None:
        assert confidence_interval(swapped) == (-pair[1], -pair[0])


@given(differences)
def test_the_estimate_lies_in_its_interval(d):
    pair = confidence_interval(d, 0.2)
    if pair is not None:
        assert pair[0] <= signed_rank.hodges_lehmann(d) <= pair[1]


@given(differences, st.randoms())
def test_the_order_of_the_blocks_does_not_matter(d, rng):
    shuffled = list(d)
    rng.shuffle(shuffled)
    assert confidence_interval(shuffled) == confidence_interval(d)
    assert w_minus(shuffled, 0.1) == w_minus(d, 0.1)


def test_the_bounds_of_six_are_its_extremes():
    """w = 0 at 0.025: the smallest and the largest Walsh average are the smallest and the largest difference."""
    d = distinct(6, 3)
    assert confidence_interval(d) == (d.min(), d.max())


def test_a_worked_example():
    """Hollander, Wolfe and Chicken, Nonparametric Statistical Methods (3rd ed.), example 3.1: T+ = 5, p = .020, -0.46.

    Hamilton depression scale factors of nine patients before and after a tranquillizer.
    """
    before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    d = np.subtract(after, before)
    assert w_plus(d) == 5
    assert p_below(d) == pytest.approx(0.020, abs=5e-4)
    assert signed_rank.hodges_lehmann(d) == pytest.approx(-0.46, abs=5e-3)


def test_many_series_at_once_are_each_alone():
    d = distinct(5 * 7 * 8, 4).reshape(5, 7, 8)
    together = w_minus(d, 0.2)
    assert together.shape == (5, 7)
    assert all(together[i, j] == w_minus(d[i, j], 0.2) for i in range(5) for j in range(7))


def test_the_interval_covers_as_often_as_it_says():
    """n = 8 at 0.05: exactly 1 - 2 x 5/256 for symmetric d, here with spreads that differ in every block."""
    rng = np.random.default_rng(5)
    d = rng.normal(0.0, 1.0, (20_000, 8)) * rng.lognormal(0.0, 1.0, (20_000, 8))
    limit = signed_rank.critical_value(8, 0.025)
    covered = np.mean((w_minus(d) > limit) & (w_plus(d) > limit))
    expected = 1 - 2 * signed_rank.tail_probability(8, 3)
    assert signed_rank.tail_probability(8, 3) == 5 / 256
    assert abs(covered - expected) < 3.4 * math.sqrt(expected * (1 - expected) / len(d))


@pytest.mark.parametrize("n", [0, 33])
def test_more_or_fewer_than_can_be_counted_are_refused(n):
    with pytest.raises(ValueError, match="exact for 1 to 32"):
        signed_rank.count_sign_vectors(n)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1])
def test_an_alpha_that_is_no_probability_is_refused(alpha):
    with pytest.raises(ValueError, match="not between"):
        signed_rank.critical_value(8, alpha)
