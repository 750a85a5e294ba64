"""The check and the rules of other tools, run on simulated machines some twenty thousand times, and what came of it.

Enters a noise model, a number of checks and true slowdowns; leave counts. Every check measures fresh processes: ours in
pairs whose order a coin decides, one process after the other (the real runner lets them take turns, which is quieter),
each summarised by the median of its steps; a peer as that tool does by default. The decisions are those of `plan` and
`peers`, not copies of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from cnnbench.gate.noise import START_SECONDS, STEP_SECONDS, Noise, Trace, log_steps
from cnnbench.gate.peers import Peer
from cnnbench.gate.plan import Flags, Plan, confirms, screen
from cnnbench.gate.signflip import Floats

STEPS = 61
"""Timed steps of each process of ours, about 3 s. Odd, so that the median is a step's time and commutes with the log."""
CHUNK = 4_000_000
"""Steps simulated at once: 16 MB."""


@dataclass(frozen=True)
class Share:
    """`hits` of `of`, with the exact one-sided 95 % upper bound (C. J. Clopper and E. S. Pearson, Biometrika 26, 1934)."""

    hits: int
    of: int

    @property
    def share(self) -> float:
        """The share itself."""
        return self.hits / self.of

    @property
    def upper(self) -> float:
        """The largest probability that would show so few hits in 5 % of simulations: 1.5e-4 for 0 of 20,000."""
        return 1.0 if self.hits == self.of else float(betaincinv(self.hits + 1, self.of - self.hits, 0.95))


@dataclass(frozen=True)
class Ended:
    """How many of `checks` checks ended how; `suspected` went into the second stage. `median_blocks` is of the screening."""

    checks: int
    passed: int
    regressed: int
    inconclusive: int
    suspected: int
    median_blocks: float


@dataclass(frozen=True)
class SimulatedMachine:
    """A simulated machine: its noise and how our differences are drawn on it."""

    noise: Noise | Trace
    rng: np.random.Generator

    def differences(self, checks: int, jobs: int, blocks: int) -> Floats:
        """d of unchanged work, shape (checks, jobs, blocks)."""
        parts = [self._pairs((some, jobs, blocks)) for some in _chunks(checks, CHUNK // (jobs * blocks * 2 * STEPS))]
        return np.concatenate(parts) if parts else np.empty((0, jobs, blocks))

    def _pairs(self, shape: tuple[int, ...]) -> Floats:
        head_first = self.rng.random(shape) < 0.5
        process_seconds = START_SECONDS + STEPS * STEP_SECONDS
        base, head = (
            np.median(log_steps(self.noise, self.rng, process_seconds * later.astype(np.float64), STEPS), axis=-1)
            for later in (head_first, ~head_first)
        )
        return np.asarray(head - base, dtype=np.float64)


def run_checks(
    machine: SimulatedMachine, plan: Plan, checks: int, jobs: int, effects: tuple[float, ...]
) -> list[Ended]:
    """Checks of `jobs` jobs (and their geometric mean, where they are several), all slower by each true effect in turn.

    The screening sees the same noise at every effect; the confirmation is drawn afresh. An effect is a fraction.
    """
    unchanged = machine.differences(checks, jobs, plan.most_blocks)
    return [_run(machine, plan, unchanged, float(np.log1p(effect))) for effect in effects]


def run_normal(plan: Plan, checks: int, spread: float, log_effect: float, rng: np.random.Generator) -> Ended:
    """Checks of one job whose d is normal about `log_effect` with standard deviation `spread`, both log ratios."""

    def draw(some: int, blocks: int) -> Floats:
        return rng.normal(log_effect, spread, (some, 1, blocks))

    return _end(draw(checks, plan.most_blocks), lambda some: draw(some, plan.confirm_blocks), plan)


def run_peer(
    peer: Peer, noise: Noise | Trace, comparisons: int, effects: tuple[float, ...], rng: np.random.Generator
) -> list[Flags]:
    """Whether the tool alarms in each comparison, for each true effect: base first, then head, as the tools do."""
    steps = peer.values * peer.steps_a_value
    alarms: list[list[Flags]] = [[] for _ in effects]
    order = np.arange(2 * peer.processes) * (START_SECONDS + steps * STEP_SECONDS)
    for some in _chunks(comparisons, CHUNK // (2 * peer.processes * steps)):
        logs = log_steps(noise, rng, np.broadcast_to(order, (some, len(order))), steps).astype(np.float64)
        times = STEP_SECONDS * np.exp(logs).reshape(some, 2, peer.processes, peer.values, peer.steps_a_value)
        values = times.mean(axis=-1)
        for found, effect in zip(alarms, effects, strict=True):
            found.append(peer.rule(values[:, 0], values[:, 1] * (1 + effect)))
    return [np.concatenate(found) for found in alarms]


def with_mean(d: Floats) -> Floats:
    """The jobs of shape (checks, jobs, blocks), and their geometric mean after them where they are several."""
    return d if d.shape[1] == 1 else np.concatenate([d, d.mean(axis=1, keepdims=True)], axis=1)


def _run(machine: SimulatedMachine, plan: Plan, unchanged: Floats, log_effect: float) -> Ended:
    def draw(suspected: int) -> Floats:
        return with_mean(machine.differences(suspected, unchanged.shape[1], plan.confirm_blocks) + log_effect)

    return _end(with_mean(unchanged + log_effect), draw, plan)


def _end(d: Floats, draw_fresh: Callable[[int], Floats], plan: Plan) -> Ended:
    """`draw_fresh(n)` gives the confirmation's blocks of n checks, of the same series."""
    ended = screen(d, plan)
    suspects = ended.suspects[ended.suspects.any(axis=-1)]
    regressed = int((confirms(draw_fresh(len(suspects)), plan) & suspects).any(axis=-1).sum())
    passed = int(ended.passed.sum())
    undecided = len(d) - passed - regressed
    return Ended(len(d), passed, regressed, undecided, len(suspects), float(np.median(ended.blocks)))


def _chunks(total: int, most: int) -> Iterator[int]:
    for begin in range(0, total, max(1, most)):
        yield min(max(1, most), total - begin)
