"""Compare two sides in a report: the ratios in one table, the rows without a ratio in a second, and below them the mean of the
ratios, the differences between the sides, and the rule for the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Literal, Unpack

from cnnbench import naming, units
from cnnbench.analysis import stats
from cnnbench.analysis.comparison import (
    TOLERANCE,
    ComparisonSide,
    RatioSummary,
    SideComparison,
    Unpaired,
    compare_sides,
)
from cnnbench.analysis.doubts import Doubt
from cnnbench.analysis.metrics import describe_interval, mark_projected
from cnnbench.analysis.ratio import ComparedEntry, FieldValue, RowRatio, SideName, group_by
from cnnbench.analysis.rows import Row
from cnnbench.analysis.run_spread import LEAST_HISTORY, FoundSpread
from cnnbench.analysis.same_host import RELATION_WORDS
from cnnbench.analysis.stats import Estimate
from cnnbench.errors import ComparisonError
from cnnbench.machine_facts import FACTS
from cnnbench.plain_text import plain
from cnnbench.report import cells, footnotes, tables
from cnnbench.report.model import Cell, Report, Table, make_notes
from cnnbench.report.table_builder import (
    PROCESSOR,
    ColumnSpec,
    TableSpec,
    build_table,
    figure,
    find_row,
    left_column,
    metric_cell,
    require_value,
    wording,
)

DIFFERENCE_TEXTS = {
    **{fact.name: (fact.words, fact.why) for fact in FACTS if fact.why},
    "threads": ("threads", "the ratio compares two thread counts"),
    "allocator": ("allocator", "an allocator that returns memory faults it in again at every step, 5-10 % on a CPU"),
    "accuracy_data": ("accuracy's data", "accuracy on synthetic digits cannot be compared with any other"),
}
"""Every field of `ratio.describe_place` in words, with the reason why a difference in it matters."""
UNPAIRED_REASONS = {
    "failed": "none of its processes ended with a time",
    "work": "{other} has no such work",
    "protocol": "{other} timed this work by another rule",
    "place": "{other} has this work only in other places",
    "taken": "{other}'s row of this work was divided by another machine's",
    "other-job": "not the job that was published",
    "no-job-time": "the time of its whole job is not known",
    "no-published-time": "no time was published",
}
MOST_WORKS = 12
"""Works of a side that an error lists before it counts the rest."""
_HOST = ("machine_id", "boot_id", "host_id", "kernel")
_PLACE = ("processor", "device", "threads", "allocator", *_HOST, "run_id", "torch", "year", "source")
"""Fields that identify the place of an entry; the other fields identify the work, which both sides share."""


def build(
    base: ComparisonSide, new: ComparisonSide, *, tolerance: float = TOLERANCE, **sources: Unpack[footnotes.Sources]
) -> Report:
    """Build the report of base's times over new's. The same rows in any order give an equal report.

    Raises ComparisonError, which lists what each side has, if they have no timed work in common.
    """
    found = compare_sides(base, new, tolerance)
    if all(pair.ratio is None for pair in found.pairs):
        raise ComparisonError(explain_no_ratio(found))
    sides = [each for pair in found.pairs for each in pair.rows]
    sides += [(each.side, each.entry) for each in found.unpaired if isinstance(each.entry, Row)]
    rows = [row for _, row in sides]
    published = {id(pair.published): pair.published for pair in found.pairs if pair.published}
    doubts = ((doubt, f"{side} {_short(row)}") for pair in found.pairs for side, row, doubt in _list_doubts(pair))
    notes = footnotes.keep_first(
        *make_notes("summary", map(_summary, found.summaries)),
        *make_notes("warning", _warnings(found, sides)),
        *make_notes("doubt", _comparability(found.pairs)),
        *footnotes.build_doubt_notes(doubts),
        *make_notes("rule", _rules(found)),
        *footnotes.build_published_notes(list(published.values())),
        *footnotes.build_conditions(rows, "not pooled: name a run's id to compare it", **sources),
    )
    return Report((_build_compared(found), *_build_unpaired(found.unpaired)), notes)


def _build_compared(found: SideComparison) -> Table:
    several = _several_machines(entry for pair in found.pairs for entry in (pair.base, pair.new))

    def base(pair: RowRatio) -> Cell:
        ours, theirs = _place("base_", pair.base, several), _place("new_", pair.new, several)
        same = (ours.text, ours.details) == (theirs.text, theirs.details)
        return Cell("", ours.values) if same else ours

    training = [pair.row.job for pair in found.pairs if tables.trains(pair.row)]
    clocks = (
        *sorted({footnotes.CLOCKS[job.clock] for job in training}),
        f"GEMM, {footnotes.GEMM_CLOCK}" if len(training) < len(found.pairs) else "",
        "published: the source does not say how it was timed" if any(pair.published for pair in found.pairs) else "",
    )
    spec = TableSpec[RowRatio](
        "compare",
        "Comparison: {base} (base) and {new} (new)",
        (
            left_column("new", "new", 1, lambda pair: _place("new_", pair.new, several)),
            left_column("base", "base", 1, base),
            left_column("precision", "preci-\nsion", 1, lambda pair: _work(pair.row)),
            ColumnSpec("size", "size", 1, lambda pair: _size(pair.row)),
            ColumnSpec("base_time", "base\ntime", 2, partial(_seconds, "base")),
            ColumnSpec("new_time", "new\ntime", 2, partial(_seconds, "new")),
            figure(
                "ratio",
                "base time /\nnew time",
                1,
                "ratio",
                units.ratio,
                estimated=True,
                details="interval and n",
                further={"ratio_by_round": "by_round"},
                mark=lambda pair: mark_projected(pair.row) if pair.published else "",
            ),
            left_column("verdict", "new is", 1, _verdict),
            ColumnSpec("base_accuracy", "base\naccuracy", 6, partial(_accuracy, "base")),
            ColumnSpec("new_accuracy", "new\naccuracy", 5, partial(_accuracy, "new")),
        ),
        "; ".join(filter(None, clocks)),
        group=lambda pair: tables.title_work(pair.row),
        order=lambda pair: _order(pair.row),
        notes=build_pair_notes,
        kind=require_value("ratio"),
        rows=lambda pair: tuple(row for _, row in reversed(pair.rows)),
    )
    hidden = () if any(pair.row.job.size is not None for pair in found.pairs) else ("size",)
    return build_table(spec, found.pairs, hidden=hidden, words={"base": found.base.name, "new": found.new.name})


def _build_unpaired(found: Sequence[Unpaired]) -> list[Table]:
    several = _several_machines(each.entry for each in found)

    def processor(each: Unpaired) -> Cell:
        cell = _place("", each.entry, several)
        return replace(cell, values={**cell.values, "side": each.side})

    return [build_table(UNPAIRED, found, named=processor)] if found else []


def _order(row: Row) -> int:
    """Order measured jobs first, then those to a target, projected ones, rates, and products."""
    return tables.order_work(row)[0] if tables.trains(row) else 4


def _several_machines(entries: Iterable[ComparedEntry]) -> bool:
    return len({entry.machine.id for entry in entries if isinstance(entry, Row)}) > 1


def _place(prefix: str, entry: ComparedEntry, several_machines: bool) -> Cell:
    """Show processor and place, with raw values named by side."""
    if isinstance(entry, Row):
        cell = cells.processor(entry, several_machines=several_machines)
    else:
        cell = cells.build_published_cells(entry)["processor"]
        cell = replace(cell, details=(f"published {entry.published.year}",))
    return replace(cell, values={f"{prefix}{name}": cell.values.get(name) for name in _PLACE})


def _work(row: Row) -> Cell:
    return Cell(row.job.precision, {"precision": row.job.precision} | cells.work_values(row) | cells.job_values(row))


def _size(row: Row) -> Cell:
    return Cell("" if row.job.size is None else units.count(row.job.size), {"size": row.job.size})


def _show_row(cell: Callable[[Row], Cell]) -> Callable[[Unpaired], Cell]:
    """Make a function that shows the cell of a measured row; a published entry gets an empty cell."""
    return lambda each: next(map(cell, find_row(each.entry)), cells.EMPTY)


def _seconds(side: SideName, pair: RowRatio) -> Cell:
    entry = getattr(pair, side)
    estimate = pair.measure(entry)
    raw = {**cells.values(f"{side}_seconds", estimate), f"{side}_seconds_of": pair.seconds_of}
    text = format_seconds(estimate, pair.seconds_of)
    if not isinstance(entry, Row):
        return Cell(text.removesuffix(".0"), raw, ("published",))
    if estimate is None:
        return Cell(text, raw)
    if pair.seconds_of != "job":
        return Cell(text, raw, (f"n={estimate.n}",))
    return Cell(mark_projected(entry) + text, raw, (str(entry.job_kind), f"n={estimate.n}"))


def _verdict(pair: RowRatio) -> Cell:
    details: tuple[str, ...] = ()
    if pair.ratio is None:
        failed = [(side, row) for side, row in pair.rows if not row.costs]
        details = (", ".join(f"{side}: {next(iter(row.outcomes), 'no time')}" for side, row in failed),)
    elif pair.ratio.low is None:
        details = (f"only n={pair.ratio.n}",)
    elif pair.verdict in ("FASTER", "SLOWER"):
        details = tuple(filter(None, (describe_hosts(pair),)))
    values = {"verdict": pair.verdict, "tolerance": pair.tolerance, "host_relation": pair.relation}
    return Cell(pair.verdict or units.NOT_AVAILABLE, values, details)


def describe_hosts(pair: RowRatio) -> str:
    """Describe how the hosts of two runs of one model are related; empty if both are known to be one, or of two models."""
    words = "" if pair.relation is None else RELATION_WORDS[pair.relation]
    if not words or None not in [row.boot_id for _, row in pair.rows]:
        return words
    base, new = (row.machine for _, row in pair.rows)
    kernels = [plain(base.kernel), *([] if new.kernel == base.kernel else [plain(new.kernel)])]
    sizes = dict.fromkeys(f"{units.count(each.memory_bytes)} B" for each in (base, new))
    known = f"kernel{'s'[: len(kernels) - 1]} {' and '.join(kernels)}, memory {' and '.join(sizes)}"
    return f"{words}; host unknown, {known}"


def _accuracy(side: SideName, pair: RowRatio) -> Cell:
    entry = getattr(pair, side)
    trained = isinstance(entry, Row) and tables.trains(entry)
    cell = metric_cell(entry if trained else pair.row, "test_accuracy")
    values = {f"{side}_{name}": value if trained else None for name, value in cell.values.items()}
    return replace(cell, values=values) if trained else Cell("", values)


def format_seconds(estimate: Estimate | None, of: Literal["step", "job"]) -> str:
    """Format a job's time as h:mm:ss, a step's with a suitable prefix."""
    show = units.duration if of == "job" else units.short_seconds
    return show(estimate.value if estimate else None)


def build_pair_notes(pair: RowRatio) -> Iterator[str]:
    """Yield the notes that a reader of this pair alone needs."""
    yield from _learning(pair)
    yield from _comparability([pair])
    yield from (f"doubt, {side}: {doubt.message}" for side, _, doubt in _list_doubts(pair))
    yield from (f"{side}: {failure}" for side, row in pair.rows for failure in row.failures)


def explain_unpaired(each: Unpaired) -> str:
    """Explain why an entry has no ratio, with the fields in which the other side's nearest work differs."""
    text = UNPAIRED_REASONS[each.reason].format(other="new" if each.side == "base" else "base")
    if each.reason == "no-job-time" and isinstance(each.entry, Row) and "job" in each.entry.missing:
        return f"{text}: {each.entry.missing['job']}"
    if not each.differences:
        return text
    named = ", ".join(
        f"{found.field.replace('_', ' ')} ({_format_value(found.base)} in base, {_format_value(found.new)} in new)"
        for found in each.differences[:2]
    )
    more = len(each.differences) - 2
    return f"{text}; the nearest differs in {named}{f' and {more} more' if more > 0 else ''}"


