"""Theoretical peaks: what a processor could do in a second if nothing ever waited.

Enters: a device, its machine, a precision. Leaves: a `Peak`, dense FLOP/s with the arithmetic and its source, or None
with the reason. A product is looked up by its exact name, never guessed from a similar one. `theoretical_peak` uses the
rated clock and is the denominator of MFU; `upper_bound` uses the highest clock the device reports and is what the
physics gate holds a matrix product against. Neither knows of power limits: sustained rates lie below both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from cnnbench.machine.cpu_specs import NamedCpu, find_core, find_named_cpu
from cnnbench.machine.gpu_specs import GpuSpec, load_gpu_specs
from cnnbench.schema import Device, Machine, Precision

PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True)
class Peak:
    """FLOP/s with where they come from; `flops_per_second` None goes with a `reason`.

    `formula` is the product in words, `clock_hertz` its last factor (None where the maker publishes only the result).
    """

    flops_per_second: float | None
    formula: str = ""
    clock_hertz: float | None = None
    source: str = ""
    reason: str | None = None


def theoretical_peak(device: Device, machine: Machine, precision: str) -> Peak:
    """The dense peak at the rated clock; for a CPU, of the cores this process may use at their maximum boost clock."""
    if device.kind == "cpu":
        return _cpu_peak(machine, precision, named_allowed=True)
    chip, reason = _find_chip(device)
    return Peak(None, reason=reason) if chip is None else _make_rated_peak(chip, precision)


def upper_bound(device: Device, machine: Machine, precision: str) -> Peak:
    """The dense peak at the maximum clock the device reports (or the rated one, where that is higher).

    No matrix product can beat it. None where the device reports no maximum clock: a guess would call honest runs
    invalid.
    """
    if device.kind == "cpu":
        return _cpu_peak(machine, precision, named_allowed=False)
    chip, reason = _find_chip(device)
    if chip is None:
        return Peak(None, reason=reason)
    rate, units = chip.rates.get(precision), chip.units or device.multiprocessors
    if rate is None or units is None:
        return Peak(None, reason=_explain_no_rate(chip, precision))
    if device.max_clock_hertz is None:
        return Peak(None, reason=f"{device.name} does not report its maximum clock")
    rated = _make_rated_peak(chip, precision)
    clock = max(device.max_clock_hertz, rated.clock_hertz or 0.0)
    bound = units * rate * clock
    return Peak(
        max(bound, rated.flops_per_second or 0.0), _product(units, chip, rate, clock, "maximum"), clock, chip.source
    )


def strip_maker(name: str) -> str:
    """The product without the maker's name, which newer drivers put before it: `NVIDIA H200` is `H200`."""
    return name.removeprefix("NVIDIA ").strip()


def _find_chip(device: Device) -> tuple[GpuSpec | None, str | None]:
    """The table's entry for this device, or None and the reason. Two cards of one name differ in multiprocessors."""
    if device.mig:
        return None, f"{device.name} is in MIG mode: an instance has only a part of the chip"
    if device.kind not in {"cuda", "rocm"}:
        return None, f"no sourced peak for {device.kind} devices"
    plain = strip_maker(device.name)
    chips = [chip for chip in load_gpu_specs() if plain in chip.names or device.name in chip.names]
    if not chips:
        return None, f"{device.name} is not in the table of peaks"
    if device.multiprocessors is not None:
        matching = [chip for chip in chips if chip.units in {None, device.multiprocessors}]
        if not matching:
            known = " or ".join(str(chip.units) for chip in chips)
            return (
                None,
                f"{device.name} shows {device.multiprocessors} multiprocessors, the product in the table {known}",
            )
        return matching[0], None
    if len(chips) > 1:
        known = " and ".join(str(chip.units) for chip in chips)
        return None, f"{device.name} was sold with {known} multiprocessors, and this one's are unknown"
    return chips[0], None


def _make_rated_peak(chip: GpuSpec, precision: str) -> Peak:
    if precision in chip.published:
        return Peak(chip.published[precision], "published by the maker", None, chip.source)
    rate = chip.rates.get(precision)
    if rate is None or chip.clock is None or chip.units is None:
        return Peak(None, reason=_explain_no_rate(chip, precision))
    tensor = precision != "fp32" and chip.tensor_clock is not None
    clock = round((chip.tensor_clock if tensor and chip.tensor_clock else chip.clock) * 1e9)
    return Peak(
        float(chip.units * rate * clock),
        _product(chip.units, chip, rate, clock, chip.clock_kind),
        float(clock),
        chip.source,
    )


def _explain_no_rate(chip: GpuSpec, precision: str) -> str:
    return f"{chip.names[0]} has no {precision} unit with float32 accumulation, or none with a sourced rate"


def _product(units: int, chip: GpuSpec, rate: int, clock_hertz: float, kind: str) -> str:
    unit = "CUs" if chip.names[0].startswith("AMD") else "SMs"
    return f"{units} {unit} x {rate} FLOP/clk x {clock_hertz / 1e9:.3f} GHz ({kind})"


def _cpu_peak(machine: Machine, precision: str, *, named_allowed: bool) -> Peak:
    core, reason = find_core(machine)
    named = find_named_cpu(machine.cpu_name)
    if machine.cpu_max_clock_hertz is None and named is not None and named_allowed:
        return _named_peak(named, precision, machine.cores_allowed)
    if core is None:
        return Peak(None, reason=reason)
    rate = core.rate(precision, machine.cpu_isa)
    if rate is None:
        return Peak(None, reason=f"no sourced {precision} rate for {core.name} with the instructions this system shows")
    if machine.cpu_max_clock_hertz is None:
        return Peak(None, reason="the system shows no maximum boost clock (virtual machine, or base clock only)")
    if machine.cores_physical is None:
        return Peak(None, reason="the number of physical cores is unknown")
    cores, clock = min(machine.cores_physical, machine.cores_allowed), machine.cpu_max_clock_hertz
    formula = f"{cores} cores x {rate} FLOP/clk x {clock / 1e9:.3f} GHz (maximum boost)"
    return Peak(cores * rate * clock, formula, clock, f"{core.name}: {core.source}; clock from cpufreq")


def _named_peak(named: NamedCpu, precision: str, cores_allowed: int) -> Peak:
    rate = named.core.rate(precision, named.isa)
    if rate is None:
        return Peak(None, reason=f"no sourced {precision} rate for {named.core.name}")
    cores = min(named.cores, cores_allowed)
    formula = f"{cores} cores x {rate} FLOP/clk x {named.clock:.3f} GHz ({named.clock_kind})"
    return Peak(cores * rate * named.clock * 1e9, formula, named.clock * 1e9, f"{named.source}; {named.core.source}")
