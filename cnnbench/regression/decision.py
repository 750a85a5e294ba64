"""Decides from the blocks so far on a verdict, or on more blocks: pure, so that a runner can drive it and a record
replay it.

A runner calls `decide` after every few blocks; while the answer is a `Continue` it measures what that asks for. A
suspicion asks for fresh blocks, which are then decided together with that suspicion. Blocks after the look that decides
are not read, so a record of more blocks than were needed replays to the same verdict. All values are frozen, all
differences log ratios.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist

import numpy as np

from cnnbench.errors import ExitCode
from cnnbench.regression import sign_flip, signed_rank
from cnnbench.regression.design import CheckPlan, Look, compute_detectable_effect, confirm_slowdown, evaluate_look

GEOMETRIC_MEAN = "geometric mean"
"""The job name of the series of mean d over all gated jobs: a small slowdown of every job shows there first."""
STEP_METRIC = "median step"
MAX_BLOCKS_NEEDED = 1000
"""Five hours at 20 seconds per block; nobody measures more to decide one check."""


class Decision(StrEnum):
    """How a check, or one series of it, ended."""

    PASS = "pass"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, order=True)
class MetricSeries:
    """One metric of one job, such as mnist-cnn/cpu's median step time. Only gated series decide; the others are
    advisory.
    """

    job: str
    metric: str = STEP_METRIC
    gated: bool = True

    @property
    def label(self) -> str:
        """`mnist-cnn/cpu`, with the metric if it is not the usual one: `mnist-cnn/cpu, mean step`."""
        return self.job if self.metric == STEP_METRIC else f"{self.job}, {self.metric}"


@dataclass(frozen=True)
class Confirmation:
    """The result of the fresh blocks for a suspect series."""

    blocks: int
    slower: int
    """Pairs whose head was slower than the tolerance."""
    holds: bool


@dataclass(frozen=True)
class MeanFinding:
    """The mean of one series' d with the 95 % interval of the sign-flip test, as log ratios."""

    estimate: float
    low: float | None
    high: float | None
    tail: bool
    """Whether a tail of slow blocks alone keeps the series from passing."""
    blocks_needed: int | None
    """The blocks that would tell in most checks on which side of the tolerance the mean is, if the tail stays as it is;
    None without a tail, or if `MAX_BLOCKS_NEEDED` would not do.
    """


@dataclass(frozen=True)
class SeriesFinding:
    """One series at the look that ended the screening; estimate, bounds and `detectable` are log ratios, head over
    base.

    The interval is the two-sided 95 % one, so `high` and that of `mean` are the bounds that decide a PASS. `detectable`
    is the minimum detectable effect (`compute_detectable_effect`) for the standard deviation of these d's, which six
    blocks estimate to about 30 %.
    """

    series: MetricSeries
    blocks: int
    slower: int
    """Pairs whose head was slower than the tolerance."""
    estimate: float
    low: float | None
    high: float | None
    detectable: float | None
    suspect: bool
    decision: Decision
    confirmation: Confirmation | None = None
    mean: MeanFinding | None = None
    """None for a plan that does not look at the mean."""


@dataclass(frozen=True)
class Continue:
    """A request for blocks, up to `blocks` valid ones: of every series in screening, else fresh ones of `series`."""

    blocks: int
    series: tuple[MetricSeries, ...] = ()
    findings: tuple[SeriesFinding, ...] = ()
    """The findings of the look that raised the suspicion; empty in the screening."""


@dataclass(frozen=True)
class Verdict:
    """The end of a check. `blocks` is how many blocks of each job the screening took."""

    decision: Decision
    findings: tuple[SeriesFinding, ...]
    blocks: int
    plan: CheckPlan

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command: 0 passed or improved, 1 regressed, 4 inconclusive."""
        codes = {Decision.REGRESSED: ExitCode.FINDING, Decision.INCONCLUSIVE: ExitCode.INCONCLUSIVE}
        return codes.get(self.decision, ExitCode.DONE)


Observations = Mapping[MetricSeries, Sequence[float]]
"""d of every valid block in the order measured, by series: log(head / base), see `compute_log_ratio`."""


def compute_log_ratio(head_seconds: float, base_seconds: float) -> float:
    """Compute d of one block, above 0 if head is slower.

    Raises ValueError for times that are not positive and finite.
    """
    if not all(0 < seconds < math.inf for seconds in (head_seconds, base_seconds)):
        raise ValueError(f"head {head_seconds!r} s over base {base_seconds!r} s: both must be positive and finite")
    return math.log(head_seconds) - math.log(base_seconds)


def decide(observations: Observations, plan: CheckPlan, suspicion: Continue | None = None) -> Verdict | Continue:
    """Decide on the blocks so far: a verdict, or what to measure next.

    After a `suspicion` the observations are the fresh blocks that it asked for. PASS if at one look every gated series
    and the geometric means pass; IMPROVED if besides one of them is faster than the tolerance; REGRESSED if a suspicion
    is confirmed; INCONCLUSIVE if a suspicion is not confirmed or the blocks are used up. The first look that decides
    gives the verdict. Raises ValueError if a d is not finite, or no series is gated.
    """
    if not any(series.gated for series in observations):
        raise ValueError("no gated series: nothing to decide by")
    for series, log_ratios in observations.items():
        if series.job == GEOMETRIC_MEAN:
            raise ValueError(f"{GEOMETRIC_MEAN!r} is computed here and cannot be a job's name")
        if not all(map(math.isfinite, log_ratios)):
            raise ValueError(f"{series.label}: a difference is not a finite number")
    everything = {**observations, **geometric_means(observations)}
    return _screen(everything, plan) if suspicion is None else _confirm(everything, plan, suspicion)


def geometric_means(observations: Observations) -> dict[MetricSeries, Sequence[float]]:
    """Compute the series of mean d over the gated jobs, one for each metric that two or more of them share.

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


