"""Stored baselines as reports: a run held against one, the list of them, and one with its runs and rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnbench import naming, units
from cnnbench.analysis.prediction_interval import LEAST_RUNS
from cnnbench.regression.saved_baseline import SavedBaseline, SavedRow, SavedRun
from cnnbench.regression.screen import (
    EXACT_METRICS,
    MetricResult,
    MetricStatus,
    ScreeningResult,
    accuracy_band,
    step_range,
)
from cnnbench.regression.verdict import STEP_METRIC
from cnnbench.report import cells
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table, Value
from cnnbench.schema import Job, digest

STEP_CLOCK = "a step is the median over a process's timed blocks, a run's the geometric mean over its processes"
COMMIT_CHARACTERS = 10


def build_judgement(found: ScreeningResult, problems: Iterable[str] = ()) -> Report:
    """The judgement, a group a row; the most telling verdicts are counted first in the notes."""
    by_job: dict[str, list[MetricResult]] = {}
    for each in found.findings:
        by_job.setdefault(naming.full_label(each.job), []).append(each)
    groups = tuple(RowGroup(title, tuple(_judgement_line(each) for each in by_job[title])) for title in sorted(by_job))
    columns = (
        Column("metric", "metric", "", 1, "left"),
        Column("value", "this run", "", 1),
        Column("expected", "stored", "", 1),
        Column("runs", "runs", "", 3),
        Column("standing", "verdict", "", 1, "left"),
        Column("note", "note", "", 2, "left"),
    )
    title = f"Run {plain(found.run.run_id)} against baseline {found.baseline.name}"
    return Report((Table("judgement", title, STEP_CLOCK, columns, groups),), _judgement_notes(found, problems))


def _judgement_notes(found: ScreeningResult, problems: Iterable[str]) -> tuple[Note, ...]:
    counts = Counter(each.status for each in found.findings)
    counts_text = ", ".join(f"{counts[standing]} {standing}" for standing in MetricStatus if counts[standing])
    ranges = sum(each.metric == STEP_METRIC and each.expected is not None and not each.note for each in found.findings)
    notes = [Note("summary", f"{counts_text or 'nothing to judge'}. Stored are {_contents(found.baseline)}.")]
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


def _judgement_line(found: MetricResult) -> Line:
    text = _texts(found.metric)
    expected = found.expected
    raw: dict[str, Value] = {
        "expected_low": None if expected is None else expected.low,
        "expected_high": None if expected is None else expected.high,
    }
    shown = units.NOT_AVAILABLE
    if expected is not None:
        exact = expected.low == expected.high
        shown = text(expected.low) if exact else _span(expected.low, expected.high, text)
    runs = None if expected is None or not expected.runs else expected.runs
    note = plain(found.note)
    shown_cells = (
        Cell(found.metric, (), {"metric": found.metric, **_identity(found.job)}),
        Cell(text(found.value), (), {"value": found.value}),
        Cell(shown, (), raw),
        Cell("" if runs is None else str(runs), (), {"stored_runs": runs}),
        Cell(found.status.value, (), {"verdict": found.status.value}),
        Cell(note, (), {"note": note}),
    )
    bad = found.status in (MetricStatus.CHANGED, MetricStatus.MISSING, MetricStatus.NOT_COMPARABLE)
    return Line(shown_cells, kind="failed" if bad else "measured")


def _texts(metric: str) -> Callable[[float | None], str]:
    if metric == STEP_METRIC:
        return cells.step_text
    if metric == "accuracy":
        return units.percent
    return units.count


def _span(low: float, high: float, text: Callable[[float | None], str]) -> str:
    return cells.step_span(low, high) if text is cells.step_text else units.span(low, high, text)


def _work(job: Job) -> str:
    size = "" if job.size is None else f" · side {units.count(job.size)}"
    return f"{job.precision} · {naming.work_label(job)}{size}"


def _identity(job: Job) -> dict[str, Value]:
    return {
        "workload": job.workload,
        "batch_size": job.batch_size,
        "size": job.size,
        "precision": job.precision,
        "device": job.device,
        "threads": job.threads,
        "clock": job.clock,
        "row_key_sha256": digest(job.row_key),
    }


@dataclass(frozen=True)
class SavedBaselineFile:
    """A baseline as found on disk; `baseline` is None where the file cannot be used, and `problem` says why."""

    machine_id: str
    name: str
    baseline: SavedBaseline | None
    problem: str | None = None


def build_list(found: Sequence[SavedBaselineFile]) -> Report:
    """All baselines there are, and the files that cannot be used."""
    columns = (
        Column("name", "name", "", 1, "left"),
        Column("runs", "runs", "", 1),
        Column("rows", "rows", "", 2),
        Column("enough", "rows with 8 runs", "", 2),
        Column("commit", "newest commit", "", 3, "left"),
        Column("saved", "saved", "", 3, "left"),
        Column("state", "state", "", 1, "left"),
    )
    by_machine: dict[str, list[Line]] = {}
    for each in found:
        by_machine.setdefault(each.machine_id, []).append(_list_line(each))
    groups = tuple(RowGroup(machine_id, tuple(lines)) for machine_id, lines in sorted(by_machine.items()))
    problems = tuple(Note("problem", plain(each.problem)) for each in found if each.problem is not None)
    none = () if found else (Note("summary", "No baseline is stored; save one with `cnnbench baseline save NAME`."),)
    tables = (Table("baselines", "Stored baselines", "", columns, groups),) if found else ()
    return Report(tables, (*none, *problems))


def _list_line(each: SavedBaselineFile) -> Line:
    name = Cell(plain(each.name), (), {"name": each.name, "machine_id": each.machine_id})
    if each.baseline is None:
        empty = Cell(units.NOT_AVAILABLE)
        return Line((name, *(empty,) * 5, Cell("unusable", (), {"state": "unusable"})), kind="failed")
    runs, rows = each.baseline.runs, each.baseline.rows
    enough = sum(len(row.runs) >= LEAST_RUNS for row in rows)
    newest = each.baseline.newest
    return Line(
        (
            name,
            Cell(str(len(runs)), (), {"runs": len(runs)}),
            Cell(str(len(rows)), (), {"rows": len(rows)}),
            Cell(f"{enough} of {len(rows)}", (), {"rows_with_a_range": enough}),
            commit_cell(newest.cnnbench, newest.git_commit, newest.git_dirty),
            Cell(plain(each.baseline.saved_at), (), {"saved_at": each.baseline.saved_at}),
            Cell("ok", (), {"state": "ok"}),
        )
    )


def commit_cell(version: str, commit: str | None, dirty: bool | None) -> Cell:
    """The commit's beginning, the version where there is none, and whether files were changed since."""
    text = plain(commit)[:COMMIT_CHARACTERS] if commit else f"cnnbench {plain(version)}"
    raw: dict[str, Value] = {"cnnbench": version, "git_commit": commit, "git_dirty": dirty}
    return Cell(text, ("with local changes",) if commit and dirty else (), raw)


