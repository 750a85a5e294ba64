"""One job of a paired measurement inside an arm's worker: built, timed in turns, slowed down on request, and counted.

An arm's work is counted and digested outside all timing, so that two arms can be compared for equal work. The injected
slowdown of `check calibrate` is real extra work, a share of the step run once more inside the timed region, and never a sleep:
for a network a forward pass over part of a batch of digits, without gradients and with dropout off, so it draws no random
numbers and trains nothing; for a product a product of part of the rows. Its amount is in batches (or in whole products).
"""

from __future__ import annotations

import copy
import hashlib
import math
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import torch

from cnnbench import workloads
from cnnbench.engine.build import set_up
from cnnbench.engine.timing import NanosecondClock, disable_gc, time_paired_turn, warm_up
from cnnbench.engine.training import GemmStep, TimedStep, Training
from cnnbench.errors import DivergedError, WorkloadError
from cnnbench.paired_protocol import Injection, Setup, WorkDone
from cnnbench.schema import Job

FIRST_LOSSES = 5


class InjectedWork:
    """Work that each step runs once more, timed by itself: so its share is known in the same steps as the estimate."""

    def __init__(
        self, work: Callable[[], None], synchronize: Callable[[], None], clock: NanosecondClock = time.perf_counter_ns
    ) -> None:
        self.work, self._synchronize, self._clock = work, synchronize, clock
        self.seconds: list[float] = []

    def run(self) -> None:
        """Run the work and keep its seconds."""
        start = self._clock()
        self.work()
        self._synchronize()
        self.seconds.append(round((self._clock() - start) * 1e-9, 9))


class PairedJob:
    """The job being measured in this process, from its build to the report of its work."""

    def __init__(self, setup: Setup, number: int) -> None:
        self._job = job = setup.jobs[number]
        self._attached, self._timed = set_up(job, setup.data_dir)
        self._first_losses = first_losses(self._timed)
        amount = setup.again.get(number, 0.0)
        self._injected = InjectedWork(make_injected_work(self._timed, amount), self._attached.synchronize)
        # queued work is not synchronised between the step and what is injected, which would change both
        self._times_injected = amount > 0 and self._attached.kind == "cpu"
        step, injected = self._timed.step, self._injected.run if self._times_injected else self._injected.work

        def both() -> None:
            step()
            injected()

        self._step = both
        self._many = None if amount else self._timed.steps
        warm_up(self._step, self._attached.synchronize, job.warmup_steps)
        self._timed.reset()
        self._attached.synchronize()
        self._steps = 0
        self._gc_disabled = ExitStack()
        self._gc_disabled.enter_context(disable_gc())
        self._faults_before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def turn(self, steps: int) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
        """Take a turn; seconds of each step, or their mean where steps are queued, and of the work injected in them."""
        self._injected.seconds.clear()
        each = self._attached.kind == "cpu"
        seconds = time_paired_turn(self._step, self._attached.synchronize, steps, each_step=each, many=self._many)
        self._steps += steps
        # the first step of a turn is not kept
        return seconds, tuple(self._injected.seconds[1:]) if self._times_injected else None

    def calibrate_injection(self, slowdown: float) -> Injection:
        """Find how much of the step must run again to make it longer by `slowdown`."""
        return calibrate_injection(self._timed, self._attached.synchronize, slowdown)

    def finish(self) -> WorkDone:
        """End this job and return the work done."""
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - self._faults_before
        self._gc_disabled.close()
        return count_work(self._job, self._timed, self._steps, self._first_losses, faults)


def first_losses(timed: TimedStep) -> tuple[float, ...] | None:
    """Compute the first steps' losses with dropout off, then reset; None without a loss. Raises DivergedError."""
    if not isinstance(timed, Training):
        return None
    timed.reset()
    timed.disable_dropout()
    losses: list[float] = []
    for _ in range(FIRST_LOSSES):
        timed.step()
        loss = timed.loss()
        if loss is None or not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss} after {len(losses) + 1} steps")
        losses.append(loss)
    timed.reset()
    return tuple(losses)


def count_work(job: Job, timed: TimedStep, steps: int, losses: tuple[float, ...] | None, minor_faults: int) -> WorkDone:
    """Count the work of `steps` steps. Restarts the batches and draws them once more, for their digest."""
    images, final_loss, order_digest = timed.images_drawn, timed.loss(), ""
    if isinstance(timed, Training):
        timed.reset()
        hashed = hashlib.sha256()
        for _ in range(steps):
            hashed.update(timed.draw()[1].cpu().numpy().tobytes())
        order_digest = hashed.hexdigest()
    return WorkDone(
        images=images,
        batches=images // job.batch_size,
        order_digest=order_digest,
        parameters=timed.parameters,
        flops=steps * workloads.flops_per_step(job),
        optimizer_steps=steps if timed.trains else 0,
        precision=job.precision,
        first_losses=losses,
        final_loss=final_loss if final_loss is not None and math.isfinite(final_loss) else None,
        minor_faults=minor_faults,
    )


MAX_AMOUNT = 100.0
TIMED_PAIRS = 24
RELATIVE_TOLERANCE = 0.05
"""Tolerance of the search, relative to the slowdown asked for."""


def make_injected_work(timed: TimedStep, amount: float) -> Callable[[], None]:
    """Make the extra work that each step runs, worth `amount` batches; nothing for 0."""
    if amount <= 0:
        return lambda: None
    if isinstance(timed, GemmStep):
        return lambda: timed.repeat(amount)
    assert isinstance(timed, Training)
    images, _ = timed.draw()
    timed.reset()
    shared = {id(parameter): parameter for parameter in timed.network.parameters()}
    network = copy.deepcopy(timed.network, shared).eval()
    whole, rest = divmod(max(1, round(amount * len(images))), len(images))
    parts = [images] * whole + ([images[:rest].clone()] if rest else [])

    def run_passes() -> None:
        with torch.no_grad():
            for part in parts:
                network(part)

    return run_passes


def calibrate_injection(
    timed: TimedStep, synchronize: Callable[[], None], slowdown: float, clock: NanosecondClock = time.perf_counter_ns
) -> Injection:
    """Find the amount that makes a step longer by `slowdown`, by up to six secant steps on interleaved medians.

    Raises WorkloadError if no amount comes near it (for example because one launch costs more).
    """
    amount, best = 3.0 * slowdown, Injection(again=0.0, measured=-1.0)
    for _ in range(6):
        injected = make_injected_work(timed, amount)
        alone: list[int] = []
        both: list[int] = []
        for number in range(2 * TIMED_PAIRS):
            extra = number % 2 == 1
            start = clock()
            timed.step()
            if extra:
                injected()
            synchronize()
            (both if extra else alone).append(clock() - start)
        measured = statistics.median(both) / statistics.median(alone) - 1.0
        if abs(measured - slowdown) < abs(best.measured - slowdown):
            best = Injection(again=amount, measured=measured)
        if abs(measured - slowdown) <= RELATIVE_TOLERANCE * slowdown:
            break
        amount = min(MAX_AMOUNT, amount * min(4.0, max(0.25, slowdown / max(measured, 0.1 * slowdown))))
    if abs(best.measured - slowdown) > 0.3 * slowdown:
        raise WorkloadError(
            f"no part of a step takes {slowdown:.1%} of it: the nearest found takes {best.measured:.1%}"
        )
    return best
