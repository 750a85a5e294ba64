"""How often the check errs and what it sees, measured: every noise, every rule, and the targets it was built for.

Enters a seed and a number of checks; leaves a `FalseAlarmStudy`, which `study_page` shows. The numbers are counts of simulated
checks, so the same seed gives the same page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from noise_models import NOISE_MODELS, NoiseModel, Trace
from other_tools import OTHER_TOOLS, OtherTool
from simulate import OutcomeCounts, Proportion, SimulatedMachine, run_checks, run_normal, run_tool

from cnnbench import units
from cnnbench.regression.design import CheckPlan, compute_detectable_excess

SUITE_JOBS = 6
"""Jobs of a check in the false-alarm tables, and their geometric mean: seven series."""
EFFECTS = (0.0, 0.02, 0.05, 0.10)
"""True slowdowns of the tables for one job: none, below the tolerance, exactly it, twice it."""
SPREADS = (0.2, 1 / 3, 0.5, 0.75, 1.0)
"""Standard deviation of d over log(1 + tolerance), in the table of power."""
MAX_FALSE_ALARM_SHARE = 4 / 20_000
"""4 in 20,000 leave an upper bound of 4.6e-4."""
MIN_POWER = 0.95


@dataclass(frozen=True)
class ToolRates:
    """One tool on one machine: checks of six unchanged jobs with an alarm, and of one job by true slowdown."""

    peer: str
    noise: str
    suite: Proportion
    single: tuple[Proportion, ...]


@dataclass(frozen=True)
class CheckRates:
    """Ours on one machine. `spread` is the standard deviation of d; `boundary` is six jobs slower by just the tolerance."""

    noise: str
    spread: float
    suite: OutcomeCounts
    boundary: OutcomeCounts
    single: tuple[OutcomeCounts, ...]


@dataclass(frozen=True)
class PowerRates:
    """Ours for one job and normal d of a spread: nothing changed, slower by the tolerance, by twice the tolerance."""

    spread_share: float
    unchanged: OutcomeCounts
    boundary: OutcomeCounts
    twice: OutcomeCounts


@dataclass(frozen=True)
class StudyTarget:
    """Something the check was built to reach, and whether it does."""

    wanted: str
    measured: str
    met: bool


@dataclass(frozen=True)
class FalseAlarmStudy:
    """Everything measured, in the order of the page."""

    seed: int
    checks: int
    plan: CheckPlan
    excess: float
    """Standard deviations above the tolerance that are found in `plan.power` of checks: `design.compute_detectable_excess`."""
    ours: tuple[CheckRates, ...]
    peers: tuple[ToolRates, ...]
    power: tuple[PowerRates, ...]
    targets: tuple[StudyTarget, ...]
    traces: tuple[tuple[str, str], ...]
    """Name and source of each."""


def run_study(
    seed: int,
    checks: int,
    traces: Sequence[Trace] = (),
    on_progress: Callable[[str], None] = lambda _: None,
) -> FalseAlarmStudy:
    """Run everything with the check's own plan; each part has its own random stream. 20,000 checks take 3 minutes on one core.

    `on_progress` hears what is being simulated.
    """
    plan = CheckPlan()
    ours: list[CheckRates] = []
    peers: list[ToolRates] = []
    noises: tuple[NoiseModel | Trace, ...] = (*NOISE_MODELS, *traces)
    for place, noise in enumerate(noises):
        on_progress(noise.name)
        ours.append(_simulate_check(noise, plan, checks, np.random.default_rng([seed, place])))
        peers.extend(
            _simulate_tool(peer, noise, checks, np.random.default_rng([seed, place, number]))
            for number, peer in enumerate(OTHER_TOOLS, start=1)
        )
    on_progress("normal differences")
    power = tuple(_simulate_power(share, plan, checks, np.random.default_rng([seed, 1000])) for share in SPREADS)
    targets = (_assess_false_alarms(ours, checks), _assess_power(power), _assess_blocks(ours, power, plan))
    excess = compute_detectable_excess(plan) or math.nan
    sources = tuple((trace.name, trace.source) for trace in traces)
    return FalseAlarmStudy(seed, checks, plan, excess, tuple(ours), tuple(peers), power, targets, sources)


def _simulate_check(noise: NoiseModel | Trace, plan: CheckPlan, checks: int, rng: np.random.Generator) -> CheckRates:
    machine = SimulatedMachine(noise, rng)
    suite, boundary = run_checks(machine, plan, checks, SUITE_JOBS, (0.0, plan.tolerance))
    single = run_checks(machine, plan, checks, 1, EFFECTS)
    spread = float(machine.draw_differences(checks, 1, 1).std())
    return CheckRates(noise.name, spread, suite, boundary, tuple(single))


def _simulate_tool(tool: OtherTool, noise: NoiseModel | Trace, checks: int, rng: np.random.Generator) -> ToolRates:
    alone, *slower = run_tool(tool, noise, checks * SUITE_JOBS, EFFECTS, rng)
    suite = Proportion(int(alone.reshape(checks, SUITE_JOBS).any(axis=1).sum()), checks)
    return ToolRates(
        tool.name, noise.name, suite, tuple(Proportion(int(found.sum()), len(found)) for found in (alone, *slower))
    )


def _simulate_power(share: float, plan: CheckPlan, checks: int, rng: np.random.Generator) -> PowerRates:
    effects = (0.0, plan.log_tolerance, math.log1p(2 * plan.tolerance))
    return PowerRates(share, *(run_normal(plan, checks, share * plan.log_tolerance, effect, rng) for effect in effects))


def _assess_false_alarms(ours: Sequence[CheckRates], checks: int) -> StudyTarget:
    worst = max(ours, key=lambda rates: rates.suite.regressed)
    share = Proportion(worst.suite.regressed, checks)
    return StudyTarget(
        "six unchanged jobs: at most 4 false alarms in 20,000 checks, whatever the noise",
        f"{share.hits} of {share.of:,} in the worst noise, so below {units.percent(share.upper, 3)} with 95 % confidence",
        share.share <= MAX_FALSE_ALARM_SHARE,
    )


def _assess_power(power: Sequence[PowerRates]) -> StudyTarget:
    half = next(each for each in power if each.spread_share == 0.5)
    found = half.twice.regressed / half.twice.checks
    return StudyTarget(
        "twice the tolerance is caught in 95 % of checks where the spread is half the tolerance, in at most 16 blocks",
        f"{units.percent(found, 1)} of {half.twice.checks:,}",
        found >= MIN_POWER,
    )


def _assess_blocks(ours: Sequence[CheckRates], power: Sequence[PowerRates], plan: CheckPlan) -> StudyTarget:
    """Wherever the spread is at most half the tolerance: there the check is meant to work."""
    quiet = [rates.suite.median_blocks for rates in ours if rates.spread <= plan.log_tolerance / 2]
    median = [each.unchanged.median_blocks for each in power if each.spread_share <= 0.5] + quiet
    return StudyTarget(
        "nothing changed: a median of 6 to 8 blocks where the spread is at most half the tolerance",
        f"{min(median):.0f} to {max(median):.0f}, one job and six",
        max(median) <= 8,
    )
