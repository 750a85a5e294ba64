"""Profiles in words: each rung's step beside the others', taken apart by kind of work and by phase, and its top operators."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

from cnnbench import __version__, units, workloads
from cnnbench.profile_model import Breakdown, Group, Operator, Part, Profile, ProfileJob, ProfileResult, StepPhase
from cnnbench.report import escaping
from cnnbench.report.model import Cell, Column, Line, Note, Report, Table
from cnnbench.report.model import RowGroup as Rows

ProfileFormat = Literal["table", "markdown", "json"]
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


def render(
    report: Report, document: object, format: ProfileFormat, *, width: int | None = None, color: bool = False
) -> str:
    """The report as text, or the document as JSON; ending in a newline. `width` and `color` are for `table`."""
    if format == "json":
        return escaping.as_json(document, indent=2) + "\n"
    if format == "markdown":
        return "\n".join(_markdown(report)) + "\n"
    from cnnbench.report.render import terminal

    return terminal.render(report, width=width, color=color, others="markdown or json")


def _markdown(report: Report) -> list[str]:
    """Without the digest that pages of results end in: no record is behind it that an audit could derive it from."""
    from cnnbench.report.render import text

    parts: list[str] = []
    for table in report.tables:
        parts += [f"## {escaping.markdown(table.title)}", "", *text.markdown_groups(table)]
    return parts + [f"- {escaping.markdown(note.text)}" for note in report.notes]


def report(shown: Sequence[ProfileResult], top: int) -> Report:
    """For each device the rungs side by side, then each rung's `top` operators; last what the times are not."""
    tables: list[Table] = []
    for device in dict.fromkeys(each.rung.job.device for each in shown):
        found = [each for each in shown if each.rung.job.device == device]
        profiles = [(each.rung, each.profile) for each in found if each.profile is not None]
        if not profiles:
            continue
        heading = found[0].rung.title
        tables += [_overview(heading, profiles), _side_by_side(heading, profiles)]
        for variant, profile in profiles:
            breakdown = profile.breakdown
            tables.append(_operators(f"{heading}, {variant.name}", "operators", breakdown.operators, top))
            if breakdown.kernels:
                tables.append(_operators(f"{heading}, {variant.name}", "kernels", breakdown.kernels, top))
    return Report(tuple(tables), tuple(_notes(shown)))


def document(shown: Sequence[ProfileResult]) -> dict[str, Any]:
    """Every figure of every rung as one object; keys carry units, times are of one step."""
    return {"cnnbench": __version__, "rungs": [_describe(each) for each in shown], "note": NO_MEASUREMENT}


def plain_step(profile: Profile) -> float:
    """Seconds of a step without the profiler, the median."""
    return statistics.median(profile.plain_seconds)


def profilers_cost(profile: Profile) -> float:
    """How much longer the median step took under the profiler, as a share of the plain one."""
    return statistics.median(profile.breakdown.each_seconds) / plain_step(profile) - 1.0


def _cost_text(profile: Profile) -> str:
    """A cost that plain steps differ by among themselves is none that was seen."""
    profiled = statistics.median(profile.breakdown.each_seconds)
    if profiled <= max(profile.plain_seconds):
        return "unseen"
    return f"{100 * profilers_cost(profile):+.0f} %"


def _describe(shown: ProfileResult) -> dict[str, Any]:
    profile, outcome = shown.profile, shown.outcome
    found: dict[str, Any] = {
        "rung": shown.rung.name,
        "job": shown.rung.job.model_dump(mode="json"),
        "environment": shown.environment,
        "status": outcome.status,
        "message": outcome.message,
        "stderr_tail": outcome.stderr_tail,
        "trace": shown.trace,
    }
    if profile is None:
        return found
    return found | {
        "plain_step_seconds": plain_step(profile),
        "profiled_step_seconds": statistics.median(profile.breakdown.each_seconds),
        "profilers_cost_share": profilers_cost(profile),
        **profile.model_dump(mode="json"),
    }


def _overview(heading: str, profiles: Sequence[tuple[ProfileJob, Profile]]) -> Table:
    columns = (
        Column("rung", "rung", "", 1, "left"),
        Column("plain", "a step", "ms", 1),
        Column("spread", "all plain\nsteps", "ms", 2),
        Column("profiled", "under the\nprofiler", "ms", 1),
        Column("cost", "profiler's\ncost", "", 1),
        Column("longest", "longest kind of work", "", 1, "left"),
        Column("idle", "nothing\nruns", "", 1),
    )
    lines = []
    for variant, profile in profiles:
        breakdown = profile.breakdown
        work = [part for part in breakdown.groups if not _nothing(part)] or list(breakdown.groups)
        longest = max(work, key=lambda part: part.seconds)
        cells = (
            _label(variant, profile),
            _ms(plain_step(profile)),
            f"{_ms(min(profile.plain_seconds))}–{_ms(max(profile.plain_seconds))}",
            _ms(statistics.median(breakdown.each_seconds)),
            _cost_text(profile),
            f"{longest.name} {_share(longest.share)}",
            _share(sum(part.share for part in breakdown.groups if _nothing(part))),
        )
        lines.append(Line(tuple(map(Cell, cells))))
    return Table(
        "rungs", f"{heading}: rungs", "", columns, (Rows("median step without the profiler and with it", tuple(lines)),)
    )


def _label(variant: ProfileJob, profile: Profile) -> str:
    return variant.name if profile.tuned_rung in (None, variant.name) else f"{variant.name}: {profile.tuned_rung}"


