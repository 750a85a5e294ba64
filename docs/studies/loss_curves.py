"""Whether the loss curves of two modes can be distinguished: a permutation test over seeds, in plain numbers.

    python docs/studies/loss_curves.py results -o docs/studies/loss-curves.md

prints a line for each mode (precision, layout, loader, ...) that has a plain row of the same job beside it, from the ledgers
under the paths given; `-o` writes the page. It reads what is recorded and measures nothing.

One batch's loss is noisy, and the losses of one training hang together; so the seed is the unit, and a seed's curve goes from
one side to the other whole. The curve is the log of the loss of each epoch's last step. The statistic is the sum over epochs
of log(1 + t^2 / degrees of freedom), t Student's of the sides' means there: the likelihood ratio of normal log losses, which
grows with many small differences and with one large one. Were the mode nothing but another
name, every relabelling of the curves would have been as likely: of pairs (the same seeds on both sides) either one swapped or
not, else any division of all curves into two groups of these sizes. p is the share of relabellings whose statistic is as
large or larger, so the test errs at its level whatever the losses' distribution (R. A. Fisher, The Design of Experiments,
1935; J. P. Romano and M. Wolf, JASA 100, 2005, for the epochs). All of them where there are at most 10,000; else these many,
the observed one among them, drawn by a stated stream: the audit draws them again.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import click
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from study_script import run_script

from cnnbench import naming, store
from cnnbench.analysis import process_table, speedup
from cnnbench.analysis.rows import Row, TrainingOutcome
from cnnbench.analysis.seed_accuracy import ConvergenceResult, compare_with_plain
from cnnbench.errors import UsageError
from cnnbench.files import save_file

LossArray = NDArray[np.float64]
Curve = tuple[float, ...]
CurvesOutcome = Literal["indistinguishable", "differs", "too few seeds", "no losses"]
LEVEL = 0.05
POWER = 0.80
MOST_RELABELLINGS = 10_000
"""Largest number of relabellings tried."""
FLOOR = 2.0**-24
"""Smaller losses are the rounding of 1 in fp32 and count as this: 0 has no log."""
ROUNDING = 1e-9
"""Spreads of log losses below this are rounding."""
TIE = 1 - 1e-9
"""A statistic counts as as large from here on, so that rounding breaks no tie."""
MOST_SHARE = 1 - 1e-9
"""Share of all squares between the sides at most, if nothing is left within them."""
SETS, TRIED = 200, 1000
"""Sets of made-up curves, and relabellings of each (every second, every third... of all), for the ratio found."""
STEP, STEPS = 1.01, 1000
"""That ratio is a power of this, at most this one."""


@dataclass(frozen=True)
class CurvesResult:
    """A mode's loss curves against the plain row's. Ratios are of losses, mode over plain."""

    verdict: CurvesOutcome
    seeds: tuple[int, int]
    """Seeds with a whole curve: of the mode, of the plain row."""
    paired: bool
    p: float | None = None
    ratio: float | None = None
    """Geometric mean over seeds and epochs."""
    detectable: float | None = None
    """A ratio, the same in every epoch, that would be found with a chance of about 80 % at this spread; None without spread."""
    higher: tuple[int, ...] = ()
    """Epochs, from 1, whose own difference stands out (at the level for all epochs together) with the mode's loss higher."""
    lower: tuple[int, ...] = ()


def compare_rows(variant: Row, plain: Row) -> CurvesResult:
    """Compare the rows' curves; steady steps have no epochs, so no curves."""
    return compare_curves(
        *(
            collect_log_losses(row.training_outcomes, row.job.epochs if row.job.clock == "job" else None)
            for row in (variant, plain)
        )
    )


def collect_log_losses(outcomes: Sequence[TrainingOutcome], epochs: int | None) -> dict[int, Curve]:
    """Collect the log loss by epoch of each seed that learned; without those that lack an epoch or have an impossible loss."""
    found = {each.seed: each.losses for each in outcomes if not each.failed and len(each.losses) == epochs}
    return {
        seed: tuple(math.log(max(loss, FLOOR)) for loss in losses)
        for seed, losses in found.items()
        if all(math.isfinite(loss) and loss >= 0 for loss in losses)
    }


def compare_curves(variant: Mapping[int, Curve], plain: Mapping[int, Curve]) -> CurvesResult:
    """Test curves in log loss by seed, all of one length: in pairs if both sides have exactly the same seeds."""
    paired = variant.keys() == plain.keys()
    found = CurvesResult("no losses", (len(variant), len(plain)), paired)
    if not variant or not plain:
        return found
    if not can_reject(len(variant), len(plain), paired=paired):
        return replace(found, verdict="too few seeds")
    ours, theirs = (np.array([side[seed] for seed in sorted(side)], dtype=np.float64) for side in (variant, plain))
    sample = _paired_sample(ours - theirs) if paired else _unpaired_sample(ours, theirs)
    terms = _terms(sample.values, sample.weights)
    p, stand_out = _p_value(terms), _find_standouts(terms)
    difference = sample.weights[0] @ sample.values
    return replace(
        found,
        verdict="differs" if p <= LEVEL else "indistinguishable",
        p=p,
        ratio=math.exp(float(difference.mean())),
        detectable=_find_detectable(sample),
        higher=_epochs(stand_out & (difference > 0)) if p <= LEVEL else (),
        lower=_epochs(stand_out & (difference < 0)) if p <= LEVEL else (),
    )


