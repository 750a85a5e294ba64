"""Apple GPUs through Metal. Memory is shared with the host; torch reports what is allocated now, not a peak.

We have never run it on real hardware: it is tested against a fake of torch's module.
"""

from __future__ import annotations

import platform

from cnnbench.devices.base import Attached, Backend
from cnnbench.schema import Device


class MpsDevice(Attached):
    """The one Apple GPU."""

    def reset_peaks(self) -> None:
        """Free cached blocks only: Metal keeps no high-water mark."""
        self._library.empty_cache()

    def peaks(self) -> tuple[int | None, int | None]:
        """Return None: torch.mps reports present bytes, not the highest; polling would disturb and miss it."""
        return None, None

    def allocated_bytes(self) -> int | None:
        """Read the allocator's own count, without cached blocks."""
        return int(self._library.current_allocated_memory())


class MpsBackend(Backend):
    """Apple GPUs through Metal."""

    kind = "mps"
    word = "the Apple GPU"
    attached = MpsDevice
    is_numbered = False

    def find(self) -> tuple[Device, ...]:
        """Find the one GPU, if torch was built with Metal."""
        if self.find_obstacle() is not None:
            return ()  # before the name is asked for, which starts `uname`
        return (Device(id="mps", kind="mps", name=f"{platform.processor() or 'Apple'} GPU"),)

    def find_obstacle(self) -> str | None:
        """Tell a build without Metal from a system that is too old for it; None if torch can use the GPU."""
        import torch

        if torch.backends.mps.is_available():
            return None
        built = torch.backends.mps.is_built()
        return "macOS is too old for it or no Apple GPU is there" if built else "this build of torch lacks Metal"


BACKEND = MpsBackend()
