"""One training step by the native kernels: every buffer allocated once, gradients worked out by hand, no autograd.

Parameters of the network become views of one flat tensor, so that the network itself (which evaluates) and the kernels
see the same weights and the optimiser is one pass over one array. Products of dense layers are torch's own.
"""

from __future__ import annotations

import torch
from torch import nn

from cnnbench.engine.tuned.flat_params import FlatOptimizer, FlatParameters
from cnnbench.engine.tuned.layers import (
    NO_DROPOUT,
    TILED_INPUTS,
    NativeConv,
    NativeDense,
    SparseNativeDense,
    TiledNativeDense,
)
from cnnbench.engine.tuned.native import Kernels
from cnnbench.engine.tuned.native_stages import NativeStages

LAYERS = 64
"""Most layers with dropout; each has its own random numbers in each step."""
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
        # A first dense layer takes the images themselves, of which most values are zero.
        sparse = not convolutions and bool(stages.dense) and stages.dense[0].out_features % kernels.lanes == 0
        self.flat = FlatParameters(network, linear[0] if sparse else None)
        last = len(convolutions) - 1
        self.convolutions = [
            NativeConv(kernels, stage, module, self.flat, batch, first=number == 0, last=number == last, half=half)
            for number, (stage, module) in enumerate(zip(stages.convolutions, convolutions, strict=True))
        ]
        self.dense: list[NativeDense | SparseNativeDense] = []
        for module, keep in zip(linear, [*(stage.keep for stage in stages.dense), None], strict=True):
            if sparse and not self.dense and keep is not None:
                self.dense.append(SparseNativeDense(kernels, module, self.flat, batch, keep, half=half))
                continue
            tiled = half and kernels.tiles and keep is not None and module.in_features % TILED_INPUTS == 0
            self.dense.append(
                (TiledNativeDense if tiled else NativeDense)(kernels, module, self.flat, batch, keep, half=half)
            )
        self.tiled = any(each.tiles for each in self.convolutions) or any(
            isinstance(each, TiledNativeDense) for each in self.dense
        )
        """Whether products of bfloat16 go by tiles."""
        classes = stages.logits.out_features
        # Of float32 the last layer's own buffers; of bfloat16 copies of them, for the softmax is float32 in both.
        self._logits = torch.zeros(batch, classes) if half else self.dense[-1].out
        self._logits_back = torch.zeros(batch, classes) if half else self.dense[-1].back
        self._update = FlatOptimizer(optimizer, kernels, self.flat, rate)
        self.reset()

    def reset(self) -> None:
        """First random numbers, first optimiser state. The weights are the network's, for its owner to put back."""
        self._drawn, self._dropped = 0, True
        self._update.reset()

    def set_lr(self, rate: float) -> None:
        """The learning rate of the updates to come."""
        self._update.rate = rate

    def step(self, images: torch.Tensor, labels: torch.Tensor, *, dropout: bool = True) -> float:
        """One optimiser step; the mean cross-entropy before it."""
        self.forward(images, dropout=dropout)
        loss = self.loss(labels)
        self.backward(images)
        self._update.step()
        return loss

    def forward(self, images: torch.Tensor, *, dropout: bool = True) -> torch.Tensor:
        """The logits `(batch, classes)`, in a buffer that the next call overwrites. Raises ValueError for other batches."""
        if images.shape[0] != self._batch or not images.is_contiguous():
            raise ValueError(f"images of shape {tuple(images.shape)} are not a contiguous batch of {self._batch}")
        self.flat.refresh()
        given, layer = images, 0
        for conv in self.convolutions:
            given = conv.forward(given, self._derive_seed(layer), conv.dropout if dropout else NO_DROPOUT)
            layer += 1
        given = given.view(self._batch, -1)
        for dense in self.dense:
            given = dense.forward(given, self._derive_seed(layer), dense.dropout if dropout else NO_DROPOUT)
            layer += 1
        self._drawn += 1
        self._dropped = dropout
        return given

    def loss(self, labels: torch.Tensor) -> float:
        """Mean cross-entropy of the last forward pass; leaves its gradient for `backward`."""
        last = self.dense[-1]
        if self._logits is not last.out:
            self._logits.copy_(last.out)
        where = (self._logits.data_ptr(), labels.data_ptr(), self._logits_back.data_ptr())
        loss = float(self._kernels.cross_entropy(*where, self._batch, self._logits.shape[1]))
        if self._logits_back is not last.back:
            last.back.copy_(self._logits_back)
        return loss

    def backward(self, images: torch.Tensor) -> None:
        """Gradients of all parameters, of the last forward pass and its loss."""
        layers: list[NativeConv | NativeDense | SparseNativeDense] = [*self.convolutions, *self.dense]
        for number in range(len(layers) - 1, -1, -1):
            layer = layers[number]
            drop = layer.dropout if self._dropped else NO_DROPOUT
            given = layers[number - 1].out if number else images
            back = layers[number - 1].back if number else None
            layer.backward(given if isinstance(layer, NativeConv) else given.view(self._batch, -1), back, drop)

    def _derive_seed(self, layer: int) -> int:
        """Another for each step and layer, whatever the threads."""
        return ((self._seed * 0x100000001B3 + self._drawn) * LAYERS + layer) * _GOLDEN % _WORD
