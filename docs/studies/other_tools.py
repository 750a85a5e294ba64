"""How other tools decide that something got slower, from their published definitions, many comparisons at once.

Each rule takes the values of the two arms, shape (comparisons, processes, values), in seconds, and says of each
comparison whether the tool would report a slowdown. What a tool collects by default is in `OTHER_TOOLS`, with where it is
documented; the versions named are those the tests hold the rules against (criterion, hyperfine and the action are held
against their definitions alone). The tools are treated kindly: base and head run one straight after the other on the
same machine, warmed up, whereas a stored baseline comes from another day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
from scipy.special import ndtri, stdtrit
from scipy.stats import ttest_ind

from cnnbench.regression.design import BoolArray
from cnnbench.regression.signed_rank import Float64Array

DecisionRule = Callable[[Float64Array, Float64Array], BoolArray]
T_TABLE = (*range(1, 31), 40, 50, 60, 80, 100)
"""Degrees of freedom of pyperf's table of t; between two of them the lower counts, from 200 on the normal quantile."""


@dataclass(frozen=True)
class OtherTool:
    """A tool with its settings: it takes `processes` times `values` of each arm, each the mean of `steps_per_value` steps."""

    name: str
    rule: DecisionRule
    processes: int
    values: int
    steps_per_value: int
    unit: str
    """The tool's n, in words."""
    source: str


def pytest_benchmark(
    base: Float64Array, head: Float64Array, field: Literal["min", "mean", "median"], percent: int
) -> BoolArray:
    """`--benchmark-compare-fail=FIELD:PERCENT%`: one number of each arm, and their quotient."""
    summaries: dict[str, Callable[..., Float64Array]] = {"min": np.min, "mean": np.mean, "median": np.median}
    summary = summaries[field]
    return np.asarray(summary(head, axis=(1, 2)) / summary(base, axis=(1, 2)) * 100 - 100 > percent)


def asv(base: Float64Array, head: Float64Array, factor: float) -> BoolArray:
    """`asv continuous`: Mann-Whitney's U of all samples at p < 0.002, and medians apart by more than `factor`.

    Ties count against a difference. Exact, so for 6 to 20 samples an arm: below, asv compares intervals; above, it
    takes the normal approximation. Raises ValueError elsewhere.
    """
    first, second = (values.reshape(len(values), -1) for values in (base, head))
    m, n = first.shape[1], second.shape[1]
    if min(m, n) < 6 or max(m, n) > 20:
        raise ValueError(f"{m} against {n} samples: 6 to 20 of each are compared here")
    greater = (first[:, :, np.newaxis] > second[:, np.newaxis, :]).sum(axis=(1, 2))
    ties = (first[:, :, np.newaxis] == second[:, np.newaxis, :]).sum(axis=(1, 2))
    extreme = np.minimum(greater + ties, m * n - greater)
    different = extreme <= largest_significant_u(m, n, 0.002)
    return np.asarray(different & (np.median(first, axis=1) < np.median(second, axis=1) / factor))


def pyperf(base: Float64Array, head: Float64Array, min_speed_percent: float = 0.0) -> BoolArray:
    """`pyperf compare_to`: Student's pooled two-sample t, two-tailed at 95 %, over the values of all processes."""
    first, second = (values.reshape(len(values), -1) for values in (base, head))
    n = first.shape[1]
    pooled = (first.var(axis=1, ddof=1) + second.var(axis=1, ddof=1)) / 2
    t = (second.mean(axis=1) - first.mean(axis=1)) / np.sqrt(2 * pooled / n)
    slower = second.mean(axis=1) / first.mean(axis=1)
    return np.asarray((t >= tabulated_t(2 * n - 2)) & ((slower - 1) * 100 >= min_speed_percent))


def criterion(base: Float64Array, head: Float64Array, noise_threshold: float = 0.01) -> BoolArray:
    """Alarm as criterion does: a bootstrapped t-test at p < 0.05, and the change's interval above the threshold.

    For its 100 samples the bootstrap distributions of t and of the ratio of means are taken as Student's and normal.
    """
    first, second = (values.reshape(len(values), -1) for values in (base, head))
    n = first.shape[1]
    means, variances = zip(
        *((each.mean(axis=1), each.var(axis=1, ddof=1) / n) for each in (first, second)), strict=True
    )
    t = (means[1] - means[0]) / np.sqrt(variances[0] + variances[1])
    ratio = means[1] / means[0]
    spread = ratio * np.sqrt(variances[0] / means[0] ** 2 + variances[1] / means[1] ** 2)
    low = ratio - 1 - float(ndtri(0.975)) * spread
    return np.asarray((np.abs(t) > float(stdtrit(2 * n - 2, 0.975))) & (low > noise_threshold))


