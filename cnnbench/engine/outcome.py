"""What became of a finished trial: ok, invalid, diverged or missed, with the reason."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from cnnbench import units, workloads
from cnnbench.engine import precision
from cnnbench.schema import Evaluation, Job, Outcome, Trial

RANDOM_LOSS_BAND = 0.25
"""How far from ln(classes), relatively, the first loss of a freshly drawn network may be."""
LEARNING_STEPS = 100
"""A loss is expected below its first value after this many steps; fewer prove nothing."""


def finite_losses(losses: Sequence[float]) -> tuple[float, ...]:
    """The losses before the first that is no number: a record holds none, and the outcome's message says that it came."""
    return tuple(itertools.takewhile(math.isfinite, losses))


def classify(job: Job, trial: Trial, first: list[float], final: float | None, errors: dict[str, float]) -> Outcome:
    """Typed verdict on a finished trial; its raw times are kept whatever the verdict."""
    if trial.canary is not None and not trial.canary.passed:
        return Outcome(status="invalid", message=f"sync canary: {trial.canary.reason}", trial=trial)
    if (wrong := precision.find_mislabelling(job.precision, errors)) is not None:
        return Outcome(status="invalid", message=wrong, trial=trial)
    if final is not None and not math.isfinite(final):
        return Outcome(status="diverged", message=f"the loss is {final} after {trial.steps} steps", trial=trial)
    if (
        final is not None
        and job.task == "training"
        and (wrong := _find_learning_failure(job, trial, first, final)) is not None
    ):
        return Outcome(status="diverged", message=wrong, trial=trial)
    if (
        job.clock == "accuracy"
        and job.target is not None
        and trial.test is not None
        and trial.test.correct < job.target * trial.test.images
    ):
        return Outcome(status="missed", message=_describe_missed_target(job, job.target, trial.test), trial=trial)
    return Outcome(status="ok", trial=trial)


def _find_learning_failure(job: Job, trial: Trial, first: list[float], final: float) -> str | None:
    """What the losses say against the training: random images begin near ln(classes), digits must be learned."""
    workload = workloads.get(job.workload)
    if workload.dataset == "random":
        guess = math.log(workload.classes)
        if first and abs(first[0] - guess) > RANDOM_LOSS_BAND * guess:
            return f"the first loss is {first[0]:.3f}; guessing among {workload.classes} classes gives {guess:.3f}"
        return None
    if trial.steps >= LEARNING_STEPS and first and final >= first[0]:
        return f"the loss did not fall: {first[0]:.3f} at first, {final:.3f} after {trial.steps} steps"
    return None


def _describe_missed_target(job: Job, target: float, test: Evaluation) -> str:
    share = units.percent(test.correct / test.images, 2)
    return f"{share} after {test.after_steps:,} steps ({job.epochs} epochs, the limit); the target is {units.percent(target, 2)}"
