"""From a raw row to what should be said of it, under the heading it is printed under: in SI units, with interval and n."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from cnnbench import workloads
from cnnbench.machine import peaks
from cnnbench.schema import Energy, PublishedRow
from cnnbench.verify import ceilings, intervals
from cnnbench.verify.ceilings import BestProduct
from cnnbench.verify.intervals import ExpectedFigure, RequiredText, geometric, without_interval
from cnnbench.verify.raw_rows import RawRow, to_page_text

ExpectedMetrics = Mapping[str, ExpectedFigure | None]


def expect_metrics(
    row: RawRow, base: RawRow | None, product: RawRow | None, published: PublishedRow | None
) -> dict[str, ExpectedFigure | None]:
    """Every figure of the row by heading; None where a page should say n/a.

    `base` is the row that its speed-up is over, `product` the row of its measured peak, `published` the published CPU.
    """
    peak = _theoretical(row)
    found: dict[str, ExpectedFigure | None] = {
        "theoretical": without_interval(peak),
        "size": without_interval(row.job.size),
    }
    if not row.trials:
        return found
    trials = [trial for _, trial in row.trials]
    memory = [trial.memory for trial in trials]
    achieved, time = model_flops_rate(row), _job_time(row)
    top = None if product is None else model_flops_rate(product)
    ceiling = None if top is None else top.scaled(count_devices(row))
    return found | {
        "achieved": achieved,
        "measured": achieved,
        "measured peak": ceiling,
        "MFU": without_interval(_share(achieved, peak)),
        "of peak": None if product is None else ceilings.share(row, product, count_devices(row)),
        "time of the job": time,
        "speed-up": _speedup(row, base),
        "over": _over_published(row, time, published),
        "images": geometric([t.images / sum(t.block_seconds) for t in trials if t.images]),
        "host peak": without_interval(_largest([each.host_peak_bytes for each in memory])),
        "device peak": without_interval(_largest([each.device_allocated_peak_bytes for each in memory])),
        "test accuracy": _accuracy(row),
        "device reserved": without_interval(_largest([each.device_reserved_peak_bytes for each in memory])),
        "device used": without_interval(_largest([each.device_used_bytes for each in memory])),
        "activations an image": without_interval(row.workload.activation_bytes_per_image if row.workload else None),
        "parameters": without_interval(row.workload.parameter_bytes if row.workload else None),
        "energy an image": joules_per_image(row),
        "energy of the job": _job_energy(row),
        "exchange": _exchange(row),
        "launch": geometric(
            [s for _, t in row.trials if (s := t.phases.get("launch", 0.0) + t.phases.get("join", 0.0)) > 0]
        ),
        "cold start": geometric([t.cold_start_seconds for t in trials if t.cold_start_seconds]),
        "pretraining": _pretraining(row),
        "one step": geometric(row.steps),
        **_floors(row, None if ceiling is None else ceiling.value),
    }


def expect_words(row: RawRow, found: ExpectedMetrics, best: BestProduct | None) -> dict[str, str]:
    """The cells that are words, letter by letter; `best` is the best product of the row's run."""
    job = row.job
    is_best = job.workload == "gemm" and best is not None and best.usable and best.row is row
    return {
        "precision": job.precision,
        "outcome": _outcome(row),
        "blocks x products after warm-up": f"{job.blocks} x {job.block_steps} after {job.warmup_steps}",
        "what binds": _what_binds(found),
        "mark": "ceiling" if is_best else "",
    }


def model_flops_rate(row: RawRow) -> ExpectedFigure | None:
    """Model FLOPs over time."""
    return None if row.flops is None else geometric([row.flops / step for step in row.steps])


def count_devices(row: RawRow) -> int:
    """Processors that its FLOP/s are of: all ranks of a machine share its CPU, but each has a GPU of its own."""
    return row.job.nodes if row.job.device == "cpu" else row.job.world


def _outcome(row: RawRow) -> str:
    statuses = [record.outcome.status for record in row.records]
    planned, good = len(statuses) + row.unstarted, statuses.count("ok")
    parts = [f"ok {good}/{planned}"] if good else []
    parts += [f"{name} {statuses.count(name)} of {planned}" for name in sorted(set(statuses)) if name != "ok"]
    parts += [f"not run {row.unstarted} of {planned}"] if row.unstarted else []
    return parts[0] if len(parts) == 1 else f"{parts[0]} ({'; '.join(parts[1:])})"


