"""CPU cores by vendor, family and model: float32 FLOPs a clock, with their source.

A table and its lookup; `peaks` does the arithmetic. A rate is what all vector pipes of one physical core finish a
clock, a multiply-accumulate being 2. Hybrid processors are left out (their cores differ), Apple's too (no source), and
bf16 without AMX (the instruction's rate differs by core and has no published figure).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnbench.schema import Machine


@dataclass(frozen=True)
class Core:
    """One microarchitecture. `avx512_fp32` replaces `fp32` where the system shows avx512f.

    `amx_bf16` is what one core's tile unit finishes a clock.
    """

    name: str
    fp32: int
    source: str
    needs: str | None = None
    avx512_fp32: int | None = None
    amx_bf16: int | None = None

    def rate(self, precision: str, isa: tuple[str, ...]) -> int | None:
        """FLOPs a clock and core in this precision with these instructions; None where unknown or impossible."""
        if precision == "bf16":
            return self.amx_bf16 if "amx_bf16" in isa else None
        if precision != "fp32" or (self.needs is not None and self.needs not in isa):
            return None
        return self.avx512_fp32 if self.avx512_fp32 is not None and "avx512f" in isa else self.fp32


_AMD = "AMD Software Optimization Guide for the family"
_INTEL = "Intel 64 and IA-32 Optimization Reference Manual"
_ARM = "Arm Software Optimization Guide for the core (ASIMD or SVE FMLA throughput)"

ZEN1 = Core("Zen", 16, f"{_AMD} 17h: two 128-bit FMA pipes", needs="fma")
ZEN2 = Core("Zen 2", 32, f"{_AMD} 17h models 30h on: two 256-bit FMA pipes", needs="fma")
ZEN3 = Core("Zen 3", 32, f"{_AMD} 19h: two 256-bit FMA pipes", needs="fma")
ZEN4 = Core("Zen 4", 32, f"{_AMD} 19h models 10h on: two 256-bit FMA pipes, AVX-512 in two passes", needs="fma")
ZEN5 = Core("Zen 5", 32, f"{_AMD} 1Ah: two 512-bit FMA pipes (server, desktop)", needs="fma", avx512_fp32=64)
SANDY = Core("Sandy/Ivy Bridge", 16, f"{_INTEL}: one 256-bit add and one multiply", needs="avx")
HASWELL = Core("Haswell/Broadwell", 32, f"{_INTEL}: two 256-bit FMA ports", needs="fma")
SKYLAKE = Core("Skylake client", 32, f"{_INTEL}: two 256-bit FMA ports", needs="fma")
SKYLAKE_SP_2 = Core(
    "Skylake/Cascade Lake server, two AVX-512 FMA units", 32,
    f"{_INTEL}; Xeon Scalable product brief (Platinum 81/82, Gold 61/62: two units)", needs="fma", avx512_fp32=64,
)  # fmt: skip
ICE_SERVER = Core("Ice Lake server", 32, f"{_INTEL}: two 512-bit FMA ports", needs="fma", avx512_fp32=64)
ICE_CLIENT = Core("Ice/Tiger/Rocket Lake client", 32, f"{_INTEL}: one 512-bit or two 256-bit FMA", needs="fma")
SAPPHIRE = Core(
    "Sapphire/Emerald/Granite Rapids", 32,
    f"{_INTEL}: two 512-bit FMA ports; AMX: a 16x16x32 bf16 tile product in 16 clocks, 1024 FLOPs a clock",
    needs="fma", avx512_fp32=64, amx_bf16=1024,
)  # fmt: skip

AMD_MODELS: Mapping[int, tuple[tuple[range, Core], ...]] = {
    0x17: (
        (range(0x00, 0x30), ZEN1), (range(0x30, 0x50), ZEN2), (range(0x60, 0x80), ZEN2), (range(0x90, 0x92), ZEN2),
        (range(0xA0, 0xB0), ZEN2),
    ),
    0x19: (
        (range(0x00, 0x10), ZEN3), (range(0x20, 0x30), ZEN3), (range(0x40, 0x60), ZEN3), (range(0x10, 0x20), ZEN4),
        (range(0x60, 0xB0), ZEN4),
    ),
    0x1A: ((range(0x00, 0x20), ZEN5), (range(0x44, 0x45), ZEN5)),
}  # fmt: skip
"""Ranges as Linux's arch/x86/kernel/cpu/amd.c; of family 1Ah only those whose pipes are 512 bits wide for certain."""

