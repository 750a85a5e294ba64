"""A row's figures derived again from its raw blocks: `FIGURES` maps the name of each value to a function of the row."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import attrgetter

from scipy.special import bdtr

from cnnbench import workloads
from cnnbench.machine import peaks
from cnnbench.schema import Energy, Trial
from cnnbench.verify import intervals
from cnnbench.verify.intervals import DerivedFigure, NoFigure, geometric, known
from cnnbench.verify.raw_rows import PageView, RawRow, count_processors

FigureDerivation = Callable[[PageView, RawRow], DerivedFigure]
SECONDS_AN_HOUR = 3600
FLOORS = ("compute", "bandwidth", "launch", "input")
"""What may limit a step."""
MISSED_AT_MOST = 0.05
"""The probability with which the interval of a median may miss it."""
COUNTER_STOPPED = 1e-9
"""A counter or a window that advanced by this or less measured nothing."""


@lru_cache(maxsize=1 << 16)
def find_figure(view: PageView, row: RawRow, name: str) -> DerivedFigure | None:
    """Find a figure by name, derived once however often it is printed; None if the records do not have it."""
    try:
        return FIGURES[name](view, row) if row.trials or name.endswith("_to_target") else None
    except NoFigure:
        return None


def _average(row: RawRow, values: Iterable[float | None]) -> DerivedFigure:
    """Average over processes; in two stages if a first stage decided how many followed and each process has a value."""
    found = [value for value in values if value]
    in_stages = row.planned_trials < len(row.trials) == len(found) and min(found) > 0
    return intervals.two_stages(found, row.planned_trials) if in_stages else geometric(found)


def _flops_rate(view: PageView, row: RawRow) -> DerivedFigure:
    """Divide model FLOPs by the step time, where the device computes all of them."""
    if row.skips_zeros:
        raise NoFigure
    return _average(row, (known(row.flops) / step for step in row.steps))


def _model_rate(view: PageView, row: RawRow) -> DerivedFigure:
    """Divide model FLOPs by the step time in the processes whose kernels leave some out."""
    if not row.skips_zeros:
        raise NoFigure
    rungs = (trial.settings.get("tuned_rung", row.job.execution) for trial in row.good_trials)
    pairs = zip(rungs, row.steps, strict=True)
    return _average(row, (known(row.flops) / step for rung, step in pairs if rung in ("native", "auto")))


def _share_of_ceiling(view: PageView, row: RawRow) -> DerivedFigure:
    """Divide the row's FLOP/s per device by those of its matrix product."""
    product = known(None if row.skips_zeros else view.ceiling(row))
    found = _divide(product, row, product.step_costs, row.step_costs)
    if found.low is None:  # too few of a side for an interval: the means alone
        ours, theirs = (geometric(each.step_costs.values()) for each in (row, product))
        found = DerivedFigure(theirs.value / ours.value, n=min(len(row.step_costs), len(product.step_costs)))
    return found.scaled(known(row.flops) / known(product.flops) / row.devices)


def job_times(row: RawRow) -> list[float]:
    """List seconds of the whole job by process, projected if only steps were timed; empty for a job without an end."""
    job = row.job
    if job.clock != "steady":
        return [trial.job_seconds for trial in row.good_trials if trial.job_seconds and job.clock != "accuracy"]
    steps = [trial.steps for trial in row.good_trials if trial.steps >= 40]
    long_enough = len(steps) >= 3 and sum(steps) >= 300
    long_enough = long_enough or row.timed_steps >= 3 * (job.steps_per_epoch or 1)
    return [step * known(job.job_steps) for step in row.steps if long_enough]


def _over_published(view: PageView, row: RawRow) -> DerivedFigure:
    job, published, steps = row.job, known(view.published_cpu), known(row.job.job_steps)
    work = steps * job.batch_size, steps * known(row.flops) + workloads.pretraining_flops(job)
    if work != (published.job_images, published.job_flops) or job.stop_when_all_right:
        raise NoFigure
    return _average(row, (known(published.job_seconds) / time for time in job_times(row)))


def _accuracy(view: PageView, row: RawRow) -> DerivedFigure:
    tests = [(test, data) for test, data in row.tests if test.images > 0]
    if len({(test.images, data) for test, data in tests}) != 1:
        raise NoFigure
    return intervals.accuracy([test.correct for test, _ in tests], tests[0][0].images)


def energy_windows(row: RawRow) -> list[Energy]:
    """List the energy windows that measured something: energy, steps and both durations are above zero."""
    found = filter(None, (trial.energy for trial in row.good_trials))
    counted = attrgetter("window_joules", "window_steps", "window_seconds", "idle_seconds")
    return [each for each in found if min(counted(each)) > COUNTER_STOPPED]


def _energy(view: PageView, row: RawRow) -> DerivedFigure:
    """Compute joules per image."""
    return geometric(each.window_joules / (each.window_steps * row.job.batch_size) for each in energy_windows(row))


