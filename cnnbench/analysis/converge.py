"""Whether a faster mode learns as well as the plain one: a mode may not buy speed with worse learning.

Each row that differs from a plain row (fp32, nchw, eager, resident batches, reference division) of the same job on the
same device in its mode alone is held against it over seeds, by the test of `inferiority`. A mode that learns worse gets a
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
from cnnbench.analysis.frame import NOT_RUN
from cnnbench.analysis.inferiority import LEAST_SEEDS, Difference, Verdict, difference, seeds_to_decide, verdict
from cnnbench.analysis.learned import TEST_IMAGES
from cnnbench.analysis.rows import Row
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job

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
MODE = ("division", "precision", "layout", "execution", "loader", "loader_workers")
"""Fields of a job that say how it is computed and not what is learned."""
_TIMING = {"warmup_steps": 0, "blocks": 1, "block_steps": 1, "epoch_eval_images": 0}
_PLAIN = {name: Job.model_fields[name].default for name in MODE}


@dataclass(frozen=True)
class Side:
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
class Convergence:
    """A mode held against the plain row. Differences and margin are shares of the test images."""

    mode: Side
    plain: Side
    margin: float
    difference: Difference | None
    """Of the means; None where too few seeds of a side learned."""
    of_medians: float | None
    verdict: Verdict
    by_rule: bool
    """Whether seeds that failed decided it, not the means."""
    needed: int | None
    """Where undecided by the means: seeds a side that would probably decide; None for more than anybody runs."""


@dataclass(frozen=True)
class Untested:
    """A mode's row that could not be tested, and why."""

    row: Row
    reason: str


def against_plain(rows: Sequence[Row], margin: float | None = None) -> tuple[list[Convergence], list[Untested]]:
    """Every row in a mode that trained, tested or with the reason why not, in the rows' order. `margin` is a share; None is
    the workload's own.
    """
    plain: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if _ends_tested(row.job) and is_plain(row.job):
            plain.setdefault(_learns(row), []).append(row)
    tested: list[Convergence] = []
    untested: list[Untested] = []
    for row in rows:
        if not _ends_tested(row.job) or is_plain(row.job):
            continue
        if not row.learned:
            if set(row.outcomes) - _NOT_TRIED:
                untested.append(Untested(row, NO_SEED))
            continue
        found = _try(row, plain.get(_learns(row), []), margin_of(row.job) if margin is None else margin)
        if isinstance(found, Convergence):
            tested.append(found)
        else:
            untested.append(found)
    return tested, untested


def doubted(rows: Sequence[Row]) -> list[Row]:
    """The rows, those in a mode that learns worse with a doubt that says so."""
    worse = {id(test.mode.row): test for test in against_plain(rows)[0] if test.verdict == "learns worse"}
    return [
        dataclasses.replace(row, doubts=(*row.doubts, _doubt(worse[id(row)]))) if id(row) in worse else row
        for row in rows
    ]


def is_plain(job: Job) -> bool:
    """Whether the job is computed the plain way."""
    return all(getattr(job, name) == default for name, default in _PLAIN.items())


def margin_of(job: Job) -> float:
    """The loss of accuracy that is allowed where nobody asks for another: a share."""
    try:
        return MARGIN_CONVOLUTIONAL if workloads.get(job.workload).convolves else MARGIN
    except WorkloadError:
        return MARGIN_CONVOLUTIONAL  # another package's workload, not installed here: the stricter one


def _ends_tested(job: Job) -> bool:
    """Whether the job trains a fixed number of steps and then looks at all test images."""
    return job.clock in ("steady", "job") and job.final_evaluation and not job.stop_when_all_right


def _learns(row: Row) -> tuple[object, ...]:
    """What two rows share that learn the same, in the same place: all of the job but its mode and how its steps are timed."""
    job = row.job
    same: dict[str, object] = {**_PLAIN, **_TIMING}
    if job.clock == "steady":
        same |= {"block_steps": job.blocks * job.block_steps, "epochs": None, "steps_per_epoch": None}
    return row.machine.id, row.protocol, job.model_copy(update=same).row_key


def _try(row: Row, plain: Sequence[Row], margin: float) -> Convergence | Untested:
    if not plain:
        return Untested(row, "no plain row (fp32, nchw, eager, resident, reference division) of the same job beside it")
    mode = _side(row)
    sides = [_side(each) for each in plain]
    reference = max(sides, key=lambda side: _nearness(side, row.run_id))
    if min(mode.seeds, reference.seeds) < SEEDS:
        return Untested(row, f"seeds: {mode.seeds}, of the plain row {reference.seeds}; {SEEDS} of each are needed")
    return _test(mode, reference, margin)


def _nearness(side: Side, run_id: str) -> tuple[object, ...]:
    """Of several plain rows the one of the same run, else the newest."""
    row = side.row
    return row.run_id == run_id, side.seeds >= SEEDS, row.created_at, row.run_id, side.seeds, row.row_key


def _side(row: Row) -> Side:
    right = {each.seed: each.right for each in row.learned if each.right is not None}
    return Side(row, right, sum(each.failed for each in row.learned))


def _test(mode: Side, plain: Side, margin: float) -> Convergence:
    found = medians = needed = None
    if min(len(mode.right), len(plain.right)) >= LEAST_SEEDS:
        found = difference(mode.right, plain.right).over(TEST_IMAGES)
        medians = (statistics.median(mode.right.values()) - statistics.median(plain.right.values())) / TEST_IMAGES
    by_rule = mode.failed > 0 or found is None
    said: Verdict = "undecided"
    if mode.failed and not plain.failed:
        said = "learns worse"
    elif not by_rule and found is not None:
        said = verdict(found, margin)
        needed = seeds_to_decide(found, margin) if said == "undecided" else None
    return Convergence(mode, plain, margin, found, medians, said, by_rule, needed)


def _doubt(test: Convergence) -> Doubt:
    mode, plain = test.mode, test.plain
    if test.by_rule or test.difference is None:
        return learns_worse(
            f"{mode.failed} of {mode.seeds} seeds did not learn, all {plain.seeds} of the plain mode's did"
        )
    loss, best = units.points(test.difference.value), units.points(test.difference.high)
    allowed = units.points(test.margin, signed=False)
    return learns_worse(
        f"test accuracy over {mode.seeds} seeds is {loss} from the plain mode's, at best {best}; a loss of {allowed} is allowed"
    )
