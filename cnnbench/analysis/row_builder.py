"""Processes in, a row out: each metric combined over the repeats of one job, and why those that are missing are."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from cnnbench import validity
from cnnbench.analysis import doubts, metrics, stats
from cnnbench.analysis.energy import estimate_energy_use
from cnnbench.analysis.metrics import ProcessMetrics
from cnnbench.analysis.process_table import Process
from cnnbench.analysis.rows import Accuracy, PeakOf, Row, is_whole_job
from cnnbench.analysis.time_to_accuracy import TimeToAccuracy, combine_seeds
from cnnbench.schema import Job


def build_row(members: Sequence[Process], peak_of: PeakOf) -> Row:
    """Build the row of these processes: repeats of one job, all of one run and one protocol."""
    members = sorted(members, key=lambda process: (process.job.round, process.index, process.attempt))
    first = members[0]
    good = [(process, process.metrics) for process in members if process.status == "ok" and process.metrics]
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
        outcomes=dict(sorted(Counter(process.status for process in members).items())),
        failures=_failures(members),
        training_outcomes=tuple(
            process.training_outcome for process in members if process.training_outcome is not None
        ),
        reasons=tuple(dict.fromkeys(each.message for each in members if each.status != "ok" and each.message)),
        peak_flops_per_second=None
        if peak.flops_per_second is None
        else peak.flops_per_second * validity.devices_of(first.job),
        peak_origin="; ".join(part for part in (peak.formula, peak.source) if part) or None,
        time_to_accuracy=seeds,
        missing=missing | _explain_missing_target(seeds),
        doubts=doubts.merge_row_doubts(len(good), [process.doubts for process, _ in good]),
    )
    return _with_metrics(row, good) if good else row


def _failures(members: Sequence[Process]) -> tuple[str, ...]:
    """Each way of failing once, with the rounds it happened in: `oom in round 3: ...`."""
    rounds: dict[tuple[str, str], list[int]] = {}
    for process in members:
        message = process.message if process.status != "ok" else None
        if process.status == "ok" and process.metrics is None:
            message = "no usable time was recorded"
        if message:
            rounds.setdefault((process.status, message), []).append(process.job.round + 1)
    return tuple(
        f"{status} in round{'s' if len(where) > 1 else ''} {', '.join(map(str, where))}: {message}"
        for (status, message), where in rounds.items()
    )


def _with_metrics(row: Row, measured: Sequence[tuple[Process, ProcessMetrics]]) -> Row:
    """Combine the processes that ended well; there is at least one."""
    good = [each for _, each in measured]
    values, missing = _combine(row, good)
    accuracy, why_no_accuracy = _accuracy(row.job, good)
    why_no_energy = next(filter(None, (each.energy_missing for each in good)), None)
    reasons = {**missing, "accuracy": why_no_accuracy, "energy": why_no_energy}
    return dataclasses.replace(
        row,
        values=values,
        costs=_by_round(measured, "job_seconds" if is_whole_job(row.job) else "step_seconds"),
        rates=_by_round(measured, "flops_per_second"),
        energy=estimate_energy_use([each.energy for each in good if each.energy], row.job.batch_size),
        copies=tuple(each.copy_seconds for each in good if each.copy_seconds),
        accuracy=accuracy,
        missing={**row.missing, **{column: reason for column, reason in reasons.items() if reason is not None}},
        floors=_median_floors([each.trial.floors for each in good]),
    )


def _combine(row: Row, good: Sequence[ProcessMetrics]) -> tuple[dict[str, object], dict[str, str]]:
    """Each metric's value over the processes, and by column why some have none."""
    values: dict[str, object] = {}
    missing: dict[str, str] = {}
    for metric in metrics.METRICS:
        if not metric.is_measured or metric.over is None:
            continue
        found = [each.values[metric.name] for each in good if metric.name in each.values]
        reason = None if metric.why_missing is None else metric.why_missing(row, found, good)
        if reason is not None:
            missing[metric.column_key] = reason
        elif found:
            values[metric.name] = metric.over(found)
    return values, missing


def _explain_missing_target(seeds: TimeToAccuracy | None) -> dict[str, str]:
    """Why there is no mean, or no median, of the time to accuracy."""
    if seeds is None or not seeds.missed:
        return {}
    many = f"{len(seeds.missed)} of {len(seeds.seed_results)} seeds missed the target"
    found = {"mean": f"{many}: their time is not known, and a mean of the others would leave it out"}
    if seeds.seconds.value is None:
        found["median"] = f"{many}: the middle one is beyond the epoch limit"
    return found


def _median_floors(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each floor's median over the processes that measured it."""
    names = dict.fromkeys(name for floors in found for name in floors)
    return {name: statistics.median(floors[name] for floors in found if name in floors) for name in names}


def _by_round(measured: Sequence[tuple[Process, ProcessMetrics]], metric: str) -> dict[tuple[str, int], float]:
    """Collect the metric by (run, round) from the processes that have it."""
    by_round: dict[tuple[str, int], list[float]] = {}
    for process, found in measured:
        if metric in found.values:
            by_round.setdefault((process.run_id, process.job.round), []).append(found.values[metric])
    return {key: stats.geometric(values).value for key, values in by_round.items()}


def _accuracy(job: Job, good: Sequence[ProcessMetrics]) -> tuple[Accuracy | None, str | None]:
    tests = [(each.test, each.accuracy_data) for each in good if each.test is not None and each.test.images > 0]
    if not tests:
        return None, "no final evaluation was asked for" if not job.final_evaluation else "no evaluation was recorded"
    data = {kind for _, kind in tests}
    if len(data) > 1 or len({test.images for test, _ in tests}) > 1:
        return None, "the processes were evaluated on different images"
    wrong = [f"{test.correct} of {test.images}" for test, _ in tests if not 0 <= test.correct <= test.images]
    if wrong:
        return None, f"the record says {wrong[0]} images were right"
    shares = [test.correct / test.images for test, _ in tests]
    first = tests[0][0]
    share = stats.wilson(first.correct, first.images) if len(tests) == 1 else stats.mean_share(shares)
    after = [test.after_steps for test, _ in tests]
    return Accuracy(share, first.images, (min(after), max(after)), data.pop() or job.data), None
