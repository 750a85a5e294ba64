"""Batches of training images, in order or shuffled, from a tensor on the device or through a DataLoader.

The sampler counts what it hands out: the identity gate holds that count against steps x batch. Of several ranks each is handed
its share of the very batch that one process would draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from cnnbench.data import Dataset
from cnnbench.engine.process import die_with_parent_process
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job
from cnnbench.workloads import Workload

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images `(batch, 1, 28, 28)` float32 in [0, 1] and labels `(batch,)` int64, on the device."""


DISTINCT_RANDOM_BATCHES = 2
"""Distinct batches of a random workload: enough that none is trained on twice in a row, few enough for a small memory."""


@dataclass(frozen=True)
class Shard:
    """Which part of every batch is handed out: number `index` of `count` equal parts, in order; the whole by default."""

    index: int = 0
    count: int = 1

    def slice_batch(self, begin: int, batch_size: int) -> slice:
        """Where the part lies of a batch that begins there."""
        size = batch_size // self.count
        return slice(begin + self.index * size, begin + (self.index + 1) * size)


FULL = Shard()


class BatchSource(Protocol):
    """Endless batches; epochs restart at the first image (or a new permutation), the last partial batch is dropped."""

    @property
    def images_drawn(self) -> int:
        """Images handed out since the last restart."""
        ...

    def draw(self) -> Batch:
        """The next batch."""
        ...

    def restart(self) -> None:
        """Back to the first batch of the first epoch, the same permutations again, the count at zero."""
        ...


def to_tensors(images: object, labels: object, device: torch.device) -> Batch:
    """uint8 `(n, 28, 28)` arrays to float32 `(n, 1, 28, 28)` in [0, 1] and int64 labels on the device."""
    pixels = torch.as_tensor(images).to(device).unsqueeze(1).to(torch.float32).div_(255.0)
    return pixels, torch.as_tensor(labels).to(device).to(torch.int64)


def count_batches(labels: torch.Tensor, batch_size: int) -> int:
    """Whole batches of an epoch. Raises WorkloadError where there is none."""
    if batch_size > len(labels):
        raise WorkloadError(f"batch_size {batch_size} is larger than the {len(labels)} training images")
    return len(labels) // batch_size


class InMemoryBatches:
    """All images as one float32 tensor on the device; a batch is a slice (in order) or an index (shuffled)."""

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        batch_size: int,
        shuffled: bool,
        seed: int,
        shard: Shard = FULL,
    ) -> None:
        self._images, self._labels, self._shard = images, labels, shard
        self._batch_size, self._shuffled, self._seed = batch_size, shuffled, seed
        self._limit = count_batches(labels, batch_size) * batch_size
        self.restart()

    def restart(self) -> None:
        """Back to the first batch of the first epoch."""
        self.images_drawn = 0
        self._generator = torch.Generator().manual_seed(self._seed)
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._position = 0
        if self._shuffled:
            self._permutation = torch.randperm(len(self._labels), generator=self._generator).to(self._labels.device)

    def draw(self) -> Batch:
        """The next batch; starts the next epoch where the full batches of this one are used up."""
        if self._position >= self._limit:
            self._start_epoch()
        part = self._shard.slice_batch(self._position, self._batch_size)
        self._position += self._batch_size
        if self._shuffled:
            chosen = self._permutation[part]
            batch = self._images[chosen], self._labels[chosen]
        else:
            batch = self._images[part], self._labels[part]
        self.images_drawn += batch[1].shape[0]
        return batch


class LoaderBatches:
    """torch's DataLoader over host tensors, pinned and copied to the device for accelerators."""

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        batch_size: int,
        shuffled: bool,
        seed: int,
        workers: int,
        device: torch.device,
        shard: Shard = FULL,
    ) -> None:
        self._device, self._seed = device, seed
        self._generator = torch.Generator()
        count_batches(labels, batch_size)
        dataset: Any = TensorDataset(images, labels)
        drawn: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffled, "drop_last": True}
        if shard.count > 1:
            # The sampler that DataLoader makes of the same arguments, by the same generator, but one share of each batch.
            order = RandomSampler(dataset, generator=self._generator) if shuffled else SequentialSampler(dataset)
            drawn = {"batch_sampler": _ShardSampler(BatchSampler(order, batch_size, drop_last=True), batch_size, shard)}
        self._loader: DataLoader[Batch] = DataLoader(
            dataset,
            **drawn,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=self._generator,
            worker_init_fn=_die_with_parent if workers else None,
        )
        self.restart()

    def restart(self) -> None:
        """Back to the first batch of the first epoch."""
        self.images_drawn = 0
        self._generator.manual_seed(self._seed)
        self._batches: Iterator[Batch] = iter(self._loader)

    def draw(self) -> Batch:
        """The next batch, on the device."""
        try:
            images, labels = next(self._batches)
        except StopIteration:
            self._batches = iter(self._loader)
            images, labels = next(self._batches)
        self.images_drawn += labels.shape[0]
        return images.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)


def _die_with_parent(_: int) -> None:
    die_with_parent_process()


class _ShardSampler:
    """One share of each batch of a sampler."""

    def __init__(self, batches: BatchSampler, batch_size: int, shard: Shard) -> None:
        self._batches, self._part = batches, shard.slice_batch(0, batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch[self._part] for batch in self._batches)

    def __len__(self) -> int:
        return len(self._batches)


class RandomBatches:
    """Standard normal images and random labels, made once, resident on the device, handed out in turn."""

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        device: torch.device,
        *,
        batch_size: int,
        layout: str,
        seed: int,
        shard: Shard = FULL,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        memory = torch.channels_last if layout == "nhwc" else torch.contiguous_format
        part = shard.slice_batch(0, batch_size)
        self._batches = [
            (
                torch.randn((batch_size, *shape), generator=generator)[part].to(device, memory_format=memory),
                torch.randint(classes, (batch_size,), generator=generator)[part].to(device),
            )
            for _ in range(DISTINCT_RANDOM_BATCHES)
        ]
        self.restart()

    def restart(self) -> None:
        """Back to the first batch."""
        self.images_drawn = self._turn = 0

    def draw(self) -> Batch:
        """The next batch."""
        images, labels = self._batches[self._turn % DISTINCT_RANDOM_BATCHES]
        self._turn += 1
        self.images_drawn += labels.shape[0]
        return images, labels


def make_batches(job: Job, dataset: Dataset, device: torch.device, shard: Shard = FULL) -> BatchSource:
    """The feed the job asks for. A digit has one channel, which lies in memory alike in either layout."""
    cut: dict[str, Any] = {"batch_size": job.batch_size, "shuffled": job.order == "shuffled", "seed": job.seed}
    home = torch.device("cpu") if job.loader == "dataloader" else device
    images, labels = to_tensors(dataset.train_images, dataset.train_labels, home)
    if job.loader == "dataloader":
        return LoaderBatches(images, labels, **cut, workers=job.loader_workers, device=device, shard=shard)
    return InMemoryBatches(images, labels, **cut, shard=shard)


def make_random_batches(job: Job, workload: Workload, device: torch.device, shard: Shard = FULL) -> RandomBatches:
    """Random images of the workload's shape, in the job's layout."""
    cut: dict[str, Any] = {"batch_size": job.batch_size, "layout": job.layout, "seed": job.seed}
    return RandomBatches(workload.input_shape, workload.classes, device, **cut, shard=shard)
