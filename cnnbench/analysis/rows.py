"""The repeats of one job on one processor in one run, as one row of estimates; a figure it lacks has its reason.

Only `ok` processes enter a mean; all others are counted in `Row.outcomes`. `speedup` makes rows of processes; what needs
other rows (the measured peak, speed-ups) is filled in by `ceiling` and `speedup`.

A process gives more than its time: what it learned, what it needed to its target, its energy; a row has those together.
Questions about learning need each seed's own figures; a row of a table has their mean. One `TrainingOutcome` is made of each
process that trained, whether it ended well, diverged, or missed its target.

A `SeedResult` is made of each process under the accuracy clock. That clock is first crossing: the first batch drawn to the end
of the first evaluation, on all test images, that reaches the target. A seed that did not reach it by its epoch limit is
`missed`: it counts in n, and in the median as later than any other, but it has no time, so no mean is taken over the rest.
What crashed says nothing about learning and is no seed here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from cnnbench.analysis.doubts import Doubt
from cnnbench.analysis.stats import Estimate, MedianEstimate, RoundKey, geometric, median_interval
from cnnbench.machine.peaks import Peak
from cnnbench.schema import DataKind, Device, Energy, Evaluation, Job, Machine, Outcome, Software, Status
from cnnbench.schema.job import TEST_IMAGES, JobKind

FAILED: tuple[Status, ...] = ("diverged", "missed")
"""Ends of a process that trained and did not learn: unlike an `oom` or a `timeout` they say something about the recipe."""
LEAST_COUNTED = 1e-9
"""Joules or seconds below which a counter or a clock has said nothing: both count in millionths at best."""


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """One process that trained."""

    round: int
    seed: int
    status: Status
    test: Evaluation | None
    """The final evaluation; None where there was none or the process diverged."""
    evaluations: tuple[Evaluation, ...]
    """Those on the way, in order; none of a process that diverged."""
    losses: tuple[float, ...] = ()
    """Of the last step of each block (of each epoch under the job clock); none of a process that diverged."""

    @property
    def failed(self) -> bool:
        """Whether it did not learn."""
        return self.status in FAILED

    @property
    def right(self) -> int | None:
        """Test images right at the end, of all of them; None where not all were looked at, or it did not learn."""
        if self.failed or self.test is None or self.test.images != TEST_IMAGES:
            return None
        return self.test.correct

    def right_by_epoch(self, steps_per_epoch: int) -> tuple[int, ...]:
        """Test images right after epochs 1, 2, 3..., as far as all of them were looked at after each."""
        known = {each.after_steps: each.correct for each in self.evaluations if each.images == TEST_IMAGES}
        found: list[int] = []
        while (right := known.get((len(found) + 1) * steps_per_epoch)) is not None:
            found.append(right)
        return tuple(found)


def read_training_outcome(job: Job, outcome: Outcome) -> TrainingOutcome | None:
    """What a process learned; None of one that did not come to train, or whose end says nothing about it."""
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
    """From the first batch to the end of the last evaluation; the time to accuracy only where it was reached."""
    steps: int
    epochs: float
    evaluations: int
    last: Evaluation

    @property
    def seconds(self) -> float | None:
        """The time to accuracy; None where the target was missed."""
        return self.clock_seconds if self.reached else None

    @property
    def limit_seconds(self) -> float | None:
        """The time to its epoch limit; None where the target was reached before."""
        return None if self.reached else self.clock_seconds


@dataclass(frozen=True)
class TimeToAccuracy:
    """All seeds of a row that ended with an answer, by round. A missed one is infinitely late in the medians."""

    target: float
    seed_results: tuple[SeedResult, ...]
    seconds: MedianEstimate
    steps: MedianEstimate
    epochs: MedianEstimate

    @property
    def missed(self) -> tuple[SeedResult, ...]:
        """Those that did not reach it."""
        return tuple(each for each in self.seed_results if not each.reached)

    @property
    def mean_seconds(self) -> float | None:
        """Arithmetic mean: what a training costs on the average. None where a seed missed, for its time is not known."""
        return statistics.fmean(self.times) if self.times else None

    @property
    def times(self) -> tuple[float, ...] | None:
        """Every seed's time, fastest first; None where one missed."""
        return None if self.missed else tuple(sorted(each.clock_seconds for each in self.seed_results))

    @property
    def fastest_seconds(self) -> float | None:
        """Of those that reached it."""
        return min((each.clock_seconds for each in self.seed_results if each.reached), default=None)

    @property
    def slowest_seconds(self) -> float | None:
        """None where a seed missed: it is the slowest."""
        return self.times[-1] if self.times else None


