"""Procedural handwriting: ten classes of 28x28 digits drawn by arithmetic, for a machine without MNIST.

Each digit is one of a few hand-made stroke drawings (`GLYPHS`), its points jittered, then scaled, slanted, turned and
shifted, drawn as a Catmull-Rom spline with a pen of random width, and speckled. A seed gives
arrays of MNIST's shapes. A network trained on them does the same work per image as on MNIST; its accuracy is not
comparable to an accuracy on MNIST, so every record and table says `synthetic`.

The same seed gives the same bytes on every machine: the random numbers are raw words of PCG64, and the drawing uses
only operations that IEEE 754 rounds exactly (+, -, *, /, sqrt), one at a time, so that no vector unit, maths library or
numpy version changes a pixel. `tests/test_data_synthetic.py` holds the SHA-256. A change of a pixel raises `VERSION`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np
import numpy.typing as npt

VERSION = 1
SEED = 2017
SIDE = 28

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

GLYPHS = (
    (  # 0: an ellipse; a narrow one begun at the top right
        ("52,2 28,12 17,48 26,87 50,98 74,86 83,50 74,13 50,2",),
        ("66,10 44,3 28,30 28,70 42,97 62,90 74,55 70,20 50,5",),
    ),
    (  # 1: a stem; with a flag; with flag and base
        ("50,0 50,33 50,66 50,100",),
        ("30,24 52,2", "52,2 52,50 51,100"),
        ("32,20 52,2", "52,2 52,50 52,97", "28,98 76,97"),
    ),
    (  # 2: a straight foot; a looped foot
        ("20,25 30,7 52,2 75,12 77,32 60,56 37,80 18,97", "18,97 50,96 85,95"),
        ("20,22 42,3 70,10 75,33 57,64 32,92 15,90 20,77 42,83 64,97 90,88",),
    ),
    (  # 3: two bowls; a flat top
        ("20,12 45,1 72,10 74,30 60,44 40,47", "40,47 68,53 81,72 70,92 43,99 17,88"),
        ("20,4 50,4 76,4", "76,4 44,40", "44,40 70,46 80,68 68,92 42,99 18,88"),
    ),
    (  # 4: open; closed
        ("26,3 20,30 18,56", "18,56 50,57 86,53", "70,10 67,50 63,100"),
        ("62,2 38,34 14,63", "14,63 50,64 88,62", "62,2 62,50 61,100"),
    ),
    (  # 5: bar, neck and bowl; one rounded stroke
        ("78,4 55,4 30,5", "30,5 26,43", "26,43 52,36 76,50 78,75 58,96 36,98 18,88"),
        ("80,4 55,3 33,10 28,34 52,44 74,58 74,82 52,98 20,92",),
    ),
    (  # 6: a curved back; a straight back
        ("70,4 43,20 25,50 24,78 42,97 66,93 77,73 64,54 43,56 26,73",),
        ("50,0 38,28 28,62 33,90 55,98 72,84 68,66 48,62 30,76",),
    ),
    (  # 7: plain; with a crossbar; with a serif
        ("17,6 50,6 82,6", "82,6 60,46 43,100"),
        ("17,6 50,5 82,5", "82,5 60,46 43,100", "36,52 76,50"),
        ("18,22 19,7", "19,7 50,7 80,6", "80,6 63,50 57,100"),
    ),
    (  # 8: one crossing stroke; two rings
        ("72,15 50,2 29,15 34,36 52,49 71,63 75,83 50,98 25,83 30,63 50,48 68,34 72,15",),
        ("52,46 31,36 32,12 52,2 71,13 70,36 50,46", "50,47 26,62 27,88 50,98 75,87 74,62 52,47"),
    ),
    (  # 9: a straight tail; a hooked tail
        ("74,24 56,3 31,10 23,32 40,50 62,44 74,22", "74,20 72,60 66,100"),
        ("73,22 52,2 28,14 26,38 48,50 70,38 74,18", "74,18 76,52 66,88 45,99 24,92"),
    ),
)
"""Drawings of each class. A drawing is a tuple of strokes, a stroke its control points "x,y" in hundredths of a box of
side 1, x to the right and y down."""

_TRAIN, _TEST = 0, 1
"""Numbers of the two random streams; a seed sequence keeps them independent."""

_CHUNK = 250
"""Images drawn at a time, each chunk from a separate random stream. 250 canvases of 34 x 34 float64 are 2.3 MB and
stay in the cache: 70,000 digits take 0.8 s on one core of a virtual Xeon, and 1.8 s with chunks of 500."""

_BOX = 20.0
"""Side of a glyph's box in pixels before scaling, as MNIST's digits were fitted to 20 x 20."""
_SPACING = 0.75
"""Distance in pixels between points along a stroke; below the blur's deviation, so that a line shows no beads."""
_PASSES = 6
"""Sums of neighbours in each axis that blur the points: binomial, deviation sqrt(6) / 2 = 1.2 pixels."""
_CANVAS = SIDE + _PASSES
"""Side of the canvas; each pass takes one row or column off, which leaves 28."""


