"""Optimisers by name, with the lecture's constants, and their state put back to the start."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from cnnbench.errors import WorkloadError
from cnnbench.workloads.base import OPTIMIZERS

LEARNING_RATE = 1e-3
DECAY = 0.9
EPSILON = 1e-10
MOMENTUM = 0.9


class Rmsprop(torch.optim.Optimizer):
    """RMSProp by torch's rule, or as TensorFlow 1 computed it: the mean square starts at 1, epsilon is inside the root.

    ms <- decay ms + (1 - decay) g^2;  w <- w - lr g / sqrt(ms + eps). torch.optim.RMSprop starts at 0 and divides by
    sqrt(ms) + eps. Written with torch's multi-tensor operations, as torch's own default implementation is. A rate that is a
    tensor of no dimension on the weights' device is never read by the host; torch's own can do that on accelerators only
    (`capturable`).
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float | torch.Tensor, *, tf1: bool) -> None:
        self._tf1, self.start = tf1, float(tf1)
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Do one update from the gradients present; parameters without a gradient stay."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in weights]
            for weight in weights:
                if "square_avg" not in self.state[weight]:
                    self.state[weight]["square_avg"] = torch.full_like(weight, self.start)
            squares = [self.state[weight]["square_avg"] for weight in weights]
            torch._foreach_mul_(squares, DECAY)
            torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - DECAY)
            if self._tf1:
                denominators = list(torch._foreach_add(squares, EPSILON))
                torch._foreach_sqrt_(denominators)
            else:
                denominators = list(torch._foreach_sqrt(squares))
                torch._foreach_add_(denominators, EPSILON)
            if isinstance(group["lr"], torch.Tensor):
                torch._foreach_div_(denominators, -group["lr"])  # a rate of 0 makes them infinite, and the update 0
                torch._foreach_addcdiv_(weights, gradients, denominators)
            else:
                torch._foreach_addcdiv_(weights, gradients, denominators, -group["lr"])


def make_optimizer(
    name: str,
    parameters: Iterable[torch.nn.Parameter],
    learning_rate: float | torch.Tensor = LEARNING_RATE,
    *,
    recordable: bool = False,
) -> torch.optim.Optimizer:
    """Make the optimiser by name, RMSProp with the lecture's constants. Raises WorkloadError for an unknown name.

    A `recordable` one has the same rule in as few operators as torch offers, its state on the device and never read by
    the host. A rate that is a tensor of no dimension must be on the weights' device: then each group's `lr` may be
    another such tensor in each step.
    """
    weights = list(parameters)
    # torch refuses `capturable` anywhere but on a GPU.
    capturable = recordable and bool(weights) and weights[0].device.type == "cuda"
    fused = True if recordable else None
    match name:
        case "sgd":
            return torch.optim.SGD(weights, lr=learning_rate, fused=fused)
        case "momentum":
            return torch.optim.SGD(weights, lr=learning_rate, momentum=MOMENTUM, fused=fused)
        case "rmsprop" if isinstance(learning_rate, torch.Tensor):
            return Rmsprop(weights, learning_rate, tf1=False)
        case "rmsprop":
            foreach = capturable if recordable else None
            return torch.optim.RMSprop(
                weights, lr=learning_rate, alpha=DECAY, eps=EPSILON, foreach=foreach, capturable=capturable
            )
        case "rmsprop-tf1":
            return Rmsprop(weights, learning_rate, tf1=True)
        case "adam":
            return torch.optim.Adam(weights, lr=learning_rate, fused=fused, capturable=capturable)
    raise WorkloadError(f"optimizer {name!r} is not one of {', '.join(OPTIMIZERS)}")


def reset_state(optimizer: torch.optim.Optimizer) -> None:
    """Reset every state tensor to its first value in place, so that nothing has to be allocated again.

    A momentum buffer of zeros is where torch's first step would begin too: it starts the buffer at the first gradient.
    """
    start = optimizer.start if isinstance(optimizer, Rmsprop) else 0.0
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                value.fill_(start)
