"""Which machine a result belongs to: processor, cores and memory allowed, and what may disturb or fake its speed.

/proc and /sys (arguments, so that tests can build fake trees) and the accelerators found elsewhere give a
`schema.Machine` whose id names the folder under results/, its CPU among the devices. Linux is read
directly, in milliseconds; other systems through sysctl and psutil, and py-cpuinfo (about a second: it starts processes)
only if neither names the processor. On ARM, where the kernel gives numbers instead of a name, the number is looked up;
an unknown processor is named by its number.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cnnbench.devices import host_sensors, nvml
from cnnbench.devices.host_sensors import read_line, read_lines
from cnnbench.machine_facts import describe_machine
from cnnbench.schema import Device, Machine

PROC = Path("/proc")
SYS = Path("/sys")

_HYPERVISORS = (
    ("kvm", "KVM"), ("qemu", "QEMU/KVM"), ("amazon ec2", "Amazon EC2"), ("google", "Google Compute Engine"),
    ("vmware", "VMware"), ("virtualbox", "VirtualBox"), ("innotek", "VirtualBox"), ("xen", "Xen"), ("bochs", "Bochs"),
    ("parallels", "Parallels"), ("openstack", "OpenStack"), ("virtual machine", "Microsoft Hyper-V"),
    ("apple virtualization", "Apple Virtualization"),
)  # fmt: skip
"""Words of the DMI vendor and product (as systemd-detect-virt reads them), first match, with the hypervisor's name."""

_BOOST_DRIVERS = (
    "intel_pstate", "intel_cpufreq", "amd-pstate", "amd-pstate-epp", "apple-cpufreq", "cpufreq-dt", "scmi",
)  # fmt: skip
"""cpufreq drivers whose `cpuinfo_max_freq` is the boost clock; acpi-cpufreq's may be the base clock."""

RELEVANT_ISA = (
    "sse4_2", "avx", "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16",
    "neon", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "svebf16", "sme",
)  # fmt: skip
"""Flags that decide which matrix kernels a library picks; the hundred others would only lengthen every ledger."""

ARM_VENDORS = {0x41: "ARM", 0x4E: "NVIDIA", 0x61: "Apple", 0xC0: "Ampere"}
ARM_CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0xC0, 0xAC3): "Ampere-1",
}
"""MIDR implementer and part, as util-linux's lscpu-arm.c lists them."""


@dataclass(frozen=True)
class Processor:
    """A CPU by name and numbers. On ARM `model` is the MIDR part and `stepping` its revision.

    `virtual` is None if the CPU has no flag for it.
    """

    name: str
    vendor: str | None = None
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    isa: tuple[str, ...] = ()
    cores_physical: int | None = None
    cores_logical: int | None = None
    virtual: bool | None = None


def parse_cpuinfo(text: str) -> Processor | None:
    """Parse the processor from the text of /proc/cpuinfo; None if it names none."""
    field = re.compile(r"^[ \t]*(.*?)[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
    blocks = (dict(field.findall(block)) for block in re.split(r"\n\s*\n", text))
    cores = [block for block in blocks if "processor" in block]
    first = cores[0] if cores else {}
    if "CPU implementer" in first:
        return _arm(first, len(cores))
    if "model name" not in first:
        return None
    flags = first.get("flags", "").split()
    pairs = {(core["physical id"], core["core id"]) for core in cores if {"physical id", "core id"} <= core.keys()}
    return Processor(
        name=re.sub(r"\s+", " ", first["model name"]),
        vendor=first.get("vendor_id"),
        family=_integer(first.get("cpu family")),
        model=_integer(first.get("model")),
        stepping=_integer(first.get("stepping")),
        isa=_select_isa(flags),
        cores_physical=len(pairs) or None,
        cores_logical=len(cores),
        virtual="hypervisor" in flags if flags else None,
    )


def _arm(core: Mapping[str, str], count: int) -> Processor:
    implementer, part = _integer(core["CPU implementer"]) or 0, _integer(core.get("CPU part"))
    vendor = ARM_VENDORS.get(implementer)
    name = core.get("model name") or ARM_CORES.get((implementer, part or 0))
    flags = ["neon" if flag == "asimd" else flag for flag in core.get("Features", "").split()]
    return Processor(
        name=name or f"{vendor or 'ARM'} part {core.get('CPU part', 'unknown')}",
        vendor=vendor,
        model=part,
        stepping=_integer(core.get("CPU revision")),
        isa=_select_isa(flags),
        cores_logical=count,
    )


def _integer(text: str | None) -> int | None:
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None


def _select_isa(flags: Collection[str]) -> tuple[str, ...]:
    """Select the flags worth keeping, oldest extension first."""
    return tuple(flag for flag in RELEVANT_ISA if flag in flags)


@cache
def read_foreign_processor() -> Processor:
    """Read the processor without /proc/cpuinfo: by sysctl on macOS, else by py-cpuinfo, which takes about a second.

    Its name is `unknown CPU` if neither knows it.
    """
    import psutil

    physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count()
    if platform.system() == "Darwin":
        command, isa = ["sysctl", "-n", "machdep.cpu.brand_string"], ("neon",) if platform.machine() == "arm64" else ()
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=True)
            if name := done.stdout.strip():
                return Processor(name, name.split()[0], isa=isa, cores_physical=physical, cores_logical=logical)
    found: dict[str, Any] = {}
    with suppress(ImportError, OSError, ValueError, KeyError):
        found = importlib.import_module("cpuinfo").get_cpu_info()
    return Processor(
        name=found.get("brand_raw") or "unknown CPU",
        vendor=found.get("vendor_id_raw"),
        family=found.get("family"),
        model=found.get("model"),
        stepping=found.get("stepping"),
        isa=_select_isa(found.get("flags", ())),
        cores_physical=physical,
        cores_logical=logical,
    )


