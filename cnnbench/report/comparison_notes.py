"""What stands under a comparison: the mean of its ratios, what the two sides do not share, and how a verdict is reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from cnnbench import naming, units
from cnnbench.analysis.comparison import ComparisonSide, RatioSummary, SideComparison, Unpaired, UnpairedReason
from cnnbench.analysis.metrics import describe_interval
from cnnbench.analysis.ratio import ComparedEntry, FieldDifference, FieldValue, RowRatio, SideName
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import Estimate
from cnnbench.machine_facts import FACTS
from cnnbench.report import footnotes
from cnnbench.report.model import Note

DIFFERENCE_TEXTS: Mapping[str, tuple[str, str]] = {
    **{fact.name: (fact.words, fact.why) for fact in FACTS if fact.why},
    "threads": ("threads", "the ratio is of two thread counts"),
    "allocator": ("allocator", "one that gives memory back faults it in again at every step, 5-10 % on a CPU"),
    "accuracy_data": ("accuracy's data", "accuracy on synthetic digits compares with no other"),
}
"""Every field of `ratio.describe_place` in words, and why a difference in it matters."""
DRIFT = (
    "base and new were measured in different runs, not interleaved: drift of the machine between them is not in the interval "
    "(medians of the same step move by 30 % within minutes on a noisy machine). A regression is proved by a paired check, "
    "not by this."
)
UNPAIRED_REASONS: Mapping[UnpairedReason, str] = {
    "failed": "no process of it ended with a time",
    "work": "{other} has no such work",
    "protocol": "{other} timed this work by another rule",
    "place": "{other} has this work in other places alone",
    "taken": "{other}'s row of this work was divided by another machine's",
    "other-job": "not the job that was published",
    "no-job-time": "the time of its whole job is not known",
    "no-published-time": "no time was published",
}
MOST_WORKS = 12
"""Works of a side that an error lists before it counts the rest."""
_ALSO_NAMED = 2
_JOB_DOUBTS = {"projected"}
"""Doubts about the whole job's time: none of a ratio of steps."""


def format_seconds(estimate: Estimate | None, of: Literal["step", "job"]) -> str:
    """A job's time as h:mm:ss, a step's with the prefix that suits it."""
    value = None if estimate is None else estimate.value
    return units.duration(value) if of == "job" else units.short_seconds(value)


def build(found: SideComparison, problems: Iterable[str], digests: Mapping[str, str]) -> tuple[Note, ...]:
    """All notes in the order they are printed: the mean, what could mislead, how to read it, sources, conditions."""
    sides = [each for pair in found.pairs for each in pair.rows]
    sides += [(each.side, each.entry) for each in found.unpaired if isinstance(each.entry, Row)]
    rows = [row for _, row in sides]
    published = [pair.published for pair in found.pairs if pair.published is not None]
    return tuple(
        dict.fromkeys(
            (
                *(Note("summary", _summary(each)) for each in found.summaries),
                *_warnings(found, sides),
                *(Note("doubt", text) for text in _comparability(found.pairs)),
                *_doubts(found.pairs),
                *_rules(found),
                *footnotes.build_published_notes(list({id(each): each for each in published}.values())),
                *footnotes.build_run_notes(rows),
                *_other_runs(rows),
                *footnotes.build_ledger_notes(rows, digests),
                *footnotes.build_problem_notes(sorted(set(problems))),
            )
        )
    )


def build_pair_notes(pair: RowRatio) -> tuple[str, ...]:
    """What a reader of this pair alone must know."""
    failures = (f"{side}: {failure}" for side, row in pair.rows for failure in row.failures)
    doubts = (
        f"doubt, {side}: {doubt.message}"
        for side, row in pair.rows
        for doubt in row.doubts
        if _doubt_subjects(pair, doubt.code)
    )
    return (*_learning(pair), *_comparability([pair]), *doubts, *failures)


def explain_missing_time(pair: RowRatio) -> str:
    """`new: oom`, where a row failed."""
    failed = [(side, row) for side, row in pair.rows if not row.costs]
    return ", ".join(f"{side}: {next(iter(row.outcomes), 'no time')}" for side, row in failed)


def explain_unpaired(each: Unpaired) -> str:
    """Why an entry was not divided, with the fields in which the other side's nearest work differs."""
    text = UNPAIRED_REASONS[each.reason].format(other="new" if each.side == "base" else "base")
    if each.reason == "no-job-time" and isinstance(each.entry, Row) and "job" in each.entry.missing:
        return f"{text}: {each.entry.missing['job']}"
    if not each.differences:
        return text
    named = [_values(difference) for difference in each.differences[:_ALSO_NAMED]]
    more = len(each.differences) - len(named)
    return f"{text}; the nearest differs in {', '.join(named)}{f' and {more} more' if more else ''}"


