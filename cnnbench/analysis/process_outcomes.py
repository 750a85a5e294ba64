"""What a process gave beside its time: what it learned, what it needed to its target, its energy; and those of a row together.

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
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench.analysis.stats import Estimate, MedianEstimate, geometric, median_interval
from cnnbench.schema import Energy, Evaluation, Job, Outcome, Status

TEST_IMAGES = 10_000
"""MNIST's test images; the procedural digits have as many."""
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
    if job.clock != "accuracy" or trial is None or outcome.status not in ("ok", "missed"):
        return None
    if not trial.epoch_evaluations or trial.job_seconds is None or not 0 < trial.job_seconds < math.inf:
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
