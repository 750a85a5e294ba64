"""Intel GPUs through SYCL (torch.xpu).

Never run on real hardware by us so far: tested against a fake at torch's edge.
"""

from __future__ import annotations

from cnnbench.devices.base import Backend
from cnnbench.schema import Device


class XpuBackend(Backend):
    """Intel."""

    kind = "xpu"
    word = "an Intel GPU"
    profiler_activity = "XPU"

    def environment(self, device: Device) -> dict[str, str]:
        """By index, through the level-zero driver's mask."""
        return {"ZE_AFFINITY_MASK": device.id.partition(":")[2]}

    def find_obstacle(self) -> str | None:
        """This torch has no XPU, or none is visible."""
        import torch

        available = hasattr(torch, "xpu") and torch.xpu.is_available()
        return None if available else "not an XPU build, or none is visible"


BACKEND = XpuBackend()