def _what_binds(found: ExpectedMetrics) -> str:
    step = found.get("one step")
    floors = [(floor.value, name) for name, floor in found.items() if name.endswith(" floor") and floor is not None]
    if step is None or found.get("compute floor") is None:
        return "n/a"
    seconds, name = max(floors, key=lambda each: each[0])
    kind = name.removesuffix(" floor")
    return f"{kind}-bound" if seconds >= 0.5 * step.value else f"nearest: {kind}"


def _largest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _share(achieved: ExpectedFigure | None, whole: float | None) -> float | None:
    return None if achieved is None or not whole else achieved.value / whole


def _theoretical(row: RawRow) -> float | None:
    if row.device is None:
        return None
    peak = peaks.theoretical_peak(row.device, row.header.machine, row.job.precision).flops_per_second
    return None if peak is None else peak * count_devices(row)


def _exchange(row: RawRow) -> ExpectedFigure | None:
    """The share of a step that is the exchange of gradients: none of it negative, which noise can make it."""
    found = [t.communication for _, t in row.trials if t.communication]
    ratio = geometric([sum(each.with_seconds) / sum(each.without_seconds) for each in found])
    if ratio is None:
        return None
    value, low, high = (
        None if each is None else max(0.0, 1 - 1 / each) for each in (ratio.value, ratio.low, ratio.high)
    )
    return ExpectedFigure(value or 0.0, low, high, ratio.n)


def _job_time(row: RawRow) -> ExpectedFigure | None:
    job, trials = row.job, [trial for _, trial in row.trials]
    if job.clock == "accuracy":
        return None
    if not row.projected:
        found = geometric([trial.job_seconds for trial in trials if trial.job_seconds])
        return None if found is None else found.with_details("measured")
    whole = job.job_steps
    long_enough = sum(trial.steps >= 100 for trial in trials) >= 3
    if whole is None or not (long_enough or row.timed_steps >= 3 * (job.steps_per_epoch or 1)):
        return None
    found = geometric([step * whole for step in row.steps])
    return None if found is None else found.with_details("projected", projected=True)


def _over_published(row: RawRow, time: ExpectedFigure | None, published: PublishedRow | None) -> ExpectedFigure | None:
    job = row.job
    if published is None or not published.job_seconds or time is None or row.flops is None or job.job_steps is None:
        return None
    images, flops = job.job_steps * job.batch_size, job.job_steps * row.flops + workloads.pretraining_flops(job)
    if (images, flops) != (published.job_images, published.job_flops) or job.stop_when_all_right:
        return None
    return time.inverse_of(published.job_seconds)


def _pretraining(row: RawRow) -> ExpectedFigure | None:
    """What came before the first step, with its own FLOP/s beside it."""
    found = geometric([trial.pretraining_seconds for _, trial in row.trials if trial.pretraining_seconds])
    speed = pretraining_rate(row)
    if found is None or speed is None:
        return found
    return found.with_details(RequiredText("{} GFLOP/s", "giga", speed))


def pretraining_rate(row: RawRow) -> float | None:
    """Model FLOPs of pre-training over its seconds."""
    flops = 0 if row.workload is None else workloads.pretraining_flops(row.job)
    seconds = [trial.pretraining_seconds for _, trial in row.trials if trial.pretraining_seconds]
    found = geometric([flops / each for each in seconds])
    return None if found is None else found.value


def _speedup(row: RawRow, base: RawRow | None) -> ExpectedFigure | None:
    if base is None:
        return None
    found = intervals.ratio(base.costs, row.costs)
    return found.with_details("baseline") if base is row else found


