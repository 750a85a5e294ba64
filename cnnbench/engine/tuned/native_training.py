"""The native variant: every buffer allocated once, gradients derived by hand in the kernels, no autograd.

Parameters of the network become views of one flat tensor, so that the network itself (which evaluates) and the kernels
see the same weights and the optimiser is one pass over one array. Products of dense layers are torch's own. Batches, weights and
evaluation are as the reference has them.
"""

from __future__ import annotations

import torch
from torch import nn

from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.training import Training
from cnnbench.engine.tuned import native
from cnnbench.engine.tuned.layers import (
    NO_DROPOUT,
    TILED_INPUTS,
    FlatOptimizer,
    FlatParameters,
    NativeConv,
    NativeDense,
    SparseNativeDense,
    TiledNativeDense,
)
from cnnbench.engine.tuned.native import Kernels, NativeStages, group_layers
from cnnbench.errors import UnsupportedError

LAYERS = 64
"""Largest number of layers with dropout; each has its own random numbers in each step."""
_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 2**64


class NativeStep:
    """Forward, backward and update of one batch of fixed size; `images` `(batch, 1, side, side)` float32, `labels` int64."""

    def __init__(
        self,
        kernels: Kernels,
        stages: NativeStages,
        network: nn.Sequential,
        batch: int,
        *,
        optimizer: str,
        rate: float,
        seed: int,
        half: bool = False,
    ) -> None:
        self._kernels, self._batch, self._seed = kernels, batch, seed
        convolutions = [each for each in network if isinstance(each, nn.Conv2d)]
        linear = [each for each in network if isinstance(each, nn.Linear)]
        # A first dense layer takes the images themselves, whose values are mostly zero.
        sparse = not convolutions and len(linear) > 1 and linear[0].out_features % kernels.lanes == 0
        self.flat = FlatParameters(network, linear[0] if sparse else None)
        last = len(convolutions) - 1
        self.convolutions = [
            NativeConv(kernels, stage, module, self.flat, batch, first=number == 0, last=number == last, half=half)
            for number, (stage, module) in enumerate(zip(stages.convolutions, convolutions, strict=True))
        ]
        self.dense: list[NativeDense] = []
        for module, keep in zip(linear, stages.dense, strict=True):
            tiled = half and kernels.tiles and keep is not None and module.in_features % TILED_INPUTS == 0
            way = SparseNativeDense if sparse and not self.dense else TiledNativeDense if tiled else NativeDense
            self.dense.append(way(kernels, module, self.flat, batch, keep, half=half))
        self._layers: list[NativeConv | NativeDense] = [*self.convolutions, *self.dense]
        self.tiled = any(each.tiles for each in self._layers)
        """Whether products of bfloat16 are computed by tiles."""
        # In float32 the last layer's own buffers; in bfloat16 copies of them, since the softmax is float32 in both.
        self._logits, self._logits_back = self.dense[-1].out.float(), self.dense[-1].back.float()
        self.update = FlatOptimizer(optimizer, kernels, self.flat, rate)
        self.reset()

    def reset(self) -> None:
        """Restore the first random numbers and optimiser state. The network's owner restores the weights."""
        self._drawn, self._dropped = 0, True
        self.update.reset()

    def step(self, images: torch.Tensor, labels: torch.Tensor, *, dropout: bool = True) -> float:
        """Do one optimiser step and return the mean cross-entropy before it."""
        self.forward(images, dropout=dropout)
        loss = self.loss(labels)
        self.backward(images)
        self.update.step()
        return loss

    def forward(self, images: torch.Tensor, *, dropout: bool = True) -> torch.Tensor:
        """Compute the logits `(batch, classes)`; the next call overwrites them. Raises ValueError for other batches."""
        if images.shape[0] != self._batch or not images.is_contiguous():
            raise ValueError(f"images of shape {tuple(images.shape)} are not a contiguous batch of {self._batch}")
        self.flat.refresh()
        given = images if self.convolutions else images.view(self._batch, -1)
        for number, layer in enumerate(self._layers):
            # Another seed for each step and layer, whatever the threads.
            seed = ((self._seed * 0x100000001B3 + self._drawn) * LAYERS + number) * _GOLDEN % _WORD
            given = layer.forward(given, seed, layer.dropout if dropout else NO_DROPOUT)
        self._drawn += 1
        self._dropped = dropout
        return given

    def loss(self, labels: torch.Tensor) -> float:
        """Compute the last forward pass's mean cross-entropy, and its gradient for `backward`."""
        last = self.dense[-1]
        if self._logits is not last.out:
            self._logits.copy_(last.out)
        where = (self._logits.data_ptr(), labels.data_ptr(), self._logits_back.data_ptr())
        loss = float(self._kernels.cross_entropy(*where, self._batch, self._logits.shape[1]))
        if self._logits_back is not last.back:
            last.back.copy_(self._logits_back)
        return loss

    def backward(self, images: torch.Tensor) -> None:
        """Compute all parameters' gradients from the last forward pass and its loss."""
        for number in range(len(self._layers) - 1, -1, -1):
            layer, below = self._layers[number], self._layers[number - 1] if number else None
            given = below.out if below is not None else images if self.convolutions else images.view(self._batch, -1)
            drop = layer.dropout if self._dropped else NO_DROPOUT
            layer.backward(given, None if below is None else below.back, drop)


