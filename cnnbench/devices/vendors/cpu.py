"""The CPU: work is done when the call returns, so there is nothing to synchronise and no allocator of its own."""

from __future__ import annotations

import platform
from pathlib import Path

from cnnbench.devices.base import Attached, Backend
from cnnbench.devices.host_sensors import read_lines
from cnnbench.schema import Device, Precision


class CpuDevice(Attached):
    """The CPU with its intra-op threads set."""

    def synchronize(self) -> None:
        """Nothing is queued; the canary checks that this is true."""

    def reset_peaks(self) -> None:
        """The host's high-water mark is the process's, see engine.process."""

    def peaks(self) -> tuple[int | None, int | None]:
        """No allocator of its own."""
        return None, None

    def allocated_bytes(self) -> int | None:
        """No allocator of its own."""
        return None


class CpuBackend(Backend):
    """Always there; what it is stands in the machine's fingerprint."""

    kind = "cpu"
    word = "the CPU"
    attached = CpuDevice
    is_numbered = False
    exchange = "gloo"

    def find(self) -> tuple[Device, ...]:
        """No accelerator."""
        return ()

    def environment(self, device: Device) -> dict[str, str]:
        """No GPU is visible, so none can be used by accident."""
        return {"CUDA_VISIBLE_DEVICES": ""}

    def unsupported(self, precision: Precision) -> str | None:
        """TF32 is a tensor-core format; float16 arithmetic on CPUs is emulated and would measure the emulation."""
        if precision == "tf32":
            return "tf32 is a format of NVIDIA tensor cores; a CPU has fp32 and bf16"
        if precision == "fp16":
            return "fp16 on a CPU is mostly emulated; use bf16 or fp32"
        if precision == "bf16" and not _has_bf16():
            return "bf16 needs AVX512-BF16, AMX or Arm's BF16: without them a convolution is emulated, several times slower"
        return None


def _has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; torch's own word where it has one, on Arm the kernel's list of flags."""
    import torch

    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        if getattr(torch.cpu, name, lambda: False)():
            return True
    flags = (line for line in read_lines(Path("/proc/cpuinfo")) if line.startswith("Features"))
    return platform.machine().lower() in ("aarch64", "arm64") and any("bf16" in line.split() for line in flags)


BACKEND = CpuBackend()
