"""A check on disk: a journal that grows by one line per block while the check runs, and the whole record once it has
ended.

The journal (`FILE.part`, JSON lines: the header, then blocks, each on disk before the next begins) is what `--resume`
continues. The record (`FILE`, one JSON document) holds the same header and blocks, raw, and how the check ended. The
ending is derived from the rest by `regression.sequential`, so a replay that writes other bytes shows that the record
was edited.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from cnnbench.errors import LedgerError
from cnnbench.files import explain_refusal, save_file
from cnnbench.paired_protocol import Arm, PairRecord, Schedule
from cnnbench.regression.design import CheckPlan
from cnnbench.schema import Frozen, Job, Machine, Software, describe_first_problem
from cnnbench.store import Writer

_BEFORE_ENDING = '],\n"ending": '


@dataclass(frozen=True)
class DropLimits:
    """Shares of a block's time above which it is dropped, the same at which a result is doubted (`analysis.doubts`).

    On an idle 2-core virtual machine steal was 0.1 % and pressure 0.5 %. Steal is a share of all cores' time.
    `control_band` is calibrated: how far from 0 the control loop's log ratio may be in one block; None if not
    calibrated.
    """

    cores: int
    steal_share: float = 0.01
    pressure_share: float = 0.05
    throttled_share: float = 0.01
    control_band: float | None = None


class ArmRecord(Frozen):
    """What one arm is: its code, its Python, its settings, and the software that its worker reported."""

    label: str
    python: str
    """as it was asked for; empty for the Python that ran the check, whose path stays private"""
    ref: str | None = None
    commit: str | None = None
    settings: dict[str, str] = Field(default_factory=dict)
    software: Software
    environment: dict[str, str]
    """variables set for its worker, without the folders' own names"""


class CheckHeader(Frozen):
    """Everything decided before the first block."""

    kind: Literal["check"] = "check"
    record_version: int = (
        2  # changes of the record's shape or of the decision. 1: first published. 2: a test on the mean
    )
    check_id: str
    created_at: str
    cnnbench: str
    suite: str
    suite_digest: str
    machine: Machine
    base: ArmRecord
    head: ArmRecord
    jobs: dict[int, Job]
    """base's jobs; head's differ in what `declared` names"""
    head_jobs: dict[int, Job]
    names: dict[int, str]
    """names of the jobs in the verdict"""
    declared: tuple[str, ...] = ()
    """keys in which the arms differ on purpose, so that they are not compared"""
    mode: Schedule = "turns"
    rounds: int
    steps_per_turn: int
    metric: Literal["median", "mean"] = "median"
    seed: int
    plan: CheckPlan
    limits: DropLimits | None
    """the rule that drops blocks; None if no block may be dropped"""
    max_minutes: float | None = None
    final_loss_bands: dict[int, float] = Field(default_factory=dict)
    """calibrated limits, by job"""
    profile: str | None = None
    """SHA-256 of the noise profile used"""
    advisory: str | None = None
    """why the result cannot be demanded here, if so"""
    on_inconclusive: Literal["fail", "warn"] = "fail"
    again: dict[Arm, dict[int, float]] = Field(default_factory=dict)
    """work injected on purpose (selftest)"""
    purpose: Literal["check", "calibrate", "selftest"] = "check"

    @model_validator(mode="before")
    @classmethod
    def _keep_its_rules(cls, values: Any) -> Any:
        """Decide a record of version 1, whose plan has no test on the mean, by the rules it was made by."""
        if isinstance(values, dict) and values.get("record_version") == 1 and isinstance(values.get("plan"), dict):
            return {**values, "plan": {"confirm_mean_alpha": None, "mean_passes": False, **values["plan"]}}
        return values


