"""How the regression check ends for changed code whose slowdown is not one constant ratio, by simulation.

    python docs/studies/changed_code.py --seed 1 --checks 20000 -o docs/studies/changed-code.md

writes the page, and beside it the counts as .json; `--from FILE.json` makes the page of counts that are there. Every case is one
job at a tolerance of 5 %. The decisions are those of `regression.design`; 20,000 checks take about a minute on one core.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
from pydantic import TypeAdapter, ValidationError
from study_script import run_script

from cnnbench import units
from cnnbench.errors import LedgerError, UsageError
from cnnbench.files import save_file
from cnnbench.regression.design import CheckPlan, Look, confirm_slowdown, screen_checks
from cnnbench.regression.noise_profile import NoiseProfile
from cnnbench.regression.signed_rank import Float64Array

PLAN = CheckPlan()
TOLERANCE = PLAN.log_tolerance
RULES = {
    "the signed-rank test alone": CheckPlan(
        looks=(Look(6), Look(8, 0.004), Look(12, 0.003), Look(16, 0.003)),
        confirm_alpha=0.007,
        confirm_mean_alpha=None,
        mean_passes=False,
    ),
    "with the test on the mean": PLAN,
    "and at least 16 pairs": replace(PLAN, min_blocks=16),
}
"""The rules of records of version 1, today's, and today's with `--min-blocks 16`."""
PROFILE = Path(__file__).parents[2] / "results" / "amd-epyc-74ec4b79" / "noise" / "gate.json"
QUIET = 0.5 * TOLERANCE
"""Standard deviation of d where a case names no other noise."""
Draw = Callable[[np.random.Generator, tuple[int, int]], Float64Array]


@dataclass(frozen=True)
class Case:
    """A kind of change: its group and name, the ratio of mean times in words, and how d is drawn, (checks, pairs)."""

    group: str
    name: str
    draw: Draw


@dataclass(frozen=True)
class Ended:
    """How many checks of one case ended how, under each rule in the order of `RULES`."""

    group: str
    name: str
    passed: tuple[int, ...]
    regressed: tuple[int, ...]


@dataclass(frozen=True)
class ChangedCodeStudy:
    """Every case in the order of the page."""

    command: str
    seed: int
    checks: int
    rules: tuple[str, ...]
    cases: tuple[Ended, ...]


def draw_normal(spread: float = QUIET, centre: float = 0.0) -> Draw:
    """Draw independent normal d, symmetric about one constant log ratio: what the check assumes."""
    return lambda rng, shape: rng.normal(centre, spread, shape)


def draw_recorded() -> Draw:
    """Draw d of the committed A/A recording with replacement, each with a fresh fair sign."""
    profile = NoiseProfile.model_validate_json(PROFILE.read_bytes())
    recorded = np.array([d for noise in profile.jobs.values() for d in noise.d])
    return lambda rng, shape: rng.choice(recorded, shape) * rng.choice((-1.0, 1.0), shape)


def add_tail(noise: Draw, share: float, factor: float) -> Draw:
    """Make a share of head's processes slower by a factor."""
    return lambda rng, shape: noise(rng, shape) + math.log(factor) * (rng.random(shape) < share)


def add_bursts(noise: Draw, share: float, factor: float) -> Draw:
    """Make a share of the processes of both arms slower by a factor: noise of the machine, which nobody changed."""
    return lambda rng, shape: (
        noise(rng, shape)
        + math.log(factor) * ((rng.random(shape) < share).astype(float) - (rng.random(shape) < share).astype(float))
    )


def draw_states(slow: float, fast: float, stay: float) -> Draw:
    """Draw d of a machine in one of two states, which stays with probability `stay`, and a slowdown that depends on it."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> Float64Array:
        leaves = rng.random(shape) >= stay
        leaves[:, 0] = rng.random(shape[0]) < 0.5
        state = np.cumsum(leaves, axis=1) % 2
        return np.where(state == 1, math.log1p(slow), math.log1p(fast)) + rng.normal(0, 0.2 * TOLERANCE, shape)

    return draw


def draw_correlated(centre: float, correlation: float) -> Draw:
    """Draw AR(1) d about one ratio: the pairs are not independent."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> Float64Array:
        d = rng.normal(0, QUIET, shape)
        for pair in range(1, shape[1]):
            d[:, pair] = correlation * d[:, pair - 1] + math.sqrt(1 - correlation**2) * d[:, pair]
        return d + centre

    return draw


def draw_skewed(median: float, sign: float) -> Draw:
    """Draw exponential d of that median with its long tail on the side of `sign`."""
    return lambda rng, shape: median + sign * QUIET * (rng.exponential(1.0, shape) - math.log(2))


