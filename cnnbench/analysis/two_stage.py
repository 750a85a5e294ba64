"""How many processes a row needs until its interval is as narrow as asked for: Stein's two stages.

The first stage is the run's plan. Its variance alone decides how many processes follow, and stays the variance of the
interval, with its own degrees of freedom (`stats.two_stage_mean`): so the interval keeps its 95 % although its length
was chosen after looking. A rule that stops as soon as Student's interval is narrow does not: it stops where the
variance happens to be small (C. Stein, Annals of Mathematical Statistics 16, 1945, 243-258).

A record beyond the plan is a process of the second stage. The time limit may end it early; the interval is then wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench.analysis.process_table import NOT_RUN, Process, read_processes
from cnnbench.analysis.ratio import group_by
from cnnbench.analysis.stats import MINIMUM_FOR_INTERVAL, estimate_variance, t_quantile
from cnnbench.schema import Job, RunHeader
from cnnbench.store import Ledger

FIRST_STAGE = 6
"""Fewest processes of the first stage unless --repeats says otherwise: Student's factor is 4.30 with 3, 2.57 with 6, so 3
would need three times as many processes in all.
"""


@dataclass(frozen=True)
class WideRow:
    """A row whose interval is not narrow enough yet: a job of it, and how many more processes it needs."""

    job: Job
    more: int


def read_until(header: RunHeader) -> float | None:
    """Read the half-width that the run was to reach, as a share of the time; None if it was to reach none."""
    text = header.options.get("until")
    return None if text is None else float(text.rstrip("%")) / 100


def count_needed(first: Sequence[float], until: float) -> int:
    """Count the processes that the logs of the first stage ask for, the first stage included.

    They are the fewest n with t * s / sqrt(n) at most log(1 + until): the interval then ends at most that share above.
    """
    degrees, half = len(first) - 1, math.log1p(until)
    return max(len(first), math.ceil((t_quantile(degrees) / half) ** 2 * estimate_variance(first)))


def find_wide_rows(ledger: Ledger) -> tuple[WideRow, ...]:
    """Find the rows of the run that need more processes; none in a run without `--until`.

    A row of which fewer than 3 processes of the first stage ended well needs none: they do not say how many.
    """
    until, planned = read_until(ledger.header), len(ledger.header.plan)
    if until is None:
        return ()
    processes, _ = read_processes([ledger])
    found = []
    for same in group_by(processes, lambda each: (each.row_key, each.protocol)).values():
        first = [cost for each in same if each.index < planned and (cost := _read_log_cost(each)) is not None]
        # Failed ones count as done: else a row that only fails would never end.
        later = sum(each.index >= planned and each.status not in (NOT_RUN, "interrupted") for each in same)
        if len(first) >= MINIMUM_FOR_INTERVAL and (more := count_needed(first, until) - len(first) - later) > 0:
            found.append(WideRow(same[0].job, more))
    return tuple(found)


def _read_log_cost(process: Process) -> float | None:
    if process.metrics is None:
        return None
    seconds = process.metrics.job_seconds if process.job.divided_whole else process.metrics.step_seconds
    return math.log(seconds) if seconds else None
