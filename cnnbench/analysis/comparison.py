"""Two sides in, every row of both out: divided by its counterpart, or listed with the reason why not, and summed up.

A side is the rows of a `Comparison`, or published rows alone. Only equal work under an equal timing rule is divided
(`pairs` says how), and nothing that a side has is left out silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cnnbench.analysis import stats
from cnnbench.analysis.ratio import (
    ComparedEntry,
    FieldDifference,
    FieldValue,
    RowRatio,
    SideName,
    divide_published,
    divide_rows,
    exact_estimate,
    speedup_seconds,
)
from cnnbench.analysis.rows import Row, is_whole_job
from cnnbench.analysis.speedup import PublishedResult, is_published_job
from cnnbench.analysis.stats import Estimate

UnpairedReason = Literal[
    "failed", "work", "protocol", "place", "taken", "other-job", "no-job-time", "no-published-time"
]
EntryKind = Literal["training", "gemm"]

TOLERANCE = 0.05
"""5 % either way is called the same: the regression check's default."""


@dataclass(frozen=True)
class ComparisonSide:
    """One side of a comparison, as the user named it. Published rows take part only where nothing was measured."""

    name: str
    rows: tuple[Row, ...]
    published: tuple[PublishedResult, ...] = ()


@dataclass(frozen=True)
class Unpaired:
    """An entry that was not divided, why, and where the other side's nearest work differs."""

    side: SideName
    entry: ComparedEntry
    reason: UnpairedReason
    differences: tuple[FieldDifference, ...] = ()

    @property
    def seconds(self) -> Estimate | None:
        """Its own time of a step or of its job; None where it has none."""
        return (
            speedup_seconds(self.entry)
            if isinstance(self.entry, Row)
            else exact_estimate(self.entry.published.job_seconds)
        )

    @property
    def seconds_of(self) -> Literal["step", "job"]:
        """What they are of."""
        return "step" if isinstance(self.entry, Row) and not is_whole_job(self.entry.job) else "job"


@dataclass(frozen=True)
class RatioSummary:
    """The ratios of the training rows, or of the GEMM rows. What has none is counted and enters nothing."""

    kind: EntryKind
    divided: int
    without_interval: int
    mean: float | None
    """Geometric. None where nothing was divided, and against published rows: each row stands there several times."""
    best: RowRatio | None
    worst: RowRatio | None
    failed: int
    only_base: int
    only_new: int


@dataclass(frozen=True)
class SideComparison:
    """Both sides, their pairs in the order of new's rows, what is left over, and a summary for each kind of row."""

    base: ComparisonSide
    new: ComparisonSide
    tolerance: float
    pairs: tuple[RowRatio, ...]
    unpaired: tuple[Unpaired, ...]
    summaries: tuple[RatioSummary, ...]


def compare_sides(base: ComparisonSide, new: ComparisonSide, tolerance: float = TOLERANCE) -> SideComparison:
    """Every row of both sides with its counterpart or its reason. There may be no pair at all: that is for the caller."""
    if base.rows and new.rows:
        pairs, unpaired = _divide_measured(base.rows, new.rows, tolerance)
    elif new.rows:
        pairs, unpaired = _divide_by_published("base", base.published, new.rows, tolerance)
    else:
        pairs, unpaired = _divide_by_published("new", new.published, base.rows, tolerance)
    kinds: tuple[EntryKind, ...] = ("training", "gemm")
    summaries = [found for kind in kinds if (found := _summarise(kind, pairs, unpaired)) is not None]
    return SideComparison(base, new, tolerance, tuple(pairs), tuple(unpaired), tuple(summaries))


def classify_entry(entry: ComparedEntry) -> EntryKind:
    """Matrix products apart from everything that trains; what was published trained."""
    return "gemm" if isinstance(entry, Row) and entry.job.workload == "gemm" else "training"


def _divide_measured(
    base: Sequence[Row], new: Sequence[Row], tolerance: float
) -> tuple[list[RowRatio], list[Unpaired]]:
    ours, theirs = _group_by_work(base), _group_by_work(new)
    by_new: dict[int, RowRatio] = {}
    taken: set[int] = set()
    for work in ours.keys() & theirs.keys():
        for left, right, fastest in _find_counterparts(ours[work], theirs[work]):
            by_new[id(right)] = divide_rows(left, right, tolerance, fastest_of_each=fastest)
            taken |= {id(left), id(right)}
    unpaired = [_explain_unpaired("base", row, new) for row in base if id(row) not in taken]
    unpaired += [_explain_unpaired("new", row, base) for row in new if id(row) not in taken]
    return [by_new[id(row)] for row in new if id(row) in by_new], unpaired


