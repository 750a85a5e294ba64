"""The path of the data: drawing a batch in each way the worker can, and drawing the digits themselves."""

from __future__ import annotations

import pytest
from pieces import BATCH, CNN, DEVICES, EPOCH_STEPS, cnn_job, random_digits

from cnnbench.data import synthetic
from cnnbench.devices import backend
from cnnbench.engine.batches import TrainingSetup, make_batches
from cnnbench.engine.pytest_timer import measure
from cnnbench.schema import Loader, Order

DIGITS = 1_000


@pytest.mark.parametrize("order", ["sequential", "shuffled"])
@pytest.mark.parametrize("loader", ["resident", "dataloader"])
@pytest.mark.parametrize("device", DEVICES)
def test_draw_a_batch(benchmark, device: str, loader: Loader, order: Order) -> None:  # type: ignore[no-untyped-def]
    """128 images from the tensor on the device, or through a DataLoader in this process; a round is an epoch."""
    home = backend(device).attach(threads=None).device
    feed = make_batches(TrainingSetup(cnn_job(device, loader, order=order), CNN, random_digits(), home))
    images, _ = measure(benchmark, feed.draw, device=device, calls=EPOCH_STEPS, images=BATCH)
    assert images.shape == (BATCH, 1, 28, 28)


def test_draw_synthetic_digits(benchmark) -> None:  # type: ignore[no-untyped-def]
    """Procedural digits, for a machine without MNIST; a run draws 70,000."""
    drawn = measure(
        benchmark, lambda: synthetic.generate(train=DIGITS, test=0), device="cpu", rounds=5, images=DIGITS
    )  # fmt: skip
    assert drawn[0].shape == (DIGITS, 28, 28)
