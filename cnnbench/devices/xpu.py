"""Intel GPUs through SYCL (torch.xpu).

Never run on real hardware by us so far: tested against a fake at torch's edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnbench.devices.base import DevicesFound
from cnnbench.errors import DeviceError
from cnnbench.schema import Device, DeviceKind, Precision

if TYPE_CHECKING:
    import torch


class XpuDevice:
    """The first visible Intel GPU."""

    kind: DeviceKind = "xpu"

    @property
    def device(self) -> torch.device:
        """`torch.device("xpu:0")`."""
        import torch

        return torch.device("xpu", 0)

    def synchronize(self) -> None:
        """Wait for all of the device's queues."""
        import torch

        torch.xpu.synchronize()

    def reset_peaks(self) -> None:
        """Begin new high-water marks, cached blocks given back first."""
        import torch

        torch.xpu.empty_cache()
        torch.xpu.reset_peak_memory_stats()

    def peaks(self) -> tuple[int | None, int | None]:
        """Caching allocator: highest allocated and highest reserved bytes."""
        import torch

        return torch.xpu.max_memory_allocated(), torch.xpu.max_memory_reserved()

    def allocated_bytes(self) -> int | None:
        """The caching allocator's own count."""
        import torch

        return torch.xpu.memory_allocated()

    def unsupported(self, precision: Precision) -> str | None:
        """TF32 is NVIDIA's."""
        return "tf32 is a format of NVIDIA tensor cores" if precision == "tf32" else None


class XpuBackend:
    """Intel."""

    kind: DeviceKind = "xpu"

    def find(self) -> DevicesFound:
        """Only torch knows; the probe process lists them."""
        return DevicesFound(reason="Intel GPUs are listed by the torch probe alone")

    def environment(self, device: Device) -> dict[str, str]:
        """By index, through the level-zero driver's mask."""
        return {"ZE_AFFINITY_MASK": device.id.partition(":")[2]}

    def attach(self, *, threads: int | None, index: int = 0) -> XpuDevice:
        """Raises DeviceError where this torch has no XPU or none is visible."""
        import torch

        if not hasattr(torch, "xpu") or not torch.xpu.is_available():
            raise DeviceError(
                f"torch {torch.__version__} cannot use an Intel GPU: not an XPU build, or none is visible"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        torch.xpu.set_device(0)
        return XpuDevice()
