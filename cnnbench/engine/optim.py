"""Optimisers by name, with the lecture's constants, and their state put back to the start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from cnnbench.errors import WorkloadError
from cnnbench.workloads.base import OPTIMIZERS

LEARNING_RATE = 1e-3
DECAY = 0.9
EPSILON = 1e-10
MOMENTUM = 0.9


class RmspropTf1(torch.optim.Optimizer):
    """RMSProp as TensorFlow 1 computed it: the mean square starts at 1 and epsilon stands inside the square root.

    ms <- decay ms + (1 - decay) g^2;  w <- w - lr g / sqrt(ms + eps). torch.optim.RMSprop starts at 0 and divides by
    sqrt(ms) + eps. Written with torch's multi-tensor operations, as torch's own default implementation is.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = LEARNING_RATE,
        decay: float = DECAY,
        eps: float = EPSILON,
    ) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients present; parameters without one stay."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in weights]
            for weight in weights:
                if "square_avg" not in self.state[weight]:
                    self.state[weight]["square_avg"] = torch.ones_like(weight)
            squares = [self.state[weight]["square_avg"] for weight in weights]
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - group["decay"])
            denominators = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(denominators)
            torch._foreach_addcdiv_(weights, gradients, denominators, -group["lr"])


def make_optimizer(
    name: str, parameters: Iterable[torch.nn.Parameter], learning_rate: float = LEARNING_RATE
) -> torch.optim.Optimizer:
    """The optimiser of that name, RMSProp with the lecture's constants. Raises WorkloadError for a name it does not know."""
    match name:
        case "sgd":
            return torch.optim.SGD(parameters, lr=learning_rate)
        case "momentum":
            return torch.optim.SGD(parameters, lr=learning_rate, momentum=MOMENTUM)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=learning_rate, alpha=DECAY, eps=EPSILON)
        case "rmsprop-tf1":
            return RmspropTf1(parameters, lr=learning_rate)
        case "adam":
            return torch.optim.Adam(parameters, lr=learning_rate)
    raise WorkloadError(f"optimizer {name!r} is not one of {', '.join(OPTIMIZERS)}")


def make_recordable(
    name: str, parameters: Iterable[torch.nn.Parameter], learning_rate: float = LEARNING_RATE
) -> torch.optim.Optimizer:
    """The same rules in as few operators as torch has, state on the device and never read by the host: fit to be recorded.

    Raises WorkloadError as `make_optimizer` does.
    """
    weights = list(parameters)
    on_gpu = bool(weights) and weights[0].device.type == "cuda"  # torch refuses `capturable` anywhere else
    match name:
        case "sgd":
            return torch.optim.SGD(weights, lr=learning_rate, fused=True)
        case "momentum":
            return torch.optim.SGD(weights, lr=learning_rate, momentum=MOMENTUM, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(
                weights, lr=learning_rate, alpha=DECAY, eps=EPSILON, foreach=on_gpu, capturable=on_gpu
            )
        case "adam":
            return torch.optim.Adam(weights, lr=learning_rate, fused=True, capturable=on_gpu)
    return make_optimizer(name, weights, learning_rate)


def reset_state(optimizer: torch.optim.Optimizer) -> None:
    """Put every state tensor back to its first value in place, so that nothing has to be allocated again.

    A momentum buffer of zeros is where torch's first step would begin too: it starts the buffer at the first gradient.
    """
    start = 1.0 if isinstance(optimizer, RmspropTf1) else 0.0
    for state in optimizer.state.values():
        values: dict[str, Any] = state
        for value in values.values():
            if isinstance(value, torch.Tensor):
                value.fill_(start)
