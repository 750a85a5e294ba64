"""Saved baselines as reports: a run compared with one, the list of them, and one with its runs and rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from cnnbench import naming, units
from cnnbench.analysis.ratio import group_by
from cnnbench.analysis.stats import LEAST_RUNS
from cnnbench.regression.baseline_file import NamedRun
from cnnbench.regression.saved_baseline import BaselineRow, SavedBaseline
from cnnbench.regression.screen import (
    EXACT_METRICS,
    MetricResult,
    MetricStatus,
    ScreeningResult,
    accuracy_band,
    list_stored_counts,
    step_range,
)
from cnnbench.regression.verdict import STEP_METRIC
from cnnbench.report import cells
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Note, Report, Value
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure, wording
from cnnbench.schema import Software, digest

STEP_CLOCK = "a step is the median over a process's timed blocks, a run's the geometric mean over its processes"
COMMIT_CHARACTERS = 10
BAD_STATUSES = (MetricStatus.CHANGED, MetricStatus.MISSING, MetricStatus.NOT_COMPARABLE)
_IDENTITY = ("workload", "batch_size", "size", "precision", "device", "threads", "clock")


def _plain_column(key: str, title: str, priority: int, read: str, name: str = "", **further: Any) -> ColumnSpec[Any]:
    """Declare a column of a record's words, whose raw value has the name (the key, where empty)."""
    return figure(
        key, title, priority, read, lambda value: plain(str(value)), name=name or key, align="left", **further
    )


def _known_column(known: str, column: ColumnSpec[Any]) -> ColumnSpec[Any]:
    """Leave the column without a figure, and without a raw value, in lines that lack what it is read from."""
    cell = column.cell or (lambda each: cells.EMPTY)
    return replace(column, cell=lambda each: cells.NONE if getattr(each, known) is None else cell(each))


def build_judgement(found: ScreeningResult, problems: Iterable[str] = ()) -> Report:
    """The judgement, a group a row; the most telling verdicts are counted first in the notes."""
    words = {"run": plain(found.run.run_id), "name": found.baseline.name}
    return Report((build_table(JUDGEMENT, found.findings, words=words),), _judgement_notes(found, problems))


def _judgement_notes(found: ScreeningResult, problems: Iterable[str]) -> tuple[Note, ...]:
    counts = Counter(each.status for each in found.findings)
    counts_text = ", ".join(f"{counts[standing]} {standing}" for standing in MetricStatus if counts[standing])
    ranges = sum(each.metric == STEP_METRIC and each.expected is not None and not each.note for each in found.findings)
    notes = [Note("summary", f"{counts_text or 'nothing to judge'}. Stored are {_count_contents(found.baseline)}.")]
    if found.run.run_id in {run.run_id for run in found.baseline.runs}:
        own = "The run is one of the baseline's own: its times were accepted when it was saved, and are not judged."
        notes.append(Note("warning", own))
    if found.advice is not None:
        notes.append(Note("warning", f"A suspicion alone fails nothing. {plain(found.advice, None)}."))
    if ranges:
        chance = units.percent(1 - 0.95**ranges, 0)
        text = (
            "A stored range of times holds 95 % of next runs (Student's t prediction interval on logs, n counts runs); this "
            f"run has {ranges}, of which by chance one or more would be missed in about {chance} of runs."
        )
        notes.append(Note("rule", text))
    notes.append(Note("rule", "Counts and bytes are exact; the accuracy band holds 99.8 % of next runs."))
    if found.elsewhere:
        notes.append(Note("missing", f"{found.elsewhere} stored rows are of other suites or options than this run's."))
    return (*notes, *(Note("problem", plain(problem)) for problem in problems))


def _choose_text(metric: str) -> Callable[[float | None], str]:
    texts: dict[str, Callable[[float | None], str]] = {STEP_METRIC: cells.step_text, "accuracy": units.percent}
    return texts.get(metric, units.count)


