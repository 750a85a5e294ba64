"""Readings of the operating system at this moment: load, stolen and throttled time, clock, energy.

Read from /proc and /sys alone, whose paths are arguments so that tests can build a fake tree. Control groups are read
in both versions, since containers still use both. Every function returns a value or raises `MissingSensor` with the
reason; `telemetry.sample` turns that into a line of the record.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

CLOCKS_SAMPLED = 8
"""Cores whose clock is read: on some kernels each read waits for an interrupt on that core."""

PACKAGE_CEILING_WATTS = 1000.0
"""No CPU package draws more, so a RAPL counter cannot have wrapped sooner than its range over this."""


class MissingSensor(Exception):
    """This machine does not report this value; the message says why."""


def read_text(path: Path) -> str:
    """Read a small file's text, stripped. Raises MissingSensor if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise MissingSensor(f"{path}: {error.strerror or type(error).__name__}") from error


def read_lines(path: Path) -> list[str]:
    """Read a small file's lines; empty if it cannot be read."""
    try:
        return read_text(path).splitlines()
    except MissingSensor:
        return []


def read_line(path: Path) -> str:
    """Read a small file's first line; empty if it cannot be read."""
    return next(iter(read_lines(path)), "")


def read_number(path: Path) -> float:
    """Read the number at the beginning of a file. Raises MissingSensor."""
    text = read_text(path)
    try:
        return float(text.partition(" ")[0])
    except ValueError as error:
        raise MissingSensor(f"{path}: {text[:40]!r} is not a number") from error


def load_1min(proc: Path, sys: Path) -> float:
    """Read the number of processes running or waiting, averaged over one minute."""
    return read_number(proc / "loadavg")


def read_cpu_ticks(proc: Path) -> list[int]:
    """Read all cores' clock ticks since boot by use, in the order of proc(5), stolen time last. Raises MissingSensor.

    The guest time that follows is left out: user time includes it.
    """
    name, *fields = read_text(proc / "stat").partition("\n")[0].split()[:9] or [""]
    if name != "cpu" or len(fields) < 8 or not all(map(str.isdecimal, fields)):
        raise MissingSensor(f"{proc / 'stat'}: no steal column")
    return [int(text) for text in fields]


class CoreTicks(NamedTuple):
    """Clock ticks of some cores since boot: all, and those in which the core was used, by this guest or by others."""

    total: int
    used: int


def read_core_ticks(proc: Path, cores: Collection[int]) -> CoreTicks | None:
    """Add up the clock ticks of these cores, of all for an empty collection; None if they are not counted.

    Waiting for a disk is idle time (proc(5): `iowait`).
    """
    found = []
    for line in read_lines(proc / "stat"):
        name, *fields = line.split()[:9] or [""]
        core = name.removeprefix("cpu")
        wanted = name.startswith("cpu") and core.isdecimal() and (not cores or int(core) in cores)
        if wanted and len(fields) > 4 and all(map(str.isdecimal, fields)):
            ticks = [int(text) for text in fields]
            found.append((sum(ticks), sum(ticks) - ticks[3] - ticks[4]))
    return CoreTicks(*map(sum, zip(*found, strict=True))) if found else None


def steal_seconds(proc: Path, sys: Path) -> float:
    """Read the seconds since boot, over all cores, that the hypervisor gave to others while a core had work."""
    return read_cpu_ticks(proc)[-1] / os.sysconf("SC_CLK_TCK")


def cpu_pressure_seconds(proc: Path, sys: Path) -> float:
    """Read the seconds since boot in which some task waited for a core (Linux's Documentation/accounting/psi.rst)."""
    path = proc / "pressure/cpu"
    match = re.search(r"^some .*total=(\d+)", read_text(path), re.MULTILINE)
    if match is None:
        raise MissingSensor(f"{path}: no total")
    return int(match[1]) / 1e6


def cgroup_directories(controller: str, proc: Path, sys: Path) -> Iterator[Path]:
    """Yield the directories of this process's control group for a controller, innermost first, up to the root.

    Version 1 has one tree per controller, version 2 one for all (at `unified` if both are mounted). In a container the
    path may be the host's and absent here: then only the visible root remains.
    """
    base = sys / "fs/cgroup"
    for line in read_lines(proc / "self/cgroup"):
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if names and controller not in names.split(","):
            continue
        for mount in (base / names, base / controller) if names else (base, base / "unified"):
            if mount.is_dir() and (names or (mount / "cgroup.controllers").exists()):
                inner = Path("" if ".." in path.split("/") else path.lstrip("/"))
                yield from filter(Path.is_dir, (mount / level for level in (inner, *inner.parents)))
                break


