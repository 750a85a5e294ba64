"""A job's outcome: the type of a finished trial's, and the size that fits after a trial that ran out of memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from cnnbench import units, workloads
from cnnbench.engine.build import set_up
from cnnbench.engine.compute_mode import PLAIN_MODE, find_mislabelling, release_memory
from cnnbench.schema import Job, Outcome, Status, Trial, WorkerInput

RANDOM_LOSS_BAND = 0.25
"""Largest relative distance from ln(classes) of a new network's first loss."""
LEARNING_STEPS = 100
"""A loss is expected below its first value after this many steps; fewer prove nothing."""


def finite_losses(losses: Sequence[float]) -> tuple[float, ...]:
    """Return the losses before the first that is not finite; the outcome's message reports that one."""
    return tuple(itertools.takewhile(math.isfinite, losses))


def classify(job: Job, trial: Trial, first: list[float], final: float | None, errors: dict[str, float]) -> Outcome:
    """Type the outcome of a finished trial; its raw times are kept whatever the verdict."""

    def judge(status: Status, message: str | None = None) -> Outcome:
        return Outcome(status=status, message=message, trial=trial)

    if trial.canary is not None and not trial.canary.passed:
        return judge("invalid", f"sync canary: {trial.canary.reason}")
    if wrong := find_mislabelling(job.precision, errors):
        return judge("invalid", wrong)
    if final is not None and not math.isfinite(final):
        return judge("diverged", f"the loss is {final} after {trial.steps} steps")
    if final is not None and first and job.task == "training":
        # Random images begin near ln(classes), digits and points must be learned.
        workload = workloads.get(job.workload)
        if workload.dataset == "random":
            classes, guess = workload.classes, math.log(workload.classes)
            if abs(first[0] - guess) > RANDOM_LOSS_BAND * guess:
                gives = f"guessing among {classes} classes gives {guess:.3f}"
                return judge("diverged", f"the first loss is {first[0]:.3f}; {gives}")
        elif trial.steps >= LEARNING_STEPS and final >= first[0]:
            fell = f"{first[0]:.3f} at first, {final:.3f} after {trial.steps} steps"
            return judge("diverged", f"the loss did not fall: {fell}")
    test = trial.test
    if job.clock == "accuracy" and job.target and test is not None and test.correct < job.target * test.images:
        share, target = units.percent(test.correct / test.images, 2), units.percent(job.target, 2)
        after = f"after {test.after_steps:,} steps ({job.epochs} epochs, the limit)"
        return judge("missed", f"{share} {after}; the target is {target}")
    return judge("ok")


def _fits(job: Job, data_dir: str | None) -> bool:
    release_memory()
    try:
        attached, timed = set_up(job, data_dir)
        timed.steps(2)
        attached.synchronize()
    except Exception:  # noqa: BLE001  whatever stops a step, this size is not one that fits
        return False
    return True


def make_oom_hint(worker_input: WorkerInput) -> str:
    """Suggest a size after an out-of-memory error: half the batch, a quarter and so on, until a step succeeds.

    A GEMM's side is halved instead, and of several ranks each one's shard. Tried in this process, which has run out
    once, so the size found is never above what a fresh process could do.
    """
    job = worker_input.job
    if job.recipe is not None:
        return f"the batch is the recipe's ({job.batch_size}): free memory"
    key = "batch_size" if job.size is None else "size"
    name = f"{key} per rank" if job.world > 1 else key
    if job.processes > 1:  # one of them, alone
        alone = {"world": 1, "scaling": None, "nodes": 1, "copies": 1, "batch_size": job.rank_batch}
        job = job.model_copy(update=alone)
    # A compiled or recorded step needs about as much memory.
    plain = PLAIN_MODE["execution"] if job.division == PLAIN_MODE["division"] else "fused"
    value = getattr(job, key)
    while value := value // 2:
        if _fits(job.model_copy(update={key: value, "execution": plain}), worker_input.data_dir):
            return f"{name} {value} fits (tried in the same process)"
    return f"not even {name} 1 fits: free memory, or take a smaller network"
