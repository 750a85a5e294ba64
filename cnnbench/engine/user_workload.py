"""A workload that is not cnnbench's own, in a worker: its file is run here too, and its counts are held against torch.

Its FLOPs divide every time it gets, so a wrong declaration would be a wrong result: it is refused instead, outside all
clocks, after the cold start and before the warm-up.
"""

from __future__ import annotations

from cnnbench import workloads
from cnnbench.engine.training import NetworkStep, TimedStep
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job, WorkerInput
from cnnbench.workloads import Counts, Workload
from cnnbench.workloads.torch_counts import count_copied_network


def load(worker_input: WorkerInput) -> None:
    """Make the job's workload known here, where it is in a file. Raises WorkloadError."""
    if worker_input.workload_file is None:
        return
    workloads.add_file(worker_input.workload_file)
    job = worker_input.job
    found = workloads.get(job.workload)
    if found.version != job.workload_version:
        raise WorkloadError(f"{workloads.source_of(job.workload)} changed since the run was planned; start a new run")


def verify(job: Job, timed: TimedStep) -> dict[str, str]:
    """Hold the workload's counts against torch's own of the network that is timed; for the record, the file they came from.

    Nothing to do for cnnbench's own, whose tests do it. Raises WorkloadError with every figure that differs.
    """
    if workloads.is_built_in(job.workload) or not isinstance(timed, NetworkStep):
        return {}
    workload = workloads.get(job.workload)
    if wrong := find_mismatches(workload, count_copied_network(timed.network, workload.input_shape, workload.classes)):
        raise WorkloadError(f"{workload.name}: {'; '.join(wrong)}")
    file = workloads.file_of(job.workload)
    return {} if file is None else {"workload_file": f"{file.path.name} sha256:{file.sha256}"}


def find_mismatches(workload: Workload, counted: Counts) -> list[str]:
    """Each count that the workload gives and torch does not, both figures named. Activations cannot be checked."""
    pairs = (
        ("parameters", workload.parameters, counted.parameters, "the network has"),
        ("forward FLOPs an image", workload.flops_forward_per_image, counted.forward, "torch counts"),
        ("training FLOPs an image", workload.flops_training_per_image, counted.training, "torch counts"),
    )
    given = "declared are" if workload.declared is not None else "its layers give"
    return [f"{given} {mine:,} {what}, {whose} {torchs:,}" for what, mine, torchs, whose in pairs if mine != torchs]
