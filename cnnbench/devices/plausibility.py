"""Whether a sensor may be believed.

Sensors lie: they read negative, stand still, or start again from zero after a driver reset. These are the plain checks
every reading passes before it is stored (`require_plausible`) and every pair of counter readings before a difference is formed
(`counter_growth`, `energy_between`). A reading that fails is unknown; it is never repaired.
"""

from __future__ import annotations


def require_plausible(value: float, low: float, high: float, unit: str) -> float:
    """The value, when it lies within [low, high]. Raises ValueError, which says the value, otherwise (nan included)."""
    if not low <= value <= high:
        raise ValueError(f"the sensor reads {value:g} {unit}, outside {low:g} to {high:g}")
    return value


def counter_growth(before: float | None, after: float | None) -> float | None:
    """What a counter gained between two readings; None where one is missing or negative, or the counter was reset in between.

    Standing still is allowed: stolen and throttled time may be zero.
    """
    return after - before if before is not None and after is not None and 0 <= before <= after else None


def energy_between(before_joules: float | None, after_joules: float | None, seconds: float) -> float | None:
    """Joules between two readings of an energy counter, `seconds` apart; None where they cannot be told.

    Power is never zero, so a counter that stood still for a second or more is frozen: NVML's ticks about every 0.1 s and RAPL's
    every 0.001 s, and ten ticks without growth is no counter.
    """
    growth = counter_growth(before_joules, after_joules)
    return None if growth == 0 and seconds >= 1.0 else growth
