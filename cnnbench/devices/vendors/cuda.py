"""NVIDIA GPUs through CUDA, and AMD GPUs through ROCm, which torch shows under the same names.

Present devices are listed by NVML too (`machine.inventory`), and chosen by UUID: the runner sets CUDA_VISIBLE_DEVICES
to it, so the worker always sees exactly one device and calls it `cuda:0`. The processes of one job see all of its
devices; each uses one of them.
"""

from __future__ import annotations

from typing import Any

from cnnbench.devices.base import Backend
from cnnbench.schema import Device, Precision


class CudaBackend(Backend):
    """NVIDIA GPUs, and AMD's by the same torch calls."""

    kind = "cuda"
    other_kinds = ("rocm",)  # their ids begin with `cuda` too
    word = "the GPU"
    exchange = "nccl"
    profiler_activity = "CUDA"

    def describe_device(self, index: int, properties: Any) -> Device:
        """Describe the device with its architecture, multiprocessors and, if torch has it, UUID."""
        import torch

        amd = torch.version.hip is not None
        uuid = str(getattr(properties, "uuid", ""))
        return Device(
            id=f"cuda:{index}",
            kind="rocm" if amd else "cuda",
            name=properties.name,
            uuid=(uuid if amd or not uuid else f"GPU-{uuid.removeprefix('GPU-')}") or None,
            memory_bytes=properties.total_memory,
            capability=getattr(properties, "gcnArchName", None) or f"{properties.major}.{properties.minor}",
            multiprocessors=properties.multi_processor_count,
        )

    def environment(self, device: Device) -> dict[str, str]:
        """Choose the GPU by UUID on NVIDIA, so that order and other variables do not matter, and by index on ROCm."""
        index = device.id.partition(":")[2]
        if device.kind == "rocm":
            return {"HIP_VISIBLE_DEVICES": index}
        return {"CUDA_VISIBLE_DEVICES": device.uuid or index}

    def find_obstacle(self) -> str | None:
        """Tell a build without CUDA from a missing GPU or driver; None if torch can use the GPU."""
        import torch

        if torch.cuda.is_available():
            return None
        if (torch.version.cuda or torch.version.hip) is None:
            return "this build of torch is CPU-only"
        return "no device visible, or its driver is too old"

    def unsupported(self, precision: Precision) -> str | None:
        """Refuse TF32 and bf16 below compute capability 8.0 on NVIDIA; fp32 and fp16 run everywhere."""
        import torch

        if torch.version.hip is not None:
            return super().unsupported(precision)
        if precision not in ("tf32", "bf16"):
            return None
        capability = torch.cuda.get_device_capability()
        if capability >= (8, 0):  # Ampere, the first with tensor cores for both
            return None
        return f"{precision} needs compute capability 8.0, this device has {capability[0]}.{capability[1]}"


BACKEND = CudaBackend()