def _screen(observations: Observations, plan: CheckPlan) -> Verdict | Continue:
    for look in plan.looks:
        if look.blocks > min(map(len, observations.values())):
            return Continue(look.blocks)
        if look != plan.looks[-1] and not _is_decisive(observations, look, plan):
            continue
        findings = tuple(_examine(series, d, look, plan) for series, d in observations.items())
        gated = [finding for finding in findings if finding.series.gated]
        if suspects := {finding.series for finding in gated if finding.suspect}:
            # the suspects, and all gated series of a metric whose geometric mean is suspect
            whole = {series.metric for series in suspects if series.job == GEOMETRIC_MEAN}
            jobs = {each.series for each in gated if each.series.job != GEOMETRIC_MEAN}
            chosen = sorted(series for series in jobs if series in suspects or series.metric in whole)
            return Continue(plan.confirm_blocks, tuple(chosen), findings)
        decisions = {finding.decision for finding in gated}
        if Decision.INCONCLUSIVE not in decisions:
            decision = Decision.IMPROVED if Decision.IMPROVED in decisions else Decision.PASS
            return Verdict(decision, findings, look.blocks, plan)
    return Verdict(Decision.INCONCLUSIVE, findings, plan.max_blocks, plan)


def _is_decisive(observations: Observations, look: Look, plan: CheckPlan) -> bool:
    """Tell whether this look ends the screening, without the findings, which cost more than all flags."""
    gated = [np.asarray(d[: look.blocks], dtype=np.float64) for series, d in observations.items() if series.gated]
    flags = evaluate_look(np.stack(gated), look, plan)
    return bool(flags.passes.all() or flags.suspects.any())


def _confirm(observations: Observations, plan: CheckPlan, suspicion: Continue) -> Verdict | Continue:
    if min(len(observations[series]) for series in suspicion.series) < suspicion.blocks:
        return suspicion
    verdict, findings = Decision.INCONCLUSIVE, list(suspicion.findings)
    for place, finding in enumerate(findings):
        if finding.suspect and finding.series.gated:
            fresh = np.asarray(observations[finding.series][: suspicion.blocks], dtype=np.float64)
            holds = bool(confirm_slowdown(fresh, plan))
            decision = Decision.REGRESSED if holds else Decision.INCONCLUSIVE
            slower = int(np.count_nonzero(fresh > plan.log_tolerance))
            confirmation = Confirmation(len(fresh), slower, holds)
            findings[place] = replace(finding, decision=decision, confirmation=confirmation)
            verdict = decision if holds else verdict
    return Verdict(verdict, tuple(findings), findings[0].blocks, plan)


def _examine(series: MetricSeries, observed: Sequence[float], look: Look, plan: CheckPlan) -> SeriesFinding:
    log_ratios = np.asarray(observed[: look.blocks], dtype=np.float64)
    flags = evaluate_look(log_ratios, look, plan)
    low, high = signed_rank.confidence_bounds(log_ratios, plan.pass_alpha)
    return SeriesFinding(
        series,
        look.blocks,
        int(np.count_nonzero(log_ratios > plan.log_tolerance)),
        signed_rank.hodges_lehmann(log_ratios),
        low,
        high,
        compute_detectable_effect(float(np.std(log_ratios, ddof=1)), plan),
        bool(flags.suspects),
        # improved series pass too
        Decision.IMPROVED if flags.improves else Decision.PASS if flags.passes else Decision.INCONCLUSIVE,
        mean=_examine_mean(log_ratios, bool(flags.tails), plan) if plan.mean_passes else None,
    )


def _examine_mean(log_ratios: signed_rank.Float64Array, tail: bool, plan: CheckPlan) -> MeanFinding:
    estimate = math.fsum(log_ratios) / len(log_ratios)
    low, high = sign_flip.mean_bounds(log_ratios, plan.pass_alpha)
    needed = None
    if tail and estimate != plan.log_tolerance:
        # the sample size of a one-sided test of a normal mean
        deviates = NormalDist().inv_cdf(1 - plan.pass_alpha) + NormalDist().inv_cdf(plan.power)
        distance = abs(plan.log_tolerance - estimate) / float(np.std(log_ratios, ddof=1))
        blocks = (deviates / distance) ** 2
        needed = max(math.ceil(blocks), plan.max_blocks + 1) if blocks <= MAX_BLOCKS_NEEDED else None
    return MeanFinding(estimate, low, high, tail, needed)
