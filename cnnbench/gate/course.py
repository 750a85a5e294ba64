"""From a check's header and its blocks so far to what is to be done next, or to how it ended. Pure: a replay is this.

Blocks that failed are measured again, a few times; blocks that the blind rule drops are replaced; arms that did unequal
work are not compared at all. Time that is used up ends a check at a look, never between: what the clock says does not
depend on the differences seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cnnbench.errors import CnnbenchError, ComparisonError, ExitCode, LedgerError, UnfitError, WorkerError
from cnnbench.gate import guards
from cnnbench.gate.decide import decide
from cnnbench.gate.observe import controls, hold_to_equal_work, observe, state_of
from cnnbench.gate.plan import Plan
from cnnbench.gate.recording import CheckHeader, CheckRecord, Ending, verdict_values
from cnnbench.gate.verdict import Confirming, Continue, Decision, Screening, Verdict
from cnnbench.gate.words import verdict_lines
from cnnbench.pairing import Block, StageName

MOST_FAILED = 3
"""Blocks that may fail in one check before it is given up; one alone may be the machine's fault."""
NOT_RETRIED = ("unsupported", "outdated", "diverged")
"""What a fresh process would only say again."""


@dataclass(frozen=True)
class Next:
    """Measure another block: of these jobs, in this stage, towards `blocks` valid ones, `valid` of which are there."""

    stage: StageName
    jobs: tuple[int, ...]
    blocks: int
    valid: int


@dataclass(frozen=True)
class Judged:
    """A verdict or the next block, and what was dropped on the way."""

    answer: Verdict | Next
    dropped: dict[int, str]
    out_of_time: bool = False


def judge(header: CheckHeader, blocks: Sequence[Block]) -> Judged:
    """What these blocks lead to.

    Raises WorkerError where workers fail too often, ComparisonError for unequal work, UnfitError where the machine
    disturbs too many blocks.
    """
    hold_failures(blocks)
    sound = [block for block in blocks if block.failure is None]
    for block in sound:
        hold_to_equal_work(header, block)
    dropped = dropped_blocks(header, sound)
    counted = [block for block in sound if block.number not in dropped]
    screening = [block for block in counted if block.stage == "screening"]
    confirming = [block for block in counted if block.stage == "confirming"]
    plan, out_of_time = _plan_in_time(header, blocks, screening)
    everything = tuple(sorted(header.jobs))
    answer = decide(observe(header, screening, everything), Screening(), plan)
    if isinstance(answer, Verdict):
        return Judged(answer, dropped, out_of_time and answer.decision == Decision.INCONCLUSIVE)
    if isinstance(answer.stage, Screening):
        return Judged(Next("screening", everything, answer.blocks, len(screening)), dropped)
    if out_of_time and not confirming:
        verdict = Verdict(Decision.INCONCLUSIVE, answer.stage.findings, answer.stage.findings[0].blocks, plan)
        return Judged(verdict, dropped, out_of_time=True)
    return Judged(_confirm(header, answer, answer.stage, confirming, plan), dropped)


def _confirm(
    header: CheckHeader, wish: Continue, stage: Confirming, blocks: Sequence[Block], plan: Plan
) -> Verdict | Next:
    numbers = {name: job for job, name in header.names.items()}
    jobs = tuple(sorted({numbers[series.job] for series in wish.series}))
    answer = decide(observe(header, blocks, jobs), stage, plan)
    return answer if isinstance(answer, Verdict) else Next("confirming", jobs, answer.blocks, len(blocks))


def hold_failures(blocks: Sequence[Block]) -> None:
    """Raises ComparisonError or WorkerError where workers failed more often than is forgiven."""
    failures = [block.failure for block in blocks if block.failure is not None]
    for failure in failures:
        where = f"{failure.arm or 'an arm'}: {failure.status}: {failure.message}"
        if failure.status == "outdated":
            raise ComparisonError(f"{where}; give an arm whose cnnbench can be compared")
        if failure.status in NOT_RETRIED:
            raise WorkerError(where)
    if len(failures) >= MOST_FAILED:
        last = failures[-1]
        tail = f"\n{last.stderr_tail}" if last.stderr_tail else ""
        raise WorkerError(
            f"{len(failures)} of {len(blocks)} blocks failed; the last, {last.arm}: {last.status}: {last.message}{tail}"
        )


