"""One run against a stored baseline: a cheap screen, never the judge of a slowdown.

*Times* are held against a prediction interval over at least 8 stored runs (`analysis.prediction`): a run outside it is
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
from cnnbench.analysis.conditions import conditions, differences
from cnnbench.analysis.frame import Process
from cnnbench.analysis.prediction import LEAST_RUNS, ROUNDING, Prediction, next_mean, next_run, side
from cnnbench.errors import ExitCode
from cnnbench.gate.baseline import Baseline, RowRun, StoredProcess, StoredRow, StoredRun, said, stored
from cnnbench.gate.verdict import STEP_METRIC
from cnnbench.schema import Job

ACCURACY_TAIL = 0.001
"""Of good runs beyond each end of the accuracy band: outside is a finding, so false alarms must be rare."""


class Standing(StrEnum):
    """What a metric of the run is against the baseline."""

    WITHIN = "within"
    SLOWER = "suspicious: slower"
    FASTER = "suspicious: faster"
    CHANGED = "changed"
    MISSING = "missing"
    NOT_COMPARABLE = "not comparable"
    TOO_FEW = "too few runs"


SUSPICIONS = (Standing.SLOWER, Standing.FASTER)
_CODES = (
    (Standing.CHANGED, ExitCode.FINDING),
    (Standing.NOT_COMPARABLE, ExitCode.UNFIT),
    (Standing.MISSING, ExitCode.JOB_FAILED),
    (Standing.TOO_FEW, ExitCode.INCONCLUSIVE),
)
"""The first that occurs decides. Suspicions do not: the paired check settles them, where it can be made."""


@dataclass(frozen=True)
class Expected:
    """What a metric should be, in its unit: from `low` to `high`, the same where it is exact. `runs` is how many say so."""

    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class Judged:
    """One metric of one row. `value` is this run's, in SI units or as a share; None where there is none."""

    job: Job
    metric: str
    standing: Standing
    value: float | None = None
    expected: Expected | None = None
    note: str = ""


@dataclass(frozen=True)
class Judgement:
    """A run held against a baseline."""

    baseline: Baseline
    run: StoredRun
    findings: tuple[Judged, ...]
    elsewhere: int = 0
    """Stored rows that no stored run of this run's suites and options has: nothing to expect here."""

    @property
    def exit_code(self) -> ExitCode:
        """1 changed, 3 not comparable, 5 missing, 4 too few runs, in this order; 0 within, or merely suspicious."""
        standings = {found.standing for found in self.findings}
        return gravest(code for standing, code in _CODES if standing in standings)

    @property
    def suspicious(self) -> tuple[Job, ...]:
        """The rows whose time asks for the paired check, their seed and round 0."""
        return tuple(found.job for found in self.findings if found.standing in SUSPICIONS)

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


def gravest(codes: Iterable[ExitCode]) -> ExitCode:
    """The code that several findings end with together: the first of 1, 3, 5, 4 that is among them, else 0."""
    known = set(codes)
    return next((code for _, code in _CODES if code in known), ExitCode.DONE)


def judge(baseline: Baseline, run: StoredRun, processes: Sequence[Process]) -> Judgement:
    """The processes of one run against the baseline, row by row; their order changes nothing.

    A run that is one of the baseline's own is within its times by that alone: it was accepted when the baseline was saved.
    """
    by_row: dict[tuple[str, int], list[Process]] = {}
    for process in sorted(processes, key=lambda each: (each.job.round, each.index, each.attempt)):
        by_row.setdefault((process.row_key, process.protocol), []).append(process)
    rows = {row.job.row_key: row for row in baseline.rows}
    findings: list[Judged] = []
    for (row_key, _), members in sorted(by_row.items()):
        findings += _row(rows.get(row_key), run, members)
    ran = {row_key for row_key, _ in by_row}
    absent = [row for key, row in sorted(rows.items()) if key not in ran]
    expected = [row for row in absent if _is_expected(row, baseline, run)]
    findings += [Judged(row.job, "records", Standing.MISSING, note="the run did not plan this row") for row in expected]
    return Judgement(baseline, run, tuple(findings), len(absent) - len(expected))


def _is_expected(row: StoredRow, baseline: Baseline, run: StoredRun) -> bool:
    """Whether a stored run of the same suites and options had the row: the same command should measure it again."""
    asked = {each.run_id for each in baseline.runs if (each.suites, each.options) == (run.suites, run.options)}
    return any(each.run_id in asked for each in row.runs)


def _row(row: StoredRow | None, run: StoredRun, members: Sequence[Process]) -> list[Judged]:
    job = members[0].job.model_copy(update={"seed": 0, "round": 0})
    if row is not None and (found := differences(row.conditions, conditions(members[0]))):
        return [Judged(job, "conditions", Standing.NOT_COMPARABLE, note=said(found, "stored"))]
    good = [figures for process in members if (figures := stored(process)) is not None]
    findings = [_records(job, members, len(good))]
    if good:
        findings.append(_step(job, row, run, good))
    if good and row is not None:
        findings += [_exact(job, name, read, row, good) for name, read in EXACT.items() if _is_known(read, row, good)]
        findings += _accuracy(job, row, good)
    return findings


def _records(job: Job, members: Sequence[Process], good: int) -> Judged:
    planned = len({process.index for process in members})
    expected = Expected(planned, planned, 0)
    if good >= planned:
        return Judged(job, "records", Standing.WITHIN, good, expected)
    bad = [process for process in members if stored(process) is None]
    ends = Counter(process.status for process in bad)
    note = ", ".join(f"{units.count(n)} {'without a time' if end == 'ok' else end}" for end, n in sorted(ends.items()))
    reason = next((process.message for process in bad if process.message), None)
    note = note if reason is None else f"{note}: {reason}"
    return Judged(job, "records", Standing.MISSING, good, expected, note)


