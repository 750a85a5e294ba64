"""The training step of the lecture's CNN and its layers, under `pytest suites --benchmark-only`.

One round is a block of steps (or of calls), synchronised at its end, through the same public pieces the worker uses.
pytest-benchmark's own statistics treat rounds as independent, which steps of one process are not: use these to look,
and `cnnbench run` (fresh processes) to claim.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from cnnbench import workloads
from cnnbench.data import Dataset
from cnnbench.devices import Attached, backend
from cnnbench.engine.loop import Products, Training
from cnnbench.schema import Job
from cnnbench.workloads import flops
from cnnbench.workloads.base import build_network

DEVICES = ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]
CNN = workloads.get("mnist-cnn")
COUNTS = [c for c in flops.count_layers(CNN.layers, CNN.input_shape) if not isinstance(c.layer, flops.Flatten)]
BATCH = 128


def random_digits(images: int = 5120) -> Dataset:
    """Noise of MNIST's shape: what a step costs does not depend on what it learns."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, size=(images, 28, 28), dtype=np.uint8)
    labels = draw.integers(0, 10, size=images, dtype=np.uint8)
    return Dataset("synthetic", pixels, labels, pixels[:1000], labels[:1000], source="noise")


def block(attached: Attached, call: Callable[[], object], times: int) -> Callable[[], None]:
    """`times` calls and one synchronisation."""

    def run() -> None:
        for _ in range(times):
            call()
        attached.synchronize()

    return run


@pytest.mark.parametrize("loader", ["resident", "dataloader"])
@pytest.mark.parametrize("device", DEVICES)
def test_training_step(benchmark, device: str, loader: str) -> None:  # type: ignore[no-untyped-def]
    """Whole reference steps, batch 128, float32."""
    attached = backend(device).attach(threads=None)
    job = Job(
        workload=CNN.name, workload_version=CNN.version, optimizer=CNN.default_optimizer, init=CNN.default_init,
        data="synthetic", split="train-60000", loader=loader, device=device, batch_size=BATCH,
    )  # fmt: skip
    training = Training(job, CNN, random_digits(), attached.device)
    steps = 5
    benchmark.extra_info |= {"steps_per_round": steps, "flops_per_round": steps * workloads.flops_per_step(job)}
    benchmark.pedantic(block(attached, training.step, steps), rounds=8, warmup_rounds=2)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    "place", range(len(COUNTS)), ids=[f"{i}-{type(c.layer).__name__}" for i, c in enumerate(COUNTS)]
)
@pytest.mark.parametrize("device", DEVICES)
def test_layer(benchmark, device: str, place: int, direction: str) -> None:  # type: ignore[no-untyped-def]
    """Each layer alone at batch 128: forward, or backward of a kept graph (input gradient left out for the first)."""
    attached = backend(device).attach(threads=None)
    count = COUNTS[place]
    layer: nn.Module = build_network((count.layer,), count.input).to(attached.device)
    inputs = torch.randn(BATCH, *count.input, device=attached.device, requires_grad=place > 0)
    outputs = layer(inputs)
    gradient = torch.randn_like(outputs)

    def forward() -> None:
        layer(inputs)

    def backward() -> None:
        outputs.backward(gradient, retain_graph=True)

    calls = 5
    share = count.forward_flops if direction == "forward" else count.training_flops - count.forward_flops
    benchmark.extra_info |= {"calls_per_round": calls, "flops_per_round": calls * BATCH * share}
    benchmark.pedantic(
        block(attached, forward if direction == "forward" else backward, calls), rounds=8, warmup_rounds=2
    )


@pytest.mark.parametrize("size", [512, 1024])
@pytest.mark.parametrize("device", DEVICES)
def test_gemm(benchmark, device: str, size: int) -> None:  # type: ignore[no-untyped-def]
    """The arithmetic ceiling."""
    attached = backend(device).attach(threads=None)
    job = Job(workload="gemm", workload_version=1, size=size, data="random", device=device)
    products = Products(job, attached.device)
    benchmark.extra_info |= {"flops_per_round": 5 * workloads.flops_per_step(job)}
    benchmark.pedantic(block(attached, products.step, 5), rounds=8, warmup_rounds=2)
