"""The run loop: each record on disk before the next job, nothing repeated, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_store import header, record

from cnnbench import store
from cnnbench.errors import LedgerError
from cnnbench.runner.launch import LaunchOptions, WorkerExit
from cnnbench.runner.run import PendingJob, execute, find_unfinished, list_pending_jobs
from cnnbench.schema import Job, Outcome, Record


class Quiet:
    """A watcher that only remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def on_start(self, todo: PendingJob, position: int, of: int) -> None:
        self.events.append(("begins", todo.index))

    def on_message(self, message: dict[str, Any]) -> None: ...

    def on_finish(self, record: Record) -> None:
        self.events.append(("ends", record.index))


def launcher(*statuses: str) -> Callable[..., WorkerExit]:
    """Answers with these outcomes in turn; `ctrl-c` interrupts."""
    queue = list(statuses)

    def launch(job: Job, options: LaunchOptions, on_progress: object) -> WorkerExit:
        status = queue.pop(0)
        if status == "ctrl-c":
            raise KeyboardInterrupt
        return WorkerExit(Outcome(status=status), 1.0, 0.0, {})  # type: ignore[arg-type]

    return launch


def test_every_job_is_started_and_reported_once(tmp_path: Path) -> None:
    """A failed job is a record like any other and the rest goes on."""
    with store.create(tmp_path, header()) as writer:
        watcher = Quiet()
        done = execute(
            writer,
            header(),
            list_pending_jobs(header(), ()),
            LaunchOptions(),
            watcher,
            launcher=launcher("ok", "crashed", "ok"),
        )
        assert [r.outcome.status for r in done] == ["ok", "crashed", "ok"]
        assert [r.index for r in store.load(writer.path).records] == [0, 1, 2]
    assert watcher.events == [(what, n) for n in range(3) for what in ("begins", "ends")]


def test_a_record_is_on_disk_before_the_next_job_starts(tmp_path: Path) -> None:
    seen: list[int] = []
    with store.create(tmp_path, header()) as writer:

        def launch(job: Job, options: LaunchOptions, on_progress: object) -> WorkerExit:
            seen.append(len(store.load(writer.path).records))
            assert options.inherit == (writer.descriptor,)
            return WorkerExit(Outcome(status="ok"), 1.0, 0.0, {})

        execute(writer, header(), list_pending_jobs(header(), ()), LaunchOptions(), Quiet(), launcher=launch)
    assert seen == [0, 1, 2]


def test_an_interrupt_keeps_what_was_measured_and_resume_does_the_rest_once(tmp_path: Path) -> None:
    """Interrupted in the second of three: recorded as such, done again as attempt 2, nothing else repeated."""
    with store.create(tmp_path, header()) as writer, pytest.raises(KeyboardInterrupt):
        execute(
            writer,
            header(),
            list_pending_jobs(header(), ()),
            LaunchOptions(),
            Quiet(),
            launcher=launcher("ok", "ctrl-c"),
        )
    writer, ledger = store.reopen(find_unfinished(tmp_path, "box-1", {"s": "0"}).path)
    with writer:
        left = list_pending_jobs(ledger.header, ledger.records)
        assert [(todo.index, todo.attempt) for todo in left] == [(1, 2), (2, 1)]
        execute(writer, ledger.header, left, LaunchOptions(), Quiet(), launcher=launcher("ok", "ok"))
    records = store.load(writer.path).records
    assert [(r.index, r.attempt, r.outcome.status) for r in records] == [
        (0, 1, "ok"), (1, 1, "interrupted"), (1, 2, "ok"), (2, 1, "ok"),
    ]  # fmt: skip
    with pytest.raises(LedgerError, match="no unfinished run"):
        find_unfinished(tmp_path, "box-1", {"s": "0"})


def test_fail_fast_stops_after_the_first_failure(tmp_path: Path) -> None:
    with store.create(tmp_path, header()) as writer:
        done = execute(
            writer,
            header(),
            list_pending_jobs(header(), ()),
            LaunchOptions(),
            Quiet(),
            fail_fast=True,
            launcher=launcher("oom"),
        )
    assert [r.outcome.status for r in done] == ["oom"]


def test_after_a_meeting_that_failed_jobs_on_several_machines_are_not_started_and_recorded_so(tmp_path: Path) -> None:
    """The machines may be a job apart for good, and each further wait in vain costs minutes. Jobs of one machine go on, and so
    do all after a job that timed out when the machines had met.
    """
    jobs = [
        job.model_copy(update={"nodes": nodes})
        for job, nodes in zip(header(jobs=6).plan, (2, 2, 1, 2, 1, 2), strict=True)
    ]
    plan = header().model_copy(update={"plan": tuple(jobs)})
    answers = [("timeout", True), ("timeout", False), ("ok", True), ("ok", True)]
    started: list[int] = []

    def launch(job: Job, options: LaunchOptions, on_progress: object) -> WorkerExit:
        started.append(job.round)
        status, met = answers.pop(0)
        return WorkerExit(Outcome(status=status, message="after 9 s"), 1.0, 0.0, {}, met)  # type: ignore[arg-type]

    with store.create(tmp_path, plan) as writer:
        done = execute(writer, plan, list_pending_jobs(plan, ()), LaunchOptions(), Quiet(), launcher=launch)
    assert started == [0, 1, 2, 4]
    assert [record.outcome.status for record in done] == ["timeout", "timeout", "ok", "timeout", "ok", "timeout"]
    apart = "not started: out of step with the other machines since job 2 of the plan"
    apart += "; start the same command on all of them again"
    assert [record.outcome.message for record in done] == ["after 9 s"] * 3 + [apart, "after 9 s", apart]
    assert list_pending_jobs(plan, store.load(writer.path).records) == ()


def test_a_record_that_cannot_be_written_is_saved_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured is not lost with the disk."""
    with store.create(tmp_path, header()) as writer:

        def refuse(line: object) -> str:
            raise LedgerError("disk full")

        monkeypatch.setattr(writer, "append", refuse)
        with pytest.raises(LedgerError, match=r"saved as (.*\.json)") as caught:
            execute(
                writer, header(), list_pending_jobs(header(), ()), LaunchOptions(), Quiet(), launcher=launcher("ok")
            )
    rescued = Path(str(caught.value).split("saved as ")[1])
    assert Record.model_validate(json.loads(rescued.read_text())).outcome.status == "ok"
    rescued.unlink()


def test_only_an_unfinished_run_of_the_same_suite_files_is_resumed(tmp_path: Path) -> None:
    with store.create(tmp_path, header()) as writer:
        writer.append(record(0))
    assert find_unfinished(tmp_path, "box-1", {"s": "0"}).path == writer.path
    with pytest.raises(LedgerError, match="no unfinished run of s"):
        find_unfinished(tmp_path, "box-1", {"s": "changed"})
    assert find_unfinished(tmp_path, "box-1", {"s": "changed"}, run_id="run-a").path == writer.path
    with pytest.raises(LedgerError, match="no run 'run-z'"):
        find_unfinished(tmp_path, "box-1", {"s": "0"}, run_id="run-z")
