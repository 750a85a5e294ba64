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

from cnnbench.engine.loop import Networked, Products, Timed
from cnnbench.engine.measure import Clock
from cnnbench.errors import WorkloadError

MOST_AMOUNT = 100.0
TRIES = 6
PAIRS = 24
CLOSE = 0.05
"""Of the share asked for: as near as the amount is sought."""


def make_again(timed: Timed, amount: float) -> Callable[[], None]:
    """What each step runs besides, `amount` batches' worth; nothing for 0."""
    if amount <= 0:
        return lambda: None
    if isinstance(timed, Networked):
        return _forwards(timed, amount)
    if isinstance(timed, Products):
        return lambda: timed.repeat(amount)
    raise WorkloadError("only the reference step can be run again in part")


def find_share(
    timed: Timed, synchronize: Callable[[], None], share: float, clock: Clock = time.perf_counter_ns
) -> tuple[float, float]:
    """The amount that makes a step longer by `share`, and the share measured: secant steps on interleaved medians.

    Raises WorkloadError where amounts of this kind cannot come near it (one launch may cost more, say).
    """
    amount, best = 3.0 * share, (0.0, -1.0)
    for _ in range(TRIES):
        measured = _measure(timed.step, make_again(timed, amount), synchronize, clock)
        if abs(measured - share) < abs(best[1] - share):
            best = (amount, measured)
        if abs(measured - share) <= CLOSE * share:
            break
        amount = min(MOST_AMOUNT, amount * min(4.0, max(0.25, share / max(measured, 0.1 * share))))
    if abs(best[1] - share) > 0.3 * share:
        raise WorkloadError(f"no part of a step takes {share:.1%} of it: the nearest found takes {best[1]:.1%}")
    return best


def _measure(
    step: Callable[[], None], again: Callable[[], None], synchronize: Callable[[], None], clock: Clock
) -> float:
    alone: list[int] = []
    both: list[int] = []
    for number in range(2 * PAIRS):
        extra = number % 2 == 1
        start = clock()
        step()
        if extra:
            again()
        synchronize()
        (both if extra else alone).append(clock() - start)
    return statistics.median(both) / statistics.median(alone) - 1.0


def _forwards(training: Networked, amount: float) -> Callable[[], None]:
    images, _ = training.draw()
    training.reset()
    shared = {id(parameter): parameter for parameter in training.network.parameters()}
    network = copy.deepcopy(training.network, shared).eval()
    whole, rest = divmod(max(1, round(amount * len(images))), len(images))
    parts = [images] * whole + ([images[:rest].clone()] if rest else [])

    def again() -> None:
        with torch.no_grad():
            for part in parts:
                network(part)

    return again
