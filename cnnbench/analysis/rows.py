"""The repeats of one job on one processor in one run, as one row of estimates; a figure it lacks has its reason.

Only `ok` processes enter a mean; all others are counted in `Row.outcomes`. `speedup` makes rows of processes; what
needs other rows (the measured peak, speed-ups) is filled in by `ceiling` and `speedup`.

Besides its time a process gives what it learned, what it needed to reach its target, and its energy; a row combines
those. Questions about learning need each seed's own figures; a row of a table has their mean. One `TrainingOutcome` is
made from each process that trained, whether it ended well, diverged, or missed its target.

A `SeedResult` is made from each process under the accuracy clock. That clock stops at the first crossing: it runs from
the first batch drawn to the end of the first evaluation, on all test images, that reaches the target. A seed that did
not reach it by its epoch limit is `missed`: it counts in n, and in the median as later than any other, but it has no
time, so no mean is taken over the rest. A process that crashed says nothing about learning and does not count as a seed
here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from cnnbench.analysis.doubts import Doubt
from cnnbench.analysis.same_host import HostRelation
from cnnbench.analysis.stats import Estimate, MedianEstimate, RoundKey, geometric, median_interval
from cnnbench.machine.peaks import Peak
from cnnbench.schema import DataKind, Device, Energy, Evaluation, Job, Machine, Outcome, Software, Status
from cnnbench.schema.job import TEST_IMAGES, JobKind

FAILED: tuple[Status, ...] = ("diverged", "missed")
"""Ends of a process that trained and did not learn: unlike an `oom` or a `timeout` they tell something about the
recipe.
"""
LEAST_COUNTED = 1e-9
"""Joules or seconds below which a reading is worthless: counters and clocks count in millionths at best."""


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """One process that trained."""

    round: int
    seed: int
    status: Status
    test: Evaluation | None
    """The final evaluation; None if there was none or the process diverged."""
    evaluations: tuple[Evaluation, ...]
    """The evaluations during training, in order; empty if the process diverged."""
    losses: tuple[float, ...] = ()
    """The loss of the last step of each block (of each epoch under the job clock); empty if the process diverged."""

    @property
    def failed(self) -> bool:
        """Whether it did not learn."""
        return self.status in FAILED

    @property
    def right(self) -> int | None:
        """Test images right at the end; None if not all were evaluated, or the process did not learn."""
        if self.failed or self.test is None or self.test.images != TEST_IMAGES:
            return None
        return self.test.correct

    def right_by_epoch(self, steps_per_epoch: int) -> tuple[int, ...]:
        """Count the test images right after epochs 1, 2, 3..., as far as all of them were evaluated after each."""
        known = {each.after_steps: each.correct for each in self.evaluations if each.images == TEST_IMAGES}
        found: list[int] = []
        while (right := known.get((len(found) + 1) * steps_per_epoch)) is not None:
            found.append(right)
        return tuple(found)


def read_training_outcome(job: Job, outcome: Outcome) -> TrainingOutcome | None:
    """Read what a process learned; None if it never began to train, or its end says nothing about learning."""
    if outcome.status not in ("ok", *FAILED):
        return None
    trial = None if outcome.status == "diverged" else outcome.trial
    learned = (None, (), ()) if trial is None else (trial.test, trial.epoch_evaluations, trial.losses)
    return TrainingOutcome(job.round, job.seed, outcome.status, *learned)


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One seed's training until its target, or until its epoch limit."""

    seed: int
    round: int
    index: int
    reached: bool
    clock_seconds: float
    """From the first batch to the end of the last evaluation; this is the time to accuracy only if the target was
    reached.
    """
    steps: int
    epochs: float
    evaluations: int
    last: Evaluation

    @property
    def seconds(self) -> float | None:
        """The time to accuracy; None if the target was missed."""
        return self.clock_seconds if self.reached else None

    @property
    def limit_seconds(self) -> float | None:
        """The time to the epoch limit; None if the target was reached before."""
        return None if self.reached else self.clock_seconds


@dataclass(frozen=True)
class TimeToAccuracy:
    """All seeds of a row that reached or missed the target, by round. A missed one counts as infinitely late in the
    medians.
    """

    target: float
    seed_results: tuple[SeedResult, ...]
    seconds: MedianEstimate
    steps: MedianEstimate
    epochs: MedianEstimate

    @property
    def missed(self) -> tuple[SeedResult, ...]:
        """The seeds that missed the target."""
        return tuple(each for each in self.seed_results if not each.reached)

    @property
    def mean_seconds(self) -> float | None:
        """Arithmetic mean: what a training costs on average.

        None if a seed missed, because its time is not known.
        """
        return statistics.fmean(self.times) if self.times else None

    @property
    def times(self) -> tuple[float, ...] | None:
        """Every seed's time, fastest first; None if one missed."""
        return None if self.missed else tuple(sorted(each.clock_seconds for each in self.seed_results))

    @property
    def fastest_seconds(self) -> float | None:
        """The fastest of the seeds that reached the target."""
        return min((each.clock_seconds for each in self.seed_results if each.reached), default=None)

    @property
    def slowest_seconds(self) -> float | None:
        """The slowest seed's time; None if a seed missed, since that one is the slowest."""
        return self.times[-1] if self.times else None