def read_seed_result(job: Job, index: int, outcome: Outcome) -> SeedResult | None:
    """What the process says about the target; None under another clock, or where it ended in neither way."""
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
    """The row's seeds together; None under another clock, or where no process came to an answer."""
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
    """Joules an image over the row's processes; `uncertainty` is the counter's own, as a share of the gross."""

    gross_joules: Estimate
    net_joules: float | None
    """Idle-subtracted; None where idling took as much, so that nothing can be told."""
    watts: float
    uncertainty: float
    source: str


def has_energy(energy: Energy) -> bool:
    """Whether there are joules, steps and seconds to divide; in some virtual machines the counter stands still."""
    return min(energy.window_joules, energy.window_steps, energy.window_seconds, energy.idle_seconds) > LEAST_COUNTED


def estimate_energy_use(found: Sequence[Energy], batch_size: int) -> EnergyUse | None:
    """What the processes that measured energy say; None where none did.

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
"""What seconds are of."""
FloorKind = Literal["launch", "bandwidth", "compute", "input"]
EXPLAINED = 0.5
"""A floor of this share of the step binds it; below it no floor explains the step, and the kernels themselves are far from
their limits."""
NamedType = TypeVar("NamedType")


def follow(value: Any, path: str | Callable[[Any], Any]) -> Any:
    """Return what the path of attributes and keys (`values.speedup.ratio`) or the function gives; None where a part of it is
    None, or a mapping on the way has no such key.
    """
    if callable(path):
        return path(value)
    for name in path.split("."):
        if value is None:
            break
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name)
    return value


class NamedValue(Generic[NamedType]):
    """A metric in the owner's `values` as an attribute, for code that is about this one; None where it is not measured."""

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the attribute's name for the metric's."""
        self.name = name

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
    reasons: tuple[str, ...]
    """What the processes that did not end well said, each once, by round."""
    training_outcomes: tuple[TrainingOutcome, ...]
    """Each process that trained, by round: what questions about single seeds are asked of."""
    peak_flops_per_second: float | None
    peak_origin: str | None
    time_to_accuracy: TimeToAccuracy | None
    missing: Mapping[str, str]
    """By the column's key, why there is no figure."""
    doubts: tuple[Doubt, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    """By the metric's name, its value over the processes, as `metrics.METRICS` declares it; what none measured is left out."""
    costs: Mapping[RoundKey, float] = field(default_factory=dict)
    """Seconds of the same work by (run, round): what speed-ups divide."""
    rates: Mapping[RoundKey, float] = field(default_factory=dict)
    """Model FLOP/s by (run, round): what shares of the measured peak divide."""
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
    """Of copies: each one's mean step by its place, a mapping a launch."""
    accuracy: Accuracy | None = None
    speedup: Speedup | None = None
    speedup_over_published: Estimate | None = None
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
    host_peak_bytes = NamedCount()
    device_peak_bytes = NamedCount()
    operators_per_step = NamedCount()
    steps = NamedCount()
    """Timed ones, the fewest of a process."""

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
        """Seconds of what ratios divide. None where none was ok."""
        return geometric(list(self.costs.values())) if self.costs else None

    @property
    def cost_of(self) -> JobPart:
        """What they are of: the whole job under the job clock, else one step."""
        return "job" if self.job.divided_whole else "step"

    @property
    def ok(self) -> int:
        """Processes that ended well: the n of every estimate of the row."""
        return self.outcomes.get("ok", 0)

    def with_values(self, **further: object) -> Row:
        """Return the row with further values, such as its ratio to another row."""
        return replace(self, values={**self.values, **further})

    def with_doubt(self, doubt: Doubt) -> Row:
        """Return the row with a further doubt."""
        return replace(self, doubts=(*self.doubts, doubt))

    def with_reason(self, column: str, reason: str) -> Row:
        """Return the row with the reason why that column has no figure."""
        return replace(self, missing={**self.missing, column: reason})
