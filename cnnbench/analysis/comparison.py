"""Two sides go in, every row of both comes out: divided by its counterpart, or listed with the reason why not, and
summed up.

A side is the rows of a `Comparison`, or published rows alone. Only equal work under an equal timing rule is divided
(`ratio` defines how), and nothing is left out silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from cnnbench.analysis import stats
from cnnbench.analysis.ratio import (
    ComparedEntry,
    FieldDifference,
    FieldValue,
    PublishedResult,
    RowRatio,
    SideName,
    find_differences,
    group_by,
    order_by_speed,
    share_work,
)
from cnnbench.analysis.rows import Row
from cnnbench.analysis.speedup import is_published_job

UnpairedReason = Literal[
    "failed", "work", "protocol", "place", "taken", "other-job", "no-job-time", "no-published-time"
]
EntryKind = Literal["training", "gemm"]

TOLERANCE = 0.05
"""5 % either way is called the same: the regression check's default."""


@dataclass(frozen=True)
class ComparisonSide:
    """One side of a comparison, as the user named it. Published rows take part only if nothing was measured."""

    name: str
    rows: tuple[Row, ...]
    published: tuple[PublishedResult, ...] = ()
    history: tuple[Row, ...] = ()
    """Rows of all runs known beside these, for how much runs differ."""


@dataclass(frozen=True)
class Unpaired:
    """An entry that was not divided, why, and where the other side's nearest work differs."""

    side: SideName
    entry: ComparedEntry
    reason: UnpairedReason
    differences: tuple[FieldDifference, ...] = ()


@dataclass(frozen=True)
class RatioSummary:
    """The ratios of the training rows, or of the GEMM rows. An entry without a ratio is counted but enters no mean."""

    kind: EntryKind
    divided: int
    without_interval: int
    mean: float | None
    """Geometric mean. None if nothing was divided, and for published rows, since each row occurs there several times.
    """
    best: RowRatio | None
    worst: RowRatio | None
    failed: int
    only_base: int
    only_new: int


@dataclass(frozen=True)
class SideComparison:
    """Both sides, their pairs in the order of new's rows, the unpaired rest, and a summary for each kind of row."""

    base: ComparisonSide
    new: ComparisonSide
    tolerance: float
    pairs: tuple[RowRatio, ...]
    unpaired: tuple[Unpaired, ...]
    summaries: tuple[RatioSummary, ...]


def compare_sides(base: ComparisonSide, new: ComparisonSide, tolerance: float = TOLERANCE) -> SideComparison:
    """Pair every row of both sides with its counterpart or a reason.

    If there is no pair at all, the caller decides.
    """
    divide = _divide_measured if base.rows and new.rows else _divide_published
    pairs, unpaired = divide(base, new, tolerance)
    summaries = [found for kind in get_args(EntryKind) if (found := _summarise(kind, pairs, unpaired)) is not None]
    return SideComparison(base, new, tolerance, tuple(pairs), tuple(unpaired), tuple(summaries))


def classify_entry(entry: ComparedEntry) -> EntryKind:
    """Separate matrix products from everything that trains; published rows are training."""
    return "gemm" if isinstance(entry, Row) and entry.job.workload == "gemm" else "training"


def _divide_measured(
    base: ComparisonSide, new: ComparisonSide, tolerance: float
) -> tuple[list[RowRatio], list[Unpaired]]:
    ours, theirs = (group_by(sorted(side.rows, key=order_by_speed), share_work) for side in (base, new))
    history = (*base.history, *new.history)
    pairs = [
        RowRatio(left, right, tolerance, fastest_of_each=fastest, history=history)
        for work in ours.keys() & theirs.keys()
        for left, right, fastest in _find_counterparts(ours[work], theirs[work])
    ]
    taken = {id(entry) for pair in pairs for entry in (pair.base, pair.new)}
    unpaired = [_explain_unpaired("base", row, new.rows) for row in base.rows if id(row) not in taken]
    unpaired += [_explain_unpaired("new", row, base.rows) for row in new.rows if id(row) not in taken]
    place = {id(row): number for number, row in enumerate(new.rows)}
    return sorted(pairs, key=lambda pair: place[id(pair.new)]), unpaired


