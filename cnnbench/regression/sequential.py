"""From a check's header and its blocks so far to what is to be done next, or to how it ended.

All but `measure_blocks`, which has blocks measured and puts them on disk, is pure: a replay is this.

Blocks that failed are measured again, a few times; blocks that the blind rule drops are replaced; arms that did unequal
work are not compared at all. Time that is used up ends a check at a look, never between: what the clock says does not
depend on the differences seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from cnnbench import units
from cnnbench.errors import ComparisonError, ExitCode, LedgerError, UnfitError, WorkerError
from cnnbench.paired_protocol import PairRecord, PhaseName
from cnnbench.regression.blocks import compute_differences, control_ratios_by_job, explain_drop, require_equal_work
from cnnbench.regression.check_record import CheckEnding, CheckHeader, CheckRecord
from cnnbench.regression.decision import Continue, Decision, Verdict, decide
from cnnbench.regression.design import CheckPlan
from cnnbench.regression.signed_rank import hodges_lehmann
from cnnbench.regression.verdict_text import format_verdict
from cnnbench.store import Writer

MAX_FAILED_BLOCKS = 3
"""Blocks that may fail in one check before it is given up; one alone may be the machine's fault."""
ENDED_WITHOUT_VERDICT = (WorkerError, ComparisonError, UnfitError)
"""What ends a check but a verdict."""
MAX_DROPPED_SHARE = 0.3
"""Share of all blocks measured."""


@dataclass(frozen=True)
class NextBlock:
    """Measure another block: of these jobs, in this stage, towards `blocks` valid ones, `valid` of which are there."""

    stage: PhaseName
    jobs: tuple[int, ...]
    blocks: int
    valid: int


BlockMeasurer = Callable[[int, NextBlock], PairRecord]
"""(number of the block, what is wanted) to the block measured."""
BlockReporter = Callable[[CheckHeader, NextBlock, PairRecord], object]
"""Told of each block, with what was wanted, once it is on disk."""
BlockFinder = Callable[[CheckHeader, Sequence[PairRecord]], Verdict | NextBlock | None]
"""What to measure after these blocks; anything else where there are enough."""


@dataclass(frozen=True)
class CheckProgress:
    """A verdict or the next block, and what was dropped on the way."""

    answer: Verdict | NextBlock
    dropped: dict[int, str]
    out_of_time: bool = False


def next_step(header: CheckHeader, blocks: Sequence[PairRecord]) -> CheckProgress:
    """What these blocks lead to. Raises what `sort_blocks` raises."""
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
    """The blocks that neither failed nor are dropped by the machine's counters, and why each of the dropped does not count.

    Raises WorkerError where too many failed, ComparisonError for unequal work, UnfitError where too many are dropped.
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
    # unfit is a machine that loses more than 30 % even if all blocks to come up to the plan's end count
    least_measured = len(dropped) + max(header.plan.max_blocks, len(counted))
    if len(dropped) > MAX_DROPPED_SHARE * least_measured:
        share, last = units.percent(MAX_DROPPED_SHARE, 0), list(dropped.values())[-1]
        raise UnfitError(
            f"the machine is unfit for measuring: {len(dropped)} blocks were dropped, more than {share} of "
            f"{least_measured}; the last: {last}; quieten it, or say --keep-disturbed"
        )
    return counted, dropped


def reject_failures(blocks: Sequence[PairRecord]) -> None:
    """Raises ComparisonError or WorkerError where workers failed more often than is forgiven."""
    failures = [block.failure for block in blocks if block.failure is not None]
    for failure in failures:
        where = f"{failure.arm or 'an arm'}: {failure.status}: {failure.message}"
        if failure.status == "outdated":
            raise ComparisonError(f"{where}; give an arm whose cnnbench can be compared")
        if failure.status in ("unsupported", "diverged"):  # a fresh process would only say it again
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
    """The plan without the looks after the first that came when the time was used up; and whether one did."""
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
    """What to measure next, or the verdict; None where the check has ended without one."""
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
    """Measure on from these blocks to the end. Every block is on disk before it is judged; an interrupt loses none."""
    done = list(blocks)
    while isinstance(next_block := find_next(header, done), NextBlock):
        block = measure(len(done), next_block)
        journal.append(block)
        done.append(block)
        report(header, next_block, block)
    return tuple(done)


def conclude(header: CheckHeader, blocks: Sequence[PairRecord]) -> CheckRecord:
    """The record of a check that has ended, by verdict or for a reason to end without one. Raises LedgerError if it has not."""
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
    notes = _list_notes(header, judged, verdict.blocks, forgiven)
    ending = CheckEnding(
        outcome=verdict.decision.value,
        exit_code=ExitCode.DONE if forgiven else verdict.exit_code,
        notes=notes,
        lines=(*format_verdict(verdict, controls), *notes),
        verdict={
            "decision": str(verdict.decision),
            "blocks": verdict.blocks,
            "findings": list(map(asdict, verdict.findings)),
        },
        dropped=judged.dropped,
    )
    return CheckRecord(header=header, blocks=tuple(blocks), ending=ending)


def _list_notes(header: CheckHeader, judged: CheckProgress, screened: int, forgiven: bool) -> tuple[str, ...]:
    notes = []
    if judged.out_of_time:
        notes.append(f"stopped at the look after {screened} blocks: {header.max_minutes:g} minutes were used up")
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
    return tuple(notes)
