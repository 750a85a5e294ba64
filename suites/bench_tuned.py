"""The tuned division against the reference, interleaved in one process: `pytest suites/bench_tuned.py --benchmark-only`.

Ratios of medians of turns of the same batches, the allocator held, in a process of its own; beside it the same turns of a
matrix product, the arithmetic ceiling. Bars stand here and not in the tests.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from cnnbench.runner.launch import HELD_ALLOCATOR
from cnnbench.schema import Precision

BATCH = 128
ROUNDS = 40
GEMM_SIZES = (512, 768, 1024, 1536, 2048)
"""Sides of the products; the fastest is the ceiling."""
BARS = {("mnist-cnn", "fp32"): 1.65, ("mnist-cnn", "bf16"): 2.75, ("mlp-1", "fp32"): 2.0}
"""The reference's fp32 step over the tuned step, at least."""
CEILING_BARS = {("mnist-cnn", "fp32"): 0.92, ("mnist-cnn", "bf16"): 0.70}
"""Model FLOP/s of the tuned step over those of the best product of this run in the same precision. Of bf16 where products are of
vectors: tiles of bfloat16 (AMX) raise the ceiling by so much that most of this small step is no product; docs/tuned.md."""
TURN_STEPS = {"mnist-cnn": 4, "mlp-1": 100}


@pytest.mark.parametrize(("name", "precision"), BARS)
def test_tuned_against_reference(benchmark, name: str, precision: str) -> None:  # type: ignore[no-untyped-def]
    """Each rung against the reference; the bars are for the fastest."""
    result: dict[str, float] = {}

    def run() -> None:
        environment = {**os.environ, **HELD_ALLOCATOR}
        done = subprocess.run(
            [sys.executable, __file__, name, precision], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        result.update(json.loads(done.stdout))

    benchmark.pedantic(run, rounds=1)
    benchmark.extra_info |= result
    assert result["speedup"] >= BARS[name, precision]
    if not (precision == "bf16" and result["tiles"]):
        assert result["of_ceiling"] >= CEILING_BARS.get((name, precision), 0.0)


def turns(name: str, precision: Precision) -> dict[str, float]:
    """Milliseconds of a step by rung, medians over interleaved turns whose first step is dropped, and their ratios."""
    import torch
    from pieces import random_digits

    from cnnbench import data, workloads
    from cnnbench.engine import tuned
    from cnnbench.engine.batches import TrainingSetup
    from cnnbench.engine.training import GemmStep, Training
    from cnnbench.errors import UnsupportedError
    from cnnbench.schema import Job

    device = torch.device("cpu")
    folder = os.environ.get("CNNBENCH_DATA")
    digits = data.load("mnist", "train-55000", Path(folder)) if folder else random_digits(5120)
    workload = workloads.get(name)
    job = Job(
        workload=name, workload_version=workload.version, optimizer=workload.default_optimizer, init=workload.default_init,
        split="train-55000", batch_size=BATCH, division="tuned", precision=precision,
    )  # fmt: skip
    steps: dict[str, Callable[[], None]] = {}
    for kind in dict.fromkeys(("fp32", precision)):
        plain = job.model_copy(update={"division": "reference", "precision": kind})
        steps[f"reference {kind}"] = Training(TrainingSetup(plain, workload, digits, device)).step
    for rung in tuned.VARIANTS:
        try:
            setup = TrainingSetup(job.model_copy(update={"execution": rung}), workload, digits, device)
            steps[rung] = tuned.make(setup).step
        except UnsupportedError as error:
            print(f"{rung}: {error}", file=sys.stderr)  # noqa: T201
    for size in GEMM_SIZES:
        product = Job(workload="gemm", workload_version=1, size=size, data="random", precision=precision)
        steps[f"gemm {size}"] = GemmStep(product, device).step
    seconds: dict[str, list[float]] = {what: [] for what in steps}
    coin = random.Random(0)
    for turn in range(ROUNDS + 1):
        for what in coin.sample(list(steps), len(steps)):
            count = TURN_STEPS[name] if not what.startswith("gemm") else 2
            steps[what]()
            begin = time.perf_counter()
            for _ in range(count):
                steps[what]()
            if turn:
                seconds[what].append((time.perf_counter() - begin) / count)
    medians = {what: statistics.median(values) for what, values in seconds.items()}
    rungs = [what for what in medians if what in tuned.VARIANTS]
    fastest = min(rungs, key=lambda what: medians[what])
    ceiling = max(2 * size**3 / medians[f"gemm {size}"] for size in GEMM_SIZES)
    rate = workloads.flops_per_step(job) / medians[fastest]
    return {
        **{f"{what} ms": 1e3 * value for what, value in medians.items()},
        **{f"reference fp32 over {what}": medians["reference fp32"] / medians[what] for what in rungs},
        "speedup": medians["reference fp32"] / medians[fastest],
        "of_ceiling": rate / ceiling,
        "ceiling_gflops": ceiling / 1e9,
        "tiles": torch.cpu._is_amx_tile_supported(),
    }


if __name__ == "__main__":
    print(json.dumps(turns(sys.argv[1], cast(Precision, sys.argv[2]))))  # noqa: T201
