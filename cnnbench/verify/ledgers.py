"""A ledger held against itself: plan, records, seeds, identities, and the gates again."""

from __future__ import annotations

from collections.abc import Iterator

from cnnbench import store, validity
from cnnbench.schema import Record, RunHeader
from cnnbench.verify import raw_rows

LedgerFinding = tuple[str, str]
"""Where, and what does not hold."""


def check_ledger(ledger: store.Ledger) -> Iterator[LedgerFinding]:
    """Started = reported, one record a job, distinct seeds, one machine, and the gates again."""
    path, header = ledger.path, ledger.header
    if path.stem != header.run_id or path.parent.name != header.machine.id:
        yield str(path), f"the file is not where run {header.run_id} of {header.machine.id} belongs"
    final = [record for record in ledger.records if record.outcome.status != "interrupted"]
    indexes = [record.index for record in final]
    missing = sorted(set(range(len(header.plan))) - set(indexes))
    if missing:
        yield str(path), f"{len(header.plan)} jobs were planned, {len(missing)} have no record: {missing[:10]}"
    for index in sorted({index for index in indexes if indexes.count(index) > 1}):
        yield str(path), f"job {index} has {indexes.count(index)} records"
    seeds: dict[tuple[str, int], int] = {}
    for record in ledger.records:
        place = f"{path}: record {record.index}"
        if (record.run_id, record.machine_id) != (header.run_id, header.machine.id):
            yield place, f"says run {record.run_id} on {record.machine_id}, its file is of another"
        if record.index < len(header.plan) and record.job != header.plan[record.index]:
            yield place, "its job is not the planned one"
        other = seeds.setdefault((record.job.row_key, record.job.seed), record.job.round)
        if other != record.job.round:
            yield place, f"rounds {other + 1} and {record.job.round + 1} share seed {record.job.seed}"
        yield from ((place, message) for message in _find_impossible(header, record))


def _find_impossible(header: RunHeader, record: Record) -> Iterator[str]:
    status = record.outcome.status
    if status in validity.CHECKED_STATUSES and record.outcome.trial is None:
        yield f"it is {status} and measured nothing"
    for violation in raw_rows.find_violations(header, record):
        if violation.severity == "invalid":
            yield f"{violation.gate} gate: {violation.message}"
