"""The worker's side of a paired block: what a turn times, what work it shows, and what is run again on purpose."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from functools import cache

import pytest
import torch

from cnnbench import workloads
from cnnbench.data import Dataset, load
from cnnbench.engine import paired_worker
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.paired_job import InjectedWork, calibrate_injection, count_work, first_losses, make_injected_work
from cnnbench.engine.paired_worker import classify_failure, control_loop, serve
from cnnbench.engine.timing import time_paired_turn
from cnnbench.engine.training import GemmStep, Training
from cnnbench.errors import DivergedError, UnsupportedError, WorkloadError
from cnnbench.paired_protocol import JobRun, Setup, WorkerRequest, WorkerResponse
from cnnbench.runner.arm_process import MODULE
from cnnbench.schema import Job

CPU = torch.device("cpu")
CNN = Job(
    workload="mnist-cnn", workload_version=1, batch_size=8, optimizer="rmsprop", init="truncated-0.1",
    data="synthetic", split="train-60000", threads=1, seed=3, warmup_steps=1,
)  # fmt: skip
GEMM = Job(workload="gemm", workload_version=1, data="random", size=16, threads=1, warmup_steps=1)


class Work:
    """A step that takes 100 ns, the first of each turn 1,000, on a clock of its own; synchronising takes 7."""

    def __init__(self) -> None:
        self.now = 0
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        self.now += 1000 if self.steps == 1 else 100

    def synchronize(self) -> None:
        self.now += 7

    def clock(self) -> int:
        return self.now


def test_the_name_by_which_every_revision_starts_an_arm_leads_to_this_worker() -> None:
    assert importlib.import_module(MODULE[-1]).main is paired_worker.main


def test_the_first_step_of_a_turn_is_not_timed() -> None:
    """Four steps, three times of 107 ns each; the 1,000 of the first are nowhere."""
    work = Work()
    seconds = time_paired_turn(work.step, work.synchronize, 4, each_step=True, clock=work.clock)
    assert seconds == (107e-9,) * 3
    assert work.steps == 4


def test_where_steps_are_queued_a_turn_is_synchronised_once_and_gives_their_mean() -> None:
    """Three steps of 100 ns and one synchronisation of 7: 102.33 ns a step, 102 to the nanosecond."""
    work = Work()
    assert time_paired_turn(work.step, work.synchronize, 4, each_step=False, clock=work.clock) == (102e-9,)


def test_the_control_loop_is_timed_by_the_clock_given() -> None:
    ticks = iter((1_000, 3_500))
    assert control_loop(lambda: next(ticks)) == 2500e-9


def lines(*asks: WorkerRequest) -> Iterator[bytes]:
    setup = Setup(jobs={0: GEMM, 1: CNN})
    return (message.model_dump_json().encode() for message in (setup, *asks))


def served(*asks: WorkerRequest) -> list[WorkerResponse]:
    answers: list[WorkerResponse] = []
    serve(lines(*asks), answers.append)
    return answers


def test_a_job_is_built_turned_and_shown() -> None:
    """Steps count the dropped ones; a product has no images and no losses."""
    turn = WorkerRequest(do="turn", steps=3)
    ready, first, second, shown = served(WorkerRequest(do="build", job=0), turn, turn, WorkerRequest(do="finish"))
    assert ready.ready
    assert first.turn is not None
    assert second.turn is not None
    assert len(first.turn.step_seconds) == 2
    assert first.turn.control_seconds > 0
    assert shown.work is not None
    assert (shown.work.images, shown.work.flops, shown.work.first_losses) == (0, 6 * 2 * 16**3, None)


def test_training_shows_its_images_batches_and_losses_the_same_each_time() -> None:
    shown = []
    for _ in range(2):
        *_, last = served(
            WorkerRequest(do="build", job=1),
            WorkerRequest(do="turn", steps=3),
            WorkerRequest(do="finish"),
            WorkerRequest(do="end"),
        )
        shown.append(last.work)
    assert shown[0] is not None
    assert (shown[0].images, shown[0].batches, shown[0].optimizer_steps) == (24, 3, 3)
    assert shown[0].parameters == workloads.get("mnist-cnn").parameters
    assert len(shown[0].first_losses or ()) == 5
    assert [each.model_dump(exclude={"minor_faults"}) for each in shown if each] == [
        shown[0].model_dump(exclude={"minor_faults"})
    ] * 2


def test_nothing_can_be_asked_of_a_job_not_built() -> None:
    with pytest.raises(WorkloadError, match="before a job was built"):
        served(WorkerRequest(do="turn", steps=2))


@cache
def digits() -> Dataset:
    """Drawn once for all trainings, which only read them."""
    return load("synthetic", "train-60000", None)


def training(**changes: object) -> Training:
    job = CNN.model_copy(update=changes)
    return Training(TrainingSetup(job, workloads.get("mnist-cnn"), digits(), CPU))


def test_the_first_losses_know_no_dropout_and_leave_no_trace() -> None:
    """Two random generators, the same losses; and the step after them is the step that would have been."""
    trained = training()
    trained.step()
    alone = trained.loss()
    torch.manual_seed(1)
    one = first_losses(trained)
    torch.manual_seed(2)
    assert first_losses(trained) == one
    trained.step()
    assert trained.loss() == alone


def test_a_loss_that_is_no_number_has_diverged() -> None:
    trained = training()
    with torch.no_grad():
        for parameter in trained.network.parameters():
            parameter.fill_(float("nan"))
    trained._initial_state = [parameter.detach().clone() for parameter in trained.network.parameters()]
    with pytest.raises(DivergedError):
        first_losses(trained)


def test_another_order_of_batches_has_another_digest() -> None:
    digests = {
        count_work(CNN, training(order=order, seed=seed), 4, None, 0).order_digest
        for order, seed in (("sequential", 1), ("shuffled", 1), ("shuffled", 2))
    }
    assert len(digests) == 3


def test_work_run_again_trains_nothing_and_draws_no_random_number() -> None:
    """The loss after three steps is the same with half a batch run again after each."""
    losses = []
    for amount in (0.0, 0.5, 2.25):
        trained = training()
        again = make_injected_work(trained, amount)
        trained.reset()
        for _ in range(3):
            trained.step()
            again()
        losses.append(trained.loss())
    assert losses[0] == losses[1] == losses[2]


def test_a_product_run_again_in_part_is_that_part_of_its_rows() -> None:
    products = GemmStep(GEMM, CPU)
    products.step()
    whole = products._out.clone()
    products._out.zero_()
    products.repeat(0.25)
    assert torch.equal(products._out[4:], torch.zeros(12, 16))
    assert torch.allclose(products._out[:4], whole[:4])


def test_the_amount_is_found_that_makes_a_step_longer_by_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 1,000,000 ns and 800,000 more for each unit: 10 % is an amount of 0.125."""
    products, now = GemmStep(GEMM, CPU), [0]

    def advance(nanoseconds: float) -> None:
        now[0] += round(nanoseconds)

    monkeypatch.setattr(products, "step", lambda: advance(1e6))
    monkeypatch.setattr(products, "repeat", lambda amount: advance(8e5 * amount))
    found = calibrate_injection(products, lambda: None, 0.10, lambda: now[0])
    assert found.measured == pytest.approx(0.10, rel=0.05)
    assert found.again == pytest.approx(0.125, rel=0.05)
    monkeypatch.setattr(products, "repeat", lambda amount: advance(9e5))
    with pytest.raises(WorkloadError, match="nearest found takes 90"):
        calibrate_injection(products, lambda: None, 0.10, lambda: now[0])


