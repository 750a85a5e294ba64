"""The tuned step in torch's own operations, for machines without a compiler: the same network in a better order.

Pooling comes before ReLU (max and ReLU commute, and ReLU then sees a quarter of the values), dropout's masks are made
from bulk random bits instead of one Bernoulli draw per value, and convolutions run channels_last.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from cnnbench.engine.training import Training


class BulkDropout(nn.modules.dropout._DropoutNd):
    """Dropout whose mask compares 32 random bits per value with keep x 2^32: exact to 2^-32."""

    def __init__(self, drop: float) -> None:
        super().__init__(p=drop)
        self._below = round((1.0 - drop) * 2**32) - 2**31

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop and scale values of `x` in training; otherwise return it unchanged."""
        if not self.training or self.p == 0.0:
            return x
        count = x.numel()
        bits = torch.empty((count + 1) // 2, dtype=torch.int64, device=x.device)
        bits.random_(-(2**63), None)
        mask = bits.view(torch.int32)[:count].lt(self._below).to(x.dtype).mul_(1.0 / (1.0 - self.p))
        return x * mask.as_strided(x.shape, x.stride())


def reorder_layers(network: nn.Module, *, bulk: bool = True) -> nn.Module:
    """Swap ReLU and max pooling in a plain sequence, with bulk dropout or torch's; leave other networks as they are."""
    if not isinstance(network, nn.Sequential):
        return network
    modules: list[nn.Module] = [
        BulkDropout(each.p) if bulk and isinstance(each, nn.Dropout) else each for each in network
    ]
    for at, (first, second) in enumerate(itertools.pairwise(list(modules))):
        if isinstance(first, nn.ReLU) and isinstance(second, nn.MaxPool2d):
            modules[at], modules[at + 1] = second, first
    return nn.Sequential(*modules)


class FusedTraining(Training):
    """The reference step over the reordered network."""

    def _reorder(self, network: nn.Module) -> nn.Module:
        return reorder_layers(network)
