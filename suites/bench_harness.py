"""What the harness itself costs, with its bars: `pytest suites/bench_harness.py --benchmark-only`.

Bars are here and not in the tests: a timed test on a busy machine cries wolf. The worker's path and a loop by hand take
turns inside one process, with the allocator held, because the times of identical processes differ by more than the bar; the
ratio's interval is between several such processes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from comparisons import Comparison, collect_turns, run_fresh_process

from cnnbench.engine.timing import disable_gc, time_blocks, time_job
from cnnbench.runner.launch import HELD_ALLOCATOR, LaunchOptions, launch
from cnnbench.schema import Job

STEPS = 20_000
NO_OP_BAR_SECONDS = 5e-6
PATH_BARS = {"mnist-cnn": 1.02, "mlp-1": 1.03}
"""The upper ends of the ratio's interval must be below these: a step of tens of milliseconds, and one of about one."""
TURN_STEPS = {"mnist-cnn": 4, "mlp-1": 100}
PATH_PROCESSES, PATH_TURNS = 6, 10
BY_HAND, WORKER, ELSEWHERE = "loop by hand", "worker's path", "loop by hand, other buffers"
HELP_BAR_SECONDS = 0.2
RECORDS = 10_000
SHOW_BAR_SECONDS, SHOW_BAR_BYTES = 10.0, 500e6
MERGE_BAR_SECONDS = 10.0
PARENT_BAR_SHARE = 0.01


def nothing() -> None:
    """A step without work."""


