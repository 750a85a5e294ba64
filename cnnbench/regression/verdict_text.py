"""A verdict in words: one line a series, with the counts, the estimate and its interval, and what could have been seen."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cnnbench import units
from cnnbench.regression.design import CheckPlan
from cnnbench.regression.verdict import Decision, SeriesFinding, Verdict

HEADINGS = {
    Decision.PASS: "PASS: no job is slower than {tolerance}",
    Decision.IMPROVED: "IMPROVED: faster by more than {tolerance} allows, and no job slower",
    Decision.REGRESSED: "REGRESSED: slower than {tolerance}, and confirmed by fresh blocks",
    Decision.INCONCLUSIVE: "INCONCLUSIVE: neither passed nor regressed; not to be read as no change",
}


def format_verdict(verdict: Verdict, controls: Mapping[str, float] | None = None) -> tuple[str, ...]:
    """The verdict, then a line for each series; `controls` are the control loop's log ratios by job."""
    heading = HEADINGS[verdict.decision].format(tolerance=format_tolerance(verdict.plan))
    known = controls or {}
    lines = [format_finding(each, verdict.plan, known.get(each.series.job)) for each in verdict.findings]
    return (heading, *lines)


def format_finding(finding: SeriesFinding, plan: CheckPlan, control: float | None = None) -> str:
    """`mnist-cnn/cpu: 8 of 8 pairs slower than +5 %; estimate +9.3 % [7.8, 10.9]; confirmed 10 of 10; control +0.1 %`.

    A series that passed says what would have been found, one that neither passed nor regressed says so.
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
    if finding.decision in (Decision.PASS, Decision.IMPROVED):
        parts.append(_format_detectable(finding, plan))
    if control is not None:
        parts.append(f"control {format_change(control)}")
    advice = "" if finding.series.gated else " (advisory)"
    return f"{finding.series.label}{advice}: {'; '.join(parts)}"


def format_change(log_ratio: float) -> str:
    """A log ratio as a change in percent with its sign: `+9.3 %`, `-4.8 %`, `0.0 %`."""
    return f"{_signed_percent(log_ratio)} %"


def format_tolerance(plan: CheckPlan) -> str:
    """The tolerance as it was asked for: `+5 %`, `+2.5 %`."""
    return format_change(plan.log_tolerance).replace(".0 %", " %")


def format_estimate(finding: SeriesFinding) -> str:
    """The estimate with its 95 % interval: `+9.3 % [7.8, 10.9]`."""
    if finding.low is None or finding.high is None:
        return format_change(finding.estimate)
    low, high = (_signed_percent(bound).removeprefix("+") for bound in (finding.low, finding.high))
    return f"{format_change(finding.estimate)} [{low}, {high}]"


def _signed_percent(log_ratio: float) -> str:
    text = units.percent(math.expm1(log_ratio), 1).removesuffix(" %")
    if text in ("0.0", "-0.0"):
        return "0.0"
    return text if text.startswith("-") else f"+{text}"


def _format_detectable(finding: SeriesFinding, plan: CheckPlan) -> str:
    if finding.detectable is None:
        return f"no slowdown could be found in {plan.max_blocks} blocks"
    return f"{format_change(finding.detectable)} would be found in {units.percent(plan.power, 0)} of checks"
