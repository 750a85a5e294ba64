"""Every metric, declared once: how it is computed from a process's trial, how the processes of a row are combined, how
it is named and printed, in which tables it is a column, how a reader can derive it again, and why it may be n/a.

A new column is a `Metric` in `METRICS` and its second derivation in `verify`: `process_table` computes its value per
process and exports it, `speedup` its value per row, and `report.table_builder` turns it into cells, CSV, JSON and the
page of formulas. Values are in SI units; a value that was not measured is left out, never 0.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from cnnbench import naming, units, workloads
from cnnbench.analysis.rows import FloorKind, NamedCount, NamedValue, Row, follow, has_energy
from cnnbench.analysis.stats import Estimate, MedianEstimate, estimate_mean, geometric, two_stage_mean
from cnnbench.errors import WorkloadError
from cnnbench.plain_text import plain
from cnnbench.schema import PACKAGE_COUNTER, TUNED_RUNG, Energy, Job, Trial
from cnnbench.workloads import Workload

PROJECTION_PROCESSES = 3
PROJECTION_STEPS = 40
PROJECTION_STEPS_TOGETHER = 300
"""A projection needs 300 steady steps in 3 or more processes of at least 40, or 3 epochs of one process. Steps of one process
share its speed, so it is processes that narrow the interval; 300 were 3 processes of 100 at first, which still suffice.
"""
PROJECTION_EPOCHS = 3


@dataclass(frozen=True, slots=True)
class ProcessMetrics:
    """The values of one `ok` process, in SI units."""

    job: Job
    trial: Trial
    seconds: float
    """The sum over all timed steps."""
    values: Mapping[str, float] = field(default_factory=dict)
    """The values by metric name; a metric that was not measured is left out."""

    steps = NamedValue[int]()
    median_step_seconds = NamedValue[float]()
    images_per_second = NamedValue[float | None]()
    job_seconds = NamedValue[float | None]()
    host_peak_bytes = NamedCount()
    device_peak_bytes = NamedCount()
    operators_per_step = NamedCount()
    parameters = NamedCount()

    @property
    def step_seconds(self) -> float:
        """Mean over all timed steps: the blocks' sum over their steps."""
        return self.seconds / self.trial.steps

    @property
    def leaves_out_zeros(self) -> bool:
        """Whether kernels that skip products with zeros ran: the native ones, or an unrecorded choice on a CPU."""
        rung = self.trial.settings.get(TUNED_RUNG, self.job.execution)
        return self.job.device == "cpu" and rung in ("native", "auto")

    @property
    def energy(self) -> Energy | None:
        """The reading of the energy counter, if it counted."""
        found = self.trial.energy
        return found if found is not None and has_energy(found) else None

    @property
    def energy_missing(self) -> str | None:
        """Why there is no energy: the counter did not move, the readings of several processes do not add up to one
        figure, the sensor's own reason, or energy was not asked for.
        """
        trial, job = self.trial, self.job
        if trial.energy is not None:
            return None if self.energy else f"{trial.energy.source} did not count"
        read = [rank.energy.source for rank in trial.ranks if rank.energy is not None]
        if job.copies > 1 and PACKAGE_COUNTER in read:
            return f"{PACKAGE_COUNTER} counts all copies together"
        if read:
            return f"{len(read)} of {job.processes} processes have a reading, or they are of different kinds"
        sensor = "package_energy_joules" if job.device == "cpu" else "device_energy_joules"
        reading = trial.telemetry_before
        return (reading.missing.get(sensor) if reading else None) or "not asked for (run with --energy)"

    @property
    def copy_seconds(self) -> dict[str, float]:
        """The mean step of each concurrent copy, by its place; copies without a time are left out."""
        steps, ranks = self.trial.steps, self.trial.ranks if self.job.copies > 1 else ()
        found = {f"{rank.place}": sum(rank.block_seconds) / steps for rank in ranks}
        return {place: seconds for place, seconds in found.items() if 0 < seconds < math.inf}


