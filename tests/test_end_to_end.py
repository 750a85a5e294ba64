"""The command line with real workers: measured, killed, interrupted, resumed. Slow: each worker imports torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest
from psutil import Process

from cnnbench import store
from cnnbench.runner.launch import WORKER, LaunchOptions, launch
from cnnbench.runner.run import list_pending_jobs
from cnnbench.schema import Job

pytestmark = pytest.mark.slow("real workers")

SUITE = """
description = "three short jobs"
repeats = 3
[[job]]
workload = "gemm"
size = 256
warmup_steps = 2
blocks = 20
block_steps = 200
"""
TRAINING = """
description = "a short training on procedural digits"
repeats = 3
[[job]]
workload = "mnist-cnn"
data = "synthetic"
batch_size = 32
warmup_steps = 3
blocks = 10
block_steps = 10
epochs = 100
steps_per_epoch = 429
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cnnbench", *map(str, arguments)]


def cnnbench(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "short.toml"
    path.write_text(SUITE)
    return path


def only_ledger(results: Path) -> store.Ledger:
    (path,) = results.rglob("*.jsonl")
    return store.load(path)


def wait_for(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def workers(parent: subprocess.Popen[str]) -> list[Process]:
    """The parent's living worker processes."""
    return processes.descendants(parent.pid, "cnnbench.engine.worker")


def start(suite: Path, results: Path, *more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", suite, "-d", "cpu", "--results", results, *more),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_run_is_measured_saved_and_shown(tmp_path: Path) -> None:
    """Training to table: every column filled or n/a with a reason; JSON parses; synthetic is said."""
    path = tmp_path / "train.toml"
    path.write_text(TRAINING)
    results, exported = tmp_path / "results", tmp_path / "table.md"
    done = cnnbench(
        "run", path, "-d", "cpu", "--results", results, "--seed", 7, "--json", "--export-markdown", exported
    )
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert json.loads(cnnbench("show", results, "--format", "json").stdout) == table
    assert "SYNTHETIC" in cnnbench("show", results).stdout
    assert "mnist-cnn" in exported.read_text()
    with_lecture = cnnbench("show", results, "--with-lecture").stdout
    assert all(figure in with_lecture for figure in ("4.78x", "11.51x", "19.36x"))
    ledger = only_ledger(results)
    trials = [record.outcome.trial for record in ledger.records]
    assert [record.outcome.status for record in ledger.records] == ["ok"] * 3
    for record, trial in zip(ledger.records, trials, strict=True):
        assert trial is not None
        assert trial.images == 100 * 32
        assert len(trial.block_seconds) == 10
        assert trial.canary is not None
        assert trial.canary.passed
        assert trial.test is not None
        assert trial.test.images == 10_000
        assert trial.cold_start_seconds is not None
        assert sum(trial.block_seconds) < record.process_seconds
        assert record.environment["MALLOC_TRIM_THRESHOLD_"] == "4294967296"
    assert len({record.job.seed for record in ledger.records}) == 3


def test_the_same_seed_trains_to_the_same_loss(tmp_path: Path) -> None:
    """Job in, outcome out: nothing but the job decides what is computed; warm-up length included."""
    job = Job(
        workload="mnist-cnn", workload_version=1, batch_size=32, optimizer="rmsprop", init="truncated-0.1",
        data="synthetic", split="train-60000", threads=1, warmup_steps=1, blocks=2, block_steps=5, seed=3,
    )  # fmt: skip
    outcomes = [launch(job.model_copy(update={"warmup_steps": n}), LaunchOptions()).outcome for n in (1, 4)]
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
    first, second = (outcome.trial for outcome in outcomes)
    assert first is not None
    assert second is not None
    assert first.final_loss == second.final_loss
    assert first.test == second.test.model_copy(update={"seconds": first.test.seconds})  # type: ignore[union-attr]


NOTEBOOK = """
description = "the notebook's recipe, very short"
repeats = 1
[[job]]
workload = "mnist-cnn"
clock = "job"
data = "synthetic"
order = "shuffled"
batch_size = 16
epochs = 3
steps_per_epoch = 8
extra_forwards = 2
epoch_eval_images = 20
stop_when_all_right = true
loader = "dataloader"
"""


def test_a_whole_job_is_timed_in_one_piece_and_can_be_projected_instead(tmp_path: Path) -> None:
    """Epochs + evaluations <= job clock <= process; with --project the same job has no evaluations and no clock of its own."""
    path = tmp_path / "notebook.toml"
    path.write_text(NOTEBOOK)
    done = cnnbench("run", path, "-d", "cpu", "--results", tmp_path / "whole", "--json")
    assert done.returncode == 0, done.stderr
    (record,) = only_ledger(tmp_path / "whole").records
    trial = record.outcome.trial
    assert trial is not None
    assert trial.job_seconds is not None
    assert trial.job_evaluation_seconds is not None
    assert sum(trial.block_seconds) + trial.job_evaluation_seconds <= trial.job_seconds * 1.001
    assert trial.job_seconds < record.process_seconds
    assert [evaluation.images for evaluation in trial.epoch_evaluations] == [20] * len(trial.block_seconds)
    assert trial.images == trial.steps * 16
    done = cnnbench("run", path, "-d", "cpu", "--results", tmp_path / "short", "--project", "--dry-run", "--json")
    jobs = [Job.model_validate(each) for each in json.loads(done.stdout)]
    assert len(jobs) == 3
    assert {(job.clock, job.epoch_eval_images, job.job_steps) for job in jobs} == {("steady", 0, 24)}


def test_kill_9_of_the_parent_leaves_no_worker_and_resume_does_each_job_once(suite: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    parent = start(suite, results)
    wait_for(lambda: list(results.rglob("*.jsonl")) and len(only_ledger(results).records) == 1 and workers(parent))
    (worker,) = workers(parent)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not processes.lives(worker.pid), seconds=30)
    again = cnnbench("run", suite, "-d", "cpu", "--results", results, "--resume")
    assert again.returncode == 0, again.stderr
    ledger = only_ledger(results)
    assert sorted(record.index for record in ledger.records) == [0, 1, 2]
    assert ledger.problems == ()
    finished = cnnbench("run", suite, "-d", "cpu", "--results", results, "--resume")
    assert finished.returncode == 2
    assert "no unfinished run" in finished.stderr


def test_kill_9_of_a_worker_is_a_crashed_record_and_the_rest_goes_on(suite: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    parent = start(suite, results)
    wait_for(lambda: workers(parent))
    os.kill(workers(parent)[0].pid, signal.SIGKILL)
    assert parent.wait(timeout=120) == 5
    records = only_ledger(results).records
    assert [record.outcome.status for record in records] == ["crashed", "ok", "ok"]
    assert records[0].outcome.signal == signal.SIGKILL


def test_ctrl_c_keeps_what_was_measured_and_exits_130(suite: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    parent = start(suite, results)
    wait_for(lambda: list(results.rglob("*.jsonl")) and len(only_ledger(results).records) == 1 and workers(parent))
    parent.send_signal(signal.SIGINT)
    _, messages = parent.communicate(timeout=30)
    assert parent.returncode == 130
    assert "--resume" in messages
    assert "Traceback" not in messages
    ledger = only_ledger(results)
    assert [record.outcome.status for record in ledger.records] == ["ok", "interrupted"]
    assert len(list_pending_jobs(ledger.header, ledger.records)) == 2


def test_a_timeout_is_a_typed_record(suite: Path, tmp_path: Path) -> None:
    done = cnnbench("run", suite, "-d", "cpu", "--results", tmp_path / "r", "--timeout", 0.3, "--fail-fast")
    assert done.returncode == 5
    assert [record.outcome.status for record in only_ledger(tmp_path / "r").records] == ["timeout"]


def test_too_little_memory_is_oom_not_crashed() -> None:
    """Two operands and a result of 1.07 GB each under a limit of 2.7 GB of address space."""
    job = Job(workload="gemm", workload_version=1, data="random", size=16_384, threads=1)
    limited = ("sh", "-c", f'ulimit -v {27 * 10**5} && exec "$@"', "sh", *WORKER)
    outcome = launch(job, LaunchOptions(command=limited)).outcome
    assert outcome.status == "oom", outcome


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"precision": "tf32"}, "unsupported", "tensor cores"),
        ({"device": "cuda:0"}, "unsupported", "cannot use the GPU"),
        ({"workload_version": 99}, "crashed", "version 1 here"),
        ({"workload": "nosuch"}, "crashed", "is not one of"),
    ],
)
def test_what_a_worker_cannot_do_is_typed(changes: dict[str, object], status: str, words: str) -> None:
    job = Job(workload="gemm", workload_version=1, data="random", size=64).model_copy(update=changes)
    if job.device != "cpu" and _gpu_here():
        pytest.skip("a usable GPU is here, so this job would succeed")
    outcome = launch(job, LaunchOptions()).outcome
    assert (outcome.status, words in (outcome.message or "")) == (status, True), outcome


def _gpu_here() -> bool:
    import torch

    return torch.cuda.is_available()


def test_wrong_input_is_one_clear_error_each(suite: Path, tmp_path: Path) -> None:
    """An unknown suite, a results place that cannot be, a device that is not there: message, exit code, no traceback."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    cases = [
        (("run", "nosuch"), 2, "quick"),
        (("run", suite, "-d", "cpu", "--results", blocked), 2, "blocked"),
        (("run", suite, "-d", "cuda:9"), 3, "cuda:9"),
        (("run", suite, "-d", "cpu", "-k", "nothing-like-it", "--results", tmp_path / "r"), 2, "-k"),
        (("run", "quick", "-d", "cpu", "--data-dir", tmp_path / "none", "--results", tmp_path / "r"), 2, "none"),
        (("run", suite, "--run-id", "x"), 2, "--resume"),
    ]
    for arguments, code, words in cases:
        done = cnnbench(*arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert words in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
