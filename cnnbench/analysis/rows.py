"""The repeats of one job on one processor in one run, as one row of estimates; a figure it lacks has its reason.

Only `ok` processes enter a mean; all others are counted in `Row.outcomes`. What needs other rows (speed-ups) is left
empty here: `compare` fills it in.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cnnbench import validity
from cnnbench.analysis import doubts, stats
from cnnbench.analysis.bottleneck import Bottleneck
from cnnbench.analysis.doubts import Doubt
from cnnbench.analysis.energy import EnergyUse, estimate_energy_use
from cnnbench.analysis.metrics import JobKind, ProcessMetrics, job_kind
from cnnbench.analysis.process_table import Process
from cnnbench.analysis.stats import Estimate
from cnnbench.analysis.time_to_accuracy import TimeToAccuracy, combine_seeds
from cnnbench.analysis.training_outcome import TrainingOutcome
from cnnbench.machine.peaks import Peak
from cnnbench.schema import DataKind, Device, Job, Machine, Software

PROJECTION_PROCESSES = 3
PROJECTION_STEPS = 100
"""A projection rests on 3 processes of 100 steady steps each, or on 3 epochs of one process: design rule of protocol 1."""
PROJECTION_EPOCHS = 3

PeakOf = Callable[[Device, Machine, str], Peak]
"""Theoretical dense peak of a device at a precision: `machine.peaks.theoretical_peak`, or a test's own."""


@dataclass(frozen=True)
class Accuracy:
    """Share of test images right, with how many steps of training it is after and on which data."""

    share: Estimate
    images: int
    after_steps: tuple[int, int]
    """Fewest and most steps over the processes; they differ only where a job may stop early."""
    data: DataKind


@dataclass(frozen=True)
class Speedup:
    """The baseline's time over the row's own, with whom it is divided by."""

    ratio: Estimate
    baseline: Device
    baseline_threads: int | None
    baseline_torch: str
    is_baseline: bool


