"""One run against a stored baseline: a cheap screen, never the judge of a slowdown.

*Times* are held against a prediction interval over at least 8 stored runs (`analysis.prediction_interval`): a run outside it is
suspicious, which alone fails nothing and asks for the paired check. 2.5 % of good runs are on each side, for each row.
*Deterministic metrics* have an exact rule: model FLOPs, parameters, operators and the allocator's peak must be what the
stored runs had (where those differed among themselves, between their least and their most), and every planned job must
have an ok record. *Accuracy* has a band: the wider of the prediction interval between runs and of Wilson's interval for
the test images, both of 99.8 %. Rows measured under other conditions are refused, not judged.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cnnbench import units
from cnnbench.analysis import stats
from cnnbench.analysis.conditions import find_differences, read_conditions
from cnnbench.analysis.prediction_interval import (
    LEAST_RUNS,
    ROUNDING,
    Prediction,
    compare_with_prediction,
    predict_mean,
    predict_next_run,
)
from cnnbench.analysis.process_table import Process
from cnnbench.errors import ExitCode
from cnnbench.regression.saved_baseline import (
    RowRun,
    SavedBaseline,
    SavedProcess,
    SavedRow,
    SavedRun,
    describe_differences,
    make_saved_process,
)
from cnnbench.regression.verdict import STEP_METRIC
from cnnbench.schema import Job, current_suite_name

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
    run: SavedRun
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
    def obstacle(self) -> str | None:
        """Why the run's code cannot be measured beside the baseline's, as far as the records tell; None where it may be."""
        base, head = self.baseline.newest.clean_commit, self.run.clean_commit
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
        base, head = self.baseline.newest.clean_commit or "", self.run.clean_commit or ""
        command = f"cnnbench check {self._suite} --base {base[:12]} --head {head[:12]}"
        return self.obstacle or f"Both commits measured side by side settle it: `{command}`"

    @property
    def _suite(self) -> str:
        return shlex.quote(self.run.suites[0]) if len(self.run.suites) == 1 else "SUITE"


def worst_exit_code(codes: Iterable[ExitCode]) -> ExitCode:
    """The code that several findings end with together: the first of 1, 3, 5, 4 that is among them, else 0."""
    known = set(codes)
    return next((code for _, code in _CODES if code in known), ExitCode.DONE)


def screen_run(baseline: SavedBaseline, run: SavedRun, processes: Sequence[Process]) -> ScreeningResult:
    """The processes of one run against the baseline, row by row; their order changes nothing.

    A run that is one of the baseline's own is within its times by that alone: it was accepted when the baseline was saved.
    """
    by_row: dict[tuple[str, int], list[Process]] = {}
    for process in sorted(processes, key=lambda each: (each.job.round, each.index, each.attempt)):
        by_row.setdefault((process.row_key, process.protocol), []).append(process)
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


def _is_expected(row: SavedRow, baseline: SavedBaseline, run: SavedRun) -> bool:
    """Whether a stored run of the same suites and options had the row: the same command should measure it again."""
    wanted = (_suites_today(run), run.options)
    asked = {each.run_id for each in baseline.runs if (_suites_today(each), each.options) == wanted}
    return any(each.run_id in asked for each in row.runs)


def _suites_today(run: SavedRun) -> tuple[str, ...]:
    """The run's suites by today's names, so that a renamed suite still expects the rows that it had."""
    return tuple(map(current_suite_name, run.suites))


def _screen_row(row: SavedRow | None, run: SavedRun, members: Sequence[Process]) -> list[MetricResult]:
    job = members[0].job.model_copy(update={"seed": 0, "round": 0})
    if row is not None and (found := find_differences(row.conditions, read_conditions(members[0]))):
        return [
            MetricResult(job, "conditions", MetricStatus.NOT_COMPARABLE, note=describe_differences(found, "stored"))
        ]
    good = [figures for process in members if (figures := make_saved_process(process)) is not None]
    findings = [_screen_records(job, members, len(good))]
    if good:
        findings.append(_screen_step(job, row, run, good))
    if good and row is not None:
        findings += [
            _screen_exact_metric(job, name, read, row, good)
            for name, read in EXACT_METRICS.items()
            if _is_known(read, row, good)
        ]
        findings += _screen_accuracy(job, row, good)
    return findings


def _screen_records(job: Job, members: Sequence[Process], good: int) -> MetricResult:
    planned = len({process.index for process in members})
    expected = ExpectedRange(planned, planned, 0)
    if good >= planned:
        return MetricResult(job, "records", MetricStatus.WITHIN, good, expected)
    bad = [process for process in members if make_saved_process(process) is None]
    ends = Counter(process.status for process in bad)
    note = ", ".join(f"{units.count(n)} {'without a time' if end == 'ok' else end}" for end, n in sorted(ends.items()))
    reason = next((process.message for process in bad if process.message), None)
    note = note if reason is None else f"{note}: {reason}"
    return MetricResult(job, "records", MetricStatus.MISSING, good, expected, note)


def _screen_step(job: Job, row: SavedRow | None, run: SavedRun, good: Sequence[SavedProcess]) -> MetricResult:
    """The median step against the next run's range; every run gives as many processes as the one with the fewest."""
    runs = () if row is None else row.runs
    found = None if row is None else step_range(row, len(good))
    if found is None:
        note = f"{len(runs)} stored; a range needs {LEAST_RUNS}"
        return MetricResult(job, STEP_METRIC, MetricStatus.TOO_FEW, _mean_step(good), None, note)
    value, expected = _mean_step(good[: found.processes]), ExpectedRange(found.low, found.high, found.runs)
    if run.run_id in {each.run_id for each in runs}:
        return MetricResult(job, STEP_METRIC, MetricStatus.WITHIN, value, expected, "one of the stored runs")
    standing = {-1: MetricStatus.FASTER, 0: MetricStatus.WITHIN, 1: MetricStatus.SLOWER}[
        compare_with_prediction(value, found)
    ]
    return MetricResult(job, STEP_METRIC, standing, value, expected)