def hyperfine(base: Float64Array, head: Float64Array) -> BoolArray:
    """hyperfine's script for significance: Welch's t of the runs, two-sided p < 0.05; here only where head is slower."""
    first, second = (values.reshape(len(values), -1) for values in (base, head))
    p = ttest_ind(first, second, axis=1, equal_var=False).pvalue
    return np.asarray((p < 0.05) & (second.mean(axis=1) > first.mean(axis=1)))


def github_action_benchmark(base: Float64Array, head: Float64Array, alert_threshold: float) -> BoolArray:
    """github-action-benchmark on pytest-benchmark's output: operations per second, before over now, above the threshold."""
    before, now = (1 / values.mean(axis=(1, 2)) for values in (base, head))
    return np.asarray(before / now > alert_threshold)


@cache
def largest_significant_u(m: int, n: int, alpha: float) -> int:
    """Find the largest U of m and n values with two-sided exact p < alpha (Mann and Whitney, 1947); -1 for none.

    Counts of U are the coefficients of the Gaussian binomial, product of (1 - x^(n+i)) / (1 - x^i) for i = 1..m.
    """
    counts = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for u in range(m * n, n + i - 1, -1):
            counts[u] -= counts[u - n - i]
        for u in range(i, m * n + 1):
            counts[u] += counts[u - i]
    below = np.cumsum(counts)
    return int(np.count_nonzero(2 * below[: m * n // 2] < alpha * below[-1])) - 1


def tabulated_t(degrees: int) -> float:
    """Two-tailed 95 % quantile of Student's t as pyperf reads it from its table, three decimals."""
    if degrees >= 200:
        return 1.960
    return round(float(stdtrit(max(known for known in T_TABLE if known <= degrees), 0.975)), 3)


PYTEST_BENCHMARK = "https://pytest-benchmark.readthedocs.io/en/latest/usage.html (5.3.1: rounds for 1 s, at least 5)"
ASV = "https://asv.readthedocs.io/en/stable/commands.html and writing_benchmarks.html (0.6.6: 2 rounds of up to 5 samples)"
PYPERF = (
    "https://pyperf.readthedocs.io/en/latest/cli.html and runner.html (2.10.0: 20 processes, 3 values of 0.1 s or more)"
)
CRITERION = "https://bheisler.github.io/criterion.rs/book/analysis.html (100 samples, p 0.05, noise threshold 1 %)"
HYPERFINE = "https://github.com/sharkdp/hyperfine, README and scripts/welch_ttest.py (1.20.0: at least 10 runs)"
GITHUB_ACTION_BENCHMARK = "https://github.com/benchmark-action/github-action-benchmark, README: alert-threshold"

OTHER_TOOLS = (
    *(
        OtherTool(f"pytest-benchmark {field}:5%", partial(pytest_benchmark, field=field, percent=5), 1, 20, 1,
             "20 rounds of 1 process, one number", PYTEST_BENCHMARK)
        for field in ("min", "mean", "median")
    ),
    OtherTool("asv, factor 1.1 (default)", partial(asv, factor=1.1), 2, 5, 1, "10 samples of 2 processes", ASV),
    OtherTool("asv, factor 1.05", partial(asv, factor=1.05), 2, 5, 1, "10 samples of 2 processes", ASV),
    OtherTool("pyperf compare_to", pyperf, 20, 3, 2, "60 values of 20 processes", PYPERF),
    OtherTool("pyperf compare_to --min-speed 5", partial(pyperf, min_speed_percent=5.0), 20, 3, 2,
         "60 values of 20 processes", PYPERF),
    OtherTool("criterion", criterion, 1, 100, 1, "100 samples of 1 process", CRITERION),
    OtherTool("hyperfine, welch_ttest.py", hyperfine, 10, 1, 20, "10 runs, each a process", HYPERFINE),
    OtherTool("github-action-benchmark 200% (default)", partial(github_action_benchmark, alert_threshold=2.0), 1, 20, 1,
         "20 rounds of 1 process, one number", GITHUB_ACTION_BENCHMARK),
    OtherTool("github-action-benchmark 105%", partial(github_action_benchmark, alert_threshold=1.05), 1, 20, 1,
         "20 rounds of 1 process, one number", GITHUB_ACTION_BENCHMARK),
)  # fmt: skip
