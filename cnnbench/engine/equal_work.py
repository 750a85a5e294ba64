"""What an arm did, counted and digested outside all timing, so that two arms can be held to equal work."""

from __future__ import annotations

import hashlib
import math

from cnnbench import workloads
from cnnbench.engine.training import NetworkStep, TimedStep, Training
from cnnbench.errors import DivergedError
from cnnbench.paired_protocol import WorkDone
from cnnbench.schema import Job

FIRST_LOSSES = 5


def first_losses(timed: TimedStep) -> tuple[float, ...] | None:
    """Losses of the first steps with dropout off, state put back after; None where there is no loss. Raises DivergedError."""
    if not isinstance(timed, NetworkStep):
        return None
    timed.reset()
    timed.disable_dropout()
    losses: list[float] = []
    for _ in range(FIRST_LOSSES):
        timed.step()
        loss = timed.loss()
        if loss is None or not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss} after {len(losses) + 1} steps")
        losses.append(loss)
    timed.reset()
    return tuple(losses)


def count_work(job: Job, timed: TimedStep, steps: int, losses: tuple[float, ...] | None, minor_faults: int) -> WorkDone:
    """The counters after `steps` steps. Winds the feed back and draws its batches once more, for their digest."""
    images, final_loss = timed.images_drawn, timed.loss()
    finite = final_loss is not None and math.isfinite(final_loss)
    networked, training = isinstance(timed, NetworkStep), isinstance(timed, Training)
    return WorkDone(
        images=images,
        batches=images // job.batch_size if networked else 0,
        order_digest=_digest_order(timed, steps) if isinstance(timed, NetworkStep) else "",
        parameters=timed.parameters if isinstance(timed, NetworkStep) else 0,
        flops=steps * workloads.flops_per_step(job),
        optimizer_steps=steps if training else 0,
        precision=job.precision,
        first_losses=losses,
        final_loss=final_loss if finite else None,
        minor_faults=minor_faults,
    )


def _digest_order(training: NetworkStep, steps: int) -> str:
    training.reset()
    hashed = hashlib.sha256()
    for _ in range(steps):
        _, labels = training.draw()
        hashed.update(labels.cpu().numpy().tobytes())
    return hashed.hexdigest()
