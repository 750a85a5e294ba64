"""The ladder: rows of one run that do the same work on the same device and differ only in how a step is computed.

Enter the rows of a comparison; leave ladders, each a list of rungs in a fixed order: division (reference, tuned), then
precision (fp32, tf32, bf16, fp16), layout (nchw, nhwc), execution (eager, compiled), loader (resident, dataloader), loader
workers. So the reference division's plain float32 step is the first where it was measured. Everywhere else rows of
different precision are never divided; here that is the point, and the table says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnbench.analysis.ratio import divide_rows, group_by, share_all_but
from cnnbench.analysis.rows import Row
from cnnbench.schema import Job
from cnnbench.schema.axes import list_choices, list_fields

ORDER: Mapping[str, tuple[str, ...]] = {name: list_choices(Job, name) for name in list_fields(Job, "compute")}
"""What a rung may differ in, each with its values in order; loader workers, which are any number, fewest first."""
LEAST_VARIANTS = 2


def find_ladders(rows: Sequence[Row]) -> tuple[tuple[Row, ...], ...]:
    """Every ladder with at least two measured rungs, in an order that does not depend on the rows'; GEMMs have none.

    Rungs are rows with `speed_over_rung_before` and `speed_over_first_rung`. A row that did not end well is a rung without a
    time: what a device cannot do is part of the picture.
    """
    sets = group_by((row for row in rows if row.job.workload != "gemm"), _ladder_key)
    found = [_compare_rungs(sorted(members, key=_ladder_position)) for _, members in sorted(sets.items())]
    return tuple(rungs for rungs in found if sum(bool(rung.costs) for rung in rungs) >= LEAST_VARIANTS)


def _ladder_key(row: Row) -> tuple[str, ...]:
    """What all rungs of a ladder share: run, protocol, and the job but for how its step is computed."""
    workload, *others = share_all_but(row, ORDER)
    return (workload, f"{row.job.batch_size:09}", *others)


def _ladder_position(row: Row) -> tuple[int, ...]:
    values = ((getattr(row.job, name), choices) for name, choices in ORDER.items())
    return tuple(choices.index(value) if choices else value for value, choices in values)


def _compare_rungs(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Add the time of the measured rung before, and of the first one, over each row's own; None where either has none."""
    found: list[Row] = []
    measured: list[Row] = []
    for row in rows:
        bases: Sequence[Row] = (measured[-1], measured[0]) if measured else ()
        before, first = [divide_rows(base, row) for base in bases] or (None, None)
        found.append(row.with_values(speed_over_rung_before=before, speed_over_first_rung=first))
        measured += [row] if row.costs else []
    return tuple(found)
