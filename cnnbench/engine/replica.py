"""The reference step on one of several ranks: torch's DistributedDataParallel averages the gradients while they are computed.

Every rank begins with the same weights and draws its share of the batch that one process would draw; dropout masks are its
own. The loss is the mean over its share, so the mean of the gradients is that of the whole batch, for the shares are equal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch.nn.parallel import DistributedDataParallel

from cnnbench.data import Dataset
from cnnbench.engine.loop import Training
from cnnbench.engine.measure import collector_off, time_blocks
from cnnbench.engine.team import Team
from cnnbench.schema import Communication, Job
from cnnbench.workloads import Workload

SEEDS = 2**31
"""Above every seed a plan gives, so that no rank has another round's random numbers."""
PAIRS = 8
"""Blocks with the exchange and as many without, in turn, so that a slow moment falls on both alike."""


class Replica(Training):
    """A rank's network, optimiser and share of the batches."""

    def __init__(self, job: Job, workload: Workload, dataset: Dataset | None, device: torch.device, team: Team) -> None:
        self._rank, self.exchanging = team.rank, True
        super().__init__(job, workload, dataset, device, team.share)
        ids = None if device.type == "cpu" else [device.index]
        self._together = DistributedDataParallel(self.network, device_ids=ids)
        self.mode.call(self._together)

    def step(self) -> None:
        """One optimiser step by the mean gradients of all ranks; by its own alone where `exchanging` is false."""
        with contextlib.nullcontext() if self.exchanging else self._together.no_sync():
            super().step()

    def reset(self) -> None:
        """The same first weights on all ranks, and random numbers that no other has."""
        super().reset()
        torch.manual_seed(self._seed + self._rank * SEEDS)
        self.exchanging = True


def communication(replica: Replica, synchronize: Callable[[], None], block_steps: int) -> Communication:
    """What the exchange of gradients adds to a step: blocks with it and without, in turn. Leaves the network as at first.

    Without it ranks drift apart: each follows its own gradients. What a step computes is the same.
    """
    seconds: dict[bool, list[float]] = {True: [], False: []}
    replica.reset()
    with collector_off():
        for turn in range(2 * PAIRS + 2):
            replica.exchanging = turn % 2 == 0
            (block,) = time_blocks(replica.step, synchronize, blocks=1, steps_per_block=block_steps)
            if turn >= 2:  # the first pair warms up
                seconds[replica.exchanging].append(block)
    replica.reset()
    return Communication(
        steps_per_block=block_steps, with_seconds=tuple(seconds[True]), without_seconds=tuple(seconds[False])
    )
