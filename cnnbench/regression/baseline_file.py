"""Names for runs: `results/<machine>/baselines.toml`, beside the ledgers that the names stand for.

    [main]
    saved_at = "2026-11-24T20:00:00Z"

    [main.runs]
    20261123T230436Z-c497 = "5b1c..."

Each run is stored with the SHA-256 of its ledger's file: a ledger that changed since, or is gone, is noticed, and nothing is
judged by it. The model FLOPs of a step are stored beside the runs, since no ledger has them.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from cnnbench import files, store
from cnnbench.analysis import process_table
from cnnbench.errors import LedgerError, UsageError
from cnnbench.files import save_file
from cnnbench.regression.check_record import describe_first_problem
from cnnbench.regression.saved_baseline import SavedBaseline, check_name, make_baseline
from cnnbench.schema import Frozen, digest
from cnnbench.store import Ledger

FILE_NAME = "baselines.toml"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PATH_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
"""A run or a machine that may become part of a path."""


class BaselineEntry(Frozen):
    """What is stored under a name."""

    saved_at: str
    runs: dict[str, str] = Field(min_length=1)
    """run to the SHA-256 of its ledger's file"""
    step_flops: dict[str, int] = Field(default_factory=dict)
    """by the SHA-256 of the row's key"""


@dataclass(frozen=True)
class NamedRun:
    """A run that a baseline names, with its ledger as it is now; None where it cannot be read or is not there."""

    run_id: str
    sha256: str
    state: Literal["unchanged", "changed", "cannot be read", "is not there"]
    ledger: Ledger | None = None


def read_entries(results: Path, machine_id: str) -> dict[str, BaselineEntry]:
    """The names of a machine; none where there is no file. Raises LedgerError for a file that cannot be understood."""
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


def write_entries(results: Path, machine_id: str, entries: Mapping[str, BaselineEntry]) -> Path:
    """Write the names of a machine, the same bytes for the same names; returns the file. Raises LedgerError."""
    lines = ["# Names for runs of this machine, written by `cnnbench baseline save`."]
    for name, entry in sorted(entries.items()):
        lines += ["", f"[{_format_key(name)}]", f"saved_at = {json.dumps(entry.saved_at)}"]
        for table, values in (("runs", entry.runs), ("step_flops", entry.step_flops)):
            lines += ["", f"[{_format_key(name)}.{table}]"] if values else []
            lines += [f"{_format_key(key)} = {json.dumps(value)}" for key, value in sorted(values.items())]
    path = results / machine_id / FILE_NAME
    save_file(path, "\n".join(lines) + "\n", make_folder=True)
    return path


def _format_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)


def save_baseline(results: Path, baseline: SavedBaseline, ledgers: Sequence[Ledger], *, replace: bool) -> Path:
    """Store the name of the baseline's runs, whose ledgers are among these; returns the file.

    Raises UsageError where the name is taken and `replace` is not set, or a ledger is not in the results.
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
                f"{paths[run_id]}: not in {folder}, where its name leads; bring it there (`cnnbench merge`)"
            )
    flops = {digest(row.job.row_key): row.step_flops for row in baseline.rows if row.step_flops is not None}
    entry = BaselineEntry(saved_at=baseline.saved_at, runs=runs, step_flops=flops)

    def add(entries: dict[str, BaselineEntry]) -> dict[str, BaselineEntry]:
        if name in entries and not replace:
            taken = f"there is a baseline {name}; give --replace to save over it, or another name"
            raise UsageError(f"{folder / FILE_NAME}: {taken}")
        return {**entries, name: entry}

    return change_entries(results, machine_id, add)


def change_entries(
    results: Path, machine_id: str, change: Callable[[dict[str, BaselineEntry]], dict[str, BaselineEntry]]
) -> Path:
    """Write what `change` makes of the machine's names; returns the file. Two commands at once change them one by one."""
    with files.wait_for_lock(results / machine_id):
        return write_entries(results, machine_id, change(read_entries(results, machine_id)))


def list_names(results: Path, start: str = "") -> list[tuple[str, str]]:
    """Machine and name of every baseline, of machines whose id begins so. Raises LedgerError for a broken file."""
    machines = sorted(path.parent.name for path in results.glob(f"*/{FILE_NAME}"))
    return [(each, name) for each in machines if each.startswith(start) for name in sorted(read_entries(results, each))]


def find_machines(results: Path, name: str, start: str = "") -> list[str]:
    """The machines that have the name, those whose id begins so. Raises UsageError, with the names there are, where none has."""
    check_name(name)
    if found := [machine_id for machine_id, each in list_names(results, start) if each == name]:
        return found
    names = ", ".join(f"{each} ({machine_id})" for machine_id, each in sorted(list_names(results)))
    there = f"there are: {names}" if names else "none is stored there, see `cnnbench baseline save --help`"
    for path in results.glob(f"*/baselines/{name}.json"):
        there += f"; {path} has figures stored by an earlier cnnbench: save the runs that it lists under the name again"
    raise UsageError(f"baseline {name}: none of that name in {results}; {there}")


def load_baseline(
    results: Path, machine_id: str, name: str, *, partly: bool = False
) -> tuple[SavedBaseline, tuple[NamedRun, ...]]:
    """The baseline from the ledgers of its runs, and what has become of each.

    Raises LedgerError where a ledger is not what it was when the baseline was saved; `partly` leaves that run out instead.
    """
    entry, folder = read_entries(results, machine_id)[name], results / machine_id
    runs = tuple(find_run(folder, run_id, sha256) for run_id, sha256 in sorted(entry.runs.items()))
    whole = [run.ledger for run in runs if run.ledger is not None and run.state == "unchanged"]
    if not whole or (len(whole) < len(runs) and not partly):
        lost = ", ".join(f"run {run.run_id} {run.state}" for run in runs if run.state != "unchanged")
        raise LedgerError(f"baseline {name}: in {folder} {lost}; bring the ledgers back as they were, or save it again")
    processes, _ = process_table.read_processes(whole, as_recorded=True)  # they were accepted when the name was saved
    return make_baseline(name, processes, entry.saved_at, entry.step_flops)[0], runs


def find_run(folder: Path, run_id: str, sha256: str) -> NamedRun:
    """The run's ledger in the machine's folder; of several copies one that is as it was, if there is one."""
    found = NamedRun(run_id, sha256, "is not there")
    for path in sorted(folder.rglob(f"{run_id}.jsonl")) if _PATH_PART.fullmatch(run_id) else ():
        try:
            content = path.read_bytes()
            same = hashlib.sha256(content).hexdigest() == sha256
            found = NamedRun(run_id, sha256, "unchanged" if same else "changed", store.parse(path, content))
        except (OSError, LedgerError):
            found, same = NamedRun(run_id, sha256, "cannot be read"), False
        if same:
            break
    return found
