"""Reports of recorded runs: each row over all runs, oldest first; a run compared with a saved baseline; the list of baselines;
one baseline with its runs and rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

from cnnbench import naming, units
from cnnbench.analysis.history import Point, Series
from cnnbench.analysis.ratio import FieldDifference, group_by
from cnnbench.analysis.run_spread import LEAST_HISTORY
from cnnbench.analysis.same_host import RELATION_WORDS, identify_boot, relate_all
from cnnbench.analysis.stats import COVERS, LEAST_RUNS, OVER_RUNS, Estimate, compare_with_prediction, geometric
from cnnbench.plain_text import plain
from cnnbench.regression.decision import STEP_METRIC
from cnnbench.regression.saved_baseline import BaselineRow, NamedRun, SavedBaseline
from cnnbench.regression.screen import (
    EXACT_METRICS,
    MetricResult,
    MetricStatus,
    ScreeningResult,
    accuracy_band,
    list_stored_counts,
    step_range,
)
from cnnbench.report import cells
from cnnbench.report.model import Cell, Chart, Note, Page, Report, Section, make_notes
from cnnbench.report.table_builder import (
    ColumnSpec,
    TableSpec,
    build_table,
    figure,
    left_column,
    metric_cell,
    require_value,
    wording,
)
from cnnbench.schema import Software, digest

STEP_CLOCK = "a step is the median over a process's timed blocks, a run's the geometric mean over its processes"
BAD_STATUSES = (MetricStatus.CHANGED, MetricStatus.MISSING, MetricStatus.NOT_COMPARABLE)
_IDENTITY = {
    **{name: f"job.{name}" for name in ("workload", "batch_size", "size", "precision", "device", "threads", "clock")},
    "row_key_sha256": lambda each: digest(each.job.row_key),
}
"""The raw values that identify a line's row."""
_JOB_FIELDS = ("device", "threads", "workload", "batch_size", "size", "precision")
OTHER_BOOTS = (
    "A machine's id names a model: runs of another boot are perhaps of another host of it, and a change between them is "
    "perhaps the host's."
)
"""The rule for runs of several boots."""
PREDICTION_OUTCOMES = {-1: "faster than predicted", 0: "as predicted", 1: "slower than predicted"}


def commit_cell(software: Software) -> Cell:
    """Show the commit's beginning, or the version without a commit, and note local changes."""
    commit, dirty = software.git_commit, software.git_dirty
    text = plain(commit)[:10] if commit else f"cnnbench {plain(software.cnnbench)}"
    details = ("with local changes",) if commit and dirty else ()
    return Cell(text, {"cnnbench": software.cnnbench, "git_commit": commit, "git_dirty": dirty}, details)


def build(found: Sequence[Series], problems: Iterable[str]) -> Report:
    """Report the history in a table with one group per row. The same runs in any order give an equal report."""
    table = build_table(HISTORY, groups=zip(title_rows(found), (series.points for series in found), strict=True))
    points = [point for series in found for point in series.points]
    runs = {point.row.run_id for point in points}
    outcomes = list(map(describe_outcome, points))
    judged = len(outcomes) - outcomes.count(None)
    outside = judged - outcomes.count(PREDICTION_OUTCOMES[0])
    summary = f"{len(runs)} run{'' if len(runs) == 1 else 's'}, {len(found)} row{'' if len(found) == 1 else 's'}"
    if judged:
        summary += f"; {outside} of {judged} times outside the prediction from earlier runs, 5 % are expected by chance"
    rules = [
        f"Below a step: its interval ({COVERS}) and n. A change is this run's step over the last one's, above 0 slower; its 95 % "
        "interval also covers how much runs differ. `cnnbench check` cancels the machine's drift.",
        f"Over runs: the mean of all runs of the boot so far and its interval ({OVER_RUNS}), from {LEAST_HISTORY} runs on.",
        f"Predicted: the range of 95 % of next runs, from {LEAST_RUNS} earlier runs on under the same conditions (Student's t "
        "on logs, n counts runs).",
    ]
    if any(point.several_boots for point in points):
        rules.append(OTHER_BOOTS)
    notes = (Note("summary", f"{summary}."), *make_notes("rule", rules))
    return Report((table,), (*notes, *make_notes("problem", map(plain, problems))))


def title_rows(found: Sequence[Series]) -> list[str]:
    """Title each row with its machine if there are several, its work, and the timing rule unless it is today's."""
    several = len({series.machine_id for series in found}) > 1
    return [
        (f"{plain(series.machine_id)} · " if several else "") + naming.full_label(series.job, series.protocol)
        for series in found
    ]


