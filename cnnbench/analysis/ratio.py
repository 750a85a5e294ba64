"""One way to divide a row by another: what must be equal first, their ratio with its interval, and what else differs.

Rows are divided where their work and timing rule are equal (`share_work`), or equal but for what a table varies on
purpose (`share_all_but`). Two rows of one run ran in interleaved rounds and are paired by round. Two runs did not, and
perhaps not even on one host: their interval also covers how much runs differ (`run_spread`).

A table puts some rows of one run beside one another on purpose: ladders, sets of more and more ranks, concurrent
copies.

A *ladder* is a list of rungs, rows that do the same work on the same device and differ only in how a step is computed,
in a fixed order: division (reference, tuned), then precision (fp32, tf32, bf16, fp16), layout (nchw, nhwc), execution
(eager, compiled), loader (resident, dataloader), loader workers. So the reference division's plain float32 step is the
first where it was measured. Everywhere else rows of different precision are never divided; here that is the point, and
the table's title names it.

A *scaling set* is the same job done by one process and by several ranks. `strong`: the batch is the same for all, so a
step is the same work. `weak`: the batch on each rank is, so a step of n ranks is n times the work. Both have the rows
of one process, of the CPU at every thread count, and all are compared with the one that used the fewest cores. Speed is
images per second; efficiency is speed over the processors used, relative to the base's.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, TypeVar, get_args

from cnnbench import units
from cnnbench.analysis import stats
from cnnbench.analysis.rows import JobPart, Row
from cnnbench.analysis.run_spread import FoundSpread, find_run_spreads
from cnnbench.analysis.same_host import HostRelation, relate_hosts
from cnnbench.analysis.stats import Estimate
from cnnbench.machine_facts import FACTS, Host
from cnnbench.plain_text import plain
from cnnbench.schema import Job, PublishedRow
from cnnbench.schema.job import Scaling, list_choices, plain_values

SideName = Literal["base", "new"]
SpeedOutcome = Literal["FASTER", "SLOWER", "SAME", "UNCLEAR"]
FieldValue = str | int | float | bool | None
Grouped = TypeVar("Grouped")
GroupKey = TypeVar("GroupKey")

_BOTH_KNOWN = {"threads", "accuracy_data", "driver", "power_limit_watts"}
"""Facts that a processor may not have (a CPU has no driver): a None on one side is not reported as a difference."""


@dataclass(frozen=True)
class PublishedResult:
    """A published row, with the job time of the source's own CPU if it has one."""

    published: PublishedRow
    cpu_seconds: float | None
    cost_of: ClassVar[JobPart] = "job"

    @property
    def job_seconds(self) -> Estimate | None:
        """The published time of the whole job; it is one run, so its spread is unknown."""
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
    """List every field that is not equal, with both values; None if a side lacks it."""
    names = dict.fromkeys((*base, *new))
    return tuple(
        FieldDifference(name, base.get(name), new.get(name)) for name in names if base.get(name) != new.get(name)
    )


def describe_place(row: Row) -> dict[str, FieldValue]:
    """Collect what two rows of equal work can differ in and a reader must know.

    The list is closed. Precision, data and the rest of the work are not in it: rows that differ there are not divided.
    """
    host = Host(row.machine, row.software, row.device)
    return {
        **{fact.name: fact.read(host) for fact in FACTS if fact.why},
        "threads": row.job.threads,
        "allocator": row.job.allocator,
        "accuracy_data": None if row.accuracy is None else row.accuracy.data,
    }


