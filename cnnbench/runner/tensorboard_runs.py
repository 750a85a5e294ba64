"""Where each worker's TensorBoard run goes, and what it is told to show there: one folder a process, below one a run.

`DIR/<run id>/mnist-cnn-b128-fp32-on-cpu-2-threads-round-1`. Jobs of one plan whose labels are alike are told apart by the
beginning of their row key's digest, since two event files in one folder would be one run to TensorBoard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench.schema import Job, Machine, RunHeader, Software, digest

DIGEST_CHARACTERS = 6


@dataclass(frozen=True)
class TensorboardRun:
    """One worker's TensorBoard run."""

    directory: Path
    machine: Machine
    software: Software


def plan_tensorboard_run(root: Path, header: RunHeader, job: Job) -> TensorboardRun:
    """The run of one job of a plan, below `root`."""
    return TensorboardRun(root / header.run_id / name_run_folder(job, header.plan), header.machine, header.software)


def name_run_folder(job: Job, plan: Sequence[Job]) -> str:
    """The job's label in letters, digits, dots and hyphens, different from every other job's of the plan."""
    label, comma, place = job.label_with(threads=True).rpartition(", ")
    alike = {each.row_key for each in plan if each.label_with(threads=True) == job.label_with(threads=True)}
    mark = f" {digest(job.row_key)[:DIGEST_CHARACTERS]}" if len(alike) > 1 else ""
    return re.sub(r"[^a-z0-9.]+", "-", f"{label}{mark}{comma}{place}".lower()).strip("-.")
