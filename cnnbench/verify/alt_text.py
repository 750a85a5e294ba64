"""A chart in words, as a screen reader says it: names and numbers of its marks, in their order, and no other number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from cnnbench.verify import numbers_in_text
from cnnbench.verify.expectations import Expectations
from cnnbench.verify.field_checks import Mark
from cnnbench.verify.numbers_in_text import Token

MOST_STEPS, MOST_POINTS = 12, 20
"""Of a roofline and of a sweep only so many marks are put into words."""
Tokens = Iterator[Token]


def find_errors(key: str, marks: Sequence[Mark], title: str, words: str, view: Expectations) -> list[str]:
    """What title and description say that the marks do not."""
    found = [
        f"its title {each}"
        for each in numbers_in_text.find_unknown_numbers(numbers_in_text.remove_names(title, _names(view)))
    ]
    tokens: list[Token] = [title] if title and words.startswith(title) else []
    if key in _TOKENS:
        tokens += _TOKENS[key](marks)
    return found + [f"in words it {each}" for each in numbers_in_text.find_order_errors(words, tokens)]


def _names(view: Expectations) -> Iterator[str]:
    """What a title may name: the published CPU and its year, and places that speed-ups can be over."""
    if view.published is not None:
        yield view.published.processor
        yield str(view.published.year)
    yield from sorted(view.places, key=len, reverse=True)


def _label(mark: Mark) -> str:
    """The lines of a label without its counter."""
    return ", ".join(line for line in str(mark["label"]).split("\n")[:-1] if line)


def _texts(marks: Sequence[Mark]) -> Tokens:
    for mark in marks:
        yield _label(mark)
        yield str(mark["text"])


def _rates(marks: Sequence[Mark]) -> Tokens:
    for label in dict.fromkeys(str(mark["label"]) for mark in marks):
        row = [mark for mark in marks if mark["label"] == label]
        yield _label(row[0])
        for mark in row:
            yield str(mark["kind"])
            yield str(mark["text"])


def _steps(marks: Sequence[Mark]) -> Tokens:
    for mark in [mark for mark in marks if str(mark["kind"]).endswith(" step")][:MOST_STEPS]:
        yield str(mark["name"])
        yield str(mark["roof"])
        yield "number", mark["gflops_per_second"]
        yield "number", mark["intensity_flops_per_byte"]


def _points(marks: Sequence[Mark]) -> Tokens:
    for mark in marks[:MOST_POINTS]:
        yield str(mark["series"])
        yield "number", mark["varied"]
        yield "number", mark["images_per_second"]


def _scaled(marks: Sequence[Mark]) -> Tokens:
    for mark in marks[:MOST_POINTS]:
        yield str(mark["series"])
        yield "number", mark["varied"]
        yield "ratio", mark["scaling_speedup"]


def _finals(marks: Sequence[Mark]) -> Tokens:
    for mark in marks:
        if "accuracy_low" in mark:
            yield str(mark["series"])
            yield "percent", mark["accuracy"]


def _spreads(marks: Sequence[Mark]) -> Tokens:
    for label in dict.fromkeys(str(mark["label"]) for mark in marks):
        row = [mark for mark in marks if mark["label"] == label]
        yield _label(row[0])
        yield "percent", abs(min(mark["block_p05"] for mark in row) - 1)
        yield "percent", abs(max(mark["block_p95"] for mark in row) - 1)
        yield "number", len(row)


_TOKENS: Mapping[str, Callable[[Sequence[Mark]], Tokens]] = {
    "speedup": _texts,
    "speedup-cpu": _texts,
    "ladder": _texts,
    "memory": _texts,
    "energy": _texts,
    "flops": _rates,
    "roofline": _steps,
    "threads": _points,
    "batches": _points,
    "scaling": _scaled,
    "learning": _finals,
    "noise": _spreads,
}
