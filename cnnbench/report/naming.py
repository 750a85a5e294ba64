"""Jobs and processors in words. Two jobs that are different work never get the same words: a table groups rows by them.
Names that no one ever gave a processor or a workload, longer than `escaping.LONGEST`, are cut.
"""

from __future__ import annotations

import re
from typing import Any

from cnnbench import units, workloads
from cnnbench.report.escaping import plain
from cnnbench.schema import Device, Job

_NOISE = re.compile(r"\((?:R|TM|C)\)|\b\d+-Core\b|\bProcessor\b|\bCPU @ [\d.]+ ?GHz", re.IGNORECASE)
_DATA = {"mnist": "MNIST", "synthetic": "SYNTHETIC digits", "random": "random data"}


def processor_name(device: Device) -> str:
    """The name people use: without trade marks, core count and the word Processor."""
    return plain(_NOISE.sub(" ", device.name)) or plain(device.name)


def place_label(job: Job) -> str:
    """Where on the machine: `cpu, 2 threads`, `cuda:0`, of several processes `cpu, 2 ranks, 1 thread`; the allocator where it was
    not held.
    """
    threads = () if job.threads is None else (f"{job.threads} thread{'' if job.threads == 1 else 's'}",)
    allocator = () if job.allocator == "held" else (f"{job.allocator} allocator",)
    return ", ".join((plain(job.device), *process_count(job), *threads, *allocator))


def process_count(job: Job) -> tuple[str, ...]:
    """The processes of the job, where it has several: `4 ranks`, `2 nodes`."""
    counts = {"ranks": job.world, "copies": job.copies, "nodes": job.nodes}
    return tuple(f"{count} {what}" for what, count in counts.items() if count > 1)


def work_label(job: Job) -> str:
    """Everything of the job's work key but what has a column of its own (precision; a GEMM's size and blocks), usual choices
    left out.
    """
    return _describe(job, (_training(job),))


def ablation_label(job: Job) -> str:
    """The work without the way a step is computed: what the rungs of a ladder share. `step_label` says the rest."""
    return work_label(job.model_copy(update=PLAIN_STEP))


def step_label(job: Job) -> str:
    """How a step is computed: `fp32, nchw, eager`, with loader and division where they are not the usual ones."""
    return ", ".join((job.precision, job.layout, job.execution, *_loader(job), *_division(job)))


def target_label(job: Job) -> str:
    """Name the work without how it is computed and trained, which all trainings to one target share; see `variant_label`."""
    return _describe(job.model_copy(update=PLAIN_STEP | {"pool": None, "activation": None}), ())


def variant_label(job: Job) -> str:
    """How a step is computed and the network trained: `bf16, nhwc, compiled, adam xavier`."""
    return ", ".join((step_label(job), _training(job), *network_deviations(job)))


def short_name(job: Job, *, size: bool = False) -> str:
    """The job in a few words, for a sentence about its row: `mnist-cnn nhwc compiled bf16`. With `size` a GEMM's side too."""
    number = (str(job.size),) if size and job.size is not None else ()
    return " ".join((plain(job.workload), *number, *deviations_without_precision(job), job.precision))


def deviations(job: Job) -> tuple[str, ...]:
    """What makes the job another than the plain one of its workload and batch, in words; nothing for the plain one."""
    return (*deviations_without_precision(job), *(() if job.precision == "fp32" else (job.precision,)))


def deviations_without_precision(job: Job) -> tuple[str, ...]:
    """The same without the precision: variations, optimiser, loader, division."""
    division = () if job.division == "reference" else (job.division,)
    return (*job.variations, *optimizer_deviation(job), *_loader(job), *division)


def optimizer_deviation(job: Job) -> tuple[str, ...]:
    """The optimiser where it is not the workload's own; nothing where that is unknown (only a ledger describes it)."""
    usual = workloads.get(job.workload).default_optimizer if job.workload in workloads.names() else None
    return () if usual is None or job.optimizer in (None, usual) else (plain(str(job.optimizer)),)


PLAIN_STEP: dict[str, Any] = {
    **{"division": "reference", "precision": "fp32", "layout": "nchw", "execution": "eager"},
    **{"loader": "resident", "loader_workers": 0},
}
"""The fields of `step_label` at the reference's values."""


def _describe(job: Job, training: tuple[str, ...]) -> str:
    if job.workload == "gemm":
        head: tuple[str, ...] = (f"gemm v{job.workload_version}", "square matrices of random values")
    else:
        name = f"{plain(job.workload)} v{job.workload_version}"
        head = (name, f"batch {job.batch_size}", *training, _data(job))
    return " · ".join((*head, *_length(job), *_unusual(job)))


