"""A workload's network layer by layer: output sides with the arithmetic behind them, and integer counts.

All figures are for one example and computed without torch. The counts are those of `flops.count_layers`; this adds
weights and biases separately, the padding behind each side, and pre-training's FLOPs per layer. `report.explain` puts
it in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from operator import attrgetter

from cnnbench.errors import WorkloadError
from cnnbench.workloads import flops
from cnnbench.workloads.base import Workload


@dataclass(frozen=True)
class OutputSide:
    """One side of an output and its derivation: a filter of `filter` values moves by `stride` over the padded input."""

    input: int
    filter: int
    stride: int
    before: int
    """Padding on the left or top, in values."""
    after: int
    """Padding on the right or bottom."""
    output: int
    same: bool
    """Whether the padding was chosen for an output of ceil(i / s)."""

    @property
    def unreached(self) -> int:
        """Values at the end of the padded input that the filter never reaches."""
        return self.before + self.input + self.after - ((self.output - 1) * self.stride + self.filter)


def padded_side(i: int, f: int, s: int = 1, p: int = 0) -> OutputSide:
    """Compute floor((i - f + 2p) / s) + 1, the lecture's formula. Raises WorkloadError if the filter does not fit."""
    if i + 2 * p < f:
        raise WorkloadError(
            f"a filter of {f} does not fit into an input of {i} padded by {p} on each side, {i + 2 * p} in all; "
            "take a smaller filter or more padding"
        )
    return OutputSide(i, f, s, p, p, (i - f + 2 * p) // s + 1, same=False)


def same_side(i: int, f: int, s: int) -> OutputSide:
    """Compute ceil(i / s) and the padding for it: max((o - 1)s + f - i, 0) in all, the smaller half left and top.

    That is TensorFlow's SAME.
    """
    output = flops.same_side(i, s)
    padding = max((output - 1) * s + f - i, 0)
    return OutputSide(i, f, s, padding // 2, padding - padding // 2, output, same=True)


@dataclass(frozen=True)
class ExplainedLayer:
    """What one layer does to one example; the input and the total are such rows too."""

    label: str
    output: flops.Shape
    """`(channels, height, width)` or `(features,)`; empty for the total."""
    sides: tuple[OutputSide, ...]
    """Height and width, one entry if they are equal; empty for a layer without a filter."""
    activations: int
    """Values it writes, as `flops.LayerCount` counts them."""
    weights: int
    biases: int
    forward_flops: int
    training_flops: int

    @property
    def parameters(self) -> int:
        """Trainable values: weights and biases."""
        return self.weights + self.biases

    @property
    def activation_bytes(self) -> int:
        """Bytes in float32."""
        return flops.FLOAT32_BYTES * self.activations

    @property
    def parameter_bytes(self) -> int:
        """Bytes in float32."""
        return flops.FLOAT32_BYTES * self.parameters


@dataclass(frozen=True)
class PretrainedLayer:
    """One hidden layer's pre-training as an autoencoder: FLOPs of one example's step."""

    label: str
    inputs: int
    outputs: int
    below_flops: int
    """The layers below, forward only."""
    own_flops: int
    """Encoder and decoder, forward and backward."""

    @property
    def total_flops(self) -> int:
        """FLOPs of one example's step."""
        return self.below_flops + self.own_flops


@dataclass(frozen=True)
class Explanation:
    """A workload's network, layer by layer; the first row is the input."""

    workload: Workload
    layers: tuple[ExplainedLayer, ...]
    pretraining: tuple[PretrainedLayer, ...]

    @property
    def total(self) -> ExplainedLayer:
        """The sums over all rows."""
        names = ("activations", "weights", "biases", "forward_flops", "training_flops")
        return ExplainedLayer("total", (), (), *(sum(map(attrgetter(name), self.layers)) for name in names))

    @property
    def stored(self) -> tuple[ExplainedLayer, ...]:
        """The input and the layers that write activations of their own: what the lecture's slide lists."""
        return tuple(layer for layer in self.layers if layer.activations)

    @property
    def pretraining_flops(self) -> int:
        """FLOPs of one example in the pre-training of every layer, one epoch each."""
        return sum(layer.total_flops for layer in self.pretraining)


def explain(workload: Workload) -> Explanation:
    """Explain a training workload's network. Raises WorkloadError, with the short formula, for a GEMM."""
    if workload.kind == "gemm":
        raise WorkloadError(
            f"{workload.name} has no layers to explain: a product of two square matrices of side n is 2 x n^3 FLOPs, and "
            "the three matrices hold 3 x n^2 values; name a network, such as mnist-cnn"
        )
    shape = workload.input_shape
    rows = [ExplainedLayer("input", shape, (), prod(shape), 0, 0, 0, 0)]
    if workload.declared is not None:
        # A network of torch modules is one row, its biases among the weights.
        counts = workload.declared
        figures = (counts.activations - prod(shape), counts.parameters, 0, counts.forward, counts.training)
        rows.append(ExplainedLayer("torch modules, as declared", (workload.classes,), (), *figures))
    rows += [_explain_layer(count) for count in flops.count_layers(workload.layers, shape)]
    pretraining, inputs = [], prod(shape)
    for layer, total in zip(workload.hidden, workload.flops_pretraining_per_image, strict=False):  # none without it
        own = flops.autoencoder_flops((layer,), inputs)[0]
        pretraining.append(PretrainedLayer(describe_layer(layer), inputs, layer.out_features, total - own, own))
        inputs = layer.out_features
    return Explanation(workload, tuple(rows), tuple(pretraining))


def _explain_layer(count: flops.LayerCount) -> ExplainedLayer:
    layer, inputs = count.layer, dict.fromkeys(count.input[1:])
    biases = getattr(layer, "bias", False) * count.output[0]
    sides = []
    if isinstance(layer, flops.Conv2d):
        sides = [padded_side(i, layer.side, p=layer.side // 2) for i in inputs]
    elif isinstance(layer, flops.Pools):
        sides = [same_side(i, layer.side, layer.side) for i in inputs]
    figures = (count.activations, count.parameters - biases, biases, count.forward_flops, count.training_flops)
    return ExplainedLayer(describe_layer(layer), count.output, tuple(sides), *figures)


def describe_layer(layer: flops.Layer) -> str:
    """Describe the layer in few words: `conv 3x3, 32`, `max pool 2x2`, `dense 625`."""
    return _WORDS[type(layer)].format(layer)


_WORDS = {
    flops.Conv2d: "conv {0.side}x{0.side}, {0.out_channels}",
    flops.Dense: "dense {0.out_features}",
    flops.MaxPool2d: "max pool {0.side}x{0.side}",
    flops.AvgPool2d: "average pool {0.side}x{0.side}",
    flops.Dropout: "dropout, keep {0.keep:g}",
    flops.Relu: "ReLU",
    flops.Sigmoid: "sigmoid",
    flops.Flatten: "flatten",
}
