"""Rows and reports for tests of tables: a bit of everything, and a peak that needs no real device."""

from __future__ import annotations

import builders as b

from cnnbench import store
from cnnbench.analysis import process_table
from cnnbench.analysis.speedup import compute_speedups
from cnnbench.machine.peaks import Peak
from cnnbench.report import tables

LECTURE = store.load_tree([store.find_published_dir() / "lecture-2017.jsonl"]).published_rows


def peak_of(device, machine, precision):
    return Peak(None, reason="no clock can be read") if device.kind == "cpu" else Peak(1e13, "4 x 5", "a datasheet")


def report(*ledgers, with_references=False, all_runs=False, problems=()):
    processes, doubles = process_table.read_processes(ledgers)
    comparison = compute_speedups(processes, LECTURE, peak_of=peak_of, all_runs=all_runs)
    return tables.build(comparison, with_published=with_references, all_runs=all_runs, problems=(*problems, *doubles))


def a_bit_of_everything(data="mnist"):
    """CPU and GPU, projected and measured, gemm, a failure, a job not run."""
    records = []
    for job, seconds in (
        (b.cnn_job(data=data), [0.070, 0.072, 0.071]),
        (b.cnn_job(data=data, device="cuda:0"), [0.0010, 0.0011, 0.0012]),
        (b.lecture_job(data=data), [0.06]),
        (b.gemm_job(1024), [0.012, 0.011, 0.013]),
        (b.gemm_job(2048), [0.10, 0.11, 0.12]),
    ):
        records += b.repeats(job, seconds, start=len(records))
    failed = b.cnn_job(data=data, device="cuda:0", precision="bf16")
    records.append(b.record(failed, index=len(records), status="oom", message="tried to allocate 2 GiB"))
    unstarted = [failed.model_copy(update={"round": 1, "seed": 99})]
    return b.ledger(records, machine=b.machine(gpus=[b.GPU]), unstarted=unstarted)


def lines_of(found, key="training"):
    table = next(table for table in found.tables if table.key == key)
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, line.cells, strict=True)) for group in table.groups for line in group.lines]
