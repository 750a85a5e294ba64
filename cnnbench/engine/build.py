"""From a job to what its clock times: settings applied and read back, data loaded, network built on the device."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from cnnbench import data, workloads
from cnnbench.data import Dataset
from cnnbench.devices import Attached
from cnnbench.engine import precision, tuned
from cnnbench.engine.distributed.ddp import DdpTraining
from cnnbench.engine.distributed.group import SINGLE, ProcessGroup
from cnnbench.engine.training import GemmStep, Inference, NetworkStep, TimedStep, Training
from cnnbench.errors import UnsupportedError, WorkloadError
from cnnbench.schema import Job
from cnnbench.workloads import Workload, recipes


def apply_settings(job: Job, attached: Attached) -> dict[str, str]:
    """Set precision and seed by the job; the effective settings as torch reports them. Raises UnsupportedError."""
    reason = attached.unsupported(job.precision)
    if reason is not None:
        raise UnsupportedError(reason)
    torch.manual_seed(job.seed)
    return {
        **precision.apply(job.precision),
        "threads": str(torch.get_num_threads()),
        "interop_threads": str(torch.get_num_interop_threads()),
        "gc": "off in the timed region",
        "cudnn.benchmark": str(torch.backends.cudnn.benchmark),
        "cudnn.deterministic": str(torch.backends.cudnn.deterministic),
        "affinity": ",".join(map(str, sorted(os.sched_getaffinity(0)))) if hasattr(os, "sched_getaffinity") else "n/a",
    }


def _do_nothing(name: str) -> None:
    """Nobody listens."""


def build(
    job: Job,
    data_dir: Path | None,
    attached: Attached,
    *,
    group: ProcessGroup = SINGLE,
    begin: Callable[[str], None] = _do_nothing,
    end: Callable[[str], None] = _do_nothing,
) -> TimedStep:
    """The job's step, ready; `begin` and `end` are told of the phases `data`, `build`, `compile`.

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
    begin("data")
    dataset = None
    if workload.dataset == "mnist":
        if job.data == "random" or job.split is None:
            raise WorkloadError(f"{workload.name} trains on mnist or synthetic digits and needs a split")
        dataset = data.load(job.data, job.split, data_dir)
    end("data")
    begin("build")
    network = _network(job, workload, dataset, attached.device, group)
    attached.synchronize()
    end("build")
    if job.execution == "compiled":
        begin("compile")
        network.compile()
        attached.synchronize()
        end("compile")
    return network


def _network(
    job: Job, workload: Workload, dataset: Dataset | None, device: torch.device, group: ProcessGroup
) -> NetworkStep:
    if job.world > 1:
        return DdpTraining(job, workload, dataset, device, group)
    if job.division != "reference":
        if job.task == "inference":
            raise UnsupportedError(f"the {job.division} division trains; inference is the reference division's")
        if job.recipe is not None:
            workload = recipes.get(job.recipe).apply_dropout(workload)
        return tuned.make(job, workload, dataset, device)
    return (Inference if job.task == "inference" else Training)(job, workload, dataset, device)
