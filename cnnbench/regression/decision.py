"""From the blocks so far to a verdict, or to the wish for more: pure, so that a runner can drive it and a record replay it.

A runner begins with `Screening()` and calls `decide` after every few blocks; while the answer is a `Continue` it measures
what that asks for (in its stage: a new stage starts from fresh blocks). Blocks after the look that decides are not read,
so a record of more blocks than were needed replays to the same verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnnbench.regression import signed_rank
from cnnbench.regression.design import CheckPlan, Look, compute_detectable_effect, confirm_slowdown, evaluate_look
from cnnbench.regression.signed_rank import Float64Array
from cnnbench.regression.verdict import (
    GEOMETRIC_MEAN,
    CheckPhase,
    Confirmation,
    Confirming,
    Continue,
    Decision,
    MetricSeries,
    Screening,
    SeriesFinding,
    Verdict,
)

Observations = Mapping[MetricSeries, Sequence[float]]
"""d of every valid block in the order measured, by series: log(head / base), see `verdict.log_ratio`."""


def decide(observations: Observations, stage: CheckPhase, plan: CheckPlan) -> Verdict | Continue:
    """The verdict on the blocks of this stage so far, or what to measure on.

    PASS where at one look every gated series and the geometric means pass; IMPROVED where one of them is faster than the
    tolerance besides; REGRESSED where a suspicion is confirmed; INCONCLUSIVE where a suspicion is not confirmed or the
    blocks are used up. The first look that decides is the verdict. Raises ValueError for d's that are not finite, or
    none that are gated.
    """
    _reject_invalid(observations)
    return (
        _decide_screening(observations, plan)
        if isinstance(stage, Screening)
        else _decide_confirmation(observations, stage, plan)
    )


def geometric_means(observations: Observations) -> dict[MetricSeries, Sequence[float]]:
    """The series of mean d over the gated jobs, one for each metric that two or more of them share.

    Block i of one job goes with block i of the others. Under the hypothesis each d is symmetric, and so is their mean.
    """
    by_metric: dict[str, list[Sequence[float]]] = {}
    for series, log_ratios in observations.items():
        if series.gated:
            by_metric.setdefault(series.metric, []).append(log_ratios)
    return {
        MetricSeries(GEOMETRIC_MEAN, metric): [math.fsum(block) / len(jobs) for block in zip(*jobs, strict=False)]
        for metric, jobs in by_metric.items()
        if len(jobs) > 1
    }


def _decide_screening(observations: Observations, plan: CheckPlan) -> Verdict | Continue:
    everything = {**observations, **geometric_means(observations)}
    blocks = min(len(d) for d in observations.values())
    findings: tuple[SeriesFinding, ...] = ()
    for look in plan.looks:
        if look.blocks > blocks:
            return Continue(Screening(), look.blocks, tuple(observations))
        findings = tuple(_examine(series, d, look, plan) for series, d in everything.items())
        gated = [finding for finding in findings if finding.series.gated]
        if any(finding.suspect for finding in gated):
            return Continue(Confirming(findings), plan.confirm_blocks, _series_to_confirm(findings, observations))
        if all(finding.decision in (Decision.PASS, Decision.IMPROVED) for finding in gated):
            improved = any(finding.decision == Decision.IMPROVED for finding in gated)
            decision = Decision.IMPROVED if improved else Decision.PASS
            return Verdict(decision, findings, look.blocks, plan)
    return Verdict(Decision.INCONCLUSIVE, findings, plan.max_blocks, plan)


def _decide_confirmation(observations: Observations, stage: Confirming, plan: CheckPlan) -> Verdict | Continue:
    needed = _series_to_confirm(stage.findings, observations)
    if min(len(observations[series]) for series in needed) < plan.confirm_blocks:
        return Continue(stage, plan.confirm_blocks, needed)
    fresh = {**observations, **geometric_means(observations)}
    findings = tuple(
        _confirm_series(finding, np.asarray(fresh[finding.series], dtype=np.float64), plan)
        if _needs_confirmation(finding)
        else finding
        for finding in stage.findings
    )
    regressed = any(finding.decision == Decision.REGRESSED for finding in findings)
    decision = Decision.REGRESSED if regressed else Decision.INCONCLUSIVE
    return Verdict(decision, findings, stage.findings[0].blocks, plan)


def _needs_confirmation(finding: SeriesFinding) -> bool:
    return finding.suspect and finding.series.gated


def _series_to_confirm(findings: Sequence[SeriesFinding], observations: Observations) -> tuple[MetricSeries, ...]:
    """The suspect series themselves; all gated ones of the metric where a geometric mean is suspect."""
    suspects = {finding.series for finding in findings if _needs_confirmation(finding)}
    whole = {series.metric for series in suspects if series.job == GEOMETRIC_MEAN}
    measured = {finding.series for finding in findings if finding.series.job != GEOMETRIC_MEAN}
    needed = {series for series in measured if series in suspects or (series.gated and series.metric in whole)}
    missing = sorted(needed - observations.keys())
    if missing:
        raise ValueError(f"{missing[0].label} is suspect and has no fresh blocks")
    return tuple(sorted(needed))


def _examine(series: MetricSeries, observed: Sequence[float], look: Look, plan: CheckPlan) -> SeriesFinding:
    log_ratios = np.asarray(observed[: look.blocks], dtype=np.float64)
    flags = evaluate_look(log_ratios, look, plan)
    low, high = signed_rank.confidence_bounds(log_ratios, plan.pass_alpha)
    decision = Decision.INCONCLUSIVE
    if flags.passes:
        decision = Decision.IMPROVED if flags.improves else Decision.PASS
    return SeriesFinding(
        series,
        look.blocks,
        _count_slower(log_ratios, plan),
        signed_rank.hodges_lehmann(log_ratios),
        low,
        high,
        compute_detectable_effect(float(np.std(log_ratios, ddof=1)), plan),
        bool(flags.suspects),
        decision,
    )


def _confirm_series(finding: SeriesFinding, log_ratios: Float64Array, plan: CheckPlan) -> SeriesFinding:
    fresh = log_ratios[: plan.confirm_blocks]
    holds = bool(confirm_slowdown(fresh, plan))
    confirmation = Confirmation(len(fresh), _count_slower(fresh, plan), holds)
    decision = Decision.REGRESSED if holds else Decision.INCONCLUSIVE
    return replace(finding, decision=decision, confirmation=confirmation)


def _count_slower(log_ratios: Float64Array, plan: CheckPlan) -> int:
    return int(np.count_nonzero(log_ratios > plan.log_tolerance))


def _reject_invalid(observations: Observations) -> None:
    if not any(series.gated for series in observations):
        raise ValueError("no gated series: nothing to decide by")
    for series, log_ratios in observations.items():
        if series.job == GEOMETRIC_MEAN:
            raise ValueError(f"{GEOMETRIC_MEAN!r} is computed here and no job's name")
        if not np.isfinite(np.asarray(log_ratios, dtype=np.float64)).all():
            raise ValueError(f"{series.label}: a difference is not a finite number")
