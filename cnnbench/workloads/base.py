"""What a workload gives: layers (they build the network *and* the counts), its data's shape, its choices.

A workload is a value; nothing here imports torch until a network is built. Raise `version` whenever the mathematics
changes: it is part of every job's key, so results of two versions never share a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cnnbench.errors import WorkloadError
from cnnbench.workloads import flops

if TYPE_CHECKING:
    import torch

TRUNCATED = "truncated-0.1"
"""Normal, standard deviation 0.1, cut at two standard deviations: what the lecture's slides and notebook use."""
NORMAL = "normal-0.01"
"""Plain normal, standard deviation 0.01: what the lecture's timed script used."""


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
    accuracy_band: tuple[float, float] | None = None
    """Test accuracy expected on MNIST after the steps in `accuracy_band_steps` or more."""
    accuracy_band_steps: int | None = None

    @property
    def default_optimizer(self) -> str | None:
        """The first of `optimizers`, None for a GEMM."""
        return self.optimizers[0] if self.optimizers else None

    @property
    def default_init(self) -> str | None:
        """The first of `inits`, None for a GEMM."""
        return self.inits[0] if self.inits else None

    @property
    def parameters(self) -> int:
        """Trainable values."""
        return flops.parameters(self.layers, self.input_shape)

    @property
    def flops_forward_per_image(self) -> int:
        """FLOPs of one image's forward pass."""
        return flops.forward_flops(self.layers, self.input_shape)

    @property
    def flops_training_per_image(self) -> int:
        """FLOPs of one image's training step."""
        return flops.training_flops(self.layers, self.input_shape)

    @property
    def activation_bytes_per_image(self) -> int:
        """float32 bytes of the forward pass's activations, the input included."""
        return flops.FLOAT32_BYTES * flops.activations(self.layers, self.input_shape)

    @property
    def parameter_bytes(self) -> int:
        """float32 bytes of the parameters."""
        return flops.FLOAT32_BYTES * self.parameters

    def build(self, init: str, generator: torch.Generator) -> torch.nn.Sequential:
        """The network on the CPU in float32, its weights drawn from `generator`. Input `(batch, *input_shape)`, output
        `(batch, classes)` logits.
        """
        net = build_network(self.layers, self.input_shape)
        initialise(net, init, generator)
        return net


def build_network(layers: tuple[flops.Layer, ...], input_shape: flops.Shape) -> torch.nn.Sequential:
    """The layers as plain torch modules, weights as torch leaves them."""
    from torch import nn

    modules: list[nn.Module] = []
    for count in flops.count_layers(layers, input_shape):
        match count.layer:
            case flops.Conv2d(out_channels, side, bias):
                modules.append(nn.Conv2d(count.input[0], out_channels, side, padding=side // 2, bias=bias))
            case flops.Dense(out_features, bias):
                modules.append(nn.Linear(count.input[0], out_features, bias=bias))
            case flops.MaxPool2d(side):
                modules.append(nn.MaxPool2d(side, side, ceil_mode=True))
            case flops.Flatten():
                modules.append(nn.Flatten())
            case flops.Relu():
                modules.append(nn.ReLU())
            case flops.Dropout(keep):
                modules.append(nn.Dropout(1.0 - keep))
    return nn.Sequential(*modules)


def initialise(net: torch.nn.Module, init: str, generator: torch.Generator) -> None:
    """Draw every parameter anew. Raises WorkloadError for a name it does not know."""
    from torch import nn

    for parameter in net.parameters():
        if init == TRUNCATED:
            nn.init.trunc_normal_(parameter, std=0.1, a=-0.2, b=0.2, generator=generator)
        elif init == NORMAL:
            nn.init.normal_(parameter, std=0.01, generator=generator)
        else:
            raise WorkloadError(f"init {init!r} is not one of {TRUNCATED}, {NORMAL}")
