"""Two entries of equal work, one of each side, in; their ratio with its interval, a verdict and what else differs out.

An entry is a row of `compare` or a published one. Two rows of one run ran in interleaved rounds and are paired by round;
two runs did not, so they get Welch's interval, which knows nothing of the machine's drift from one run to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from cnnbench.analysis import stats
from cnnbench.analysis.rows import Row, is_whole_job
from cnnbench.analysis.speedup import PublishedResult
from cnnbench.analysis.stats import Estimate
from cnnbench.machine_facts import FACTS, Fact, Host

SideName = Literal["base", "new"]
SpeedOutcome = Literal["FASTER", "SLOWER", "SAME", "UNCLEAR"]
ComparedEntry = Row | PublishedResult
FieldValue = str | int | float | bool | None

_ROUNDING = 1e-12
"""A bound on an edge belongs to it whichever side is the base: exp and log round in the 16th digit."""


def _make_reader(fact: Fact) -> Callable[[Row], FieldValue]:
    return lambda row: fact.read(Host(row.machine, row.software, row.device))


PLACE_FIELDS: Mapping[str, Callable[[Row], FieldValue]] = {
    **{fact.name: _make_reader(fact) for fact in FACTS if fact.why},
    "threads": lambda row: row.job.threads,
    "allocator": lambda row: row.job.allocator,
    "accuracy_data": lambda row: None if row.accuracy is None else row.accuracy.data,
}
"""The closed list of what two rows of equal work can differ in and a reader must know. Precision, data and all else of the
work are not in it: rows that differ there are not divided."""
_BOTH_KNOWN = {"threads", "accuracy_data", "driver", "power_limit_watts"}
"""Where None is `has none of it`, as a CPU has no driver: no difference worth a word."""


@dataclass(frozen=True)
class FieldDifference:
    """A field that is not the same on both sides, with both values."""

    field: str
    base: FieldValue
    new: FieldValue


@dataclass(frozen=True)
class RowRatio:
    """Two entries of equal work, divided. `ratio` and `verdict` are None where a side has no time: a failed row."""

    base: ComparedEntry
    new: ComparedEntry
    base_seconds: Estimate | None
    new_seconds: Estimate | None
    seconds_of: Literal["step", "job"]
    """What the seconds are of: one step (or product), or the whole job."""
    ratio: Estimate | None
    """Base's seconds over new's: above 1 where new is faster."""
    verdict: SpeedOutcome | None
    by_round: bool = False
    """Whether the interval is of the rounds of one run, rather than Welch's between two samples."""
    differences: tuple[FieldDifference, ...] = ()
    fastest_of_each: bool = False
    """No row of this work stands in the same place on both sides: each side's fastest was taken."""
    learns_worse: SideName | None = None
    """The side whose accuracy interval lies wholly below the other's."""

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
        return len(self.rows) == 2 and _in_one_run(*(row for _, row in self.rows))


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


def speedup_seconds(row: Row) -> Estimate | None:
    """Seconds of what speed-ups divide: the whole job under the job clock, else one step. None where no process was ok."""
    return stats.geometric(list(row.costs.values())) if row.costs else None


def exact_estimate(seconds: float | None) -> Estimate | None:
    """A published time: one run, and nothing known of its spread."""
    return None if seconds is None else Estimate(seconds, None, None, 1)


def divide_rows(base: Row, new: Row, tolerance: float, *, fastest_of_each: bool = False) -> RowRatio:
    """Two rows of equal work and timing rule. One that has no time, because it failed, leaves the pair without a ratio."""
    one_run = _in_one_run(base, new)
    ratio = None
    if base.costs and new.costs:
        both = (base.costs, new.costs)
        ratio = stats.ratio(*both) if one_run else stats.unpaired_ratio(*(list(costs.values()) for costs in both))
    return RowRatio(
        base=base,
        new=new,
        base_seconds=speedup_seconds(base),
        new_seconds=speedup_seconds(new),
        seconds_of="job" if is_whole_job(new.job) else "step",
        ratio=ratio,
        verdict=None if ratio is None else classify_ratio(ratio, tolerance),
        by_round=one_run and len(base.costs.keys() & new.costs.keys()) >= stats.MINIMUM_FOR_INTERVAL,
        differences=_differences(base, new),
        fastest_of_each=fastest_of_each,
        learns_worse=_learns_worse(base, new),
    )


def divide_published(then: PublishedResult, now: Row, tolerance: float, *, published: SideName) -> RowRatio | None:
    """A published time, taken as exact, and the row's own time of that job; None where one of the two is unknown."""
    seconds, measured = then.published.job_seconds, now.job_seconds
    if seconds is None or measured is None:
        return None
    ratio = measured.inverse_of(seconds) if published == "base" else measured.scaled(1 / seconds)
    outcome = classify_ratio(ratio, tolerance)
    if published == "base":
        return RowRatio(then, now, exact_estimate(seconds), measured, "job", ratio, outcome)
    return RowRatio(now, then, measured, exact_estimate(seconds), "job", ratio, outcome)


def _in_one_run(base: Row, new: Row) -> bool:
    return (base.machine.id, base.run_id) == (new.machine.id, new.run_id)


def _differences(base: Row, new: Row) -> tuple[FieldDifference, ...]:
    found = [FieldDifference(name, read(base), read(new)) for name, read in PLACE_FIELDS.items()]
    return tuple(
        each
        for each in found
        if each.base != each.new and not (each.field in _BOTH_KNOWN and None in (each.base, each.new))
    )


def _learns_worse(base: Row, new: Row) -> SideName | None:
    """The side whose accuracy interval lies below the other's; of rows to a target neither, as both stopped there."""
    a, b = base.accuracy, new.accuracy
    if a is None or b is None or a.data != b.data or base.job.clock == "accuracy":
        return None
    if a.share.low is None or a.share.high is None or b.share.low is None or b.share.high is None:
        return None
    if a.share.high < b.share.low:
        return "base"
    return "new" if b.share.high < a.share.low else None
