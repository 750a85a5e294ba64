"""One screen: what `show`, and `run` at its end, print where nothing else is asked for.

A sentence says what was trained, how fast, against what and how sure that is; the newest run's training follows with its
doubts by number; the last line names what else was measured and how to see it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from cnnbench import naming, units
from cnnbench.analysis.metrics import get_metric, mark_projected, name_baseline
from cnnbench.analysis.ratio import PublishedResult, group_by
from cnnbench.analysis.rows import Row
from cnnbench.analysis.same_host import RELATION_WORDS, relate_hosts
from cnnbench.analysis.speedup import Comparison
from cnnbench.analysis.stats import COVERS
from cnnbench.report import cells, footnotes, sections, tables
from cnnbench.report.arrangement import arrange_tables, select_columns
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Note, Report, Table, make_notes
from cnnbench.report.table_builder import (
    METRICS_HERE,
    PROCESSOR,
    ColumnSpec,
    TableSpec,
    build_table,
    make_cell,
    metric_cell,
    metric_column,
    wording,
)

MOST_LINES = 24
"""About so many lines of rows and titles are on the screen; the other rows are counted in its last line."""
LINES_EACH = 3
"""Lines of a row, and of a group's title with the rule above it."""
MOST_WARNINGS = 6
AGE = attrgetter("created_at", "run_id")
"""The order of runs, oldest first."""
EMPTY = {"", units.NOT_AVAILABLE}
OPTIONAL = {"of_ceiling", "mfu", "device_peak"}
"""Columns that are left out where they have no figure in any row."""
SHOWN_GAPS = {
    "job": "time of the job",
    "achieved": "achieved FLOP/s",
    "ceiling": "share of the measured peak",
    "speedup": "speed-up",
    "host_peak": "host memory",
}
"""Figures of the screen, by the key under which a row has the reason why there is none."""


def _show_time(row: Row) -> Cell:
    """Show the time of the whole job, else the time to the target, else the time of a step, each with what it is of."""
    if row.job_seconds is not None:
        return metric_cell(row, "job_seconds")
    cell = metric_cell(row, "median_seconds_to_target") if row.time_to_accuracy else make_cell(row, STEP)
    if cell.text in EMPTY:
        return cell
    text, what = (f"{cell.text} s", "to target") if row.time_to_accuracy else (cell.text, "one step")
    *interval, n = cell.details
    return replace(cell, text=text, details=(*interval, f"{what}, {n}"))


STEP = replace(get_metric("step_seconds"), details="interval and n")
TIMES = {"job": "time of the job\nh:mm:ss", "target": "time to target", "step": "one step"}
"""The heading where all rows have the same kind of time."""
TIME = ColumnSpec[Row]("job", "{time}", 1, _show_time)
"""With the key of the job's time, so that published times are in it too."""
DOUBTS: ColumnSpec[Row] = wording("doubts", "doubts", 1, "values.doubt_numbers")
SCREEN = replace(
    tables.TRAINING,
    title="{run}",
    columns=(
        PROCESSOR,
        tables.precision_column(1),
        TIME,
        metric_column("speedup", 1),
        metric_column("speedup_over_reference", 1),
        metric_column("flops_per_second", 1),
        metric_column("model_flops_per_second", 2, heading="model,\nzeros\ncounted"),
        metric_column("share_of_measured_peak", 2, heading="of\npeak", unit="", details=""),
        metric_column("mfu", 2, heading="of theor.\npeak", unit=""),
        metric_column("host_peak_bytes", 3, heading="host\nmemory"),
        metric_column("device_peak_bytes", 2, heading="device\nmemory"),
        tables.outcome_column(1),
        DOUBTS,
    ),
    notes=lambda row: (),
)
"""The table of the screen."""
WHOLE = replace(
    SCREEN,
    columns=(
        PROCESSOR,
        tables.precision_column(1),
        metric_column("step_seconds", 2),
        metric_column("median_seconds_to_target", 2),
        METRICS_HERE,
        tables.outcome_column(2),
        DOUBTS,
    ),
)
"""All that --columns and --sort can choose from."""
PRODUCTS = replace(
    tables.GEMM, title=f"{{run}} · {tables.GEMM.title}", columns=(*tables.GEMM.columns, DOUBTS), notes=SCREEN.notes
)
"""The table of a run without any training."""


