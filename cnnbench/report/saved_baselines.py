"""Saved baselines as reports: a run compared with one, the list of them, and one with its runs and rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from cnnbench import naming, units
from cnnbench.analysis.prediction_interval import LEAST_RUNS
from cnnbench.analysis.ratio import group_by
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
from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table, Value
from cnnbench.schema import Job, Software, digest

STEP_CLOCK = "a step is the median over a process's timed blocks, a run's the geometric mean over its processes"
COMMIT_CHARACTERS = 10
BAD_STATUSES = (MetricStatus.CHANGED, MetricStatus.MISSING, MetricStatus.NOT_COMPARABLE)
_IDENTITY = ("workload", "batch_size", "size", "precision", "device", "threads", "clock")


def _text_column(key: str, priority: int, title: str | None = None) -> Column:
    return Column(key, title or key, "", priority, "left")


def _number_column(key: str, priority: int, title: str | None = None) -> Column:
    return Column(key, title or key, "", priority)


def _cell(key: str, value: Value) -> Cell:
    """A value that is its own text."""
    return Cell(units.NOT_AVAILABLE if value is None else plain(str(value)), (), {key: value})


def _group(lines: Iterable[tuple[str, Line]]) -> tuple[RowGroup, ...]:
    """The lines under their titles, titles in order."""
    by_title = sorted(group_by(lines, itemgetter(0)).items())
    return tuple(RowGroup(title, tuple(line for _, line in each)) for title, each in by_title)


def build_judgement(found: ScreeningResult, problems: Iterable[str] = ()) -> Report:
    """The judgement, a group a row; the most telling verdicts are counted first in the notes."""
    columns = (
        *(_text_column("metric", 1), _number_column("value", 1, "this run"), _number_column("expected", 1, "stored")),
        *(_number_column("runs", 3), _text_column("standing", 1, "verdict"), _text_column("note", 2)),
    )
    title = f"Run {plain(found.run.run_id)} against baseline {found.baseline.name}"
    groups = _group((naming.full_label(each.job), _judgement_line(each)) for each in found.findings)
    return Report((Table("judgement", title, STEP_CLOCK, columns, groups),), _judgement_notes(found, problems))


def _judgement_line(found: MetricResult) -> Line:
    text, expected = _choose_text(found.metric), found.expected
    runs = None if expected is None or not expected.runs else expected.runs
    shown = (
        Cell(found.metric, (), {"metric": found.metric, **_identify(found.job)}),
        Cell(text(found.value), (), {"value": found.value}),
        _range_cell("expected", None if expected is None else (expected.low, expected.high), text),
        Cell("" if runs is None else str(runs), (), {"stored_runs": runs}),
        _cell("verdict", found.status.value),
        _cell("note", plain(found.note)),
    )
    return Line(shown, kind="failed" if found.status in BAD_STATUSES else "measured")


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


def _describe_work(job: Job) -> str:
    size = "" if job.size is None else f" · side {units.count(job.size)}"
    return f"{job.precision} · {naming.work_label(job)}{size}"


def _identify(job: Job) -> dict[str, Value]:
    return {**{name: getattr(job, name) for name in _IDENTITY}, "row_key_sha256": digest(job.row_key)}


@dataclass(frozen=True)
class ListedBaseline:
    """A name as found; `baseline` is None where it cannot be used, and `problem` says why."""

    machine_id: str
    name: str
    baseline: SavedBaseline | None
    problem: str | None = None


def build_list(found: Sequence[ListedBaseline]) -> Report:
    """All baselines there are, and what hinders those that cannot be used."""
    columns = (
        *(_text_column("name", 1), _number_column("runs", 1), _number_column("rows", 2)),
        *(_number_column("enough", 2, "rows with 8 runs"), _text_column("commit", 3, "newest commit")),
        *(_text_column("saved", 3), _text_column("state", 1)),
    )
    problems = tuple(Note("problem", plain(each.problem)) for each in found if each.problem is not None)
    if not found:
        return Report((), (Note("summary", "No baseline is stored; save one with `cnnbench baseline save NAME`."),))
    groups = _group((each.machine_id, _list_line(each)) for each in found)
    return Report((Table("baselines", "Stored baselines", "", columns, groups),), problems)


def _list_line(each: ListedBaseline) -> Line:
    name = Cell(plain(each.name), (), {"name": each.name, "machine_id": each.machine_id})
    saved = each.baseline
    if saved is None:
        return Line((name, *(cells.NONE,) * 5, _cell("state", "unusable")), kind="failed")
    enough = sum(len(row.runs) >= LEAST_RUNS for row in saved.rows)
    return Line(
        (
            *(name, _cell("runs", len(saved.runs)), _cell("rows", len(saved.rows))),
            Cell(f"{enough} of {len(saved.rows)}", (), {"rows_with_a_range": enough}),
            *(commit_cell(saved.newest.software), _cell("saved_at", saved.saved_at), _cell("state", "ok")),
        )
    )


def commit_cell(software: Software) -> Cell:
    """The commit's beginning, the version where there is none, and whether files were changed since."""
    commit, dirty = software.git_commit, software.git_dirty
    text = plain(commit)[:COMMIT_CHARACTERS] if commit else f"cnnbench {plain(software.cnnbench)}"
    values: dict[str, Value] = {"cnnbench": software.cnnbench, "git_commit": commit, "git_dirty": dirty}
    return Cell(text, ("with local changes",) if commit and dirty else (), values)


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
    columns = (
        *(_text_column("place", 1), _number_column("runs", 1), _number_column("step", 1, "next run's\nmedian step")),
        *(_number_column(name.replace(" ", "_"), 3, name) for name in EXACT_METRICS),
        _number_column("accuracy", 4),
    )
    rows = _group((_describe_work(row.job), _row_line(row)) for row in saved.rows)
    about = (
        *(
            _text_column("run", 1),
            _text_column("created", 2, "measured"),
            _text_column("commit", 2),
            _text_column("suites", 3),
        ),
        _text_column("ledger", 1, "its ledger"),
    )
    ledgers = _group((plain(saved.machine_id), _run_line(run)) for run in runs)
    tables = (
        Table("baseline-rows", f"Baseline {saved.name}", STEP_CLOCK, columns, rows),
        Table("baseline-runs", "Its runs", "", about, ledgers),
    )
    return Report(tables, notes)


