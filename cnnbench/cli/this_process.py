"""What a command that measures needs of its own process: the machine it runs on, a console, and an end that is orderly."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from cnnbench.machine.inventory import Inventory


def find_inventory() -> Inventory:
    """This machine, and the devices that this process may see. Raises DeviceError where torch cannot be asked."""
    from cnnbench.machine.inventory import take_inventory

    return take_inventory(visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"))


def make_console() -> Console:
    """A console on standard error, since standard output is for results; it prints every text as it is."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end a measurement as Ctrl-C does, with what was measured saved."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def find_data_cache() -> Path:
    """Where MNIST is kept for this user; other caches of cnnbench are beside it."""
    from cnnbench.data import default_cache_dir

    return default_cache_dir(os.environ)
