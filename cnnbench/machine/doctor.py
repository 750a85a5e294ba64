"""What is wrong with this machine for benchmarking, and what to do about it.

`probe_host` reads (load, swap, compiler, the GPUs' state); `diagnose` judges, a pure function of what was read. Each
check gives findings: `ok`, `note` (know it when comparing), `warning` (numbers will suffer), `unfit` (a run would
be worthless). An unreadable value gives no finding: the fingerprint and the telemetry already report it.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
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

BUSY_SHARE = 0.25
"""A judgement: one whole core of four. A step waits for its slowest thread, so it may take twice as long then."""

LOOK_SECONDS = 0.5
GLANCE_SECONDS = 0.25
"""How long the CPU is watched before a run, and before each of its processes. The kernel counts in hundredths of a
second and core: on two cores a quarter of a second is 50 of them."""
GLANCES, GLANCE_PAUSE_SECONDS = 3, 0.5
"""A program that ends within two seconds does not run beside the next process: it is waited for, and not recorded."""

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


def _find(code: str, severity: Severity, message: str, remedy: str = "") -> DoctorFinding:
    return DoctorFinding(code=code, severity=severity, message=message, remedy=remedy)


@dataclass(frozen=True)
class HostState:
    """Values read for the doctor alone. `steal_share` is the part of all CPU time since boot taken by other guests."""

    load_1min: float | None = None
    steal_share: float | None = None
    swap_used_bytes: int | None = None
    memory_available_bytes: int | None = None
    compiler: str | None = None
    gpu_states: Mapping[str, Telemetry] = field(default_factory=dict)
    busy_share: float | None = None
    """The part of the allowed cores' time that was used while this process slept: by others, therefore."""


