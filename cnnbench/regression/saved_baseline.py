"""Saved baselines: runs of one machine under a name, row by row, as `screen_run` compares a later run with them.

Names are kept in `results/<machine>/baselines.toml`, beside the ledgers that they name:

    [main]
    saved_at = "2026-11-24T20:00:00Z"

    [main.runs]
    20261123T230436Z-c497 = "5b1c..."

Each run is stored with the SHA-256 of its ledger's file: a ledger that changed since, or is gone, is noticed, and
nothing is judged by it. The model FLOPs of a step are stored beside the runs, since no ledger has them. All other
figures are derived from the ledgers when they are needed (`make_baseline`): each row keeps the runs under its newest
run's conditions; the others are named and left out. A baseline never moves by itself: nothing here takes the last run
for it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from cnnbench import files, store
from cnnbench.analysis.metrics import step_flops
from cnnbench.analysis.process_table import Conditions, Process, read_processes
from cnnbench.analysis.ratio import FieldDifference, find_differences, group_by
from cnnbench.errors import LedgerError, UsageError
from cnnbench.schema import Frozen, Job, RunHeader, describe_first_problem, digest
from cnnbench.store import Ledger

FILE_NAME = "baselines.toml"
MAX_NAME_LENGTH = 64
_PATH_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
"""A run or a machine that may become part of a path."""


@dataclass(frozen=True)
class BaselineRow:
    """One job on one processor (with seed and round 0), the conditions its runs share, and their processes, oldest
    first.
    """

    job: Job
    conditions: Conditions
    runs: tuple[tuple[Process, ...], ...]
    step_flops: int | None
    """Model FLOPs of a step as they were counted when the baseline was saved. They are in no ledger, and the exact rule
    is to find that they have changed for the same job.
    """

    @property
    def processes(self) -> tuple[Process, ...]:
        """The processes of all its runs."""
        return tuple(process for run in self.runs for process in run)

    @property
    def run_ids(self) -> frozenset[str]:
        """The ids of all its runs."""
        return frozenset(process.run_id for process in self.processes)


@dataclass(frozen=True)
class SavedBaseline:
    """A named baseline on one machine; its runs are sorted from the oldest to the newest."""

    name: str
    machine_id: str
    saved_at: str
    runs: tuple[RunHeader, ...]
    rows: tuple[BaselineRow, ...]

    @property
    def newest(self) -> RunHeader:
        """The newest of its runs, which a later one resembles most."""
        return self.runs[-1]


def check_name(name: str) -> str:
    """Return the name if it has only letters, digits, dots, dashes and underscores.

    Raises UsageError for any other.
    """
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}", name):
        raise UsageError(
            f"baseline name {name!r}: write 1 to {MAX_NAME_LENGTH} letters, digits, dots, dashes or underscores, "
            "a letter or digit first"
        )
    return name


def find_clean_commit(run: RunHeader) -> str | None:
    """Find the commit whose code ran; None if there is none, or files were changed since it.

    A branch or tag does not count.
    """
    named = run.software.git_commit or ""
    whole = re.fullmatch("[0-9a-f]{40}(?:[0-9a-f]{24})?", named)
    return named if whole and not run.software.git_dirty else None


def read_median_step(process: Process) -> float | None:
    """Read the median step in seconds of a process that ended well.

    None for any other, which no baseline keeps.
    """
    seconds = 0.0 if process.metrics is None else process.metrics.median_step_seconds
    return seconds if 0 < seconds < math.inf else None


def make_baseline(
    name: str, processes: Iterable[Process], saved_at: str, flops_by_row: Mapping[str, int] | None = None
) -> tuple[SavedBaseline, tuple[str, ...]]:
    """Make the baseline of these processes of one machine, and list which runs of which rows were left out and why.

    `flops_by_row` are the model FLOPs of a step as counted then, by `digest(row_key)`; None counts them now. The order
    of the processes does not matter. Raises UsageError for an invalid name, several machines, or no process that ended
    well on a fit machine.
    """
    check_name(name)
    by_age = attrgetter("run.created_at", "run_id", "job.round", "index", "attempt")
    timed = sorted((process for process in processes if read_median_step(process) is not None), key=by_age)
    good = [process for process in timed if process.unfit is None]
    unfit = [f"run {each.run_id}: a process was left out: {each.unfit}" for each in timed if each.unfit is not None]
    if unfit and not good:
        raise UsageError(
            f"baseline {name}: nothing to save; {unfit[-1]}; measure again when `cnnbench doctor` finds nothing"
        )
    machines = sorted({process.machine_id for process in good})
    if not machines:
        raise UsageError(f"baseline {name}: no process that ended well")
    if len(machines) > 1:
        raise UsageError(
            f"baseline {name}: {len(machines)} machines ({', '.join(machines)}); choose one with --machine"
        )
    rows, left_out, runs = [], unfit, {}
    for key, members in sorted(group_by(good, attrgetter("row_key")).items()):
        newest, kept = members[-1], []
        conditions = newest.conditions
        for process in members:  # a run may have the row under two conditions: keep those that fit
            if differences := find_differences(conditions, process.conditions):
                why = describe_differences(differences, "newest")
                left_out.append(f"run {process.run_id} was left out: {why}")
            else:
                kept.append(process)
                runs[process.run_id] = process.run
        by_run = tuple(map(tuple, group_by(kept, attrgetter("run_id")).values()))
        flops = step_flops(newest.job) if flops_by_row is None else flops_by_row.get(digest(key))
        rows.append(BaselineRow(newest.job.model_copy(update={"seed": 0, "round": 0}), conditions, by_run, flops))
    ordered = tuple(sorted(runs.values(), key=attrgetter("created_at", "run_id")))
    return SavedBaseline(name, machines[0], saved_at, ordered, tuple(rows)), tuple(dict.fromkeys(left_out))


def describe_differences(found: Sequence[FieldDifference], base: str) -> str:
    """Format the differences: `torch 2.12.0 (newest 2.13.0), protocol 1 (newest 2)`."""
    return ", ".join(f"{each.field} {_format_value(each.new)} ({base} {_format_value(each.base)})" for each in found)


def _format_value(value: object) -> str:
    return "unknown" if value is None else str(value)


class BaselineEntry(Frozen):
    """What is stored under a name."""

    saved_at: str
    runs: dict[str, str] = Field(min_length=1)
    """run id to the SHA-256 of its ledger's file"""
    step_flops: dict[str, int] = Field(default_factory=dict)
    """model FLOPs of a step by the SHA-256 of the row's key"""


