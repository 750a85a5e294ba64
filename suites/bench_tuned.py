"""The tuned division against the reference, in turns inside fresh processes: `python tools/benchmarks.py tuned`.

Steps of the same batches take turns, the allocator held, and beside them matrix products of several sizes, the fastest of
which is the arithmetic ceiling. Ratios are taken inside a process, their intervals between processes. Bars are here and not in
the tests.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from comparisons import Comparison, collect_turns, run_fresh_process

from cnnbench.runner.launch import HELD_ALLOCATOR
from cnnbench.schema import Precision

BATCH = 128
PROCESSES, TURNS = 5, 7
GEMM_SIZES = (512, 768, 1024, 1536, 2048)
"""Sides of the products; the fastest is the ceiling."""
BARS = {("mnist-cnn", "fp32"): 1.65, ("mnist-cnn", "bf16"): 2.75, ("mlp-1", "fp32"): 2.0}
"""The reference's fp32 step over the tuned step: the lower ends of the interval must be above these."""
CEILING_BARS = {("mnist-cnn", "fp32"): 0.92, ("mnist-cnn", "bf16"): 0.70}
"""Model FLOP/s of the tuned step over those of the best product of the same process in the same precision, as above. In
bf16 only where vectors compute the products, since tiles (AMX) raise the ceiling far more than the rest of this small step."""
TURN_STEPS = {"mnist-cnn": 4, "mlp-1": 100}


@pytest.mark.parametrize(("name", "precision"), BARS)
def test_tuned_against_reference(benchmark, name: str, precision: str) -> None:  # type: ignore[no-untyped-def]
    """Each rung against the reference; the bars are for the fastest."""
    processes: list[dict[str, Any]] = []

    def run() -> None:
        for number in range(PROCESSES):
            processes.append(run_fresh_process(__file__, name, precision, str(number), environment=HELD_ALLOCATOR))

    benchmark.pedantic(run, rounds=1)
    seconds = collect_turns([process["seconds"] for process in processes])
    products = [step for step in seconds if step.startswith("gemm")]
    comparison = Comparison(
        f"{name}, {precision}, batch {BATCH}", "reference fp32", "speed-up", seconds, processes[0]["flops"], products
    )
    comparison.store(benchmark)
    from cnnbench.engine import tuned

    rungs = [step for step in seconds if step in tuned.VARIANTS]
    fastest = min(rungs, key=lambda rung: comparison.step_seconds(rung).value)
    assert (comparison.ratio(fastest).low or 0.0) >= BARS[name, precision]
    if not (precision == "bf16" and processes[0]["tiles"]):
        least = CEILING_BARS.get((name, precision), 0.0)
        assert (comparison.share_of_best_product(fastest).low or 0.0) >= least


def take_turns(name: str, precision: Precision, seed: int) -> dict[str, Any]:
    """Seconds of a step by rung and turn, in a random order; a turn's first step is dropped. What is built first is random."""
    import torch
    from pieces import random_digits

    from cnnbench import data, workloads
    from cnnbench.engine import tuned
    from cnnbench.engine.batches import TrainingSetup
    from cnnbench.engine.timing import disable_gc
    from cnnbench.engine.training import GemmStep, Training
    from cnnbench.errors import UnsupportedError
    from cnnbench.schema import Job

    device, coin = torch.device("cpu"), random.Random(seed)
    folder = os.environ.get("CNNBENCH_DATA")
    digits = data.load("mnist", "train-55000", Path(folder)) if folder else random_digits(5120)
    workload = workloads.get(name)
    job = Job(
        workload=name, workload_version=workload.version, optimizer=workload.default_optimizer, init=workload.default_init,
        split="train-55000", batch_size=BATCH, division="tuned", precision=precision,
    )  # fmt: skip
    kinds = dict.fromkeys(("fp32", precision))
    plain = [job.model_copy(update={"division": "reference", "precision": each}) for each in kinds]
    rungs = [job.model_copy(update={"execution": rung}) for rung in tuned.VARIANTS]
    steps: dict[str, Callable[[], None]] = {}
    for each in coin.sample([*plain, *rungs], len(plain) + len(rungs)):
        setup = TrainingSetup(each, workload, digits, device)
        if each.division == "reference":
            steps[f"reference {each.precision}"] = Training(setup).step
            continue
        try:
            steps[each.execution] = tuned.make(setup).step
        except UnsupportedError as error:
            print(f"{each.execution}: {error}", file=sys.stderr)  # noqa: T201
    flops = dict.fromkeys(steps, workloads.flops_per_step(job))
    for size in GEMM_SIZES:
        product = Job(workload="gemm", workload_version=1, size=size, data="random", precision=precision)
        steps[f"gemm {size}"], flops[f"gemm {size}"] = GemmStep(product, device).step, 2 * size**3
    seconds: dict[str, list[float]] = {what: [] for what in _sort_steps(steps)}
    with disable_gc():
        for turn in range(1 + TURNS):
            for what in coin.sample(list(steps), len(steps)):
                count = TURN_STEPS[name] if not what.startswith("gemm") else 2
                steps[what]()
                begin = time.perf_counter()
                for _ in range(count):
                    steps[what]()
                if turn:
                    seconds[what].append((time.perf_counter() - begin) / count)
    return {"seconds": seconds, "flops": flops, "tiles": torch.cpu._is_amx_tile_supported()}


def _sort_steps(steps: Iterable[str]) -> list[str]:
    """Sort the steps for a table: references, rungs, products."""
    return sorted(steps, key=lambda step: (not step.startswith("reference"), step.startswith("gemm"), len(step), step))


if __name__ == "__main__":
    print(json.dumps(take_turns(sys.argv[1], cast(Precision, sys.argv[2]), int(sys.argv[3]))))  # noqa: T201
