"""Reasons to believe a figure less: a closed list, each with a number and a remedy that starts with a verb.

A doubt never changes a figure and never hides one; it is printed under every table and in every export.
`find_record_doubts` looks at one process, `merge_row_doubts` at the repeats together. To add one, write a function here
and put it in `CHECKS`.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cnnbench import units, validity, workloads
from cnnbench.devices.nvml import SLOWED
from cnnbench.devices.plausibility import counter_growth
from cnnbench.schema import Job, Machine, Record, RunHeader, Trial

PROCESSES_WANTED = 3
HALVES_APART = 0.05
"""First compared with second half of the timed blocks: 5 % is the regression check's default tolerance."""
HALF_BLOCKS_LEAST = 4
HALVES_SIGMAS = 3.0
STEAL_SHARE = 0.01
PRESSURE_SHARE = 0.05
THROTTLED_SHARE = 0.01
UNFIT = "unfit"
"""The code of the doubt that keeps a row out of headlines, measured peaks and baselines."""
UNFIT_PRESSURE_SHARE = 0.2
UNFIT_STEAL_SHARE = 0.1
"""Waiting or stolen time that exceeds noise. In 450 recorded processes of one rank the largest waiting share is 13 %,
and the largest stolen share 5.5 % except in one process, which lost 12.5 %."""
FP32_ERROR = 2e-5
"""Relative error of a 256-term product: about 1e-6 in float32, 3e-4 in TF32."""
FAULTS_PER_STEP = 500
"""Page faults per step are below 100 if the allocator is held; otherwise they are 2,000 to 12,000 and cost 5-10 %."""


@dataclass(frozen=True)
class Doubt:
    """One reason; `code` is stable, `message` has a number, `remedy` starts with a verb."""

    code: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Case:
    """One process that ended well, with all that is known about it."""

    job: Job
    trial: Trial
    process_seconds: float
    machine: Machine
    unfit: tuple[str, ...] | None
    """What made the machine unfit as the process started; None if it was not checked."""


def find_record_doubts(header: RunHeader, record: Record) -> tuple[Doubt, ...]:
    """Find the doubts about one process; empty if it measured nothing."""
    trial = record.outcome.trial
    if trial is None or not trial.block_seconds or not math.isfinite(sum(trial.block_seconds)):
        return ()
    case = Case(record.job, trial, record.process_seconds, header.machine, record.unfit)
    found: dict[str, Doubt] = {}
    for doubt in itertools.chain.from_iterable(check(case) for check in CHECKS):
        found.setdefault(doubt.code, doubt)
    return tuple(found.values())


def merge_row_doubts(per_process: Sequence[Sequence[Doubt]]) -> tuple[Doubt, ...]:
    """Merge the doubts of a row: too few processes, then each code once, with how many processes share it."""
    processes = len(per_process)
    found = []
    if 0 < processes < PROCESSES_WANTED:
        text = f"n={processes}: how much processes differ is unknown"
        remedy = f"Repeat with at least {PROCESSES_WANTED} processes (-r {PROCESSES_WANTED})."
        found.append(Doubt("few-processes", text, remedy))
    by_code = defaultdict(list)
    for doubt in itertools.chain.from_iterable(per_process):
        by_code[doubt.code].append(doubt)
    for first, *others in by_code.values():
        count = 1 + len(others)
        share = "" if count == processes else f" (in {count} of {processes} processes)"
        found.append(replace(first, message=first.message + share))
    return tuple(found)


def uneven_halves(case: Case) -> Iterator[Doubt]:
    """Doubt a trial in which one half of the timed blocks is slower than the other, by more than noise."""
    blocks = case.trial.block_seconds
    half = len(blocks) // 2
    if half < HALF_BLOCKS_LEAST:
        return
    first, second = blocks[:half], blocks[-half:]
    middle = statistics.median(first)
    spread = math.hypot(statistics.stdev(first), statistics.stdev(second)) / math.sqrt(half)
    # A median's standard error is 1.25 times the mean's for normal noise.
    change, error = statistics.median(second) / middle - 1, 1.25 * spread / middle
    if abs(change) < max(HALVES_APART, HALVES_SIGMAS * error):
        return
    if change < 0:
        text = f"the first half of the timed blocks is {-change:.0%} slower than the second: warm-up was not over"
        yield Doubt("warm-up", text, "Raise the warm-up steps (--warmup N, or in the suite).")
    else:
        text = f"the second half of the timed blocks is {change:.0%} slower than the first"
        yield Doubt("drift", text, "Look for heat or another load, and run again.")


