"""A small data set in place of MNIST, so that a test writes bytes, not megabytes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from cnnbench.data import mnist

CONTENTS = {
    "train-images-idx3-ubyte": (12, 4, 4),
    "train-labels-idx1-ubyte": (12,),
    "t10k-images-idx3-ubyte": (5, 4, 4),
    "t10k-labels-idx1-ubyte": (5,),
}
"""The four files' names and shapes: 12 and 5 images of 4 x 4."""


def small_contents(name: str) -> bytes:
    """The IDX file of this name, written by hand from the format's description."""
    shape = CONTENTS[name]
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    return header + np.random.default_rng(len(name)).integers(0, 256, shape, dtype=np.uint8).tobytes()


def install_small_set(monkeypatch: pytest.MonkeyPatch) -> tuple[mnist.IdxFile, ...]:
    """Make the small set the one that the data room takes for MNIST."""
    files = tuple(
        mnist.IdxFile(name, shape, hashlib.sha256(small_contents(name)).hexdigest()) for name, shape in CONTENTS.items()
    )
    monkeypatch.setattr(mnist, "FILES", files)
    for attribute, file in zip(("TRAIN_IMAGES", "TRAIN_LABELS", "TEST_IMAGES", "TEST_LABELS"), files, strict=True):
        monkeypatch.setattr(mnist, attribute, file)
    return files
