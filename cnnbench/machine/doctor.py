"""What is wrong with this machine for benchmarking, and what to do about it.

`probe_host` asks (load, swap, compiler, the GPUs' state); `diagnose` judges, a pure function of what was asked. Each
check answers with findings: `ok`, `note` (know it when comparing), `warning` (numbers will suffer), `unfit` (a run would
be worthless). What could not be read gives no finding: the fingerprint and the telemetry already say so.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cnnbench.devices import host_sensors
from cnnbench.devices.nvml import SLOWED, NvmlResult
from cnnbench.devices.telemetry import sample
from cnnbench.machine.fingerprint import read_meminfo
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
    """All that a check may look at; `gpu` is the one that a check of GPUs is about."""

    machine: Machine
    software: Software | None
    gpus: NvmlResult
    torch_gpus: Sequence[Device] | None
    state: HostState
    gpu: Device | None = None

    @property
    def cores(self) -> int:
        return self.machine.cores_logical

    @property
    def quota(self) -> float:
        limit = self.machine.cgroup_cpu_limit
        return math.inf if limit is None else limit

    @property
    def usable_memory(self) -> int | None:
        available, limit = self.state.memory_available_bytes, self.machine.memory_limit_bytes
        return available if available is None or limit is None else min(available, limit)

    @property
    def torch_gpu_count(self) -> int:
        return sum(device.kind == "cuda" for device in self.torch_gpus or ())

    @property
    def gpu_state(self) -> Telemetry:
        """What was read of the GPU; nothing is known where nothing was."""
        return self.state.gpu_states.get("" if self.gpu is None else self.gpu.id, Telemetry())

    @property
    def slowed_by(self) -> str:
        return ", ".join(reason for reason in self.gpu_state.device_throttle_reasons or () if reason in SLOWED)


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
    memory = {key: read_meminfo(proc, key) for key in ("MemAvailable", "SwapTotal", "SwapFree")}
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
    found = [_check_torch(this_host), *_apply(HOST_CHECKS, this_host)]
    for gpu in gpus.devices:
        if not _is_hidden(machine, gpu):
            seen = _apply(GPU_CHECKS, replace(this_host, gpu=gpu))
            found += seen or [_find("gpu", "ok", f"{gpu.id} {gpu.name}: nothing found")]
    ranks = ("unfit", "warning", "note", "ok")
    return tuple(sorted(found, key=lambda finding: ranks.index(finding.severity)))


def _apply(checks: Sequence[HostCheck], this_host: _Host) -> list[DoctorFinding]:
    """The findings of these checks, in their order."""
    found = []
    for check in checks:
        severity = check.judge(this_host)
        if severity == "ok" and check.ok:
            found.append(_find(check.code, "ok", check.ok(this_host)))
        elif severity and severity != "ok":
            found.append(_find(check.code, severity, check.fault(this_host), check.remedy))
    return found


def _find(code: str, severity: Severity, message: str, remedy: str = "") -> DoctorFinding:
    return DoctorFinding(code=code, severity=severity, message=message, remedy=remedy)


def is_unfit(findings: Sequence[DoctorFinding]) -> bool:
    """Whether a run here would be worthless (exit code 3)."""
    return any(finding.severity == "unfit" for finding in findings)


def _check_torch(this_host: _Host) -> DoctorFinding:
    software, gpus = this_host.software, this_host.gpus.devices
    if software is None:
        remedy = "Install torch as README says, then run `cnnbench doctor` again"
        return _find("torch", "unfit", "torch could not be started: 0 jobs can run", remedy)
    usable = {_strip_prefix(device.uuid) for device in this_host.torch_gpus or ()}
    unused = [gpu for gpu in gpus if _strip_prefix(gpu.uuid) not in usable and not _is_excused(this_host.machine, gpu)]
    if unused and this_host.torch_gpus is not None:
        return _explain_unused(this_host, software, unused)
    return _find("torch", "ok", f"torch {software.torch_text} runs")


def _explain_unused(this_host: _Host, software: Software, unused: Sequence[Device]) -> DoctorFinding:
    """Why torch cannot use these GPUs, in the order in which the causes exclude one another."""
    build, driver = software.torch_build, this_host.gpus.driver_cuda
    seen = f"{len(unused)} of {len(this_host.gpus.devices)} GPUs ({unused[0].name}) cannot be used by torch"
    if build.startswith("cpu"):
        return _find(
            "torch-cpu-build",
            "unfit",
            f"{seen} {software.torch}: it is a CPU build",
            "Install a CUDA build of torch, or run with `--device cpu` on purpose",
        )
    wanted = re.search(r"cuda (\d+)", build)
    if wanted is not None and driver is not None and int(wanted[1]) > int(driver.partition(".")[0]):
        return _find(
            "driver-too-old",
            "unfit",
            f"{seen}: it is built for {build}, driver {unused[0].driver} supports CUDA {driver} at most",
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


@dataclass(frozen=True)
class HostCheck:
    """One check: how grave what it sees is (None: nothing can be said), and the words for a fault and for none."""

    code: str
    judge: Callable[[Any], Severity | Literal[False] | None]
    fault: Callable[[Any], str]
    remedy: str
    ok: Callable[[Any], str] | None = None


def _grade(ok: bool, unfit: bool = False) -> Severity:
    return "ok" if ok else "unfit" if unfit else "warning"


HOST_CHECKS: tuple[HostCheck, ...] = (
    HostCheck(
        "nvml",
        lambda host: _grade(host.gpus.reason is None or not host.torch_gpu_count),
        lambda host: f"clocks, power and throttling of {host.torch_gpu_count} GPUs cannot be read: {host.gpus.reason}",
        "Make NVML readable (the driver's libnvidia-ml, permission for this user)",
    ),
    HostCheck(
        "load",
        lambda host: (
            host.state.load_1min is not None
            and _grade(host.state.load_1min <= IDLE_LOAD_PER_CORE * host.cores, host.state.load_1min >= host.cores)
        ),
        lambda host: f"load average {host.state.load_1min:.2f} on {host.cores} cores: other work is running",
        "Stop the other work, and wait a minute for the average to fall",
        lambda host: f"load average {host.state.load_1min:.2f} on {host.cores} cores",
    ),
    HostCheck(
        "cgroup",
        lambda host: _grade(host.quota >= host.cores, host.quota < 1),
        lambda host: (
            f"a control group allows {host.quota:g} of {host.cores} cores and stops the process when they are used up"
        ),
        "Raise the quota to whole cores, or pin cores (cpuset) in place of a quota",
        lambda host: f"no CPU quota below the {host.cores} cores",
    ),
    HostCheck(
        "memory",
        lambda host: (
            host.usable_memory is not None
            and _grade(host.usable_memory >= LITTLE_MEMORY_BYTES, host.usable_memory < TOO_LITTLE_MEMORY_BYTES)
        ),
        lambda host: f"{data_size(host.usable_memory)} of memory can be used",
        "Close other programs, raise the memory limit, or run smaller batches",
        lambda host: f"{data_size(host.usable_memory)} of memory can be used",
    ),
    HostCheck(
        "swap",
        lambda host: (
            host.state.swap_used_bytes is not None and _grade(host.state.swap_used_bytes <= SWAP_NOTICED_BYTES)
        ),
        lambda host: f"{data_size(host.state.swap_used_bytes)} of swap is in use: memory ran short",
        "Close other programs, then turn swap off and on again (swapoff -a, swapon -a)",
        lambda host: f"{data_size(host.state.swap_used_bytes)} of swap in use",
    ),
    HostCheck(
        "governor",
        lambda host: host.machine.governor is not None and _grade(host.machine.governor == "performance"),
        lambda host: f"governor {host.machine.governor} on {host.cores} cores: the clock follows the load",
        "Set the governor: cpupower frequency-set -g performance",
        lambda host: f"governor performance on {host.cores} cores",
    ),
    HostCheck(
        "turbo",
        lambda host: host.machine.turbo and "note",
        lambda host: f"turbo is on{_describe_top_clock(host)}: the clock depends on heat and on 1 or many cores",
        "Leave it on for peak speed; turn it off to compare small changes",
    ),
    HostCheck(
        "turbo",
        lambda host: host.machine.turbo is False and "note",
        lambda host: f"turbo is off on {host.cores} cores: steadier and slower",
        "Turn it on for peak speed, and say so beside the result",
    ),
    HostCheck(
        "steal",
        lambda host: _grade((host.state.steal_share or 0.0) <= HIGH_STEAL),
        lambda host: f"other guests took {percent(host.state.steal_share)} of the CPU time since boot",
        "Use a machine or an instance type with cores of its own",
    ),
    HostCheck(
        "hypervisor",
        lambda host: host.machine.hypervisor is not None and "note",
        lambda host: f"a virtual machine on {host.machine.hypervisor}{_describe_steal(host)}; clocks are nominal",
        "Compare with results of the same instance type only",
    ),
    HostCheck(
        "compiler",
        lambda host: "note" if host.state.compiler is None else "ok",
        lambda host: (
            f"none of {len(COMPILERS)} C++ compilers found ({', '.join(COMPILERS)}): no torch.compile on the CPU"
        ),
        "Install g++ or clang++ to run compiled modes",
        lambda host: f"C++ compiler {host.state.compiler}",
    ),
)
GPU_CHECKS: tuple[HostCheck, ...] = (
    HostCheck(
        "persistence",
        lambda host: host.gpus.persistence.get(host.gpu.id) is False and "note",
        lambda host: f"{host.gpu.id}: persistence mode is off; each cold start loads the driver",
        "Turn it on: nvidia-smi -pm 1",
    ),
    HostCheck(
        "ecc",
        lambda host: host.gpu.ecc is False and "note",
        lambda host: f"{host.gpu.id}: ECC is off; memory and its speed differ from a card with ECC",
        "Turn it on (nvidia-smi -e 1), or compare only with results without ECC",
    ),
    HostCheck(
        "mig",
        lambda host: host.gpu.mig and "warning",
        lambda host: f"{host.gpu.id}: MIG mode is on; an instance is a part of the chip",
        "Compare with the same MIG profile only, or turn MIG off",
    ),
    HostCheck(
        "throttled",
        lambda host: host.slowed_by and "warning",
        lambda host: f"{host.gpu.id}: slowed by {host.slowed_by} before any work",
        "Check cooling, power supply and power limit",
    ),
    HostCheck(
        "heat",
        lambda host: (host.gpu_state.device_temperature_celsius or 0.0) >= HOT_CELSIUS and "warning",
        lambda host: f"{host.gpu.id}: {host.gpu_state.device_temperature_celsius:.0f} degrees Celsius before any work",
        "Let it cool down, and check the airflow",
    ),
    HostCheck(
        "gpu-shared",
        lambda host: host.gpu_state.device_other_processes and "warning",
        lambda host: (
            f"{host.gpu.id}: {host.gpu_state.device_other_processes} other compute processes, "
            f"{data_size(host.gpu_state.device_used_bytes)} of memory in use"
        ),
        "Stop them, or wait until they are done",
    ),
)


def _describe_top_clock(this_host: _Host) -> str:
    clock = this_host.machine.cpu_max_clock_hertz
    return "" if clock is None else f", up to {clock / 1e9:.2f} GHz"


def _describe_steal(this_host: _Host) -> str:
    steal = this_host.state.steal_share
    return "" if steal is None else f", {percent(steal)} of CPU time stolen since boot"


def _steal_share(proc: Path) -> float | None:
    """Steal over all columns of /proc/stat; guest time (fields 9 and 10) is counted in user time already."""
    try:
        columns = [int(text) for text in host_sensors.read_text(proc / "stat").partition("\n")[0].split()[1:9]]
    except (host_sensors.MissingSensor, ValueError):
        return None
    total = sum(columns)
    return columns[7] / total if len(columns) == 8 and total > 0 else None
