"""Decides from a check's header and its blocks so far what to do next, or how the check ended.

All but `measure_blocks`, which measures blocks and writes them to disk, is pure; a replay uses the same functions.

Blocks that failed are measured again, a few times; blocks that the blind rule drops are replaced; arms that did unequal
work are not compared at all. When its time is used up, a check ends at a look, never between two, so the clock does not
depend on the differences seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cnnbench import units
from cnnbench.errors import ComparisonError, ExitCode, LedgerError, UnfitError, WorkerError
from cnnbench.paired_protocol import PairRecord, PhaseName
from cnnbench.regression.blocks import compute_differences, control_ratios_by_job, explain_drop, require_equal_work
from cnnbench.regression.check_record import CheckEnding, CheckHeader, CheckRecord
from cnnbench.regression.decision import Continue, Decision, SeriesFinding, Verdict, decide
from cnnbench.regression.design import CheckPlan
from cnnbench.regression.signed_rank import hodges_lehmann
from cnnbench.regression.verdict_text import explain_unseen, format_verdict
from cnnbench.store import Writer

MAX_FAILED_BLOCKS = 3
"""Blocks that may fail in one check before it is given up; a single failure may be the machine's fault."""
ENDED_WITHOUT_VERDICT = (WorkerError, ComparisonError, UnfitError)
"""Errors that end a check without a verdict."""
MAX_DROPPED_SHARE = 0.3
"""Largest share of all measured blocks that may be dropped."""


@dataclass(frozen=True)
class NextBlock:
    """A request for another block of these jobs in this stage; there are `valid` of the `blocks` valid ones needed."""

    stage: PhaseName
    jobs: tuple[int, ...]
    blocks: int
    valid: int


BlockMeasurer = Callable[[int, NextBlock], PairRecord]
"""Measures the block of the given number as requested."""
BlockReporter = Callable[[CheckHeader, NextBlock, PairRecord], object]
"""Called for each block, with what was requested, once it is on disk."""
BlockFinder = Callable[[CheckHeader, Sequence[PairRecord]], Verdict | NextBlock | None]
"""Finds what to measure after these blocks; anything but a `NextBlock` if there are enough."""


@dataclass(frozen=True)
class CheckProgress:
    """A verdict or the next block, and what was dropped so far."""

    answer: Verdict | NextBlock
    dropped: dict[int, str]
    out_of_time: bool = False


def next_step(header: CheckHeader, blocks: Sequence[PairRecord]) -> CheckProgress:
    """Decide what follows from these blocks. Raises what `sort_blocks` raises."""
    counted, dropped = sort_blocks(header, blocks)
    confirming = [block for block in counted if block.stage == "confirming"]
    stage: PhaseName = "screening"
    jobs, measured = tuple(sorted(header.jobs)), [block for block in counted if block.stage == stage]
    plan, out_of_time = _cut_plan_to_time(header, blocks, measured)
    answer = decide(compute_differences(header, measured, jobs), plan)
    if isinstance(answer, Continue) and answer.series:
        if out_of_time and not confirming:
            answer = Verdict(Decision.INCONCLUSIVE, answer.findings, answer.findings[0].blocks, plan)
        else:
            names = {series.job for series in answer.series}
            stage, measured = "confirming", confirming
            jobs = tuple(job for job in jobs if header.names[job] in names)
            answer = decide(compute_differences(header, confirming, jobs), plan, answer)
    if isinstance(answer, Continue):
        return CheckProgress(NextBlock(stage, jobs, answer.blocks, len(measured)), dropped)
    cut_short = out_of_time and not confirming and answer.decision == Decision.INCONCLUSIVE
    return CheckProgress(answer, dropped, cut_short)


def sort_blocks(header: CheckHeader, blocks: Sequence[PairRecord]) -> tuple[list[PairRecord], dict[int, str]]:
    """Sort out the blocks that count, and give the reason for each one that the machine's counters drop.

    Raises WorkerError if too many failed, ComparisonError for unequal work, UnfitError if too many are dropped.
    """
    reject_failures(blocks)
    counted, dropped = [], {}
    for block in blocks:
        if block.failure is None:
            require_equal_work(header, block)
            if (reason := explain_drop(header, block)) is None:
                counted.append(block)
            else:
                dropped[block.number] = reason
    # a machine is unfit if it loses more than 30 % even when all further blocks of the plan count
    least_measured = len(dropped) + max(header.plan.max_blocks, len(counted))
    if len(dropped) > MAX_DROPPED_SHARE * least_measured:
        share, last = units.percent(MAX_DROPPED_SHARE, 0), list(dropped.values())[-1]
        raise UnfitError(
            f"the machine is unfit for measuring: {len(dropped)} blocks were dropped, more than {share} of "
            f"{least_measured}; the last: {last}; quieten it, or say --keep-disturbed"
        )
    return counted, dropped


