"""The timed region: what is timed, in which pieces, by the clock that the job names."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cnnbench.devices import Attached
from cnnbench.engine.distributed.group import SINGLE, ProcessGroup
from cnnbench.engine.loop import Timed, Training
from cnnbench.engine.measure import JobTiming, Report, collector_off, time_blocks, time_job
from cnnbench.engine.progress import Progress
from cnnbench.engine.tuned.recipe import ByRecipe
from cnnbench.errors import WorkloadError
from cnnbench.schema import Evaluation, Job

ALL_IMAGES = 10_000


def steps_per_block(job: Job) -> int:
    """Optimiser steps of one block: of an epoch under the job clock, between two looks under the accuracy clock."""
    return {"steady": job.block_steps, "accuracy": job.evaluate_every}.get(job.clock, job.steps_per_epoch) or 0


def timed_region(
    job: Job,
    timed: Timed,
    attached: Attached,
    progress: Progress,
    losses: list[torch.Tensor],
    group: ProcessGroup = SINGLE,
) -> JobTiming:
    """Time it, by the clock the job names; a steady job's blocks come back as `epoch_seconds`."""
    report: Report | None = progress.count if progress.wanted else None
    note, synchronize = _keep_loss(timed, losses), group.synchronizer(attached)
    if job.clock == "steady":
        progress.phase("timed", job.blocks * job.block_steps)
        with collector_off():
            blocks = time_blocks(
                timed.step,
                synchronize,
                steps=timed.steps if isinstance(timed, Training) else None,
                blocks=job.blocks,
                steps_per_block=job.block_steps,
                after_block=note,
                report=report,
            )
        return JobTiming(sum(blocks), 0.0, blocks, (), False)
    if job.epochs is None or job.steps_per_epoch is None or not isinstance(timed, Training):
        raise WorkloadError(f"clock {job.clock!r} needs a training workload, epochs and steps_per_epoch")
    length, images = job.epochs, job.epoch_eval_images
    stop: Callable[[int, int], bool] | None = _all_right if job.stop_when_all_right else None
    if job.clock == "accuracy":
        if job.target is None or not job.evaluate_every:
            raise WorkloadError("clock 'accuracy' needs target and evaluate_every")
        length, images, stop = job.epochs * job.steps_per_epoch // job.evaluate_every, ALL_IMAGES, reached(job.target)
    training: Training | ByRecipe = timed
    before: Callable[[], int] | None = timed.pretrain
    if job.clock == "recipe":
        training = by_recipe = ByRecipe(job, timed)
        before, images = by_recipe.open, ALL_IMAGES
    steps = steps_per_block(job)
    progress.phase("timed", length * steps)
    with collector_off():
        return time_job(
            training.step,
            synchronize,
            epochs=length,
            steps_per_epoch=steps,
            steps=training.steps,
            at_once=training.at_once,
            evaluate=(lambda: timed.count_correct(images)) if images else None,
            stop=stop,
            before=before,
            after_epoch=note,
            report=report,
        )


def _all_right(correct: int, images: int) -> bool:
    return correct == images


def reached(target: float) -> Callable[[int, int], bool]:
    """The rule that the gates judge the record by, so that neither rounds otherwise."""
    return lambda correct, images: Evaluation(after_steps=0, images=images, correct=correct, seconds=0.0).reaches(
        target
    )


def _keep_loss(timed: Timed, losses: list[torch.Tensor]) -> Callable[[], None] | None:
    """Notes a block's last loss as it lies on the device: read when the clock has stopped."""
    if not isinstance(timed, Training):
        return None

    def keep() -> None:
        loss = timed.last_loss()
        if loss is not None:
            losses.append(loss)

    return keep
