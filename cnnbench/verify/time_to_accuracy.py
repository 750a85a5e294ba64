"""Time to accuracy, worked out again: of all seeds of a row, and of one seed by its number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.special import bdtr

from cnnbench.schema import Trial
from cnnbench.verify.intervals import ExpectedFigure, RequiredText, without_interval
from cnnbench.verify.raw_rows import RawRow, to_page_text

MISSED_AT_MOST = 0.05
"""How often the interval of a median may miss it."""


def expect_metrics(row: RawRow) -> dict[str, ExpectedFigure | None]:
    """The row's figures over its seeds by heading; none where it has no target."""
    if row.job.target is None:
        return {}
    seeds = [(trial, has_reached(row, trial)) for _, trial in row.attempts]
    times = [trial.job_seconds or math.inf for trial, good in seeds if good]
    every = times if len(times) == len(seeds) else []
    return {
        "median time": _median(seeds, lambda trial: trial.job_seconds or math.inf),
        "mean time": without_interval(statistics.fmean(every) if every else None),
        "fastest": without_interval(min(times, default=None)),
        "slowest": without_interval(max(every, default=None)),
        "median steps": _median(seeds, lambda trial: trial.steps),
        "median epochs": _median(seeds, lambda trial: trial.steps / (row.job.steps_per_epoch or 1)),
    }


def has_reached(row: RawRow, trial: Trial) -> bool:
    """Whether the last evaluation has as many right as the target asks for."""
    last = trial.epoch_evaluations[-1] if trial.epoch_evaluations else None
    return last is not None and round(last.correct - (row.job.target or 1.0) * last.images, 6) >= 0


def _median(seeds: Sequence[tuple[Trial, bool]], of: Callable[[Trial], float]) -> ExpectedFigure | None:
    """Middle value with its interval by order statistics; a seed that missed the target is infinitely late."""
    values = sorted(of(trial) if good else math.inf for trial, good in seeds)
    n = len(values)
    middle = statistics.median(values) if values else math.inf
    if math.isinf(middle):
        return None
    fitting = [rank for rank in range(1, n // 2 + 1) if 2 * float(bdtr(rank - 1, n, 0.5)) <= MISSED_AT_MOST]
    if not fitting:
        return ExpectedFigure(middle, n=n)
    low, high = values[fitting[-1] - 1], values[-fitting[-1]]
    if math.isinf(high):
        return ExpectedFigure(middle, low, n=n, details=(RequiredText("from {} on", "number", low),))
    return ExpectedFigure(middle, low, high, n)


def expect_words(row: RawRow) -> dict[str, str]:
    """The cells that are words: how it is computed and trained, its target, how many seeds reached it; why a rung failed."""
    job = row.job
    usual = (job.loader, job.loader_workers) == ("resident", 0)
    step: list[str] = [job.precision, job.layout, job.execution]
    step += [] if usual else [f"{job.loader}, {job.loader_workers} workers"]
    step += [] if job.division == "reference" else [f"{job.division} division"]
    training = " ".join(to_page_text(name) for name in (job.optimizer, job.init) if name) or "no optimiser"
    network = [*([f"{job.pool} pooling"] if job.pool else []), *([job.activation] if job.activation else [])]
    return {
        "rung": ", ".join(step),
        "mode": ", ".join([*step, training, *network]),
        "target": "n/a" if job.target is None else f"{100 * job.target:g} %",
        "seeds that reached it": _count_seeds(row),
        "why not": "" if row.costs else "; ".join(dict.fromkeys(_messages(row))),
    }


def _count_seeds(row: RawRow) -> str:
    ends = [record.outcome.status for record in row.records]
    good = ends.count("ok")
    others = [f"{ends.count(name)} {name}" for name in sorted(set(ends)) if name != "ok"]
    others += [f"{row.unstarted} not run"] if row.unstarted else []
    return f"{good} of {len(ends) + row.unstarted}" + (f" ({'; '.join(others)})" if others else "")


def _messages(row: RawRow) -> list[str]:
    ordered = sorted(row.records, key=lambda record: (record.job.round, record.index))
    return [record.outcome.message for record in ordered if record.outcome.status != "ok" and record.outcome.message]


@dataclass(frozen=True)
class ExpectedSeed:
    """What should be said of one seed: figures and words by heading, and the raw values that files have beside them."""

    metrics: dict[str, ExpectedFigure | None]
    words: dict[str, str]
    raw_values: dict[str, str | int | float | bool | None]


def expect_seed(row: RawRow, seed: float) -> ExpectedSeed | None:
    """One of the row's seeds by its number; None where there is none such."""
    found = next((pair for pair in row.attempts if pair[0].job.seed == seed), None)
    if found is None or not found[1].epoch_evaluations:
        return None
    record, trial = found
    good, last = has_reached(row, trial), trial.epoch_evaluations[-1]
    metrics = {
        "seed": without_interval(record.job.seed),
        "time to target": without_interval(trial.job_seconds if good else None),
        "steps": without_interval(trial.steps),
        "epochs": without_interval(trial.steps / (row.job.steps_per_epoch or 1)),
        "last accuracy": without_interval(last.correct / last.images),
    }
    beside: dict[str, str | int | float | bool | None] = {
        **{"reached_target": good, "clock_seconds": trial.job_seconds, "evaluations": len(trial.epoch_evaluations)},
        **{"last_correct": last.correct, "last_images": last.images},
    }
    return ExpectedSeed(metrics, {"ended": "reached" if good else "missed"}, beside)
