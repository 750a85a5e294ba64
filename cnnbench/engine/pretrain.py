"""Greedy layer-wise pre-training: each hidden layer learns to give back what it is given, before the whole is fine-tuned.

What the lecture's slides call pre-training. Layer by layer from the input: the layers below are fixed, the layer and its
activation encode, a linear decoder of its own decodes and is thrown away after; mean squared error, Adam.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import mse_loss

from cnnbench.engine.batches import BatchSource
from cnnbench.errors import WorkloadError
from cnnbench.workloads.base import Pretraining


class LayerwisePretraining:
    """The autoencoders of one network's hidden layers, trained one after the other when called."""

    def __init__(
        self, plan: Pretraining, network: nn.Sequential, batches: BatchSource, *, steps_per_epoch: int, seed: int
    ) -> None:
        self._network, self._batches, self._plan = network, batches, plan
        self._steps = plan.epochs * steps_per_epoch
        dense = [index for index, module in enumerate(network) if isinstance(module, nn.Linear)]
        self._hidden = dense[:-1]
        if not self._hidden:
            raise WorkloadError("pre-training needs a hidden dense layer")
        self._seed = seed
        self.losses: list[torch.Tensor] = []
        """Mean squared error of each layer's last step."""

    def __call__(self) -> int:
        """Train all layers; the steps done. Leaves the feed at its first batch."""
        self.losses = []
        for index in self._hidden:
            self._batches.restart()
            self.losses.append(self._train(index))
        self._batches.restart()
        return self._steps * len(self._hidden)

    def _train(self, index: int) -> torch.Tensor:
        below, layer = self._network[:index], self._network[index]
        encoder = self._network[index : index + 2]  # the dense layer and its activation
        assert isinstance(layer, nn.Linear)
        decoder = nn.Linear(layer.out_features, layer.in_features, device=layer.weight.device)
        generator = torch.Generator().manual_seed(self._seed + index)
        with torch.no_grad():
            start = torch.empty(decoder.weight.shape)
            nn.init.xavier_uniform_(start, generator=generator)
            decoder.weight.copy_(start)
            nn.init.zeros_(decoder.bias)
        optimizer = torch.optim.Adam([*layer.parameters(), *decoder.parameters()], lr=self._plan.learning_rate)
        loss = torch.zeros(())
        for _ in range(self._steps):
            images, _ = self._batches.draw()
            with torch.no_grad():
                given = below(images)
            optimizer.zero_grad(set_to_none=True)
            loss = mse_loss(decoder(encoder(given)), given)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        layer.zero_grad(set_to_none=True)
        return loss.detach()
