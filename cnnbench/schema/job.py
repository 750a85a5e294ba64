"""One process's work: what is computed, how it is timed, where; and the keys by which jobs are equal.

How a field of a job is planned, named, ordered and stored is declared once, at the field, as an `Axis`. From these
declarations follow the keys of a suite (`plan.job_keys`), every name of a job (`naming`), the differences between two
jobs, the order of a ladder, and the columns of files. A new axis is a field of `Job` with an `Axis`, and code in the
engine that applies it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from cnnbench import units

AxisGroup = Literal["work", "compute", "network", "data", "clock", "ranks", "place", "draw"]
"""What is computed; how its step is computed; what is trained; on what data; how it is timed; by how many processes;
where; and which repeat of it.
"""
AxisScope = Literal["any", "networks", "digits", "products"]
"""The workloads that have the field: all; all but the matrix product; those that train on MNIST or on points, which have as
many examples; the matrix product."""


@dataclass(frozen=True)
class Axis:
    """One field of a job."""

    group: AxisGroup
    scope: AxisScope | None = None
    """The workloads whose jobs in a suite have a key of this name; None for a field that no suite sets."""
    word: str | None = None
    """How a name mentions a value that is not the plain one: a format of the job, `{0.pool} pooling`. None if short
    names leave the field out.
    """
    title: str | None = None
    """The same for the title of a table, if it differs from `word`."""
    low: int | None = None
    high: int | None = None
    """The smallest and the largest number a suite may give."""
    choices: tuple[str, ...] = ()
    """The words that a suite may give, if they are not the field's own values."""
    takes_several: bool = True
    """Whether a suite may list values, each of which makes a separate job."""
    since: int = 1
    """The schema that introduced it: after 1 its plain value is left out of a job's keys, so that older jobs keep
    theirs.
    """