@pytest.mark.parametrize("clock", ["steady", "job"])
def test_the_timed_loop_around_a_no_op_step(benchmark, clock: str) -> None:  # type: ignore[no-untyped-def]
    """(a) At most 5 microseconds a step, the progress report's clock reading included."""
    from cnnbench.engine.process import ProgressWriter

    read_end, write_end = os.pipe()
    progress = ProgressWriter(write_end)

    def run() -> None:
        if clock == "steady":
            time_blocks(nothing, nothing, blocks=STEPS // 10, steps_per_block=10, on_steps=progress.count)
        else:
            time_job(nothing, nothing, epochs=10, steps_per_epoch=STEPS // 10, report=progress.count)

    benchmark.pedantic(run, rounds=10, warmup_rounds=1)
    os.close(read_end)
    os.close(write_end)
    per_step = benchmark.stats.stats.median / STEPS
    benchmark.extra_info["seconds_per_step"] = per_step
    assert per_step <= NO_OP_BAR_SECONDS


@pytest.mark.parametrize("name", PATH_BARS)
def test_the_worker_path_against_a_loop_by_hand(benchmark, name: str) -> None:  # type: ignore[no-untyped-def]
    """(b) The worker's step, sampler, clock, progress and block records against a hand-written loop, at batch 128.

    Telemetry is sampled before and after the timed region, in a worker too, so it is not in the ratio.
    """
    processes: list[dict[str, list[float]]] = []

    def run() -> None:
        for number in range(PATH_PROCESSES):
            processes.append(run_fresh_process(__file__, name, str(number), environment=HELD_ALLOCATOR))

    benchmark.pedantic(run, rounds=1)
    comparison = Comparison(f"{name}, fp32, batch 128", BY_HAND, "time", collect_turns(processes))
    comparison.store(benchmark)
    high = comparison.ratio(WORKER).high
    assert high is not None
    assert high <= PATH_BARS[name]


def test_help_starts_fast(benchmark) -> None:  # type: ignore[no-untyped-def]
    """`cnnbench --help` in under 0.2 s (the best of the rounds: another process's load is not ours)."""
    command = [sys.executable, "-m", "cnnbench", "--help"]
    benchmark.pedantic(lambda: subprocess.run(command, capture_output=True, check=True), rounds=10, warmup_rounds=1)
    assert benchmark.stats.stats.min < HELP_BAR_SECONDS


def test_show_over_ten_thousand_records(benchmark, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Under 10 s and 500 MB, from a cold process."""
    write_ledgers(tmp_path, RECORDS // 100)
    program = (
        "import sys; from cnnbench.__main__ import main\n"
        "sys.argv = ['cnnbench', 'show', sys.argv[1], '--format', 'json']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "status = open('/proc/self/status').read(); print(status.split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )
    peak: list[int] = []

    def run() -> None:
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
        )
        peak.append(int(done.stderr.split()[-1]) * 1024)

    benchmark.pedantic(run, rounds=2)
    benchmark.extra_info["peak_bytes"] = max(peak)
    assert benchmark.stats.stats.min < SHOW_BAR_SECONDS
    assert max(peak) < SHOW_BAR_BYTES


def test_merge_of_ten_thousand_records(benchmark, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Under 10 s, from a cold process: a hundred ledgers of ten machines into an empty tree, each on disk (fsync)."""
    machines = [tmp_path / f"machine-{number}" for number in range(10)]
    for number, folder in enumerate(machines):
        write_ledgers(folder, RECORDS // 1000, machine_id=f"testbox-{number}")
    command = [sys.executable, "-m", "cnnbench", "merge", *map(str, machines), "-o", str(tmp_path / "results")]

    def run() -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"100 ledgers brought, 0 already there, 0 longer, 0 conflicts; {RECORDS:,} records" in done.stdout

    benchmark.pedantic(run, setup=lambda: shutil.rmtree(tmp_path / "results", ignore_errors=True), rounds=3)
    assert benchmark.stats.stats.min < MERGE_BAR_SECONDS


def write_ledgers(directory: Path, ledgers: int, machine_id: str = "testbox-0a1b") -> None:
    """Runs of a hundred records each, made by the tests' own builders."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import builders as b  # type: ignore[import-not-found]

    for number in range(ledgers):
        records = b.repeats(b.cnn_job(), [0.01] * 100)
        run = b.ledger(records, run_id=f"20260301T120000Z-{number:04x}", machine=b.machine(machine_id))
        b.write(directory, run)


def test_the_parent_sleeps_while_a_job_runs(benchmark) -> None:  # type: ignore[no-untyped-def]
    """The runner uses under 1 % of a core."""
    job = Job(workload="gemm", workload_version=1, data="random", size=1024, blocks=60, block_steps=10, warmup_steps=3)
    shares: list[float] = []

    def run() -> None:
        ended = launch(job, LaunchOptions())
        assert ended.outcome.status == "ok", ended.outcome
        shares.append(ended.parent_cpu_seconds / ended.process_seconds)

    benchmark.pedantic(run, rounds=2)
    benchmark.extra_info["parent_core_share"] = max(shares)
    assert max(shares) < PARENT_BAR_SHARE


def take_turns(name: str, seed: int) -> dict[str, list[float]]:
    """Seconds of a step by arm and turn, in a random order; a turn's first step warms the caches again and is dropped.

    Two arms share network, optimiser and images, so that only the path differs between them. The third does what the first
    does with buffers of its own: its ratio to the first is what the places of buffers are worth, which one process alone
    cannot tell from the cost of the path. A coin decides which of the two networks is built first.
    """
    import torch
    from pieces import random_digits

    from cnnbench import workloads
    from cnnbench.engine.batches import InMemoryBatches, TrainingSetup
    from cnnbench.engine.process import ProgressWriter
    from cnnbench.engine.training import Training

    data, steps, workload, coin = random_digits(5120), TURN_STEPS[name], workloads.get(name), random.Random(seed)
    job = Job(
        workload=name, workload_version=workload.version, optimizer=workload.default_optimizer,
        init=workload.default_init, data="synthetic", split="train-60000",
    )  # fmt: skip
    trainings: dict[str, Training] = {}
    for arm in coin.sample([WORKER, ELSEWHERE], 2):
        trainings[arm] = Training(TrainingSetup(job, workload, data, torch.device("cpu")))

    def by_hand(training: Training) -> Callable[[], float]:
        batches, net, optimizer = training._batches, training.network, training._optimizer
        assert isinstance(batches, InMemoryBatches)
        return make_loop_by_hand(net, optimizer, batches._images, batches._labels, steps)

    read_end, write_end = os.pipe()
    progress, step = ProgressWriter(write_end), trainings[WORKER].step

    def worker() -> float:
        step()
        start = time.perf_counter()
        time_blocks(step, lambda: None, blocks=1, steps_per_block=steps, on_steps=progress.count)
        return time.perf_counter() - start

    arms = {BY_HAND: by_hand(trainings[WORKER]), WORKER: worker, ELSEWHERE: by_hand(trainings[ELSEWHERE])}
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    with disable_gc():  # as in a worker: a collection would fall on one arm
        for turn in range(1 + PATH_TURNS):
            for arm in coin.sample(list(arms), len(arms)):
                elapsed = arms[arm]()
                if turn:
                    seconds[arm].append(elapsed / steps)
    os.close(read_end)
    return seconds


def make_loop_by_hand(net, optimizer, images, labels, steps: int) -> Callable[[], float]:  # type: ignore[no-untyped-def]
    """Write what a user would: slices of the images in order, forward, backward, update. Returns the seconds of `steps`."""
    from torch.nn.functional import cross_entropy

    position = 0

    def step() -> None:
        nonlocal position
        x, y = images[position : position + 128], labels[position : position + 128]
        position = (position + 128) % len(labels)
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def turn() -> float:
        step()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return time.perf_counter() - start

    return turn


if __name__ == "__main__":
    print(json.dumps(take_turns(sys.argv[1], int(sys.argv[2]))))  # noqa: T201
