"""Records go in, one flat value per process comes out, with the few figures (`metrics`) that every table is based on.

`read_processes` gives them as plain values in which unknown is None (what `speedup` works on); `flatten_processes`
gives the same as one row per process, for exports. Only an `ok` process has figures: what a failed one measured before
it failed stays in the ledger. A process that missed its target has none either, but its `seed_result` records the miss.
A job that was planned and never started is included as `not run`, so that the number planned equals the number shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cnnbench import validity
from cnnbench.analysis import metrics
from cnnbench.analysis.doubts import UNFIT, Doubt, find_record_doubts
from cnnbench.analysis.metrics import ProcessMetrics, compute_metrics
from cnnbench.analysis.ratio import FieldValue, group_by
from cnnbench.analysis.rows import (
    SeedResult,
    TrainingOutcome,
    follow,
    read_seed_result,
    read_training_outcome,
)
from cnnbench.machine_facts import Host, list_facts
from cnnbench.schema import Device, Job, Machine, Outcome, Record, RunHeader, Software, Status

if TYPE_CHECKING:
    import pandas as pd

    from cnnbench.store import Ledger

NOT_RUN: Literal["not run"] = "not run"
Conditions = Mapping[str, FieldValue]
"""The conditions of one row of one run, by name. None is unknown, or absent; it equals only itself."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one run: where and what it was, how it ended, and its figures where it ended well."""

    run: RunHeader
    machine_id: str
    protocol: int
    index: int
    attempt: int
    job: Job
    work_key: str
    row_key: str
    status: Status | Literal["not run"]
    message: str | None
    metrics: ProcessMetrics | None
    """The figures of a process that ended well; None for any other."""
    doubts: tuple[Doubt, ...] = ()
    training_outcome: TrainingOutcome | None = None
    seed_result: SeedResult | None = None
    """The result of its seed against the target, missed ones too; None if the job has no target."""

    @property
    def unfit(self) -> str | None:
        """What made the machine unfit while it was measured; None if nothing did, as far as is known."""
        return next((doubt.message for doubt in self.doubts if doubt.code == UNFIT), None)

    @property
    def run_id(self) -> str:
        """The id of the run it belongs to."""
        return self.run.run_id

    @property
    def machine(self) -> Machine:
        """The machine's fingerprint when the run began."""
        return self.run.machine

    @property
    def software(self) -> Software:
        """The versions the run used."""
        return self.run.software

    @property
    def device(self) -> Device:
        """The processor the job names; one with only that id if the fingerprint does not list it."""
        own, machine = self.job.device, self.run.machine
        kind, name = ("cpu", machine.cpu_name) if own == "cpu" else ("cuda", own)
        return machine.find_device(own) or Device(id=own, kind=kind, name=name)

    @property
    def conditions(self) -> Conditions:
        """What must be equal before the times of two runs are one sample: the machine, the software that matters, the
        timing rule. cnnbench's own version and commit are not among them, because a check of runs is to judge them.
        """
        host = Host(self.machine, self.software, self.device)
        facts = {fact.name: fact.read(host) for fact in list_facts("condition")}
        return {"machine_id": self.machine_id, "protocol": self.protocol, **facts}


def read_processes(
    ledgers: Iterable[Ledger], *, as_recorded: bool = False
) -> tuple[tuple[Process, ...], tuple[str, ...]]:
    """Read one value per process, in an order that does not depend on the files', and list what was odd.

    An interrupted process that a resumed run repeated is left out in favour of the later attempt. A run found in two
    files counts once; the same id on another machine is another run. `as_recorded` takes every outcome as it was
    written, without applying the validity checks again.
    """
    by_run = group_by(ledgers, lambda ledger: (ledger.header.run_id, ledger.header.machine.id))
    found: list[Process] = []
    problems = []
    for (run_id, _), copies in sorted(by_run.items()):
        if len(copies) > 1:
            problems.append(f"run {run_id} is in {len(copies)} files; counted once, from the longest")
        ledger = min(copies, key=lambda copy: (-len(copy.records), str(copy.path)))
        header = ledger.header
        by_attempt = sorted(ledger.records, key=lambda record: record.attempt)
        latest = {record.index: record.attempt for record in by_attempt}
        made = [
            _make_process(header, record, as_recorded)
            for record in ledger.records
            if record.outcome.status != "interrupted" or record.attempt == latest[record.index]
        ]
        # Jobs that were planned and never started.
        place = header, header.machine.id, header.protocol
        made += [
            Process(*place, index, 0, job, job.work_key, job.row_key, NOT_RUN, message=None, metrics=None)
            for index, job in enumerate(header.plan)
            if index not in latest
        ]
        found += sorted(made, key=lambda process: (process.index, process.attempt))
    return tuple(found), tuple(problems)


def _make_process(header: RunHeader, record: Record, as_recorded: bool) -> Process:
    """Make the process of a record."""
    job, outcome = record.job, record.outcome if as_recorded else _apply_validity(header, record)
    trial = outcome.trial if outcome.status == "ok" else None
    return Process(
        run=header,
        machine_id=record.machine_id,
        protocol=record.protocol,
        index=record.index,
        attempt=record.attempt,
        job=job,
        work_key=job.work_key,
        row_key=job.row_key,
        status=outcome.status,
        message=outcome.message,
        metrics=None if trial is None else compute_metrics(job, trial),
        doubts=() if trial is None else find_record_doubts(header, record),
        training_outcome=read_training_outcome(job, outcome),
        seed_result=read_seed_result(job, record.index, outcome),
    )


def _apply_validity(header: RunHeader, record: Record) -> Outcome:
    """Apply today's validity checks to the outcome, since it may have been written before a check was added."""
    trial = record.outcome.trial
    if trial is None:
        return record.outcome
    job, device = record.job, header.machine.find_device(record.job.device)
    found = validity.find_violations(job, trial, record.process_seconds, device, header.machine, record.outcome.status)
    return validity.reject_impossible(record.outcome, found)


def list_columns() -> dict[str, str]:
    """List the names of a process's values in `export csv`, in order, each with its path of attributes and keys."""
    names = ("run_id", "machine_id", "protocol", "index", "attempt", "status", "work_key", "row_key")
    return {
        **{name: name for name in names},
        **{"boot_id": "run.boot_id", "host_id": "run.host_id", "kernel": "machine.kernel"},
        **{f"job_{name}": f"job.{name}" for name in Job.model_fields},
        "processor": "device.name",
        "torch": "software.torch",
        **{metric.name: f"metrics.values.{metric.name}" for metric in metrics.METRICS if metric.of},
        **{name: f"metrics.trial.{name}" for name in ("accuracy_data", "stopped_early")},
        **{f"test_{name}": f"metrics.trial.test.{name}" for name in ("correct", "images", "after_steps")},
        "job_kind": "job.kind",
        "unfit": "unfit",
        "reached_target": "seed_result.reached",
        "seconds_to_limit": "seed_result.limit_seconds",
    }


def flatten_processes(found: Sequence[Process]) -> list[dict[str, object]]:
    """Flatten each process into a row of values by the names of `list_columns`, None where unknown."""
    columns = list_columns().items()
    return [{name: follow(process, path) for name, path in columns} for process in found]


def to_frame(found: Sequence[Process]) -> pd.DataFrame:
    """Convert the same to a pandas frame, for notebooks: one row per process.

    An unknown value is missing.
    """
    import pandas as pd

    return pd.DataFrame(flatten_processes(found), columns=list(list_columns()))
