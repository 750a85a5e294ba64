"""Modes against the plain one derived again: which rows learn the same, their difference over seeds, and the verdict."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import stdtrit

from cnnbench.schema import Job
from cnnbench.verify import columns, expected_line
from cnnbench.verify.expectations import Expectations
from cnnbench.verify.expected_line import CheckedLines, ExpectedCell, LineRule
from cnnbench.verify.pages import PrintedRow
from cnnbench.verify.raw_rows import RawRow, RawValue
from cnnbench.verify.stopping_rule import IMAGES, find_titled_rows

TABLE = "convergence"
"""Its key in table files."""
SEEDS, MOST_SEEDS = 5, 1000
CONVOLUTIONAL, OTHER = 0.001, 0.002
PLAIN = {
    **{"division": "reference", "precision": "fp32", "layout": "nchw", "execution": "eager"},
    **{"loader": "resident", "loader_workers": 0},
}
_NOT_LEARNED = {*PLAIN, "warmup_steps", "blocks", "block_steps", "epoch_eval_images", "seed", "round"}
"""Fields that do not change what is learned."""
_ASKED = re.compile(r" · a loss of ([\d.]+) pp allowed$")
_POINTS = 100


@dataclass(frozen=True)
class _AccuracyDifference:
    """Mode less plain in images, with its bounds and what they rest on."""

    value: float
    low: float
    high: float
    medians: float
    paired: bool
    variance: float
    freedom: float


def is_convergence_table(headings: Sequence[str]) -> bool:
    """Whether a page's table with these headings is one of modes."""
    return headings[:1] == ["mode"] and headings[-1:] == ["the mode"]


def check_table(
    headings: Sequence[str], groups: Sequence[tuple[str, Sequence[PrintedRow]]], view: Expectations
) -> CheckedLines:
    """A page's table of modes: each group's title is of the plain row."""

    def candidates(title: str) -> list[LineRule]:
        asked = _ASKED.search(title)
        margin = float(asked.group(1)) / _POINTS if asked else None
        return [partial(_find_line, row, view, margin) for row in find_titled_rows(_ASKED.sub("", title), view)]

    return expected_line.check_groups(headings, groups, candidates)


def expect_line(
    printed: Mapping[str, object], group: str, row: RawRow | None, view: Expectations
) -> Sequence[ExpectedCell] | None:
    """What a line of a table file should say; None where the records have no such line."""
    asked = _ASKED.search(group)
    plain = None if row is None else _find_plain(row, view)
    if row is None or plain is None or plain not in find_titled_rows(_ASKED.sub("", group), view):
        return None
    return _expect_cells(row, plain, view, float(asked.group(1)) / _POINTS if asked else None)


def _find_line(plain: RawRow, view: Expectations, margin: float | None, words: str) -> list[ExpectedCell] | None:
    """The line of the mode in these words that is held against this plain row."""
    for row in view.shown:
        if _describe_variant(row.job) == words and _find_plain(row, view) is plain:
            return _expect_cells(row, plain, view, margin)
    return None


def _describe_variant(job: Job) -> str:
    workers = {"loader": f"{job.loader}, {job.loader_workers} workers"}
    parts = {"precision": job.precision, "layout": job.layout, "execution": job.execution, **workers}
    parts["division"] = f"{job.division} division"
    differs = {name for name, plain in PLAIN.items() if getattr(job, name) != plain}
    return ", ".join(text for name, text in parts.items() if name in differs or f"{name}_workers" in differs)


def _find_plain(row: RawRow, view: Expectations) -> RawRow | None:
    """The plain row of the same learning in the same place: of the same run, else of the newest."""
    if not _describe_variant(row.job) or not _ends_tested(row.job):
        return None
    work = _learning_key(row)
    found = [
        each
        for each in view.shown
        if not _describe_variant(each.job) and _ends_tested(each.job) and _learning_key(each) == work
    ]

    def nearness(each: RawRow) -> tuple[object, ...]:
        seeds, header = sum(_count_seeds(each)), each.header
        return (
            *(header.run_id == row.header.run_id, seeds >= SEEDS, header.created_at, header.run_id),
            *(seeds, each.row_key),
        )

    plain = max(found, key=nearness, default=None)
    enough = plain is not None and min(sum(_count_seeds(row)), sum(_count_seeds(plain))) >= SEEDS
    return plain if enough else None


def _ends_tested(job: Job) -> bool:
    return job.clock in ("steady", "job") and job.final_evaluation and not job.stop_when_all_right


def _learning_key(row: RawRow) -> tuple[object, ...]:
    job = row.job
    left_out = _NOT_LEARNED | ({"epochs", "steps_per_epoch"} if job.clock == "steady" else set())
    steps = job.blocks * job.block_steps if job.clock == "steady" else job.job_steps
    fields = sorted(job.model_dump(exclude=left_out).items())
    return row.header.machine.id, row.protocol, steps, tuple(fields)


def _right_by_seed(row: RawRow) -> dict[int, int]:
    """Test images right at the end by seed, of the processes that learned."""
    tests = {record.job.seed: trial.test for record, trial in row.trials}
    return {seed: test.correct for seed, test in tests.items() if test is not None and test.images == IMAGES}


def _count_failed(row: RawRow) -> int:
    return sum(record.outcome.status in ("diverged", "missed") for record in row.records)


def _count_seeds(row: RawRow) -> tuple[int, int]:
    return len(_right_by_seed(row)), _count_failed(row)


