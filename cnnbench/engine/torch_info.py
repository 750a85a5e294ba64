"""What torch is and sees here, asked in a process of its own so that the runner never imports torch.

Run as `python -m cnnbench.engine.torch_info`; prints one JSON object: `software` (schema.Software less the git fields, which
the parent knows) and `devices` (schema.Device of every accelerator torch can use).
"""

from __future__ import annotations

import json
import platform
import sys
from typing import Any

import numpy
import torch

from cnnbench import __version__
from cnnbench.schema import Device, Software


def collect_torch_info() -> tuple[Software, tuple[Device, ...]]:
    """Versions and usable accelerators."""
    software = Software(
        cnnbench=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        torch_build=_build(),
        cudnn=_cudnn(),
        blas=_config("BLAS_INFO="),
        onednn=_onednn(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        numpy=numpy.__version__,
    )
    return software, (*_cuda_devices(), *_mps_devices(), *_xpu_devices())


def _build() -> str:
    if torch.version.hip is not None:
        return f"rocm {torch.version.hip}"
    return "cpu" if torch.version.cuda is None else f"cuda {torch.version.cuda}"


def _cudnn() -> str | None:
    cudnn: Any = torch.backends.cudnn
    version = cudnn.version() if cudnn.is_available() else None
    return None if version is None else str(version)


def _config(key: str) -> str | None:
    _, found, rest = torch.__config__.show().partition(key)
    return rest.split(",")[0].strip() if found else None


def _onednn() -> str | None:
    _, found, rest = torch.__config__.show().partition("MKL-DNN ")
    return rest.split(" ")[0] if found else None


def _cuda_devices() -> tuple[Device, ...]:
    if not torch.cuda.is_available():
        return ()
    kind = "rocm" if torch.version.hip is not None else "cuda"
    devices = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        uuid = str(getattr(properties, "uuid", "")) or None
        devices.append(
            Device(
                id=f"cuda:{index}",
                kind=kind,  # type: ignore[arg-type]
                name=properties.name,
                uuid=uuid if uuid is None or uuid.startswith("GPU-") or kind == "rocm" else f"GPU-{uuid}",
                memory_bytes=properties.total_memory,
                capability=getattr(properties, "gcnArchName", None) or f"{properties.major}.{properties.minor}",
                multiprocessors=properties.multi_processor_count,
            )
        )
    return tuple(devices)


def _mps_devices() -> tuple[Device, ...]:
    if not torch.backends.mps.is_available():
        return ()
    return (Device(id="mps", kind="mps", name=f"{platform.processor() or 'Apple'} GPU"),)


def _xpu_devices() -> tuple[Device, ...]:
    if not hasattr(torch, "xpu") or not torch.xpu.is_available():
        return ()
    devices = []
    for index in range(torch.xpu.device_count()):
        properties = torch.xpu.get_device_properties(index)
        memory = getattr(properties, "total_memory", None)
        devices.append(Device(id=f"xpu:{index}", kind="xpu", name=properties.name, memory_bytes=memory))
    return tuple(devices)


if __name__ == "__main__":
    found_software, found_devices = collect_torch_info()
    json.dump(
        {"software": found_software.model_dump(), "devices": [device.model_dump() for device in found_devices]},
        sys.stdout,
    )
