"""One run compared with a saved baseline: a cheap screen, which never decides whether something has become slower.

*Times* are compared with a prediction interval over at least 8 stored runs (`analysis.stats`): a run outside it is
suspicious, which alone is not a failure but calls for the paired check. 2.5 % of good runs are outside on each side,
for each row. *Deterministic metrics* have an exact rule: model FLOPs, parameters, operators and the allocator's peak
must be what the stored runs had (where those differed among themselves, between their least and their most), and every
planned job must have an ok record. *Accuracy* has a band: the wider of the prediction interval between runs and of
Wilson's interval for the test images, both of 99.8 %. Rows measured under other conditions are refused, not judged.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter

from cnnbench import units
from cnnbench.analysis.metrics import step_flops
from cnnbench.analysis.process_table import Process
from cnnbench.analysis.ratio import find_differences, group_by
from cnnbench.analysis.stats import (
    LEAST_RUNS,
    ROUNDING,
    Prediction,
    compare_with_prediction,
    geometric,
    mean_share,
    predict_mean,
    predict_next_run,
    wilson,
)
from cnnbench.errors import ExitCode
from cnnbench.regression.decision import STEP_METRIC
from cnnbench.regression.saved_baseline import (
    BaselineRow,
    SavedBaseline,
    describe_differences,
    find_clean_commit,
    read_median_step,
)
from cnnbench.schema import DataKind, Evaluation, Job, RunHeader, current_suite_name

ACCURACY_TAIL = 0.001
"""Share of good runs beyond each end of the accuracy band: outside is a finding, so false alarms must be rare."""


class MetricStatus(StrEnum):
    """The result of comparing a metric of the run with the baseline."""

    WITHIN = "within"
    SLOWER = "suspicious: slower"
    FASTER = "suspicious: faster"
    CHANGED = "changed"
    MISSING = "missing"
    NOT_COMPARABLE = "not comparable"
    TOO_FEW = "too few runs"


_CODES = {
    MetricStatus.CHANGED: ExitCode.FINDING,
    MetricStatus.NOT_COMPARABLE: ExitCode.UNFIT,
    MetricStatus.MISSING: ExitCode.JOB_FAILED,
    MetricStatus.TOO_FEW: ExitCode.INCONCLUSIVE,
}
"""The first that occurs decides. Suspicions do not: the paired check settles them, if it can be made."""


@dataclass(frozen=True)
class ExpectedRange:
    """What a metric should be, in its unit: from `low` to `high`, equal for an exact metric, from `runs` runs."""

    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class MetricResult:
    """One metric of one row. `value` is this run's, in SI units or as a share; None if it has none."""

    job: Job
    metric: str
    status: MetricStatus
    value: float | None = None
    expected: ExpectedRange | Prediction | None = None
    note: str = ""


@dataclass(frozen=True)
class ScreeningResult:
    """The result of comparing a run with a baseline."""

    baseline: SavedBaseline
    run: RunHeader
    findings: tuple[MetricResult, ...]
    elsewhere: int = 0
    """The number of stored rows that no stored run of this run's suites and options has, so that they are not expected
    here.
    """

    @property
    def exit_code(self) -> ExitCode:
        """1 changed, 3 not comparable, 5 missing, 4 too few runs, in this order.

        It is 0 within, or only suspicious.
        """
        return worst_exit_code(_CODES.get(found.status, ExitCode.DONE) for found in self.findings)

    @property
    def suspicious(self) -> tuple[Job, ...]:
        """The rows whose time calls for the paired check, with seed and round 0."""
        suspicions = (MetricStatus.SLOWER, MetricStatus.FASTER)
        return tuple(found.job for found in self.findings if found.status in suspicions)

    @property
    def commits(self) -> tuple[str | None, str | None]:
        """The clean commits of the baseline's newest run and of this one.

        None for a run without one.
        """
        return find_clean_commit(self.baseline.newest), find_clean_commit(self.run)

    @property
    def obstacle(self) -> str | None:
        """Why the run's code cannot be measured beside the baseline's, as far as the records show.

        None if it may be.
        """
        base, head = self.commits
        if base is None:
            return (
                "The stored runs name no commit without local changes, so there is no base to measure against: this is a "
                "warning. Measure again; a baseline saved from a clean commit lets the paired check settle it"
            )
        if base == head:
            return (
                "The code is the baseline's own commit, so the machine changed or was disturbed, or it is one of the 2.5 % on "
                "each side: see `cnnbench doctor`, and measure again"
            )
        if head is None:
            return (
                "No commit has the code of this run, so it cannot be measured again as it was: this is a warning. "
                f"`cnnbench check {self._suite} --base {base[:12]}` measures the working tree as it is now"
            )
        return None

    @property
    def advice(self) -> str | None:
        """What settles a suspicion; None if there is none."""
        if not self.suspicious:
            return None
        base, head = (commit or "" for commit in self.commits)
        command = f"cnnbench check {self._suite} --base {base[:12]} --head {head[:12]}"
        return self.obstacle or f"To settle it, measure both commits side by side: `{command}`"

    @property
    def _suite(self) -> str:
        return shlex.quote(*self.run.suites) if len(self.run.suites) == 1 else "SUITE"


