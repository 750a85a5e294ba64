"""The test of non-inferiority: worked examples, other implementations, and how often it errs, by simulation."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct, t, ttest_ind, ttest_rel

from cnnbench.analysis.seed_accuracy import (
    AccuracyDifference,
    classify_difference,
    estimate_difference,
    seeds_to_decide,
)

SIMULATED = 4000
counts = st.lists(st.integers(9000, 10_000), min_size=2, max_size=12)


def by_seed(values, first=0):
    return {first + n: value for n, value in enumerate(values)}


def test_a_paired_example_worked_by_hand():
    """Differences -3, -1, +1, +3, 0: mean 0, variance 20/4 = 5, standard error 1; t(0.95, 4) = 2.131847 (any t-table)."""
    found = estimate_difference(by_seed([97, 99, 101, 103, 100]), by_seed([100] * 5))
    assert (found.value, found.paired) == (0.0, True)
    assert (found.low, found.high) == pytest.approx((-2.131847, 2.131847), abs=1e-6)
    assert classify_difference(found, 2.2) == "learns as well"
    assert classify_difference(found, 2.1) == "undecided"


def test_an_unpaired_example_worked_by_hand():
    """Variances 1 and 4 of three each: standard error sqrt(5/3); Welch's degrees (5/3)^2 / ((1/3)^2/2 + (4/3)^2/2) = 50/17."""
    found = estimate_difference(by_seed([9, 10, 11]), by_seed([12, 14, 16], first=3))
    half = float(t.ppf(0.95, 50 / 17)) * math.sqrt(5 / 3)
    assert (found.value, found.paired) == (-4.0, False)
    assert (found.low, found.high) == pytest.approx((-4 - half, -4 + half))
    assert classify_difference(found, 0.5) == "learns worse"


@pytest.mark.parametrize("shared", [True, False])
def test_the_bounds_are_those_of_scipy(shared):
    """Two one-sided 95 % bounds are a two-sided 90 % interval."""
    mode, plain = [9913.0, 9911.0, 9909.0, 9919.0, 9915.0], [9910.0, 9915.0, 9908.0, 9921.0, 9912.0]
    oracle = ttest_rel(mode, plain) if shared else ttest_ind(mode, plain, equal_var=False)
    interval = oracle.confidence_interval(0.90)
    found = estimate_difference(by_seed(mode), by_seed(plain, first=0 if shared else 50))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@given(counts, counts)
def test_swapping_the_sides_turns_the_difference_round(first, second):
    forward, backward = (
        estimate_difference(by_seed(first), by_seed(second)),
        estimate_difference(by_seed(second), by_seed(first)),
    )
    assert forward.value == pytest.approx(-backward.value, abs=1e-9)
    assert forward.low == pytest.approx(-backward.high, abs=1e-6)
    assert forward.low <= forward.value <= forward.high


@given(counts, st.floats(0.1, 100))
def test_a_mode_that_computes_the_same_learns_as_well(right, margin):
    """Equal on every seed: no spread, no doubt."""
    assert classify_difference(estimate_difference(by_seed(right), by_seed(right)), margin) == "learns as well"


def test_what_is_worse_by_exactly_the_margin_on_every_seed_is_undecided():
    """Ten images of 10,000 are 0.1 percentage points: no rounding tips the scale."""
    found = estimate_difference(by_seed([9920, 9921, 9915]), by_seed([9930, 9931, 9925])).as_shares(10_000)
    assert classify_difference(found, 0.001) == "undecided"
    assert classify_difference(found, 0.0011) == "learns as well"
    assert classify_difference(found, 0.0009) == "learns worse"