def explain_no_ratio(found: SideComparison) -> str:
    """Explain why there is no ratio at all, by listing what each side has."""
    if not found.base.rows and not found.new.rows:
        return "nothing to compare: both sides are published rows; name measured rows for one of them"
    lines = ["nothing to divide: base and new have no work in common that both have a time of, under one timing rule"]
    for side, what in (("base", found.base), ("new", found.new)):
        texts = []
        for row in what.rows:
            size = "" if row.job.size is None else f" · size {units.count(row.job.size)}"
            texts.append(f"{naming.work_label(row.job)}{size} · {row.job.precision}{'' if row.costs else ' (failed)'}")
        if not what.rows:
            jobs = {each.published.job_images for each in what.published if each.published.job_seconds}
            images = map(units.count, sorted(filter(None, jobs)))
            texts = [f"the published job, assumed to be {number} images" for number in images]
        works = list(dict.fromkeys(texts))
        more = [f"and {len(works) - MOST_WORKS} more"] if len(works) > MOST_WORKS else []
        lines += [f"{side} ({what.name}) has:", *(f"  {work}" for work in (*works[:MOST_WORKS], *more))]
    return "\n".join(lines)


def _where(entry: ComparedEntry) -> str:
    """Name an entry's place, `AMD EPYC (cpu, 2 threads)`; a published row is named by its processor."""
    return cells.name_place(entry) if isinstance(entry, Row) else entry.published.processor


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
        return f"{what}: {found.divided} ratios{lone}; {ends}. No mean: each row is compared with every published one.{rest}"
    mean = f"geometric mean {units.ratio(found.mean)} of {found.divided} rows{lone}"
    return f"{what}: base time / new time, {mean}; {ends}.{rest}"