def _counter_share(case: Case, counter: str, whole: float = 1.0) -> float:
    """Divide a counter's growth in seconds by the timed seconds times `whole`.

    It is 0 if it was not read.
    """
    readings = (case.trial.telemetry_before, case.trial.telemetry_after)
    growth = counter_growth(*(None if reading is None else getattr(reading, counter) for reading in readings))
    return growth / (sum(case.trial.block_seconds) * whole) if growth else 0.0


def throttled(case: Case) -> Iterator[Doubt]:
    """Doubt a trial in which the GPU slowed itself, or the cgroup stopped the process."""
    readings = (case.trial.telemetry_before, case.trial.telemetry_after)
    words = {word for reading in readings for word in (reading and reading.device_throttle_reasons) or ()} & SLOWED
    if words:
        text = f"{len(words)} throttle reason{'s' if len(words) > 1 else ''} during timing: {', '.join(sorted(words))}"
        yield Doubt("throttled", text, "Improve cooling or raise the power limit, and run again.")
    share = _counter_share(case, "cgroup_throttled_seconds")
    if share > THROTTLED_SHARE:
        text = f"the cgroup's CPU quota stopped threads for {share:.0%} of the time"
        yield Doubt("throttled", text, "Raise the CPU quota.")


def other_load(case: Case) -> Iterator[Doubt]:
    """Doubt a trial in which others used the processor.

    Signs are stolen time, waiting for a core, and other processes on the GPU.
    """
    after = case.trial.telemetry_after
    if after is not None and after.device_other_processes:
        yield Doubt(
            "other-load", f"{after.device_other_processes} other processes used the GPU", "End them and run again."
        )
    share = _counter_share(case, "steal_seconds", max(1, case.machine.cores_allowed))
    if share > STEAL_SHARE:
        yield Doubt(
            "other-load", f"the hypervisor gave {share:.1%} of the CPU's time to others", "Use a dedicated host."
        )
    share = _counter_share(case, "cpu_pressure_seconds")
    if share > PRESSURE_SHARE:
        text = f"threads waited for a core {share:.0%} of the time (CPU pressure)"
        yield Doubt("other-load", text, "Stop other programs and run again.")


def unfit_machine(case: Case) -> Iterator[Doubt]:
    """Doubt a process that started on an unfit machine, or whose timed steps others held up.

    Ranks, and workers of a DataLoader, wait for each other, so their waiting for a core says nothing about others.
    """
    found = list(case.unfit or ())
    waited, stolen = (
        _counter_share(case, "cpu_pressure_seconds")
        if case.job.processes == 1 and not case.job.loader_workers
        else 0.0,
        _counter_share(case, "steal_seconds", max(1, case.machine.cores_allowed)),
    )
    if waited > UNFIT_PRESSURE_SHARE:
        found.append(f"threads waited for a core {waited:.0%} of the timed part")
    if stolen > UNFIT_STEAL_SHARE:
        found.append(f"other guests took {stolen:.0%} of the CPU in the timed part")
    if found:
        text = f"the machine was unfit for measuring: {'; '.join(found)}"
        yield Doubt(UNFIT, text, "Stop the other programs (`cnnbench doctor` finds what disturbs) and run again.")


def unsuited_cpu(case: Case) -> Iterator[Doubt]:
    """Doubt more threads than this process has cores, neighbours that cannot be seen, and a clock that may sink."""
    job, machine, cores = case.job, case.machine, case.machine.cores_allowed
    if job.device != "cpu":
        return
    threads = (job.threads or 0) * job.processes // job.nodes
    if threads > cores:
        yield Doubt("cores", f"{threads} threads on {cores} allowed cores", "Lower --threads, or allow more cores.")
    if machine.hypervisor is not None:
        text = f"virtual machine ({machine.hypervisor}): {cores} cores, with neighbours that cannot be seen"
        yield Doubt("hypervisor", text, "Compare only rows of one run, or measure on bare metal.")
    if machine.governor not in (None, "performance"):
        text = f"CPU frequency governor {machine.governor} on {cores} cores"
        yield Doubt("governor", text, "Set it to performance (cpupower frequency-set -g performance).")


