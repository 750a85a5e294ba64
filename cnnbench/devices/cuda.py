"""NVIDIA GPUs through CUDA, and AMD GPUs through ROCm, which torch shows under the same names.

Devices are found through NVML (no torch) and chosen by UUID: the runner sets CUDA_VISIBLE_DEVICES to it, so the worker
always sees exactly one device and calls it `cuda:0`. The processes of one job see all of its devices; each takes its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnbench.devices import nvml
from cnnbench.devices.base import DevicesFound
from cnnbench.errors import DeviceError
from cnnbench.schema import Device, DeviceKind, Precision

if TYPE_CHECKING:
    import torch

TENSOR_FLOAT_CAPABILITY = (8, 0)
"""TF32 and bf16 tensor cores came with compute capability 8.0 (Ampere)."""


class CudaDevice:
    """The one visible GPU, or of several the one of this index."""

    kind: DeviceKind = "cuda"

    def __init__(self, index: int = 0) -> None:
        self._index = index

    @property
    def device(self) -> torch.device:
        """`torch.device("cuda:0")`."""
        import torch

        return torch.device("cuda", self._index)

    def synchronize(self) -> None:
        """Wait for every stream of the device."""
        import torch

        torch.cuda.synchronize()

    def reset_peaks(self) -> None:
        """Begin new high-water marks, what warm-up cached but no longer uses given back first."""
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peaks(self) -> tuple[int | None, int | None]:
        """Caching allocator: highest allocated and highest reserved bytes."""
        import torch

        return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()

    def allocated_bytes(self) -> int | None:
        """The caching allocator's own count."""
        import torch

        return torch.cuda.memory_allocated()

    def unsupported(self, precision: Precision) -> str | None:
        """TF32 and bf16 need compute capability 8.0 on NVIDIA; fp32 and fp16 run everywhere."""
        import torch

        if torch.version.hip is None and precision in ("tf32", "bf16"):
            capability = torch.cuda.get_device_capability()
            if capability < TENSOR_FLOAT_CAPABILITY:
                return f"{precision} needs compute capability 8.0, this device has {capability[0]}.{capability[1]}"
        if torch.version.hip is not None and precision == "tf32":
            return "tf32 is a format of NVIDIA tensor cores"
        return None


class CudaBackend:
    """NVIDIA, and AMD by the same torch calls."""

    kind: DeviceKind = "cuda"

    def find(self) -> DevicesFound:
        """NVML's list; AMD's GPUs are found by the torch probe alone."""
        result = nvml.list_gpus()
        return DevicesFound(result.devices, result.reason)

    def environment(self, device: Device) -> dict[str, str]:
        """By UUID on NVIDIA, so that order and other variables do not matter; by index on ROCm."""
        index = device.id.partition(":")[2]
        if device.kind == "rocm":
            return {"HIP_VISIBLE_DEVICES": index}
        return {"CUDA_VISIBLE_DEVICES": device.uuid or index}

    def attach(self, *, threads: int | None, index: int = 0) -> CudaDevice:
        """Make the context. Raises DeviceError with torch's reason where torch cannot use the GPU."""
        import torch

        if not torch.cuda.is_available():
            build = torch.version.cuda or torch.version.hip
            why = "this build of torch is CPU-only" if build is None else "no device visible, or its driver is too old"
            raise DeviceError(f"torch {torch.__version__} cannot use the GPU: {why}")
        if threads is not None:
            torch.set_num_threads(threads)
        torch.cuda.set_device(index)
        torch.cuda.init()  # type: ignore[no-untyped-call]
        return CudaDevice(index)
