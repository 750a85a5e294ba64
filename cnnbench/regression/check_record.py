"""A check on disk: a journal that grows by a line a block while it runs, and the whole record once it has ended.

The journal (`FILE.part`, JSON lines: the header, then blocks, each on disk before the next begins) is what `--resume`
goes on with. The record (`FILE`, one JSON document) holds the same header and blocks, raw, and how the check ended.
The ending is derived from the rest by `regression.sequential`, so a replay writes the same bytes, or the record was edited.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from cnnbench.errors import LedgerError
from cnnbench.files import explain_refusal, save_file
from cnnbench.paired_protocol import Arm, PairRecord, Schedule
from cnnbench.regression.design import CheckPlan
from cnnbench.schema import Frozen, Job, Machine, Software, describe_first_problem
from cnnbench.store import Writer

_BEFORE_ENDING = '],\n"ending": '


@dataclass(frozen=True)
class DropLimits:
    """Shares of a block's time above which it is dropped, those at which a result is doubted (`analysis.doubts`).

    On an idle 2-core virtual machine steal was 0.1 % and pressure 0.5 %. Steal is a share of all cores' time.
    `control_band` is calibrated: how far from 0 the control loop's log ratio may be in one block; None where there is none.
    """

    cores: int
    steal_share: float = 0.01
    pressure_share: float = 0.05
    throttled_share: float = 0.01
    control_band: float | None = None


class ArmRecord(Frozen):
    """What one arm is: its code, its Python, its settings, and what its worker said it runs on."""

    label: str
    python: str
    """as it was asked for; empty: the one that ran the check, whose path is nobody's business"""
    ref: str | None = None
    commit: str | None = None
    settings: dict[str, str] = Field(default_factory=dict)
    software: Software
    environment: dict[str, str]
    """variables set for its worker, folders' own names left out"""


class CheckHeader(Frozen):
    """Everything settled before the first block."""

    kind: Literal["check"] = "check"
    record_version: int = 1  # changes of the record's shape. 1: first published
    check_id: str
    created_at: str
    cnnbench: str
    suite: str
    suite_digest: str
    machine: Machine
    base: ArmRecord
    head: ArmRecord
    jobs: dict[int, Job]
    """base's; head's differ by what `declared` names"""
    head_jobs: dict[int, Job]
    names: dict[int, str]
    """of the jobs, as the verdict calls them"""
    declared: tuple[str, ...] = ()
    """keys in which the arms differ on purpose: not compared"""
    mode: Schedule = "turns"
    rounds: int
    steps_per_turn: int
    metric: Literal["median", "mean"] = "median"
    seed: int
    plan: CheckPlan
    limits: DropLimits | None
    """the rule that drops blocks; None: none may be dropped"""
    max_minutes: float | None = None
    final_loss_bands: dict[int, float] = Field(default_factory=dict)
    """calibrated, by job"""
    profile: str | None = None
    """SHA-256 of the noise profile used"""
    advisory: str | None = None
    """why nothing can be demanded here, where that is so"""
    on_inconclusive: Literal["fail", "warn"] = "fail"
    again: dict[Arm, dict[int, float]] = Field(default_factory=dict)
    """work injected on purpose (selftest)"""
    purpose: Literal["check", "calibrate", "selftest"] = "check"


class CheckEnding(Frozen):
    """How it ended; everything in it follows from header and blocks. Log ratios, as in `regression.decision`."""

    outcome: Literal["pass", "improved", "regressed", "inconclusive", "incomparable", "unfit", "failed", "calibrated"]
    exit_code: int
    problem: str | None = None
    """in words, where there is no verdict"""
    notes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    """the verdict in words"""
    verdict: dict[str, Any] | None = None
    """regression.decision.Verdict less the plan"""
    dropped: dict[int, str] = Field(default_factory=dict)
    """block number to why it does not count"""


class CheckRecord(Frozen):
    """The whole check in one document."""

    header: CheckHeader
    blocks: tuple[PairRecord, ...]
    ending: CheckEnding


class Journal(Writer):
    """The one writer of a check that is going on; holds the file's lock until closed."""

    held = "this check is still going on; wait for it or end it"


def journal_path(path: Path) -> Path:
    """`check.json.part`, beside the record it becomes."""
    return path.with_name(f"{path.name}.part")


def begin_journal(path: Path, header: CheckHeader) -> Journal:
    """A new journal for the record `path`. Raises LedgerError where one is there already, or it cannot be written."""
    part = journal_path(path)
    if part.exists():
        raise LedgerError(f"{part}: an unfinished check is there; go on with --resume, or delete it")
    journal = Journal.create(part)
    journal.append(header)
    return journal


def reopen_journal(path: Path) -> tuple[Journal, CheckHeader, tuple[PairRecord, ...]]:
    """The journal of the record `path`, to go on with. Raises LedgerError where there is none or it is still going on."""
    part = journal_path(path)
    if not part.exists():
        raise LedgerError(f"{part}: no unfinished check to resume; start it without --resume")
    journal, where, blocks = Journal.reopen(part), f"{part}:1", []
    try:
        # the block that was being written when the power went is measured again
        lines = journal.drop_torn_line().splitlines()
        if not lines:
            raise LedgerError(f"{part}: empty; delete the file and start anew")
        header = CheckHeader.model_validate_json(lines[0])
        for number, line in enumerate(lines[1:], start=2):
            where = f"{part}:{number}"
            blocks.append(PairRecord.model_validate_json(line))
    except BaseException as error:
        journal.close()
        if isinstance(error, ValidationError):
            raise LedgerError(f"{where}: {describe_first_problem(error)}; delete the file and start anew") from error
        raise
    return journal, header, tuple(blocks)


def save_record(path: Path, record: CheckRecord) -> None:
    """Write the record whole, on disk before its name is there, then remove the journal. Raises FileError."""
    save_file(path, to_bytes(record), make_folder=True)
    with contextlib.suppress(OSError):
        journal_path(path).unlink()


def to_bytes(record: CheckRecord) -> bytes:
    """The document: a header to read, then a line a block."""
    head, ending = (part.model_dump_json(indent=1) for part in (record.header, record.ending))
    blocks = ",\n".join(block.model_dump_json() for block in record.blocks)
    return f'{{"header": {head},\n"blocks": [\n{blocks}\n{_BEFORE_ENDING}{ending}}}\n'.encode()


def replace_ending(content: bytes, record: CheckRecord) -> bytes:
    """The document `content` with the record's ending in place of its own; one in another layout is written anew.

    Header and blocks stay byte for byte, whichever version wrote them: a field that jobs have got since is not added.
    """
    before, mark, _ = content.rpartition(_BEFORE_ENDING.encode())
    if not mark:
        return to_bytes(record)
    return before + mark + record.ending.model_dump_json(indent=1).encode() + b"}\n"


def load_record(path: Path) -> CheckRecord:
    """A record read back. Raises LedgerError, with the first field that is wrong."""
    with explain_refusal(LedgerError, f"{path}: cannot be read"):
        content = path.read_bytes()
    try:
        return CheckRecord.model_validate_json(content)
    except ValidationError as error:
        raise LedgerError(f"{path}: not the record of a check: {describe_first_problem(error)}") from error
