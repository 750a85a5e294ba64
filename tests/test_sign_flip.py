"""The sign-flip test on the mean: against brute force, against scipy, and its joint level with the signed-rank test."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cnnbench.regression.sign_flip import count_low_subsets, critical_count, is_mean_above, joint_level, mean_bounds
from cnnbench.regression.signed_rank import tail_probability, walsh_averages

series = st.lists(st.floats(-0.3, 0.3).map(lambda x: round(x, 4)), min_size=5, max_size=9)


@given(series, st.sampled_from([0.0, 0.05]))
def test_the_count_is_that_of_all_subsets(d, shift):
    sums = (
        sum(round(1e4 * (d[i] - shift)) for i in chosen)
        for size in range(len(d) + 1)
        for chosen in itertools.combinations(range(len(d)), size)
    )
    assert count_low_subsets(d, shift) == sum(each <= 0 for each in sums)


def test_the_p_value_is_scipy_s_permutation_test():
    """Sign flips of one sample, exact: `permutation_type="samples"`."""
    d = np.random.default_rng(1).normal(0.02, 0.03, (4, 9))
    for one in d:
        exact = stats.permutation_test(
            (one,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="greater"
        )
        assert count_low_subsets(one) / 2**9 == pytest.approx(exact.pvalue)


def test_many_series_at_once_are_tested_as_each_alone_by_its_count():
    d = np.random.default_rng(2).normal(0.03, 0.05, (300, 2, 12))
    for alpha in (0.0001, 0.0018, 0.025, 0.4):
        limit = critical_count(12, alpha)
        assert (is_mean_above(d, 0.01, alpha) == ((count_low_subsets(d, 0.01) <= limit) & (limit > 0))).all()


@given(series, st.integers(0, 8), st.floats(0, 0.2))
def test_no_difference_that_rises_raises_the_p_value(d, place, more):
    """So the test about a tolerance errs, for unchanged code, no more often than the exact one about 0."""
    higher = list(d)
    higher[place % len(d)] += more
    assert count_low_subsets(higher) <= count_low_subsets(d)


@given(series)
def test_the_bounds_are_those_of_the_test(d):
    """Just inside the bound the claim fails, just outside it holds, as for every test that is inverted."""
    alpha = 0.1
    low, high = mean_bounds(d, alpha)
    assert low <= np.mean(d) + 1e-12
    assert high >= np.mean(d) - 1e-12
    values = np.array(d)
    assert is_mean_above(values, low - 1e-6, alpha)
    assert not is_mean_above(values, low + 1e-6, alpha)
    assert is_mean_above(-values, -high - 1e-6, alpha)
    assert not is_mean_above(-values, -high + 1e-6, alpha)


def test_too_few_differences_have_no_bounds():
    assert mean_bounds([0.1, 0.2], 0.025) == (None, None)


@pytest.mark.parametrize(("n", "w", "subsets"), [(8, 2, 4), (10, 3, 6), (10, 4, 3)])
def test_the_joint_level_is_the_largest_share_of_sign_vectors_that_reject(n, w, subsets):
    """All 2^n sign vectors of sizes from nearly equal to far apart: never more, and as many for some."""
    rng = np.random.default_rng(4)
    signs = 1 - 2 * ((np.arange(2**n)[:, np.newaxis] >> np.arange(n)) & 1)
    most = 0
    for sizes in (
        np.ones(n),
        np.arange(1.0, n + 1),
        *(1 + 0.01 * rng.random((6, n))),
        *np.exp(3 * rng.standard_normal((6, n))),
    ):
        d = signs * sizes
        rejects = (np.count_nonzero(walsh_averages(d) <= 0, axis=-1) <= w) | (count_low_subsets(d) <= subsets)
        most = max(most, int(np.count_nonzero(rejects)))
    assert most == joint_level(n, w, subsets) * 2**n


def test_without_one_test_the_joint_level_is_the_other_s():
    assert joint_level(12, 5, 0) == tail_probability(12, 5)
    assert joint_level(12, -1, 7) == 7 / 4096


def test_up_to_eight_differences_the_tests_reject_together():
    """At 2^-8 both need every difference above 0."""
    assert joint_level(8, 0, 1) == 1 / 256
