"""Whether the interval of `cnnbench run --until WIDTH` covers, and how many processes it takes, by simulation.

    python docs/studies/until.py --seed 1 --runs 20000 -o docs/studies/until.md

writes the page, and beside it the counts as .json. Each run's number of processes and interval come from the package's own
functions; the rule that stops as soon as Student's interval is narrow is simulated beside it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from study_script import run_script

from cnnbench.analysis.stats import t_quantile, two_stage_mean
from cnnbench.analysis.two_stage import FIRST_STAGE, count_needed
from cnnbench.files import save_file
from cnnbench.regression.signed_rank import Float64Array

UNTIL = 0.05
MOST = 400
"""Processes simulated of each run; Stein's rule asks for more in so few runs that they end there."""
SPREAD = 0.058
"""Standard deviation of the log time of a process: about what the committed ledgers have between processes."""
CORRELATION = 0.6
MODES = 0.12
DRIFT = 0.002
"""Growth of the log time from one process to the next: 2 % in ten processes."""
FIRST_STAGES = (3, FIRST_STAGE, 8)
Noise = Callable[[np.random.Generator], Float64Array]


@dataclass(frozen=True)
class CoverageCounts:
    """One noise and first stage: runs, those whose interval has the true mean in it, and the processes they took."""

    noise: str
    first: int
    runs: int
    covered: int
    median_processes: int
    most_processes: int
    """Nine runs in ten take no more."""
    narrow: int
    """Runs whose interval is as narrow as asked for."""
    naive_covered: int
    naive_median_processes: int


def draw_normal(rng: np.random.Generator) -> Float64Array:
    """Draw independent normal processes."""
    return rng.normal(0.0, SPREAD, MOST)


def draw_heavy_tailed(rng: np.random.Generator) -> Float64Array:
    """Draw Student's t with 3 degrees of freedom, scaled to the same standard deviation."""
    return np.asarray(rng.standard_t(3, MOST) * SPREAD / math.sqrt(3))


def draw_two_modes(rng: np.random.Generator) -> Float64Array:
    """Draw processes of which half are in a mode 12 % slower; the mean is 0."""
    modes = math.log1p(MODES) * ((rng.random(MOST) < 0.5) - 0.5)
    return np.asarray(modes + rng.normal(0.0, 0.005, MOST))


def draw_autoregressive(rng: np.random.Generator) -> Float64Array:
    """Draw processes each of which resembles the one before."""
    shocks, found = rng.normal(0.0, SPREAD, MOST), np.empty(MOST)
    found[0] = shocks[0]
    for place in range(1, MOST):
        found[place] = CORRELATION * found[place - 1] + math.sqrt(1 - CORRELATION**2) * shocks[place]
    return found


def draw_drift(rng: np.random.Generator) -> Float64Array:
    """Draw normal processes that become slower one after another."""
    return rng.normal(0.0, SPREAD, MOST) + DRIFT * np.arange(MOST)


NOISES: dict[str, Noise] = {
    "normal": draw_normal,
    "heavy-tailed (t, 3 degrees)": draw_heavy_tailed,
    "two modes 12 % apart": draw_two_modes,
    "AR(1), correlation 0.6": draw_autoregressive,
    "drift 0.2 % per process": draw_drift,
}


def simulate(noise: str, first: int, runs: int, rng: np.random.Generator) -> CoverageCounts:
    """Simulate runs: each covers if the interval has the noise's own mean over the processes measured in it."""
    sizes, naive_sizes, covered, narrow, naive_covered = [], [], 0, 0, 0
    trend = DRIFT if noise.startswith("drift") else 0.0
    factors = np.array([t_quantile(n - 1) / math.sqrt(n) for n in range(first, MOST + 1)])
    for _ in range(runs):
        logs = NOISES[noise](rng)
        n = min(count_needed(logs[:first].tolist(), UNTIL), MOST)
        found = two_stage_mean(logs[:n].tolist(), first)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= trend * (n - 1) / 2 <= found.high
        narrow += found.high - found.value <= math.log1p(UNTIL) * (1 + 1e-12)
        sizes.append(n)
        counts = np.arange(first, MOST + 1)
        sums, squares = np.cumsum(logs)[first - 1 :], np.cumsum(logs**2)[first - 1 :]
        halves = factors * np.sqrt(np.maximum(squares - sums**2 / counts, 0.0) / (counts - 1))
        stop = int(np.argmax(halves <= math.log1p(UNTIL))) if (halves <= math.log1p(UNTIL)).any() else len(halves) - 1
        naive_covered += abs(sums[stop] / counts[stop] - trend * (counts[stop] - 1) / 2) <= halves[stop]
        naive_sizes.append(int(counts[stop]))
    most = int(np.quantile(sizes, 0.9))
    middle, naive_middle = int(np.median(sizes)), int(np.median(naive_sizes))
    return CoverageCounts(noise, first, runs, int(covered), middle, most, int(narrow), int(naive_covered), naive_middle)


def run_study(seed: int, runs: int) -> list[CoverageCounts]:
    """Simulate every noise with every first stage."""
    rng = np.random.default_rng(seed)
    return [simulate(noise, first, runs, rng) for noise in NOISES for first in FIRST_STAGES]


def render(found: list[CoverageCounts], seed: int) -> str:
    """Render the page."""
    runs = found[0].runs
    lines = [
        "# Whether the interval of `run --until` covers",
        "",
        f"Made by `python docs/studies/until.py --seed {seed} --runs {runs} -o docs/studies/until.md`; do not edit. "
        f"{runs:,} simulated runs in each line, until the 95 % interval ends at most {UNTIL:.0%} above the mean. Processes have "
        f"a standard deviation of {SPREAD:.1%} (two modes: {MODES:.0%} apart). Nothing here is measured on a machine.",
        "",
        "`--until` uses Stein's two stages: the variance of the first stage decides how many processes follow, and stays that of "
        "the interval. For independent normal processes it covers exactly 95 %. The rule beside it stops as soon as Student's "
        "interval is narrow. Of three processes in two modes all are in one mode in a quarter of runs, which then see no spread: "
        f"so the first stage has {FIRST_STAGE} unless `--repeats` says otherwise. No rule helps where "
        "processes resemble the ones before them (AR): the interval then is of too few "
        "independent values, and covers the minutes of the run at most.",
        "",
        "| noise of processes | first stage | covers | processes, median | nine runs in ten take at most | narrow enough "
        "| stop when narrow: covers | processes, median |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {each.noise} | {each.first} | {each.covered / each.runs:.1%} | {each.median_processes} | {each.most_processes} | "
        f"{each.narrow / each.runs:.1%} | {each.naive_covered / each.runs:.1%} | {each.naive_median_processes} |"
        for each in found
    ]
    return "\n".join(lines).replace("%", " %").replace("  %", " %") + "\n"


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed for all simulated noise.")
@click.option(
    "--runs", type=click.IntRange(min=100), default=20_000, show_default=True, help="Simulated runs of each line."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the page, and .json beside it."
)
def until(seed: int, runs: int, output: Path | None) -> None:
    """Simulate how often the interval of `run --until` covers."""
    found = run_study(seed, runs)
    if output is None:
        click.echo(render(found, seed), nl=False)
        return
    save_file(output, render(found, seed))
    counts = {"seed": seed, "counts": [asdict(each) for each in found]}
    save_file(output.with_suffix(".json"), json.dumps(counts, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run_script(until))
