"""How much two runs of one row differ although nothing changed: from their own history, else from a stated prior.

Processes of one run share its minutes, and runs of two boots perhaps not even the host. Two rows of different runs go
in, with the rows of all known runs; out comes the spread of each, which `stats.ratio_between_runs` puts into the
interval. A history counts only if its runs are as far apart as the two: of the same boot for two runs of one boot,
otherwise of as many boots as runs. docs/studies/compare-verdicts.md estimates the priors from the committed ledgers
and simulates what the interval covers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cnnbench.analysis.rows import Row
from cnnbench.analysis.same_host import is_one_host, relate_hosts
from cnnbench.analysis.stats import MINIMUM_FOR_INTERVAL, Estimate, RunSpread, estimate_variance, geometric

WorkKind = Literal["training", "gemm"]
LEAST_HISTORY = 5
"""Other runs of a row before their own spread is taken instead of the prior, and runs of a boot before an interval is over
them.
"""
PRIORS: Mapping[tuple[WorkKind, bool], RunSpread] = {
    ("training", True): RunSpread(0.020**2, 8),
    ("training", False): RunSpread(0.060**2, 6),
    ("gemm", True): RunSpread(0.105**2, 5),
    ("gemm", False): RunSpread(0.155**2, 5),
}
"""Spread of runs by the kind of work, and by whether both runs are of one boot. The standard deviations of log times
are REML estimates over the ledgers in results/, rounded up to half a percent; the degrees of freedom are the runs less
the groups of runs: `components` of docs/studies/compare-verdicts.json, which a test compares with these.
"""


@dataclass(frozen=True)
class FoundSpread:
    """The spread of a row's runs, and what it is from: `runs` other runs of one boot or of the model, or the prior."""

    spread: RunSpread
    source: Literal["boot", "model", "prior"]
    kind: WorkKind
    runs: int = 0


def find_run_spreads(base: Row, new: Row, history: Sequence[Row] = ()) -> tuple[FoundSpread, FoundSpread]:
    """Find the spread of the runs of each row.

    `history` has rows of all known runs; runs of the two, or of their boots where these differ, do not count.
    """
    return _find_one(base, new, history), _find_one(new, base, history)


def classify_work(row: Row) -> WorkKind:
    """Separate matrix products from everything that trains: their times spread about three times as much."""
    return "gemm" if row.job.workload == "gemm" else "training"


def estimate_over_runs(rows: Sequence[Row], means: Sequence[float]) -> Estimate | None:
    """Estimate the geometric mean over runs of one boot, with Student's t between runs; n counts runs.

    `means` are the rows' own, of equal steps. The last row gives the boot; None below five of its runs.
    """
    found = {
        row.run_id: mean
        for row, mean in zip(rows, means, strict=True)
        if row.step_seconds is not None and is_one_host(relate_hosts(row, rows[-1]))
    }
    return geometric(list(found.values())) if len(found) >= LEAST_HISTORY else None


def _find_one(row: Row, other: Row, history: Sequence[Row]) -> FoundSpread:
    one_host, kind = is_one_host(relate_hosts(row, other)), classify_work(row)
    places = _group_runs(row, other, history, one_host)
    if len(places) >= LEAST_HISTORY:
        fewest = min(len(row.costs), len(other.costs), *(len(each.rates) for each in places))
        means = [_mean_log(each, fewest) for each in places]
        spread = RunSpread(estimate_variance(means), len(means) - 1, with_processes=True)
        return FoundSpread(spread, "boot" if one_host else "model", kind, len(means))
    return FoundSpread(PRIORS[kind, one_host], "prior", kind)


def _group_runs(row: Row, other: Row, history: Sequence[Row], one_host: bool) -> list[Row]:
    """Collect a row for each run of the boot, or for each other boot of the model, the newest of each."""
    found: dict[object, Row] = {}
    for each in sorted(history, key=lambda each: (each.created_at, each.run_id, each.row_key)):
        if not _is_alike(each, row) or each.run_id in (row.run_id, other.run_id):
            continue
        if one_host and is_one_host(relate_hosts(each, row)):
            found[each.run_id] = each
        elif not one_host and _name_boot(each) not in map(_name_boot, (row, other)):
            found[_name_boot(each)] = each
    return list(found.values())


def _is_alike(one: Row, other: Row) -> bool:
    """Check that both rows time the same step on one model under the same rule, in enough processes."""
    keys = ((each.machine.id, each.protocol, each.software.torch, each.job.step_key) for each in (one, other))
    first, second = keys
    return first == second and len(one.rates) >= MINIMUM_FOR_INTERVAL


def _name_boot(row: Row) -> object:
    """Return the boot; runs of unknown boots whose machines look alike count as of one."""
    return row.boot_id or row.machine


def _mean_log(row: Row, processes: int) -> float:
    """Average the log time per step over the first processes, but for a constant: FLOPs per step are equal."""
    return -statistics.fmean(math.log(row.rates[key]) for key in sorted(row.rates)[:processes])
