"""What can be timed: one file a workload, found by name; other packages add theirs by the entry point `cnnbench.workloads`,
and a suite may name a Python file of the user's (`registry`).
"""

from __future__ import annotations

from cnnbench.errors import WorkloadError
from cnnbench.schema import Job
from cnnbench.workloads import flops
from cnnbench.workloads.base import DEFAULT_INIT, Band, Workload
from cnnbench.workloads.flops import Counts
from cnnbench.workloads.registry import (
    add_file,
    collect_header_facts,
    file_of,
    find,
    forget_files,
    get,
    is_built_in,
    names,
    register_from_ledger,
    source_of,
)
from cnnbench.workloads.torch_counts import count_network

__all__ = [
    "DEFAULT_INIT",
    "Band",
    "Counts",
    "Workload",
    "add_file",
    "batch_that_fits",
    "collect_header_facts",
    "count_network",
    "file_of",
    "find",
    "flops_per_step",
    "forget_files",
    "get",
    "is_built_in",
    "names",
    "pretraining_flops",
    "pretraining_steps",
    "register_from_ledger",
    "source_of",
    "step_bytes",
]


def flops_per_step(job: Job) -> int:
    """Model FLOPs of one timed step: batch x training FLOPs an image, plus forward passes the job prescribes on top; for
    inference batch x forward FLOPs; for a GEMM 2 x side^3. Raises WorkloadError for an unknown workload or a GEMM
    without a side.
    """
    workload = get(job.workload, job.workload_version)
    if workload.kind == "gemm":
        if job.size is None:
            raise WorkloadError("a gemm job needs a size, the side of its operands")
        return flops.gemm_flops(job.size)
    if job.task == "inference":
        return job.batch_size * workload.flops_forward_per_image
    per_image = workload.flops_training_per_image + job.extra_forwards * workload.flops_forward_per_image
    return job.batch_size * per_image


def pretraining_steps(job: Job) -> int:
    """Steps of pre-training before the job's own, all hidden layers together; 0 for most workloads, or without epochs."""
    workload = get(job.workload, job.workload_version)
    if workload.pretraining is None or job.full_epoch is None:
        return 0
    return len(workload.hidden) * workload.pretraining.epochs * job.full_epoch


def pretraining_flops(job: Job) -> int:
    """Model FLOPs of those steps."""
    workload = get(job.workload, job.workload_version)
    if workload.pretraining is None or job.full_epoch is None:
        return 0
    return job.batch_size * workload.pretraining.epochs * job.full_epoch * sum(workload.flops_pretraining_per_image)


HALF_BYTES = 2
COPIES = 4
"""Of the parameters in training: weights, gradients, and up to two values of optimiser state."""


def step_bytes(job: Job) -> int:
    """Memory of one step by the closed form, bytes: activations twice (with their gradients; inference: the two largest
    neighbours, taken as all of them once), and parameters. A lower bound: libraries' workspaces come on top.
    """
    workload = get(job.workload, job.workload_version)
    if workload.kind == "gemm":
        return 3 * (job.size or 0) ** 2 * (flops.FLOAT32_BYTES if job.precision in ("fp32", "tf32") else HALF_BYTES)
    training = job.task == "training"
    activations = workload.activation_bytes_per_image * (2 if training else 1)
    if job.precision in ("bf16", "fp16"):
        activations //= 2
    return job.batch_size * activations + workload.parameter_bytes * (COPIES if training else 1)


def batch_that_fits(job: Job, memory_bytes: int, *, most: int = 4096) -> int:
    """The largest power of two up to `most` whose step takes at most half of the memory by the closed form; at least 1."""
    batch = most
    while batch > 1 and step_bytes(job.model_copy(update={"batch_size": batch})) > memory_bytes // 2:
        batch //= 2
    return batch


TUNED_TOLERANCE = {"fp32": 1e-2, "tf32": 2e-2, "bf16": 0.2, "fp16": 0.05}
"""A judgement, not a measurement. Rounding alone is far below (`tests/test_tuned.py` holds fp32 to 2e-5); but where two of the
four values a maximum is taken of are equal but for rounding, the gradient takes the other way. Of a network of up to
`TUNED_LAYERS` layers with weights; a deeper one's may err by as much more as it has more (not in fp32)."""
TUNED_LAYERS = 5


def tuned_tolerance(job: Job) -> float:
    """The largest relative error of a tuned step's gradients that is rounding, by format and depth.

    Depth counts in the formats shorter than float32 alone: the reference's own gradients of VGG-16's first layer are off by
    more than twice the bf16 figure (`tests/test_rounding_by_depth.py` computes them).
    """
    layers = 0
    if job.precision != "fp32" and job.workload in names():
        known = get(job.workload, job.workload_version).layers
        layers = sum(isinstance(layer, flops.Conv2d | flops.Dense) for layer in known)
    return TUNED_TOLERANCE[job.precision] * max(1.0, layers / TUNED_LAYERS)
