"""One process's raw blocks reduced to the few figures that every table is made of, in SI units; None where not measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from cnnbench import workloads
from cnnbench.analysis.energy import has_energy
from cnnbench.errors import WorkloadError
from cnnbench.schema import PACKAGE_COUNTER, DataKind, Energy, Evaluation, Job, Memory, Task, Trial

JobKind = Literal["measured", "projected", "to target"]


@dataclass(frozen=True, slots=True)
class ProcessMetrics:
    """What one `ok` process says, in SI units; None where it did not measure it."""

    steps: int
    step_seconds: float
    """Mean over all timed steps: the blocks' sum over their steps."""
    median_step_seconds: float
    """Median of the blocks' means: stalls leave it alone."""
    images_per_second: float | None
    flops_per_second: float | None
    job_seconds: float | None
    """The job clock where it ran; the time to accuracy under that clock; else the mean step times the job's steps,
    evaluations not included. `job_kind` says which.
    """
    host_peak_bytes: int | None
    device_peak_bytes: int | None
    test: Evaluation | None
    accuracy_data: DataKind | None
    stopped_early: bool
    operators_per_step: int | None = None
    parameters: int | None = None
    """Counted on the built network."""
    floors: Mapping[str, float] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    energy: Energy | None = None
    energy_missing: str | None = None
    cold_start_seconds: float | None = None
    pretraining_seconds: float | None = None
    """Of the job clock, before the first timed step: what pre-training took."""
    pretraining_flops_per_second: float | None = None
    exchange_ratio: float | None = None
    """Of ranks: a step with the exchange of gradients over one without, both timed in turn."""
    launch_seconds: float | None = None
    """Of several processes: of the cold start, from the launcher's start until they had met."""
    copy_seconds: Mapping[str, float] = field(default_factory=dict)
    """Of copies: each one's mean step, by its place."""


def job_kind(job: Job) -> JobKind | None:
    """Whether the job's whole time is measured, projected from steady steps, or as long as its target took; None where
    there is no whole job.
    """
    if job.timed_whole:
        return "measured"
    if job.clock == "accuracy":
        return "to target"
    return "projected" if job.job_steps is not None else None


def compute_metrics(job: Job, trial: Trial) -> ProcessMetrics | None:
    """The process's figures from its raw blocks; None where no time was recorded, for then nothing can be divided by it."""
    total = sum(trial.block_seconds)
    if not (total > 0 and math.isfinite(total) and trial.steps > 0):
        return None
    step_seconds = total / trial.steps
    flops = step_flops(job)
    projected = None if job.job_steps is None else step_seconds * job.job_steps
    job_seconds = projected if job.clock == "steady" else trial.job_seconds
    return ProcessMetrics(
        steps=trial.steps,
        step_seconds=step_seconds,
        median_step_seconds=statistics.median(trial.block_seconds) / trial.steps_per_block,
        images_per_second=trial.images / total if trial.images > 0 else None,
        flops_per_second=None if flops is None or flops <= 0 else flops / step_seconds,
        job_seconds=job_seconds if job_seconds is not None and 0 < job_seconds < math.inf else None,
        host_peak_bytes=trial.memory.host_peak_bytes,
        device_peak_bytes=trial.memory.device_allocated_peak_bytes,
        test=trial.test,
        accuracy_data=trial.accuracy_data,
        stopped_early=trial.stopped_early,
        operators_per_step=trial.operators_per_step,
        parameters=trial.parameters,
        floors=trial.floors,
        memory=trial.memory,
        energy=trial.energy if has_energy(trial.energy) else None,
        energy_missing=_explain_missing_energy(job, trial),
        cold_start_seconds=trial.cold_start_seconds,
        pretraining_seconds=trial.pretraining_seconds or None,
        pretraining_flops_per_second=_pretraining_rate(job, trial),
        exchange_ratio=exchange_ratio(trial),
        launch_seconds=launch_seconds(trial),
        copy_seconds={} if job.copies == 1 else copy_seconds(trial),
    )


def copy_seconds(trial: Trial) -> dict[str, float]:
    """Each copy's mean step, by its place; none that has no time."""
    found = {f"{rank.place}": sum(rank.block_seconds) / trial.steps for rank in trial.ranks}
    return {place: seconds for place, seconds in found.items() if 0 < seconds < math.inf}


def exchange_ratio(trial: Trial) -> float | None:
    """Time of all blocks with the exchange over that of as many without; None where there was none, or no time."""
    blocks = trial.communication
    if blocks is None or len(blocks.with_seconds) != len(blocks.without_seconds):
        return None
    sharing, alone = sum(blocks.with_seconds), sum(blocks.without_seconds)
    return sharing / alone if 0 < sharing < math.inf and 0 < alone < math.inf else None


def launch_seconds(trial: Trial) -> float | None:
    """What several processes took to be started and to meet; None of one."""
    parts = [trial.phases[name] for name in ("launch", "join") if name in trial.phases]
    total = sum(parts)
    return total if parts and 0 < total < math.inf else None


def _explain_missing_energy(job: Job, trial: Trial) -> str | None:
    """Why there is no energy: its counter stood still, what several processes read does not make one figure, its sensor's own
    reason, else that it was not asked for.
    """
    if trial.energy is not None:
        return None if has_energy(trial.energy) else f"{trial.energy.source} did not count"
    read = [rank.energy.source for rank in trial.ranks if rank.energy is not None]
    if job.copies > 1 and PACKAGE_COUNTER in read:
        return f"{PACKAGE_COUNTER} counts all copies together"
    if read:
        return f"{len(read)} of {job.processes} processes have a reading, or they are of different kinds"
    sensor = "package_energy_joules" if job.device == "cpu" else "device_energy_joules"
    reading = trial.telemetry_before
    return (reading.missing.get(sensor) if reading else None) or "not asked for (run with --energy)"


def _pretraining_rate(job: Job, trial: Trial) -> float | None:
    flops = pretraining_flops(job)
    return None if not trial.pretraining_seconds or not flops else flops / trial.pretraining_seconds


def pretraining_flops(job: Job) -> int | None:
    """Model FLOPs of the job's pre-training; None where it has none, or they are not known here."""
    if step_flops(job) is None:
        return None
    return workloads.pretraining_flops(job) or None


def job_flops(job: Job) -> int | None:
    """Model FLOPs of the whole job, pre-training included; of a job to a target, up to its epoch limit.

    None where there is no whole job, or they are not known here.
    """
    steps, flops = job.job_steps, step_flops(job)
    return None if steps is None or flops is None else (pretraining_flops(job) or 0) + steps * flops


def step_flops(job: Job) -> int | None:
    """Model FLOPs of one step; None for a workload, or a version of one, that is not known here. Of a job that is
    pre-trained first it is a step of the fine-tuning.
    """
    return _step_flops(job.workload, job.workload_version, job.size, job.batch_size, job.extra_forwards, job.task)


@lru_cache(maxsize=1024)
def _step_flops(
    workload: str, version: int, size: int | None, batch_size: int, extra_forwards: int, task: Task
) -> int | None:
    try:
        if workloads.get(workload, version).version != version:
            return None
        return workloads.flops_per_step(
            Job(
                workload=workload,
                workload_version=version,
                size=size,
                batch_size=batch_size,
                extra_forwards=extra_forwards,
                task=task,
            )
        )
    except WorkloadError:
        return None
