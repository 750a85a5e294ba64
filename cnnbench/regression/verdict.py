"""The words of the check: which series there are, what was found in each, and the verdict. Frozen values, log ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from cnnbench.errors import ExitCode
from cnnbench.regression.design import CheckPlan

GEOMETRIC_MEAN = "geometric mean"
"""The job name of the series of mean d over all gated jobs: a small slowdown of every job shows there first."""
STEP_METRIC = "median step"


class Decision(StrEnum):
    """How a check, or one series of it, ended."""

    PASS = "pass"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"


EXIT_CODES = {
    Decision.PASS: ExitCode.DONE,
    Decision.IMPROVED: ExitCode.DONE,
    Decision.REGRESSED: ExitCode.FINDING,
    Decision.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


@dataclass(frozen=True, order=True)
class MetricSeries:
    """One job's one metric, such as mnist-cnn/cpu's median step time. Only gated series decide; the others advise."""

    job: str
    metric: str = STEP_METRIC
    gated: bool = True

    @property
    def label(self) -> str:
        """`mnist-cnn/cpu`, and the metric where it is not the usual one: `mnist-cnn/cpu, mean step`."""
        return self.job if self.metric == STEP_METRIC else f"{self.job}, {self.metric}"


@dataclass(frozen=True)
class Confirmation:
    """What the fresh blocks said of a suspect series."""

    blocks: int
    slower: int
    """Pairs whose head was slower than the tolerance."""
    holds: bool


@dataclass(frozen=True)
class SeriesFinding:
    """One series at the look that ended the screening; estimate, bounds and `detectable` are log ratios, head over base.

    The interval is the two-sided 95 % one, so `high` is the bound that a PASS is decided by. `detectable` is the minimum
    detectable effect (`plan.detectable`) for the standard deviation of these d's, which six blocks tell to about 30 %.
    """

    series: MetricSeries
    blocks: int
    slower: int
    """Pairs whose head was slower than the tolerance."""
    estimate: float
    low: float | None
    high: float | None
    detectable: float | None
    suspect: bool
    decision: Decision
    confirmation: Confirmation | None = None


@dataclass(frozen=True)
class Screening:
    """The first stage: looks until everything passes, something is suspect, or the blocks are used up."""


@dataclass(frozen=True)
class Confirming:
    """The second stage, fresh blocks alone; `findings` are those of the look that raised the suspicion."""

    findings: tuple[SeriesFinding, ...]


CheckPhase = Screening | Confirming


@dataclass(frozen=True)
class Continue:
    """Measure on: until each of `series` has `blocks` valid blocks in `stage` (a new stage begins with none)."""

    stage: CheckPhase
    blocks: int
    series: tuple[MetricSeries, ...]


@dataclass(frozen=True)
class Verdict:
    """The end of a check. `blocks` is how many of each job the screening took."""

    decision: Decision
    findings: tuple[SeriesFinding, ...]
    blocks: int
    plan: CheckPlan

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with: 0 passed or improved, 1 regressed, 4 inconclusive."""
        return EXIT_CODES[self.decision]


def compute_log_ratio(head_seconds: float, base_seconds: float) -> float:
    """d of one block, above 0 where head is slower. Raises ValueError for times that cannot be."""
    if not all(0 < seconds < math.inf for seconds in (head_seconds, base_seconds)):
        raise ValueError(f"head {head_seconds!r} s over base {base_seconds!r} s: both must be positive and finite")
    return math.log(head_seconds) - math.log(base_seconds)