def reject_failures(blocks: Sequence[PairRecord]) -> None:
    """Raise ComparisonError or WorkerError if workers failed more often than is allowed."""
    failures = [block.failure for block in blocks if block.failure is not None]
    for failure in failures:
        where = f"{failure.arm or 'an arm'}: {failure.status}: {failure.message}"
        if failure.status == "outdated":
            raise ComparisonError(f"{where}; give an arm whose cnnbench can be compared")
        if failure.status in ("unsupported", "diverged"):  # a fresh process would only fail again
            raise WorkerError(where)
    if len(failures) >= MAX_FAILED_BLOCKS:
        last = failures[-1]
        tail = f"\n{last.stderr_tail}" if last.stderr_tail else ""
        raise WorkerError(
            f"{len(failures)} of {len(blocks)} blocks failed; the last, {last.arm}: {last.status}: {last.message}{tail}"
        )


def _cut_plan_to_time(
    header: CheckHeader, blocks: Sequence[PairRecord], counted: Sequence[PairRecord]
) -> tuple[CheckPlan, bool]:
    """Cut the plan after the first look that came when the time was used up.

    Also return whether there was one.
    """
    plan = header.plan
    for place, look in enumerate(plan.looks, start=1):
        if header.max_minutes is None or look.blocks > len(counted):
            break
        last = counted[look.blocks - 1].number
        spent = sum(block.wall_seconds for block in blocks if block.number <= last)
        if spent >= 60 * header.max_minutes:
            return replace(plan, looks=plan.looks[:place]), True
    return plan, False


def find_answer(header: CheckHeader, blocks: Sequence[PairRecord]) -> Verdict | NextBlock | None:
    """Find what to measure next, or the verdict; None if the check has ended without one."""
    try:
        return next_step(header, blocks).answer
    except ENDED_WITHOUT_VERDICT:
        return None


def measure_blocks(
    journal: Writer,
    header: CheckHeader,
    blocks: Sequence[PairRecord],
    measure: BlockMeasurer,
    report: BlockReporter,
    find_next: BlockFinder = find_answer,
) -> tuple[PairRecord, ...]:
    """Continue measuring from these blocks to the end.

    Every block is on disk before it is judged; an interrupt loses none.
    """
    done = list(blocks)
    while isinstance(next_block := find_next(header, done), NextBlock):
        block = measure(len(done), next_block)
        journal.append(block)
        done.append(block)
        report(header, next_block, block)
    return tuple(done)


def conclude(header: CheckHeader, blocks: Sequence[PairRecord]) -> CheckRecord:
    """Make the record of a check that has ended, with or without a verdict.

    Raises LedgerError if it has not ended.
    """
    try:
        judged = next_step(header, blocks)
    except ENDED_WITHOUT_VERDICT as error:
        outcome = {ComparisonError: "incomparable", UnfitError: "unfit"}.get(type(error), "failed")
        ending = CheckEnding.model_validate({"outcome": outcome, "exit_code": error.exit_code, "problem": str(error)})
        return CheckRecord(header=header, blocks=tuple(blocks), ending=ending)
    verdict = judged.answer
    if isinstance(verdict, NextBlock):
        raise LedgerError(
            f"the record ends before the verdict: the {verdict.stage} takes {verdict.blocks} blocks of each job"
        )
    controls = {name: hodges_lehmann(ratios) for name, ratios in control_ratios_by_job(header, blocks).items()}
    forgiven = verdict.decision == Decision.INCONCLUSIVE and header.on_inconclusive == "warn"
    notes = _list_notes(header, judged, verdict, forgiven)
    ending = CheckEnding(
        outcome=verdict.decision.value,
        exit_code=ExitCode.DONE if forgiven else verdict.exit_code,
        notes=notes,
        lines=(*format_verdict(verdict, controls), *notes),
        verdict={
            "decision": str(verdict.decision),
            "blocks": verdict.blocks,
            "findings": list(map(_to_values, verdict.findings)),
        },
        dropped=judged.dropped,
    )
    return CheckRecord(header=header, blocks=tuple(blocks), ending=ending)


def _to_values(finding: SeriesFinding) -> dict[str, Any]:
    """Convert a finding to plain values; a record of version 1 has no word of the mean."""
    return {name: value for name, value in asdict(finding).items() if name != "mean" or value is not None}


def _list_notes(header: CheckHeader, judged: CheckProgress, verdict: Verdict, forgiven: bool) -> tuple[str, ...]:
    notes = []
    if judged.out_of_time:
        notes.append(f"stopped at the look after {verdict.blocks} blocks: {header.max_minutes:g} minutes were used up")
    if judged.dropped:
        last = list(judged.dropped.values())[-1]
        notes.append(f"{len(judged.dropped)} blocks were dropped by the rule declared before; the last: {last}")
    if header.declared:
        notes.append(f"declared different, so not compared: {', '.join(header.declared)}")
    if any(header.again.values()):
        notes.append("work was injected on purpose: this is a test of the check")
    if header.advisory is not None:
        notes.append(f"advisory: {header.advisory}")
    if forgiven:
        notes.append("inconclusive is a warning here, not a failure")
    if header.plan.mean_passes and verdict.decision in (Decision.PASS, Decision.IMPROVED):
        notes.append(explain_unseen(verdict.blocks))
    return tuple(notes)