def can_reject(variant: int, plain: int, *, paired: bool) -> bool:
    """Tell whether so many seeds can reject at all; at least the observed relabelling and its mirror image tie."""
    if min(variant, plain) < 2:
        return False
    mirrored = 2 if paired or variant == plain else 1
    return mirrored / _relabellings(variant, plain, paired=paired) <= LEVEL


def _relabellings(variant: int, plain: int, *, paired: bool) -> int:
    return 2**variant if paired else math.comb(variant + plain, variant)


@dataclass(frozen=True)
class _Sample:
    """`weights` (relabellings, curves), the observed first, times `values` (curves, epochs) are differences of means."""

    values: LossArray
    weights: LossArray
    residuals: LossArray
    """(curves, epochs): about the means of their own side."""
    freedom: int
    shifted: int
    """Number of the mode's curves, which are the first, or of differences from it."""
    centred: bool
    """Whether the mean of all curves is taken off: not of differences, which are about 0 where nothing differs."""


def _paired_sample(differences: LossArray) -> _Sample:
    n = len(differences)
    residuals = differences - differences.mean(axis=0)
    return _Sample(differences, _draw_signs(n), residuals, n - 1, n, centred=False)


def _unpaired_sample(ours: LossArray, theirs: LossArray) -> _Sample:
    a, b = len(ours), len(theirs)
    together = np.concatenate([ours, theirs])
    residuals = np.concatenate([ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)])
    return _Sample(together - together.mean(axis=0), _draw_groups(a, b), residuals, a + b - 2, a, centred=True)


@lru_cache(maxsize=16)
def _draw_signs(n: int) -> LossArray:
    """Drawn: a pair is swapped where its number from the stream is below one half, pairs in the order of their seeds."""
    if 2**n <= MOST_RELABELLINGS:
        swapped = np.array(list(itertools.product((False, True), repeat=n)))
    else:
        draw = random.Random(0).random
        swapped = np.array([[False] * n, *([draw() < 0.5 for _ in range(n)] for _ in range(MOST_RELABELLINGS - 1))])
    return np.asarray(np.where(swapped, -1.0, 1.0) / n)


@lru_cache(maxsize=16)
def _draw_groups(a: int, b: int) -> LossArray:
    """Drawn: a number from the stream for each curve, the mode's before the plain row's; the `a` smallest are the mode's."""
    if math.comb(a + b, a) <= MOST_RELABELLINGS:
        groups = np.array(list(itertools.combinations(range(a + b), a)))
    else:
        draw = random.Random(0).random
        keys = np.array([[draw() for _ in range(a + b)] for _ in range(MOST_RELABELLINGS - 1)])
        groups = np.concatenate([[range(a)], np.argsort(keys, axis=1)[:, :a]])
    weights = np.full((len(groups), a + b), -1 / b)
    np.put_along_axis(weights, groups, 1 / a, axis=1)
    return weights


def _terms(values: LossArray, weights: LossArray) -> LossArray:
    """(relabellings, epochs): log(1 + t^2 / degrees of freedom) = -log(1 - R), R the share of all squares that is between the
    sides; 0 where nothing varies.
    """
    between = (weights @ values) ** 2 / (weights[0] ** 2).sum()
    squares = (values**2).sum(axis=0)
    varies = squares > len(values) * ROUNDING**2
    share = np.where(varies, between / np.where(varies, squares, 1.0), 0.0)
    return np.asarray(-np.log1p(-np.minimum(share, MOST_SHARE)))


def _p_value(terms: LossArray) -> float:
    total = terms.sum(axis=1)
    return float((total >= total[0] * TIE).mean())


def _find_standouts(terms: LossArray) -> NDArray[np.bool_]:
    """Find the epochs whose own term few relabellings reach in any epoch."""
    largest = terms.max(axis=1)
    reached = np.array([(largest >= each * TIE).mean() for each in terms[0]])
    return np.asarray((terms[0] > 0) & (reached <= LEVEL))


