"""The state of a fleet: the suites, what was asked of Slurm, and for each node the jobs submitted. One JSON file,
written whole.

Everybody who changes it holds its lock from reading to writing, so that no job's id is lost to a second command.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from cnnbench import files
from cnnbench.errors import ClusterError, UsageError
from cnnbench.schema import Frozen, current_suite_name, describe_first_problem
from cnnbench.store import format_now

FILE, LOCK = "fleet.json", "fleet.lock"
VERSION = 1


class SlurmState(Frozen):
    """What Slurm last reported of a job, in its own words."""

    state: str
    """RUNNING, TIMEOUT, NODE_FAIL and so on; UNKNOWN once Slurm has forgotten the job"""
    node: str | None = None
    """the node it ran on; None for a job that never ran"""
    reason: str | None = None
    exit_code: str | None = None
    """code:signal, if the accounting has it"""


class Submission(Frozen):
    """One job for a node, or why there was none.

    It is recorded before sbatch is called: a job whose id is lost is then known to be lost, instead of missing.
    """

    submitted_at: str = Field(default_factory=format_now)
    job_id: str | None = None
    refused: str | None = None
    """why nothing was submitted, in Slurm's own words"""
    said: SlurmState | None = None


class NodeEntry(Frozen):
    """The suites on one node. `kind` is what Slurm knows of such a node: cores, memory, GPUs, features."""

    node: str
    kind: str
    attempts: tuple[Submission, ...] = ()

    @property
    def last(self) -> Submission | None:
        """The newest attempt; None if nothing was tried yet."""
        return self.attempts[-1] if self.attempts else None


class SlurmRequest(Frozen):
    """What sbatch is asked for, except for the node."""

    partition: str
    constraint: str | None = None
    gres: str | None = None
    exclusive: bool = True
    minutes: int
    more: dict[str, str] = Field(default_factory=dict)
    """further options of sbatch by long name"""


class ClusterRun(Frozen):
    """One `cluster run` over all its resumes."""

    kind: Literal["fleet"] = "fleet"
    version: int = VERSION
    fleet_id: str
    created_at: str
    results: str
    """the tree the records are collected into"""
    suites: tuple[str, ...]
    run_options: tuple[str, ...] = ()
    """options for every node's `cnnbench run`"""
    request: SlurmRequest
    cells: tuple[NodeEntry, ...]

    def with_submissions(self, changed: dict[str, tuple[Submission, ...]]) -> ClusterRun:
        """Replace the attempts of these nodes; the others keep theirs."""
        cells = (cell.model_copy(update={"attempts": changed.get(cell.node, cell.attempts)}) for cell in self.cells)
        return self.model_copy(update={"cells": tuple(cells)})


def find_root(results: Path) -> Path:
    """Find the folder of a results tree's fleets: beside it, since everything in the tree is read as results."""
    whole = results.resolve()
    return whole.with_name(f"{whole.name}-fleet")


def find(results: Path, fleet_id: str | None = None) -> Path:
    """Find the folder of the newest fleet, or of the one whose id begins with `fleet_id`.

    Raises UsageError with the ids.
    """
    root = find_root(results)
    there = sorted(path.parent for path in root.glob(f"*/{FILE}"))
    if not there:
        raise UsageError(
            f"{root}: no fleet there; start one with `cnnbench cluster run SUITE --partition P --results {results}`"
        )
    fitting = [path for path in there if path.name.startswith(fleet_id or "")]
    if not fitting or (fleet_id is not None and len(fitting) > 1):
        what = "several fleets begin with that" if fitting else "no such fleet"
        raise UsageError(f"--id {fleet_id}: {what}; there are: {', '.join(path.name for path in there)}")
    return fitting[-1]


def read(folder: Path) -> ClusterRun:
    """Read the fleet in a folder.

    Raises ClusterError if the file cannot be read or does not hold a fleet.
    """
    path = folder / FILE
    try:
        with files.explain_refusal(ClusterError, f"{path}: cannot read"):
            raw = json.loads(path.read_bytes())
        if isinstance(raw, dict) and isinstance(raw.get("version"), int) and raw["version"] > VERSION:
            raise ClusterError(f"{path}: version {raw['version']} is newer than this cnnbench reads; upgrade cnnbench")
        made = ClusterRun.model_validate(raw)
        return made.model_copy(update={"suites": tuple(map(current_suite_name, made.suites))})
    except ValidationError as error:
        wrong = describe_first_problem(error)
        raise ClusterError(f"{path}: not a fleet: {wrong}; set the folder aside") from error
    except ValueError as error:
        raise ClusterError(f"{path}: not a fleet: not JSON; set the folder aside") from error


def write(folder: Path, fleet: ClusterRun) -> None:
    """Write the whole file and bring it to disk, or leave the old one.

    Raises FileError if it cannot be written.
    """
    files.save_file(folder / FILE, fleet.model_dump_json(indent=1) + "\n", make_folder=True)


def locked(folder: Path) -> AbstractContextManager[None]:
    """Lock this fleet's state, waiting for another holder.

    Raises FileError if the lock cannot be made.
    """
    return files.wait_for_lock(folder / LOCK)
