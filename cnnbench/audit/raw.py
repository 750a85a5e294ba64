"""From raw records to what a table should say, written a second time and on purpose not shared with what printed it.

Each figure is a value with its interval and n, in SI units, under the heading it is printed under.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

from cnnbench import workloads
from cnnbench.errors import WorkloadError
from cnnbench.machine import peaks
from cnnbench.schema import Device, Job, Record, ReferenceRow, RunHeader, Trial
from cnnbench.store import Ledger

Cost = dict[tuple[str, int], float]


@dataclass(frozen=True)
class Figure:
    """What should be printed."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Wanted:
    """A row as it should be printed: figures by heading, words by heading, and parts that a cell must contain."""

    figures: dict[str, Figure | None]
    words: dict[str, str]
    parts: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class RawRow:
    """The records of one job on one device in one run."""

    header: RunHeader
    records: tuple[Record, ...]

    @property
    def job(self) -> Job:
        """The job they repeat."""
        return self.records[0].job

    @property
    def device(self) -> Device | None:
        """As the run's fingerprint lists it."""
        return next((each for each in self.header.machine.devices if each.id == self.job.device), None)

    @property
    def trials(self) -> tuple[tuple[Record, Trial], ...]:
        """Those that ended well, by round."""
        good = [(r, r.outcome.trial) for r in self.records if r.outcome.status == "ok" and r.outcome.trial]
        return tuple(sorted(good, key=lambda pair: pair[0].job.round))

    def steps(self) -> list[float]:
        """Mean seconds of a step, one value a process."""
        return [sum(trial.block_seconds) / trial.steps for _, trial in self.trials]


def rows(ledgers: Iterable[Ledger]) -> list[RawRow]:
    """All rows; a run found twice counts once, an interrupted attempt only where no later one followed."""
    runs = {ledger.header.run_id: ledger for ledger in sorted(ledgers, key=lambda each: len(each.records))}
    found: list[RawRow] = []
    for ledger in runs.values():
        last: dict[int, Record] = {}
        for record in ledger.records:
            if record.index not in last or record.attempt > last[record.index].attempt:
                last[record.index] = record
        by_key: dict[tuple[str, int], list[Record]] = {}
        for record in last.values():
            by_key.setdefault((record.job.row_key, record.protocol), []).append(record)
        found.extend(RawRow(ledger.header, tuple(records)) for records in by_key.values())
    return found


def newest(found: Sequence[RawRow]) -> list[RawRow]:
    """Of several runs of a row the newest with a finished process, as a table shows it."""
    best: dict[tuple[str, str], RawRow] = {}
    for row in sorted(found, key=lambda each: (bool(each.trials), each.header.created_at, each.header.run_id)):
        best[row.header.machine.id, row.job.row_key] = row
    return list(best.values())


def expected(row: RawRow, shown: Sequence[RawRow], baseline: ReferenceRow | None) -> dict[str, Figure | None]:
    """Every figure of the row by heading; None where the table should say n/a."""
    figures: dict[str, Figure | None] = {"theoretical": _plain(_theoretical(row)), "size": _plain(row.job.size)}
    if not row.trials:
        return figures
    flops = _flops(row.job)
    rate = None if flops is None else _geometric([flops / step for step in row.steps()])
    ceiling = _ceiling(row, shown)
    figures |= {
        "achieved": rate,
        "measured": rate,
        "measured peak": _plain(ceiling),
        "MFU": _plain(_share(rate, _theoretical(row))),
        "of peak": _plain(_share(rate, ceiling)),
        "time of the job": _job_time(row),
        "speed-up over CPU": _speedup(row, shown),
        "over": _over(row, baseline),
        "images": _geometric([t.images / sum(t.block_seconds) for _, t in row.trials if t.images]),
        "host peak": _plain(_largest([t.memory.host_peak_bytes for _, t in row.trials])),
        "device peak": _plain(_largest([t.memory.device_allocated_peak_bytes for _, t in row.trials])),
        "test accuracy": _accuracy(row),
        "device reserved": _plain(_largest([t.memory.device_reserved_peak_bytes for _, t in row.trials])),
        "device used": _plain(_largest([t.memory.device_used_bytes for _, t in row.trials])),
        **_analytic(row.job),
        "energy an image": _geometric(
            [
                e.window_joules / (e.window_steps * row.job.batch_size)
                for _, t in row.trials
                if (e := t.energy) and min(e.window_joules, e.window_steps, e.window_seconds, e.idle_seconds) > 1e-9
            ]
        ),
        "cold start": _geometric([t.cold_start_seconds for _, t in row.trials if t.cold_start_seconds]),
        "one step": _geometric(row.steps()),
        **_floors(row, ceiling),
    }
    return figures


