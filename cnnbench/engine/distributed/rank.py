"""One of several processes of a job: a rank of a data-parallel job, or a concurrent copy.

torch's elastic launcher starts each as `python -m cnnbench.engine.worker FOLDER N`, which does what the envelope
`FOLDER/rank-N.json` says as this machine's N-th process. All exchange their outcomes at the end, and the first of each machine
writes them down; one that fails writes its own and ends, so that the launcher ends the others, which wait for it.

What a rank measures is an argument: the trial uses this package's process group, so this package does not import the trial.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cnnbench.engine import affinity
from cnnbench.engine.process import exit_with_parent, run_typed, write_outcome_and_exit
from cnnbench.engine.progress import ProgressWriter
from cnnbench.files import write_file
from cnnbench.schema import Job, Outcome, WorkerInput

if TYPE_CHECKING:
    from cnnbench.engine.distributed.group import ProcessGroup

FAILED = 1
ENVELOPE_FILE = "rank-{}.json"
"""The job as one rank gets it."""
OUTCOME_FILE = "outcome-{}.json"
"""How one rank ended; of one that failed the only word."""
OUTCOMES_FILE = "outcomes.jsonl"
"""How all ranks ended, one line per rank in order; written by the first of each machine when all have measured."""
PROGRESS_PIPE = "progress"
"""Where the first rank writes its progress, for the launcher to forward."""

Measure = Callable[[WorkerInput, ProgressWriter, "JoinGroup"], Outcome]


class JoinGroup:
    """Joins the process group when the trial asks for it, and keeps it for the exchange of outcomes."""

    def __init__(self, local: int, place: str) -> None:
        self._local, self._place = local, place
        self.group: ProcessGroup | None = None

    def __call__(self, job: Job) -> ProcessGroup:
        """Join, and return the group."""
        # Imports torch, which the trial has done by then: its cost belongs to the cold start's part `import`.
        from cnnbench.engine.distributed.group import join

        self.group = join(job, self._local, self._place)
        return self.group


def claim_device(envelope: WorkerInput, local: int) -> str:
    """Name what this process has to itself on this machine: its device, or the cores that it is pinned to from now on."""
    job = envelope.job
    if job.device == "cpu":
        return affinity.pin_process(local, job.processes // job.nodes) or f"cpu, number {local}"
    return envelope.device_ids[local] if local < len(envelope.device_ids) else f"{job.device} and on, number {local}"


def run(folder: Path, local: int, measure: Measure) -> NoReturn:
    """Do this rank's part of the job in `folder`, write its outcome and end the process."""
    envelope = WorkerInput.model_validate_json((folder / ENVELOPE_FILE.format(local)).read_bytes())
    exit_with_parent(envelope.parent_pid)
    place = claim_device(envelope, local)
    progress = ProgressWriter(
        os.open(folder / PROGRESS_PIPE, os.O_WRONLY) if local == 0 and envelope.progress_fd else None
    )
    join = JoinGroup(local, place)
    outcome = run_typed(envelope, lambda: measure(envelope, progress, join))
    if outcome.trial is None or join.group is None:
        write_outcome_and_exit(folder / OUTCOME_FILE.format(local), outcome, FAILED)
    texts = join.group.all_gather(outcome.model_dump_json())
    if local == 0:
        write_file(folder / OUTCOMES_FILE, "\n".join(texts), durable=False)
    join.group.barrier()
    write_outcome_and_exit(folder / OUTCOME_FILE.format(local), outcome)
