"""How a step is computed: number format by autocast, layout in memory, compiled or eager. One object per job.

Precision: `fp32` and `tf32` compute in float32, and `apply_precision` sets what tensor cores may shorten; `bf16` and `fp16`
run forward and loss under `torch.autocast`, weights and optimiser stay float32; `fp16` scales the loss
(`torch.amp.GradScaler`), without which small gradients would be 0. Layout `nhwc` is torch's channels_last.

torch's defaults let cuDNN convolutions use TF32 while matrix products do not. Here both follow the job, through
`torch.backends.*.fp32_precision` only (mixing it with the older flags raises), and `measure_rounding` compares the result with
float64: TF32 and bfloat16 keep 10 and 7 bits of fraction, float32 23, so their errors differ by orders of magnitude.
"""

from __future__ import annotations

import contextlib
import gc
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, conv2d, cross_entropy, mse_loss

from cnnbench.errors import UnsupportedError, is_out_of_memory, summarize_error
from cnnbench.schema import Job, Precision
from cnnbench.workloads.base import Loss

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The types in which autocast computes forward passes."""
FP32_ERROR_LIMIT = 2e-5
"""Largest |error| over the largest |value| of a 256-term float32 sum is about 1e-6; TF32 gives about 3e-4, bf16 3e-3."""


PLAIN_MODE = {name: Job.model_fields[name].default for name in ("division", "execution", "layout")}
"""How the reference computes a step: eager, channels first. Every other mode is declared by its difference from this one."""
INITIAL_LOSS_SCALE = 2.0**16
"""torch's own default for the first loss scale."""


def release_memory() -> None:
    """Free unused memory on the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


LOSSES: Mapping[Loss, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross-entropy": cross_entropy,
    "binary-cross-entropy": lambda outputs, targets: binary_cross_entropy_with_logits(outputs.squeeze(1), targets),
    "squared-error": lambda outputs, targets: mse_loss(outputs.squeeze(1), targets),
}
"""The mean loss of a batch from the network's outputs, by its name."""


@contextlib.contextmanager
def explain_compiler_failure() -> Iterator[None]:
    """Turn every compiler failure except out-of-memory into an UnsupportedError, so that it never crashes the run."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UnsupportedError(f"torch.compile failed: {summarize_error(error)}") from error


class ComputeMode:
    """How one job's network is called, its loss propagated and its weights updated."""

    def __init__(self, job: Job, network: nn.Module, device: torch.device, loss: Loss = "cross-entropy") -> None:
        self.network = network.to(memory_format=torch.channels_last) if job.layout == "nhwc" else network  # type: ignore[call-overload]
        self.forward: Callable[[torch.Tensor], torch.Tensor] = self.network
        """The callable for a forward pass: the network itself or its wrapper."""
        self.compute_loss = LOSSES[loss]
        self._device, self._autocast_dtype = device, AUTOCAST_DTYPES.get(job.precision)
        self._scaler: Any = (
            torch.amp.GradScaler(device.type, init_scale=INITIAL_LOSS_SCALE) if job.precision == "fp16" else None
        )
        self._initial_scaler_state = None if self._scaler is None else self._scaler.state_dict()
        self.weight_cache = True
        """Whether autocast caches a weight's shorter copy; false in a recorded step."""

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which forward and loss are computed."""
        if self._autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._autocast_dtype, cache_enabled=self.weight_cache)

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the mean loss of one batch."""
        with self.autocast():
            return self.compute_loss(self.forward(images), labels)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the network's outputs `(batch, outputs)` in the mode's number format."""
        with self.autocast():
            return self.forward(images)

    def update(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Compute gradients and do one optimiser step; loss scaling skips a step whose scaled gradients overflow."""
        if self._scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return
        self._scaler.scale(loss).backward()
        self._scaler.step(optimizer)
        self._scaler.update()

    def reset(self) -> None:
        """Restore the first loss scale."""
        if self._scaler is not None:
            self._scaler.load_state_dict(self._initial_scaler_state)

    def compile(self, images: torch.Tensor, labels: torch.Tensor, *, training: bool) -> None:
        """Compile the network for batches like this one. Raises UnsupportedError with the compiler's reason.

        The update is left to the optimiser's own kernels: forward and backward are what is compiled.
        """
        forward = torch.compile(self.network)
        with explain_compiler_failure(), contextlib.nullcontext() if training else torch.inference_mode():
            with self.autocast():
                loss = self.compute_loss(forward(images), labels) if training else forward(images)
            if training:
                loss.backward()
                self.network.zero_grad(set_to_none=True)
        self.forward = forward


def apply_precision(precision: Precision) -> dict[str, str]:
    """Set every float32 mode to the job's and return the effective values as torch reports them."""
    names = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv")
    switches = {name: operator.attrgetter(name)(torch.backends) for name in names}
    for name, switch in switches.items():
        switch.fp32_precision = "tf32" if precision == "tf32" and name.startswith("cu") else "ieee"
    return {f"fp32_precision.{name}": str(switch.fp32_precision) for name, switch in switches.items()}


def measure_rounding(device: torch.device, precision: Precision) -> dict[str, float]:
    """Measure the relative error of a product and a convolution in this precision against float64 on the CPU."""
    generator, half = torch.Generator().manual_seed(0), AUTOCAST_DTYPES.get(precision)
    shapes = ((256, 256), (256, 256), (8, 32, 14, 14), (64, 32, 3, 3))
    left, right, images, kernels = (torch.randn(shape, generator=generator) for shape in shapes)
    exact_product = left.double() @ right.double()
    exact_maps = conv2d(images.double(), kernels.double(), padding=1)
    with contextlib.nullcontext() if half is None else torch.autocast(device.type, dtype=half):
        product = left.to(device) @ right.to(device)
        maps = conv2d(images.to(device), kernels.to(device), padding=1)
    return {"matmul_error": _error(product, exact_product), "conv_error": _error(maps, exact_maps)}


def find_mislabelling(precision: Precision, errors: dict[str, float]) -> str | None:
    """Explain why these errors do not fit the precision: a longer format called short, or a shorter one float32."""
    worst, best = max(errors.values()), min(errors.values())
    if precision == "fp32" and worst > FP32_ERROR_LIMIT:
        return f"not float32: relative error {worst:.1e} is that of a shorter format"
    if precision in AUTOCAST_DTYPES and best < FP32_ERROR_LIMIT:
        return f"not {precision}: relative error {best:.1e} is that of float32"
    return None


def _error(got: torch.Tensor, exact: torch.Tensor) -> float:
    return float((got.cpu().double() - exact).abs().max() / exact.abs().max())
