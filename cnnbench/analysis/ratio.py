"""One way to divide a row by another: what must be equal before they are, their ratio with its interval, and what else differs.

Rows are divided where their work and timing rule are equal (`share_work`), or equal but for what a table varies on purpose
(`share_all_but`). Two rows of one run ran in interleaved rounds and are paired by round; two runs did not, so they get Welch's
interval, which knows nothing of the machine's drift from one run to the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeVar

from cnnbench.analysis import stats
from cnnbench.analysis.rows import JobPart, Row
from cnnbench.analysis.stats import Estimate
from cnnbench.machine_facts import FACTS, Host
from cnnbench.schema import PublishedRow

SideName = Literal["base", "new"]
SpeedOutcome = Literal["FASTER", "SLOWER", "SAME", "UNCLEAR"]
FieldValue = str | int | float | bool | None
Grouped = TypeVar("Grouped")
GroupKey = TypeVar("GroupKey", bound=Hashable)

_ROUNDING = 1e-12
"""A bound on an edge belongs to it whichever side is the base: exp and log round in the 16th digit."""


_BOTH_KNOWN = {"threads", "accuracy_data", "driver", "power_limit_watts"}
"""Where None is `has none of it`, as a CPU has no driver: no difference worth a word."""


@dataclass(frozen=True)
class PublishedResult:
    """A published row, with the job time of the source's own CPU where it has one."""

    published: PublishedRow
    cpu_seconds: float | None
    cost_of: ClassVar[JobPart] = "job"

    @property
    def job_seconds(self) -> Estimate | None:
        """The published time of the whole job: of one run, and nothing is known of its spread."""
        seconds = self.published.job_seconds
        return None if seconds is None else Estimate(seconds, None, None, 1)

    cost = job_seconds

    @property
    def flops_per_second(self) -> float | None:
        """The assumed job's FLOPs over the published time."""
        return self._divide(self.published.job_flops)

    @property
    def speedup(self) -> float | None:
        """The source's own CPU's time over this row's."""
        return self._divide(self.cpu_seconds)

    def _divide(self, figure: float | None) -> float | None:
        seconds = self.published.job_seconds
        return figure / seconds if seconds and figure is not None else None


ComparedEntry = Row | PublishedResult


@dataclass(frozen=True)
class FieldDifference:
    """A field that is not the same on both sides, with both values."""

    field: str
    base: FieldValue
    new: FieldValue


def find_differences(base: Mapping[str, FieldValue], new: Mapping[str, FieldValue]) -> tuple[FieldDifference, ...]:
    """Every field that is not equal, with both values; None where a side lacks it."""
    pairs = ((name, base.get(name), new.get(name)) for name in dict.fromkeys((*base, *new)))
    return tuple(FieldDifference(name, its, ours) for name, its, ours in pairs if its != ours)


def describe_place(row: Row) -> dict[str, FieldValue]:
    """The closed list of what two rows of equal work can differ in and a reader must know. Precision, data and all else of the
    work are not in it: rows that differ there are not divided.
    """
    host = Host(row.machine, row.software, row.device)
    return {
        **{fact.name: fact.read(host) for fact in FACTS if fact.why},
        "threads": row.job.threads,
        "allocator": row.job.allocator,
        "accuracy_data": None if row.accuracy is None else row.accuracy.data,
    }


