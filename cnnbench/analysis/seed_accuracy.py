"""What the seeds of a row learned: the accuracy to expect, what an open recipe may claim, and whether a mode learns as
well.

The band of a recipe is its mean +- 4 standard deviations over seeds; a workload's constant (`workloads.Band`) can be
compared with what was recorded. A row is inside a band when *every* seed of it is: a mean hides the one that did not
learn.

A claim is about the mean of at least `CLAIM_SEEDS` seeds: it holds where the one-sided lower 95 % bound of their mean
accuracy (Student's t) is the target or more. Every planned seed counts; one that diverged has no accuracy that could be
averaged, so no claim holds with it, and one that did not end leaves the claim open.

A mode may not buy speed with worse learning. Each row that differs from a plain row (fp32, nchw, eager, resident
batches, reference division) of the same job on the same device in its mode alone is compared with it over seeds, by a
test of non-inferiority. A mode that learns worse gets a doubt, which is printed wherever its row is.

"No significant difference" proves nothing: with few and noisy seeds nothing is ever significant. So the question is
reversed. The mode has to show that it is not worse than the reference by the margin or more: the lower one-sided 95 %
bound of the difference must be above minus the margin. A mode that is worse by exactly the margin passes in at most 5 %
of all tests, however few the seeds, if accuracies are normal over seeds (see tests/test_noninferiority.py). They need not
be: a mode in which one seed in ten is bad passes in more than a fifth (docs/studies/noninferiority.md), so the seeds are
printed too. (Student's t on the differences where both sides have the same seeds, else Welch's: B. L. Welch, Biometrika
34, 1947.)

The rule on seeds that fail: a mode of which any seed diverged, or missed its target, where none of the plain row's did,
learns worse, whatever the other seeds' mean. Where seeds of both failed the recipe itself is unsure, and it is
undecided.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from cnnbench import units, workloads
from cnnbench.analysis import stats
from cnnbench.analysis.doubts import Doubt, find_band
from cnnbench.analysis.process_table import NOT_RUN
from cnnbench.analysis.ratio import group_by
from cnnbench.analysis.rows import Row, follow
from cnnbench.errors import WorkloadError
from cnnbench.schema import SPLIT_IMAGES, Job
from cnnbench.schema.job import TEST_IMAGES, Order, plain_values
from cnnbench.workloads import Band, recipes

BAND_SEEDS = 10
"""The fewest seeds that a band is computed from."""
CLAIM_SEEDS = 30
"""The fewest seeds that can support a claim."""
WIDTH = 4
"""Standard deviations to either side: one normal seed in 16,000 is outside; of new seeds, with mean and spread
estimated from ten, about one in 240 (Student's t).
"""
_RECIPE = ("workload", "workload_version", "batch_size", "optimizer", "init", "pool", "activation", "split", "order")
ClaimOutcome = Literal["holds", "fails", "too few seeds"]


@dataclass(frozen=True)
class SeedGroup:
    """The seeds of one row."""

    row: Row

    @cached_property
    def right(self) -> Mapping[int, int]:
        """Test images right at the end by seed, in the order of rounds.

        Seeds that did not learn, or were not evaluated on all images, are left out.
        """
        return {each.seed: each.right for each in self.row.training_outcomes if each.right is not None}

    @property
    def failed(self) -> int:
        """The number of seeds that ended and did not learn."""
        return sum(each.failed for each in self.row.training_outcomes)

    @property
    def seeds(self) -> int:
        """The number of seeds that ended, whether they learned or not."""
        return len(self.right) + self.failed

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy (a share) over the seeds that learned; None if none did."""
        return statistics.fmean(self.right.values()) / TEST_IMAGES if self.right else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of one seed's accuracy, a share; None for fewer than two seeds."""
        return statistics.stdev(self.right.values()) / TEST_IMAGES if len(self.right) > 1 else None


@dataclass(frozen=True)
class SeedSpread(SeedGroup):
    """The seeds of a row, all of which ended after the same number of steps."""

    steps: int

    @property
    def known_band(self) -> Band | None:
        """The band that the workload declares for this recipe."""
        return find_band(self.row.job, self.steps)

    @property
    def observed_band(self) -> Band | None:
        """The band that these seeds make; None for too few seeds, or if one diverged."""
        job = self.row.job
        return None if self.failed else make_band(self.steps, job.batch_size, job.order, tuple(self.right.values()))

    @property
    def outside_seeds(self) -> tuple[int, ...] | None:
        """The seeds outside the workload's band, in order; None if it has no band for this recipe."""
        band, seeds = self.known_band, sorted(self.right.items())
        if band is None:
            return None
        return tuple(seed for seed, right in seeds if not band.low <= right / TEST_IMAGES <= band.high)


def make_band(steps: int, batch_size: int, order: Order, right: Sequence[int]) -> Band | None:
    """Make the band from the right test images of each seed, rounded outwards to whole images.

    None for too few seeds.
    """
    if len(right) < BAND_SEEDS:
        return None
    middle, reach = statistics.fmean(right), WIDTH * statistics.stdev(right)
    low, high = max(math.floor(middle - reach), 0), min(math.ceil(middle + reach), TEST_IMAGES)
    return Band(steps, batch_size, low / TEST_IMAGES, high / TEST_IMAGES, order=order)


def collect_spreads(rows: Sequence[Row]) -> tuple[list[SeedSpread], list[str]]:
    """Collect the rows that trained on MNIST and ended with a look at all test images.

    The second list explains why the others are left out.
    """
    found = []
    left_out = []
    for row in rows:
        job = row.job
        ends = {each.test.after_steps for each in row.training_outcomes if each.right is not None and each.test}
        if job.data != "mnist":
            if row.training_outcomes:
                left_out.append(f"{job.workload}: an accuracy on {job.data} data cannot be compared")
        elif job.division == "open":
            left_out.append(
                f"{job.workload}: recipe {job.recipe} of the open division is not the workload's own training"
            )
        elif job.clock == "accuracy" or job.stop_when_all_right:
            left_out.append(f"{job.workload}: it trains until it is good enough, so its accuracy is not informative")
        elif len(ends) == 1:
            found.append(SeedSpread(row, ends.pop()))
    return found, list(dict.fromkeys(left_out))


def to_json(found: Sequence[SeedSpread], digests: Mapping[str, str]) -> str:
    """Serialize everything the bands are computed from.

    `digests` are the ledgers' SHA-256 by run. Ends with a line feed.
    """
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
        """Share of all test images that the recipe must get right."""
        return self.row.job.target or 1.0

    @property
    def chosen_on(self) -> str | None:
        """The images by which the recipe was chosen; None for a recipe that is not known here."""
        found = recipes.RECIPES.get(self.row.job.recipe or "")
        return None if found is None else found.chosen_on

    @property
    def lost(self) -> int:
        """Processes that did not end well: diverged, crashed or interrupted."""
        return sum(self.row.outcomes.values()) - len(self.right)

    @property
    def seconds(self) -> list[float]:
        """The recipe's clock, one value per seed that ended well, by round."""
        return [seconds for (_, number), seconds in sorted(self.row.costs.items(), key=lambda each: each[0][1])]

    @property
    def lower_bound(self) -> float | None:
        """One-sided 95 % bound of the mean accuracy; None for fewer than two seeds."""
        if self.accuracy is None or self.deviation is None:
            return None
        return self.accuracy - stats.compute_half_width(tuple(self.right.values()), stats.CONFIDENCE) / TEST_IMAGES

    @property
    def mean_seconds(self) -> stats.Estimate | None:
        """Arithmetic mean: what a training by the recipe costs on average, with its two-sided 95 % interval."""
        return stats.estimate_mean(self.seconds) if self.seconds else None

    @property
    def epochs(self) -> float:
        """Images trained on, divided by the images of the split."""
        job = self.row.job
        return (job.job_steps or 0) * job.batch_size / SPLIT_IMAGES[job.split or "train-55000"]

    @cached_property
    def outcome(self) -> ClaimOutcome:
        """`fails` also if a seed diverged, because its accuracy cannot be averaged.

        A planned seed that did not end leaves the claim open; otherwise one could stop when the mean looks good, which
        would be choosing the seeds.
        """
        if self.failed:
            return "fails"
        if self.lost or len(self.right) < CLAIM_SEEDS or self.lower_bound is None:
            return "too few seeds"
        return "holds" if self.lower_bound >= self.target else "fails"


def collect_claims(rows: Sequence[Row]) -> list[Claim]:
    """Make a claim for each row of the open division that trained on MNIST, fastest first.

    Procedural digits claim nothing.
    """
    found = [Claim(row) for row in rows if row.job.division == "open" and row.job.data == "mnist"]
    return sorted(found, key=lambda each: (follow(each, "mean_seconds.value") or math.inf, each.row.run_id))


SEEDS = 5
"""The seeds needed on either side. Paired, five show with a chance of 80 % that a mode learns equally well if a seed's
accuracy has a standard deviation of up to 0.051 percentage points; three, up to 0.030 (docs/learning.md, and its test).
"""
MARGIN_CONVOLUTIONAL = 0.001
"""Ten of the 10,000 test images: the choice of test images alone changes an accuracy near 99.2 % by sqrt(0.992 x 0.008
/ 10,000) = 0.0009. A smaller loss could not be distinguished from another test set.
"""
MARGIN = 0.002
"""The same for networks without convolutions, which reach 92 to 98 %: there it is 0.0027 to 0.0014."""
POWER = 0.80
MOST_SEEDS = 1000
"""If more seeds than this are needed, the difference practically equals the margin, and nobody will run them."""
LEAST_SEEDS = 2
"""Seeds per side below which there is no spread."""
_PLAIN = plain_values("compute")
"""The fields of a job that define how it is computed and not what is learned, with their plain values."""
ConvergenceOutcome = Literal["learns as well", "learns worse", "undecided"]


@dataclass(frozen=True)
class AccuracyDifference:
    """Accuracy of the mode minus that of the reference, with one-sided 95 % bounds; both together are a two-sided 90 %
    interval.
    """

    value: float
    low: float
    high: float
    paired: bool
    variance: float
    """Variance of the difference for one seed per side; with n seeds per side the standard error is sqrt(variance / n).
    """
    freedom: float
    """Degrees of freedom per seed: with n seeds per side there are (n - 1) times this."""

    def as_shares(self, images: float) -> AccuracyDifference:
        """Convert differences of counts to differences of shares."""
        bounds = (self.value / images, self.low / images, self.high / images)
        return AccuracyDifference(*bounds, self.paired, self.variance / images**2, self.freedom)


@dataclass(frozen=True)
class ConvergenceResult:
    """A mode compared with the plain row. Differences and margin are shares of the test images."""

    variant: SeedGroup
    plain: SeedGroup
    margin: float
    difference: AccuracyDifference | None
    """The difference of the means; None if too few seeds of a side learned."""
    median_difference: float | None
    verdict: ConvergenceOutcome
    decided_by_failures: bool
    """Whether failed seeds decided it rather than the means."""
    seeds_needed: int | None
    """If the means leave it undecided, the seeds per side that would probably decide; None for more than anybody runs.
    """


@dataclass(frozen=True)
class Untested:
    """A mode's row that could not be tested, and why."""

    row: Row
    reason: str


def compare_with_plain(
    rows: Sequence[Row], margin: float | None = None
) -> tuple[list[ConvergenceResult], list[Untested]]:
    """Test every row in a mode that trained, or say why it cannot be tested, in the rows' order.

    `margin` is a share; None means the workload's own.
    """
    tested = []
    untested = []
    # Only jobs that train a fixed number of steps and then look at all test images.
    ended = [
        row
        for row in rows
        if row.job.clock in ("steady", "job") and row.job.final_evaluation and not row.job.stop_when_all_right
    ]
    plain_rows = group_by((row for row in ended if is_plain(row.job)), _learning_key)
    for row in ended:
        # `unsupported` and `not run` do not show how a mode learns, nor that anything went wrong.
        if is_plain(row.job) or not (row.training_outcomes or set(row.outcomes) - {"unsupported", NOT_RUN}):
            continue
        found = _compare_or_explain(row, plain_rows.get(_learning_key(row), []), margin)
        if isinstance(found, ConvergenceResult):
            tested.append(found)
        else:
            untested.append(Untested(row, found))
    return tested, untested


def _compare_or_explain(row: Row, plain_rows: Sequence[Row], margin: float | None) -> ConvergenceResult | str:
    """Compare the row with the plain one of the same run, else the newest.

    Returns the reason if it cannot be compared.
    """
    if not row.training_outcomes:
        return "no seed has ended"
    if not plain_rows:
        return "no plain row (fp32, nchw, eager, resident, reference division) of the same job"
    variant = SeedGroup(row)
    plain = max(
        map(SeedGroup, plain_rows),
        key=lambda side: (
            side.row.run_id == row.run_id,
            side.seeds >= SEEDS,
            side.row.created_at,
            side.row.run_id,
            side.seeds,
            side.row.row_key,
        ),
    )
    if min(variant.seeds, plain.seeds) < SEEDS:
        return f"{variant.seeds} seeds, {plain.seeds} of the plain row; {SEEDS} of each are needed"
    margin = default_margin(row.job) if margin is None else margin
    found = medians = needed = None
    if min(len(variant.right), len(plain.right)) >= LEAST_SEEDS:
        found = estimate_difference(variant.right, plain.right).as_shares(TEST_IMAGES)
        medians = (statistics.median(variant.right.values()) - statistics.median(plain.right.values())) / TEST_IMAGES
    outcome: ConvergenceOutcome = "undecided"
    if variant.failed and not plain.failed:
        outcome = "learns worse"
    elif not variant.failed and found is not None:
        outcome = classify_difference(found, margin)
        needed = seeds_to_decide(found, margin) if outcome == "undecided" else None
    by_failures = variant.failed > 0 or found is None
    return ConvergenceResult(variant, plain, margin, found, medians, outcome, by_failures, needed)


def add_convergence_doubts(rows: Sequence[Row]) -> list[Row]:
    """Add a doubt to each row whose mode learns worse."""
    found = {id(row): row for row in rows}
    for test in compare_with_plain(rows)[0]:
        variant, plain = test.variant, test.plain
        text = f"{variant.failed} of {variant.seeds} seeds did not learn, all {plain.seeds} of the plain mode's did"
        if not test.decided_by_failures and test.difference is not None:
            loss, best = units.points(test.difference.value), units.points(test.difference.high)
            text = (
                f"test accuracy over {variant.seeds} seeds is {loss} from the plain mode's, at best {best}; "
                f"a loss of {units.points(test.margin, signed=False)} is allowed"
            )
        if test.verdict == "learns worse":
            doubt = Doubt("learns-worse", text, "Claim no speed with it; `cnnbench learning convergence` has the test.")
            found[id(variant.row)] = variant.row.with_doubt(doubt)
    return list(found.values())


def is_plain(job: Job) -> bool:
    """Check whether the job is computed the plain way."""
    return all(getattr(job, name) == default for name, default in _PLAIN.items())


def default_margin(job: Job) -> float:
    """Look up the loss of accuracy (a share) that is allowed if nobody asks for another."""
    try:
        return MARGIN_CONVOLUTIONAL if workloads.get(job.workload).convolves else MARGIN
    except WorkloadError:
        return MARGIN_CONVOLUTIONAL  # another package's workload, not installed here: the stricter one


def _learning_key(row: Row) -> tuple[object, ...]:
    """Collect what two rows share that learn the same in the same place.

    That is all of the job but its mode and its timing.
    """
    job = row.job
    same = {**_PLAIN, "warmup_steps": 0, "blocks": 1, "block_steps": 1, "epoch_eval_images": 0}
    if job.clock == "steady":
        same |= {"block_steps": job.blocks * job.block_steps, "epochs": None, "steps_per_epoch": None}
    return row.machine.id, row.protocol, job.model_copy(update=same).row_key


def estimate_difference(variant: Mapping[int, float], plain: Mapping[int, float]) -> AccuracyDifference:
    """Subtract the reference's mean from the mode's, by seed if both have exactly the same seeds.

    Raises ValueError if a side has fewer than two seeds.
    """
    if min(len(variant), len(plain)) < LEAST_SEEDS:
        raise ValueError(f"a spread needs {LEAST_SEEDS} seeds per side, there are {len(variant)} and {len(plain)}")
    paired = variant.keys() == plain.keys()
    if paired:
        differences = [variant[key] - plain[key] for key in variant]
        value, variance, freedom = statistics.fmean(differences), float(statistics.variance(differences)), 1.0
        half = stats.compute_half_width(differences, stats.CONFIDENCE)
    else:
        value = statistics.fmean(variant.values()) - statistics.fmean(plain.values())
        ours, theirs = float(statistics.variance(variant.values())), float(statistics.variance(plain.values()))
        variance = ours + theirs
        freedom = variance**2 / (ours**2 + theirs**2) if variance else 2.0
        means = ours / len(variant), theirs / len(plain)
        half = stats.welch_half_width(means, (len(variant), len(plain)), stats.CONFIDENCE)
    return AccuracyDifference(value, value - half, value + half, paired, variance, freedom)


def classify_difference(found: AccuracyDifference, margin: float) -> ConvergenceOutcome:
    """Classify the bounds; `margin` is positive and in the unit of the difference."""
    if found.low > -margin:
        return "learns as well"
    return "learns worse" if found.high < -margin else "undecided"


def seeds_to_decide(found: AccuracyDifference, margin: float) -> int | None:
    """Find the seeds per side with which a new test would decide in 80 % of cases, if difference and spread are as now.

    From the quantiles of Student's t: (t(0.95) + t(0.80)) x standard error is the distance from the margin. By the
    noncentral t that is a chance of 80.0 to 80.7 %. None for more than 1,000.
    """
    distance = abs(found.value + margin)
    for seeds in range(LEAST_SEEDS + 1, MOST_SEEDS + 1):
        degrees = (seeds - 1) * found.freedom
        quantiles = stats.t_quantile(degrees, stats.CONFIDENCE) + stats.t_quantile(degrees, POWER)
        if quantiles * math.sqrt(found.variance / seeds) < distance:
            return seeds
    return None
