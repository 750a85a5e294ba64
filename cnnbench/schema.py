"""The words of the pipeline: what a job is, what a worker measured, what a ledger holds.

All values are frozen, in SI base units, with the unit in the name; unknown is None. Nothing derived is stored:
speed-up, FLOP/s, MFU and intervals are computed from these when they are read. A ledger (`results/<machine>/<run>.jsonl`)
is one `RunHeader` line followed by `Record` lines, each carrying the SHA-256 of the line before it.

Versions. `SCHEMA` counts changes of shape, each with an entry in `UPGRADES`; `PROTOCOL` counts changes of a timing rule,
and records of two protocols never share a row.
  schema 1: first published.
  schema 2: a job may be inference, compiled, have another pooling or activation, or run until a target accuracy; a trial
    may have a part before the timed steps that is timed too (pre-training); an outcome may be `missed`.
  schema 3: a job may be data-parallel (world, scaling, nodes) or run as concurrent copies; its trial then has `ranks`. A job may
    be one of the open division, by a recipe under the recipe clock, or on one of the tuned division's rungs.
  protocol 1: first published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 3
PROTOCOL = 1

Division = Literal["reference", "tuned", "open"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Layout = Literal["nchw", "nhwc"]
Order = Literal["sequential", "shuffled"]
Split = Literal["train-55000", "train-60000"]
DataKind = Literal["mnist", "synthetic", "random"]
Loader = Literal["resident", "dataloader"]
Clock = Literal["steady", "job", "accuracy", "recipe"]
Task = Literal["training", "inference"]
Execution = Literal["eager", "compiled", "auto", "fused", "native", "graph", "compiled-graph"]
Pool = Literal["max", "average"]
Activation = Literal["relu", "sigmoid"]
Allocator = Literal["held", "system"]
Scaling = Literal["strong", "weak"]
Status = Literal[
    "ok", "oom", "timeout", "hang", "crashed", "unsupported", "diverged", "missed", "interrupted", "invalid"
]
DeviceKind = Literal["cpu", "cuda", "rocm", "mps", "xpu"]
SPLIT_IMAGES = {"train-55000": 55_000, "train-60000": 60_000}
TUNED_ERROR = "tuned_gradient_error"
"""The setting of a tuned trial that says how far its gradients are from float64's, relative; see `engine.tuned`."""
BOARD_NOTE = "tensorboard"
"""The setting of a trial that says what of its TensorBoard run could not be written; absent where all was, or none was asked."""


