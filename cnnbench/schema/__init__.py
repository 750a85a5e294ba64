"""The vocabulary of the pipeline: what a job is, what a worker measured, what a ledger contains.

All values are frozen, in SI base units, with the unit in the name; unknown is None. Nothing derived is stored:
speed-up, FLOP/s, MFU and intervals are computed from these when they are read. A ledger
(`results/<machine>/<run>.jsonl`) is one `RunHeader` line followed by `Record` lines, each carrying the SHA-256 of the
line before it.

Versions. `SCHEMA` counts changes of shape, each with an entry in `UPGRADES`; `PROTOCOL` counts changes of a timing rule,
and records of two protocols never share a row.
  schema 1: first published.
  schema 2: a job may be inference, compiled, have another pooling or activation, or run until a target accuracy; a trial
    may have a part before the timed steps that is timed too (pre-training); an outcome may be `missed`.
  schema 3: a job may be data-parallel (world, scaling, nodes) or run as concurrent copies; its trial then has `ranks`. A job may
    be one of the open division, by a recipe under the recipe clock, or on one of the tuned division's rungs.
  schema 4: a run's header may have the kernel's random id of the boot in which the run began.
  schema 5: a run's header may have the identity of its host; a record has what made the machine unfit as its process started.
  protocol 1: first published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, ValidationError

from cnnbench.schema.job import (
    AUTO,
    SPLIT_IMAGES,
    DataKind,
    Frozen,
    Job,
    Layout,
    Loader,
    Order,
    Precision,
    Split,
)

__all__ = [
    "AUTO",
    "SPLIT_IMAGES",
    "DataKind",
    "Frozen",
    "Job",
    "Layout",
    "Loader",
    "Order",
    "Precision",
    "Split",
]
"""The names that other modules import from here although `job` declares them, besides the values below."""

DeviceKind = str
"""`cpu`, `cuda`, `rocm`, `mps`, `xpu`, or a kind that another file of `devices/vendors/` declares."""


class Device(Frozen):
    """A processor as found on a machine. `id` is what `--device` accepts: `cpu`, `cuda:0`."""

    id: str
    kind: DeviceKind
    name: str
    uuid: str | None = None
    memory_bytes: int | None = None
    capability: str | None = None
    """compute capability such as 9.0, or gfx target"""
    multiprocessors: int | None = None
    max_clock_hertz: float | None = None
    power_limit_watts: float | None = None
    ecc: bool | None = None
    mig: bool | None = None
    driver: str | None = None
    usable: bool = True
    unusable_reason: str | None = None


class Machine(Frozen):
    """The fingerprint: what a result depends on and a reader must know. No host name: ledgers are published."""

    id: str
    """slug and short hash of the stable fields; names the folder under results/"""
    cpu_name: str
    cpu_vendor: str | None = None
    cpu_family: int | None = None
    cpu_model: int | None = None
    cpu_stepping: int | None = None
    cpu_isa: tuple[str, ...] = ()
    cpu_max_clock_hertz: float | None = None
    """maximum (boost) clock the system reports"""
    cores_physical: int | None = None
    cores_logical: int
    cores_allowed: int
    """cores this process may use: affinity and cgroup quota, rounded down, at least 1"""
    cgroup_cpu_limit: float | None = None
    """CPU quota over period, in cores"""
    memory_bytes: int
    memory_limit_bytes: int | None = None
    """cgroup limit, if it is below the RAM"""
    hypervisor: str | None = None
    governor: str | None = None
    turbo: bool | None = None
    swap_bytes: int | None = None
    os: str
    kernel: str
    libc: str | None = None
    devices: tuple[Device, ...] = ()

    def find_device(self, device_id: str) -> Device | None:
        """Look up a device by its id; None if the fingerprint does not list it."""
        return next((device for device in self.devices if device.id == device_id), None)


class Software(Frozen):
    """The versions a result depends on, as the probe process saw them."""

    cnnbench: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    python: str
    torch: str
    torch_build: str
    """cpu, cuda 13.0, rocm 6.4"""
    cudnn: str | None = None
    blas: str | None = None
    onednn: str | None = None
    cpu_capability: str | None = None
    numpy: str

    @property
    def torch_text(self) -> str:
        """torch with its build: `2.13.0 (cuda 13.0)`."""
        return f"{self.torch} ({self.torch_build})"


Status = Literal[
    "ok", "oom", "timeout", "hang", "crashed", "unsupported", "diverged", "missed", "interrupted", "invalid"
]
TUNED_ERROR = "tuned_gradient_error"
"""The setting of a tuned trial with the relative error of its gradients compared with float64's; see `engine.tuned`."""
TUNED_RUNG = "tuned_rung"
"""The setting of a tuned trial that names the variant that ran; see `engine.tuned`."""
TENSORBOARD_NOTE = "tensorboard"
"""The setting of a trial that names what of its TensorBoard run could not be written; absent if all was, or none was
asked for.
"""
PACKAGE_COUNTER = "rapl-package"
"""The energy counter that covers the whole machine, whichever process reads it."""


