"""The arrays a worker trains and tests on, verified, in the split its job names."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from cnnbench.data import mnist, synthetic
from cnnbench.errors import DataError
from cnnbench.schema import DataKind, Split

VALIDATION_IMAGES = 5_000
"""The first images of the 60,000, which TensorFlow's MNIST reader (`read_data_sets`, `validation_size=5000`) held out
for validation and the lecture never trained on; the other 55,000 were `mnist.train`."""


@dataclass(frozen=True)
class Dataset:
    """Digits as they came: grey values 0 to 255, not scaled. `source` is a directory, or says that they were drawn.

    Images are uint8 (n, 28, 28), labels uint8 (n,); n is 55,000 or 60,000 for training by the split, 10,000 for test.
    """

    kind: DataKind
    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.uint8]
    test_images: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.uint8]
    source: str


def load(kind: DataKind, split: Split, directory: Path | None) -> Dataset:
    """MNIST out of the directory, every file verified, or procedural digits (the directory is not looked at).

    Takes 0.4 s for MNIST, 0.9 s for synthetic digits. Raises DataError for a file that is missing or wrong, for MNIST
    without a directory, and for a kind or split that is not one of these.
    """
    if split not in ("train-55000", "train-60000"):
        raise DataError(f"split {split!r} is not one of train-55000, train-60000")
    first = VALIDATION_IMAGES if split == "train-55000" else 0
    if kind == "synthetic":
        images, labels, test_images, test_labels = synthetic.generate()
        source = f"procedural digits, version {synthetic.VERSION}, seed {synthetic.SEED}"
        return Dataset(kind, images[first:], labels[first:], test_images, test_labels, source)
    if kind != "mnist":
        raise DataError(f"no digits of kind {kind!r}; choose mnist or synthetic")
    if directory is None:
        raise DataError("MNIST was asked for without a directory; give --data-dir or run `cnnbench data fetch`")
    return Dataset(
        kind,
        _read_array(directory, mnist.TRAIN_IMAGES, first),
        _read_array(directory, mnist.TRAIN_LABELS, first),
        _read_array(directory, mnist.TEST_IMAGES),
        _read_array(directory, mnist.TEST_LABELS),
        str(directory),
    )


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def write_decompressed(dataset: Dataset) -> IO[bytes]:
    """The verified digits, decompressed, in a file without a name that goes with the process: what `read_decompressed` reads."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process lives
    for name in ARRAYS:
        np.save(file, getattr(dataset, name), allow_pickle=False)
    file.flush()
    return file


def read_decompressed(file: IO[bytes], like: Dataset) -> Dataset:
    """The digits that `write_decompressed` wrote of `like`, read from the file's beginning."""
    file.seek(0)
    content = io.BytesIO(file.read())
    arrays = {name: np.load(content, allow_pickle=False) for name in ARRAYS}
    return Dataset(like.kind, **arrays, source=like.source)


def _read_array(directory: Path, file: mnist.IdxFile, first: int = 0) -> npt.NDArray[np.uint8]:
    """A copy, which torch can share without warning that it is read-only, and which lets the file's bytes go."""
    return mnist.parse(mnist.read_file(directory, file), file)[first:].copy()