def describe_changes(found: Sequence[FieldDifference]) -> str:
    """Write the changes: `torch 2.12.0 to 2.13.0, driver 550 to 570`; empty if nothing changed."""
    return ", ".join(f"{each.field} {_format_value(each.base)} to {_format_value(each.new)}" for each in found)


def _format_value(value: object) -> str:
    return units.NOT_AVAILABLE if value is None else plain(str(value))


def _describe_estimate(found: Estimate, span: Callable[[float, float], str]) -> tuple[str, ...]:
    ends = () if found.low is None or found.high is None else (span(found.low, found.high),)
    return (*ends, f"n={found.n}")


def _describe_runs(point: Point) -> tuple[str, ...]:
    """Give the mean over this boot's runs with its interval, from five runs on."""
    found = point.over_runs
    if found is None or found.low is None or found.high is None:
        return ()
    return (f"over runs {cells.step_text(found.value)}, {cells.step_span(found.low, found.high)}", f"{found.n} runs")


def signed_percent(ratio: float) -> str:
    """Format a ratio as a change in percent with its sign: 1.023 is `+2.3`."""
    text = f"{100 * (ratio - 1):+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def describe_outcome(point: Point) -> str | None:
    """Compare a run's time with its prediction; None if nothing was predicted."""
    if point.predicted is None:
        return None
    first = geometric(point.steps[: point.predicted.processes])  # as many as its prediction was made for
    return PREDICTION_OUTCOMES[compare_with_prediction(first.value, point.predicted)]


HISTORY = TableSpec[Point](
    "history",
    "Recorded runs, oldest first",
    (
        wording(
            "measured",
            "measured",
            1,
            "row.created_at",
            plain,
            name="created_at",
            details=lambda point: (plain(identify_boot(point.row).label),) if point.several_boots else (),
            further={
                "run_id": "row.run_id",
                "machine_id": "row.machine.id",
                "boot_id": "row.boot_id",
                "host_id": "row.host_id",
                "kernel": "row.machine.kernel",
                **{name: f"row.job.{name}" for name in _JOB_FIELDS},
                "row_key_sha256": lambda point: digest(point.row.row_key),
                "protocol": "row.protocol",
            },
        ),
        left_column("commit", "commit", 3, lambda point: commit_cell(point.row.software)),
        wording(
            "torch", "torch", 4, lambda point: f"{point.row.software.torch} ({point.row.software.torch_build})", plain
        ),
        figure(
            "step",
            "median step",
            1,
            "step",
            cells.step_text,
            name="median_step_seconds",
            estimated=True,
            details=lambda point: (*_describe_estimate(point.step, cells.step_span), *_describe_runs(point)),
            further={
                "boot_step_seconds": "over_runs.value",
                "boot_step_seconds_low": "over_runs.low",
                "boot_step_seconds_high": "over_runs.high",
                "boot_runs": "over_runs.n",
            },
        ),
        figure(
            "change",
            "against the\nrun before",
            1,
            "change",
            lambda ratio: f"{signed_percent(ratio)} %",
            name="step_ratio_to_run_before",
            estimated=True,
            details=lambda point: (
                *_describe_estimate(
                    point.change, lambda low, high: f"{signed_percent(low)} to {signed_percent(high)} %"
                ),
                *filter(None, (RELATION_WORDS[point.change_host],)),
            ),
            further={"run_before_host": lambda point: point.change and point.change_host},
            absent=lambda point: "",
        ),
        figure(
            "predicted",
            "predicted from\nthe runs before",
            2,
            describe_outcome,
            lambda outcome: outcome.removesuffix(" than predicted"),
            name="",
            details=lambda point: (
                cells.step_span(point.predicted.low, point.predicted.high),
                f"n={point.predicted.runs}",
                *filter(None, (RELATION_WORDS[point.predicted_host],)),
            ),
            further={
                "predicted_low_seconds": "predicted.low",
                "predicted_high_seconds": "predicted.high",
                "predicted_from_runs": "predicted.runs",
                "predicted_verdict": describe_outcome,
                "predicted_from_host": lambda point: point.predicted and point.predicted_host,
            },
            absent=lambda point: "",
        ),
        ColumnSpec("accuracy", "test\naccuracy", 5, lambda point: metric_cell(point.row, "test_accuracy")),
        left_column("outcome", "outcome", 6, lambda point: cells.outcome(point.row)),
        wording("changed", "what changed", 2, lambda point: describe_changes(point.changed)),
    ),
    STEP_CLOCK,
    notes=lambda point: point.row.failures,
    kind=require_value("step"),
)


