"""The processors work runs on: one file a vendor, found without torch, attached inside a worker."""

from __future__ import annotations

from cnnbench.devices.base import Attached, Backend, DevicesFound
from cnnbench.devices.cpu import CpuBackend
from cnnbench.devices.cuda import CudaBackend
from cnnbench.devices.mps import MpsBackend
from cnnbench.devices.xpu import XpuBackend
from cnnbench.errors import DeviceError

__all__ = ["Attached", "Backend", "DevicesFound", "backend"]

_BACKENDS: dict[str, Backend] = {
    "cpu": CpuBackend(),
    "cuda": CudaBackend(),
    "mps": MpsBackend(),
    "xpu": XpuBackend(),
}


def backend(device_id: str) -> Backend:
    """The vendor of a device such as `cpu` or `cuda:0`. Raises DeviceError with the kinds there are."""
    kind = device_id.partition(":")[0]
    if kind not in _BACKENDS:
        raise DeviceError(f"device {device_id!r}: {kind!r} is not one of {', '.join(_BACKENDS)}")
    return _BACKENDS[kind]
