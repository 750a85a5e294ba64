"""Whether a sensor may be believed.

Sensors lie: they read negative, stand still, or start again from zero after a driver reset. These are the plain checks
every reading passes before it is stored (`require_plausible`) and every pair of counter readings before a difference is formed
(`counter_growth`, `energy_between`). A reading that fails is unknown, with the reason; it is never repaired.
"""

from __future__ import annotations

from dataclasses import dataclass

FROZEN_AFTER_SECONDS = 1.0
"""NVML's energy counter ticks about every 0.1 s and RAPL's every 0.001 s: ten ticks without growth is no counter."""


@dataclass(frozen=True)
class Growth:
    """How much a counter grew; None where it cannot be told, with the reason."""

    value: float | None
    reason: str | None = None


def require_plausible(value: float, low: float, high: float, unit: str) -> float:
    """The value, when it lies within [low, high]. Raises ValueError, which says the value, otherwise (nan included)."""
    if not low <= value <= high:
        raise ValueError(f"the sensor reads {value:g} {unit}, outside {low:g} to {high:g}")
    return value


def counter_growth(before: float | None, after: float | None) -> Growth:
    """What a counter gained between two readings. Standing still is allowed: stolen and throttled time may be zero."""
    if before is None or after is None:
        return Growth(None, "the counter was not read at both ends")
    if before < 0 or after < 0:
        return Growth(None, f"the counter reads negative ({min(before, after):g})")
    if after < before:
        return Growth(None, f"the counter was reset in between (it read {before:g}, then {after:g})")
    return Growth(after - before)


def energy_between(
    before_joules: float | None, after_joules: float | None, seconds: float, power_ceiling_watts: float | None = None
) -> Growth:
    """Joules between two readings of an energy counter, `seconds` apart.

    Power is never zero, so a counter that stood still for a second or more is frozen; one that grew faster than
    `power_ceiling_watts` (give twice the power limit: limits are averages) counts something else.
    """
    growth = counter_growth(before_joules, after_joules)
    if growth.value is None:
        return growth
    if growth.value == 0 and seconds >= FROZEN_AFTER_SECONDS:
        return Growth(None, f"the energy counter stood still for {seconds:.1f} s")
    if power_ceiling_watts is not None and seconds > 0 and growth.value / seconds > power_ceiling_watts:
        watts = growth.value / seconds
        return Growth(None, f"the energy counter says {watts:.0f} W, above the {power_ceiling_watts:.0f} W possible")
    return growth
