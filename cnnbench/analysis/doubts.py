"""Reasons to believe a figure less: a closed list, each with a number and a remedy that starts with a verb.

A doubt never changes a figure and never hides one; it stands under every table and in every export. `find_record_doubts` looks
at one process, `merge_row_doubts` at the repeats together. To add one, write a function here and put it in `CHECKS`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cnnbench import units, validity, workloads
from cnnbench.devices.nvml import SLOWED
from cnnbench.devices.plausibility import counter_growth
from cnnbench.schema import Device, Job, Machine, Record, RunHeader, Telemetry, Trial

PROCESSES_WANTED = 3
HALVES_APART = 0.05
"""First against second half of the timed blocks: 5 % is the regression check's default tolerance."""
HALF_BLOCKS_LEAST = 4
HALVES_SIGMAS = 3.0
STEAL_SHARE = 0.01
PRESSURE_SHARE = 0.05
THROTTLED_SHARE = 0.01
FP32_ERROR = 2e-5
"""Relative error of a 256-term product: about 1e-6 in float32, 3e-4 in TF32."""
FAULTS_PER_STEP = 500
"""Page faults a step with the allocator held are below 100; let go they are 2,000 to 12,000 and cost 5-10 %."""


@dataclass(frozen=True)
class Doubt:
    """One reason; `code` is stable, `message` has a number, `remedy` starts with a verb."""

    code: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Case:
    """One process that ended well, with all there is to know about it."""

    job: Job
    trial: Trial
    process_seconds: float
    device: Device | None
    machine: Machine

    @property
    def timed_seconds(self) -> float:
        """Sum of the blocks."""
        return sum(self.trial.block_seconds)


Check = Callable[[Case], Doubt | None]


def find_record_doubts(header: RunHeader, record: Record) -> tuple[Doubt, ...]:
    """The doubts about one process; none about one that measured nothing."""
    trial = record.outcome.trial
    if trial is None or not trial.block_seconds or not math.isfinite(sum(trial.block_seconds)):
        return ()
    device = next((d for d in header.machine.devices if d.id == record.job.device), None)
    case = Case(record.job, trial, record.process_seconds, device, header.machine)
    return tuple(doubt for check in CHECKS if (doubt := check(case)) is not None)


def merge_row_doubts(processes: int, per_process: Sequence[Sequence[Doubt]]) -> tuple[Doubt, ...]:
    """The row's doubts: too few processes, then each process's, once a code, with how many processes share it."""
    found: list[Doubt] = []
    if 0 < processes < PROCESSES_WANTED:
        found.append(
            Doubt(
                "few-processes",
                f"n={processes}: what another process would say is unknown",
                f"Repeat with at least {PROCESSES_WANTED} processes (-r {PROCESSES_WANTED}).",
            )
        )
    by_code: dict[str, list[Doubt]] = {}
    for doubts in per_process:
        for doubt in doubts:
            by_code.setdefault(doubt.code, []).append(doubt)
    for code, doubts in by_code.items():
        share = "" if len(doubts) == processes else f" (in {len(doubts)} of {processes} processes)"
        found.append(Doubt(code, doubts[0].message + share, doubts[0].remedy))
    return tuple(found)


def _compare_halves(case: Case) -> tuple[float, float] | None:
    """(second half over first half - 1, its standard error) of the medians of the timed blocks, or None for too few."""
    blocks = case.trial.block_seconds
    half = len(blocks) // 2
    if half < HALF_BLOCKS_LEAST:
        return None
    first, second = blocks[:half], blocks[-half:]
    middle = statistics.median(first)
    spread = math.hypot(statistics.stdev(first), statistics.stdev(second)) / math.sqrt(half)
    # A median's standard error is 1.25 times the mean's for normal noise.
    return statistics.median(second) / middle - 1, 1.25 * spread / middle


def warm_up_not_over(case: Case) -> Doubt | None:
    """The first half slower than the second, by more than noise."""
    halves = _compare_halves(case)
    if halves is None or halves[0] > -HALVES_APART or -halves[0] < HALVES_SIGMAS * halves[1]:
        return None
    return Doubt(
        "warm-up",
        f"the first half of the timed blocks is {-halves[0]:.0%} slower than the second: warm-up was not over",
        "Raise warm-up steps in the suite.",
    )


def drift(case: Case) -> Doubt | None:
    """The second half slower than the first, by more than noise."""
    halves = _compare_halves(case)
    if halves is None or halves[0] < HALVES_APART or halves[0] < HALVES_SIGMAS * halves[1]:
        return None
    return Doubt(
        "drift",
        f"the second half of the timed blocks is {halves[0]:.0%} slower than the first",
        "Look for heat or another load, and run again.",
    )