def net_joules(row: RawRow) -> float | None:
    """Compute joules per image without the idle power; None if nothing is left."""
    found = [
        (each.window_joules - each.idle_joules / each.idle_seconds * each.window_seconds)
        / (each.window_steps * row.job.batch_size)
        for each in energy_windows(row)
    ]
    mean = statistics.fmean(found) if found else 0.0
    return mean if mean > 0 else None


def mean_watts(row: RawRow) -> float | None:
    """Compute the mean power in the energy windows of the row's processes."""
    found = [each.window_joules / each.window_seconds for each in energy_windows(row)]
    return statistics.fmean(found) if found else None


def _job_energy(view: PageView, row: RawRow) -> DerivedFigure:
    if any(trial.pretraining_seconds for trial in row.good_trials):
        raise NoFigure  # the counter was read around steps of the fine-tuning alone
    return _energy(view, row).scaled(known(row.job.job_steps) * row.job.batch_size)


def pretraining_rate(row: RawRow) -> float:
    """Divide model FLOPs of pre-training by its seconds."""
    flops = 0 if row.workload is None else workloads.pretraining_flops(row.job)
    return geometric(flops / each.pretraining_seconds for each in row.good_trials if each.pretraining_seconds).value


def _exchange(view: PageView, row: RawRow) -> DerivedFigure:
    """Compute the share of a step spent on exchanging gradients, at least 0: noise can make the difference negative."""
    found = [trial.communication for trial in row.good_trials if trial.communication]
    ratio = _average(row, (sum(each.with_seconds) / sum(each.without_seconds) for each in found))
    return ratio.changed(lambda times: max(0.0, 1 - 1 / times))


def _divide_costs(base: RawRow | None, row: RawRow) -> DerivedFigure:
    return _divide(known(base), row, known(base).costs, row.costs)


def _divide(base: RawRow, own: RawRow, above: intervals.Cost, below: intervals.Cost) -> DerivedFigure:
    """Divide the costs of two rows: paired within one run, otherwise with how much runs differ in the interval."""
    first, second = base.header, own.header
    if (first.run_id, first.machine.id) == (second.run_id, second.machine.id):
        return intervals.ratio(above, below)
    one_boot = first.boot_id is not None and (first.boot_id, first.machine) == (second.boot_id, second.machine)
    products = base.job.workload == "gemm", own.job.workload == "gemm"
    return intervals.ratio_of_runs(above, below, products, one_boot)


def _scaled(view: PageView, row: RawRow) -> DerivedFigure:
    base = known(view.scaling_bases.get(row))
    return _divide_costs(base, row).scaled(row.job.batch_size / base.job.batch_size)


def _efficiency(view: PageView, row: RawRow) -> DerivedFigure:
    base = known(view.scaling_bases.get(row))
    return _scaled(view, row).scaled(count_processors(base) / count_processors(row))


@lru_cache(maxsize=1024)
def copy_steps(row: RawRow) -> list[dict[str, float]]:
    """List seconds per step by place, for each launch in which every copy has its own place and a time."""
    if row.job.copies == 1:
        return []
    every = [{rank.place: sum(rank.block_seconds) / trial.steps for rank in trial.ranks} for trial in row.good_trials]
    places = {place for each in every for place in each}
    return [each for each in every if each.keys() == places and len(each) == row.job.copies and min(each.values()) > 0]


def slowest_copy(row: RawRow) -> str | None:
    """Find the place with the largest geometric mean over launches."""
    found = copy_steps(row)
    places = sorted(found[0]) if found else ()
    return max(places, key=lambda place: statistics.geometric_mean(each[place] for each in found), default=None)


def has_reached(row: RawRow, trial: Trial) -> bool:
    """Check that the last evaluation has as many right as the target asks for."""
    target = row.job.target or 1.0
    return any(round(last.correct - target * last.images, 6) >= 0 for last in trial.epoch_evaluations[-1:])


def seeds_to_target(row: RawRow) -> list[tuple[Trial, bool]]:
    """List each seed and whether it reached the target; empty if the row has no target."""
    own = row.attempts if row.job.clock == "accuracy" and row.job.target is not None else ()
    return [(trial, has_reached(row, trial)) for _, trial in own]


def count_epochs(row: RawRow, trial: Trial) -> float:
    """Convert a process's steps to epochs."""
    return trial.steps / (row.job.steps_per_epoch or 1)