def fingerprint(
    accelerators: Sequence[Device], *, proc: Path = PROC, sys: Path = SYS, affinity: frozenset[int] | None = None
) -> Machine:
    """Describe the machine, with its CPU as the first device, then these accelerators.

    The CPU's memory is the RAM that this process may use. `affinity` replaces the cores that the scheduler allows it.

    The id hashes what a result depends on and no update changes: clocks of the moment, host name, load, kernel, driver
    and serial numbers are left out, so two machines bought alike share an id.
    """
    import psutil

    found = parse_cpuinfo("\n".join(read_lines(proc / "cpuinfo"))) or read_foreign_processor()
    logical = found.cores_logical or os.cpu_count() or 1
    quota = host_sensors.cgroup_cpu_limit(proc, sys)
    ram = read_meminfo(proc, "MemTotal") or psutil.virtual_memory().total
    limit = host_sensors.cgroup_memory_limit(proc, sys)
    usable = ram if limit is None else min(ram, limit)
    clock = _max_clock_hertz(sys)
    cpu = Device(id="cpu", kind="cpu", name=found.name, memory_bytes=usable, max_clock_hertz=clock)
    machine = Machine(
        id="",
        cpu_name=found.name,
        cpu_vendor=found.vendor,
        cpu_family=found.family,
        cpu_model=found.model,
        cpu_stepping=found.stepping,
        cpu_isa=found.isa,
        cpu_max_clock_hertz=clock,
        # If /proc/cpuinfo does not number physical cores (ARM), each is a set of sibling threads.
        cores_physical=found.cores_physical or len(_read_cores(sys, "topology/thread_siblings_list")) or None,
        cores_logical=logical,
        cores_allowed=_cores_allowed(logical, quota, host_sensors.cgroup_cpus(proc, sys), affinity),
        cgroup_cpu_limit=quota,
        memory_bytes=ram,
        memory_limit_bytes=usable if usable < ram else None,
        hypervisor=_hypervisor(found, proc, sys),
        governor=", ".join(sorted(_read_cores(sys, "cpufreq/scaling_governor"))) or None,
        turbo=_turbo(sys),
        swap_bytes=read_meminfo(proc, "SwapTotal"),
        os=_os_name(),
        kernel=platform.release(),
        libc=" ".join(platform.libc_ver()).strip() or None,
        devices=(cpu, *accelerators),
    )
    return machine.model_copy(update={"id": _identity(machine)})


def collect_facts(environment: Mapping[str, str]) -> dict[str, Any]:
    """Collect the facts of this machine without starting torch: its version is the package's, the GPUs are those NVML lists."""
    machine = fingerprint(nvml.list_gpus().devices)
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = None
    return describe_machine(machine, python=platform.python_version(), torch=torch, environment=environment)


def boot_id(*, proc: Path = PROC) -> str | None:
    """Read the random id that the kernel drew when it booted; None on systems that have none."""
    return read_line(proc / "sys/kernel/random/boot_id") or None