class CheckEnding(Frozen):
    """How the check ended; everything in it follows from header and blocks. Log ratios, as in `regression.decision`."""

    outcome: Literal["pass", "improved", "regressed", "inconclusive", "incomparable", "unfit", "failed", "calibrated"]
    exit_code: int
    problem: str | None = None
    """the problem in words, if there is no verdict"""
    notes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    """the verdict in words"""
    verdict: dict[str, Any] | None = None
    """regression.decision.Verdict without the plan"""
    dropped: dict[int, str] = Field(default_factory=dict)
    """block number to the reason why it does not count"""


class CheckRecord(Frozen):
    """The whole check in one document."""

    header: CheckHeader
    blocks: tuple[PairRecord, ...]
    ending: CheckEnding


class Journal(Writer):
    """The one writer of a check in progress; holds the file's lock until closed."""

    held = "this check is still running; wait for it or end it"


def journal_path(path: Path) -> Path:
    """Name the journal `check.json.part`, beside the record it becomes."""
    return path.with_name(f"{path.name}.part")


def begin_journal(path: Path, header: CheckHeader) -> Journal:
    """Create the journal of the record `path`.

    Raises LedgerError if there is one already, or it cannot be written.
    """
    part = journal_path(path)
    if part.exists():
        raise LedgerError(f"{part}: there is an unfinished check; continue it with --resume, or delete it")
    journal = Journal.create(part)
    journal.append(header)
    return journal


def reopen_journal(path: Path) -> tuple[Journal, CheckHeader, tuple[PairRecord, ...]]:
    """Open the journal of the record `path` to resume it.

    Raises LedgerError if there is none or its check still runs.
    """
    part = journal_path(path)
    if not part.exists():
        raise LedgerError(f"{part}: no unfinished check to resume; start it without --resume")
    journal, where, blocks = Journal.reopen(part), f"{part}:1", []
    try:
        # a block that was being written at a power failure is measured again
        lines = journal.drop_torn_line().splitlines()
        if not lines:
            raise LedgerError(f"{part}: empty; delete the file and start again")
        header = CheckHeader.model_validate_json(lines[0])
        for number, line in enumerate(lines[1:], start=2):
            where = f"{part}:{number}"
            blocks.append(PairRecord.model_validate_json(line))
    except BaseException as error:
        journal.close()
        if isinstance(error, ValidationError):
            raise LedgerError(f"{where}: {describe_first_problem(error)}; delete the file and start again") from error
        raise
    return journal, header, tuple(blocks)


def save_record(path: Path, record: CheckRecord) -> None:
    """Write the record whole, on disk before its name is there, then remove the journal.

    Raises FileError.
    """
    save_file(path, to_bytes(record), make_folder=True)
    with contextlib.suppress(OSError):
        journal_path(path).unlink()


def to_bytes(record: CheckRecord) -> bytes:
    """Serialize the record: a header to read, then one line per block."""
    head, ending = (part.model_dump_json(indent=1) for part in (record.header, record.ending))
    blocks = ",\n".join(block.model_dump_json() for block in record.blocks)
    return f'{{"header": {head},\n"blocks": [\n{blocks}\n{_BEFORE_ENDING}{ending}}}\n'.encode()


def replace_ending(content: bytes, record: CheckRecord) -> bytes:
    """Replace the ending in the document `content` by the record's.

    A document in another layout is written again. Header and blocks stay byte for byte, whichever version wrote them: a
    field that jobs have got since is not added.
    """
    before, mark, _ = content.rpartition(_BEFORE_ENDING.encode())
    if not mark:
        return to_bytes(record)
    return before + mark + record.ending.model_dump_json(indent=1).encode() + b"}\n"


def load_record(path: Path) -> CheckRecord:
    """Load a record. Raises LedgerError, with the first field that is wrong."""
    with explain_refusal(LedgerError, f"{path}: cannot be read"):
        content = path.read_bytes()
    try:
        return CheckRecord.model_validate_json(content)
    except ValidationError as error:
        raise LedgerError(f"{path}: not the record of a check: {describe_first_problem(error)}") from error
