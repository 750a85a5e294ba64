"""A network's layers as the stages that the native kernels compute in one pass each, or the reason why not.

Known are: convolution 3x3 without bias, ReLU, max pooling of 2, dropout or none (a `FusedConvStage`), any number of times;
then dense, ReLU, dropout or none (a `FusedDenseStage`), any number of times; last a dense layer for the logits.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnnbench.errors import UnsupportedError
from cnnbench.workloads import flops


@dataclass(frozen=True)
class FusedConvStage:
    """Convolution, ReLU, pooling, dropout: `(channels, side, side)` in, `(out_channels, ceil(side / 2), ...)` out."""

    channels: int
    side: int
    out_channels: int
    keep: float

    @property
    def pooled(self) -> int:
        """Side of the output."""
        return flops.same_side(self.side, 2)


@dataclass(frozen=True)
class FusedDenseStage:
    """Dense layer, ReLU, dropout."""

    features: int
    out_features: int
    bias: bool
    keep: float


@dataclass(frozen=True)
class LogitsStage:
    """The last dense layer."""

    features: int
    out_features: int
    bias: bool


@dataclass(frozen=True)
class NativeStages:
    """The whole network."""

    convolutions: tuple[FusedConvStage, ...]
    dense: tuple[FusedDenseStage, ...]
    logits: LogitsStage


def group_layers(layers: tuple[flops.Layer, ...], input_shape: flops.Shape, lanes: int) -> NativeStages:
    """The stages of these layers for vectors of `lanes` values. Raises UnsupportedError naming the first that does not fit."""
    left = list(flops.count_layers(layers, input_shape))
    convolutions: list[FusedConvStage] = []
    dense: list[FusedDenseStage] = []

    def take(*kinds: type) -> flops.LayerCount | None:
        return left.pop(0) if left and isinstance(left[0].layer, kinds) else None

    def keep_of(layer: flops.LayerCount | None) -> float:
        return layer.layer.keep if layer is not None and isinstance(layer.layer, flops.Dropout) else 1.0

    while (conv := take(flops.Conv2d)) is not None:
        layer, (channels, height, width) = conv.layer, conv.input
        assert isinstance(layer, flops.Conv2d)
        if layer.side != 3 or layer.bias or height != width:
            raise _make_unsupported_error("a convolution other than 3x3 without bias on a square image")
        if take(flops.Relu) is None:
            raise _make_unsupported_error("a convolution without ReLU after it")
        pool = take(flops.MaxPool2d)
        if pool is None or not isinstance(pool.layer, flops.MaxPool2d) or pool.layer.side != 2:
            raise _make_unsupported_error("a convolution without max pooling of 2 after it")
        flat = take(flops.Flatten) is not None
        _check_channels(channels, layer.out_channels, first=not convolutions, lanes=lanes)
        convolutions.append(FusedConvStage(channels, height, layer.out_channels, keep_of(take(flops.Dropout))))
        if flat:
            break
    if len(convolutions) == 1:
        raise _make_unsupported_error("a single convolution, which would be first and last")
    take(flops.Flatten)
    while (found := take(flops.Dense)) is not None:
        layer, features = found.layer, found.input[0]
        assert isinstance(layer, flops.Dense)
        if not left:
            return NativeStages(
                tuple(convolutions), tuple(dense), LogitsStage(features, layer.out_features, layer.bias)
            )
        if take(flops.Relu) is None:
            raise _make_unsupported_error("a dense layer without ReLU after it")
        dense.append(FusedDenseStage(features, layer.out_features, layer.bias, keep_of(take(flops.Dropout))))
    raise _make_unsupported_error(
        f"a layer {type(left[0].layer).__name__} where none is known"
        if left
        else "a network without a dense layer at its end"
    )


def _check_channels(channels: int, out_channels: int, *, first: bool, lanes: int) -> None:
    if first:
        if channels != 1 or out_channels not in (2 * lanes, 4 * lanes):
            known = f"1 to {2 * lanes} or {4 * lanes}"
            raise _make_unsupported_error(
                f"a first convolution of {channels} to {out_channels} channels; {known} are known"
            )
        return
    block, half = (4 if lanes == 16 else 2) * lanes, 2 * lanes
    if out_channels % block or channels % half:
        raise _make_unsupported_error(
            f"a convolution of {channels} to {out_channels} channels; multiples of {half} and {block} are known"
        )


def _make_unsupported_error(what: str) -> UnsupportedError:
    return UnsupportedError(f"native kernels do not know {what}")
