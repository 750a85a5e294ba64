"""From raw blocks to what the statistics take: d of each job and metric, the control's ratio, the machine's state.

In lock-step turns d of a round is the log ratio of the two turns' median steps, and d of the block the median over its
rounds: a drift slower than a round cancels. Where the arms ran one after the other, rounds do not belong together, and d
is the log ratio of the two arms' medians over rounds. The second metric is the ratio of mean steps, so that stalls show.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from cnnbench.devices.nvml import SLOWED
from cnnbench.errors import ComparisonError
from cnnbench.paired_protocol import ARMS, JobRun, PairRecord, Schedule, Span
from cnnbench.regression.check_record import CheckHeader
from cnnbench.regression.exclusion import BlockState, find_unequal_work
from cnnbench.regression.verdict import STEP_METRIC, MetricSeries, compute_log_ratio
from cnnbench.schema import Telemetry

MEAN_METRIC = "mean step"
FIELDS_WAIVED_BY_SETTING: Mapping[str, frozenset[str]] = {
    "precision": frozenset({"precision"}),
    "layout": frozenset(),
    "optimizer": frozenset({"first_losses", "final_loss"}),
    "init": frozenset({"first_losses", "final_loss"}),
    "order": frozenset({"order_digest", "first_losses", "final_loss"}),
    "loader": frozenset({"order_digest", "first_losses", "final_loss"}),
    "loader_workers": frozenset({"order_digest", "first_losses", "final_loss"}),
    "extra_forwards": frozenset({"flops", "first_losses", "final_loss"}),
    "threads": frozenset({"final_loss"}),
    "allocator": frozenset(),
}
"""Settings that the arms may differ in, and what of the work is then not compared, since it follows from the setting."""


def make_series(name: str, metric: str, gated_metric: str) -> MetricSeries:
    """The series of a job's metric, gated where it is the metric asked for (`median` or `mean`)."""
    wanted = STEP_METRIC if gated_metric == "median" else MEAN_METRIC
    return MetricSeries(name, metric, metric == wanted)


def round_ratios(base: JobRun, head: JobRun) -> tuple[float, ...]:
    """d of each round: the log ratio of the two turns' median steps."""
    return tuple(
        compute_log_ratio(statistics.median(ours), statistics.median(its))
        for its, ours in zip(base.step_seconds, head.step_seconds, strict=True)
    )


def median_ratio(base: JobRun, head: JobRun, mode: Schedule) -> float:
    """d of a block by medians."""
    if mode == "turns":
        return statistics.median(round_ratios(base, head))
    ours, its = (statistics.median(map(statistics.median, run.step_seconds)) for run in (head, base))
    return compute_log_ratio(ours, its)


def mean_ratio(base: JobRun, head: JobRun) -> float:
    """d of a block by the mean over all kept steps."""
    ours, its = (statistics.fmean(second for turn in run.step_seconds for second in turn) for run in (head, base))
    return compute_log_ratio(ours, its)


def control_ratio(base: JobRun, head: JobRun, mode: Schedule) -> float:
    """Log ratio of the control loop beside head over beside base, as d is made of the steps."""
    if mode == "turns":
        return statistics.median(map(compute_log_ratio, head.control_seconds, base.control_seconds))
    return compute_log_ratio(statistics.median(head.control_seconds), statistics.median(base.control_seconds))


def compute_differences(
    header: CheckHeader, blocks: Sequence[PairRecord], jobs: Sequence[int]
) -> dict[MetricSeries, list[float]]:
    """d of every one of these blocks, in order, by series; each block has all of the jobs."""
    found: dict[MetricSeries, list[float]] = {}
    for job in jobs:
        pairs = [(block.base[job], block.head[job]) for block in blocks]
        name = header.names[job]
        found[make_series(name, STEP_METRIC, header.metric)] = [median_ratio(*pair, header.mode) for pair in pairs]
        found[make_series(name, MEAN_METRIC, header.metric)] = [mean_ratio(*pair) for pair in pairs]
    return found


def control_ratios_by_job(header: CheckHeader, blocks: Sequence[PairRecord]) -> dict[str, list[float]]:
    """The control's log ratios of every block, by the name of the job beside whose steps it ran."""
    found: dict[str, list[float]] = {}
    for block in blocks:
        for job in sorted(block.base):
            ratio = control_ratio(block.base[job], block.head[job], header.mode)
            found.setdefault(header.names[job], []).append(ratio)
    return found


def read_block_state(header: CheckHeader, block: PairRecord) -> BlockState:
    """The machine during a block: both arms' spans together, so that neither alone can drop it."""
    both = header.mode == "turns"
    spans = [block.spans[name] for name in (("both",) if both else ARMS)]
    readings = [reading for span in spans for reading in (span.before, span.after)]
    ratios = [control_ratio(block.base[job], block.head[job], header.mode) for job in block.base]
    return BlockState(
        wall_seconds=sum(span.wall_seconds for span in spans),
        steal_seconds=_sum_growth(spans, "steal_seconds"),
        cpu_pressure_seconds=_sum_growth(spans, "cpu_pressure_seconds"),
        cgroup_throttled_seconds=_sum_growth(spans, "cgroup_throttled_seconds"),
        device_throttled=_was_throttled(readings),
        device_other_processes=_count_other_processes(readings, 2 if both else 1),
        control_log_ratio=statistics.median(ratios) if ratios else None,
    )


def _sum_growth(spans: Sequence[Span], counter: str) -> float | None:
    """Seconds by which a counter grew in all spans together; None where one of the readings is unknown."""
    ends = [(getattr(span.before, counter), getattr(span.after, counter)) for span in spans]
    if any(None in each for each in ends):
        return None
    return math.fsum(max(0.0, after - before) for before, after in ends)


def _was_throttled(readings: Sequence[Telemetry]) -> bool | None:
    known = [reading.device_throttle_reasons for reading in readings if reading.device_throttle_reasons is not None]
    return any(SLOWED & set(reasons) for reasons in known) if known else None


def _count_other_processes(readings: Sequence[Telemetry], ours: int) -> int | None:
    """The most processes on the device beside this check's own, which may be there at the start and are at the end."""
    known = [each.device_other_processes for each in readings if each.device_other_processes is not None]
    return max(max(0, count - ours) for count in known) if known else None


def require_equal_work(header: CheckHeader, block: PairRecord) -> None:
    """Raises ComparisonError where the arms did not do the same work, less what was declared different."""
    waived = frozenset[str]().union(*(FIELDS_WAIVED_BY_SETTING[key] for key in header.declared))
    for job in sorted(block.base):
        base, head = block.base[job].work, block.head[job].work
        head = head.model_copy(update={name: getattr(base, name) for name in waived})
        found = find_unequal_work(base, head, header.final_loss_bands.get(job))
        if found:
            raise ComparisonError(f"{header.names[job]}: the arms did not do the same work: {'; '.join(found)}")