def group_by(items: Iterable[Grouped], key: Callable[[Grouped], GroupKey]) -> dict[GroupKey, list[Grouped]]:
    """Group the items by their keys, with keys and items in their original order."""
    found: dict[GroupKey, list[Grouped]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def share_work(row: Row) -> tuple[str, int]:
    """Return what rows must have in common before one divides the other: the work and the timing rule."""
    return row.work_key, row.protocol


def share_all_but(row: Row, varied: Collection[str]) -> tuple[str, ...]:
    """Return what rows of one run must have in common in a table that varies these fields of the job on purpose."""
    own = {name: value for name, value in json.loads(row.row_key).items() if name not in varied}
    return row.job.workload, row.machine.id, row.run_id, str(row.protocol), json.dumps(own)


def divide_rows(base: ComparedEntry, new: ComparedEntry, history: Sequence[Row] = ()) -> Estimate | None:
    """Divide base's seconds by new's for the same work: above 1 if new is faster.

    None if one failed, so that it has no time. A published time, of the whole job, is taken as exact. `history` is what
    `find_run_spreads` takes.
    """
    if isinstance(base, Row) and isinstance(new, Row):
        if not base.costs or not new.costs:
            return None
        if _in_one_run(base, new):
            return stats.ratio(base.costs, new.costs)
        first, second = (found.spread for found in find_run_spreads(base, new, history))
        return stats.ratio_between_runs(list(base.costs.values()), list(new.costs.values()), (first, second))
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
    """Two entries of equal work, divided. `ratio` and `verdict` are None if a side's row failed and has no time."""

    base: ComparedEntry
    new: ComparedEntry
    tolerance: float
    fastest_of_each: bool = False
    """Whether no row of this work ran in the same place on both sides, so that each side's fastest was taken."""
    history: tuple[Row, ...] = field(default=(), repr=False)
    """Rows of all known runs, which show how much runs differ."""

    @cached_property
    def ratio(self) -> Estimate | None:
        """Base's seconds over new's: above 1 if new is faster."""
        return divide_rows(self.base, self.new, self.history)

    @property
    def spreads(self) -> tuple[FoundSpread, ...]:
        """How much the runs of each side differ, if the interval covers that: it has one, between two runs."""
        if self.published is not None or self.in_one_run or self.ratio is None or self.ratio.low is None:
            return ()
        (_, base), (_, new) = self.rows
        return find_run_spreads(base, new, self.history)

    @property
    def relation(self) -> HostRelation | None:
        """How the hosts of two measured rows are related; None beside a published row."""
        return None if self.published is not None else relate_hosts(*(row for _, row in self.rows))

    @property
    def verdict(self) -> SpeedOutcome | None:
        """The conclusion that the interval allows."""
        return None if self.ratio is None else classify_ratio(self.ratio, self.tolerance)

    def measure(self, entry: ComparedEntry) -> Estimate | None:
        """Return the seconds of one of the two.

        Next to a published row they are those of the whole job, measured or projected.
        """
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
        both = zip(get_args(SideName), (self.base, self.new), strict=True)
        return tuple((side, entry) for side, entry in both if isinstance(entry, Row))

    @property
    def published(self) -> PublishedResult | None:
        """The published row, if one side is published."""
        return next((each for each in (self.base, self.new) if isinstance(each, PublishedResult)), None)

    @property
    def in_one_run(self) -> bool:
        """Whether both were measured in the same run."""
        return self.published is None and _in_one_run(*(row for _, row in self.rows))

    @property
    def by_round(self) -> bool:
        """Whether the interval pairs the rounds of one run, rather than being one between two samples."""
        if not self.in_one_run:
            return False
        base, new = (row.costs.keys() for _, row in self.rows)
        return len(base & new) >= stats.MINIMUM_FOR_INTERVAL

    @property
    def differences(self) -> tuple[FieldDifference, ...]:
        """The differences between the places of two measured rows."""
        if self.published is not None:
            return ()
        return tuple(
            each
            for each in find_differences(*(describe_place(row) for _, row in self.rows))
            if not (each.field in _BOTH_KNOWN and None in (each.base, each.new))
        )

    @property
    def learns_worse(self) -> SideName | None:
        """The side whose accuracy interval is entirely below the other's.

        None for rows to a target, since both stopped there.
        """
        known = [(side, row.accuracy) for side, row in self.rows if row.accuracy and row.job.clock != "accuracy"]
        if len(known) < 2 or len({accuracy.data for _, accuracy in known}) > 1:
            return None
        for (side, one), (_, other) in (known, known[::-1]):
            if one.share.high is not None and other.share.low is not None and one.share.high < other.share.low:
                return side
        return None


def classify_ratio(ratio: Estimate, tolerance: float) -> SpeedOutcome:
    """Classify a ratio by its interval.

    UNCLEAR without one (fewer than three processes per side). `tolerance` is a share (0.05): an interval entirely
    within [1 / (1 + tolerance), 1 + tolerance] is called the same.
    """
    if ratio.low is None or ratio.high is None:
        return "UNCLEAR"
    edge = (1 + tolerance) * (1 + stats.ROUNDING)  # a bound on an edge belongs to it whichever side is the base
    if 1 / edge <= ratio.low and ratio.high <= edge:
        return "SAME"
    if ratio.low > 1 + stats.ROUNDING:
        return "FASTER"
    return "SLOWER" if ratio.high < 1 / (1 + stats.ROUNDING) else "UNCLEAR"


ORDER = {name: list_choices(name) for name in plain_values("compute")}
"""The fields that rungs may differ in, each with its values in order; loader workers are any number, fewest first."""
SCALED_FIELDS = ("world", "scaling", "nodes", "threads", "batch_size")


@dataclass(frozen=True)
class ScalingSet:
    """A set: how the batch is distributed, the batch of one process, and its rows, fewest processors first."""

    scaling: Scaling
    base_batch: int
    points: tuple[Row, ...]
    """With `scaling_speedup` and `scaling_efficiency`; None if the row or the base was not measured."""


def find_ladders(rows: Sequence[Row]) -> tuple[tuple[Row, ...], ...]:
    """Find every ladder with at least two measured rungs, in an order that does not depend on the rows'.

    GEMMs have none. Rungs are rows with `speed_over_rung_before` and `speed_over_first_rung`: the time of the measured
    rung before, and of the first one, over the row's own; no rung of an unfit machine is
    divided by. A row that did not end well is a rung without a time: what a device cannot do is part of the picture.
    """
    sets = group_by(
        (row for row in rows if row.job.workload != "gemm"),
        lambda row: (row.job.workload, row.job.batch_size, share_all_but(row, ORDER)),
    )
    found = []
    for _, members in sorted(sets.items()):
        rungs = []
        measured, bases = 0, list[Row]()
        for row in sorted(members, key=_place_on_ladder):
            before, first = [divide_rows(base, row) for base in (bases[-1:] + bases[:1])] or (None, None)
            rungs.append(row.with_values(speed_over_rung_before=before, speed_over_first_rung=first))
            measured += bool(row.costs)
            bases += [row] if row.costs and not row.unfit else []
        found += [tuple(rungs)] if measured > 1 else []
    return tuple(found)


def _place_on_ladder(row: Row) -> tuple[int, ...]:
    values = ((getattr(row.job, name), choices) for name, choices in ORDER.items())
    return tuple(choices.index(value) if choices else value for value, choices in values)


def find_scaling_sets(rows: Sequence[Row]) -> tuple[ScalingSet, ...]:
    """Find every set with a row of several ranks, in an order that does not depend on the rows'."""
    groups = defaultdict(list)
    for row in rows:
        for scaling in get_args(Scaling):
            if row.job.workload != "gemm" and row.job.copies == 1 and row.job.scaling in (None, scaling):
                batch = row.job.rank_batch if scaling == "weak" else row.job.batch_size
                groups[share_all_but(row, SCALED_FIELDS), batch, scaling].append(row)
    found = []
    for (_, batch, scaling), same in sorted(groups.items()):
        same.sort(key=lambda row: (count_processors(row.job), row.job.world, row.job.nodes, row.row_key))
        if any(row.job.world > 1 for row in same):
            base = next((row for row in same if row.job.world == 1 and row.costs and not row.unfit), None)
            points = []
            for row in same:
                speedup = efficiency = None
                if base is not None and (ratio := divide_rows(base, row)) is not None:
                    # Images per second over the base's, and the same per processor used.
                    speedup = ratio.scaled(row.job.batch_size / base.job.batch_size)
                    efficiency = speedup.scaled(count_processors(base.job) / count_processors(row.job))
                points.append(row.with_values(scaling_speedup=speedup, scaling_efficiency=efficiency))
            found.append(ScalingSet(scaling, batch, tuple(points)))
    return tuple(found)


def count_processors(job: Job) -> int:
    """Count the cores that compute on a CPU, or the GPUs."""
    return job.world * (job.threads or 1 if job.device == "cpu" else 1)


def compare_copies(row: Row) -> Row:
    """Add which copy is slow while all do the same job at once, by its place (`cuda:3`, `cores 4,5`).

    Its step is divided by the median one's, over the launches in which every copy has a time; n counts those launches.
    """
    places = set.union(set(), *map(set, row.copies))
    launches = [each for each in row.copies if len(each) == row.job.copies and set(each) == places]
    if not launches:
        return row.with_values(slowest_copy=units.NOT_AVAILABLE)
    means = {place: stats.geometric([each[place] for each in launches]).value for place in sorted(places)}
    slowest = max(means, key=lambda place: means[place])
    middles = [statistics.median(each.values()) for each in launches]
    ratios = [each[slowest] / middle for each, middle in zip(launches, middles, strict=True)]
    return row.with_values(
        median_copy_seconds=stats.geometric(middles),
        slowest_copy=plain(slowest),
        slowest_over_median=stats.geometric(ratios),
    )