class Frozen(BaseModel):
    """A value: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Job(Frozen):
    """One process's work, complete: the same job on the same machine does the same thing.

    A `steady` job times `blocks` blocks of `block_steps` optimiser steps after `warmup_steps`; a `job` job times
    `epochs` x `steps_per_epoch` steps in one piece, evaluations included. For a steady job `epochs` and
    `steps_per_epoch` say which whole job its step time is projected to. An `accuracy` job trains until `target` of all
    test images are right, looking every `evaluate_every` steps, for `epochs` at most. A `recipe` job opens the decompressed,
    verified digits, trains by a fixed recipe and looks at all test images once, all of it timed. A GEMM's step is one product.

    Of `world` ranks each takes its share of `batch_size`, the whole step's batch, on the device itself and those like it
    after it, or on cores of its own with `threads` each. With `scaling` strong the batch is the suite's, with weak the suite's
    times the ranks.
    """

    workload: str
    workload_version: int
    division: Division = "reference"
    precision: Precision = "fp32"
    layout: Layout = "nchw"
    task: Task = "training"
    execution: Execution = "eager"
    batch_size: int = 128
    optimizer: str | None = None
    init: str | None = None
    pool: Pool | None = Field(default=None, description="in place of the workload's own pooling")
    activation: Activation | None = Field(default=None, description="in place of the workload's own function")
    size: int | None = Field(default=None, description="side of a GEMM's square operands")

    data: DataKind = "mnist"
    split: Split | None = None
    order: Order = "sequential"
    loader: Loader = "resident"
    loader_workers: int = 0

    clock: Clock = "steady"
    warmup_steps: int = 20
    block_steps: int = 10
    blocks: int = 15
    epochs: int | None = None
    steps_per_epoch: int | None = None
    extra_forwards: int = Field(default=0, description="further forward passes without gradient in each step")
    epoch_eval_images: int = Field(default=0, description="random test images evaluated after each epoch")
    stop_when_all_right: bool = False
    final_evaluation: bool = True
    target: float | None = Field(
        default=None, description="accuracy and recipe clocks: share of test images to be right"
    )
    evaluate_every: int | None = Field(default=None, description="accuracy clock: steps between evaluations")
    recipe: str | None = Field(default=None, description="open division: the name of its fixed recipe")

    world: int = Field(default=1, ge=1, description="ranks of one data-parallel job; 1: one process, without DDP")
    scaling: Scaling | None = Field(default=None, description="of several ranks: what the suite's batch size is of")
    nodes: int = Field(default=1, ge=1, description="machines that the ranks are on, as many on each")
    copies: int = Field(default=1, ge=1, description="the same job on so many devices or groups of cores at once")

    device: str = "cpu"
    threads: int | None = Field(default=None, description="intra-op CPU threads; None on accelerators = the default")
    allocator: Allocator = "held"

    seed: int = 0
    round: int = 0

    @property
    def work_key(self) -> str:
        """What is computed and how it is timed, whatever the device: rows divide one another only where this is equal."""
        return _canonical(self, _WORK_FIELDS)

    @property
    def row_key(self) -> str:
        """`work_key` and where it ran: the repeats of one row share this and differ in seed and round."""
        return _canonical(self, (*_WORK_FIELDS, "device", "threads", "allocator"))

    @property
    def label(self) -> str:
        """Short text for progress lines, such as `mnist-cnn b128 fp32 on cpu, round 1`."""
        return self.label_with(threads=False)

    def label_with(self, *, threads: bool) -> str:
        """The label, with the thread count in it where wanted and known: `... on cpu, 2 threads, round 1`."""
        what = f"{self.workload} {self.size}" if self.size is not None else f"{self.workload} b{self.batch_size}"
        what = " ".join((what, *self.variations))
        count = f", {self.threads} thread{'' if self.threads == 1 else 's'}" if threads and self.threads else ""
        return f"{what} {self.precision} on {self.device}{count}, round {self.round + 1}"

    @property
    def variations(self) -> tuple[str, ...]:
        """What makes the job another than the plain one, in words: `inference`, `nhwc`, `compiled`, `to 99 %`."""
        modes = {name: str(getattr(self, name)) for name in ("task", "layout", "execution")}
        words = [word for name, word in modes.items() if word != Job.model_fields[name].default]
        words += [f"{self.pool} pooling"] if self.pool else []
        words += [self.activation] if self.activation else []
        words += [f"{self.world} ranks {self.scaling}"] if self.world > 1 else []
        words += [f"{self.nodes} nodes"] if self.nodes > 1 else []
        words += [f"{self.copies} copies"] if self.copies > 1 else []
        if self.recipe is not None:
            words.append(self.recipe)
        elif self.target is not None:
            words.append(f"to {100 * self.target:g} %")
        return tuple(words)

    @property
    def timed_whole(self) -> bool:
        """Whether the clock times a job of a length fixed beforehand, in one piece."""
        return self.clock in ("job", "recipe")

    @property
    def processes(self) -> int:
        """Processes that work at the same time: ranks, or copies."""
        return self.world * self.copies

    @property
    def rank_batch(self) -> int:
        """Images of a step on one device."""
        return self.batch_size // self.world

    @property
    def full_epoch(self) -> int | None:
        """Full batches of one epoch of the split; None without a split."""
        images = SPLIT_IMAGES.get(self.split or "")
        return None if images is None else images // self.batch_size

    @property
    def job_steps(self) -> int | None:
        """Optimiser steps of the whole job (lecture: 100 x 429 = 42,900); None where there is no such job."""
        if self.epochs is None or self.steps_per_epoch is None:
            return None
        return self.epochs * self.steps_per_epoch


LATER: dict[str, Any] = {
    name: Job.model_fields[name].default
    for name in (
        *("task", "execution", "pool", "activation", "target", "evaluate_every", "recipe"),
        *("world", "scaling", "nodes", "copies"),
    )
}
"""Fields that came after schema 1, at their defaults: left out of a key there, so that keys of older jobs stay theirs."""
_PLACE_FIELDS = ("device", "threads", "allocator", "seed", "round")
_WORK_FIELDS = tuple(name for name in Job.model_fields if name not in _PLACE_FIELDS)


def _canonical(job: Job, fields: tuple[str, ...]) -> str:
    values = {name: getattr(job, name) for name in fields}
    kept = {name: value for name, value in values.items() if name not in LATER or value != LATER[name]}
    return json.dumps(kept, separators=(",", ":"), sort_keys=True)


class Device(Frozen):
    """A processor as found on a machine. `id` is what `--device` takes: `cpu`, `cuda:0`."""

    id: str
    kind: DeviceKind
    name: str
    uuid: str | None = None
    memory_bytes: int | None = None
    capability: str | None = Field(default=None, description="compute capability such as 9.0, or gfx target")
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

    id: str = Field(description="slug and short hash of the stable fields; names the folder under results/")
    cpu_name: str
    cpu_vendor: str | None = None
    cpu_family: int | None = None
    cpu_model: int | None = None
    cpu_stepping: int | None = None
    cpu_isa: tuple[str, ...] = ()
    cpu_max_clock_hertz: float | None = Field(default=None, description="maximum (boost) clock the system reports")
    cores_physical: int | None = None
    cores_logical: int
    cores_allowed: int = Field(description="cores this process may use: affinity and cgroup quota, rounded down, >= 1")
    cgroup_cpu_limit: float | None = Field(default=None, description="CPU quota over period, in cores")
    memory_bytes: int
    memory_limit_bytes: int | None = Field(default=None, description="cgroup limit, where below the RAM")
    hypervisor: str | None = None
    governor: str | None = None
    turbo: bool | None = None
    swap_bytes: int | None = None
    os: str
    kernel: str
    libc: str | None = None
    devices: tuple[Device, ...] = ()


class Software(Frozen):
    """The versions a result depends on, as the probe process saw them."""

    cnnbench: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    python: str
    torch: str
    torch_build: str = Field(description="cpu, cuda 13.0, rocm 6.4")
    cudnn: str | None = None
    blas: str | None = None
    onednn: str | None = None
    cpu_capability: str | None = None
    numpy: str


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
    host_before_bytes: int | None = Field(default=None, description="resident size when the high-water mark was reset")
    host_method: str | None = None
    device_allocated_peak_bytes: int | None = None
    device_reserved_peak_bytes: int | None = None
    device_used_bytes: int | None = Field(default=None, description="NVML, this process where it can be told, by UUID")


class Canary(Frozen):
    """Whether synchronise really waits: time must follow the work, and agree with reading a result back."""

    passed: bool
    side: int
    launches: int
    small_seconds: float
    large_seconds: float
    growth: float = Field(description="large over small; work grows 8x, at least 4x must show")
    sync_seconds: float
    readback_seconds: float
    copy_seconds: float
    rounds: int
    reason: str | None = None


class Telemetry(Frozen):
    """The machine's state at one moment; `missing` says why a sensor is absent."""

    load_1min: float | None = None
    steal_seconds: float | None = Field(default=None, description="counter since boot, all cores")
    cpu_pressure_seconds: float | None = Field(default=None, description="counter: /proc/pressure/cpu some total")
    cgroup_throttled_seconds: float | None = None
    cpu_clock_hertz: float | None = None
    package_energy_joules: float | None = Field(default=None, description="RAPL counter, unwrapped per package, summed")
    device_clock_hertz: float | None = None
    device_memory_clock_hertz: float | None = None
    device_temperature_celsius: float | None = None
    device_power_watts: float | None = None
    device_power_limit_watts: float | None = None
    device_energy_joules: float | None = Field(default=None, description="NVML total-energy counter")
    device_throttle_reasons: tuple[str, ...] | None = None
    device_used_bytes: int | None = None
    device_other_processes: int | None = None
    missing: dict[str, str] = Field(default_factory=dict)


