"""Records in, one flat value a process out: the raw blocks reduced to the few figures that every table is made of.

`processes` gives them as plain values in which unknown is None (what `compare` works on); `to_frame` gives the same as a
pandas frame, one row a process, for charts and exports. Only an `ok` process has figures: what a failed one measured
before it failed stays in the ledger. A job that was planned and never started is there too, as `not run`, so that the
number planned equals the number shown.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from cnnbench import gates, workloads
from cnnbench.analysis import doubts
from cnnbench.analysis.doubts import Doubt
from cnnbench.analysis.learned import Learned, learned_of
from cnnbench.analysis.resources import counted
from cnnbench.errors import WorkloadError
from cnnbench.schema import (
    DataKind,
    Device,
    Energy,
    Evaluation,
    Job,
    Machine,
    Memory,
    Outcome,
    Record,
    RunHeader,
    Software,
    Status,
    Trial,
)

if TYPE_CHECKING:
    import pandas as pd

    from cnnbench.store import Ledger

NOT_RUN: Literal["not run"] = "not run"
JobKind = Literal["measured", "projected"]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one `ok` process says, in SI units; None where it did not measure it."""

    steps: int
    step_seconds: float
    """Mean over all timed steps: the blocks' sum over their steps."""
    median_step_seconds: float
    """Median of the blocks' means: stalls leave it alone."""
    images_per_second: float | None
    flops_per_second: float | None
    job_seconds: float | None
    """The job clock where it ran; else the mean step times the job's steps, evaluations not included."""
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


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one run: where and what it was, how it ended, and its figures where it ended well."""

    run: RunHeader
    machine_id: str
    protocol: int
    index: int
    attempt: int
    job: Job
    work_key: str
    row_key: str
    status: Status | Literal["not run"]
    message: str | None
    figures: Figures | None
    doubts: tuple[Doubt, ...] = ()
    learned: Learned | None = None

    @property
    def run_id(self) -> str:
        """The run it belongs to."""
        return self.run.run_id

    @property
    def machine(self) -> Machine:
        """The machine's fingerprint when the run began."""
        return self.run.machine

    @property
    def software(self) -> Software:
        """The versions the run used."""
        return self.run.software

    @property
    def device(self) -> Device:
        """The processor the job names; a bare one of that id where the fingerprint does not list it."""
        for device in self.run.machine.devices:
            if device.id == self.job.device:
                return device
        name = self.run.machine.cpu_name if self.job.device == "cpu" else self.job.device
        return Device(id=self.job.device, kind="cpu" if self.job.device == "cpu" else "cuda", name=name)


def job_kind(job: Job) -> JobKind | None:
    """Whether the job's whole time is measured or projected from steady steps; None where there is no whole job."""
    if job.clock == "job":
        return "measured"
    return "projected" if job.job_steps is not None else None


def processes(ledgers: Iterable[Ledger]) -> tuple[tuple[Process, ...], tuple[str, ...]]:
    """One value a process, in an order that does not depend on the files', and what was odd on the way.

    An interrupted process that a resumed run repeated is left out in favour of the later attempt. A run found in two
    files counts once.
    """
    by_run: dict[str, list[Ledger]] = {}
    for ledger in ledgers:
        by_run.setdefault(ledger.header.run_id, []).append(ledger)
    found: list[Process] = []
    problems: list[str] = []
    for run_id, copies in sorted(by_run.items()):
        copies.sort(key=lambda ledger: (-len(ledger.records), str(ledger.path)))
        if len(copies) > 1:
            problems.append(f"run {run_id} is in {len(copies)} files; counted once, from the longest")
        found.extend(_of_run(copies[0]))
    return tuple(found), tuple(problems)


def _of_run(ledger: Ledger) -> list[Process]:
    latest: dict[int, int] = {}
    for record in ledger.records:
        latest[record.index] = max(latest.get(record.index, 0), record.attempt)
    kept = [
        record
        for record in ledger.records
        if record.outcome.status != "interrupted" or record.attempt == latest[record.index]
    ]
    found = [_of_record(ledger.header, record) for record in kept]
    for index, job in enumerate(ledger.header.plan):
        if index not in latest:
            found.append(_not_run(ledger.header, index, job))
    return sorted(found, key=lambda process: (process.index, process.attempt))