def _range_cell(key: str, ends: tuple[float, float] | None, text: Callable[[float | None], str]) -> Cell:
    low, high = ends or (None, None)
    shown = text(low)
    if low is not None and high is not None and low != high:
        shown = cells.step_span(low, high) if text is cells.step_text else units.span(low, high, text)
    return Cell(shown, (), {f"{key}_low": low, f"{key}_high": high})


def _describe_work(row: BaselineRow) -> str:
    size = "" if row.job.size is None else f" · side {units.count(row.job.size)}"
    return f"{row.job.precision} · {naming.work_label(row.job)}{size}"


def _identify(each: MetricResult | BaselineRow) -> dict[str, Value]:
    return {
        **{name: getattr(each.job, name) for name in _IDENTITY},
        "row_key_sha256": digest(each.job.row_key),
    }


def _sort_by_title(each: object) -> int:
    """Sort groups by nothing but their titles."""
    return 0


def _expected_cell(each: MetricResult) -> Cell:
    ends = None if each.expected is None else (each.expected.low, each.expected.high)
    return _range_cell("expected", ends, _choose_text(each.metric))


JUDGEMENT = TableSpec[MetricResult](
    "judgement",
    "Run {run} against baseline {name}",
    (
        figure("metric", "metric", 1, "metric", align="left", further=_identify),
        ColumnSpec(
            "value", "this run", 1, lambda each: Cell(_choose_text(each.metric)(each.value), (), {"value": each.value})
        ),
        ColumnSpec("expected", "stored", 1, _expected_cell),
        figure(
            "runs",
            "runs",
            3,
            lambda each: (each.expected and each.expected.runs) or None,
            name="stored_runs",
            absent=lambda each: "",
        ),
        wording("standing", "verdict", 1, "status.value", name="verdict"),
        wording("note", "note", 2, lambda each: plain(each.note)),
    ),
    STEP_CLOCK,
    group=lambda each: naming.full_label(each.job),
    order=_sort_by_title,
    kind=lambda each: "failed" if each.status in BAD_STATUSES else "measured",
)


@dataclass(frozen=True)
class ListedBaseline:
    """A name as found; `baseline` is None where it cannot be used, and `problem` says why."""

    machine_id: str
    name: str
    baseline: SavedBaseline | None
    problem: str | None = None


def build_list(found: Sequence[ListedBaseline]) -> Report:
    """All baselines there are, and what hinders those that cannot be used."""
    problems = tuple(Note("problem", plain(each.problem)) for each in found if each.problem is not None)
    if not found:
        return Report((), (Note("summary", "No baseline is stored; save one with `cnnbench baseline save NAME`."),))
    return Report((build_table(BASELINES, found),), problems)


def commit_cell(software: Software) -> Cell:
    """The commit's beginning, the version where there is none, and whether files were changed since."""
    commit, dirty = software.git_commit, software.git_dirty
    text = plain(commit)[:COMMIT_CHARACTERS] if commit else f"cnnbench {plain(software.cnnbench)}"
    values: dict[str, Value] = {"cnnbench": software.cnnbench, "git_commit": commit, "git_dirty": dirty}
    return Cell(text, ("with local changes",) if commit and dirty else (), values)


def _count_judged(each: ListedBaseline) -> Cell:
    rows = () if each.baseline is None else each.baseline.rows
    enough = sum(len(row.runs) >= LEAST_RUNS for row in rows)
    return Cell(f"{enough} of {len(rows)}", (), {"rows_with_a_range": enough})


