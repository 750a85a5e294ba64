"""Measured floors under any step on this device: the smallest launch, copying memory, moving a batch to the device.

They answer "why not N times faster": a step of k operators cannot beat k launches, nor can its bytes beat the copy
bandwidth. Measured after the timed region, in the same process, with the same threads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench.devices import Attached
from cnnbench.engine.timing import time_blocks

COPY_BYTES = 64 * 2**20


def measure_lower_bounds(attached: Attached, draw: Callable[[], object] | None) -> dict[str, float]:
    """`launch_seconds` (one element-wise operator on one value, amortised over a queue of 200), `sync_seconds` (an idle
    synchronise), `copy_bytes_per_second` (read plus written, 64 MiB device to device) and, where there are batches to
    draw, `draw_seconds` (one batch, nothing done with it), each the best of 5.
    """
    device = attached.device
    one = torch.zeros(1, device=device)
    source = torch.zeros(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)

    def best(work: Callable[[], object], repeats: int) -> float:
        return min(time_blocks(work, attached.synchronize, blocks=5, steps_per_block=repeats)) / repeats

    target.copy_(source)
    floors = {
        "launch_seconds": best(lambda: one.add_(1.0), 200),
        "sync_seconds": best(lambda: None, 1),
        "copy_bytes_per_second": 2 * COPY_BYTES / best(lambda: target.copy_(source), 3),
    }
    if draw is not None:
        floors["draw_seconds"] = best(draw, 10)
    return floors


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators dispatched inside it, views left out."""

    operators = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if not func.is_view:
            self.operators += 1
        return func(*args, **(kwargs or {}))


def count_operators(step: Callable[[], None]) -> int:
    """Operators (views left out) that one step dispatches; the step is really run."""
    counter = _Counter()  # type: ignore[no-untyped-call]
    with counter:
        step()
    return counter.operators