class Evaluation(Frozen):
    """Accuracy on test images at one point: after an epoch on a sample, or at the end on all of them."""

    after_steps: int
    images: int
    correct: int
    seconds: float

    def reaches(self, target: float) -> bool:
        """Check that at least this share of the images is right.

        A millionth of an image allows for rounding of the product.
        """
        return self.correct >= target * self.images - 1e-6


class Fit(Frozen):
    """How well a regression predicts all test examples after the timed steps."""

    after_steps: int
    examples: int
    mean_squared_error: float
    target_variance: float
    """mean squared difference of the targets from their mean: what predicting the mean alone would leave"""

    @property
    def r_squared(self) -> float:
        """The share of the targets' variance that is predicted; below 0 where the mean alone would predict better."""
        return 1.0 - self.mean_squared_error / self.target_variance


class Memory(Frozen):
    """High-water marks of the training part, never polls. `host_method` names how the host's was read."""

    host_peak_bytes: int | None = None
    host_before_bytes: int | None = None
    """resident size when the high-water mark was reset"""
    host_method: str | None = None
    device_allocated_peak_bytes: int | None = None
    device_reserved_peak_bytes: int | None = None
    device_used_bytes: int | None = None
    """NVML, by UUID; of this process alone where NVML can tell"""


class Canary(Frozen):
    """Whether synchronise really waits: time must grow with the work, and agree with reading a result back."""

    passed: bool
    side: int
    launches: int
    small_seconds: float
    large_seconds: float
    growth: float
    """large over small; the work grows 8x, and at least 4x must be measured"""
    sync_seconds: float
    readback_seconds: float
    copy_seconds: float
    rounds: int
    reason: str | None = None


class Telemetry(Frozen):
    """The machine's state at one moment; `missing` has the reason for each absent sensor."""

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
    """the counter's update interval: half of it is uncertain at either end"""
    window_seconds: float
    window_steps: int
    window_joules: float
    idle_seconds: float
    idle_joules: float


class Communication(Frozen):
    """Seconds of blocks of steps, alternating with and without the gradients' exchange of ranks (DDP's `no_sync`)."""

    steps_per_block: int
    with_seconds: tuple[float, ...]
    without_seconds: tuple[float, ...]


