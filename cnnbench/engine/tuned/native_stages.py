"""A network's layers as the stages that the native kernels compute in one pass each, or the reason why not.

Known are: convolution 3x3 without bias, ReLU, max pooling of 2, dropout or none (a `FusedConvStage`), any number of times;
then dense, ReLU, dropout or none (a `FusedDenseStage`), any number of times; last a dense layer for the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from cnnbench.errors import UnsupportedError
from cnnbench.workloads import flops

T = TypeVar("T")


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
    """Dense layer, ReLU, dropout; the last, for the logits, has neither of the two (`keep` None)."""

    out_features: int
    keep: float | None


@dataclass(frozen=True)
class NativeStages:
    """The whole network; its last dense stage gives the logits."""

    convolutions: tuple[FusedConvStage, ...]
    dense: tuple[FusedDenseStage, ...]


def group_layers(layers: tuple[flops.Layer, ...], input_shape: flops.Shape, lanes: int) -> NativeStages:
    """The stages of these layers for vectors of `lanes` values. Raises UnsupportedError naming the first that does not fit."""
    left = list(flops.count_layers(layers, input_shape))
    convolutions: list[FusedConvStage] = []
    dense: list[FusedDenseStage] = []

    def take(kind: type[T]) -> tuple[T, flops.Shape] | None:
        layer = left[0].layer if left else None
        return (layer, left.pop(0).input) if isinstance(layer, kind) else None

    def take_keep() -> float:
        dropout = take(flops.Dropout)
        return 1.0 if dropout is None else dropout[0].keep

    while (conv := take(flops.Conv2d)) is not None:
        layer, (channels, height, width) = conv
        if layer.side != 3 or layer.bias or height != width:
            raise _make_unsupported_error("a convolution other than 3x3 without bias on a square image")
        if take(flops.Relu) is None:
            raise _make_unsupported_error("a convolution without ReLU after it")
        pool = take(flops.MaxPool2d)
        if pool is None or pool[0].side != 2:
            raise _make_unsupported_error("a convolution without max pooling of 2 after it")
        flat = take(flops.Flatten) is not None
        _check_channels(channels, layer.out_channels, first=not convolutions, lanes=lanes)
        convolutions.append(FusedConvStage(channels, height, layer.out_channels, take_keep()))
        if flat:
            break
    if len(convolutions) == 1:
        raise _make_unsupported_error("a single convolution, which would be first and last")
    take(flops.Flatten)
    while (found := take(flops.Dense)) is not None:
        features = found[0].out_features
        if not left:
            return NativeStages(tuple(convolutions), (*dense, FusedDenseStage(features, None)))
        if take(flops.Relu) is None:
            raise _make_unsupported_error("a dense layer without ReLU after it")
        dense.append(FusedDenseStage(features, take_keep()))
    strange = f"a layer {type(left[0].layer).__name__} where none is known" if left else ""
    raise _make_unsupported_error(strange or "a network without a dense layer at its end")


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
