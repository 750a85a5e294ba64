"""What a drawing says, against the data it is of: labels of values one by one, labels of rows in order, the numbers of an axis
on a line, and the description in words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from cnnbench.audit import described, phrases, printed
from cnnbench.audit.checks import Mark
from cnnbench.audit.pages import Drawing, Text
from cnnbench.audit.views import View

_TICK = re.compile(r"([−+-]?)([\d.,]+(?:e[+-]?\d+)?) ?%?")
_FARTHEST = 0.05
"""Pixels that a number on an axis may lie from the line through the others: places are rounded to a thousandth."""


def wrong(key: str, marks: Sequence[Mark], drawing: Drawing, view: View) -> list[str]:
    """What the drawing's texts say that the marks do not."""
    by_role: dict[str, dict[int, list[Text]]] = {}
    for text in drawing.texts:
        by_role.setdefault(text.role, {}).setdefault(text.group, []).append(text)
    found = list(_wrong_values(key, marks, [t for group in by_role.pop("mark", {}).values() for t in group]))
    for texts in by_role.pop("axis-label", {}).values():
        found += _wrong_axis(marks, texts)
    for texts in by_role.pop("legend-label", {}).values():
        found += _wrong_legend(marks, texts)
    for text in (t for groups in by_role.values() for group in groups.values() for t in group):
        found += [f"drawn {' '.join(text.lines)!r}: {each}" for each in phrases.unknown(" ".join(text.lines))]
    found += described.wrong(key, marks, drawing.title, drawing.description, view)
    return found


def _wrong_values(key: str, marks: Sequence[Mark], texts: Sequence[Text]) -> Iterator[str]:
    """As many labels of each value as there are marks with it (of promised and achieved FLOP/s the outer ones)."""
    right = Counter(str(mark["text"]) for mark in marks if "text" in mark and mark.get("side") != "")
    said = Counter(" ".join(text.lines) for text in texts)
    for text, n in (said - right).items():
        yield f"{text!r} is drawn {n} times more than there are marks of that value"
    for text in right - said:
        yield f"{text!r} is not drawn"


def _wrong_axis(marks: Sequence[Mark], texts: Sequence[Text]) -> Iterator[str]:
    ticks = [_TICK.fullmatch(" ".join(text.lines)) for text in texts]
    if all(ticks):
        yield from _wrong_ticks(texts)
        return
    labels = list(dict.fromkeys(str(mark.get("label")) for mark in marks))
    said = [text.lines for text in texts]
    if len(said) != len(labels):
        yield f"{len(said)} rows are labelled, there are {len(labels)}"
    for lines, label in zip(said, labels, strict=False):
        first, *rest = [line for line in label.split("\n")[:-1] if line.strip()]
        ways = ((first, ", ".join(rest)), (first, *rest), (first, ", ".join(rest[:2]), *rest[2:]))
        if not any(_same_lines(lines, right) for right in ways):
            yield f"a row is labelled {' / '.join(lines)!r}, it is {' / '.join((first, *rest))!r}"


def _same_lines(said: Sequence[str], right: Sequence[str]) -> bool:
    """Equal line by line, where a line may be cut."""
    pairs = zip(said, right, strict=False)
    return len(said) == len(right) and all(_same_words(line, whole) for line, whole in pairs)


def _same_words(said: str, right: str) -> bool:
    whole = " ".join(right.split())
    return said == whole or (said.endswith("…") and whole.startswith(said[:-1].rstrip()))


def _wrong_ticks(texts: Sequence[Text]) -> Iterator[str]:
    """Three or more numbers of an axis lie on a line, in themselves or in their logarithms."""
    values = [_value(" ".join(text.lines)) for text in texts]
    xs, ys = {text.place[0] for text in texts}, {text.place[1] for text in texts}
    across = len(xs) >= len(ys)
    places = [text.place[0 if across else 1] for text in texts]
    scales: list[Callable[[float], float]] = [lambda value: value]
    if min(values) > 0:
        scales.append(math.log)
    if len(values) >= 3 and not any(_on_a_line([scale(value) for value in values], places) for scale in scales):
        yield f"the numbers of an axis, {', '.join(' '.join(text.lines) for text in texts)}, do not fit their places"


def _value(text: str) -> float:
    found = _TICK.fullmatch(text)
    assert found is not None
    sign = -1.0 if found.group(1) in ("−", "-") else 1.0
    return sign * printed.number("number", found.group(2)).value


def _on_a_line(values: Sequence[float], places: Sequence[float]) -> bool:
    span = max(values) - min(values)
    if span <= 0:
        return False
    low, high = places[values.index(min(values))], places[values.index(max(values))]
    right = [low + (value - min(values)) / span * (high - low) for value in values]
    return all(abs(place - each) <= _FARTHEST for place, each in zip(places, right, strict=True))


def _wrong_legend(marks: Sequence[Mark], texts: Sequence[Text]) -> Iterator[str]:
    """Each entry once, each the kind, source, series or roof of a mark."""
    known = {str(mark[name]) for mark in marks for name in ("kind", "source", "series", "roof") if name in mark}
    said = [" ".join(text.lines) for text in texts]
    for text in said:
        if not any(_same_words(text, each) for each in known):
            yield f"the legend says {text!r}, no mark does"
    for text, n in Counter(said).items():
        if n > 1:
            yield f"the legend says {text!r} {n} times"
