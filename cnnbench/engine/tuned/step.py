"""One training step by the native kernels: every buffer allocated once, gradients worked out by hand, no autograd.

Parameters of the network become views of one flat tensor, so that the network itself (which evaluates) and the kernels
see the same weights and the optimiser is one pass over one array. Products of dense layers are torch's own.
"""

from __future__ import annotations

import torch
from torch import nn

from cnnbench.engine.optim import DECAY, EPSILON, MOMENTUM
from cnnbench.engine.tuned.native import Kernels
from cnnbench.engine.tuned.stages import ConvStage, Stages
from cnnbench.errors import UnsupportedError

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
LAYERS = 64
"""Most layers with dropout; each has its own random numbers in each step."""
_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 2**64


class Flat:
    """The network's parameters and their gradients, each as views of one tensor.

    Weights of convolutions lie as [out][ky][kx][in], those of the dense layer `transposed` as [in][out].
    """

    def __init__(self, network: nn.Module, transposed: nn.Linear | None = None) -> None:
        owners = [each for each in network if isinstance(each, (nn.Conv2d, nn.Linear))]  # type: ignore[attr-defined]
        parameters = [parameter for owner in owners for parameter in owner.parameters()]
        total = sum(parameter.numel() for parameter in parameters)
        self.weights, self.gradients = torch.empty(total), torch.zeros(total)
        self._stored: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
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

    def stored(self, parameter: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and gradient of a parameter as the kernels take them."""
        return self._stored[id(parameter)]

    def gradient(self, parameter: nn.Parameter) -> torch.Tensor:
        """The gradient in the parameter's own shape: a view."""
        return self._stored[id(parameter)][1].permute(self._order[id(parameter)])


class Update:
    """The optimiser over flat tensors, by torch's formulas. Raises UnsupportedError for one it does not know."""

    def __init__(self, name: str, kernels: Kernels, flat: Flat, rate: float) -> None:
        if name not in ("sgd", "momentum", "rmsprop", "rmsprop-tf1", "adam"):
            raise UnsupportedError(f"native kernels do not know the optimiser {name!r}")
        self._name, self._kernels, self._flat, self._rate = name, kernels, flat, rate
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
                weights.add_(gradients, alpha=-self._rate)
            case "momentum":
                self._first.mul_(MOMENTUM).add_(gradients)
                weights.add_(self._first, alpha=-self._rate)
            case "rmsprop":
                self._kernels.rmsprop(
                    weights.data_ptr(), gradients.data_ptr(), self._second.data_ptr(), weights.numel(), self._rate, DECAY, EPSILON
                )  # fmt: skip
            case "rmsprop-tf1":
                self._second.mul_(DECAY).addcmul_(gradients, gradients, value=1.0 - DECAY)
                weights.addcdiv_(gradients, (self._second + EPSILON).sqrt_(), value=-self._rate)
            case "adam":
                beta1, beta2 = ADAM_BETAS
                self._kernels.adam(
                    weights.data_ptr(), gradients.data_ptr(), self._first.data_ptr(), self._second.data_ptr(),
                    weights.numel(), self._rate, beta1, beta2, ADAM_EPSILON,
                    1.0 - beta1**self._steps, 1.0 - beta2**self._steps,
                )  # fmt: skip


class _Dropout:
    """Of one layer: what the kernels take for keeping with probability `keep`."""

    def __init__(self, keep: float) -> None:
        self.threshold = 0 if keep >= 1.0 else round(keep * 2**32)
        self.scale = 1.0 if keep >= 1.0 else 1.0 / keep


_NONE = _Dropout(1.0)


class _Conv:
    """One convolution stage and its buffers; the `first` takes bare images, the `last` leaves flat rows, others a border."""

    def __init__(
        self, kernels: Kernels, stage: ConvStage, module: nn.Conv2d, flat: Flat, batch: int, *, first: bool, last: bool
    ) -> None:
        self._kernels, self._stage, self._batch, self._first, self._last = kernels, stage, batch, first, last
        self.dropout = _Dropout(stage.keep)
        side, channels = stage.pooled, stage.out_channels
        self._weights, self._gradient = flat.stored(module.weight)
        self._packed = torch.empty(9, stage.channels, channels)
        shape = (batch, channels * side * side) if last else (batch, side + 2, side + 2, channels)
        self.out, self.back = torch.zeros(shape), torch.zeros(shape)
        self._places = torch.zeros(batch, side, side, channels, dtype=torch.uint8)
        self._threads = torch.get_num_threads()
        self._sums = torch.empty(self._threads, channels, 9, stage.channels)

    def forward(self, given: torch.Tensor, seed: int, drop: _Dropout) -> torch.Tensor:
        stage, k = self._stage, self._kernels
        k.pack(self._weights.data_ptr(), self._packed.data_ptr(), stage.out_channels, stage.channels)
        where = (given.data_ptr(), self._packed.data_ptr(), self.out.data_ptr(), self._places.data_ptr())
        size = (self._batch, stage.side, stage.side)
        random = (seed, drop.threshold, drop.scale)
        if self._first:
            _expect(k.first_forward(*where, *size, stage.out_channels, *random))
        else:
            _expect(k.stage_forward(*where, *size, stage.channels, stage.out_channels, int(not self._last), *random))
        return self.out

    def backward(self, given: torch.Tensor, back: torch.Tensor | None, drop: _Dropout) -> None:
        """From `self.back`: the weights' gradient, and the gradient of what was given into `back`."""
        stage, k = self._stage, self._kernels
        of = (self.back.data_ptr(), self._places.data_ptr(), given.data_ptr())
        gradient, sums = self._gradient.data_ptr(), self._sums.data_ptr()
        size = (self._batch, stage.side, stage.side)
        how = (drop.scale, self._threads)
        if self._first or back is None:
            _expect(k.first_backward(*of, gradient, sums, *size, stage.out_channels, *how))
            return
        into = (self._weights.data_ptr(), gradient, back.data_ptr(), sums)
        _expect(k.stage_backward(*of, *into, *size, stage.channels, stage.out_channels, int(not self._last), *how))


class _Dense:
    """One dense layer and its buffers, with ReLU and dropout but for the logits. A `sparse` one is given the images."""

    def __init__(
        self, kernels: Kernels, module: nn.Linear, flat: Flat, batch: int, keep: float | None, *, sparse: bool
    ) -> None:
        self._kernels, self._batch, self._sparse, self._finished = kernels, batch, sparse, keep is not None
        self.dropout = _NONE if keep is None else _Dropout(keep)
        self._weights, self._gradient = flat.stored(module.weight)
        bias = module._parameters["bias"]  # the type checker believes that a Linear always has one
        self._bias: torch.Tensor | None = None
        self._bias_gradient: torch.Tensor | None = None
        if bias is not None:
            self._bias, self._bias_gradient = flat.stored(bias)
        self.out, self.back = torch.zeros(batch, module.out_features), torch.zeros(batch, module.out_features)

    def forward(self, given: torch.Tensor, seed: int, drop: _Dropout) -> torch.Tensor:
        k, out = self._kernels, self.out
        if self._sparse:
            where = (given.data_ptr(), self._weights.data_ptr(), out.data_ptr())
            _expect(k.sparse_forward(*where, self._batch, *self._weights.shape))
        elif self._finished or self._bias is None:
            torch.mm(given, self._weights.t(), out=out)
        else:
            torch.addmm(self._bias, given, self._weights.t(), out=out)
        if self._finished:
            bias = None if self._bias is None else self._bias.data_ptr()
            k.dense_finish(out.data_ptr(), bias, self._batch, out.shape[1], seed, drop.threshold, drop.scale)
        return out

    def backward(self, given: torch.Tensor, back: torch.Tensor | None, drop: _Dropout) -> None:
        """From `self.back`: the parameters' gradients, and the gradient of what was given into `back` where wanted."""
        if self._finished:
            k, size = self._kernels, (self._batch, self.out.shape[1])
            k.dense_backward(self.back.data_ptr(), self.out.data_ptr(), *size, drop.scale)
        if self._sparse:
            where = (self.back.data_ptr(), given.data_ptr(), self._gradient.data_ptr())
            _expect(self._kernels.sparse_backward(*where, self._batch, *self._weights.shape))
        else:
            torch.mm(self.back.t(), given, out=self._gradient)
        if self._bias_gradient is not None:
            torch.sum(self.back, 0, out=self._bias_gradient)
        if back is not None:
            torch.mm(self.back, self._weights, out=back)


class NativeStep:
    """Forward, backward and update of one batch of fixed size; `images` `(batch, 1, side, side)` float32, `labels` int64."""

    def __init__(
        self,
        kernels: Kernels,
        stages: Stages,
        network: nn.Sequential,
        batch: int,
        *,
        optimizer: str,
        rate: float,
        seed: int,
    ) -> None:
        self._kernels, self._batch, self._seed = kernels, batch, seed
        convolutions = [each for each in network if isinstance(each, nn.Conv2d)]
        linear = [each for each in network if isinstance(each, nn.Linear)]
        # A first dense layer takes the images themselves, of which most values are zero.
        sparse = not convolutions and bool(stages.dense) and stages.dense[0].out_features % kernels.lanes == 0
        self.flat = Flat(network, linear[0] if sparse else None)
        last = len(convolutions) - 1
        self.convolutions = [
            _Conv(kernels, stage, module, self.flat, batch, first=number == 0, last=number == last)
            for number, (stage, module) in enumerate(zip(stages.convolutions, convolutions, strict=True))
        ]
        keeps = [*(stage.keep for stage in stages.dense), None]
        self.dense = [
            _Dense(kernels, module, self.flat, batch, keep, sparse=sparse and number == 0)
            for number, (module, keep) in enumerate(zip(linear, keeps, strict=True))
        ]
        self._update = Update(optimizer, kernels, self.flat, rate)
        self.reset()

    def reset(self) -> None:
        """First random numbers, first optimiser state. The weights are the network's, for its owner to put back."""
        self._drawn, self._dropped = 0, True
        self._update.reset()

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """One optimiser step; the mean cross-entropy before it."""
        self.forward(images)
        loss = self.loss(labels)
        self.backward(images)
        self._update.step()
        return loss

    def forward(self, images: torch.Tensor, *, dropout: bool = True) -> torch.Tensor:
        """The logits `(batch, classes)`, in a buffer that the next call overwrites. Raises ValueError for other batches."""
        if images.shape[0] != self._batch or not images.is_contiguous():
            raise ValueError(f"images of shape {tuple(images.shape)} are not a contiguous batch of {self._batch}")
        given, layer = images, 0
        for conv in self.convolutions:
            given = conv.forward(given, self._seed_of(layer), conv.dropout if dropout else _NONE)
            layer += 1
        given = given.view(self._batch, -1)
        for dense in self.dense:
            given = dense.forward(given, self._seed_of(layer), dense.dropout if dropout else _NONE)
            layer += 1
        self._drawn += 1
        self._dropped = dropout
        return given

    def loss(self, labels: torch.Tensor) -> float:
        """Mean cross-entropy of the last forward pass; leaves its gradient for `backward`."""
        logits = self.dense[-1]
        where = (logits.out.data_ptr(), labels.data_ptr(), logits.back.data_ptr())
        return float(self._kernels.cross_entropy(*where, self._batch, logits.out.shape[1]))

    def backward(self, images: torch.Tensor) -> None:
        """Gradients of all parameters, of the last forward pass and its loss."""
        layers: list[_Conv | _Dense] = [*self.convolutions, *self.dense]
        for number in range(len(layers) - 1, -1, -1):
            layer = layers[number]
            drop = layer.dropout if self._dropped else _NONE
            given = layers[number - 1].out if number else images
            back = layers[number - 1].back if number else None
            layer.backward(given.view(self._batch, -1) if isinstance(layer, _Dense) else given, back, drop)

    def _seed_of(self, layer: int) -> int:
        """Another for each step and layer, whatever the threads."""
        return ((self._seed * 0x100000001B3 + self._drawn) * LAYERS + layer) * _GOLDEN % _WORD


def _expect(code: int) -> None:
    if code:
        raise UnsupportedError("native kernels refused a shape that was planned for them")
