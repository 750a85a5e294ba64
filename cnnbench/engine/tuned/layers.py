"""The native step's layers with their buffers: weights and gradients as one array, forward and backward by the kernels.

One flat array makes the optimiser one pass instead of one call per parameter. In bf16 activations between stages, and the
operands of every product but the first layer's, are bfloat16; sums, the gradients of convolutions' weights and those of
activations between convolutions are float32; torch's products leave bfloat16.
"""

from __future__ import annotations

import torch
from torch import nn

from cnnbench.engine.optim import DECAY, EPSILON, MOMENTUM
from cnnbench.engine.tuned.native import FusedConvStage, Kernels
from cnnbench.errors import UnsupportedError

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


class FlatParameters:
    """The network's parameters and their gradients, each as views of one tensor.

    Weights of convolutions are stored as [out][ky][kx][in], those of the dense layer `transposed` as [in][out].
    """

    def __init__(self, network: nn.Module, transposed: nn.Linear | None = None) -> None:
        parameters = list(network.parameters())
        total = sum(parameter.numel() for parameter in parameters)
        self.weights, self.gradients = torch.empty(total), torch.zeros(total)
        self._stored: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._rounded: dict[int, torch.Tensor] = {}
        self._unpermuted: dict[int, torch.Tensor] = {}
        begin = 0
        for parameter in parameters:
            end = begin + parameter.numel()
            turned = transposed is not None and parameter is transposed.weight
            order = (0, 2, 3, 1) if parameter.dim() == 4 else (1, 0) if turned else tuple(range(parameter.dim()))
            shape = tuple(parameter.shape[each] for each in order)
            weights, gradients = self.weights[begin:end].view(shape), self.gradients[begin:end].view(shape)
            weights.copy_(parameter.detach().permute(order))
            self._stored[id(parameter)] = weights, gradients
            back = tuple(order.index(each) for each in range(len(order)))
            parameter.data, self._unpermuted[id(parameter)] = weights.permute(back), gradients.permute(back)
            begin = end

    def get_stored(self, parameter: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Look up a parameter's weights and gradient as the kernels take them."""
        return self._stored[id(parameter)]

    def get_rounded(self, parameter: torch.Tensor) -> torch.Tensor:
        """Look up the weights' copy in bfloat16 as the kernels take them, as of the last `refresh`."""
        weights = self._stored[id(parameter)][0]
        return self._rounded.setdefault(id(parameter), weights.to(torch.bfloat16))

    def refresh(self) -> None:
        """Round the weights that have a copy in bfloat16 again."""
        for owner, rounded in self._rounded.items():
            rounded.copy_(self._stored[owner][0])

    def gradient(self, parameter: nn.Parameter) -> torch.Tensor:
        """View the gradient in the parameter's own shape."""
        return self._unpermuted[id(parameter)]


class FlatOptimizer:
    """The optimiser over flat tensors, by torch's formulas."""

    def __init__(self, name: str, kernels: Kernels, flat: FlatParameters, rate: float) -> None:
        self._name, self._kernels, self._flat, self.rate = name, kernels, flat, rate
        self._first = torch.zeros_like(flat.weights) if name in ("momentum", "adam") else torch.empty(0)
        self._second = torch.zeros_like(flat.weights) if name in ("rmsprop", "rmsprop-tf1", "adam") else torch.empty(0)
        self.reset()

    def reset(self) -> None:
        """Restore the state before the first step."""
        self._steps = 0
        self._first.zero_()
        self._second.fill_(1.0 if self._name == "rmsprop-tf1" else 0.0)

    def step(self) -> None:
        """Update all weights once from the gradients."""
        weights, gradients = self._flat.weights, self._flat.gradients
        self._steps += 1
        match self._name:
            case "sgd":
                weights.add_(gradients, alpha=-self.rate)
            case "momentum":
                self._first.mul_(MOMENTUM).add_(gradients)
                weights.add_(self._first, alpha=-self.rate)
            case "rmsprop":
                self._kernels.rmsprop(
                    weights.data_ptr(), gradients.data_ptr(), self._second.data_ptr(), weights.numel(), self.rate, DECAY, EPSILON
                )  # fmt: skip
            case "rmsprop-tf1":
                self._second.mul_(DECAY).addcmul_(gradients, gradients, value=1.0 - DECAY)
                weights.addcdiv_(gradients, (self._second + EPSILON).sqrt_(), value=-self.rate)
            case "adam":
                beta1, beta2 = ADAM_BETAS
                self._kernels.adam(
                    weights.data_ptr(), gradients.data_ptr(), self._first.data_ptr(), self._second.data_ptr(),
                    weights.numel(), self.rate, beta1, beta2, ADAM_EPSILON,
                    1.0 - beta1**self._steps, 1.0 - beta2**self._steps,
                )  # fmt: skip


NativeDropout = tuple[int, float]
"""The kernels' arguments for one layer's dropout: a threshold for random bits, and the scale of the kept values."""


def make_dropout(keep: float) -> NativeDropout:
    """Make the dropout that keeps with probability `keep`."""
    return (0, 1.0) if keep >= 1.0 else (round(keep * 2**32), 1.0 / keep)


NO_DROPOUT = make_dropout(1.0)
TILED_SIDE = 7
"""Smallest image side for tiles: below it a row of windows has less than a tile's 16 places."""
TILED_INPUTS = 32
"""Inputs of a dense layer per tile."""


def _locate(*tensors: torch.Tensor) -> tuple[int, ...]:
    """Return the addresses of buffers, which never move; their owner must keep the tensors."""
    return tuple(each.data_ptr() for each in tensors)


class NativeConv:
    """One convolution stage; the `first` takes bare images, the `last` gives flat rows, others a border of zeros."""

    def __init__(
        self,
        kernels: Kernels,
        stage: FusedConvStage,
        module: nn.Conv2d,
        flat: FlatParameters,
        batch: int,
        *,
        first: bool,
        last: bool,
        half: bool,
    ) -> None:
        self.dropout = make_dropout(stage.keep)
        side, channels = -(-stage.side // 2), stage.out_channels
        weights, gradient = flat.get_stored(module.weight)
        # The first stage has one channel, too little for products of pairs: its products are float32 in both arithmetics.
        weights = flat.get_rounded(module.weight) if half and not first else weights
        packed = torch.empty(weights.numel(), dtype=weights.dtype)
        self.tiles = half and not first and kernels.tiles and stage.side >= TILED_SIDE
        packed_back = torch.empty_like(packed) if self.tiles else weights
        shape = (batch, channels * side * side) if last else (batch, side + 2, side + 2, channels)
        self.out = torch.zeros(shape, dtype=torch.bfloat16 if half else torch.float32)
        self.back = torch.zeros(shape)
        places = torch.zeros(batch, side, side, channels, dtype=torch.uint8)
        self._threads = torch.get_num_threads()
        sums = torch.empty(self._threads, channels, 9, stage.channels)
        self._buffers = (weights, gradient, packed, packed_back, places, sums)
        self._size: tuple[int, ...] = (batch, stage.side, stage.side, channels)
        suffix = "_tiles" if self.tiles else "_bf16" if half else ""
        self._forward = getattr(kernels, f"{'first' if first else 'stage'}_forward{suffix}")
        self._backward = kernels.first_backward if first else getattr(kernels, f"stage_backward{suffix}")
        if not first:
            self._size = (*self._size[:3], stage.channels, channels, int(not last))
        words = weights.numel() * weights.element_size() // 4 // channels
        self._pack, self._packing = kernels.pack, (*_locate(weights, packed), channels, words)
        if self.tiles:
            self._pack = kernels.pack_tiles
            self._packing = (*_locate(weights, packed, packed_back), stage.channels, channels)
        self._forward_into, self._backward_from = _locate(packed, self.out, places), _locate(self.back, places)
        self._weights_back, self._gradient_into, self._sums = _locate(packed_back, gradient, sums)

    def forward(self, given: torch.Tensor, seed: int, drop: NativeDropout) -> torch.Tensor:
        """Compute the stage's output from its input, both `(batch, ...)` in the arithmetic's own type."""
        self._pack(*self._packing)
        _expect(self._forward(given.data_ptr(), *self._forward_into, *self._size, seed, *drop))
        return self.out

    def backward(self, given: torch.Tensor, back: torch.Tensor | None, drop: NativeDropout) -> None:
        """Compute from `self.back` the weights' gradient, and the input's gradient into `back` (None for the first)."""
        into: tuple[int, ...] = (self._gradient_into, self._sums)
        if back is not None:
            into = (self._weights_back, self._gradient_into, back.data_ptr(), self._sums)
        _expect(self._backward(*self._backward_from, given.data_ptr(), *into, *self._size, drop[1], self._threads))


class NativeDense:
    """One dense layer, with ReLU and dropout except for the logits (`keep` None); the products are torch's."""

    tiles = False
    always_float32 = False
    """Whether the kernels compute in float32 in both arithmetics."""

    def __init__(
        self, kernels: Kernels, module: nn.Linear, flat: FlatParameters, batch: int, keep: float | None, *, half: bool
    ) -> None:
        self._kernels, self._batch, self._finished = kernels, batch, keep is not None
        self.dropout = NO_DROPOUT if keep is None else make_dropout(keep)
        bias = module._parameters["bias"]  # the type checker believes that a Linear always has one
        stored: tuple[torch.Tensor | None, ...] = (None, None) if bias is None else flat.get_stored(bias)
        self._bias, self._bias_gradient = stored
        self._bias_place = None if self._bias is None else self._bias.data_ptr()
        self.out = torch.zeros(batch, module.out_features, dtype=torch.bfloat16 if half else torch.float32)
        self.back = torch.zeros_like(self.out)
        # What the kernels write and read; `out` and `back` are copies of it where those have another type.
        half = half and not self.always_float32
        dtype = torch.bfloat16 if half else torch.float32
        self._out, self._back = self.out.to(dtype), self.back.to(dtype)
        self._offset = flat.get_rounded(bias) if bias is not None and half and keep is None else self._bias
        self._out_place, self._back_place = _locate(self._out, self._back)
        self._finish = kernels.dense_finish_bf16 if half else kernels.dense_finish
        self._unfinish = kernels.dense_backward_bf16 if half else kernels.dense_backward
        self._weights, self._gradient = flat.get_stored(module.weight)
        self._prepare(module, flat)

    def _prepare(self, module: nn.Linear, flat: FlatParameters) -> None:
        """Allocate the products' buffers."""
        dtype, self._product = self._out.dtype, self._gradient
        self._given_back: torch.Tensor | None = None
        if dtype != self._weights.dtype:
            self._weights = flat.get_rounded(module.weight)
            self._product = torch.empty(self._weights.shape, dtype=dtype)
            self._given_back = torch.empty(self._batch, module.in_features, dtype=dtype)

    def forward(self, given: torch.Tensor, seed: int, drop: NativeDropout) -> torch.Tensor:
        """Compute the layer's output `(batch, out_features)` from `(batch, features)`."""
        self._multiply(given.to(self._out.dtype))
        if self._finished:
            self._finish(self._out_place, self._bias_place, *self._out.shape, seed, *drop)
        if self.out is not self._out:
            self.out.copy_(self._out)
        return self.out

    def backward(self, given: torch.Tensor, back: torch.Tensor | None, drop: NativeDropout) -> None:
        """Compute from `self.back` the parameters' gradients, and the input's into `back` unless that is None."""
        if self.back is not self._back:
            self._back.copy_(self.back)
        if self._finished:
            self._unfinish(self._back_place, self._out_place, *self._out.shape, drop[1])
        if self._bias_gradient is not None:
            torch.sum(self._back, 0, dtype=torch.float32, out=self._bias_gradient)
        self._multiply_back(given.to(self._back.dtype), back)

    def _multiply(self, given: torch.Tensor) -> None:
        if self._finished or self._offset is None:
            torch.mm(given, self._weights.t(), out=self.out)
        else:
            torch.addmm(self._offset, given, self._weights.t(), out=self.out)

    def _multiply_back(self, given: torch.Tensor, back: torch.Tensor | None) -> None:
        torch.mm(self.back.t(), given, out=self._product)
        if self._product is not self._gradient:
            self._gradient.copy_(self._product)
        if back is None:
            return
        into = back if self._given_back is None or back.dtype == self._given_back.dtype else self._given_back
        torch.mm(self.back, self._weights, out=into)
        if into is not back:
            back.copy_(into)


class TiledNativeDense(NativeDense):
    """A dense layer with ReLU in bfloat16, its products by tiles; packing rounds the weights."""

    tiles = True

    def _prepare(self, module: nn.Linear, flat: FlatParameters) -> None:
        self._size = (self._batch, module.in_features, module.out_features)
        images, features, outputs = (-(-each // TILED_INPUTS) * TILED_INPUTS for each in self._size)
        # Weights, input and output gradient, each packed twice: for the forward pass and for the backward pass.
        sizes = (outputs * features, images * features, images * outputs)
        self._buffers = [torch.empty(2 * each, dtype=torch.bfloat16) for each in sizes]
        self._laid = _locate(*self._buffers)
        self._forward_into = (*_locate(self._weights, self.out), *self._laid[:2])
        self._backward_into = (*self._laid, self._gradient.data_ptr())
        self._given_back = torch.empty(self._batch, module.in_features)

    def _multiply(self, given: torch.Tensor) -> None:
        _expect(self._kernels.dense_forward_tiles(given.data_ptr(), *self._forward_into, *self._size))

    def _multiply_back(self, given: torch.Tensor, back: torch.Tensor | None) -> None:
        into = back if back is None or back.dtype == torch.float32 else self._given_back
        place = None if into is None else into.data_ptr()
        _expect(self._kernels.dense_backward_tiles(self._back_place, *self._backward_into, place, *self._size))
        if back is not None and into is not None and into is not back:
            back.copy_(into)


class SparseNativeDense(NativeDense):
    """A first dense layer on the images themselves, whose values are mostly zero; float32 in both arithmetics."""

    always_float32 = True

    def _multiply(self, given: torch.Tensor) -> None:
        where = _locate(given, self._weights, self._out)
        _expect(self._kernels.sparse_forward(*where, self._batch, *self._weights.shape))

    def _multiply_back(self, given: torch.Tensor, back: torch.Tensor | None) -> None:
        assert back is None, "no layer comes before this one"
        where = _locate(self._back, given, self._gradient)
        _expect(self._kernels.sparse_backward(*where, self._batch, *self._weights.shape))


def _expect(code: int) -> None:
    if code:
        raise UnsupportedError("native kernels refused a shape that was planned for them")