Found = Any
"""A metric's value for one row: an estimate, a number, a text, or None where it has none."""
Subject = TypeVar("Subject")
"""What one line of a table is about: a row, a seed, a pair of rows, a kind of node."""


def describe_interval(found: Estimate | MedianEstimate, text: Callable[[Any], str]) -> tuple[str, ...]:
    """Format the interval; empty where there is none.

    An end beyond the epoch limit is printed as `from ... on`.
    """
    if found.low is None:
        return ()
    return (f"from {text(found.low)} on" if found.high is None else units.span(found.low, found.high, text),)


def geometric_mean(values: Sequence[float], first: int | None = None) -> Estimate | None:
    """Compute the geometric mean of the values above zero; None if no value is.

    If the `first` ones decided how many followed, the interval is Stein's.
    """
    found = [value for value in values if value > 0]
    if first is not None and len(found) == len(values):
        return two_stage_mean([math.log(value) for value in found], first).map(math.exp)
    return geometric(found) if found else None


@dataclass(frozen=True, kw_only=True)
class Figure(Generic[Subject]):
    """A value for each line of a table, and its cell: the value's `text`, `details` beside it, and raw values."""

    name: str = ""
    """The key in `ProcessMetrics.values` and `Row.values`, with its unit; empty where it is in neither."""
    text: Callable[[Any], str] = units.number
    read: str | Callable[[Subject], Found] = ""
    """The function, or the path of attributes, that gives the value; if empty, the subject's value of that name."""
    raw_name: str = ""
    """The name of the raw value in CSV and JSON, if it is not `name`; without either, it is in neither file."""
    estimated: bool = False
    """Whether the value has an interval and n, which are raw values too."""
    details: Callable[[Subject], Iterable[str]] | Literal["", "interval", "interval and n"] = ""
    further: Mapping[str, str | Callable[[Subject], Any]] | Callable[[Subject], Mapping[str, Any]] = field(
        default_factory=dict
    )
    """More raw values by name, each read in the same way."""
    mark: Callable[[Subject], str] = lambda subject: ""
    """The text before the value: ~ for a projection."""
    timed: bool = False
    """Whether it comes from the clock or a counter: on an unfit machine such a figure is marked."""
    absent: Callable[[Subject], str] = lambda subject: units.NOT_AVAILABLE
    """The text where there is no value."""

    def find(self, subject: Subject) -> Found:
        """Read the value; None also for a median that is infinite."""
        found = follow(subject, self.read or f"values.{self.name}")
        return None if isinstance(found, MedianEstimate) and found.value is None else found

    def find_further(self, subject: Subject) -> dict[str, Any]:
        """Read the further raw values."""
        if callable(self.further):
            return dict(self.further(subject))
        return {name: follow(subject, path) for name, path in self.further.items()}

    def describe(self, subject: Subject, found: Found) -> tuple[str, ...]:
        """Format the details beside a value."""
        if callable(self.details):
            return tuple(self.details(subject))
        interval = describe_interval(found, self.text) if self.details else ()
        return (*interval, f"n={found.n}") if self.details == "interval and n" else interval


