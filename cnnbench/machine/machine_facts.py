"""The machine as a flat object that is the same in every run on it, and in words how two of them differ.

Enters the fingerprint and the environment; leaves plain JSON values for the `machine_info` of pytest-benchmark. Nothing
that changes from run to run is in it: no clock of the moment, load, host name or serial number, memory in whole GiB.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench import units
from cnnbench.devices import nvml
from cnnbench.machine.fingerprint import cpu_device, fingerprint
from cnnbench.schema import Device, Machine

KEY = "cnnbench"
"""The facts' key in a `machine_info`."""
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "KMP_AFFINITY", "CUDA_VISIBLE_DEVICES"),
    *("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "LD_PRELOAD"),
)
"""Of the environment: what sets threads, hides devices or changes the allocator (worth 5 to 10 % of a step on a CPU)."""
FACT_NAMES = {
    "cpu": "processor",
    "cores_allowed": "cores allowed",
    "cores_logical": "logical cores",
    "memory_gib": "memory [GiB]",
    "hypervisor": "hypervisor",
    "governor": "governor",
    "turbo": "turbo",
    "os": "system",
    "kernel": "kernel",
    "devices": "accelerators",
    "python": "Python",
    "torch": "torch",
    "environment": "environment",
}
"""What each fact is called where two machines are held against each other; `machine_id` follows from them."""


def collect_facts(environment: Mapping[str, str]) -> dict[str, Any]:
    """The facts of this machine, without torch (its version is that of the installed package). GPUs are those NVML lists."""
    machine = fingerprint((cpu_device(), *nvml.list_gpus().devices))
    return describe_machine(
        machine, python=platform.python_version(), torch=_installed("torch"), environment=environment
    )


def describe_machine(
    machine: Machine, *, python: str, torch: str | None, environment: Mapping[str, str] | None
) -> dict[str, Any]:
    """The facts of a machine as JSON values; without `environment` where that is not known (None)."""
    return {
        "machine_id": machine.id,
        "cpu": machine.cpu_name,
        "cores_allowed": machine.cores_allowed,
        "cores_logical": machine.cores_logical,
        "memory_gib": round(machine.memory_bytes / 2**30),
        "hypervisor": machine.hypervisor,
        "governor": machine.governor,
        "turbo": machine.turbo,
        "os": machine.os,
        "kernel": machine.kernel,
        "devices": [_device(device) for device in machine.devices],
        "python": python,
        "torch": torch,
        **(
            {}
            if environment is None
            else {"environment": {name: environment[name] for name in VARIABLES if name in environment}}
        ),
    }


def _device(device: Device) -> dict[str, Any]:
    return {
        "id": device.id,
        "kind": device.kind,
        "name": device.name,
        "memory_gib": None if device.memory_bytes is None else round(device.memory_bytes / 2**30),
        "driver": device.driver,
        "power_limit_watts": device.power_limit_watts,
        "mig": device.mig,
    }


def list_differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> tuple[str, ...]:
    """Each fact that differs as `processor: AMD EPYC here, Intel i7 there`; a fact that either side lacks is none."""
    found = [
        f"{words}: {_text(here[key])} here, {_text(there[key])} there"
        for key, words in FACT_NAMES.items()
        if key in here and key in there and _text(here[key]) != _text(there[key])
    ]
    if not found and here.get("machine_id") != there.get("machine_id"):
        found = [f"machine: {_text(here.get('machine_id'))} here, {_text(there.get('machine_id'))} there"]
    return tuple(found)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={each}" for name, each in sorted(value.items())) or "none set"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(_describe_device(each) for each in value) or "none"
    return units.NOT_AVAILABLE if value is None else str(value)


def _describe_device(device: object) -> str:
    """A device in words; the CPU's name is a fact of its own, so here it is its place alone."""
    if not isinstance(device, Mapping):
        return str(device)
    if device.get("kind") == "cpu":
        return "cpu"
    parts = [f"{device.get('id')} {device.get('name')}"]
    parts += [f"driver {device['driver']}"] if device.get("driver") else []
    parts += [f"{device['power_limit_watts']:g} W"] if isinstance(device.get("power_limit_watts"), int | float) else []
    parts += ["MIG"] if device.get("mig") else []
    return ", ".join(parts)


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