def worst_exit_code(codes: Iterable[ExitCode]) -> ExitCode:
    """Combine the exit codes of several findings: the first of 1, 3, 5, 4 that is among them, else 0."""
    known = set(codes)
    return next((code for code in _CODES.values() if code in known), ExitCode.DONE)


def screen_run(baseline: SavedBaseline, run: RunHeader, processes: Sequence[Process]) -> ScreeningResult:
    """Compare the processes of one run with the baseline, row by row.

    Their order does not matter. A run that belongs to the baseline counts as within its times: it was accepted when the
    baseline was saved.
    """
    ordered = sorted(processes, key=attrgetter("job.round", "index", "attempt"))
    absent = {row.job.row_key: row for row in sorted(baseline.rows, key=attrgetter("job.row_key"))}
    rows = dict(absent)
    findings: list[MetricResult] = []
    for (row_key, _), members in sorted(group_by(ordered, attrgetter("row_key", "protocol")).items()):
        job = members[0].job.model_copy(update={"seed": 0, "round": 0})
        unknown = BaselineRow(job, members[0].conditions, (), None)
        findings += _screen_row(job, rows.get(row_key, unknown), members)
        absent.pop(row_key, None)
    # The same command should measure the rows of its stored runs again. Suites have today's names, so that a renamed
    # one still expects its former rows.
    commands = {
        each.run_id: ([current_suite_name(suite) for suite in sorted(each.suites)], each.options)
        for each in (*baseline.runs, run)
    }
    alike = {run_id for run_id, command in commands.items() if command == commands[run.run_id]}
    missed = [row.job for row in absent.values() if row.run_ids & alike]
    findings += [
        MetricResult(job, "records", MetricStatus.MISSING, note="the run did not plan this row") for job in missed
    ]
    return ScreeningResult(baseline, run, tuple(findings), len(absent) - len(missed))


def _screen_row(job: Job, row: BaselineRow, members: Sequence[Process]) -> Iterator[MetricResult]:
    if differences := find_differences(row.conditions, members[0].conditions):
        yield MetricResult(
            job, "conditions", MetricStatus.NOT_COMPARABLE, note=describe_differences(differences, "stored")
        )
        return
    good = [process for process in members if read_median_step(process) is not None]
    status, note, planned = MetricStatus.WITHIN, "", len({process.index for process in members})
    if len(good) < planned:
        status, bad = MetricStatus.MISSING, [each for each in members if read_median_step(each) is None]
        ends = Counter("without a time" if each.status == "ok" else each.status for each in bad)
        reason = next((f": {each.message}" for each in bad if each.message), "")
        note = ", ".join(f"{units.count(n)} {end}" for end, n in sorted(ends.items())) + reason
    yield MetricResult(job, "records", status, len(good), ExpectedRange(planned, planned, 0), note)
    if good:
        yield _screen_step(job, row, good)
    if good and row.runs:
        for metric in EXACT_METRICS:
            yield from _screen_exact_metric(job, metric, row, good)
        yield from _screen_accuracy(job, row, good)


def _screen_step(job: Job, row: BaselineRow, good: Sequence[Process]) -> MetricResult:
    """Compare the median step with the next run's range.

    Every run contributes as many processes as the smallest has.
    """
    found = step_range(row, len(good))
    value = geometric(_list_median_steps(good[: found.processes if found else None])).value
    if found is None:
        note = f"{len(row.runs)} stored; a range needs {LEAST_RUNS}"
        return MetricResult(job, STEP_METRIC, MetricStatus.TOO_FEW, value, note=note)
    if good[0].run_id in row.run_ids:
        return MetricResult(job, STEP_METRIC, MetricStatus.WITHIN, value, found, "one of the stored runs")
    statuses = {-1: MetricStatus.FASTER, 0: MetricStatus.WITHIN, 1: MetricStatus.SLOWER}
    return MetricResult(job, STEP_METRIC, statuses[compare_with_prediction(value, found)], value, found)


def step_range(row: BaselineRow, processes: int | None = None) -> Prediction | None:
    """Predict the range of the next run's median step if it has so many processes.

    None below 8 stored runs.
    """
    return predict_next_run([_list_median_steps(run) for run in row.runs], processes)


def _list_median_steps(processes: Sequence[Process]) -> list[float]:
    return [seconds for process in processes if (seconds := read_median_step(process)) is not None]


