"""Whether a faster mode learns as well as the plain one: a mode may not buy speed with worse learning.

Each row that differs from a plain row (fp32, nchw, eager, resident batches, reference division) of the same job on the
same device in its mode alone is held against it over seeds, by the test of `noninferiority`. A mode that learns worse gets a
doubt, which stands wherever its row does.

The rule on seeds that fail: a mode of which any seed diverged, or missed its target, where none of the plain row's did,
learns worse, whatever the other seeds' mean. Where seeds of both failed the recipe itself is unsure, and it is undecided.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnbench import units, workloads
from cnnbench.analysis.doubts import Doubt, learns_worse
from cnnbench.analysis.noninferiority import (
    LEAST_SEEDS,
    AccuracyDifference,
    ConvergenceOutcome,
    classify_difference,
    estimate_difference,
    seeds_to_decide,
)
from cnnbench.analysis.process_table import NOT_RUN
from cnnbench.analysis.ratio import group_by
from cnnbench.analysis.rows import Row
from cnnbench.analysis.training_outcome import TEST_IMAGES
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job
from cnnbench.schema.axes import plain_values

SEEDS = 5
"""Of either side. Paired, five find with a chance of 80 % that a mode learns equally well where a seed's accuracy has a
standard deviation of up to 0.051 percentage points; three up to 0.030 (docs/learning.md, and its test)."""
MARGIN_CONVOLUTIONAL = 0.001
"""Ten of the 10,000 test images: what the choice of test images alone moves an accuracy near 99.2 % by, sqrt(0.992 x 0.008
/ 10,000) = 0.0009. A smaller loss could not be told from another test set."""
MARGIN = 0.002
"""The same of networks without convolutions, which reach 92 to 98 %: there it is 0.0027 to 0.0014."""
NO_SEED = "no seed came to an end"
_NOT_TRIED = {"unsupported", NOT_RUN}
"""Ends of a process that say nothing of a mode's learning, nor that anything went wrong."""
_TIMING = {"warmup_steps": 0, "blocks": 1, "block_steps": 1, "epoch_eval_images": 0}
_PLAIN = plain_values(Job, "compute")
"""The fields of a job that say how it is computed and not what is learned, as the plain way has them."""


@dataclass(frozen=True)
class ConvergenceSide:
    """A row as the test sees it: test images right at the end by seed, and how many seeds did not learn."""

    row: Row
    right: Mapping[int, int]
    failed: int

    @property
    def seeds(self) -> int:
        """Those that learned and those that did not."""
        return len(self.right) + self.failed

    @property
    def accuracy(self) -> float | None:
        """Mean over the seeds that learned."""
        return statistics.fmean(self.right.values()) / TEST_IMAGES if self.right else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds that learned, as a share; None below two."""
        if len(self.right) < LEAST_SEEDS:
            return None
        return statistics.stdev(self.right.values()) / TEST_IMAGES


@dataclass(frozen=True)
class ConvergenceResult:
    """A mode held against the plain row. Differences and margin are shares of the test images."""

    variant: ConvergenceSide
    plain: ConvergenceSide
    margin: float
    difference: AccuracyDifference | None
    """Of the means; None where too few seeds of a side learned."""
    median_difference: float | None
    verdict: ConvergenceOutcome
    decided_by_failures: bool
    """Whether seeds that failed decided it, not the means."""
    seeds_needed: int | None
    """Where undecided by the means: seeds a side that would probably decide; None for more than anybody runs."""


@dataclass(frozen=True)
class Untested:
    """A mode's row that could not be tested, and why."""

    row: Row
    reason: str


def compare_with_plain(
    rows: Sequence[Row], margin: float | None = None
) -> tuple[list[ConvergenceResult], list[Untested]]:
    """Every row in a mode that trained, tested or with the reason why not, in the rows' order. `margin` is a share; None is
    the workload's own.
    """
    ended = [row for row in rows if _ends_tested(row.job)]
    plain = group_by((row for row in ended if is_plain(row.job)), _learning_key)
    found = [
        _compare_or_explain(row, plain.get(_learning_key(row), []), margin)
        for row in ended
        if not is_plain(row.job) and (row.training_outcomes or set(row.outcomes) - _NOT_TRIED)
    ]
    tested = [each for each in found if isinstance(each, ConvergenceResult)]
    return tested, [each for each in found if isinstance(each, Untested)]


