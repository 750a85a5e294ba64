"""Theoretical peaks: what a processor could do in a second if nothing ever waited.

A device, its machine and a precision give a `Peak`: dense FLOP/s with the arithmetic and its source, or None with the
reason. A product is looked up in `gpus.toml` by its exact name, never guessed from a similar one, a CPU core in
`cpus.toml` by vendor, family and model. `theoretical_peak` uses the rated clock and is the denominator of MFU; `upper_bound` uses
the highest clock the device reports; the physics gate compares matrix products with it. Neither knows power limits:
sustained rates are below both.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cnnbench.schema import Device, Frozen, Machine


@dataclass(frozen=True)
class Peak:
    """FLOP/s with their source; if `flops_per_second` is None, `reason` says why. `formula` is the product in words."""

    flops_per_second: float | None
    formula: str = ""
    source: str = ""
    reason: str | None = None


class _UnknownPeakError(Exception):
    """The peak has no source; the message says why."""


def theoretical_peak(device: Device, machine: Machine, precision: str) -> Peak:
    """Compute the dense peak at the rated clock; a CPU's for the cores this process may use, at maximum boost."""
    try:
        return (
            _compute_cpu_peak(machine, precision)
            if device.kind == "cpu"
            else _compute_gpu_peak(_find_chip(device), precision)
        )
    except _UnknownPeakError as error:
        return Peak(None, reason=str(error))


def upper_bound(device: Device, machine: Machine, precision: str) -> float | None:
    """Compute the dense peak in FLOP/s at the device's maximum clock (or the rated one, if that is higher).

    No matrix product can exceed it. None if the device reports no maximum clock: a guess would call honest runs
    invalid.
    """
    try:
        if device.kind == "cpu":
            return (
                None if machine.cpu_max_clock_hertz is None else _compute_cpu_peak(machine, precision).flops_per_second
            )
        chip = _find_chip(device)
        rated = _compute_gpu_peak(chip, precision).flops_per_second or 0.0
    except _UnknownPeakError:
        return None
    rate, units = chip.rates.get(precision), chip.units or device.multiprocessors
    if rate is None or units is None or device.max_clock_hertz is None:
        return None
    return max(units * rate * device.max_clock_hertz, rated)


@dataclass(frozen=True)
class GpuSpec:
    """One product. `clock` (GHz) is the `clock_kind` its maker rates it with, `tensor_clock` the one for tf32 and below.

    If a maker publishes a rate and no clock, `published` holds FLOP/s by precision and the clock is None. `units` is
    None if cards sold under the name differ. `rates` are FLOPs per clock and unit, by precision.
    """

    names: tuple[str, ...]
    units: int | None
    rates: Mapping[str, int]
    clock: float | None
    source: str
    clock_kind: str = "published"
    tensor_clock: float | None = None
    published: Mapping[str, float] = field(default_factory=dict)


