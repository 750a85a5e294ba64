"""The tables of rows, declared: which columns, under which titles, with which clock rule. `tables` decides which are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from cnnbench import naming, units
from cnnbench.analysis.process_outcomes import SeedResult
from cnnbench.analysis.process_table import NOT_RUN
from cnnbench.analysis.row_sets import ScalingSet, find_ladders, find_scaling_sets, measure_spread
from cnnbench.analysis.rows import Row
from cnnbench.report import cells, footnotes
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, LineKind, Value
from cnnbench.report.table_builder import (
    METRICS_HERE,
    PROCESSOR,
    ColumnSpec,
    TableSpec,
    figure,
    metric_column,
    wording,
)


def precision_column(priority: int) -> ColumnSpec[Row]:
    """Declare the precision asked for."""
    return wording("precision", "preci-\nsion", priority, "job.precision")


def size_column(priority: int) -> ColumnSpec[Row]:
    """Side of a GEMM's operands."""
    return figure("size", "size", priority, "job.size", units.count)


def outcome_column(priority: int) -> ColumnSpec[Row]:
    """How the processes ended."""
    return ColumnSpec("outcome", "outcome", priority, cells.outcome, align="left")


def title_work(row: Row) -> str:
    """Name the work that rows of a group share."""
    return naming.work_label(row.job, row.protocol)


def order_work(row: Row) -> tuple[int, str, int]:
    """Whole jobs that were measured first, trainings to a target, projections, then rates."""
    place = {"measured": 0, "to target": 1, "projected": 2, None: 3}[row.job_kind]
    return place, row.job.workload, row.job.batch_size


def explain_missing_time(row: Row) -> str:
    """Why a rung has no time, in the words of its processes; empty where it has one."""
    return "" if row.costs else plain("; ".join(row.reasons))


def trains(row: Row) -> bool:
    """Whether it is a network's row and no matrix product's."""
    return row.job.workload != "gemm"


def _ended(row: Row) -> LineKind:
    return "measured" if row.ok else "failed"


def _timed(row: Row) -> LineKind:
    return "measured" if row.costs else "failed"


def _failures(row: Row) -> tuple[str, ...]:
    return tuple(map(plain, row.failures))


_declare = partial(TableSpec[Row], group=title_work, order=order_work, notes=footnotes.build_row_notes, kind=_ended)
TRAINING = _declare(
    "training",
    "{what}: the same job on every processor",
    (PROCESSOR, precision_column(1), METRICS_HERE, outcome_column(2)),
    "{clock}",
)
LECTURE = TableSpec[Row](
    "lecture",
    "The lecture's table, then and now",
    (PROCESSOR, METRICS_HERE),
    "{clock}",
    notes=footnotes.build_row_notes,
)
RESOURCES = _declare(
    "resources",
    "Memory, energy and cold start: high-water marks, what the layers alone need, what the counter says",
    (PROCESSOR, precision_column(3), METRICS_HERE),
    "memory marks are of the timed steps alone, process and data included; activations are one image's forward pass; energy "
    "is a window of at least 10 s of further steps; cold start is process spawn to first step",
    select=lambda rows: (row for row in rows if row.ok and trains(row)),
)


def _select_bounded(rows: Sequence[Row]) -> list[Row]:
    """Rows of one process, if floors were measured beside any row."""
    training = [row for row in rows if trains(row)]
    bounded = any(row.bottleneck is not None and row.bottleneck.floors for row in training)
    return [row for row in training if row.job.processes == 1] if bounded else []


BOUNDS = _declare(
    "bounds",
    "Why not N times faster: one step against the floors measured beside it",
    (PROCESSOR, precision_column(2), METRICS_HERE),
    "floors are the best of 5 in the same process: operators x smallest operator, bytes moved at copy speed, FLOPs at the "
    "best GEMM of the same run, one batch drawn; without that GEMM the highest floor is unknown, so nothing is said to bind",
    select=_select_bounded,
)
GEMM = _declare(
    "gemm",
    "Ceiling: what bare matrix products reach",
    (
        *(PROCESSOR, precision_column(1), size_column(1)),
        metric_column("flops_per_second", 1, heading="measured", details="interval and n"),
        figure("ceiling", "", 1, "is_ceiling", lambda best: "ceiling" if best else "", name="is_ceiling", align="left"),
        METRICS_HERE,
        figure(
            "products",
            "blocks x products\nafter warm-up",
            5,
            lambda row: f"{row.job.blocks} x {row.job.block_steps} after {row.job.warmup_steps}",
            name="",
            further={"blocks": "job.blocks", "block_steps": "job.block_steps", "warmup_steps": "job.warmup_steps"},
        ),
        outcome_column(2),
    ),
    footnotes.GEMM_CLOCK,
    select=lambda rows: (row for row in rows if not trains(row)),
)


