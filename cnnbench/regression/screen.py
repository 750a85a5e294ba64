"""One run against a stored baseline: a cheap screen, never the judge of a slowdown.

*Times* are held against a prediction interval over at least 8 stored runs (`analysis.stats`): a run outside it is
suspicious, which alone fails nothing and asks for the paired check. 2.5 % of good runs are on each side, for each row.
*Deterministic metrics* have an exact rule: model FLOPs, parameters, operators and the allocator's peak must be what the
stored runs had (where those differed among themselves, between their least and their most), and every planned job must
have an ok record. *Accuracy* has a band: the wider of the prediction interval between runs and of Wilson's interval for
the test images, both of 99.8 %. Rows measured under other conditions are refused, not judged.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cnnbench import units
from cnnbench.analysis import stats
from cnnbench.analysis.metrics import step_flops
from cnnbench.analysis.process_table import Process
from cnnbench.analysis.ratio import find_differences, group_by
from cnnbench.analysis.stats import (
    LEAST_RUNS,
    ROUNDING,
    Prediction,
    compare_with_prediction,
    predict_mean,
    predict_next_run,
)
from cnnbench.errors import ExitCode
from cnnbench.regression.saved_baseline import (
    BaselineRow,
    SavedBaseline,
    describe_differences,
    find_clean_commit,
    read_evaluation,
    read_median_step,
)
from cnnbench.regression.verdict import STEP_METRIC
from cnnbench.schema import DataKind, Job, RunHeader, current_suite_name

ACCURACY_TAIL = 0.001
"""Of good runs beyond each end of the accuracy band: outside is a finding, so false alarms must be rare."""


class MetricStatus(StrEnum):
    """What a metric of the run is against the baseline."""

    WITHIN = "within"
    SLOWER = "suspicious: slower"
    FASTER = "suspicious: faster"
    CHANGED = "changed"
    MISSING = "missing"
    NOT_COMPARABLE = "not comparable"
    TOO_FEW = "too few runs"


SUSPICIONS = (MetricStatus.SLOWER, MetricStatus.FASTER)
_CODES = (
    (MetricStatus.CHANGED, ExitCode.FINDING),
    (MetricStatus.NOT_COMPARABLE, ExitCode.UNFIT),
    (MetricStatus.MISSING, ExitCode.JOB_FAILED),
    (MetricStatus.TOO_FEW, ExitCode.INCONCLUSIVE),
)
"""The first that occurs decides. Suspicions do not: the paired check settles them, where it can be made."""


@dataclass(frozen=True)
class ExpectedRange:
    """What a metric should be, in its unit: from `low` to `high`, the same where it is exact. `runs` is how many say so."""

    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class MetricResult:
    """One metric of one row. `value` is this run's, in SI units or as a share; None where there is none."""

    job: Job
    metric: str
    status: MetricStatus
    value: float | None = None
    expected: ExpectedRange | None = None
    note: str = ""


@dataclass(frozen=True)
class ScreeningResult:
    """A run held against a baseline."""

    baseline: SavedBaseline
    run: RunHeader
    findings: tuple[MetricResult, ...]
    elsewhere: int = 0
    """Stored rows that no stored run of this run's suites and options has: nothing to expect here."""

    @property
    def exit_code(self) -> ExitCode:
        """1 changed, 3 not comparable, 5 missing, 4 too few runs, in this order; 0 within, or merely suspicious."""
        standings = {found.status for found in self.findings}
        return worst_exit_code(code for standing, code in _CODES if standing in standings)

    @property
    def suspicious(self) -> tuple[Job, ...]:
        """The rows whose time asks for the paired check, their seed and round 0."""
        return tuple(found.job for found in self.findings if found.status in SUSPICIONS)

    @property
    def commits(self) -> tuple[str | None, str | None]:
        """The clean commits of the baseline's newest run and of this one; None where there is none."""
        return find_clean_commit(self.baseline.newest), find_clean_commit(self.run)

    @property
    def obstacle(self) -> str | None:
        """Why the run's code cannot be measured beside the baseline's, as far as the records tell; None where it may be."""
        base, head = self.commits
        if base is None:
            return (
                "The stored runs name no commit without local changes, so there is no base to measure against: this is a "
                "warning. Measure again; save a baseline from a clean commit to have it settled"
            )
        if base == head:
            return (
                "The code is the baseline's own commit, so the machine changed or had a bad hour, or it is one of the 2.5 % on "
                "each side: see `cnnbench doctor`, and measure again"
            )
        if head is None:
            return (
                "The run was of code that no commit holds, so it cannot be measured again as it was: this is a warning. "
                f"`cnnbench check {self._suite} --base {base[:12]}` measures the working tree as it is now"
            )
        return None

    @property
    def advice(self) -> str | None:
        """What settles a suspicion; None where there is none."""
        if not self.suspicious:
            return None
        base, head = (commit or "" for commit in self.commits)
        command = f"cnnbench check {self._suite} --base {base[:12]} --head {head[:12]}"
        return self.obstacle or f"Both commits measured side by side settle it: `{command}`"

    @property
    def _suite(self) -> str:
        return shlex.quote(*self.run.suites) if len(self.run.suites) == 1 else "SUITE"


