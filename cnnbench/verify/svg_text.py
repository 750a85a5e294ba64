"""What a drawing says, against the data it is of: labels of values one by one, labels of rows in order, the numbers of an axis
on a line, and the description in words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from cnnbench.verify import alt_text, number_parser, numbers_in_text
from cnnbench.verify.expectations import Expectations
from cnnbench.verify.field_checks import Mark
from cnnbench.verify.pages import Drawing, DrawnText

_TICK = re.compile(r"([−+-]?)([\d.,]+(?:e[+-]?\d+)?) ?%?")
_FARTHEST = 0.05
"""Pixels that a number on an axis may lie from the line through the others: places are rounded to a thousandth."""


def find_errors(key: str, marks: Sequence[Mark], drawing: Drawing, view: Expectations) -> list[str]:
    """What the drawing's texts say that the marks do not."""
    by_role: dict[str, dict[int, list[DrawnText]]] = {}
    for text in drawing.texts:
        by_role.setdefault(text.role, {}).setdefault(text.group, []).append(text)
    found = list(_find_value_errors(key, marks, [t for group in by_role.pop("mark", {}).values() for t in group]))
    for texts in by_role.pop("axis-label", {}).values():
        found += _find_axis_errors(marks, texts)
    for texts in by_role.pop("legend-label", {}).values():
        found += _find_legend_errors(marks, texts)
    for text in (t for groups in by_role.values() for group in groups.values() for t in group):
        found += [
            f"drawn {' '.join(text.lines)!r}: {each}"
            for each in numbers_in_text.find_unknown_numbers(" ".join(text.lines))
        ]
    found += alt_text.find_errors(key, marks, drawing.title, drawing.description, view)
    return found


def _find_value_errors(key: str, marks: Sequence[Mark], texts: Sequence[DrawnText]) -> Iterator[str]:
    """As many labels of each value as there are marks with it (of promised and achieved FLOP/s the outer ones)."""
    right = Counter(str(mark["text"]) for mark in marks if "text" in mark and mark.get("side") != "")
    reported = Counter(" ".join(text.lines) for text in texts)
    for text, n in (reported - right).items():
        yield f"{text!r} is drawn {n} times more than there are marks of that value"
    for text in right - reported:
        yield f"{text!r} is not drawn"


def _find_axis_errors(marks: Sequence[Mark], texts: Sequence[DrawnText]) -> Iterator[str]:
    ticks = [_TICK.fullmatch(" ".join(text.lines)) for text in texts]
    if all(ticks):
        yield from _find_tick_errors(texts)
        return
    labels = list(dict.fromkeys(str(mark.get("label")) for mark in marks))
    reported = [text.lines for text in texts]
    if len(reported) != len(labels):
        yield f"{len(reported)} rows are labelled, there are {len(labels)}"
    for lines, label in zip(reported, labels, strict=False):
        first, *rest = [line for line in label.split("\n")[:-1] if line.strip()]
        ways = ((first, ", ".join(rest)), (first, *rest), (first, ", ".join(rest[:2]), *rest[2:]))
        if not any(_is_same_lines(lines, right) for right in ways):
            yield f"a row is labelled {' / '.join(lines)!r}, it is {' / '.join((first, *rest))!r}"


def _is_same_lines(reported: Sequence[str], right: Sequence[str]) -> bool:
    """Equal line by line, where a line may be cut."""
    pairs = zip(reported, right, strict=False)
    return len(reported) == len(right) and all(_is_same_text(line, whole) for line, whole in pairs)


def _is_same_text(reported: str, right: str) -> bool:
    whole = " ".join(right.split())
    return reported == whole or (reported.endswith("…") and whole.startswith(reported[:-1].rstrip()))


def _find_tick_errors(texts: Sequence[DrawnText]) -> Iterator[str]:
    """Three or more numbers of an axis lie on a line, in themselves or in their logarithms."""
    values = [_parse_tick(" ".join(text.lines)) for text in texts]
    xs, ys = {text.place[0] for text in texts}, {text.place[1] for text in texts}
    across = len(xs) >= len(ys)
    places = [text.place[0 if across else 1] for text in texts]
    scales: list[Callable[[float], float]] = [lambda value: value]
    if min(values) > 0:
        scales.append(math.log)
    if len(values) >= 3 and not any(_is_on_a_line([scale(value) for value in values], places) for scale in scales):
        yield f"the numbers of an axis, {', '.join(' '.join(text.lines) for text in texts)}, do not fit their places"


def _parse_tick(text: str) -> float:
    found = _TICK.fullmatch(text)
    assert found is not None
    sign = -1.0 if found.group(1) in ("−", "-") else 1.0
    return sign * number_parser.parse_number("number", found.group(2)).value


def _is_on_a_line(values: Sequence[float], places: Sequence[float]) -> bool:
    span = max(values) - min(values)
    if span <= 0:
        return False
    low, high = places[values.index(min(values))], places[values.index(max(values))]
    right = [low + (value - min(values)) / span * (high - low) for value in values]
    return all(abs(place - each) <= _FARTHEST for place, each in zip(places, right, strict=True))


def _find_legend_errors(marks: Sequence[Mark], texts: Sequence[DrawnText]) -> Iterator[str]:
    """Each entry once, each the kind, source, series or roof of a mark."""
    known = {str(mark[name]) for mark in marks for name in ("kind", "source", "series", "roof") if name in mark}
    reported = [" ".join(text.lines) for text in texts]
    for text in reported:
        if not any(_is_same_text(text, each) for each in known):
            yield f"the legend says {text!r}, no mark does"
    for text, n in Counter(reported).items():
        if n > 1:
            yield f"the legend says {text!r} {n} times"
