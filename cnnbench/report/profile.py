"""Profiles in words: each rung's step beside the others', taken apart by kind of work and by phase, and its top operators."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

from cnnbench import naming, units, workloads
from cnnbench.profile_model import Breakdown, Group, Operator, Part, Profile, ProfileJob, ProfileResult, StepPhase
from cnnbench.report.model import Column, Note, Report, Table
from cnnbench.report.value_table import ValueColumn, make_table

FORMATS = "markdown or json"
LONGEST_NAME = 60
"""Characters of an operator's name in a table: a kernel of a template library has hundreds. JSON has them all."""
NO_MEASUREMENT = (
    "A profile is no measurement: only the plain steps were timed without the profiler, in one process and through no gate; "
    "nothing of this is kept in results/ or enters a table of speeds. Measure with cnnbench run."
)
DISTURBED = 2.0
"""Longest over shortest plain step; on a quiet machine they differ by a few percent."""
COST_RULE = (
    "The profiler's cost is unseen where the profiled step took no longer than the longest plain one. Parts add up to the mean "
    "of the profiled steps."
)
HOST_RULE = (
    "Times of operators are their own, under the profiler, without what they call. Python and gaps: the rest of the step, "
    "in which no operator ran."
)
DEVICE_RULE = (
    "On an accelerator an operator's time is that of the kernels it queued. Device idle: the rest of the step, in which the "
    "device waited for the host to queue more (launch gaps)."
)
NATIVE_RULE = (
    "A kernel native::... is one pass over several layers: those of a convolution do pooling, ReLU and dropout too, and count "
    "as convolution."
)


PRETRAINING_RULE = "The step is that of the fine-tuning; pre-training, which has steps of its own, is not in it."
Measured = tuple[ProfileJob, Profile]
"""A rung with its profile."""


def report(shown: Sequence[ProfileResult], top: int) -> Report:
    """For each device the rungs side by side, then each rung's `top` operators; last what the times are not."""
    tables: list[Table] = []
    for device in dict.fromkeys(each.rung.job.device for each in shown):
        found = [each for each in shown if each.rung.job.device == device]
        profiles = [(each.rung, each.profile) for each in found if each.profile is not None]
        if profiles:
            tables += _tables(naming.profile_title(found[0].rung.job), profiles, top)
    return Report(tuple(tables), tuple(_notes(shown)), document(shown), FORMATS)


def _tables(heading: str, profiles: Sequence[Measured], top: int) -> Iterator[Table]:
    yield make_table(
        "rungs", f"{heading}: rungs", _OVERVIEW, [("median step without the profiler and with it", profiles)]
    )
    yield _side_by_side(heading, profiles)
    for variant, profile in profiles:
        breakdown = profile.breakdown
        yield _operators(f"{heading}, {variant.name}", "operators", breakdown.operators, top)
        if breakdown.kernels:
            yield _operators(f"{heading}, {variant.name}", "kernels", breakdown.kernels, top)


def document(shown: Sequence[ProfileResult]) -> dict[str, Any]:
    """Every figure of every rung as one object; keys carry units, times are of one step."""
    return {"rungs": [_describe(each) for each in shown], "note": NO_MEASUREMENT}


def plain_step(profile: Profile) -> float:
    """Seconds of a step without the profiler, the median."""
    return statistics.median(profile.plain_seconds)


def profiled_step(profile: Profile) -> float:
    """Take the median seconds of a step under the profiler."""
    return statistics.median(profile.breakdown.each_seconds)


def profilers_cost(profile: Profile) -> float:
    """How much longer the median step took under the profiler, as a share of the plain one."""
    return profiled_step(profile) / plain_step(profile) - 1.0


def _cost_text(profile: Profile) -> str:
    """A cost that plain steps differ by among themselves is none that was seen."""
    unseen = profiled_step(profile) <= max(profile.plain_seconds)
    return "unseen" if unseen else f"{100 * profilers_cost(profile):+.0f} %"


def _describe(shown: ProfileResult) -> dict[str, Any]:
    profile, outcome = shown.profile, shown.outcome
    found: dict[str, Any] = {
        "rung": shown.rung.name,
        "job": shown.rung.job.model_dump(mode="json"),
        "environment": shown.environment,
        **{name: getattr(outcome, name) for name in ("status", "message", "stderr_tail")},
        "trace": shown.trace,
    }
    if profile is None:
        return found
    return found | {
        "plain_step_seconds": plain_step(profile),
        "profiled_step_seconds": profiled_step(profile),
        "profilers_cost_share": profilers_cost(profile),
        **profile.model_dump(mode="json"),
    }


_OVERVIEW: Sequence[ValueColumn[Measured]] = (
    (Column("rung", "rung", "", 1, "left"), lambda each: _label(*each)),
    (Column("plain", "a step", "ms", 1), lambda each: _ms(plain_step(each[1]))),
    (Column("spread", "all plain\nsteps", "ms", 2), lambda each: _ms_span(each[1].plain_seconds, "–")),
    (Column("profiled", "under the\nprofiler", "ms", 1), lambda each: _ms(profiled_step(each[1]))),
    (Column("cost", "profiler's\ncost", "", 1), lambda each: _cost_text(each[1])),
    (Column("longest", "longest kind of work", "", 1, "left"), lambda each: _longest_text(each[1].breakdown)),
    (Column("idle", "nothing\nruns", "", 1), lambda each: _share(sum(map(_idle_share, each[1].breakdown.groups)))),
)


def _label(variant: ProfileJob, profile: Profile) -> str:
    return variant.name if profile.tuned_rung in (None, variant.name) else f"{variant.name}: {profile.tuned_rung}"