def build_contents(saved_baseline: SavedBaseline, states: Mapping[str, str]) -> Report:
    """One baseline: its rows with the ranges they give, and its runs; `states` says of each run's ledger what it is now."""
    conditions = [f"{name} {value}" for name, value in _common(saved_baseline)]
    notes = (
        Note(
            "summary",
            f"Baseline {saved_baseline.name} of {plain(saved_baseline.machine_id)}: {_contents(saved_baseline)}.",
        ),
        Note("run", f"Measured under: {plain(', '.join(conditions), None)}."),
        Note(
            "rule",
            f"Times are judged from {LEAST_RUNS} runs on; it changes only by `cnnbench baseline save --replace`.",
        ),
    )
    return Report((_rows_table(saved_baseline), _runs_table(saved_baseline, states)), notes)


def _common(saved_baseline: SavedBaseline) -> list[tuple[str, str]]:
    """The conditions, each once; what rows differ in with all its values."""
    found: dict[str, list[str]] = {}
    for row in saved_baseline.rows:
        for name, value in row.conditions.items():
            if value is not None and str(value) not in found.setdefault(name, []):
                found[name].append(str(value))
    return [(name, " or ".join(values)) for name, values in found.items()]


def _contents(saved_baseline: SavedBaseline) -> str:
    runs, rows = len(saved_baseline.runs), len(saved_baseline.rows)
    return f"{runs} run{'' if runs == 1 else 's'} of {rows} row{'' if rows == 1 else 's'}"


