"""One row's figures as cells: text for the reader, raw SI values with the unit in their name for machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cnnbench import naming, units, workloads
from cnnbench.analysis.bottleneck import FloorKind
from cnnbench.analysis.process_table import NOT_RUN
from cnnbench.analysis.speedup import Accuracy, Row
from cnnbench.analysis.stats import Estimate
from cnnbench.report import job_fields
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Value
from cnnbench.schema import Job, digest
from cnnbench.workloads import Workload

NumberText = Callable[[float | None], str]
NONE = Cell(units.NOT_AVAILABLE)
EMPTY = Cell("")


def values(key: str, estimate: Estimate | None) -> dict[str, Value]:
    """The estimate's raw values: `key`, `key_low`, `key_high`, `key_n`; all None where there is none."""
    if estimate is None:
        return {key: None, f"{key}_low": None, f"{key}_high": None, f"{key}_n": None}
    return {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high, f"{key}_n": estimate.n}


def interval(estimate: Estimate, text: NumberText) -> tuple[str, ...]:
    """The interval as text; nothing where there is none."""
    if estimate.low is None or estimate.high is None:
        return ()
    return (units.span(estimate.low, estimate.high, text),)


KEY_CHARACTERS = 12
"""Of a row key's SHA-256: enough to tell the rows of one run apart."""


def name_raw_rows(*rows: Row) -> tuple[tuple[str, str], ...]:
    """Name the raw rows that a line is made of, for whoever derives it again."""
    return tuple((row.run_id, digest(row.row_key)[:KEY_CHARACTERS]) for row in rows)


def processor(row: Row, *, several_machines: bool, all_runs: bool, with_job_fields: bool = False) -> Cell:
    """The processor with its place on the machine; the machine and the run where several are shown. `told` puts the fields
    of `modes.FIELDS` beside it as raw values.
    """
    details = [naming.place_label(row.job)]
    details += [plain(row.machine.id)] if several_machines else []
    details += [f"run {plain(row.run_id)}"] if all_runs else []
    identity: dict[str, Value] = {
        "processor": row.device.name,
        "device": row.job.device,
        "threads": row.job.threads,
        "allocator": row.job.allocator,
        "machine_id": row.machine.id,
        "run_id": row.run_id,
        "torch": f"{row.software.torch} ({row.software.torch_build})",
        "workload": row.job.workload,
        "division": row.job.division,
        "batch_size": row.job.batch_size,
        "clock": row.job.clock,
        "work_key_sha256": digest(row.work_key),
        "protocol": row.protocol,
        "year": None,
        "source": None,
    }
    return Cell(
        naming.processor_name(row.device),
        tuple(details),
        identity | (job_fields.job_values(row.job) if with_job_fields else {}),
    )


def precision(row: Row) -> Cell:
    """The precision asked for."""
    return Cell(row.job.precision, (), {"precision": row.job.precision})


def size(row: Row) -> Cell:
    """Side of a GEMM's operands."""
    return Cell(units.count(row.job.size), (), {"size": row.job.size})


def products(row: Row) -> Cell:
    """How a GEMM was timed: `10 x 2 after 3` is 10 blocks of 2 products after 3 of warm-up."""
    job = row.job
    raw: dict[str, Value] = {"blocks": job.blocks, "block_steps": job.block_steps, "warmup_steps": job.warmup_steps}
    return Cell(f"{job.blocks} x {job.block_steps} after {job.warmup_steps}", (), raw)


def peak(row: Row) -> Cell:
    """The theoretical dense peak."""
    value = row.peak_flops_per_second
    raw: dict[str, Value] = {"peak_flops_per_second": value, "peak_kind": "theoretical", "peak_origin": row.peak_origin}
    return Cell(units.giga(value), (), raw)


def ceiling(row: Row) -> Cell:
    """The measured peak: the best matrix product of the same run, device, precision and threads."""
    estimate = row.ceiling_flops_per_second
    raw = values("measured_peak_flops_per_second", estimate) | {"measured_peak_run_id": row.ceiling_run_id}
    return Cell(units.giga(None if estimate is None else estimate.value), (), raw)


def utilisation(row: Row) -> Cell:
    """MFU: achieved over the theoretical dense peak."""
    return Cell(units.percent(row.mfu, 1), (), {"mfu": row.mfu})


