"""Which MNIST a command uses: by flag, environment, settings or the user's cache, downloaded where it is nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from click.core import ParameterSource

from cnnbench.cli.this_process import find_data_cache

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.data import MnistDirectory, Origin, ResolvedData
    from cnnbench.data.download import OnDownloadProgress
    from cnnbench.schema import DataKind, Job


def find_named(context: click.Context, data_dir: Path | None) -> MnistDirectory | None:
    """The value of `options.DATA_DIR` with who named it: flag, CNNBENCH_DATA or settings; None where nobody did."""
    from cnnbench.data import MnistDirectory

    if data_dir is None:
        return None
    source = context.get_parameter_source("data_dir")
    origins: dict[object, Origin] = {ParameterSource.ENVIRONMENT: "env", ParameterSource.DEFAULT_MAP: "settings"}
    return MnistDirectory(origins.get(source, "flag"), data_dir)


class MnistSource:
    """Which digits this run trains on: asked at most once, when the plan first needs any."""

    def __init__(
        self, context: click.Context, data_dir: Path | None, console: Console, *, download: bool = True
    ) -> None:
        self._named = find_named(context, data_dir)
        self._console, self._download = console, download
        self._resolved: ResolvedData | None = None

    def kind(self) -> DataKind:
        """For a suite's `data = "auto"`: MNIST where it is or can be had, else synthetic, said loudly."""
        return self._resolve("auto").kind

    def directory_for(self, plan: Sequence[Job]) -> Path | None:
        """Where the plan's MNIST lies; None where it trains on none. Raises DataError where it is not to be had."""
        if not any(job.data == "mnist" for job in plan):
            return None
        if self._resolved is None or self._resolved.kind != "mnist":
            self._resolved = None
            self._resolve("mnist")
        return self._resolved.directory if self._resolved else None

    def _resolve(self, kind: Literal["auto", "mnist"]) -> ResolvedData:
        from cnnbench.data import resolve

        if self._resolved is None:
            with show_download(self._console, quiet=not self._download) as on_progress:
                self._resolved = resolve(
                    kind,
                    named=self._named,
                    cache_dir=find_data_cache(),
                    on_progress=on_progress,
                    download=self._download,
                )
            if self._resolved.note:
                note = f"WARNING: {self._resolved.note}"
                self._console.print(note, style="bold yellow")
        return self._resolved


@contextmanager
def show_download(console: Console, *, quiet: bool = False) -> Iterator[OnDownloadProgress]:
    """An `on_progress` for `fetch` and `resolve`: bars on a terminal, elsewhere a line a file, quiet nothing."""
    if quiet:
        yield lambda name, done_bytes, total_bytes: None
    elif console.is_terminal:
        with _show_bars(console) as on_progress:
            yield on_progress
    else:
        yield _print_lines(console)


@contextmanager
def _show_bars(console: Console) -> Iterator[OnDownloadProgress]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def update(name: str, done_bytes: int, total_bytes: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=None)
            progress.update(tasks[name], completed=done_bytes, total=total_bytes)

        yield update


def _print_lines(console: Console) -> OnDownloadProgress:
    def update(name: str, done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes == 0:
            console.print(f"downloading {name}")

    return update