FLOPS = "model FLOPs"
EXACT_METRICS: Mapping[str, Callable[[Process], int | None]] = {
    FLOPS: lambda process: step_flops(process.job),
    "parameters": attrgetter("metrics.parameters"),
    "operators": attrgetter("metrics.operators_per_step"),
    "device peak": attrgetter("metrics.device_peak_bytes"),
}
"""Metrics that are exactly the same for equal work under equal conditions, read from a process that ended well."""


def list_stored_counts(metric: str, row: BaselineRow) -> list[int]:
    """List the values of the stored runs.

    Model FLOPs as they were counted when the baseline was saved.
    """
    if metric == FLOPS:
        return [] if row.step_flops is None else [row.step_flops]
    return _list_counts(metric, row.processes)


def _list_counts(metric: str, processes: Sequence[Process]) -> list[int]:
    return [value for value in map(EXACT_METRICS[metric], processes) if value is not None]


def _screen_exact_metric(job: Job, metric: str, row: BaselineRow, good: Sequence[Process]) -> Iterator[MetricResult]:
    """Compare the run's value farthest outside the stored ones with them.

    Yield nothing if neither has any.
    """
    before, now = list_stored_counts(metric, row), _list_counts(metric, good)
    if not before:
        if now:
            yield MetricResult(job, metric, MetricStatus.TOO_FEW, max(now), note="the stored runs have none")
        return
    low, high = min(before), max(before)
    expected = ExpectedRange(low, high, len(row.runs))
    if len(now) < len(good):
        yield MetricResult(job, metric, MetricStatus.MISSING, None, expected, "not recorded")
        return
    value = max(now, key=lambda each: (max(low - each, each - high), each))
    status = MetricStatus.WITHIN if low <= value <= high else MetricStatus.CHANGED
    yield MetricResult(job, metric, status, value, expected)


def _screen_accuracy(job: Job, row: BaselineRow, good: Sequence[Process]) -> Iterator[MetricResult]:
    """Compare the mean over the run's processes with the band.

    Yield nothing if accuracy was never measured.
    """
    runs, now = _list_tested_runs(row), _list_tests(good)
    if not runs:
        return
    fewest = min(len(now), *map(len, runs))
    if len(now) < len(good):
        yield MetricResult(job, "accuracy", MetricStatus.MISSING, note="not recorded")
    elif len({(test.images, data) for tests in (*runs, now) for test, data in tests}) != 1:
        yield MetricResult(job, "accuracy", MetricStatus.CHANGED, _mean_accuracy(now), note="evaluated on other images")
    elif (band := accuracy_band(row, fewest)) is None:
        note = f"{len(runs)} stored; a band needs {LEAST_RUNS}"
        yield MetricResult(job, "accuracy", MetricStatus.TOO_FEW, _mean_accuracy(now[:fewest]), note=note)
    else:
        value, (low, high) = _mean_accuracy(now[:fewest]), band
        status = MetricStatus.WITHIN if low - ROUNDING <= value <= high + ROUNDING else MetricStatus.CHANGED
        yield MetricResult(job, "accuracy", status, value, ExpectedRange(low, high, len(runs)))


def accuracy_band(row: BaselineRow, processes: int | None = None) -> tuple[float, float] | None:
    """Predict the band of the next run's mean accuracy; None below 8 stored runs with one."""
    runs = _list_tested_runs(row)
    if len(runs) < LEAST_RUNS:
        return None
    fewest = min(processes or len(runs[0]), *map(len, runs))
    mean, low, high = predict_mean([_mean_accuracy(run[:fewest]) for run in runs], ACCURACY_TAIL)
    images = runs[0][0][0].images
    sampling = wilson(round(mean * images), images, 1 - 2 * ACCURACY_TAIL)
    return max(0.0, min(low, sampling.low or 0.0)), min(1.0, max(high, sampling.high or 1.0))


AccuracyTest = tuple[Evaluation, DataKind | None]
"""A test of accuracy with the data of its images."""


def _list_tested_runs(row: BaselineRow) -> list[list[AccuracyTest]]:
    """List each stored run's tests of accuracy; runs without any are left out."""
    return [tests for run in row.runs if (tests := _list_tests(run))]


def _list_tests(processes: Sequence[Process]) -> list[AccuracyTest]:
    """List the valid tests of accuracy, except for jobs to a target, which reach theirs by construction."""
    trials = [each.metrics.trial for each in processes if each.metrics and each.job.clock != "accuracy"]
    tests = [(each.test, each.accuracy_data) for each in trials if each.test is not None]
    return [(test, data) for test, data in tests if 0 <= test.correct <= test.images > 0]


def _mean_accuracy(tests: Sequence[AccuracyTest]) -> float:
    return mean_share([test.correct / test.images for test, _ in tests]).value