BASELINES = TableSpec[ListedBaseline](
    "baselines",
    "Stored baselines",
    (
        _plain_column("name", "name", 1, "name", further={"machine_id": "machine_id"}),
        *(
            _known_column("baseline", column)
            for column in (
                figure("runs", "runs", 1, lambda each: len(each.baseline.runs)),
                figure("rows", "rows", 2, lambda each: len(each.baseline.rows)),
                ColumnSpec("enough", "rows with 8 runs", 2, _count_judged),
                ColumnSpec(
                    "commit",
                    "newest commit",
                    3,
                    lambda each: commit_cell(each.baseline.newest.software),
                    align="left",
                ),
                _plain_column("saved", "saved", 3, "baseline.saved_at", "saved_at"),
            )
        ),
        wording("state", "state", 1, lambda each: "unusable" if each.baseline is None else "ok"),
    ),
    group=lambda each: each.machine_id,
    order=_sort_by_title,
    kind=lambda each: "failed" if each.baseline is None else "measured",
)


def build_contents(saved: SavedBaseline, runs: Sequence[NamedRun]) -> Report:
    """One baseline: its rows with the ranges they give, and its runs, with what has become of the ledger of each."""
    known = dict.fromkeys(item for row in saved.rows for item in row.conditions.items() if item[1] is not None)
    conditions = group_by(known, itemgetter(0)).items()
    measured = ", ".join(f"{name} {' or '.join(str(value) for _, value in values)}" for name, values in conditions)
    rule = f"Times are judged from {LEAST_RUNS} runs on; it changes only by `cnnbench baseline save --replace`."
    notes = (
        Note("summary", f"Baseline {saved.name} of {plain(saved.machine_id)}: {_count_contents(saved)}."),
        Note("run", f"Measured under: {plain(measured, None)}."),
        Note("rule", rule),
    )
    tables = (
        build_table(BASELINE_ROWS, saved.rows, words={"name": saved.name}),
        build_table(BASELINE_RUNS, groups=[(plain(saved.machine_id), runs)]),
    )
    return Report(tables, notes)


def _count_contents(saved: SavedBaseline) -> str:
    runs, rows = len(saved.runs), len(saved.rows)
    return f"{runs} run{'' if runs == 1 else 's'} of {rows} row{'' if rows == 1 else 's'}"


def _step_cell(row: BaselineRow) -> Cell:
    step = step_range(row)
    return _range_cell("median_step_seconds", None if step is None else (step.low, step.high), cells.step_text)


def _count_column(metric: str) -> ColumnSpec[BaselineRow]:
    """Declare the range of a metric that is exact."""
    key = metric.replace(" ", "_")

    def cell(row: BaselineRow) -> Cell:
        values = list_stored_counts(metric, row)
        return _range_cell(key, (min(values), max(values)) if values else None, units.count)

    return ColumnSpec(key, metric, 3, cell)


BASELINE_ROWS = TableSpec[BaselineRow](
    "baseline-rows",
    "Baseline {name}",
    (
        figure("place", "place", 1, lambda row: naming.place_label(row.job), name="", align="left", further=_identify),
        figure("runs", "runs", 1, lambda row: len(row.runs), details=lambda row: (f"{len(row.processes)} processes",)),
        ColumnSpec("step", "next run's\nmedian step", 1, _step_cell),
        *map(_count_column, EXACT_METRICS),
        ColumnSpec("accuracy", "accuracy", 4, lambda row: _range_cell("accuracy", accuracy_band(row), units.percent)),
    ),
    STEP_CLOCK,
    group=_describe_work,
    order=_sort_by_title,
)
BASELINE_RUNS = TableSpec[NamedRun](
    "baseline-runs",
    "Its runs",
    (
        _plain_column("run", "run", 1, "run_id", "run_id"),
        *(
            _known_column("ledger", column)
            for column in (
                _plain_column("created", "measured", 2, "ledger.header.created_at", "created_at"),
                ColumnSpec("commit", "commit", 2, lambda run: commit_cell(run.ledger.header.software), align="left"),
                wording("suites", "suites", 3, lambda run: plain(", ".join(sorted(run.ledger.header.suites)))),
            )
        ),
        figure("ledger", "its ledger", 1, "state", align="left", further={"sha256": "sha256"}),
    ),
    kind=lambda run: "measured" if run.state == "unchanged" else "failed",
)
