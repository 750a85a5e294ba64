"""The check and the rules of other tools, run on simulated machines some twenty thousand times, and the results.

Enters a noise model, a number of checks and true slowdowns; leave counts. Every check measures fresh processes: ours in
pairs whose order a coin decides, one process after the other (the real runner lets them take turns, which is quieter),
each summarised by the median of its steps; a peer as that tool does by default. The decisions are those of `plan` and
`peers`, not copies of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from noise_models import START_SECONDS, STEP_SECONDS, NoiseModel, Trace, simulate_log_steps
from other_tools import OtherTool
from scipy.special import betaincinv

from cnnbench.regression.design import BoolArray, CheckPlan, append_mean, confirm_slowdown, screen_checks
from cnnbench.regression.signed_rank import Float64Array

STEPS_PER_PROCESS = 61
"""Timed steps of each process of ours, about 3 s. Odd, so that the median is a step's time and commutes with the log."""
STEPS_PER_CHUNK = 4_000_000
"""Steps simulated at once: 16 MB."""


@dataclass(frozen=True)
class Proportion:
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
class OutcomeCounts:
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

    noise: NoiseModel | Trace
    rng: np.random.Generator

    def draw_differences(self, checks: int, jobs: int, blocks: int) -> Float64Array:
        """Draw d of unchanged work, shape (checks, jobs, blocks)."""
        parts = [
            self._draw_differences_chunk((some, jobs, blocks))
            for some in _split_chunks(checks, STEPS_PER_CHUNK // (jobs * blocks * 2 * STEPS_PER_PROCESS))
        ]
        return np.concatenate(parts) if parts else np.empty((0, jobs, blocks))

    def _draw_differences_chunk(self, shape: tuple[int, ...]) -> Float64Array:
        head_first = self.rng.random(shape) < 0.5
        process_seconds = START_SECONDS + STEPS_PER_PROCESS * STEP_SECONDS
        base, head = (
            np.median(
                simulate_log_steps(self.noise, self.rng, process_seconds * later.astype(np.float64), STEPS_PER_PROCESS),
                axis=-1,
            )
            for later in (head_first, ~head_first)
        )
        return np.asarray(head - base, dtype=np.float64)


def run_checks(
    machine: SimulatedMachine, plan: CheckPlan, checks: int, jobs: int, effects: tuple[float, ...]
) -> list[OutcomeCounts]:
    """Run checks of `jobs` jobs (and their geometric mean, for several), all slower by each true effect in turn.

    The screening sees the same noise at every effect; the confirmation is drawn again. An effect is a fraction.
    """
    unchanged = machine.draw_differences(checks, jobs, plan.max_blocks)
    return [_run_effect(machine, plan, unchanged, float(np.log1p(effect))) for effect in effects]


def run_normal(
    plan: CheckPlan, checks: int, spread: float, log_effect: float, rng: np.random.Generator
) -> OutcomeCounts:
    """Run checks of one job whose d is normal about `log_effect` with standard deviation `spread`, both log ratios."""

    def draw(some: int, blocks: int) -> Float64Array:
        return rng.normal(log_effect, spread, (some, 1, blocks))

    return _count_outcomes(draw(checks, plan.max_blocks), lambda some: draw(some, plan.confirm_blocks), plan)


def run_tool(
    tool: OtherTool, noise: NoiseModel | Trace, comparisons: int, effects: tuple[float, ...], rng: np.random.Generator
) -> list[BoolArray]:
    """Run the tool on each comparison, for each true effect: base first, then head, as the tools do."""
    steps = tool.values * tool.steps_per_value
    alarms: list[list[BoolArray]] = [[] for _ in effects]
    order = np.arange(2 * tool.processes) * (START_SECONDS + steps * STEP_SECONDS)
    for some in _split_chunks(comparisons, STEPS_PER_CHUNK // (2 * tool.processes * steps)):
        logs = simulate_log_steps(noise, rng, np.broadcast_to(order, (some, len(order))), steps).astype(np.float64)
        times = STEP_SECONDS * np.exp(logs).reshape(some, 2, tool.processes, tool.values, tool.steps_per_value)
        values = times.mean(axis=-1)
        for found, effect in zip(alarms, effects, strict=True):
            found.append(tool.rule(values[:, 0], values[:, 1] * (1 + effect)))
    return [np.concatenate(found) for found in alarms]


def _run_effect(
    machine: SimulatedMachine, plan: CheckPlan, unchanged: Float64Array, log_effect: float
) -> OutcomeCounts:
    def draw(suspected: int) -> Float64Array:
        return append_mean(machine.draw_differences(suspected, unchanged.shape[1], plan.confirm_blocks) + log_effect)

    return _count_outcomes(append_mean(unchanged + log_effect), draw, plan)


def _count_outcomes(
    log_ratios: Float64Array, draw_fresh: Callable[[int], Float64Array], plan: CheckPlan
) -> OutcomeCounts:
    """`draw_fresh(n)` gives the confirmation's blocks of n checks, of the same series."""
    ended = screen_checks(log_ratios, plan)
    suspects = ended.suspects[ended.suspects.any(axis=-1)]
    regressed = int((confirm_slowdown(draw_fresh(len(suspects)), plan) & suspects).any(axis=-1).sum())
    passed = int(ended.passed.sum())
    undecided = len(log_ratios) - passed - regressed
    return OutcomeCounts(len(log_ratios), passed, regressed, undecided, len(suspects), float(np.median(ended.blocks)))


def _split_chunks(total: int, most: int) -> Iterator[int]:
    for begin in range(0, total, max(1, most)):
        yield min(max(1, most), total - begin)