def page(report: Report, chart: Chart | None) -> Page:
    """Make a page of the report, with the chart above its table."""
    section = Section("history", "Over recorded runs", "", (chart,) if chart else (), report.tables)
    claim = tuple(note.text for note in report.notes if note.kind == "summary")
    return Page("cnnbench history", claim, (section,), report.notes)


def _known_columns(known: str, *columns: ColumnSpec[Any]) -> Iterator[ColumnSpec[Any]]:
    """Show n/a in these columns, without raw values, in lines whose attribute `known` is None."""

    def leave_out(column: ColumnSpec[Any], each: Any) -> Cell:
        return Cell(units.NOT_AVAILABLE) if column.cell is None or getattr(each, known) is None else column.cell(each)

    return (replace(column, cell=partial(leave_out, column)) for column in columns)


def build_judgement(found: ScreeningResult, problems: Iterable[str]) -> Report:
    """Report the judgement with one group per row; the notes count the most important verdicts first."""
    counts = Counter(each.status for each in found.findings)
    counts_text = ", ".join(f"{counts[status]} {status}" for status in MetricStatus if counts[status])
    ranges = sum(each.metric == STEP_METRIC and each.expected is not None and not each.note for each in found.findings)
    notes = [
        Note("summary", f"{counts_text or 'nothing to judge'}. The baseline has {_count_contents(found.baseline)}.")
    ]
    if any(run.run_id == found.run.run_id for run in found.baseline.runs):
        own = "The run belongs to the baseline: its times were accepted when it was saved, and are not judged."
        notes.append(Note("warning", own))
    if host := RELATION_WORDS[relate_all(found.baseline.runs, found.run)]:
        text = f"Between the baseline's runs and this one: {host}. A difference in time is perhaps the host's."
        notes.append(Note("warning", text))
    if found.advice is not None:
        notes.append(Note("warning", f"A suspicion alone does not fail the run. {plain(found.advice, None)}."))
    if ranges:
        chance = units.percent(1 - 0.95**ranges, 0)
        text = (
            "A stored range of times holds 95 % of next runs (Student's t prediction interval on logs, n counts runs); this "
            f"run has {ranges}, of which by chance one or more would be missed in about {chance} of runs."
        )
        notes.append(Note("rule", text))
    notes.append(Note("rule", "Counts and bytes are exact; the accuracy band holds 99.8 % of next runs."))
    if found.elsewhere:
        notes.append(
            Note("missing", f"{found.elsewhere} stored rows belong to other suites or options than this run's.")
        )
    notes += make_notes("problem", map(plain, problems))
    words = {"run": plain(found.run.run_id), "name": found.baseline.name}
    return Report((build_table(JUDGEMENT, found.findings, words=words),), tuple(notes))


def _choose_text(metric: str) -> Callable[[float | None], str]:
    if metric == STEP_METRIC:
        return cells.step_text
    return units.percent if metric == "accuracy" else units.count


def _range_cell(key: str, found: Any, text: Callable[[float | None], str]) -> Cell:
    """Show a range, given as two ends or as an object with them; equal ends are printed once."""
    low, high = found if isinstance(found, tuple) else (getattr(found, "low", None), getattr(found, "high", None))
    shown = text(low)
    if low != high:
        shown = cells.step_span(low, high) if text is cells.step_text else units.span(low, high, text)
    return Cell(shown, {f"{key}_low": low, f"{key}_high": high})


def _describe_work(row: BaselineRow) -> str:
    size = "" if row.job.size is None else f" · side {units.count(row.job.size)}"
    return f"{row.job.precision} · {naming.work_label(row.job)}{size}"


JUDGEMENT = TableSpec[MetricResult](
    "judgement",
    "Run {run} against baseline {name}",
    (
        wording("metric", "metric", 1, "metric", further=_IDENTITY),
        ColumnSpec(
            "value", "this run", 1, lambda each: Cell(_choose_text(each.metric)(each.value), {"value": each.value})
        ),
        ColumnSpec(
            "expected", "stored", 1, lambda each: _range_cell("expected", each.expected, _choose_text(each.metric))
        ),
        figure(
            "runs",
            "runs",
            3,
            lambda each: (each.expected and each.expected.runs) or None,
            name="stored_runs",
            absent=lambda each: "",
        ),
        wording("standing", "verdict", 1, "status.value", name="verdict"),
        wording("note", "note", 2, "note", plain),
    ),
    STEP_CLOCK,
    group=lambda each: naming.full_label(each.job),
    order=lambda each: 0,
    kind=require_value(lambda each: each.status not in BAD_STATUSES),
)


