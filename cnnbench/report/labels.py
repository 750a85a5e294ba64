"""Jobs and processors in words. Two jobs that are different work never get the same words: a table groups rows by them.
Names that no one ever gave a processor or a workload, longer than `safe.LONGEST`, are cut.
"""

from __future__ import annotations

import re

from cnnbench import units
from cnnbench.report.safe import plain
from cnnbench.schema import Device, Job

_NOISE = re.compile(r"\((?:R|TM|C)\)|\b\d+-Core\b|\bProcessor\b|\bCPU @ [\d.]+ ?GHz", re.IGNORECASE)
_DATA = {"mnist": "MNIST", "synthetic": "SYNTHETIC digits", "random": "random data"}


def processor(device: Device) -> str:
    """The name people use: without trade marks, core count and the word Processor."""
    return plain(_NOISE.sub(" ", device.name)) or plain(device.name)


def place(job: Job) -> str:
    """Where on the machine: `cpu, 2 threads`, `cuda:0`; the allocator where it was not held."""
    threads = () if job.threads is None else (f"{job.threads} thread{'' if job.threads == 1 else 's'}",)
    allocator = () if job.allocator == "held" else (f"{job.allocator} allocator",)
    return ", ".join((plain(job.device), *threads, *allocator))


def work(job: Job) -> str:
    """Everything of the job's work key but what has a column of its own (precision; a GEMM's size and blocks), usual choices
    left out.
    """
    if job.workload == "gemm":
        head: tuple[str, ...] = (f"gemm v{job.workload_version}", "square matrices of random values")
    else:
        head = (f"{plain(job.workload)} v{job.workload_version}", f"batch {job.batch_size}", _training(job), _data(job))
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
    if job.workload == "gemm":
        return () if whole is None else (whole,)
    blocks = f"{job.blocks} blocks of {job.block_steps} steps after {job.warmup_steps} warm-up"
    return (blocks,) if whole is None else (f"{whole}, projected from {blocks}",)


def _unusual(job: Job) -> tuple[str, ...]:
    """Fields away from their default, so that no two kinds of work read alike."""
    gemm = job.workload == "gemm"
    found = {
        f"{job.division} division": job.division != "reference",
        job.layout: job.layout != "nchw",
        f"{job.loader}, {job.loader_workers} workers": job.loader != "resident" or job.loader_workers != 0,
        f"{job.extra_forwards} further forward passes a step": job.extra_forwards != 0,
        f"{job.epoch_eval_images} test images after each epoch": job.epoch_eval_images != 0,
        "stops when all of them are right": job.stop_when_all_right,
        "no final evaluation": not (job.final_evaluation or gemm),
        "final evaluation": job.final_evaluation and gemm,
        f"batch {job.batch_size}": gemm and job.batch_size != _DEFAULT_BATCH,
        f"epochs {job.epochs} x {job.steps_per_epoch}": job.job_steps is None
        and (job.epochs, job.steps_per_epoch) != (None, None),
        f"size {job.size}": not gemm and job.size is not None,
        f"{_training(job)}, {_data(job)}": gemm
        and (job.optimizer, job.init, job.split, job.data, job.order) != (None, None, None, "random", "sequential"),
        f"warm-up {job.warmup_steps}, blocks {job.blocks} x {job.block_steps}": job.clock == "job"
        and (job.warmup_steps, job.blocks, job.block_steps) != _BLOCKS,
    }
    return tuple(text for text, shown in found.items() if shown)


_DEFAULT_BATCH = Job.model_fields["batch_size"].default
_BLOCKS = tuple(Job.model_fields[name].default for name in ("warmup_steps", "blocks", "block_steps"))