def _find_counterparts(ours: Sequence[Row], theirs: Sequence[Row]) -> Iterator[tuple[Row, Row, bool]]:
    """Pair rows of one work in the same place (row key).

    If there are none, pair the fastest of each side, with True. Both sides are ordered by speed. If a side has several
    machines, a machine is paired with itself, then the fastest left with the fastest left.
    """
    left, right = (group_by(rows, lambda row: row.row_key) for rows in (ours, theirs))
    common = sorted(left.keys() & right.keys())
    for key in common:
        alone, others = [], list(right[key])
        for row in left[key]:
            same = next((number for number, other in enumerate(others) if other.machine.id == row.machine.id), None)
            if same is None:
                alone.append(row)
            else:
                yield row, others.pop(same), False
        yield from ((*pair, False) for pair in zip(alone, others, strict=False))
    if not common and ours[0].costs and theirs[0].costs:
        yield ours[0], theirs[0], True


def _explain_unpaired(side: SideName, row: Row, others: Sequence[Row]) -> Unpaired:
    """Explain why the row has no counterpart, with the fields in which the other side's nearest work differs."""

    def compare(own: Mapping[str, FieldValue], its: Mapping[str, FieldValue]) -> tuple[FieldDifference, ...]:
        found = find_differences(own, its) if side == "base" else find_differences(its, own)
        return tuple(sorted(found, key=lambda each: each.field))

    if not row.costs:
        return Unpaired(side, row, "failed")
    same_work = [other for other in others if other.work_key == row.work_key]
    same_rule = [other for other in same_work if other.protocol == row.protocol]
    if same_rule:
        return Unpaired(side, row, "taken" if any(other.row_key == row.row_key for other in same_rule) else "place")
    if same_work:
        protocols = compare({"protocol": row.protocol}, {"protocol": same_work[0].protocol})
        return Unpaired(side, row, "protocol", protocols)
    work = json.loads(row.work_key)
    near = [compare(work, json.loads(each.work_key)) for each in others if each.job.workload == row.job.workload]
    return Unpaired(side, row, "work", min(near, key=lambda found: (len(found), repr(found)), default=()))


def _divide_published(
    base: ComparisonSide, new: ComparisonSide, tolerance: float
) -> tuple[list[RowRatio], list[Unpaired]]:
    """Pair every row that did the published job with every published row that has a time."""
    published, rows = (base.published, new.rows) if new.rows else (new.published, base.rows)
    published_side: SideName = "base" if new.rows else "new"
    row_side: SideName = "new" if new.rows else "base"
    timed = [each for each in published if each.job_seconds]
    pairs = []
    unpaired = [Unpaired(published_side, each, "no-published-time") for each in published if each not in timed]
    for row in rows:
        same = [each for each in timed if is_published_job(row.job, each.published)]
        if same and row.job_seconds is not None:
            pairs += [RowRatio(each, row, tolerance) if new.rows else RowRatio(row, each, tolerance) for each in same]
            continue
        reason: UnpairedReason = "failed" if not row.costs else "no-job-time" if same else "other-job"
        unpaired.append(Unpaired(row_side, row, reason))
    return pairs, unpaired


def _summarise(kind: EntryKind, pairs: Sequence[RowRatio], unpaired: Sequence[Unpaired]) -> RatioSummary | None:
    own = [pair for pair in pairs if classify_entry(pair.row) == kind]
    rest = [each for each in unpaired if classify_entry(each.entry) == kind]
    if not own and not rest:
        return None
    divided = sorted(((pair.ratio, pair) for pair in own if pair.ratio is not None), key=lambda each: each[0].value)
    independent = bool(divided) and all(pair.published is None for _, pair in divided)
    lone = [each.side for each in rest if each.reason != "failed"]
    return RatioSummary(
        kind=kind,
        divided=len(divided),
        without_interval=sum(ratio.low is None for ratio, _ in divided),
        mean=stats.geometric([ratio.value for ratio, _ in divided]).value if independent else None,
        best=divided[-1][1] if divided else None,
        worst=divided[0][1] if divided else None,
        failed=len(own) - len(divided) + len(rest) - len(lone),
        only_base=lone.count("base"),
        only_new=lone.count("new"),
    )
