"""`cnnbench data`: fetch MNIST, verify it, say where it is. Answers on standard output, progress on standard error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click
from click.core import ParameterSource

from cnnbench.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.data.mnist import IdxFile

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="CNNBENCH_DATA",
    show_envvar=True,
    help="Directory of MNIST's four IDX files.  [default: the user's cache]",
)
"""`--data-dir`, which beats CNNBENCH_DATA, which beats the settings, which beat the user's cache."""


@click.group("data")
def data() -> None:
    """Fetch, verify and find MNIST."""


@data.command("fetch")
@data_dir_option
@click.pass_context
def fetch_command(context: click.Context, data_dir: Path | None) -> None:
    """Download what is missing, verify everything, print the directory."""
    from rich.console import Console

    from cnnbench.data import fetch

    directory = data_dir or _cache_dir()
    quiet = bool(context.find_root().params.get("quiet"))
    with show_download(Console(stderr=True), quiet=quiet) as on_progress:
        fetch(directory, on_progress=on_progress)
    click.echo(directory)


@data.command("verify")
@data_dir_option
def verify_command(data_dir: Path | None) -> None:
    """Print a line a file: the SHA-256 of its decompressed contents, the file, OK or BAD."""
    from cnnbench.data import mnist

    directory = data_dir or _cache_dir()
    problems = [problem for file in mnist.FILES if (problem := _verify_file(directory, file)) is not None]
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))


@data.command("where")
@data_dir_option
@click.pass_context
def where_command(context: click.Context, data_dir: Path | None) -> None:
    """Print the directory a run would take MNIST from, and where its name came from (flag, env, settings or cache)."""
    from cnnbench.data import DataUnavailableError, find, list_candidates

    candidates = list_candidates(**split_by_origin(context, data_dir), cache_dir=_cache_dir())
    found = find(candidates)
    if found is None:
        raise DataUnavailableError(
            f"MNIST is not on this machine: {candidates[-1][1]} (the user's cache) does not hold it; "
            "run `cnnbench data fetch`, or name its directory with --data-dir or CNNBENCH_DATA"
        )
    click.echo(f"{found.directory}\t{found.origin}")


class Directories(TypedDict):
    """The value of `data_dir_option` by who named it; at most one is not None."""

    data_dir: Path | None
    env_dir: Path | None
    settings_dir: Path | None


def split_by_origin(context: click.Context, data_dir: Path | None) -> Directories:
    """The value of `data_dir_option` under the name of where it came from: flag, CNNBENCH_DATA or settings."""
    source = context.get_parameter_source("data_dir")
    named: Directories = {"data_dir": None, "env_dir": None, "settings_dir": None}
    if source is ParameterSource.ENVIRONMENT:
        return {**named, "env_dir": data_dir}
    if source is ParameterSource.DEFAULT_MAP:
        return {**named, "settings_dir": data_dir}
    return {**named, "data_dir": data_dir}


@contextmanager
def show_download(console: Console, *, quiet: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:
    """An `on_progress` for `fetch` and `resolve`: bars on a terminal, elsewhere a line a file, quiet nothing."""
    if quiet:
        yield lambda name, done_bytes, total_bytes: None
    elif console.is_terminal:
        with _show_bars(console) as on_progress:
            yield on_progress
    else:
        yield _print_lines(console)


@contextmanager
def _show_bars(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def update(name: str, done_bytes: int, total_bytes: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=None)
            progress.update(tasks[name], completed=done_bytes, total=total_bytes)

        yield update


def _print_lines(console: Console) -> Callable[[str, int, int | None], None]:
    def update(name: str, done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes == 0:
            console.print(f"downloading {name}", highlight=False, markup=False)

    return update


def _verify_file(directory: Path, file: IdxFile) -> str | None:
    """Print the file's line; what is wrong with it."""
    from cnnbench.data import mnist

    try:
        mnist.read_file(directory, file)
    except DataError as error:
        click.echo(f"{'-' * len(file.sha256)}  {directory / file.name}  BAD")
        return str(error)
    click.echo(f"{file.sha256}  {mnist.locate_file(directory, file)}  OK")
    return None


def _cache_dir() -> Path:
    from cnnbench.data import default_cache_dir

    return default_cache_dir(os.environ)
