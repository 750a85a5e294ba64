"""The layers of the lecture's CNN one by one, forward and backward, the loss and the optimiser's step."""

from __future__ import annotations

import pytest
import torch
from pieces import BATCH, CNN, DEVICES, EPOCH_STEPS
from torch import nn
from torch.nn.functional import cross_entropy

from cnnbench.devices import backend
from cnnbench.engine.optim import make_optimizer
from cnnbench.engine.pytest_timer import measure
from cnnbench.workloads import flops
from cnnbench.workloads.base import build_network

COUNTS = [c for c in flops.count_layers(CNN.layers, CNN.input_shape) if not isinstance(c.layer, flops.Flatten)]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    "place", range(len(COUNTS)), ids=[f"{i}-{type(c.layer).__name__}" for i, c in enumerate(COUNTS)]
)
@pytest.mark.parametrize("device", DEVICES)
def test_layer(benchmark, device: str, place: int, direction: str) -> None:  # type: ignore[no-untyped-def]
    """Each layer alone at batch 128: forward, or backward of a kept graph (input gradient left out for the first).

    FLOPs are model FLOPs, 0 for what the count leaves out (ReLU, pooling, dropout).
    """
    where = backend(device).attach(threads=None).device
    count = COUNTS[place]
    layer: nn.Module = build_network((count.layer,), count.input).to(where)
    inputs = torch.randn(BATCH, *count.input, device=where, requires_grad=place > 0)
    outputs = layer(inputs)
    gradient = torch.randn_like(outputs)

    def forward() -> None:
        layer(inputs)

    def backward() -> None:
        outputs.backward(gradient, retain_graph=True)

    share = count.forward_flops if direction == "forward" else count.training_flops - count.forward_flops
    work = forward if direction == "forward" else backward
    measure(benchmark, work, device=device, calls=EPOCH_STEPS, flops=BATCH * share, images=BATCH)


@pytest.mark.parametrize("device", DEVICES)
def test_loss(benchmark, device: str) -> None:  # type: ignore[no-untyped-def]
    """Cross entropy of a batch, forward and backward."""
    where = backend(device).attach(threads=None).device
    logits = torch.randn(BATCH, CNN.classes, device=where, requires_grad=True)
    labels = torch.randint(CNN.classes, (BATCH,), device=where)

    def both() -> None:
        cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]

    measure(benchmark, both, device=device, calls=EPOCH_STEPS, images=BATCH)


@pytest.mark.parametrize("optimizer", CNN.optimizers)
@pytest.mark.parametrize("device", DEVICES)
def test_optimizer_step(benchmark, device: str, optimizer: str) -> None:  # type: ignore[no-untyped-def]
    """One update of all 1,378,698 weights from gradients that are there."""
    where = backend(device).attach(threads=None).device
    network = CNN.build(CNN.default_init or "", 0).to(where)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    measure(benchmark, make_optimizer(optimizer, network.parameters()).step, device=device, calls=EPOCH_STEPS)
