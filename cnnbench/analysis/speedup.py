"""Processes in, rows out: the repeats of one job on one processor become estimates, and rows of equal work are divided.

A row holds one run's processes of one job on one processor. Its speed-up is the CPU baseline's time over its own, where
the baseline is the fastest CPU row of the *same work* on the *same machine*; without one there is no speed-up, never one
against something else. The one exception says so in its name: the ratio to a published reference, where the whole job has
the same images and FLOPs. Only `ok` processes enter a mean; all others are counted in `Row.outcomes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

from cnnbench import naming
from cnnbench.analysis import convergence
from cnnbench.analysis.ceiling import with_ceilings
from cnnbench.analysis.metrics import job_flops
from cnnbench.analysis.process_table import NOT_RUN, Process
from cnnbench.analysis.ratio import PublishedResult, divide_rows, group_by, order_by_speed, share_work
from cnnbench.analysis.row_builder import build_row
from cnnbench.analysis.rows import Accuracy, PeakOf, Row, Speedup
from cnnbench.errors import ComparisonError
from cnnbench.machine.peaks import theoretical_peak
from cnnbench.schema import Job, Precision, PublishedRow

__all__ = [
    "Accuracy",
    "Comparison",
    "PeakOf",
    "PublishedResult",
    "Row",
    "Speedup",
    "compute_speedups",
    "is_published_job",
]

_PRECISIONS = get_args(Precision)
NO_CPU_ROW = "no CPU row of the same work on the same machine"
SEVERAL_PROCESSES = "several processes at once: what they bring over one is in the table of scaling or of copies"


@dataclass(frozen=True)
class Comparison:
    """All rows, in an order that does not depend on the records'."""

    rows: tuple[Row, ...]
    published_rows: tuple[PublishedResult, ...]
    published_cpu: PublishedRow | None
    baseline: str | None = None
    """The key that speed-ups are over; None: each machine's own CPU."""


def compute_speedups(
    processes: Iterable[Process],
    published_rows: Sequence[PublishedRow] = (),
    *,
    peak_of: PeakOf = theoretical_peak,
    all_runs: bool = False,
    baseline: str | None = None,
) -> Comparison:
    """Rows with their speed-ups. Of several runs of one row the newest with a finished process stands, unless `all_runs`.

    Runs are not pooled: processes of two days share neither rounds nor the machine's state, and their mean would hide it.
    `baseline` is a key MACHINE[/DEVICE[/THREADS]]: speed-ups are then over the fastest row of the same work there, from
    whatever machine, instead of over the CPU of the row's own machine. Raises ComparisonError where no row is there.
    """
    groups = group_by(processes, lambda each: (each.machine_id, each.row_key, each.protocol, each.run_id))
    published_cpu = find_published_cpu(published_rows)
    cpu_seconds = None if published_cpu is None else published_cpu.job_seconds
    rows: list[Row] = []
    for members, others in _select_shown([members for _, members in sorted(groups.items())], all_runs):
        row = _divide_by_published(build_row(members, peak_of), published_cpu)
        rows.append(dataclasses.replace(row, other_runs=others))
    products = [build_row(each, peak_of) for each in groups.values() if each[0].job.workload == "gemm"]
    rows = convergence.add_convergence_doubts(with_ceilings(rows, products))  # products of runs that are hidden too
    same_work = partial(_same_work, baseline=baseline)
    bases = group_by((row for row in rows if row.costs and _can_be_baseline(row, baseline)), same_work)
    if baseline is not None and not bases:
        places = ", ".join(sorted({place_key(row) for row in rows})) or "none"
        raise ComparisonError(f"--baseline {baseline}: no row of that machine and device; there are: {places}")
    for same in bases.values():
        same.sort(key=order_by_speed)
    divided = (_with_speedup(row, bases.get(same_work(row), []), all_runs, baseline) for row in rows)
    published = tuple(PublishedResult(row, cpu_seconds) for row in dict.fromkeys(published_rows))
    return Comparison(tuple(sorted(divided, key=_order)), published, published_cpu, baseline)


def place_key(row: Row) -> str:
    """The row's place as `--baseline` takes it: machine, device and, on a CPU, threads."""
    return naming.place_key(row.machine.id, row.job)


