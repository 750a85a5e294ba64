"""Energy from raw counter readings: gross, what is left without the idle machine's share, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench.analysis import stats
from cnnbench.analysis.stats import Estimate
from cnnbench.schema import Energy


@dataclass(frozen=True)
class EnergyUse:
    """Joules an image over the row's processes; `uncertainty` is the counter's own, as a share of the gross."""

    gross_joules: Estimate
    net_joules: float | None
    """Idle-subtracted; None where idling took as much, so that nothing can be told."""
    watts: float
    uncertainty: float
    source: str


LEAST_COUNTED = 1e-9
"""Joules or seconds below which a counter or a clock has said nothing: both count in millionths at best."""


def has_energy(energy: Energy | None) -> bool:
    """Whether there are joules, steps and seconds to divide; in some virtual machines the counter stands still."""
    if energy is None:
        return False
    return min(energy.window_joules, energy.window_steps, energy.window_seconds, energy.idle_seconds) > LEAST_COUNTED


def estimate_energy_use(found: Sequence[Energy], batch_size: int) -> EnergyUse | None:
    """What the processes that measured energy say; None where none did.

    Gross is the window's joules over its images. Net takes off the idle watts, measured just before, for as long as the
    window was. The counter is read somewhere within its tick at both ends: one tick of the window is uncertain.
    """
    if not found:
        return None
    images = [energy.window_steps * batch_size for energy in found]
    gross = [energy.window_joules / n for energy, n in zip(found, images, strict=True)]
    net = [
        (energy.window_joules - energy.idle_joules / energy.idle_seconds * energy.window_seconds) / n
        for energy, n in zip(found, images, strict=True)
    ]
    mean = sum(net) / len(net)
    return EnergyUse(
        gross_joules=stats.geometric(gross),
        net_joules=mean if mean > 0 else None,
        watts=sum(energy.window_joules / energy.window_seconds for energy in found) / len(found),
        uncertainty=max(energy.tick_seconds / energy.window_seconds for energy in found),
        source=found[0].source,
    )
