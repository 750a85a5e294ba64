"""Learning derived again: the lecture's stopping rule epoch by epoch, and modes compared with the plain one."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, takewhile

import numpy as np
from scipy.special import stdtrit

from cnnbench.verify import intervals
from cnnbench.verify.raw_rows import PLAIN, PageView, RawRow, describe_step, group_rows

IMAGES = 10_000
SEEDS, MOST_SEEDS = 5, 1000
_NOT_LEARNED = {*PLAIN, "warmup_steps", "blocks", "block_steps", "epoch_eval_images", "seed", "round"}
"""Fields of a job that do not change what is learned."""


AccuracyCurves = list[list[int]]
"""Test images right after each epoch, one list per process."""


@lru_cache(maxsize=1024)
def accuracy_curves(row: RawRow) -> AccuracyCurves:
    """List test images right after epochs 1, 2, 3..., for each process that evaluated all of them after every epoch."""
    steps, found = row.job.steps_per_epoch or 0, []
    for _, trial in row.attempts if steps else ():
        right = {each.after_steps: each.correct for each in trial.epoch_evaluations if each.images == IMAGES}
        if curve := [right[after] for after in takewhile(right.__contains__, count(steps, steps))]:
            found.append(curve)
    return found


@lru_cache(maxsize=1 << 14)
def chance_all_right(right: int, sample: int) -> float:
    """Compute the chance that a sample is all right: C(right, sample) / C(10,000, sample)."""
    return math.comb(right, sample) / math.comb(IMAGES, sample)


def find_plain(view: PageView, row: RawRow) -> RawRow | None:
    """Find the plain row of the same learning on the same machine: in the row's run if there, else in the newest."""
    if not describe_step(row.job) or not _ends_tested(row):
        return None
    plain = max(
        _plain_rows(view).get(_learning_key(row), ()),
        key=lambda each: (
            each.header.run_id == row.header.run_id,
            _count_seeds(each) >= SEEDS,
            each.header.created_at,
            each.header.run_id,
            _count_seeds(each),
            each.row_key,
        ),
        default=None,
    )
    enough = plain is not None and min(_count_seeds(row), _count_seeds(plain)) >= SEEDS
    return plain if enough else None


@lru_cache(maxsize=64)
def _plain_rows(view: PageView) -> dict[object, list[RawRow]]:
    """Group the shown rows that are computed the plain way by what they learn."""
    plain = (row for row in view.training if not describe_step(row.job))
    return group_rows(filter(_ends_tested, plain), _learning_key)


def _ends_tested(row: RawRow) -> bool:
    job = row.job
    return job.clock in ("steady", "job") and job.final_evaluation and not job.stop_when_all_right


@lru_cache(maxsize=1024)
def _learning_key(row: RawRow) -> object:
    job = row.job
    left_out = _NOT_LEARNED | ({"epochs", "steps_per_epoch"} if job.clock == "steady" else set())
    steps = job.blocks * job.block_steps if job.clock == "steady" else job.job_steps
    fields = sorted(job.model_dump(exclude=left_out).items())
    return row.header.machine.id, row.protocol, steps, tuple(fields)


@lru_cache(maxsize=1024)
def right_by_seed(row: RawRow) -> dict[int, int]:
    """List test images right at the end by seed, for the processes that learned."""
    learned = ((record.job.seed, trial.test) for record, trial in row.trials)
    return {seed: test.correct for seed, test in learned if test is not None and test.images == IMAGES}


def count_failed(row: RawRow) -> int:
    """Count the seeds that did not learn."""
    return sum(record.outcome.status in ("diverged", "missed") for record in row.records)


def _count_seeds(row: RawRow) -> int:
    return len(right_by_seed(row)) + count_failed(row)


def mean_accuracy(row: RawRow) -> float | None:
    """Compute the mean accuracy over the seeds that learned, as a share."""
    right = right_by_seed(row).values()
    return statistics.fmean(right) / IMAGES if right else None


def accuracy_spread(row: RawRow) -> float | None:
    """Compute the standard deviation of accuracy between seeds, as a share."""
    right = right_by_seed(row).values()
    return statistics.stdev(right) / IMAGES if len(right) > 1 else None


@dataclass(frozen=True)
class SideDifference:
    """Mode minus plain in images, with its bounds and the variance behind them."""

    value: float
    low: float
    high: float
    medians: float
    paired: bool
    variance: float
    freedom: float


@lru_cache(maxsize=1024)
def compare(row: RawRow, plain: RawRow) -> SideDifference | None:
    """Compute the difference over seeds; None if a side has fewer than two."""
    mine, theirs = right_by_seed(row), right_by_seed(plain)
    if min(len(mine), len(theirs)) < 2:
        return None
    first, second = list(mine.values()), list(theirs.values())
    medians = statistics.median(first) - statistics.median(second)
    value = statistics.fmean(first) - statistics.fmean(second)
    paired = set(mine) == set(theirs)
    if paired:
        spread = statistics.variance([mine[seed] - theirs[seed] for seed in mine])
        error, degrees, freedom = spread / len(mine), float(len(mine) - 1), 1.0
    else:
        error, degrees = intervals.welch(first, second)
        a, b = intervals.variance(first), intervals.variance(second)
        spread, freedom = a + b, (a + b) ** 2 / (a**2 + b**2) if error else 2.0
    half = float(stdtrit(degrees, 0.95)) * math.sqrt(error)
    return SideDifference(value, value - half, value + half, medians, paired, spread, freedom)


def loss_allowed(view: PageView, row: RawRow) -> float:
    """Find the allowed loss of accuracy: the margin that was asked for, else the usual one for such a network."""
    asked = view.options.get("margin")
    usual = 0.002 if row.workload and not row.workload.convolves else 0.001
    return usual if asked is None else float(asked)


def decided_by_rule(row: RawRow, plain: RawRow) -> bool:
    """Check whether seeds that did not learn, or too few seeds, decide before the bounds do."""
    return count_failed(row) > 0 or compare(row, plain) is None


def classify(view: PageView, row: RawRow, plain: RawRow) -> str:
    """Decide the verdict on the mode."""
    found, loss = compare(row, plain), loss_allowed(view, row) * IMAGES
    if found is None or decided_by_rule(row, plain):
        return "learns worse" if count_failed(row) and not count_failed(plain) else "undecided"
    return "learns as well" if found.low > -loss else "learns worse" if found.high < -loss else "undecided"


def seeds_needed(view: PageView, row: RawRow, plain: RawRow) -> int | None:
    """Compute the seeds per side that would decide with a chance of 80 %; None if decided, or beyond 1,000."""
    found = compare(row, plain)
    if found is None or decided_by_rule(row, plain) or classify(view, row, plain) != "undecided":
        return None
    numbers = np.arange(3, MOST_SEEDS + 1)
    degrees = (numbers - 1) * found.freedom
    reach = stdtrit(degrees, 0.95) + stdtrit(degrees, 0.8)
    gap = abs(found.value + loss_allowed(view, row) * IMAGES)
    enough = numbers[reach * np.sqrt(found.variance / numbers) < gap]
    return int(enough[0]) if len(enough) else None
