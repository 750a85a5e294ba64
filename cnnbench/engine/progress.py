"""Messages from a worker to its parent: a phase begins, so many timed steps are done, and what memory is held then.

Never more than one a second while steps are counted, and only between steps or blocks, so that progress does not disturb
what it reports. Memory is read when a message goes and at no other time: two small reads that wait for no device.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable

from cnnbench.engine.memory import resident_bytes

INTERVAL_NS = 1_000_000_000


class ProgressWriter:
    """Messages to the parent, one JSON line each, at most one a second while counting steps."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._due_ns = 0
        self._total = 0
        self._sizes: dict[str, Callable[[], int | None]] = {"host_bytes": resident_bytes}

    @property
    def wanted(self) -> bool:
        """Whether anyone reads."""
        return self._descriptor is not None

    def include_memory(self, allocated_bytes: Callable[[], int | None]) -> None:
        """From now on tell the device's allocated bytes too; the call must not synchronise (see devices.base.Attached)."""
        self._sizes["device_bytes"] = allocated_bytes

    def phase(self, name: str, total: int = 0) -> None:
        """Tell that a phase begins; `total` timed steps will be counted in it."""
        self._total = total
        self._send({"phase": name, "done": 0, "total": total})

    def count(self, done: int) -> None:
        """Tell how many steps are done, if a second has passed since the last time."""
        now = time.perf_counter_ns()
        if now >= self._due_ns or done == self._total:
            self._due_ns = now + INTERVAL_NS
            self._send({"done": done, "total": self._total})

    def _send(self, message: dict[str, object]) -> None:
        if self._descriptor is None:
            return
        sizes = {name: size for name, read in self._sizes.items() if (size := read()) is not None}
        # A reader that is gone or slow must not hold up the work; the parent's death is noticed elsewhere.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, json.dumps(message | sizes).encode() + b"\n")