def _training(job: Job) -> str:
    return " ".join(plain(name) for name in (job.optimizer, job.init) if name is not None) or "no optimiser"


def _data(job: Job) -> str:
    split = () if job.split is None else (f"{units.count(int(job.split.removeprefix('train-')))} images",)
    order = "in order" if job.order == "sequential" else "shuffled"
    return " ".join((_DATA[job.data], *split, order))


def _length(job: Job) -> tuple[str, ...]:
    whole = None
    if job.job_steps is not None:
        whole = f"{job.epochs} x {job.steps_per_epoch} = {units.count(job.job_steps)} steps"
    if job.clock == "job":
        return (f"{whole or 'no fixed length'}, measured",)
    if job.clock == "recipe":
        return (f"recipe {job.recipe}", f"{whole or 'no fixed length'} and one evaluation, measured")
    if job.clock == "accuracy":
        return (*_target(job), "no epoch limit" if whole is None else f"at most {whole}")
    if job.workload == "gemm":
        return () if whole is None else (whole,)
    blocks = f"{job.blocks} blocks of {job.block_steps} steps after {job.warmup_steps} warm-up"
    return (blocks,) if whole is None else (f"{whole}, projected from {blocks}",)


def _target(job: Job) -> tuple[str, ...]:
    """`to 99 % of test images, evaluated every 429 steps`; under another clock it says what it is none of."""
    target = "no target" if job.target is None else f"to {units.exact_percent(job.target)} of test images"
    return (target, "never evaluated" if job.evaluate_every is None else f"evaluated every {job.evaluate_every} steps")


def _loader(job: Job) -> tuple[str, ...]:
    if job.loader == "resident" and job.loader_workers == 0:
        return ()
    return (f"{job.loader}, {job.loader_workers} workers",)


def _division(job: Job) -> tuple[str, ...]:
    return () if job.division == "reference" else (f"{job.division} division",)


def network_deviations(job: Job) -> tuple[str, ...]:
    """What of the network is not its own."""
    pool = () if job.pool is None else (f"{job.pool} pooling",)
    return (*pool, *(() if job.activation is None else (job.activation,)))


def _unusual(job: Job) -> tuple[str, ...]:
    """Fields away from their default, so that no two kinds of work read alike."""
    gemm = job.workload == "gemm"
    found = {
        f"{job.division} division": job.division != "reference",
        job.task: job.task != "training",
        job.layout: job.layout != "nchw",
        job.execution: job.execution != "eager",
        **dict.fromkeys(network_deviations(job), True),
        **dict.fromkeys(process_count(job), True),
        f"{job.scaling} scaling": job.scaling is not None,
        f"{job.rank_batch} a rank": job.world > 1,
        f"{job.loader}, {job.loader_workers} workers": job.loader != "resident" or job.loader_workers != 0,
        f"{job.extra_forwards} further forward passes a step": job.extra_forwards != 0,
        f"{job.epoch_eval_images} test images after each epoch": job.epoch_eval_images != 0,
        "stops when all of them are right": job.stop_when_all_right,
        "no final evaluation": not (job.final_evaluation or gemm or job.clock == "accuracy"),
        "final evaluation": job.final_evaluation and (gemm or job.clock == "accuracy"),
        f"batch {job.batch_size}": gemm and job.batch_size != _DEFAULT_BATCH,
        f"epochs {job.epochs} x {job.steps_per_epoch}": job.job_steps is None
        and (job.epochs, job.steps_per_epoch) != (None, None),
        f"size {job.size}": not gemm and job.size is not None,
        f"{_training(job)}, {_data(job)}": gemm
        and (job.optimizer, job.init, job.split, job.data, job.order) != (None, None, None, "random", "sequential"),
        f"warm-up {job.warmup_steps}, blocks {job.blocks} x {job.block_steps}": job.clock != "steady"
        and (job.warmup_steps, job.blocks, job.block_steps) != _BLOCKS,
        f"recipe {job.recipe}": job.clock != "recipe" and job.recipe is not None,
        ", ".join(_target(job)): job.clock not in ("accuracy", "recipe")
        and (job.target, job.evaluate_every) != (None, None),
    }
    return tuple(text for text, shown in found.items() if shown)


_DEFAULT_BATCH = Job.model_fields["batch_size"].default
_BLOCKS = tuple(Job.model_fields[name].default for name in ("warmup_steps", "blocks", "block_steps"))