def watch_cpu(
    seconds: float,
    *,
    proc: Path = Path("/proc"),
    cores: frozenset[int] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> float | None:
    """Sleep, and return the share of these cores' time that was used meanwhile; None if the kernel does not count it.

    By default the cores are those that this process may use. What ran before, such as the last run of cnnbench, is in
    the load average for minutes, but never in this share.
    """
    if cores is None:
        cores = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()
    before = host_sensors.read_core_ticks(proc, cores)
    if before is None:
        return None
    sleep(seconds)
    after = host_sensors.read_core_ticks(proc, cores)
    if after is None or after.total <= before.total:  # a clock that stands still, as in some sandboxes
        return None
    return min(1.0, max(0.0, (after.used - before.used) / (after.total - before.total)))


def probe_host(
    gpus: NvmlResult,
    *,
    watch_seconds: float = LOOK_SECONDS,
    proc: Path = Path("/proc"),
    sys: Path = Path("/sys"),
    which: Callable[[str], str | None] = shutil.which,
    library: Any = None,
    sleep: Callable[[float], None] = time.sleep,
) -> HostState:
    """Read what `diagnose` needs beside the fingerprint: while it watches the CPU and milliseconds more, with a time limit
    per GPU. Never raises.
    """
    state = sample(None, proc=proc, sys=sys)
    available, total, free = (read_meminfo(proc, key) for key in ("MemAvailable", "SwapTotal", "SwapFree"))
    try:
        ticks = host_sensors.read_cpu_ticks(proc)
    except host_sensors.MissingSensor:
        ticks = []
    return HostState(
        load_1min=state.load_1min,
        busy_share=watch_cpu(watch_seconds, proc=proc, sleep=sleep),
        steal_share=ticks[-1] / sum(ticks) if any(ticks) else None,
        swap_used_bytes=None if total is None or free is None else total - free,
        memory_available_bytes=available,
        compiler=next(filter(None, map(which, COMPILERS)), None),
        gpu_states={gpu.id: sample(gpu.uuid, proc=proc, sys=sys, library=library) for gpu in gpus.devices if gpu.uuid},
    )


def diagnose(
    machine: Machine,
    software: Software | None,
    gpus: NvmlResult,
    torch_gpus: Sequence[Device] | None,
    state: HostState,
) -> tuple[DoctorFinding, ...]:
    """Collect all findings, the gravest first, otherwise in the order of the checks.

    `software` is None if torch could not be started; `torch_gpus` are the GPUs that torch can use, None if unknown.
    """
    hidden = {twin.uuid for twin in machine.devices if "CUDA_VISIBLE_DEVICES" in (twin.unusable_reason or "")} - {None}
    shown = [gpu for gpu in gpus.devices if gpu.uuid not in hidden]  # the user hid the others on purpose: not a fault
    host = _collect_values(machine, state, gpus, sum(device.kind == "cuda" for device in torch_gpus or ()))
    found = [_check_torch(software, gpus, shown, torch_gpus), *_apply(HOST_CHECKS, host)]
    for gpu in shown:
        read = state.gpu_states.get(gpu.id, Telemetry())  # all unknown if nothing was read
        slowed = ", ".join(reason for reason in read.device_throttle_reasons or () if reason in SLOWED)
        of_gpu = {"gpu": gpu, "read": read, "slowed": slowed, "used_text": data_size(read.device_used_bytes)}
        found += [*_apply(GPU_CHECKS, host | of_gpu)] or [_find("gpu", "ok", f"{gpu.id} {gpu.name}: nothing found")]
    ranks = ("unfit", "warning", "note", "ok")
    return tuple(sorted(found, key=lambda finding: ranks.index(finding.severity)))


def _collect_values(machine: Machine, state: HostState, gpus: NvmlResult, torch_gpus: int) -> dict[str, Any]:
    """Collect the values that checks of the host may judge and that their texts may show."""
    available, limit, clock = state.memory_available_bytes, machine.memory_limit_bytes, machine.cpu_max_clock_hertz
    memory = available if available is None or limit is None else min(available, limit)
    steal = percent(state.steal_share)
    return {
        "machine": machine,
        "state": state,
        "nvml": gpus,
        "cores": machine.cores_logical,
        "busy": percent(state.busy_share, 0),
        "memory": memory,
        "memory_text": data_size(memory),
        "swap_text": data_size(state.swap_used_bytes),
        "quota": math.inf if machine.cgroup_cpu_limit is None else machine.cgroup_cpu_limit,
        "torch_gpus": torch_gpus,
        "top_clock": "" if clock is None else f", up to {clock / 1e9:.2f} GHz",
        "steal": steal,
        "stolen": "" if state.steal_share is None else f", {steal} of CPU time stolen since boot",
    }


def list_unfit_now(machine: Machine, state: HostState) -> tuple[str, ...]:
    """List what makes the machine unfit at this moment, in the doctor's words; empty if nothing does.

    The load average is not asked: in the middle of a run it is the run's own.
    """
    values = _collect_values(machine, replace(state, load_1min=None), NvmlResult(), 0)
    return tuple(finding.message for finding in _apply(HOST_CHECKS, values) if finding.severity == "unfit")


def is_unfit(findings: Sequence[DoctorFinding]) -> bool:
    """Tell whether a run here would be worthless (exit code 3)."""
    return any(finding.severity == "unfit" for finding in findings)


def _check_torch(
    software: Software | None, nvml: NvmlResult, shown: Sequence[Device], torch_gpus: Sequence[Device] | None
) -> DoctorFinding:
    if software is None:
        remedy = "Install torch as docs/install.md says, then run `cnnbench doctor` again"
        return _find("torch", "unfit", "torch could not be started: 0 jobs can run", remedy)

    def plain_uuid(device: Device) -> str:  # torch writes it without NVML's prefix
        return (device.uuid or "unknown").removeprefix("GPU-").lower()

    usable = {plain_uuid(device) for device in torch_gpus or ()}
    # torch lists the instances of a GPU split by MIG under other UUIDs, never the whole.
    unused = [gpu for gpu in shown if not gpu.mig and plain_uuid(gpu) not in usable]
    if not unused or torch_gpus is None:
        return _find("torch", "ok", f"torch {software.torch_text} runs")
    return _explain_unused(unused, software, nvml)


def _explain_unused(unused: Sequence[Device], software: Software, nvml: NvmlResult) -> DoctorFinding:
    """Explain why torch cannot use these GPUs, in the order in which the causes exclude one another."""
    build, driver = software.torch_build, nvml.driver_cuda
    seen = f"{len(unused)} of {len(nvml.devices)} GPUs ({unused[0].name}) cannot be used by torch"
    if build.startswith("cpu"):
        remedy = "Install a CUDA build of torch, or run with `--device cpu` on purpose"
        return _find("torch-cpu-build", "unfit", f"{seen} {software.torch}: it is a CPU build", remedy)
    wanted, newest = re.search(r"cuda (\d+)", build), (driver or "").partition(".")[0]
    if wanted is not None and newest and int(wanted[1]) > int(newest):
        text = f"{seen}: it is built for {build}, driver {unused[0].driver} supports CUDA {driver} at most"
        remedy = f"Update the NVIDIA driver, or install a torch built for CUDA {newest}"
        return _find("driver-too-old", "unfit", text, remedy)
    why = unused[0].unusable_reason or f"torch {software.torch} ({build}) does not list it"
    remedy = "Check `nvidia-smi` and the capabilities this torch was built for, or run with `--device cpu` on purpose"
    return _find("gpu-unusable", "unfit", f"{seen}: {why}", remedy)


@dataclass(frozen=True)
class HostCheck:
    """One check: a judgement of severity (None: cannot be judged), and the texts for a fault and for no fault.

    `_collect_values` lists the values that it may judge and that its texts may show.
    """

    code: str
    judge: Callable[[Any], Severity | Literal[False] | None]
    fault: str
    remedy: str
    ok: str = ""


def _apply(checks: Sequence[HostCheck], host: Mapping[str, Any]) -> Iterator[DoctorFinding]:
    """Yield the findings of these checks, in their order."""
    for check in checks:
        severity = check.judge(SimpleNamespace(**host))
        words, remedy = (check.ok, "") if severity == "ok" else (check.fault, check.remedy)
        if severity and words:
            yield _find(check.code, severity, words.format_map(host), remedy)


def _is_idle_now(host: Any) -> bool:
    return host.state.busy_share is not None and host.state.busy_share <= IDLE_LOAD_PER_CORE


def _grade(ok: bool, unfit: bool = False) -> Severity:
    return "ok" if ok else "unfit" if unfit else "warning"


HOST_CHECKS = (
    HostCheck(
        "nvml",
        lambda host: _grade(host.nvml.reason is None or not host.torch_gpus),
        "clocks, power and throttling of {torch_gpus} GPUs cannot be read: {nvml.reason}",
        "Make NVML readable (the driver's libnvidia-ml, permission for this user)",
    ),
    HostCheck(
        "busy",
        lambda host: (
            (busy := host.state.busy_share) is not None and _grade(busy <= IDLE_LOAD_PER_CORE, busy >= BUSY_SHARE)
        ),
        "other programs use {busy} of the CPU now",
        "Stop the other programs (`top` names them)",
        "other programs use {busy} of the CPU now",
    ),
    HostCheck(
        "load",
        # The average has a minute's memory, so the cores of a run that has just ended are in it too: where the CPU could
        # be watched, that decides.
        lambda host: (
            (load := host.state.load_1min) is not None
            and _grade(load <= IDLE_LOAD_PER_CORE * host.cores or _is_idle_now(host), load >= host.cores)
        ),
        "load average {state.load_1min:.2f} on {cores} cores: other work is running",
        "Stop the other work, and wait a minute for the average to fall",
        "load average {state.load_1min:.2f} on {cores} cores",
    ),
    HostCheck(
        "cgroup",
        lambda host: _grade(host.quota >= host.cores, host.quota < 1),
        "a control group allows {quota:g} of {cores} cores and stops the process when they are used up",
        "Raise the quota to whole cores, or pin cores (cpuset) in place of a quota",
        "no CPU quota below the {cores} cores",
    ),
    HostCheck(
        "memory",
        lambda host: (
            host.memory is not None
            and _grade(host.memory >= LITTLE_MEMORY_BYTES, host.memory < TOO_LITTLE_MEMORY_BYTES)
        ),
        "{memory_text} of memory can be used",
        "Close other programs, raise the memory limit, or run smaller batches",
        "{memory_text} of memory can be used",
    ),
    HostCheck(
        "swap",
        lambda host: (swap := host.state.swap_used_bytes) is not None and _grade(swap <= SWAP_NOTICED_BYTES),
        "{swap_text} of swap is in use: memory ran short",
        "Close other programs, then turn swap off and on again (swapoff -a, swapon -a)",
        "{swap_text} of swap in use",
    ),
    HostCheck(
        "governor",
        lambda host: host.machine.governor and _grade(host.machine.governor == "performance"),
        "governor {machine.governor} on {cores} cores: the clock follows the load",
        "Set the governor: cpupower frequency-set -g performance",
        "governor performance on {cores} cores",
    ),
    HostCheck(
        "turbo",
        lambda host: host.machine.turbo and "note",
        "turbo is on{top_clock}: the clock depends on heat and on 1 or many cores",
        "Leave it on for peak speed; turn it off to compare small changes",
    ),
    HostCheck(
        "turbo",
        lambda host: host.machine.turbo is False and "note",
        "turbo is off on {cores} cores: steadier and slower",
        "Turn it on for peak speed, and note that beside the result",
    ),
    HostCheck(
        "steal",
        lambda host: _grade((host.state.steal_share or 0.0) <= HIGH_STEAL),
        "other guests took {steal} of the CPU time since boot",
        "Use a machine or an instance type with dedicated cores",
    ),
    HostCheck(
        "hypervisor",
        lambda host: host.machine.hypervisor and "note",
        "a virtual machine on {machine.hypervisor}{stolen}; clocks are nominal",
        "Compare with results of the same instance type only",
    ),
    HostCheck(
        "compiler",
        lambda host: "ok" if host.state.compiler else "note",
        f"none of {len(COMPILERS)} C++ compilers found ({', '.join(COMPILERS)}): no torch.compile on the CPU",
        "Install g++ or clang++ to run compiled modes",
        "C++ compiler {state.compiler}",
    ),
)
GPU_CHECKS = (
    HostCheck(
        "persistence",
        lambda host: host.nvml.persistence.get(host.gpu.id) is False and "note",
        "{gpu.id}: persistence mode is off; each cold start loads the driver",
        "Turn it on: nvidia-smi -pm 1",
    ),
    HostCheck(
        "ecc",
        lambda host: host.gpu.ecc is False and "note",
        "{gpu.id}: ECC is off; memory and its speed differ from a card with ECC",
        "Turn it on (nvidia-smi -e 1), or compare only with results without ECC",
    ),
    HostCheck(
        "mig",
        lambda host: host.gpu.mig and "warning",
        "{gpu.id}: MIG mode is on; an instance is a part of the chip",
        "Compare with the same MIG profile only, or turn MIG off",
    ),
    HostCheck(
        "throttled",
        lambda host: host.slowed and "warning",
        "{gpu.id}: slowed by {slowed} before any work",
        "Check cooling, power supply and power limit",
    ),
    HostCheck(
        "heat",
        lambda host: (host.read.device_temperature_celsius or 0.0) >= HOT_CELSIUS and "warning",
        "{gpu.id}: {read.device_temperature_celsius:.0f} degrees Celsius before any work",
        "Let it cool down, and check the airflow",
    ),
    HostCheck(
        "gpu-shared",
        lambda host: host.read.device_other_processes and "warning",
        "{gpu.id}: {read.device_other_processes} other compute processes, {used_text} of memory in use",
        "Stop them, or wait until they are done",
    ),
)
