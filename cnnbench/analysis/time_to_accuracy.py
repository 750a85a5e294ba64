"""Time to accuracy: what each seed needed until its target, and all seeds of a row together.

Enters a job under the accuracy clock with how its process ended; leaves a `SeedResult` a seed. The clock is first crossing:
the first batch drawn to the end of the first evaluation, on all test images, that reaches the target. A seed that did not
reach it by its epoch limit is `missed`: it counts in n, and in the median as later than any other, but it has no time, so
no mean is taken over the rest. What crashed says nothing about learning and is no seed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench.analysis import stats
from cnnbench.analysis.stats import MedianEstimate
from cnnbench.schema import Evaluation, Job, Outcome


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
        times = self.times
        return None if times is None else math.fsum(times) / len(times)

    @property
    def times(self) -> tuple[float, ...] | None:
        """Every seed's time, fastest first; None where one missed."""
        known = sorted(each.clock_seconds for each in self.seed_results if each.reached)
        return tuple(known) if len(known) == len(self.seed_results) else None

    @property
    def fastest_seconds(self) -> float | None:
        """Of those that reached it."""
        return min((each.clock_seconds for each in self.seed_results if each.reached), default=None)

    @property
    def slowest_seconds(self) -> float | None:
        """None where a seed missed: it is the slowest."""
        return None if self.times is None else self.times[-1]


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
    return TimeToAccuracy(
        target=job.target,
        seed_results=ordered,
        seconds=stats.median_interval([each.seconds for each in ordered]),
        steps=stats.median_interval([each.steps if each.reached else None for each in ordered]),
        epochs=stats.median_interval([each.epochs if each.reached else None for each in ordered]),
    )
