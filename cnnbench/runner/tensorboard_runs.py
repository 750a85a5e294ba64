"""Where each worker's TensorBoard run goes, and what it is told to show there: one folder a process, below one a run.

`DIR/<run id>/mnist-cnn-b128-fp32-on-cpu-2-threads-round-1`. Jobs of one plan whose labels are alike are told apart by the
beginning of their row key's digest, since two event files in one folder would be one run to TensorBoard.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnnbench.naming import name_run_folder
from cnnbench.schema import Job, Machine, RunHeader, Software


@dataclass(frozen=True)
class TensorboardRun:
    """One worker's TensorBoard run."""

    directory: Path
    machine: Machine
    software: Software


def plan_tensorboard_run(root: Path, header: RunHeader, job: Job) -> TensorboardRun:
    """The run of one job of a plan, below `root`."""
    return TensorboardRun(root / header.run_id / name_run_folder(job, header.plan), header.machine, header.software)
