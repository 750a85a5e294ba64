"""Which blocks count, and whether the two arms may be compared at all: rules declared before the first block.

*Blind exclusion.* The machine's counters, and a control loop that runs no code of either arm, drop whole blocks. The rule
sees no step time and treats the arms alike, so an exchange of the arms leaves every drop as it is: the signs of the d's
that remain are still fair coins under the hypothesis, and the test stays exact. A machine that loses more than 30 % of
its blocks is unfit for measuring.

*Equal work.* Both arms must have done the same: a speed-up from doing less must not pass. Counts are held exactly, the
first losses within the precision's tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench import units
from cnnbench.paired_protocol import WorkDone
from cnnbench.schema import Precision

MAX_DROPPED_SHARE = 0.3
"""Of all blocks measured."""
LOSSES_COMPARED = 5
"""First losses that must agree: same weights and batches, dropout off."""
LOSS_TOLERANCE: dict[Precision, float] = {"fp32": 5e-3, "tf32": 1e-2, "fp16": 1e-2, "bf16": 3e-2}
"""Relative, over the first five steps of mnist-cnn. Measured on an AMD EPYC (Zen 4) with torch 2.13 and RMSprop, whose
first steps are large and amplify rounding: other float32 kernels (oneDNN off) moved a loss by up to 2.0e-3, bfloat16
against float32 by up to 1.2e-2, other weights by 1e-1. tf32 and fp16 round to 10 bits of mantissa where bf16 has 7."""


COUNTS = {
    **{"images": "images", "batches": "batches", "parameters": "parameters"},
    **{"model FLOPs": "flops", "optimiser steps": "optimizer_steps"},
}
"""What both arms must have the same number of, and the field that counts it."""


@dataclass(frozen=True)
class BlockState:
    """The machine during one block, both arms together: growth of its counters over `wall_seconds`; None where unknown.

    `control_log_ratio` is the log of the control loop's time beside head over beside base.
    """

    wall_seconds: float
    steal_seconds: float | None = None
    cpu_pressure_seconds: float | None = None
    cgroup_throttled_seconds: float | None = None
    device_throttled: bool | None = None
    device_other_processes: int | None = None
    control_log_ratio: float | None = None


@dataclass(frozen=True)
class DropLimits:
    """Shares of a block's time above which it is dropped, those at which a result is doubted (`analysis.doubts`).

    On an idle 2-core virtual machine steal was 0.1 % and pressure 0.5 %. Steal is a share of all cores' time.
    `control_band` is calibrated: how far from 0 the control loop's log ratio may be in one block; None where there is none.
    """

    cores: int
    steal_share: float = 0.01
    pressure_share: float = 0.05
    throttled_share: float = 0.01
    control_band: float | None = None


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
    tolerance = max(LOSS_TOLERANCE[base.precision], LOSS_TOLERANCE[head.precision])
    if base.first_losses is None and head.first_losses is None:
        return []
    losses = [(work.first_losses or ())[:LOSSES_COMPARED] for work in (base, head)]
    if any(len(each) < LOSSES_COMPARED for each in losses):
        return [
            f"first losses: head has {len(losses[1])}, base {len(losses[0])}; {LOSSES_COMPARED} of each are compared"
        ]
    found = [
        f"loss of step {step}: head {ours:.6g}, base {its:.6g}, more than {tolerance:g} apart"
        for step, (its, ours) in enumerate(zip(*losses, strict=True), start=1)
        if not _is_close(ours, its, tolerance)
    ]
    if final_loss_band is None:
        return found
    if base.final_loss is None or head.final_loss is None:
        return [*found, "final loss: unknown for at least one arm"]
    if not _is_close(head.final_loss, base.final_loss, final_loss_band):
        found.append(
            f"final loss: head {head.final_loss:.6g}, base {base.final_loss:.6g}, outside the calibrated spread"
        )
    return found


def _is_close(one: float, other: float, tolerance: float) -> bool:
    """Within a share of the larger; a loss that is not finite is close to nothing."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return False
    return abs(one - other) <= tolerance * max(abs(one), abs(other))
