"""Apple GPUs through Metal. Memory is shared with the host; torch reports what is allocated now, not a peak.

Never run on real hardware by us so far: tested against a fake at torch's edge.
"""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

from cnnbench.devices.base import DevicesFound
from cnnbench.errors import DeviceError
from cnnbench.schema import Device, DeviceKind, Precision

if TYPE_CHECKING:
    import torch


class MpsDevice:
    """The one Apple GPU."""

    kind: DeviceKind = "mps"

    @property
    def device(self) -> torch.device:
        """`torch.device("mps")`."""
        import torch

        return torch.device("mps")

    def synchronize(self) -> None:
        """Wait for Metal's command queue."""
        import torch

        torch.mps.synchronize()

    def reset_peaks(self) -> None:
        """Metal keeps no high-water mark; only cached blocks are given back."""
        import torch

        torch.mps.empty_cache()

    def peaks(self) -> tuple[int | None, int | None]:
        """Unknown: torch.mps tells the present, not the highest; polling would disturb and miss it."""
        return None, None

    def allocated_bytes(self) -> int | None:
        """The allocator's own count, cached blocks left out."""
        import torch

        return torch.mps.current_allocated_memory()

    def unsupported(self, precision: Precision) -> str | None:
        """TF32 is NVIDIA's."""
        return "tf32 is a format of NVIDIA tensor cores" if precision == "tf32" else None


class MpsBackend:
    """Apple silicon."""

    kind: DeviceKind = "mps"

    def find(self) -> DevicesFound:
        """The GPU of an arm64 Mac, without torch."""
        if sys.platform != "darwin" or platform.machine() != "arm64":
            return DevicesFound(reason="not an Apple silicon Mac")
        return DevicesFound((Device(id="mps", kind="mps", name="Apple GPU"),))

    def environment(self, device: Device) -> dict[str, str]:
        """There is only one."""
        return {}

    def attach(self, *, threads: int | None, index: int = 0) -> MpsDevice:
        """Raises DeviceError where torch was not built with Metal or the system is too old for it."""
        import torch

        if not torch.backends.mps.is_available():
            built = torch.backends.mps.is_built()
            why = "macOS is too old for it or no Apple GPU is there" if built else "this build of torch lacks Metal"
            raise DeviceError(f"torch {torch.__version__} cannot use the Apple GPU: {why}")
        if threads is not None:
            torch.set_num_threads(threads)
        return MpsDevice()