def _count_contents(saved: SavedBaseline) -> str:
    runs, rows = len(saved.runs), len(saved.rows)
    return f"{runs} run{'' if runs == 1 else 's'} of {rows} row{'' if rows == 1 else 's'}"


def _row_line(row: BaselineRow) -> Line:
    step = step_range(row)
    exact = {name: list_stored_counts(name, row) for name in EXACT_METRICS}
    return Line(
        (
            Cell(naming.place_label(row.job), (), _identify(row.job)),
            Cell(str(len(row.runs)), (f"{len(row.processes)} processes",), {"runs": len(row.runs)}),
            _range_cell("median_step_seconds", None if step is None else (step.low, step.high), cells.step_text),
            *(
                _range_cell(name.replace(" ", "_"), (min(values), max(values)) if values else None, units.count)
                for name, values in exact.items()
            ),
            _range_cell("accuracy", accuracy_band(row), units.percent),
        )
    )


def _run_line(run: NamedRun) -> Line:
    state = Cell(run.state, (), {"ledger": run.state, "sha256": run.sha256})
    if run.ledger is None:
        return Line((_cell("run_id", run.run_id), *(cells.NONE,) * 3, state), kind="failed")
    header = run.ledger.header
    shown = (
        *(_cell("run_id", run.run_id), _cell("created_at", header.created_at), commit_cell(header.software)),
        *(_cell("suites", ", ".join(sorted(header.suites))), state),
    )
    return Line(shown, kind="measured" if run.state == "unchanged" else "failed")
