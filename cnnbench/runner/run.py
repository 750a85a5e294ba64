"""The plan, job by job: launch, type, put on disk, only then the next. Resume knows what is still missing."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cnnbench import gates
from cnnbench.errors import LedgerError
from cnnbench.machine.inventory import select
from cnnbench.plan import worlds
from cnnbench.runner.boards import board_of
from cnnbench.runner.launch import Ended, Launch, launch
from cnnbench.schema import Device, Job, Machine, Outcome, Record, Rendezvous, RunHeader, digest
from cnnbench.store import Ledger, Writer, load


@dataclass(frozen=True)
class Todo:
    """A planned job that has no final record yet."""

    index: int
    attempt: int
    job: Job


class Watcher(Protocol):
    """Told what happens, to show it; never asked."""

    def begins(self, todo: Todo, position: int, of: int) -> None:
        """A worker is about to start."""
        ...

    def hears(self, message: dict[str, Any]) -> None:
        """The worker wrote something."""
        ...

    def ends(self, record: Record) -> None:
        """The record is on disk."""
        ...


Launcher = Callable[[Job, Launch, Callable[[dict[str, Any]], None]], Ended]


def remaining(header: RunHeader, records: Sequence[Record]) -> tuple[Todo, ...]:
    """What the plan still lacks: jobs without a record, and interrupted ones (as a further attempt)."""
    attempts: dict[int, int] = {}
    finished: set[int] = set()
    for record in records:
        attempts[record.index] = max(attempts.get(record.index, 0), record.attempt)
        if record.outcome.status != "interrupted":
            finished.add(record.index)
    return tuple(
        Todo(index, attempts.get(index, 0) + 1, job) for index, job in enumerate(header.plan) if index not in finished
    )


def execute(
    writer: Writer,
    header: RunHeader,
    todo: Sequence[Todo],
    options: Launch,
    watcher: Watcher,
    *,
    fail_fast: bool = False,
    boards: Path | None = None,
    launcher: Launcher = launch,
) -> tuple[Record, ...]:
    """Run what is left of a plan; every record is on disk before the next job starts.

    KeyboardInterrupt records the job it hit as `interrupted` and passes on. With `fail_fast` the first job that is not
    ok is the last. After machines that did not meet no further job on several is started; each is a `timeout` that says so.
    Below `boards` each worker writes a TensorBoard run. Raises LedgerError when a record cannot be written; the record is then
    saved elsewhere and named.
    """
    done: list[Record] = []
    apart: str | None = None
    devices = {device.id: device for device in header.machine.devices}
    for position, item in enumerate(todo):
        watcher.begins(item, position, len(todo))
        board = None if boards is None else board_of(boards, header, item.job)
        device = devices.get(item.job.device)
        here = replace(options, device=device, inherit=(writer.descriptor,), board=board)
        if item.job.processes > 1:
            here = replace(here, devices=members_of(item.job, header), rendezvous=meeting_of(item, options.rendezvous))
        started_at, start = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic_ns()
        interrupt: KeyboardInterrupt | None = None
        try:
            ended = _not_started(apart) if apart and item.job.nodes > 1 else launcher(item.job, here, watcher.hears)
        except KeyboardInterrupt as error:
            interrupt = error
            outcome = Outcome(status="interrupted", message="interrupted by the user; go on with --resume")
            ended = Ended(outcome, (time.monotonic_ns() - start) * 1e-9, 0.0, {})
        record = Record(
            run_id=header.run_id,
            machine_id=header.machine.id,
            index=item.index,
            attempt=item.attempt,
            started_at=started_at,
            process_seconds=ended.process_seconds,
            parent_cpu_seconds=ended.parent_cpu_seconds,
            environment=ended.environment,
            job=item.job,
            outcome=_gated(item.job, ended, here.device, header.machine),
        )
        _put_on_disk(writer, record)
        watcher.ends(record)
        if interrupt is not None:
            raise interrupt
        if not ended.met and apart is None:
            apart = f"job {item.index + 1} of the plan"
        done.append(record)
        if fail_fast and record.outcome.status != "ok":
            break
    return tuple(done)


def _not_started(apart: str) -> Ended:
    """A job on several machines, after one for which they did not meet: they may be a job apart, and then never meet again."""
    message = (
        f"not started: out of step with the other machines since {apart}; start the same command on all of them again"
    )
    return Ended(Outcome(status="timeout", message=message), 0.0, 0.0, {})


def meeting_of(item: Todo, meeting: Rendezvous | None) -> Rendezvous | None:
    """Where the launchers of this job meet, by a name that no other job has; None where all are on one machine."""
    if meeting is None or item.job.nodes == 1:
        return None
    return meeting.model_copy(update={"name": f"{item.index}-{digest(item.job.model_dump_json())[:16]}"})


def members_of(job: Job, header: RunHeader) -> tuple[Device, ...]:
    """The devices of the job's processes, of those that the run was to use."""
    return worlds.members(job, select(header.machine.devices, header.options.get("device", "auto")))


def _gated(job: Job, ended: Ended, device: Device | None, machine: Machine) -> Outcome:
    trial = ended.outcome.trial
    if trial is None:
        return ended.outcome
    status = ended.outcome.status
    return gates.judge(ended.outcome, gates.check(job, trial, ended.process_seconds, device, machine, status))


def _put_on_disk(writer: Writer, record: Record) -> None:
    try:
        writer.append(record)
    except LedgerError as error:
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"cnnbench-{record.run_id}-{record.index}-", suffix=".json", delete=False
        ) as rescue:
            json.dump(record.model_dump(mode="json"), rescue)
        raise LedgerError(f"{error}\nthe record just measured is saved as {rescue.name}") from error


def find_unfinished(directory: Path, machine_id: str, suites: dict[str, str], run_id: str | None = None) -> Ledger:
    """The newest run of these suites on this machine that lacks jobs (or the named one). Raises LedgerError if there is none."""
    folder = directory / machine_id
    candidates = sorted(folder.glob("*.jsonl"), reverse=True)
    if run_id is not None:
        candidates = [path for path in candidates if path.stem == run_id]
        if not candidates:
            raise LedgerError(f"{folder}: no run {run_id!r} to resume")
    for path in candidates:
        try:
            ledger = load(path)
        except LedgerError:
            continue
        same = ledger.header.suites == suites or run_id is not None
        if same and remaining(ledger.header, ledger.records):
            return ledger
    names = ", ".join(suites)
    raise LedgerError(f"{folder}: no unfinished run of {names} with the same suite files; start one without --resume")