@dataclass(frozen=True)
class _Pen:
    """All drawings as tables: point p of drawing v is sum over k of `weight[k, p]` * control `control[k, p]`.

    Drawing v has its points at `first[v] : first[v] + points[v]`, its controls in `controls[v]`, padded with zeros.
    """

    controls: Floats
    first: Ints
    points: Ints
    control: Ints
    weight: Floats


def generate(seed: int = SEED, train: int = 60_000, test: int = 10_000) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Draw training images and labels, then test images and labels: uint8 of shapes (n, 28, 28) and (n,).

    Training and test digits come from independent random streams of the seed. A smaller set is the beginning of a
    larger one.
    """
    return (*_draw(seed, _TRAIN, train), *_draw(seed, _TEST, test))


def _draw(seed: int, stream: int, count: int) -> tuple[Bytes, Bytes]:
    images = np.empty((count, SIDE, SIDE), dtype=np.uint8)
    labels = np.empty(count, dtype=np.uint8)
    pen, drawings = _pen(), np.array([*map(len, GLYPHS)])
    for chunk, start in enumerate(range(0, count, _CHUNK)):
        stop = min(start + _CHUNK, count)
        bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(VERSION, stream, chunk)))
        classes = _uniform(bits, 0, 10)[:, 0].astype(np.int64)
        which = (_uniform(bits, 0, 1)[:, 0] * drawings[classes]).astype(np.int64)
        drawing = (np.cumsum(drawings) - drawings)[classes] + which
        x, y, scale = _place_controls(bits, pen.controls[drawing])
        canvas = _splat(pen, drawing, x, y, _SPACING * scale)
        images[start:stop] = _ink(bits, _blur(canvas))[: stop - start]
        labels[start:stop] = classes[: stop - start]
    return images, labels


def _place_controls(bits: np.random.PCG64, controls: Floats) -> tuple[Floats, Floats, Floats]:
    """Place each digit's control points on the canvas: x and y (n, controls), and its mean scale (n, 1).

    Turns by up to 17 degrees, slants by up to 17 to the right and 9 to the left, scales 0.7 to 1.1, shifts 2 pixels.
    """
    x = controls[:, :, 0] - 0.5 + _uniform(bits, -0.07, 0.07, controls.shape[1])
    y = controls[:, :, 1] - 0.5 + _uniform(bits, -0.07, 0.07, controls.shape[1])
    across, down = _uniform(bits, 0.7, 1.1), _uniform(bits, 0.8, 1.1)
    slant = _uniform(bits, -0.15, 0.3)
    half = _uniform(bits, -0.15, 0.15)  # tangent of half the angle: a turn without sine or cosine
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    x, y = (x * across - y * slant) * _BOX, y * down * _BOX
    middle = (_CANVAS - 1) / 2
    left = middle + _uniform(bits, -2, 2)
    top = middle + _uniform(bits, -2, 2)
    return left + x * cosine - y * sine, top + x * sine + y * cosine, np.sqrt(across * down)


def _splat(pen: _Pen, drawing: Ints, x: Floats, y: Floats, ink: Floats) -> npt.NDArray[np.float32]:
    """Draw canvases (n, 34, 34), each stroke point's ink shared among the four nearest pixels by distance."""
    points = pen.points[drawing]
    image = np.repeat(np.arange(drawing.size), points)
    within = np.arange(image.size) - np.repeat(np.cumsum(points) - points, points)
    row = within + np.repeat(pen.first[drawing], points)
    px, py = np.zeros(row.size), np.zeros(row.size)
    for control, weight in zip(pen.control, pen.weight, strict=True):
        where, share = image * x.shape[1] + control[row], weight[row]
        px += share * x.ravel()[where]
        py += share * y.ravel()[where]
    px, py = np.clip(px, 0, _CANVAS - 1.001), np.clip(py, 0, _CANVAS - 1.001)
    column, line = px.astype(np.int64), py.astype(np.int64)
    right, below = px - column, py - line
    corner = (image * _CANVAS + line) * _CANVAS + column
    ink = ink.ravel()[image]
    lower, upper = below * ink, (1 - below) * ink
    canvas = np.zeros(drawing.size * _CANVAS * _CANVAS)
    for step, amount in (
        (0, upper * (1 - right)),
        (1, upper * right),
        (_CANVAS, lower * (1 - right)),
        (_CANVAS + 1, lower * right),
    ):
        canvas += np.bincount(corner + step, weights=amount, minlength=canvas.size)
    return canvas.reshape(drawing.size, _CANVAS, _CANVAS).astype(np.float32)


