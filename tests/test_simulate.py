"""The simulation bench: the noise is what it says, the counts are the decision's own, and small runs meet closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cnnbench.gate import simulate
from cnnbench.gate.decide import replay
from cnnbench.gate.noise import MODELS, Noise, log_steps, make_trace
from cnnbench.gate.peers import PEERS
from cnnbench.gate.plan import Plan
from cnnbench.gate.simulate import Share, SimulatedMachine, run_checks, run_normal, run_peer
from cnnbench.gate.verdict import Decision, Series

PLAN = Plan()
STILL = Noise("still", process_sd=0.0, step_sd=0.0)


def rng(seed=1):
    return np.random.default_rng(seed)


def starts(*shape):
    return np.zeros(shape)


def test_steps_are_autoregressive_from_the_first_on():
    """Variance step_sd^2 everywhere, correlation rho^k over k steps; 4 standard errors of 40,000 processes."""
    logs = log_steps(Noise("steps", process_sd=0.0), rng(), starts(40_000), 8)
    assert logs.std(axis=0) == pytest.approx(np.full(8, 0.03), rel=4 / math.sqrt(2 * 40_000))
    for lag in (1, 2, 3):
        assert np.corrcoef(logs[:, 0], logs[:, lag])[0, 1] == pytest.approx(0.6**lag, abs=4 / math.sqrt(40_000))


def test_a_process_keeps_its_own_effect():
    logs = log_steps(Noise("process", process_sd=0.015, step_sd=0.0), rng(), starts(40_000), 3)
    assert (logs == logs[:, :1]).all()
    assert logs[:, 0].std() == pytest.approx(0.015, rel=4 / math.sqrt(2 * 40_000))


def test_modes_bursts_and_drift_are_as_declared():
    modes = log_steps(Noise("modes", 0.0, step_sd=0.0, mode_gap=math.log(1.12)), rng(), starts(10_000), 1)
    assert np.unique(np.exp(modes).round(6)).tolist() == [1.0, pytest.approx(1.12)]
    assert np.mean(modes > 0) == pytest.approx(0.5, abs=0.02)
    bursts = log_steps(Noise("bursts", 0.0, step_sd=0.0, burst_share=0.05), rng(), starts(10_000), 1)
    assert np.mean(bursts > 0) == pytest.approx(0.05, abs=0.009)
    assert np.exp(bursts.max()) == pytest.approx(1.3)
    drift = log_steps(Noise("drift", 0.0, step_sd=0.0, drift_per_hour=0.05), rng(), np.array([0.0, 3600.0]), 1)
    assert np.exp(drift[:, 0]).tolist() == [1.0, pytest.approx(1.05)]


def test_a_trace_is_replayed_process_by_process_in_its_order():
    trace = make_trace("two", [[1.0, 2.0, 4.0], [8.0, 16.0, 32.0, 64.0]])
    logs = log_steps(trace, rng(), starts(500), 3)
    steps = np.diff(logs, axis=1) / math.log(2)
    assert set(np.unique(steps.round(4))) == {1.0, -2.0}
    assert len(np.unique(logs[:, 0].round(4))) == 6


@pytest.mark.parametrize("processes", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 0.0], [1.0, 1.0]]])
def test_a_trace_that_shows_nothing_is_refused(processes):
    with pytest.raises(ValueError, match="trace x"):
        make_trace("x", processes)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_unchanged_work_has_no_direction(model):
    """The coin makes d symmetric whatever the noise, drift included: half above 0, within 4 standard errors."""
    d = SimulatedMachine(model, rng()).differences(500, 2, 10)
    assert d.shape == (500, 2, 10)
    assert np.mean(d > 0) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / d.size))


def test_without_noise_every_rule_is_a_threshold():
    """Ours at 5 %: passed below, confirmed above."""
    unchanged, small, large = run_checks(SimulatedMachine(STILL, rng()), PLAN, 10, 2, (0.0, 0.049, 0.051))
    assert (unchanged.passed, small.passed, large.regressed) == (10, 10, 10)
    assert (unchanged.median_blocks, large.median_blocks) == (6, 8)


def test_the_counts_are_those_of_the_decision_itself():
    """300 checks of two jobs at 8 %, each decided by `replay` from the same differences."""
    machine, effect, jobs = Noise("x", process_sd=0.02), math.log(1.08), [Series("a"), Series("b")]
    (counted,) = run_checks(SimulatedMachine(machine, rng(5)), PLAN, 300, 2, (0.08,))
    again = SimulatedMachine(machine, rng(5))
    first = again.differences(300, 2, 16) + effect
    fresh = iter(again.differences(counted.suspected, 2, 10) + effect)
    ended = []
    for d in first:
        observed = dict(zip(jobs, d.tolist(), strict=True))
        suspected = simulate.screen(simulate.with_mean(d[np.newaxis]), PLAN).suspects.any()
        confirming = dict(zip(jobs, next(fresh).tolist(), strict=True)) if suspected else {}
        ended.append(replay(observed, confirming, PLAN).decision)
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
    share = Share(hits, 20_000)
    oracle = stats.binomtest(hits, 20_000, alternative="less").proportion_ci(0.95, method="exact").high
    assert share.upper == pytest.approx(oracle, rel=1e-9)
    assert Share(0, 20_000).upper == pytest.approx(1 - 0.05 ** (1 / 20_000))
    assert (Share(3, 3).upper, Share(1, 4).share) == (1.0, 0.25)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_larger_slowdown_is_never_seen_less_often(peer):
    """The alarms only grow with the effect, and three times the time is seen by every rule."""
    found = [each.mean() for each in run_peer(peer, MODELS[1], 300, (0.0, 0.02, 0.1, 2.0), rng())]
    assert found == sorted(found)
    assert found[-1] > 0.99


def test_the_same_seed_is_the_same_simulation():
    one, other = (run_checks(SimulatedMachine(MODELS[2], rng(3)), PLAN, 50, 2, (0.0, 0.05)) for _ in range(2))
    assert one == other
