"""What a fixed recipe of the open class may claim: the mean accuracy over its seeds, and the mean time it takes.

Rows enter; a `Claim` a row of the open division leaves. The claim is about the mean of at least `SEEDS` seeds: it holds where
the one-sided lower 95 % bound of their mean accuracy (Student's t) is the target or more. Every planned seed counts; one that
diverged has no accuracy that could be averaged, so no claim holds with it, and one that did not end leaves the claim open.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from cnnbench.analysis import stats
from cnnbench.analysis.rows import Row
from cnnbench.analysis.training_outcome import TEST_IMAGES

SEEDS = 30
"""Fewer make no claim."""
ClaimOutcome = Literal["holds", "fails", "too few seeds"]


@dataclass(frozen=True)
class Claim:
    """One recipe on one processor in one run."""

    row: Row
    right: tuple[int, ...]
    """Test images right at the end, of all of them, a count a seed, by round."""
    seconds: tuple[float, ...]
    """The recipe's clock, one value a seed that ended well, by round."""
    lost: int
    """Processes that did not end well: diverged, crashed, interrupted."""
    diverged: int
    """Of which diverged: the recipe's own doing."""

    @property
    def target(self) -> float:
        """Share of all test images."""
        return self.row.job.target or 1.0

    @property
    def mean_accuracy(self) -> float | None:
        """A share; None where no seed ended well."""
        return statistics.fmean(self.right) / TEST_IMAGES if self.right else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of one seed's accuracy, a share; None of fewer than two."""
        return statistics.stdev(self.right) / TEST_IMAGES if len(self.right) > 1 else None

    @property
    def lower_bound(self) -> float | None:
        """One-sided 95 % bound of the mean accuracy; None of fewer than two seeds."""
        if self.mean_accuracy is None or self.deviation is None:
            return None
        return self.mean_accuracy - stats.compute_half_width(self.right, stats.CONFIDENCE) / TEST_IMAGES

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
        images = int((job.split or "train-1").removeprefix("train-"))
        return (job.job_steps or 0) * job.batch_size / images

    @cached_property
    def outcome(self) -> ClaimOutcome:
        """`fails` where a seed diverged too: its accuracy is no number that could be averaged. A planned seed that did not end
        leaves the claim open: who could stop when the mean looks good would choose the seeds.
        """
        if self.diverged:
            return "fails"
        if self.lost or len(self.right) < SEEDS or self.lower_bound is None:
            return "too few seeds"
        return "holds" if self.lower_bound >= self.target else "fails"


def collect_claims(rows: Sequence[Row]) -> list[Claim]:
    """A claim for each row of the open division that trained on MNIST, fastest first; procedural digits claim nothing."""
    found = [_make_claim(row) for row in rows if row.job.division == "open" and row.job.data == "mnist"]
    return sorted(found, key=lambda each: (each.mean_seconds or math.inf, each.row.run_id))


def _make_claim(row: Row) -> Claim:
    ended = sorted(row.training_outcomes, key=lambda each: each.round)
    right = tuple(each.right for each in ended if each.right is not None)
    seconds = tuple(row.costs[key] for key in sorted(row.costs, key=lambda key: key[1]))
    diverged = sum(each.failed for each in ended)
    return Claim(row, right, seconds, sum(row.outcomes.values()) - len(right), diverged)
