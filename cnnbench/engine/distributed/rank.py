"""One of several processes of a job: a rank of a data-parallel job, or a concurrent copy.

torch's elastic launcher starts each as `python -m cnnbench.engine.worker FOLDER N`, which does the job in the envelope
`FOLDER/rank-N.json` as this machine's N-th process. All exchange their outcomes at the end, and the first of each
machine writes them to a file; one that fails writes its own and ends, so that the launcher ends the others, which wait
for it.

What a rank measures is an argument: the trial uses this package's process group, so this package does not import the trial.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cnnbench.engine.process import ProgressWriter, exit_with_parent, run_typed, write_outcome_and_exit
from cnnbench.files import write_file
from cnnbench.schema import Job, Outcome, WorkerInput

if TYPE_CHECKING:
    from cnnbench.engine.distributed.group import ProcessGroup


FAILED = 1
ENVELOPE_FILE = "rank-{}.json"
"""The job as one rank gets it."""
OUTCOME_FILE = "outcome-{}.json"
"""How one rank ended; a failed rank writes nothing else."""
OUTCOMES_FILE = "outcomes.jsonl"
"""How all ranks ended, one line per rank in order; written by the first of each machine when all have measured."""
PROGRESS_PIPE = "progress"
"""Pipe into which the first rank writes its progress, for the launcher to forward."""

Join = Callable[[Job], "ProcessGroup"]
Measure = Callable[[WorkerInput, ProgressWriter, Join], Outcome]


def claim_device(envelope: WorkerInput, local: int) -> str:
    """Take this process's own device, or pin it to its cores from now on, and return the name of either."""
    job = envelope.job
    if job.device == "cpu":
        if not hasattr(os, "sched_setaffinity"):
            return f"cpu, number {local}"
        # Every thread that this process starts from now on is pinned to these cores too.
        cores = split_cores(os.sched_getaffinity(0), job.processes // job.nodes)[local]
        os.sched_setaffinity(0, cores)
        return f"cores {','.join(map(str, sorted(cores)))}"
    return envelope.device_ids[local] if local < len(envelope.device_ids) else f"{job.device} and on, number {local}"


def run(folder: Path, local: int, measure: Measure) -> NoReturn:
    """Do this rank's part of the job in `folder`, write its outcome and end the process."""
    envelope = WorkerInput.model_validate_json((folder / ENVELOPE_FILE.format(local)).read_bytes())
    exit_with_parent(envelope.parent_pid)
    place = claim_device(envelope, local)
    progress = ProgressWriter(
        os.open(folder / PROGRESS_PIPE, os.O_WRONLY) if local == 0 and envelope.progress_fd else None
    )
    joined = []

    def join_others(job: Job) -> ProcessGroup:
        # Imports torch, which the trial has done by then: its cost belongs to the cold start's part `import`.
        from cnnbench.engine.distributed.group import join

        joined.append(join(job, local, place))
        return joined[0]

    outcome = run_typed(lambda: measure(envelope, progress, join_others))
    if outcome.trial is None or not joined:
        write_outcome_and_exit(folder / OUTCOME_FILE.format(local), outcome, FAILED)
    texts = joined[0].all_gather(outcome.model_dump_json())
    if local == 0:
        write_file(folder / OUTCOMES_FILE, "\n".join(texts), durable=False)
    joined[0].barrier()
    write_outcome_and_exit(folder / OUTCOME_FILE.format(local), outcome)


def split_cores(allowed: Iterable[int], groups: int, *, sys: Path = Path("/sys/devices/system/cpu")) -> list[list[int]]:
    """Split the cores into equal groups without overlap. Raises ValueError for fewer cores than groups."""

    def read_position(core: int) -> tuple[int, ...]:
        # (package, core in it, number) if the kernel reports them; else the number alone decides.
        topology = sys / f"cpu{core}" / "topology"
        try:
            return (*(int((topology / name).read_text()) for name in ("physical_package_id", "core_id")), core)
        except (OSError, ValueError):
            return 0, 0, core

    ordered = sorted(allowed, key=read_position)
    each = len(ordered) // groups
    if each == 0:
        raise ValueError(f"{groups} processes need {groups} cores, this process may use {len(ordered)}")
    return [ordered[group * each : (group + 1) * each] for group in range(groups)]
