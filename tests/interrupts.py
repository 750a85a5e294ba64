"""A signal to this process at a time that is known."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

PATIENCE_SECONDS = 60.0


def interrupt_in_a_turn(journal: Path, log: Path, blocks: int, sent: signal.Signals = signal.SIGINT) -> None:
    """Send the signal from a thread, once so many blocks are saved and a worker of a later one is in its turn.

    While a worker is being started, nobody yet knows the process that the signal would leave behind.
    """

    def lines(path: Path, word: str = "") -> int:
        return sum(word in line for line in path.read_text().splitlines()) if path.exists() else 0

    def send() -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while lines(journal) < 1 + blocks and time.monotonic() < deadline:
            time.sleep(0.01)
        begun = lines(log, "begins")
        while lines(log, "begins") == begun and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), sent)

    threading.Thread(target=send).start()