@dataclass(frozen=True)
class Row:
    """One line of the table: one job on one processor in one run. A figure that is None has its reason in `missing`."""

    machine: Machine
    device: Device
    software: Software
    job: Job
    work_key: str
    row_key: str
    protocol: int
    run_id: str
    created_at: str
    boot_id: str | None
    """The boot in which the run began; None where it was not recorded."""
    outcomes: Mapping[str, int]
    """Processes by how they ended, `not run` included; they add up to what was planned."""
    failures: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    """What the processes that did not end well said, each once, by round."""
    costs: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """Seconds of the same work by (run, round): what speed-ups divide."""
    rates: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """Model FLOP/s by (run, round): what shares of the measured peak divide."""
    step_seconds: Estimate | None = None
    images_per_second: Estimate | None = None
    flops_per_second: Estimate | None = None
    peak_flops_per_second: float | None = None
    peak_origin: str | None = None
    ceiling_flops_per_second: Estimate | None = None
    """Measured peak: the best matrix product of the same run, else of the same boot; `ceiling` fills it in."""
    ceiling_run_id: str | None = None
    """The run in which that product was measured."""
    ceiling_share: Estimate | None = None
    """Achieved over measured peak."""
    is_ceiling: bool = False
    """Whether the row is a matrix product and the measured peak of its own run."""
    bottleneck: Bottleneck | None = None
    operators_per_step: int | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    job_kind: JobKind | None = None
    job_seconds: Estimate | None = None
    """Seconds of the whole job, measured or projected. A job to a target has no fixed length; see `time_to_accuracy`."""
    time_to_accuracy: TimeToAccuracy | None = None
    pretraining_seconds: Estimate | None = None
    """Of the job's time, before the first timed step; its FLOPs are not in `flops_per_second`."""
    pretraining_flops_per_second: Estimate | None = None
    timed_steps: int | None = None
    host_peak_bytes: int | None = None
    device_peak_bytes: int | None = None
    device_reserved_bytes: int | None = None
    device_used_bytes: int | None = None
    energy: EnergyUse | None = None
    cold_start_seconds: Estimate | None = None
    exchange: Estimate | None = None
    """Of ranks: a step with the exchange of gradients over one without it."""
    launch_seconds: Estimate | None = None
    """Of several processes: the part of the cold start in which they were started and met."""
    copies: tuple[Mapping[str, float], ...] = ()
    """Of copies: each one's mean step by its place, a mapping a launch."""
    accuracy: Accuracy | None = None
    training_outcomes: tuple[TrainingOutcome, ...] = ()
    """Each process that trained, by round: what questions about single seeds are asked of."""
    speedup: Speedup | None = None
    speedup_over_published: Estimate | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()
    other_runs: int = 0
    """Runs of the same row that are not shown."""

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation: achieved over theoretical dense peak."""
        if self.flops_per_second is None or not self.peak_flops_per_second:
            return None
        return self.flops_per_second.value / self.peak_flops_per_second

    @property
    def ok(self) -> int:
        """Processes that ended well: the n of every estimate of the row."""
        return self.outcomes.get("ok", 0)


def build_row(members: Sequence[Process], peak_of: PeakOf) -> Row:
    """The row of these processes: repeats of one job, all of one run and one protocol."""
    members = sorted(members, key=lambda process: (process.job.round, process.index, process.attempt))
    first = members[0]
    good = [(process, process.metrics) for process in members if process.status == "ok" and process.metrics]
    peak = peak_of(first.device, first.machine, first.job.precision)
    seeds = combine_seeds(first.job, [process.seed_result for process in members if process.seed_result is not None])
    missing = {} if peak.flops_per_second is not None else {"peak": peak.reason or "not known"}
    row = Row(
        machine=first.machine,
        device=first.device,
        software=first.software,
        job=first.job,
        work_key=first.work_key,
        row_key=first.row_key,
        protocol=first.protocol,
        run_id=first.run_id,
        created_at=first.run.created_at,
        boot_id=first.run.boot_id,
        outcomes=dict(sorted(Counter(process.status for process in members).items())),
        failures=_failures(members),
        training_outcomes=tuple(
            process.training_outcome for process in members if process.training_outcome is not None
        ),
        reasons=tuple(dict.fromkeys(each.message for each in members if each.status != "ok" and each.message)),
        peak_flops_per_second=None
        if peak.flops_per_second is None
        else peak.flops_per_second * validity.devices_of(first.job),
        peak_origin="; ".join(part for part in (peak.formula, peak.source) if part) or None,
        job_kind=job_kind(first.job),
        time_to_accuracy=seeds,
        missing=missing | _explain_missing_target(seeds),
    )
    doubted = doubts.merge_row_doubts(len(good), [process.doubts for process, _ in good])
    return dataclasses.replace(_with_metrics(row, good), doubts=doubted)


def _failures(members: Sequence[Process]) -> tuple[str, ...]:
    """Each way of failing once, with the rounds it happened in: `oom in round 3: ...`."""
    rounds: dict[tuple[str, str], list[int]] = {}
    for process in members:
        message = process.message if process.status != "ok" else None
        if process.status == "ok" and process.metrics is None:
            message = "no usable time was recorded"
        if message:
            rounds.setdefault((process.status, message), []).append(process.job.round + 1)
    return tuple(
        f"{status} in round{'s' if len(where) > 1 else ''} {', '.join(map(str, where))}: {message}"
        for (status, message), where in rounds.items()
    )


def _with_metrics(row: Row, good: Sequence[tuple[Process, ProcessMetrics]]) -> Row:
    metrics = [each for _, each in good]
    missing = dict(row.missing)
    if not metrics:
        return row
    rates = [each.flops_per_second for each in metrics if each.flops_per_second is not None]
    if not rates:
        missing["flops"] = f"FLOPs of {row.job.workload} version {row.job.workload_version} are not known here"
    images = [each.images_per_second for each in metrics if each.images_per_second is not None]
    job_seconds, why_no_job = _job_seconds(row.job, metrics)
    accuracy, why_no_accuracy = _accuracy(row.job, metrics)
    host = [each.host_peak_bytes for each in metrics if each.host_peak_bytes is not None]
    device = [each.device_peak_bytes for each in metrics if each.device_peak_bytes is not None]
    cold = [each.cold_start_seconds for each in metrics if each.cold_start_seconds]
    exchanges = [each.exchange_ratio for each in metrics if each.exchange_ratio]
    launches = [each.launch_seconds for each in metrics if each.launch_seconds]
    before = [each.pretraining_seconds for each in metrics if each.pretraining_seconds]
    before_rates = [each.pretraining_flops_per_second for each in metrics if each.pretraining_flops_per_second]
    on_cpu = row.device.kind == "cpu"
    reasons = {
        "job": why_no_job,
        "accuracy": why_no_accuracy,
        "energy": next((each.energy_missing for each in metrics if each.energy_missing), None),
        "host_peak": None if host else "no high-water mark could be read on that system",
        "device_peak": None
        if device
        else "a CPU's memory is the host's"
        if on_cpu
        else "its allocator reports no peak",
    }
    missing |= {figure: reason for figure, reason in reasons.items() if reason is not None}
    return dataclasses.replace(
        row,
        costs=_costs(row.job, good),
        rates=_rates(good),
        step_seconds=stats.geometric([each.step_seconds for each in metrics]),
        images_per_second=stats.geometric(images) if images else None,
        flops_per_second=stats.geometric(rates) if rates else None,
        job_seconds=job_seconds,
        timed_steps=min(each.steps for each in metrics),
        host_peak_bytes=max(host, default=None),
        device_peak_bytes=max(device, default=None),
        device_reserved_bytes=_largest([each.memory.device_reserved_peak_bytes for each in metrics]),
        device_used_bytes=_largest([each.memory.device_used_bytes for each in metrics]),
        energy=estimate_energy_use([each.energy for each in metrics if each.energy], row.job.batch_size),
        cold_start_seconds=stats.geometric(cold) if cold else None,
        exchange=stats.geometric(exchanges) if exchanges else None,
        launch_seconds=stats.geometric(launches) if launches else None,
        copies=tuple(each.copy_seconds for each in metrics if each.copy_seconds),
        pretraining_seconds=stats.geometric(before) if before else None,
        pretraining_flops_per_second=stats.geometric(before_rates) if before_rates else None,
        accuracy=accuracy,
        missing=missing,
        operators_per_step=metrics[0].operators_per_step,
        floors=_median_floors([each.floors for each in metrics]),
    )


def _explain_missing_target(seeds: TimeToAccuracy | None) -> dict[str, str]:
    """Why there is no mean, or no median, of the time to accuracy."""
    if seeds is None or not seeds.missed:
        return {}
    many = f"{len(seeds.missed)} of {len(seeds.seed_results)} seeds missed the target"
    found = {"to_target_mean": f"{many}: their time is not known, and a mean of the others would leave it out"}
    if seeds.seconds.value is None:
        found["to_target_median"] = f"{many}: the middle one is beyond the epoch limit"
    return found


def _largest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _median_floors(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each floor's median over the processes that measured it."""
    names = dict.fromkeys(name for floors in found for name in floors)
    return {name: statistics.median(floors[name] for floors in found if name in floors) for name in names}