def list_cases() -> tuple[Case, ...]:
    """List what is simulated, in the order of the page."""
    real = draw_recorded()
    nothing, constant, broken, tails = (
        "Nothing changed: what the rule costs",
        "One constant ratio, independent pairs, symmetric noise: what is assumed",
        "Other changes whose median or mean is the tolerance",
        "Tails: head is slower in some of its processes",
    )
    return (
        Case(nothing, "the recorded A/A pairs with fresh signs", real),
        *(
            Case(nothing, f"normal, spread {share:g} of the tolerance", draw_normal(share * TOLERANCE))
            for share in (0.5, 0.75, 1)
        ),
        Case(nothing, "A/A pairs, bursts x1.3 on 5 % of the processes of both arms", add_bursts(real, 0.05, 1.3)),
        *(
            Case(
                constant,
                f"slower by {units.percent(math.expm1(ratio * TOLERANCE), 1)}",
                draw_normal(centre=ratio * TOLERANCE),
            )
            for ratio in (1, 1.2, 1.5, 2)
        ),
        Case(broken, "2 % in one state, 8 % in the other, which stays with 0.9", draw_states(0.08, 0.02, 0.9)),
        Case(broken, "d correlated by 0.6 from pair to pair", draw_correlated(TOLERANCE, 0.6)),
        Case(broken, "median at the tolerance, tail to the left", draw_skewed(TOLERANCE, -1)),
        Case(broken, "median at the tolerance, tail to the right", draw_skewed(TOLERANCE, 1)),
        *(
            Case(
                tails,
                f"{units.percent(factor - 1, 0)} slower in {units.percent(share, 0)} of the processes",
                add_tail(real, share, factor),
            )
            for share, factor in ((0.1, 1.3), (0.2, 1.3), (0.2, 1.6), (0.3, 1.5), (0.4, 2.0))
        ),
    )


def run_case(case: Case, checks: int, rng: np.random.Generator) -> Ended:
    """Run every rule on the same pairs; the confirmation takes the pairs after the look that suspected."""
    d = case.draw(rng, (checks, PLAN.max_blocks + PLAN.confirm_blocks))
    passed, regressed = [], []
    for plan in RULES.values():
        ended = screen_checks(d[:, np.newaxis, : plan.max_blocks], plan)
        suspects = np.flatnonzero(ended.suspects[:, 0])
        places = ended.blocks[suspects, np.newaxis] + np.arange(plan.confirm_blocks)
        regressed.append(int(confirm_slowdown(d[suspects[:, np.newaxis], places], plan).sum()))
        passed.append(int(ended.passed.sum()))
    return Ended(case.group, case.name, tuple(passed), tuple(regressed))


def run_changed_code(seed: int, checks: int, command: str) -> ChangedCodeStudy:
    """Run every case, each with a random stream of its own."""
    cases = list_cases()
    ended = (run_case(case, checks, np.random.default_rng([seed, place])) for place, case in enumerate(cases))
    return ChangedCodeStudy(command, seed, checks, tuple(RULES), tuple(ended))


def render_changed_code(study: ChangedCodeStudy) -> str:
    """Render the page."""
    lines = [
        "# How the regression check ends for code that changed",
        "",
        f"Made by `{study.command}`; do not edit. {study.checks:,} simulated checks of one job in each row; seed {study.seed}; "
        f"tolerance {units.percent(PLAN.tolerance, 0)}. Nothing here is measured but the A/A pairs of "
        "`results/amd-epyc-74ec4b79/noise/gate.json`.",
        "",
        "The bound on false alarms is proved for code that did not change. For code that did, the levels assume one constant "
        "ratio, independent pairs and symmetric noise; the tables show how much depends on that. Where no other noise "
        "is named, d is normal with a spread of half the tolerance, 0.2 of it for two states. The pairs of a tail are the "
        "recorded A/A pairs.",
    ]
    for group in dict.fromkeys(case.group for case in study.cases):
        lines += ["", f"## {group}", "", *_render_table(study, group)]
    return "\n".join(lines) + "\n"


def _render_table(study: ChangedCodeStudy, group: str) -> list[str]:
    heads = [f"{word}: {rule}" for word in ("PASS", "REGRESSED") for rule in study.rules]
    rows = [
        [case.name, *(_format_share(count, study.checks) for count in (*case.passed, *case.regressed))]
        for case in study.cases
        if case.group == group
    ]
    return [f"| {' | '.join(row)} |" for row in (["", *heads], ["---", *["---:"] * len(heads)], *rows)]


def _format_share(count: int, of: int) -> str:
    share = count / of
    return units.percent(share, 2 if 0 < share < 0.01 else 1)


def read_changed_code(path: Path) -> ChangedCodeStudy:
    """Read counts back. Raises LedgerError for another file."""
    try:
        return TypeAdapter(ChangedCodeStudy).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise LedgerError(f"{path}: {error}; give a .json that `changed_code.py -o` wrote") from error


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed for all simulated pairs.")
@click.option(
    "--checks", type=click.IntRange(min=100), default=20_000, show_default=True, help="Simulated checks of each case."
)
@click.option("--from", "counts", type=click.Path(path_type=Path), metavar="FILE.json", help="Counts made before.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE.md", help="The page; counts go beside it."
)
def changed_code(seed: int, checks: int, counts: Path | None, output: Path | None) -> None:
    """Simulate the regression check on code that changed; print how often it passes and finds a regression."""
    if output is not None and output.suffix == ".json":
        raise UsageError(f"{output}: counts go beside the page; name the page, such as changed-code.md")
    if counts is not None:
        study = read_changed_code(counts)
    else:
        made = f"python docs/studies/changed_code.py --seed {seed} --checks {checks}{'' if output is None else f' -o {output}'}"
        study = run_changed_code(seed, checks, made)
    if output is None:
        click.echo(render_changed_code(study), nl=False)
        return
    save_file(output, render_changed_code(study))
    save_file(output.with_suffix(".json"), json.dumps(asdict(study), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run_script(changed_code))
