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
from cnnbench.workloads.base import OPTIMIZERS

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


class FlatParameters:
    """The network's parameters and their gradients, each as views of one tensor.

    Weights of convolutions lie as [out][ky][kx][in], those of the dense layer `transposed` as [in][out].
    """

    def __init__(self, network: nn.Module, transposed: nn.Linear | None = None) -> None:
        owners = [each for each in network if isinstance(each, (nn.Conv2d, nn.Linear))]  # type: ignore[attr-defined]
        parameters = [parameter for owner in owners for parameter in owner.parameters()]
        total = sum(parameter.numel() for parameter in parameters)
        self.weights, self.gradients = torch.empty(total), torch.zeros(total)
        self._stored: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._rounded: dict[int, torch.Tensor] = {}
        self._order: dict[int, tuple[int, ...]] = {}
        begin = 0
        for parameter in parameters:
            end = begin + parameter.numel()
            order = tuple(range(parameter.dim()))
            if parameter.dim() == 4:
                order = (0, 2, 3, 1)
            elif transposed is not None and parameter is transposed.weight:
                order = (1, 0)
            shape = tuple(parameter.shape[each] for each in order)
            weights, gradients = self.weights[begin:end].view(shape), self.gradients[begin:end].view(shape)
            weights.copy_(parameter.detach().permute(order))
            self._stored[id(parameter)] = weights, gradients
            self._order[id(parameter)] = tuple(order.index(each) for each in range(len(order)))
            parameter.data = weights.permute(self._order[id(parameter)])
            begin = end

    def get_stored(self, parameter: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and gradient of a parameter as the kernels take them."""
        return self._stored[id(parameter)]

    def get_rounded(self, parameter: torch.Tensor) -> torch.Tensor:
        """A copy of the weights in bfloat16 as the kernels take them, as of the last `refresh`."""
        weights = self._stored[id(parameter)][0]
        return self._rounded.setdefault(id(parameter), weights.to(torch.bfloat16))

    def refresh(self) -> None:
        """Round anew the weights of which there is a copy in bfloat16."""
        for owner, rounded in self._rounded.items():
            rounded.copy_(self._stored[owner][0])

    def gradient(self, parameter: nn.Parameter) -> torch.Tensor:
        """The gradient in the parameter's own shape: a view."""
        return self._stored[id(parameter)][1].permute(self._order[id(parameter)])


class FlatOptimizer:
    """The optimiser over flat tensors, by torch's formulas. Raises UnsupportedError for one it does not know."""

    def __init__(self, name: str, kernels: Kernels, flat: FlatParameters, rate: float) -> None:
        if name not in OPTIMIZERS:
            raise UnsupportedError(f"native kernels do not know the optimiser {name!r}")
        self._name, self._kernels, self._flat, self.rate = name, kernels, flat, rate
        self._first = torch.zeros_like(flat.weights) if name in ("momentum", "adam") else torch.empty(0)
        self._second = torch.zeros_like(flat.weights) if name in ("rmsprop", "rmsprop-tf1", "adam") else torch.empty(0)
        self.reset()

    def reset(self) -> None:
        """Before the first step."""
        self._steps = 0
        self._first.zero_()
        self._second.fill_(1.0 if self._name == "rmsprop-tf1" else 0.0)

    def step(self) -> None:
        """One update of all weights from the gradients."""
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


class NativeDropout:
    """Of one layer: what the kernels take for keeping with probability `keep`."""

    def __init__(self, keep: float) -> None:
        self.threshold = 0 if keep >= 1.0 else round(keep * 2**32)
        self.scale = 1.0 if keep >= 1.0 else 1.0 / keep


NO_DROPOUT = NativeDropout(1.0)
TILED_SIDE = 7
"""Smaller images are no work for tiles: a row of windows has less than a tile's 16 places."""
TILED_INPUTS = 32
"""Tiles take the inputs of a dense layer by so many."""


class NativeConv:
    """One convolution stage; the `first` takes bare images, the `last` leaves flat rows, others a border of zeros."""

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
        self._kernels, self._stage, self._batch, self._first, self._last = kernels, stage, batch, first, last
        self.dropout = NativeDropout(stage.keep)
        side, channels = stage.pooled, stage.out_channels
        weights, self._gradient = flat.get_stored(module.weight)
        # The first stage has one channel, too little for products of pairs: its products are float32 in both arithmetics.
        self._weights = flat.get_rounded(module.weight) if half and not first else weights
        self._words = self._weights.numel() * self._weights.element_size() // 4 // channels
        self._packed = torch.empty(self._weights.numel(), dtype=self._weights.dtype)
        self.tiles = half and not first and kernels.tiles and stage.side >= TILED_SIDE
        self._packed_back = torch.empty_like(self._packed) if self.tiles else self._weights
        shape = (batch, channels * side * side) if last else (batch, side + 2, side + 2, channels)
        self.out = torch.zeros(shape, dtype=torch.bfloat16 if half else torch.float32)
        self.back = torch.zeros(shape)
        self._places = torch.zeros(batch, side, side, channels, dtype=torch.uint8)
        self._threads = torch.get_num_threads()
        self._sums = torch.empty(self._threads, channels, 9, stage.channels)
        self._first_forward = kernels.first_forward_bf16 if half else kernels.first_forward
        suffix = "_tiles" if self.tiles else "_bf16" if half else ""
        self._stage_forward = getattr(kernels, f"stage_forward{suffix}")
        self._stage_backward = getattr(kernels, f"stage_backward{suffix}")

    def forward(self, given: torch.Tensor, seed: int, drop: NativeDropout) -> torch.Tensor:
        """`(batch, ...)` in and out, in the arithmetic's own type."""
        stage = self._stage
        weights, packed = self._weights.data_ptr(), self._packed.data_ptr()
        if self.tiles:
            self._kernels.pack_tiles(weights, packed, self._packed_back.data_ptr(), stage.channels, stage.out_channels)
        else:
            self._kernels.pack(weights, packed, stage.out_channels, self._words)
        where = (given.data_ptr(), packed, self.out.data_ptr(), self._places.data_ptr())
        size = (self._batch, stage.side, stage.side)
        random = (seed, drop.threshold, drop.scale)
        if self._first:
            _expect(self._first_forward(*where, *size, stage.out_channels, *random))
        else:
            padded = int(not self._last)
            _expect(self._stage_forward(*where, *size, stage.channels, stage.out_channels, padded, *random))
        return self.out

    def backward(self, given: torch.Tensor, back: torch.Tensor | None, drop: NativeDropout) -> None:
        """From `self.back`: the weights' gradient, and the gradient of what was given into `back`."""
        stage = self._stage
        of = (self.back.data_ptr(), self._places.data_ptr(), given.data_ptr())
        gradient, sums = self._gradient.data_ptr(), self._sums.data_ptr()
        size = (self._batch, stage.side, stage.side)
        how = (drop.scale, self._threads)
        if self._first or back is None:
            _expect(self._kernels.first_backward(*of, gradient, sums, *size, stage.out_channels, *how))
            return
        into = (self._packed_back.data_ptr(), gradient, back.data_ptr(), sums)
        _expect(self._stage_backward(*of, *into, *size, stage.channels, stage.out_channels, int(not self._last), *how))


class NativeDense:
    """One dense layer, with ReLU and dropout but for the logits (`keep` None); the products are torch's."""

    def __init__(
        self, kernels: Kernels, module: nn.Linear, flat: FlatParameters, batch: int, keep: float | None, *, half: bool
    ) -> None:
        self._kernels, self._batch, self._finished = kernels, batch, keep is not None
        self.dropout = NO_DROPOUT if keep is None else NativeDropout(keep)
        bias = module._parameters["bias"]  # the type checker believes that a Linear always has one
        stored: tuple[torch.Tensor | None, ...] = (None, None) if bias is None else flat.get_stored(bias)
        self._bias, self._bias_gradient = stored
        self._offset = flat.get_rounded(bias) if bias is not None and half and keep is None else self._bias
        self.out = torch.zeros(batch, module.out_features, dtype=torch.bfloat16 if half else torch.float32)
        self.back = torch.zeros_like(self.out)
        self._finish = kernels.dense_finish_bf16 if half else kernels.dense_finish
        self._unfinish = kernels.dense_backward_bf16 if half else kernels.dense_backward
        self._weights, self._gradient = flat.get_stored(module.weight)
        self._prepare(module, flat)

    def _prepare(self, module: nn.Linear, flat: FlatParameters) -> None:
        """What the products need."""
        dtype, self._product = self.out.dtype, self._gradient
        self._given_back: torch.Tensor | None = None
        if dtype != self._weights.dtype:
            self._weights = flat.get_rounded(module.weight)
            self._product = torch.empty(self._weights.shape, dtype=dtype)
            self._given_back = torch.empty(self._batch, module.in_features, dtype=dtype)

    def forward(self, given: torch.Tensor, seed: int, drop: NativeDropout) -> torch.Tensor:
        """`(batch, features)` to `(batch, out_features)`."""
        self._multiply(given.to(self.out.dtype))
        if self._finished:
            bias = None if self._bias is None else self._bias.data_ptr()
            size = (self._batch, self.out.shape[1])
            self._finish(self.out.data_ptr(), bias, *size, seed, drop.threshold, drop.scale)
        return self.out

    def backward(self, given: torch.Tensor, back: torch.Tensor | None, drop: NativeDropout) -> None:
        """From `self.back`: the parameters' gradients, and the gradient of what was given into `back` where wanted."""
        if self._finished:
            self._unfinish(self.back.data_ptr(), self.out.data_ptr(), self._batch, self.out.shape[1], drop.scale)
        if self._bias_gradient is not None:
            torch.sum(self.back, 0, dtype=torch.float32, out=self._bias_gradient)
        self._multiply_back(given.to(self.back.dtype), back)

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
    """A dense layer with ReLU in bfloat16, its products by tiles; the weights are rounded as they are laid out."""

    def _prepare(self, module: nn.Linear, flat: FlatParameters) -> None:
        self._size = (self._batch, module.in_features, module.out_features)
        images, features, outputs = (-(-each // TILED_INPUTS) * TILED_INPUTS for each in self._size)
        # Each laid out twice: for the forward pass and for the backward pass.
        self._laid_weights, self._laid_given, self._laid_back = (
            torch.empty(2 * each, dtype=torch.bfloat16)
            for each in (outputs * features, images * features, images * outputs)
        )
        self._given_back = torch.empty(self._batch, module.in_features)

    def _multiply(self, given: torch.Tensor) -> None:
        where = (given.data_ptr(), self._weights.data_ptr(), self.out.data_ptr())
        laid = (self._laid_weights.data_ptr(), self._laid_given.data_ptr())
        _expect(self._kernels.dense_forward_tiles(*where, *laid, *self._size))

    def _multiply_back(self, given: torch.Tensor, back: torch.Tensor | None) -> None:
        into = back if back is None or back.dtype == torch.float32 else self._given_back
        laid = (self._laid_weights.data_ptr(), self._laid_given.data_ptr(), self._laid_back.data_ptr())
        to = (self._gradient.data_ptr(), None if into is None else into.data_ptr())
        _expect(self._kernels.dense_backward_tiles(self.back.data_ptr(), *laid, *to, *self._size))
        if back is not None and into is not None and into is not back:
            back.copy_(into)


class SparseNativeDense(NativeDense):
    """A first dense layer, given the images themselves, of which most values are zero; float32 in both arithmetics."""

    def __init__(
        self, kernels: Kernels, module: nn.Linear, flat: FlatParameters, batch: int, keep: float | None, *, half: bool
    ) -> None:
        super().__init__(kernels, module, flat, batch, keep, half=False)
        self._out, self._back = self.out, self.back
        if half:
            self.out, self.back = self._out.bfloat16(), self._back.bfloat16()

    def forward(self, given: torch.Tensor, seed: int, drop: NativeDropout) -> torch.Tensor:
        """`(batch, features)` to `(batch, out_features)`."""
        k, out = self._kernels, self._out
        where = (given.data_ptr(), self._weights.data_ptr(), out.data_ptr())
        _expect(k.sparse_forward(*where, self._batch, *self._weights.shape))
        bias = None if self._bias is None else self._bias.data_ptr()
        k.dense_finish(out.data_ptr(), bias, self._batch, out.shape[1], seed, drop.threshold, drop.scale)
        if self.out is not out:
            self.out.copy_(out)
        return self.out

    def backward(self, given: torch.Tensor, back: torch.Tensor | None, drop: NativeDropout) -> None:
        """From `self.back`: the parameters' gradients; nothing lies before this layer."""
        assert back is None
        k = self._kernels
        if self.back is not self._back:
            self._back.copy_(self.back)
        k.dense_backward(self._back.data_ptr(), self._out.data_ptr(), self._batch, self._out.shape[1], drop.scale)
        where = (self._back.data_ptr(), given.data_ptr(), self._gradient.data_ptr())
        _expect(k.sparse_backward(*where, self._batch, *self._weights.shape))
        if self._bias_gradient is not None:
            torch.sum(self._back, 0, out=self._bias_gradient)


def _expect(code: int) -> None:
    if code:
        raise UnsupportedError("native kernels refused a shape that was planned for them")