def _end(pair: RowRatio) -> str:
    ratio = pair.ratio.value if pair.ratio else None
    versus = f" against {_where(pair.base)}" if pair.published or pair.fastest_of_each else ""
    hosts = describe_hosts(pair) if pair.verdict in ("FASTER", "SLOWER") else ""
    where = f"{_short(pair.row)} on {_where(pair.new)}{versus}"
    return f"{units.ratio(ratio)} {pair.verdict}{hosts and f' ({hosts})'}, {where}"


def _warnings(found: SideComparison, sides: Sequence[tuple[SideName, Row]]) -> Iterator[str]:
    for pair in found.pairs:
        yield from (f"{_short(pair.row)} on {_where(pair.new)}: {text}" for text in _learning(pair))
    for side, row in sides:
        yield from (f"{side}, {_short(row)} on {_where(row)}: {text}" for text in row.failures)
    for name, what in (("base", found.base), ("new", found.new)):
        if what.rows and what.published:
            number = len(what.published)
            yield f"{number} published rows of {name} are left out beside measured ones; to compare them, name them alone."


def _learning(pair: RowRatio) -> Iterator[str]:
    if pair.learns_worse is None:
        return
    shares = []
    for side, row in pair.rows:
        if row.accuracy:
            share = row.accuracy.share
            between = "".join(f" ({text})" for text in describe_interval(share, units.percent))
            shares.append(f"{side} {units.percent(share.value)}{between}")
    yield f"accuracy differs, {' and '.join(shares)}: {pair.learns_worse} learns worse, so its speed does not count"


