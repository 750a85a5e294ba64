"""From raw blocks to what the statistics take: d of each job and metric, which blocks count, and whether both arms did the same.

*Differences.* In lock-step turns d of a round is the log ratio of the two turns' median steps, and d of the block the median
over its rounds: a drift slower than a round cancels. Where the arms ran one after the other, rounds do not belong together, and
d is the log ratio of the two arms' medians over rounds. The second metric is the ratio of mean steps, so that stalls show.

*Blind exclusion.* The machine's counters, and a control loop that runs no code of either arm, drop whole blocks. The rule
sees no step time and treats the arms alike, so an exchange of the arms leaves every drop as it is: the signs of the d's
that remain are still fair coins under the hypothesis, and the test stays exact. A machine that loses more than 30 % of
its blocks is unfit for measuring. All rules are declared before the first block.

*Equal work.* Both arms must have done the same: a speed-up from doing less must not pass. Counts are held exactly, the
first losses within the precision's tolerance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench import units
from cnnbench.devices.nvml import SLOWED
from cnnbench.errors import ComparisonError
from cnnbench.paired_protocol import ARMS, JobRun, PairRecord, Schedule, Span, WorkDone
from cnnbench.regression.check_record import CheckHeader, DropLimits
from cnnbench.regression.decision import STEP_METRIC, MetricSeries, compute_log_ratio
from cnnbench.schema import Precision

MEAN_METRIC = "mean step"
MAX_DROPPED_SHARE = 0.3
"""Of all blocks measured."""
LOSSES_COMPARED = 5
"""First losses that must agree: same weights and batches, dropout off."""
LOSS_TOLERANCE: dict[Precision, float] = {"fp32": 5e-3, "tf32": 1e-2, "fp16": 1e-2, "bf16": 3e-2}
"""Relative, over the first five steps of mnist-cnn. Measured on an AMD EPYC (Zen 4) with torch 2.13 and RMSprop, whose
first steps are large and amplify rounding: other float32 kernels (oneDNN off) moved a loss by up to 2.0e-3, bfloat16
against float32 by up to 1.2e-2, other weights by 1e-1. tf32 and fp16 round to 10 bits of mantissa where bf16 has 7."""


COUNTS = {
    "images": "images",
    "batches": "batches",
    "parameters": "parameters",
    "model FLOPs": "flops",
    "optimiser steps": "optimizer_steps",
}
"""What both arms must have the same number of, and the field that counts it."""
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
"""Settings that the arms may differ in, and what of the work is then not compared, since it follows from the setting."""


def compute_round_ratios(head: Sequence[float], base: Sequence[float]) -> list[float]:
    """d of each round, from the seconds of the two turns in it."""
    return [compute_log_ratio(*pair) for pair in zip(head, base, strict=True)]


def _reduce_rounds(head: Sequence[float], base: Sequence[float], mode: Schedule) -> float:
    """d of a block, from the seconds of each of its turns."""
    if mode == "turns":
        return statistics.median(compute_round_ratios(head, base))
    return compute_log_ratio(statistics.median(head), statistics.median(base))


def median_ratio(base: JobRun, head: JobRun, mode: Schedule) -> float:
    """d of a block by medians."""
    return _reduce_rounds(head.turn_seconds, base.turn_seconds, mode)


def mean_ratio(base: JobRun, head: JobRun) -> float:
    """d of a block by the mean over all kept steps."""
    ours, its = (statistics.fmean(second for turn in run.step_seconds for second in turn) for run in (head, base))
    return compute_log_ratio(ours, its)


def control_ratio(base: JobRun, head: JobRun, mode: Schedule) -> float:
    """Log ratio of the control loop beside head over beside base, as d is made of the steps."""
    return _reduce_rounds(head.control_seconds, base.control_seconds, mode)


def compute_differences(
    header: CheckHeader, blocks: Sequence[PairRecord], jobs: Sequence[int]
) -> dict[MetricSeries, list[float]]:
    """d of every one of these blocks, in order, by series; each block has all of the jobs. The metric asked for is gated."""
    found = {}
    for job in jobs:
        pairs = [(block.base[job], block.head[job]) for block in blocks]
        medians, means = [median_ratio(*pair, header.mode) for pair in pairs], [mean_ratio(*pair) for pair in pairs]
        for metric, asked_for, d in ((STEP_METRIC, "median", medians), (MEAN_METRIC, "mean", means)):
            found[MetricSeries(header.names[job], metric, header.metric == asked_for)] = d
    return found


def control_ratios_by_job(header: CheckHeader, blocks: Sequence[PairRecord]) -> dict[str, list[float]]:
    """The control's log ratios of every block that did not fail, by the name of the job beside whose steps it ran."""
    found: dict[str, list[float]] = {}
    for block in blocks:
        for job in sorted(block.base):
            ratio = control_ratio(block.base[job], block.head[job], header.mode)
            found.setdefault(header.names[job], []).append(ratio)
    return found


