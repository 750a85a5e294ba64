"""How often the check errs and what it sees, measured: every noise, every rule, and the targets it was built for.

Enters a seed and a number of checks; leaves a `Proof`, which `proof_page` shows. The numbers are counts of simulated
checks, so the same seed gives the same page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench import units
from cnnbench.gate.noise import MODELS, Noise, Trace
from cnnbench.gate.peers import PEERS, Peer
from cnnbench.gate.plan import Plan, detectable_excess
from cnnbench.gate.simulate import Ended, Share, SimulatedMachine, run_checks, run_normal, run_peer

SUITE_JOBS = 6
"""Jobs of a check in the false-alarm tables, and their geometric mean: seven series."""
EFFECTS = (0.0, 0.02, 0.05, 0.10)
"""True slowdowns of the tables for one job: none, below the tolerance, exactly it, twice it."""
SPREADS = (0.2, 1 / 3, 0.5, 0.75, 1.0)
"""Standard deviation of d over log(1 + tolerance), in the table of power."""
MOST_ALARMS = 4 / 20_000
"""4 in 20,000 leave an upper bound of 4.6e-4."""
LEAST_POWER = 0.95


@dataclass(frozen=True)
class PeerRates:
    """One tool on one machine: checks of six unchanged jobs with an alarm, and of one job by true slowdown."""

    peer: str
    noise: str
    suite: Share
    single: tuple[Share, ...]


@dataclass(frozen=True)
class OurRates:
    """Ours on one machine. `spread` is the standard deviation of d; `boundary` is six jobs slower by just the tolerance."""

    noise: str
    spread: float
    suite: Ended
    boundary: Ended
    single: tuple[Ended, ...]


@dataclass(frozen=True)
class Power:
    """Ours for one job and normal d of a spread: nothing changed, slower by the tolerance, by twice the tolerance."""

    spread_share: float
    unchanged: Ended
    boundary: Ended
    twice: Ended


@dataclass(frozen=True)
class Target:
    """Something the check was built to reach, and whether it does."""

    wanted: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Proof:
    """Everything measured, in the order of the page."""

    seed: int
    checks: int
    plan: Plan
    excess: float
    """Standard deviations above the tolerance that are found in `plan.power` of checks: `plan.detectable_excess`."""
    ours: tuple[OurRates, ...]
    peers: tuple[PeerRates, ...]
    power: tuple[Power, ...]
    targets: tuple[Target, ...]
    traces: tuple[tuple[str, str], ...]
    """Name and source of each."""


def prove(
    seed: int,
    checks: int,
    traces: Sequence[Trace] = (),
    on_progress: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Run everything with the check's own plan; each part has its own random stream. 20,000 checks take 3 minutes on one core.

    `on_progress` hears what is being simulated.
    """
    plan = Plan()
    ours: list[OurRates] = []
    peers: list[PeerRates] = []
    noises: tuple[Noise | Trace, ...] = (*MODELS, *traces)
    for place, noise in enumerate(noises):
        on_progress(noise.name)
        ours.append(_ours(noise, plan, checks, np.random.default_rng([seed, place])))
        peers.extend(
            _peer(peer, noise, checks, np.random.default_rng([seed, place, number]))
            for number, peer in enumerate(PEERS, start=1)
        )
    on_progress("normal differences")
    power = tuple(_power(share, plan, checks, np.random.default_rng([seed, 1000])) for share in SPREADS)
    targets = (_few_alarms(ours, checks), _enough_power(power), _few_blocks(ours, power, plan))
    excess = detectable_excess(plan) or math.nan
    sources = tuple((trace.name, trace.source) for trace in traces)
    return Proof(seed, checks, plan, excess, tuple(ours), tuple(peers), power, targets, sources)


def _ours(noise: Noise | Trace, plan: Plan, checks: int, rng: np.random.Generator) -> OurRates:
    machine = SimulatedMachine(noise, rng)
    suite, boundary = run_checks(machine, plan, checks, SUITE_JOBS, (0.0, plan.tolerance))
    single = run_checks(machine, plan, checks, 1, EFFECTS)
    spread = float(machine.differences(checks, 1, 1).std())
    return OurRates(noise.name, spread, suite, boundary, tuple(single))


def _peer(peer: Peer, noise: Noise | Trace, checks: int, rng: np.random.Generator) -> PeerRates:
    alone, *slower = run_peer(peer, noise, checks * SUITE_JOBS, EFFECTS, rng)
    suite = Share(int(alone.reshape(checks, SUITE_JOBS).any(axis=1).sum()), checks)
    return PeerRates(
        peer.name, noise.name, suite, tuple(Share(int(found.sum()), len(found)) for found in (alone, *slower))
    )


def _power(share: float, plan: Plan, checks: int, rng: np.random.Generator) -> Power:
    effects = (0.0, plan.log_tolerance, math.log1p(2 * plan.tolerance))
    return Power(share, *(run_normal(plan, checks, share * plan.log_tolerance, effect, rng) for effect in effects))


def _few_alarms(ours: Sequence[OurRates], checks: int) -> Target:
    worst = max(ours, key=lambda rates: rates.suite.regressed)
    share = Share(worst.suite.regressed, checks)
    return Target(
        "six unchanged jobs: at most 4 false alarms in 20,000 checks, whatever the noise",
        f"{share.hits} of {share.of:,} in the worst noise, so below {units.percent(share.upper, 3)} with 95 % confidence",
        share.share <= MOST_ALARMS,
    )


def _enough_power(power: Sequence[Power]) -> Target:
    half = next(each for each in power if each.spread_share == 0.5)
    found = half.twice.regressed / half.twice.checks
    return Target(
        "twice the tolerance is caught in 95 % of checks where the spread is half the tolerance, in at most 16 blocks",
        f"{units.percent(found, 1)} of {half.twice.checks:,}",
        found >= LEAST_POWER,
    )


def _few_blocks(ours: Sequence[OurRates], power: Sequence[Power], plan: Plan) -> Target:
    """Wherever the spread is at most half the tolerance: there the check is meant to work."""
    quiet = [rates.suite.median_blocks for rates in ours if rates.spread <= plan.log_tolerance / 2]
    median = [each.unchanged.median_blocks for each in power if each.spread_share <= 0.5] + quiet
    return Target(
        "nothing changed: a median of 6 to 8 blocks where the spread is at most half the tolerance",
        f"{min(median):.0f} to {max(median):.0f}, one job and six",
        max(median) <= 8,
    )
