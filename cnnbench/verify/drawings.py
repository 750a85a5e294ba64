"""What a drawing says, against the marks it is of: labels of values one by one, labels of rows in order, numbers of an axis
on a line, its title and its description.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cnnbench.verify.documents import DrawnText
from cnnbench.verify.formats import find_numbers
from cnnbench.verify.raw_rows import to_page_text

_TICK = re.compile(r"([−+-]?)([\d.,]+(?:e[+-]?\d+)?) ?%?")
_FARTHEST = 0.05
"""Pixels that a number on an axis may lie from the line through the others: places are rounded to a thousandth."""
DrawnChart = Mapping[str, Any]


def find_data_errors(chart: DrawnChart, stored: str) -> Iterator[str]:
    """What the marks stored in a picture have that those of the chart do not."""
    try:
        stored_marks = json.loads(stored)["rows"]
        pairs = list(zip(stored_marks, chart["data"], strict=False))
        wrong = [(n, {k for k in {**a, **b} if a.get(k) != b.get(k)}, a, b) for n, (a, b) in enumerate(pairs, 1)]
    except (ValueError, KeyError, TypeError, AttributeError):
        yield "the data stored in it cannot be read"
        return
    for number, names, mark, right in wrong:
        for name in sorted(names):
            yield f"mark {number}: {name} is {mark.get(name)!r}, from the records it is {right.get(name)!r}"


def find_errors(chart: DrawnChart, texts: Sequence[DrawnText]) -> Iterator[str]:
    """What the drawing's texts say that the marks do not."""
    roles: dict[tuple[str, int], list[DrawnText]] = {}
    for text in texts:
        roles.setdefault((text.role, 0 if text.role == "mark" else text.group), []).append(text)
    marks = roles.pop(("mark", 0), [])
    yield from _find_value_errors(chart, marks)
    for (role, _), found in roles.items():
        words = [" ".join(text.lines) for text in found]
        if role in ("title", "desc"):
            right = to_page_text(chart["title" if role == "title" else "alt"])
            yield from (f"its drawing's {role} is {each[:80]!r}" for each in words if to_page_text(each) != right)
        elif role == "axis-label":
            ticks = [_parse_tick(each) for each in words]
            known = [tick for tick in ticks if tick is not None]
            yield from (
                _find_tick_errors(words, known, found) if len(known) == len(ticks) else _find_label_errors(chart, found)
            )
        elif role == "legend-label":
            yield from _find_legend_errors(chart, words)
        else:
            yield from (f"no rule to check {each!r} in the drawing" for each in words if find_numbers(each))


def _find_value_errors(chart: DrawnChart, texts: Sequence[DrawnText]) -> Iterator[str]:
    """As many labels of each value as there are marks with it (of promised and achieved FLOP/s the outer ones)."""
    right = Counter(str(mark["text"]) for mark in chart["data"] if "text" in mark and mark.get("side") != "")
    drawn = Counter(" ".join(text.lines) for text in texts)
    if drawn != right:
        yield f"its drawing has the values {', '.join((drawn - right) | (right - drawn))} another number of times than its marks"


def _find_label_errors(chart: DrawnChart, texts: Sequence[DrawnText]) -> Iterator[str]:
    labels = list(dict.fromkeys(str(mark.get("label")) for mark in chart["data"]))
    if len(texts) != len(labels):
        yield f"its drawing labels {len(texts)} rows, there are {len(labels)}"
    for text, label in zip(texts, labels, strict=False):
        first, *rest = [line for line in label.split("\n")[:-1] if line.strip()]
        ways = ((first, ", ".join(rest)), (first, *rest), (first, ", ".join(rest[:2]), *rest[2:]))
        if not any(len(text.lines) == len(way) and all(map(_is_cut, text.lines, way)) for way in ways):
            yield f"its drawing labels a row {' / '.join(text.lines)!r}, it is {' / '.join((first, *rest))!r}"


def _is_cut(printed: str, whole: str) -> bool:
    right = " ".join(whole.split())
    return printed == right or (printed.endswith("…") and right.startswith(printed[:-1].rstrip()))


def _parse_tick(text: str) -> float | None:
    found = _TICK.fullmatch(text)
    if found is None:
        return None
    return (-1.0 if found.group(1) in ("−", "-") else 1.0) * float(found.group(2).replace(",", ""))


def _find_tick_errors(words: Sequence[str], values: Sequence[float], texts: Sequence[DrawnText]) -> Iterator[str]:
    """Three or more numbers of an axis lie on a line, in themselves or in their logarithms."""
    across = len({text.place[0] for text in texts}) >= len({text.place[1] for text in texts})
    places = [text.place[0 if across else 1] for text in texts]
    scales: list[Callable[[float], float]] = [lambda value: value, *([math.log] if min(values) > 0 else [])]
    if len(values) >= 3 and not any(_is_on_a_line([scale(value) for value in values], places) for scale in scales):
        yield f"the numbers of its drawing's axis, {', '.join(words)}, do not fit their places"


def _is_on_a_line(values: Sequence[float], places: Sequence[float]) -> bool:
    span = max(values) - min(values)
    if span <= 0:
        return False
    low, high = places[values.index(min(values))], places[values.index(max(values))]
    right = [low + (value - min(values)) / span * (high - low) for value in values]
    return all(abs(place - each) <= _FARTHEST for place, each in zip(places, right, strict=True))


def _find_legend_errors(chart: DrawnChart, words: Sequence[str]) -> Iterator[str]:
    """Each entry once, each the kind, source, series or roof of a mark."""
    known = {str(mark[name]) for mark in chart["data"] for name in ("kind", "source", "series", "roof") if name in mark}
    for text, n in Counter(words).items():
        if n > 1 or not any(_is_cut(text, each) for each in known):
            yield f"its drawing's legend says {text!r}{f' {n} times' if n > 1 else ', no mark does'}"
