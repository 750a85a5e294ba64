"""CPU cores by vendor, family and model, as `cpus.toml` lists them: FLOPs a clock, with their source.

A table and its lookup; `peaks` does the arithmetic.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cnnbench.schema import Machine


@dataclass(frozen=True)
class Core:
    """One microarchitecture. What its fields mean is said in the table; without `fp32`, or where `line` is not in the
    processor's name, its rate is unknown for the `reason`.
    """

    name: str
    vendor: str
    models: tuple[tuple[int, int], ...]
    """The first and the last of each range."""
    family: int | None = None
    fp32: int | None = None
    source: str = ""
    needs: str | None = None
    avx512_fp32: int | None = None
    amx_bf16: int | None = None
    line: str = ""
    reason: str | None = None

    def rate(self, precision: str, isa: tuple[str, ...]) -> int | None:
        """FLOPs a clock and core in this precision with these instructions; None where unknown or impossible."""
        if precision == "bf16":
            return self.amx_bf16 if "amx_bf16" in isa else None
        if precision != "fp32" or (self.needs is not None and self.needs not in isa):
            return None
        return self.avx512_fp32 if self.avx512_fp32 is not None and "avx512f" in isa else self.fp32

    def includes(self, machine: Machine) -> bool:
        """Whether the machine's CPU is of this kind."""
        if machine.cpu_vendor != self.vendor or self.family not in (None, machine.cpu_family):
            return False
        return any(first <= (machine.cpu_model or 0) <= last for first, last in self.models)


@dataclass(frozen=True)
class NamedCpu:
    """A processor whose rated clock is published, for where none can be read. `clock` (GHz) is of `clock_kind`."""

    names: tuple[str, ...]
    core: Core
    cores: int
    clock: float
    clock_kind: str
    source: str
    isa: tuple[str, ...]


@cache
def _load_table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("cpus.toml").read_text(encoding="utf-8"))


@cache
def _load_cores() -> tuple[Core, ...]:
    return tuple(Core(**each | {"models": tuple(map(tuple, each["models"]))}) for each in _load_table()["core"])


@cache
def find_named_cpu(product: str) -> NamedCpu | None:
    """Return the processor of exactly this name whose rated clock is published."""
    cores = {core.name: core for core in _load_cores()}
    for each in _load_table()["named"]:
        if product in each["names"]:
            return NamedCpu(**each | {"core": cores[each["core"]], "isa": tuple(each["isa"])})
    return None


def find_core(machine: Machine) -> tuple[Core | None, str | None]:
    """The machine's kind of core, or None and the reason."""
    family, model, vendor = machine.cpu_family, machine.cpu_model, machine.cpu_vendor
    if model is None:
        return None, f"{machine.cpu_name} gives no model number"
    core = next((core for core in _load_cores() if core.includes(machine)), None)
    if core is None:
        return None, f"no sourced rate for {vendor or 'unknown vendor'} family {family} model {model:#x}"
    if core.fp32 is None or not re.search(core.line, machine.cpu_name):
        return None, f"{machine.cpu_name} {core.reason}"
    return core, None