def page_faults(case: Case) -> Iterator[Doubt]:
    """Doubt a trial that takes memory from the kernel again in every step."""
    faults = (case.trial.minor_faults or 0) / (case.trial.steps or math.inf)
    if faults > FAULTS_PER_STEP:
        held = "Use a smaller batch, or resident batches: the allocator is held already."
        remedy = held if case.job.allocator == "held" else 'Hold the allocator (allocator = "held", the default).'
        yield Doubt(
            "page-faults",
            f"{faults:,.0f} page faults per step, enough to make identical processes differ by 5-10 %",
            remedy,
        )


def other_work(case: Case) -> Iterator[Doubt]:
    """Doubt an accuracy on digits other than MNIST, and a job's time that is projected from a few of its steps."""
    test, whole, timed = case.trial.test, case.job.job_steps, case.trial.steps
    if case.job.data == "synthetic" and test is not None:
        text = f"accuracy is on {test.images:,} synthetic digits, not MNIST"
        yield Doubt("synthetic", text, "Fetch MNIST (cnnbench data fetch) and run again.")
    if case.job.clock == "steady" and whole is not None and timed < whole:
        text = f"the job's {whole:,} steps are projected from {timed:,} timed ones per process"
        yield Doubt("projected", text, "Run the whole job (cnnbench run lecture) to measure it.")


def above_peak(case: Case) -> Iterator[Doubt]:
    """Doubt a rate above the device's bound, but within what a convolution may reach."""
    device = case.machine.find_device(case.job.device)
    found = validity.find_violations(case.job, case.trial, case.process_seconds, device, case.machine)
    remedy = "Check the clock and the canary before believing it."
    return (Doubt("above-peak", each.message, remedy) for each in found if each.severity == "doubt")


def precision_not_seen(case: Case) -> Iterator[Doubt]:
    """Doubt TF32 arithmetic that is as exact as float32."""
    error = case.trial.settings.get("matmul_error", "")
    with suppress(ValueError):  # a setting is text; cnnbench writes only numbers here
        if case.job.precision == "tf32" and float(error) <= FP32_ERROR:
            text = f"labelled tf32, but a product's relative error is {error}, that of float32"
            yield Doubt("precision", text, "Call it fp32, or find out why tensor cores were not used.")


def outside_band(case: Case) -> Iterator[Doubt]:
    """Doubt an accuracy, or a regression's R², outside the band of the recipe's seeds, below or above."""
    test, fit = case.trial.test, case.trial.fit
    if case.job.data not in ("mnist", "points") or case.job.workload not in workloads.names():
        return
    if test is not None and test.images:
        name, share, after = "accuracy", test.correct / test.images, test.after_steps
    elif fit is not None and fit.target_variance:
        name, share, after = "R²", fit.r_squared, fit.after_steps
    else:
        return
    band = find_band(case.job, after)
    got = f"{name} {units.percent(share)} after {after:,} steps"
    if band is not None and share < band.low:
        remedy = "Check optimiser and initialisation: speed without learning is worth nothing."
        yield Doubt("low-accuracy", f"{got}, {units.percent(band.low)} or more is expected", remedy)
    if band is not None and share > band.high:
        remedy = "Check that no test image was trained on, and that the recipe is the workload's."
        yield Doubt("high-accuracy", f"{got}, {units.percent(band.high)} or less is expected", remedy)


def find_band(job: Job, steps: int) -> workloads.Band | None:
    """Find the accuracy to expect of a job after so many steps.

    None if its recipe was not calibrated.
    """
    workload = workloads.get(job.workload, job.workload_version)
    own = (job.optimizer, job.init) == (workload.default_optimizer, workload.default_init)
    same_network = job.pool in (None, workload.pool) and job.activation in (None, workload.activation)
    if not own or job.division == "open" or not same_network:
        return None
    return next((band for band in workload.bands if band.holds_for(steps, job.batch_size, job.order)), None)


CHECKS = (
    unfit_machine,
    uneven_halves,
    throttled,
    other_load,
    unsuited_cpu,
    page_faults,
    other_work,
    above_peak,
    precision_not_seen,
    outside_band,
)
"""The checks of a process; if two reasons have one code, the first counts."""
