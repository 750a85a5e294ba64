"""What a command that measures needs in its process: the machine, a console, an orderly end, and the MNIST to train on.

MNIST is named by flag, environment or settings, else it is in the user's cache, downloaded if necessary.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.data import MnistDirectory, Origin, ResolvedData
    from cnnbench.data.download import OnDownloadProgress
    from cnnbench.machine.inventory import Inventory
    from cnnbench.schema import DataKind, Job


def find_inventory() -> Inventory:
    """Find this machine and the devices that this process may see. Raises DeviceError if torch does not start."""
    from cnnbench.machine.inventory import take_inventory

    return take_inventory(visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"))


def make_console() -> Console:
    """Make a console on standard error, since standard output is for results; it prints every text as it is."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end a measurement as Ctrl-C does, with all records saved."""

    signal.signal(signal.SIGTERM, signal.default_int_handler)


def find_data_cache() -> Path:
    """Return the path of MNIST in the user's cache; other caches of cnnbench are beside it."""
    from cnnbench.data import default_cache_dir

    return default_cache_dir(os.environ)


def find_named(context: click.Context) -> MnistDirectory | None:
    """Find the value of `options.DATA_DIR` and its origin: flag, CNNBENCH_DATA or settings; None without a value."""
    from cnnbench.data import MnistDirectory

    data_dir, source = context.params["data_dir"], context.get_parameter_source("data_dir")
    origins: dict[object, Origin] = {ParameterSource.ENVIRONMENT: "env", ParameterSource.DEFAULT_MAP: "settings"}
    return MnistDirectory(origins.get(source, "flag"), data_dir) if data_dir else None


class MnistSource:
    """The digits that this run trains on, resolved at most once, when the plan first needs them."""

    def __init__(self, context: click.Context, console: Console, *, download: bool = True) -> None:
        self._named, self._console, self._download = find_named(context), console, download
        self._resolved: ResolvedData | None = None

    def kind(self) -> DataKind:
        """Choose the digits for a suite's `data = "auto"`: MNIST if possible, else synthetic ones with a note."""
        return (self._resolved or self._resolve("auto")).kind

    def directory_for(self, plan: Sequence[Job]) -> Path | None:
        """Find the plan's MNIST directory; None if it needs no MNIST. Raises DataError if it is not available."""
        if not any(job.data == "mnist" for job in plan):
            return None
        known = self._resolved
        return (known if known and known.kind == "mnist" else self._resolve("mnist")).directory

    def _resolve(self, kind: Literal["auto", "mnist"]) -> ResolvedData:
        from cnnbench.data import resolve

        with show_download(self._console, quiet=not self._download) as on_progress:
            self._resolved = found = resolve(
                kind,
                named=self._named,
                cache_dir=find_data_cache(),
                on_progress=on_progress,
                download=self._download,
            )
        if found.note:
            self._console.print(f"WARNING: {found.note}", style="bold yellow")
        return found


@contextmanager
def show_download(console: Console, *, quiet: bool = False) -> Iterator[OnDownloadProgress]:
    """Make an `on_progress` for `fetch` and `resolve`: bars on a terminal, else one line per file, quiet nothing."""
    if quiet:
        yield lambda name, done_bytes, total_bytes: None
    elif console.is_terminal:
        from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

        with Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console
        ) as progress:
            tasks: dict[str, TaskID] = {}

            def update(name: str, done_bytes: int, total_bytes: int | None) -> None:
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=None)
                progress.update(tasks[name], completed=done_bytes, total=total_bytes)

            yield update
    else:

        def print_line(name: str, done_bytes: int, total_bytes: int | None) -> None:
            if done_bytes == 0:
                console.print(f"downloading {name}")

        yield print_line
