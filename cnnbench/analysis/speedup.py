"""Processes in, rows out: the repeats of one job on one processor become estimates, and rows of equal work are divided.

A row holds one run's processes of one job on one processor. Its speed-up is the CPU baseline's time over its own, where
the baseline is the fastest CPU row of the *same work* on the *same machine*; without one there is no speed-up, never one
against something else. The one exception says so in its name: the ratio to a published reference, where the whole job has
the same images and FLOPs. Only `ok` processes enter a mean; all others are counted in `Row.outcomes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from cnnbench import naming
from cnnbench.analysis import convergence, stats
from cnnbench.analysis.ceiling import with_ceilings
from cnnbench.analysis.metrics import job_flops
from cnnbench.analysis.process_table import NOT_RUN, Process
from cnnbench.analysis.row_builder import build_row
from cnnbench.analysis.rows import Accuracy, PeakOf, Row, Speedup
from cnnbench.analysis.stats import Estimate
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
SEVERAL_PROCESSES = "several processes at once: what they bring over one is in the table of scaling or of copies"


@dataclass(frozen=True)
class PublishedResult:
    """A published row with what can be derived from it."""

    published: PublishedRow
    flops_per_second: float | None
    """The assumed job's FLOPs over the published time."""
    speedup: float | None
    """The source's own CPU's time over this row's."""


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
    groups: dict[tuple[str, str, int, str], list[Process]] = {}
    for process in processes:
        groups.setdefault((process.machine_id, process.row_key, process.protocol, process.run_id), []).append(process)
    published_cpu = find_published_cpu(published_rows)
    rows: list[Row] = []
    for members, others in _select_shown(groups, all_runs):
        row = build_row(members, peak_of)
        versus, reason = _speedup_over_published(row, published_cpu)
        row = row if reason is None else row.with_reason("versus", reason)
        rows.append(dataclasses.replace(row, speedup_over_published=versus, other_runs=others))
    rows = convergence.add_convergence_doubts(with_ceilings(rows, _products(groups.values(), peak_of)))
    bases: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.costs and _can_be_baseline(row, baseline):
            bases.setdefault(_same_work(row, baseline), []).append(row)
    if baseline is not None and not bases:
        places = ", ".join(sorted({place_key(row) for row in rows})) or "none"
        raise ComparisonError(f"--baseline {baseline}: no row of that machine and device; there are: {places}")
    for same in bases.values():
        same.sort(key=_speed)
    divided = [_with_speedup(row, bases.get(_same_work(row, baseline), []), all_runs, baseline) for row in rows]
    return Comparison(
        tuple(sorted(divided, key=_order)), _derive_published(published_rows, published_cpu), published_cpu, baseline
    )


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
    timed = [
        (row.job_seconds, row.processor, row) for row in published_rows if row.device_kind == "cpu" and row.job_seconds
    ]
    return max(timed, key=lambda item: item[:2])[2] if timed else None


def is_published_job(job: Job, published: PublishedRow) -> bool:
    """Whether the whole job is the one the reference is assumed to have timed: equal images and equal model FLOPs."""
    steps, flops = job.job_steps, job_flops(job)
    if steps is None or flops is None or job.stop_when_all_right or job.clock == "accuracy":
        return False
    return steps * job.batch_size == published.job_images and flops == published.job_flops


def _select_shown(
    groups: Mapping[tuple[str, str, int, str], list[Process]], all_runs: bool
) -> list[tuple[list[Process], int]]:
    """The groups to show, each with how many runs of its row stand behind it. A run that only planned the row, or was
    interrupted in it, does not displace one that finished a process.
    """
    if all_runs:
        return [(members, 0) for _, members in sorted(groups.items())]
    by_row: dict[tuple[str, str], dict[str, list[list[Process]]]] = {}
    for (machine_id, row_key, _, run_id), members in sorted(groups.items()):
        by_row.setdefault((machine_id, row_key), {}).setdefault(run_id, []).append(members)
    chosen: list[tuple[list[Process], int]] = []
    for runs in by_row.values():
        newest = max(runs.values(), key=lambda protocols: max(_age(members) for members in protocols))
        chosen.extend((members, len(runs) - 1) for members in newest)
    return chosen


def _age(members: Sequence[Process]) -> tuple[bool, str, str]:
    finished = any(process.status not in (NOT_RUN, "interrupted") for process in members)
    return finished, members[0].run.created_at, members[0].run_id


def _speedup_over_published(row: Row, published: PublishedRow | None) -> tuple[Estimate | None, str | None]:
    if published is None or published.job_seconds is None or row.job.workload == "gemm":
        return None, None
    if not is_published_job(row.job, published):
        return None, f"not the job that the {published.processor} is assumed to have done"
    return (None if row.job_seconds is None else row.job_seconds.inverse_of(published.job_seconds)), None


def _same_work(row: Row, baseline: str | None) -> tuple[object, ...]:
    """What two rows must share before one divides the other; the machine too, unless a baseline was named."""
    return None if baseline is not None else row.machine.id, row.work_key, row.protocol


def _products(groups: Iterable[list[Process]], peak_of: PeakOf) -> list[Row]:
    """The matrix products of all runs, also of those that a newer run hides."""
    return [build_row(members, peak_of) for members in groups if members[0].job.workload == "gemm"]


def _with_speedup(row: Row, cpus: Sequence[Row], all_runs: bool, baseline: str | None) -> Row:
    """The row against the first of the baselines of the same work, fastest first; where all runs are listed, of its own run."""
    if not row.costs:
        return row
    own = [cpu for cpu in cpus if cpu.run_id == row.run_id] if all_runs else []
    base = next(iter(own or cpus), None)
    if row.job.processes > 1:
        return row.with_reason("speedup", SEVERAL_PROCESSES)
    if base is None:
        reason = (
            f"no row of the same work at {baseline}" if baseline else "no CPU row of the same work on the same machine"
        )
        return row.with_reason("speedup", reason)
    speedup = Speedup(
        ratio=stats.ratio(base.costs, row.costs),
        baseline=base.device,
        baseline_threads=base.job.threads,
        baseline_torch=base.software.torch,
        is_baseline=base is row,
    )
    return dataclasses.replace(row, speedup=speedup)


def _speed(row: Row) -> tuple[float, str, str]:
    return stats.geometric(list(row.costs.values())).value, row.row_key, row.run_id


def _derive_published(
    published_rows: Sequence[PublishedRow], published_cpu: PublishedRow | None
) -> tuple[PublishedResult, ...]:
    base = None if published_cpu is None else published_cpu.job_seconds
    found = []
    for row in dict.fromkeys(published_rows):
        seconds = row.job_seconds
        found.append(
            PublishedResult(
                published=row,
                flops_per_second=None if not seconds or row.job_flops is None else row.job_flops / seconds,
                speedup=None if not seconds or base is None else base / seconds,
            )
        )
    return tuple(found)


def _order(row: Row) -> tuple[object, ...]:
    """CPU first and slowest first, as in the lecture's table; ties by name, so that the order is total."""
    seconds = row.step_seconds.value if row.step_seconds else 0.0
    return (
        *(row.machine.cpu_name, row.machine.id, row.device.kind != "cpu", _PRECISIONS.index(row.job.precision)),
        *(row.job.size or 0, -seconds, row.row_key, row.protocol, row.created_at, row.run_id),
    )