def _step(job: Job, row: StoredRow | None, run: StoredRun, good: Sequence[StoredProcess]) -> Judged:
    """The median step against the next run's range; every run gives as many processes as the one with the fewest."""
    runs = () if row is None else row.runs
    found = None if row is None else step_range(row, len(good))
    if found is None:
        note = f"{len(runs)} stored; a range needs {LEAST_RUNS}"
        return Judged(job, STEP_METRIC, Standing.TOO_FEW, _geometric(good), None, note)
    value, expected = _geometric(good[: found.processes]), Expected(found.low, found.high, found.runs)
    if run.run_id in {each.run_id for each in runs}:
        return Judged(job, STEP_METRIC, Standing.WITHIN, value, expected, "one of the stored runs")
    standing = {-1: Standing.FASTER, 0: Standing.WITHIN, 1: Standing.SLOWER}[side(value, found)]
    return Judged(job, STEP_METRIC, standing, value, expected)


def step_range(row: StoredRow, processes: int | None = None) -> Prediction | None:
    """Where the next run's median step will fall if it has so many processes; None below 8 stored runs."""
    return next_run([[each.median_step_seconds for each in run.processes] for run in row.runs], processes)


def _geometric(good: Sequence[StoredProcess]) -> float:
    return stats.geometric([process.median_step_seconds for process in good]).value


Read = Callable[[StoredProcess], int | None]
EXACT: Mapping[str, Read] = {
    "model FLOPs": lambda process: process.flops_per_step,
    "parameters": lambda process: process.parameters,
    "operators": lambda process: process.operators_per_step,
    "device peak": lambda process: process.device_peak_bytes,
}
"""Metrics that equal work on equal conditions repeats to the last digit."""


def _is_known(read: Read, row: StoredRow, good: Sequence[StoredProcess]) -> bool:
    return any(read(process) is not None for process in (*_processes(row.runs), *good))


def _processes(runs: Sequence[RowRun]) -> list[StoredProcess]:
    return [process for run in runs for process in run.processes]


def _exact(job: Job, metric: str, read: Read, row: StoredRow, good: Sequence[StoredProcess]) -> Judged:
    """The value farthest outside what was stored speaks for the run."""
    before = [value for process in _processes(row.runs) if (value := read(process)) is not None]
    now = [value for process in good if (value := read(process)) is not None]
    if not before:
        return Judged(job, metric, Standing.TOO_FEW, max(now), None, "the stored runs have none")
    expected = Expected(min(before), max(before), len(row.runs))
    if len(now) < len(good):
        return Judged(job, metric, Standing.MISSING, None, expected, "not recorded")
    value = max(now, key=lambda each: (max(expected.low - each, each - expected.high), each))
    inside = expected.low <= value <= expected.high
    return Judged(job, metric, Standing.WITHIN if inside else Standing.CHANGED, value, expected)


def _accuracy(job: Job, row: StoredRow, good: Sequence[StoredProcess]) -> list[Judged]:
    """The mean over the run's processes against the band; nothing where accuracy was never measured."""
    metric, runs = "accuracy", _evaluated(row)
    now = [each for each in good if _share(each) is not None]
    if not runs:
        return []
    if len(now) < len(good):
        return [Judged(job, metric, Standing.MISSING, note="not recorded")]
    if len({(each.test_images, each.accuracy_data) for some in (*runs, now) for each in some}) != 1:
        return [Judged(job, metric, Standing.CHANGED, _mean(now), note="evaluated on other images")]
    fewest = min(len(now), *map(len, runs))
    value, band = _mean(now[:fewest]), accuracy_band(row, fewest)
    if band is None:
        note = f"{len(runs)} stored; a band needs {LEAST_RUNS}"
        return [Judged(job, metric, Standing.TOO_FEW, value, None, note)]
    standing = Standing.WITHIN if band[0] - ROUNDING <= value <= band[1] + ROUNDING else Standing.CHANGED
    return [Judged(job, metric, standing, value, Expected(*band, len(runs)))]


def accuracy_band(row: StoredRow, processes: int | None = None) -> tuple[float, float] | None:
    """Where the next run's mean accuracy may be; None below 8 stored runs with one."""
    runs = _evaluated(row)
    if len(runs) < LEAST_RUNS:
        return None
    fewest = min(processes or len(runs[0]), *map(len, runs))
    mean, low, high = next_mean([_mean(run[:fewest]) for run in runs], ACCURACY_TAIL)
    images = runs[0][0].test_images or 1
    sampling = stats.wilson(round(mean * images), images, 1 - 2 * ACCURACY_TAIL)
    return max(0.0, min(low, sampling.low or 0.0)), min(1.0, max(high, 1.0 if sampling.high is None else sampling.high))


def _evaluated(row: StoredRow) -> list[list[StoredProcess]]:
    """Each stored run's processes with an accuracy; runs without any are left out."""
    found = ([each for each in run.processes if _share(each) is not None] for run in row.runs)
    return [run for run in found if run]


def _share(process: StoredProcess) -> float | None:
    if process.test_correct is None or process.test_images is None or process.test_correct > process.test_images:
        return None
    return process.test_correct / process.test_images


def _mean(processes: Sequence[StoredProcess]) -> float:
    return stats.mean_share([share for each in processes if (share := _share(each)) is not None]).value
