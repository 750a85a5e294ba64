"""The network's weights as one array, and the update rules over it: one pass instead of one call a parameter."""

from __future__ import annotations

import torch
from torch import nn

from cnnbench.engine.optim import DECAY, EPSILON, MOMENTUM
from cnnbench.engine.tuned.native import Kernels
from cnnbench.errors import UnsupportedError

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
        if name not in ("sgd", "momentum", "rmsprop", "rmsprop-tf1", "adam"):
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
