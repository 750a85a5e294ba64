"""What a workload declares: layers (for the network *and* the counts), its data's shape, choices and recipe.

A workload is a value; nothing here imports torch until a network is built. Raise `version` whenever the mathematics
changes: it is part of every job's key, so results of two versions never share a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from cnnbench.errors import WorkloadError
from cnnbench.workloads import flops
from cnnbench.workloads.flops import Counts

if TYPE_CHECKING:
    import torch

TRUNCATED = "truncated-0.1"
"""Normal, standard deviation 0.1, cut at two standard deviations: what the lecture's slides and notebook use."""
NORMAL = "normal-0.01"
"""Plain normal, standard deviation 0.01: what the lecture's timed script used."""
NORMAL_TENTH = "normal-0.1"
"""Plain normal, standard deviation 0.1."""
NORMAL_UNIT = "normal-1"
"""Plain normal, standard deviation 1: what TensorFlow 1's `random_normal` draws without a named spread."""
XAVIER = "xavier"
"""Glorot's uniform, limit sqrt(6 / (fan in + fan out)); biases 0."""
DEFAULT_INIT = "own"
"""The network's own initialisation: what its torch modules draw when they are made."""
INITS = (TRUNCATED, NORMAL, NORMAL_TENTH, NORMAL_UNIT, XAVIER)
_NORMALS = {NORMAL: 0.01, NORMAL_TENTH: 0.1, NORMAL_UNIT: 1.0}

LEARNING_RATES = {"sgd": 0.1, "momentum": 0.01, "rmsprop": 1e-3, "rmsprop-tf1": 1e-3, "adam": 1e-3}
"""Default rates, for a workload that names no other."""
DatasetName = Literal["mnist", "random", "line", "two-classes", "xor"]
POINT_SETS: tuple[DatasetName, ...] = ("line", "two-classes", "xor")
Loss = Literal["cross-entropy", "binary-cross-entropy", "squared-error"]

OPTIMIZERS = tuple(LEARNING_RATES)
"""Every update rule by name; a workload lists those it may be trained with, its own first."""


@dataclass(frozen=True)
class Band:
    """Test accuracy to expect of one recipe on all 10,000 test images: mean +- 4 standard deviations over seeds.

    For points the best accuracy has a closed form, and the band is around it. For a regression the band is of R^2.

    It holds for exactly this many optimiser steps (`at_least`: or more) of this batch, in this order of the images (None:
    any), with the workload's own optimiser, initialisation, pooling and activation.
    """

    steps: int
    batch_size: int
    low: float
    high: float
    at_least: bool = False
    order: Literal["sequential", "shuffled"] | None = None

    def holds_for(self, steps: int, batch_size: int, order: str) -> bool:
        """Tell whether a training of so many steps of this batch in this order is the recipe."""
        enough = steps >= self.steps if self.at_least else steps == self.steps
        return enough and batch_size == self.batch_size and self.order in (None, order)


