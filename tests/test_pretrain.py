"""Greedy layer-wise pre-training: it learns, it leaves the rest alone, it is repeated exactly, and it is timed and counted."""

from __future__ import annotations

import pytest
import torch
from test_training import CPU, dataset, job

from cnnbench import workloads
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.timing import time_job
from cnnbench.engine.training import LayerwisePretraining, Training
from cnnbench.errors import WorkloadError
from cnnbench.workloads.base import Pretraining

PRETRAINED = workloads.get("mlp-5-pretrained")


def training() -> Training:
    it = job(workload="mlp-5-pretrained", optimizer="adam", init="xavier", batch_size=32)
    return Training(TrainingSetup(it, PRETRAINED, dataset(), CPU))


def pretraining(run: Training, steps: int = 20) -> LayerwisePretraining:
    setup = TrainingSetup(job(batch_size=32, seed=3), PRETRAINED, dataset(), CPU)
    found = LayerwisePretraining(Pretraining(3), run.network, setup)
    assert found._steps == 3 * (setup.job.full_epoch or 0)
    found._steps = steps
    return found


def test_it_trains_every_hidden_layer_and_not_the_last() -> None:
    run = training()
    before = [p.detach().clone() for p in run.network.parameters()]
    assert pretraining(run)() == 4 * 20
    changed = [not torch.equal(a, b) for a, b in zip(before, run.network.parameters(), strict=True)]
    assert changed == [True] * 8 + [False] * 2
    assert all(p.grad is None for p in run.network.parameters())


def test_a_layer_learns_to_give_back_what_it_is_given() -> None:
    """Ten times the steps, a smaller error in every layer."""
    short, long = (pretraining(training(), steps) for steps in (5, 100))
    short()
    long()
    assert all(more < less for more, less in zip(long.losses, short.losses, strict=True))


def test_it_is_repeated_exactly() -> None:
    ends = []
    for _ in range(2):
        run = training()
        pretraining(run)()
        ends.append(torch.cat([p.detach().flatten() for p in run.network.parameters()]))
    assert torch.equal(*ends)


def test_a_network_without_hidden_layers_has_nothing_to_pretrain() -> None:
    softmax = workloads.get("softmax").build("xavier", 0)
    with pytest.raises(WorkloadError, match="hidden"):
        LayerwisePretraining(Pretraining(1), softmax, TrainingSetup(job(), PRETRAINED, dataset(), CPU))


def test_the_training_has_one_and_its_own_batches() -> None:
    """The job's images are counted by another feed."""
    run = training()
    assert run.pretrain is not None
    run.pretrain._steps = 2
    assert run.pretrain() == 8
    assert run.images_drawn == 0


def test_the_job_clock_times_it_apart_and_inside() -> None:
    """A fake clock of one second a call: before 5 s, two epochs of 3 steps."""
    now = [0]

    def tick(seconds: int) -> None:
        now[0] += seconds * 10**9

    timing = time_job(
        lambda: tick(1),
        lambda: None,
        epochs=2,
        steps_per_epoch=3,
        pretrain=lambda: (tick(5), 40)[1],
        clock=lambda: now[0],
    )
    assert timing.before_seconds == pytest.approx(5.0)
    assert timing.before_steps == 40
    assert timing.epoch_seconds == pytest.approx((3.0, 3.0))
    assert timing.job_seconds == pytest.approx(11.0)
