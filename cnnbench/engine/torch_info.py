"""torch's version, build and devices, asked in a separate process so that the runner never imports torch.

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
from cnnbench.devices import list_backends
from cnnbench.schema import Device, Software


def collect_torch_info() -> tuple[Software, tuple[Device, ...]]:
    """Collect versions and the accelerators that torch can use."""
    hip, cuda = torch.version.hip, torch.version.cuda
    cudnn: Any = torch.backends.cudnn
    software = Software(
        cnnbench=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        torch_build=f"rocm {hip}" if hip is not None else f"cuda {cuda}" if cuda is not None else "cpu",
        cudnn=str(cudnn.version()) if cudnn.is_available() and cudnn.version() is not None else None,
        blas=_read_config("BLAS_INFO=", ","),
        onednn=_read_config("MKL-DNN ", " "),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        numpy=numpy.__version__,
    )
    return software, tuple(device for each in list_backends().values() for device in each.find())


def _read_config(key: str, end: str) -> str | None:
    """Read the text between the key and `end` in torch's description of its build."""
    _, found, rest = torch.__config__.show().partition(key)
    return rest.split(end)[0].strip() if found else None


if __name__ == "__main__":
    found_software, found_devices = collect_torch_info()
    json.dump(
        {"software": found_software.model_dump(), "devices": [device.model_dump() for device in found_devices]},
        sys.stdout,
    )