def _rows_table(saved_baseline: SavedBaseline) -> Table:
    columns = (
        Column("place", "place", "", 1, "left"),
        Column("runs", "runs", "", 1),
        Column("step", "next run's\nmedian step", "", 1),
        *(Column(name.replace(" ", "_"), name, "", 3) for name in EXACT_METRICS),
        Column("accuracy", "accuracy", "", 4),
    )
    by_work: dict[str, list[Line]] = {}
    for row in saved_baseline.rows:
        by_work.setdefault(_work(row.job), []).append(_row_line(row))
    groups = tuple(RowGroup(title, tuple(by_work[title])) for title in sorted(by_work))
    return Table("baseline-rows", f"Baseline {saved_baseline.name}", STEP_CLOCK, columns, groups)


def _row_line(row: SavedRow) -> Line:
    processes = [process for run in row.runs for process in run.processes]
    step, band = step_range(row), accuracy_band(row)
    exact = [
        sorted({value for each in processes if (value := read(each)) is not None}) for read in EXACT_METRICS.values()
    ]
    return Line(
        (
            Cell(naming.place_label(row.job), (), _identity(row.job)),
            Cell(str(len(row.runs)), (f"{len(processes)} processes",), {"runs": len(row.runs)}),
            _range_cell("median_step_seconds", None if step is None else (step.low, step.high), cells.step_text),
            *(
                _range_cell(name.replace(" ", "_"), (values[0], values[-1]) if values else None, units.count)
                for name, values in zip(EXACT_METRICS, exact, strict=True)
            ),
            _range_cell("accuracy", band, units.percent),
        )
    )


def _range_cell(key: str, ends: tuple[float, float] | None, text: Callable[[float | None], str]) -> Cell:
    if ends is None:
        return Cell(units.NOT_AVAILABLE, (), {f"{key}_low": None, f"{key}_high": None})
    words = text(ends[0]) if ends[0] == ends[1] else _span(*ends, text)
    return Cell(words, (), {f"{key}_low": ends[0], f"{key}_high": ends[1]})


def _runs_table(saved_baseline: SavedBaseline, states: Mapping[str, str]) -> Table:
    columns = (
        Column("run", "run", "", 1, "left"),
        Column("created", "measured", "", 2, "left"),
        Column("commit", "commit", "", 2, "left"),
        Column("suites", "suites", "", 3, "left"),
        Column("ledger", "its ledger", "", 1, "left"),
    )
    lines = tuple(_run_line(run, states.get(run.run_id, "is not there")) for run in saved_baseline.runs)
    return Table("baseline-runs", "Its runs", "", columns, (RowGroup(plain(saved_baseline.machine_id), lines),))


def _run_line(run: SavedRun, state: str) -> Line:
    suites = ", ".join(run.suites)
    return Line(
        (
            Cell(plain(run.run_id), (), {"run_id": run.run_id}),
            Cell(plain(run.created_at), (), {"created_at": run.created_at}),
            commit_cell(run.cnnbench, run.git_commit, run.git_dirty),
            Cell(plain(suites), (), {"suites": suites}),
            Cell(state, (), {"ledger": state, "final_digest": run.final_digest}),
        ),
        kind="measured" if state == "unchanged" else "failed",
    )
