"""Batches of training images, in order or shuffled, from a tensor on the device or through a DataLoader.

The sampler counts the images it returns: the identity gate compares that count with steps x batch. Each of several
ranks gets its shard of the very batch that one process would draw.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler, SequentialSampler, TensorDataset

from cnnbench.data import Dataset
from cnnbench.engine.process import die_with_parent_process
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job
from cnnbench.workloads import Workload

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images `(batch, 1, 28, 28)` float32 in [0, 1] and labels `(batch,)` int64, on the device; or points and their targets."""


DISTINCT_RANDOM_BATCHES = 2
"""Distinct batches of a random workload: enough that none is trained on twice in a row, few enough for a small memory."""


@dataclass(frozen=True)
class Shard:
    """The part of every batch for this process: number `index` of `count` equal parts, in order; all by default."""

    index: int = 0
    count: int = 1

    def slice_batch(self, begin: int, batch_size: int) -> slice:
        """Locate the part in a batch that begins at `begin`."""
        size = batch_size // self.count
        return slice(begin + self.index * size, begin + (self.index + 1) * size)


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that a training is built from."""

    job: Job
    workload: Workload
    """The workload with the job's pooling and activation."""
    dataset: Dataset | None
    """Digits; None where the workload has random images."""
    device: torch.device
    shard: Shard = Shard()


class BatchSource(Protocol):
    """Endless batches; epochs restart at the first image (or a new permutation), the last partial batch is dropped."""

    @property
    def images_drawn(self) -> int:
        """Images drawn since the last restart."""

    def draw(self) -> Batch:
        """Draw the next batch."""

    def restart(self) -> None:
        """Go back to the first batch of the first epoch, with the same permutations and the count at zero."""


def to_tensors(images: object, labels: object, device: torch.device) -> Batch:
    """Convert uint8 `(n, 28, 28)` arrays to float32 `(n, 1, 28, 28)` in [0, 1] and int64 labels on the device.

    Points and their targets are float32 and stay as they are.
    """
    examples, targets = (torch.as_tensor(each).to(device) for each in (images, labels))
    if examples.is_floating_point():
        return examples, targets
    return examples.unsqueeze(1).to(torch.float32).div_(255.0), targets.to(torch.int64)


def count_batches(labels: torch.Tensor, batch_size: int) -> int:
    """Count the whole batches of an epoch. Raises WorkloadError for fewer images than one batch."""
    if batch_size > len(labels):
        raise WorkloadError(f"batch_size {batch_size} is larger than the {len(labels)} training images")
    return len(labels) // batch_size


class InMemoryBatches:
    """All images as one float32 tensor on the device; a batch is a slice (in order) or an index (shuffled)."""

    def __init__(self, setup: TrainingSetup, images: torch.Tensor, labels: torch.Tensor) -> None:
        job = setup.job
        self._images, self._labels, self._shard = images, labels, setup.shard
        self._batch_size, self._shuffled, self._seed = job.batch_size, job.order == "shuffled", job.seed
        self._limit = count_batches(labels, job.batch_size) * job.batch_size
        self.restart()

    def restart(self) -> None:
        """Go back to the first batch of the first epoch."""
        self.images_drawn = 0
        self._generator = torch.Generator().manual_seed(self._seed)
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._position = 0
        if self._shuffled:
            self._permutation = torch.randperm(len(self._labels), generator=self._generator).to(self._labels.device)

    def draw(self) -> Batch:
        """Draw the next batch; start the next epoch when the full batches of this one are used up."""
        if self._position >= self._limit:
            self._start_epoch()
        part = self._shard.slice_batch(self._position, self._batch_size)
        self._position += self._batch_size
        chosen = self._permutation[part] if self._shuffled else part
        images, labels = self._images[chosen], self._labels[chosen]
        self.images_drawn += labels.shape[0]
        return images, labels


class LoaderBatches:
    """torch's DataLoader over host tensors, pinned and copied to the device for accelerators."""

    def __init__(self, setup: TrainingSetup, images: torch.Tensor, labels: torch.Tensor) -> None:
        self._device, self._seed = setup.device, setup.job.seed
        self._generator = torch.Generator()
        size, shuffled, workers = setup.job.batch_size, setup.job.order == "shuffled", setup.job.loader_workers
        count_batches(labels, size)
        dataset: Any = TensorDataset(images, labels)
        drawn: dict[str, Any] = {"batch_size": size, "shuffle": shuffled, "drop_last": True}
        if setup.shard.count > 1:
            # DataLoader's own sampler for the same arguments and generator, but with one shard of each batch.
            order = RandomSampler(dataset, generator=self._generator) if shuffled else SequentialSampler(dataset)
            drawn = {"batch_sampler": _ShardSampler(order, size, setup.shard.slice_batch(0, size))}
        self._loader: DataLoader[Batch] = DataLoader(
            dataset,
            **drawn,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=setup.device.type == "cuda",
            generator=self._generator,
            worker_init_fn=die_with_parent_process if workers else None,  # type: ignore[arg-type]
        )
        self.restart()

    def restart(self) -> None:
        """Go back to the first batch of the first epoch."""
        self.images_drawn = 0
        self._generator.manual_seed(self._seed)
        self._batches: Iterator[Batch] = iter(self._loader)

    def draw(self) -> Batch:
        """Draw the next batch and copy it to the device."""
        try:
            images, labels = next(self._batches)
        except StopIteration:
            self._batches = iter(self._loader)
            images, labels = next(self._batches)
        self.images_drawn += labels.shape[0]
        return images.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)


class _ShardSampler(BatchSampler):
    """One part of each whole batch."""

    def __init__(self, order: Sampler[int], batch_size: int, part: slice) -> None:
        super().__init__(order, batch_size, drop_last=True)
        self._part = part

    def __iter__(self) -> Iterator[list[int]]:
        return (batch[self._part] for batch in super().__iter__())


class RandomBatches:
    """Standard normal images and random labels, made once, resident on the device, drawn in turn."""

    def __init__(self, setup: TrainingSetup) -> None:
        workload, size = setup.workload, setup.job.batch_size
        generator = torch.Generator().manual_seed(setup.job.seed)
        memory = torch.channels_last if setup.job.layout == "nhwc" else torch.contiguous_format
        part = setup.shard.slice_batch(0, size)
        self._batches = [
            (
                torch.randn((size, *workload.input_shape), generator=generator)[part].to(
                    setup.device, memory_format=memory
                ),
                torch.randint(workload.classes, (size,), generator=generator)[part].to(setup.device),
            )
            for _ in range(DISTINCT_RANDOM_BATCHES)
        ]
        self.restart()

    def restart(self) -> None:
        """Go back to the first batch."""
        self.images_drawn, self._turns = 0, itertools.cycle(self._batches)

    def draw(self) -> Batch:
        """Draw the next batch."""
        images, labels = next(self._turns)
        self.images_drawn += labels.shape[0]
        return images, labels


def make_batches(setup: TrainingSetup) -> BatchSource:
    """Make the batches that the job asks for. Digits have one channel, so both layouts are the same in memory."""
    if setup.dataset is None:
        return RandomBatches(setup)
    from_loader = setup.job.loader == "dataloader"
    home = torch.device("cpu") if from_loader else setup.device
    images, labels = to_tensors(setup.dataset.train_images, setup.dataset.train_labels, home)
    return (LoaderBatches if from_loader else InMemoryBatches)(setup, images, labels)
