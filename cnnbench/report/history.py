"""Rows over all recorded runs as a table, oldest first, and as a page with the chart above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from cnnbench import naming, units
from cnnbench.analysis.history import Point, Series, estimate_first
from cnnbench.analysis.ratio import FieldDifference
from cnnbench.analysis.stats import LEAST_RUNS, Estimate, compare_with_prediction
from cnnbench.report import cells
from cnnbench.report.escaping import plain
from cnnbench.report.model import Chart, Note, Page, Report, Section, Value
from cnnbench.report.saved_baselines import STEP_CLOCK, commit_cell
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure, metric_cell, wording
from cnnbench.schema import digest

_JOB_FIELDS = ("device", "threads", "workload", "batch_size", "size", "precision")
PREDICTION_OUTCOMES = {-1: "faster than predicted", 0: "as predicted", 1: "slower than predicted"}


def build(found: Sequence[Series], problems: Iterable[str] = ()) -> Report:
    """A table with a group a row. The same runs in any order give an equal report."""
    several = len({series.machine_id for series in found}) > 1
    table = build_table(HISTORY, groups=[(title(series, several), series.points) for series in found])
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


def _identify(point: Point) -> dict[str, Value]:
    row = point.row
    return {
        **{"run_id": row.run_id, "machine_id": row.machine.id},
        **{name: getattr(row.job, name) for name in _JOB_FIELDS},
        **{"row_key_sha256": digest(row.row_key), "protocol": row.protocol},
    }


def describe_changes(found: Sequence[FieldDifference]) -> str:
    """`torch 2.12.0 to 2.13.0, driver 550 to 570`; empty where nothing changed."""
    return ", ".join(f"{each.field} {_format_value(each.base)} to {_format_value(each.new)}" for each in found)


def _format_value(value: object) -> str:
    return units.NOT_AVAILABLE if value is None else plain(str(value))


def _describe_estimate(found: Estimate | None, span: Callable[[float, float], str]) -> Iterator[str]:
    if found is not None:
        yield from () if found.low is None or found.high is None else (span(found.low, found.high),)
        yield f"n={found.n}"


def _change_span(low: float, high: float) -> str:
    return f"{signed_percent(low)} to {signed_percent(high)} %"


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


def _describe_prediction(point: Point) -> Iterator[str]:
    found = point.predicted
    if found is not None:
        yield from (cells.step_span(found.low, found.high), f"n={found.runs}")


HISTORY = TableSpec[Point](
    "history",
    "Recorded runs, oldest first",
    (
        figure("measured", "measured", 1, "row.created_at", plain, name="created_at", align="left", further=_identify),
        ColumnSpec("commit", "commit", 3, lambda point: commit_cell(point.row.software), align="left"),
        figure(
            "torch",
            "torch",
            4,
            lambda point: f"{point.row.software.torch} ({point.row.software.torch_build})",
            plain,
            align="left",
        ),
        figure(
            "step",
            "median step",
            1,
            "step",
            cells.step_text,
            name="median_step_seconds",
            estimated=True,
            details=lambda point: _describe_estimate(point.step, cells.step_span),
        ),
        figure(
            "change",
            "against the\nrun before",
            1,
            "change",
            lambda ratio: f"{signed_percent(ratio)} %",
            name="step_ratio_to_run_before",
            estimated=True,
            details=lambda point: _describe_estimate(point.change, _change_span),
            absent=lambda point: "",
        ),
        figure(
            "predicted",
            "predicted from\nthe runs before",
            2,
            describe_outcome,
            lambda outcome: outcome.removesuffix(" than predicted"),
            name="",
            details=_describe_prediction,
            further={
                "predicted_low_seconds": "predicted.low",
                "predicted_high_seconds": "predicted.high",
                "predicted_from_runs": "predicted.runs",
                "predicted_verdict": describe_outcome,
            },
            absent=lambda point: "",
        ),
        ColumnSpec("accuracy", "test\naccuracy", 5, lambda point: metric_cell(point.row, "test_accuracy")),
        ColumnSpec("outcome", "outcome", 6, lambda point: cells.outcome(point.row), align="left"),
        wording("changed", "what changed", 2, lambda point: describe_changes(point.changed)),
    ),
    STEP_CLOCK,
    notes=lambda point: point.row.failures,
    kind=lambda point: "measured" if point.step is not None else "failed",
    rows=lambda point: (point.row,),
)


def page(report: Report, chart: Chart | None) -> Page:
    """The report with the chart above its table."""
    charts = () if chart is None else (chart,)
    section = Section("history", "Over recorded runs", "", charts, report.tables)
    claim = tuple(note.text for note in report.notes if note.kind == "summary")
    return Page("cnnbench history", claim, (section,), report.notes)
