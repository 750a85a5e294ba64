"""No process of ours outlives its parent: the kernel's parent-death signal, where there is one."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent_process() -> bool:
    """Ask the kernel to kill this process when its parent dies; False where the kernel has no such service."""
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)) == 0)
    except (OSError, AttributeError):
        return False
