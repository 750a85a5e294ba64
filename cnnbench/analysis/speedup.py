"""Processes go in, rows come out: the repeats of one job on one processor become estimates, and rows of equal work are
divided.

A row holds one run's processes of one job on one processor: each metric combined over the repeats, and the reason for
each missing one. Its speed-up is the CPU baseline's time over its own, where the baseline is the fastest CPU row of the
*same work* on the *same machine*; without one there is no speed-up, and never one over something else. The one
exception is named as such: the ratio to a published reference, where the whole job has the same images and FLOPs. Only
`ok` processes enter a mean; all others are counted in `Row.outcomes`.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from cnnbench import naming, validity
from cnnbench.analysis import doubts, metrics, seed_accuracy, stats
from cnnbench.analysis.ceiling import with_ceilings
from cnnbench.analysis.metrics import ProcessMetrics
from cnnbench.analysis.process_table import NOT_RUN, Process
from cnnbench.analysis.ratio import PublishedResult, divide_rows, group_by, order_by_speed, share_work
from cnnbench.analysis.rows import (
    Accuracy,
    PeakOf,
    Row,
    Speedup,
    TimeToAccuracy,
    combine_seeds,
    estimate_energy_use,
)
from cnnbench.analysis.run_spread import LEAST_HISTORY, estimate_over_runs
from cnnbench.analysis.same_host import relate_hosts
from cnnbench.errors import ComparisonError
from cnnbench.machine.peaks import theoretical_peak
from cnnbench.schema import Job, Precision, PublishedRow

UNFIT_BASELINE = "every row to divide by was measured while the machine was unfit"


@dataclass(frozen=True)
class Comparison:
    """All rows, in an order that does not depend on the records'."""

    rows: tuple[Row, ...]
    published_rows: tuple[PublishedResult, ...]
    published_cpu: PublishedRow | None
    """The published CPU that others are compared with: the slowest CPU that has a time."""
    baseline: str | None = None
    """The key that speed-ups are over; None means each machine's own CPU."""


def compute_speedups(
    processes: Iterable[Process],
    published_rows: Sequence[PublishedRow] = (),
    *,
    peak_of: PeakOf = theoretical_peak,
    all_runs: bool = False,
    baseline: str | None = None,
) -> Comparison:
    """Compute the rows with their speed-ups.

    If a row has several runs, the newest with a finished process is used, unless `all_runs`. Runs are not pooled:
    processes of two days share neither rounds nor the machine's state, and their mean would hide it. `baseline` is a
    key MACHINE[/DEVICE[/THREADS]]: speed-ups are then over the fastest row of the same work there, on any machine,
    instead of over the CPU of the row's own machine. Raises ComparisonError if that key matches no row.
    """
    groups = group_by(processes, lambda each: (each.machine_id, each.row_key, each.protocol, each.run_id))
    published_cpus = (row for row in published_rows if row.device_kind == "cpu" and row.job_seconds)
    published_cpu = max(published_cpus, key=lambda row: (row.job_seconds, row.processor), default=None)
    rows = []
    for members, others in _select_shown([members for _, members in sorted(groups.items())], all_runs):
        row = _divide_by_published(build_row(members, peak_of), published_cpu)
        rows.append(_with_runs(replace(row, other_runs=others), groups))
    products = [build_row(each, peak_of) for each in groups.values() if each[0].job.workload == "gemm"]
    rows = seed_accuracy.add_convergence_doubts(with_ceilings(rows, products))  # products of runs that are hidden too

    def share(row: Row) -> tuple[object, ...]:
        """Return what two rows share before one divides the other.

        The machine too, unless a baseline was named.
        """
        return None if baseline is not None else row.machine.id, *share_work(row)

    timed = sorted((row for row in rows if row.costs and _can_be_baseline(row, baseline)), key=order_by_speed)
    bases = group_by((row for row in timed if not row.unfit), share)
    unfit = {share(row) for row in timed} - set(bases)
    if baseline is not None and not timed:
        places = ", ".join(sorted({naming.place_key(row.machine.id, row.job) for row in rows})) or "none"
        raise ComparisonError(f"--relative-to {baseline}: no row of that machine and device; there are: {places}")
    found = (_with_speedup(row, bases.get(share(row), []), all_runs, baseline) for row in rows)
    divided = (
        row.with_reason("speedup", UNFIT_BASELINE) if share(row) in unfit and row.costs else row for row in found
    )
    cpu_seconds = None if published_cpu is None else published_cpu.job_seconds
    published = tuple(PublishedResult(row, cpu_seconds) for row in dict.fromkeys(published_rows))
    return Comparison(tuple(sorted(divided, key=_order)), published, published_cpu, baseline)


