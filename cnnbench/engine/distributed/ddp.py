"""The reference step on one of several ranks: torch's DistributedDataParallel averages the gradients while they are computed.

Every rank begins with the same weights and draws its shard of the batch that one process would draw; dropout masks are its
own. The loss is the mean over its shard, so the mean of the gradients is that of the whole batch, for the shards are equal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch.nn.parallel import DistributedDataParallel

from cnnbench.data import Dataset
from cnnbench.engine.distributed.group import ProcessGroup
from cnnbench.engine.timing import disable_gc, time_blocks
from cnnbench.engine.training import Training
from cnnbench.schema import Communication, Job
from cnnbench.workloads import Workload

SEED_STRIDE = 2**31
"""Between the seeds of two ranks; above every seed a plan gives, so that no rank has another round's random numbers."""
PAIRS = 8
"""Blocks with the exchange and as many without, in turn, so that a slow moment affects both alike."""


class DdpTraining(Training):
    """A rank's network, optimiser and shard of the batches."""

    def __init__(
        self, job: Job, workload: Workload, dataset: Dataset | None, device: torch.device, group: ProcessGroup
    ) -> None:
        self._rank, self.sync_gradients = group.rank, True
        super().__init__(job, workload, dataset, device, group.share)
        ids = None if device.type == "cpu" else [device.index]
        self._ddp = DistributedDataParallel(self.network, device_ids=ids)
        self.compute_mode.set_forward(self._ddp)

    def step(self) -> None:
        """Do one optimiser step by the mean gradients of all ranks; by its own alone where `sync_gradients` is false."""
        with contextlib.nullcontext() if self.sync_gradients else self._ddp.no_sync():
            super().step()

    def reset(self) -> None:
        """Restore the first weights, the same on all ranks, and seed random numbers that no other rank has."""
        super().reset()
        torch.manual_seed(self._seed + self._rank * SEED_STRIDE)
        self.sync_gradients = True


def measure_allreduce(training: DdpTraining, synchronize: Callable[[], None], block_steps: int) -> Communication:
    """Time blocks with and without the exchange of gradients, in turn. Leaves the network in its initial state.

    Without the exchange ranks drift apart, for each follows its own gradients. What a step computes is the same.
    """
    seconds: dict[bool, list[float]] = {True: [], False: []}
    training.reset()
    with disable_gc():
        for turn in range(2 * PAIRS + 2):
            training.sync_gradients = turn % 2 == 0
            (block,) = time_blocks(training.step, synchronize, blocks=1, steps_per_block=block_steps)
            if turn >= 2:  # the first pair warms up
                seconds[training.sync_gradients].append(block)
    training.reset()
    return Communication(
        steps_per_block=block_steps, with_seconds=tuple(seconds[True]), without_seconds=tuple(seconds[False])
    )
