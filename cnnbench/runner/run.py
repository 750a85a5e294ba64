"""Runs the plan job by job: each is launched, classified and written to disk before the next. A resumed run does the
rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cnnbench import validity
from cnnbench.errors import LedgerError
from cnnbench.files import save_elsewhere
from cnnbench.machine.inventory import select
from cnnbench.naming import name_run_folder
from cnnbench.plan import matrix
from cnnbench.runner.launch import LaunchOptions, OnProgress, WorkerExit, launch
from cnnbench.schema import Device, Job, Machine, Outcome, Record, RunHeader, current_suite_name, digest
from cnnbench.store import Ledger, Writer, format_now, load


@dataclass(frozen=True)
class PendingJob:
    """A planned job that has no final record yet."""

    index: int
    attempt: int
    job: Job


class RunListener(Protocol):
    """Called with what happens, to display it; it cannot influence the run."""

    def on_start(self, pending: PendingJob, position: int, of: int) -> None:
        """Handle that a worker is about to start."""

    def on_message(self, message: dict[str, Any]) -> None:
        """Handle a message of the worker."""

    def on_finish(self, record: Record) -> None:
        """Handle that the record is on disk."""


Launcher = Callable[[Job, LaunchOptions, OnProgress], WorkerExit]


def list_pending_jobs(header: RunHeader, records: Sequence[Record]) -> tuple[PendingJob, ...]:
    """List what the run still lacks: planned jobs without a record, and interrupted ones (as a further attempt).

    A job beyond the plan is one of a second stage (`--until`).
    """
    attempts: dict[int, int] = {}
    beyond = {record.index: record.job for record in records if record.index >= len(header.plan)}
    finished = set()
    for record in records:
        attempts[record.index] = max(attempts.get(record.index, 0), record.attempt)
        if record.outcome.status != "interrupted":
            finished.add(record.index)
    return tuple(
        PendingJob(index, attempts.get(index, 0) + 1, job)
        for index, job in (*enumerate(header.plan), *sorted(beyond.items()))
        if index not in finished
    )


def execute(
    writer: Writer,
    header: RunHeader,
    pending: Sequence[PendingJob],
    options: LaunchOptions,
    listener: RunListener,
    *,
    fail_fast: bool = False,
    tensorboard_root: Path | None = None,
    launcher: Launcher = launch,
    look: Callable[[], tuple[str, ...]] | None = None,
) -> tuple[Record, ...]:
    """Run what is left of a plan; every record is on disk before the next job starts.

    KeyboardInterrupt records the job it hit as `interrupted` and passes on. With `fail_fast` the first job that is not
    ok is the last. Once machines failed to rendezvous, no further job on several machines is started; each is recorded
    as a `timeout` with that reason. Below `tensorboard_root` each worker writes a TensorBoard run, in a folder per
    process below one per run. `look` is called before each process starts and tells what makes the machine unfit then.
    Raises LedgerError when a record cannot be written; the record is then saved elsewhere
    and named.
    """
    done = []
    apart: str | None = None
    for position, item in enumerate(pending):
        unfit = None if look is None else look()
        listener.on_start(item, position, len(pending))
        here = replace(complete_options(options, item, header), inherit=(writer.descriptor,))
        if tensorboard_root is not None:
            folder = tensorboard_root / header.run_id / name_run_folder(item.job, header.plan)
            here = replace(here, tensorboard_dir=folder, machine=header.machine, software=header.software)
        started_at, start = format_now(), time.monotonic_ns()
        interrupt: KeyboardInterrupt | None = None
        try:
            if apart and item.job.nodes > 1:  # they may be one job apart, and then would never join again
                why = f"out of step with the other machines since {apart}; start the same command on all of them again"
                ended = WorkerExit(Outcome(status="timeout", message=f"not started: {why}"), 0.0, 0.0, {})
            else:
                ended = launcher(item.job, here, listener.on_message)
        except KeyboardInterrupt as error:
            interrupt = error
            outcome = Outcome(status="interrupted", message="interrupted by the user; continue with --resume")
            ended = WorkerExit(outcome, (time.monotonic_ns() - start) * 1e-9, 0.0, {})
        record = Record(
            run_id=header.run_id,
            machine_id=header.machine.id,
            index=item.index,
            attempt=item.attempt,
            started_at=started_at,
            process_seconds=ended.process_seconds,
            parent_cpu_seconds=ended.parent_cpu_seconds,
            environment=ended.environment,
            unfit=unfit,
            job=item.job,
            outcome=_reject_if_impossible(item.job, ended, here.device, header.machine),
        )
        _write_record(writer, record)
        listener.on_finish(record)
        if interrupt is not None:
            raise interrupt
        if not ended.met and apart is None:
            apart = f"job {item.index + 1} of the plan"
        done.append(record)
        if fail_fast and record.outcome.status != "ok":
            break
    return tuple(done)


def complete_options(options: LaunchOptions, item: PendingJob, header: RunHeader) -> LaunchOptions:
    """Add the job's own device to the options.

    For several processes also add the other devices, and where the launchers join. The devices are among those that the
    run was to use. The rendezvous has a name that no other job has; if all processes are on one machine there is none.
    """
    job, rendezvous = item.job, options.rendezvous
    device = next((each for each in header.machine.devices if each.id == job.device), None)
    if job.processes == 1:
        return replace(options, device=device)
    if rendezvous is not None:
        name = f"{item.index}-{digest(job.model_dump_json())[:16]}"
        rendezvous = rendezvous.model_copy(update={"name": name}) if job.nodes > 1 else None
    usable = select(header.machine.devices, header.options.get("device", "auto"))
    return replace(options, device=device, devices=matrix.select_devices(job, usable), rendezvous=rendezvous)


def _reject_if_impossible(job: Job, ended: WorkerExit, device: Device | None, machine: Machine) -> Outcome:
    outcome = ended.outcome
    if outcome.trial is None:
        return outcome
    violations = validity.find_violations(job, outcome.trial, ended.process_seconds, device, machine, outcome.status)
    return validity.reject_impossible(outcome, violations)


def _write_record(writer: Writer, record: Record) -> None:
    try:
        writer.append(record)
    except LedgerError as error:
        text = record.model_dump_json()
        rescued = save_elsewhere(f"cnnbench-{record.run_id}-{record.index}-{record.attempt}.json", text)
        where = (
            "cannot be saved elsewhere either; here it is:\n" + text if rescued is None else f"is saved as {rescued}"
        )
        raise LedgerError(f"{error}\nthe record just measured {where}") from error


def find_unfinished(
    directory: Path,
    machine_id: str,
    suites: dict[str, str],
    run_id: str | None = None,
    is_wide: Callable[[Ledger], object] = lambda ledger: False,
) -> Ledger:
    """Find the newest run of these suites on this machine that lacks jobs (or the named one).

    A run that `is_wide` needs further rounds, although it lacks none of its plan's jobs.

    Raises LedgerError if there is none.
    """
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
        stored = {current_suite_name(name): digest for name, digest in ledger.header.suites.items()}
        same = stored == suites or run_id is not None
        if same and (list_pending_jobs(ledger.header, ledger.records) or is_wide(ledger)):
            return ledger
    raise LedgerError(
        f"{folder}: no unfinished run of {', '.join(suites)} with the same suite files; start one without --resume"
    )