def _with_runs(row: Row, groups: Mapping[tuple[str, str, int, str], Sequence[Process]]) -> Row:
    """Add the mean step over the boot's runs of the row, if it has enough."""
    place = row.machine.id, row.row_key, row.protocol
    others = [members for (*key, run), members in groups.items() if (*key,) == place and run != row.run_id]
    same = [members for members in others if row.boot_id is not None and members[0].run.boot_id == row.boot_id]
    if row.step_seconds is None or len(same) + 1 < LEAST_HISTORY:
        return row
    rows = [
        each for each in (*map(build_row, same), row) if each.step_seconds and each.software.torch == row.software.torch
    ]
    found = estimate_over_runs(rows, [each.step_seconds.value for each in rows if each.step_seconds])
    return row if found is None else row.with_values(step_seconds_over_runs=found)


def _select_shown(groups: Sequence[list[Process]], all_runs: bool) -> Iterator[tuple[list[Process], int]]:
    """Choose the groups to show, each with the number of other runs of its row.

    A run that only planned the row, or was interrupted in it, does not replace one that finished a process.
    """
    if all_runs:
        yield from ((members, 0) for members in groups)
        return

    def age(members: Sequence[Process]) -> tuple[bool, str, str]:
        finished = any(process.status not in (NOT_RUN, "interrupted") for process in members)
        return finished, members[0].run.created_at, members[0].run_id

    for same in group_by(groups, lambda members: (members[0].machine_id, members[0].row_key)).values():
        runs = group_by(same, lambda members: members[0].run_id)
        newest = max(runs.values(), key=lambda protocols: max(map(age, protocols)))
        yield from ((members, len(runs) - 1) for members in newest)


def build_row(members: Sequence[Process], peak_of: PeakOf = theoretical_peak) -> Row:
    """Build the row of these processes, which are repeats of one job in one run under one protocol."""
    members = sorted(members, key=lambda process: (process.job.round, process.index, process.attempt))
    first = members[0]
    good = [process for process in members if process.metrics]
    peak = peak_of(first.device, first.machine, first.job.precision)
    seeds = combine_seeds(first.job, [process.seed_result for process in members if process.seed_result is not None])
    missing = {} if peak.flops_per_second is not None else {"peak": peak.reason or "not known"}
    row = Row(
        machine=first.machine,
        device=first.device,
        software=first.software,
        job=first.job,
        work_key=first.work_key,
        row_key=first.row_key,
        protocol=first.protocol,
        run_id=first.run_id,
        created_at=first.run.created_at,
        boot_id=first.run.boot_id,
        host_id=first.run.host_id,
        outcomes=dict(sorted(Counter(process.status for process in members).items())),
        failures=_describe_failures(members),
        training_outcomes=tuple(each.training_outcome for each in members if each.training_outcome is not None),
        reasons=tuple(dict.fromkeys(each.message for each in members if each.status != "ok" and each.message)),
        peak_flops_per_second=peak.flops_per_second and peak.flops_per_second * validity.devices_of(first.job),
        peak_origin="; ".join(part for part in (peak.formula, peak.source) if part) or None,
        time_to_accuracy=seeds,
        missing=missing | _explain_missing_target(seeds),
        doubts=doubts.merge_row_doubts([process.doubts for process in good]),
        unfit=sum(process.unfit is not None for process in good),
    )
    first_stage = sum(process.index < len(first.run.plan) for process in good)
    return _with_metrics(row, [process.metrics for process in good if process.metrics], first_stage) if good else row


