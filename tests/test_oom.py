"""Out of memory says which size fits: in the worker by trying, in the parent by the closed form."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cnnbench.engine import outcome, process, worker
from cnnbench.engine.process import ProgressWriter
from cnnbench.runner import launch
from cnnbench.schema import Job, Outcome, WorkerInput


def envelope(job: Job) -> WorkerInput:
    return WorkerInput(job=job, outcome_path="/dev/null", parent_pid=os.getppid(), spawn_monotonic_ns=0)


def cnn(batch: int) -> Job:
    return Job(
        workload="mnist-cnn", workload_version=1, batch_size=batch, optimizer="rmsprop", init="truncated-0.1",
        data="synthetic", split="train-55000",
    )  # fmt: skip


def test_halves_are_tried_until_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fits(job: Job, data_dir: str | None) -> bool:
        tried.append(job.batch_size)
        return job.batch_size <= 100

    monkeypatch.setattr(outcome, "_fits", fits)
    assert outcome.make_oom_hint(envelope(cnn(1000))) == "batch_size 62 fits (tried in the same process)"
    assert tried == [500, 250, 125, 62]


def test_where_nothing_fits_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "_fits", lambda job, data_dir: False)
    assert "not even batch_size 1" in outcome.make_oom_hint(envelope(cnn(8)))


def test_of_a_recipe_no_smaller_batch_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is the recipe's: another would be another recipe."""
    monkeypatch.setattr(outcome, "_fits", lambda job, data_dir: True)
    job = cnn(64).model_copy(update={"division": "open", "execution": "auto", "recipe": "cnn-99-adam"})
    assert outcome.make_oom_hint(envelope(job)) == "the batch is the recipe's (64): free memory"


def test_of_the_tuned_division_the_rung_that_every_device_has_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(outcome, "_fits", lambda job, data_dir: bool(seen.append(job.execution)) or True)
    outcome.make_oom_hint(envelope(cnn(64).model_copy(update={"division": "tuned", "execution": "graph"})))
    outcome.make_oom_hint(envelope(cnn(64).model_copy(update={"execution": "compiled"})))
    assert seen == ["fused", "eager"]


def test_a_size_that_really_works_fits() -> None:
    """The real step, on a small product; one of a side that cannot be allocated does not."""
    job = Job(workload="gemm", workload_version=1, size=64, data="random")
    assert outcome._fits(job, None)
    assert not outcome._fits(job.model_copy(update={"size": 10**7}), None)


def test_the_workers_message_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_measure", lambda envelope, progress: Outcome(status="oom", message="out of memory"))
    monkeypatch.setattr(outcome, "_fits", lambda job, data_dir: job.batch_size <= 4)
    assert (
        worker.run(envelope(cnn(16)), ProgressWriter(None)).message
        == "out of memory; batch_size 4 fits (tried in the same process)"
    )


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (MemoryError(), "oom", "MemoryError"),
        (AssertionError(), "crashed", "AssertionError"),
        (RuntimeError("out of memory\nat a place"), "oom", "RuntimeError: out of memory"),
    ],
)
def test_an_error_of_no_words_is_typed_like_any_other(error: Exception, status: str, message: str) -> None:
    def broken() -> Outcome:
        raise error

    found = process.run_typed(broken)
    assert (found.status, found.message) == (status, message)


def test_a_search_that_fails_leaves_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(envelope: WorkerInput) -> str:
        raise MemoryError

    monkeypatch.setattr(worker, "_measure", lambda envelope, progress: Outcome(status="oom", message="out of memory"))
    monkeypatch.setattr(outcome, "make_oom_hint", broken)
    assert worker.run(envelope(cnn(16)), ProgressWriter(None)).message == "out of memory"


def test_the_kernels_killer_is_answered_with_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    class Free:
        available = 2**30

    monkeypatch.setattr(launch.psutil, "virtual_memory", lambda: Free)
    outcome = launch._outcome(Path("/nowhere"), -signal.SIGKILL, True, cnn(8192))
    assert outcome.status == "oom"
    assert outcome.message is not None
    assert "batch_size 1024 would fit by the closed form" in outcome.message


@pytest.mark.parametrize("oom_killed", [True, False])
def test_the_kernels_killer_takes_a_rank_and_the_job_is_out_of_memory(
    oom_killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its launcher lives, exits 0 and says which; the batch is a rank's, in half of the memory, and no exit code is made up."""

    class Free:
        available = 2**31

    monkeypatch.setattr(launch.psutil, "virtual_memory", lambda: Free)
    path, message = tmp_path / "outcome.json", "rank 1 of 2 was ended by SIGKILL"
    path.write_text(Outcome(status="crashed", message=message, signal=signal.SIGKILL).model_dump_json())
    ranks = cnn(8192).model_copy(update={"world": 2, "scaling": "strong"})
    outcome = launch._outcome(path, 0, oom_killed, ranks)
    assert (outcome.signal, outcome.exit_code) == (signal.SIGKILL, None)
    assert outcome.status == ("oom" if oom_killed else "crashed")
    ending = ", the kernel's out-of-memory killer; batch_size 1024 per rank would fit by the closed form"
    assert outcome.message == message + (ending if oom_killed else "")


def test_the_exit_code_is_that_of_the_rank_that_failed(tmp_path: Path) -> None:
    """Where it says none, the worker's own."""
    path, ranks = tmp_path / "outcome.json", cnn(64).model_copy(update={"world": 2, "scaling": "strong"})
    for code in (3, None):
        path.write_text(Outcome(status="crashed", message="rank 1 of 2", exit_code=code).model_dump_json())
        assert launch._outcome(path, 0, True, ranks).exit_code == (code or 0)