@dataclass(frozen=True)
class NamedRun:
    """A run that a baseline names, with its ledger as it is now; None if the ledger cannot be read or is missing."""

    run_id: str
    sha256: str
    state: Literal["unchanged", "changed", "cannot be read", "is not there"]
    ledger: Ledger | None = None


def read_entries(results: Path, machine_id: str) -> dict[str, BaselineEntry]:
    """Read the names of a machine; empty if there is no file.

    Raises LedgerError for a file that cannot be understood.
    """
    path = results / machine_id / FILE_NAME
    try:
        return TypeAdapter(dict[str, BaselineEntry]).validate_python(tomllib.loads(path.read_bytes().decode()))
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        reason = describe_first_problem(error)
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not TOML, or brackets nested without an end
        reason = f"cannot be read: {str(error).splitlines()[0]}"
    raise LedgerError(f"{path}: {reason}; correct it, or delete it and save the baselines again")


@contextmanager
def change_entries(results: Path, machine_id: str) -> Iterator[dict[str, BaselineEntry]]:
    """Yield the names of a machine to be changed, and write them at the end. Raises LedgerError.

    Equal names give the same bytes. Two commands at once make their changes one after the other.
    """
    with files.wait_for_lock(results / machine_id):
        entries = read_entries(results, machine_id)
        yield entries
        lines = ["# Names for runs of this machine, written by `cnnbench check baseline save`."]
        for name, entry in sorted(entries.items()):
            lines += ["", f"[{_format_key(name)}]", f"saved_at = {json.dumps(entry.saved_at)}"]
            for table, values in (("runs", entry.runs), ("step_flops", entry.step_flops)):
                lines += ["", f"[{_format_key(name)}.{table}]"] if values else []
                lines += [f"{_format_key(key)} = {json.dumps(value)}" for key, value in sorted(values.items())]
        files.save_file(results / machine_id / FILE_NAME, "\n".join(lines) + "\n", make_folder=True)


