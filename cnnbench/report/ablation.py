"""The ladder as a table: one network on one device, how much each way of computing the same step brings over the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnnbench import naming, units
from cnnbench.analysis.ablation import LadderVariant, find_ladders
from cnnbench.analysis.speedup import Row
from cnnbench.report import cells
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, RowGroup, Table

KEY = "ladder"
CLOCK = (
    "times of rows of different precision are divided here on purpose, to show what each rung brings, and nowhere else; ratios "
    "are of a step (of the whole job where it was measured), paired by round where both ran in it; rungs in a fixed order: "
    "division, precision (fp32, tf32, bf16, fp16), layout, execution, loader; of peak is of the measured peak of the rung's own "
    "run and precision"
)


def tables(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> list[Table]:
    """The table, a group a ladder; none where no run has two rungs of one."""
    found = find_ladders(rows)
    if not found:
        return []
    columns: list[tuple[Column, Callable[[LadderVariant], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), lambda each: processor(each.row)),
        (Column("rung", "rung", "", 1, "left"), _variant_cell),
        (Column("step", "one step", "", 1), lambda each: cells.step(each.row)),
        (
            Column("over_before", "speed over\nthe one before", "", 2),
            lambda each: _ratio(each, "speed_over_rung_before"),
        ),
        (Column("over_first", "speed over\nthe first", "", 1), lambda each: _ratio(each, "speed_over_first_rung")),
        (Column("of_ceiling", "of peak", "measured", 3), lambda each: cells.share_of_ceiling(each.row)),
        (Column("accuracy", "test\naccuracy", "", 4), lambda each: cells.accuracy(each.row)),
        (Column("outcome", "outcome", "", 3, "left"), lambda each: cells.outcome(each.row)),
        (Column("why_not", "why not", "", 2, "left"), lambda each: Cell(explain_missing_time(each.row))),
    ]
    groups = tuple(
        RowGroup(
            _title(rungs[0].row),
            tuple(
                Line(
                    tuple(cell(rung) for _, cell in columns),
                    (),
                    "measured" if rung.row.costs else "failed",
                    cells.name_raw_rows(rung.row),
                )
                for rung in rungs
            ),
        )
        for rungs in found
    )
    title = "The ladder: the same work on the same device, computed another way on each rung"
    return [Table(KEY, title, CLOCK, tuple(column for column, _ in columns), groups)]


def _title(row: Row) -> str:
    """The work without what rungs differ in, and where."""
    return naming.ladder_label(row.job, row.protocol)


def _variant_cell(variant: LadderVariant) -> Cell:
    return Cell(naming.step_label(variant.row.job), (), {"rung_precision": variant.row.job.precision})


def _ratio(variant: LadderVariant, key: str) -> Cell:
    """Empty where there is nothing to divide by: on the first rung."""
    found = variant.speedup_over_first if key == "speed_over_first_rung" else variant.speedup_over_previous
    raw = cells.values(key, found)
    if found is None:
        return Cell("" if variant.row.costs else units.NOT_AVAILABLE, (), raw)
    return Cell(units.ratio(found.value), (*cells.interval(found, units.ratio), f"n={found.n}"), raw)


def explain_missing_time(row: Row) -> str:
    """Why a rung has no time, in the words of its processes; empty where it has one."""
    return "" if row.costs else plain("; ".join(row.reasons))