def _find_ladders(rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Row]]]:
    """Each ladder under the work without what rungs differ in, and where; its rows with their ratios."""
    for rungs in find_ladders(rows):
        yield naming.ladder_label(rungs[0].job, rungs[0].protocol), rungs


LADDER = TableSpec[Row](
    "ladder",
    "The ladder: the same work on the same device, computed another way on each rung",
    (
        PROCESSOR,
        figure(
            "rung",
            "rung",
            1,
            lambda row: naming.step_label(row.job),
            name="",
            align="left",
            further={"rung_precision": "job.precision"},
        ),
        metric_column("step_seconds", 1),
        metric_column("speed_over_rung_before", 2),
        metric_column("speed_over_first_rung", 1),
        METRICS_HERE,
        outcome_column(3),
        wording("why_not", "why not", 2, explain_missing_time, name=""),
    ),
    "times of rows of different precision are divided here on purpose, to show what each rung brings, and nowhere else; ratios "
    "are of a step (of the whole job where it was measured), paired by round where both ran in it; rungs in a fixed order: "
    "division, precision (fp32, tf32, bf16, fp16), layout, execution, loader; of peak is of the measured peak of the rung's own "
    "run and precision",
    kind=_timed,
    arrange=_find_ladders,
)


def _find_scaling(rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Row]]]:
    """Each set of one job on one process and on ranks; its rows with their ratios to one process."""
    return ((_title_scaling(found), found.points) for found in find_scaling_sets(rows))


def _title_scaling(found: ScalingSet) -> str:
    """Name the work of one process, and how it is dealt out: its batch kept, or its batch on each rank."""
    row = found.points[0]
    alone = row.job.model_copy(update={"world": 1, "scaling": None, "nodes": 1, "batch_size": found.base_batch})
    work = naming.work_label(alone)
    if found.scaling == "weak":
        work = work.replace(f"batch {found.base_batch}", f"{found.base_batch} a rank", 1)
    return f"{found.scaling}: {work} · on {plain(row.job.device)}{naming.format_protocol(row.protocol)}"


SCALING = TableSpec[Row](
    "scaling",
    "Scaling: one job on more than one device",
    (
        PROCESSOR,
        figure(
            "scaling",
            "scaling",
            1,
            lambda row: row.job.scaling or "one process",
            align="left",
            name="",
            further={"scaling": "job.scaling", "world": "job.world", "nodes": "job.nodes"},
        ),
        metric_column("step_seconds", 1),
        metric_column("images_per_second", 2),
        metric_column("scaling_speedup", 1),
        metric_column("scaling_efficiency", 1),
        metric_column("exchange_ratio", 1),
        METRICS_HERE,
        outcome_column(2),
    ),
    "blocks begin and end with all ranks, so a step is as long as on the slowest; images are those of all ranks together; scaled "
    "is images a second over those of one process with the fewest threads, paired by round where both ran in it; efficiency is "
    "that over the processors used (cores on a CPU); exchange is the share of a step that is gone in blocks without the exchange "
    "of gradients, timed in turn with blocks with it; memory is the rank's that took most; launch is the part of the cold start "
    "in which the ranks were started and met",
    notes=_failures,
    kind=_timed,
    arrange=_find_scaling,
)


def _measure_copies(row: Row) -> Row:
    """Give the row of copies with the middle and the slowest of them."""
    found = measure_spread(row)
    if found is None:
        return row.with_values(slowest_copy=units.NOT_AVAILABLE)
    return row.with_values(
        median_copy_seconds=found.median_seconds,
        slowest_copy=plain(found.slowest),
        slowest_over_median=found.slowest_over_median,
    )


COPIES = TableSpec[Row](
    "copies",
    "Copies: the same job on every device at once, to find the slow one",
    (
        *(PROCESSOR, precision_column(3), size_column(3)),
        figure("copies", "copies", 2, "job.copies", units.count),
        metric_column("median_copy_seconds", 1),
        metric_column("slowest_copy", 1),
        metric_column("slowest_over_median", 1),
        METRICS_HERE,
        outcome_column(2),
    ),
    "copies begin their timed steps together, each is timed by itself; the median is over the copies of a launch, the slowest is "
    "the one that is slowest over all launches; n counts launches; other tables show the slowest copy of each launch",
    group=title_work,
    order=lambda row: 0,
    notes=_failures,
    kind=_ended,
    select=lambda rows: (_measure_copies(row) for row in rows if row.job.copies > 1),
)


