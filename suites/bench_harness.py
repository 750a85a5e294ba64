"""What the harness itself costs, with its bars: `pytest suites/bench_harness.py --benchmark-only`.

Bars stand here and not in the tests: a timed test on a busy machine cries wolf. Ratios are taken interleaved inside
one process with the allocator held, because identical processes differ by more than the bar.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnnbench.engine.timing import time_blocks, time_job
from cnnbench.runner.launch import HELD_ALLOCATOR, LaunchOptions, launch
from cnnbench.schema import Job

STEPS = 20_000
NO_OP_BAR_SECONDS = 5e-6
PATH_BARS = {"mnist-cnn": 1.02, "mlp-1": 1.03}
"""Upper bounds of the ratio, a network: a step of tens of milliseconds, and one of about a millisecond."""
TURN_STEPS = {"mnist-cnn": 4, "mlp-1": 100}
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
def test_the_whole_worker_path_against_a_bare_loop(benchmark, name: str) -> None:  # type: ignore[no-untyped-def]
    """(b) The worker's step, sampler, clock, progress and block records against a hand-written loop, alternating, at batch
    128. Telemetry is sampled before and after the timed region, in a worker too, so it is not in the ratio.
    """
    environment = {**os.environ, **HELD_ALLOCATOR}
    result: dict[str, float] = {}

    def run() -> None:
        command = [sys.executable, __file__, name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        result.update(json.loads(done.stdout))

    benchmark.pedantic(run, rounds=1)
    benchmark.extra_info |= result
    assert result["ratio_high"] <= PATH_BARS[name]


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


def alternate(name: str, rounds: int = 60) -> dict[str, float]:
    """Ratio harness / bare of interleaved turns of the same network, its t-interval on logs; the first step of a turn re-warms
    the caches and is dropped on both sides.
    """
    import torch
    from pieces import random_digits
    from scipy import stats
    from torch.nn.functional import cross_entropy

    from cnnbench import workloads
    from cnnbench.engine.batches import TrainingSetup
    from cnnbench.engine.optim import make_optimizer
    from cnnbench.engine.process import ProgressWriter
    from cnnbench.engine.training import Training

    data, steps = random_digits(5120), TURN_STEPS[name]
    workload = workloads.get(name)
    rule = workload.default_optimizer or ""
    job = Job(
        workload=name, workload_version=workload.version, optimizer=rule, init=workload.default_init, data="synthetic",
        split="train-60000",
    )  # fmt: skip
    training = Training(TrainingSetup(job, workload, data, torch.device("cpu")))
    net = workload.build(workload.default_init or "", 0)
    optimizer = make_optimizer(rule, net.parameters(), workload.learning_rate(rule))
    images = torch.from_numpy(data.train_images).unsqueeze(1).float() / 255
    labels = torch.from_numpy(data.train_labels).long()
    position = 0

    def bare() -> float:
        nonlocal position
        elapsed = 0.0
        for turn in range(steps + 1):
            start = time.perf_counter()
            x, y = images[position : position + 128], labels[position : position + 128]
            position = (position + 128) % 5120
            optimizer.zero_grad(set_to_none=True)
            loss = cross_entropy(net(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            elapsed += (time.perf_counter() - start) if turn else 0.0
        return elapsed

    read_end, write_end = os.pipe()
    progress = ProgressWriter(write_end)

    def harness() -> float:
        training.step()
        start = time.perf_counter()
        time_blocks(training.step, lambda: None, blocks=1, steps_per_block=steps, on_steps=progress.count)
        return time.perf_counter() - start

    for _ in range(3):
        bare(), harness()
    coin = random.Random(0)
    logs = []
    for _ in range(rounds):
        first_bare = coin.random() < 0.5
        a, b = (bare(), harness()) if first_bare else (harness(), bare())
        logs.append(math.log(b / a) if first_bare else math.log(a / b))
    os.close(read_end)
    mean = sum(logs) / rounds
    spread = stats.sem(logs) * stats.t.ppf(0.975, rounds - 1)
    return {
        "ratio": math.exp(mean),
        "ratio_low": math.exp(mean - spread),
        "ratio_high": math.exp(mean + spread),
        "rounds": rounds,
    }


if __name__ == "__main__":
    print(json.dumps(alternate(sys.argv[1])))  # noqa: T201
