"""What the regression check's arithmetic costs, with its bar: it must be nothing beside a single pair of processes."""

from __future__ import annotations

import itertools
import time

import numpy as np

from cnnbench.regression import signed_rank
from cnnbench.regression.decision import Decision, MetricSeries, Verdict, decide
from cnnbench.regression.design import CheckPlan, compute_detectable_effect

JOBS, BLOCKS = 10, 16
DECISION_BAR_SECONDS = 0.1
NOISE = 0.01


def differences(shift: float) -> dict[MetricSeries, list[float]]:
    """d of 16 blocks of 10 jobs, as if each head were slower by `shift`."""
    rng = np.random.default_rng(1)
    return {MetricSeries(f"job-{job}/cpu"): list(rng.normal(shift, NOISE, BLOCKS)) for job in range(JOBS)}


def test_decide_for_ten_jobs_and_sixteen_blocks(benchmark) -> None:  # type: ignore[no-untyped-def]
    """Under 0.1 s at its dearest: a slowdown of exactly the tolerance, which takes all four looks. The first call too."""
    plan = CheckPlan()
    observations = differences(plan.log_tolerance)
    began = time.perf_counter()
    decide(observations, plan)
    first_seconds = time.perf_counter() - began
    answer = benchmark.pedantic(lambda: decide(observations, plan), rounds=20, warmup_rounds=2)
    assert isinstance(answer, Verdict)
    assert (answer.decision, answer.blocks) == (Decision.INCONCLUSIVE, BLOCKS)
    if benchmark.enabled:
        assert benchmark.stats["median"] < DECISION_BAR_SECONDS
        assert first_seconds < DECISION_BAR_SECONDS


def test_signed_rank_of_sixteen_blocks(benchmark) -> None:  # type: ignore[no-untyped-def]
    """One series: estimate and exact interval."""
    d = np.asarray(next(iter(differences(0.0).values())))

    def test() -> tuple[float | None, float, float | None]:
        low, high = signed_rank.confidence_bounds(d, 0.025)
        return low, signed_rank.hodges_lehmann(d), high

    low, estimate, high = benchmark.pedantic(test, rounds=50, warmup_rounds=2)
    assert low <= estimate <= high


def test_minimum_detectable_effect(benchmark) -> None:  # type: ignore[no-untyped-def]
    """The simulation behind it, which a process pays once for each plan that is not the shipped one: a new plan each round."""
    powers = itertools.count(1)  # 0.8 itself may be known from another benchmark

    def simulate() -> float | None:
        return compute_detectable_effect(NOISE, CheckPlan(power=0.8 + 1e-9 * next(powers)))

    found = benchmark.pedantic(simulate, rounds=3)
    assert found is not None
    assert found > CheckPlan().log_tolerance
