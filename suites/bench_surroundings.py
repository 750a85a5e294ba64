"""What surrounds a step and is not the step: allocators, huge pages, thread placement. `python tools/benchmarks.py surroundings`.

Fresh processes take turns, one per surrounding and round, in a random order; each times the reference step and the tuned one of
the CNN. Ratios are to the process of the same round in the surrounding that cnnbench itself uses, their intervals between
rounds. There are no bars: what does not pay is a result too.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from comparisons import Comparison, run_fresh_process

from cnnbench.runner.launch import HELD_ALLOCATOR

BATCH = 128
ROUNDS = 6
WARM, STEPS = 5, 20
HELD = "held"
_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


def surroundings() -> dict[str, Mapping[str, str]]:
    """Environments by name; another allocator only where its library lies where distributions put it."""
    found: dict[str, Mapping[str, str]] = {
        HELD: HELD_ALLOCATOR,
        "system": {},
        "held, huge pages": {**HELD_ALLOCATOR, "GLIBC_TUNABLES": _with_huge_pages()},
        "held, bound threads": {**HELD_ALLOCATOR, "OMP_PROC_BIND": "close", "OMP_PLACES": "cores"},
    }
    for name in ("libjemalloc.so.2", "libtcmalloc_minimal.so.4"):
        path = next((Path(folder) / name for folder in _LIBRARIES if (Path(folder) / name).exists()), None)
        if path is not None:
            found[name.partition(".")[0].removeprefix("lib")] = {"LD_PRELOAD": str(path)}
    return found


def _with_huge_pages() -> str:
    held = HELD_ALLOCATOR.get("GLIBC_TUNABLES", "")
    return ":".join(each for each in (held, "glibc.malloc.hugetlb=1") if each)


def test_surroundings(benchmark) -> None:  # type: ignore[no-untyped-def]
    """Every surrounding's step over that of the held allocator, reference and tuned."""
    found = surroundings()
    times: dict[str, list[dict[str, float]]] = {name: [] for name in found}

    def run() -> None:
        coin = random.Random(0)
        for _ in range(ROUNDS):
            for name in coin.sample(list(times), len(times)):
                times[name].append(run_fresh_process(__file__, environment=found[name]))

    benchmark.pedantic(run, rounds=1)
    for step in ("reference", "tuned"):
        # A process's steps are one value: those of another process are not beside them, turn by turn.
        seconds = {name: [[each[step]] for each in rounds] for name, rounds in times.items()}
        Comparison(f"mnist-cnn, {step} step, fp32, batch {BATCH}", HELD, "time", seconds).store(benchmark)


def steps() -> dict[str, float]:
    """Median seconds of a step, reference and tuned."""
    import torch
    from pieces import random_digits

    from cnnbench import data, workloads
    from cnnbench.engine import tuned
    from cnnbench.engine.batches import TrainingSetup
    from cnnbench.engine.training import Training
    from cnnbench.schema import Job

    folder = os.environ.get("CNNBENCH_DATA")
    digits = data.load("mnist", "train-55000", Path(folder)) if folder else random_digits(5120)
    workload, device = workloads.get("mnist-cnn"), torch.device("cpu")
    job = Job(
        workload=workload.name, workload_version=workload.version, optimizer=workload.default_optimizer,
        init=workload.default_init, split="train-55000", batch_size=BATCH,
    )  # fmt: skip
    tuned_job = job.model_copy(update={"division": "tuned", "execution": "auto"})
    made = {
        "reference": Training(TrainingSetup(job, workload, digits, device)),
        "tuned": tuned.make(TrainingSetup(tuned_job, workload, digits, device)),
    }
    return {name: _median(training) for name, training in made.items()}


def _median(training) -> float:  # type: ignore[no-untyped-def]
    found = []
    for number in range(WARM + STEPS):
        begin = time.perf_counter()
        training.step()
        if number >= WARM:
            found.append(time.perf_counter() - begin)
    return statistics.median(found)


if __name__ == "__main__":
    print(json.dumps(steps()))  # noqa: T201
