"""What one process learned: how it ended, and how many test images were right after how many steps.

Questions about learning need each seed's own figures; a row of a table has their mean. One `TrainingOutcome` is made of each
process that trained, whether it ended well, diverged, or missed its target; `stopping`, `converge` and `curves` read them.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnnbench.schema import Evaluation, Job, Outcome, Status

TEST_IMAGES = 10_000
"""MNIST's test images; the procedural digits have as many."""
FAILED: tuple[Status, ...] = ("diverged", "missed")
"""Ends of a process that trained and did not learn: unlike an `oom` or a `timeout` they say something about the recipe."""


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
    if outcome.status != "ok" and outcome.status not in FAILED:
        return None
    trial = None if outcome.status == "diverged" else outcome.trial
    return TrainingOutcome(
        round=job.round,
        seed=job.seed,
        status=outcome.status,
        test=None if trial is None else trial.test,
        evaluations=() if trial is None else trial.epoch_evaluations,
        losses=() if trial is None else trial.losses,
    )