def worst_exit_code(codes: Iterable[ExitCode]) -> ExitCode:
    """The code that several findings end with together: the first of 1, 3, 5, 4 that is among them, else 0."""
    known = set(codes)
    return next((code for _, code in _CODES if code in known), ExitCode.DONE)


def screen_run(baseline: SavedBaseline, run: RunHeader, processes: Sequence[Process]) -> ScreeningResult:
    """The processes of one run against the baseline, row by row; their order changes nothing.

    A run that is one of the baseline's own is within its times by that alone: it was accepted when the baseline was saved.
    """
    ordered = sorted(processes, key=lambda each: (each.job.round, each.index, each.attempt))
    by_row = group_by(ordered, lambda each: (each.row_key, each.protocol))
    rows = {row.job.row_key: row for row in baseline.rows}
    findings: list[MetricResult] = []
    for (row_key, _), members in sorted(by_row.items()):
        findings += _screen_row(rows.get(row_key), run, members)
    ran = {row_key for row_key, _ in by_row}
    absent = [row for key, row in sorted(rows.items()) if key not in ran]
    expected = [row for row in absent if _is_expected(row, baseline, run)]
    findings += [
        MetricResult(row.job, "records", MetricStatus.MISSING, note="the run did not plan this row") for row in expected
    ]
    return ScreeningResult(baseline, run, tuple(findings), len(absent) - len(expected))


def _is_expected(row: BaselineRow, baseline: SavedBaseline, run: RunHeader) -> bool:
    """Whether a stored run of the same suites and options had the row: the same command should measure it again."""
    wanted = _describe_command(run)
    return any(each.run_id in row.run_ids and _describe_command(each) == wanted for each in baseline.runs)


def _describe_command(run: RunHeader) -> tuple[list[str], Mapping[str, str]]:
    """What was asked for. Suites have today's names, so that a renamed suite still expects the rows that it had."""
    return [current_suite_name(suite) for suite in sorted(run.suites)], run.options


def _screen_row(row: BaselineRow | None, run: RunHeader, members: Sequence[Process]) -> list[MetricResult]:
    job = members[0].job.model_copy(update={"seed": 0, "round": 0})
    if row is not None and (found := find_differences(row.conditions, members[0].conditions)):
        return [
            MetricResult(job, "conditions", MetricStatus.NOT_COMPARABLE, note=describe_differences(found, "stored"))
        ]
    good = [process for process in members if read_median_step(process) is not None]
    findings = [_screen_records(job, members, len(good))]
    if good:
        findings.append(_screen_step(job, row, run, good))
    if good and row is not None:
        exact = (_screen_exact_metric(job, metric, row, good) for metric in EXACT_METRICS)
        findings += [each for each in exact if each is not None]
        findings += _screen_accuracy(job, row, good)
    return findings


def _screen_records(job: Job, members: Sequence[Process], good: int) -> MetricResult:
    planned = len({process.index for process in members})
    expected = ExpectedRange(planned, planned, 0)
    if good >= planned:
        return MetricResult(job, "records", MetricStatus.WITHIN, good, expected)
    bad = [process for process in members if read_median_step(process) is None]
    ends = Counter(process.status for process in bad)
    note = ", ".join(f"{units.count(n)} {'without a time' if end == 'ok' else end}" for end, n in sorted(ends.items()))
    reason = next((process.message for process in bad if process.message), None)
    note = note if reason is None else f"{note}: {reason}"
    return MetricResult(job, "records", MetricStatus.MISSING, good, expected, note)


def _screen_step(job: Job, row: BaselineRow | None, run: RunHeader, good: Sequence[Process]) -> MetricResult:
    """The median step against the next run's range; every run gives as many processes as the one with the fewest."""
    found = None if row is None else step_range(row, len(good))
    if row is None or found is None:
        note = f"{0 if row is None else len(row.runs)} stored; a range needs {LEAST_RUNS}"
        return MetricResult(job, STEP_METRIC, MetricStatus.TOO_FEW, _mean_step(good), None, note)
    value, expected = _mean_step(good[: found.processes]), ExpectedRange(found.low, found.high, found.runs)
    if run.run_id in row.run_ids:
        return MetricResult(job, STEP_METRIC, MetricStatus.WITHIN, value, expected, "one of the stored runs")
    statuses = {-1: MetricStatus.FASTER, 0: MetricStatus.WITHIN, 1: MetricStatus.SLOWER}
    status = statuses[compare_with_prediction(value, found)]
    return MetricResult(job, STEP_METRIC, status, value, expected)


