"""MNIST's four IDX files: what each must hold, and a reader that accepts nothing else.

A directory holds the files plain or gzipped, under their usual names. The reader returns the array of one file after it
checked its size, its header and the SHA-256 of its decompressed contents, in that order, so that a message can say
what is wrong. The archive is not checked: the same contents are in circulation in different gzip wrappers.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnbench.errors import DataError

UNSIGNED_BYTE = 0x08
"""The IDX type code of unsigned bytes; the magic number is this shifted by 8 bits, plus the number of dimensions."""


@dataclass(frozen=True)
class IdxFile:
    """One of the four files: its name without `.gz`, the array's shape, the SHA-256 of its decompressed contents."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def header_bytes(self) -> bytes:
        """The magic number and the dimensions, big-endian, 4 bytes each."""
        return b"".join(number.to_bytes(4, "big") for number in (UNSIGNED_BYTE << 8 | len(self.shape), *self.shape))

    @property
    def size(self) -> int:
        """Bytes of the decompressed file."""
        return len(self.header_bytes) + prod(self.shape)


TRAIN_IMAGES = IdxFile(
    "train-images-idx3-ubyte",
    (60_000, 28, 28),
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
)
TRAIN_LABELS = IdxFile(
    "train-labels-idx1-ubyte", (60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
)
TEST_IMAGES = IdxFile(
    "t10k-images-idx3-ubyte", (10_000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
)
TEST_LABELS = IdxFile(
    "t10k-labels-idx1-ubyte", (10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def locate_file(directory: Path, file: IdxFile) -> Path | None:
    """Find the file in the directory, plain before gzipped; None if it has neither.

    Raises DataError for a directory that cannot be read, or a path that is not a directory.
    """
    try:
        if directory.exists() and not directory.is_dir():
            raise DataError(f"{directory}: is a file, not a directory of MNIST's IDX files; name the directory")
        for path in (directory / file.name, directory / f"{file.name}.gz"):
            if path.exists():
                return path
    except OSError as error:
        raise DataError(f"{directory}: cannot be read ({error.strerror}); check its permissions") from error
    return None


def read_file(directory: Path, file: IdxFile) -> bytes:
    """Read and verify the contents of the file, header included.

    Raises DataError, naming file and remedy, for a file that is missing, unreadable, truncated, or not MNIST's.
    """
    path = locate_file(directory, file)
    if path is None:
        raise DataError(f"{directory}: has no {file.name} or {file.name}.gz; {remedy(directory)}")
    return read_verified(path, file)


def read_verified(path: Path, file: IdxFile) -> bytes:
    """Read and verify the file at this path, decompressed if its name ends in `.gz`; raises as `read_file`."""
    try:
        with path.open("rb") as stored:
            plain = gzip.GzipFile(fileobj=stored) if path.suffix == ".gz" else stored
            # One byte more than a right file has: there gzip compares its checksum, and no hostile archive fills the memory.
            contents = plain.read(file.size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _make_data_error(path, f"is truncated or corrupt: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check that it is a file you may read") from error
    if fault := _find_fault(file, contents):
        raise _make_data_error(path, fault)
    return contents


def parse(contents: bytes, file: IdxFile) -> npt.NDArray[np.uint8]:
    """View verified contents as a read-only uint8 array of the file's shape."""
    return np.frombuffer(contents, dtype=np.uint8, offset=len(file.header_bytes)).reshape(file.shape)


def remedy(directory: Path) -> str:
    """Describe the command that downloads the files into the directory."""
    return f"run `cnnbench data fetch --data-dir {directory}`"


def _find_fault(file: IdxFile, contents: bytes) -> str:
    """Describe what is wrong with the contents; empty if they are right."""
    header = file.header_bytes
    if not contents:
        return "is empty"
    if contents[:4] != header[:4]:
        return f"has the magic number 0x{contents[:4].hex()}, not the 0x{header[:4].hex()} of its kind"
    if contents[: len(header)] != header[: len(contents)]:
        dimensions = [int.from_bytes(contents[at : at + 4], "big") for at in range(4, len(header), 4)]
        return f"has the dimensions {dimensions}, not {list(file.shape)}"
    if len(contents) < file.size:
        return f"is truncated: {len(contents):,} bytes of {file.size:,} after decompression"
    if len(contents) > file.size:
        return f"is longer than the {file.size:,} bytes it should have after decompression"
    found = hashlib.sha256(contents).hexdigest()
    if found == file.sha256:
        return ""
    return (
        f"is not MNIST's {file.name}: SHA-256 of its contents {found}, not {file.sha256} "
        "(damaged, or another data set under the same file names)"
    )


def _make_data_error(path: Path, what: str) -> DataError:
    return DataError(f"{path}: {what}; delete or move this file, then {remedy(path.parent)}")
