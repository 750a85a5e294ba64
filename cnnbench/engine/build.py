"""From a job to what its clock times: settings applied and read back, data loaded, network built on the device.

A workload from outside cnnbench is loaded here too, and its counts are checked against torch's: results divide its
FLOPs by its times, so a wrong declaration would be a wrong result. It is refused instead, outside all clocks, after the
cold start and before the warm-up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from cnnbench import data, workloads
from cnnbench.devices import Attached, backend
from cnnbench.engine import compute_mode, tuned
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.distributed.group import SINGLE, DdpTraining, ProcessGroup
from cnnbench.engine.process import SILENT, ProgressWriter
from cnnbench.engine.training import GemmStep, Inference, TimedStep, Training
from cnnbench.errors import UnsupportedError, WorkloadError
from cnnbench.schema import Job, WorkerInput
from cnnbench.workloads import Workload, recipes
from cnnbench.workloads.base import POINT_SETS
from cnnbench.workloads.torch_counts import count_network


def apply_settings(job: Job) -> dict[str, str]:
    """Set precision and seed by the job; return the settings as torch reports them. Raises UnsupportedError."""
    if reason := backend(job.device).unsupported(job.precision):
        raise UnsupportedError(reason)
    torch.manual_seed(job.seed)
    return {
        **compute_mode.apply_precision(job.precision),
        "threads": str(torch.get_num_threads()),
        "interop_threads": str(torch.get_num_interop_threads()),
        "gc": "off in the timed region",
        "cudnn.benchmark": str(torch.backends.cudnn.benchmark),
        "cudnn.deterministic": str(torch.backends.cudnn.deterministic),
        "affinity": ",".join(map(str, sorted(os.sched_getaffinity(0)))) if hasattr(os, "sched_getaffinity") else "n/a",
    }


def set_up(job: Job, data_dir: str | None, progress: ProgressWriter = SILENT) -> tuple[Attached, TimedStep]:
    """Attach the job's device with the job's settings and build the job's step. Raises what `build` raises."""
    attached = backend(job.device).attach(threads=job.threads)
    apply_settings(job)
    return attached, build(job, data_dir, attached, progress=progress)


def build(
    job: Job,
    data_dir: str | None,
    attached: Attached,
    *,
    group: ProcessGroup = SINGLE,
    progress: ProgressWriter = SILENT,
    end: Callable[[str], None] = lambda phase: None,
) -> TimedStep:
    """Build the job's step and report the phases `data`, `build`, `compile` to `progress` and `end`.

    Raises WorkloadError, DataError, and UnsupportedError for what the device or its compiler cannot do.
    """
    workload = workloads.get(job.workload)
    if workload.version != job.workload_version:
        raise WorkloadError(
            f"{workload.name} is version {workload.version} here, the job asks for {job.workload_version}"
        )
    if workload.kind == "gemm":
        products = GemmStep(job, attached.device)
        attached.synchronize()
        end("build")
        return products
    progress.phase("data")
    dataset = None
    if workload.learns:
        dataset = _load_dataset(workload, job, data_dir)
    end("data")
    progress.phase("build")
    varied = workload.with_variant(job.pool, job.activation)
    network = _network(TrainingSetup(job, varied, dataset, attached.device), group)
    attached.synchronize()
    end("build")
    if job.execution == "compiled":
        progress.phase("compile")
        network.compile()
        attached.synchronize()
        end("compile")
    return network


def _load_dataset(workload: Workload, job: Job, data_dir: str | None) -> data.Dataset:
    drawn = workload.dataset in POINT_SETS
    if job.split is None or job.data not in (("points",) if drawn else ("mnist", "synthetic")):
        kinds = "points" if drawn else "mnist or synthetic digits"
        raise WorkloadError(f"{workload.name} trains on {kinds} and needs a split")
    if drawn:
        return data.load_points(workload.dataset, job.split)
    return data.load(job.data, job.split, None if data_dir is None else Path(data_dir))


def _network(setup: TrainingSetup, group: ProcessGroup) -> Training:
    job = setup.job
    if job.world > 1:
        return DdpTraining(setup, group)
    if job.division != "reference":
        if job.task == "inference":
            raise UnsupportedError(f"the {job.division} division trains; inference is the reference division's")
        if job.recipe is not None:
            setup = replace(setup, workload=recipes.get(job.recipe).apply_dropout(setup.workload))
        return tuned.make(setup)
    return (Inference if job.task == "inference" else Training)(setup)


def load_workload_file(worker_input: WorkerInput) -> None:
    """Register the job's workload in this process if it comes from a file. Raises WorkloadError."""
    if worker_input.workload_file is None:
        return
    workloads.add_file(worker_input.workload_file)
    job = worker_input.job
    if workloads.get(job.workload).version != job.workload_version:
        raise WorkloadError(f"{workloads.source_of(job.workload)} changed since the run was planned; start a new run")


def verify_counts(job: Job, timed: TimedStep) -> dict[str, str]:
    """Compare the workload's counts with torch's for the timed network; return the workload's file, for the record.

    Tests compare those of cnnbench's own workloads; activations cannot be checked. Raises WorkloadError with every
    figure that differs.
    """
    if workloads.is_built_in(job.workload) or not isinstance(timed, Training):
        return {}
    workload = workloads.get(job.workload)
    counted = count_network(timed.network, workload.input_shape, workload.outputs)
    pairs = (
        ("parameters", workload.parameters, counted.parameters, "the network has"),
        ("forward FLOPs per image", workload.flops_forward_per_image, counted.forward, "torch counts"),
        ("training FLOPs per image", workload.flops_training_per_image, counted.training, "torch counts"),
    )
    given = "declared are" if workload.declared is not None else "its layers give"
    wrong = [f"{given} {mine:,} {what}, {whose} {torchs:,}" for what, mine, torchs, whose in pairs if mine != torchs]
    if wrong:
        raise WorkloadError(f"{workload.name}: {'; '.join(wrong)}")
    file = workloads.file_of(job.workload)
    return {} if file is None else {"workload_file": f"{file.path.name} sha256:{file.sha256}"}
