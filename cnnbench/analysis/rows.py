"""The repeats of one job on one processor in one run, as one row of estimates; a figure it lacks has its reason.

Only `ok` processes enter a mean; all others are counted in `Row.outcomes`. `speedup` makes rows of processes; what needs
other rows (the measured peak, speed-ups) is filled in by `ceiling` and `speedup`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from cnnbench.analysis.doubts import Doubt
from cnnbench.analysis.process_outcomes import EnergyUse, TimeToAccuracy, TrainingOutcome
from cnnbench.analysis.stats import Estimate, geometric
from cnnbench.machine.peaks import Peak
from cnnbench.schema import DataKind, Device, Job, Machine, Software

PeakOf = Callable[[Device, Machine, str], Peak]
"""Theoretical dense peak of a device at a precision: `machine.peaks.theoretical_peak`, or a test's own."""
JobKind = Literal["measured", "projected", "to target"]
JobPart = Literal["step", "job"]
"""What seconds are of."""
FloorKind = Literal["launch", "bandwidth", "compute", "input"]
EXPLAINED = 0.5
"""A floor of this share of the step binds it; below it no floor explains the step, and the kernels themselves are far from
their limits."""
NamedType = TypeVar("NamedType")


def follow(value: Any, path: str | Callable[[Any], Any]) -> Any:
    """Return what the path of attributes (`speedup.ratio`) or the function gives; None where a part of the path is None."""
    if callable(path):
        return path(value)
    for name in path.split("."):
        value = None if value is None else getattr(value, name)
    return value


class NamedValue(Generic[NamedType]):
    """A metric in the owner's `values` as an attribute, for code that is about this one; None where it is not measured."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the attribute's name for the metric's where none was given."""
        self.name = self.name or name

    def __get__(self, owner: Any, _: type) -> NamedType:
        """Look the metric up."""
        found: NamedType = owner.values.get(self.name)
        return found


NamedEstimate = NamedValue[Estimate | None]
NamedCount = NamedValue[int | None]


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
class Floor:
    """No step of this kind can be shorter than `seconds`; `allows` is how many times faster that would be."""

    kind: FloorKind
    seconds: float
    share: float

    @property
    def allows(self) -> float:
        """The measured step over the floor."""
        return 1 / self.share


@dataclass(frozen=True)
class Bottleneck:
    """A step's floors, the highest first, and the verdict in words."""

    step_seconds: float
    floors: tuple[Floor, ...]

    @property
    def summary(self) -> str:
        """`compute-bound`, or `nearest: compute` where not even the highest floor explains half of the step.

        Without a measured peak the compute floor is unknown and could be the highest, so there is no verdict.
        """
        if self.floor("compute") is None:
            return "n/a"
        highest = self.floors[0]
        return f"{highest.kind}-bound" if highest.share >= EXPLAINED else f"nearest: {highest.kind}"

    def floor(self, kind: FloorKind) -> Floor | None:
        """The floor of that kind; None where it was not measured."""
        return next((floor for floor in self.floors if floor.kind == kind), None)


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
    values: Mapping[str, Any] = field(default_factory=dict)
    """By the metric's name, its value over the processes, as `metrics.METRICS` declares it; what none measured is left out."""
    costs: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """Seconds of the same work by (run, round): what speed-ups divide."""
    rates: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """Model FLOP/s by (run, round): what shares of the measured peak divide."""
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
    floors: Mapping[str, float] = field(default_factory=dict)
    time_to_accuracy: TimeToAccuracy | None = None
    energy: EnergyUse | None = None
    copies: tuple[Mapping[str, float], ...] = ()
    """Of copies: each one's mean step by its place, a mapping a launch."""
    accuracy: Accuracy | None = None
    training_outcomes: tuple[TrainingOutcome, ...] = ()
    """Each process that trained, by round: what questions about single seeds are asked of."""
    speedup: Speedup | None = None
    speedup_over_published: Estimate | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    """By the column's key, why there is no figure."""
    doubts: tuple[Doubt, ...] = ()
    other_runs: int = 0
    """Runs of the same row that are not shown."""

    step_seconds = NamedEstimate()
    flops_per_second = NamedEstimate()
    images_per_second = NamedEstimate()
    job_seconds = NamedEstimate()
    """Seconds of the whole job, measured or projected. A job to a target has no fixed length; see `time_to_accuracy`."""
    pretraining_seconds = NamedEstimate()
    pretraining_flops_per_second = NamedEstimate()
    exchange_ratio = NamedEstimate()
    launch_seconds = NamedEstimate()
    host_peak_bytes = NamedCount()
    device_peak_bytes = NamedCount()
    operators_per_step = NamedCount()
    timed_steps = NamedCount("steps")

    @property
    def job_kind(self) -> JobKind | None:
        """Whether the whole job's time is measured, projected, or to a target; see `job_kind`."""
        return job_kind(self.job)

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation: achieved over theoretical dense peak."""
        if self.flops_per_second is None or not self.peak_flops_per_second:
            return None
        return self.flops_per_second.value / self.peak_flops_per_second

    @property
    def cost(self) -> Estimate | None:
        """Seconds of what ratios divide. None where none was ok."""
        return geometric(list(self.costs.values())) if self.costs else None

    @property
    def cost_of(self) -> JobPart:
        """What they are of: the whole job under the job clock, else one step."""
        return "job" if is_whole_job(self.job) else "step"

    @property
    def ok(self) -> int:
        """Processes that ended well: the n of every estimate of the row."""
        return self.outcomes.get("ok", 0)

    def with_values(self, **further: object) -> Row:
        """Return the row with further values, such as its ratio to another row."""
        return dataclasses.replace(self, values={**self.values, **further})

    def with_doubt(self, doubt: Doubt) -> Row:
        """Return the row with a further doubt."""
        return dataclasses.replace(self, doubts=(*self.doubts, doubt))

    def with_reason(self, column: str, reason: str) -> Row:
        """Return the row with the reason why that column has no figure."""
        return dataclasses.replace(self, missing={**self.missing, column: reason})


def job_kind(job: Job) -> JobKind | None:
    """Whether the job's whole time is measured, projected from steady steps, or as long as its target took; None where
    there is no whole job.
    """
    if job.timed_whole:
        return "measured"
    if job.clock == "accuracy":
        return "to target"
    return "projected" if job.job_steps is not None else None


def is_whole_job(job: Job) -> bool:
    """Whether `Row.costs` are seconds of the whole job, rather than of a step: one that may stop early has no fixed length,
    nor has one that trains to a target, where chance in the seed decides how many steps it takes.
    """
    return job.timed_whole and not job.stop_when_all_right
