"""The sequential plan: after how many blocks to look, how strictly, and what the plan can see.

A plan (the defaults are the check's) and differences d = log(head / base) go in; the result of one look comes out. All
functions take many series at once, blocks along the last axis, so that a live check and a simulation of 20,000 checks
run the same lines.

Two tests look at d: the signed-rank test on its middle, and the sign-flip test on its mean, which a few slow processes
raise. At a look with n blocks a series *passes* where the one-sided 97.5 % upper bounds of both are below
log(1 + tolerance), is *improved* where besides that of the first is below -log(1 + tolerance), and *suspect* where one
of them is above log(1 + tolerance), not merely above 0, at its level of that look. A suspicion is confirmed or not by
fresh blocks. A false alarm needs both, and they are independent: at most the looks' joint levels summed, times the
joint level of the confirmation, for each series.

Up to 8 blocks the two tests reject on the same data, so only later looks and the confirmation divide their level. They
are exact for unchanged code, whose d has a fair random sign whatever the noise. For changed code they assume one
constant log ratio, independent blocks and symmetric noise. Then the bounds of each look hold in 97.5 %, those of all four
in about 95 %: a slowdown of exactly the tolerance passes in about 5 % of checks of one job, and ends inconclusive in
nearly all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from cnnbench.errors import UsageError
from cnnbench.regression.sign_flip import critical_count, is_mean_above, joint_level
from cnnbench.regression.signed_rank import BoolArray, Float64Array, IndexArray, critical_value, walsh_averages


class Look(NamedTuple):
    """One look at the first `blocks` blocks; without a level for suspicion it can only pass."""

    blocks: int
    suspect_alpha: float | None = None
    mean_alpha: float | None = None
    """The level of the test on the mean; None for only the signed-rank test."""


LOOKS = (Look(6), Look(8, 0.004), Look(12, 0.0018, 0.0018), Look(16, 0.0014, 0.00158))
"""W- may be 0, 4 and 13, and of the subsets 7 at 12 blocks and 103 at 16 may have a low sum. The joint levels are 1/256,
10/4096 and 169/65536, below 0.01 in all. 6 blocks could not reach 0.004, since 2^-6 is 0.016."""
SHIPPED_EXCESS = {8: 1.9482421875, 12: 1.5185546875, 16: 1.38671875}
"""`compute_detectable_excess` of the plan as it ships, cut after the look at that many blocks. Simulating it takes half a
second in every process, more than the decision itself. `test_decision` checks the figures against the simulation."""
MAX_TOLERANCE = 1.0
"""A slowdown by a factor of 2: anyone who tolerates more needs no statistics."""


@dataclass(frozen=True)
class CheckPlan:
    """What was decided before the first block: `tolerance` as a fraction of base's time, levels, looks."""

    tolerance: float = 0.05
    looks: tuple[Look, ...] = LOOKS
    pass_alpha: float = 0.025
    confirm_blocks: int = 10
    confirm_alpha: float = 0.005
    """W- of 10 fresh blocks is at most 3."""
    confirm_mean_alpha: float | None = 0.006
    """At most 6 subsets of them have a low sum. The joint level is 7 of 1024 sign vectors, 0.0068."""
    mean_passes: bool = True
    """Whether a PASS needs the upper bound of the mean below the tolerance too; False in records of version 1."""
    min_blocks: int = 0
    """A PASS needs at least as many blocks."""
    power: float = 0.8
    """The power at which an effect counts as detectable."""

    @property
    def log_tolerance(self) -> float:
        """log(1 + tolerance), which d is compared with.

        Faster is measured by the same factor, so the arms may be swapped.
        """
        return math.log1p(self.tolerance)

    @property
    def max_blocks(self) -> int:
        """The blocks of the last look."""
        return self.looks[-1].blocks

    def false_alarm_bound(self, series: int) -> float:
        """Bound the share of checks with that many gated series that raise a false alarm.

        A false alarm is a REGRESSED of unchanged code. The bound is the sum of the attained joint levels (not the
        nominal ones), by Bonferroni over looks and series, and holds for any noise.
        """
        tests = (*self.looks, Look(self.confirm_blocks, self.confirm_alpha, self.confirm_mean_alpha))
        levels = [
            joint_level(n, critical_value(n, alpha), critical_count(n, mean_alpha or 0.0))
            for n, alpha, mean_alpha in tests
            if alpha is not None
        ]
        return series * sum(levels[:-1]) * levels[-1]


class LookFlags(NamedTuple):
    """The result of one look for each series; a series never passes and suspects at once."""

    passes: BoolArray
    improves: BoolArray
    suspects: BoolArray
    tails: BoolArray
    """Passes but for the mean: a tail of slow blocks, too few to tell chance from head."""


class ScreenedChecks(NamedTuple):
    """How the screening of many checks ended; shapes (checks,), suspects (checks, series)."""

    blocks: IndexArray
    passed: BoolArray
    suspects: BoolArray


def make_check_plan(tolerance: float, max_blocks: int | None = None, min_blocks: int | None = None) -> CheckPlan:
    """Make the check's plan for a tolerance (a fraction), without the looks after `max_blocks` blocks.

    The levels do not change, so a plan cut short detects less but errs no more often. A PASS needs `min_blocks`. Raises
    UsageError.
    """
    if not 0 < tolerance <= MAX_TOLERANCE:
        raise UsageError(f"tolerance {tolerance:g} is not above 0 and at most {MAX_TOLERANCE:g}: 0.05 is 5 %")
    looks = tuple(look for look in LOOKS if max_blocks is None or look.blocks <= max_blocks)
    if not looks:
        raise UsageError(f"at most {max_blocks} blocks: the first look needs {LOOKS[0].blocks}, give at least as many")
    if min_blocks is not None and min_blocks > looks[-1].blocks:
        raise UsageError(
            f"a PASS of at least {min_blocks} blocks: the last look is after {looks[-1].blocks}; give fewer"
        )
    return CheckPlan(tolerance=tolerance, looks=looks, min_blocks=min_blocks or 0)