def _comparability(pairs: Sequence[RowRatio]) -> Iterator[str]:
    """Write each difference between the sides once, naming the rows it applies to unless it applies to all.

    If the sides have no place in common, name the two places that are compared.
    """
    if any(len(pair.rows) == 2 and not pair.in_one_run for pair in pairs):
        yield (
            "base and new were measured in different runs, not interleaved: the interval includes how much runs differ as far as "
            "it is known. Only a paired check (cnnbench check) can prove a regression."
        )
    hosts = ((describe_hosts(pair), _short(pair.row)) for pair in pairs if not pair.in_one_run)
    for text, names in footnotes.name_each(each for each in hosts if each[0]):
        yield f"Runs of base and new: {text} ({names})."
    differing = group_by(
        ((each, _short(pair.row)) for pair in pairs for each in pair.differences if each.field in DIFFERENCE_TEXTS),
        itemgetter(0),
    )
    order = list(DIFFERENCE_TEXTS)
    for each, found in sorted(differing.items(), key=lambda item: order.index(item[0].field)):
        words, reason = DIFFERENCE_TEXTS[each.field]
        whom = (
            "" if len(found) == len(pairs) else f" ({footnotes.join_names(dict.fromkeys(name for _, name in found))})"
        )
        values = f"{_format_value(each.base)} in base, {_format_value(each.new)} in new"
        yield f"Different {words}: {values}{whom}; {reason}."
    fastest = [pair for pair in pairs if pair.fastest_of_each]
    places = (((_where(pair.base), _where(pair.new)), _short(pair.row)) for pair in fastest)
    for (base, new), names in footnotes.name_each(places):
        where = f"{base} in base, {new} in new"
        yield f"The fastest rows are compared, because no row is in the same place on both sides ({names}): {where}."
    yield from _published_notes(pairs)