class Rank(Frozen):
    """What one of several processes of a job measured: a rank, or a copy. Blocks begin and end with all ranks of a job."""

    rank: int
    node: int = 0
    place: str
    """`cuda:1` as its machine names it, or the cores it was bound to: `cores 0,1`"""
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

    With several ranks a block is as long as on the slowest, images and energy are summed over the ranks, memory is that
    of the rank that used most, and what is the same on all is rank 0's. With several copies it is the whole trial of
    the slowest copy.

    `block_seconds[i]` is the wall time of block i, which has `steps_per_block` optimiser steps (one epoch under the job
    clock, without evaluations); the device is synchronised at both ends.
    """

    block_seconds: tuple[float, ...]
    steps_per_block: int
    steps: int
    """timed optimiser steps done"""
    images: int
    """images the sampler returned in the timed steps, counted by the sampler"""
    warmup_seconds: tuple[float, ...] = ()
    """each warm-up step, synchronised"""
    job_seconds: float | None = None
    """the job clock, evaluations included"""
    job_evaluation_seconds: float | None = None
    """seconds of the job clock spent in prescribed evaluations"""
    pretraining_seconds: float | None = None
    """seconds of the job clock spent in pre-training, before the first block"""
    pretraining_steps: int | None = None
    losses: tuple[float, ...] = ()
    """losses of each block's last step, read after the timed region"""
    progress_written: bool | None = None
    cold_start_seconds: float | None = None
    """from spawn to the end of the first synchronised step"""
    phases: dict[str, float] = Field(default_factory=dict)
    """seconds of each part before the timed region"""
    first_losses: tuple[float, ...] = ()
    """losses of the warm-up's steps, read outside timing"""
    final_loss: float | None = None
    epoch_evaluations: tuple[Evaluation, ...] = ()
    stopped_early: bool = False
    test: Evaluation | None = None
    fit: Fit | None = None
    """of a regression, which has no classes and hence no accuracy"""
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
    """measured lower bounds: see `engine.trial`"""
    telemetry_before: Telemetry | None = None
    telemetry_after: Telemetry | None = None
    energy: Energy | None = None
    ranks: tuple[Rank, ...] = ()
    communication: Communication | None = None
    """with several ranks: each block as long as the slowest"""
    settings: dict[str, str] = Field(default_factory=dict)
    """effective settings as torch reports them"""


class Outcome(Frozen):
    """How a process ended. Every outcome but `ok` has a message and enters no mean."""

    status: Status
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    stderr_tail: str | None = None
    trial: Trial | None = None


RENAMED_SUITES = {"gate": "regression"}
"""Former names of shipped suites; older ledgers, checks, noise profiles and cluster runs still contain them."""

NAMES_BELOW_COMMANDS = ("run", "calibrate", "replay", "find", "baseline", "output-size")
"""Commands below `check` and `explain`. They win over an argument of the same spelling: no suite or workload has such a name."""

SCHEMA = 5
PROTOCOL = 1


class Record(Frozen):
    """One line of a ledger: one process, its job and its outcome."""

    kind: Literal["record"] = "record"
    schema_version: int = SCHEMA
    protocol: int = PROTOCOL
    run_id: str
    machine_id: str
    index: int
    """place in the run's plan"""
    attempt: int = 1
    """above 1 if a resumed run repeats an interrupted job"""
    started_at: str
    process_seconds: float
    """the worker's lifetime by the parent's clock"""
    parent_cpu_seconds: float | None = None
    """CPU seconds that the parent used meanwhile"""
    environment: dict[str, str] = Field(default_factory=dict)
    """variables the runner set for the worker"""
    unfit: tuple[str, ...] | None = None
    """what made the machine unfit to measure just before the process started; empty if nothing did, None if it was not
    checked"""
    job: Job
    outcome: Outcome
    prev: str | None = None
    """SHA-256 of the line before this one"""


class WorkloadFacts(Frozen):
    """A workload that cnnbench does not ship, for a reader without it: every figure is based on its counts."""

    version: int
    title: str
    dataset: Literal["mnist", "random"] = "mnist"
    input_shape: tuple[int, ...]
    classes: int
    parameters: int
    flops_forward_per_image: int
    flops_training_per_image: int
    activations_per_image: int
    convolves: bool = True
    source: str
    """the file's name, or the package with its version"""
    sha256: str | None = None
    """SHA-256 of the file; None for a package"""