def _format_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def save_baseline(results: Path, baseline: SavedBaseline, ledgers: Sequence[Ledger], *, replace: bool) -> Path:
    """Store the name of the baseline's runs, whose ledgers are among these; returns the file.

    Raises UsageError if the name is taken and `replace` is not set, or a ledger is not in the results.
    """
    machine_id, name = baseline.machine_id, baseline.name
    if not _PATH_PART.fullmatch(machine_id):
        raise UsageError(f"machine id {machine_id!r} cannot name a folder; nothing was saved")
    folder = results / machine_id
    wanted = {run.run_id for run in baseline.runs}
    paths = {ledger.header.run_id: ledger.path for ledger in ledgers if ledger.header.run_id in wanted}
    runs = {run_id: hashlib.sha256(path.read_bytes()).hexdigest() for run_id, path in paths.items()}
    for run_id, sha256 in runs.items():
        if find_run(folder, run_id, sha256).state != "unchanged":
            raise UsageError(
                f"{paths[run_id]}: not in {folder}, where baselines are looked up; bring it there (`cnnbench merge`)"
            )
    flops = {digest(row.job.row_key): row.step_flops for row in baseline.rows if row.step_flops is not None}
    with change_entries(results, machine_id) as entries:
        if name in entries and not replace:
            raise UsageError(
                f"{folder / FILE_NAME}: there is a baseline {name}; give --replace to save over it, or another name"
            )
        entries[name] = BaselineEntry(saved_at=baseline.saved_at, runs=runs, step_flops=flops)
    return folder / FILE_NAME


def list_names(results: Path, start: str = "") -> list[tuple[str, str]]:
    """List machine and name of every baseline, for machines whose id begins with `start`.

    Raises LedgerError for a broken file.
    """
    machines = sorted(path.parent.name for path in results.glob(f"*/{FILE_NAME}"))
    return [(each, name) for each in machines if each.startswith(start) for name in sorted(read_entries(results, each))]


def find_machines(results: Path, name: str, start: str = "") -> list[str]:
    """Find the machines with a baseline of that name, whose id begins with `start`.

    Raises UsageError, with the names there are, if no machine has it.
    """
    check_name(name)
    if found := [machine_id for machine_id, each in list_names(results, start) if each == name]:
        return found
    names = ", ".join(f"{each} ({machine_id})" for machine_id, each in sorted(list_names(results)))
    there = f"there are: {names}" if names else "none is stored there, see `cnnbench check baseline save --help`"
    for path in results.glob(f"*/baselines/{name}.json"):
        there += f"; {path} has figures stored by an earlier cnnbench: save the runs that it lists under the name again"
    raise UsageError(f"baseline {name}: none of that name in {results}; {there}")


def load_baseline(
    results: Path, machine_id: str, name: str, *, partly: bool = False
) -> tuple[SavedBaseline, tuple[NamedRun, ...]]:
    """Load the baseline from the ledgers of its runs, and report the state of each.

    Raises LedgerError if a ledger has changed since the baseline was saved; `partly` leaves that run out instead.
    """
    entry, folder = read_entries(results, machine_id)[name], results / machine_id
    runs = tuple(find_run(folder, run_id, sha256) for run_id, sha256 in sorted(entry.runs.items()))
    whole = [run.ledger for run in runs if run.ledger is not None and run.state == "unchanged"]
    if not whole or (len(whole) < len(runs) and not partly):
        lost = ", ".join(f"run {run.run_id} {run.state}" for run in runs if run.state != "unchanged")
        raise LedgerError(f"baseline {name}: in {folder} {lost}; bring the ledgers back as they were, or save it again")
    processes, _ = read_processes(whole, as_recorded=True)  # they were accepted when the name was saved
    return make_baseline(name, processes, entry.saved_at, entry.step_flops)[0], runs


def find_run(folder: Path, run_id: str, sha256: str) -> NamedRun:
    """Find the run's ledger in the machine's folder.

    If there are several copies, prefer an unchanged one.
    """
    found = NamedRun(run_id, sha256, "is not there")
    for path in sorted(folder.rglob(f"{run_id}.jsonl")) if _PATH_PART.fullmatch(run_id) else ():
        try:
            content = path.read_bytes()
            same = hashlib.sha256(content).hexdigest() == sha256
            found = NamedRun(run_id, sha256, "unchanged" if same else "changed", store.parse(path, content))
        except (OSError, LedgerError):
            found = NamedRun(run_id, sha256, "cannot be read")
        if found.state == "unchanged":
            break
    return found