def _counter_growth(case: Case, read: Callable[[Telemetry], float | None]) -> float | None:
    before, after = case.trial.telemetry_before, case.trial.telemetry_after
    if before is None or after is None:
        return None
    return counter_growth(read(before), read(after)).value


def throttled(case: Case) -> Doubt | None:
    """The GPU slowed itself, or the cgroup stopped the process."""
    words: set[str] = set()
    for reading in (case.trial.telemetry_before, case.trial.telemetry_after):
        words |= set((reading.device_throttle_reasons if reading else None) or ()) & SLOWED
    if words:
        text = f"{len(words)} throttle reason{'s' if len(words) > 1 else ''} during timing: {', '.join(sorted(words))}"
        return Doubt("throttled", text, "Improve cooling or raise the power limit, and run again.")
    stopped = _counter_growth(case, lambda reading: reading.cgroup_throttled_seconds)
    if stopped is not None and stopped > THROTTLED_SHARE * case.timed_seconds:
        share = stopped / case.timed_seconds
        return Doubt(
            "throttled", f"the cgroup's CPU quota stopped threads for {share:.0%} of the time", "Raise the CPU quota."
        )
    return None


def other_load(case: Case) -> Doubt | None:
    """Someone else used the processor: stolen time, waiting for a core, other processes on the GPU."""
    after = case.trial.telemetry_after
    if after is not None and after.device_other_processes:
        text = f"{after.device_other_processes} other processes used the GPU"
        return Doubt("other-load", text, "End them and run again.")
    cores = max(1, case.machine.cores_allowed)
    stolen = _counter_growth(case, lambda reading: reading.steal_seconds)
    if stolen is not None and stolen > STEAL_SHARE * case.timed_seconds * cores:
        share = stolen / (case.timed_seconds * cores)
        return Doubt(
            "other-load", f"the hypervisor gave {share:.1%} of the CPU's time to others", "Use a dedicated host."
        )
    waited = _counter_growth(case, lambda reading: reading.cpu_pressure_seconds)
    if waited is not None and waited > PRESSURE_SHARE * case.timed_seconds:
        share = waited / case.timed_seconds
        text = f"threads waited for a core {share:.0%} of the time (CPU pressure)"
        return Doubt("other-load", text, "Stop other programs and run again.")
    return None


def too_many_threads(case: Case) -> Doubt | None:
    """More threads than cores this process may use."""
    if case.job.device != "cpu" or case.job.threads is None:
        return None
    threads, allowed = case.job.threads * case.job.processes // case.job.nodes, case.machine.cores_allowed
    if threads <= allowed:
        return None
    return Doubt("cores", f"{threads} threads on {allowed} allowed cores", "Lower --threads, or allow more cores.")


def hypervisor(case: Case) -> Doubt | None:
    """A virtual machine's neighbours cannot be seen."""
    if case.machine.hypervisor is None or case.job.device != "cpu":
        return None
    text = f"virtual machine ({case.machine.hypervisor}): {case.machine.cores_allowed} cores among neighbours nobody can see"
    return Doubt("hypervisor", text, "Compare only rows of one run, or measure on bare metal.")


def governor(case: Case) -> Doubt | None:
    """A governor that lets the clock sink."""
    name = case.machine.governor
    if name in (None, "performance") or case.job.device != "cpu":
        return None
    text = f"CPU frequency governor {name} on {case.machine.cores_allowed} cores"
    return Doubt("governor", text, "Set it to performance (cpupower frequency-set -g performance).")


def page_faults(case: Case) -> Doubt | None:
    """Memory taken from the kernel anew in every step."""
    faults = case.trial.minor_faults
    if faults is None or not case.trial.steps or faults / case.trial.steps <= FAULTS_PER_STEP:
        return None
    text = f"{faults / case.trial.steps:,.0f} page faults a step; identical processes differ by 5-10 % so"
    if case.job.allocator == "held":
        remedy = "The allocator is held already: a smaller batch, or resident batches, take less memory anew."
        return Doubt("page-faults", text, remedy)
    return Doubt("page-faults", text, 'Hold the allocator (allocator = "held", the default).')


def synthetic(case: Case) -> Doubt | None:
    """Accuracy on digits that are not MNIST."""
    if case.job.data != "synthetic" or case.trial.test is None:
        return None
    text = f"accuracy is on {case.trial.test.images:,} synthetic digits, not MNIST"
    return Doubt("synthetic", text, "Fetch MNIST (cnnbench data fetch) and run again.")


