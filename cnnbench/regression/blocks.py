"""Prepares raw blocks for the statistics: d of each job and metric, which blocks count, and whether both arms did the
same.

*Differences.* In lock-step turns d of a round is the log ratio of the two turns' median steps, and d of the block the
median over its rounds: a drift slower than a round cancels. If the arms ran one after the other, rounds do not belong
together, and d is the log ratio of the two arms' medians over rounds. The second metric is the ratio of mean steps,
which shows stalls.

*Blind exclusion.* The machine's counters, and a control loop that runs no code of either arm, drop whole blocks. The
rule sees no step time and treats the arms alike, so exchanging the arms changes no drop: the signs of the d's that
remain are still fair coins under the hypothesis, and the test stays exact. A machine that loses more than 30 % of its
blocks is unfit for measuring. All rules are declared before the first block.

*Equal work.* Both arms must have done the same: a speed-up from doing less must not pass. Counts must be equal, the
first losses within the precision's tolerance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import chain

from cnnbench import units
from cnnbench.devices.nvml import SLOWED
from cnnbench.errors import ComparisonError
from cnnbench.paired_protocol import ARMS, JobRun, PairRecord, Schedule, Span, WorkDone
from cnnbench.regression.check_record import CheckHeader, DropLimits
from cnnbench.regression.decision import STEP_METRIC, MetricSeries, compute_log_ratio
from cnnbench.schema import Precision

LOSSES_COMPARED = 5
"""The number of first losses that must agree: same weights and batches, dropout off."""
LOSS_TOLERANCE: dict[Precision, float] = {"fp32": 5e-3, "tf32": 1e-2, "fp16": 1e-2, "bf16": 3e-2}
"""Relative, over the first five steps of mnist-cnn. Measured on an AMD EPYC (Zen 4) with torch 2.13 and RMSprop, whose
first steps are large and amplify rounding: other float32 kernels (oneDNN off) changed a loss by up to 2.0e-3, bfloat16
instead of float32 by up to 1.2e-2, other weights by 1e-1. tf32 and fp16 round to 10 bits of mantissa, bf16 to 7.
"""


COUNTS = {
    "images": "images",
    "batches": "batches",
    "parameters": "parameters",
    "model FLOPs": "flops",
    "optimiser steps": "optimizer_steps",
}
"""The quantities that must be equal in both arms, each with the field that counts it."""
FIELDS_WAIVED_BY_SETTING = {
    "precision": "precision",
    "layout": "",
    "optimizer": "first_losses final_loss",
    "init": "first_losses final_loss",
    "order": "order_digest first_losses final_loss",
    "loader": "order_digest first_losses final_loss",
    "loader_workers": "order_digest first_losses final_loss",
    "extra_forwards": "flops first_losses final_loss",
    "threads": "final_loss",
    "allocator": "",
}
"""Settings that may differ between the arms, each with the fields of the work that it changes and that are not
compared.
"""


def compute_round_ratios(head: Sequence[float], base: Sequence[float]) -> list[float]:
    """Compute d of each round, from the seconds of the two turns in it."""
    return [compute_log_ratio(*pair) for pair in zip(head, base, strict=True)]


def _reduce_rounds(head: Sequence[float], base: Sequence[float], mode: Schedule) -> float:
    """Compute d of a block, from the seconds of each of its turns."""
    if mode == "turns":
        return statistics.median(compute_round_ratios(head, base))
    return compute_log_ratio(statistics.median(head), statistics.median(base))


def median_ratio(base: JobRun, head: JobRun, mode: Schedule) -> float:
    """Compute d of a block by medians."""
    return _reduce_rounds(head.turn_seconds, base.turn_seconds, mode)


def mean_ratio(base: JobRun, head: JobRun) -> float:
    """Compute d of a block by the mean over all kept steps."""
    return compute_log_ratio(*(statistics.fmean(chain.from_iterable(run.step_seconds)) for run in (head, base)))


def control_ratio(base: JobRun, head: JobRun, mode: Schedule) -> float:
    """Compute the log ratio of the control loop beside head over beside base, in the same way as d of the steps."""
    return _reduce_rounds(head.control_seconds, base.control_seconds, mode)


def compute_differences(
    header: CheckHeader, blocks: Sequence[PairRecord], jobs: Sequence[int]
) -> dict[MetricSeries, list[float]]:
    """Compute d of each of these blocks, in order, by series; each block has all of the jobs.

    The requested metric is gated.
    """
    found = {}
    for job in jobs:
        name, pairs = header.names[job], [(block.base[job], block.head[job]) for block in blocks]
        medians = [median_ratio(*pair, header.mode) for pair in pairs]
        found[MetricSeries(name, STEP_METRIC, header.metric == "median")] = medians
        found[MetricSeries(name, "mean step", header.metric == "mean")] = [mean_ratio(*pair) for pair in pairs]
    return found


def control_ratios_by_job(header: CheckHeader, blocks: Sequence[PairRecord]) -> dict[str, list[float]]:
    """Compute the control's log ratios of every block that did not fail, by the name of the job beside whose steps it
    ran.
    """
    return {
        header.names[job]: [
            control_ratio(each.base[job], each.head[job], header.mode) for each in blocks if job in each.base
        ]
        for job in sorted({job for block in blocks for job in block.base})
    }


def explain_drop(header: CheckHeader, block: PairRecord) -> str | None:
    """Explain why a block that did not fail is dropped by the check's rule; None if it counts."""
    if header.limits is None:
        return None
    spans = [block.spans[name] for name in (("both",) if header.mode == "turns" else ARMS)]
    control = statistics.median(control_ratio(block.base[job], block.head[job], header.mode) for job in block.base)
    return reason_to_drop(spans, control, header.limits)


