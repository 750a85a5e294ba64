"""What of a gradient may be rounding: the tuned division proves itself by it before it is timed, and a record is held to it."""

from __future__ import annotations

from cnnbench import workloads
from cnnbench.schema import Job

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
    if job.precision != "fp32" and job.workload in workloads.names():
        known = workloads.get(job.workload, job.workload_version).layers
        layers = sum(isinstance(layer, workloads.flops.Conv2d | workloads.flops.Dense) for layer in known)
    return TUNED_TOLERANCE[job.precision] * max(1.0, layers / TUNED_LAYERS)