def _longest_text(breakdown: Breakdown) -> str:
    """Name the longest part in which something ran, where there is one."""
    longest = max(breakdown.groups, key=lambda part: (not _idle_share(part), part.seconds))
    return f"{longest.name} {_share(longest.share)}"


def _idle_share(part: Part) -> float:
    """Give the part's share, if it is one in which no operator ran."""
    return part.share if part.name in ("python and gaps", "device idle") else 0.0


def _side_by_side(heading: str, profiles: Sequence[Measured]) -> Table:
    breakdowns = [profile.breakdown for _, profile in profiles]

    def read_column(number: int, rung: ProfileJob) -> ValueColumn[tuple[str, Sequence[str]]]:
        return Column(rung.name, rung.name, "ms, share", 1), lambda line: line[1][number]

    columns: list[ValueColumn[tuple[str, Sequence[str]]]] = [
        (Column("part", "where the step's time goes", "", 1, "left"), lambda line: line[0]),
        *(read_column(number, rung) for number, (rung, _) in enumerate(profiles)),
    ]
    whole = ("the step", [_amount(each.step_seconds, 1.0) for each in breakdowns])
    groups = _part_lines(get_args(Group), [each.groups for each in breakdowns])
    phases = _part_lines((*get_args(StepPhase), "device idle"), [each.phases for each in breakdowns])
    title = f"{heading}: a step taken apart, under the profiler"
    return make_table("parts", title, columns, [("by kind of work", (*groups, whole)), ("by phase", phases)])


def _part_lines(names: Iterable[str], variants: Sequence[Sequence[Part]]) -> Iterator[tuple[str, Sequence[str]]]:
    """List each part that any variant has, with its amount in every one."""
    by_name = [{part.name: _amount(part.seconds, part.share) for part in parts} for parts in variants]
    return (
        (name, [each.get(name, "-") for each in by_name]) for name in names if any(name in each for each in by_name)
    )


def _operators(heading: str, what: str, operators: Sequence[Operator], top: int) -> Table:
    phase: ValueColumn[Operator] = (Column("phase", "phase", "", 3, "left"), lambda each: each.phase)
    columns: tuple[ValueColumn[Operator], ...] = (
        (Column("operator", what.removesuffix("s"), "", 1, "left"), lambda each: _short(each.name)),
        (Column("group", "kind of work", "", 2, "left"), lambda each: each.group),
        *([phase] if what == "operators" else ()),
        (Column("seconds", "a step", "ms", 1), lambda each: _ms(each.seconds)),
        (Column("share", "share", "", 1), lambda each: _share(each.share)),
        (Column("calls", "calls\na step", "", 1), lambda each: f"{each.calls:,.4g}"),
    )
    left, rule = operators[top:], "all of them"
    if left:
        rest = f"{_ms(sum(each.seconds for each in left))} ms, {_share(sum(each.share for each in left))}"
        rule = f"the {top} longest; {len(left)} more take {rest}"
    return make_table(what, f"{heading}: {what}", columns, [(rule, operators[:top])])


def _short(name: str) -> str:
    """Without what most begin with, and cut where it is long."""
    name = name.removeprefix("aten::").removeprefix("autograd::engine::evaluate_function: ")
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _notes(shown: Sequence[ProfileResult]) -> Iterator[Note]:
    found = [(each.rung, each.profile) for each in shown if each.profile is not None]
    breakdowns = [profile.breakdown for _, profile in found]
    views = {each.view for each in breakdowns}
    rules = {
        HOST_RULE: "host" in views,
        DEVICE_RULE: "device" in views,
        COST_RULE: bool(found),
        NATIVE_RULE: any(each.name.startswith("native::") for parts in breakdowns for each in parts.operators),
        PRETRAINING_RULE: any(workloads.get(rung.job.workload).pretraining is not None for rung, _ in found),
    }
    yield from (Note("rule", text) for text, applies in rules.items() if applies)
    for rung, profile in found:
        yield from (Note("warning", f"{rung.place}: {text}") for text in _profile_notes(profile))
    for each in shown:
        if each.profile is None:
            kind: Literal["missing", "problem"] = "missing" if each.outcome.status == "unsupported" else "problem"
            yield Note(kind, f"{each.rung.place}: {each.outcome.status}: {each.outcome.message}")
    yield from (
        Note("run", f"trace of {each.rung.place}: {each.trace}") for each in shown if each.profile and each.trace
    )
    yield Note("summary", NO_MEASUREMENT)


def _profile_notes(profile: Profile) -> Iterator[str]:
    """List what the worker noted, where kernels overlap, so that the device's idle share is not what its operators leave, and
    where steps of one kind differ so much that they were disturbed, and so were the profiled ones.
    """
    yield from profile.notes
    idle = profile.breakdown.device_idle_share
    left = sum(part.share for part in profile.breakdown.groups if part.name == "device idle")
    if idle is not None and abs(left - idle) >= 0.01:
        yield f"kernels overlap, or stand under no operator: nothing ran on the device in {_share(idle)}"
    if max(profile.plain_seconds) >= DISTURBED * min(profile.plain_seconds):
        took = _ms_span(profile.plain_seconds, " to ")
        yield f"plain steps took {took} ms: the machine is busy, so profile again when it is quiet"


def _ms(seconds: float) -> str:
    milli = 1e3 * seconds
    return f"{milli:,.1f}" if milli >= 99.95 else f"{milli:.2f}" if milli >= 0.995 else f"{milli:.3f}"


def _ms_span(seconds: Sequence[float], dash: str) -> str:
    return f"{_ms(min(seconds))}{dash}{_ms(max(seconds))}"


def _share(share: float) -> str:
    return units.percent(share, 1)


def _amount(seconds: float, share: float) -> str:
    return f"{_ms(seconds)} {_share(share):>7}"
