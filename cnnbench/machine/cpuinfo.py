"""What /proc/cpuinfo says of the processor, on x86 and on ARM.

Enters: the file's text. Leaves: a `Processor`. On ARM, where the kernel gives numbers instead of a name, the number is
looked up; an unknown one shows as its number.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

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


def parse_cpuinfo(text: str) -> Processor | None:
    """The processor of a /proc/cpuinfo; None where the text names none."""
    blocks = [dict(_fields(block)) for block in re.split(r"\n\s*\n", text)]
    cores = [block for block in blocks if "processor" in block]
    if not cores:
        return None
    first = cores[0]
    if "CPU implementer" in first:
        return _arm(first, len(cores))
    if "model name" not in first:
        return None
    flags = frozenset(first.get("flags", "").split())
    pairs = {(core["physical id"], core["core id"]) for core in cores if {"physical id", "core id"} <= core.keys()}
    return Processor(
        name=re.sub(r"\s+", " ", first["model name"]),
        vendor=first.get("vendor_id"),
        family=_integer(first.get("cpu family")),
        model=_integer(first.get("model")),
        stepping=_integer(first.get("stepping")),
        isa=select_isa(flags),
        cores_physical=len(pairs) or None,
        cores_logical=len(cores),
        virtual="hypervisor" in flags if flags else None,
    )


def _arm(core: Mapping[str, str], count: int) -> Processor:
    implementer, part = _integer(core["CPU implementer"]), _integer(core.get("CPU part"))
    vendor = ARM_VENDORS.get(implementer or 0)
    name = core.get("model name") or ARM_CORES.get((implementer or 0, part or 0))
    flags = frozenset({"neon" if flag == "asimd" else flag for flag in core.get("Features", "").split()})
    return Processor(
        name=name or f"{vendor or 'ARM'} part {core.get('CPU part', 'unknown')}",
        vendor=vendor,
        model=part,
        stepping=_integer(core.get("CPU revision")),
        isa=select_isa(flags),
        cores_logical=count,
    )


def _fields(block: str) -> list[tuple[str, str]]:
    parts = (line.partition(":") for line in block.splitlines())
    return [(key.strip(), value.strip()) for key, colon, value in parts if colon]


def _integer(text: str | None) -> int | None:
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None


def select_isa(flags: frozenset[str]) -> tuple[str, ...]:
    """The flags worth keeping, oldest extension first."""
    return tuple(flag for flag in RELEVANT_ISA if flag in flags)


def read_py_cpuinfo(cores_physical: int | None, cores_logical: int | None) -> Processor:
    """The processor as py-cpuinfo finds it; `unknown CPU` where it finds none. Takes about a second."""
    try:
        found = importlib.import_module("cpuinfo").get_cpu_info()
    except (ImportError, OSError, ValueError, KeyError):
        found = {}
    return Processor(
        name=found.get("brand_raw") or "unknown CPU",
        vendor=found.get("vendor_id_raw"),
        family=found.get("family"),
        model=found.get("model"),
        stepping=found.get("stepping"),
        isa=select_isa(frozenset(found.get("flags", ()))),
        cores_physical=cores_physical,
        cores_logical=cores_logical,
    )