def read_seed_result(job: Job, index: int, outcome: Outcome) -> SeedResult | None:
    """Read how the process did against the target.

    None under another clock, or if it neither reached nor missed it.
    """
    trial = outcome.trial
    if (
        job.clock != "accuracy"
        or trial is None
        or outcome.status not in ("ok", "missed")
        or not trial.epoch_evaluations
        or trial.job_seconds is None
        or not 0 < trial.job_seconds < math.inf
    ):
        return None
    return SeedResult(
        seed=job.seed,
        round=job.round,
        index=index,
        reached=outcome.status == "ok",
        clock_seconds=trial.job_seconds,
        steps=trial.steps,
        epochs=trial.steps / (job.steps_per_epoch or 1),
        evaluations=len(trial.epoch_evaluations),
        last=trial.epoch_evaluations[-1],
    )


def combine_seeds(job: Job, seed_results: Sequence[SeedResult]) -> TimeToAccuracy | None:
    """Combine the seeds of the row; None under another clock, or if no process reached or missed the target."""
    if job.target is None or not seed_results:
        return None
    ordered = tuple(sorted(seed_results, key=lambda each: (each.round, each.index)))
    medians = (
        median_interval([getattr(each, quantity) if each.reached else None for each in ordered])
        for quantity in ("clock_seconds", "steps", "epochs")
    )
    return TimeToAccuracy(job.target, ordered, *medians)


@dataclass(frozen=True)
class EnergyUse:
    """Joules per image over the row's processes; `uncertainty` is the counter's own, as a share of the gross."""

    gross_joules: Estimate
    net_joules: float | None
    """Idle-subtracted; None if idling took as much, so that no net energy can be given."""
    watts: float
    uncertainty: float
    source: str


def has_energy(energy: Energy) -> bool:
    """Check that there are joules, steps and seconds to divide.

    In some virtual machines the counter does not move.
    """
    return min(energy.window_joules, energy.window_steps, energy.window_seconds, energy.idle_seconds) > LEAST_COUNTED


def estimate_energy_use(found: Sequence[Energy], batch_size: int) -> EnergyUse | None:
    """Combine the energy readings of the processes; None if no process measured energy.

    Gross is the window's joules over its images. Net takes off the idle watts, measured just before, for as long as the
    window was. The counter is read somewhere within its tick at both ends: one tick of the window is uncertain.
    """
    if not found:
        return None
    watts = [energy.window_joules / energy.window_seconds for energy in found]
    gross = [energy.window_joules / (energy.window_steps * batch_size) for energy in found]
    net = [
        (energy.window_joules - energy.idle_joules / energy.idle_seconds * energy.window_seconds)
        / (energy.window_steps * batch_size)
        for energy in found
    ]
    mean = sum(net) / len(net)
    return EnergyUse(
        gross_joules=geometric(gross),
        net_joules=mean if mean > 0 else None,
        watts=sum(watts) / len(watts),
        uncertainty=max(energy.tick_seconds / energy.window_seconds for energy in found),
        source=found[0].source,
    )


PeakOf = Callable[[Device, Machine, str], Peak]
"""Theoretical dense peak of a device at a precision: `machine.peaks.theoretical_peak`, or a test's own."""
JobPart = Literal["step", "job"]
"""Whether seconds are those of a step or of the whole job."""
FloorKind = Literal["launch", "bandwidth", "compute", "input"]
EXPLAINED = 0.5
"""A floor with this share of the step is what limits it; below it no floor explains the step, and the kernels
themselves are far from their limits.
"""
NamedType = TypeVar("NamedType")


def follow(value: Any, path: str | Callable[[Any], Any]) -> Any:
    """Follow a path of attributes and keys (`values.speedup.ratio`), or call the function.

    None if a part of the path is None, or a mapping on the way does not have the key.
    """
    if callable(path):
        return path(value)
    for name in path.split("."):
        if value is None:
            break
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name)
    return value


class NamedValue(Generic[NamedType]):
    """A metric in the owner's `values` as an attribute, for code about this one metric; None if it was not measured."""

    def __set_name__(self, owner: type, name: str) -> None:
        """Use the attribute's name as the metric's."""
        self.name = name

    def __get__(self, owner: Any, _: type) -> NamedType:
        """Look the metric up."""
        found: NamedType = owner.values.get(self.name)
        return found


NamedEstimate = NamedValue[Estimate | None]
NamedCount = NamedValue[int | None]


@dataclass(frozen=True)
class Accuracy:
    """Share of test images right, with the number of training steps before it and the data it is on."""

    share: Estimate
    after_steps: tuple[int, int]
    """Fewest and most steps over the processes; they differ only if a job may stop early."""
    data: DataKind


