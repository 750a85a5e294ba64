"""Checks of the fields of a chart's mark: a figure with its ends, a value in words, which row the mark says it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.audit import cells, phrases, printed
from cnnbench.audit.intervals import Figure
from cnnbench.audit.printed import Kind
from cnnbench.audit.raw import RawRow, called, shown
from cnnbench.audit.views import View, Wanted
from cnnbench.schema import ReferenceRow

_NUMBERED = re.compile(r", number \d+$")
Mark = Mapping[str, Any]
Check = Callable[[Any], bool]
Fields = Mapping[str, Check]
"""A check of each field that a mark must have; it may have no other."""


@dataclass(frozen=True)
class Marked:
    """A mark, the row it says it is with what should be said of that, and the chart it is in."""

    mark: Mark
    wanted: Wanted
    every: Sequence[Mark]
    view: View

    @property
    def row(self) -> RawRow | None:
        """The raw row; None for a published one."""
        return None if isinstance(self.wanted.row, ReferenceRow) else self.wanted.row

    @property
    def kind(self) -> str:
        """What the mark shows, where it says so."""
        return str(self.mark.get("kind"))

    def figure(self, heading: str) -> Figure | None:
        """What the tables say of the row under that heading."""
        return self.wanted.figures.get(heading)


def equals(value: object) -> Check:
    """The value itself; a float but for the order of a sum."""

    def check(said: Any) -> bool:
        if isinstance(said, bool) or isinstance(value, bool):
            return said is value
        if isinstance(value, float | int) and isinstance(said, float | int):
            return cells.close(said, value)
        return bool(said == value)

    return check


def estimate(name: str, figure: Figure | None) -> dict[str, Check]:
    """The four fields of an estimate."""
    found = figure or Figure(0.0)
    ends = {"": found.value, "_low": found.low, "_high": found.high, "_n": found.n}
    return {f"{name}{end}": equals(None if figure is None else value) for end, value in ends.items()}


def text_of(kind: Kind, value: float, projected: bool = False) -> Check:
    """The value as printed, with the mark of a projection where it is one."""

    def check(said: Any) -> bool:
        try:
            number = printed.number(kind, str(said).removeprefix("~"))
        except ValueError:
            return False
        return number.fits(value) and str(said).startswith("~") == projected

    return check


def wordless(said: Any) -> bool:
    """Words without a number in them."""
    return isinstance(said, str) and not list(phrases.unknown(said))


def words_of(marked: Marked, *further: str) -> Check:
    """Words about the row's job, in which the names of processor, machine and run may stand, and a number at the end that
    tells equal ones apart.
    """

    def check(said: Any) -> bool:
        row = marked.row
        if row is None:
            return False
        names = (str(marked.mark.get("processor")), row.header.machine.id, row.header.run_id, *further)
        return not list(phrases.wrong_of(_NUMBERED.sub("", str(said)), row, names))

    return check


def label_of(marked: Marked, *further: str) -> Check:
    """Lines: the processor, its place, what was timed, further words, and a counter that tells equal ones apart."""

    def check(said: Any) -> bool:
        first, *lines = str(said).split("\n")
        if first != " ".join(str(marked.mark.get("processor")).split()) or not lines or not lines[-1].isdigit():
            return False
        rest = ", ".join(line for line in lines[:-1] if line)
        if isinstance(marked.wanted.row, ReferenceRow):
            return rest == f"published, {marked.wanted.row.year}"
        header = marked.wanted.row.header
        return not list(phrases.wrong_of(rest, marked.wanted.row, (header.machine.id, header.run_id, *further)))

    return check


def identity(marked: Marked) -> dict[str, Check]:
    """Which row a mark is."""
    row = marked.wanted.row
    if isinstance(row, ReferenceRow):
        nothing = dict.fromkeys(("run", "row", "machine", "precision"), equals(None))
        return {**nothing, "processor": equals(row.processor), "place": equals(str(row.year)), "work": wordless}
    run, digest = row.mark
    return {
        "run": equals(run),
        "row": equals(digest),
        "machine": equals(row.header.machine.id),
        "processor": lambda said: called(row.full_name, str(said)),
        "place": lambda said: shown(str(said)) == row.place,
        "precision": equals(row.job.precision),
        "work": lambda said: not marked.view.wrong_words(str(said), row),
    }


def is_base(base: RawRow | None, said: Any) -> bool:
    """Whether the words name the baseline: `AMD EPYC, 2 threads`."""
    if base is None or not isinstance(said, str):
        return base is None and said is None
    n = base.job.threads
    threads = "" if n is None else f", {n} thread" if n == 1 else f", {n} threads"
    return said.endswith(threads) and called(base.full_name, said.removesuffix(threads))
