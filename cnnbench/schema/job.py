"""One process's work: what is computed, how it is timed, where; and the keys by which jobs are equal."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from cnnbench.schema.base import Frozen

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
SPLIT_IMAGES = {"train-55000": 55_000, "train-60000": 60_000}


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


ADDED_FIELDS: dict[str, Any] = {
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
    kept = {name: value for name, value in values.items() if name not in ADDED_FIELDS or value != ADDED_FIELDS[name]}
    return json.dumps(kept, separators=(",", ":"), sort_keys=True)