@dataclass(frozen=True)
class Speedup:
    """The baseline's time over the row's own, and the baseline it is divided by."""

    ratio: Estimate
    baseline: Device
    baseline_threads: int | None
    baseline_torch: str
    is_baseline: bool
    baseline_host: HostRelation
    """How the baseline's host is related to the row's."""


@dataclass(frozen=True)
class Floor:
    """A step of this kind cannot be shorter than `seconds`; `allows` is how many times faster that would be."""

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

    floors: tuple[Floor, ...]

    @property
    def summary(self) -> str:
        """`compute-bound`, or `nearest: compute` if not even the highest floor explains half of the step.

        Without a measured peak the compute floor is unknown and could be the highest, so there is no verdict.
        """
        if self.floor("compute") is None:
            return "n/a"
        highest = self.floors[0]
        return f"{highest.kind}-bound" if highest.share >= EXPLAINED else f"nearest: {highest.kind}"

    def floor(self, kind: FloorKind) -> Floor | None:
        """Find the floor of that kind; None if it was not measured."""
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
    """The boot in which the run began; None if it was not recorded."""
    host_id: str | None
    """The identity of the host, equal for copies of one image; None if it is unknown."""
    outcomes: Mapping[str, int]
    """Processes by how they ended, `not run` included; they add up to what was planned."""
    failures: tuple[str, ...]
    reasons: tuple[str, ...]
    """The messages of the processes that did not end well, each once, by round."""
    training_outcomes: tuple[TrainingOutcome, ...]
    """Each process that trained, by round, for questions about single seeds."""
    peak_flops_per_second: float | None
    peak_origin: str | None
    time_to_accuracy: TimeToAccuracy | None
    missing: Mapping[str, str]
    """Why there is no figure, by the column's key."""
    doubts: tuple[Doubt, ...]
    unfit: int = 0
    """Processes of these figures that were measured while the machine was unfit. A row with any is shown, marked and
    doubted, but no headline quotes it and nothing is divided by it.
    """
    values: Mapping[str, Any] = field(default_factory=dict)
    """By the metric's name, its value over the processes, as `metrics.METRICS` declares it; unmeasured metrics are left
    out.
    """
    costs: Mapping[RoundKey, float] = field(default_factory=dict)
    """Seconds of the same work by (run, round); speed-ups divide these."""
    rates: Mapping[RoundKey, float] = field(default_factory=dict)
    """Model FLOP/s by (run, round); shares of the measured peak divide these."""
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
    energy: EnergyUse | None = None
    copies: tuple[Mapping[str, float], ...] = ()
    """Each concurrent copy's mean step by its place, one mapping per launch."""
    accuracy: Accuracy | None = None
    speedup: Speedup | None = None
    speedup_over_published: Estimate | None = None
    other_runs: int = 0
    """The number of runs of the same row that are not shown."""

    step_seconds = NamedEstimate()
    step_seconds_over_runs = NamedEstimate()
    """The mean step over all runs of the row on its boot; n counts runs. None below five of them."""
    flops_per_second = NamedEstimate()
    """Model FLOP/s that the device computed; None where kernels leave out products with zeros."""
    model_flops_per_second = NamedEstimate()
    """Model FLOP/s of such kernels, which count products that were left out."""
    images_per_second = NamedEstimate()
    job_seconds = NamedEstimate()
    """Seconds of the whole job, measured or projected. A job to a target has no fixed length; see `time_to_accuracy`."""
    pretraining_seconds = NamedEstimate()
    pretraining_flops_per_second = NamedEstimate()
    exchange_ratio = NamedEstimate()
    host_peak_bytes = NamedCount()
    device_peak_bytes = NamedCount()
    operators_per_step = NamedCount()
    steps = NamedCount()
    """The fewest timed steps of a process."""

    @property
    def job_kind(self) -> JobKind | None:
        """Whether the whole job's time is measured, projected, or to a target; see `Job.kind`."""
        return self.job.kind

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation: achieved over theoretical dense peak."""
        if self.flops_per_second is None or not self.peak_flops_per_second:
            return None
        return self.flops_per_second.value / self.peak_flops_per_second

    @property
    def cost(self) -> Estimate | None:
        """Geometric mean of the seconds that ratios divide; None if no process was ok."""
        return geometric(list(self.costs.values())) if self.costs else None

    @property
    def cost_of(self) -> JobPart:
        """What those seconds are of: the whole job under the job clock, else one step."""
        return "job" if self.job.divided_whole else "step"

    @property
    def ok(self) -> int:
        """Processes that ended well: the n of every estimate of the row."""
        return self.outcomes.get("ok", 0)

    def with_values(self, **further: object) -> Row:
        """Add further values to the row, such as its ratio to another row."""
        return replace(self, values={**self.values, **further})

    def with_doubt(self, doubt: Doubt) -> Row:
        """Add a further doubt to the row."""
        return replace(self, doubts=(*self.doubts, doubt))

    def with_reason(self, column: str, reason: str) -> Row:
        """Add the reason why that column of the row has no figure."""
        return replace(self, missing={**self.missing, column: reason})