@dataclass(frozen=True)
class Metric(Figure[Row]):
    """A figure of rows, with how processes provide it, where it is shown and how it is explained."""

    name: str
    heading: str = ""
    unit: str = ""
    _: KW_ONLY
    tables: Mapping[str, int] = field(default_factory=dict)
    """For each table with this column, by key, how soon the column is dropped where there is no room: 1 never."""
    key: str = ""
    """The column's key (its text is `<key>_text` in CSV and JSON); the name where it is empty."""
    align: Literal["left", "right"] = "right"
    estimated: bool = True
    timed: bool = True
    of: str | Callable[[ProcessMetrics], float | None] = ""
    """The function, or the path of attributes, that gives the value of one process; empty where processes have none."""
    over: Callable[[Sequence[float]], Found] | None = geometric_mean
    """How the values of the processes that have one are combined; None where rows have no value."""
    why_missing: str | Callable[[Row, Sequence[float], Sequence[ProcessMetrics]], str | None] = ""
    """Why the row has no value: a format of the row, used where no process has one; or a function of the row, its
    processes' values and the processes themselves, which gives None where the row has a value.
    """
    gap: str = ""
    """The name of the figure in a note that explains why it is n/a."""
    formula: str = ""
    """How a reader can derive the value again."""
    reads: str = ""
    """The fields of `Trial` that the value is computed from."""
    explained_as: str = ""
    """The name on the page of formulas; if empty, the heading."""
    optional: bool = False
    """Whether a table leaves out the column where no line has the figure."""
    always_explained: bool = True
    """Whether every report lists the formula, not only those that show the column."""

    @property
    def column_key(self) -> str:
        """The key of the column."""
        return self.key or self.name


def compute_metrics(job: Job, trial: Trial) -> ProcessMetrics | None:
    """Compute the process's figures from its raw blocks.

    None if no time was recorded, so that nothing can be divided by it.
    """
    total = sum(trial.block_seconds)
    if not (total > 0 and math.isfinite(total) and trial.steps > 0):
        return None
    process = ProcessMetrics(job, trial, total)
    values = {metric.name: follow(process, metric.of) for metric in METRICS if metric.of}
    return replace(process, values={name: value for name, value in values.items() if value is not None})


def _job_seconds(process: ProcessMetrics) -> float | None:
    """Read the job clock, or the time to accuracy under that clock.

    Without one, project the mean step to the job's steps. A projection does not include evaluations.
    """
    steps = process.job.job_steps
    projected = None if steps is None else process.step_seconds * steps
    seconds = projected if process.job.clock == "steady" else process.trial.job_seconds
    return seconds if seconds and 0 < seconds < math.inf else None


def _measure_exchange_ratio(process: ProcessMetrics) -> float | None:
    """Divide the time of all blocks with the exchange by that of as many without.

    None where there was none, or no time.
    """
    blocks = process.trial.communication
    if blocks is None or len(blocks.with_seconds) != len(blocks.without_seconds):
        return None
    sharing, alone = sum(blocks.with_seconds), sum(blocks.without_seconds)
    return sharing / alone if 0 < sharing < math.inf and 0 < alone < math.inf else None


def exchange_share(exchange: Estimate | None) -> Estimate | None:
    """Compute the part of a step that the exchange takes; 0 where noise would make it negative."""
    return None if exchange is None else exchange.map(lambda each: max(0.0, 1 - 1 / each))


def _measure_launch(process: ProcessMetrics) -> float | None:
    """Add up the seconds it took to start several processes and join them; None for one process."""
    total = sum(process.trial.phases.get(name, 0.0) for name in ("launch", "join"))
    return total if 0 < total < math.inf else None


def _divide_by(flops: int | None, seconds: float | None) -> float | None:
    return flops / seconds if flops and seconds else None


def _measure_model_rate(process: ProcessMetrics) -> float | None:
    """Divide the model's FLOPs of a step by its mean seconds."""
    return _divide_by(step_flops(process.job), process.step_seconds)


def pretraining_flops(job: Job) -> int | None:
    """Count the model FLOPs of the job's pre-training.

    None where it has none, or they are not known here.
    """
    return None if step_flops(job) is None else workloads.pretraining_flops(job) or None


def job_flops(job: Job) -> int | None:
    """Count the model FLOPs of the whole job, pre-training included.

    For a job to a target they are counted up to its epoch limit. None where there is no whole job, or the FLOPs are not
    known here.
    """
    steps, flops = job.job_steps, step_flops(job)
    return None if steps is None or flops is None else (pretraining_flops(job) or 0) + steps * flops


def step_flops(job: Job) -> int | None:
    """Count the model FLOPs of one step.

    None for a workload, or a version of it, that is not known here. For a job that is pre-trained first it is a step of
    the fine-tuning.
    """
    try:
        return None if find_workload(job) is None else workloads.flops_per_step(job)
    except WorkloadError:  # a matrix product without a side
        return None