def reason_to_drop(spans: Sequence[Span], control: float, limits: DropLimits) -> str | None:
    """Explain why the machine's state drops a block; None if it does not.

    Unknown values drop nothing. `spans` are those of both arms together, so that neither alone can drop it: exchanging
    the arms changes nothing. `control` is the log of the control loop's time beside head over beside base.
    """
    wall = sum(span.wall_seconds for span in spans)
    for before, after, counter, whole, most in (
        ("other guests took", "of the CPU time", "steal_seconds", wall * limits.cores, limits.steal_share),
        ("threads waited for a core", "of the time", "cpu_pressure_seconds", wall, limits.pressure_share),
        ("the CPU quota stopped threads", "of the time", "cgroup_throttled_seconds", wall, limits.throttled_share),
    ):
        ends = [(getattr(span.before, counter), getattr(span.after, counter)) for span in spans]
        seconds = 0.0 if any(None in each for each in ends) else math.fsum(max(0.0, end - start) for start, end in ends)
        if seconds > most * whole:
            return f"{before} {units.percent(seconds / whole, 1)} {after}, allowed are {units.percent(most, 1)}"
    readings = [reading for span in spans for reading in (span.before, span.after)]
    if any(SLOWED & set(reading.device_throttle_reasons or ()) for reading in readings):
        return "the device lowered its clock"
    # The check's own processes, both in one span or one in each, may be on the device at the start and are at the end.
    others = max(reading.device_other_processes or 0 for reading in readings) - (2 if len(spans) == 1 else 1)
    if others > 0:
        return f"{others} other processes used the device"
    if limits.control_band is not None and abs(control) > limits.control_band:
        apart, most_apart = (units.percent(math.expm1(abs(value)), 1) for value in (control, limits.control_band))
        return f"the control loop differed by {apart} between the arms, allowed are {most_apart}"
    return None


def require_equal_work(header: CheckHeader, block: PairRecord) -> None:
    """Check that the arms did the same work, except for what was declared different.

    Raises ComparisonError otherwise.
    """
    waived = {name for key in header.declared for name in FIELDS_WAIVED_BY_SETTING[key].split()}
    for job in sorted(block.base):
        base, head = block.base[job].work, block.head[job].work
        head = head.model_copy(update={name: getattr(base, name) for name in waived})
        if found := find_unequal_work(base, head, header.final_loss_bands.get(job)):
            raise ComparisonError(f"{header.names[job]}: the arms did not do the same work: {'; '.join(found)}")


def find_unequal_work(base: WorkDone, head: WorkDone, final_loss_band: float | None = None) -> tuple[str, ...]:
    """List everything in which the arms did not do the same work, one line each.

    Empty if they did. `final_loss_band` is the calibrated largest relative difference of two final losses of one
    revision; None skips that comparison.
    """
    found = [
        f"{name}: head {units.count(ours)}, base {units.count(its)}"
        for name, field in COUNTS.items()
        if (its := getattr(base, field)) != (ours := getattr(head, field))
    ]
    if base.order_digest != head.order_digest:
        found.append("the batches came in another order, or were others")
    if base.precision != head.precision:
        found.append(f"precision: head {head.precision}, base {base.precision}")
    return (*found, *_find_unequal_losses(base, head, final_loss_band))


def _find_unequal_losses(base: WorkDone, head: WorkDone, final_loss_band: float | None) -> list[str]:
    if base.first_losses is None and head.first_losses is None:
        return []
    its_losses, our_losses = ((work.first_losses or ())[:LOSSES_COMPARED] for work in (base, head))
    if min(len(its_losses), len(our_losses)) < LOSSES_COMPARED:
        found = f"head has {len(our_losses)}, base {len(its_losses)}"
        return [f"first losses: {found}; {LOSSES_COMPARED} of each are compared"]
    tolerance = max(LOSS_TOLERANCE[base.precision], LOSS_TOLERANCE[head.precision])
    lines = [
        f"loss of step {step}: head {ours:.6g}, base {its:.6g}, more than {tolerance:g} apart"
        for step, (its, ours) in enumerate(zip(its_losses, our_losses, strict=True), start=1)
        if not _is_close(ours, its, tolerance)
    ]
    if final_loss_band is None:
        return lines
    its, ours = base.final_loss, head.final_loss
    if its is None or ours is None:
        lines.append("final loss: unknown for at least one arm")
    elif not _is_close(ours, its, final_loss_band):
        lines.append(f"final loss: head {ours:.6g}, base {its:.6g}, outside the calibrated spread")
    return lines


def _is_close(one: float, other: float, tolerance: float) -> bool:
    """Check that two losses differ by at most a share of the larger.

    A loss that is not finite is close to nothing.
    """
    return math.isfinite(one) and math.isclose(one, other, rel_tol=tolerance)
