"""What became of a job: the typed outcome of a finished trial, and the size that fits after one that ran out of memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from cnnbench import units, workloads
from cnnbench.engine.build import set_up
from cnnbench.engine.compute_mode import PLAIN_MODE, find_mislabelling, release_memory
from cnnbench.schema import Evaluation, Job, Outcome, Trial, WorkerInput

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
    if (wrong := find_mislabelling(job.precision, errors)) is not None:
        return Outcome(status="invalid", message=wrong, trial=trial)
    if final is not None and not math.isfinite(final):
        return Outcome(status="diverged", message=f"the loss is {final} after {trial.steps} steps", trial=trial)
    if (wrong := _find_learning_failure(job, trial, first, final)) is not None:
        return Outcome(status="diverged", message=wrong, trial=trial)
    if (missed := _describe_missed_target(job, trial.test)) is not None:
        return Outcome(status="missed", message=missed, trial=trial)
    return Outcome(status="ok", trial=trial)


def _find_learning_failure(job: Job, trial: Trial, first: list[float], final: float | None) -> str | None:
    """What the losses say against the training: random images begin near ln(classes), digits must be learned."""
    if final is None or job.task != "training":
        return None
    workload = workloads.get(job.workload)
    if workload.dataset == "random":
        guess = math.log(workload.classes)
        if first and abs(first[0] - guess) > RANDOM_LOSS_BAND * guess:
            return f"the first loss is {first[0]:.3f}; guessing among {workload.classes} classes gives {guess:.3f}"
        return None
    if trial.steps >= LEARNING_STEPS and first and final >= first[0]:
        return f"the loss did not fall: {first[0]:.3f} at first, {final:.3f} after {trial.steps} steps"
    return None


def _describe_missed_target(job: Job, test: Evaluation | None) -> str | None:
    if job.clock != "accuracy" or job.target is None or test is None or test.correct >= job.target * test.images:
        return None
    share, target = units.percent(test.correct / test.images, 2), units.percent(job.target, 2)
    return f"{share} after {test.after_steps:,} steps ({job.epochs} epochs, the limit); the target is {target}"


def find_largest_fitting(worker_input: WorkerInput) -> int | None:
    """Half the batch (of a GEMM the side, of several ranks each one's share), a quarter and so on: the first that does a step;
    None if not even 1 does.

    Tried in this process, which has run out once, so what is found is not above what a fresh one could do.
    """
    job = worker_input.job
    if job.processes > 1:  # one of them, alone
        alone = {"world": 1, "scaling": None, "nodes": 1, "copies": 1, "batch_size": job.rank_batch}
        job = job.model_copy(update=alone)
    key = "batch_size" if job.size is None else "size"
    value = getattr(job, key) // 2
    # What is compiled or recorded holds about as much.
    plain = PLAIN_MODE["execution"] if job.division == PLAIN_MODE["division"] else "fused"
    while value >= 1:
        if _fits(job.model_copy(update={key: value, "execution": plain}), worker_input.data_dir):
            return int(value)
        value //= 2
    return None


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
    """What to say after an out-of-memory message."""
    if worker_input.job.recipe is not None:
        return f"the batch is the recipe's ({worker_input.job.batch_size}): free memory"
    name = "batch_size" if worker_input.job.size is None else "size"
    name += " a rank" if worker_input.job.world > 1 else ""
    found = find_largest_fitting(worker_input)
    if found is None:
        return f"not even {name} 1 fits: free memory, or take a smaller network"
    return f"{name} {found} fits (tried in the same process)"