def build(
    comparison: Comparison,
    *,
    suites: Mapping[str, str],
    with_published: bool = False,
    columns: Sequence[str] = (),
    sort: str | None = None,
    problems: Sequence[str] = (),
) -> Report:
    """Build the screen of these rows; `suites` names those of each run. Raises UsageError for a column that there is not."""
    newest = max(comparison.rows, key=AGE, default=None)
    run_id, asked = newest.run_id if newest else None, bool(columns or sort)
    own = replace(comparison, rows=tuple(row for row in comparison.rows if row.run_id == run_id))
    training = list(filter(tables.trains, own.rows))
    there = training or own.rows
    best = sections.find_headline_row(own)
    spoiled = sections.describe_unfit(training)
    if not spoiled and (best is None or not tables.trains(best)):
        best = sections.find_headline_row(comparison)
    shown = there if asked else _pick_rows(there, best)
    elsewhere = [best] if best is not None and best.run_id != run_id else []
    numbered, doubts = number_doubts([*shown, *elsewhere])
    rows = numbered[: len(shown)]
    published = comparison.published_rows if with_published else ()
    title = "Published rows" if newest is None else _title_run(newest, comparison, suites)
    here = (sort or "").removeprefix("-") in {"", *(column.key for column in SCREEN.columns)}
    spec = PRODUCTS if rows and not training else SCREEN if here and not columns else WHOLE
    # The doubts below are by number, so their column stays.
    columns = (*columns, DOUBTS.key) if columns else ()
    (table,) = arrange_tables([_build_table(comparison, rows, published, spec, title)], columns, sort)
    if spec is SCREEN:
        table = _drop_silent(table, rows, with_published=with_published)
    notes = (
        *_list_warnings(own, problems),
        *make_notes("doubt", (f"Doubt {n}: {text}" for n, text in enumerate(doubts, 1))),
        *make_notes("rule", _write_rules(rows)),
        *make_notes("missing", _explain_missing(rows, {column.key for column in table.columns})),
        *list(footnotes.build_published_notes(published))[:1],
        Note("rule", _name_others(comparison, own, len(there) - len(rows))),
    )
    sentence = spoiled or write_sentence(comparison, best, numbered[len(shown) :])
    return Report((table,), notes, headline=(sentence,))