def step_range(row: SavedRow, processes: int | None = None) -> Prediction | None:
    """Where the next run's median step will fall if it has so many processes; None below 8 stored runs."""
    return predict_next_run([[each.median_step_seconds for each in run.processes] for run in row.runs], processes)


def _mean_step(good: Sequence[SavedProcess]) -> float:
    return stats.geometric([process.median_step_seconds for process in good]).value


CountReader = Callable[[SavedProcess], int | None]
EXACT_METRICS: Mapping[str, CountReader] = {
    "model FLOPs": lambda process: process.flops_per_step,
    "parameters": lambda process: process.parameters,
    "operators": lambda process: process.operators_per_step,
    "device peak": lambda process: process.device_peak_bytes,
}
"""Metrics that equal work on equal conditions repeats to the last digit."""


def _is_known(read: CountReader, row: SavedRow, good: Sequence[SavedProcess]) -> bool:
    return any(read(process) is not None for process in (*_list_processes(row.runs), *good))


def _list_processes(runs: Sequence[RowRun]) -> list[SavedProcess]:
    return [process for run in runs for process in run.processes]


def _screen_exact_metric(
    job: Job, metric: str, read: CountReader, row: SavedRow, good: Sequence[SavedProcess]
) -> MetricResult:
    """The value farthest outside what was stored speaks for the run."""
    before = [value for process in _list_processes(row.runs) if (value := read(process)) is not None]
    now = [value for process in good if (value := read(process)) is not None]
    if not before:
        return MetricResult(job, metric, MetricStatus.TOO_FEW, max(now), None, "the stored runs have none")
    expected = ExpectedRange(min(before), max(before), len(row.runs))
    if len(now) < len(good):
        return MetricResult(job, metric, MetricStatus.MISSING, None, expected, "not recorded")
    value = max(now, key=lambda each: (max(expected.low - each, each - expected.high), each))
    inside = expected.low <= value <= expected.high
    return MetricResult(job, metric, MetricStatus.WITHIN if inside else MetricStatus.CHANGED, value, expected)


def _screen_accuracy(job: Job, row: SavedRow, good: Sequence[SavedProcess]) -> list[MetricResult]:
    """The mean over the run's processes against the band; nothing where accuracy was never measured."""
    metric, runs = "accuracy", _keep_evaluated(row)
    now = [each for each in good if _accuracy_of_process(each) is not None]
    if not runs:
        return []
    if len(now) < len(good):
        return [MetricResult(job, metric, MetricStatus.MISSING, note="not recorded")]
    if len({(each.test_images, each.accuracy_data) for some in (*runs, now) for each in some}) != 1:
        return [MetricResult(job, metric, MetricStatus.CHANGED, _mean_accuracy(now), note="evaluated on other images")]
    fewest = min(len(now), *map(len, runs))
    value, band = _mean_accuracy(now[:fewest]), accuracy_band(row, fewest)
    if band is None:
        note = f"{len(runs)} stored; a band needs {LEAST_RUNS}"
        return [MetricResult(job, metric, MetricStatus.TOO_FEW, value, None, note)]
    standing = MetricStatus.WITHIN if band[0] - ROUNDING <= value <= band[1] + ROUNDING else MetricStatus.CHANGED
    return [MetricResult(job, metric, standing, value, ExpectedRange(*band, len(runs)))]


def accuracy_band(row: SavedRow, processes: int | None = None) -> tuple[float, float] | None:
    """Where the next run's mean accuracy may be; None below 8 stored runs with one."""
    runs = _keep_evaluated(row)
    if len(runs) < LEAST_RUNS:
        return None
    fewest = min(processes or len(runs[0]), *map(len, runs))
    mean, low, high = predict_mean([_mean_accuracy(run[:fewest]) for run in runs], ACCURACY_TAIL)
    images = runs[0][0].test_images or 1
    sampling = stats.wilson(round(mean * images), images, 1 - 2 * ACCURACY_TAIL)
    return max(0.0, min(low, sampling.low or 0.0)), min(1.0, max(high, 1.0 if sampling.high is None else sampling.high))


def _keep_evaluated(row: SavedRow) -> list[list[SavedProcess]]:
    """Each stored run's processes with an accuracy; runs without any are left out."""
    found = ([each for each in run.processes if _accuracy_of_process(each) is not None] for run in row.runs)
    return [run for run in found if run]


def _accuracy_of_process(process: SavedProcess) -> float | None:
    if process.test_correct is None or process.test_images is None or process.test_correct > process.test_images:
        return None
    return process.test_correct / process.test_images


def _mean_accuracy(processes: Sequence[SavedProcess]) -> float:
    return stats.mean_share([share for each in processes if (share := _accuracy_of_process(each)) is not None]).value