def words(row: RawRow) -> dict[str, str]:
    """The cells that are words, letter by letter."""
    planned = sum(job.row_key == row.job.row_key for job in row.header.plan)
    statuses = [record.outcome.status for record in row.records]
    good = statuses.count("ok")
    said = [f"ok {good}/{planned}"] if good else []
    said += [f"{name} {statuses.count(name)} of {planned}" for name in sorted(set(statuses)) if name != "ok"]
    said += [f"not run {planned - len(statuses)} of {planned}"] if planned > len(statuses) else []
    job = row.job
    return {
        "outcome": said[0] if len(said) == 1 else f"{said[0]} ({'; '.join(said[1:])})",
        "blocks x products after warm-up": f"{job.blocks} x {job.block_steps} after {job.warmup_steps}",
    }


def parts(row: RawRow, figures: dict[str, Figure | None]) -> dict[str, tuple[str, ...]]:
    """What must stand beside a figure: after how many steps, projected or measured, what a floor would allow."""
    found: dict[str, tuple[str, ...]] = {}
    after = sorted({trial.test.after_steps for _, trial in row.trials if trial.test})
    if after:
        spread = f"{after[0]:,}" if len(after) == 1 else f"{after[0]:,} to {after[-1]:,}"
        synthetic = ("SYNTHETIC",) if row.job.data == "synthetic" else ()
        found["test accuracy"] = (f"after {spread} steps", *synthetic)
    found["time of the job"] = ("measured",) if row.job.clock == "job" else ("projected", "~")
    step = figures.get("one step")
    for name, floor in figures.items():
        if name.endswith(" floor") and floor is not None and step is not None:
            found[name] = (f"allows {_ratio(step.value / floor.value)}",)
    return found


def _ratio(value: float) -> str:
    if value < 0.0995:
        return f"{value:.2g}x"
    return f"{value:.2f}x" if value < 99.995 else f"{value:,.0f}x"


def expected_reference(row: ReferenceRow, baseline: ReferenceRow | None) -> dict[str, Figure | None]:
    """A published row's figures by heading."""
    seconds, base = row.job_seconds, baseline.job_seconds if baseline else None
    return {
        "theoretical": _plain(row.printed_flops_per_second),
        "achieved": None if not seconds or row.job_flops is None else Figure(row.job_flops / seconds),
        "time of the job": _plain(seconds),
        "over": None if not seconds or not base else Figure(base / seconds),
    }


def _plain(value: float | None) -> Figure | None:
    return None if value is None else Figure(value)


def _largest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _share(rate: Figure | None, whole: float | None) -> float | None:
    return None if rate is None or not whole else rate.value / whole


def _flops(job: Job) -> int | None:
    try:
        flops = workloads.flops_per_step(job) if workloads.get(job.workload).version == job.workload_version else 0
        return flops if flops > 0 else None
    except WorkloadError:
        return None


def _geometric(values: Sequence[float]) -> Figure | None:
    if not values:
        return None
    logs = [math.log(value) for value in values]
    return _from_logs(logs, len(values))


def _from_logs(logs: Sequence[float], n: int) -> Figure:
    mean = statistics.fmean(logs)
    if n < 3:
        return Figure(math.exp(mean), n=n)
    half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(logs) / math.sqrt(n)
    return Figure(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n)


def _analytic(job: Job) -> dict[str, Figure | None]:
    if job.workload not in workloads.names() or workloads.get(job.workload).version != job.workload_version:
        return {}
    workload = workloads.get(job.workload)
    return {
        "activations an image": Figure(workload.activation_bytes_per_image),
        "parameters": Figure(workload.parameter_bytes),
    }


def _theoretical(row: RawRow) -> float | None:
    if row.device is None:
        return None
    return peaks.theoretical(row.device, row.header.machine, row.job.precision).flops_per_second


def _job_time(row: RawRow) -> Figure | None:
    job, trials = row.job, [trial for _, trial in row.trials]
    if job.clock == "job":
        return _geometric([trial.job_seconds for trial in trials if trial.job_seconds])
    whole = job.job_steps
    long_enough = sum(trial.steps >= 100 for trial in trials) >= 3
    if whole is None or not (long_enough or min(t.steps for t in trials) >= 3 * (job.steps_per_epoch or 1)):
        return None
    return _geometric([step * whole for step in row.steps()])


