"""What one process measured, raw, and how it ended."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cnnbench.schema.base import Frozen
from cnnbench.schema.job import DataKind

Status = Literal[
    "ok", "oom", "timeout", "hang", "crashed", "unsupported", "diverged", "missed", "interrupted", "invalid"
]
TUNED_ERROR = "tuned_gradient_error"
"""The setting of a tuned trial that says how far its gradients are from float64's, relative; see `engine.tuned`."""
TENSORBOARD_NOTE = "tensorboard"
"""The setting of a trial that says what of its TensorBoard run could not be written; absent where all was, or none was asked."""
PACKAGE_COUNTER = "rapl-package"
"""The source of energy that is a whole machine's, whichever process reads it."""


class Evaluation(Frozen):
    """Accuracy on test images at one point: after an epoch on a sample, or at the end on all of them."""

    after_steps: int
    images: int
    correct: int
    seconds: float

    def reaches(self, target: float) -> bool:
        """Whether this share of the images, or more, is right; a millionth of an image is the rounding of the product."""
        return self.correct >= target * self.images - 1e-6


class Memory(Frozen):
    """High-water marks of the training part, never polls. `host_method` says how the host's was read."""

    host_peak_bytes: int | None = None
    host_before_bytes: int | None = None
    """resident size when the high-water mark was reset"""
    host_method: str | None = None
    device_allocated_peak_bytes: int | None = None
    device_reserved_peak_bytes: int | None = None
    device_used_bytes: int | None = None
    """NVML, this process where it can be told, by UUID"""


class Canary(Frozen):
    """Whether synchronise really waits: time must follow the work, and agree with reading a result back."""

    passed: bool
    side: int
    launches: int
    small_seconds: float
    large_seconds: float
    growth: float
    """large over small; work grows 8x, at least 4x must show"""
    sync_seconds: float
    readback_seconds: float
    copy_seconds: float
    rounds: int
    reason: str | None = None


class Telemetry(Frozen):
    """The machine's state at one moment; `missing` says why a sensor is absent."""

    load_1min: float | None = None
    steal_seconds: float | None = None
    """counter since boot, all cores"""
    cpu_pressure_seconds: float | None = None
    """counter: /proc/pressure/cpu some total"""
    cgroup_throttled_seconds: float | None = None
    cpu_clock_hertz: float | None = None
    package_energy_joules: float | None = None
    """RAPL counter, unwrapped per package, summed"""
    device_clock_hertz: float | None = None
    device_memory_clock_hertz: float | None = None
    device_temperature_celsius: float | None = None
    device_power_watts: float | None = None
    device_power_limit_watts: float | None = None
    device_energy_joules: float | None = None
    """NVML total-energy counter"""
    device_throttle_reasons: tuple[str, ...] | None = None
    device_used_bytes: int | None = None
    device_other_processes: int | None = None
    missing: dict[str, str] = Field(default_factory=dict)


class Energy(Frozen):
    """Raw readings of one energy counter around the timed steps (extended to at least 10 s) and around an idle wait."""

    source: str
    """nvml-total-energy or rapl-package"""
    tick_seconds: float
    """the counter's update interval: half of it at either end is uncertain"""
    window_seconds: float
    window_steps: int
    window_joules: float
    idle_seconds: float
    idle_joules: float


class Communication(Frozen):
    """Blocks of steps in turn with and without the gradients' exchange between ranks (DDP's `no_sync`), in seconds."""

    steps_per_block: int
    with_seconds: tuple[float, ...]
    without_seconds: tuple[float, ...]


class Rank(Frozen):
    """What one of several processes of a job measured: a rank, or a copy. Blocks begin and end with all ranks of a job."""

    rank: int
    node: int = 0
    place: str
    """`cuda:1` as its machine calls it, or the cores it was held to: `cores 0,1`"""
    block_seconds: tuple[float, ...]
    images: int
    cold_start_seconds: float | None = None
    minor_faults: int | None = None
    cpu_seconds: float | None = None
    memory: Memory = Memory()
    energy: Energy | None = None
    communication: Communication | None = None
    weights: str | None = None
    """digest of the parameters after the timed steps"""


class Trial(Frozen):
    """What one process measured, raw; or several at once, which are in `ranks`.

    Of ranks a block is as long as on the slowest, images and energy are their sum, memory is the rank's that took most, and
    what is the same on all is rank 0's. Of copies it is the slowest copy's, whole.

    `block_seconds[i]` is the wall time of block i, `steps_per_block` optimiser steps each (one epoch each under the
    job clock, evaluations left out); device synchronised at both ends.
    """

    block_seconds: tuple[float, ...]
    steps_per_block: int
    steps: int
    """timed optimiser steps done"""
    images: int
    """images the sampler handed out in the timed steps, counted by the sampler"""
    warmup_seconds: tuple[float, ...] = ()
    """each warm-up step, synchronised"""
    job_seconds: float | None = None
    """the job clock, evaluations included"""
    job_evaluation_seconds: float | None = None
    """of which prescribed evaluations"""
    pretraining_seconds: float | None = None
    """of which pre-training, before the first block"""
    pretraining_steps: int | None = None
    losses: tuple[float, ...] = ()
    """of each block's last step, read after the timed region"""
    progress_written: bool | None = None
    cold_start_seconds: float | None = None
    """spawn to the first synchronised step"""
    phases: dict[str, float] = Field(default_factory=dict)
    """seconds of each part before the timed region"""
    first_losses: tuple[float, ...] = ()
    """of the warm-up's steps, read outside timing"""
    final_loss: float | None = None
    epoch_evaluations: tuple[Evaluation, ...] = ()
    stopped_early: bool = False
    test: Evaluation | None = None
    accuracy_data: DataKind | None = None
    parameters: int | None = None
    """counted on the built network"""
    parameter_bytes: int | None = None
    operators_per_step: int | None = None
    minor_faults: int | None = None
    """page faults without I/O during the timed region"""
    cpu_seconds: float | None = None
    """CPU time of the process in the timed region"""
    memory: Memory = Memory()
    canary: Canary | None = None
    floors: dict[str, float] = Field(default_factory=dict)
    """measured floors: see engine.lower_bounds"""
    telemetry_before: Telemetry | None = None
    telemetry_after: Telemetry | None = None
    energy: Energy | None = None
    ranks: tuple[Rank, ...] = ()
    communication: Communication | None = None
    """of ranks: each block as long as the slowest"""
    settings: dict[str, str] = Field(default_factory=dict)
    """effective settings as torch reports them"""


class Outcome(Frozen):
    """How a process ended. Everything but `ok` has a message; none of them enters a mean."""

    status: Status
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    stderr_tail: str | None = None
    trial: Trial | None = None
