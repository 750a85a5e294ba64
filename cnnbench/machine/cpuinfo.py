"""What /proc/cpuinfo says of the processor, on x86 and on ARM, and what else names it where that file does not.

Leaves: a `Processor`. On ARM, where the kernel gives numbers instead of a name, the number is
looked up; an unknown one shows as its number.
"""

from __future__ import annotations

import importlib
import platform
import re
import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cnnbench.devices.host_sensors import read_lines

RELEVANT_ISA = (
    "sse4_2", "avx", "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16",
    "neon", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "svebf16", "sme",
)  # fmt: skip
"""Flags that decide which matrix kernels a library picks; the hundred others would only lengthen every ledger."""

ARM_VENDORS: Mapping[int, str] = {0x41: "ARM", 0x4E: "NVIDIA", 0x61: "Apple", 0xC0: "Ampere"}
ARM_CORES: Mapping[tuple[int, int], str] = {
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

    `virtual` is None where the CPU has no flag for it.
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


def read_processor(proc: Path) -> Processor:
    """The processor of this system."""
    return parse_cpuinfo("\n".join(read_lines(proc / "cpuinfo"))) or read_foreign_processor()


def parse_cpuinfo(text: str) -> Processor | None:
    """The processor of a /proc/cpuinfo; None where the text names none."""
    field = re.compile(r"^[ \t]*(.*?)[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
    blocks = (dict(field.findall(block)) for block in re.split(r"\n\s*\n", text))
    cores = [block for block in blocks if "processor" in block]
    if not cores:
        return None
    first = cores[0]
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
    implementer, part = _integer(core["CPU implementer"]), _integer(core.get("CPU part"))
    vendor = ARM_VENDORS.get(implementer or 0)
    name = core.get("model name") or ARM_CORES.get((implementer or 0, part or 0))
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
    """The flags worth keeping, oldest extension first."""
    return tuple(flag for flag in RELEVANT_ISA if flag in flags)


@cache
def read_foreign_processor() -> Processor:
    """The processor where /proc/cpuinfo does not name it: by sysctl on macOS, else by py-cpuinfo, which takes about a second.

    `unknown CPU` where neither knows it.
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
