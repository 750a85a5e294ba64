"""The training step of the lecture's CNN and the matrix product that is its ceiling: `pytest suites --benchmark-only`."""

from __future__ import annotations

import pytest
from pieces import BATCH, CNN, DEVICES, EPOCH_STEPS, cnn_job, random_digits

from cnnbench import workloads
from cnnbench.devices import backend
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.pytest_timer import measure
from cnnbench.engine.training import GemmStep, Training
from cnnbench.schema import Job, Loader


@pytest.mark.parametrize("loader", ["resident", "dataloader"])
@pytest.mark.parametrize("device", DEVICES)
def test_training_step(benchmark, device: str, loader: Loader) -> None:  # type: ignore[no-untyped-def]
    """Whole reference steps; a round is an epoch."""
    job = cnn_job(device, loader)
    training = Training(TrainingSetup(job, CNN, random_digits(), backend(device).attach(threads=None).device))
    flops = workloads.flops_per_step(job)
    measure(benchmark, training.step, device=device, calls=EPOCH_STEPS, flops=flops, images=BATCH)
    assert training.images_drawn % (EPOCH_STEPS * BATCH) == 0


@pytest.mark.parametrize("size", [512, 1024])
@pytest.mark.parametrize("device", DEVICES)
def test_gemm(benchmark, device: str, size: int) -> None:  # type: ignore[no-untyped-def]
    """The arithmetic ceiling."""
    job = Job(workload="gemm", workload_version=1, size=size, data="random", device=device)
    products = GemmStep(job, backend(device).attach(threads=None).device)
    measure(benchmark, products.step, device=device, calls=EPOCH_STEPS, flops=workloads.flops_per_step(job))