@dataclass(frozen=True)
class Pretraining:
    """Greedy layer-wise pre-training of the hidden dense layers as autoencoders, before the network is fine-tuned.

    Hidden layer k, with the layers below it fixed, learns for `epochs` epochs to reproduce its input: its own
    weights and activation as the encoder, a linear decoder that is discarded afterwards, mean squared error, Adam.
    """

    epochs: int
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Workload:
    """A training job's network, or (kind `gemm`) the bare matrix product that serves as a ceiling."""

    name: str
    version: int
    title: str
    kind: Literal["training", "gemm"]
    layers: tuple[flops.Layer, ...] = ()
    input_shape: flops.Shape = ()
    classes: int = 0
    optimizers: tuple[str, ...] = ()
    inits: tuple[str, ...] = ()
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    """Rates by optimiser that differ from `LEARNING_RATES`."""
    dataset: DatasetName = "mnist"
    """`random`: standard normal images of `input_shape` and random labels, made on the device. `line`, `two-classes` and
    `xor`: points drawn from a seed, see `data.points`."""
    loss: Loss = "cross-entropy"
    """`cross-entropy` is taken after softmax over `classes` outputs, `binary-cross-entropy` after the sigmoid of one output;
    `squared-error` is the mean over examples with one output, a number."""
    pretraining: Pretraining | None = None
    bands: tuple[Band, ...] = ()
    network: Callable[[], torch.nn.Module] | None = None
    """Makes the network from plain torch modules, in place of `layers`. Its counts are `declared`."""
    declared: Counts | None = None

    @property
    def default_optimizer(self) -> str | None:
        """The first of `optimizers`, None for a GEMM."""
        return self.optimizers[0] if self.optimizers else None

    @property
    def default_init(self) -> str | None:
        """The first of `inits`, None for a GEMM."""
        return self.inits[0] if self.inits else None

    @property
    def pool(self) -> str | None:
        """The network's own pooling; None without pools."""
        return _find_kind(_POOLS, self.layers)

    @property
    def activation(self) -> str | None:
        """The network's own activation function; None without one."""
        return _find_kind(_ACTIVATIONS, self.layers)

    def with_variant(self, pool: str | None, activation: str | None) -> Workload:
        """Return the same network with another pooling or activation; None keeps its own. Counts stay as they are."""
        layers = self.layers
        if pool is not None:
            layers = tuple(_POOLS[pool](each.side) if isinstance(each, flops.Pools) else each for each in layers)
        if activation is not None:
            layers = tuple(
                _ACTIVATIONS[activation]() if isinstance(each, flops.Activations) else each for each in layers
            )
        return replace(self, layers=layers)

    def learning_rate(self, optimizer: str) -> float:
        """Look up the rate that the optimiser starts with. Raises WorkloadError for an unknown optimiser."""
        try:
            return self.learning_rates.get(optimizer, LEARNING_RATES[optimizer])
        except KeyError:
            raise WorkloadError(f"optimizer {optimizer!r} is not one of {', '.join(OPTIMIZERS)}") from None

    @cached_property
    def counts(self) -> Counts:
        """The network's counts: as declared, or summed over its layers."""
        if self.declared is not None:
            return self.declared
        found = flops.count_layers(self.layers, self.input_shape)
        return Counts(
            parameters=sum(each.parameters for each in found),
            forward=sum(each.forward_flops for each in found),
            training=sum(each.training_flops for each in found),
            activations=prod(self.input_shape) + sum(each.activations for each in found),
            convolves=any(isinstance(layer, flops.Conv2d) for layer in self.layers),
        )

    @property
    def convolves(self) -> bool:
        """Whether it has convolutions."""
        return self.counts.convolves

    @property
    def parameters(self) -> int:
        """Trainable values."""
        return self.counts.parameters

    @property
    def flops_forward_per_image(self) -> int:
        """FLOPs of one image's forward pass."""
        return self.counts.forward

    @property
    def flops_training_per_image(self) -> int:
        """FLOPs of one image's training step."""
        return self.counts.training

    @property
    def activations_per_image(self) -> int:
        """Values of one image kept by the forward pass, the input included."""
        return self.counts.activations

    @property
    def outputs(self) -> int:
        """Values that the network gives for one example: one per class, or a single one."""
        return self.classes if self.loss == "cross-entropy" else 1

    @property
    def learns(self) -> bool:
        """Whether there are examples with right answers, hence epochs and a measure of quality: random images have none."""
        return self.kind == "training" and self.dataset != "random"

    @property
    def hidden(self) -> tuple[flops.Dense, ...]:
        """The dense layers before the last: what pre-training trains one by one."""
        return tuple(layer for layer in self.layers if isinstance(layer, flops.Dense))[:-1]

    @property
    def flops_pretraining_per_image(self) -> tuple[int, ...]:
        """FLOPs of one image's step of pre-training, one value per hidden layer; empty without pre-training."""
        return () if self.pretraining is None else flops.autoencoder_flops(self.hidden, prod(self.input_shape))

    @property
    def activation_bytes_per_image(self) -> int:
        """float32 bytes of the forward pass's activations, the input included."""
        return flops.FLOAT32_BYTES * self.activations_per_image

    @property
    def parameter_bytes(self) -> int:
        """float32 bytes of the parameters."""
        return flops.FLOAT32_BYTES * self.parameters

    def build(self, init: str | None, seed: int) -> torch.nn.Module:
        """Build the network on the CPU in float32, its weights drawn from the seed.

        Input `(batch, *input_shape)`, output `(batch, outputs)`, logits of classes. Raises WorkloadError for an unknown init, or
        without layers and network.
        """
        import torch
        from torch import nn

        with torch.random.fork_rng(devices=()):  # what modules draw when they are made comes from torch's own generator
            torch.manual_seed(seed)
            net = self.make_network()
        generator = torch.Generator().manual_seed(seed)
        for parameter in net.parameters() if init != DEFAULT_INIT else ():
            if init == TRUNCATED:
                nn.init.trunc_normal_(parameter, std=0.1, a=-0.2, b=0.2, generator=generator)
            elif init in _NORMALS:
                nn.init.normal_(parameter, std=_NORMALS[init], generator=generator)
            elif init == XAVIER and parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter, generator=generator)
            elif init == XAVIER:
                nn.init.zeros_(parameter)
            else:
                raise WorkloadError(f"init {init!r} is not one of {', '.join(INITS)}")
        return net

    def make_network(self) -> torch.nn.Module:
        """Make the network with the weights that its modules draw. Raises WorkloadError without layers and network."""
        if self.network is not None:
            return self.network()
        if not self.layers:
            raise WorkloadError(
                f"{self.name} is known from a ledger only; install its package, or name its file in the suite"
            )
        return build_network(self.layers, self.input_shape)


