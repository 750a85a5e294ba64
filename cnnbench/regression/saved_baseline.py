"""A stored baseline: figures of runs recorded under the same conditions, and the file they are kept in.

Enter the processes of some runs of one machine (`make_baseline`); leaves a `SavedBaseline`, which `screen_run` compares a
later run with. Each row keeps the runs under its newest run's conditions, the others are named and left out. A baseline never
moves by itself: nothing here takes the last run for it. Its text carries the SHA-256 of its contents, which finds accidents
and careless edits, and of each ledger it was made of.

FLOPs are derived, and stored here all the same: that the same job once had others is what the exact rule is to find.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field, ValidationError

from cnnbench import store
from cnnbench.analysis.conditions import Conditions, find_differences, read_conditions, volatile_facts
from cnnbench.analysis.metrics import step_flops
from cnnbench.analysis.process_table import Process
from cnnbench.analysis.ratio import FieldDifference
from cnnbench.errors import LedgerError, UsageError
from cnnbench.schema import DataKind, Frozen, Job, RunHeader, digest

MAX_NAME_LENGTH = 64
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}")
_COMMIT = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")


class SavedProcess(Frozen):
    """The figures of one process that ended well; None where it did not measure it."""

    round: int = Field(ge=0)
    median_step_seconds: float = Field(gt=0, allow_inf_nan=False)
    step_seconds: float = Field(gt=0, allow_inf_nan=False, description="mean over all timed steps")
    flops_per_step: int | None = None
    parameters: int | None = None
    operators_per_step: int | None = None
    device_peak_bytes: int | None = None
    test_correct: int | None = Field(default=None, ge=0)
    test_images: int | None = Field(default=None, gt=0)
    accuracy_data: DataKind | None = None


class RowRun(Frozen):
    """The processes of one run of a row, by round."""

    run_id: str
    processes: tuple[SavedProcess, ...] = Field(min_length=1)


class SavedRow(Frozen):
    """One job on one processor (its seed and round are 0), the conditions its runs share, and the runs, oldest first."""

    job: Job
    conditions: Conditions
    runs: tuple[RowRun, ...] = Field(min_length=1)


class SavedRun(Frozen):
    """A run of the baseline: which ledger it is, what was under test, what was asked for."""

    run_id: str
    created_at: str
    final_digest: str = Field(description="of its ledger when the baseline was saved")
    cnnbench: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    suites: tuple[str, ...] = ()
    options: dict[str, str] = Field(default_factory=dict)
    volatile: dict[str, str] = Field(default_factory=dict, description="recorded beside the conditions, never compared")

    @property
    def clean_commit(self) -> str | None:
        """The commit that is what ran; None where there is none, or files were changed since it. A name is no commit."""
        named = self.git_commit or ""
        return named if _COMMIT.fullmatch(named) and not self.git_dirty else None


class SavedBaseline(Frozen):
    """What is stored under a name, for one machine."""

    kind: Literal["baseline"] = "baseline"
    schema_version: Literal[1] = 1
    name: str
    machine_id: str
    saved_at: str
    runs: tuple[SavedRun, ...]
    rows: tuple[SavedRow, ...]

    @property
    def newest(self) -> SavedRun:
        """The newest of its runs: what a later one is most like."""
        return max(self.runs, key=lambda run: (run.created_at, run.run_id))


def check_name(name: str) -> str:
    """The name, if it can be a file's: letters, digits, dot, dash and underscore. Raises UsageError for any other."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"baseline name {name!r}: write 1 to {MAX_NAME_LENGTH} letters, digits, dots, dashes or underscores, "
            "a letter or digit first"
        )
    return name


def make_saved_process(process: Process) -> SavedProcess | None:
    """What a baseline keeps of a process; None where it did not end well or has no time. The accuracy of a job to a target is
    the target's, reached by construction, and is not kept.
    """
    figures = process.metrics
    if process.status != "ok" or figures is None or not 0 < figures.median_step_seconds < math.inf:
        return None
    test = figures.test if figures.test is not None and 0 <= figures.test.correct <= figures.test.images else None
    test = test if test is not None and test.images > 0 and process.job.clock != "accuracy" else None
    return SavedProcess(
        round=process.job.round,
        median_step_seconds=figures.median_step_seconds,
        step_seconds=figures.step_seconds,
        flops_per_step=step_flops(process.job),
        parameters=figures.parameters,
        operators_per_step=figures.operators_per_step,
        device_peak_bytes=figures.device_peak_bytes,
        test_correct=None if test is None else test.correct,
        test_images=None if test is None else test.images,
        accuracy_data=None if test is None else figures.accuracy_data,
    )


