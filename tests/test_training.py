"""The reference step: what it learns, what it counts, and that warm-up leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnbench import workloads
from cnnbench.data import Dataset
from cnnbench.engine.batches import TrainingSetup, make_batches
from cnnbench.engine.training import GemmStep, Training
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job

CPU = torch.device("cpu")


def dataset(train: int = 640, test: int = 600) -> Dataset:
    """Ten classes told apart by the brightness of one row each."""
    random = np.random.default_rng(0)

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = random.integers(0, 40, size=(n, 28, 28), dtype=np.uint8)
        images[np.arange(n), 2 * labels + 3, :] = 255
        return images, labels

    return Dataset("synthetic", *part(train), *part(test), source="rows")


def job(**changes: object) -> Job:
    base = Job(
        workload="mnist-cnn", workload_version=1, batch_size=32, optimizer="rmsprop", init="truncated-0.1",
        data="synthetic", split="train-60000", seed=5,
    )  # fmt: skip
    return base.model_copy(update=changes)


def training(**changes: object) -> Training:
    return Training(TrainingSetup(job(**changes), workloads.get("mnist-cnn"), dataset(), CPU))


@pytest.mark.parametrize("optimizer", workloads.get("mnist-cnn").optimizers)
def test_the_loss_falls(optimizer: str) -> None:
    """The least a training step must do."""
    run = training(optimizer=optimizer)
    run.step()
    first = run.loss()
    for _ in range(40):
        run.step()
    last = run.loss()
    assert first is not None
    assert last is not None
    assert last < first


@pytest.mark.parametrize("order", ["sequential", "shuffled"])
@pytest.mark.parametrize("loader", ["resident", "dataloader"])
def test_warm_up_leaves_no_trace(order: str, loader: str) -> None:
    """However many steps came before the reset, the steps after it end at the same weights."""
    ends = []
    for warm_steps in (0, 7):
        run = training(order=order, loader=loader)
        for _ in range(warm_steps):
            run.step()
        run.reset()
        for _ in range(3):
            run.step()
        ends.append(torch.cat([p.detach().flatten() for p in run.network.parameters()]))
        assert run.images_drawn == 3 * 32
    assert torch.equal(*ends)


def test_in_order_means_the_same_batches_every_epoch_and_full_ones_only() -> None:
    """640 images in batches of 48: 13 full ones, then the first again."""
    feed = make_batches(TrainingSetup(job(batch_size=48), workloads.get("mnist-cnn"), dataset(), CPU))
    batches = [feed.draw()[0] for _ in range(14)]
    assert torch.equal(batches[0], batches[13])
    assert not torch.equal(batches[0], batches[12])
    assert {len(batch) for batch in batches} == {48}
    assert feed.images_drawn == 14 * 48


@pytest.mark.parametrize("loader", ["resident", "dataloader"])
def test_a_shuffled_epoch_sees_every_image_once_in_a_new_order(loader: str) -> None:
    """Each image has its own noise, so its bytes are its name."""
    feed = make_batches(TrainingSetup(job(order="shuffled", loader=loader), workloads.get("mnist-cnn"), dataset(), CPU))
    epochs = [[row.numpy().tobytes() for _ in range(20) for row in feed.draw()[0]] for _ in range(2)]
    assert len(set(epochs[0])) == 640
    assert set(epochs[0]) == set(epochs[1])
    assert epochs[0] != epochs[1]


def test_both_loaders_hand_out_the_same_batches_in_order() -> None:
    """Where batches come from does not change the mathematics."""
    feeds = [
        make_batches(TrainingSetup(job(loader=loader), workloads.get("mnist-cnn"), dataset(), CPU))
        for loader in ("resident", "dataloader")
    ]
    for _ in range(25):
        (a, x), (b, y) = (feed.draw() for feed in feeds)
        assert torch.equal(a, b)
        assert torch.equal(x, y)


def test_pixels_are_divided_by_255_and_nothing_is_subtracted() -> None:
    images, labels = make_batches(TrainingSetup(job(), workloads.get("mnist-cnn"), dataset(), CPU)).draw()
    assert images.shape == (32, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images.max() == 1.0
    assert images.min() >= 0.0
    assert labels.dtype == torch.int64


def test_accuracy_counts_every_test_image_and_restores_training_mode() -> None:
    """Untrained it is near chance; a sample has the size asked for; dropout is off, so counting twice agrees."""
    run = training()
    assert run.count_correct() == run.count_correct()
    assert run.count_correct()[1] == 600
    assert run.count_correct(256)[1] == 256
    assert run.network.training


def test_extra_forwards_change_time_and_not_the_first_update() -> None:
    """They run without gradient, after the update."""
    networks = []
    for forwards in (0, 2):
        run = training(extra_forwards=forwards)
        run.step()
        networks.append(run.network)
    for a, b in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(a, b)


def test_seeds_differ_and_repeat() -> None:
    """The same seed is the same run, another seed another."""

    def end(seed: int) -> torch.Tensor:
        run = training(seed=seed)
        run.step()
        return next(run.network.parameters()).detach().clone()

    assert torch.equal(end(1), end(1))
    assert not torch.equal(end(1), end(2))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"optimizer": "lion"}, WorkloadError, "optimizer 'lion'"),
        ({"batch_size": 10_000}, WorkloadError, "larger than the 640"),
    ],
)
def test_what_cannot_be_done_is_said(changes: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        training(**changes)


def test_a_gemm_multiplies() -> None:
    """The product is the operands' product, not zeros."""
    products = GemmStep(Job(workload="gemm", workload_version=1, size=64), CPU)
    products.step()
    torch.testing.assert_close(products._out, products._left @ products._right)
    assert products._out.std() > 1
