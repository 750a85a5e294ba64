"""Measured peaks, derived again: the best product of a row's own run, else of its boot and machine, and why there is none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cnnbench.verify import intervals
from cnnbench.verify.intervals import ExpectedFigure, geometric
from cnnbench.verify.raw_rows import RawRow

MOST_APART = 1.5
ABSENT = (
    "no GEMM of the same device, precision, threads and allocator in this run; add a suite that has one to the command (as "
    "in cnnbench run tta quick; ladder has every precision)"
)
_REASON = re.compile(r"(?:n/a, )?measured peak, of peak, compute floor(?: n/a)?: ")
_DOUBT = re.compile(r"the processes of the best matrix product ")
_PAGE_DOUBT = re.compile(
    r"(?m)^.*?Doubt \(.*\): (the processes of the best matrix product .*?: no row is compared with it)\."
)
_PAGE_REASON = re.compile(r"n/a, measured peak, of peak, compute floor: (.+) \([^()]*(?:\([^()]*\)[^()]*)*\)\.")


@dataclass(frozen=True)
class BestProduct:
    """The fastest size of a sweep, and how many times its fastest process is as fast as its slowest."""

    row: RawRow
    apart: float

    @property
    def usable(self) -> bool:
        """Whether its processes agree well enough for it to be a measured peak."""
        return self.apart <= MOST_APART


class Products:
    """The matrix products of all runs."""

    def __init__(self, rows: Iterable[RawRow]) -> None:
        self._by_place: dict[tuple[object, ...], list[RawRow]] = {}
        for row in rows:
            if row.job.workload == "gemm" and row.job.copies == 1 and row.trials and row.flops:
                self._by_place.setdefault(place_of(row), []).append(row)

    def best(self, row: RawRow) -> BestProduct | None:
        """Find the product that the row's rate is a share of; None if neither its run nor its boot has one."""
        here, own = self._by_place.get(place_of(row), []), row.header
        same = [each for each in here if (each.header.run_id, each.header.machine.id) == (own.run_id, own.machine.id)]
        if not same and own.boot_id is not None and row.job.workload != "gemm":
            same = [each for each in here if (each.header.boot_id, each.header.machine) == (own.boot_id, own.machine)]
        if not same:
            return None
        found = max(same, key=lambda each: (_rate(each), each.row_key, each.header.run_id))
        return BestProduct(found, max(found.steps) / min(found.steps))


def place_of(row: RawRow) -> tuple[object, ...]:
    """What a product and a row share where the one is the other's ceiling."""
    job = row.job
    threads = job.threads and job.threads * job.world // job.nodes
    software = row.header.software.torch
    return (row.header.machine.id, software, row.protocol, job.device, job.precision, threads, job.allocator)


def share(row: RawRow, product: RawRow, devices: int) -> ExpectedFigure | None:
    """Achieved over measured peak: a product's seconds over the row's, times the FLOPs of both the other way round."""
    if not row.flops or not product.flops:
        return None
    found = intervals.ratio(product.step_costs, row.step_costs)
    if found.low is None:  # too few of a side for an interval: the means alone
        ours, theirs = (geometric(list(each.step_costs.values())) for each in (row, product))
        if ours is None or theirs is None:
            return None
        found = ExpectedFigure(theirs.value / ours.value, n=min(len(row.step_costs), len(product.step_costs)))
    return found.scaled(row.flops / product.flops / devices)


def reason(row: RawRow, best: BestProduct | None) -> str | None:
    """Why a row that was measured has no measured peak; None for a row that has one, or needs none."""
    if row.job.workload == "gemm" or not row.trials or (best is not None and best.usable):
        return None
    if best is None:
        return ABSENT
    size = f"{best.row.job.size:,}"
    return f"the processes of the best GEMM, size {size}, differ by {best.apart:.2f}x, more than {MOST_APART}x"


def doubt(row: RawRow, best: BestProduct | None) -> str | None:
    """What is said of a best product whose processes differ too much, beside itself and beside each row it is the best for."""
    if best is None or best.usable or not row.trials or (row.job.workload == "gemm" and row is not best.row):
        return None
    name = f"size {best.row.job.size:,}, {best.row.job.precision}"
    return f"the processes of the best matrix product ({name}) differ by {best.apart:.2f}x: no row is compared with it"


def find_note_errors(notes: str, row: RawRow, best: BestProduct | None) -> Iterator[str]:
    """What a row's own notes say of its measured peak that is not so, or leave out."""
    parts = (("reason for n/a", _REASON, reason(row, best)), ("doubt", _DOUBT, doubt(row, best)))
    for what, mark, right in parts:
        if right is not None and right not in notes:
            yield f"its notes lack the {what} of its measured peak: {right!r}"
        elif right is None and (found := mark.search(notes)):
            yield f"its notes say {notes[found.start() :][:120]!r}, from the records its measured peak has no such {what}"


def find_page_errors(notes: str, found: Sequence[tuple[RawRow, BestProduct | None]], complete: bool) -> Iterator[str]:
    """Reasons and doubts under the tables of a page against those that its rows have; all of them if it is `complete`."""
    reasons = {text for row, best in found if (text := reason(row, best)) is not None}
    doubts = {text for row, best in found if (text := doubt(row, best)) is not None}
    for what, said, right in (
        ("reason", set(_PAGE_REASON.findall(notes)), reasons),
        ("doubt", set(_PAGE_DOUBT.findall(notes)), doubts),
    ):
        yield from (f"gives the {what} {each!r}, from the records no row has it" for each in sorted(said - right))
        if complete:
            yield from (f"lacks the {what} {each!r} of a measured peak" for each in sorted(right - said))


def _rate(row: RawRow) -> float:
    found = geometric([(row.flops or 0) / step for step in row.steps])
    return 0.0 if found is None else found.value