def make_baseline(
    name: str, processes: Iterable[Process], digests: Mapping[str, str], saved_at: str
) -> tuple[SavedBaseline, tuple[str, ...]]:
    """The baseline of these processes, all of one machine, and which runs of which rows were left out and why.

    `digests` are the final digests of the ledgers by run. The order of the processes changes nothing. Raises UsageError
    for a name that cannot be a file's, several machines, or processes none of which ended well.
    """
    check_name(name)
    good = [process for process in processes if make_saved_process(process) is not None]
    machines = sorted({process.machine_id for process in good})
    if len(machines) != 1:
        found = f"{len(machines)} machines ({', '.join(machines)}); choose one with --machine" if machines else "no"
        raise UsageError(f"baseline {name}: {found}{'' if machines else ' process that ended well'}")
    by_row: dict[str, list[Process]] = {}
    for process in good:
        by_row.setdefault(process.row_key, []).append(process)
    rows: list[SavedRow] = []
    left_out: list[str] = []
    for _, members in sorted(by_row.items()):
        row, others = _make_row(members)
        rows.append(row)
        left_out += others
    kept = {run.run_id for row in rows for run in row.runs}
    runs = {process.run_id: process for process in sorted(good, key=_age_key, reverse=True) if process.run_id in kept}
    ordered = sorted(runs.values(), key=_age_key)
    baseline = SavedBaseline(
        name=name,
        machine_id=machines[0],
        saved_at=saved_at,
        runs=tuple(describe_run(each.run, digests.get(each.run_id, "")) for each in ordered),
        rows=tuple(rows),
    )
    return baseline, tuple(dict.fromkeys(left_out))


def _make_row(members: Sequence[Process]) -> tuple[SavedRow, list[str]]:
    """The row under its newest run's conditions. A run that has the row under two conditions keeps those that fit."""
    newest = max(members, key=_age_key)
    wanted = read_conditions(newest)
    by_run: dict[str, list[SavedProcess]] = {}
    left_out: list[str] = []
    for process in sorted(members, key=_age_key):
        found, figures = find_differences(wanted, read_conditions(process)), make_saved_process(process)
        if found:
            left_out.append(f"run {process.run_id} was left out: {describe_differences(found, 'newest')}")
        elif figures is not None:
            by_run.setdefault(process.run_id, []).append(figures)
    job = newest.job.model_copy(update={"seed": 0, "round": 0})
    runs = tuple(RowRun(run_id=run_id, processes=tuple(kept)) for run_id, kept in by_run.items())
    return SavedRow(job=job, conditions=wanted, runs=runs), left_out


def describe_differences(found: Sequence[FieldDifference], base: str) -> str:
    """`torch 2.12.0 (newest 2.13.0), protocol 1 (newest 2)`."""
    return ", ".join(f"{each.field} {_format_value(each.new)} ({base} {_format_value(each.base)})" for each in found)


def _format_value(value: object) -> str:
    return "unknown" if value is None else str(value)


def describe_run(header: RunHeader, final_digest: str) -> SavedRun:
    """What a baseline keeps of a run beside its figures."""
    software = header.software
    return SavedRun(
        run_id=header.run_id,
        created_at=header.created_at,
        final_digest=final_digest,
        cnnbench=software.cnnbench,
        git_commit=software.git_commit,
        git_dirty=software.git_dirty,
        suites=tuple(sorted(header.suites)),
        options=header.options,
        volatile=volatile_facts(header),
    )


def _age_key(process: Process) -> tuple[str, str, int, int, int]:
    return (process.run.created_at, process.run_id, process.job.round, process.index, process.attempt)


def to_text(baseline: SavedBaseline) -> str:
    """The baseline as the text of its file: JSON that is the same for the same baseline, with the digest of the rest."""
    body = baseline.model_dump(mode="json")
    return json.dumps({**body, "sha256": _compute_digest(baseline)}, indent=1, sort_keys=True, allow_nan=False) + "\n"


def from_text(text: str, where: str) -> SavedBaseline:
    """The baseline of such a text. Raises LedgerError for one that is no baseline, or was changed since it was saved."""
    raw = store.parse_line(text)
    if raw is None or raw.get("kind") != "baseline":
        raise LedgerError(f"{where}: not a baseline of cnnbench; save it again with `cnnbench baseline save`")
    written = raw.pop("sha256", None)
    try:
        baseline = SavedBaseline.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise LedgerError(f"{where}: field {place}: {first['msg']}; save it again") from error
    if written != _compute_digest(baseline):
        raise LedgerError(f"{where}: its digest is not that of its contents: edited or damaged; save it again")
    return baseline


def _compute_digest(baseline: SavedBaseline) -> str:
    return digest(json.dumps(baseline.model_dump(mode="json"), sort_keys=True, separators=(",", ":")))