def _compare(variant: Mapping[int, int], plain: Mapping[int, int]) -> _AccuracyDifference | None:
    if min(len(variant), len(plain)) < 2:
        return None
    medians = statistics.median(variant.values()) - statistics.median(plain.values())
    value = statistics.fmean(variant.values()) - statistics.fmean(plain.values())
    if set(variant) == set(plain):
        spread = statistics.stdev([variant[seed] - plain[seed] for seed in variant])
        half = float(stdtrit(len(variant) - 1, 0.95)) * spread / math.sqrt(len(variant))
        return _AccuracyDifference(value, value - half, value + half, medians, True, spread**2, 1.0)
    a, b = (statistics.stdev(side.values()) ** 2 for side in (variant, plain))
    x, y = a / len(variant), b / len(plain)
    if not x + y:
        return _AccuracyDifference(value, value, value, medians, False, 0.0, 2.0)
    degrees = (x + y) ** 2 / (x**2 / (len(variant) - 1) + y**2 / (len(plain) - 1))
    half = float(stdtrit(degrees, 0.95)) * math.sqrt(x + y)
    return _AccuracyDifference(value, value - half, value + half, medians, False, a + b, (a + b) ** 2 / (a**2 + b**2))


def _seeds_needed(found: _AccuracyDifference, loss: float) -> int | None:
    numbers = np.arange(3, MOST_SEEDS + 1)
    degrees = (numbers - 1) * found.freedom
    reach = stdtrit(degrees, 0.95) + stdtrit(degrees, 0.8)
    enough = numbers[reach * np.sqrt(found.variance / numbers) < abs(found.value + loss)]
    return int(enough[0]) if len(enough) else None


def _expect_cells(row: RawRow, plain: RawRow, view: Expectations, asked: float | None) -> list[ExpectedCell]:
    margin = asked if asked is not None else OTHER if row.workload and not row.workload.convolves else CONVOLUTIONAL
    variant, other = _right_by_seed(row), _right_by_seed(plain)
    found = _compare(variant, other)
    paired = found is not None and found.paired
    failed, plain_failed = _count_failed(row), _count_failed(plain)
    beside = [*(["the same"] if paired else []), *([f"{failed} did not"] if failed else [])]
    beside += [f"{plain_failed} of the plain did not"] if plain_failed else []
    counts: dict[str, RawValue] = {"seeds": len(variant), "plain_seeds": len(other), "paired": paired, "failed": failed}
    counts["plain_failed"] = plain_failed
    text = f"{len(variant)} and {len(other)}" + (f" ({'; '.join(beside)})" if beside else "")
    name = _describe_variant(row.job)
    identity = {"mode": name, **columns.raw_values("processor", "", view.expect_row(row))}
    loss: dict[str, RawValue] = {"loss_allowed": margin}
    return [
        ExpectedCell("mode", "mode", name, (), identity),
        ExpectedCell("seeds", "seeds that learned", text, (), counts),
        _accuracy("mode_accuracy", "test accuracy", variant),
        _accuracy("plain_accuracy", "of the plain mode", other),
        *_differences(found),
        ExpectedCell("margin", "loss allowed", "{} pp", ((_POINTS * margin, 3),), loss),
        _classify(found, margin * IMAGES, failed, plain_failed),
    ]


def _accuracy(key: str, heading: str, right: Mapping[int, int]) -> ExpectedCell:
    mean = statistics.fmean(right.values()) / IMAGES if right else None
    spread = statistics.stdev(right.values()) / IMAGES if len(right) > 1 else None
    values: dict[str, RawValue] = {key: mean, f"{key}_sd": spread}
    if mean is None:
        return ExpectedCell(key, heading, "n/a", (), values)
    if spread is None:
        return ExpectedCell(key, heading, "{} %", ((100 * mean, 3),), values)
    return ExpectedCell(key, heading, "{} % (SD {} pp)", ((100 * mean, 3), (_POINTS * spread, 3)), values)


def _differences(found: _AccuracyDifference | None) -> Iterator[ExpectedCell]:
    ends = (None,) * 4 if found is None else (found.value, found.low, found.high, found.medians)
    value, low, high, medians = (None if each is None else each / IMAGES for each in ends)
    means: dict[str, RawValue] = {"difference": value, "difference_low": low, "difference_high": high}
    numbers = tuple((_POINTS * each, 3) for each in (value, low, high) if each is not None)
    yield ExpectedCell("difference", "difference of means", "{} pp ({} to {} pp)" if numbers else "n/a", numbers, means)
    middle = () if medians is None else ((_POINTS * medians, 3),)
    template = "{} pp" if middle else "n/a"
    yield ExpectedCell("of_medians", "of medians", template, middle, {"difference_of_medians": medians})


def _classify(found: _AccuracyDifference | None, loss: float, failed: int, plain_failed: int) -> ExpectedCell:
    """The verdict, with the rule on seeds that do not learn before the bounds."""
    by_rule = failed > 0 or found is None
    template = outcome = "undecided"
    needed: int | None = None
    if by_rule or found is None:
        outcome = "learns worse" if failed and not plain_failed else outcome
        template = f"{outcome} (by the seeds that did not learn)"
    elif found.low > -loss:
        template = outcome = "learns as well"
    elif found.high < -loss:
        template = outcome = "learns worse"
    else:
        needed = _seeds_needed(found, loss)
        seeds_text = f"more than {MOST_SEEDS:,}" if needed is None else f"about {needed:,}"
        template = f"undecided ({seeds_text} seeds would tell)"
    values: dict[str, RawValue] = {"verdict": outcome, "by_rule": by_rule, "seeds_to_decide": needed}
    return ExpectedCell("verdict", "the mode", template, (), values)