def group_by(items: Iterable[Grouped], key: Callable[[Grouped], GroupKey]) -> dict[GroupKey, list[Grouped]]:
    """Group the items by their keys, keys and items in the order in which they come."""
    found: dict[GroupKey, list[Grouped]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def share_work(row: Row) -> tuple[str, int]:
    """Give what rows must have in common before one divides the other: the work and the timing rule."""
    return row.work_key, row.protocol


def share_all_but(row: Row, varied: Collection[str]) -> tuple[str, ...]:
    """Give what rows of one run must have in common where a table varies these fields of the job on purpose."""
    own = {name: value for name, value in json.loads(row.row_key).items() if name not in varied}
    return row.job.workload, row.machine.id, row.run_id, str(row.protocol), json.dumps(own)


def divide_rows(base: ComparedEntry, new: ComparedEntry) -> Estimate | None:
    """Divide base's seconds by new's, of what both did: above 1 where new is faster. None where one failed, so has no time.

    A published time, of the whole job, is taken as exact.
    """
    if isinstance(base, Row) and isinstance(new, Row):
        if not base.costs or not new.costs:
            return None
        if _in_one_run(base, new):
            return stats.ratio(base.costs, new.costs)
        return stats.unpaired_ratio(list(base.costs.values()), list(new.costs.values()))
    above, below = base.job_seconds, new.job_seconds
    if above is None or below is None:
        return None
    return below.inverse_of(above.value) if isinstance(base, PublishedResult) else above.scaled(1 / below.value)


def _in_one_run(base: Row, new: Row) -> bool:
    return (base.machine.id, base.run_id) == (new.machine.id, new.run_id)


def order_by_speed(row: Row) -> tuple[float, str, str, str]:
    """Sort the fastest first; ties by name, so that the order is total."""
    return math.inf if row.cost is None else row.cost.value, row.machine.id, row.row_key, row.run_id


@dataclass(frozen=True)
class RowRatio:
    """Two entries of equal work, divided. `ratio` and `verdict` are None where a side has no time: a failed row."""

    base: ComparedEntry
    new: ComparedEntry
    tolerance: float
    fastest_of_each: bool = False
    """No row of this work stands in the same place on both sides: each side's fastest was taken."""

    @cached_property
    def ratio(self) -> Estimate | None:
        """Base's seconds over new's: above 1 where new is faster."""
        return divide_rows(self.base, self.new)

    @property
    def verdict(self) -> SpeedOutcome | None:
        """What the interval allows to say."""
        return None if self.ratio is None else classify_ratio(self.ratio, self.tolerance)

    def measure(self, entry: ComparedEntry) -> Estimate | None:
        """Give the seconds of one of the two; against a published row those of the whole job, measured or projected."""
        return entry.cost if self.published is None else entry.job_seconds

    @property
    def seconds_of(self) -> JobPart:
        """What the seconds are of: one step (or product), or the whole job."""
        return "job" if self.published is not None else self.row.cost_of

    @property
    def row(self) -> Row:
        """The measured row whose work this is: new's, else base's."""
        return self.rows[-1][1]

    @property
    def rows(self) -> tuple[tuple[SideName, Row], ...]:
        """The measured rows of the pair with their sides: two, or one against a published row."""
        both: tuple[tuple[SideName, ComparedEntry], ...] = (("base", self.base), ("new", self.new))
        return tuple((side, entry) for side, entry in both if isinstance(entry, Row))

    @property
    def published(self) -> PublishedResult | None:
        """The published row, where one side is."""
        return next((each for each in (self.base, self.new) if isinstance(each, PublishedResult)), None)

    @property
    def in_one_run(self) -> bool:
        """Whether both were measured in the same run."""
        return self.published is None and _in_one_run(*(row for _, row in self.rows))

    @property
    def by_round(self) -> bool:
        """Whether the interval is of the rounds of one run, rather than Welch's between two samples."""
        if not self.in_one_run:
            return False
        base, new = (row.costs.keys() for _, row in self.rows)
        return len(base & new) >= stats.MINIMUM_FOR_INTERVAL

    @property
    def differences(self) -> tuple[FieldDifference, ...]:
        """In what the places of two measured rows differ."""
        if self.published is not None:
            return ()
        return tuple(
            each
            for each in find_differences(*(describe_place(row) for _, row in self.rows))
            if not (each.field in _BOTH_KNOWN and None in (each.base, each.new))
        )

    @property
    def learns_worse(self) -> SideName | None:
        """The side whose accuracy interval lies wholly below the other's; of rows to a target neither, as both stopped there."""
        known = [(side, row.accuracy) for side, row in self.rows if row.accuracy and row.job.clock != "accuracy"]
        if len(known) < 2 or len({accuracy.data for _, accuracy in known}) > 1:
            return None
        for (side, one), (_, other) in (known, known[::-1]):
            if one.share.high is not None and other.share.low is not None and one.share.high < other.share.low:
                return side
        return None


def classify_ratio(ratio: Estimate, tolerance: float) -> SpeedOutcome:
    """What the interval allows to say; without one (fewer than three processes a side) nothing.

    `tolerance` is a share (0.05): an interval wholly within [1 / (1 + tolerance), 1 + tolerance] is called the same.
    """
    if ratio.low is None or ratio.high is None:
        return "UNCLEAR"
    edge = (1 + tolerance) * (1 + _ROUNDING)
    if 1 / edge <= ratio.low and ratio.high <= edge:
        return "SAME"
    if ratio.low > 1 + _ROUNDING:
        return "FASTER"
    return "SLOWER" if ratio.high < 1 / (1 + _ROUNDING) else "UNCLEAR"