def evaluate_look(log_ratios: Float64Array, look: Look, plan: CheckPlan) -> LookFlags:
    """Evaluate this look at d, shape (..., at least look.blocks).

    Blocks after the look are not read.
    """
    seen, limit = log_ratios[..., : look.blocks], plan.log_tolerance
    averages = walsh_averages(seen)
    middle = _is_significant(averages >= limit, look.blocks, plan.pass_alpha)
    passes, suspects = middle, _is_significant(averages <= limit, look.blocks, look.suspect_alpha)
    if plan.mean_passes:
        passes = middle.copy()
        passes[middle] = is_mean_above(-seen[middle], -limit, plan.pass_alpha)
    tails = middle & ~passes
    if look.mean_alpha is not None:
        suspects[~suspects] = is_mean_above(seen[~suspects], limit, look.mean_alpha)
    if look.blocks < plan.min_blocks:
        passes = np.zeros_like(passes)
    improves = passes & _is_significant(averages >= -limit, look.blocks, plan.pass_alpha)
    return LookFlags(passes, improves, suspects, tails)


def confirm_slowdown(log_ratios: Float64Array, plan: CheckPlan) -> BoolArray:
    """Test whether fresh blocks, shape (..., at least plan.confirm_blocks), are above the tolerance too."""
    fresh = log_ratios[..., : plan.confirm_blocks]
    holds = _is_significant(walsh_averages(fresh) <= plan.log_tolerance, plan.confirm_blocks, plan.confirm_alpha)
    if plan.confirm_mean_alpha is not None:
        holds |= is_mean_above(fresh, plan.log_tolerance, plan.confirm_mean_alpha)
    return holds


def screen_checks(log_ratios: Float64Array, plan: CheckPlan) -> ScreenedChecks:
    """Screen many checks at once: d has the shape (checks, series, plan.max_blocks).

    A check ends at the first look where a series is suspect or all series pass.
    """
    checks = len(log_ratios)
    ended = ScreenedChecks(
        np.full(checks, plan.max_blocks, dtype=np.intp),
        np.zeros(checks, dtype=bool),
        np.zeros(log_ratios.shape[:-1], dtype=bool),
    )
    going = np.arange(checks)
    for look in plan.looks:
        flags = evaluate_look(log_ratios[going], look, plan)
        passes = flags.passes.all(axis=-1)
        stops = passes | flags.suspects.any(axis=-1)
        ended.blocks[going[stops]] = look.blocks
        ended.passed[going] = passes
        ended.suspects[going] = flags.suspects
        going = going[~stops]
    return ended


def append_mean(log_ratios: Float64Array) -> Float64Array:
    """Append the geometric mean of several jobs to d of shape (checks, jobs, blocks).

    One job stays as it is.
    """
    if log_ratios.shape[1] == 1:
        return log_ratios
    return np.concatenate([log_ratios, log_ratios.mean(axis=1, keepdims=True)], axis=1)


def compute_detectable_effect(spread: float, plan: CheckPlan) -> float | None:
    """Compute the minimum detectable effect, a log ratio: the slowdown found REGRESSED with probability `plan.power`.

    For normal d of standard deviation `spread`: log(1 + tolerance) + z x spread, where z depends on the plan alone
    (1.35 for the whole plan at 80 %: `compute_detectable_excess`). None for a plan cut so short that it cannot suspect.
    """
    excess = compute_detectable_excess(plan)
    return None if excess is None else plan.log_tolerance + excess * spread


def compute_detectable_excess(plan: CheckPlan) -> float | None:
    """Compute how far above the tolerance a slowdown is confirmed with probability `plan.power`, in standard deviations
    of d.

    Simulated, since looks and confirmation together have no closed form: 10,000 checks of normal d with a fixed seed,
    bisected, which leaves a standard error of 0.01. The tests depend on (d - tolerance) / spread alone.
    """
    # a least number of blocks only keeps a check from passing early, and a found slowdown seldom passes
    unit = replace(plan, tolerance=0.0, min_blocks=0)
    if unit == CheckPlan(tolerance=0.0, looks=LOOKS[: len(unit.looks)]):
        return SHIPPED_EXCESS.get(unit.max_blocks)
    return _simulate_excess(unit)


@cache
def _simulate_excess(unit: CheckPlan) -> float | None:
    if all(look.suspect_alpha is None for look in unit.looks):
        return None
    rng = np.random.default_rng(20_000)
    first = rng.standard_normal((10_000, 1, unit.max_blocks))
    fresh = rng.standard_normal((10_000, unit.confirm_blocks))
    low, high = 0.0, 16.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        found = screen_checks(first + middle, unit).suspects[:, 0] & confirm_slowdown(fresh + middle, unit)
        low, high = (low, middle) if found.mean() >= unit.power else (middle, high)
    return high


def _is_significant(counted: BoolArray, blocks: int, alpha: float | None) -> BoolArray:
    """Test at `alpha` whether few enough Walsh averages are on the wrong side.

    Without a level, never significant.
    """
    limit = -1 if alpha is None else critical_value(blocks, alpha)
    return np.asarray(np.count_nonzero(counted, axis=-1) <= limit)
