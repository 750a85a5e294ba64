"""The ladder: rows of one run that do the same work on the same device and differ only in how a step is computed.

Enter the rows of a comparison; leave ladders, each a list of rungs in a fixed order: division (reference, tuned), then
precision (fp32, tf32, bf16, fp16), layout (nchw, nhwc), execution (eager, compiled), loader (resident, dataloader), loader
workers. So the reference division's plain float32 step is the first where it was measured. Everywhere else rows of
different precision are never divided; here that is the point, and the table says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnbench.analysis.ratio import divide_rows, group_by, share_all_but
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import Estimate
from cnnbench.schema import Job
from cnnbench.schema.axes import list_choices, list_fields

ORDER: Mapping[str, tuple[str, ...]] = {name: list_choices(Job, name) for name in list_fields(Job, "compute")}
"""What a rung may differ in, each with its values in order; loader workers, which are any number, fewest first."""
LEAST_VARIANTS = 2


@dataclass(frozen=True)
class LadderVariant:
    """One way of computing the step. Ratios are of times, above 1 where this rung is faster; None for the first, and for one
    that was not measured.
    """

    row: Row
    speedup_over_previous: Estimate | None = None
    """The measured rung before, its time over this one's."""
    speedup_over_first: Estimate | None = None


def find_ladders(rows: Sequence[Row]) -> tuple[tuple[LadderVariant, ...], ...]:
    """Every ladder with at least two measured rungs, in an order that does not depend on the rows'; GEMMs have none.

    A row that did not end well is a rung without a time: what a device cannot do is part of the picture.
    """
    sets = group_by((row for row in rows if row.job.workload != "gemm"), _ladder_key)
    found = [_compare_variants(sorted(members, key=_ladder_position)) for _, members in sorted(sets.items())]
    return tuple(rungs for rungs in found if sum(bool(rung.row.costs) for rung in rungs) >= LEAST_VARIANTS)


def _ladder_key(row: Row) -> tuple[str, ...]:
    """What all rungs of a ladder share: run, protocol, and the job but for how its step is computed."""
    workload, *others = share_all_but(row, ORDER)
    return (workload, f"{row.job.batch_size:09}", *others)


def _ladder_position(row: Row) -> tuple[int, ...]:
    values = ((getattr(row.job, name), choices) for name, choices in ORDER.items())
    return tuple(choices.index(value) if choices else value for value, choices in values)


def _compare_variants(rows: Sequence[Row]) -> tuple[LadderVariant, ...]:
    found: list[LadderVariant] = []
    measured: list[Row] = []
    for row in rows:
        before = measured[-1:] + measured[:1] if row.costs else []
        found.append(LadderVariant(row, *(divide_rows(base, row) for base in before)))
        measured += [row] if row.costs else []
    return tuple(found)
