"""The inventory of this machine: NVML lists the GPUs present, torch (in a separate process) those it can use, /proc
the rest. A GPU that is present but cannot be used is kept with the reason, never dropped silently.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench.devices import nvml
from cnnbench.errors import DeviceError
from cnnbench.machine.fingerprint import fingerprint
from cnnbench.schema import Device, Machine, Software

PROBE_TIMEOUT_SECONDS = 180.0
HIDDEN = "hidden by CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Inventory:
    """The machine with its devices (unusable ones marked), the software, and the two lists the devices were merged from."""

    machine: Machine
    software: Software
    nvml: nvml.NvmlResult
    torch_devices: tuple[Device, ...]

    @property
    def devices(self) -> tuple[Device, ...]:
        """All devices, the CPU first."""
        return self.machine.devices


def take_inventory(*, visible_devices: str | None = None) -> Inventory:
    """Ask NVML, torch and /proc; `visible_devices` is CUDA_VISIBLE_DEVICES. Raises DeviceError if torch fails."""
    listed = nvml.list_gpus()
    software, usable = probe_torch()
    machine = fingerprint(reconcile(listed.devices, usable, software, visible_devices))
    return Inventory(machine, software.model_copy(update=_git_state()), listed, usable)


def probe_torch() -> tuple[Software, tuple[Device, ...]]:
    """Ask torch in a short-lived process. Raises DeviceError with the last line it printed."""
    command = [sys.executable, "-m", "cnnbench.engine.torch_info"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"torch did not start within {PROBE_TIMEOUT_SECONDS:.0f} s; try `python -c 'import torch'`"
        ) from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DeviceError(f"torch does not start here: {last}; reinstall it (`pip install torch`), see docs/install.md")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return Software(**answer["software"]), tuple(Device(**device) for device in answer["devices"])


def reconcile(
    present: Sequence[Device], usable: Sequence[Device], software: Software, visible_devices: str | None = None
) -> tuple[Device, ...]:
    """Merge NVML's GPUs with torch's facts about each (by UUID), then add those only torch knows (ROCm, MIG)."""
    by_uuid = {device.uuid: device for device in usable if device.uuid is not None}
    merged = []
    for gpu in present:
        seen = by_uuid.pop(gpu.uuid or "", None)
        if seen is None:
            found = {"usable": False, "unusable_reason": _explain_unusable(gpu, software, visible_devices)}
        else:
            found = {"multiprocessors": seen.multiprocessors, "capability": seen.capability}
        merged.append(gpu.model_copy(update=found))
    taken = {device.id for device in merged}
    for device in usable:
        if device.uuid is None or device.uuid in by_uuid:
            fresh = device.id if device.id not in taken else f"cuda:{len(taken)}"
            taken.add(fresh)
            merged.append(device.model_copy(update={"id": fresh}))
    return tuple(merged)


def _explain_unusable(gpu: Device, software: Software, visible_devices: str | None) -> str:
    if visible_devices is not None:
        return HIDDEN
    if gpu.mig:
        return "it is split by MIG; torch sees its instances, not the whole"
    if software.torch_build == "cpu":
        return f"torch {software.torch} is a CPU build; install a CUDA build (see docs/install.md)"
    driver = gpu.driver or "of unknown version"
    return f"torch {software.torch} ({software.torch_build}) cannot use it; its driver {driver} may be too old"


def select(devices: Sequence[Device], wanted: str) -> tuple[Device, ...]:
    """Select the devices of `--device`: `auto`, `all`, or a list such as `cpu,cuda:0`; `cuda` means every GPU of that kind, `gpu`
    every GPU.

    `auto` is the CPU and every GPU, and raises DeviceError if torch cannot use a GPU that is present (unless the user
    hid it); `all` takes that GPU too, and its jobs end as `unsupported`. Raises DeviceError for a device that is not
    here.
    """
    shown = [device for device in devices if device.unusable_reason != HIDDEN]
    if wanted in ("all", "auto"):
        broken = [f"{device.id} ({device.name}): {device.unusable_reason}" for device in shown if not device.usable]
        if broken and wanted == "auto":
            raise DeviceError(
                "a GPU is present that torch cannot use, so `auto` will not quietly measure the CPU alone:\n  "
                + "\n  ".join(broken)
                + "\nmake it usable, or give `--device cpu`"
            )
        return tuple(shown)
    chosen = []
    for name in (part.strip() for part in wanted.split(",")):
        matches = [device for device in devices if device.id == name or device.id.startswith(f"{name}:")]
        matches += [device for device in shown if name == "gpu" and device.kind != "cpu"]
        if not matches:
            known = ", ".join(f"{device.id} ({device.name})" for device in devices)
            raise DeviceError(f"device {name!r} is not here; there are: {known}")
        chosen.extend([device for device in matches if device not in chosen])
    return tuple(chosen)


def _git_state() -> dict[str, str | bool]:
    """Read the cnnbench checkout's commit and whether it was changed; empty for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {}
    command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    # `# branch.oid 1a2b...`, further lines about the branch, then the changes
    commit, *others = done.stdout.splitlines()
    if commit.endswith("(initial)"):  # nothing was committed yet
        return {}
    return {"git_commit": commit.split()[-1], "git_dirty": not all(line.startswith("#") for line in others)}
