"""A verdict in words, for every format: one line per series, the columns of its table, the conditions of the check.

A verdict and a `VerdictContext`, what the command knows besides, go in; plain words come out. Nothing is escaped here:
names and messages are data, and each format of `report` escapes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cnnbench import units
from cnnbench.regression.decision import GEOMETRIC_MEAN, MAX_BLOCKS_NEEDED, Decision, SeriesFinding, Verdict
from cnnbench.regression.design import CheckPlan

HEADINGS = {
    Decision.PASS: "PASS: no job is slower than {tolerance}",
    Decision.IMPROVED: "IMPROVED: faster by more than {tolerance} allows, and no job slower",
    Decision.REGRESSED: "REGRESSED: slower than {tolerance}, and confirmed by fresh blocks",
    Decision.INCONCLUSIVE: "INCONCLUSIVE: neither passed nor regressed; not to be read as no change",
}

RARE_SHARE = 0.2
"""The share of slow processes for which `explain_unseen` counts the checks that miss them."""
NOTHING_TO_SAY = "–"
"""The cell where nothing applies; an unknown value is n/a."""


@dataclass(frozen=True)
class VerdictContext:
    """The conditions of a check that its verdict does not include. The tolerance is in the verdict's plan."""

    title: str
    """The title of the whole report, such as `cnnbench check regression`."""
    suite: str
    base: str
    head: str
    """The arms by name: revisions, environments or settings."""
    machine_id: str
    base_software: str
    head_software: str
    """Versions that matter, in words: `torch 2.13.0+cpu, Python 3.11.7`."""
    seed: int
    """The seed of the coins that drew the order."""
    started_at: str
    """In UTC, as ISO 8601."""
    minutes: float
    """From the start to the verdict."""
    controls: Mapping[str, float]
    """The control loop's log ratio by job."""
    blocks_measured: int
    """The blocks of both stages, dropped ones too."""
    dropped: Mapping[int, str]
    """Number of the block to the reason why it does not count."""
    missing: Mapping[str, str]
    """Jobs without an observation, and why; a missing job has not passed."""
    files: tuple[str, ...]
    """Paths of the record and of the files generated from it."""
    notes: tuple[str, ...]
    """What a reader must know besides: that the check is advisory here, or that it stopped at its time limit."""
    job_seconds: Mapping[str, float] = field(default_factory=dict)
    """How long a job's processes ran, both arms and all blocks; jobs of unknown length are left out."""


def format_verdict(verdict: Verdict, controls: Mapping[str, float]) -> tuple[str, ...]:
    """Format the verdict, then one line for each series.

    `controls` are the control loop's log ratios by job.
    """
    heading = HEADINGS[verdict.decision].format(tolerance=format_tolerance(verdict.plan))
    return heading, *(format_finding(each, verdict.plan, controls.get(each.series.job)) for each in verdict.findings)


def format_finding(finding: SeriesFinding, plan: CheckPlan, control: float | None = None) -> str:
    """Format a series: `mnist-cnn/cpu: 8 of 8 pairs slower than +5 %; estimate +9.3 % [7.8, 10.9]`.

    A suspect series adds how many fresh blocks confirm it, one that passed what would have been found, an undecided one that
    it is undecided; then the control follows.
    """
    parts = [
        f"{finding.slower} of {finding.blocks} pairs slower than {format_tolerance(plan)}",
        f"estimate {format_estimate(finding)}",
    ]
    if finding.confirmation is not None:
        fresh = finding.confirmation
        parts.append(f"{'confirmed' if fresh.holds else 'not confirmed:'} {fresh.slower} of {fresh.blocks}")
    elif finding.decision == Decision.INCONCLUSIVE:
        parts.append("suspect" if finding.suspect else f"undecided after {finding.blocks} blocks")
        if is_tail(finding):
            parts.append(_explain_tail(finding, plan))
    if finding.decision in (Decision.PASS, Decision.IMPROVED):
        often = f"would be found in {units.percent(plan.power, 0)} of checks"
        blind = f"no slowdown could be found in {plan.max_blocks} blocks"
        parts.append(blind if finding.detectable is None else f"{format_change(finding.detectable)} {often}")
    if control is not None:
        parts.append(f"control {format_change(control)}")
    return f"{format_label(finding)}: {'; '.join(parts)}"


def is_tail(finding: SeriesFinding) -> bool:
    """Tell whether only a tail of slow blocks keeps the series from passing."""
    undecided = finding.decision == Decision.INCONCLUSIVE and not finding.suspect
    return undecided and finding.mean is not None and finding.mean.tail


def _explain_tail(finding: SeriesFinding, plan: CheckPlan) -> str:
    known = None if finding.mean is None else finding.mean.blocks_needed
    needed = f"about {known}" if known else f"more than {MAX_BLOCKS_NEEDED:,}"
    mean, limit = _format_mean(finding), format_tolerance(plan)
    return f"a tail of slow pairs: their mean {mean} may be above {limit}, which {needed} pairs would tell"


def explain_unseen(blocks: int) -> str:
    """Explain how often this many pairs have no slow process, if head is slow in a fifth of its processes."""
    missed, needed = units.percent((1 - RARE_SHARE) ** blocks, 0), math.ceil(math.log(0.05) / math.log(1 - RARE_SHARE))
    return (
        f"if head is slow in {units.percent(RARE_SHARE, 0)} of its processes, {blocks} pairs contain none of them in {missed} "
        f"of checks; {needed} pairs in less than 5 % (--min-blocks)"
    )