INTEL_MODELS: Mapping[int, Core] = {
    **dict.fromkeys((0x2A, 0x2D, 0x3A, 0x3E), SANDY),
    **dict.fromkeys((0x3C, 0x3F, 0x45, 0x46, 0x3D, 0x47, 0x4F, 0x56), HASWELL),
    **dict.fromkeys((0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6), SKYLAKE),
    **dict.fromkeys((0x6A, 0x6C), ICE_SERVER),
    **dict.fromkeys((0x7D, 0x7E, 0x8C, 0x8D, 0xA7), ICE_CLIENT),
    **dict.fromkeys((0x8F, 0xCF, 0xAD), SAPPHIRE),
}
"""Family 6, as Linux's arch/x86/include/asm/intel-family.h names the models."""

INTEL_HYBRID = frozenset({0x8A, 0x97, 0x9A, 0xB7, 0xBA, 0xBF, 0xAA, 0xAC, 0xBD, 0xC5, 0xC6})
"""Lakefield, Alder, Raptor, Meteor, Lunar and Arrow Lake: performance and efficiency cores in one package."""

SKYLAKE_SERVER = 0x55

ARM_MODELS: Mapping[tuple[str, int], Core] = {
    ("ARM", 0xD0C): Core("Neoverse N1", 16, f"{_ARM}: two 128-bit pipes"),
    ("ARM", 0xD49): Core("Neoverse N2", 16, f"{_ARM}: two 128-bit pipes"),
    ("ARM", 0xD40): Core("Neoverse V1", 32, f"{_ARM}: two 256-bit SVE pipes"),
    ("ARM", 0xD4F): Core("Neoverse V2", 32, f"{_ARM}: four 128-bit pipes"),
}


@dataclass(frozen=True)
class NamedCpu:
    """A processor whose rated clock is published, for where none can be read. `clock` (GHz) is of `clock_kind`."""

    names: tuple[str, ...]
    core: Core
    cores: int
    clock: float
    clock_kind: str
    source: str
    isa: tuple[str, ...] = field(default=("avx", "fma"))


NAMED_CPUS = (
    NamedCpu(
        ("Intel(R) Core(TM) i7-4790K CPU @ 4.00GHz", "Intel i7-4790K", "i7-4790K"),
        HASWELL, 4, 4.0, "base", "Intel ARK, Core i7-4790K: 4 cores, 4.00 GHz base (4.40 GHz turbo)",
    ),
)  # fmt: skip


def find_core(machine: Machine) -> tuple[Core | None, str | None]:
    """The machine's kind of core, or None and the reason."""
    family, model, vendor = machine.cpu_family, machine.cpu_model, machine.cpu_vendor
    core: Core | None = None
    if model is None:
        return None, f"{machine.cpu_name} gives no model number"
    if vendor == "AuthenticAMD":
        core = next((core for models, core in AMD_MODELS.get(family or 0, ()) if model in models), None)
    elif vendor == "GenuineIntel" and family == 6:
        if model in INTEL_HYBRID:
            return None, f"{machine.cpu_name} mixes two kinds of core"
        if model == SKYLAKE_SERVER:
            return _skylake_server(machine.cpu_name)
        core = INTEL_MODELS.get(model)
    elif vendor is not None:
        core = ARM_MODELS.get((vendor, model))
    if core is None:
        return None, f"no sourced rate for {vendor or 'unknown vendor'} family {family} model {model:#x}"
    return core, None


def _skylake_server(name: str) -> tuple[Core | None, str | None]:
    """One or two AVX-512 units differ by product line: the line is in the name, or the answer is n/a."""
    if re.search(r"\b(Platinum 8[12]\d\d|Gold 6[12]\d\d)", name):
        return SKYLAKE_SP_2, None
    return None, f"{name} may have one or two AVX-512 units; its product line is not in the table"
