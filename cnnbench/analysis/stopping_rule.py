"""The lecture's "100 %" in probabilities: training stops as soon as a sample of the test images is all right.

A network that is right on 99.2 % of the test images is right on all of 200 drawn ones about one time in five, so a rule
that draws again after every epoch soon stops, whatever the accuracy. Two kinds of rows enter. Those that were evaluated
on *all* test images after every epoch show what the rule would have done: the true accuracy, the chance that a sample
is all right, the chance of having stopped. Those that ran under the rule show what it did.
"""

from __future__ import annotations

import itertools
import math
import operator
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnbench.analysis.rows import Row, TrainingOutcome
from cnnbench.analysis.stats import Estimate, estimate_accuracy, wilson
from cnnbench.schema import Evaluation
from cnnbench.schema.job import TEST_IMAGES

SAMPLE = 200
EPOCHS = 20
"""The lecture's notebook draws 200 test images after each of at most 20 epochs (lecture-notebook.toml)."""
LIKELY = 0.5


@dataclass(frozen=True)
class Epoch:
    """The rule after one epoch: the true accuracy, the chance that this epoch's sample is all right, and the chance of
    having stopped at this epoch or before it.
    """

    number: int
    accuracy: Estimate
    all_right: float
    stopped: float


@dataclass(frozen=True)
class StoppingPrediction:
    """What the rule would have done to a row that was evaluated on all test images after every epoch."""

    row: Row
    sample: int
    epochs: tuple[Epoch, ...]
    """As many epochs as every process of the row was evaluated in."""


@dataclass(frozen=True)
class Stop:
    """What the rule did to one process."""

    row: Row
    training_outcome: TrainingOutcome
    epoch: int
    """The epoch after which the process ended."""
    last: Evaluation
    """The evaluation of the sample after that epoch."""
    accuracy: Estimate | None
    """The accuracy on all test images after that epoch."""

    @property
    def by_rule(self) -> bool:
        """Whether the whole sample was right; otherwise the job ran to its last epoch."""
        return self.last.correct == self.last.images


def chance_all_right(right: int, sample: int = SAMPLE) -> float:
    """Compute the chance that `sample` test images are all right if `right` of all N are: C(right, sample) / C(N,
    sample).

    The sample is drawn without replacement; exact but for rounding. Raises ValueError if no such sample can be drawn.
    """
    if not 0 <= right <= TEST_IMAGES or not 0 < sample <= TEST_IMAGES:
        raise ValueError(f"no sample of {sample} can be drawn from {TEST_IMAGES} images of which {right} are right")
    if right < sample:
        return 0.0
    return math.prod((right - drawn) / (TEST_IMAGES - drawn) for drawn in range(sample))


def chances_stopped(chances: Iterable[float]) -> list[float]:
    """Compute the chance of having stopped by each of several independent draws: 1 - product of (1 - chance)."""
    return [1.0 - each for each in itertools.accumulate((1.0 - chance for chance in chances), operator.mul)]


def predict_by_epoch(curves: Sequence[Sequence[int]], sample: int = SAMPLE) -> tuple[Epoch, ...]:
    """Apply the rule epoch by epoch, as far as the shortest curve goes.

    Each curve is one process's count of right test images after epochs 1, 2, 3... The accuracy is the processes' mean
    with its t-interval, or Wilson's share of a single one; each chance is the mean of the processes' own chances. The
    chance at the mean accuracy would differ, because the chance is not linear in the accuracy.
    """
    length = min(map(len, curves), default=0)
    all_right = [[chance_all_right(right, sample) for right in curve[:length]] for curve in curves]
    stopped = [chances_stopped(chances) for chances in all_right]
    return tuple(
        Epoch(
            number=number + 1,
            accuracy=estimate_accuracy([curve[number] for curve in curves], TEST_IMAGES),
            all_right=statistics.fmean([chances[number] for chances in all_right]),
            stopped=statistics.fmean([chances[number] for chances in stopped]),
        )
        for number in range(length)
    )


def predict_from_accuracy(accuracy: float, epochs: int = EPOCHS, sample: int = SAMPLE) -> tuple[Epoch, ...]:
    """Apply the rule at one constant true accuracy (a share), from the closed form alone, without records."""
    right = round(accuracy * TEST_IMAGES)
    exact = Estimate(right / TEST_IMAGES, None, None, 1)
    chance = chance_all_right(right, sample)
    stopped = chances_stopped([chance] * epochs)
    return tuple(Epoch(number + 1, exact, chance, each) for number, each in enumerate(stopped))


def predict_rows(rows: Iterable[Row], sample: int = SAMPLE) -> list[StoppingPrediction]:
    """Predict what the rule would have done to each row that was evaluated on all test images after every epoch."""
    found = []
    for row in rows:
        per_epoch = row.job.steps_per_epoch
        curves = [] if not per_epoch else [learned.right_by_epoch(per_epoch) for learned in row.training_outcomes]
        epochs = predict_by_epoch([curve for curve in curves if curve], sample)
        if epochs:
            found.append(StoppingPrediction(row, sample, epochs))
    return found


def find_stops(rows: Iterable[Row]) -> list[Stop]:
    """List every process that ran under the rule, and where it ended."""
    found = []
    for row in rows:
        per_epoch = row.job.steps_per_epoch
        if not row.job.stop_when_all_right or not per_epoch:
            continue
        for outcome in row.training_outcomes:
            if outcome.evaluations:
                last, test, accuracy = outcome.evaluations[-1], outcome.test, None
                if outcome.right is not None and test is not None and test.after_steps == last.after_steps:
                    accuracy = wilson(test.correct, test.images)
                found.append(Stop(row, outcome, last.after_steps // per_epoch, last, accuracy))
    return found


def select_landmarks(epochs: Sequence[Epoch]) -> tuple[Epoch, ...]:
    """Select the epochs to mention.

    They are the first by which a stop is more likely than not, if there is one, and the last.
    """
    half = next((each for each in epochs if each.stopped >= LIKELY), epochs[-1])
    return (half,) if half is epochs[-1] else (half, epochs[-1])
