"""What a device vendor's file declares, and what every vendor's devices have in common.

The rest of cnnbench never calls torch.cuda or torch.mps itself: `torch.accelerator`'s memory and synchronise calls raise
on builds without an accelerator, so every such call goes to the attached device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cnnbench.errors import DeviceError
from cnnbench.schema import Device, DeviceKind, Precision

if TYPE_CHECKING:
    import torch


class Attached:
    """One device, ready for work, in the worker that owns it; `library` is torch's module for it, such as `torch.cuda`."""

    def __init__(self, kind: DeviceKind, device: torch.device, library: Any) -> None:
        self.kind, self.device, self._library = kind, device, library

    def synchronize(self) -> None:
        """Wait until all queued work is done; do nothing on a device that never queues work."""
        self._library.synchronize()

    def reset_peaks(self) -> None:
        """Free what warm-up cached but no longer uses, then begin new high-water marks of the allocator."""
        self._library.empty_cache()
        self._library.reset_peak_memory_stats()

    def peaks(self) -> tuple[int | None, int | None]:
        """Read the highest allocated and reserved bytes since `reset_peaks`; None on a device without an allocator."""
        return self._library.max_memory_allocated(), self._library.max_memory_reserved()

    def allocated_bytes(self) -> int | None:
        """Read the bytes now allocated, by the allocator's own count: never synchronises, never asks the driver."""
        return int(self._library.memory_allocated())


class Backend:
    """One vendor, declared as `BACKEND` in a file of `vendors/`; defaults are for one that torch treats as CUDA."""

    kind: ClassVar[DeviceKind]
    """Name in the ids of its devices and of torch's devices, and of torch's module for it."""
    other_kinds: ClassVar[tuple[DeviceKind, ...]] = ()
    """Other kinds that its devices may be of."""
    word: ClassVar[str]
    """Name of one of its devices in messages."""
    attached: ClassVar[type[Attached]] = Attached
    is_numbered: ClassVar[bool] = True
    """Whether a machine may have several of its devices."""
    exchange: ClassVar[str | None] = None
    """torch's backend that exchanges gradients between several devices; None without one."""
    profiler_activity: ClassVar[str | None] = None
    """torch's name of the profiler activity of its devices; None if the profiler sees the host alone."""

    def find(self) -> tuple[Device, ...]:
        """Find the accelerators that torch can use; called in a separate process."""
        import torch

        if self.find_obstacle() is not None:
            return ()
        library = getattr(torch, self.kind)
        return tuple(
            self.describe_device(index, library.get_device_properties(index)) for index in range(library.device_count())
        )

    def describe_device(self, index: int, properties: Any) -> Device:
        """Describe one device by torch's properties of it."""
        memory = getattr(properties, "total_memory", None)
        return Device(id=f"{self.kind}:{index}", kind=self.kind, name=properties.name, memory_bytes=memory)

    def environment(self, device: Device) -> dict[str, str]:
        """Choose the variables that show a worker this device alone; empty if a machine has only one."""
        return {}

    def find_obstacle(self) -> str | None:
        """Explain why torch cannot use a device of this vendor here, or None if it can."""
        return None

    def unsupported(self, precision: Precision) -> str | None:
        """Explain why the attached device (or all) cannot compute in `precision`, or None if it can."""
        return "tf32 is a format of NVIDIA tensor cores" if precision == "tf32" else None

    def attach(self, *, threads: int | None, index: int = 0) -> Attached:
        """Take the device, number `index` of the visible ones, in this process, and set torch's intra-op threads.

        `threads` None leaves torch's own choice. Raises DeviceError with the reason if torch cannot use the device.
        """
        import torch

        if obstacle := self.find_obstacle():
            raise DeviceError(f"torch {torch.__version__} cannot use {self.word}: {obstacle}")
        if threads is not None:
            torch.set_num_threads(threads)
        device, library = torch.device(self.kind), getattr(torch, self.kind)
        if self.is_numbered:
            device = torch.device(self.kind, index)
            library.set_device(index)
            library.init()
        return self.attached(self.kind, device, library)
