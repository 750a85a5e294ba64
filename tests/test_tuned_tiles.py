"""The native kernels by tiles of bfloat16 (Intel's AMX): the sums of the kernels by vectors, with the zeros left in."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from test_tuned import digits, training
from test_tuned_bf16 import rounded_logits
from torch import nn
from torch.nn.functional import cross_entropy

from cnnbench import workloads
from cnnbench.engine.tuned import native
from cnnbench.engine.tuned.layers import TiledNativeDense
from cnnbench.engine.tuned.native import group_layers
from cnnbench.engine.tuned.native_training import PRODUCTS, NativeStep
from cnnbench.errors import UnsupportedError
from cnnbench.workloads import flops

ROUNDED_GRADIENTS = 1e-2
"""Of kernels against float64 with the same roundings forward."""
ORDER = 1e-2
"""Of tiles against vectors: both round the same values, and sum them in another order; what differs in a last bit is rounded
otherwise on its way."""


def available() -> bool:
    try:
        return native.load().tiles
    except UnsupportedError:
        return False


pytestmark = pytest.mark.skipif(not available(), reason="no tiles of bfloat16 here: no compiler, or no AMX")


def network_of(side: int, hidden: int = 50) -> workloads.Workload:
    layers = (
        *(flops.Conv2d(32), flops.Relu(), flops.MaxPool2d(), flops.Dropout(0.8)),
        *(flops.Conv2d(64), flops.Relu(), flops.MaxPool2d(), flops.Dropout(0.8)),
        *(flops.Conv2d(128), flops.Relu(), flops.MaxPool2d(), flops.Flatten(), flops.Dropout(0.8)),
        *(flops.Dense(hidden), flops.Relu(), flops.Dropout(0.5), flops.Dense(10)),
    )
    return dataclasses.replace(workloads.get("mnist-cnn"), layers=layers, input_shape=(1, side, side))


def step_of(own: workloads.Workload, batch: int, seed: int = 1) -> tuple[NativeStep, nn.Sequential]:
    kernels = native.load()
    network = own.build(own.default_init or "", 7)
    stages = group_layers(own.layers, own.input_shape, kernels.lanes)
    return NativeStep(
        kernels, stages, network, batch, optimizer="sgd", rate=0.1, seed=seed, half=True
    ), network  # fmt: skip


class TestSameMathematics:
    # 25 -> 13 -> 7, and 56 -> 28 -> 14: rows of places of less than one tile, of one, of two and of four; odd ones too.
    @pytest.mark.parametrize("side", [25, 28, 31, 56])
    @pytest.mark.parametrize("batch", [1, 5, 40])
    def test_gradients_are_those_of_float64_with_the_same_roundings(self, side: int, batch: int) -> None:
        own = network_of(side)
        torch.manual_seed(side)
        images, labels = torch.rand(batch, 1, side, side), torch.randint(10, (batch,))
        oracle = own.build(own.default_init or "", 7).double().eval()
        loss = cross_entropy(rounded_logits(oracle, images.double(), native.load().lanes), labels)
        loss.backward()
        step, network = step_of(own, batch)
        assert step.tiled
        assert all(each.tiles for each in step.convolutions[1:])
        assert isinstance(step.dense[0], TiledNativeDense)
        step.forward(images, dropout=False)
        assert step.loss(labels) == pytest.approx(loss.item(), rel=2e-3)
        step.backward(images)
        for parameter, true in zip(network.parameters(), oracle.parameters(), strict=True):
            error = torch.linalg.vector_norm(step.flat.gradient(parameter) - true.grad)
            assert error <= ROUNDED_GRADIENTS * torch.linalg.vector_norm(true.grad)

    @pytest.mark.parametrize("hidden", [10, 32, 50, 625])
    def test_with_dropout_they_are_those_of_the_vectors(self, hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
        own = network_of(28, hidden)
        images, labels = torch.rand(24, 1, 28, 28), torch.randint(10, (24,))
        found = []
        for tiles in (True, False):
            monkeypatch.setattr(native.load(), "tiles", tiles)
            step, network = step_of(own, 24)
            assert step.tiled is tiles
            step.forward(images)
            outs = [each.out.float().clone() for each in (*step.convolutions, *step.dense)]
            step.loss(labels)
            step.backward(images)
            found.append((outs, [step.flat.gradient(each).clone() for each in network.parameters()]))
        for one, other in zip(found[0][0], found[1][0], strict=True):
            # What rounding puts on either side of zero is not a mask's doing.
            assert (one.ne(0) != other.ne(0)).double().mean() < 1e-3
            assert torch.linalg.vector_norm(one - other) <= ORDER * torch.linalg.vector_norm(other)
        for one, other in zip(found[0][1], found[1][1], strict=True):
            assert torch.linalg.vector_norm(one - other) <= 2 * ORDER * torch.linalg.vector_norm(other)

    def test_the_same_numbers_whatever_the_batch_before(self) -> None:
        """Nothing of the last step stays in a buffer: borders, padding and sums are as on the first."""
        own = network_of(25)
        first, second = (torch.rand(5, 1, 25, 25) for _ in range(2))
        labels = torch.arange(5)
        gradients = []
        for before in ((), (first,)):
            step, network = step_of(own, 5)
            for images in (*before, second):
                step.forward(images, dropout=False)
                step.loss(labels)
                step.backward(images)
            gradients.append(torch.cat([step.flat.gradient(each).flatten() for each in network.parameters()]))
        assert torch.equal(*gradients)

    def test_threads_change_no_mask_and_little_else(self) -> None:
        own, outs = network_of(28), []
        images, threads = torch.rand(9, 1, 28, 28), torch.get_num_threads()
        try:
            for count in (1, 2):
                torch.set_num_threads(count)
                step, _ = step_of(own, 9)
                step.forward(images)
                outs.append([each.out.float().clone() for each in (*step.convolutions, *step.dense)])
        finally:
            torch.set_num_threads(threads)
        assert all(torch.equal(*pair) for pair in zip(*outs, strict=True))

    def test_not_a_number_shows_in_the_loss(self) -> None:
        run = training(precision="bf16")
        with torch.no_grad():
            list(run.network.parameters())[3][3, 5] = math.nan  # of the dense layer, which tiles take from float32
        run.step()
        assert math.isnan(run.loss() or 0.0)


def test_torchs_own_products_by_tiles_are_right_before_and_after() -> None:
    """The shapes of the tiles are a thread's own state, which torch's library keeps too."""
    left, right = torch.rand(256, 256).bfloat16(), torch.rand(256, 256).bfloat16()
    expected = left @ right
    step, _ = step_of(network_of(28), 8)
    for _ in range(3):
        step.forward(torch.rand(8, 1, 28, 28))
        assert torch.equal(left @ right, expected)
        step.loss(torch.arange(8))
        step.backward(torch.rand(8, 1, 28, 28))
        assert torch.equal(left @ right, expected)


def test_the_record_says_which_products_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training(precision="bf16").recorded_settings[PRODUCTS] == "tiles of bfloat16 (AMX)"
    assert training().recorded_settings[PRODUCTS] == f"vectors of {native.load().lanes} float32"
    monkeypatch.setattr(native.load(), "tiles", False)
    assert training(precision="bf16").recorded_settings[PRODUCTS] == "pairs of bfloat16 (AVX512-BF16)"


def test_it_learns_as_the_vectors_do(monkeypatch: pytest.MonkeyPatch) -> None:
    right = []
    for tiles in (True, False):
        monkeypatch.setattr(native.load(), "tiles", tiles)
        run = training(precision="bf16")
        for _ in range(60):
            run.step()
        right.append(run.count_correct()[0])
    assert min(right) > 150
    assert digits().test_labels.size == 200