def _over(row: RawRow, baseline: ReferenceRow | None) -> Figure | None:
    time, job, flops = _job_time(row), row.job, _flops(row.job)
    if baseline is None or not baseline.job_seconds or time is None or flops is None or job.job_steps is None:
        return None
    same = job.job_steps * job.batch_size == baseline.job_images and job.job_steps * flops == baseline.job_flops
    if not same or job.stop_when_all_right:
        return None
    low = None if time.high is None else baseline.job_seconds / time.high
    high = None if time.low is None else baseline.job_seconds / time.low
    return Figure(baseline.job_seconds / time.value, low, high, time.n)


def _cost(row: RawRow) -> Cost:
    whole = row.job.clock == "job" and not row.job.stop_when_all_right
    costs: Cost = {}
    for record, trial in row.trials:
        seconds = trial.job_seconds if whole else sum(trial.block_seconds) / trial.steps
        if seconds:
            costs[record.run_id, record.job.round] = seconds
    return costs


def _speedup(row: RawRow, shown: Sequence[RawRow]) -> Figure | None:
    def mean(costs: Cost) -> float:
        return statistics.fmean(math.log(cost) for cost in costs.values())

    same = [
        _cost(each)
        for each in shown
        if each.job.device == "cpu"
        and each.job.work_key == row.job.work_key
        and each.header.machine.id == row.header.machine.id
        and each.records[0].protocol == row.records[0].protocol
    ]
    bases = sorted((costs for costs in same if costs), key=mean)
    own = _cost(row)
    if not bases or not own:
        return None
    base = bases[0]
    pairs = [math.log(base[key] / own[key]) for key in sorted(own.keys() & base.keys())]
    if len(pairs) >= 3:
        return _from_logs(pairs, len(pairs))
    return _welch(base, own, pairs)


def _welch(base: Cost, own: Cost, pairs: Sequence[float]) -> Figure:
    first, second = ([math.log(value) for value in costs.values()] for costs in (base, own))
    n = min(len(first), len(second))
    if n < 3:
        if pairs:
            return _from_logs(pairs, len(pairs))
        return Figure(math.exp(statistics.fmean(first) - statistics.fmean(second)), n=n)
    a, b = statistics.variance(first) / len(first), statistics.variance(second) / len(second)
    degrees = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    middle, half = statistics.fmean(first) - statistics.fmean(second), float(stdtrit(degrees, 0.975)) * math.sqrt(a + b)
    return Figure(math.exp(middle), math.exp(middle - half), math.exp(middle + half), n)


def _accuracy(row: RawRow) -> Figure | None:
    tests = [trial.test for _, trial in row.trials if trial.test is not None]
    if not tests:
        return None
    shares = [test.correct / test.images for test in tests]
    mean = statistics.fmean(shares)
    if len(tests) == 1:
        z, images = float(ndtri(0.975)), tests[0].images
        centre = (mean + z * z / (2 * images)) / (1 + z * z / images)
        half = z * math.sqrt(mean * (1 - mean) / images + z * z / (4 * images**2)) / (1 + z * z / images)
        return Figure(mean, centre - half, centre + half)
    if len(tests) < 3:
        return Figure(mean)
    half = float(stdtrit(len(tests) - 1, 0.975)) * statistics.stdev(shares) / math.sqrt(len(tests))
    return Figure(mean, max(0.0, mean - half), min(1.0, mean + half))


def _ceiling(row: RawRow, shown: Sequence[RawRow]) -> float | None:
    def place(each: RawRow) -> tuple[object, ...]:
        job = each.job
        where = (each.header.machine.id, each.header.software.torch, each.records[0].protocol)
        return (*where, job.device, job.precision, job.threads, job.allocator)

    rates = []
    for each in shown:
        flops = _flops(each.job)
        if each.job.workload == "gemm" and each.trials and flops and place(each) == place(row):
            rates.append(flops / math.exp(statistics.fmean(math.log(step) for step in each.steps())))
    return max(rates, default=None)


def _floors(row: RawRow, ceiling: float | None) -> dict[str, Figure | None]:
    if row.job.workload not in workloads.names() or workloads.get(row.job.workload).kind != "training":
        return {}
    names = {name for _, trial in row.trials for name in trial.floors}
    median = {name: statistics.median([t.floors[name] for _, t in row.trials if name in t.floors]) for name in names}
    workload, first = workloads.get(row.job.workload), row.trials[0][1]
    moved = 5 * row.job.batch_size * workload.activation_bytes_per_image + 8 * workload.parameter_bytes
    launch, copy = median.get("launch_seconds"), median.get("copy_bytes_per_second")
    flops = _flops(row.job)
    return {
        "compute floor": None if not ceiling or flops is None else Figure(flops / ceiling),
        "bandwidth floor": None if not copy else Figure(moved / copy),
        "launch floor": None
        if launch is None or not first.operators_per_step
        else Figure(first.operators_per_step * launch),
        "input floor": _plain(median.get("draw_seconds")),
    }
