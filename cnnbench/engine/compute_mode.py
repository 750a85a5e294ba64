"""The ways a step can be computed: number format by autocast, layout in memory, compiled or eager. One object a job.

Precision: `fp32` and `tf32` compute in float32 (`engine.precision` sets what tensor cores may shorten); `bf16` and `fp16`
run forward and loss under `torch.autocast`, weights and optimiser stay float32; `fp16` scales the loss
(`torch.amp.GradScaler`), without which small gradients would be 0. Layout `nhwc` is torch's channels_last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cnnbench.engine.precision import AUTOCAST_DTYPES
from cnnbench.errors import UnsupportedError
from cnnbench.schema import Job

INITIAL_LOSS_SCALE = 2.0**16
"""torch's own default for the first loss scale."""


class ComputeMode:
    """How one job's network is called, its loss propagated and its weights updated."""

    def __init__(self, job: Job, network: nn.Module, device: torch.device) -> None:
        self.network = network.to(memory_format=torch.channels_last) if job.layout == "nhwc" else network  # type: ignore[call-overload]
        self._forward: Callable[[torch.Tensor], torch.Tensor] = self.network
        self._device, self._autocast_dtype = device, AUTOCAST_DTYPES.get(job.precision)
        self._scaler: Any = (
            torch.amp.GradScaler(device.type, init_scale=INITIAL_LOSS_SCALE) if job.precision == "fp16" else None
        )
        self._initial_scaler_state = None if self._scaler is None else self._scaler.state_dict()
        self.weight_cache = True
        """Whether autocast keeps a weight's short copy for its next use; not where the step is recorded."""

    def set_forward(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """From now on the network is called through this: a wrapper of it."""
        self._forward = forward

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Where forward and loss are computed."""
        if self._autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._autocast_dtype, cache_enabled=self.weight_cache)

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of one batch."""
        with self.autocast():
            return cross_entropy(self._forward(images), labels)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """`(batch, classes)`, in the mode's number format."""
        with self.autocast():
            return self._forward(images)

    def update(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Gradients, and one optimiser step; a step whose scaled gradients overflow is left out, as loss scaling does."""
        if self._scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return
        self._scaler.scale(loss).backward()
        self._scaler.step(optimizer)
        self._scaler.update()

    def reset(self) -> None:
        """The first loss scale again."""
        if self._scaler is not None:
            self._scaler.load_state_dict(self._initial_scaler_state)

    def compile(self, images: torch.Tensor, labels: torch.Tensor, *, training: bool) -> None:
        """Compile the network for batches like this one. Raises UnsupportedError with the compiler's reason if it cannot be.

        The update is left to the optimiser's own kernels: forward and backward are what is compiled.
        """
        forward = torch.compile(self.network)
        try:
            if training:
                with self.autocast():
                    loss = cross_entropy(forward(images), labels)
                loss.backward()  # type: ignore[no-untyped-call]
                self.network.zero_grad(set_to_none=True)
            else:
                with torch.inference_mode(), self.autocast():
                    forward(images)
        except Exception as error:  # any compiler's failure is a reason, never a crash of the run
            if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
                raise
            reason = next(iter(str(error).strip().splitlines()), "no reason given")
            raise UnsupportedError(f"torch.compile failed: {type(error).__name__}: {reason[:300]}") from error
        self._forward = forward

    def effective_format(self, images: torch.Tensor) -> str:
        """The number format the network's products really came out in, such as `torch.bfloat16`."""
        with torch.no_grad(), self.autocast():
            return str(self.network(images[:1]).dtype)
