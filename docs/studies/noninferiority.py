"""How often a mode that is worse by exactly the margin passes the test of non-inferiority, by how seeds differ.

    python docs/studies/noninferiority.py --seed 1 --tests 10000 -o docs/studies/noninferiority.md

writes the page, and beside it the counts as .json. `--from FILE.json` makes the page of counts that are there. The test is the
package's own; only the accuracies are made up.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from study_script import run_script

from cnnbench.analysis.seed_accuracy import classify_difference, estimate_difference
from cnnbench.errors import LedgerError
from cnnbench.files import save_file

MARGIN = 10.0
"""Test images of 10,000: the 0.1 percentage points allowed for networks with convolutions."""
SPREAD = 9.0
"""Standard deviation of one seed, in images: 0.09 percentage points, as seeds of the plain CNN differ (docs/tuned.md)."""
MIDDLE = 9906.0
BAD_SHARE = 0.1
SEEDS = (5, 10, 20, 30)
Draw = Callable[[random.Random], float]


@dataclass(frozen=True)
class SeedModel:
    """How the accuracies of the plain row and of the mode scatter about means that are the margin apart, in images."""

    name: str
    plain: Draw
    mode: Draw


def draw_normal(rng: random.Random) -> float:
    """Draw a normal deviation."""
    return rng.gauss(0.0, SPREAD)


def draw_skewed(rng: random.Random) -> float:
    """Draw from an exponential distribution with its tail below, mean 0 and the same standard deviation."""
    return SPREAD * (1.0 - rng.expovariate(1.0))


def draw_heavy(rng: random.Random) -> float:
    """Draw from Student's t with 3 degrees of freedom, scaled to the same standard deviation."""
    chi = sum(rng.gauss(0.0, 1.0) ** 2 for _ in range(3))
    return SPREAD / math.sqrt(3.0) * rng.gauss(0.0, 1.0) / math.sqrt(chi / 3.0)


def draw_with_bad_seeds(rng: random.Random) -> float:
    """Draw a normal deviation, less so much in a tenth of the seeds that the mean falls by the margin; mean 0 after that."""
    bad = MARGIN / BAD_SHARE if rng.random() < BAD_SHARE else 0.0
    return MARGIN + draw_normal(rng) - bad


MODELS = (
    SeedModel("normal", draw_normal, draw_normal),
    SeedModel("heavy tails (t, 3 degrees of freedom)", draw_heavy, draw_heavy),
    SeedModel("the mode's skewed (exponential, tail below)", draw_normal, draw_skewed),
    SeedModel("one seed in ten of both bad, by 1 pp", draw_with_bad_seeds, draw_with_bad_seeds),
    SeedModel("one seed in ten of the mode bad, by 1 pp", draw_normal, draw_with_bad_seeds),
)


@dataclass(frozen=True)
class PassCount:
    """How many of the tests of one model called the mode as good as the plain one."""

    model: str
    seeds: int
    paired: bool
    passed: int
    tests: int

    @property
    def share(self) -> float:
        """The share of tests that passed."""
        return self.passed / self.tests


def count_passes(model: SeedModel, seeds: int, paired: bool, tests: int, seed: int) -> PassCount:
    """Simulate that many tests of a mode that is worse by exactly the margin."""
    rng = random.Random(f"{seed} {model.name} {seeds} {paired}")
    first, passed = 0 if paired else seeds, 0
    for _ in range(tests):
        plain = {number: round(MIDDLE + model.plain(rng)) for number in range(seeds)}
        mode = {first + number: round(MIDDLE - MARGIN + model.mode(rng)) for number in range(seeds)}
        passed += classify_difference(estimate_difference(mode, plain), MARGIN) == "learns as well"
    return PassCount(model.name, seeds, paired, passed, tests)


def render_table(counts: Sequence[PassCount]) -> str:
    """Render one line per model, one column per number of seeds, for paired seeds and then unpaired ones."""
    shares = {(each.model, each.paired, each.seeds): f"{100 * each.share:.1f} %" for each in counts}
    sides = [(paired, seeds) for paired in (True, False) for seeds in SEEDS]
    heads = [f"{seeds}, {'paired' if paired else 'unpaired'}" for paired, seeds in sides]
    lines = ["accuracies over seeds", *heads], ["---", *["---:"] * len(heads)]
    rows = ([model.name, *(shares[model.name, *side] for side in sides)] for model in MODELS)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (*lines, *rows))


def _percent_without_bad(seeds: int) -> str:
    return f"{100 * (1 - BAD_SHARE) ** seeds:.0f}"


def render_page(counts: Sequence[PassCount], command: str) -> str:
    """Render the page of these counts."""
    few, many = SEEDS[0], SEEDS[-1]
    return f"""# How often a worse mode passes

Made by `{command}`; do not edit.
A mode is worse than the plain one by exactly the margin, {MARGIN / 100:g} percentage points (pp). Shown is the share of
{counts[0].tests:,} simulated tests in which it is called `learns as well`, by the number of seeds per side.
A seed's accuracy has a standard deviation of {SPREAD / 100:g} pp; with bad seeds, of the others.

{render_table(counts)}

The test is Student's t (Welch's where seeds differ), so its 5 % is for normal accuracies. Few seeds often include no bad
one: none of {few} is bad with a chance of {_percent_without_bad(few)} %, none of {many} with {_percent_without_bad(many)} %.
"""


def read_counts(path: Path) -> tuple[list[PassCount], str]:
    """Read counts and the command that made them. Raises LedgerError if the file has none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [PassCount(**each) for each in found["counts"]], str(found["command"])
    except (ValueError, TypeError, KeyError) as error:
        raise LedgerError(f"{path}: no counts of noninferiority.py; give a .json that it wrote") from error


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed for all accuracies.")
@click.option("--tests", type=click.IntRange(min=100), default=10_000, show_default=True, help="Tests of each case.")
@click.option("--from", "source", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.json",
    help="Simulate nothing: make the page of counts written before.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Write the page there, and beside it the counts as .json.",
)  # fmt: skip
def simulate(seed: int, tests: int, source: Path | None, output: Path | None) -> None:
    """Simulate the test of non-inferiority on a mode that is worse by the margin; print how often it passes."""
    if source is not None:
        counts, command = read_counts(source)
    else:
        command = f"python docs/studies/noninferiority.py --seed {seed} --tests {tests}"
        command += "" if output is None else f" -o {output}"
        sides = [(model, seeds, paired) for model in MODELS for paired in (True, False) for seeds in SEEDS]
        counts = [count_passes(model, seeds, paired, tests, seed) for model, seeds, paired in sides]
    if output is None:
        click.echo(render_page(counts, command), nl=False)
        return
    save_file(output, render_page(counts, command))
    stored = {"command": command, "counts": list(map(asdict, counts))}
    save_file(output.with_suffix(".json"), json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run_script(simulate))