def _of_record(header: RunHeader, record: Record) -> Process:
    outcome = _gated(header, record)
    trial = outcome.trial if outcome.status == "ok" else None
    return Process(
        run=header,
        machine_id=record.machine_id,
        protocol=record.protocol,
        index=record.index,
        attempt=record.attempt,
        job=record.job,
        work_key=record.job.work_key,
        row_key=record.job.row_key,
        status=outcome.status,
        message=outcome.message,
        figures=None if trial is None else figures(record.job, trial),
        doubts=() if trial is None else doubts.of_record(header, record),
        learned=learned_of(record.job, outcome),
    )


def _gated(header: RunHeader, record: Record) -> Outcome:
    """The outcome as the gates see it today: what was written before a gate learned something is judged again."""
    trial = record.outcome.trial
    if trial is None or record.outcome.status != "ok":
        return record.outcome
    device = next((each for each in header.machine.devices if each.id == record.job.device), None)
    found = gates.check(record.job, trial, record.process_seconds, device, header.machine)
    return gates.judge(record.outcome, found)


def _not_run(header: RunHeader, index: int, job: Job) -> Process:
    return Process(
        run=header,
        machine_id=header.machine.id,
        protocol=header.protocol,
        index=index,
        attempt=0,
        job=job,
        work_key=job.work_key,
        row_key=job.row_key,
        status=NOT_RUN,
        message=None,
        figures=None,
    )


def figures(job: Job, trial: Trial) -> Figures | None:
    """The process's figures from its raw blocks; None where no time was recorded, for then nothing can be divided by it."""
    total = sum(trial.block_seconds)
    if not (total > 0 and math.isfinite(total) and trial.steps > 0):
        return None
    step_seconds = total / trial.steps
    flops = step_flops(job)
    projected = None if job.job_steps is None else step_seconds * job.job_steps
    job_seconds = trial.job_seconds if job.clock == "job" else projected
    return Figures(
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
        energy=trial.energy if counted(trial.energy) else None,
        energy_missing=_why_no_energy(job, trial),
        cold_start_seconds=trial.cold_start_seconds,
    )


def _why_no_energy(job: Job, trial: Trial) -> str | None:
    """Why there is no energy: its counter stood still, its sensor's own reason, else that it was not asked for."""
    if trial.energy is not None:
        return None if counted(trial.energy) else f"{trial.energy.source} did not count"
    sensor = "package_energy_joules" if job.device == "cpu" else "device_energy_joules"
    reading = trial.telemetry_before
    return (reading.missing.get(sensor) if reading else None) or "not asked for (run with --energy)"


def step_flops(job: Job) -> int | None:
    """Model FLOPs of one step; None for a workload, or a version of one, that is not known here."""
    return _step_flops(job.workload, job.workload_version, job.size, job.batch_size, job.extra_forwards)


@lru_cache(maxsize=1024)
def _step_flops(workload: str, version: int, size: int | None, batch_size: int, extra_forwards: int) -> int | None:
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
            )
        )
    except WorkloadError:
        return None


def to_frame(found: Sequence[Process]) -> pd.DataFrame:
    """The processes as a frame, one row each; unknown figures are missing values, the job's fields stand as `job_...`."""
    import pandas as pd

    return pd.DataFrame(flat_rows(found), columns=list(COLUMNS))


def flat_rows(found: Sequence[Process]) -> list[dict[str, object]]:
    """What `to_frame` is made of: a row a process, its values by the names in `COLUMNS`, None where unknown."""
    return [_flat(process) for process in found]


_IDENTITY = ("run_id", "machine_id", "protocol", "index", "attempt", "status", "work_key", "row_key")
_JOB = ("workload", "division", "precision", "batch_size", "size", "device", "threads", "round", "seed")
_TEST = ("test_correct", "test_images", "test_after_steps")
_NOT_FLAT = ("test", "floors", "memory", "energy", "energy_missing")
_FIGURES = tuple(each.name for each in dataclasses.fields(Figures) if each.name not in _NOT_FLAT)
COLUMNS = (*_IDENTITY, *(f"job_{name}" for name in _JOB), "processor", "torch", *_FIGURES, *_TEST)


def _flat(process: Process) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(process, name) for name in _IDENTITY}
    row |= {f"job_{name}": getattr(process.job, name) for name in _JOB}
    row |= {"processor": process.device.name, "torch": process.software.torch}
    figures = process.figures
    row |= {name: getattr(figures, name, None) for name in _FIGURES}
    test = None if figures is None else figures.test
    row |= {name: getattr(test, name.removeprefix("test_"), None) for name in _TEST}
    return row
