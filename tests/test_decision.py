"""The sequential three-way decision: laws that hold for any data, and rates against closed forms."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from verdict_builders import replay_decision

from cnnbench.errors import ExitCode, LedgerError, UsageError
from cnnbench.regression import design as plans
from cnnbench.regression.decision import (
    Continue,
    Decision,
    MetricSeries,
    Verdict,
    compute_log_ratio,
    decide,
    geometric_means,
)
from cnnbench.regression.design import CheckPlan, make_check_plan
from cnnbench.regression.verdict_text import (
    explain_unseen,
    format_change,
    format_decision,
    format_finding,
    format_verdict,
)

PLAN = CheckPlan()
OLD = CheckPlan(
    looks=(plans.Look(6), plans.Look(8, 0.004), plans.Look(12, 0.003), plans.Look(16, 0.003)),
    confirm_alpha=0.007,
    confirm_mean_alpha=None,
    mean_passes=False,
)
"""The rules of a record of version 1."""
TAU = PLAN.log_tolerance
JOB = MetricSeries("mnist-cnn/cpu")
OTHER = MetricSeries("gemm/cpu")
GM = "geometric mean"

blocks_of = st.lists(st.floats(-0.3, 0.3).map(lambda x: round(x, 4)), min_size=16, max_size=16)
fresh_of = st.lists(st.floats(-0.3, 0.3).map(lambda x: round(x, 4)), min_size=10, max_size=10)


def drive(first, fresh, plan=PLAN):
    """A runner: measures one block at a time, asks after each, and never shows more than it has measured."""
    suspicion, seen, source, asked = None, 0, first, 0
    while True:
        answer = decide({series: d[:seen] for series, d in source.items()}, plan, suspicion)
        if isinstance(answer, Verdict):
            return answer
        if answer.series and answer != suspicion:
            suspicion, seen, source = answer, 0, {series: fresh[series] for series in answer.series}
            continue
        seen, asked = seen + 1, asked + 1
        assert seen <= answer.blocks
        assert asked < 100


def clean(rng, spread, centre=0.0, n=16):
    return [rng.gauss(centre, spread) for _ in range(n)]


def test_a_run_against_itself_never_regresses():
    """300 seeds, noise from calm to three times the tolerance, one to six jobs."""
    for seed in range(300):
        rng = random.Random(seed)
        jobs = [MetricSeries(f"job {index}") for index in range(1 + seed % 6)]
        spread = TAU * rng.choice([0.1, 0.3, 1.0, 3.0])
        first = {job: clean(rng, spread) for job in jobs}
        fresh = {job: clean(rng, spread, n=10) for job in jobs}
        assert replay_decision(first, fresh, PLAN).decision != Decision.REGRESSED


@pytest.mark.parametrize("seed", range(50))
def test_doubling_every_head_time_always_regresses(seed):
    """At the first look that may suspect, whatever the base's noise up to a spread of 20 %."""
    rng = random.Random(seed)
    base = [rng.lognormvariate(-3.0, 0.1) for _ in range(26)]
    head = [2 * seconds * rng.lognormvariate(0.0, 0.1) for seconds in base]
    d = [compute_log_ratio(h, b) for h, b in zip(head, base, strict=True)]
    verdict = drive({JOB: d[:16]}, {JOB: d[16:]})
    assert (verdict.decision, verdict.blocks, verdict.exit_code) == (Decision.REGRESSED, 8, ExitCode.FINDING)


def test_identical_times_pass_at_once_and_say_what_they_could_see():
    verdict = drive({JOB: [0.0] * 16}, {})
    assert (verdict.decision, verdict.blocks, verdict.exit_code) == (Decision.PASS, 6, ExitCode.DONE)
    assert verdict.findings[0].detectable == TAU


def test_halving_every_head_time_is_an_improvement():
    verdict = drive({JOB: [math.log(0.5)] * 16, OTHER: [0.0] * 16}, {})
    assert (verdict.decision, verdict.blocks, verdict.exit_code) == (Decision.IMPROVED, 6, ExitCode.DONE)
    assert [finding.decision for finding in verdict.findings] == [Decision.IMPROVED, Decision.PASS, Decision.IMPROVED]


