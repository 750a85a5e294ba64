"""What is wrong with this machine for benchmarking, and what to do about it.

`probe_host` asks (load, swap, compiler, the GPUs' state); `diagnose` judges, a pure function of what was asked. Each
check answers with findings: `ok`, `note` (know it when comparing), `warning` (numbers will suffer), `unfit` (a run would
be worthless). What could not be read gives no finding: the fingerprint and the telemetry already say so.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cnnbench.devices import host_sensors
from cnnbench.devices.nvml import SLOWED, NvmlResult
from cnnbench.devices.telemetry import sample
from cnnbench.schema import Device, Frozen, Machine, Software, Telemetry
from cnnbench.units import data_size, percent

Severity = Literal["ok", "note", "warning", "unfit"]

IDLE_LOAD_PER_CORE = 0.1
"""A judgement: above it more than a tenth of the cores are busy with something else."""

HIGH_STEAL = 0.01
"""A hundredth of the time given to other guests is a hundredth of every figure."""

LITTLE_MEMORY_BYTES = 2 << 30
TOO_LITTLE_MEMORY_BYTES = 1 << 29
"""A judgement: torch alone takes hundreds of MiB before the first batch, and a large batch that much again."""

SWAP_NOTICED_BYTES = 64 << 20
"""Long-idle pages of other programs may well be swapped out; more than this says that memory ran short."""

HOT_CELSIUS = 85.0
"""A judgement: this hot before any work, a GPU will slow down under it; the throttle reasons say when it does."""

COMPILERS = ("g++", "clang++", "c++")


class DoctorFinding(Frozen):
    """One thing seen: what, with a number, and what to do (empty where all is well)."""

    code: str
    severity: Severity
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class HostState:
    """What is asked for the doctor alone. `steal_share` is the part of all CPU time since boot taken by other guests."""

    load_1min: float | None = None
    steal_share: float | None = None
    swap_used_bytes: int | None = None
    memory_available_bytes: int | None = None
    compiler: str | None = None
    gpu_states: Mapping[str, Telemetry] = field(default_factory=dict)


@dataclass(frozen=True)
class _Host:
    machine: Machine
    software: Software | None
    gpus: NvmlResult
    torch_gpus: Sequence[Device] | None
    state: HostState


def probe_host(
    gpus: NvmlResult,
    *,
    proc: Path = Path("/proc"),
    sys: Path = Path("/sys"),
    which: Callable[[str], str | None] = shutil.which,
    library: Any = None,
) -> HostState:
    """Ask for what `diagnose` needs beside the fingerprint: milliseconds, and a time limit a GPU. Never raises."""
    state = sample(None, proc=proc, sys=sys)
    memory = {key: _meminfo(proc, key) for key in ("MemAvailable", "SwapTotal", "SwapFree")}
    total, free = memory["SwapTotal"], memory["SwapFree"]
    return HostState(
        load_1min=state.load_1min,
        steal_share=_steal_share(proc),
        swap_used_bytes=None if total is None or free is None else total - free,
        memory_available_bytes=memory["MemAvailable"],
        compiler=next((path for name in COMPILERS if (path := which(name)) is not None), None),
        gpu_states={gpu.id: sample(gpu.uuid, proc=proc, sys=sys, library=library) for gpu in gpus.devices if gpu.uuid},
    )


def diagnose(
    machine: Machine,
    software: Software | None,
    gpus: NvmlResult,
    torch_gpus: Sequence[Device] | None,
    state: HostState,
) -> tuple[DoctorFinding, ...]:
    """Every finding, the gravest first, otherwise in the order of the checks.

    `software` is None where torch could not be started; `torch_gpus` are the GPUs torch can use, None where unknown.
    """
    this_host = _Host(machine, software, gpus, torch_gpus, state)
    found = [finding for check in _CHECKS for finding in check(this_host)]
    ranks = ("unfit", "warning", "note", "ok")
    return tuple(sorted(found, key=lambda finding: ranks.index(finding.severity)))


def is_unfit(findings: Sequence[DoctorFinding]) -> bool:
    """Whether a run here would be worthless (exit code 3)."""
    return any(finding.severity == "unfit" for finding in findings)


def _find(code: str, severity: Severity, message: str, remedy: str = "") -> DoctorFinding:
    """Make a finding; where all is well there is nothing to do."""
    return DoctorFinding(code=code, severity=severity, message=message, remedy="" if severity == "ok" else remedy)


def _torch(host: _Host) -> Iterator[DoctorFinding]:
    software, gpus = host.software, host.gpus.devices
    if software is None:
        yield _find(
            "torch",
            "unfit",
            "torch could not be started: 0 jobs can run",
            "Install torch as README says, then run `cnnbench doctor` again",
        )
        return
    usable = {_strip_prefix(device.uuid) for device in host.torch_gpus or ()}
    unused = [gpu for gpu in gpus if _strip_prefix(gpu.uuid) not in usable and not _is_excused(host.machine, gpu)]
    if unused and host.torch_gpus is not None:
        yield _explain_unused(host, software, unused)
    else:
        yield _find("torch", "ok", f"torch {software.torch} ({software.torch_build}) runs")


def _explain_unused(host: _Host, software: Software, unused: Sequence[Device]) -> DoctorFinding:
    """Why torch cannot use these GPUs, in the order in which the causes exclude one another."""
    build, driver = software.torch_build, host.gpus.driver_cuda
    seen = f"{len(unused)} of {len(host.gpus.devices)} GPUs ({unused[0].name}) cannot be used by torch"
    if build.startswith("cpu"):
        return _find(
            "torch-cpu-build",
            "unfit",
            f"{seen} {software.torch}: it is a CPU build",
            "Install a CUDA build of torch, or run with `--device cpu` on purpose",
        )
    wanted = re.search(r"cuda (\d+)", build)
    if wanted is not None and driver is not None and int(wanted[1]) > int(driver.partition(".")[0]):
        why = f"it is built for {build}, driver {unused[0].driver} supports CUDA {driver} at most"
        return _find(
            "driver-too-old",
            "unfit",
            f"{seen}: {why}",
            f"Update the NVIDIA driver, or install a torch built for CUDA {driver.partition('.')[0]}",
        )
    why = unused[0].unusable_reason or f"torch {software.torch} ({build}) does not list it"
    return _find(
        "gpu-unusable",
        "unfit",
        f"{seen}: {why}",
        "Check `nvidia-smi` and the capabilities this torch was built for, or run with `--device cpu` on purpose",
    )


def _strip_prefix(uuid: str | None) -> str:
    """torch writes the UUID without NVML's prefix."""
    return (uuid or "unknown").removeprefix("GPU-").lower()