_POOLS: Mapping[str, type[flops.MaxPool2d | flops.AvgPool2d]] = {"max": flops.MaxPool2d, "average": flops.AvgPool2d}
_ACTIVATIONS: Mapping[str, type[flops.Relu | flops.Sigmoid]] = {"relu": flops.Relu, "sigmoid": flops.Sigmoid}


def _find_kind(kinds: Mapping[str, type[flops.Layer]], layers: tuple[flops.Layer, ...]) -> str | None:
    return next((name for layer in layers for name, kind in kinds.items() if isinstance(layer, kind)), None)


def build_network(layers: tuple[flops.Layer, ...], input_shape: flops.Shape) -> torch.nn.Sequential:
    """Build the layers as plain torch modules, with torch's own initial weights."""
    from torch import nn

    makers: Mapping[type[flops.Layer], Callable[[Any, int], nn.Module]] = {
        flops.Conv2d: lambda layer, channels: nn.Conv2d(
            channels, layer.out_channels, layer.side, padding=layer.side // 2, bias=layer.bias
        ),
        flops.Dense: lambda layer, features: nn.Linear(features, layer.out_features, bias=layer.bias),
        flops.MaxPool2d: lambda layer, _: nn.MaxPool2d(layer.side, layer.side, ceil_mode=True),
        flops.AvgPool2d: lambda layer, _: nn.AvgPool2d(layer.side, layer.side, ceil_mode=True, count_include_pad=False),
        flops.Flatten: lambda *_: nn.Flatten(),
        flops.Relu: lambda *_: nn.ReLU(),
        flops.Sigmoid: lambda *_: nn.Sigmoid(),
        flops.Dropout: lambda layer, _: nn.Dropout(1.0 - layer.keep),
    }
    return nn.Sequential(
        *(makers[type(each.layer)](each.layer, each.input[0]) for each in flops.count_layers(layers, input_shape))
    )