def test_a_faster_job_does_not_make_up_for_a_slower_one():
    verdict = drive({JOB: [-0.7] * 16, OTHER: [0.3] * 16}, {JOB: [-0.7] * 10, OTHER: [0.3] * 10})
    assert verdict.decision == Decision.REGRESSED
    by_series = {finding.series: finding.decision for finding in verdict.findings}
    assert by_series[OTHER] == Decision.REGRESSED
    assert by_series[JOB] == Decision.IMPROVED


@given(blocks_of, fresh_of)
def test_swapping_the_arms_negates_difference_estimate_and_bounds(first, fresh):
    forward = drive({JOB: first}, {JOB: fresh}, plan := replace(PLAN, looks=(plans.Look(16),)))
    backward = drive({JOB: [-d for d in first]}, {JOB: [-d for d in fresh]}, plan)
    one, other = forward.findings[0], backward.findings[0]
    assert (other.estimate, other.low, other.high) == (-one.estimate, -one.high, -one.low)


@given(
    st.lists(st.tuples(st.floats(0.01, 0.02), st.floats(0.01, 0.02)), min_size=26, max_size=26), st.integers(-20, 20)
)
def test_scaling_all_times_changes_nothing(pairs, power):
    """By powers of two, which scale floating-point numbers exactly, up to the last digit of the logarithms."""

    def verdict(scale):
        d = [round(compute_log_ratio(head * scale, base * scale), 12) for head, base in pairs]
        return drive({JOB: d[:16]}, {JOB: d[16:]})

    assert verdict(2.0**power) == verdict(1.0)


@given(blocks_of, fresh_of, st.data())
def test_the_decision_at_a_look_depends_on_the_data_up_to_it_alone(first, fresh, data):
    verdict = drive({JOB: first}, {JOB: fresh})
    later = data.draw(st.lists(st.floats(-9, 9), min_size=16, max_size=16))
    changed = [*first[: verdict.blocks], *later]
    assert replay_decision({JOB: changed}, {JOB: [*fresh, *later]}, PLAN) == verdict


@given(blocks_of, blocks_of, fresh_of, fresh_of)
def test_replay_equals_live(first, second, fresh_first, fresh_second):
    observed, fresh = {JOB: first, OTHER: second}, {JOB: fresh_first, OTHER: fresh_second}
    assert replay_decision(observed, fresh, PLAN) == drive(observed, fresh)


@given(blocks_of, st.sampled_from(plans.LOOKS))
def test_pass_and_suspect_never_both(first, look):
    flags = plans.evaluate_look(np.array(first), look, PLAN)
    assert not (flags.passes and flags.suspects)
    assert flags.passes or not flags.improves


@given(st.lists(st.tuples(blocks_of, blocks_of), min_size=1, max_size=5))
def test_many_checks_at_once_end_as_each_alone(checks):
    d = np.array(checks)
    ended = plans.screen_checks(d, PLAN)
    for index, (one, other) in enumerate(checks):
        answer = decide({JOB: one, OTHER: other}, PLAN)
        series = np.array([[one, other, np.mean([one, other], axis=0)]])
        with_mean = plans.screen_checks(series, PLAN)
        if isinstance(answer, Verdict):
            (look,) = (look for look in PLAN.looks if look.blocks == answer.blocks)
            improves = with_mean.passed[0] and plans.evaluate_look(series, look, PLAN).improves.any()
            assert (answer.decision == Decision.IMPROVED) == improves
            assert answer.blocks == with_mean.blocks[0]
            assert (answer.decision in (Decision.PASS, Decision.IMPROVED)) == with_mean.passed[0]
        else:
            assert with_mean.suspects.any()
        assert (ended.blocks[index], ended.passed[index]) == tuple(
            part[0] for part in plans.screen_checks(d[index : index + 1], PLAN)[:2]
        )


def test_a_suspicion_asks_for_fresh_blocks_of_the_suspect_alone():
    answer = decide({JOB: [0.2] * 8, OTHER: [-0.2] * 8}, PLAN)
    assert isinstance(answer, Continue)
    assert answer.findings
    assert (answer.blocks, answer.series) == (10, (JOB,))


