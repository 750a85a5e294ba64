"""What a device vendor's file gives: `find()` without torch, `attach()` inside the worker.

The rest of cnnbench never calls torch.cuda or torch.mps itself: `torch.accelerator`'s memory and synchronise calls raise
on builds without an accelerator, so every such question goes to the attached device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cnnbench.schema import Device, DeviceKind, Precision

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class DevicesFound:
    """Devices of one vendor, and why there are none where the question could not be answered."""

    devices: tuple[Device, ...] = ()
    reason: str | None = None


class Attached(Protocol):
    """One device, ready for work, in the worker that owns it."""

    kind: DeviceKind

    @property
    def device(self) -> torch.device:
        """Where tensors go."""
        ...

    def synchronize(self) -> None:
        """Return when all queued work is done; nothing to do where work is never queued."""
        ...

    def reset_peaks(self) -> None:
        """Begin new high-water marks of the allocator."""
        ...

    def peaks(self) -> tuple[int | None, int | None]:
        """Highest allocated and reserved bytes since `reset_peaks`; None where the device has no allocator of its own."""
        ...

    def allocated_bytes(self) -> int | None:
        """Bytes the allocator has handed out now, by its own books: never synchronises, never asks the driver."""
        ...

    def unsupported(self, precision: Precision) -> str | None:
        """Why this device cannot compute in `precision`, or None if it can."""
        ...


class Backend(Protocol):
    """One vendor."""

    kind: DeviceKind

    def find(self) -> DevicesFound:
        """The vendor's devices, without importing torch, in well under a second."""
        ...

    def environment(self, device: Device) -> dict[str, str]:
        """Variables that make a worker see this device alone, as its vendor's first."""
        ...

    def attach(self, *, threads: int | None, index: int = 0) -> Attached:
        """Take the device in this process, of several visible ones this one. Raises DeviceError if torch cannot use it."""
        ...
