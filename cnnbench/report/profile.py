"""Reports of profiles: the rungs' steps side by side, broken down by kind of work and by phase, and the top operators."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple, get_args

from cnnbench import naming, units, workloads
from cnnbench.profile_model import Group, Operator, Part, Profile, ProfileJob, ProfileResult, StepPhase
from cnnbench.report.model import Document, Note, Report, Table
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure, wording

FORMATS = "markdown or json"
LONGEST_NAME = 60
"""Characters of an operator's name in a table; template kernels have hundreds, and JSON has the whole name."""
NO_MEASUREMENT = (
    "A profile is not a measurement: only the plain steps were timed without the profiler, in one process, unchecked; "
    "nothing of this is kept in results/ or enters a table of speeds. Measure with cnnbench run."
)
IDLE = ("python and gaps", "device idle")
"""Parts of a step in which no operator ran."""
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


class Measured(NamedTuple):
    """A rung with its profile."""

    rung: ProfileJob
    profile: Profile


def report(shown: Sequence[ProfileResult], top: int) -> Report:
    """Report the rungs side by side per device, then each rung's `top` operators, last the limits of these times."""
    tables = []
    measured = [Measured(each.rung, each.profile) for each in shown if each.profile is not None]
    for device in dict.fromkeys(rung.job.device for rung, _ in measured):
        profiles = [each for each in measured if each.rung.job.device == device]
        heading = naming.profile_title(profiles[0].rung.job)
        tables += [build_table(RUNGS, profiles, words={"heading": heading}), _side_by_side(heading, profiles)]
        for rung, profile in profiles:
            breakdown, title = profile.breakdown, f"{heading}, {rung.name}"
            tables.append(_operators(title, "operators", breakdown.operators, top))
            if breakdown.kernels:
                tables.append(_operators(title, "kernels", breakdown.kernels, top))
    document = {"rungs": [_describe(each) for each in shown], "note": NO_MEASUREMENT}
    return Report(tuple(tables), tuple(_notes(shown, measured)), document, FORMATS)


def plain_step(profile: Profile) -> float:
    """Take the median seconds of a step without the profiler."""
    return statistics.median(profile.plain_seconds)


def profiled_step(profile: Profile) -> float:
    """Take the median seconds of a step under the profiler."""
    return statistics.median(profile.breakdown.each_seconds)


def profilers_cost(profile: Profile) -> float:
    """Compute how much longer the median step took under the profiler, as a share of the plain one."""
    return profiled_step(profile) / plain_step(profile) - 1.0


def _describe(shown: ProfileResult) -> Document:
    """Collect every figure of a rung; keys carry units, times are of one step."""
    profile = shown.profile
    figures = profile and {
        "plain_step_seconds": plain_step(profile),
        "profiled_step_seconds": profiled_step(profile),
        "profilers_cost_share": profilers_cost(profile),
        **profile.model_dump(mode="json"),
    }
    return {
        "rung": shown.rung.name,
        "job": shown.rung.job.model_dump(mode="json"),
        "environment": shown.environment,
        **shown.outcome.model_dump(mode="json", include={"status", "message", "stderr_tail"}),
        "trace": shown.trace,
        **(figures or {}),
    }


def _ms(seconds: float) -> str:
    milli = 1e3 * seconds
    return f"{milli:,.1f}" if milli >= 99.95 else f"{milli:.2f}" if milli >= 0.995 else f"{milli:.3f}"


def _ms_span(seconds: Sequence[float], dash: str) -> str:
    return f"{_ms(min(seconds))}{dash}{_ms(max(seconds))}"


def _share(share: float) -> str:
    return units.percent(share, 1)


def _label(measured: Measured) -> str:
    variant, tuned = measured.rung.name, measured.profile.tuned_rung
    return variant if tuned in (None, variant) else f"{variant}: {tuned}"


def _cost_text(measured: Measured) -> str:
    """Write the profiler's cost, `unseen` if the profiled median is within the range of the plain steps."""
    unseen = profiled_step(measured.profile) <= max(measured.profile.plain_seconds)
    return "unseen" if unseen else f"{100 * profilers_cost(measured.profile):+.0f} %"


def _longest_text(measured: Measured) -> str:
    """Name the longest part in which something ran, if any."""
    groups = measured.profile.breakdown.groups
    longest = max(groups, key=lambda part: (part.name not in IDLE or not part.share, part.seconds))
    return f"{longest.name} {_share(longest.share)}"


