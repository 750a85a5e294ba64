"""The test accuracy to expect of a recipe: mean +- 4 standard deviations over seeds, and rows held against it.

Rows enter; a `SeedSpread` a row leaves, with every seed's own count, so that a workload's constant (`workloads.Band`) can be
held to what was recorded. A row is inside a band when *every* seed of it is: a mean hides the one that did not learn.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnbench.analysis.doubts import find_band
from cnnbench.analysis.rows import Row
from cnnbench.analysis.training_outcome import TEST_IMAGES
from cnnbench.schema import Job, Order
from cnnbench.workloads import Band

SEEDS = 10
"""A band is not made of fewer."""
WIDTH = 4
"""Standard deviations to either side: of normal seeds one in 16,000 lies outside; of a new seed,
mean and spread estimated from ten, one in about 240 (Student's t)."""
FORMAT = 1
_RECIPE = ("workload", "workload_version", "batch_size", "optimizer", "init", "pool", "activation", "split", "order")


@dataclass(frozen=True)
class SeedSpread:
    """A row's seeds: test images right at the end, all of them after the same number of steps."""

    row: Row
    steps: int
    right: Mapping[int, int]
    """By seed, of those that learned."""
    failed: int
    """Seeds that diverged."""
    known_band: Band | None
    """The band that the workload has for this recipe."""

    @property
    def mean(self) -> float:
        """A share."""
        return statistics.fmean(self.right.values()) / TEST_IMAGES

    @property
    def deviation(self) -> float | None:
        """The standard deviation of one seed, as a share; None of a single one."""
        return statistics.stdev(self.right.values()) / TEST_IMAGES if len(self.right) > 1 else None

    @property
    def observed_band(self) -> Band | None:
        """The band these seeds make; None of fewer than `SEEDS`, or where one diverged."""
        job = self.row.job
        return None if self.failed else make_band(self.steps, job.batch_size, job.order, tuple(self.right.values()))

    @property
    def outside_seeds(self) -> tuple[int, ...] | None:
        """The seeds outside the workload's band, in order; None where it has none for this recipe."""
        if self.known_band is None:
            return None
        band = self.known_band
        return tuple(
            sorted(seed for seed, right in self.right.items() if not band.low <= right / TEST_IMAGES <= band.high)
        )


def make_band(steps: int, batch_size: int, order: Order, right: Sequence[int]) -> Band | None:
    """The band that these test images right make, a count a seed, outwards to whole images; None of fewer than `SEEDS`."""
    if len(right) < SEEDS:
        return None
    middle, reach = statistics.fmean(right), WIDTH * statistics.stdev(right)
    low, high = max(math.floor(middle - reach), 0), min(math.ceil(middle + reach), TEST_IMAGES)
    return Band(steps, batch_size, low / TEST_IMAGES, high / TEST_IMAGES, order=order)


def collect_spreads(rows: Sequence[Row]) -> tuple[list[SeedSpread], list[str]]:
    """The rows that trained on MNIST and ended with a look at all test images, and why others have no accuracy to expect."""
    found: list[SeedSpread] = []
    left_out: list[str] = []
    for row in rows:
        ends = {
            each.test.after_steps for each in row.training_outcomes if each.right is not None and each.test is not None
        }
        if row.job.data != "mnist":
            if row.training_outcomes:
                left_out.append(f"{row.job.workload}: on {row.job.data} data an accuracy compares with nothing")
        elif row.job.division == "open":
            left_out.append(
                f"{row.job.workload}: recipe {row.job.recipe} of the open division is no workload's own training"
            )
        elif row.job.clock == "accuracy" or row.job.stop_when_all_right:
            left_out.append(f"{row.job.workload}: it trains until it is good enough, so its accuracy says nothing")
        elif len(ends) == 1:
            (steps,) = ends
            right = {each.seed: each.right for each in row.training_outcomes if each.right is not None}
            failed = sum(each.failed for each in row.training_outcomes)
            found.append(SeedSpread(row, steps, right, failed, find_band(row.job, steps)))
    return found, list(dict.fromkeys(left_out))


def to_json(found: Sequence[SeedSpread], digests: Mapping[str, str]) -> str:
    """JSON of everything the bands are made of; `digests` are the ledgers' SHA-256 by run. Ends with a line feed."""
    recipes = [_recipe(each) for each in found]
    runs = {
        each.row.run_id: {
            "machine": each.row.machine.id,
            "torch": each.row.software.torch,
            "created_at": each.row.created_at,
            "sha256": digests.get(each.row.run_id),
        }
        for each in found
    }
    return json.dumps({"format": FORMAT, "runs": runs, "recipes": recipes}, indent=1) + "\n"


def _recipe(each: SeedSpread) -> dict[str, object]:
    job: Job = each.row.job
    band = each.observed_band
    return {
        **{name: getattr(job, name) for name in _RECIPE},
        "steps": each.steps,
        "threads": job.threads,
        "run": each.row.run_id,
        "images": TEST_IMAGES,
        "right_by_seed": {str(seed): each.right[seed] for seed in sorted(each.right)},
        "diverged": each.failed,
        "mean": each.mean,
        "standard_deviation": each.deviation,
        "band": None if band is None else {"low": band.low, "high": band.high},
    }