def _describe_failures(members: Sequence[Process]) -> tuple[str, ...]:
    """List each way of failing once, with the rounds it happened in: `oom in round 3: ...`."""
    rounds = defaultdict(list)
    for process in members:
        message = process.message
        if process.status == "ok":
            message = "no usable time was recorded" if process.metrics is None else None
        if message:
            rounds[process.status, message].append(str(process.job.round + 1))
    return tuple(
        f"{status} in round{'s' if len(where) > 1 else ''} {', '.join(where)}: {message}"
        for (status, message), where in rounds.items()
    )


def _explain_missing_target(seeds: TimeToAccuracy | None) -> dict[str, str]:
    """Explain why there is no mean, or no median, of the time to accuracy."""
    if seeds is None or not seeds.missed:
        return {}
    many = f"{len(seeds.missed)} of {len(seeds.seed_results)} seeds missed the target"
    found = {"mean": f"{many}: their time is not known, and a mean of the others would leave it out"}
    if seeds.seconds.value is None:
        found["median"] = f"{many}: the middle one is beyond the epoch limit"
    return found


def _with_metrics(row: Row, good: Sequence[ProcessMetrics], first_stage: int) -> Row:
    """Combine the processes that ended well; there is at least one.

    The first ones were planned, and decided how many followed (`two_stage`). Ratios are of these alone: what is divided
    then has as many rounds as were planned, and an interval that no stopping has changed.
    """
    two_stages = stats.MINIMUM_FOR_INTERVAL <= first_stage < len(good)
    planned = good[:first_stage] if two_stages else good
    values = {}
    reasons = {}
    for metric in metrics.METRICS:
        if not metric.of or metric.over is None:
            continue
        found, why = [each.values[metric.name] for each in good if metric.name in each.values], metric.why_missing
        reason = why(row, found, good) if callable(why) else None if found else why.format(row)
        reasons[metric.column_key] = reason
        if found and not reason:
            stages = two_stages and metric.over is metrics.geometric_mean and len(found) == len(good)
            values[metric.name] = metrics.geometric_mean(found, first_stage) if stages else metric.over(found)
    accuracy = _estimate_accuracy(row.job, good)
    reasons["accuracy"] = accuracy if isinstance(accuracy, str) else None
    reasons["energy"] = next(filter(None, (each.energy_missing for each in good)), None)
    floors = dict.fromkeys(name for each in good for name in each.trial.floors)
    return replace(
        row,
        values=values,
        costs=_average_by_round(row, planned, "job_seconds" if row.job.divided_whole else "step_seconds"),
        rates={} if reasons["achieved"] else _average_by_round(row, planned, "flops_per_second"),
        energy=estimate_energy_use([each.energy for each in good if each.energy], row.job.batch_size),
        copies=tuple(each.copy_seconds for each in good if each.copy_seconds),
        accuracy=None if isinstance(accuracy, str) else accuracy,
        missing={**row.missing, **{column: reason for column, reason in reasons.items() if reason}},
        floors={
            name: statistics.median(each.trial.floors[name] for each in good if name in each.trial.floors)
            for name in floors
        },
    )


def _average_by_round(row: Row, good: Sequence[ProcessMetrics], metric: str) -> dict[stats.RoundKey, float]:
    """Average the metric by (run, round) over the processes that have it."""
    by_round = group_by((each for each in good if metric in each.values), lambda each: (row.run_id, each.job.round))
    return {key: stats.geometric([each.values[metric] for each in same]).value for key, same in by_round.items()}


