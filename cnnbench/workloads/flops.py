"""Integer counts from layer shapes, without torch: parameters, activations, FLOPs.

One multiply-accumulate is 2 FLOPs. As in the lecture (and in torch's FlopCounterMode) only convolutions and matrix
products count: activation functions, pooling, dropout, the loss and the optimiser are left out, together under 1 % of
the arithmetic of the lecture's CNN though not of its time. Training = forward + gradients of the weights + gradients of
the inputs; the first layer with weights needs no input gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

FLOAT32_BYTES = 4

Shape = tuple[int, ...]
"""Shape of one example without the batch: `(channels, height, width)` or `(features,)`."""


def same_side(i: int, s: int) -> int:
    """Compute the output's side under SAME padding: ceil(i / s); 28 -> 14 -> 7 -> 4 with stride 2."""
    return -(-i // s)


@dataclass(frozen=True)
class Conv2d:
    """Convolution of square side, stride 1, SAME padding (odd side)."""

    out_channels: int
    side: int = 3
    bias: bool = False

    def output(self, shape: Shape) -> Shape:
        """Compute the output's shape: `(channels, h, w)` -> `(out_channels, h, w)`."""
        return (self.out_channels, shape[1], shape[2])

    def weights(self, shape: Shape) -> int:
        """Count the weights for this input shape, without biases; each is used once for every value of a channel."""
        return self.out_channels * shape[0] * self.side**2


@dataclass(frozen=True)
class Dense:
    """Fully connected layer."""

    out_features: int
    bias: bool = False

    def output(self, shape: Shape) -> Shape:
        """Compute the output's shape: `(features,)` -> `(out_features,)`."""
        return (self.out_features,)

    def weights(self, shape: Shape) -> int:
        """Count the weights for this input shape, without biases."""
        return self.out_features * prod(shape)


@dataclass(frozen=True)
class _Pool2d:
    side: int = 2

    def output(self, shape: Shape) -> Shape:
        """Compute the output's shape: `(channels, h, w)` -> `(channels, ceil(h/2), ceil(w/2))`."""
        return (shape[0], same_side(shape[1], self.side), same_side(shape[2], self.side))


class MaxPool2d(_Pool2d):
    """2x2 maximum, stride 2, SAME padding (an odd side is padded on the right and bottom only)."""


class AvgPool2d(_Pool2d):
    """2x2 mean, stride 2, SAME padding: at an odd edge the mean is over the existing values only, as in TensorFlow."""


@dataclass(frozen=True)
class Flatten:
    """`(channels, h, w)` -> `(channels*h*w,)`; a view, so it stores nothing."""

    def output(self, shape: Shape) -> Shape:
        """Flatten the shape to one axis."""
        return (prod(shape),)


@dataclass(frozen=True)
class _InPlace:
    def output(self, shape: Shape) -> Shape:
        """Return the input's shape unchanged."""
        return shape


class Relu(_InPlace):
    """Rectifier; counted in place, so it stores no activations of its own (as on the lecture's memory slide)."""


class Sigmoid(_InPlace):
    """Logistic function; counted in place, as the rectifier is."""


@dataclass(frozen=True)
class Dropout(_InPlace):
    """Dropout that keeps each value with probability `keep`; the mask is not counted as an activation."""

    keep: float


Layer = Conv2d | Dense | MaxPool2d | AvgPool2d | Flatten | Relu | Sigmoid | Dropout
Weighted = (Conv2d, Dense)
Pools = (MaxPool2d, AvgPool2d)
Activations = (Relu, Sigmoid)


@dataclass(frozen=True)
class LayerCount:
    """One layer's figures for one example."""

    layer: Layer
    input: Shape
    output: Shape
    parameters: int
    forward_flops: int
    training_flops: int
    activations: int
    """Values this layer writes that the lecture's memory slide counts: outputs of convolutions, pools, dense layers."""


def count_layers(layers: Sequence[Layer], input_shape: Shape) -> tuple[LayerCount, ...]:
    """Count every layer's parameters, FLOPs and activations, in order."""
    counts = []
    shape, first = input_shape, True
    for layer in layers:
        output = layer.output(shape)
        parameters = forward = training = 0
        if isinstance(layer, Weighted):
            weights = layer.weights(shape)
            parameters, forward = weights + layer.bias * output[0], 2 * weights * prod(output[1:])
            training, first = forward * (2 if first else 3), False
        stores = isinstance(layer, (*Weighted, *Pools))
        counts.append(LayerCount(layer, shape, output, parameters, forward, training, prod(output) if stores else 0))
        shape = output
    return tuple(counts)


@dataclass(frozen=True)
class Counts:
    """A network's counts for one example.

    A network of torch modules declares them, and `engine.build` checks them against torch before the timing.

    One multiply-accumulate is 2 FLOPs, and only convolutions and matrix products count.
    """

    parameters: int
    """Trainable values (mnist-cnn: 1,378,698)."""
    forward: int
    """FLOPs of one image's forward pass (mnist-cnn: 17,474,772)."""
    training: int
    """FLOPs of one image's training step: forward and the gradients of weights and inputs, except of the image itself
    (mnist-cnn: 51,972,732 = 3 x forward - 451,584).
    """
    activations: int
    """Values of one image kept by the forward pass, the input included (mnist-cnn: 56,779 = 227,116 bytes). The one count that
    torch cannot check.
    """
    convolves: bool = True
    """Whether there are convolutions: libraries may compute those with fewer multiplications than counted."""


def autoencoder_flops(layers: Sequence[Dense], features: int) -> tuple[int, ...]:
    """Count FLOPs per example and step of greedy pre-training, one value per layer: layer k learns its input.

    The layers below run forward only. Then, with a inputs and h outputs, encoder and decoder cost 2ah each forward, the
    gradients of both weights and of the code 2ah each: 10ah. (784-256: 2,007,040.)
    """
    found, below = [], 0
    for layer in layers:
        product = features * layer.out_features
        found.append(below + 10 * product)
        below += 2 * product
        features = layer.out_features
    return tuple(found)
