"""Plain checks of whether a sensor may be believed.

Sensors lie: they read negative, freeze, or start again from zero after a driver reset. Every reading is checked before
it is stored (`require_plausible`), and every pair of counter readings before their difference is computed
(`counter_growth`, `energy_between`). A reading that fails is unknown; it is never repaired.
"""

from __future__ import annotations


def require_plausible(value: float, low: float, high: float, unit: str) -> float:
    """Return a value within [low, high]. Raises ValueError with the value otherwise (nan included)."""
    if not low <= value <= high:
        raise ValueError(f"the sensor reads {value:g} {unit}, outside {low:g} to {high:g}")
    return value


def counter_growth(before: float | None, after: float | None) -> float | None:
    """Compute a counter's growth between two readings; None if one is missing or negative, or the counter was reset.

    No growth is allowed: stolen and throttled time may be zero.
    """
    return after - before if before is not None and after is not None and 0 <= before <= after else None


def energy_between(before_joules: float | None, after_joules: float | None, seconds: float) -> float | None:
    """Compute the joules between two readings of an energy counter, `seconds` apart; None if they are unknown.

    Power is never zero, so a counter without growth for a second or more is frozen: NVML's ticks about every 0.1 s and
    RAPL's every 0.001 s, so it missed at least ten ticks.
    """
    growth = counter_growth(before_joules, after_joules)
    return None if growth == 0 and seconds >= 1.0 else growth