def projected(case: Case) -> Doubt | None:
    """The job's time is computed from a few of its steps."""
    whole = case.job.job_steps
    if case.job.clock != "steady" or whole is None or case.trial.steps >= whole:
        return None
    text = f"the job's {whole:,} steps are projected from {case.trial.steps:,} timed ones a process"
    return Doubt("projected", text, "Run the whole job (cnnbench run lecture) to measure it.")


def above_peak(case: Case) -> Doubt | None:
    """Faster than the device's bound, within what a convolution may do."""
    found = validity.find_violations(case.job, case.trial, case.process_seconds, case.device, case.machine)
    doubted = [violation.message for violation in found if violation.severity == "doubt"]
    return Doubt("above-peak", doubted[0], "Check the clock and the canary before believing it.") if doubted else None


def above_ceiling(share: float, division: str = "reference") -> Doubt:
    """A whole training step faster than the bare products of its device (asked by `compare`, which sees both)."""
    if division != "reference":
        text = f"the model's FLOPs come to {share:.0%} of the best matrix product: products with zeros are left out"
        return Doubt("zeros-left-out", text, "Read its FLOP/s as the model's arithmetic a second, not as the device's.")
    text = f"the step reaches {share:.0%} of the best matrix product measured on its device"
    return Doubt("above-ceiling", text, "Measure the products again, in the same run.")


def ceiling_spread(product: Job, times: float) -> Doubt:
    """Doubt a measured peak whose own processes differ (asked by `ceiling`, which sees the products beside the row)."""
    name = f"size {units.count(product.size)}, {product.precision}"
    text = (
        f"the processes of the best matrix product ({name}) differ by {units.ratio(times)}: no row is compared with it"
    )
    return Doubt("ceiling-spread", text, "Stop other programs and measure the products again, in the same run.")


def learns_worse(text: str) -> Doubt:
    """A mode that buys its speed with worse learning (asked by `converge`, which sees the plain mode too)."""
    return Doubt("learns-worse", text, "Claim no speed with it; `cnnbench converge` has the test.")


def precision_not_seen(case: Case) -> Doubt | None:
    """TF32 was asked for and the arithmetic is as exact as float32."""
    error = case.trial.settings.get("matmul_error")
    if case.job.precision != "tf32" or error is None or not _as_number(error) <= FP32_ERROR:
        return None
    text = f"labelled tf32, but a product's relative error is {error}, that of float32"
    return Doubt("precision", text, "Call it fp32, or find out why tensor cores were not used.")


def _as_number(setting: str) -> float:
    """A setting is text; one that is no number is none we wrote, and NaN is neither small nor large."""
    try:
        return float(setting)
    except ValueError:
        return math.nan


def outside_band(case: Case) -> Doubt | None:
    """Trained as its recipe says, and not as good as its seeds are; or better than any of them."""
    test = case.trial.test
    if test is None or case.job.data != "mnist" or case.job.workload not in workloads.names() or not test.images:
        return None
    band = find_band(case.job, test.after_steps)
    if band is None:
        return None
    share = test.correct / test.images
    got = f"accuracy {units.percent(share)} after {test.after_steps:,} steps"
    if share < band.low:
        text = f"{got}, {units.percent(band.low)} or more is expected"
        remedy = "Check optimiser and initialisation: speed without learning is worth nothing."
        return Doubt("low-accuracy", text, remedy)
    if share > band.high:
        text = f"{got}, {units.percent(band.high)} or less is expected"
        return Doubt(
            "high-accuracy", text, "Check that no test image was trained on, and that the recipe is the workload's."
        )
    return None


def find_band(job: Job, steps: int) -> workloads.Band | None:
    """The accuracy to expect of a job after so many steps; None where it is not a recipe that was calibrated."""
    workload = workloads.get(job.workload, job.workload_version)
    own = (job.optimizer, job.init) == (workload.default_optimizer, workload.default_init)
    if (
        not own
        or job.division == "open"
        or job.pool not in (None, workload.pool)
        or job.activation not in (None, workload.activation)
    ):
        return None
    return next((band for band in workload.bands if band.holds_for(steps, job.batch_size, job.order)), None)


CHECKS: tuple[Check, ...] = (
    warm_up_not_over,
    drift,
    throttled,
    other_load,
    too_many_threads,
    hypervisor,
    governor,
    page_faults,
    synthetic,
    projected,
    above_peak,
    precision_not_seen,
    outside_band,
)
