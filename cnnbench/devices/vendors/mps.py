"""Apple GPUs through Metal. Memory is shared with the host; torch reports what is allocated now, not a peak.

Never run on real hardware by us so far: tested against a fake at torch's edge.
"""

from __future__ import annotations

import platform

from cnnbench.devices.base import Attached, Backend
from cnnbench.schema import Device


class MpsDevice(Attached):
    """The one Apple GPU."""

    def reset_peaks(self) -> None:
        """Metal keeps no high-water mark; only cached blocks are given back."""
        self._library.empty_cache()

    def peaks(self) -> tuple[int | None, int | None]:
        """Unknown: torch.mps tells the present, not the highest; polling would disturb and miss it."""
        return None, None

    def allocated_bytes(self) -> int | None:
        """The allocator's own count, cached blocks left out."""
        return int(self._library.current_allocated_memory())


class MpsBackend(Backend):
    """Apple silicon."""

    kind = "mps"
    word = "the Apple GPU"
    attached = MpsDevice
    is_numbered = False

    def find(self) -> tuple[Device, ...]:
        """The one GPU, where torch was built with Metal."""
        if self.find_obstacle() is not None:
            return ()  # before the name is asked for, which starts `uname`
        return (Device(id="mps", kind="mps", name=f"{platform.processor() or 'Apple'} GPU"),)

    def find_obstacle(self) -> str | None:
        """torch was not built with Metal, or the system is too old for it."""
        import torch

        if torch.backends.mps.is_available():
            return None
        built = torch.backends.mps.is_built()
        return "macOS is too old for it or no Apple GPU is there" if built else "this build of torch lacks Metal"


BACKEND = MpsBackend()