def _read_table(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


@cache
def load_gpu_specs() -> tuple[GpuSpec, ...]:
    """Return every product of the table, in its order."""
    table, specs = _read_table("gpus.toml"), []
    for group in table["group"]:
        read = {
            "rates": table["rates"][group["rates"]],
            "published": {each: teraflops * 1e12 for each, teraflops in group.get("published", {}).items()},
        }
        for names, *figures in group.pop("products"):
            units, clock = (*figures, None, None)[:2]
            specs.append(GpuSpec(tuple(names.split("|")), units, clock=clock, **group | read))
    return tuple(specs)


def _find_chip(device: Device) -> GpuSpec:
    """Find the device's entry in the table, by name and multiprocessors. Raises _UnknownPeakError."""
    if device.mig:
        raise _UnknownPeakError(f"{device.name} is in MIG mode: an instance has only a part of the chip")
    if device.kind not in {"cuda", "rocm"}:
        raise _UnknownPeakError(f"no sourced peak for {device.kind} devices")
    plain = device.name.removeprefix("NVIDIA ").strip()  # newer drivers put the maker's name before the product's
    chips = [chip for chip in load_gpu_specs() if {plain, device.name} & {*chip.names}]
    counts = [str(chip.units) for chip in chips]
    if not chips:
        raise _UnknownPeakError(f"{device.name} is not in the table of peaks")
    if device.multiprocessors is not None:
        chips = [chip for chip in chips if chip.units in {None, device.multiprocessors}]
        if not chips:
            raise _UnknownPeakError(
                f"{device.name} shows {device.multiprocessors} multiprocessors, "
                f"the product in the table {' or '.join(counts)}"
            )
    elif len(chips) > 1:
        raise _UnknownPeakError(
            f"{device.name} was sold with {' and '.join(counts)} multiprocessors, and this one's are unknown"
        )
    return chips[0]


def _compute_gpu_peak(chip: GpuSpec, precision: str) -> Peak:
    if precision in chip.published:
        return Peak(chip.published[precision], "published by the maker", chip.source)
    rate, product = chip.rates.get(precision), chip.names[0]
    if rate is None or chip.clock is None or chip.units is None:
        raise _UnknownPeakError(
            f"{product} has no {precision} unit with float32 accumulation, or none with a sourced rate"
        )
    clock = round((chip.clock if precision == "fp32" else chip.tensor_clock or chip.clock) * 1e9)
    unit = "CUs" if product.startswith("AMD") else "SMs"
    formula = f"{chip.units} {unit} x {rate} FLOP/clk x {clock / 1e9:.3f} GHz ({chip.clock_kind})"
    return Peak(float(chip.units * rate * clock), formula, chip.source)


class Core(Frozen):
    """One microarchitecture. The table explains its fields; without `fp32`, or if `line` is not in the processor's
    name, its rate is unknown for the `reason`.
    """

    name: str
    vendor: str
    models: tuple[tuple[int, int], ...]
    """First and last model of each range."""
    family: int | None = None
    fp32: int | None = None
    source: str = ""
    needs: str | None = None
    avx512_fp32: int | None = None
    amx_bf16: int | None = None
    line: str = ""
    reason: str | None = None

    def rate(self, precision: str, isa: tuple[str, ...]) -> int | None:
        """Look up FLOPs per clock and core in this precision with these instructions; None if unknown or impossible."""
        if precision == "bf16":
            return self.amx_bf16 if "amx_bf16" in isa else None
        if precision != "fp32" or (self.needs is not None and self.needs not in isa):
            return None
        return self.avx512_fp32 if self.avx512_fp32 is not None and "avx512f" in isa else self.fp32


class NamedCpu(Frozen):
    """A processor whose rated clock is published, for where none can be read. `clock` (GHz) is of `clock_kind`."""

    names: tuple[str, ...]
    core: Core
    cores: int
    clock: float
    clock_kind: str
    source: str
    isa: tuple[str, ...]


@cache
def _load_cpus() -> tuple[tuple[Core, ...], tuple[NamedCpu, ...]]:
    table = _read_table("cpus.toml")
    cores = {each["name"]: Core(**each) for each in table["core"]}
    return tuple(cores.values()), tuple(NamedCpu(**each | {"core": cores[each["core"]]}) for each in table["named"])


def _find_core(machine: Machine) -> Core:
    """Find the machine's kind of core. Raises _UnknownPeakError."""
    family, model, vendor = machine.cpu_family, machine.cpu_model, machine.cpu_vendor
    if model is None:
        raise _UnknownPeakError(f"{machine.cpu_name} gives no model number")
    kinds = (each for each in _load_cpus()[0] if any(first <= model <= last for first, last in each.models))
    core = next((each for each in kinds if each.vendor == vendor and each.family in (None, family)), None)
    if core is None:
        raise _UnknownPeakError(f"no sourced rate for {vendor or 'unknown vendor'} family {family} model {model:#x}")
    if core.fp32 is None or not re.search(core.line, machine.cpu_name):
        raise _UnknownPeakError(f"{machine.cpu_name} {core.reason}")
    return core


def _compute_cpu_peak(machine: Machine, precision: str) -> Peak:
    """Compute the peak at the clock the system reports, or else at the one published for a processor of this name."""
    unclocked = machine.cpu_max_clock_hertz is None
    named = next((each for each in _load_cpus()[1] if unclocked and machine.cpu_name in each.names), None)
    core = _find_core(machine) if named is None else named.core
    rate = core.rate(precision, machine.cpu_isa if named is None else named.isa)
    if rate is None:
        shown = " with the instructions this system shows" if named is None else ""
        raise _UnknownPeakError(f"no sourced {precision} rate for {core.name}{shown}")
    if named is not None:
        cores, clock, kind, source = named.cores, named.clock * 1e9, named.clock_kind, f"{named.source}; {core.source}"
    elif machine.cpu_max_clock_hertz is None:
        raise _UnknownPeakError("the system shows no maximum boost clock (virtual machine, or base clock only)")
    elif machine.cores_physical is None:
        raise _UnknownPeakError("the number of physical cores is unknown")
    else:
        cores, clock, kind = machine.cores_physical, machine.cpu_max_clock_hertz, "maximum boost"
        source = f"{core.name}: {core.source}; clock from cpufreq"
    cores = min(cores, machine.cores_allowed)
    formula = f"{cores} cores x {rate} FLOP/clk x {clock / 1e9:.3f} GHz ({kind})"
    return Peak(cores * rate * clock, formula, source)