def explain_no_ratio(found: SideComparison) -> str:
    """Why there is no ratio at all: what each side has."""
    if not found.base.rows and not found.new.rows:
        return "nothing to divide: both sides are published rows; name measured ones instead of either"
    lines = ["nothing to divide: base and new have no work in common that both have a time of, under one timing rule"]
    for side, what in (("base", found.base), ("new", found.new)):
        works = _works(what)
        more = [f"and {len(works) - MOST_WORKS} more"] if len(works) > MOST_WORKS else []
        lines += [f"{side} ({what.name}) has:", *(f"  {work}" for work in (*works[:MOST_WORKS], *more))]
    return "\n".join(lines)


def _works(side: ComparisonSide) -> list[str]:
    if not side.rows:
        jobs = {found.published.job_images for found in side.published if found.published.job_seconds}
        return [
            f"the published job, assumed to be {units.count(images)} images" for images in sorted(filter(None, jobs))
        ]
    texts = []
    for row in side.rows:
        size = "" if row.job.size is None else f" · size {units.count(row.job.size)}"
        texts.append(f"{naming.work_label(row.job)}{size} · {row.job.precision}{'' if row.costs else ' (failed)'}")
    return list(dict.fromkeys(texts))


def _where(entry: ComparedEntry) -> str:
    """`AMD EPYC (cpu, 2 threads)`; a published row by its processor."""
    if not isinstance(entry, Row):
        return entry.published.processor
    return f"{naming.processor_name(entry.device)} ({naming.place_label(entry.job)})"


def _short(row: Row) -> str:
    return naming.short_name(row.job, size=True, batch=True)


def _summary(found: RatioSummary) -> str:
    what = {"training": "Training", "gemm": "GEMM"}[found.kind]
    counts = {"failed": found.failed, "only in base": found.only_base, "only in new": found.only_new}
    left = ", ".join(f"{n} {text}" for text, n in counts.items() if n)
    rest = f" Not in it: {left}." if left else ""
    if found.best is None or found.worst is None:
        return f"{what}: nothing divided.{rest}"
    if found.divided == 1:
        return f"{what}: {_end(found.best)}; the only row divided.{rest}"
    lone = f" ({found.without_interval} of them n < 3)" if found.without_interval else ""
    ends = f"best {_end(found.best)}; worst {_end(found.worst)}"
    if found.mean is None:
        return (
            f"{what}: {found.divided} ratios{lone}; {ends}. No mean: each row stands against every published one.{rest}"
        )
    mean = f"geometric mean {units.ratio(found.mean)} of {found.divided} rows{lone}"
    return f"{what}: base time / new time, {mean}; {ends}.{rest}"


def _end(pair: RowRatio) -> str:
    ratio = None if pair.ratio is None else pair.ratio.value
    versus = f" against {_where(pair.base)}" if pair.published is not None or pair.fastest_of_each else ""
    return f"{units.ratio(ratio)} {pair.verdict}, {_short(pair.row)} on {_where(pair.new)}{versus}"


def _warnings(found: SideComparison, sides: Sequence[tuple[SideName, Row]]) -> list[Note]:
    texts = [f"{_short(pair.row)} on {_where(pair.new)}: {text}" for pair in found.pairs for text in _learning(pair)]
    texts += [f"{side}, {_short(row)} on {_where(row)}: {text}" for side, row in sides for text in row.failures]
    for side, what in (("base", found.base), ("new", found.new)):
        if what.rows and what.published:
            texts.append(
                f"{len(what.published)} published rows of {side} take no part beside measured ones; name them alone to compare."
            )
    return [Note("warning", text) for text in texts]


def _learning(pair: RowRatio) -> tuple[str, ...]:
    if pair.learns_worse is None:
        return ()
    shares = []
    for side, row in pair.rows:
        if row.accuracy is not None:
            share = row.accuracy.share
            between = "".join(f" ({text})" for text in describe_interval(share, units.percent))
            shares.append(f"{side} {units.percent(share.value)}{between}")
    return (f"accuracy differs, {' and '.join(shares)}: speed at worse learning, {pair.learns_worse}'s, is no speed",)


