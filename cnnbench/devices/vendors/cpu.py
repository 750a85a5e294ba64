"""The CPU: work is done when the call returns, so synchronising does nothing; it has no allocator of its own."""

from __future__ import annotations

import platform
from pathlib import Path

from cnnbench.devices.base import Attached, Backend
from cnnbench.devices.host_sensors import read_lines
from cnnbench.schema import Device, Precision


class CpuDevice(Attached):
    """The CPU with its intra-op threads set."""

    def synchronize(self) -> None:
        """Do nothing: nothing is queued, which the canary checks."""

    def reset_peaks(self) -> None:
        """Do nothing: the host's high-water mark is the process's, see engine.process."""

    def peaks(self) -> tuple[int | None, int | None]:
        """Return None: the CPU has no allocator of its own."""
        return None, None

    def allocated_bytes(self) -> int | None:
        """Return None: the CPU has no allocator of its own."""
        return None


class CpuBackend(Backend):
    """The CPU, which every machine has; the machine's fingerprint describes it."""

    kind = "cpu"
    word = "the CPU"
    attached = CpuDevice
    is_numbered = False
    exchange = "gloo"

    def find(self) -> tuple[Device, ...]:
        """Find no accelerator."""
        return ()

    def environment(self, device: Device) -> dict[str, str]:
        """Hide all GPUs, so that none is used by accident."""
        return {"CUDA_VISIBLE_DEVICES": ""}

    def unsupported(self, precision: Precision) -> str | None:
        """Refuse TF32, a tensor-core format, and formats that this CPU emulates: a run would time the emulation."""
        if precision == "tf32":
            return "tf32 is a format of NVIDIA tensor cores; a CPU has fp32 and bf16"
        if precision == "fp16":
            return "fp16 on a CPU is mostly emulated; use bf16 or fp32"
        if precision == "bf16" and not _has_bf16():
            return "bf16 needs AVX512-BF16, AMX or Arm's BF16: without them a convolution is emulated, several times slower"
        return None


def _has_bf16() -> bool:
    """Tell whether the processor multiplies bfloat16 itself, by torch's tests or, on Arm, by the kernel's flags."""
    import torch

    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        if getattr(torch.cpu, name, lambda: False)():
            return True
    flags = (line for line in read_lines(Path("/proc/cpuinfo")) if line.startswith("Features"))
    return platform.machine().lower() in ("aarch64", "arm64") and any("bf16" in line.split() for line in flags)


BACKEND = CpuBackend()
