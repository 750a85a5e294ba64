"""Why not N times faster: a row's step against the floors measured beside it, each with what it would allow.

Four floors, all from measurements on the same device: *launch*, the step's operators times the smallest operator;
*bandwidth*, the bytes the step must move at the speed of a copy; *compute*, its model FLOPs at the best matrix product of
the same precision; *input*, drawing a batch. The largest names what binds; how much of the step it explains says how
far the step is from it. A floor is a model, not a law: data that stays in a cache moves faster than a copy of 64 MiB does,
and a fused step launches fewer operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cnnbench import workloads
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job

FloorKind = Literal["launch", "bandwidth", "compute", "input"]

ACTIVATION_MOVES, ACTIVATION_MOVES_FORWARD = 5, 2
"""Each activation is written and read once forward, read once backward, and its gradient written and read once. Inference is
forward alone.
"""
PARAMETER_MOVES, PARAMETER_MOVES_FORWARD = 8, 1
"""Weights are read forward and backward, gradients written and read, weight and mean square each read and written; inference
reads the weights.
"""
FARTHEST = 1e12
"""Times a floor may be away from its step and say something: a nanosecond is a millionth of a millionth of 17 minutes."""
EXPLAINED = 0.5
"""Above it the floor binds; below it no floor explains the step, and the kernels themselves are far from their limits."""


@dataclass(frozen=True)
class Floor:
    """No step of this kind can be shorter than `seconds`; `allows` is how many times faster that would be."""

    kind: FloorKind
    seconds: float
    share: float

    @property
    def allows(self) -> float:
        """The measured step over the floor."""
        return 1 / self.share


@dataclass(frozen=True)
class Bottleneck:
    """A step's floors, the highest first, and the verdict in words."""

    step_seconds: float
    floors: tuple[Floor, ...]

    @property
    def summary(self) -> str:
        """`compute-bound`, or `nearest: compute` where not even the highest floor explains half of the step.

        Without a measured peak the compute floor is unknown and could be the highest, so there is no verdict.
        """
        if self.floor("compute") is None:
            return "n/a"
        highest = self.floors[0]
        return f"{highest.kind}-bound" if highest.share >= EXPLAINED else f"nearest: {highest.kind}"

    def floor(self, kind: FloorKind) -> Floor | None:
        """The floor of that kind; None where it was not measured."""
        return next((floor for floor in self.floors if floor.kind == kind), None)


def find_bottleneck(
    job: Job,
    step_seconds: float,
    measured: Mapping[str, float],
    operators: int | None,
    ceiling_flops_per_second: float | None,
) -> Bottleneck:
    """The floors that can be told. `measured` holds `engine.lower_bounds`' values; the ceiling is the best GEMM's FLOP/s."""
    seconds: dict[FloorKind, float] = {}
    if operators is not None and "launch_seconds" in measured:
        seconds["launch"] = operators * measured["launch_seconds"]
    moved = bytes_per_step(job)
    if moved is not None and measured.get("copy_bytes_per_second"):
        seconds["bandwidth"] = moved / measured["copy_bytes_per_second"]
    flops = _step_flops(job)
    if flops is not None and ceiling_flops_per_second:
        seconds["compute"] = flops / ceiling_flops_per_second
    if "draw_seconds" in measured:
        seconds["input"] = measured["draw_seconds"]
    floors = [Floor(kind, floor, floor / step_seconds) for kind, floor in seconds.items()]
    floors = [floor for floor in floors if 1 / FARTHEST < floor.share < FARTHEST]
    return Bottleneck(step_seconds, tuple(sorted(floors, key=lambda floor: -floor.seconds)))


def bytes_per_step(job: Job) -> int | None:
    """Bytes a float32 step must move at least, by the counts above; None for a GEMM or an unknown workload."""
    try:
        workload = workloads.get(job.workload, job.workload_version)
    except WorkloadError:
        return None
    if workload.kind != "training":
        return None
    activations = job.batch_size * workload.activation_bytes_per_image
    if job.task == "inference":
        return ACTIVATION_MOVES_FORWARD * activations + PARAMETER_MOVES_FORWARD * workload.parameter_bytes
    return ACTIVATION_MOVES * activations + PARAMETER_MOVES * workload.parameter_bytes


def _step_flops(job: Job) -> int | None:
    try:
        return workloads.flops_per_step(job)
    except WorkloadError:
        return None