def _identity(machine: Machine) -> str:
    """Make the id, such as `amd-ryzen-9-7950x+nvidia-geforce-rtx-4090-1a2b3c4d`: slugs, and a hash of stable fields."""
    accelerators = [device for device in machine.devices if device.kind != "cpu"]
    stable = {
        "cpu": [machine.cpu_vendor, machine.cpu_name, machine.cpu_family, machine.cpu_model, machine.cpu_stepping],
        "isa": sorted(machine.cpu_isa),
        "cores": [machine.cores_physical, machine.cores_logical, machine.cores_allowed],
        "memory_gib": round(machine.memory_bytes / 2**30),
        "hypervisor": machine.hypervisor,
        "system": [platform.system(), platform.machine()],
        "devices": sorted([d.kind, d.name, d.memory_bytes or 0, bool(d.mig)] for d in accelerators),
    }
    text = json.dumps(stable, sort_keys=True, separators=(",", ":"))
    many = f"{len(accelerators)}x-" if len(accelerators) > 1 else ""
    names = [slug(machine.cpu_name), *(many + slug(first.name) for first in accelerators[:1])]
    return f"{'+'.join(names)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def slug(name: str) -> str:
    """Shorten a product's name for a folder's: `Intel(R) Core(TM) i7-4790K CPU @ 4.00GHz` is `intel-core-i7-4790k`."""
    plain = re.sub(r"\((r|tm|c)\)|@.*|\b(cpu|processor)\b|\b\d+-core\b", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "unknown"


def _cores_allowed(
    logical: int, quota: float | None, cpuset: frozenset[int] | None, affinity: frozenset[int] | None
) -> int:
    """Count logical cores in affinity and cpuset both, at most the quota rounded down, at least one."""
    if affinity is None and hasattr(os, "sched_getaffinity"):
        affinity = frozenset(os.sched_getaffinity(0))
    sets = [cores for cores in (affinity, cpuset) if cores is not None]
    count = len(frozenset.intersection(*sets)) if sets else logical
    return max(1, min(count, logical, logical if quota is None else int(quota)))


def _read_cores(sys: Path, name: str) -> set[str]:
    """Read the first lines of all cores' files of this name, without empty ones."""
    return {read_line(path) for path in (sys / "devices/system/cpu").glob(f"cpu[0-9]*/{name}")} - {""}


def read_meminfo(proc: Path, key: str) -> int | None:
    """Read a line of /proc/meminfo in bytes; None if it is missing."""
    match = re.search(rf"^{key}:\s+(\d+) kB", "\n".join(read_lines(proc / "meminfo")), re.MULTILINE)
    return None if match is None else int(match[1]) * 1024


def _hypervisor(found: Processor, proc: Path, sys: Path) -> str | None:
    """Find the hypervisor's name; None on bare metal.

    The CPU's own flag decides if it has one (a cloud's bare-metal machines carry the cloud's name in DMI too); on
    ARM, which has none, the DMI words or the device tree do.
    """
    if "microsoft" in read_line(proc / "sys/kernel/osrelease").lower():
        return "Microsoft Hyper-V (WSL2)"
    kind = read_line(sys / "hypervisor/type")
    if found.virtual is False and not kind:
        return None
    dmi = " ".join(
        read_line(sys / "class/dmi/id" / name) for name in ("sys_vendor", "product_name", "bios_vendor")
    ).lower()
    named = next((label for word, label in _HYPERVISORS if word in dmi), None)
    tree = read_line(proc / "device-tree/hypervisor/compatible").strip("\0")
    if found.virtual is None and "metal" in dmi:
        return None
    return named or kind or tree or ("a hypervisor without a name" if found.virtual else None)


def _turbo(sys: Path) -> bool | None:
    cpu = sys / "devices/system/cpu"
    boost = {"1": True, "0": False}.get(read_line(cpu / "cpufreq/boost"))
    return {"0": True, "1": False}.get(read_line(cpu / "intel_pstate/no_turbo"), boost)


def _max_clock_hertz(sys: Path) -> float | None:
    """Read the highest boost clock of any core from cpufreq; None if only a base or virtual clock can be read."""
    clocks = []
    for directory in (sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq"):
        kilohertz = read_line(directory / "cpuinfo_max_freq")
        if read_line(directory / "scaling_driver") in _BOOST_DRIVERS and kilohertz.isdigit() and int(kilohertz) > 0:
            clocks.append(int(kilohertz) * 1e3)
    return max(clocks, default=None)


def _os_name() -> str:
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        distribution = platform.mac_ver()[0]
    return f"{platform.system()} {platform.machine()}{', ' if distribution else ''}{distribution}"
