"""Which digits this run uses: look in the directories in order, else download, else say loudly that they are drawn.

What was named on purpose (`--data-dir`, `CNNBENCH_DATA`, settings) must hold MNIST; only the user's cache may be empty. A wrong
file is an error wherever it lies: nothing falls back from it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
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
    """A directory that holds MNIST, or should, and where its name came from."""

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


def find(place: MnistDirectory) -> MnistDirectory | None:
    """The directory, if it holds MNIST, all four files verified; None for a cache that lacks some.

    Raises DataError where a directory that was named lacks a file, and where a file is wrong.
    """
    directory = place.directory
    missing = [file.name for file in mnist.FILES if mnist.locate_file(directory, file) is None]
    if missing and place.origin != "cache":
        raise DataError(
            f"{directory} ({NAMED_BY[place.origin]}): does not hold MNIST, there is no {' and no '.join(missing)} "
            f"(plain or .gz); name another directory or {mnist.remedy(directory)}"
        )
    for file in mnist.FILES:
        if file.name not in missing:
            mnist.read_file(directory, file)
    return None if missing else place


def resolve(
    kind: Literal["auto", "mnist", "synthetic"],
    *,
    named: MnistDirectory | None,
    cache_dir: Path,
    on_progress: OnDownloadProgress | None = None,
    download: bool = True,
) -> ResolvedData:
    """The digits to use: MNIST from the directory `named`, else from the cache, downloaded where it is not there; for `auto`
    synthetic ones where it cannot be.

    `synthetic` looks nowhere. Raises DataError as `find`, and for `mnist` DataUnavailableError where it cannot be had.
    """
    if kind == "synthetic":
        return ResolvedData("synthetic", None)
    found = find(named or MnistDirectory("cache", cache_dir))
    if found is not None:
        return ResolvedData("mnist", found.directory)
    if not download:
        if kind == "mnist":
            raise DataUnavailableError(
                f"{cache_dir}: MNIST is not there and was not to be downloaded; "
                "run `cnnbench data fetch`, or name a directory that holds it with --data-dir"
            )
        note = (
            f"MNIST is not in {cache_dir} and nothing is downloaded for a plan, so it is shown with SYNTHETIC digits; a run "
            "downloads MNIST first (so does `cnnbench data fetch`), and trains on synthetic digits only where it cannot."
        )
        return ResolvedData("synthetic", None, note)
    try:
        fetch(cache_dir, on_progress=on_progress)
    except DataUnavailableError as error:
        if kind == "mnist":
            raise
        lost = "so this run trains on SYNTHETIC digits: times are comparable, accuracies are not."
        return ResolvedData("synthetic", None, f"MNIST could not be had, {lost} Reason: {error}")
    return ResolvedData("mnist", cache_dir)
