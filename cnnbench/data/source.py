"""Which digits this run uses: look in the directories in order, else download, else say loudly that they are drawn.

What was named on purpose (`--data-dir`, `CNNBENCH_DATA`, settings) must hold MNIST; only the user's cache may be empty. A wrong
file is an error wherever it lies: nothing falls back from it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnnbench.data import mnist
from cnnbench.data.download import DataUnavailableError, OnDownloadProgress, fetch
from cnnbench.errors import DataError

Origin = Literal["flag", "env", "settings", "cache"]
"""Where a directory's name came from: `--data-dir`, `CNNBENCH_DATA`, a settings file, or the user's cache."""

NAMED_BY: dict[Origin, str] = {
    "flag": "--data-dir",
    "env": "CNNBENCH_DATA",
    "settings": "data-dir in the settings",
    "cache": "the user's cache",
}


@dataclass(frozen=True)
class MnistDirectory:
    """A directory that holds MNIST, verified, and where its name came from."""

    origin: Origin
    directory: Path


@dataclass(frozen=True)
class ResolvedData:
    """The digits to use. `directory` is None for synthetic ones; `note` says why they replace MNIST, where they do."""

    kind: Literal["mnist", "synthetic"]
    directory: Path | None
    note: str | None = None


def default_cache_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where downloads go: `cnnbench/mnist` in XDG_CACHE_HOME, else in ~/Library/Caches (macOS) or ~/.cache.

    A relative XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification asks. DataError without a home.
    """
    cache = Path(environ.get("XDG_CACHE_HOME") or ".")
    if not cache.is_absolute():
        home = environ.get("HOME") or environ.get("USERPROFILE")
        if not home:
            raise DataError("HOME is not set, so there is no cache directory; set it, or name one with --data-dir")
        cache = Path(home) / ("Library/Caches" if platform == "darwin" else ".cache")
    return cache / "cnnbench" / "mnist"


def list_candidates(
    data_dir: Path | None, env_dir: Path | None, cache_dir: Path, settings_dir: Path | None = None
) -> list[tuple[Origin, Path]]:
    """The directories to search, first the one that wins."""
    candidates: list[tuple[Origin, Path | None]] = [
        ("flag", data_dir),
        ("env", env_dir),
        ("settings", settings_dir),
        ("cache", cache_dir),
    ]
    return [(origin, directory) for origin, directory in candidates if directory is not None]


def find(candidates: Sequence[tuple[Origin, Path]]) -> MnistDirectory | None:
    """The first candidate, if it holds MNIST, all four files verified; None where there is only a cache without all.

    Raises DataError where a named directory lacks a file, and where a file of any of the searched is wrong.
    """
    for origin, directory in candidates:
        missing = mnist.missing_files(directory)
        if missing and origin != "cache":
            raise DataError(
                f"{directory} ({NAMED_BY[origin]}): does not hold MNIST, there is no {' and no '.join(missing)} "
                f"(plain or .gz); name another directory or {mnist.remedy(directory)}"
            )
        for file in mnist.FILES:
            if file.name not in missing:
                mnist.read_file(directory, file)
        if not missing:
            return MnistDirectory(origin, directory)
    return None


def resolve(
    kind: Literal["auto", "mnist", "synthetic"],
    *,
    data_dir: Path | None,
    env_dir: Path | None,
    cache_dir: Path,
    settings_dir: Path | None = None,
    on_progress: OnDownloadProgress | None = None,
    download: bool = True,
) -> ResolvedData:
    """The digits to use: MNIST where it is found or can be downloaded into the cache, else for `auto` synthetic ones.

    `synthetic` looks nowhere. Raises DataError as `find`, and for `mnist` DataUnavailableError where it cannot be had.
    """
    if kind == "synthetic":
        return ResolvedData("synthetic", None)
    found = find(list_candidates(data_dir, env_dir, cache_dir, settings_dir))
    if found is not None:
        return ResolvedData("mnist", found.directory)
    if not download:
        if kind == "mnist":
            raise DataUnavailableError(
                f"{cache_dir}: MNIST is not there and was not to be downloaded; "
                "run `cnnbench data fetch`, or name a directory that holds it with --data-dir"
            )
        return ResolvedData("synthetic", None, _NOT_TRIED.format(cache_dir))
    try:
        fetch(cache_dir, on_progress=on_progress)
    except DataUnavailableError as error:
        if kind == "mnist":
            raise
        return ResolvedData("synthetic", None, _explain(error))
    return ResolvedData("mnist", cache_dir)


_NOT_TRIED = (
    "MNIST is not in {} and nothing is downloaded for a plan, so it is shown with SYNTHETIC digits; a run downloads MNIST "
    "first (so does `cnnbench data fetch`), and trains on synthetic digits only where it cannot."
)


def _explain(error: DataUnavailableError) -> str:
    return (
        "MNIST could not be had, so this run trains on SYNTHETIC digits: times are comparable, accuracies are not. "
        f"Reason: {error}"
    )
