"""Intel GPUs through SYCL (torch.xpu).

We have never run it on real hardware: it is tested against a fake of torch's module.
"""

from __future__ import annotations

from cnnbench.devices.base import Backend
from cnnbench.schema import Device


class XpuBackend(Backend):
    """Intel GPUs through torch.xpu."""

    kind = "xpu"
    word = "an Intel GPU"
    profiler_activity = "XPU"

    def environment(self, device: Device) -> dict[str, str]:
        """Choose the GPU by index, in the level-zero driver's mask."""
        return {"ZE_AFFINITY_MASK": device.id.partition(":")[2]}

    def find_obstacle(self) -> str | None:
        """Tell why torch cannot use an Intel GPU here, or None if it can."""
        import torch

        available = hasattr(torch, "xpu") and torch.xpu.is_available()
        return None if available else "not an XPU build, or none is visible"


BACKEND = XpuBackend()
