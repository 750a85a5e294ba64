"""The first thing a reader sees: which processor is how much faster at what, how sure that is, and what holds it back.

Each sentence is made of cells of the page's own tables, so that what is claimed is printed, with its interval and n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnnbench import naming, units
from cnnbench.analysis.metrics import get_metric, name_baseline
from cnnbench.analysis.rows import Row
from cnnbench.analysis.speedup import Comparison
from cnnbench.analysis.stats import Estimate
from cnnbench.report.model import Cell
from cnnbench.report.table_builder import make_cell, metric_cell


def write_headline(comparison: Comparison) -> tuple[str, ...]:
    """One to three sentences; the best that the rows allow, down to "no process ended well"."""
    best = find_headline_row(comparison)
    if best is not None and best.job.workload != "gemm":
        return _training(best, comparison)
    if best is not None:
        rate = make_cell(best, replace(get_metric("flops_per_second"), details="interval and n"))
        return (
            f"{_name(best)} reaches {rate.text} GFLOP/s ({'; '.join(rate.details)}) in {best.job.precision} matrix products "
            f"of side {units.count(best.job.size)}.",
        )
    if comparison.rows:
        ended: dict[str, int] = {}
        for row in comparison.rows:
            for status, n in row.outcomes.items():
                ended[status] = ended.get(status, 0) + n
        none = "reached its target" if "missed" in ended else "ended well"
        return (f"No process {none}: {', '.join(f'{n} {status}' for status, n in sorted(ended.items()))}.",)
    return ("Nothing was measured here: only published rows are shown.",)


def find_headline_row(comparison: Comparison) -> Row | None:
    """The row that the headline is about; None where it is about none."""
    rows = [row for row in comparison.rows if row.ok]
    steps = [row for row in rows if row.job.workload != "gemm" and row.costs]
    training = [row for row in steps if row.job.task == "training"] or steps
    if training:
        return _select_row(training)
    products = [row for row in rows if row.flops_per_second is not None]
    return max(products, key=lambda row: (_value(row.flops_per_second), row.row_key), default=None)


def _training(row: Row, comparison: Comparison) -> tuple[str, ...]:
    return tuple(
        sentence
        for sentence in (
            _compare_with_baseline(row, comparison),
            _compare_with_published(row, comparison),
            _describe_bottleneck(row),
        )
        if sentence is not None
    )


def _select_row(rows: Sequence[Row]) -> Row:
    """The row to speak of: on the fastest processor (at the published job, where one is), the row that knows most.

    Not the fastest row: of several runs on one processor that would be the luckiest. With an interval before without, then
    the most timed steps over all processes.
    """
    same = [row for row in rows if row.speedup_over_published is not None] or rows
    fastest = max(
        same, key=lambda row: (_value(row.speedup_over_published or row.flops_per_second), row.row_key, row.run_id)
    )
    there = [row for row in same if _processor(row) == _processor(fastest)]
    return max(there, key=lambda row: (*_evidence(row), row.row_key, row.run_id))


def _processor(row: Row) -> tuple[object, ...]:
    return row.machine.id, row.job.device, row.job.threads, row.job.precision, row.job.workload


def _evidence(row: Row) -> tuple[bool, int]:
    sure = row.step_seconds is not None and row.step_seconds.low is not None
    return sure, row.ok * (row.timed_steps or 0)


def _compare_with_baseline(row: Row, comparison: Comparison) -> str | None:
    found = row.speedup
    if found is None or found.is_baseline:
        return None
    whom = comparison.baseline or "the CPU beside it"
    versus = _with_details(metric_cell(row, "speedup"))
    verb = "trains" if row.job.task == "training" else "runs"
    return f"{_name(row)} {verb} {_job(row)} {versus} as fast as {whom} ({name_baseline(row)})."


def _compare_with_published(row: Row, comparison: Comparison) -> str | None:
    base = comparison.published_cpu
    if row.speedup_over_published is None or base is None:
        step = metric_cell(row, "step_seconds")
        if row.speedup is not None and not row.speedup.is_baseline:
            return None
        return f"{_name(row)} takes {step.text} for {_ARTICLES[row.job.task]} step of {_job(row)} at batch {row.job.batch_size}."
    job = metric_cell(row, "job_seconds")
    ratio = metric_cell(row, "speedup_over_reference")
    network = " ".join(("the lecture's CNN", *naming.deviations(row.job)))
    return (
        f"{_name(row)} trains {network} in {job.text} ({'; '.join(job.details)}): {_with_details(ratio)} the speed of "
        f"{base.year}'s {base.processor}."
    )


def _describe_bottleneck(row: Row) -> str | None:
    if row.bottleneck is None or not row.bottleneck.floors or row.ceiling_share is None:
        return None
    share = _with_details(metric_cell(row, "share_of_measured_peak"))
    where = "run" if row.ceiling_run_id == row.run_id else "boot"
    return (
        f"What binds the step: {row.bottleneck.summary}; it reaches {share} of the best matrix product on the same cores in "
        f"the same {where}."
    )


def _with_details(cell: Cell) -> str:
    return f"{cell.text} ({'; '.join(cell.details)})" if cell.details else cell.text


def _name(row: Row) -> str:
    return f"{naming.processor_name(row.device)} ({naming.place_label(row.job)})"


def _job(row: Row) -> str:
    """The network, and in which way it is another than the plain one."""
    return " ".join((row.job.workload, *naming.deviations(row.job)))


_ARTICLES = {"training": "a training", "inference": "an inference"}


def _value(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None else estimate.value