def test_injected_work_is_timed_by_itself_in_the_steps_that_are_compared() -> None:
    """On a clock that only the work moves: 2 ms each time, whatever surrounds it."""
    now = [0]

    def advance() -> None:
        now[0] += 2_000_000

    extra = InjectedWork(advance, lambda: None, lambda: now[0])
    for _ in range(3):
        extra.run()
        now[0] += 7
    assert extra.seconds == [0.002] * 3


def test_the_share_that_was_injected_is_that_of_the_rest_of_the_same_step() -> None:
    """2 of 22 ms are 10 % of the other 20, also where the machine is half as fast; one stalled step moves no median."""
    done = count_work(CNN, training(), 1, None, 0)
    run = JobRun(
        step_seconds=((0.022, 0.044), (0.022, 0.9)),
        control_seconds=(0.001, 0.001),
        work=done,
        injected_seconds=((0.002, 0.004), (0.002, 0.004)),
    )
    assert run.injected_share == pytest.approx(0.1)
    assert run.model_copy(update={"injected_seconds": None}).injected_share is None


def test_what_goes_wrong_in_a_worker_is_typed() -> None:
    assert classify_failure(UnsupportedError("no")).status == "unsupported"
    assert classify_failure(MemoryError()).status == "oom"
    assert classify_failure(RuntimeError("x")).status == "crashed"
    try:
        Setup.model_validate_json(json.dumps({"jobs": {"0": {**CNN.model_dump(), "colour": "red"}}}))
    except ValueError as error:
        failed = classify_failure(error)
    assert (failed.status, "jobs.0.colour" in failed.message) == ("outdated", True)
