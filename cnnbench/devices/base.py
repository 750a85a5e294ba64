"""What a device vendor's file declares, and what every vendor's devices have in common.

The rest of cnnbench never calls torch.cuda or torch.mps itself: `torch.accelerator`'s memory and synchronise calls raise
on builds without an accelerator, so every such question goes to the attached device.
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
        """Return when all queued work is done; nothing to do where work is never queued."""
        self._library.synchronize()

    def reset_peaks(self) -> None:
        """Begin new high-water marks of the allocator, what warm-up cached but no longer uses given back first."""
        self._library.empty_cache()
        self._library.reset_peak_memory_stats()

    def peaks(self) -> tuple[int | None, int | None]:
        """Highest allocated and reserved bytes since `reset_peaks`; None where the device has no allocator of its own."""
        return self._library.max_memory_allocated(), self._library.max_memory_reserved()

    def allocated_bytes(self) -> int | None:
        """Bytes the allocator has handed out now, by its own books: never synchronises, never asks the driver."""
        return int(self._library.memory_allocated())


class Backend:
    """One vendor. A file of `vendors/` declares one as `BACKEND`; defaults are those of a vendor that torch treats as CUDA."""

    kind: ClassVar[DeviceKind]
    """In the ids of its devices, in torch's devices, and the name of torch's module for it."""
    other_kinds: ClassVar[tuple[DeviceKind, ...]] = ()
    """Further kinds that its devices may be of."""
    word: ClassVar[str]
    """What a message calls one of its devices."""
    attached: ClassVar[type[Attached]] = Attached
    is_numbered: ClassVar[bool] = True
    """Whether a machine may have several."""
    exchange: ClassVar[str | None] = None
    """torch's name of what exchanges gradients between several; None where none can."""
    profiler_activity: ClassVar[str | None] = None
    """torch's name of what its profiler records of a device; None where it sees the host alone."""

    def find(self) -> tuple[Device, ...]:
        """The accelerators that torch can use, asked in a process of its own."""
        import torch

        if self.find_obstacle() is not None:
            return ()
        library = getattr(torch, self.kind)
        return tuple(
            self.describe_device(index, library.get_device_properties(index)) for index in range(library.device_count())
        )

    def describe_device(self, index: int, properties: Any) -> Device:
        """One of them, by what torch tells of it."""
        memory = getattr(properties, "total_memory", None)
        return Device(id=f"{self.kind}:{index}", kind=self.kind, name=properties.name, memory_bytes=memory)

    def environment(self, device: Device) -> dict[str, str]:
        """Variables that make a worker see this device alone, as its vendor's first; none where a machine has only one."""
        return {}

    def find_obstacle(self) -> str | None:
        """Why torch cannot use a device of this vendor here, or None if it can."""
        return None

    def unsupported(self, precision: Precision) -> str | None:
        """Why its devices cannot compute in `precision`, or None if they can; of the attached device where they differ."""
        return "tf32 is a format of NVIDIA tensor cores" if precision == "tf32" else None

    def attach(self, *, threads: int | None, index: int = 0) -> Attached:
        """Take the device in this process, of several visible ones this one, and set torch's intra-op threads; None leaves
        torch's own choice. Raises DeviceError with the reason if torch cannot use it.
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