def test_a_suspect_geometric_mean_asks_for_all_jobs():
    """Each job's d is above the tolerance only on average, their mean in every block."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.2, 8)
    observed = {JOB: list(0.1 + noise), OTHER: list(0.1 - noise)}
    answer = decide(observed, PLAN)
    assert isinstance(answer, Continue)
    assert [finding.series.job for finding in answer.findings if finding.suspect] == [GM]
    assert answer.series == (OTHER, JOB)
    fresh = {JOB: list(0.1 + noise) + [0.1] * 2, OTHER: list(0.1 - noise) + [0.1] * 2}
    assert replay_decision(observed, fresh, PLAN).decision == Decision.REGRESSED


def test_what_is_not_confirmed_is_inconclusive():
    verdict = drive({JOB: [0.2] * 16}, {JOB: [0.2, 0.0] * 5})
    assert (verdict.decision, verdict.exit_code) == (Decision.INCONCLUSIVE, ExitCode.INCONCLUSIVE)
    assert verdict.findings[0].confirmation.holds is False


def test_an_advisory_series_is_reported_and_decides_nothing():
    stalls = MetricSeries("mnist-cnn/cpu", "mean step", gated=False)
    verdict = drive({JOB: [0.0] * 16, stalls: [0.5] * 16}, {})
    assert (verdict.decision, len(verdict.findings)) == (Decision.PASS, 2)
    assert "advisory" in format_verdict(verdict, {})[2]


def test_a_plan_cut_short_only_looks_earlier():
    assert [look.blocks for look in make_check_plan(0.05, 13).looks] == [6, 8, 12]
    assert drive({JOB: [0.2, -0.2] * 8}, {}, make_check_plan(0.05, 8)).blocks == 8
    assert make_check_plan(0.05, 7).looks == (plans.Look(6),)
    assert plans.compute_detectable_effect(0.01, make_check_plan(0.05, 7)) is None
    with pytest.raises(UsageError, match="the first look needs 6"):
        make_check_plan(0.05, 5)


@pytest.mark.parametrize("tolerance", [0.0, -0.05, 5.0, math.nan])
def test_a_tolerance_that_makes_no_sense_is_refused(tolerance):
    with pytest.raises(UsageError, match="tolerance"):
        make_check_plan(tolerance)


def test_the_levels_are_the_ones_promised():
    """W- of 0, 4 and 13 and, to confirm, 3; subsets 7, 103 and 6; the joint levels are what one test alone had before."""
    limits = [plans.critical_value(look.blocks, look.suspect_alpha) for look in PLAN.looks[1:]]
    subsets = [plans.critical_count(look.blocks, look.mean_alpha) for look in PLAN.looks[2:]]
    assert (limits, subsets) == ([0, 4, 13], [7, 103])
    assert plans.critical_value(10, PLAN.confirm_alpha) == 3
    assert plans.critical_count(10, PLAN.confirm_mean_alpha) == 6
    assert PLAN.false_alarm_bound(7) == pytest.approx(7 * (1 / 256 + 10 / 4096 + 169 / 65536) * 7 / 1024, rel=1e-12)
    assert OLD.false_alarm_bound(7) == PLAN.false_alarm_bound(7) < 4.8e-4


def test_at_exactly_the_tolerance_suspicion_is_as_rare_as_promised():
    """At the first look that may suspect: exactly 1/256; over all of them below the sum of the levels."""
    d = TAU + np.random.default_rng(4).normal(0, 0.02, (20_000, 1, 16))
    at_eight = plans.evaluate_look(d, PLAN.looks[1], PLAN).suspects.mean()
    assert abs(at_eight - 1 / 256) < 3.4 * math.sqrt(1 / 256 / 20_000)
    assert plans.screen_checks(d, PLAN).suspects.mean() < 0.01
    assert 0.04 < plans.screen_checks(d, PLAN).passed.mean() < 0.06


def test_a_tail_of_slow_processes_is_inconclusive_where_the_middle_passes():
    """One of 16 pairs 30 % slower: the middle is below the tolerance, and the mean may be above it.

    The mean is log 1.3 / 16; of the 2^16 subsets far more than 2.5 % have a mean above the tolerance.
    """
    d = [0.001 * (-1) ** n for n in range(16)]
    d[4] = math.log(1.3)
    verdict = drive({JOB: d}, {})
    finding = verdict.findings[0]
    assert (verdict.decision, verdict.blocks) == (Decision.INCONCLUSIVE, 16)
    assert finding.high < TAU < finding.mean.high
    assert finding.mean.estimate == pytest.approx(math.log(1.3) / 16, abs=1e-3)
    assert drive({JOB: d}, {}, OLD).decision == Decision.PASS
    assert format_decision(finding) == "INCONCLUSIVE, tail"
    spread = np.std(d, ddof=1)
    needed = math.ceil(((ndtri(0.975) + ndtri(0.8)) * spread / (TAU - np.mean(d))) ** 2)
    assert finding.mean.blocks_needed == needed
    assert (
        f"a tail of slow pairs: their mean +1.6 % [0.0, {100 * math.expm1(finding.mean.high):.1f}]"
        in format_finding(finding, PLAN)
    )
    assert f"which about {needed} pairs would tell" in format_finding(finding, PLAN)


def test_a_mean_at_the_tolerance_needs_more_pairs_than_anyone_measures():
    d = [0.001 * (-1) ** n for n in range(16)]
    d[4] = 15.9 * TAU
    finding = drive({JOB: d}, {}).findings[0]
    assert (finding.decision, finding.mean.blocks_needed) == (Decision.INCONCLUSIVE, None)
    assert "which more than 1,000 pairs would tell" in format_finding(finding, PLAN)


@given(blocks_of)
def test_a_plan_with_the_mean_passes_no_more_than_one_without(first):
    for look in PLAN.looks:
        flags, before = (plans.evaluate_look(np.array(first), look, plan) for plan in (PLAN, OLD))
        assert flags.passes == (before.passes and not flags.tails)
        assert not flags.tails or look.blocks > 6


def test_a_slow_fifth_of_the_processes_seldom_passes_sixteen_pairs():
    """30 % slower in 20 % of the processes, a mean of +6 %; quiet otherwise. Six pairs have none of them in 0.8^6."""
    rng = np.random.default_rng(3)
    slow = rng.random((4000, 1, 16)) < 0.2
    d = rng.normal(0, 0.01, slow.shape) + math.log(1.3) * slow
    whole, early = (plans.screen_checks(d, make_check_plan(0.05, None, least)).passed for least in (16, None))
    assert whole.mean() < 0.1
    assert (early >= ~slow[:, 0, :6].any(axis=-1)).all()
    assert early.mean() == pytest.approx(0.8**6, abs=0.03)
    assert plans.screen_checks(d, OLD).passed.mean() > 0.33


def test_a_pass_waits_for_the_least_number_of_blocks():
    plan = make_check_plan(0.05, None, 12)
    assert drive({JOB: [0.0] * 16}, {}, plan).blocks == 12
    assert drive({JOB: [0.2] * 16}, {JOB: [0.2] * 10}, plan).blocks == 8
    with pytest.raises(UsageError, match="the last look is after 8"):
        make_check_plan(0.05, 8, 12)


@pytest.mark.parametrize(("blocks", "missed"), [(6, "26 %"), (16, "3 %")])
def test_what_a_pass_may_have_missed_is_said_with_the_pairs_that_would_see_it(blocks, missed):
    """0.8^6 and 0.8^16; 0.8^14 is the first power below 5 %."""
    assert f"{blocks} pairs contain none of them in {missed} of checks; 14 pairs in less than 5 %" in explain_unseen(
        blocks
    )
    assert 0.8**14 < 0.05 < 0.8**13


def test_at_a_single_look_the_detectable_effect_has_a_closed_form():
    """All 8 above the tolerance, then all 5 fresh: Phi(z)^13 = 0.8 at z = 2.125 for normal d."""
    single = CheckPlan(looks=(plans.Look(8, 0.004),), confirm_blocks=5, confirm_alpha=1 / 32, confirm_mean_alpha=None)
    closed = float(ndtri(0.8 ** (1 / 13)))
    assert plans.compute_detectable_excess(single) == pytest.approx(closed, abs=0.03)
    assert plans.compute_detectable_effect(0.01, single) == pytest.approx(TAU + 0.01 * closed, abs=3e-4)


@pytest.mark.slow("simulates 10,000 checks of each length")
def test_what_the_shipped_plan_detects_is_written_down_and_as_simulated(monkeypatch):
    """Of every length and at any tolerance, and no process simulates it again; of another plan it does."""
    simulated = {n: plans._simulate_excess(replace(make_check_plan(0.05, n), tolerance=0.0)) for n in (6, 8, 12, 16)}
    monkeypatch.setattr(plans, "_simulate_excess", lambda unit: -1.0)
    assert {n: plans.compute_detectable_excess(make_check_plan(0.03, n)) for n in simulated} == simulated
    assert plans.compute_detectable_excess(replace(PLAN, power=0.9)) == -1.0
    assert plans.compute_detectable_excess(replace(PLAN, looks=PLAN.looks[1:])) == -1.0


def test_the_detectable_effect_is_found_as_often_as_said():
    """An independent seed: 80 % of 5,000 checks, the whole plan."""
    rng = np.random.default_rng(6)
    effect = plans.compute_detectable_effect(0.03, PLAN)
    suspects = plans.screen_checks(effect + rng.normal(0, 0.03, (5000, 1, 16)), PLAN).suspects[:, 0]
    found = suspects & plans.confirm_slowdown(effect + rng.normal(0, 0.03, (5000, 10)), PLAN)
    assert found.mean() == pytest.approx(0.8, abs=0.025)


def test_geometric_means_are_of_the_gated_jobs_block_by_block():
    memory = MetricSeries("mnist-cnn/cpu", "peak")
    advisory = MetricSeries("gemm/cpu", "mean step", gated=False)
    observed = {JOB: [0.1, 0.3], OTHER: [0.3, 0.1, 9.0], memory: [5.0], advisory: [7.0]}
    assert geometric_means(observed) == {MetricSeries(GM): [0.2, 0.2]}


def test_a_record_that_ends_too_early_says_so():
    with pytest.raises(LedgerError, match="screening takes 8 blocks"):
        replay_decision({JOB: [0.2] * 7}, {}, PLAN)
    with pytest.raises(LedgerError, match="confirmation takes 10 blocks"):
        replay_decision({JOB: [0.2] * 8}, {JOB: [0.2] * 9}, PLAN)


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        ({}, "no gated series"),
        ({replace(JOB, gated=False): [0.0]}, "no gated series"),
        ({JOB: [math.nan]}, "not a finite number"),
        ({MetricSeries(GM): [0.0]}, "cannot be a job's name"),
    ],
)
def test_what_cannot_be_decided_is_refused(observed, message):
    with pytest.raises(ValueError, match=message):
        decide(observed, PLAN)


@pytest.mark.parametrize(("head", "base"), [(0.0, 1.0), (1.0, -1.0), (math.inf, 1.0), (1.0, math.nan)])
def test_times_that_cannot_be_are_refused(head, base):
    with pytest.raises(ValueError, match="positive and finite"):
        compute_log_ratio(head, base)


def test_the_words_of_a_regression():
    """Fourth Walsh averages from either end, in percent: 7.8, 8.0, 8.2, (7.8 + 8.8) / 2 and 10.9, 10.65, 10.4, 10.4."""
    d = [math.log(1 + percent / 100) for percent in (7.8, 8.2, 8.8, 9.2, 9.4, 9.9, 10.4, 10.9)]
    verdict = replay_decision({JOB: d}, {JOB: [0.09] * 10}, PLAN)
    (finding,) = verdict.findings
    assert format_finding(finding, PLAN, control=math.log(1.001)) == (
        "mnist-cnn/cpu: 8 of 8 pairs slower than +5 %; estimate +9.3 % [8.3, 10.4]; confirmed 10 of 10; control +0.1 %"
    )
    assert format_verdict(verdict, {})[0] == "REGRESSED: slower than +5 %, and confirmed by fresh blocks"


def test_the_words_of_a_pass_and_of_doubt():
    passed = drive({JOB: [0.0, 0.01] * 8}, {}).findings[0]
    assert format_finding(passed, PLAN) == (
        "mnist-cnn/cpu: 0 of 6 pairs slower than +5 %; estimate +0.5 % [0.0, 1.0]; +5.8 % would be found in 80 % of checks"
    )
    doubtful = drive({JOB: [0.1, 0.0] * 8}, {}).findings[0]
    assert "undecided after 16 blocks" in format_finding(doubtful, PLAN)
    unconfirmed = drive({JOB: [0.2] * 16}, {JOB: [0.2, 0.0] * 5}).findings[0]
    assert "not confirmed: 5 of 10" in format_finding(unconfirmed, PLAN)
    blind = drive({JOB: [0.0] * 16}, {}, make_check_plan(0.05, 6))
    assert "no slowdown could be found in 6 blocks" in format_verdict(blind, {JOB.job: 0.0})[1]
    assert format_change(-1e-9) == "0.0 %"
