"""A data-parallel job: real ranks with gloo. Together they do what one process does, and none outlives or blocks the others."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders as b
import processes
import psutil
import pytest
import ranks_script
import torch
from torch.distributed.elastic.utils.api import macros
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cnnbench import data, validity, workloads
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.training import Training
from cnnbench.runner.launch import LaunchOptions, WorkerExit, launch
from cnnbench.schema import Job

SCRIPT = Path(ranks_script.__file__)
JOB = b.ranks_job()
TWO_CORES = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two ranks need two cores")
pytestmark = [pytest.mark.slow("real workers"), TWO_CORES]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks of a network of convolutions said."""
    folder = tmp_path_factory.mktemp("ranks")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id="test",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    elastic_launch(config, sys.executable)(str(SCRIPT), str(folder), macros.local_rank)
    return [torch.load(folder / f"found-{rank}.pt") for rank in range(2)]


def alone() -> Training:
    """The same job by one process."""
    job = ranks_script.JOB.model_copy(update={"world": 1, "scaling": None})
    dataset = data.load("synthetic", "train-55000", None)
    return Training(TrainingSetup(job, workloads.get(job.workload), dataset, torch.device("cpu")))


def test_two_ranks_have_the_gradients_of_one_process_on_the_whole_batch(found: list[dict[str, Any]]) -> None:
    """The mean of two means over halves is the mean over the whole; what differs is rounding."""
    one = alone()
    for mine, first, second in zip(
        one.gradients(*one.draw()), found[0]["gradients"], found[1]["gradients"], strict=True
    ):
        assert torch.equal(first, second)
        assert torch.linalg.vector_norm(mine - first) <= 1e-5 * torch.linalg.vector_norm(mine)


def test_ranks_keep_the_same_weights_until_they_stop_exchanging(found: list[dict[str, Any]]) -> None:
    """Equal after every step with the exchange, apart after one without it, and equal again from the start."""
    assert len(set(found[0]["digests"])) == 1
    assert len(set(found[0]["apart"])) == 2
    assert len(set(found[0]["again"])) == 1
    assert found[0]["again"] != found[0]["digests"]


def test_ranks_draw_dropout_masks_of_their_own_and_hear_the_first(found: list[dict[str, Any]]) -> None:
    assert not torch.equal(found[0]["masks"], found[1]["masks"])
    assert [rank["images"] for rank in found] == [ranks_script.STEPS * 16] * 2
    assert [rank["word"] for rank in found] == [True, True]


def run(job: Job = JOB, hears: Callable[[dict[str, Any]], None] = lambda message: None, **limits: float) -> WorkerExit:
    return launch(job, LaunchOptions(**{"timeout_seconds": 120.0} | limits), hears)  # type: ignore[arg-type]


def ranks_of(parent: int) -> dict[int, int]:
    """The ranks below a process: number to pid."""
    below = processes.descendants(parent, "cnnbench.engine.worker")
    found = [(processes.command_line(each), each.pid) for each in below]
    return {
        int(words[-1]): pid for words, pid in found if words[-1:] and words[-1].isdigit()
    }  # the launcher has no number


def worker_of(rank: int) -> int:
    """The child of this process that started the rank; a browser's driver may be another child."""
    return next(each.pid for each in psutil.Process(rank).parents() if each.ppid() == os.getpid())


def gone(pids: list[int], seconds: float = 30.0) -> bool:
    """Whether none of them is left, or soon."""
    deadline = time.monotonic() + seconds
    while any(map(processes.lives, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_job_of_two_ranks_adds_up_and_says_what_the_exchange_costs() -> None:
    """One record: every image of the whole batch drawn once, blocks of the slowest rank, both ways of stepping timed in turn."""
    phases: list[str] = []
    ended = run(hears=lambda message: phases.append(message.get("phase", "")))
    trial = ended.outcome.trial
    assert ended.outcome.status == "ok", ended.outcome
    assert trial is not None
    assert trial.communication is not None
    assert trial.images == JOB.batch_size * trial.steps == sum(rank.images for rank in trial.ranks)
    assert validity.find_violations(JOB, trial, ended.process_seconds, None, None) == ()  # type: ignore[arg-type]
    assert len(trial.communication.with_seconds) == len(trial.communication.without_seconds) >= 3
    cores = [set(rank.place.removeprefix("cores ").split(",")) for rank in trial.ranks]
    assert not cores[0] & cores[1]
    assert {"launch", "join"} < trial.phases.keys()
    started = {
        name: seconds for name, seconds in trial.phases.items() if name != "canary"
    }  # which follows the first step
    assert sum(started.values()) == pytest.approx(trial.cold_start_seconds, abs=1e-6)
    assert "timed" in phases
    assert "communication" in phases


def test_copies_are_timed_each_by_itself_and_share_no_core() -> None:
    """Each draws whole batches; the record shows the slowest, with all of them in it."""
    job = JOB.model_copy(update={"world": 1, "scaling": None, "copies": 2})
    ended = run(job)
    trial = ended.outcome.trial
    assert ended.outcome.status == "ok", ended.outcome
    assert trial is not None
    assert trial.images == job.batch_size * trial.steps == trial.ranks[0].images == trial.ranks[1].images
    assert trial.block_seconds == max((rank.block_seconds for rank in trial.ranks), key=sum)
    assert trial.communication is None
    assert len({rank.place for rank in trial.ranks}) == 2
    assert validity.find_violations(job, trial, ended.process_seconds, None, None) == ()  # type: ignore[arg-type]


def test_a_rank_that_is_killed_is_named_and_leaves_nobody_behind() -> None:
    """The others fall over because of it; the record names the one that a signal ended."""
    killed: list[int] = []

    def kill(message: dict[str, Any]) -> None:
        if message.get("phase") == "timed" and not killed:
            ranks = ranks_of(os.getpid())
            killed.extend(ranks.values())
            os.kill(ranks[1], signal.SIGKILL)

    outcome = run(JOB.model_copy(update={"blocks": 100_000}), kill).outcome
    assert len(killed) == 2
    assert (outcome.status, outcome.signal) == ("crashed", signal.SIGKILL)
    assert (outcome.message or "").startswith("rank 1 of 2 was ended by SIGKILL")
    assert gone(killed)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_ranks_die_with_the_worker_that_started_them() -> None:
    """Even where it is killed and can end nobody."""
    pids: list[int] = []

    def kill(message: dict[str, Any]) -> None:
        if message.get("phase") == "timed" and not pids:
            pids.extend(ranks_of(os.getpid()).values())
            os.kill(worker_of(pids[0]), signal.SIGKILL)

    outcome = run(JOB.model_copy(update={"blocks": 100_000}), kill).outcome
    assert (outcome.status, outcome.signal) == ("crashed", signal.SIGKILL)
    assert len(pids) == 2
    assert gone(pids)


def test_an_interrupt_ends_all_ranks_and_passes_on() -> None:
    """They lead sessions of their own, out of the worker's group, and still go with it."""
    pids: list[int] = []

    def interrupt(message: dict[str, Any]) -> None:
        if message.get("phase") == "timed":
            pids.extend(ranks_of(os.getpid()).values())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(JOB.model_copy(update={"blocks": 100_000}), interrupt)
    assert len(pids) == 2
    assert gone(pids)


def test_what_a_rank_says_of_its_failure_is_the_records_word() -> None:
    """A failure that has a type keeps it, with the rank that had it first."""
    outcome = run(JOB.model_copy(update={"precision": "tf32"})).outcome
    assert outcome.status == "unsupported"
    assert "of 2: tf32 is a format of NVIDIA tensor cores" in (outcome.message or "")
