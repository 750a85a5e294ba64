"""What the seeds of a row learned: the accuracy to expect of a recipe, and what a fixed recipe of the open class may claim.

The band of a recipe is its mean +- 4 standard deviations over seeds; a workload's constant (`workloads.Band`) can be compared
with what was recorded. A row is inside a band when *every* seed of it is: a mean hides the one that did not learn.

A claim is about the mean of at least `CLAIM_SEEDS` seeds: it holds where the one-sided lower 95 % bound of their mean accuracy
(Student's t) is the target or more. Every planned seed counts; one that diverged has no accuracy that could be averaged, so no
claim holds with it, and one that did not end leaves the claim open.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from cnnbench.analysis import stats
from cnnbench.analysis.doubts import find_band
from cnnbench.analysis.process_outcomes import TEST_IMAGES
from cnnbench.analysis.rows import Row
from cnnbench.schema import SPLIT_IMAGES, Order
from cnnbench.workloads import Band

BAND_SEEDS = 10
"""A band is not made of fewer."""
CLAIM_SEEDS = 30
"""Fewer make no claim."""
WIDTH = 4
"""Standard deviations to either side: of normal seeds one in 16,000 lies outside; of a new seed,
mean and spread estimated from ten, one in about 240 (Student's t)."""
_RECIPE = ("workload", "workload_version", "batch_size", "optimizer", "init", "pool", "activation", "split", "order")
ClaimOutcome = Literal["holds", "fails", "too few seeds"]


@dataclass(frozen=True)
class SeedGroup:
    """The seeds of one row."""

    row: Row
    right: Mapping[int, int]
    """Test images right at the end, of all of them, by seed and in the order of rounds, of those that learned."""
    failed: int
    """Seeds that ended and did not learn."""

    @property
    def seeds(self) -> int:
        """Those that learned and those that did not."""
        return len(self.right) + self.failed

    @property
    def accuracy(self) -> float | None:
        """Mean over the seeds that learned, a share; None where none did."""
        return statistics.fmean(self.right.values()) / TEST_IMAGES if self.right else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of one seed's accuracy, a share; None of fewer than two."""
        return statistics.stdev(self.right.values()) / TEST_IMAGES if len(self.right) > 1 else None


def read_seeds(row: Row) -> tuple[Row, dict[int, int], int]:
    """What a `SeedGroup` of the row holds."""
    right = {each.seed: each.right for each in row.training_outcomes if each.right is not None}
    return row, right, sum(each.failed for each in row.training_outcomes)


@dataclass(frozen=True)
class SeedSpread(SeedGroup):
    """A row's seeds that all ended after the same number of steps."""

    steps: int

    @property
    def known_band(self) -> Band | None:
        """The band that the workload has for this recipe."""
        return find_band(self.row.job, self.steps)

    @property
    def observed_band(self) -> Band | None:
        """The band these seeds make; None of too few, or where one diverged."""
        job = self.row.job
        return None if self.failed else make_band(self.steps, job.batch_size, job.order, tuple(self.right.values()))

    @property
    def outside_seeds(self) -> tuple[int, ...] | None:
        """The seeds outside the workload's band, in order; None where it has none for this recipe."""
        band = self.known_band
        if band is None:
            return None
        return tuple(
            seed for seed, right in sorted(self.right.items()) if not band.low <= right / TEST_IMAGES <= band.high
        )


def make_band(steps: int, batch_size: int, order: Order, right: Sequence[int]) -> Band | None:
    """The band that these test images right make, a count a seed, outwards to whole images; None of too few seeds."""
    if len(right) < BAND_SEEDS:
        return None
    middle, reach = statistics.fmean(right), WIDTH * statistics.stdev(right)
    low, high = max(math.floor(middle - reach), 0), min(math.ceil(middle + reach), TEST_IMAGES)
    return Band(steps, batch_size, low / TEST_IMAGES, high / TEST_IMAGES, order=order)


def collect_spreads(rows: Sequence[Row]) -> tuple[list[SeedSpread], list[str]]:
    """The rows that trained on MNIST and ended with a look at all test images, and why others have no accuracy to expect."""
    found = []
    left_out = []
    for row in rows:
        job = row.job
        ends = {each.test.after_steps for each in row.training_outcomes if each.right is not None and each.test}
        if job.data != "mnist":
            if row.training_outcomes:
                left_out.append(f"{job.workload}: on {job.data} data an accuracy compares with nothing")
        elif job.division == "open":
            left_out.append(f"{job.workload}: recipe {job.recipe} of the open division is no workload's own training")
        elif job.clock == "accuracy" or job.stop_when_all_right:
            left_out.append(f"{job.workload}: it trains until it is good enough, so its accuracy says nothing")
        elif len(ends) == 1:
            found.append(SeedSpread(*read_seeds(row), ends.pop()))
    return found, list(dict.fromkeys(left_out))


def to_json(found: Sequence[SeedSpread], digests: Mapping[str, str]) -> str:
    """JSON of everything the bands are made of; `digests` are the ledgers' SHA-256 by run. Ends with a line feed."""
    runs, recipes = {}, []
    for each in found:
        row, band = each.row, each.observed_band
        runs[row.run_id] = {
            "machine": row.machine.id,
            "torch": row.software.torch,
            "created_at": row.created_at,
            "sha256": digests.get(row.run_id),
        }
        recipes.append(
            {
                **{name: getattr(row.job, name) for name in _RECIPE},
                "steps": each.steps,
                "threads": row.job.threads,
                "run": row.run_id,
                "images": TEST_IMAGES,
                "right_by_seed": {str(seed): right for seed, right in sorted(each.right.items())},
                "diverged": each.failed,
                "mean": each.accuracy,
                "standard_deviation": each.deviation,
                "band": band and {"low": band.low, "high": band.high},
            }
        )
    return json.dumps({"format": 1, "runs": runs, "recipes": recipes}, indent=1) + "\n"


@dataclass(frozen=True)
class Claim(SeedGroup):
    """One recipe of the open division on one processor in one run."""

    @property
    def target(self) -> float:
        """Share of all test images."""
        return self.row.job.target or 1.0

    @property
    def lost(self) -> int:
        """Processes that did not end well: diverged, crashed, interrupted."""
        return sum(self.row.outcomes.values()) - len(self.right)

    @property
    def seconds(self) -> list[float]:
        """The recipe's clock, one value a seed that ended well, by round."""
        return [seconds for (_, number), seconds in sorted(self.row.costs.items(), key=lambda each: each[0][1])]

    @property
    def lower_bound(self) -> float | None:
        """One-sided 95 % bound of the mean accuracy; None of fewer than two seeds."""
        if self.accuracy is None or self.deviation is None:
            return None
        return self.accuracy - stats.compute_half_width(tuple(self.right.values()), stats.CONFIDENCE) / TEST_IMAGES

    @property
    def mean_seconds(self) -> float | None:
        """Arithmetic mean: what a training by the recipe costs on the average."""
        return statistics.fmean(self.seconds) if self.seconds else None

    @property
    def interval_seconds(self) -> tuple[float, float] | None:
        """Two-sided 95 % interval of the mean (Student's t); None of fewer than three."""
        if len(self.seconds) < stats.MINIMUM_FOR_INTERVAL or self.mean_seconds is None:
            return None
        half = stats.compute_half_width(self.seconds)
        return self.mean_seconds - half, self.mean_seconds + half

    @property
    def epochs(self) -> float:
        """Images trained on over images of the split."""
        job = self.row.job
        return (job.job_steps or 0) * job.batch_size / SPLIT_IMAGES[job.split or "train-55000"]

    @cached_property
    def outcome(self) -> ClaimOutcome:
        """`fails` where a seed diverged too: its accuracy is no number that could be averaged. A planned seed that did not end
        leaves the claim open: who could stop when the mean looks good would choose the seeds.
        """
        if self.failed:
            return "fails"
        if self.lost or len(self.right) < CLAIM_SEEDS or self.lower_bound is None:
            return "too few seeds"
        return "holds" if self.lower_bound >= self.target else "fails"


def collect_claims(rows: Sequence[Row]) -> list[Claim]:
    """A claim for each row of the open division that trained on MNIST, fastest first; procedural digits claim nothing."""
    found = [Claim(*read_seeds(row)) for row in rows if row.job.division == "open" and row.job.data == "mnist"]
    return sorted(found, key=lambda each: (each.mean_seconds or math.inf, each.row.run_id))