def _group_by_work(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    found: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        found.setdefault((row.work_key, row.protocol), []).append(row)
    return found


def _find_counterparts(ours: Sequence[Row], theirs: Sequence[Row]) -> list[tuple[Row, Row, bool]]:
    """Rows of one work in the same place (row key); where there are none, the fastest of each side, and True."""
    found: list[tuple[Row, Row, bool]] = []
    for row_key in sorted({row.row_key for row in ours} & {row.row_key for row in theirs}):
        same_place = ([row for row in rows if row.row_key == row_key] for rows in (ours, theirs))
        found.extend((left, right, False) for left, right in _match_one_to_one(*same_place))
    if found:
        return found
    left, right = (min((row for row in rows if row.costs), key=_speed, default=None) for rows in (ours, theirs))
    return [] if left is None or right is None else [(left, right, True)]


def _match_one_to_one(ours: Sequence[Row], theirs: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Where a side holds several machines: a machine with itself, then the fastest left with the fastest left."""
    left, right = sorted(ours, key=_speed), sorted(theirs, key=_speed)
    found: list[tuple[Row, Row]] = []
    for row in tuple(left):
        same = next((other for other in right if other.machine.id == row.machine.id), None)
        if same is not None:
            found.append((row, same))
            left = [each for each in left if each is not row]
            right = [each for each in right if each is not same]
    return [*found, *zip(left, right, strict=False)]


def _speed(row: Row) -> tuple[float, str, str, str]:
    seconds = speedup_seconds(row)
    return float("inf") if seconds is None else seconds.value, row.machine.id, row.row_key, row.run_id


def _explain_unpaired(side: SideName, row: Row, others: Sequence[Row]) -> Unpaired:
    """Why the row has no counterpart, with the fields in which the other side's nearest work differs."""
    if not row.costs:
        return Unpaired(side, row, "failed")
    same_work = [other for other in others if other.work_key == row.work_key]
    same_rule = [other for other in same_work if other.protocol == row.protocol]
    if same_rule:
        return Unpaired(side, row, "taken" if any(other.row_key == row.row_key for other in same_rule) else "place")
    if same_work:
        return Unpaired(
            side, row, "protocol", (_field_difference(side, "protocol", row.protocol, same_work[0].protocol),)
        )
    near = [_work_differences(side, row, other) for other in others if other.job.workload == row.job.workload]
    return Unpaired(side, row, "work", min(near, key=lambda found: (len(found), repr(found)), default=()))


def _work_differences(side: SideName, row: Row, other: Row) -> tuple[FieldDifference, ...]:
    own, its = json.loads(row.work_key), json.loads(other.work_key)
    names = sorted(name for name in own.keys() | its.keys() if own.get(name) != its.get(name))
    return tuple(_field_difference(side, name, own.get(name), its.get(name)) for name in names)


def _field_difference(side: SideName, field: str, own: FieldValue, other: FieldValue) -> FieldDifference:
    return FieldDifference(field, own, other) if side == "base" else FieldDifference(field, other, own)


def _divide_by_published(
    side: SideName, published: Sequence[PublishedResult], rows: Sequence[Row], tolerance: float
) -> tuple[list[RowRatio], list[Unpaired]]:
    """Every row that did the published job against every published row with a time."""
    measured: SideName = "new" if side == "base" else "base"
    pairs: list[RowRatio] = []
    unpaired = [Unpaired(side, each, "no-published-time") for each in published if not each.published.job_seconds]
    timed = [each for each in published if each.published.job_seconds]
    for row in rows:
        same = [each for each in timed if is_published_job(row.job, each.published)]
        found = [divide_published(each, row, tolerance, published=side) for each in same]
        pairs.extend(pair for pair in found if pair is not None)
        if not any(found):
            reason: UnpairedReason = "failed" if not row.costs else "no-job-time" if same else "other-job"
            unpaired.append(Unpaired(measured, row, reason))
    return pairs, unpaired


def _summarise(kind: EntryKind, pairs: Sequence[RowRatio], unpaired: Sequence[Unpaired]) -> RatioSummary | None:
    own = [pair for pair in pairs if classify_entry(pair.row) == kind]
    rest = [each for each in unpaired if classify_entry(each.entry) == kind]
    if not own and not rest:
        return None
    divided = sorted((pair for pair in own if pair.ratio is not None), key=_ratio)
    independent = bool(divided) and all(pair.published is None for pair in divided)
    lone = [each.side for each in rest if each.reason != "failed"]
    return RatioSummary(
        kind=kind,
        divided=len(divided),
        without_interval=sum(pair.ratio is not None and pair.ratio.low is None for pair in divided),
        mean=stats.geometric([_ratio(pair) for pair in divided]).value if independent else None,
        best=divided[-1] if divided else None,
        worst=divided[0] if divided else None,
        failed=len(own) - len(divided) + len(rest) - len(lone),
        only_base=lone.count("base"),
        only_new=lone.count("new"),
    )


def _ratio(pair: RowRatio) -> float:
    return 0.0 if pair.ratio is None else pair.ratio.value
