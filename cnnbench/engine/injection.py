"""Real extra work for `selftest`: a share of the step, run once more inside the timed region. Never a sleep.

For a network the work is a forward pass over part of a batch of digits, without gradients and with dropout off, so it
draws no random numbers and trains nothing: losses and counters stay those of the job. For a product it is a product of
part of the rows. The amount is in batches (or in whole products): 0.25 is a quarter of one.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch

from cnnbench.engine.timing import NanosecondClock
from cnnbench.engine.training import GemmStep, NetworkStep, TimedStep
from cnnbench.errors import WorkloadError

MAX_AMOUNT = 100.0
MAX_TRIES = 6
TIMED_PAIRS = 24
RELATIVE_TOLERANCE = 0.05
"""Of the share asked for: as near as the amount is sought."""


def make_injected_work(timed: TimedStep, amount: float) -> Callable[[], None]:
    """What each step runs besides, `amount` batches' worth; nothing for 0."""
    if amount <= 0:
        return lambda: None
    if isinstance(timed, NetworkStep):
        return _make_forward_passes(timed, amount)
    if isinstance(timed, GemmStep):
        return lambda: timed.repeat(amount)
    raise WorkloadError("only the reference step can be run again in part")


def calibrate_injection(
    timed: TimedStep, synchronize: Callable[[], None], slowdown: float, clock: NanosecondClock = time.perf_counter_ns
) -> tuple[float, float]:
    """The amount that makes a step longer by `share`, and the share measured: secant steps on interleaved medians.

    Raises WorkloadError where amounts of this kind cannot come near it (one launch may cost more, say).
    """
    amount, best = 3.0 * slowdown, (0.0, -1.0)
    for _ in range(MAX_TRIES):
        measured = _measure_slowdown(timed.step, make_injected_work(timed, amount), synchronize, clock)
        if abs(measured - slowdown) < abs(best[1] - slowdown):
            best = (amount, measured)
        if abs(measured - slowdown) <= RELATIVE_TOLERANCE * slowdown:
            break
        amount = min(MAX_AMOUNT, amount * min(4.0, max(0.25, slowdown / max(measured, 0.1 * slowdown))))
    if abs(best[1] - slowdown) > 0.3 * slowdown:
        raise WorkloadError(f"no part of a step takes {slowdown:.1%} of it: the nearest found takes {best[1]:.1%}")
    return best


def _measure_slowdown(
    step: Callable[[], None], injected: Callable[[], None], synchronize: Callable[[], None], clock: NanosecondClock
) -> float:
    alone: list[int] = []
    both: list[int] = []
    for number in range(2 * TIMED_PAIRS):
        extra = number % 2 == 1
        start = clock()
        step()
        if extra:
            injected()
        synchronize()
        (both if extra else alone).append(clock() - start)
    return statistics.median(both) / statistics.median(alone) - 1.0


def _make_forward_passes(training: NetworkStep, amount: float) -> Callable[[], None]:
    images, _ = training.draw()
    training.reset()
    shared = {id(parameter): parameter for parameter in training.network.parameters()}
    network = copy.deepcopy(training.network, shared).eval()
    whole, rest = divmod(max(1, round(amount * len(images))), len(images))
    parts = [images] * whole + ([images[:rest].clone()] if rest else [])

    def run_passes() -> None:
        with torch.no_grad():
            for part in parts:
                network(part)

    return run_passes