def dropped_blocks(header: CheckHeader, sound: Sequence[Block]) -> dict[int, str]:
    """Why blocks do not count, by their number. Raises UnfitError where they are too many."""
    if header.limits is None:
        return {}
    limits = header.limits.limits()
    sifted = guards.sift([state_of(header, block) for block in sound], limits)
    reason = guards.reason_unfit(sifted, header.plan.plan().most_blocks)
    if reason is not None:
        raise UnfitError(f"the machine is unfit for measuring: {reason}; quieten it, or say --keep-disturbed")
    return {sound[each.block].number: each.reason for each in sifted.dropped}


def _plan_in_time(header: CheckHeader, blocks: Sequence[Block], counted: Sequence[Block]) -> tuple[Plan, bool]:
    """The plan without the looks after the first that came when the time was used up; and whether one did."""
    plan = header.plan.plan()
    if header.max_minutes is None:
        return plan, False
    for place, look in enumerate(plan.looks):
        if look.blocks > len(counted):
            return plan, False
        last = counted[look.blocks - 1].number
        spent = sum(block.wall_seconds for block in blocks if block.number <= last)
        if spent >= 60 * header.max_minutes:
            return replace(plan, looks=plan.looks[: place + 1]), True
    return plan, False


def conclude(header: CheckHeader, blocks: Sequence[Block]) -> CheckRecord:
    """The record of a check that has ended, by verdict or for a reason to end without one. Raises LedgerError if it has not."""
    try:
        judged = judge(header, blocks)
    except (WorkerError, ComparisonError, UnfitError) as error:
        return CheckRecord(header=header, blocks=tuple(blocks), ending=ending_without_verdict(error))
    if isinstance(judged.answer, Next):
        wish = judged.answer
        raise LedgerError(
            f"the record ends before the verdict: the {wish.stage} takes {wish.blocks} blocks of each job"
        )
    verdict = judged.answer
    notes = _notes(header, judged, verdict)
    return CheckRecord(
        header=header,
        blocks=tuple(blocks),
        ending=Ending(
            outcome=verdict.decision.value,
            exit_code=_exit_code(header, verdict),
            notes=notes,
            lines=(*verdict_lines(verdict, _control_estimates(header, blocks)), *notes),
            verdict=verdict_values(verdict),
            dropped=judged.dropped,
        ),
    )


def verdict_of(record: CheckRecord) -> Verdict | None:
    """The verdict anew, as the surfaces take it; None where the check ended without one."""
    try:
        answer = judge(record.header, record.blocks).answer
    except (WorkerError, ComparisonError, UnfitError):
        return None
    return answer if isinstance(answer, Verdict) else None


def ending_without_verdict(error: CnnbenchError) -> Ending:
    """Incomparable, unfit or failed, with the reason."""
    outcome = {ComparisonError: "incomparable", UnfitError: "unfit"}.get(type(error), "failed")
    return Ending.model_validate({"outcome": outcome, "exit_code": int(error.exit_code), "problem": str(error)})


def _exit_code(header: CheckHeader, verdict: Verdict) -> int:
    if verdict.decision == Decision.INCONCLUSIVE and header.on_inconclusive == "warn":
        return int(ExitCode.DONE)
    return int(verdict.exit_code)


def _control_estimates(header: CheckHeader, blocks: Sequence[Block]) -> dict[str, float]:
    sound = [block for block in blocks if block.failure is None]
    return {name: guards.control(ratios, None).estimate for name, ratios in controls(header, sound).items()}


def _notes(header: CheckHeader, judged: Judged, verdict: Verdict) -> tuple[str, ...]:
    notes: list[str] = []
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
    if verdict.decision == Decision.INCONCLUSIVE and header.on_inconclusive == "warn":
        notes.append("inconclusive is a warning here, not a failure")
    return tuple(notes)