def _comparability(pairs: Sequence[RowRatio]) -> list[str]:
    """What the sides do not share, each once with the rows it is true of where it is not true of all."""
    texts = [DRIFT] if any(len(pair.rows) == 2 and not pair.in_one_run for pair in pairs) else []
    for field, (words, reason) in DIFFERENCE_TEXTS.items():
        who: dict[tuple[FieldValue, FieldValue], list[str]] = {}
        for pair in pairs:
            for each in pair.differences:
                if each.field == field:
                    who.setdefault((each.base, each.new), []).append(_short(pair.row))
        for (base, new), names in who.items():
            whom = "" if len(names) == len(pairs) else f" ({footnotes.join_names(list(dict.fromkeys(names)))})"
            texts.append(
                f"Different {words}: {_format_value(base)} in base, {_format_value(new)} in new{whom}; {reason}."
            )
    return [*texts, *_fastest(pairs), *_published_notes(pairs)]


def _fastest(pairs: Sequence[RowRatio]) -> list[str]:
    """Which place stands against which, where no place is common."""
    who: dict[tuple[str, str], list[str]] = {}
    for pair in pairs:
        if pair.fastest_of_each:
            who.setdefault((_where(pair.base), _where(pair.new)), []).append(_short(pair.row))
    return [
        f"Fastest against fastest, because no row is in the same place on both sides ({footnotes.join_names(names)}): "
        f"{base} in base, {new} in new."
        for (base, new), names in who.items()
    ]


def _published_notes(pairs: Sequence[RowRatio]) -> list[str]:
    years = sorted({pair.published.published.year for pair in pairs if pair.published is not None})
    if not years:
        return []
    year = ", ".join(map(str, years))
    texts = [
        f"The job of {year} is assumed: the source does not say what was timed. Rows whose whole job has its images and FLOPs "
        "are divided.",
        f"Hardware and {year}'s software differ together: the ratio tells neither apart.",
        "A published time is one run without a spread: it is taken as exact, and the interval is of the measured side alone.",
    ]
    if any(pair.published is not None and pair.row.job_kind == "projected" for pair in pairs):
        texts.append(
            "~ is projected, not measured: mean steady step x steps of the job, no evaluations in it, while the published "
            "time is of a whole job."
        )
    return texts


def _doubt_subjects(pair: RowRatio, code: str) -> bool:
    return pair.published is not None or code not in _JOB_DOUBTS


def _doubts(pairs: Sequence[RowRatio]) -> list[Note]:
    """Each doubt once, with the rows and sides it is about."""
    who: dict[tuple[str, str], dict[str, None]] = {}
    for pair in pairs:
        for side, row in pair.rows:
            for doubt in row.doubts:
                if _doubt_subjects(pair, doubt.code):
                    who.setdefault((doubt.message, doubt.remedy), {})[f"{side} {_short(row)}"] = None
    return [
        Note("doubt", f"Doubt ({footnotes.join_names(list(names))}): {message}. {remedy}")
        for (message, remedy), names in who.items()
    ]


def _rules(found: SideComparison) -> list[Note]:
    low, high = 1 / (1 + found.tolerance), 1 + found.tolerance
    texts = [
        "A ratio above 1 means that new is faster. FASTER, SLOWER: the whole 95 % interval lies above 1, below 1. SAME: "
        f"all of it lies within {low:.4g}–{high:.4g} (tolerance {100 * found.tolerance:g} %). UNCLEAR: none of these, or "
        "fewer than 3 processes."
    ]
    known = [pair for pair in found.pairs if pair.ratio is not None and pair.ratio.low is not None]
    if known:
        how = "" if all(pair.published for pair in known) else ": paired by round within one run, else Welch's"
        texts.append(f"Intervals: 95 %, Student's t between fresh processes (n), on logs{how}.")
    by_chance = [pair for pair in known if pair.published is None]
    if by_chance:
        texts.append(
            f"Chance: of {len(by_chance)} interval{'' if len(by_chance) == 1 else 's'} at 95 %, about {len(by_chance) / 40:.2g} "
            "read FASTER and as many SLOWER where nothing changed."
        )
    return [Note("rule", text) for text in texts]


def _other_runs(rows: Sequence[Row]) -> list[Note]:
    hidden = {(row.run_id, row.row_key): row.other_runs for row in rows if row.other_runs}
    if not hidden:
        return []
    have = "1 row has" if len(hidden) == 1 else f"{len(hidden)} rows have"
    return [
        Note(
            "run", f"{have} other runs too ({sum(hidden.values())} in all), not pooled: name a run's id to compare it."
        )
    ]


def _values(difference: FieldDifference) -> str:
    base, new = _format_value(difference.base), _format_value(difference.new)
    return f"{difference.field.replace('_', ' ')} ({base} in base, {new} in new)"


def _format_value(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return units.NOT_AVAILABLE if value is None else f"{value:g}" if isinstance(value, float) else str(value)
