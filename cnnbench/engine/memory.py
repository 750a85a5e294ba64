"""The host's high-water mark of the timed part, and for progress what is resident this moment.

The mark is VmHWM from /proc/self/status, reset through /proc/self/clear_refs. Not `ru_maxrss`: it is inherited through fork and
exec, so a small child of a large parent reports the parent's peak.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HostMark:
    """Resident bytes when the mark was reset, and how the peak will be read."""

    before_bytes: int | None
    method: str


def reset_host_peak(proc: Path = Path("/proc/self")) -> HostMark:
    """Begin a new high-water mark; where the kernel does not allow it, the mark is the process's whole life's."""
    before = _status_bytes("VmRSS", proc)
    if before is None:
        return HostMark(None, f"n/a: no /proc/self/status on {sys.platform}")
    try:
        (proc / "clear_refs").write_text("5")
    except OSError as error:
        return HostMark(before, f"VmHWM of the whole process (reset refused: {error.strerror})")
    return HostMark(before, "VmHWM, reset before the timed part")


def host_peak_bytes(proc: Path = Path("/proc/self")) -> int | None:
    """Highest resident size since the mark was reset; None where there is no /proc."""
    return _status_bytes("VmHWM", proc)


def resident_bytes(proc: Path = Path("/proc/self")) -> int | None:
    """Resident bytes now, one short line read (statm, second field, in pages); None where there is no /proc."""
    try:
        return int((proc / "statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _status_bytes(key: str, proc: Path) -> int | None:
    try:
        for line in (proc / "status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