def find_workload(job: Job) -> Workload | None:
    """Find the job's workload, if it is known here in the version that ran."""
    if job.workload not in workloads.names():
        return None
    workload = workloads.get(job.workload, job.workload_version)
    return workload if workload.version == job.workload_version else None


def _explain_missing_job(row: Row, values: Sequence[float], good: Sequence[ProcessMetrics]) -> str | None:
    """Explain that a job to a target has no fixed length, and a projection needs enough steady steps."""
    job = row.job
    if job.clock == "accuracy":
        return "a job to a target has no fixed length; what it took is its time to accuracy"
    if not values:
        return "no job clock was recorded" if job.timed_whole else "a rate, not a job of fixed length"
    enough = [each.steps for each in good if each.steps >= PROJECTION_STEPS]
    fewest = min(each.steps for each in good)
    if (
        job.timed_whole
        or (len(enough) >= PROJECTION_PROCESSES and sum(enough) >= PROJECTION_STEPS_TOGETHER)
        or fewest / (job.steps_per_epoch or 1) >= PROJECTION_EPOCHS
    ):
        return None
    return (
        f"a projection needs {PROJECTION_STEPS_TOGETHER} steady steps in {PROJECTION_PROCESSES} or more processes of at "
        f"least {PROJECTION_STEPS}, there are {len(good)} of {fewest}"
    )


def _explain_missing_rate(row: Row, values: Sequence[float], good: Sequence[ProcessMetrics]) -> str | None:
    """Explain that the model's FLOPs are unknown, or that the device did not compute all of them."""
    if any(each.leaves_out_zeros for each in good):
        return (
            "the native kernels leave out products with zeros, so the device computes fewer FLOPs than the model has; "
            "model FLOP/s counts them"
        )
    return None if values else f"FLOPs of {row.job.workload} version {row.job.workload_version} are not known here"


def _explain_missing_device_peak(row: Row, values: Sequence[float], good: Sequence[ProcessMetrics]) -> str | None:
    if values:
        return None
    return "a CPU's memory is the host's" if row.device.kind == "cpu" else "its allocator reports no peak"


# What a cell prints beside its figure, and its further raw values.

UNFIT_MARK = "!"
"""Before each figure that the clock or a counter of an unfit machine gave, in every format."""


def mark_projected(row: Row) -> str:
    """Mark the time of a projected job, and what is divided by it, with ~."""
    return "~" if row.job_kind == "projected" else ""


def _describe_job_kind(row: Row) -> Iterator[str]:
    if row.job_seconds is not None:
        yield from describe_interval(row.job_seconds, units.duration)
        yield f"{row.job_kind}, n={row.job_seconds.n}"


def _describe_pretraining(row: Row) -> Iterator[str]:
    if row.pretraining_flops_per_second is not None:
        yield f"{units.giga(row.pretraining_flops_per_second.value)} GFLOP/s"
    if row.pretraining_seconds is not None:
        yield f"n={row.pretraining_seconds.n}"


def _describe_speedup(row: Row) -> Iterator[str]:
    if row.speedup is not None:
        ratio, own = row.speedup.ratio, row.speedup.is_baseline
        yield from ("baseline",) if own else describe_interval(ratio, units.ratio)
        yield f"n={ratio.n}"


def name_baseline(row: Row) -> str | None:
    """Name the baseline, as in `AMD EPYC, 2 threads`; None where there is none."""
    found = row.speedup
    if found is None:
        return None
    return ", ".join((naming.processor_name(found.baseline), *naming.count_threads(found.baseline_threads)))


def _describe_accuracy(row: Row) -> Iterator[str]:
    """Format the interval, the number of steps, and loudly if the digits are synthetic."""
    if row.accuracy is not None:
        fewest, most = row.accuracy.after_steps
        yield from describe_interval(row.accuracy.share, units.percent)
        yield f"after {'' if fewest == most else f'{units.count(fewest)} to '}{units.count(most)} steps"
        yield from ("SYNTHETIC digits",) if row.accuracy.data == "synthetic" else ()