def _median(of: Callable[[RawRow, Trial], float]) -> FigureDerivation:
    """Make the rule of a median with its interval by order statistics; a seed that missed its target counts as latest."""

    def derive(view: PageView, row: RawRow) -> DerivedFigure:
        values = sorted(of(row, trial) if good else math.inf for trial, good in seeds_to_target(row))
        n, middle = len(values), statistics.median(values) if values else math.inf
        if math.isinf(middle):
            raise NoFigure
        fitting = [rank for rank in range(1, n // 2 + 1) if 2 * float(bdtr(rank - 1, n, 0.5)) <= MISSED_AT_MOST]
        if not fitting:
            return DerivedFigure(middle, n=n)
        low, high = values[fitting[-1] - 1], values[-fitting[-1]]
        return DerivedFigure(middle, low, None if math.isinf(high) else high, n)

    return derive


def median_floors(row: RawRow) -> dict[str, float]:
    """Compute each measured floor's median over the processes that measured it."""
    names = {name for trial in row.good_trials for name in trial.floors}
    return {name: statistics.median(t.floors[name] for t in row.good_trials if name in t.floors) for name in names}


def bytes_moved(row: RawRow) -> int | None:
    """Count the bytes that a step must move at least.

    Training moves each activation five times and each parameter eight times, inference two times and once.
    """
    if row.workload is None or row.workload.kind != "training":
        return None
    activations = row.job.batch_size * row.workload.activation_bytes_per_image
    moves = (2, 1) if row.job.task == "inference" else (5, 8)
    return moves[0] * activations + moves[1] * row.workload.parameter_bytes


@lru_cache(maxsize=4096)
def floors(view: PageView, row: RawRow) -> dict[str, float]:
    """Compute the least seconds that a step can take, by each limit that is known."""
    median, moved = median_floors(row), bytes_moved(row)
    ceiling = find_figure(view, row, "measured_peak_flops_per_second")
    if not row.trials or moved is None or not row.alone:
        return {}
    operators = row.good_trials[0].operators_per_step
    launch, copy = median.get("launch_seconds"), median.get("copy_bytes_per_second")
    found = {
        "compute": row.flops / ceiling.value if ceiling and row.flops and not row.skips_zeros else None,
        "bandwidth": moved / copy if copy else None,
        "launch": operators * launch if operators and launch else None,
        "input": median.get("draw_seconds"),
    }
    return {name: seconds for name, seconds in found.items() if seconds}


def find_peak(row: RawRow) -> peaks.Peak:
    """Find the theoretical dense peak of one of the row's processors."""
    return peaks.theoretical_peak(known(row.device), row.header.machine, row.job.precision)


def _mean(read: Callable[[Trial], float | None]) -> FigureDerivation:
    """Make the rule of a geometric mean over one measured value per process."""
    return lambda view, row: _average(row, map(read, row.good_trials))


FIGURES: Mapping[str, FigureDerivation] = {
    "achieved_flops_per_second": _flops_rate,
    "model_flops_per_second": _model_rate,
    "measured_peak_flops_per_second": lambda view, row: _flops_rate(view, known(view.ceiling(row))).scaled(row.devices),
    "share_of_measured_peak": _share_of_ceiling,
    "job_seconds": lambda view, row: _average(row, job_times(row)),
    "speedup": lambda view, row: _divide_costs(view.find_base(row), row),
    "speedup_over_reference": _over_published,
    "images_per_second": _mean(lambda trial: trial.images / sum(trial.block_seconds)),
    "test_accuracy": _accuracy,
    "r_squared": lambda view, row: intervals.arithmetic(
        [1 - each.fit.mean_squared_error / each.fit.target_variance for each in row.good_trials if each.fit]
    ),
    "energy_joules_per_image": _energy,
    "job_energy_joules": _job_energy,
    "job_cost": lambda view, row: _average(row, job_times(row)).scaled(known(view.price(row)) / SECONDS_AN_HOUR),
    "cold_start_seconds": _mean(lambda trial: trial.cold_start_seconds),
    "step_seconds": lambda view, row: _average(row, row.steps),
    "pretraining_seconds": _mean(lambda trial: trial.pretraining_seconds),
    "median_seconds_to_target": _median(lambda row, trial: trial.job_seconds or math.inf),
    "median_steps_to_target": _median(lambda row, trial: trial.steps),
    "median_epochs_to_target": _median(count_epochs),
    "speed_over_rung_before": lambda view, row: _divide_costs(view.rungs.get(row, (None, None))[0], row),
    "speed_over_first_rung": lambda view, row: _divide_costs(view.rungs.get(row, (None, None))[1], row),
    "scaling_speedup": _scaled,
    "scaling_efficiency": _efficiency,
    "exchange_share": _exchange,
    "launch_seconds": _mean(lambda trial: trial.phases.get("launch", 0.0) + trial.phases.get("join", 0.0)),
    "median_copy_seconds": lambda view, row: geometric(statistics.median(each.values()) for each in copy_steps(row)),
    "slowest_over_median": lambda view, row: geometric(
        each[slowest_copy(row) or ""] / statistics.median(each.values()) for each in copy_steps(row)
    ),
}
"""Values that have an interval and n beside them, by name."""
