"""Cores for several processes of one job: each its own, so that no two ranks or copies compute on the same one.

The cores this process may use are put in the order in which they lie on the chips, so that the two threads of one core stand
side by side and a group shares as few cores with its neighbours as can be. A rest that cannot be dealt out evenly stays idle.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

SYS = Path("/sys/devices/system/cpu")


def pin_process(group: int, groups: int, *, sys: Path = SYS) -> str | None:
    """Hold this process, and every thread it starts from now on, to its group of cores; which, or None where none can be held."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = split_cores(os.sched_getaffinity(0), groups, sys=sys)[group]
    os.sched_setaffinity(0, cores)
    return describe_cores(cores)


def describe_cores(cores: Iterable[int]) -> str:
    """`cores 0,1`."""
    return f"cores {','.join(map(str, sorted(cores)))}"


def split_cores(allowed: Iterable[int], groups: int, *, sys: Path = SYS) -> list[list[int]]:
    """The cores in equal groups without overlap. Raises ValueError where there are fewer cores than groups."""
    ordered = sorted(allowed, key=lambda core: (*_read_core_position(core, sys), core))
    each = len(ordered) // groups
    if each == 0:
        raise ValueError(f"{groups} processes need {groups} cores, this process may use {len(ordered)}")
    return [ordered[group * each : (group + 1) * each] for group in range(groups)]


def _read_core_position(core: int, sys: Path) -> tuple[int, int]:
    """(package, core of it), where the kernel says; else all alike, so that the number decides."""
    topology = sys / f"cpu{core}" / "topology"
    try:
        return tuple(int((topology / name).read_text()) for name in ("physical_package_id", "core_id"))  # type: ignore[return-value]
    except (OSError, ValueError):
        return 0, 0
