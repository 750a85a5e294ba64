"""The clocks against a fake clock: what is inside, what is outside, what is counted."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from cnnbench.engine.timing import disable_gc, time_blocks, time_job, time_paired_turn, warm_up


class FakeTime:
    """A clock that moves only when work, synchronisation or evaluation says so."""

    def __init__(self, step_ns: int = 0, sync_ns: int = 0, evaluation_ns: int = 0) -> None:
        self.now = self.steps = self.syncs = 0
        self._step_ns, self._sync_ns, self._evaluation_ns = step_ns, sync_ns, evaluation_ns
        self.pending = 0

    def clock(self) -> int:
        return self.now

    def step(self) -> None:
        self.steps += 1
        self.pending += self._step_ns  # queued, as on an accelerator

    def synchronize(self) -> None:
        self.syncs += 1
        self.now += self.pending + self._sync_ns
        self.pending = 0

    def evaluate(self) -> tuple[int, int]:
        self.synchronize()
        self.now += self._evaluation_ns
        return 1, 2


@given(step=st.integers(1, 10**9), blocks=st.integers(1, 20), steps=st.integers(1, 20))
def test_a_block_is_its_steps_and_one_synchronisation(step: int, blocks: int, steps: int) -> None:
    """Queued work is charged to the block that queued it, never to the next."""
    fake = FakeTime(step_ns=step, sync_ns=7)
    seconds = time_blocks(fake.step, fake.synchronize, blocks=blocks, steps_per_block=steps, clock=fake.clock)
    assert seconds == tuple([(steps * step + 7) * 1e-9] * blocks)
    assert fake.steps == blocks * steps
    assert fake.syncs == blocks + 1


def test_work_pending_before_the_first_block_is_not_charged_to_it() -> None:
    """The device is idle when a block starts."""
    fake = FakeTime(step_ns=10)
    fake.pending = 10**9
    assert time_blocks(fake.step, fake.synchronize, blocks=1, steps_per_block=1, clock=fake.clock) == (1e-8,)


def test_progress_stands_outside_the_blocks() -> None:
    """A slow progress report changes no block."""
    fake = FakeTime(step_ns=10)

    def report(done: int) -> None:
        fake.now += 10**9

    assert time_blocks(fake.step, fake.synchronize, blocks=3, steps_per_block=2, on_steps=report, clock=fake.clock) == (
        2e-8,
        2e-8,
        2e-8,
    )


def test_warm_up_times_each_step_and_not_what_follows_it() -> None:
    """One synchronised time a step."""
    fake = FakeTime(step_ns=5)
    seconds = warm_up(
        fake.step, fake.synchronize, 3, after_step=lambda: setattr(fake, "now", fake.now + 99), clock=fake.clock
    )
    assert seconds == (5e-9, 5e-9, 5e-9)


def test_the_job_clock_includes_evaluations_and_tells_them_apart() -> None:
    """job = epochs + evaluations, exactly."""
    fake = FakeTime(step_ns=10, evaluation_ns=1000)
    timing = time_job(
        fake.step, fake.synchronize, epochs=4, steps_per_epoch=5, evaluate=fake.evaluate, clock=fake.clock
    )
    assert [round(s * 1e9) for s in timing.epoch_seconds] == [50] * 4
    assert round(timing.evaluation_seconds * 1e9) == 4000
    assert round(timing.job_seconds * 1e9) == 4 * 50 + 4000
    assert [e.after_steps for e in timing.evaluations] == [5, 10, 15, 20]
    assert not timing.stopped_early


def test_the_notebooks_stop_ends_the_job_at_the_first_all_right_evaluation() -> None:
    """Later epochs are not run."""
    fake = FakeTime(step_ns=10)
    answers = iter([(199, 200), (200, 200), (200, 200)])
    timing = time_job(
        fake.step,
        fake.synchronize,
        epochs=3,
        steps_per_epoch=2,
        evaluate=lambda: next(answers),
        stop=lambda correct, images: correct == images,
        clock=fake.clock,
    )
    assert timing.stopped_early
    assert fake.steps == 4


def test_the_garbage_collector_is_off_inside_and_as_before_outside() -> None:
    """Restored whatever it was, also after an error."""
    for before in (True, False):
        (gc.enable if before else gc.disable)()
        try:
            with disable_gc():
                assert not gc.isenabled()
                raise KeyError
        except KeyError:
            assert gc.isenabled() is before
    gc.enable()


@given(steps=st.integers(1, 30), at_once=st.integers(1, 12))
def test_steps_in_one_call_are_as_many_and_take_as_long(steps: int, at_once: int) -> None:
    """Whatever is done in a call: the same times, the same steps, each reported once, none more than asked for in a call."""
    fake, calls, told = FakeTime(step_ns=10), [], []

    def many(count: int) -> None:
        calls.append(count)
        for _ in range(count):
            fake.step()

    timing = time_job(
        fake.step, fake.synchronize, epochs=2, steps_per_epoch=steps, steps=many, steps_per_launch=at_once, report=told.append,
        clock=fake.clock,
    )  # fmt: skip
    assert [round(s * 1e9) for s in timing.epoch_seconds] == [10 * steps] * 2
    assert (sum(calls), max(calls), fake.steps) == (2 * steps, min(at_once, steps), 2 * steps)
    assert told[-1] == 2 * steps
    blocks = time_blocks(
        fake.step, fake.synchronize, blocks=3, steps_per_block=steps, steps=many, clock=fake.clock
    )  # fmt: skip
    assert blocks == (steps * 10 * 1e-9,) * 3
    assert calls[-3:] == [steps] * 3


def test_a_turn_of_queued_steps_is_one_call_after_the_first_step() -> None:
    fake, calls = FakeTime(step_ns=10), []

    def many(count: int) -> None:
        calls.append(count)
        fake.pending += 10 * count

    assert time_paired_turn(fake.step, fake.synchronize, 9, each_step=False, many=many, clock=fake.clock) == (1e-8,)
    assert (fake.steps, calls) == (1, [8])