def _blur(canvas: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Blur the canvas by a binomial kernel of 7 x 7 to (n, 28, 28): a line of ink 1 per pixel peaks at about 0.31."""
    for _ in range(_PASSES):
        canvas = canvas[:, 1:, :] + canvas[:, :-1, :]
    for _ in range(_PASSES):
        canvas = canvas[:, :, 1:] + canvas[:, :, :-1]
    return canvas * np.float32(1 / 4**_PASSES)


def _ink(bits: np.random.PCG64, density: npt.NDArray[np.float32]) -> Bytes:
    """Ink the pixels where the blurred line exceeds a threshold, and add speckle of up to 90 of 255.

    The blurred line is 0.31 exp(-r^2 / (2 1.3^2)) at distance r: thresholds 0.25 to 0.1 are half-widths 0.8 to 2
    pixels, and the slope there, 0.11 to 0.13 per pixel at every width, times 7 makes an edge of about one pixel.
    """
    threshold = _uniform(bits, 0.10, 0.25).astype(np.float32)[:, :, None]
    level = _uniform(bits, 0, 90).astype(np.float32)[:, :, None]
    noise = bits.random_raw(density.size // 8).astype("<u8").view(np.uint8).reshape(density.shape)
    ink = np.clip((density - threshold) * np.float32(7) + np.float32(0.5), np.float32(0), np.float32(1))
    speckle = noise * (level * np.float32(1 / 255))
    pixels: npt.NDArray[np.float32] = ink * (np.float32(255) - level) + speckle
    return pixels.astype(np.uint8)


def _uniform(bits: np.random.PCG64, low: float, high: float, width: int = 1) -> Floats:
    """Draw `width` numbers for each image of a chunk, (250, width), from the top 53 bits of words."""
    words = bits.random_raw(_CHUNK * width) >> np.uint64(11)
    return low + words.astype(np.float64).reshape(_CHUNK, width) * ((high - low) * 2.0**-53)


@cache
def _pen() -> _Pen:
    drawings = [[_parse_stroke(stroke) for stroke in drawing] for of_class in GLYPHS for drawing in of_class]
    controls = np.zeros((len(drawings), max(sum(map(len, drawing)) for drawing in drawings), 2))
    tables = []
    points = []
    for place, drawing in enumerate(drawings):
        starts = np.cumsum([0, *map(len, drawing)])
        controls[place, : starts[-1]] = np.concatenate(drawing)
        strokes = [_stroke_table(stroke, int(start)) for stroke, start in zip(drawing, starts, strict=False)]
        tables += strokes
        points.append(sum(control.shape[1] for control, _ in strokes))
    return _Pen(
        controls=controls,
        first=np.cumsum(points) - points,
        points=np.array(points),
        control=np.hstack([control for control, _ in tables]),
        weight=np.hstack([weight for _, weight in tables]),
    )


def _parse_stroke(text: str) -> Floats:
    return np.array([point.split(",") for point in text.split()], dtype=np.float64) / 100


def _stroke_table(stroke: Floats, start: int) -> tuple[Ints, Floats]:
    """Tabulate controls and weights, both (4, points), of points along the stroke, `_SPACING` pixels apart."""
    fine = 64 * (len(stroke) - 1)
    control, weight = _catmull_rom(np.arange(fine + 1) / 64, len(stroke))
    x, y = (sum((weight[k] * stroke[control[k], axis] for k in range(4)), np.zeros(fine + 1)) for axis in (0, 1))
    steps = np.sqrt(np.diff(x) * np.diff(x) + np.diff(y) * np.diff(y))
    along = np.concatenate([[0.0], np.cumsum(steps)]) * _BOX
    wanted = (np.arange(ceil(along[-1] / _SPACING)) + 0.5) * _SPACING
    wanted = wanted * (along[-1] / (wanted.size * _SPACING))
    before = np.searchsorted(along, wanted, side="right") - 1
    position = (before + (wanted - along[before]) / (along[before + 1] - along[before])) / 64
    control, weight = _catmull_rom(position, len(stroke))
    return control + start, weight


def _catmull_rom(position: Floats, controls: int) -> tuple[Ints, Floats]:
    """Compute controls and weights, both (4, n), of a uniform Catmull-Rom spline (tension 1/2) with doubled ends."""
    segment = np.minimum(position.astype(np.int64), controls - 2)
    t = position - segment
    weight = np.stack(
        [
            ((2 - t) * t - 1) * t / 2,
            ((3 * t - 5) * t * t + 2) / 2,
            ((4 - 3 * t) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        ]
    )
    control = np.clip(np.stack([segment - 1, segment, segment + 1, segment + 2]), 0, controls - 1)
    return control, weight
