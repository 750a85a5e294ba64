"""Points of the lecture's first day, drawn from a seed: a line with noise, two classes beside each other, and XOR.

Every set has as many examples as MNIST, so that splits, epochs and test images mean the same. The same seed gives the
same bytes on every machine: random numbers are raw words of PCG64, a normal number is a sum of twelve whole ones (so its
order does not matter), and the rest are operations that IEEE 754 rounds exactly, one at a time. A change of a value raises
`VERSION`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import numpy.typing as npt

VERSION = 1
SEED = 2017
TRAIN_POINTS, TEST_POINTS = 60_000, 10_000
SLOPE, INTERCEPT, LINE_NOISE = 1.5, -0.5, 0.2
"""The line: y = 1.5 x - 0.5 and normal noise, x uniform in [-1, 1)."""
CLASS_NOISE = 0.8
"""Standard deviation of both classes around (-1, -1) and (1, 1), in either direction."""
XOR_NOISE = 0.4
"""Standard deviation around the four corners (+-1, +-1), in either direction."""

Values = npt.NDArray[np.float32]
PointSet = tuple[Values, Values]
"""Inputs `(n, features)` and targets `(n,)`: numbers, or classes 0 and 1."""
_TERMS = 12
"""Uniform numbers in the sum that is taken for a normal one: its variance is exactly 1, it never exceeds 6."""


def generate(name: str, seed: int = SEED, train: int = TRAIN_POINTS, test: int = TEST_POINTS) -> tuple[Values, ...]:
    """Draw training inputs and targets, then test inputs and targets, from independent random streams of the seed."""
    number = [*SETS].index(name)
    streams = ((stream, count) for stream, count in enumerate((train, test)))
    drawn = (
        SETS[name](np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(VERSION, number, stream))), count)
        for stream, count in streams
    )
    return tuple(each for found in drawn for each in found)


def _draw_words(bits: np.random.PCG64, *shape: int) -> npt.NDArray[np.int64]:
    """Draw whole numbers below 2^32."""
    return (bits.random_raw(prod(shape)) >> np.uint64(32)).astype(np.int64).reshape(shape)


def _draw_normal(bits: np.random.PCG64, *shape: int) -> npt.NDArray[np.float64]:
    """Draw numbers of mean 0 (to 1.4e-9) and variance 1, all but normal."""
    total: npt.NDArray[np.int64] = _draw_words(bits, *shape, _TERMS).sum(axis=-1)
    return total.astype(np.float64) * 2.0**-32 - _TERMS / 2


def _draw_signs(bits: np.random.PCG64, *shape: int) -> npt.NDArray[np.float64]:
    return np.where(_draw_words(bits, *shape) < 2**31, -1.0, 1.0)


def _draw_line(bits: np.random.PCG64, count: int) -> PointSet:
    x = _draw_words(bits, count, 1) * 2.0**-31 - 1.0
    noise = _draw_normal(bits, count) * LINE_NOISE
    y = x[:, 0] * SLOPE + INTERCEPT
    return x.astype(np.float32), (y + noise).astype(np.float32)


def _draw_two_classes(bits: np.random.PCG64, count: int) -> PointSet:
    side = _draw_signs(bits, count, 1)
    points = side + _draw_normal(bits, count, 2) * CLASS_NOISE
    return points.astype(np.float32), (side[:, 0] > 0).astype(np.float32)


def _draw_xor(bits: np.random.PCG64, count: int) -> PointSet:
    corners = _draw_signs(bits, count, 2)
    points = corners + _draw_normal(bits, count, 2) * XOR_NOISE
    return points.astype(np.float32), (corners[:, 0] != corners[:, 1]).astype(np.float32)


SETS: Mapping[str, Callable[[np.random.PCG64, int], PointSet]] = {
    "line": _draw_line,
    "two-classes": _draw_two_classes,
    "xor": _draw_xor,
}
"""What draws each set, by name; a set's place is part of its random streams."""
