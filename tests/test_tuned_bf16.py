"""The native kernels in bfloat16: the same mathematics with stated roundings, the same dropout, and the fallback without it."""

from __future__ import annotations

import math

import pytest
import torch
from test_tuned import CPU, NETWORKS, digits, job, training
from torch import nn
from torch.nn.functional import cross_entropy

from cnnbench import workloads
from cnnbench.engine import tuned
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.tuned import native
from cnnbench.engine.tuned.native import group_layers
from cnnbench.engine.tuned.native_training import NativeStep
from cnnbench.errors import UnsupportedError
from cnnbench.schema import TUNED_RUNG
from cnnbench.workloads import TUNED_TOLERANCE

ROUNDED_GRADIENTS = 1e-2
"""Of kernels against float64 with the same roundings forward; what is left is the rounding of gradients, 2^-9 each."""


def available() -> bool:
    try:
        return native.load().bf16
    except UnsupportedError:
        return False


needs_bf16 = pytest.mark.skipif(not available(), reason="no native bf16 kernels here: no compiler, or no AVX512-BF16")


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x.bfloat16().double()

    @staticmethod
    def backward(_ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def rounded_logits(network: nn.Sequential, images: torch.Tensor, lanes: int) -> torch.Tensor:
    """float64 with bfloat16 where docs/tuned.md says the kernels round: weights and activations, but for the first layer's."""
    x, first = images, True
    hidden = [each for each in network if isinstance(each, (nn.Conv2d, nn.Linear))][:-1]
    for module in network:
        if isinstance(module, nn.Conv2d):
            x = module(x) if first else nn.functional.conv2d(x, _Round.apply(module.weight), padding="same")
            first = False
        elif isinstance(module, nn.Linear):
            if first and module in hidden and module.out_features % lanes == 0:
                x = module(x)  # the sparse layer on images
            else:
                bias = module.bias
                logits = module not in hidden
                x = _Round.apply(x) @ _Round.apply(module.weight).t()
                if bias is not None:
                    x = x + _Round.apply(bias) if logits else _Round.apply(x) + bias
                x = _Round.apply(x)
            first = False
        elif not isinstance(module, nn.Dropout):
            x = module(x)
            # A convolution's values are rounded once, after pooling: before it, rounding would make maxima equal.
            if isinstance(module, nn.MaxPool2d) or (isinstance(module, nn.ReLU) and x.dim() == 2):
                x = _Round.apply(x)
    return x


def step_of(name: str, batch: int, *, half: bool) -> tuple[NativeStep, nn.Sequential]:
    own, kernels = workloads.get(name), native.load()
    network = own.build(own.default_init or "", 7)
    stages = group_layers(own.layers, own.input_shape, kernels.lanes)
    return NativeStep(kernels, stages, network, batch, optimizer="sgd", rate=0.1, seed=1, half=half), network


@needs_bf16
class TestSameMathematics:
    @pytest.mark.parametrize("name", NETWORKS)
    @pytest.mark.parametrize("batch", [3, 32])
    def test_gradients_are_those_of_float64_with_the_same_roundings(self, name: str, batch: int) -> None:
        own = workloads.get(name)
        data = digits()
        images = torch.from_numpy(data.train_images[:batch]).float().div(255).unsqueeze(1)
        labels = torch.from_numpy(data.train_labels[:batch]).long()
        oracle = own.build(own.default_init or "", 7).double().eval()
        loss = cross_entropy(rounded_logits(oracle, images.double(), native.load().lanes), labels)
        loss.backward()
        step, network = step_of(name, batch, half=True)
        step.forward(images, dropout=False)
        assert step.loss(labels) == pytest.approx(loss.item(), rel=2e-3)
        step.backward(images)
        for parameter, true in zip(network.parameters(), oracle.parameters(), strict=True):
            error = torch.linalg.vector_norm(step.flat.gradient(parameter) - true.grad)
            assert error <= ROUNDED_GRADIENTS * torch.linalg.vector_norm(true.grad)

    @pytest.mark.parametrize("name", NETWORKS)
    def test_it_is_as_near_to_float64_as_torchs_own_bf16(self, name: str) -> None:
        errors = {
            rung: tuned.gradient_error(
                TrainingSetup(job(name, rung, precision="bf16"), workloads.get(name), digits(), CPU), rung
            )
            for rung in ("native", "fused")
        }
        assert errors["native"] <= max(1.5 * errors["fused"], ROUNDED_GRADIENTS)
        assert errors["native"] < TUNED_TOLERANCE["bf16"]

    @pytest.mark.parametrize("name", ["mnist-cnn", "mlp-5-xavier-dropout"])
    def test_it_learns(self, name: str) -> None:
        run = training(name, "native", precision="bf16")
        for _ in range(60):
            run.step()
        assert run.count_correct()[0] > 150

    def test_a_weight_that_is_not_a_number_shows_in_the_loss(self) -> None:
        run = training(precision="bf16")
        with torch.no_grad():
            list(run.network.parameters())[1][3, 0, 1, 1] = math.nan
        run.step()
        assert math.isnan(run.loss() or 0.0)

    def test_warm_up_leaves_no_trace(self) -> None:
        ends = []
        for warm_steps in (0, 3):
            run = training(order="shuffled", precision="bf16")
            for _ in range(warm_steps):
                run.step()
            run.reset()
            for _ in range(3):
                run.step()
            ends.append(torch.cat([p.detach().flatten() for p in run.network.parameters()]))
        assert torch.equal(*ends)


@needs_bf16
def test_masks_are_those_of_float32() -> None:
    """A value's random number depends on seed, step, layer and place, not on the arithmetic."""
    images, masks, scaled = torch.ones(16, 1, 28, 28), [], []
    for half in (False, True):
        step, _ = step_of("mnist-cnn", 16, half=half)
        step.flat.weights.abs_().add_(0.01)
        step.forward(images)
        masks.append([each.out.ne(0) for each in (*step.convolutions, *step.dense[:-1])])
        scaled.append(step.convolutions[0].out.float().clone())
    assert all(torch.equal(*pair) for pair in zip(*masks, strict=True))
    assert 0.7 < masks[0][2].double().mean() < 0.9
    torch.testing.assert_close(scaled[1], scaled[0], rtol=2**-8, atol=0)


@pytest.mark.skipif(not native.sys.platform.startswith("linux"), reason="native kernels are built on Linux")
class TestFallback:
    def test_a_processor_without_it_takes_the_next_rung_and_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        try:
            monkeypatch.setattr(native.load(), "bf16", False)
        except UnsupportedError as error:
            pytest.skip(str(error))
        run = training(execution="auto", precision="bf16")
        assert run.recorded_settings[TUNED_RUNG] == "fused"
        assert "processors with AVX512-BF16 only" in run.recorded_settings[tuned.TRIED_SETTING]

    def test_fp16_is_refused_by_name(self) -> None:
        with pytest.raises(UnsupportedError, match=r"fp32 and bf16, not in fp16|compiler"):
            training(execution="native", precision="fp16")
