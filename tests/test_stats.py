"""Intervals between processes, against closed forms, published tables and simulation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.analysis import stats

positive = st.floats(1e-6, 1e6)
samples = st.lists(positive, min_size=3, max_size=12)


def by_round(values):
    return {("run", index): value for index, value in enumerate(values)}


def test_the_interval_of_three_values_is_the_textbook_one():
    """t(0.975, 2) = 4.302653 (any t-table); logs 0, 1, 2 have mean 1 and standard deviation 1."""
    estimate = stats.geometric([1.0, math.e, math.e**2])
    half = 4.302653 / math.sqrt(3)
    assert estimate.value == pytest.approx(math.e)
    assert estimate.low == pytest.approx(math.exp(1 - half), rel=1e-6)
    assert estimate.high == pytest.approx(math.exp(1 + half), rel=1e-6)
    assert estimate.n == 3


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_processes_have_no_bar(n):
    values = [1.0, 2.0][:n]
    for estimate in (
        stats.geometric(values),
        stats.mean_share([0.5] * n),
        stats.ratio(by_round(values), by_round(values)),
        stats.unpaired_ratio(values, [1.0, 2.0, 3.0]),
    ):
        assert (estimate.low, estimate.high, estimate.n) == (None, None, n)


@given(samples)
def test_the_geometric_mean_lies_in_its_interval_and_between_the_values(values):
    estimate = stats.geometric(values)
    assert min(values) * (1 - 1e-9) <= estimate.value <= max(values) * (1 + 1e-9)
    assert estimate.low <= estimate.value <= estimate.high


@given(samples, st.randoms())
def test_the_order_of_the_processes_does_not_matter(values, rng):
    shuffled = list(values)
    rng.shuffle(shuffled)
    assert stats.geometric(shuffled) == stats.geometric(values)
    assert stats.unpaired_ratio(shuffled, values) == stats.unpaired_ratio(values, values)


@given(samples, positive)
def test_a_change_of_unit_only_scales(values, factor):
    scaled, plain = stats.geometric([value * factor for value in values]), stats.geometric(values)
    for got, want in zip((scaled.value, scaled.low, scaled.high), (plain.value, plain.low, plain.high), strict=True):
        assert got == pytest.approx(want * factor, rel=1e-6)


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=3, max_size=9))
def test_a_over_b_inverts_b_over_a(pairs):
    """Paired and unpaired, the bounds change places."""
    a, b = by_round([pair[0] for pair in pairs]), by_round([pair[1] for pair in pairs])
    for forward, backward in (
        (stats.paired_ratio(a, b), stats.paired_ratio(b, a)),
        (
            stats.unpaired_ratio(list(a.values()), list(b.values())),
            stats.unpaired_ratio(list(b.values()), list(a.values())),
        ),
    ):
        assert forward.value == pytest.approx(1 / backward.value)
        assert math.log(forward.low) == pytest.approx(-math.log(backward.high), abs=1e-6)
        assert math.log(forward.high) == pytest.approx(-math.log(backward.low), abs=1e-6)


@given(samples)
def test_a_run_against_itself_is_one_and_its_interval_holds_one(values):
    paired = stats.ratio(by_round(values), by_round(values))
    unpaired = stats.unpaired_ratio(values, values)
    assert paired.value == paired.low == paired.high == 1.0
    assert unpaired.value == 1.0
    assert unpaired.low <= 1.0 <= unpaired.high


def test_pairing_takes_out_what_both_felt():
    """Rounds that are slow for both make the paired interval no wider, the unpaired one much."""
    drift = [1.0, 2.0, 4.0, 3.0]
    a, b = by_round([2 * d for d in drift]), by_round(drift)
    assert stats.ratio(a, b).low == pytest.approx(2.0)
    assert stats.unpaired_ratio(list(a.values()), list(b.values())).low < 1.0


def test_without_common_rounds_the_ratio_is_welchs():
    a = {("x", r): v for r, v in enumerate([1.0, 1.1, 0.9])}
    b = {("y", r): v for r, v in enumerate([2.0, 2.1, 1.9, 2.0])}
    assert stats.paired_ratio(a, b) is None
    assert stats.ratio(a, b) == stats.unpaired_ratio(list(a.values()), list(b.values()))
    assert stats.ratio(a, b).n == 3


def test_welch_agrees_with_scipy():
    from scipy.stats import ttest_ind

    a, b = [1.0, 1.2, 0.9, 1.1], [2.0, 2.5, 1.5]
    oracle = ttest_ind([math.log(v) for v in a], [math.log(v) for v in b], equal_var=False).confidence_interval(0.95)
    ours = stats.unpaired_ratio(a, b)
    assert (math.log(ours.low), math.log(ours.high)) == pytest.approx((oracle.low, oracle.high))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """95 % of 2,000 simulated triples of log-normal times hold the true value; 3.4 standard errors of slack."""
    rng = random.Random(1)
    hits = 0
    for _ in range(2000):
        estimate = stats.geometric([rng.lognormvariate(0.0, 0.1) for _ in range(3)])
        hits += estimate.low <= 1.0 <= estimate.high
    assert abs(hits / 2000 - 0.95) < 3.4 * math.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0)],
)
def test_wilson_agrees_with_published_values(successes, trials, low, high):
    """81 of 263 is the example of Newcombe, Statistics in Medicine 17 (1998), table I; 0 of 20 is 1.96^2 / (20 + 1.96^2)."""
    estimate = stats.wilson(successes, trials)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)
    assert estimate.value == successes / trials


@given(st.lists(st.floats(0, 1), min_size=3, max_size=10))
def test_a_mean_accuracy_never_leaves_zero_to_one(shares):
    estimate = stats.mean_share(shares)
    assert 0 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1


@pytest.mark.parametrize("values", [[], [0.0, 1.0], [-1.0], [math.nan], [math.inf]])
def test_times_that_cannot_be_are_refused(values):
    with pytest.raises(ValueError, match="positive"):
        stats.geometric(values)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (2, 1), (-1, 3)])
def test_a_share_that_cannot_be_is_refused(successes, trials):
    with pytest.raises(ValueError, match="not a share"):
        stats.wilson(successes, trials)


def test_a_constant_over_an_estimate_turns_its_bounds_round():
    """FLOPs over seconds: the slow bound of the time is the low bound of the rate."""
    seconds = stats.Estimate(2.0, 1.0, 4.0, 3)
    assert seconds.inverse_of(8.0) == stats.Estimate(4.0, 2.0, 8.0, 3)
    assert stats.Estimate(2.0, None, None, 1).inverse_of(8.0) == stats.Estimate(4.0, None, None, 1)
    assert seconds.scaled(10.0) == stats.Estimate(20.0, 10.0, 40.0, 3)