class Energy(Frozen):
    """Raw readings of one energy counter around the timed steps (extended to at least 10 s) and around an idle wait."""

    source: str = Field(description="nvml-total-energy or rapl-package")
    tick_seconds: float = Field(description="the counter's update interval: half of it at either end is uncertain")
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
    place: str = Field(description="`cuda:1` as its machine calls it, or the cores it was held to: `cores 0,1`")
    block_seconds: tuple[float, ...]
    images: int
    cold_start_seconds: float | None = None
    minor_faults: int | None = None
    cpu_seconds: float | None = None
    memory: Memory = Memory()
    energy: Energy | None = None
    communication: Communication | None = None
    weights: str | None = Field(default=None, description="digest of the parameters after the timed steps")


class Trial(Frozen):
    """What one process measured, raw; or several at once, which are in `ranks`.

    Of ranks a block is as long as on the slowest, images and energy are their sum, memory is the rank's that took most, and
    what is the same on all is rank 0's. Of copies it is the slowest copy's, whole.

    `block_seconds[i]` is the wall time of block i, `steps_per_block` optimiser steps each (one epoch each under the
    job clock, evaluations left out); device synchronised at both ends.
    """

    block_seconds: tuple[float, ...]
    steps_per_block: int
    steps: int = Field(description="timed optimiser steps done")
    images: int = Field(description="images the sampler handed out in the timed steps, counted by the sampler")
    warmup_seconds: tuple[float, ...] = Field(default=(), description="each warm-up step, synchronised")
    job_seconds: float | None = Field(default=None, description="the job clock, evaluations included")
    job_evaluation_seconds: float | None = Field(default=None, description="of which prescribed evaluations")
    pretraining_seconds: float | None = Field(default=None, description="of which pre-training, before the first block")
    pretraining_steps: int | None = None
    losses: tuple[float, ...] = Field(default=(), description="of each block's last step, read after the timed region")
    progress_written: bool | None = None
    cold_start_seconds: float | None = Field(default=None, description="spawn to the first synchronised step")
    phases: dict[str, float] = Field(default_factory=dict, description="seconds of each part before the timed region")
    first_losses: tuple[float, ...] = Field(default=(), description="of the warm-up's steps, read outside timing")
    final_loss: float | None = None
    epoch_evaluations: tuple[Evaluation, ...] = ()
    stopped_early: bool = False
    test: Evaluation | None = None
    accuracy_data: DataKind | None = None
    parameters: int | None = Field(default=None, description="counted on the built network")
    parameter_bytes: int | None = None
    operators_per_step: int | None = None
    minor_faults: int | None = Field(default=None, description="page faults without I/O during the timed region")
    cpu_seconds: float | None = Field(default=None, description="CPU time of the process in the timed region")
    memory: Memory = Memory()
    canary: Canary | None = None
    floors: dict[str, float] = Field(default_factory=dict, description="measured floors: see engine.floors")
    telemetry_before: Telemetry | None = None
    telemetry_after: Telemetry | None = None
    energy: Energy | None = None
    ranks: tuple[Rank, ...] = ()
    communication: Communication | None = Field(default=None, description="of ranks: each block as long as the slowest")
    settings: dict[str, str] = Field(default_factory=dict, description="effective settings as torch reports them")


