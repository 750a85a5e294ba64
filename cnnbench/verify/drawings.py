"""What a drawing says, against the marks it is of: each value's label, labels of rows, numbers of an axis on a line, its
title and its description.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cnnbench.verify.formats import find_numbers
from cnnbench.verify.raw_rows import to_page_text

_ROLE = re.compile(r"\brole-(\S+)")
_PLACE = re.compile(r"translate\(([-\d.e]+),([-\d.e]+)\)")
_TICK = re.compile(r"([−+-]?)([\d.,]+(?:e[+-]?\d+)?) ?%?")
_FARTHEST = 0.05
"""Pixels that a number on an axis may lie from the line through the others: places are rounded to a thousandth."""
_WORDS = ("kind", "source", "series", "roof")
"""Fields of marks that a legend has an entry of."""
DrawnChart = Mapping[str, Any]


@dataclass(frozen=True)
class DrawnText:
    """A text of a drawing: its role there, which axis or legend it belongs to, its lines, where it is."""

    role: str
    group: int
    lines: tuple[str, ...]
    place: tuple[float, float]


def _read_texts(element: ElementTree.Element, role: str = "", group: int = 0) -> Iterator[DrawnText]:
    for child in element:
        tag = child.tag.rpartition("}")[2]
        if tag == "g":
            named = _ROLE.search(child.get("class", ""))
            yield from _read_texts(child, *((named.group(1), id(child)) if named else (role, group)))
        elif tag in ("text", "title", "desc"):
            lines = (" ".join("".join(part.itertext()).split()) for part in (list(child) or [child]))
            x, y = found.groups() if (found := _PLACE.search(child.get("transform", ""))) else (0, 0)
            yield DrawnText(role if tag == "text" else tag, group, tuple(filter(None, lines)), (float(x), float(y)))


def find_errors(chart: DrawnChart, drawing: str) -> Iterator[str]:
    """What the drawing's texts say that the marks do not."""
    try:
        texts = list(_read_texts(ElementTree.fromstring(drawing)))
    except ElementTree.ParseError as error:
        yield f"its drawing cannot be read: {error}"
        return
    # As many labels of each value as there are marks with it (of promised and achieved FLOP/s the outer ones).
    values = Counter(str(mark["text"]) for mark in chart["data"] if "text" in mark and mark.get("side") != "")
    drawn = Counter(" ".join(text.lines) for text in texts if text.role == "mark")
    if drawn != values:
        wrong = ", ".join((drawn - values) | (values - drawn))
        yield f"its drawing has the values {wrong} another number of times than its marks"
    known = _list_words(chart["data"])
    for (role, _), found in groupby(texts, lambda text: (text.role, text.group)):
        together = list(found)
        words = [" ".join(text.lines) for text in together]
        ticks = [tick for each in words if (tick := _parse_tick(each)) is not None]
        if role in ("title", "desc"):
            right = to_page_text(chart["title" if role == "title" else "alt"])
            yield from (f"its drawing's {role} is {each[:80]!r}" for each in words if to_page_text(each) != right)
        elif role == "axis-label" and len(ticks) == len(words):
            if not _are_on_a_line(ticks, together):
                yield f"the numbers of its drawing's axis, {', '.join(words)}, do not fit their places"
        elif role in ("axis-label", "legend-label"):
            lines = (line for text in together for line in text.lines)
            yield from (f"its drawing says {line!r}, no mark does" for line in lines if not _is_known(line, known))
        elif role != "mark":
            yield from (f"no rule to check {each!r} in the drawing" for each in words if find_numbers(each))


def _list_words(marks: Sequence[Mapping[str, Any]]) -> set[str]:
    """Each line that a label of a row or a legend may have: a mark's own words, places and what was timed in one line."""
    known = {str(mark[name]) for mark in marks for name in _WORDS if name in mark}
    for label in {str(mark.get("label")) for mark in marks}:
        lines = [" ".join(line.split()) for line in label.split("\n")[:-1] if line.strip()]
        known.update((*lines, ", ".join(lines[1:]), ", ".join(lines[1:3])))
    return known


def _is_known(line: str, known: set[str]) -> bool:
    cut = line.removesuffix("…").rstrip()
    return line in known or (cut != line and any(each.startswith(cut) for each in known))


def _parse_tick(text: str) -> float | None:
    found = _TICK.fullmatch(text)
    if found is None:
        return None
    return (-1.0 if found.group(1) in ("−", "-") else 1.0) * float(found.group(2).replace(",", ""))


def _are_on_a_line(values: Sequence[float], texts: Sequence[DrawnText]) -> bool:
    """Whether three or more numbers of an axis lie on a line, in themselves or in their logarithms."""
    across = len({text.place[0] for text in texts}) >= len({text.place[1] for text in texts})
    places = [text.place[0 if across else 1] for text in texts]
    scales = [values, [math.log(value) for value in values]] if min(values) > 0 else [values]
    ends = [values.index(min(values)), values.index(max(values))]
    return len(values) < 3 or any(
        scale[ends[0]] < scale[ends[1]]
        and np.abs(np.interp(scale, [scale[n] for n in ends], [places[n] for n in ends]) - places).max() <= _FARTHEST
        for scale in scales
    )