def share_of_ceiling(row: Row) -> Cell:
    """Achieved over the measured peak."""
    found = row.ceiling_share
    raw = values("share_of_measured_peak", found)
    if found is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    return Cell(_whole_percent(found.value), (*interval(found, _whole_percent), f"n={found.n}"), raw)


def _whole_percent(share: float | None) -> str:
    return units.percent(share, 0)


def step(row: Row) -> Cell:
    """Mean seconds of a timed step."""
    estimate = row.step_seconds
    return Cell(units.short_seconds(None if estimate is None else estimate.value), (), values("step_seconds", estimate))


def step_text(seconds: float | None) -> str:
    """A step with its unit to four figures (`71.55 ms`): a few percent apart, three would read alike."""
    if seconds is None:
        return units.NOT_AVAILABLE
    scale, unit = next((each for each in _STEP_UNITS if seconds >= each[0]), _STEP_UNITS[-1])
    value = seconds / scale
    return f"{value:,.0f} {unit}" if value >= 999.95 else f"{value:#.4g} {unit}"


def step_span(low: float, high: float) -> str:
    """Both ends of a range of steps, a unit they share said once: `71.55–75.86 ms`."""
    lower, upper = step_text(low), step_text(high)
    unit = upper[upper.rindex(" ") :]
    return f"{lower.removesuffix(unit)}–{upper}"


_STEP_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def what_binds(row: Row) -> Cell:
    """What binds the step."""
    text = units.NOT_AVAILABLE if row.bottleneck is None else row.bottleneck.summary
    return Cell(text, (), {"verdict": text})


def floor(row: Row, kind: FloorKind) -> Cell:
    """One floor: its time, and how many times faster it would allow."""
    found = None if row.bottleneck is None else row.bottleneck.floor(kind)
    raw: dict[str, Value] = {
        f"{kind}_floor_seconds": None if found is None else found.seconds,
        f"{kind}_floor_allows": None if found is None else found.allows,
    }
    if found is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    return Cell(units.short_seconds(found.seconds), (f"allows {units.ratio(found.allows)}",), raw)


def achieved(row: Row, *, with_interval: bool = False) -> Cell:
    """Model FLOPs over time."""
    estimate = row.flops_per_second
    raw = values("achieved_flops_per_second", estimate)
    if estimate is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    details = (*interval(estimate, units.giga), f"n={estimate.n}") if with_interval else ()
    return Cell(units.giga(estimate.value), details, raw)


def job_time(row: Row) -> Cell:
    """The whole job's time; a projected one is marked with ~ and the word."""
    raw: Mapping[str, Value] = {**values("job_seconds", row.job_seconds), "job_kind": row.job_kind}
    if row.job_seconds is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    mark = "~" if row.job_kind == "projected" else ""
    details = (*interval(row.job_seconds, units.duration), f"{row.job_kind}, n={row.job_seconds.n}")
    return Cell(mark + units.duration(row.job_seconds.value), details, raw)


def speedup(row: Row) -> Cell:
    """The baseline's time over this row's."""
    found = row.speedup
    raw: dict[str, Value] = values("speedup", None if found is None else found.ratio)
    if found is None:
        return Cell(units.NOT_AVAILABLE, (), {**raw, "baseline": None})
    raw["baseline"] = baseline(row)
    if found.is_baseline:
        return Cell(units.ratio(found.ratio.value), ("baseline", f"n={found.ratio.n}"), raw)
    details = (*interval(found.ratio, units.ratio), f"n={found.ratio.n}")
    return Cell(units.ratio(found.ratio.value), details, raw)


def baseline(row: Row) -> str | None:
    """The baseline's name, `AMD EPYC, 2 threads`; None where there is none."""
    found = row.speedup
    if found is None:
        return None
    return ", ".join((naming.processor_name(found.baseline), *naming.count_threads(found.baseline_threads)))


def over_published(row: Row) -> Cell:
    """The published CPU's time over this row's, where the whole job is the same."""
    found = row.speedup_over_published
    raw = values("speedup_over_reference", found)
    if found is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    mark = "~" if row.job_kind == "projected" else ""
    details = (*interval(found, units.ratio), f"n={found.n}")
    return Cell(mark + units.ratio(found.value), details, raw)


def images(row: Row) -> Cell:
    """Training images a second in the timed steps."""
    found = row.images_per_second
    return Cell(units.rate(None if found is None else found.value), (), values("images_per_second", found))