def _accuracy(row: RawRow) -> ExpectedFigure | None:
    tests = [(trial.test, trial.accuracy_data) for _, trial in row.trials if trial.test and trial.test.images > 0]
    if not tests or len({(test.images, data) for test, data in tests}) > 1:
        return None
    first, kind = tests[0]
    if len(tests) == 1:
        found = intervals.wilson(first.correct, first.images)
    else:
        found = intervals.mean_share([test.correct / test.images for test, _ in tests])
    after = sorted({test.after_steps for test, _ in tests})
    steps: list[str | RequiredText] = [RequiredText("after {} steps", "number", after[0])]
    if len(after) > 1:
        steps = [f"after {after[0]:,} to {after[-1]:,} steps"]
    return found.with_details(*steps, *(("SYNTHETIC digits",) if (kind or row.job.data) == "synthetic" else ()))


def joules_per_image(row: RawRow) -> ExpectedFigure | None:
    """Joules an image with the net figure, the mean power and the counter's own uncertainty beside it."""
    found = _windows(row)
    gross = geometric([each.window_joules / (each.window_steps * row.job.batch_size) for each in found])
    if gross is None:
        return None
    net, power = net_joules(row), mean_watts(row)
    uncertain = max(each.tick_seconds / each.window_seconds for each in found)
    return gross.with_details(
        "net n/a" if net is None else RequiredText("net {}", "energy", net),
        RequiredText("{} W", "number", power or 0.0),
        RequiredText(f"±{{}} by {to_page_text(found[0].source)}", "percent", uncertain),
    )


def net_joules(row: RawRow) -> float | None:
    """Joules an image without what idling takes; None where that is all."""
    found = [
        (each.window_joules - each.idle_joules / each.idle_seconds * each.window_seconds)
        / (each.window_steps * row.job.batch_size)
        for each in _windows(row)
    ]
    mean = statistics.fmean(found) if found else 0.0
    return mean if mean > 0 else None


def mean_watts(row: RawRow) -> float | None:
    """Mean power in the energy windows of the row's processes."""
    found = [each.window_joules / each.window_seconds for each in _windows(row)]
    return statistics.fmean(found) if found else None


COUNTER_STOPPED = 1e-9
"""A counter or a window of no more than this measured nothing."""


def _windows(row: RawRow) -> list[Energy]:
    """The windows that measured something; a counter that stood still did not."""
    return [
        each
        for _, trial in row.trials
        if (each := trial.energy)
        and min(each.window_joules, each.window_steps, each.window_seconds, each.idle_seconds) > COUNTER_STOPPED
    ]


def _job_energy(row: RawRow) -> ExpectedFigure | None:
    image, steps = joules_per_image(row), row.job.job_steps
    if any(trial.pretraining_seconds for _, trial in row.trials):
        return None  # the counter was read around steps of the fine-tuning alone
    return None if image is None or steps is None else image.scaled(steps * row.job.batch_size)


def _floors(row: RawRow, ceiling: float | None) -> dict[str, ExpectedFigure | None]:
    if row.workload is None or row.workload.kind != "training" or row.job.world * row.job.copies > 1:
        return {}
    median, moved, operators = median_floors(row), bytes_moved(row), row.trials[0][1].operators_per_step
    launch, copy = median.get("launch_seconds"), median.get("copy_bytes_per_second")
    seconds = {
        "compute": None if not ceiling or row.flops is None else row.flops / ceiling,
        "bandwidth": None if not copy or moved is None else moved / copy,
        "launch": None if launch is None or operators is None else operators * launch,
        "input": median.get("draw_seconds"),
    }
    step = statistics.fmean(map(math.log, row.steps))
    return {
        f"{name} floor": None
        if not floor
        else ExpectedFigure(floor, details=(RequiredText("allows {}", "ratio", math.exp(step) / floor),))
        for name, floor in seconds.items()
    }


def median_floors(row: RawRow) -> dict[str, float]:
    """Each measured floor's median over the processes that measured it."""
    names = {name for _, trial in row.trials for name in trial.floors}
    return {name: statistics.median(t.floors[name] for _, t in row.trials if name in t.floors) for name in names}


def bytes_moved(row: RawRow) -> int | None:
    """Bytes that a step must move at least: in training each activation five times, each parameter eight; in inference two
    times and once.
    """
    if row.workload is None or row.workload.kind != "training":
        return None
    activations = row.job.batch_size * row.workload.activation_bytes_per_image
    moves = (2, 1) if row.job.task == "inference" else (5, 8)
    return moves[0] * activations + moves[1] * row.workload.parameter_bytes