def test_one_seed_has_no_spread():
    with pytest.raises(ValueError, match="2 seeds per side"):
        estimate_difference({1: 5.0}, by_seed([1.0, 2.0]))


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("seeds", [5, 10])
def test_a_mode_worse_by_the_margin_passes_in_at_most_5_percent(seeds, paired):
    """The error that matters, at its worst place; images right are whole numbers, as in records. 3.3 standard errors slack."""
    rng = random.Random(seeds + paired)
    margin, spread = 10.0, 6.0
    passed = 0
    for _ in range(SIMULATED):
        plain = by_seed([round(rng.gauss(9920, spread)) for _ in range(seeds)])
        mode = by_seed([round(rng.gauss(9920 - margin, spread)) for _ in range(seeds)], first=0 if paired else 100)
        passed += classify_difference(estimate_difference(mode, plain), margin) == "learns as well"
    assert passed / SIMULATED <= 0.05 + 3.3 * math.sqrt(0.05 * 0.95 / SIMULATED)
    assert passed / SIMULATED >= 0.03, "a test that never passes has no error and no use"


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    ("true_difference", "spread", "expected"),
    [(0.0, 7.0, "learns as well"), (-4.0, 4.0, "learns as well"), (-22.0, 8.0, "learns worse")],
)
def test_the_seeds_said_decide_with_the_chance_said(true_difference, spread, expected, paired):
    """80 %, were difference and spread what they seemed: simulated with as many seeds a side as it asked for."""
    margin, variance = 10.0, 2 * spread**2
    seemed = AccuracyDifference(true_difference, -math.inf, math.inf, paired, variance, 1.0 if paired else 2.0)
    seeds = seeds_to_decide(seemed, margin)
    assert seeds is not None
    rng = random.Random(f"{true_difference} {spread} {paired}")
    right = 0
    for _ in range(SIMULATED):
        plain = by_seed([rng.gauss(9920, spread) for _ in range(seeds)])
        mode = by_seed([rng.gauss(9920 + true_difference, spread) for _ in range(seeds)], first=0 if paired else 5000)
        right += classify_difference(estimate_difference(mode, plain), margin) == expected
    noise = 3.3 * math.sqrt(0.8 * 0.2 / SIMULATED)
    assert right / SIMULATED >= 0.8 - noise
    fewer = (seeds - 2) * (1 if paired else 2)
    error = math.sqrt(variance / (seeds - 1))
    assert _power(fewer, abs(true_difference + margin) / error) < 0.808, "one seed fewer would not do"


def _power(degrees: int, distance_in_errors: float) -> float:
    """Chance that a t-statistic of that noncentrality exceeds the 95 % quantile."""
    return float(1 - nct.cdf(t.ppf(0.95, degrees), degrees, distance_in_errors))


@pytest.mark.parametrize("freedom", [1, 2])
@pytest.mark.parametrize("seeds", [3, 5, 10, 40])
def test_the_approximation_of_the_power_is_on_the_safe_side(seeds, freedom):
    """(t(0.95) + t(0.80)) standard errors from the margin: 80.0 to 80.7 % by the noncentral t."""
    degrees = (seeds - 1) * freedom
    assert 0.8 <= _power(degrees, float(t.ppf(0.95, degrees) + t.ppf(0.8, degrees))) <= 0.8075


def test_at_the_margin_no_number_of_seeds_decides():
    assert seeds_to_decide(AccuracyDifference(-10.0, -15.0, -5.0, True, 50.0, 1.0), 10.0) is None


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.030), (5, 0.051), (10, 0.082), (20, 0.122), (30, 0.151)])
def test_so_many_paired_seeds_find_equal_learning_up_to_the_spread_that_is_documented(seeds, spread):
    """Percentage points a seed, at a margin of 0.1: the table of docs/learning.md."""
    nearly = AccuracyDifference(0.0, -1.0, 1.0, True, 2 * spread**2, 1.0)
    above = AccuracyDifference(0.0, -1.0, 1.0, True, 2 * (spread + 0.001) ** 2, 1.0)
    assert seeds_to_decide(nearly, 0.1) == seeds
    assert (seeds_to_decide(above, 0.1) or 0) > seeds
    documented = (Path(__file__).parents[1] / "docs" / "learning.md").read_text()
    assert seeds == 3 or f"| {seeds} | {spread:.3f} pp |" in documented
