"""The clocks: warm up, synchronise, time. The only module that times work.

Between start and stop are the work and the one synchronisation that ends it; no logging, no allocation of ours, no
reading of results. The clock is an argument, so a test can pass a fake one. A change of a rule here raises
`schema.PROTOCOL`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from cnnbench.schema import Evaluation

NANO = 1e-9
NanosecondClock = Callable[[], int]
"""Monotonic nanoseconds."""
Steps = Callable[[int], None]
"""Does that many steps, queued or done but never synchronised, like a single step."""
OnSteps = Callable[[int], None]
"""Called with the number of timed steps done; sends at most one message per second by itself."""


@contextmanager
def disable_gc() -> Iterator[None]:
    """Collect garbage, then disable cyclic garbage collection inside the block and restore its state afterwards."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def warm_up(
    step: Callable[[], None],
    synchronize: Callable[[], None],
    steps: int,
    *,
    after_step: Callable[[], None] | None = None,
    clock: NanosecondClock = time.perf_counter_ns,
) -> tuple[float, ...]:
    """Do `steps` steps, synchronised one by one, and return the seconds of each; `after_step` is not timed."""
    seconds = []
    synchronize()
    for _ in range(steps):
        start = clock()
        step()
        synchronize()
        seconds.append((clock() - start) * NANO)
        if after_step is not None:
            after_step()
    return tuple(seconds)


def time_paired_turn(
    step: Callable[[], None],
    synchronize: Callable[[], None],
    steps: int,
    *,
    each_step: bool,
    many: Steps | None = None,
    clock: NanosecondClock = time.perf_counter_ns,
) -> tuple[float, ...]:
    """Time one turn of a paired measurement after a first step, which warms the caches that the other arm filled.

    Returns the seconds of each timed step if `each_step` is true. Otherwise steps are queued, a synchronisation after
    each would change them, and the result is their mean in one value; `many`, where given, does them in one call.
    Rounded to whole nanoseconds, the clock's own resolution.
    """
    step()
    synchronize()
    kept = steps - 1
    if not each_step:
        start = clock()
        (many or _repeat_step(step))(kept)
        synchronize()
        return (round((clock() - start) * NANO / kept, 9),)
    marks = [0] * steps
    marks[0] = clock()
    for number in range(kept):
        step()
        synchronize()
        marks[number + 1] = clock()
    return tuple(round((end - start) * NANO, 9) for start, end in pairwise(marks))


def time_blocks(
    step: Callable[[], object],
    synchronize: Callable[[], None],
    *,
    blocks: int,
    steps_per_block: int,
    steps: Steps | None = None,
    after_block: Callable[[], None] | None = None,
    on_steps: OnSteps | None = None,
    clock: NanosecondClock = time.perf_counter_ns,
) -> tuple[float, ...]:
    """Time each block from an idle device to an idle device, in seconds: the steady-state clock.

    `after_block` and `on_steps` run between blocks. `steps`, where given, does a block's steps in one call instead of
    one call of `step` for each.
    """
    seconds = [0.0] * blocks
    run = steps or _repeat_step(step)
    synchronize()
    for block in range(blocks):
        start = clock()
        run(steps_per_block)
        synchronize()
        seconds[block] = (clock() - start) * NANO
        if after_block is not None:
            after_block()
        if on_steps is not None:
            on_steps((block + 1) * steps_per_block)
    return tuple(seconds)


def _repeat_step(step: Callable[[], object]) -> Steps:
    def steps(count: int) -> None:
        for _ in range(count):
            step()

    return steps


@dataclass(frozen=True)
class JobTiming:
    """The job clock's result; `job_seconds` includes the evaluations, `epoch_seconds` leaves them out."""

    job_seconds: float
    evaluation_seconds: float
    epoch_seconds: tuple[float, ...]
    evaluations: tuple[Evaluation, ...]
    stopped_early: bool
    before_seconds: float = 0.0
    """The part of `job_seconds` before the first epoch."""
    before_steps: int = 0


def time_job(
    step: Callable[[], None],
    synchronize: Callable[[], None],
    *,
    epochs: int,
    steps_per_epoch: int,
    steps: Steps | None = None,
    steps_per_launch: int = 1,
    evaluate: Callable[[], tuple[int, int]] | None = None,
    stop: Callable[[int, int], bool] | None = None,
    pretrain: Callable[[], int] | None = None,
    after_epoch: Callable[[], None] | None = None,
    report: OnSteps | None = None,
    clock: NanosecondClock = time.perf_counter_ns,
) -> JobTiming:
    """Time a whole job from the first batch drawn to the last step synchronised; evaluations are also timed separately.

    `evaluate` gives (correct, images) after each epoch, and the job ends when `stop` of these is true: under the
    accuracy clock an epoch is the steps between two evaluations. `pretrain` is the job's work before its epochs and
    gives the steps it took. `after_epoch` notes a loss without waiting for it. `report` is called after every call of
    `steps`; its cost is inside the job clock (`suites/bench_harness.py` measures it). `steps`, where given, does up to
    `steps_per_launch` steps in one call, instead of one call of `step` for each.
    """
    run = steps or _repeat_step(step)
    epoch_seconds = []
    evaluations = []
    evaluation_ns = done = 0
    stopped = False
    synchronize()
    job_start = mark = clock()
    before_steps = 0
    if pretrain is not None:
        before_steps = pretrain()
        synchronize()
        mark = clock()
    begun = mark
    for _ in range(epochs):
        for begin in range(0, steps_per_epoch, steps_per_launch):
            count = min(steps_per_launch, steps_per_epoch - begin)
            run(count)
            if report is not None:
                done += count
                report(done)
        synchronize()
        end = clock()
        epoch_seconds.append((end - mark) * NANO)
        mark = end
        if after_epoch is not None:
            after_epoch()
        if evaluate is not None:
            correct, images = evaluate()
            mark = clock()
            evaluation_ns += mark - end
            after = len(epoch_seconds) * steps_per_epoch
            evaluations.append(
                Evaluation(after_steps=after, images=images, correct=correct, seconds=(mark - end) * NANO)
            )
            if stop is not None and stop(correct, images):
                stopped = len(epoch_seconds) < epochs
                break
    return JobTiming(
        (mark - job_start) * NANO,
        evaluation_ns * NANO,
        tuple(epoch_seconds),
        tuple(evaluations),
        stopped,
        (begun - job_start) * NANO,
        before_steps,
    )