@dataclass(frozen=True)
class BlockState:
    """The machine during one block, both arms together: growth of its counters over `wall_seconds`; None where unknown.

    `control_log_ratio` is the log of the control loop's time beside head over beside base. A device of which nothing is known
    is taken for undisturbed.
    """

    wall_seconds: float
    steal_seconds: float | None = None
    cpu_pressure_seconds: float | None = None
    cgroup_throttled_seconds: float | None = None
    device_throttled: bool = False
    device_other_processes: int = 0
    control_log_ratio: float | None = None


def explain_drop(header: CheckHeader, block: PairRecord) -> str | None:
    """Why a block that did not fail does not count by the check's rule, or None."""
    return None if header.limits is None else reason_to_drop(read_block_state(header, block), header.limits)


def read_block_state(header: CheckHeader, block: PairRecord) -> BlockState:
    """The machine during a block: both arms' spans together, so that neither alone can drop it."""
    # The check's own processes may be on the device at the start and are at the end.
    names, ours = (("both",), 2) if header.mode == "turns" else (ARMS, 1)
    spans = [block.spans[name] for name in names]
    readings = [reading for span in spans for reading in (span.before, span.after)]
    return BlockState(
        wall_seconds=sum(span.wall_seconds for span in spans),
        steal_seconds=_sum_growth(spans, "steal_seconds"),
        cpu_pressure_seconds=_sum_growth(spans, "cpu_pressure_seconds"),
        cgroup_throttled_seconds=_sum_growth(spans, "cgroup_throttled_seconds"),
        device_throttled=any(SLOWED & set(reading.device_throttle_reasons or ()) for reading in readings),
        device_other_processes=max(0, max(reading.device_other_processes or 0 for reading in readings) - ours),
        control_log_ratio=statistics.median(
            control_ratio(block.base[job], block.head[job], header.mode) for job in block.base
        ),
    )


def _sum_growth(spans: Sequence[Span], counter: str) -> float | None:
    """Seconds by which a counter grew in all spans together; None where one of the readings is unknown."""
    ends = [(getattr(span.before, counter), getattr(span.after, counter)) for span in spans]
    if any(None in each for each in ends):
        return None
    return math.fsum(max(0.0, after - before) for before, after in ends)


def reason_to_drop(block: BlockState, limits: DropLimits) -> str | None:
    """Why this block does not count, or None. The same for the arms exchanged; what is unknown drops nothing."""
    wall = block.wall_seconds
    shares = (
        ("other guests took", "of the CPU time", block.steal_seconds, wall * limits.cores, limits.steal_share),
        ("threads waited for a core", "of the time", block.cpu_pressure_seconds, wall, limits.pressure_share),
        ("the CPU quota stopped threads", "of the time", block.cgroup_throttled_seconds, wall, limits.throttled_share),
    )
    for before, after, seconds, whole, most in shares:
        if seconds is not None and seconds > most * whole:
            return f"{before} {units.percent(seconds / whole, 1)} {after}, allowed are {units.percent(most, 1)}"
    if block.device_throttled:
        return "the device lowered its clock"
    if block.device_other_processes:
        return f"{block.device_other_processes} other processes used the device"
    control, band = block.control_log_ratio, limits.control_band
    if control is not None and band is not None and abs(control) > band:
        apart, most_apart = (units.percent(math.expm1(abs(value)), 1) for value in (control, band))
        return f"the control loop differed by {apart} between the arms, allowed are {most_apart}"
    return None


def reason_unfit(dropped: Sequence[str], kept: int, planned_blocks: int) -> str | None:
    """Why the machine is unfit: more than 30 % of its blocks do not count, even if all to come up to the plan's end do.

    `dropped` are the reasons of those that do not, `kept` is how many do.
    """
    least_measured = len(dropped) + max(planned_blocks, kept)
    if len(dropped) <= MAX_DROPPED_SHARE * least_measured:
        return None
    share = units.percent(MAX_DROPPED_SHARE, 0)
    return f"{len(dropped)} blocks were dropped, more than {share} of {least_measured}; the last: {dropped[-1]}"


def require_equal_work(header: CheckHeader, block: PairRecord) -> None:
    """Raises ComparisonError where the arms did not do the same work, less what was declared different."""
    waived = {name for key in header.declared for name in FIELDS_WAIVED_BY_SETTING[key].split()}
    for job in sorted(block.base):
        base, head = block.base[job].work, block.head[job].work
        head = head.model_copy(update={name: getattr(base, name) for name in waived})
        if found := find_unequal_work(base, head, header.final_loss_bands.get(job)):
            raise ComparisonError(f"{header.names[job]}: the arms did not do the same work: {'; '.join(found)}")


def find_unequal_work(base: WorkDone, head: WorkDone, final_loss_band: float | None = None) -> tuple[str, ...]:
    """Everything in which the arms did not do the same work, one line each; empty where they did.

    `final_loss_band` is calibrated, the largest relative difference of two final losses of one revision; None: not held.
    """
    counts = ((name, getattr(base, field), getattr(head, field)) for name, field in COUNTS.items())
    found = [f"{name}: head {units.count(ours)}, base {units.count(its)}" for name, its, ours in counts if its != ours]
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
    """Within a share of the larger; a loss that is not finite is close to nothing."""
    return math.isfinite(one) and math.isclose(one, other, rel_tol=tolerance)