def _nothing(part: Part) -> bool:
    return part.name in ("python and gaps", "device idle")


def _side_by_side(heading: str, profiles: Sequence[tuple[ProfileJob, Profile]]) -> Table:
    columns = (
        Column("part", "where the step's time goes", "", 1, "left"),
        *(Column(rung.name, rung.name, "ms, share", 1) for rung, _ in profiles),
    )
    breakdowns = [profile.breakdown for _, profile in profiles]
    groups = _part_lines(get_args(Group), [each.groups for each in breakdowns])
    phases = _part_lines((*get_args(StepPhase), "device idle"), [each.phases for each in breakdowns])
    whole = Line((Cell("the step"), *(Cell(_amount(each.step_seconds, 1.0)) for each in breakdowns)))
    rows = (Rows("by kind of work", (*groups, whole)), Rows("by phase", tuple(phases)))
    return Table("parts", f"{heading}: a step taken apart, under the profiler", "", columns, rows)


def _part_lines(names: Iterable[str], variants: Sequence[Sequence[Part]]) -> list[Line]:
    lines = []
    for name in names:
        found = [next((part for part in parts if part.name == name), None) for parts in variants]
        if any(found):
            cells = [Cell("-" if part is None else _amount(part.seconds, part.share)) for part in found]
            lines.append(Line((Cell(name), *cells)))
    return lines


def _operators(heading: str, what: str, operators: Sequence[Operator], top: int) -> Table:
    columns = (
        Column("operator", what.removesuffix("s"), "", 1, "left"),
        Column("group", "kind of work", "", 2, "left"),
        *((Column("phase", "phase", "", 3, "left"),) if what == "operators" else ()),
        Column("seconds", "a step", "ms", 1),
        Column("share", "share", "", 1),
        Column("calls", "calls\na step", "", 1),
    )
    lines = []
    for each in operators[:top]:
        phase = (each.phase,) if what == "operators" else ()
        cells = (_short(each.name), each.group, *phase, _ms(each.seconds), _share(each.share), f"{each.calls:,.4g}")
        lines.append(Line(tuple(map(Cell, cells))))
    left = operators[top:]
    rule = f"the {len(lines)} longest" if left else "all of them"
    if left:
        rest = f"{_ms(sum(each.seconds for each in left))} ms, {_share(sum(each.share for each in left))}"
        rule += f"; {len(left)} more take {rest}"
    return Table(what, f"{heading}: {what}", "", columns, (Rows(rule, tuple(lines)),))


def _short(name: str) -> str:
    """Without what most begin with, and cut where it is long."""
    name = name.removeprefix("aten::").removeprefix("autograd::engine::evaluate_function: ")
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _notes(shown: Sequence[ProfileResult]) -> list[Note]:
    found = [each for each in shown if each.profile is not None]
    missing = [each for each in shown if each.profile is None]
    breakdowns = [each.profile.breakdown for each in found if each.profile is not None]
    views = {each.view for each in breakdowns}
    notes = [Note("rule", text) for view, text in (("host", HOST_RULE), ("device", DEVICE_RULE)) if view in views]
    notes += [Note("rule", COST_RULE)] if found else []
    if any(operator.name.startswith("native::") for each in breakdowns for operator in each.operators):
        notes.append(Note("rule", NATIVE_RULE))
    if any(workloads.get(each.rung.job.workload).pretraining is not None for each in found):
        notes.append(
            Note("rule", "The step is that of the fine-tuning; pre-training, which has steps of its own, is not in it.")
        )
    notes += [Note("warning", f"{each.rung.place}: {text}") for each in found for text in _profile_notes(each.profile)]
    for each in missing:
        kind: Literal["missing", "problem"] = "missing" if each.outcome.status == "unsupported" else "problem"
        notes.append(Note(kind, f"{each.rung.place}: {each.outcome.status}: {each.outcome.message}"))
    notes += [Note("run", f"trace of {each.rung.place}: {each.trace}") for each in found if each.trace]
    return [*notes, Note("summary", NO_MEASUREMENT)]


def _profile_notes(profile: Profile | None) -> tuple[str, ...]:
    if profile is None:
        return ()
    return (*profile.notes, *filter(None, (_idle_text(profile.breakdown), _busy_text(profile))))


def _busy_text(profile: Profile) -> str | None:
    """Steps of one kind that differ so much were disturbed, and so were the profiled ones."""
    shortest, longest = min(profile.plain_seconds), max(profile.plain_seconds)
    if longest < DISTURBED * shortest:
        return None
    return (
        f"plain steps took {_ms(shortest)} to {_ms(longest)} ms: the machine is busy, so profile again when it is quiet"
    )


def _idle_text(breakdown: Breakdown) -> str | None:
    """Where kernels overlap, the device's idle share is not what its operators leave."""
    if breakdown.device_idle_share is None:
        return None
    left = next((part.share for part in breakdown.groups if part.name == "device idle"), 0.0)
    if abs(left - breakdown.device_idle_share) < 0.01:
        return None
    return f"kernels overlap, or stand under no operator: nothing ran on the device in {_share(breakdown.device_idle_share)}"


def _ms(seconds: float) -> str:
    milli = 1e3 * seconds
    return f"{milli:,.1f}" if milli >= 99.95 else f"{milli:.2f}" if milli >= 0.995 else f"{milli:.3f}"


def _share(share: float) -> str:
    return units.percent(share, 1)


def _amount(seconds: float, share: float) -> str:
    return f"{_ms(seconds)} {_share(share):>7}"