def title_target(row: Row) -> str:
    """Name the network and the target that rows of a group share."""
    return naming.target_label(row.job, row.protocol)


def order_target(row: Row) -> tuple[str, float]:
    """Those of one network and target together."""
    return row.job.workload, row.job.target or 0.0


def _mode(row: Row) -> Cell:
    return Cell(naming.variant_label(row.job), (), {"mode_precision": row.job.precision})


def _seeds(row: Row) -> Cell:
    """`7 of 8 (1 missed)`: of all processes planned, with how the others ended."""
    total = sum(row.outcomes.values())
    others = sorted(
        (each for each in row.outcomes.items() if each[0] != "ok"), key=lambda each: (each[0] == NOT_RUN, each[0])
    )
    raw: dict[str, Value] = {
        "seeds": total,
        "seeds_reached": row.ok,
        "seeds_missed": row.outcomes.get("missed", 0),
    }
    return Cell(f"{row.ok} of {total}", tuple(f"{n} {status}" for status, n in others), raw)


def _select_to_target(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if trains(row) and row.job.clock == "accuracy"]


def _list_intervals(rows: Sequence[Row]) -> dict[str, str]:
    """After how many steps rows to a target are evaluated."""
    texts = {units.count(row.job.evaluate_every) for row in _select_to_target(rows)}
    return {"every": " or ".join(sorted(texts, key=lambda text: (len(text), text)))}


TIME_TO_ACCURACY = TableSpec[Row](
    "tta",
    "Time to accuracy",
    (
        PROCESSOR,
        ColumnSpec("mode", "mode", 1, _mode, align="left"),
        figure("target", "target", 2, "job.target", units.exact_percent, name=""),
        ColumnSpec("seeds", "seeds that\nreached it", 1, _seeds, align="left"),
        METRICS_HERE,
        metric_column("step_seconds", 5),
    ),
    "first crossing: first batch drawn to the end of the first evaluation, on all test images, that reaches the target; "
    "evaluations every {every} steps counted, build and compile outside",
    group=title_target,
    order=order_target,
    notes=_failures,
    kind=_ended,
    select=_select_to_target,
    words=_list_intervals,
)


class SeedLine(NamedTuple):
    """One seed of a row."""

    row: Row
    seed: SeedResult


def _list_seeds(rows: Sequence[Row]) -> Iterator[SeedLine]:
    for row in _select_to_target(rows):
        yield from (SeedLine(row, seed) for seed in (row.time_to_accuracy.seed_results if row.time_to_accuracy else ()))


SEEDS = TableSpec[SeedLine](
    "seeds",
    "Time to accuracy, seed by seed",
    (
        PROCESSOR,
        ColumnSpec("mode", "mode", 1, lambda each: _mode(each.row), align="left"),
        figure("seed", "seed", 1, "seed.seed"),
        figure(
            "reached",
            "ended",
            1,
            "seed.reached",
            lambda reached: "reached" if reached else "missed",
            name="reached_target",
            align="left",
            further={"clock_seconds": "seed.clock_seconds"},
        ),
        figure("seconds", "time to\ntarget", 1, "seed.seconds", units.number, name="seconds_to_target", unit="s"),
        figure(
            "steps",
            "steps",
            2,
            "seed.steps",
            units.count,
            name="steps_to_target",
            further={"evaluations": "seed.evaluations"},
        ),
        figure("epochs", "epochs", 3, "seed.epochs", units.number, name="epochs_to_target"),
        figure(
            "last",
            "last\naccuracy",
            2,
            lambda each: each.seed.last.correct / each.seed.last.images,
            units.percent,
            name="last_accuracy",
            further={"last_correct": "seed.last.correct", "last_images": "seed.last.images"},
        ),
    ),
    "as above; a missed seed has no time, its steps and accuracy are those at its epoch limit",
    group=lambda each: title_target(each.row),
    order=lambda each: order_target(each.row),
    kind=lambda each: "measured" if each.seed.reached else "failed",
    rows=lambda each: (each.row,),
    folded=True,
    select=_list_seeds,
)
TABLES: tuple[TableSpec[Any], ...] = (*(RESOURCES, TIME_TO_ACCURACY, SEEDS, BOUNDS, LADDER, SCALING, COPIES, GEMM),)
"""In the order in which they are shown, behind the table of training."""
