"""The label is verified: set the float32 modes by torch's one new API, record them, and measure the rounding itself.

torch's defaults let cuDNN convolutions use TF32 while matrix products do not. Here both follow the job, through
`torch.backends.*.fp32_precision` only (mixing it with the older flags raises), and `verify` holds the result against
float64: TF32 and bfloat16 keep 10 and 7 bits of fraction, float32 23, so their errors lie orders of magnitude apart.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.functional import conv2d

from cnnbench.schema import Precision

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What autocast computes forward passes in."""
FP32_ERROR_LIMIT = 2e-5
"""Largest |error| over the largest |value| of a 256-term float32 sum is about 1e-6; TF32 gives about 3e-4, bf16 3e-3."""


def _switches() -> dict[str, Any]:
    backends: Any = torch.backends  # torch's stubs lack the new precision objects
    return {
        "cuda.matmul": backends.cuda.matmul,
        "cudnn.conv": backends.cudnn.conv,
        "cudnn.rnn": backends.cudnn.rnn,
        "mkldnn.matmul": backends.mkldnn.matmul,
        "mkldnn.conv": backends.mkldnn.conv,
    }


def apply(precision: Precision) -> dict[str, str]:
    """Set every float32 mode to the job's and return the effective values as torch reports them."""
    for name, switch in _switches().items():
        wanted = "tf32" if precision == "tf32" and name.startswith("cu") else "ieee"
        switch.fp32_precision = wanted
    return {
        f"fp32_precision.{name}": str(getattr(switch, "fp32_precision", "n/a")) for name, switch in _switches().items()
    }


def verify(device: torch.device, precision: Precision = "fp32") -> dict[str, float]:
    """Relative error of a product and of a convolution, as the precision computes them, against float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator) for _ in range(2))
    images = torch.randn(8, 32, 14, 14, generator=generator)
    kernels = torch.randn(64, 32, 3, 3, generator=generator)
    exact_product = left.double() @ right.double()
    exact_maps = conv2d(images.double(), kernels.double(), padding=1)
    half = AUTOCAST_DTYPES.get(precision)
    with nullcontext() if half is None else torch.autocast(device.type, dtype=half):
        product = left.to(device) @ right.to(device)
        maps = conv2d(images.to(device), kernels.to(device), padding=1)
    return {
        "matmul_error": _error(product, exact_product),
        "conv_error": _error(maps, exact_maps),
    }


def find_mislabelling(precision: Precision, errors: dict[str, float]) -> str | None:
    """Why these errors are not those of the precision: a longer format called short, or a shorter one called float32."""
    worst, best = max(errors.values()), min(errors.values())
    if precision == "fp32" and worst > FP32_ERROR_LIMIT:
        return f"not float32: relative error {worst:.1e} is that of a shorter format"
    if precision in AUTOCAST_DTYPES and best < FP32_ERROR_LIMIT:
        return f"not {precision}: relative error {best:.1e} is that of float32"
    return None


def _error(got: torch.Tensor, exact: torch.Tensor) -> float:
    return float((got.cpu().double() - exact).abs().max() / exact.abs().max())
