"""Sides for tests of `comparison`: runs by job and times, and two runs of one machine that differ in all that matters."""

from __future__ import annotations

import math

import builders as b
import pytest
from hypothesis import strategies as st

from cnnbench import store
from cnnbench.analysis import process_table
from cnnbench.analysis.comparison import ComparisonSide
from cnnbench.analysis.speedup import compute_speedups
from cnnbench.machine.peaks import Peak
from cnnbench.schema import Evaluation

LECTURE = store.load_tree([store.find_published_dir() / "lecture-2017.jsonl"]).published_rows
OPPOSITE = {"FASTER": "SLOWER", "SLOWER": "FASTER", "SAME": "SAME", "UNCLEAR": "UNCLEAR", None: None}
JOBS = {
    "cnn": b.cnn_job(),
    "cnn, 2 threads": b.cnn_job(threads=2),
    "cnn, gpu": b.cnn_job(device="cuda:0"),
    "lecture": b.lecture_job(),
    "cnn, bf16": b.cnn_job(precision="bf16"),
    "gemm": b.gemm_job(1024),
    "gemm, larger": b.gemm_job(2048),
}
seconds = st.floats(1e-3, 10)
rounds = st.lists(seconds, min_size=1, max_size=5)
some_rows = st.dictionaries(st.sampled_from(sorted(JOBS)), rounds, min_size=1)
HERE = b.machine("box-0a1b", gpus=[b.GPU])


def peak_of(device, machine, precision):
    return Peak(None, reason="a test's device")


def side(*ledgers, name="a test", references=()):
    processes, _ = process_table.read_processes(ledgers)
    found = compute_speedups(processes, references, peak_of=peak_of)
    return ComparisonSide(name, found.rows, found.published_rows)


PUBLISHED = side(references=LECTURE)


def run(times, run_id="r1", **options):
    """A run with a row for each job of `times`, a process a value."""
    records = []
    for name, values in times.items():
        records += b.repeats(JOBS[name], values, start=len(records))
    return b.ledger(records, run_id=run_id, **({"machine": b.machine(gpus=[b.GPU])} | options))


def cnn(*values, run_id="r1", **options):
    return run({"cnn": values}, run_id, **options)


def only(found):
    assert len(found.pairs) == 1
    return found.pairs[0]


def same_numbers(forward, backward):
    """One is the other's inverse, the bounds change places."""
    assert forward.n == backward.n
    assert forward.value == pytest.approx(1 / backward.value, rel=1e-9)
    assert (forward.low is None) == (backward.low is None)
    if forward.low is not None:
        assert math.log(forward.low) == pytest.approx(-math.log(backward.high), abs=1e-9)
        assert math.log(forward.high) == pytest.approx(-math.log(backward.low), abs=1e-9)


def old_run():
    """Two thread counts, a GPU, products, and a batch of its own, on HERE."""
    records = []
    for job, seconds in (
        (b.cnn_job(), [0.070, 0.072, 0.071]),
        (b.cnn_job(threads=2), [0.090, 0.091, 0.092]),
        (b.cnn_job(device="cuda:0"), [0.0010, 0.0011, 0.0012]),
        (b.gemm_job(1024), [0.012, 0.011, 0.013]),
        (b.cnn_job(batch_size=64), [0.04]),
    ):
        records += b.repeats(job, seconds, start=len(records))
    return b.ledger(records, run_id="20260301T120000Z-old1", machine=HERE)


def new_run():
    """The same job in half the time with worse accuracy, the GPU out of memory, products as before."""
    bad = Evaluation(after_steps=150, images=10_000, correct=9_000, seconds=1.0)
    gpu = b.cnn_job(device="cuda:0")
    records = [
        *b.repeats(b.cnn_job(), [0.035, 0.036, 0.0355], test=bad),
        *b.repeats(gpu, [0.0] * 3, start=3, status="oom", message="tried to allocate 2 GiB"),
        *b.repeats(b.gemm_job(1024), [0.0121, 0.0119, 0.012], start=6),
    ]
    newer = b.software("2.14.0")
    return b.ledger(records, run_id="20260401T120000Z-new1", machine=HERE, software=newer, created_at="2026-04-01")


def compared(document, key="compare"):
    return next((table["rows"] for table in document["tables"] if table["key"] == key), [])


def words(report):
    return " ".join(note.text for note in report.notes)


def lines(report, key="compare"):
    return [line for table in report.tables if table.key == key for group in table.groups for line in group.lines]
