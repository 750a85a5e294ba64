"""A results tree that has a row of every kind a report can show, and the page made of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import builders as b

from cnnbench import store
from cnnbench.analysis import process_table, speedup
from cnnbench.report import sections
from cnnbench.report.charts import chart_data
from cnnbench.report.model import Page
from cnnbench.schema import Energy, Evaluation, Record
from cnnbench.store import Ledger

FLOORS = {"launch_seconds": 2.5e-6, "copy_bytes_per_second": 4.1e10, "draw_seconds": 3.1e-6}
MEASURED = {"floors": FLOORS, "operators_per_step": 85}
REFERENCES = store.load_tree([store.find_published_dir() / "lecture-2017.jsonl"]).published_rows
CPU_STEPS, GPU_STEPS = (0.0671, 0.0684, 0.0702), (0.00102, 0.00107, 0.00101)
WATTS = 250.0


def energy(step_seconds: float) -> Energy:
    """Ten seconds of further steps at 250 W, after an idle second at 50 W."""
    return Energy(
        source="nvml-total-energy",
        tick_seconds=0.1,
        window_seconds=10.0,
        window_steps=round(10.0 / step_seconds),
        window_joules=WATTS * 10.0,
        idle_seconds=1.0,
        idle_joules=50.0,
    )


def curve(job_epochs: int, steps_per_epoch: int) -> tuple[Evaluation, ...]:
    """256 random test images after each epoch, two more right each time until all but one are."""
    return tuple(
        Evaluation(after_steps=(n + 1) * steps_per_epoch, images=256, correct=min(255, 240 + 2 * n), seconds=0.05)
        for n in range(job_epochs)
    )


def everything() -> list[Ledger]:
    """CPU at two thread counts and two batch sizes, a GPU with energy and a ladder, a whole job, GEMMs, a failure; another
    machine with a faster GPU.
    """
    here = b.machine(gpus=[b.GPU])
    gpu = b.cnn_job(device="cuda:0")
    first: list[Record] = [
        *b.repeats(b.cnn_job(), CPU_STEPS, **MEASURED),
        *b.repeats(b.cnn_job(threads=1), [0.41, 0.42, 0.43], start=3, **MEASURED),
        *b.repeats(gpu, GPU_STEPS, start=6, energy=energy(0.00102), **MEASURED),
        *b.repeats(gpu.model_copy(update={"precision": "bf16"}), [0.0006] * 3, start=9, **MEASURED),
        *b.repeats(b.cnn_job(batch_size=256), [0.13, 0.131, 0.129], start=12, **MEASURED),
        *b.repeats(b.gemm_job(2048), [0.0913, 0.0955, 0.0921], start=15),
        *b.repeats(b.gemm_job(4096, device="cuda:0"), [0.0021, 0.0022, 0.0021], start=18),
        b.record(b.gemm_job(8192), index=21, status="oom"),
    ]
    whole = b.record(b.lecture_job(), 0.0655, epoch_evaluations=curve(100, 429), **MEASURED)
    other = b.GPU.model_copy(update={"name": "NVIDIA Testla T9", "uuid": "GPU-0009"})
    there = b.machine("gpubox-9f9f", gpus=[other], cores_allowed=16, cores_logical=16)
    return [
        b.ledger(first, run_id="20260301T120000Z-0001", machine=here),
        b.ledger([whole], run_id="20260302T120000Z-0001", created_at="2026-03-02T12:00:00Z", machine=here),
        b.ledger(
            [
                *b.repeats(b.cnn_job(), [0.05, 0.051, 0.052], **MEASURED),
                *b.repeats(b.cnn_job(device="cuda:0"), [0.0005, 0.00051, 0.00052], start=3, **MEASURED),
            ],
            run_id="20260303T120000Z-0001",
            created_at="2026-03-03T12:00:00Z",
            machine=there,
            software=b.software("2.12.0"),
        ),
    ]


def write(directory: Path, ledgers: Sequence[Ledger] | None = None) -> Path:
    """The tree on disk; returns its folder."""
    for ledger in everything() if ledgers is None else ledgers:
        b.write(directory, ledger)
    return directory


@cache
def _page_of_everything(references: bool, baseline: str | None) -> Page:
    return page(everything(), references=references, baseline=baseline)


def page(
    ledgers: Sequence[Ledger] | None = None, *, references: bool = True, baseline: str | None = None, **request: object
) -> Page:
    """The page of these ledgers; of the tree that has everything where none are given, made once for all tests."""
    if ledgers is None and not request:
        return _page_of_everything(references, baseline)
    found = everything() if ledgers is None else list(ledgers)
    processes, _ = process_table.read_processes(found)
    comparison = speedup.compute_speedups(processes, REFERENCES if references else (), baseline=baseline)
    return sections.build(
        chart_data.collect_chart_data(comparison, found),
        sections.PageRequest(**request),  # type: ignore[arg-type]
    )
