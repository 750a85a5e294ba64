"""The simulation bench: the noise is what it says, the counts are the decision's own, and small runs meet closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import simulate
from noise_models import NOISE_MODELS, NoiseModel, make_trace, simulate_log_steps
from other_tools import OTHER_TOOLS
from scipy import stats
from simulate import Proportion, SimulatedMachine, run_checks, run_normal, run_tool
from verdict_builders import replay_decision

from cnnbench.regression.decision import Decision, MetricSeries
from cnnbench.regression.design import CheckPlan

PLAN = CheckPlan()
STILL = NoiseModel("still", process_sd=0.0, step_sd=0.0)


def rng(seed=1):
    return np.random.default_rng(seed)


def starts(*shape):
    return np.zeros(shape)


def test_steps_are_autoregressive_from_the_first_on():
    """Variance step_sd^2 everywhere, correlation rho^k over k steps; 4 standard errors of 40,000 processes."""
    logs = simulate_log_steps(NoiseModel("steps", process_sd=0.0), rng(), starts(40_000), 8)
    assert logs.std(axis=0) == pytest.approx(np.full(8, 0.03), rel=4 / math.sqrt(2 * 40_000))
    for lag in (1, 2, 3):
        assert np.corrcoef(logs[:, 0], logs[:, lag])[0, 1] == pytest.approx(0.6**lag, abs=4 / math.sqrt(40_000))


def test_a_process_keeps_its_own_effect():
    logs = simulate_log_steps(NoiseModel("process", process_sd=0.015, step_sd=0.0), rng(), starts(40_000), 3)
    assert (logs == logs[:, :1]).all()
    assert logs[:, 0].std() == pytest.approx(0.015, rel=4 / math.sqrt(2 * 40_000))


def test_modes_bursts_and_drift_are_as_declared():
    modes = simulate_log_steps(NoiseModel("modes", 0.0, step_sd=0.0, mode_gap=math.log(1.12)), rng(), starts(10_000), 1)
    assert np.unique(np.exp(modes).round(6)).tolist() == [1.0, pytest.approx(1.12)]
    assert np.mean(modes > 0) == pytest.approx(0.5, abs=0.02)
    bursts = simulate_log_steps(NoiseModel("bursts", 0.0, step_sd=0.0, burst_share=0.05), rng(), starts(10_000), 1)
    assert np.mean(bursts > 0) == pytest.approx(0.05, abs=0.009)
    assert np.exp(bursts.max()) == pytest.approx(1.3)
    drift = simulate_log_steps(
        NoiseModel("drift", 0.0, step_sd=0.0, drift_per_hour=0.05), rng(), np.array([0.0, 3600.0]), 1
    )
    assert np.exp(drift[:, 0]).tolist() == [1.0, pytest.approx(1.05)]


def test_a_trace_is_replayed_process_by_process_in_its_order():
    trace = make_trace("two", [[1.0, 2.0, 4.0], [8.0, 16.0, 32.0, 64.0]])
    logs = simulate_log_steps(trace, rng(), starts(500), 3)
    steps = np.diff(logs, axis=1) / math.log(2)
    assert set(np.unique(steps.round(4))) == {1.0, -2.0}
    assert len(np.unique(logs[:, 0].round(4))) == 6


@pytest.mark.parametrize("processes", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 0.0], [1.0, 1.0]]])
def test_a_trace_that_shows_nothing_is_refused(processes):
    with pytest.raises(ValueError, match="trace x"):
        make_trace("x", processes)


@pytest.mark.parametrize("model", NOISE_MODELS, ids=lambda model: model.name)
def test_unchanged_work_has_no_direction(model):
    """The coin makes d symmetric whatever the noise, drift included: half above 0, within 4 standard errors."""
    d = SimulatedMachine(model, rng()).draw_differences(500, 2, 10)
    assert d.shape == (500, 2, 10)
    assert np.mean(d > 0) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / d.size))


def test_without_noise_every_rule_is_a_threshold():
    """Ours at 5 %: passed below, confirmed above."""
    unchanged, small, large = run_checks(SimulatedMachine(STILL, rng()), PLAN, 10, 2, (0.0, 0.049, 0.051))
    assert (unchanged.passed, small.passed, large.regressed) == (10, 10, 10)
    assert (unchanged.median_blocks, large.median_blocks) == (6, 8)


def test_the_counts_are_those_of_the_decision_itself():
    """300 checks of two jobs at 8 %, each decided by `replay_decision` from the same differences."""
    machine, effect, jobs = NoiseModel("x", process_sd=0.02), math.log(1.08), [MetricSeries("a"), MetricSeries("b")]
    (counted,) = run_checks(SimulatedMachine(machine, rng(5)), PLAN, 300, 2, (0.08,))
    again = SimulatedMachine(machine, rng(5))
    first = again.draw_differences(300, 2, 16) + effect
    fresh = iter(again.draw_differences(counted.suspected, 2, 10) + effect)
    ended = []
    for d in first:
        observed = dict(zip(jobs, d.tolist(), strict=True))
        suspected = simulate.screen_checks(simulate.append_mean(d[np.newaxis]), PLAN).suspects.any()
        confirming = dict(zip(jobs, next(fresh).tolist(), strict=True)) if suspected else {}
        ended.append(replay_decision(observed, confirming, PLAN).decision)
    assert ended.count(Decision.REGRESSED) == counted.regressed > 0
    assert ended.count(Decision.INCONCLUSIVE) == counted.inconclusive
    assert counted.passed + counted.regressed + counted.inconclusive == counted.checks


def test_a_slowdown_of_twice_the_tolerance_is_caught():
    """The target at spread tau/2: 95 %; measured 98.7 % of 20,000, here of 2,000."""
    ended = run_normal(PLAN, 2000, PLAN.log_tolerance / 2, math.log(1.10), rng())
    assert ended.regressed / ended.checks > 0.975
    assert ended.passed == 0


def test_unchanged_work_takes_six_blocks_or_eight():
    quiet, half = (run_normal(PLAN, 2000, PLAN.log_tolerance * share, 0.0, rng()) for share in (0.2, 0.5))
    assert (quiet.median_blocks, quiet.passed) == (6, 2000)
    assert half.median_blocks <= 8
    assert half.regressed == 0


@pytest.mark.parametrize("hits", [0, 1, 4])
def test_the_upper_bound_is_the_exact_one(hits):
    """Clopper and Pearson's, as scipy has it; none of 20,000 leaves 1 - 0.05^(1/20000)."""
    share = Proportion(hits, 20_000)
    oracle = stats.binomtest(hits, 20_000, alternative="less").proportion_ci(0.95, method="exact").high
    assert share.upper == pytest.approx(oracle, rel=1e-9)
    assert Proportion(0, 20_000).upper == pytest.approx(1 - 0.05 ** (1 / 20_000))
    assert (Proportion(3, 3).upper, Proportion(1, 4).share) == (1.0, 0.25)


@pytest.mark.parametrize("peer", OTHER_TOOLS, ids=lambda peer: peer.name)
def test_a_larger_slowdown_is_never_seen_less_often(peer):
    """The alarms only grow with the effect, and three times the time is seen by every rule."""
    found = [each.mean() for each in run_tool(peer, NOISE_MODELS[1], 300, (0.0, 0.02, 0.1, 2.0), rng())]
    assert found == sorted(found)
    assert found[-1] > 0.99


def test_the_same_seed_is_the_same_simulation():
    one, other = (run_checks(SimulatedMachine(NOISE_MODELS[2], rng(3)), PLAN, 50, 2, (0.0, 0.05)) for _ in range(2))
    assert one == other
