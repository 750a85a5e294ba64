"""Messages from a worker to its parent: a phase begins, so many timed steps are done. Never more than one a second
while steps are counted, and only between steps or blocks, so that progress does not disturb what it reports.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

INTERVAL_NS = 1_000_000_000


class Progress:
    """Messages to the parent, one JSON line each, at most one a second while counting steps."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._due_ns = 0
        self._total = 0

    @property
    def wanted(self) -> bool:
        """Whether anyone reads."""
        return self._descriptor is not None

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
        if self._descriptor is not None:
            # A reader that is gone or slow must not hold up the work; the parent's death is noticed elsewhere.
            with contextlib.suppress(OSError):
                os.write(self._descriptor, json.dumps(message).encode() + b"\n")