def add_convergence_doubts(rows: Sequence[Row]) -> list[Row]:
    """The rows, those in a mode that learns worse with a doubt that says so."""
    worse = {id(test.variant.row): test for test in compare_with_plain(rows)[0] if test.verdict == "learns worse"}
    return [
        dataclasses.replace(row, doubts=(*row.doubts, _convergence_doubt(worse[id(row)]))) if id(row) in worse else row
        for row in rows
    ]


def is_plain(job: Job) -> bool:
    """Whether the job is computed the plain way."""
    return all(getattr(job, name) == default for name, default in _PLAIN.items())


def default_margin(job: Job) -> float:
    """The loss of accuracy that is allowed where nobody asks for another: a share."""
    try:
        return MARGIN_CONVOLUTIONAL if workloads.get(job.workload).convolves else MARGIN
    except WorkloadError:
        return MARGIN_CONVOLUTIONAL  # another package's workload, not installed here: the stricter one


def _ends_tested(job: Job) -> bool:
    """Whether the job trains a fixed number of steps and then looks at all test images."""
    return job.clock in ("steady", "job") and job.final_evaluation and not job.stop_when_all_right


def _learning_key(row: Row) -> tuple[object, ...]:
    """What two rows share that learn the same, in the same place: all of the job but its mode and how its steps are timed."""
    job = row.job
    same: dict[str, object] = {**_PLAIN, **_TIMING}
    if job.clock == "steady":
        same |= {"block_steps": job.blocks * job.block_steps, "epochs": None, "steps_per_epoch": None}
    return row.machine.id, row.protocol, job.model_copy(update=same).row_key


def _compare_or_explain(row: Row, plain: Sequence[Row], margin: float | None) -> ConvergenceResult | Untested:
    if not row.training_outcomes:
        return Untested(row, NO_SEED)
    if not plain:
        return Untested(row, "no plain row (fp32, nchw, eager, resident, reference division) of the same job beside it")
    variant, plain_side = _side(row), max(map(_side, plain), key=lambda side: _nearness(side, row.run_id))
    if min(variant.seeds, plain_side.seeds) < SEEDS:
        return Untested(row, f"seeds: {variant.seeds}, of the plain row {plain_side.seeds}; {SEEDS} of each are needed")
    return _compare_sides(variant, plain_side, default_margin(row.job) if margin is None else margin)


def _nearness(side: ConvergenceSide, run_id: str) -> tuple[object, ...]:
    """Of several plain rows the one of the same run, else the newest."""
    row = side.row
    return row.run_id == run_id, side.seeds >= SEEDS, row.created_at, row.run_id, side.seeds, row.row_key


def _side(row: Row) -> ConvergenceSide:
    right = {each.seed: each.right for each in row.training_outcomes if each.right is not None}
    return ConvergenceSide(row, right, sum(each.failed for each in row.training_outcomes))


def _compare_sides(variant: ConvergenceSide, plain: ConvergenceSide, margin: float) -> ConvergenceResult:
    found = medians = needed = None
    if min(len(variant.right), len(plain.right)) >= LEAST_SEEDS:
        found = estimate_difference(variant.right, plain.right).as_shares(TEST_IMAGES)
        medians = (statistics.median(variant.right.values()) - statistics.median(plain.right.values())) / TEST_IMAGES
    decided_by_failures = variant.failed > 0 or found is None
    outcome: ConvergenceOutcome = "undecided"
    if variant.failed and not plain.failed:
        outcome = "learns worse"
    elif not decided_by_failures and found is not None:
        outcome = classify_difference(found, margin)
        needed = seeds_to_decide(found, margin) if outcome == "undecided" else None
    return ConvergenceResult(variant, plain, margin, found, medians, outcome, decided_by_failures, needed)


def _convergence_doubt(test: ConvergenceResult) -> Doubt:
    variant, plain = test.variant, test.plain
    if test.decided_by_failures or test.difference is None:
        return learns_worse(
            f"{variant.failed} of {variant.seeds} seeds did not learn, all {plain.seeds} of the plain mode's did"
        )
    loss, best = units.points(test.difference.value), units.points(test.difference.high)
    allowed = units.points(test.margin, signed=False)
    return learns_worse(
        f"test accuracy over {variant.seeds} seeds is {loss} from the plain mode's, at best {best}; "
        f"a loss of {allowed} is allowed"
    )
