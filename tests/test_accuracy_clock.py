"""Time to accuracy by first crossing: where the clock starts and stops, what is kept, and what a miss is called."""

from __future__ import annotations

import pytest

from cnnbench.devices import backend
from cnnbench.engine.build import build
from cnnbench.engine.outcome import classify
from cnnbench.engine.process import ProgressWriter
from cnnbench.engine.timing import JobTiming, time_job
from cnnbench.engine.trial import make_target_test, time_region
from cnnbench.schema import Evaluation, Job

QUIET = ProgressWriter(None)


def accuracy_job(**changes: object) -> Job:
    base = Job(
        workload="mlp-1", workload_version=1, batch_size=100, optimizer="adam", init="normal-0.1", data="synthetic",
        split="train-55000", clock="accuracy", target=0.9, epochs=4, steps_per_epoch=550, evaluate_every=275,
        final_evaluation=False, seed=3,
    )  # fmt: skip
    return base.model_copy(update=changes)


def test_it_stops_at_the_first_evaluation_that_reaches_the_target() -> None:
    """Steps of 1 s, evaluations of 2 s: 60, 80, 95 of 100 right, target 90 %."""
    now, right = [0], iter((60, 80, 95, 99))

    def tick(seconds: int) -> None:
        now[0] += seconds * 10**9

    timing = time_job(
        lambda: tick(1),
        lambda: None,
        epochs=9,
        steps_per_epoch=5,
        evaluate=lambda: (tick(2), (next(right), 100))[1],
        stop=make_target_test(0.9),
        clock=lambda: now[0],
    )
    assert timing.stopped_early
    assert timing.job_seconds == pytest.approx(3 * 5 + 3 * 2)
    assert [each.after_steps for each in timing.evaluations] == [5, 10, 15]
    assert timing.evaluations[-1].correct == 95


@pytest.mark.parametrize(("correct", "enough"), [(9899, False), (9900, True), (9901, True)])
def test_the_target_is_reached_at_it_and_not_below(correct: int, enough: bool) -> None:
    assert make_target_test(0.99)(correct, 10_000) is enough


def timed(job: Job, losses: list) -> JobTiming:
    attached = backend("cpu").attach(threads=1)
    run = build(job, None, attached)
    return time_region(job, run, attached, QUIET, losses)


@pytest.mark.slow("whole trainings")
def test_a_real_network_reaches_it() -> None:
    """Procedural digits, one hidden layer: it stops early, on all test images, and keeps one loss per block."""
    losses: list = []
    timing = timed(accuracy_job(), losses)
    assert timing.stopped_early
    last = timing.evaluations[-1]
    assert last.images == 10_000
    assert last.correct >= 9_000
    assert all(each.correct < 9_000 for each in timing.evaluations[:-1])
    assert len(losses) == len(timing.epoch_seconds) == len(timing.evaluations)


@pytest.mark.slow("whole trainings")
def test_one_that_cannot_reach_it_stops_at_its_limit() -> None:
    """Every image right is out of reach in two looks."""
    job = accuracy_job(target=1.0, epochs=1)
    timing = timed(job, [])
    assert not timing.stopped_early
    assert [each.after_steps for each in timing.evaluations] == [275, 550]


def test_a_miss_is_typed_and_keeps_its_trial() -> None:
    import builders as b

    job = accuracy_job(target=0.99)
    test = Evaluation(after_steps=2200, images=10_000, correct=9_870, seconds=1.0)
    record = b.trial(b.cnn_job(), test=test, first_losses=(2.3,), final_loss=0.1)
    outcome = classify(job, record, [2.3], 0.1, {"matmul_error": 1e-7, "conv_error": 1e-7})
    assert outcome.status == "missed"
    assert outcome.trial is record
    assert outcome.message == "98.70 % after 2,200 steps (4 epochs, the limit); the target is 99.00 %"


@pytest.mark.parametrize(("first", "status"), [(6.9, "ok"), (7.5, "ok"), (2.3, "diverged"), (15.0, "diverged")])
def test_random_images_begin_near_guessing(first: float, status: str) -> None:
    """ln(1000) = 6.908, a quarter to either side."""
    import builders as b

    job = Job(workload="vgg16", workload_version=1, batch_size=2, data="random", final_evaluation=False)
    outcome = classify(job, b.trial(job), [first], 6.5, {"matmul_error": 1e-7, "conv_error": 1e-7})
    assert outcome.status == status