def step_range(row: BaselineRow, processes: int | None = None) -> Prediction | None:
    """Where the next run's median step will fall if it has so many processes; None below 8 stored runs."""
    return predict_next_run([_list_median_steps(run) for run in row.runs], processes)


def _list_median_steps(processes: Sequence[Process]) -> list[float]:
    return [seconds for process in processes if (seconds := read_median_step(process)) is not None]


def _mean_step(good: Sequence[Process]) -> float:
    return stats.geometric(_list_median_steps(good)).value


FLOPS = "model FLOPs"
_COUNTS = {"parameters": "parameters", "operators": "operators_per_step", "device peak": "device_peak_bytes"}
"""Other exact metrics, by the field of a process's figures that has them."""
EXACT_METRICS = (FLOPS, *_COUNTS)
"""Metrics that equal work on equal conditions repeats to the last digit."""


def list_stored_counts(metric: str, row: BaselineRow) -> list[int]:
    """The values that the stored runs had; model FLOPs as they were counted when the baseline was saved."""
    if metric == FLOPS:
        return [] if row.step_flops is None else [row.step_flops]
    return _list_counts(metric, row.processes)


def _list_counts(metric: str, processes: Sequence[Process]) -> list[int]:
    found = (
        step_flops(each.job) if metric == FLOPS else getattr(each.metrics, _COUNTS[metric], None) for each in processes
    )
    return [value for value in found if value is not None]


def _screen_exact_metric(job: Job, metric: str, row: BaselineRow, good: Sequence[Process]) -> MetricResult | None:
    """The value farthest outside what was stored speaks for the run; None where neither has any."""
    before, now = list_stored_counts(metric, row), _list_counts(metric, good)
    if not before:
        note = "the stored runs have none"
        return MetricResult(job, metric, MetricStatus.TOO_FEW, max(now), None, note) if now else None
    expected = ExpectedRange(min(before), max(before), len(row.runs))
    if len(now) < len(good):
        return MetricResult(job, metric, MetricStatus.MISSING, None, expected, "not recorded")
    value = max(now, key=lambda each: (max(expected.low - each, each - expected.high), each))
    inside = expected.low <= value <= expected.high
    return MetricResult(job, metric, MetricStatus.WITHIN if inside else MetricStatus.CHANGED, value, expected)


def _screen_accuracy(job: Job, row: BaselineRow, good: Sequence[Process]) -> list[MetricResult]:
    """The mean over the run's processes against the band; nothing where accuracy was never measured."""
    metric, runs = "accuracy", _keep_evaluated(row)
    now = [each for each in good if read_evaluation(each) is not None]
    if not runs:
        return []
    if len(now) < len(good):
        return [MetricResult(job, metric, MetricStatus.MISSING, note="not recorded")]
    if len({_read_test_set(each) for some in (*runs, now) for each in some}) != 1:
        return [MetricResult(job, metric, MetricStatus.CHANGED, _mean_accuracy(now), note="evaluated on other images")]
    fewest = min(len(now), *map(len, runs))
    value, band = _mean_accuracy(now[:fewest]), accuracy_band(row, fewest)
    if band is None:
        note = f"{len(runs)} stored; a band needs {LEAST_RUNS}"
        return [MetricResult(job, metric, MetricStatus.TOO_FEW, value, None, note)]
    standing = MetricStatus.WITHIN if band[0] - ROUNDING <= value <= band[1] + ROUNDING else MetricStatus.CHANGED
    return [MetricResult(job, metric, standing, value, ExpectedRange(*band, len(runs)))]


def accuracy_band(row: BaselineRow, processes: int | None = None) -> tuple[float, float] | None:
    """Where the next run's mean accuracy may be; None below 8 stored runs with one."""
    runs = _keep_evaluated(row)
    if len(runs) < LEAST_RUNS:
        return None
    fewest = min(processes or len(runs[0]), *map(len, runs))
    mean, low, high = predict_mean([_mean_accuracy(run[:fewest]) for run in runs], ACCURACY_TAIL)
    images, _ = _read_test_set(runs[0][0])
    sampling = stats.wilson(round(mean * images), images, 1 - 2 * ACCURACY_TAIL)
    return max(0.0, min(low, sampling.low or 0.0)), min(1.0, max(high, 1.0 if sampling.high is None else sampling.high))


def _keep_evaluated(row: BaselineRow) -> list[list[Process]]:
    """Each stored run's processes with an accuracy; runs without any are left out."""
    found = ([each for each in run if read_evaluation(each) is not None] for run in row.runs)
    return [run for run in found if run]


def _read_test_set(process: Process) -> tuple[int, DataKind | None]:
    """How many images of what data the accuracy is of."""
    test = read_evaluation(process)
    data = None if process.metrics is None else process.metrics.trial.accuracy_data
    return (1 if test is None else test.images), data


def _mean_accuracy(processes: Sequence[Process]) -> float:
    tests = [test for each in processes if (test := read_evaluation(each)) is not None]
    return stats.mean_share([test.correct / test.images for test in tests]).value
