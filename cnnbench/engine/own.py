"""A workload that is not cnnbench's own, in a worker: its file is run here too, and its counts are held against torch.

Its FLOPs divide every time it gets, so a wrong declaration would be a wrong result: it is refused instead, outside all
clocks, after the cold start and before the warm-up.
"""

from __future__ import annotations

from cnnbench import workloads
from cnnbench.engine.loop import Networked, Timed
from cnnbench.errors import WorkloadError
from cnnbench.schema import Envelope, Job
from cnnbench.workloads import Counts, Workload
from cnnbench.workloads.counting import count_copy


def admit(envelope: Envelope) -> None:
    """Make the job's workload known here, where it is in a file. Raises WorkloadError."""
    if envelope.workload_file is None:
        return
    workloads.add_file(envelope.workload_file)
    job = envelope.job
    found = workloads.get(job.workload)
    if found.version != job.workload_version:
        raise WorkloadError(f"{workloads.source_of(job.workload)} changed since the run was planned; start a new run")


def verify(job: Job, timed: Timed) -> dict[str, str]:
    """Hold the workload's counts against torch's own of the network that is timed; for the record, the file they came from.

    Nothing to do for cnnbench's own, whose tests do it. Raises WorkloadError with every figure that differs.
    """
    if workloads.is_own(job.workload) or not isinstance(timed, Networked):
        return {}
    workload = workloads.get(job.workload)
    if wrong := mismatches(workload, count_copy(timed.network, workload.input_shape, workload.classes)):
        raise WorkloadError(f"{workload.name}: {'; '.join(wrong)}")
    file = workloads.file_of(job.workload)
    return {} if file is None else {"workload_file": f"{file.path.name} sha256:{file.sha256}"}


def mismatches(workload: Workload, counted: Counts) -> list[str]:
    """Each count that the workload gives and torch does not, both figures named. Activations cannot be checked."""
    pairs = (
        ("parameters", workload.parameters, counted.parameters, "the network has"),
        ("forward FLOPs an image", workload.flops_forward_per_image, counted.forward, "torch counts"),
        ("training FLOPs an image", workload.flops_training_per_image, counted.training, "torch counts"),
    )
    given = "declared are" if workload.declared is not None else "its layers give"
    return [f"{given} {mine:,} {what}, {whose} {torchs:,}" for what, mine, torchs, whose in pairs if mine != torchs]