def _pick_rows(rows: Sequence[Row], best: Row | None) -> list[Row]:
    """Pick rows that fill the screen: the work of the best first, else in the order of the table."""
    groups = group_by(rows, lambda row: (tables.order_work(row), tables.title_work(row)))
    kept: list[Row] = []
    room = MOST_LINES
    for key in sorted(groups, key=lambda key: (best not in groups[key], key)):
        room -= LINES_EACH
        members = sorted(groups[key], key=lambda row: row is not best)[: max(room // LINES_EACH, 0 if kept else 1)]
        room -= LINES_EACH * len(members)
        kept += members
    return [row for row in rows if row in kept]


def _title_run(newest: Row, comparison: Comparison, suites: Mapping[str, str]) -> str:
    """Name the newest run by its suites, when it began, its machine and its id."""
    alone = all(row.run_id == newest.run_id for row in comparison.rows)
    zone = " UTC" if newest.created_at.endswith(("Z", "+00:00")) else ""
    began = newest.created_at[:16].replace("T", " ") + zone
    what = ", ".join(filter(None, (suites.get(newest.run_id, ""), began, newest.machine.id)))
    return f"{'Run' if alone else 'Newest run'}: {plain(what)} ({plain(newest.run_id)})"


def number_doubts(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Give each row the numbers of its doubts, and return the doubts' texts in the order of these numbers.

    Doubts of one code have one number, and the text of the first row that has it.
    """
    texts: dict[str, list[str]] = {}
    for doubt in (doubt for row in rows for doubt in row.doubts):
        texts.setdefault(doubt.code, []).append(f"{plain(doubt.message)}. {doubt.remedy}")
    numbers = {code: n for n, code in enumerate(texts, 1)}
    numbered = [
        row.with_values(doubt_numbers=",".join(map(str, sorted({numbers[doubt.code] for doubt in row.doubts}))))
        for row in rows
    ]
    return numbered, [
        found[0] + (" (Its figures differ between rows, see --all.)" if len(set(found)) > 1 else "")
        for found in texts.values()
    ]


def _build_table(
    comparison: Comparison,
    rows: Sequence[Row],
    published: Sequence[PublishedResult],
    spec: TableSpec[Row],
    title: str,
) -> Table:
    """Build the table of these rows, published ones before them."""
    processor = cells.name_processors(rows, all_runs=False)
    kinds = {"job" if row.job_seconds else "target" if row.time_to_accuracy else "step" for row in rows if row.ok}
    kinds |= {"job"} if published else set()
    time = TIMES[kinds.pop()] if len(kinds) == 1 else "time"
    words = {**tables.word_columns(comparison, rows), "run": title, "time": time}
    table = build_table(spec, rows, named=processor, words=words, keep_optional=spec is WHOLE)
    return replace(table, groups=(*tables.group_published(published, table.columns), *table.groups))


def _drop_silent(table: Table, rows: Sequence[Row], *, with_published: bool) -> Table:
    """Leave out columns that say nothing here: optional ones without a figure, how processes ended where all ended well."""
    texts = {column.key: {line.cells[n].text for _, line in table.lines} for n, column in enumerate(table.columns)}
    silent = {key for key, found in texts.items() if found <= EMPTY}
    gone = OPTIONAL & silent
    gone |= set() if with_published else {"versus"}
    gone |= set() if "of_ceiling" in silent else {"mfu"}
    gone |= set() if any(cells.list_bad_endings(row) for row in rows) else {"outcome"}
    return select_columns(table, [column.key for column in table.columns if column.key not in gone])


def _list_warnings(own: Comparison, problems: Sequence[str]) -> Iterator[Note]:
    """Yield what could mislead: the first of them, and how many more."""
    warnings = [note for note in footnotes.build(own, (), problems=problems) if note.kind in ("warning", "problem")]
    yield from warnings[:MOST_WARNINGS]
    if len(warnings) > MOST_WARNINGS:
        yield Note("warning", f"{len(warnings) - MOST_WARNINGS} more warnings: --all.")


def _write_rules(rows: Sequence[Row]) -> Iterator[str]:
    """Say how the figures are to be read."""
    yield from footnotes.write_unfit_rule(rows)
    timed = [row for row in rows if row.job_seconds]
    projected = "; ~ is projected from timed steps" if any(map(mark_projected, timed)) else ""
    if any(row.ok >= 3 for row in rows):
        yield f"Below a figure: its interval ({COVERS}) and n fresh processes{projected}."
    elif projected:
        yield "~ is projected from timed steps."
    divided = [row for row in rows if row.speedup and not row.speedup.is_baseline]
    if divided:
        yield f"Speed-up: over {'; '.join(sorted({name_baseline(row) or '' for row in divided}))}, same work."


def _explain_missing(rows: Sequence[Row], shown: Collection[str]) -> Iterator[str]:
    """Say why a figure of the columns shown is n/a, each reason once."""
    for key, name in SHOWN_GAPS.items():
        # The share of the measured peak is a column only if some row has one.
        lacking = [row for row in rows if row.ok and key in row.missing and (key in shown or key == "ceiling")]
        # A rate, or a training to a target, has another time in its place.
        reasons = dict.fromkeys(row.missing[key] for row in lacking if key != "job" or row.job_kind == "projected")
        if reasons:
            yield f"n/a, {name}: {plain('; '.join(reasons))}."


def _name_others(comparison: Comparison, own: Comparison, left_out: int) -> str:
    """Name the rows that are not on the screen and the other tables, and the options that show them."""
    keys = [table.key for table in tables.build_tables(comparison, lambda row: cells.EMPTY)]
    here = {row.run_id for row in own.rows}
    older = [row for row in comparison.rows if row.run_id not in here]
    runs = len({row.run_id for row in older})
    parts = (
        f"{left_out} more row{'s'[left_out == 1 :]} of this run" if left_out else "",
        f"{len(older)} row{'s'[len(older) == 1 :]} of {runs} older run{'s'[runs == 1 :]}" if older else "",
        "tables " * (len(keys) > 1) + ", ".join(key for key in keys if key != "training"),
    )
    found = f"Not shown: {'; '.join(filter(None, parts))}. " if any(parts) else ""
    return f"{found}`cnnbench show --all` prints everything, `--only TABLE` one table."


def write_sentence(comparison: Comparison, best: Row | None, elsewhere: Sequence[Row]) -> str:
    """Write what was trained, how fast, compared with what and how sure that is, for the best row of the newest training.

    A row that is `elsewhere`, in no line of the table, is named with its run and doubts.
    """
    if best is None or not tables.trains(best):
        return sections.write_headline(comparison)[0]
    ratios, base = [], comparison.published_cpu
    if best.speedup and not best.speedup.is_baseline:
        name = () if comparison.baseline else (name_baseline(best) or "",)
        about = ", ".join((*name, *footnotes.describe_other_host(best)))
        whom = (comparison.baseline or "the CPU") + (about and f" ({about})")
        ratios.append(f"{metric_cell(best, 'speedup').one_line} as fast as {whom}")
    if best.speedup_over_published and base:
        published = f"{base.year}'s {plain(base.processor)} by the published time, {units.duration(base.job_seconds)}"
        ratio = metric_cell(best, "speedup_over_reference").one_line
        ratios.append(f"{ratio} as fast as {published} ({cells.explain_software(base.year)})")
    against = f": {' and '.join(ratios)}" if ratios else ""
    where = ""
    for row in elsewhere:
        numbers = str(row.values["doubt_numbers"])
        doubted = f", doubt{'s' * (',' in numbers)} {numbers.replace(',', ', ')}" if row.doubts else ""
        host = RELATION_WORDS[relate_hosts(max(comparison.rows, key=AGE), row)]
        where = f" (run {plain(row.run_id)}{host and f', {host}'}{doubted})"
    return f"{cells.name_place(best)} {_describe_time(best)}{against}{where}."


def _describe_time(row: Row) -> str:
    """Say what the row does in how long: the whole job, a training to its target, or a step."""
    what, time = naming.short_name(row.job, batch=True), _show_time(row).one_line
    if row.job_seconds is None and row.time_to_accuracy is None:
        return f"takes {make_cell(row, STEP).one_line} per step of {what}"
    if time in EMPTY:
        return f"trains {what}; the median seed did not reach the target"
    epochs = "" if row.time_to_accuracy else f" for {units.count(row.job.epochs)} epoch{'s'[row.job.epochs == 1 :]}"
    return f"{'trains' if row.job.task == 'training' else 'runs'} {what}{epochs} in {time}"