def format_change(log_ratio: float) -> str:
    """Format a log ratio as a change in percent with its sign: `+9.3 %`, `-4.8 %`, `0.0 %`."""
    return f"{_signed_percent(log_ratio)} %"


def format_tolerance(plan: CheckPlan) -> str:
    """Format the tolerance as it was asked for: `+5 %`, `+2.5 %`."""
    return format_change(plan.log_tolerance).replace(".0 %", " %")


def format_estimate(finding: SeriesFinding) -> str:
    """Format the estimate with its 95 % interval: `+9.3 % [7.8, 10.9]`."""
    return _format_interval(finding.estimate, finding.low, finding.high)


def _format_mean(finding: SeriesFinding) -> str:
    """Format the mean of the pairs with its 95 % interval, which decides a PASS too."""
    mean = finding.mean
    return NOTHING_TO_SAY if mean is None else _format_interval(mean.estimate, mean.low, mean.high)


def _format_interval(estimate: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return format_change(estimate)
    bounds = (_signed_percent(bound).removeprefix("+") for bound in (low, high))
    return f"{format_change(estimate)} [{', '.join(bounds)}]"


def _signed_percent(log_ratio: float) -> str:
    text = f"{100 * math.expm1(log_ratio):+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


class SeriesColumn(NamedTuple):
    """A column of the table of series: its title, the text of a series in it, and whether it is a number."""

    title: str
    text: Callable[[SeriesFinding], str]
    number: bool = True


def list_columns(verdict: Verdict, meta: VerdictContext) -> tuple[SeriesColumn, ...]:
    """List the columns of the table with one line per series."""
    power = units.percent(verdict.plan.power, 0)

    def format_control(finding: SeriesFinding) -> str:
        known = meta.controls.get(finding.series.job)
        if known is not None:
            return format_change(known)
        return NOTHING_TO_SAY if finding.series.job == GEOMETRIC_MEAN else units.NOT_AVAILABLE

    return (
        SeriesColumn("series", format_label, number=False),
        SeriesColumn("decision", format_decision, number=False),
        SeriesColumn("slower by, with 95 % interval", format_estimate),
        *((SeriesColumn("their mean", _format_mean),) if any(each.mean for each in verdict.findings) else ()),
        SeriesColumn(
            f"pairs slower than {format_tolerance(verdict.plan)}", lambda each: f"{each.slower} of {each.blocks}"
        ),
        SeriesColumn("confirmed by fresh pairs", _format_confirmation),
        SeriesColumn(
            f"would be found in {power} of checks",
            lambda each: "nothing" if each.detectable is None else format_change(each.detectable),
        ),
        SeriesColumn("control", format_control),
    )


def format_label(finding: SeriesFinding) -> str:
    """Name the series; one that does not decide is marked as advisory."""
    return finding.series.label if finding.series.gated else f"{finding.series.label} (advisory)"


def format_decision(finding: SeriesFinding) -> str:
    """Format `REGRESSED`, or `INCONCLUSIVE, suspect` if a suspicion was not confirmed or not followed up, or
    `INCONCLUSIVE, tail`.
    """
    word = finding.decision.value.upper()
    if is_tail(finding):
        return f"{word}, tail"
    return f"{word}, suspect" if finding.suspect and finding.decision == Decision.INCONCLUSIVE else word


def list_conditions(verdict: Verdict, meta: VerdictContext) -> tuple[tuple[str, str], ...]:
    """List name and text of everything the verdict depends on, in the order of reading."""
    gated = sum(finding.series.gated for finding in verdict.findings)
    bound = units.percent(verdict.plan.false_alarm_bound(gated), 3)
    fresh = max((each.confirmation.blocks for each in verdict.findings if each.confirmation), default=0)
    confirmed = f"; {fresh} fresh ones to confirm" if fresh else ""
    dropped = f"{len(meta.dropped)} of {meta.blocks_measured} measured were dropped by rule, blind to the times"
    return (
        ("base", f"{meta.base} ({meta.base_software})"),
        ("head", f"{meta.head} ({meta.head_software})"),
        ("suite", meta.suite),
        ("machine", meta.machine_id),
        ("tolerance", format_tolerance(verdict.plan)),
        ("false alarms", f"at most {bound} of checks of unchanged code with {gated} series, whatever the noise"),
        ("blocks", f"{verdict.blocks} of two fresh processes each{confirmed}; {dropped}"),
        *((f"block {number + 1} dropped", reason) for number, reason in meta.dropped.items()),
        *((f"missing: {job}", reason) for job, reason in meta.missing.items()),
        ("order", f"drawn by coins from seed {meta.seed}"),
        ("started", f"{meta.started_at}, took {units.duration(60 * meta.minutes)}"),
        *(("file", name) for name in meta.files),
        *(("note", note) for note in meta.notes),
    )


def _format_confirmation(finding: SeriesFinding) -> str:
    fresh = finding.confirmation
    return f"{'yes' if fresh.holds else 'no'}, {fresh.slower} of {fresh.blocks}" if fresh else NOTHING_TO_SAY