def _can_be_baseline(row: Row, baseline: str | None) -> bool:
    """The CPU, or what the key names: whole parts of it, so that `box/cpu/1` is not `box/cpu/16`. Of one process: what
    several bring is `scaling`'s question.
    """
    if row.job.processes > 1:
        return False
    if baseline is None:
        return row.device.kind == "cpu"
    return f"{place_key(row)}/".startswith(f"{baseline.rstrip('/')}/")


def find_published_cpu(published_rows: Sequence[PublishedRow]) -> PublishedRow | None:
    """The published CPU that others are compared with: the slowest CPU with a time."""
    timed = [row for row in published_rows if row.device_kind == "cpu" and row.job_seconds]
    return max(timed, key=lambda row: (row.job_seconds, row.processor), default=None)


def is_published_job(job: Job, published: PublishedRow) -> bool:
    """Whether the whole job is the one the reference is assumed to have timed: equal images and equal model FLOPs."""
    steps, flops = job.job_steps, job_flops(job)
    if steps is None or flops is None or job.stop_when_all_right or job.clock == "accuracy":
        return False
    return steps * job.batch_size == published.job_images and flops == published.job_flops


def _select_shown(groups: Sequence[list[Process]], all_runs: bool) -> Iterator[tuple[list[Process], int]]:
    """Choose the groups to show, each with how many other runs of its row there are. A run that only planned the row, or was
    interrupted in it, does not displace one that finished a process.
    """
    if all_runs:
        yield from ((members, 0) for members in groups)
        return
    for same in group_by(groups, lambda members: (members[0].machine_id, members[0].row_key)).values():
        runs = group_by(same, lambda members: members[0].run_id)
        newest = max(runs.values(), key=lambda protocols: max(map(_age, protocols)))
        yield from ((members, len(runs) - 1) for members in newest)


def _age(members: Sequence[Process]) -> tuple[bool, str, str]:
    finished = any(process.status not in (NOT_RUN, "interrupted") for process in members)
    return finished, members[0].run.created_at, members[0].run_id


def _divide_by_published(row: Row, published: PublishedRow | None) -> Row:
    """Add the published CPU's time over the row's own, or the reason why there is none."""
    if published is None or published.job_seconds is None or row.job.workload == "gemm":
        return row
    if is_published_job(row.job, published):
        found = divide_rows(PublishedResult(published, published.job_seconds), row)
        return dataclasses.replace(row, speedup_over_published=found)
    reason = f"not the job that the {published.processor} is assumed to have done"
    return row.with_reason("versus", reason)


def _same_work(row: Row, baseline: str | None) -> tuple[object, ...]:
    """What two rows must share before one divides the other; the machine too, unless a baseline was named."""
    return None if baseline is not None else row.machine.id, *share_work(row)


def _with_speedup(row: Row, cpus: Sequence[Row], all_runs: bool, baseline: str | None) -> Row:
    """The row against the first of the baselines of the same work, fastest first; where all runs are listed, of its own run."""
    if not row.costs:
        return row
    own = [cpu for cpu in cpus if cpu.run_id == row.run_id] if all_runs else []
    base = next(iter(own or cpus), None)
    if row.job.processes > 1:
        return row.with_reason("speedup", SEVERAL_PROCESSES)
    ratio = None if base is None else divide_rows(base, row)
    if base is None or ratio is None:
        return row.with_reason("speedup", f"no row of the same work at {baseline}" if baseline else NO_CPU_ROW)
    return dataclasses.replace(
        row, speedup=Speedup(ratio, base.device, base.job.threads, base.software.torch, base is row)
    )


def _order(row: Row) -> tuple[object, ...]:
    """CPU first and slowest first, as in the lecture's table; ties by name, so that the order is total."""
    seconds = row.step_seconds.value if row.step_seconds else 0.0
    return (
        *(row.machine.cpu_name, row.machine.id, row.device.kind != "cpu", _PRECISIONS.index(row.job.precision)),
        *(row.job.size or 0, -seconds, row.row_key, row.protocol, row.created_at, row.run_id),
    )