PRODUCTS = "tuned_products"
"""Name in a record's settings: which of the processor's products the kernels use."""


class NativeTraining(Training):
    """Training by the native kernels on a CPU, in float32, or in bfloat16 on a processor that multiplies it.

    Raises UnsupportedError with the reason for what the kernels cannot do.
    """

    _native: NativeStep
    _dropout_disabled = False

    def __init__(self, setup: TrainingSetup) -> None:
        job, workload, device = setup.job, setup.workload, setup.device
        if device.type != "cpu":
            raise UnsupportedError(f"native kernels run on CPUs, not on {device.type}")
        if job.precision not in ("fp32", "bf16"):
            raise UnsupportedError(f"native kernels compute in fp32 and bf16, not in {job.precision}")
        if setup.dataset is None:
            raise UnsupportedError("native kernels train on digits")
        kernels = native.load()
        half = job.precision == "bf16"
        if half and not kernels.bf16:
            raise UnsupportedError("native kernels compute in bf16 on processors with AVX512-BF16 only")
        stages = group_layers(workload.layers, workload.input_shape, kernels.lanes)
        super().__init__(setup)
        network = self.network
        if not isinstance(network, nn.Sequential):
            raise UnsupportedError("native kernels need a network of known layers")
        self._native = NativeStep(
            kernels,
            stages,
            network,
            job.batch_size,
            optimizer=job.optimizer or "",
            rate=workload.learning_rate(job.optimizer or ""),
            seed=job.seed,
            half=half,
        )
        by = "tiles of bfloat16 (AMX)" if self._native.tiled else "pairs of bfloat16 (AVX512-BF16)"
        self.recorded_settings[PRODUCTS] = by if half else f"vectors of {kernels.lanes} float32"
        self.reset()

    def step(self) -> None:
        """Draw a batch and do the whole step in the kernels."""
        images, labels = self._batches.draw()
        loss = self._native.step(images, labels, dropout=not self._dropout_disabled)
        for _ in range(self._extra_forwards):
            self._native.forward(images)
        self._last_loss = torch.tensor(loss)

    def disable_dropout(self) -> None:
        """Turn dropout off in the kernels, which ignore the modules' mode."""
        self._dropout_disabled = True

    def set_lr(self, rate: float) -> None:
        """Set the learning rate of the following steps."""
        self._native.update.rate = rate

    def count_correct(self, images: int | None = None) -> tuple[int, int]:
        """Count right answers by the kernels in the training's batches, the last padded with its first image."""
        inputs, labels = self._select_test_images(images)
        batch, correct = self._job.batch_size, 0
        for begin in range(0, len(labels), batch):
            part, truth = inputs[begin : begin + batch], labels[begin : begin + batch]
            if (missing := batch - len(part)) > 0:
                part = torch.cat((part, part[:1].expand(missing, *part.shape[1:])))
            logits = self._native.forward(part.contiguous(), dropout=False)[: len(truth)]
            correct += int((logits.argmax(1) == truth).sum())
        return correct, len(labels)

    def reset(self) -> None:
        """Reset as the reference does, with the kernels' own random numbers and optimiser state."""
        super().reset()
        self._dropout_disabled = False
        if hasattr(self, "_native"):  # the reference resets itself before the kernels are there
            self._native.reset()

    def gradients(self, images: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """Compute every parameter's gradient in its own shape, dropout off."""
        self._native.forward(images, dropout=False)
        self._native.loss(labels)
        self._native.backward(images)
        return [self._native.flat.gradient(parameter).clone() for parameter in self.network.parameters()]