def is_whole_job(job: Job) -> bool:
    """Whether `Row.costs` are seconds of the whole job, rather than of a step: one that may stop early has no fixed length,
    nor has one that trains to a target, where chance in the seed decides how many steps it takes.
    """
    return job.timed_whole and not job.stop_when_all_right


def _costs(job: Job, good: Sequence[tuple[Process, ProcessMetrics]]) -> dict[tuple[str, int], float]:
    """The job clock where the job is a fixed number of steps, else the mean step."""
    whole = is_whole_job(job)
    by_round: dict[tuple[str, int], list[float]] = {}
    for process, metrics in good:
        cost = metrics.job_seconds if whole else metrics.step_seconds
        if cost is not None:
            by_round.setdefault((process.run_id, process.job.round), []).append(cost)
    return {key: stats.geometric(costs).value for key, costs in by_round.items()}


def _rates(good: Sequence[tuple[Process, ProcessMetrics]]) -> dict[tuple[str, int], float]:
    """Collect model FLOP/s by (run, round) from the processes whose FLOPs are known."""
    by_round: dict[tuple[str, int], list[float]] = {}
    for process, figures in good:
        if figures.flops_per_second is not None:
            by_round.setdefault((process.run_id, process.job.round), []).append(figures.flops_per_second)
    return {key: stats.geometric(rates).value for key, rates in by_round.items()}


def _job_seconds(job: Job, metrics: Sequence[ProcessMetrics]) -> tuple[Estimate | None, str | None]:
    if job.clock == "accuracy":
        return None, "a job to a target has no fixed length; what it took is its time to accuracy"
    seconds = [each.job_seconds for each in metrics if each.job_seconds is not None]
    if not seconds:
        return None, "no job clock was recorded" if job.timed_whole else "a rate, not a job of fixed length"
    if job.timed_whole:
        return stats.geometric(seconds), None
    enough = [each for each in metrics if each.steps >= PROJECTION_STEPS]
    epochs = min(each.steps for each in metrics) / (job.steps_per_epoch or 1)
    if len(enough) < PROJECTION_PROCESSES and epochs < PROJECTION_EPOCHS:
        return None, (
            f"a projection needs {PROJECTION_PROCESSES} processes of {PROJECTION_STEPS} steady steps, there are "
            f"{len(metrics)} of {min(each.steps for each in metrics)}"
        )
    return stats.geometric(seconds), None


def _accuracy(job: Job, metrics: Sequence[ProcessMetrics]) -> tuple[Accuracy | None, str | None]:
    tests = [(each.test, each.accuracy_data) for each in metrics if each.test is not None and each.test.images > 0]
    if not tests:
        return None, "no final evaluation was asked for" if not job.final_evaluation else "no evaluation was recorded"
    data = {kind for _, kind in tests}
    if len(data) > 1 or len({test.images for test, _ in tests}) > 1:
        return None, "the processes were evaluated on different images"
    wrong = [f"{test.correct} of {test.images}" for test, _ in tests if not 0 <= test.correct <= test.images]
    if wrong:
        return None, f"the record says {wrong[0]} images were right"
    shares = [test.correct / test.images for test, _ in tests]
    first = tests[0][0]
    share = stats.wilson(first.correct, first.images) if len(tests) == 1 else stats.mean_share(shares)
    after = [test.after_steps for test, _ in tests]
    return Accuracy(share, first.images, (min(after), max(after)), data.pop() or job.data), None