def _describe_energy(row: Row) -> Iterator[str]:
    """Format the energy net of the idle machine's, the power, and the counter with its uncertainty."""
    used = row.energy
    if used is not None:
        yield f"net {units.joules(used.net_joules)}"
        yield f"{used.watts:.0f} W"
        yield f"±{units.percent(used.uncertainty, 1)} by {plain(used.source)}"


def _floor(kind: FloorKind, priority: int, **declared: Any) -> Metric:
    """Declare the floor of one kind."""

    def find(row: Row, attribute: str) -> Any:
        return follow(row.bottleneck and row.bottleneck.floor(kind), attribute)

    return Metric(
        f"{kind}_floor_seconds",
        f"{kind}\nfloor",
        text=units.short_seconds,
        tables={"bounds": priority},
        key=kind,
        read=lambda row: find(row, "seconds"),
        details=lambda row: (f"allows {units.ratio(find(row, 'allows'))}",),
        further={f"{kind}_floor_allows": lambda row: find(row, "allows")},
        estimated=False,
        **declared,
    )


def _bytes(name: str, heading: str, tables: Mapping[str, int], **declared: Any) -> Metric:
    """Declare a number of bytes, combined as the largest over processes."""
    return Metric(
        name, heading, text=units.data_size, tables=tables, over=max, estimated=False, timed=False, **declared
    )


def _to_target(name: str, heading: str, priority: int, **declared: Any) -> Metric:
    """Declare a figure over all seeds to a target: a median with its interval, or another figure."""
    median = name.startswith("median_")
    return Metric(
        f"{name}_to_target",
        heading,
        "s" if name.endswith("_seconds") else "",
        tables={"tta": priority},
        key=name.removesuffix("_seconds"),
        read=f"time_to_accuracy.{name.removeprefix('median_')}",
        estimated=median,
        details="interval and n" if median else "",
        **declared,
    )


_percent = partial(units.percent, digits=1)
_ratio = partial(Metric, text=units.ratio, details="interval and n")
_seconds = partial(Metric, text=units.short_seconds)

