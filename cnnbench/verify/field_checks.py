"""Checks of the fields of a chart's mark: a figure with its ends, a value in words, which row the mark says it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.schema import PublishedRow
from cnnbench.verify import cells, number_parser, numbers_in_text
from cnnbench.verify.expectations import Expectations, ExpectedRow
from cnnbench.verify.intervals import ExpectedFigure
from cnnbench.verify.number_parser import NumberKind
from cnnbench.verify.raw_rows import RawRow, may_be_called, to_page_text

_NUMBERED = re.compile(r", number \d+$")
Mark = Mapping[str, Any]
FieldCheck = Callable[[Any], bool]
FieldChecks = Mapping[str, FieldCheck]
"""A check of each field that a mark must have; it may have no other."""


@dataclass(frozen=True)
class MarkContext:
    """A mark, the row it says it is with what should be said of that, and the chart it is in."""

    mark: Mark
    expected: ExpectedRow
    every: Sequence[Mark]
    view: Expectations

    @property
    def row(self) -> RawRow | None:
        """The raw row; None for a published one."""
        return None if isinstance(self.expected.row, PublishedRow) else self.expected.row

    @property
    def kind(self) -> str:
        """What the mark shows, where it says so."""
        return str(self.mark.get("kind"))

    def metric(self, heading: str) -> ExpectedFigure | None:
        """What the tables say of the row under that heading."""
        return self.expected.metrics.get(heading)


def check_equal(value: object) -> FieldCheck:
    """The value itself; a float but for the order of a sum."""

    def check(reported: Any) -> bool:
        if isinstance(reported, bool) or isinstance(value, bool):
            return reported is value
        if isinstance(value, float | int) and isinstance(reported, float | int):
            return cells.is_close(reported, value)
        return bool(reported == value)

    return check


def check_estimate(name: str, figure: ExpectedFigure | None) -> dict[str, FieldCheck]:
    """The four fields of an estimate."""
    found = figure or ExpectedFigure(0.0)
    ends = {"": found.value, "_low": found.low, "_high": found.high, "_n": found.n}
    return {f"{name}{end}": check_equal(None if figure is None else value) for end, value in ends.items()}


def check_value_text(kind: NumberKind, value: float, projected: bool = False) -> FieldCheck:
    """The value as printed, with the mark of a projection where it is one."""

    def check(reported: Any) -> bool:
        try:
            number = number_parser.parse_number(kind, str(reported).removeprefix("~"))
        except ValueError:
            return False
        return number.fits(value) and str(reported).startswith("~") == projected

    return check


def has_no_number(reported: Any) -> bool:
    """Words without a number in them."""
    return isinstance(reported, str) and not list(numbers_in_text.find_unknown_numbers(reported))


def check_words(marked: MarkContext, *further: str) -> FieldCheck:
    """Words about the row's job, in which the names of processor, machine and run may stand, and a number at the end that
    tells equal ones apart.
    """

    def check(reported: Any) -> bool:
        row = marked.row
        if row is None:
            return False
        names = (str(marked.mark.get("processor")), row.header.machine.id, row.header.run_id, *further)
        return not list(numbers_in_text.find_phrase_errors(_NUMBERED.sub("", str(reported)), row, names))

    return check


def check_label(marked: MarkContext, *further: str) -> FieldCheck:
    """Lines: the processor, its place, what was timed, further words, and a counter that tells equal ones apart."""

    def check(reported: Any) -> bool:
        first, *lines = str(reported).split("\n")
        if first != " ".join(str(marked.mark.get("processor")).split()) or not lines or not lines[-1].isdigit():
            return False
        rest = ", ".join(line for line in lines[:-1] if line)
        if isinstance(marked.expected.row, PublishedRow):
            return rest == f"published, {marked.expected.row.year}"
        header = marked.expected.row.header
        return not list(
            numbers_in_text.find_phrase_errors(rest, marked.expected.row, (header.machine.id, header.run_id, *further))
        )

    return check


def check_identity(marked: MarkContext) -> dict[str, FieldCheck]:
    """Which row a mark is."""
    row = marked.expected.row
    if isinstance(row, PublishedRow):
        nothing = dict.fromkeys(("run", "row", "machine", "precision"), check_equal(None))
        return {
            **nothing,
            "processor": check_equal(row.processor),
            "place": check_equal(str(row.year)),
            "work": has_no_number,
        }
    run, digest = row.mark
    return {
        "run": check_equal(run),
        "row": check_equal(digest),
        "machine": check_equal(row.header.machine.id),
        "processor": lambda said: may_be_called(row.full_name, str(said)),
        "place": lambda said: to_page_text(str(said)) == row.place,
        "precision": check_equal(row.job.precision),
        "work": lambda said: not marked.view.find_word_errors(str(said), row),
    }


def names_baseline(base: RawRow | None, reported: Any) -> bool:
    """Whether the words name the baseline: `AMD EPYC, 2 threads`."""
    if base is None or not isinstance(reported, str):
        return base is None and reported is None
    n = base.job.threads
    threads = "" if n is None else f", {n} thread" if n == 1 else f", {n} threads"
    return reported.endswith(threads) and may_be_called(base.full_name, reported.removesuffix(threads))