RUNGS = TableSpec[Measured](
    "rungs",
    "{heading}: rungs",
    (
        wording("rung", "rung", 1, _label),
        figure("plain", "a step", 1, lambda each: plain_step(each.profile), _ms, unit="ms"),
        figure("spread", "all plain\nsteps", 2, lambda each: _ms_span(each.profile.plain_seconds, "–"), unit="ms"),
        figure("profiled", "under the\nprofiler", 1, lambda each: profiled_step(each.profile), _ms, unit="ms"),
        figure("cost", "profiler's\ncost", 1, _cost_text),
        wording("longest", "longest kind of work", 1, _longest_text),
        figure(
            "idle",
            "nothing\nruns",
            1,
            lambda each: sum(part.share for part in each.profile.breakdown.groups if part.name in IDLE),
            _share,
        ),
    ),
    group=lambda each: "median step without the profiler and with it",
)


def _side_by_side(heading: str, profiles: Sequence[Measured]) -> Table:
    breakdowns = [profile.breakdown for _, profile in profiles]

    def list_parts(names: Iterable[str], variants: Sequence[Sequence[Part]]) -> list[Sequence[str]]:
        """List each part that any variant has, with its amount in every variant."""
        by_name = [{part.name: _amount(part.seconds, part.share) for part in parts} for parts in variants]
        known = (name for name in names if any(name in each for each in by_name))
        return [[name, *(each.get(name, "-") for each in by_name)] for name in known]

    whole = ["the step", *(_amount(each.step_seconds, 1.0) for each in breakdowns)]
    groups = list_parts(get_args(Group), [each.groups for each in breakdowns])
    phases = list_parts((*get_args(StepPhase), "device idle"), [each.phases for each in breakdowns])
    title = f"{heading}: a step broken down, under the profiler"
    columns: list[ColumnSpec[Sequence[str]]] = [wording("part", "where the step's time goes", 1, itemgetter(0))]
    for number, (rung, _) in enumerate(profiles, 1):
        columns.append(figure(rung.name, rung.name, 1, itemgetter(number), unit="ms, share"))
    spec = TableSpec[Sequence[str]]("parts", title, tuple(columns))
    return build_table(spec, groups=[("by kind of work", (*groups, whole)), ("by phase", phases)])


def _operators(heading: str, what: str, operators: Sequence[Operator], top: int) -> Table:
    left, rule = operators[top:], "all of them"
    if left:
        rest = f"{_ms(sum(each.seconds for each in left))} ms, {_share(sum(each.share for each in left))}"
        rule = f"the {top} longest; {len(left)} more take {rest}"
    hidden = () if what == "operators" else ("phase",)
    spec = TableSpec[Operator](
        what,
        f"{heading}: {what}",
        (
            wording("operator", what.removesuffix("s"), 1, _shorten),
            wording("group", "kind of work", 2, "group"),
            wording("phase", "phase", 3, "phase"),
            figure("seconds", "a step", 1, "seconds", _ms, unit="ms"),
            figure("share", "share", 1, "share", _share),
            figure("calls", "calls\na step", 1, "calls", "{:,.4g}".format),
        ),
    )
    return build_table(spec, groups=[(rule, operators[:top])], hidden=hidden)


def _shorten(operator: Operator) -> str:
    """Drop the prefix that most operators' names share, and cut a long name."""
    name = operator.name.removeprefix("aten::").removeprefix("autograd::engine::evaluate_function: ")
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _notes(shown: Sequence[ProfileResult], found: Sequence[Measured]) -> Iterator[Note]:
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
            status = each.outcome.status
            text = f"{each.rung.place}: {status}: {each.outcome.message}"
            yield Note("missing" if status == "unsupported" else "problem", text)
    yield from (
        Note("run", f"trace of {each.rung.place}: {each.trace}") for each in shown if each.profile and each.trace
    )
    yield Note("summary", NO_MEASUREMENT)


def _profile_notes(profile: Profile) -> Iterator[str]:
    """Yield the worker's notes, a note if kernels overlap, and one if plain steps differ so much as to be disturbed.

    With overlapping kernels the operators' shares do not add up to the device's busy share.
    """
    yield from profile.notes
    idle = profile.breakdown.device_idle_share
    left = sum(part.share for part in profile.breakdown.groups if part.name == "device idle")
    if idle is not None and abs(left - idle) >= 0.01:
        yield f"kernels overlap, or belong to no operator: nothing ran on the device in {_share(idle)}"
    if max(profile.plain_seconds) >= 2 * min(profile.plain_seconds):  # on a quiet machine they differ by a few percent
        took = _ms_span(profile.plain_seconds, " to ")
        yield f"plain steps took {took} ms: the machine is busy, so profile again when it is quiet"


def _amount(seconds: float, share: float) -> str:
    return f"{_ms(seconds)} {_share(share):>7}"
