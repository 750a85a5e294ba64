"""MNIST digits: which ones a run uses, and the verified arrays that a worker trains and tests on, in its job's split.

The command line asks `resolve` once which digits a run uses; each worker then calls `load` with the answer and gets
verified uint8 arrays. Nothing here prints or reads an environment variable, and numpy is the only heavy import.

Digits are looked for in the directories in order, else downloaded; else synthetic digits replace them, and a note says
so. A directory named on purpose (`--data-dir`, `CNNBENCH_DATA`, settings) must hold MNIST; only the user's cache may be
empty. A wrong file is an error in every directory: nothing falls back from it.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt

from cnnbench.data import mnist, points, synthetic
from cnnbench.data.download import DataUnavailableError, OnDownloadProgress, fetch
from cnnbench.errors import DataError
from cnnbench.schema import DataKind, Split

Origin = Literal["flag", "env", "settings", "cache"]
"""Where a directory's name came from: `--data-dir`, `CNNBENCH_DATA`, a settings file, or the user's cache."""

NAMED_BY = {
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
    """Choose where downloads go: `cnnbench/mnist` in XDG_CACHE_HOME, else ~/Library/Caches (macOS) or ~/.cache.

    A relative XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification asks. Raises DataError without a home.
    """
    cache = Path(environ.get("XDG_CACHE_HOME") or ".")
    if not cache.is_absolute():
        home = environ.get("HOME") or environ.get("USERPROFILE")
        if not home:
            raise DataError("HOME is not set, so there is no cache directory; set it, or name one with --data-dir")
        cache = Path(home) / ("Library/Caches" if platform == "darwin" else ".cache")
    return cache / "cnnbench" / "mnist"


def find(place: MnistDirectory) -> MnistDirectory | None:
    """Verify all four files of MNIST in the directory and return it; None for a cache that lacks some.

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
    """Find the digits to use: MNIST from the directory `named`, else from the cache, downloaded if it is missing.

    `auto` falls back on synthetic digits if the download fails; `synthetic` looks nowhere. Raises what `find` raises,
    and DataUnavailableError for `mnist` that cannot be downloaded.
    """
    if kind == "synthetic":
        return ResolvedData("synthetic", None)
    found = find(named or MnistDirectory("cache", cache_dir))
    if found is not None:
        return ResolvedData("mnist", found.directory)
    if not download:
        if kind == "mnist":
            raise DataUnavailableError(
                f"{cache_dir}: MNIST is not there, and the download was not allowed; "
                "run `cnnbench data fetch`, or name a directory that holds it with --data-dir"
            )
        note = (
            f"MNIST is not in {cache_dir} and a plan downloads nothing, so it is shown with SYNTHETIC digits; a run "
            "downloads MNIST first (as `cnnbench data fetch` does), and trains on synthetic digits only if that fails."
        )
        return ResolvedData("synthetic", None, note)
    try:
        fetch(cache_dir, on_progress=on_progress)
    except DataUnavailableError as error:
        if kind == "mnist":
            raise
        lost = "so this run trains on SYNTHETIC digits: times are comparable, accuracies are not."
        return ResolvedData("synthetic", None, f"MNIST is not available, {lost} Reason: {error}")
    return ResolvedData("mnist", cache_dir)


Examples = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
VALIDATION_IMAGES = 5_000
"""The first images of the 60,000, which TensorFlow's MNIST reader (`read_data_sets`, `validation_size=5000`) held out
for validation and the lecture never trained on; the other 55,000 were `mnist.train`."""


@dataclass(frozen=True)
class Dataset:
    """Digits as stored, grey values 0 to 255, or points. `source` is a directory, or names what was drawn and its version.

    Images are uint8 (n, 28, 28), labels uint8 (n,); points are float32 (n, features), their targets float32 (n,). n is
    55,000 or 60,000 for training by the split, 10,000 for test.
    """

    kind: DataKind
    train_images: Examples
    train_labels: Examples
    test_images: Examples
    test_labels: Examples
    source: str


def load(kind: DataKind, split: Split, directory: Path | None) -> Dataset:
    """Read MNIST from the directory, every file verified, or draw procedural digits (the directory is not read).

    Takes 0.4 s for MNIST, 0.9 s for synthetic digits. Raises DataError for a file that is missing or wrong, for MNIST
    without a directory, and for a kind or split that is not one of these.
    """
    first = _find_first(split)
    if kind == "synthetic":
        images, labels, test_images, test_labels = synthetic.generate()
        source = f"procedural digits, version {synthetic.VERSION}, seed {synthetic.SEED}"
        return Dataset(kind, images[first:], labels[first:], test_images, test_labels, source)
    if kind != "mnist":
        raise DataError(f"no digits of kind {kind!r}; choose mnist or synthetic")
    if directory is None:
        raise DataError("MNIST was asked for without a directory; give --data-dir or run `cnnbench data fetch`")
    # Copies, which torch can share without warning that they are read-only, and which let the files' bytes go.
    arrays = {
        name: mnist.parse(mnist.read_file(directory, file), file)[start:].copy()
        for name, file, start in zip(ARRAYS, mnist.FILES, (first, first, 0, 0), strict=True)
    }
    return Dataset(kind, **arrays, source=str(directory))


def load_points(name: str, split: Split) -> Dataset:
    """Draw the points of that name; takes 0.1 s. Raises DataError for a split that is not one."""
    first = _find_first(split)
    examples, targets, test_examples, test_targets = points.generate(name)
    source = f"points {name!r}, version {points.VERSION}, seed {points.SEED}"
    return Dataset("points", examples[first:], targets[first:], test_examples, test_targets, source)


def _find_first(split: Split) -> int:
    """Find the first training example of the split. Raises DataError for another split."""
    if split not in ("train-55000", "train-60000"):
        raise DataError(f"split {split!r} is not one of train-55000, train-60000")
    return VALIDATION_IMAGES if split == "train-55000" else 0


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def write_decompressed(dataset: Dataset) -> IO[bytes]:
    """Write the verified digits, decompressed, into an unnamed temporary file for `read_decompressed`."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process lives
    for name in ARRAYS:
        np.save(file, getattr(dataset, name), allow_pickle=False)
    file.flush()
    return file


def read_decompressed(file: IO[bytes], like: Dataset) -> Dataset:
    """Read the digits that `write_decompressed` wrote from `like`, from the file's beginning."""
    file.seek(0)
    content = io.BytesIO(file.read())
    arrays = {name: np.load(content, allow_pickle=False) for name in ARRAYS}
    return Dataset(like.kind, **arrays, source=like.source)