def _find_detectable(sample: _Sample) -> float | None:
    """Find the smallest power of 1.01 that the test finds in 80 % of made-up sets of curves.

    They are normal, with the spread and the correlations of the residuals. None without spread, and if no power up to
    1.01^1000 = 21,000 is found.
    """
    if float((sample.residuals**2).sum()) <= sample.residuals.size * ROUNDING**2:
        return None
    noise = _draw_normal(len(sample.residuals)) @ sample.residuals / math.sqrt(sample.freedom)
    weights = sample.weights[:: -(-len(sample.weights) // TRIED)]
    low, high = 0, STEPS + 1
    while high - low > 1:
        middle = (low + high) // 2
        found = sum(_p_value(_terms(_shift(each, middle, sample), weights)) <= LEVEL for each in noise)
        low, high = (low, middle) if found >= POWER * SETS else (middle, high)
    return None if high > STEPS else STEP**high


def _shift(noise: LossArray, steps: int, sample: _Sample) -> LossArray:
    values = noise.copy()
    values[: sample.shifted] += steps * math.log(STEP)
    return values - values.mean(axis=0) if sample.centred else values


@lru_cache(maxsize=16)
def _draw_normal(n: int) -> LossArray:
    """Draw normal numbers (sets, n, n) from a stated stream."""
    draw = random.Random(1).random
    return np.asarray(ndtri([draw() for _ in range(SETS * n * n)])).reshape(SETS, n, n)


def _epochs(which: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(each) + 1 for each in np.flatnonzero(which))


# ------------------------------------------------------------------------------------------------------------ page and command

PAGE = """# Loss curves of each mode beside the plain one

Made by `{command}`; do not edit. What the words mean, and how the test works: [learning.md](../learning.md), "The loss curve".

The log loss of each epoch's last step, over seeds: a permutation test at 5 % of the sum over epochs of log(1 + t^2 / degrees of
freedom), pairs swapped where both have the same seeds, else curves regrouped (all ways, or 10,000). Ratio: the mode's loss over
the plain one's. Indistinguishable does not mean equal: with a chance of about 80 % the test would see the ratio in the last
column, in every epoch alike. Whether a mode learns as well is decided by its accuracy (`cnnbench learning convergence`),
not here.

{table}
"""
HEADINGS = ("run", "mode", "job", "seeds", "loss curve", "p", "ratio", "would see")


def find_tested_modes(paths: Sequence[Path]) -> list[ConvergenceResult]:
    """Find each mode with a plain row beside it in the ledgers under the paths. Raises UsageError without any."""
    ledgers = store.load_tree(paths).ledgers
    processes, _ = process_table.read_processes(ledgers)
    tested, _ = compare_with_plain(speedup.compute_speedups(processes).rows)
    if not tested:
        where = ", ".join(map(str, paths))
        raise UsageError(f"no mode beside its plain row in {where}; measure some with `cnnbench run convergence`")
    return tested


def format_row(each: ConvergenceResult) -> tuple[str, ...]:
    """Write one mode's line: where it was measured, the verdict on its curves, and what the test would have seen."""
    variant, plain = each.variant.row, each.plain.row
    found, job = compare_rows(variant, plain), variant.job
    seeds = f"{found.seeds[0]} and {found.seeds[1]}{' (the same)' if found.paired else ''}"
    length = "steady steps" if job.clock == "steady" else f"{job.epochs} epochs"
    return (
        f"{variant.run_id} ({variant.machine.id}, {job.device})",
        naming.step_label(job, ()),
        f"{job.workload}, batch {job.batch_size}, {length}",
        seeds,
        "; ".join([found.verdict, *describe_epochs(found)]),
        "n/a" if found.p is None else f"{found.p:.4f}",
        "n/a" if found.ratio is None else f"{found.ratio:,.2f}x",
        "n/a" if found.detectable is None else f"{found.detectable:,.2f}x",
    )


def describe_epochs(found: CurvesResult) -> Iterator[str]:
    """Yield the epochs that stand out, where curves differ."""
    for word, epochs in (("higher", found.higher), ("lower", found.lower)):
        if epochs:
            yield f"{word} in epoch{'s' if len(epochs) > 1 else ''} {format_spans(epochs)}"
    if found.verdict == "differs" and found.ratio is not None and not found.higher and not found.lower:
        yield f"{'higher' if found.ratio > 1 else 'lower'} over all epochs, in none alone"


def format_spans(numbers: Sequence[int]) -> str:
    """Write ascending whole numbers with runs joined: `1, 3 to 5`."""
    first = [n for n in numbers if n - 1 not in numbers]
    last = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in zip(first, last, strict=True))


def render_page(tested: Sequence[ConvergenceResult], command: str) -> str:
    """Make the page; `command` is what made it."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(format_row, tested)]
    return PAGE.format(command=command, table="\n".join(f"| {' | '.join(line)} |" for line in lines))


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the page to this file.")
def loss_curves(paths: tuple[Path, ...], output: Path | None) -> None:
    """Compare the loss curves of each mode with the plain row's, from the ledgers under PATHS."""
    words = [*map(str, paths), *([f"-o {output}"] if output is not None else [])]
    page = render_page(find_tested_modes(paths), " ".join(["python docs/studies/loss_curves.py", *words]))
    if output is None:
        click.echo(page, nl=False)
    else:
        save_file(output, page)


if __name__ == "__main__":
    sys.exit(run_script(loss_curves))
