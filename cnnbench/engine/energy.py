"""Energy of a step: a counter read around further steps after the timed ones, and around an idle wait before them."""

from __future__ import annotations

import time

from cnnbench.devices import Attached, telemetry
from cnnbench.devices.plausibility import energy_between
from cnnbench.engine.distributed.group import SINGLE, ProcessGroup
from cnnbench.engine.process import ProgressWriter
from cnnbench.engine.timing import NANO
from cnnbench.engine.training import TimedStep
from cnnbench.schema import PACKAGE_COUNTER, Energy, Job, WorkerInput

ENERGY_WINDOW_SECONDS = 10.0
"""NVML's total-energy counter ticks about every 0.1 s, so half a tick at either end is 1 % of this window."""
ENERGY_IDLE_SECONDS = 5.0


def _read_counter(uuid: str | None) -> tuple[str, float | None]:
    """Read joules from the device's counter, or else the package's, with the counter's name; None without one."""
    reading = telemetry.sample(uuid)
    if reading.device_energy_joules is not None:
        return "nvml-total-energy", reading.device_energy_joules
    return PACKAGE_COUNTER, reading.package_energy_joules


def idle_energy(worker_input: WorkerInput, progress: ProgressWriter) -> tuple[float, float] | None:
    """Measure (joules, seconds) of an idle wait; None if energy was not asked for or no counter is readable."""
    if not worker_input.energy:
        return None
    progress.phase("idle power")
    start, (_, first) = time.monotonic_ns(), _read_counter(worker_input.device_uuid)
    if first is None:
        return None
    time.sleep(ENERGY_IDLE_SECONDS)
    _, last = _read_counter(worker_input.device_uuid)
    seconds = (time.monotonic_ns() - start) * NANO
    joules = energy_between(first, last, seconds)
    return None if joules is None else (joules, seconds)


def steps_energy(
    idle: tuple[float, float] | None,
    job: Job,
    timed: TimedStep,
    attached: Attached,
    uuid: str | None,
    group: ProcessGroup = SINGLE,
) -> Energy | None:
    """Measure the energy of further steps in a window of at least 10 s, after the timed region to disturb nothing.

    Either all ranks do the window or none, since they do its steps together.
    """
    if not group.all_true(idle is not None) or idle is None:
        return None
    source, first = _read_counter(uuid)
    start, steps = time.monotonic_ns(), 0
    while group.broadcast_flag((time.monotonic_ns() - start) * NANO < ENERGY_WINDOW_SECONDS):
        timed.steps(job.block_steps)
        group.synchronizer(attached)()
        steps += job.block_steps
    seconds = (time.monotonic_ns() - start) * NANO
    _, last = _read_counter(uuid)
    joules = energy_between(first, last, seconds)
    if joules is None:
        return None
    return Energy(
        source=source,
        tick_seconds=0.001 if source == PACKAGE_COUNTER else 0.1,
        window_seconds=seconds,
        window_steps=steps,
        window_joules=joules,
        idle_seconds=idle[1],
        idle_joules=idle[0],
    )
