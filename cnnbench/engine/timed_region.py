"""The timed region: what is timed, in which pieces, by the clock that the job names."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TypeVar

import torch

from cnnbench import data
from cnnbench.devices import Attached
from cnnbench.engine.distributed.group import SINGLE, ProcessGroup
from cnnbench.engine.process import ProgressWriter
from cnnbench.engine.timing import JobTiming, disable_gc, time_blocks, time_job
from cnnbench.engine.training import TimedStep, Training, steps_per_block
from cnnbench.errors import WorkloadError
from cnnbench.schema import Evaluation, Job
from cnnbench.workloads import recipes

T = TypeVar("T")
ALL_IMAGES = 10_000


def time_region(
    job: Job,
    timed: TimedStep,
    attached: Attached,
    progress: ProgressWriter,
    losses: list[torch.Tensor],
    group: ProcessGroup = SINGLE,
) -> JobTiming:
    """Time it, by the clock the job names; a steady job's blocks come back as `epoch_seconds`."""
    report = progress.count if progress.wanted else None
    # A block's last loss is noted as it lies on the device, and read when the clock has stopped.
    note, synchronize = record_known(timed.last_loss, losses), group.synchronizer(attached)
    if job.clock == "steady":
        progress.phase("timed", job.blocks * job.block_steps)
        with disable_gc():
            blocks = time_blocks(
                timed.step,
                synchronize,
                steps=timed.steps,
                blocks=job.blocks,
                steps_per_block=job.block_steps,
                after_block=note,
                on_steps=report,
            )
        return JobTiming(sum(blocks), 0.0, blocks, (), False)
    if job.epochs is None or job.steps_per_epoch is None or not isinstance(timed, Training) or not timed.trains:
        raise WorkloadError(f"clock {job.clock!r} needs a training workload, epochs and steps_per_epoch")
    length, images = job.epochs, job.epoch_eval_images
    before: Callable[[], int] | None = timed.pretrain
    stop: Callable[[int, int], bool] | None = operator.eq if job.stop_when_all_right else None
    if job.clock == "accuracy":
        if job.target is None or not job.evaluate_every:
            raise WorkloadError("clock 'accuracy' needs target and evaluate_every")
        length, images = job.epochs * job.steps_per_epoch // job.evaluate_every, ALL_IMAGES
        stop = make_target_test(job.target)
    elif job.clock == "recipe":
        before, images = follow_recipe(job, timed), ALL_IMAGES
    steps = steps_per_block(job)
    progress.phase("timed", length * steps)
    with disable_gc():
        return time_job(
            timed.step,
            synchronize,
            epochs=length,
            steps_per_epoch=steps,
            steps=timed.steps,
            steps_per_launch=timed.steps_per_launch,
            evaluate=(lambda: timed.count_correct(images)) if images else None,
            stop=stop,
            pretrain=before,
            after_epoch=note,
            report=report,
        )


def follow_recipe(job: Job, training: Training) -> Callable[[], int]:
    """Give the training's steps the recipe's rates, and return what the clock calls before the first: it opens the digits."""
    dataset = training.setup.dataset
    if job.recipe is None or dataset is None:
        raise WorkloadError("the recipe clock needs a recipe, and digits")
    training.set_lr_schedule(recipes.get(job.recipe).rates)
    file = data.write_decompressed(dataset)

    def read_dataset() -> int:
        """Read the decompressed, verified digits and make them the training's; no step is one of them."""
        training.replace_dataset(data.read_decompressed(file, dataset))
        return 0

    return read_dataset


def make_target_test(target: float) -> Callable[[int, int], bool]:
    """The rule that the gates judge the record by, so that neither rounds otherwise."""
    return lambda correct, images: Evaluation(after_steps=0, images=images, correct=correct, seconds=0.0).reaches(
        target
    )


def record_known(read: Callable[[], T | None], known: list[T]) -> Callable[[], None]:
    """Return what reads a value and appends it where there is one."""

    def record() -> None:
        if (value := read()) is not None:
            known.append(value)

    return record