class Outcome(Frozen):
    """How a process ended. Everything but `ok` has a message; none of them enters a mean."""

    status: Status
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    stderr_tail: str | None = None
    trial: Trial | None = None


class Record(Frozen):
    """One line of a ledger: one process, its job and its outcome."""

    kind: Literal["record"] = "record"
    schema_version: int = SCHEMA
    protocol: int = PROTOCOL
    run_id: str
    machine_id: str
    index: int = Field(description="place in the run's plan")
    attempt: int = Field(default=1, description="> 1 where a resumed run repeats an interrupted job")
    started_at: str
    process_seconds: float = Field(description="the worker's lifetime by the parent's clock")
    parent_cpu_seconds: float | None = Field(default=None, description="CPU the parent used meanwhile")
    environment: dict[str, str] = Field(default_factory=dict, description="variables the runner set for the worker")
    job: Job
    outcome: Outcome
    prev: str | None = Field(default=None, description="SHA-256 of the line before this one")


class WorkloadFacts(Frozen):
    """A workload that is not cnnbench's own, for a reader who does not have it: its counts are those every figure rests on."""

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
    source: str = Field(description="the file's name, or the package with its version")
    sha256: str | None = Field(default=None, description="of the file; None for a package")


class RunHeader(Frozen):
    """First line of a ledger: the machine, the software and the whole plan."""

    kind: Literal["run"] = "run"
    schema_version: int = SCHEMA
    protocol: int = PROTOCOL
    run_id: str
    created_at: str
    suites: dict[str, str] = Field(description="suite name to SHA-256 of its file")
    seed: int
    options: dict[str, str] = Field(default_factory=dict, description="command-line choices that shaped the plan")
    machine: Machine
    software: Software
    plan: tuple[Job, ...]
    workloads: dict[str, WorkloadFacts] = Field(
        default_factory=dict, description="of the plan, those not cnnbench's own"
    )