@dataclass(frozen=True)
class ListedBaseline:
    """A saved name; if it cannot be used, `baseline` is None and `problem` has the reason."""

    machine_id: str
    name: str
    baseline: SavedBaseline | None
    problem: str | None = None


def build_list(found: Sequence[ListedBaseline]) -> Report:
    """List all saved baselines, and the problems of those that cannot be used."""
    if not found:
        return Report(
            (), (Note("summary", "No baseline is stored; save one with `cnnbench check baseline save NAME`."),)
        )
    return Report(
        (build_table(BASELINES, found),), make_notes("problem", (plain(each.problem) for each in found if each.problem))
    )


def _count_judged(each: Any) -> Cell:
    rows = each.baseline.rows
    enough = sum(len(row.runs) >= LEAST_RUNS for row in rows)
    return Cell(f"{enough} of {len(rows)}", {"rows_with_a_range": enough})


BASELINES = TableSpec[ListedBaseline](
    "baselines",
    "Stored baselines",
    (
        wording("name", "name", 1, "name", plain, further={"machine_id": "machine_id"}),
        *_known_columns(
            "baseline",
            figure("runs", "runs", 1, lambda each: len(each.baseline.runs)),
            figure("rows", "rows", 2, lambda each: len(each.baseline.rows)),
            ColumnSpec("enough", "rows with 8 runs", 2, _count_judged),
            left_column("commit", "newest commit", 3, lambda each: commit_cell(each.baseline.newest.software)),
            wording("saved", "saved", 3, "baseline.saved_at", plain, name="saved_at"),
        ),
        wording("state", "state", 1, lambda each: "unusable" if each.baseline is None else "ok"),
    ),
    group=lambda each: each.machine_id,
    order=lambda each: 0,
    kind=require_value("baseline"),
)


def build_contents(saved: SavedBaseline, runs: Sequence[NamedRun]) -> Report:
    """Report one baseline: its rows with their ranges, and its runs with the present state of each ledger."""
    known = dict.fromkeys(item for row in saved.rows for item in row.conditions.items() if item[1] is not None)
    conditions = group_by(known, itemgetter(0)).items()
    measured = ", ".join(f"{name} {' or '.join(str(value) for _, value in values)}" for name, values in conditions)
    rule = f"Times are judged from {LEAST_RUNS} runs on; it changes only by `cnnbench check baseline save --replace`."
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


def _count_column(metric: str) -> ColumnSpec[BaselineRow]:
    """Declare the column of an exact metric's range."""
    key = metric.replace(" ", "_")

    def cell(row: BaselineRow) -> Cell:
        values = list_stored_counts(metric, row)
        return _range_cell(key, values and (min(values), max(values)), units.count)

    return ColumnSpec(key, metric, 3, cell)


BASELINE_ROWS = TableSpec[BaselineRow](
    "baseline-rows",
    "Baseline {name}",
    (
        wording("place", "place", 1, lambda row: naming.place_label(row.job), name="", further=_IDENTITY),
        figure("runs", "runs", 1, lambda row: len(row.runs), details=lambda row: (f"{len(row.processes)} processes",)),
        ColumnSpec(
            "step",
            "next run's\nmedian step",
            1,
            lambda row: _range_cell("median_step_seconds", step_range(row), cells.step_text),
        ),
        *map(_count_column, EXACT_METRICS),
        ColumnSpec("accuracy", "accuracy", 4, lambda row: _range_cell("accuracy", accuracy_band(row), units.percent)),
    ),
    STEP_CLOCK,
    group=_describe_work,
    order=lambda each: 0,
)
BASELINE_RUNS = TableSpec[NamedRun](
    "baseline-runs",
    "Its runs",
    (
        wording("run", "run", 1, "run_id", plain, name="run_id"),
        *_known_columns(
            "ledger",
            wording("created", "measured", 2, "ledger.header.created_at", plain, name="created_at"),
            left_column("commit", "commit", 2, lambda run: commit_cell(run.ledger.header.software)),
            wording("suites", "suites", 3, lambda run: plain(", ".join(sorted(run.ledger.header.suites)))),
        ),
        wording("ledger", "its ledger", 1, "state", further={"sha256": "sha256"}),
    ),
    kind=require_value(lambda run: run.state == "unchanged"),
)