def host_peak(row: Row) -> Cell:
    """Largest host high-water mark of the row's processes."""
    return Cell(units.data_size(row.host_peak_bytes), (), {"host_peak_bytes": row.host_peak_bytes})


def device_peak(row: Row) -> Cell:
    """Largest allocator peak on the device of the row's processes."""
    return Cell(units.data_size(row.device_peak_bytes), (), {"device_peak_bytes": row.device_peak_bytes})


def device_reserved(row: Row) -> Cell:
    """Largest reserved bytes of the device's caching allocator."""
    value = row.device_reserved_bytes
    return Cell(units.data_size(value), (), {"device_reserved_bytes": value})


def device_used(row: Row) -> Cell:
    """Device memory in use by NVML, by UUID, right after the timed steps."""
    value = row.device_used_bytes
    return Cell(units.data_size(value), (), {"device_used_bytes": value})


def activations(row: Row) -> Cell:
    """Analytic: float32 bytes of one image's forward activations, the input included."""
    workload = find_workload(row.job)
    value = None if workload is None else workload.activation_bytes_per_image
    return Cell(units.data_size(value), (), {"activation_bytes_per_image": value})


def parameters(row: Row) -> Cell:
    """Analytic: float32 bytes of the parameters."""
    workload = find_workload(row.job)
    value = None if workload is None else workload.parameter_bytes
    return Cell(units.data_size(value), (), {"parameter_bytes": value})


def cold_start(row: Row) -> Cell:
    """Spawn of the process to its first synchronised step."""
    found = row.cold_start_seconds
    return Cell(units.short_seconds(None if found is None else found.value), (), values("cold_start_seconds", found))


def energy(row: Row) -> Cell:
    """Joules an image: gross, and idle-subtracted beside it with the counter and its uncertainty."""
    found = row.energy
    raw = values("energy_joules_per_image", None if found is None else found.gross_joules)
    if found is None:
        return Cell(units.NOT_AVAILABLE, (), {**raw, "net_energy_joules_per_image": None, "mean_power_watts": None})
    net = "net n/a" if found.net_joules is None else f"net {units.joules(found.net_joules)}"
    details = (net, f"{found.watts:.0f} W", f"±{units.percent(found.uncertainty, 1)} by {plain(found.source)}")
    raw |= {"net_energy_joules_per_image": found.net_joules, "mean_power_watts": found.watts}
    return Cell(units.joules(found.gross_joules.value), details, raw)


def find_workload(job: Job) -> Workload | None:
    """The job's workload, where it is known here in the version that ran."""
    if job.workload not in workloads.names():
        return None
    workload = workloads.get(job.workload, job.workload_version)
    return workload if workload.version == job.workload_version else None


def accuracy(row: Row) -> Cell:
    """Share of test images right, its interval, after how many steps, and loudly if the digits are synthetic."""
    found = row.accuracy
    if found is None:
        raw = {**values("test_accuracy", None), "accuracy_after_steps": None, "accuracy_data": None}
        return Cell(units.NOT_AVAILABLE, (), raw)
    after = _steps_text(found)
    synthetic = ("SYNTHETIC digits",) if found.data == "synthetic" else ()
    details = (*interval(found.share, units.percent), f"after {after} steps", *synthetic)
    raw = {**values("test_accuracy", found.share), "accuracy_after_steps": found.after_steps[1]}
    return Cell(units.percent(found.share.value), details, {**raw, "accuracy_data": found.data})


def _steps_text(found: Accuracy) -> str:
    fewest, most = found.after_steps
    return units.count(most) if fewest == most else f"{units.count(fewest)} to {units.count(most)}"


def outcome(row: Row) -> Cell:
    """How the processes ended: `ok 3/3`, `oom 1 of 3`."""
    total = sum(row.outcomes.values())
    known = sorted(row.outcomes.items(), key=lambda item: (item[0] == NOT_RUN, item[0]))
    others = [f"{status} {n} of {total}" for status, n in known if status != "ok"]
    parts = ([f"ok {row.ok}/{total}"] if row.ok else []) + others
    raw: dict[str, Value] = {"processes": total, "processes_ok": row.ok, "outcome": ", ".join(parts)}
    return Cell(parts[0], tuple(parts[1:]), raw)