def cgroup_cpu_limit(proc: Path, sys: Path) -> float | None:
    """Read the tightest CPU quota up to the root, quota over period in cores; None without one."""
    limits = []
    for directory in cgroup_directories("cpu", proc, sys):
        # Version 2 holds `200000 100000` or `max 100000`; version 1 two files, with -1 for none.
        texts = read_line(directory / "cpu.max").split() or [
            read_line(directory / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
        with contextlib.suppress(ValueError, ZeroDivisionError):
            quota, period = map(float, (*texts, "100000")[:2])
            if quota > 0:
                limits.append(quota / period)
    return min(limits, default=None)


def _first_lines(controller: str, names: Sequence[str], proc: Path, sys: Path) -> Iterator[str]:
    """Yield these files' first lines in the directories of this process's control group, empty for a missing file."""
    for directory in cgroup_directories(controller, proc, sys):
        for name in names:
            yield read_line(directory / name)


def cgroup_memory_limit(proc: Path, sys: Path) -> int | None:
    """Read the tightest memory limit up to the root, in bytes; None without one (version 1 then has nearly 2^63)."""
    texts = _first_lines("memory", ("memory.max", "memory.limit_in_bytes"), proc, sys)
    return min((int(text) for text in texts if text.isdigit() and int(text) < 1 << 60), default=None)


def cgroup_cpus(proc: Path, sys: Path) -> frozenset[int] | None:
    """Read the cores of this process's cpuset; None if no cpuset is visible."""
    names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
    return next(filter(None, map(parse_cpu_list, _first_lines("cpuset", names, proc, sys))), None)


def parse_cpu_list(text: str) -> frozenset[int]:
    """Parse `0-2,5` to {0, 1, 2, 5}; empty for a text that is not a list of cores."""
    cores: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            return frozenset()
        cores.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(cores)


def cgroup_throttled_seconds(proc: Path, sys: Path) -> float:
    """Sum the seconds for which quotas throttled this process's control groups, over all levels, since they exist."""
    lines = (line for folder in cgroup_directories("cpu", proc, sys) for line in read_lines(folder / "cpu.stat"))
    counters = re.findall(r"^throttled_(usec|time) (\d+)", "\n".join(lines), re.MULTILINE)
    found = [int(digits) / (1e6 if unit == "usec" else 1e9) for unit, digits in counters]  # version 1 has nanoseconds
    if not found:
        raise MissingSensor("no control group with CPU accounting is visible")
    return sum(found)


def cpu_clock_hertz(proc: Path, sys: Path) -> float:
    """Read the mean clock of the first eight cores, in hertz.

    Raises MissingSensor in a virtual machine, which shows one nominal clock that never changes: not a measurement.
    """
    clocks = []
    with contextlib.suppress(MissingSensor):
        for core in range(CLOCKS_SAMPLED):
            clocks.append(read_number(sys / f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq") * 1e3)
    if clocks:
        return sum(clocks) / len(clocks)
    text = read_text(proc / "cpuinfo")
    shown = [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.MULTILINE)]
    if not shown:
        raise MissingSensor("neither cpufreq nor /proc/cpuinfo shows a clock")
    if re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE):
        raise MissingSensor(f"the virtual machine shows only a nominal clock ({shown[0]:.0f} MHz)")
    return sum(shown) / len(shown) * 1e6


class RaplCounter:
    """Joules of all CPU packages since the first reading's wrap, from RAPL's sysfs (root only; absent in most VMs).

    Each package's counter starts again at `max_energy_range_uj`; wraps are added back, package by package. Between two
    readings further apart than a counter's range over 1 kW it may have wrapped unseen: then MissingSensor is raised.
    """

    def __init__(self, sys: Path, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._sys = sys
        self._now_seconds = now_seconds
        self._seen: dict[str, tuple[float, float]] = {}
        """Last reading and the joules added by wraps, by package."""
        self._read_at = math.nan  # compares false, so a first reading shows no wrap

    def read_joules(self) -> float:
        """Sum the joules over packages. Raises MissingSensor."""
        # `psys` and the parts of a package would be counted twice.
        zones = sorted((self._sys / "class/powercap").glob("intel-rapl:*"))
        packages = [
            each for each in zones if each.name.count(":") == 1 and read_line(each / "name").startswith("package")
        ]
        if not packages:
            raise MissingSensor("no RAPL package under /sys/class/powercap")
        now = self._now_seconds()
        since, self._read_at = now - self._read_at, now
        total, unseen = 0.0, None
        for directory in packages:
            energy, scope = (read_number(directory / name) / 1e6 for name in ("energy_uj", "max_energy_range_uj"))
            if not 0 <= energy <= scope:
                raise MissingSensor(f"RAPL reads {energy:g} J, outside its range of 0 to {scope:g} J")
            if since > scope / PACKAGE_CEILING_WATTS:
                unseen = f"RAPL's {scope:.0f} J counter may have wrapped unseen in {since:.0f} s"
            last, added = self._seen.get(directory.name, (0.0, 0.0))
            if energy < last:
                added += scope
                if energy + scope - last > since * PACKAGE_CEILING_WATTS:
                    unseen = f"RAPL's counter was reset (it read {last:.0f} J, then {energy:.0f} J {since:.1f} s later)"
            self._seen[directory.name] = energy, added
            total += energy + added
        if unseen is not None:
            raise MissingSensor(unseen)
        return total


_rapl = functools.cache(RaplCounter)
"""One counter per process, since it must remember its last reading to see a wrap."""

SENSORS: Mapping[str, Callable[[Path, Path], float]] = {
    **{
        each.__name__: each
        for each in (load_1min, steal_seconds, cpu_pressure_seconds, cgroup_throttled_seconds, cpu_clock_hertz)
    },
    "package_energy_joules": lambda proc, sys: _rapl(sys).read_joules(),
}
"""Sensors by their field of `schema.Telemetry`; each takes /proc and /sys."""