def _published_notes(pairs: Sequence[RowRatio]) -> Iterator[str]:
    years = sorted({pair.published.published.year for pair in pairs if pair.published})
    if not years:
        return
    year = ", ".join(map(str, years))
    yield (
        f"The job of {year} is assumed: the source does not say what was timed. Rows are compared if their whole job "
        "has the same images and FLOPs."
    )
    yield f"The ratio cannot separate hardware from software; {cells.explain_software(year)}."
    yield "A published time is one run without a spread: it is taken as exact, and the interval covers the measured side alone."
    if any(pair.published and pair.row.job_kind == "projected" for pair in pairs):
        yield (
            "~ means projected, not measured: mean steady step x steps of the job, without evaluations, while the published "
            "time covers a whole job."
        )


def _list_doubts(pair: RowRatio) -> Iterator[tuple[SideName, Row, Doubt]]:
    """List the doubts about the ratio; doubts about the whole job's time do not apply to a ratio of steps."""
    for side, row in pair.rows:
        yield from ((side, row, doubt) for doubt in row.doubts if pair.published or doubt.code != "projected")


def _rules(found: SideComparison) -> Iterator[str]:
    low, high = 1 / (1 + found.tolerance), 1 + found.tolerance
    yield (
        "A ratio above 1 means that new is faster. FASTER, SLOWER: the whole 95 % interval is above 1, below 1. SAME: "
        f"all of it is within {low:.4g}–{high:.4g} (tolerance {100 * found.tolerance:g} %). UNCLEAR: none of these, or "
        "fewer than 3 processes."
    )
    known = [pair for pair in found.pairs if pair.ratio and pair.ratio.low is not None]
    if known:
        between = any(pair.spreads for pair in known)
        how = "paired by round within one run" * any(pair.in_one_run for pair in known)
        covers = "processes of each run, and how much runs differ" if between else stats.COVERS.partition(", ")[2]
        yield (
            f"Intervals: 95 %, {covers}: Student's t between fresh processes (n), on logs{how and f', {how}'}. "
            "docs/studies/compare-verdicts.md has their coverage."
        )
        yield from _explain_spreads(known)
    by_chance = [pair for pair in known if not pair.published]
    if by_chance:
        yield (
            f"By chance, of {len(by_chance)} interval{'' if len(by_chance) == 1 else 's'} at 95 %, about "
            f"{len(by_chance) / 40:.2g} read FASTER and as many SLOWER even if nothing changed."
        )


def _explain_spreads(pairs: Sequence[RowRatio]) -> Iterator[str]:
    """Write where the spread of runs in the intervals is from, each once with the rows that have it."""
    found = [(each, _short(pair.row)) for pair in pairs for each in pair.spreads]
    for text, names in footnotes.name_each((_describe_spread(each), name) for each, name in found):
        yield f"Spread of runs: {text} ({names})."


def _describe_spread(found: FoundSpread) -> str:
    spread = f"SD {units.percent(found.spread.sd, 1)}"
    if found.source == "prior":
        return (
            f"{spread}, a prior for {found.kind} with {found.spread.degrees:g} degrees of freedom, for want of "
            f"{LEAST_HISTORY} other runs of the row"
        )
    where = "of this boot" if found.source == "boot" else "of other boots of the model"
    return f"{spread} of the means of {found.runs} other runs {where}"


def _format_value(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return units.NOT_AVAILABLE if value is None else f"{value:g}" if isinstance(value, float) else str(value)


UNPAIRED = TableSpec[Unpaired](
    "unpaired",
    "Not compared: rows that only one side has",
    (
        wording("side", "only in", 1, "side", name=""),
        PROCESSOR,
        left_column("precision", "preci-\nsion", 2, _show_row(_work)),
        ColumnSpec("size", "size", 1, _show_row(_size)),
        figure(
            "time",
            "time",
            3,
            lambda each: format_seconds(each.entry.cost, each.entry.cost_of),
            name="",
            further=lambda each: cells.values("seconds", each.entry.cost),
        ),
        left_column("outcome", "outcome", 4, _show_row(cells.outcome)),
        wording("reason", "why not divided", 1, explain_unpaired, name="", further={"why": "reason"}),
    ),
    "a time is of one step, or of the whole job where it was measured in one piece, by the clocks of the compared rows",
    group=lambda each: tables.title_work(each.entry) if isinstance(each.entry, Row) else "published",
    order=lambda each: _order(each.entry) if isinstance(each.entry, Row) else -1,
    notes=lambda each: getattr(each.entry, "failures", ()),
    kind=lambda each: "reference" if not isinstance(each.entry, Row) else "measured" if each.entry.ok else "failed",
    rows=lambda each: find_row(each.entry),
)