METRICS = (
    Metric("steps", of="trial.steps", over=min),
    Metric(
        "peak_flops_per_second",
        "theo-\nretical",
        "GFLOP/s",
        text=units.giga,
        tables={"training": 7, "lecture": 3, "gemm": 4},
        key="peak",
        read="peak_flops_per_second",
        timed=False,
        estimated=False,
        further={"peak_kind": lambda row: "theoretical", "peak_origin": "peak_origin"},
        gap="theoretical FLOP/s",
        formula="machine/peaks: cores or SMs x FLOP per clock x rated clock, dense, for the row's precision",
        reads="header.machine.devices",
    ),
    Metric(
        "measured_peak_flops_per_second",
        "measured\npeak",
        "GFLOP/s",
        text=units.giga,
        tables={"training": 8, "lecture": 4},
        key="ceiling",
        timed=False,
        read="ceiling_flops_per_second",
        further={"measured_peak_run_id": "ceiling_run_id"},
        gap="measured peak, of peak, compute floor",
        formula=(
            "geometric mean over processes of the gemm size with the largest, of the same run (else of the same boot_id and "
            "machine), device, precision, threads and allocator; none if its processes differ by more than 1.5x"
        ),
        reads="gemm records, header.boot_id",
    ),
    Metric(
        "flops_per_second",
        "achieved",
        "GFLOP/s",
        text=units.giga,
        tables={"training": 4, "lecture": 2},
        key="achieved",
        raw_name="achieved_flops_per_second",
        of=lambda process: None if process.leaves_out_zeros else _measure_model_rate(process),
        why_missing=_explain_missing_rate,
        gap="achieved FLOP/s, of peak, compute floor",
        formula="model FLOPs of a step / mean seconds of a step; geometric mean over processes",
        reads="block_seconds, steps",
    ),
    Metric(
        "model_flops_per_second",
        "model, zeros\ncounted",
        "GFLOP/s",
        text=units.giga,
        tables={"training": 4, "lecture": 2},
        key="model",
        of=lambda process: _measure_model_rate(process) if process.leaves_out_zeros else None,
        absent=lambda row: "",
        optional=True,
        formula=(
            "model FLOPs of a step / mean seconds of a step, for kernels that leave out products with zeros; geometric mean over "
            "processes; compared with no peak"
        ),
        reads="block_seconds, steps",
        always_explained=False,
    ),
    Metric(
        "mfu",
        "MFU",
        "theor.",
        text=_percent,
        tables={"training": 10},
        read="mfu",
        estimated=False,
        formula="achieved / theoretical",
    ),
    Metric(
        "share_of_measured_peak",
        "of peak",
        "measured",
        text=partial(units.percent, digits=0),
        tables={"training": 7, "ladder": 3},
        key="of_ceiling",
        read="ceiling_share",
        details="interval and n",
        formula="achieved / measured peak, by round where both ran in it (else Welch on the logs)",
        reads="as for both",
    ),
    Metric(
        "job_seconds",
        "time of the job",
        "h:mm:ss",
        text=units.duration,
        tables={"training": 1, "lecture": 1},
        key="job",
        of=_job_seconds,
        details=_describe_job_kind,
        further={"job_kind": "job_kind"},
        mark=mark_projected,
        why_missing=_explain_missing_job,
        gap="time of the job",
        formula="job clock: job_seconds; projected: sum(block_seconds) / steps x epochs x steps_per_epoch; geometric mean",
        reads="job_seconds or block_seconds, steps, epochs, steps_per_epoch",
    ),
    _seconds(
        "pretraining_seconds",
        "pre-\ntraining",
        tables={"training": 3},
        key="pretraining",
        of=lambda process: process.trial.pretraining_seconds or None,
        details=_describe_pretraining,
        further={"pretraining_flops_per_second": "pretraining_flops_per_second.value"},
        absent=lambda row: "",
        optional=True,
        formula="seconds before the first step, geometric mean over processes; FLOP/s: its model FLOPs over them",
        reads="pretraining_seconds",
        always_explained=False,
    ),
    Metric(
        "pretraining_flops_per_second",
        of=lambda process: _divide_by(pretraining_flops(process.job), process.trial.pretraining_seconds),
    ),
    Metric(
        "speedup",
        "speed-up\nover {baseline}",
        text=units.ratio,
        tables={"training": 1, "lecture": 2},
        read="speedup.ratio",
        further={"baseline": name_baseline},
        details=_describe_speedup,
        gap="speed-up",
        formula="baseline's seconds / row's seconds, by round where both ran in it (else Welch on the logs)",
        reads="as for the time",
        explained_as="speed-up over CPU",
    ),
    _ratio(
        "speedup_over_reference",
        "over {published}",
        tables={"training": 3, "lecture": 1},
        key="versus",
        read="speedup_over_published",
        mark=mark_projected,
        gap="speed-up over the published CPU",
        formula="published seconds / time of the job",
        reads="results/reference: job_seconds",
        explained_as="over",
    ),
    Metric(
        "images_per_second",
        "images",
        "/s",
        text=units.rate,
        tables={"training": 6},
        key="images",
        of=lambda process: process.trial.images / process.seconds if process.trial.images > 0 else None,
        formula="images / sum(block_seconds)",
        reads="images, block_seconds",
    ),
    _bytes(
        "host_peak_bytes",
        "host\npeak",
        {"training": 8, "resources": 1, "scaling": 4},
        key="host_peak",
        of="trial.memory.host_peak_bytes",
        why_missing="no high-water mark could be read on that system",
        gap="host peak",
        formula="largest over processes",
        reads="memory.host_peak_bytes",
    ),
    _bytes(
        "device_peak_bytes",
        "device\npeak",
        {"training": 9, "resources": 1, "scaling": 5},
        key="device_peak",
        of="trial.memory.device_allocated_peak_bytes",
        why_missing=_explain_missing_device_peak,
        gap="device memory",
        formula="largest over processes",
        reads="memory.device_allocated_peak_bytes",
    ),
    Metric(
        "test_accuracy",
        "test\naccuracy",
        text=units.percent,
        tables={"training": 5, "ladder": 4},
        key="accuracy",
        timed=False,
        read="accuracy.share",
        details=_describe_accuracy,
        further={
            "accuracy_after_steps": lambda row: row.accuracy and row.accuracy.after_steps[1],
            "accuracy_data": "accuracy.data",
        },
        gap="test accuracy",
        formula="test.correct / test.images; mean over processes",
        reads="test",
    ),
    Metric(
        "r_squared",
        "R²",
        text=units.percent,
        tables={"training": 5},
        of="trial.fit.r_squared",
        over=estimate_mean,
        details="interval and n",
        absent=lambda row: "",
        formula="1 - fit.mean_squared_error / fit.target_variance; mean over processes",
        reads="fit",
        always_explained=False,
        optional=True,
    ),
    _bytes(
        "device_reserved_bytes",
        "device\nreserved",
        {"resources": 4},
        key="device_reserved",
        of="trial.memory.device_reserved_peak_bytes",
    ),
    _bytes(
        "device_used_bytes",
        "device\nused",
        {"resources": 5},
        key="device_used",
        of="trial.memory.device_used_bytes",
    ),
    _bytes(
        "activation_bytes_per_image",
        "activations\nper image",
        {"resources": 2},
        key="activations",
        read=lambda row: follow(find_workload(row.job), "activation_bytes_per_image"),
    ),
    _bytes(
        "parameter_bytes",
        "para-\nmeters",
        {"resources": 2},
        key="parameters",
        read=lambda row: follow(find_workload(row.job), "parameter_bytes"),
    ),
    Metric(
        "energy_joules_per_image",
        "energy\n/image",
        text=units.joules,
        tables={"resources": 1, "scaling": 6},
        key="energy",
        read="energy.gross_joules",
        details=_describe_energy,
        further={"net_energy_joules_per_image": "energy.net_joules", "mean_power_watts": "energy.watts"},
        gap="energy",
        formula="window_joules / (window_steps x batch_size); net subtracts idle_joules / idle_seconds x window_seconds",
        reads="energy",
    ),
    _seconds(
        "cold_start_seconds",
        "cold\nstart",
        tables={"resources": 3, "scaling": 3},
        key="cold_start",
        of="trial.cold_start_seconds",
        formula="geometric mean over processes",
        reads="cold_start_seconds",
    ),
    _seconds(
        "step_seconds",
        "one step",
        tables={"bounds": 1},
        key="step",
        of="step_seconds",
        formula="sum(block_seconds) / steps; geometric mean over processes",
        reads="block_seconds, steps",
    ),
    Metric(
        "median_step_seconds",
        of=lambda process: statistics.median(process.trial.block_seconds) / process.trial.steps_per_block,
        over=None,
    ),
    Metric("operators_per_step", of="trial.operators_per_step", over=lambda values: values[0]),
    Metric("parameters", of="trial.parameters", over=None),
    Metric(
        "verdict",
        "limited by",
        text=str,
        tables={"bounds": 1},
        align="left",
        read=lambda row: units.NOT_AVAILABLE if row.bottleneck is None else row.bottleneck.summary,
        timed=False,
        estimated=False,
    ),
    _floor(
        "compute",
        1,
        formula=(
            "compute: FLOPs / measured peak, without which no limit is named; bandwidth: (5 x activations x batch + 8 x "
            "parameters) bytes / copy speed; launch: operators x smallest operator; input: drawing one batch"
        ),
        reads="floors, operators_per_step",
        explained_as="floors",
    ),
    _floor("bandwidth", 3),
    _floor("launch", 3),
    _floor("input", 4),
    _to_target(
        "median_seconds",
        "median\ntime",
        1,
        gap="median time to accuracy",
        formula=(
            "job_seconds of a process whose last evaluation has correct >= target x images; median over seeds, a missed one as "
            "infinite; interval: r-th smallest to r-th largest, the largest r with 2 x P(Binomial(n, 1/2) < r) <= 5 %"
        ),
        reads="job_seconds, epoch_evaluations, target",
        explained_as="time to target",
        always_explained=False,
    ),
    _to_target("mean_seconds", "mean\ntime", 3, gap="mean and slowest time to accuracy"),
    _to_target("fastest_seconds", "fastest", 4),
    _to_target("slowest_seconds", "slowest", 4),
    _to_target(
        "median_steps",
        "median\nsteps",
        2,
        timed=False,
        text=units.count,
        formula="steps, and steps / steps_per_epoch, likewise",
        reads="steps, steps_per_epoch",
        explained_as="median steps, epochs",
        always_explained=False,
    ),
    _to_target("median_epochs", "median\nepochs", 2, timed=False),
    _ratio(
        "speed_over_rung_before",
        "speed over\nthe one before",
        key="over_before",
        # The first of a ladder has nothing to divide by.
        absent=lambda row: "" if row.costs else units.NOT_AVAILABLE,
    ),
    _ratio(
        "speed_over_first_rung",
        "speed over\nthe first",
        key="over_first",
        absent=lambda row: "" if row.costs else units.NOT_AVAILABLE,
        formula=(
            "that rung's seconds of a step (of the job under the job clock) / the row's, by round where both ran in it (else "
            "Welch on the logs)"
        ),
        reads="block_seconds, steps or job_seconds",
        explained_as="speed over a rung",
        always_explained=False,
    ),
    _seconds("median_copy_seconds", "median\ncopy", key="median_copy"),
    Metric("slowest_copy", "slowest\ncopy", text=str, align="left", estimated=False, timed=False),
    _ratio(
        "slowest_over_median",
        "slowest\nover median",
        key="over_median",
        formula=(
            "of the copies' mean steps (sum(block_seconds) / steps) the slowest copy's over the median in each launch; geometric "
            "mean over launches; the slowest is the copy with the largest geometric mean"
        ),
        reads="ranks",
        always_explained=False,
    ),
    _ratio("scaling_speedup", "scaled", key="scaled"),
    Metric(
        "scaling_efficiency",
        "effi-\nciency",
        text=_percent,
        key="efficiency",
        details="interval and n",
        formula=(
            "seconds of a step of one process with the fewest threads / the row's, times the row's batch_size over that one's, "
            "by round where both ran in it (else Welch on the logs); efficiency: times the base's processors over the row's "
            "(on a CPU world x threads, else world)"
        ),
        reads="block_seconds, steps, batch_size, world, threads",
        explained_as="scaled, efficiency",
        always_explained=False,
    ),
    Metric(
        "exchange_ratio",
        "exchange",
        text=_percent,
        key="exchange",
        raw_name="exchange_share",
        of=_measure_exchange_ratio,
        read=lambda row: exchange_share(row.exchange_ratio),
        details="interval and n",
        formula="1 - sum(without_seconds) / sum(with_seconds), from the geometric mean of the quotients over processes; "
        "none below 0",
        reads="communication",
        always_explained=False,
    ),
    _seconds(
        "launch_seconds",
        "launch",
        tables={"scaling": 3},
        key="started",
        of=_measure_launch,
        formula="launch + join, geometric mean over processes",
        reads="phases",
        always_explained=False,
    ),
)
"""In the order of columns in a table and of lines on the page of formulas."""


def get_metric(name: str) -> Metric:
    """Look up a metric by its name. Raises KeyError if there is none."""
    return next(metric for metric in METRICS if metric.name == name)
