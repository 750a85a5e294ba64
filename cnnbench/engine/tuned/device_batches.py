"""What a recorded step reads: batches and learning rates put together on the device by operators alone.

Images, labels, the epoch's order and the number of images handed out lie on the device. Where in the order the next batch
begins follows from that number, which a replay raises by itself, so nothing has to be told to it. The host only knows how
many steps it has asked for: where an epoch ends it draws the next order, with the reference's own generator, so that both
train on the same batches, and queues its copy. A learning rate that the host sets would be recorded as the number it was: the
recording reads a table instead, and which of its places is next is another number that a replay raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from cnnbench.engine.batches import (
    DISTINCT_RANDOM_BATCHES,
    Batch,
    RandomBatches,
    TrainingSetup,
    count_batches,
    to_tensors,
)
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job

GATHER_BYTES = 64 * 2**20
"""Images of several steps are gathered at once up to this size; above it the launches saved are nothing beside the copies."""


class DeviceBatches:
    """A `BatchSource` whose batches can be recorded. Images `(n, channels, height, width)` float32, labels `(n,)` int64.

    Of a job in the layout `nhwc` batches have channels last in memory.
    """

    def __init__(self, job: Job, images: torch.Tensor, labels: torch.Tensor, *, shuffled: bool) -> None:
        self._batch_size, self._shuffled, self._seed = job.batch_size, shuffled, job.seed
        self._epoch = count_batches(labels, job.batch_size)
        self._nhwc = job.layout == "nhwc"
        self._images = images.permute(0, 2, 3, 1).contiguous() if self._nhwc else images
        self._labels = labels
        device, limit = labels.device, self._epoch * job.batch_size
        self._order = torch.arange(limit, device=device)
        self._position = torch.zeros((), dtype=torch.int64, device=device)
        self._offsets: dict[int, torch.Tensor] = {}
        self.restart()

    def refill(self, images: object, labels: object) -> None:
        """Other digits, as `write_digits` takes them, from their first batch on."""
        write_digits((self._images, self._labels), images, labels)
        self.restart()

    def restart(self) -> None:
        """Back to the first batch of the first epoch, the same orders again, the count at zero."""
        self._generator = torch.Generator().manual_seed(self._seed)
        self._position.zero_()
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._left = self._epoch
        if self._shuffled:
            order = torch.randperm(len(self._labels), generator=self._generator)
            upload(self._order, order[: len(self._order)])

    def take(self, most: int) -> int:
        """How many of the next `most` steps may be queued before the host must be asked again, at least one.

        Draws the next epoch's order where this one's is used up. Nothing waits for the device.
        """
        if not self._shuffled:
            return most
        if self._left == 0:
            self._begin_epoch()
        taken = min(most, self._left)
        self._left -= taken
        return taken

    def prepare(self, steps: int) -> None:
        """Make what `batches(steps)` needs beside the data. Never while recording."""
        if steps not in self._offsets:
            count = steps * self._batch_size
            self._offsets[steps] = torch.arange(count, device=self._labels.device)

    def batches(self, steps: int) -> list[Batch]:
        """The next batches, by operators alone: to be recorded, and replayed as often as `take` allows."""
        if steps > 1 and steps * self._batch_size * self._images[0].nbytes > GATHER_BYTES:
            return [batch for _ in range(steps) for batch in self.batches(1)]
        at = (self._offsets[steps] + self._position).remainder_(len(self._order))
        chosen = self._order.index_select(0, at)
        images, labels = self._images.index_select(0, chosen), self._labels.index_select(0, chosen)
        self._position.add_(len(labels))
        if self._nhwc:
            images = images.permute(0, 3, 1, 2)
        size = self._batch_size
        return [(images[at : at + size], labels[at : at + size]) for at in range(0, len(labels), size)]

    def draw(self) -> Batch:
        """The next batch, drawn now."""
        self.take(1)
        self.prepare(1)
        return self.batches(1)[0]

    @property
    def images_drawn(self) -> int:
        """Images handed out since the last restart, counted on the device where they are gathered; waits for it."""
        return int(self._position.item())


def make_device_batches(setup: TrainingSetup) -> DeviceBatches:
    """The job's images on the device; random ones are those that the reference is given, in the same turn."""
    job, dataset = setup.job, setup.dataset
    if dataset is not None:
        images, labels = to_tensors(dataset.train_images, dataset.train_labels, setup.device)
        return DeviceBatches(job, images, labels, shuffled=job.order == "shuffled")
    source = RandomBatches(replace(setup, job=job.model_copy(update={"layout": "nchw"})))
    drawn = [source.draw() for _ in range(DISTINCT_RANDOM_BATCHES)]
    images, labels = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    return DeviceBatches(job, images, labels, shuffled=False)


def write_digits(into: Batch, images: object, labels: object) -> None:
    """`to_tensors` of these uint8 arrays into tensors that a recording reads, whose addresses must stay.

    Raises WorkloadError for another number or size of images.
    """
    pixels, digits = torch.as_tensor(images), torch.as_tensor(labels)
    if pixels.numel() != into[0].numel() or digits.shape != into[1].shape:
        given = f"{tuple(pixels.shape)} with {len(digits)} labels"
        raise WorkloadError(f"images {given} do not fit where {tuple(into[0].shape)} were recorded")
    into[0].copy_(pixels.to(into[0].device).view_as(into[0])).div_(255.0)
    into[1].copy_(digits.to(into[1].device))


def upload(target: torch.Tensor, values: torch.Tensor) -> None:
    """Queue a copy from the host and wait for nothing: from pinned memory, which torch keeps until the copy is done."""
    pinned = values.pin_memory() if target.device.type == "cuda" else values
    target.copy_(pinned, non_blocking=True)


class LrTable:
    """A rate for each of `steps` steps, all the same at first; float32."""

    def __init__(self, steps: int, rate: float, device: torch.device) -> None:
        self._table = torch.full((steps,), rate, device=device)
        self._done = torch.zeros((), dtype=torch.int64, device=device)

    def write(self, rates: Sequence[float]) -> None:
        """Put these in place of those of before: the recording holds the table's address.

        Raises WorkloadError for another number.
        """
        if len(rates) != len(self._table):
            raise WorkloadError(f"{len(rates)} rates for a recording of {len(self._table)} steps")
        self._table.copy_(torch.tensor(rates, dtype=torch.float32))

    def fill(self, rate: float) -> None:
        """The same rate for every step."""
        self._table.fill_(rate)

    def restart(self) -> None:
        """The first step is next."""
        self._done.zero_()

    def take(self, steps: int) -> tuple[torch.Tensor, ...]:
        """The next steps' rates, a tensor of no dimension each, by operators alone: after the last its rate goes on."""
        at = torch.arange(steps, device=self._table.device).add_(self._done).clamp_(max=len(self._table) - 1)
        self._done.add_(steps)
        return self._table.index_select(0, at).unbind()