class ReferenceRow(Frozen):
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
    job_images: int | None = Field(default=None, description="assumed: the source does not say what was timed")
    job_flops: int | None = None
    note: str | None = None


class Rendezvous(Frozen):
    """Where the launchers of one data-parallel job meet. One machine alone meets itself on a free port of its own."""

    endpoint: str = Field(description="HOST:PORT of the first node")
    node_rank: int = 0
    name: str = Field(default="", description="of the job: launchers of two different jobs never meet")
    seconds: int = Field(description="how long to wait for the others")


class Envelope(Frozen):
    """What the runner writes to a worker's standard input: the job and where to answer."""

    job: Job
    outcome_path: str
    progress_fd: int | None = None
    parent_pid: int
    spawn_monotonic_ns: int
    data_dir: str | None = None
    device_uuid: str | None = None
    device_uuids: tuple[str | None, ...] = Field(
        default=(), description="of several processes: each one's on this node"
    )
    device_ids: tuple[str, ...] = Field(default=(), description="the same devices as the machine calls them")
    rendezvous: Rendezvous | None = None
    launcher_ns: int | None = Field(default=None, description="of a rank: when its launcher began, by the same clock")
    energy: bool = False
    memory_limit_bytes: int | None = None
    workload_file: str | None = Field(default=None, description="`path:value` of a workload in a file of the user's")
    tensorboard_dir: str | None = Field(
        default=None, description="folder of this job's TensorBoard run; None writes none"
    )
    machine: Machine | None = Field(default=None, description="only with tensorboard_dir, to be shown there")
    software: Software | None = Field(default=None, description="only with tensorboard_dir, to be shown there")


def _same(line: dict[str, Any]) -> dict[str, Any]:
    return line


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _same, 2: _same}
"""`UPGRADES[n]` turns a line of schema n into one of schema n + 1."""


def upgrade(line: dict[str, Any]) -> dict[str, Any]:
    """The line in today's schema. Raises ValueError for a line of a later schema, of one no upgrade leads from, or broken."""
    version = line.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA:
        raise ValueError(f"schema {version!r} is newer than this cnnbench reads ({SCHEMA}); upgrade cnnbench")
    while version < SCHEMA:
        if version not in UPGRADES:
            raise ValueError(f"schema {version} is too old: no upgrade leads from it")
        try:
            line = UPGRADES[version](line)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"not a line of schema {version}: {type(error).__name__} {error}") from error
        version += 1
    return line


def digest(text: str) -> str:
    """SHA-256 of the text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