def _is_excused(machine: Machine, gpu: Device) -> bool:
    """Hidden by the user, or split by MIG: torch lists the instances under UUIDs of their own, never the whole."""
    return bool(gpu.mig) or _is_hidden(machine, gpu)


def _is_hidden(machine: Machine, gpu: Device) -> bool:
    """Whether the user took this GPU out of sight: their wish, no fault."""
    twins = (device for device in machine.devices if device.uuid is not None and device.uuid == gpu.uuid)
    return any("CUDA_VISIBLE_DEVICES" in (device.unusable_reason or "") for device in twins)


def _nvml(host: _Host) -> Iterator[DoctorFinding]:
    count = sum(device.kind == "cuda" for device in host.torch_gpus or ())
    if host.gpus.reason is not None and count:
        yield _find(
            "nvml",
            "warning",
            f"clocks, power and throttling of {count} GPUs cannot be read: {host.gpus.reason}",
            "Make NVML readable (the driver's libnvidia-ml, permission for this user)",
        )


def _load(host: _Host) -> Iterator[DoctorFinding]:
    load, cores = host.state.load_1min, host.machine.cores_logical
    if load is None:
        return
    busy = load > IDLE_LOAD_PER_CORE * cores
    severity: Severity = "ok" if not busy else "unfit" if load >= cores else "warning"
    yield _find(
        "load",
        severity,
        f"load average {load:.2f} on {cores} cores{': other work is running' if busy else ''}",
        "Stop the other work, and wait a minute for the average to fall",
    )


def _quota(host: _Host) -> Iterator[DoctorFinding]:
    limit, cores = host.machine.cgroup_cpu_limit, host.machine.cores_logical
    if limit is None or limit >= cores:
        yield _find("cgroup", "ok", f"no CPU quota below the {cores} cores")
        return
    yield _find(
        "cgroup",
        "unfit" if limit < 1 else "warning",
        f"a control group allows {limit:g} of {cores} cores and stops the process when they are used up",
        "Raise the quota to whole cores, or pin cores (cpuset) in place of a quota",
    )


def _memory(host: _Host) -> Iterator[DoctorFinding]:
    available, limit = host.state.memory_available_bytes, host.machine.memory_limit_bytes
    if available is None:
        return
    usable = available if limit is None else min(available, limit)
    enough, some = usable >= LITTLE_MEMORY_BYTES, usable >= TOO_LITTLE_MEMORY_BYTES
    yield _find(
        "memory",
        "ok" if enough else "warning" if some else "unfit",
        f"{data_size(usable)} of memory can be used",
        "Close other programs, raise the memory limit, or run smaller batches",
    )


def _swap(host: _Host) -> Iterator[DoctorFinding]:
    used = host.state.swap_used_bytes
    if used is None:
        return
    short = used > SWAP_NOTICED_BYTES
    yield _find(
        "swap",
        "warning" if short else "ok",
        f"{data_size(used)} of swap {'is ' if short else ''}in use{': memory ran short' if short else ''}",
        "Close other programs, then turn swap off and on again (swapoff -a, swapon -a)",
    )


def _governor(host: _Host) -> Iterator[DoctorFinding]:
    governor, cores = host.machine.governor, host.machine.cores_logical
    if governor is None:
        return
    best = governor == "performance"
    yield _find(
        "governor",
        "ok" if best else "warning",
        f"governor {governor} on {cores} cores{'' if best else ': the clock follows the load'}",
        "Set the governor: cpupower frequency-set -g performance",
    )


