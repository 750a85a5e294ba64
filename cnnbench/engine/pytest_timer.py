"""One timing of any work under pytest-benchmark's fixture, by the rules of a trial: warm-up, synchronisation, no
collector.

It takes pytest-benchmark's `benchmark` fixture and a callable; the fixture gets its statistics of the rounds, and its
`extra_info` what they mean: FLOP/s, images/s, memory high-water marks, device and torch. Rounds of one process are not
independent, whatever statistics are computed from them: n is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch

from cnnbench.devices import backend
from cnnbench.engine import process, torch_info
from cnnbench.engine.timing import disable_gc
from cnnbench.errors import DeviceError

T = TypeVar("T")


def measure(
    benchmark: Any,
    work: Callable[[], T],
    *,
    device: str,
    calls: int = 1,
    rounds: int = 8,
    warmup_rounds: int = 2,
    flops: int | None = None,
    images: int | None = None,
) -> T:
    """Time `rounds` rounds of `calls` calls of `work`, one synchronisation per round; return the last result.

    `device` is where the work runs, `cpu` or `cuda:0`: a wrong one means a wrong time. `flops` and `images` are those of
    one call (`workloads.flops_per_step` has a training step's). `extra_info` gets `device`, `device_name`, `torch`,
    `threads`, `calls_per_round`, `flops`, `flops_per_second` and `images_per_second` (of the median round),
    `host_peak_bytes`, `device_peak_bytes` (allocated) and `device_reserved_peak_bytes`, None where unknown; the marks
    begin after warm-up. Raises DeviceError for a device that torch cannot use.

    `benchmark` is pytest-benchmark's fixture, which declares no types. The parts used are `enabled` (false under
    `--benchmark-disable`: the target is then called once and nothing is timed), `pedantic` (times so many rounds and returns
    the last one's result), `stats` (by name once it has run; None before, and where it is disabled) and `extra_info`.
    """
    if device.partition(":")[2] not in ("", "0"):  # it would be the first that is waited for
        raise DeviceError(f"device {device!r}: a test has the first of its kind; choose it with CUDA_VISIBLE_DEVICES")
    attached = backend(device).attach(threads=None)

    def one_round() -> T:
        for _ in range(calls - 1):
            work()
        result = work()
        attached.synchronize()
        return result

    if benchmark.enabled:
        for _ in range(warmup_rounds):
            one_round()
    attached.synchronize()
    attached.reset_peaks()
    process.reset_host_peak()
    with disable_gc():
        result: T = benchmark.pedantic(one_round, rounds=rounds)
    allocated, reserved = attached.peaks()
    median = None if benchmark.stats is None else float(benchmark.stats["median"])
    benchmark.extra_info |= {
        "device": device,
        "device_name": _find_device_name(attached.kind),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "calls_per_round": calls,
        "flops": flops,
        "flops_per_second": _rate(flops, calls, median),
        "images_per_second": _rate(images, calls, median),
        "host_peak_bytes": process.host_peak_bytes(),
        "device_peak_bytes": allocated,
        "device_reserved_peak_bytes": reserved,
    }
    return result


@cache
def _find_device_name(kind: str) -> str | None:
    """Name the first accelerator of this kind; the CPU's name is among the machine's facts."""
    found = torch_info.collect_torch_info()[1]
    return next((each.name for each in found if each.id.startswith(kind)), None)


def _rate(count: int | None, calls: int, seconds: float | None) -> float | None:
    return None if count is None or not seconds else count * calls / seconds
