"""A saved baseline: runs of one machine under a name, row by row, as `screen_run` compares a later run with them.

Enter the processes of the runs (`make_baseline`). Each row keeps the runs under its newest run's conditions; the others are
named and left out. All figures are derived from the ledgers when they are needed; `baseline_file` stores which runs a name
stands for. A baseline never moves by itself: nothing here takes the last run for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from cnnbench.analysis.metrics import step_flops
from cnnbench.analysis.process_table import Conditions, Process
from cnnbench.analysis.ratio import FieldDifference, find_differences, group_by
from cnnbench.errors import UsageError
from cnnbench.schema import Evaluation, Job, RunHeader, digest

MAX_NAME_LENGTH = 64
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}")
_COMMIT = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class BaselineRow:
    """One job on one processor (its seed and round are 0), the conditions its runs share, and their processes, oldest first."""

    job: Job
    conditions: Conditions
    runs: tuple[tuple[Process, ...], ...]
    step_flops: int | None
    """Model FLOPs of a step as they were counted when the baseline was saved: no ledger has them, and that the same job once
    had others is what the exact rule is to find."""

    @property
    def processes(self) -> tuple[Process, ...]:
        """The processes of all its runs."""
        return tuple(process for run in self.runs for process in run)

    @property
    def run_ids(self) -> frozenset[str]:
        """Its runs by name."""
        return frozenset(process.run_id for process in self.processes)


@dataclass(frozen=True)
class SavedBaseline:
    """What a name stands for on one machine; the runs from the oldest to the newest."""

    name: str
    machine_id: str
    saved_at: str
    runs: tuple[RunHeader, ...]
    rows: tuple[BaselineRow, ...]

    @property
    def newest(self) -> RunHeader:
        """The newest of its runs: what a later one is most like."""
        return self.runs[-1]


def check_name(name: str) -> str:
    """The name, if it is made of letters, digits, dot, dash and underscore. Raises UsageError for any other."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"baseline name {name!r}: write 1 to {MAX_NAME_LENGTH} letters, digits, dots, dashes or underscores, "
            "a letter or digit first"
        )
    return name


def find_clean_commit(run: RunHeader) -> str | None:
    """The commit that is what ran; None where there is none, or files were changed since it. A name is no commit."""
    named = run.software.git_commit or ""
    return named if _COMMIT.fullmatch(named) and not run.software.git_dirty else None


def read_median_step(process: Process) -> float | None:
    """The median step in seconds of a process that ended well; None for any other, which no baseline keeps."""
    figures = process.metrics
    if process.status != "ok" or figures is None or not 0 < figures.median_step_seconds < math.inf:
        return None
    return figures.median_step_seconds


def read_evaluation(process: Process) -> Evaluation | None:
    """The test of its accuracy, if it has a sensible one. That of a job to a target is the target's, reached by construction."""
    test = None if process.metrics is None or process.job.clock == "accuracy" else process.metrics.trial.test
    return test if test is not None and 0 <= test.correct <= test.images and test.images > 0 else None


def make_baseline(
    name: str, processes: Iterable[Process], saved_at: str, flops_by_row: Mapping[str, int] | None = None
) -> tuple[SavedBaseline, tuple[str, ...]]:
    """The baseline of these processes, all of one machine, and which runs of which rows were left out and why.

    `flops_by_row` are the model FLOPs of a step as counted then, by `digest(row_key)`; None counts them now. The order of the
    processes changes nothing. Raises UsageError for a name that is none, several machines, or no process that ended well.
    """
    check_name(name)
    good = sorted((process for process in processes if read_median_step(process) is not None), key=_age_key)
    machines = sorted({process.machine_id for process in good})
    if len(machines) != 1:
        found = f"{len(machines)} machines ({', '.join(machines)}); choose one with --machine" if machines else "no"
        raise UsageError(f"baseline {name}: {found}{'' if machines else ' process that ended well'}")
    rows: list[BaselineRow] = []
    left_out: list[str] = []
    for key, members in sorted(group_by(good, attrgetter("row_key")).items()):
        counted = step_flops(members[-1].job) if flops_by_row is None else flops_by_row.get(digest(key))
        row, others = _make_row(members, counted)
        rows.append(row)
        left_out += others
    runs = {process.run_id: process.run for row in rows for process in row.processes}
    ordered = tuple(sorted(runs.values(), key=lambda run: (run.created_at, run.run_id)))
    return SavedBaseline(name, machines[0], saved_at, ordered, tuple(rows)), tuple(dict.fromkeys(left_out))


def _make_row(members: Sequence[Process], flops: int | None) -> tuple[BaselineRow, list[str]]:
    """The row under its newest run's conditions. A run that has the row under two conditions keeps those that fit."""
    newest = members[-1]
    wanted = newest.conditions
    compared = [(process, find_differences(wanted, process.conditions)) for process in members]
    by_run = group_by((process for process, found in compared if not found), attrgetter("run_id"))
    left_out = [
        f"run {process.run_id} was left out: {describe_differences(found, 'newest')}"
        for process, found in compared
        if found
    ]
    job = newest.job.model_copy(update={"seed": 0, "round": 0})
    return BaselineRow(job, wanted, tuple(map(tuple, by_run.values())), flops), left_out


def describe_differences(found: Sequence[FieldDifference], base: str) -> str:
    """`torch 2.12.0 (newest 2.13.0), protocol 1 (newest 2)`."""
    return ", ".join(f"{each.field} {_format_value(each.new)} ({base} {_format_value(each.base)})" for each in found)


def _format_value(value: object) -> str:
    return "unknown" if value is None else str(value)


def _age_key(process: Process) -> tuple[str, str, int, int, int]:
    return (process.run.created_at, process.run_id, process.job.round, process.index, process.attempt)