class RunHeader(Frozen):
    """First line of a ledger: the machine, the software and the whole plan."""

    kind: Literal["run"] = "run"
    schema_version: int = SCHEMA
    protocol: int = PROTOCOL
    run_id: str
    created_at: str
    boot_id: str | None = None
    """the kernel's random id of the boot in which the run began; None if the system has none"""
    host_id: str | None = None
    """identity of the host, made from the system's machine-id for cnnbench alone; None where it says nothing (in a
    container). Images are copied with their machine-id: different ids are different hosts, equal ones prove nothing"""
    suites: dict[str, str]
    """suite name to SHA-256 of the suite's file, and of what --set, -L and --warmup changed in it"""
    seed: int
    options: dict[str, str] = Field(default_factory=dict)
    """command-line choices that shaped the plan"""
    machine: Machine
    software: Software
    plan: tuple[Job, ...]
    workloads: dict[str, WorkloadFacts] = Field(default_factory=dict)
    """the plan's workloads that cnnbench does not ship"""


class PublishedRow(Frozen):
    """A result published elsewhere, never mixed into local speed-ups."""

    kind: Literal["reference"] = "reference"
    schema_version: int = SCHEMA
    source: str
    year: int
    processor: str
    device_kind: DeviceKind
    printed_flops_per_second: float | None
    printed_flops_text: str | None
    job_seconds: float | None
    printed_speedup: float | None
    theoretical_note: str | None = None
    job_images: int | None = None
    """assumed: the source does not state what was timed"""
    job_flops: int | None = None
    note: str | None = None


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: dict, 2: dict, 3: dict, 4: dict}
"""`UPGRADES[n]` turns a line of schema n into one of schema n + 1; `dict` keeps it as it is."""


def current_suite_name(name: str) -> str:
    """Look up today's name of a shipped suite; any other name is returned as it is."""
    return RENAMED_SUITES.get(name, name)


def upgrade(line: dict[str, Any]) -> dict[str, Any]:
    """Upgrade a line to today's schema.

    Raises ValueError for a later schema, one that no upgrade starts from, or a broken line.
    """
    version = line.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA:
        raise ValueError(f"schema {version!r} is newer than this cnnbench reads ({SCHEMA}); upgrade cnnbench")
    while version < SCHEMA:
        if version not in UPGRADES:
            raise ValueError(f"schema {version} is too old: there is no upgrade from it")
        try:
            line = UPGRADES[version](line)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"not a line of schema {version}: {type(error).__name__} {error}") from error
        version += 1
    return line


def describe_first_problem(error: ValidationError) -> str:
    """Describe the first field that is wrong, or the whole if it is not an object, and why."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"


def digest(text: str) -> str:
    """Compute the SHA-256 of the text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


RENDEZVOUS_DONE = "rendezvous-done"
"""Name of a file beside the outcome: a launcher of several processes creates it when all machines have joined, just
before the ranks start.
"""


class Rendezvous(Frozen):
    """Where the launchers of one data-parallel job rendezvous. A single machine uses a free port of its own."""

    endpoint: str
    """HOST:PORT of the first node"""
    node_rank: int = 0
    name: str = ""
    """name of the job, so that launchers of different jobs never join each other"""
    seconds: int
    """how long to wait for the others"""


class WorkerInput(Frozen):
    """What the runner writes to a worker's standard input: the job, and where the answer goes."""

    job: Job
    outcome_path: str
    progress_fd: int | None = None
    parent_pid: int
    spawn_monotonic_ns: int
    data_dir: str | None = None
    device_uuid: str | None = None
    device_uuids: tuple[str | None, ...] = ()
    """for several processes: the UUID of each one's device on this node"""
    device_ids: tuple[str, ...] = ()
    """the same devices by the machine's names"""
    rendezvous: Rendezvous | None = None
    launcher_ns: int | None = None
    """for a rank: when its launcher began, by the same clock"""
    energy: bool = False
    workload_file: str | None = None
    """`path:value` of a workload in a user's file"""
    tensorboard_dir: str | None = None
    """folder of this job's TensorBoard run; None writes none"""
    machine: Machine | None = None
    """set only with tensorboard_dir, to be shown there"""
    software: Software | None = None
    """set only with tensorboard_dir, to be shown there"""
