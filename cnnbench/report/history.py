"""Rows over all recorded runs as a table, oldest first, and as a page with the chart above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cnnbench import naming, units
from cnnbench.analysis.history import Point, Series, estimate_first
from cnnbench.analysis.prediction_interval import LEAST_RUNS, compare_with_prediction
from cnnbench.analysis.ratio import FieldDifference
from cnnbench.analysis.stats import Estimate
from cnnbench.report import cells
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Chart, Column, Line, Note, Page, Report, RowGroup, Section, Table, Value
from cnnbench.report.saved_baselines import STEP_CLOCK, commit_cell
from cnnbench.report.table_builder import metric_cell
from cnnbench.schema import digest

_JOB_FIELDS = ("device", "threads", "workload", "batch_size", "size", "precision")
PREDICTION_OUTCOMES = {-1: "faster than predicted", 0: "as predicted", 1: "slower than predicted"}


def build(found: Sequence[Series], problems: Iterable[str] = ()) -> Report:
    """A table with a group a row. The same runs in any order give an equal report."""
    several = len({series.machine_id for series in found}) > 1
    columns = (
        Column("measured", "measured", "", 1, "left"),
        Column("commit", "commit", "", 3, "left"),
        Column("torch", "torch", "", 4, "left"),
        Column("step", "median step", "", 1),
        Column("change", "against the\nrun before", "", 1),
        Column("predicted", "predicted from\nthe runs before", "", 2),
        Column("accuracy", "test\naccuracy", "", 5),
        Column("outcome", "outcome", "", 6, "left"),
        Column("changed", "what changed", "", 2, "left"),
    )
    groups = tuple(RowGroup(title(series, several), tuple(map(_line, series.points))) for series in found)
    table = Table("history", "Recorded runs, oldest first", STEP_CLOCK, columns, groups)
    return Report((table,), _notes(found, problems))


def title(series: Series, several_machines: bool) -> str:
    """The row in words: where it ran, what it did, and the timing rule where it is not today's."""
    machine = (plain(series.machine_id),) if several_machines else ()
    return " · ".join((*machine, naming.full_label(series.job, series.protocol)))


def _notes(found: Sequence[Series], problems: Iterable[str]) -> tuple[Note, ...]:
    runs = {point.row.run_id for series in found for point in series.points}
    outcomes = [describe_outcome(point) for series in found for point in series.points]
    judged = len(outcomes) - outcomes.count(None)
    outside = judged - outcomes.count(PREDICTION_OUTCOMES[0])
    summary = f"{len(runs)} run{'' if len(runs) == 1 else 's'}, {len(found)} row{'' if len(found) == 1 else 's'}"
    if judged:
        summary += f"; {outside} of {judged} times outside what the runs before predict, 5 % are by chance"
    rules = (
        "A change is this run's step over the last one's, above 0 slower, with Welch's 95 % interval between processes; it "
        "does not know the machine's drift from one run to the next, which `cnnbench check` cancels.",
        f"Predicted: the range of 95 % of next runs, from {LEAST_RUNS} earlier runs on under the same conditions (Student's t "
        "on logs, n counts runs).",
    )
    return (
        Note("summary", f"{summary}."),
        *(Note("rule", rule) for rule in rules),
        *(Note("problem", plain(problem)) for problem in problems),
    )


def _line(point: Point) -> Line:
    row = point.row
    identity: dict[str, Value] = {
        **{"created_at": row.created_at, "run_id": row.run_id, "machine_id": row.machine.id},
        **{name: getattr(row.job, name) for name in _JOB_FIELDS},
        **{"row_key_sha256": digest(row.row_key), "protocol": row.protocol},
    }
    torch = f"{row.software.torch} ({row.software.torch_build})"
    changed = describe_changes(point.changed)
    return Line(
        (
            Cell(plain(row.created_at), (), identity),
            commit_cell(row.software),
            Cell(plain(torch), (), {"torch": torch}),
            _estimate("median_step_seconds", point.step, cells.step_text, cells.step_span, units.NOT_AVAILABLE),
            _estimate("step_ratio_to_run_before", point.change, _change_text, _change_span, ""),
            _predicted(point),
            metric_cell(row, "test_accuracy"),
            cells.outcome(row),
            Cell(changed, (), {"changed": changed}),
        ),
        row.failures,
        "measured" if point.step is not None else "failed",
        cells.name_raw_rows(row),
    )


def describe_changes(found: Sequence[FieldDifference]) -> str:
    """`torch 2.12.0 to 2.13.0, driver 550 to 570`; empty where nothing changed."""
    return ", ".join(f"{each.field} {_format_value(each.base)} to {_format_value(each.new)}" for each in found)


def _format_value(value: object) -> str:
    return units.NOT_AVAILABLE if value is None else plain(str(value))


def _change_text(ratio: float) -> str:
    return f"{signed_percent(ratio)} %"


def _change_span(low: float, high: float) -> str:
    return f"{signed_percent(low)} to {signed_percent(high)} %"


def _estimate(
    name: str,
    found: Estimate | None,
    text: Callable[[float], str],
    span: Callable[[float, float], str],
    missing: str,
) -> Cell:
    raw = cells.values(name, found)
    if found is None:
        return Cell(missing, (), raw)
    interval = () if found.low is None or found.high is None else (span(found.low, found.high),)
    return Cell(text(found.value), (*interval, f"n={found.n}"), raw)


def signed_percent(ratio: float) -> str:
    """A ratio as a change in percent with its sign: 1.023 is `+2.3`."""
    text = f"{100 * (ratio - 1):+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def describe_outcome(point: Point) -> str | None:
    """Where the run fell against its prediction; None where nothing was predicted."""
    if point.predicted is None:
        return None
    first = estimate_first(point, point.predicted.processes)
    return PREDICTION_OUTCOMES[compare_with_prediction(first, point.predicted)]


def _predicted(point: Point) -> Cell:
    found, outcome = point.predicted, describe_outcome(point)
    if found is None or outcome is None:
        names = ("low_seconds", "high_seconds", "from_runs", "verdict")
        return Cell("", (), {f"predicted_{name}": None for name in names})
    raw: dict[str, Value] = {
        **{"predicted_low_seconds": found.low, "predicted_high_seconds": found.high},
        **{"predicted_from_runs": found.runs, "predicted_verdict": outcome},
    }
    details = (cells.step_span(found.low, found.high), f"n={found.runs}")
    return Cell(outcome.removesuffix(" than predicted"), details, raw)


def page(report: Report, chart: Chart | None) -> Page:
    """The report with the chart above its table."""
    charts = () if chart is None else (chart,)
    section = Section("history", "Over recorded runs", "", charts, report.tables)
    claim = tuple(note.text for note in report.notes if note.kind == "summary")
    return Page("cnnbench history", claim, (section,), report.notes)
