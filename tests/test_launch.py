"""However a worker ends, there is one typed outcome, and nothing of it is left alive."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import processes
import pytest

from cnnbench.runner.launch import HELD_ALLOCATOR, LaunchOptions, build_environment, launch
from cnnbench.schema import Device, Job

FAKE = Path(__file__).with_name("fake_worker.py")
JOB = Job(workload="gemm", workload_version=1, size=8, threads=2)


def options(mode: str, **limits: float) -> LaunchOptions:
    return LaunchOptions(command=(sys.executable, str(FAKE), mode), **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["ok", "junk-on-stdout", "junk-on-pipe"])
def test_a_good_outcome_is_taken_whatever_else_was_printed(mode: str) -> None:
    """Neither standard output nor junk on the pipe is the protocol."""
    ended = launch(JOB, options(mode))
    assert ended.outcome.status == "ok"
    assert ended.outcome.exit_code == 0
    assert ended.process_seconds > 0


def test_progress_is_handed_on_in_order() -> None:
    heard: list[dict[str, object]] = []
    launch(JOB, options("ok"), heard.append)
    assert heard == [{"phase": "fake"}, {"done": 1, "total": 2}]


@pytest.mark.parametrize(
    ("mode", "words", "code"),
    [("junk-outcome", "cannot be read", 0), ("no-outcome", "left no outcome", 0), ("crash", "exited with 1", 1)],
)
def test_a_worker_without_a_readable_outcome_has_crashed(mode: str, words: str, code: int) -> None:
    """With its exit code and the end of what it said."""
    outcome = launch(JOB, options(mode)).outcome
    assert outcome.status == "crashed"
    assert words in (outcome.message or "")
    assert outcome.exit_code == code
    if mode == "crash":
        assert "deliberate crash" in (outcome.stderr_tail or "")


@pytest.mark.parametrize(("mode", "number"), [("segfault", signal.SIGSEGV), ("killed", signal.SIGKILL)])
def test_a_signal_is_named(mode: str, number: signal.Signals) -> None:
    outcome = launch(JOB, options(mode)).outcome
    assert (outcome.status, outcome.signal) == ("crashed", number)
    assert number.name in (outcome.message or "")


def test_silence_is_a_hang_and_slowness_a_timeout() -> None:
    """A worker that still speaks is slow; one that does not, hangs."""
    assert launch(JOB, options("silent", hang_seconds=0.5)).outcome.status == "hang"
    slow = launch(JOB, options("busy", hang_seconds=5, timeout_seconds=1.0))
    assert slow.outcome.status == "timeout"
    assert slow.process_seconds < 300  # it would work for 600


def test_a_worker_that_was_told_to_write_no_progress_is_never_silent() -> None:
    """It has no pipe to be heard on: only a limit of time ends it."""
    paused = replace(options("pause", hang_seconds=0.2), progress=False)
    assert launch(JOB, paused).outcome.status == "ok"
    silent = replace(options("silent", hang_seconds=0.2, timeout_seconds=1.0), progress=False)
    assert launch(JOB, silent).outcome.status == "timeout"


def test_machines_have_met_where_the_launcher_left_its_mark() -> None:
    """However their job ended; one machine alone has nobody to miss."""
    several = JOB.model_copy(update={"nodes": 2})
    assert launch(several, options("met")).met
    assert not launch(several, options("ok")).met
    assert not launch(several, options("silent", timeout_seconds=0.5)).met
    assert launch(JOB, options("ok")).met


def test_the_end_of_time_ends_the_whole_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker, a child in a session of its own and another in its group: all gone."""
    pids = tmp_path / "pids"
    monkeypatch.setenv("FAKE_PIDS", str(pids))
    for seconds in (1.5, 6.0, 24.0):  # until both children are there in that time
        assert launch(JOB, options("children", timeout_seconds=seconds)).outcome.status == "timeout"
        if pids.exists():
            break
    assert not any(processes.lives(int(pid)) for pid in pids.read_text().split())


def test_an_interrupt_ends_the_tree_and_passes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("FAKE_PIDS", str(pids))

    def interrupt() -> None:
        deadline = time.monotonic() + 20
        while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        launch(JOB, options("children"))
    assert not any(processes.lives(int(pid)) for pid in pids.read_text().split())


def test_the_parent_sleeps_while_the_worker_works() -> None:
    """Ten messages a second for a second and a half cost next to nothing; a busy wait would cost all of it."""
    ended = launch(JOB, options("busy", timeout_seconds=1.5))
    assert ended.parent_cpu_seconds < 0.3


def test_the_workers_environment_is_the_jobs_and_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and allocator follow the job, not the user's shell; an allocator not held is really not held."""
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    held = launch(JOB, options("environment"))
    seen = json.loads(held.outcome.message or "")
    assert seen["OMP_NUM_THREADS"] == "2"
    assert {name: seen[name] for name in HELD_ALLOCATOR} == HELD_ALLOCATOR
    assert held.environment.items() <= seen.items()
    free = launch(JOB.model_copy(update={"allocator": "system", "threads": None}), options("environment"))
    assert not {"OMP_NUM_THREADS", *HELD_ALLOCATOR} & json.loads(free.outcome.message or "").keys()


def test_a_gpu_is_chosen_by_uuid_and_a_cpu_job_sees_none() -> None:
    cpu = Device(id="cpu", kind="cpu", name="Box")
    gpu = Device(id="cuda:1", kind="cuda", name="GPU", uuid="GPU-1f")
    assert build_environment(JOB, cpu)["CUDA_VISIBLE_DEVICES"] == ""
    assert build_environment(JOB, gpu)["CUDA_VISIBLE_DEVICES"] == "GPU-1f"
    amd = Device(id="cuda:1", kind="rocm", name="GPU", uuid="whatever")
    assert build_environment(JOB, amd)["HIP_VISIBLE_DEVICES"] == "1"
    xpu = Device(id="xpu:2", kind="xpu", name="GPU")
    assert build_environment(JOB, xpu)["ZE_AFFINITY_MASK"] == "2"