def _estimate_accuracy(job: Job, good: Sequence[ProcessMetrics]) -> Accuracy | str:
    """Estimate the accuracy on test images, or say why there is none."""
    trials = [each.trial for each in good]
    found = [(each.test, each.accuracy_data) for each in trials if each.test is not None and each.test.images > 0]
    tests, data = [test for test, _ in found], {data for _, data in found}
    if any(trial.fit for trial in trials):
        return "a regression has no classes; its R² says how well it fits"
    if not tests:
        return "no final evaluation was asked for" if not job.final_evaluation else "no evaluation was recorded"
    if len(data) > 1 or len({test.images for test in tests}) > 1:
        return "the processes were evaluated on different images"
    wrong = [f"{test.correct} of {test.images}" for test in tests if not 0 <= test.correct <= test.images]
    if wrong:
        return f"the record has {wrong[0]} images right"
    after = [test.after_steps for test in tests]
    share = stats.estimate_accuracy([test.correct for test in tests], tests[0].images)
    return Accuracy(share, (min(after), max(after)), data.pop() or job.data)


def _divide_by_published(row: Row, published: PublishedRow | None) -> Row:
    """Add the published CPU's time over the row's own, or the reason why there is none."""
    if published is None or row.job.workload == "gemm":
        return row
    if is_published_job(row.job, published):
        found = divide_rows(PublishedResult(published, published.job_seconds), row)
        return replace(row, speedup_over_published=found)
    return row.with_reason("versus", f"not the job that the {published.processor} is assumed to have done")


def is_published_job(job: Job, published: PublishedRow) -> bool:
    """Check that the whole job is the one that the reference is assumed to have timed.

    The images and the model FLOPs must be equal.
    """
    steps, flops = job.job_steps, metrics.job_flops(job)
    if steps is None or flops is None or job.stop_when_all_right or job.clock == "accuracy":
        return False
    return steps * job.batch_size == published.job_images and flops == published.job_flops


def _can_be_baseline(row: Row, baseline: str | None) -> bool:
    """Check that the row is the machine's CPU, or matches whole parts of the key: `box/cpu/1` does not match
    `box/cpu/16`.

    Rows of several processes are never a baseline; scaling sets show what several processes add.
    """
    if row.job.processes > 1:
        return False
    if baseline is None:
        return row.device.kind == "cpu"
    return f"{naming.place_key(row.machine.id, row.job)}/".startswith(f"{baseline.rstrip('/')}/")


def _with_speedup(row: Row, bases: Sequence[Row], all_runs: bool, baseline: str | None) -> Row:
    """Divide the fastest baseline of the same work by the row.

    If all runs are listed, use the baseline of the row's own run.
    """
    if not row.costs:
        return row
    if row.job.processes > 1:
        reason = "several processes at once: the table of scaling or of copies compares them with one"
        return row.with_reason("speedup", reason)
    own = [base for base in bases if base.run_id == row.run_id] if all_runs else []
    for base in (own or bases)[:1]:
        if (ratio := divide_rows(base, row)) is not None:
            hosts = relate_hosts(base, row)
            speedup = Speedup(ratio, base.device, base.job.threads, base.software.torch, base is row, hosts)
            return replace(row, speedup=speedup)
    no_cpu = "no CPU row of the same work on the same machine"
    return row.with_reason("speedup", f"no row of the same work at {baseline}" if baseline else no_cpu)


def _order(row: Row) -> tuple[object, ...]:
    """Sort CPUs first and slowest first, as in the lecture's table.

    Ties by name, so that the order is total.
    """
    seconds = row.step_seconds.value if row.step_seconds else 0.0
    return (
        row.machine.cpu_name,
        row.machine.id,
        row.device.kind != "cpu",
        get_args(Precision).index(row.job.precision),
        row.job.size or 0,
        -seconds,
        row.row_key,
        row.protocol,
        row.created_at,
        row.run_id,
    )