def _turbo(host: _Host) -> Iterator[DoctorFinding]:
    turbo, clock = host.machine.turbo, host.machine.cpu_max_clock_hertz
    if turbo:
        top = "" if clock is None else f", up to {clock / 1e9:.2f} GHz"
        yield _find(
            "turbo",
            "note",
            f"turbo is on{top}: the clock depends on heat and on 1 or many cores",
            "Leave it on for peak speed; turn it off to compare small changes",
        )
    elif turbo is False:
        yield _find(
            "turbo",
            "note",
            f"turbo is off on {host.machine.cores_logical} cores: steadier and slower",
            "Turn it on for peak speed, and say so beside the result",
        )


def _virtual(host: _Host) -> Iterator[DoctorFinding]:
    steal, hypervisor = host.state.steal_share, host.machine.hypervisor
    if steal is not None and steal > HIGH_STEAL:
        yield _find(
            "steal",
            "warning",
            f"other guests took {percent(steal)} of the CPU time since boot",
            "Use a machine or an instance type with cores of its own",
        )
    if hypervisor is not None:
        share = "" if steal is None else f", {percent(steal)} of CPU time stolen since boot"
        yield _find(
            "hypervisor",
            "note",
            f"a virtual machine on {hypervisor}{share}; clocks are nominal",
            "Compare with results of the same instance type only",
        )


def _compiler(host: _Host) -> Iterator[DoctorFinding]:
    compiler = host.state.compiler
    missing = f"none of {len(COMPILERS)} C++ compilers found ({', '.join(COMPILERS)}): no torch.compile on the CPU"
    message = missing if compiler is None else f"C++ compiler {compiler}"
    yield _find(
        "compiler", "note" if compiler is None else "ok", message, "Install g++ or clang++ to run compiled modes"
    )


def _gpus(host: _Host) -> Iterator[DoctorFinding]:
    for gpu in host.gpus.devices:
        if not _is_hidden(host.machine, gpu):
            found = [*_gpu_settings(gpu, host.gpus.persistence.get(gpu.id)), *_gpu_state(gpu, host.state)]
            yield from found or [_find("gpu", "ok", f"{gpu.id} {gpu.name}: nothing found")]


def _gpu_settings(gpu: Device, persistence: bool | None) -> Iterator[DoctorFinding]:
    if persistence is False:
        yield _find(
            "persistence",
            "note",
            f"{gpu.id}: persistence mode is off; each cold start loads the driver",
            "Turn it on: nvidia-smi -pm 1",
        )
    if gpu.ecc is False:
        yield _find(
            "ecc",
            "note",
            f"{gpu.id}: ECC is off; memory and its speed differ from a card with ECC",
            "Turn it on (nvidia-smi -e 1), or compare only with results without ECC",
        )
    if gpu.mig:
        yield _find(
            "mig",
            "warning",
            f"{gpu.id}: MIG mode is on; an instance is a part of the chip",
            "Compare with the same MIG profile only, or turn MIG off",
        )


def _gpu_state(gpu: Device, host_state: HostState) -> Iterator[DoctorFinding]:
    state = host_state.gpu_states.get(gpu.id)
    if state is None:
        return
    slowed = [reason for reason in state.device_throttle_reasons or () if reason in SLOWED]
    if slowed:
        yield _find(
            "throttled",
            "warning",
            f"{gpu.id}: slowed by {', '.join(slowed)} before any work",
            "Check cooling, power supply and power limit",
        )
    heat = state.device_temperature_celsius
    if heat is not None and heat >= HOT_CELSIUS:
        yield _find(
            "heat",
            "warning",
            f"{gpu.id}: {heat:.0f} degrees Celsius before any work",
            "Let it cool down, and check the airflow",
        )
    if state.device_other_processes:
        used = data_size(state.device_used_bytes)
        yield _find(
            "gpu-shared",
            "warning",
            f"{gpu.id}: {state.device_other_processes} other compute processes, {used} of memory in use",
            "Stop them, or wait until they are done",
        )


_CHECKS: tuple[Callable[[_Host], Iterator[DoctorFinding]], ...] = (
    _torch, _nvml, _load, _quota, _memory, _swap, _governor, _turbo, _virtual, _compiler, _gpus,
)  # fmt: skip


def _steal_share(proc: Path) -> float | None:
    """Steal over all columns of /proc/stat; guest time (fields 9 and 10) is counted in user time already."""
    try:
        columns = [int(text) for text in host_sensors.read_text(proc / "stat").partition("\n")[0].split()[1:9]]
    except (host_sensors.MissingSensor, ValueError):
        return None
    total = sum(columns)
    return columns[7] / total if len(columns) == 8 and total > 0 else None


def _meminfo(proc: Path, key: str) -> int | None:
    try:
        match = re.search(rf"^{key}:\s+(\d+) kB", host_sensors.read_text(proc / "meminfo"), re.MULTILINE)
    except host_sensors.MissingSensor:
        return None
    return None if match is None else int(match[1]) * 1024