Division = Literal["reference", "tuned", "open"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Layout = Literal["nchw", "nhwc"]
Order = Literal["sequential", "shuffled"]
Split = Literal["train-55000", "train-60000"]
DataKind = Literal["mnist", "synthetic", "random", "points"]
Loader = Literal["resident", "dataloader"]
Clock = Literal["steady", "job", "accuracy", "recipe"]
Task = Literal["training", "inference"]
Execution = Literal["eager", "compiled", "auto", "fused", "native", "graph", "compiled-graph"]
Pool = Literal["max", "average"]
Activation = Literal["relu", "sigmoid"]
Allocator = Literal["held", "system"]
Scaling = Literal["strong", "weak"]
JobKind = Literal["measured", "projected", "to target"]
SPLIT_IMAGES = {"train-55000": 55_000, "train-60000": 60_000}
MAX_IMAGES = max(SPLIT_IMAGES.values())
TEST_IMAGES = 10_000
"""The number of MNIST's test images; the procedural digits have as many."""
AUTO = "auto"
"""In a suite: for `threads` all cores allowed; for `data` MNIST if available, else synthetic digits; for `batch_size`
of random images what fits the device's memory.
"""
EVERY = "all"
"""In a suite: for `world` as many ranks as there are devices of the kind, or cores."""

LOADER = "{0.loader}, {0.loader_workers} workers"
BLOCKS = "warm-up {0.warmup_steps}, blocks {0.blocks} x {0.block_steps}"
EPOCHS = "epochs {0.epochs} x {0.steps_per_epoch}"
"""Words that several fields share."""


class Frozen(BaseModel):
    """Base of every value of the schema: immutable, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def model_post_init(self, context: Any, /) -> None:
        """Share one set of the fields' names, because a set for each value would take half of a ledger's memory."""
        object.__setattr__(self, "__pydantic_fields_set__", _name_fields(type(self)))


@cache
def _name_fields(model: type[BaseModel]) -> set[str]:
    """List the names of all fields; nothing needs to know which of them were given."""
    return set(model.model_fields)


class Job(Frozen):
    """One process's complete work: the same job on the same machine does the same thing.

    A `steady` job times `blocks` blocks of `block_steps` optimiser steps after `warmup_steps`; a `job` job times
    `epochs` x `steps_per_epoch` steps in one piece, evaluations included. For a steady job `epochs` and
    `steps_per_epoch` define the whole job that its step time is projected to. An `accuracy` job trains until `target`
    of all test images are right, evaluating every `evaluate_every` steps, for `epochs` at most. A `recipe` job opens
    the decompressed, verified digits, trains by a fixed recipe and evaluates all test images once, all of it timed. A
    GEMM's step is one product.

    With `world` ranks each takes its share of `batch_size`, the whole step's batch. Ranks run on the device and the
    similar ones after it, or on separate cores with `threads` each. With `scaling` strong the batch is the suite's,
    with weak it is the suite's times the ranks.
    """

    workload: Annotated[str, Axis("work", "any", takes_several=False)]
    workload_version: Annotated[int, Axis("work")]
    division: Annotated[Division, Axis("compute", "any", "{0.division}", "{0.division} division")] = "reference"
    precision: Annotated[Precision, Axis("compute", "any", "{0.precision}")] = "fp32"
    layout: Annotated[Layout, Axis("compute", "networks", "{0.layout}")] = "nchw"
    task: Annotated[Task, Axis("network", "networks", "{0.task}", since=2)] = "training"
    execution: Annotated[Execution, Axis("compute", "networks", "{0.execution}", since=2)] = "eager"
    batch_size: Annotated[int, Axis("work", "networks", title="batch {0.batch_size}", low=1, high=MAX_IMAGES)] = 128
    optimizer: Annotated[str | None, Axis("network", "networks", "{0.optimizer}")] = None
    init: Annotated[str | None, Axis("network", "networks")] = None
    pool: Annotated[Pool | None, Axis("network", "networks", "{0.pool} pooling", since=2)] = None
    """in place of the workload's own pooling"""
    activation: Annotated[Activation | None, Axis("network", "networks", "{0.activation}", since=2)] = None
    """in place of the workload's own function"""
    size: Annotated[int | None, Axis("work", "products", low=1, high=65_536)] = None
    """side of a GEMM's square operands"""

    data: Annotated[DataKind, Axis("data", "digits", choices=(AUTO, "mnist", "synthetic"))] = "mnist"
    split: Annotated[Split | None, Axis("data", "digits")] = None
    order: Annotated[Order, Axis("data", "digits")] = "sequential"
    loader: Annotated[Loader, Axis("compute", "digits", LOADER)] = "resident"
    loader_workers: Annotated[int, Axis("compute", "digits", LOADER, low=0, high=256)] = 0

    clock: Annotated[Clock, Axis("clock", "any", takes_several=False)] = "steady"
    warmup_steps: Annotated[int, Axis("clock", "any", title=BLOCKS, low=0, high=100_000)] = 20
    block_steps: Annotated[int, Axis("clock", "any", title=BLOCKS, low=1, high=1_000_000)] = 10
    blocks: Annotated[int, Axis("clock", "any", title=BLOCKS, low=1, high=100_000)] = 15
    epochs: Annotated[int | None, Axis("clock", "digits", title=EPOCHS, low=1, high=100_000)] = None
    steps_per_epoch: Annotated[int | None, Axis("clock", "digits", title=EPOCHS, low=1, high=MAX_IMAGES)] = None
    extra_forwards: Annotated[
        int, Axis("work", "networks", title="{0.extra_forwards} further forward passes per step", low=0, high=100)
    ] = 0
    """further forward passes without gradient in each step"""
    epoch_eval_images: Annotated[
        int,
        Axis("clock", "digits", title="{0.epoch_eval_images} test images after each epoch", low=0, high=TEST_IMAGES),
    ] = 0
    """random test images evaluated after each epoch"""
    stop_when_all_right: Annotated[bool, Axis("clock", "digits", title="stops when all of them are right")] = False
    final_evaluation: Annotated[bool, Axis("clock", "digits", title="no final evaluation")] = True
    target: Annotated[
        float | None, Axis("clock", "digits", "to {0.target_text}", "to {0.target_text} of test images", since=2)
    ] = None
    """accuracy and recipe clocks: share of test images to be right"""
    evaluate_every: Annotated[
        int | None,
        Axis("clock", "digits", title="evaluated every {0.evaluate_every} steps", low=1, high=1_000_000, since=2),
    ] = None
    """accuracy clock: steps between evaluations"""
    recipe: Annotated[str | None, Axis("work", "digits", "{0.recipe}", "recipe {0.recipe}", since=3)] = None
    """open division: the name of its fixed recipe"""

    world: Annotated[
        int,
        Axis(
            "ranks",
            "networks",
            "{0.world} ranks {0.scaling}",
            "{0.world} ranks",
            low=1,
            high=65_536,
            choices=(EVERY,),
            since=3,
        ),
    ] = Field(default=1, ge=1)
    """ranks of one data-parallel job; 1: one process, without DDP"""
    scaling: Annotated[
        Scaling | None, Axis("ranks", "networks", title="{0.scaling} scaling · {0.rank_batch} per rank", since=3)
    ] = None
    """for several ranks: whether the suite's batch size is for all ranks (strong) or for each (weak)"""
    nodes: Annotated[int, Axis("ranks", word="{0.nodes} nodes", since=3)] = Field(default=1, ge=1)
    """machines that the ranks run on, with equally many on each"""
    copies: Annotated[int, Axis("ranks", word="{0.copies} copies", since=3)] = Field(default=1, ge=1)
    """how many devices or groups of cores run the same job at once"""

    device: Annotated[str, Axis("place")] = "cpu"
    threads: Annotated[int | None, Axis("place", "any", low=1, high=4096, choices=(AUTO,))] = None
    """intra-op CPU threads; None on accelerators means the default"""
    allocator: Annotated[Allocator, Axis("place", "any", "{0.allocator} allocator")] = "held"

    seed: Annotated[int, Axis("draw")] = 0
    round: Annotated[int, Axis("draw")] = 0

    @property
    def work_key(self) -> str:
        """What is computed and how it is timed, on any device: rows are divided only if this is equal."""
        return _canonical(self, "place", "draw")

    @property
    def row_key(self) -> str:
        """`work_key` and where it ran: the repeats of one row share this and differ in seed and round."""
        return _canonical(self, "draw")

    @property
    def step_key(self) -> str:
        """What a step computes and where, however long and by which clock it is timed."""
        return _canonical(self, "clock", "draw")

    @property
    def target_text(self) -> str:
        """The share to reach, as it was chosen: `99 %`."""
        return units.exact_percent(self.target or 0.0)

    @property
    def timed_whole(self) -> bool:
        """Whether the clock times a whole job of fixed length, in one piece."""
        return self.clock in ("job", "recipe")

    @property
    def kind(self) -> JobKind | None:
        """Whether the whole job's time is measured, projected from steady steps, or as long as its target took.

        None if there is no whole job.
        """
        if self.timed_whole:
            return "measured"
        if self.clock == "accuracy":
            return "to target"
        return "projected" if self.job_steps is not None else None

    @property
    def divided_whole(self) -> bool:
        """Whether ratios are of seconds of the whole job rather than of a step.

        A job that may stop early has no fixed length, nor has one that trains to a target, whose seed decides how many
        steps it takes.
        """
        return self.timed_whole and not self.stop_when_all_right

    @property
    def processes(self) -> int:
        """Processes that work at the same time: ranks, or copies."""
        return self.world * self.copies

    @property
    def rank_batch(self) -> int:
        """Images per step on one device."""
        return self.batch_size // self.world

    @property
    def full_epoch(self) -> int | None:
        """Full batches of one epoch of the split; None without a split."""
        images = SPLIT_IMAGES.get(self.split or "")
        return None if images is None else images // self.batch_size

    @property
    def job_steps(self) -> int | None:
        """Optimiser steps of the whole job (lecture: 100 x 429 = 42,900).

        None if there is no whole job.
        """
        if self.epochs is None or self.steps_per_epoch is None:
            return None
        return self.epochs * self.steps_per_epoch


AXES = {name: axis for name, field in Job.model_fields.items() for axis in field.metadata if isinstance(axis, Axis)}
"""The declarations of a job's fields, in the order of the fields."""


@cache
def plain_values(*groups: AxisGroup) -> Mapping[str, Any]:
    """Map the fields of these groups, in their order, to the values that they have if nothing was asked for."""
    return {name: Job.model_fields[name].default for name, axis in AXES.items() if axis.group in groups}


@cache
def list_choices(name: str) -> tuple[Any, ...]:
    """List the values that a field can have, in their order.

    Empty if it takes any number or text.
    """
    annotation = Job.model_fields[name].annotation
    nested = [get_args(each) or (each,) for each in (get_args(annotation) or (annotation,))]
    return tuple(each for values in nested for each in values if not isinstance(each, type))


def _canonical(job: Job, *left_out: AxisGroup) -> str:
    """Serialize the job's values without those groups.

    Fields of later schemas only if they are not plain.
    """
    usual = plain_values(*(group for group in get_args(AxisGroup) if group not in left_out))
    kept = {
        name: value for name, plain in usual.items() if (value := getattr(job, name)) != plain or AXES[name].since == 1
    }
    return _KEY_ENCODER.encode(kept)


_KEY_ENCODER = json.JSONEncoder(separators=(",", ":"), sort_keys=True)
