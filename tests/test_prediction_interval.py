"""The prediction interval holds what it promises: coverage by simulation, its formula against scipy, its limits."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit
from scipy.stats import t

from cnnbench.analysis.stats import (
    LEAST_RUNS,
    TAIL,
    compare_with_prediction,
    predict_mean,
    predict_next_run,
)

TIMES = st.floats(1e-6, 1e3, allow_subnormal=False)


@pytest.mark.parametrize("runs", [8, 12, 30])
def test_95_of_100_next_runs_fall_inside_and_as_many_above_as_below(runs):
    """20,000 times `runs` normal logs and one more; the share inside is within four standard errors of 95 %."""
    trials = 20_000
    logs = np.random.default_rng(runs).normal(math.log(0.01), 0.03, (trials, runs + 1))
    past, following = logs[:, :runs], logs[:, runs]
    half = stdtrit(runs - 1, 1 - TAIL) * past.std(axis=1, ddof=1) * math.sqrt(1 + 1 / runs)
    above, below = following > past.mean(axis=1) + half, following < past.mean(axis=1) - half
    error = math.sqrt(TAIL * (1 - TAIL) / trials)
    for outside in (above, below):
        assert outside.mean() == pytest.approx(TAIL, abs=4 * error)
    for row in range(50):  # the vectorised lines are those of the library
        found = predict_next_run([[math.exp(each)] for each in past[row]])
        assert found is not None
        assert compare_with_prediction(math.exp(following[row]), found) == int(above[row]) - int(below[row])


def test_the_mean_of_three_processes_is_predicted_from_means_of_three():
    """Processes spread three times as much as runs: ranges from single processes would be far too wide."""
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(2_000):
        logs = rng.normal(0, 0.01, (11, 1)) + rng.normal(0, 0.03, (11, 3))
        runs = np.exp(logs).tolist()
        found = predict_next_run(runs[:10], 3)
        assert found is not None
        inside += compare_with_prediction(statistics.geometric_mean(runs[10]), found) == 0
    assert inside / 2_000 == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 2_000))


def test_the_interval_is_students():
    """Against scipy's t distribution: mean of logs +- t(0.975; 7) s sqrt(1 + 1/8)."""
    times = [0.010, 0.011, 0.0105, 0.0098, 0.0102, 0.0107, 0.0101, 0.0099]
    logs = [math.log(each) for each in times]
    half = t.ppf(0.975, 7) * statistics.stdev(logs) * math.sqrt(1 + 1 / 8)
    found = predict_next_run([[each] for each in times])
    assert found is not None
    assert (found.low, found.high) == pytest.approx(
        (math.exp(statistics.fmean(logs) - half), math.exp(statistics.fmean(logs) + half))
    )
    assert (found.runs, found.processes) == (8, 1)


def test_fewer_than_eight_runs_predict_nothing_however_many_processes_they_have():
    assert predict_next_run([[0.01, 0.011] * 50] * (LEAST_RUNS - 1)) is None
    assert predict_next_run([[0.01]] * LEAST_RUNS) is not None
    assert predict_next_run([[0.01]] * 7 + [[]]) is None
    with pytest.raises(ValueError, match="no spread"):
        predict_mean([1.0])


@given(st.lists(TIMES, min_size=8, max_size=20), st.randoms())
def test_the_order_of_runs_changes_nothing(times, random):
    shuffled = random.sample(times, len(times))
    assert predict_next_run([[each] for each in times]) == predict_next_run([[each] for each in shuffled])


@given(st.lists(TIMES, min_size=8, max_size=20), st.floats(1e-3, 1e3))
def test_another_unit_scales_the_range(times, factor):
    one, other = predict_next_run([[each] for each in times]), predict_next_run([[each * factor] for each in times])
    assert one is not None
    assert other is not None
    assert (other.low, other.high) == pytest.approx((one.low * factor, one.high * factor), rel=1e-6)


@given(TIMES, st.integers(8, 20))
def test_runs_without_any_spread_hold_their_own_value(time, n):
    found = predict_next_run([[time]] * n)
    assert found is not None
    assert compare_with_prediction(time, found) == 0


def test_every_run_gives_as_many_processes_as_the_one_with_the_fewest():
    """So that a mean of one is never held against means of three."""
    runs = [[0.01 + n / 1e4, 1.0, 2.0] for n in range(8)]
    found = predict_next_run(runs, 1)
    assert found == predict_next_run([run[:1] for run in runs])
