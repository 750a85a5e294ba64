"""The processes that do one job together: this one alone, the ranks of a data-parallel job, or concurrent copies.

A trial asks its process group to wait for all, to agree on what only a clock can decide, and for its shard of every
batch. For a single process all of that does nothing, so it is timed as if groups did not exist. Ranks wait for one
another at both ends of a block; copies only before and after the timed steps, since each is timed separately.

A rank trains by torch's DistributedDataParallel, which averages the gradients while they are computed. Every rank
begins with the same weights and draws its shard of the batch that one process would draw; its dropout masks differ from
the other ranks'. The loss is the mean over its shard, and shards are equal, so the mean of the gradients is that of the
whole batch.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from cnnbench.devices import Attached, backend
from cnnbench.engine.batches import Shard, TrainingSetup
from cnnbench.engine.timing import disable_gc, time_blocks
from cnnbench.engine.training import TimedStep, Training
from cnnbench.errors import UnsupportedError
from cnnbench.schema import Communication, Job, Rank, Trial

CONTROL = "gloo"
"""Backend of barriers and flags, on the host."""
TIMEOUT = timedelta(minutes=30)
"""Limit on one exchange: torch's own default. The runner ends a job that makes no progress long before."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process alone, the ranks of one data-parallel job (`together`), or copies of a job, each whole."""

    rank: int = 0
    local: int = 0
    """Number of this process on its machine: the index of its device."""
    world: int = 1
    nodes: int = 1
    place: str = ""
    """The device, or the cores that the process is pinned to."""
    control: Any = None
    """torch's process group for barriers and flags."""
    together: bool = False
    """Whether the processes share every batch and do every step together."""

    @property
    def share(self) -> Shard:
        """This process's shard of every batch: equal parts in order, together the batch that one process would draw."""
        return Shard(self.rank, self.world) if self.together else Shard()

    def synchronizer(self, attached: Attached) -> Callable[[], None]:
        """Return the function that ends a block: it waits until the device is idle, or every rank's device."""
        if not self.together:
            return attached.synchronize

        def idle_everywhere() -> None:
            attached.synchronize()
            self.barrier()

        return idle_everywhere

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        if self.world > 1:
            distributed.barrier(group=self.control)

    def broadcast_flag(self, flag: bool) -> bool:
        """Return rank 0's flag on all ranks that step together."""
        if not self.together:
            return flag
        sent = torch.tensor([int(flag)])
        distributed.broadcast(sent, src=0, group=self.control)
        return bool(sent.item())

    def all_true(self, flag: bool) -> bool:
        """Return on every rank whether the flag is true on all ranks that step together."""
        return "" not in self.all_gather("yes" if flag else "") if self.together else flag

    def all_gather(self, text: str) -> list[str]:
        """Return the texts of all processes, in order, on each, by torch's own pickled exchange."""
        texts: list[Any] = [None] * self.world
        distributed.all_gather_object(texts, text, group=self.control)
        return texts

    def weights_digest(self, timed: TimedStep) -> str | None:
        """Hash the parameters as they are now, to compare ranks; None for a process alone or without a network."""
        if not self.together or not isinstance(timed, Training):
            return None
        hashed = hashlib.sha256()
        for each in timed.network.parameters():
            hashed.update(each.detach().cpu().contiguous().numpy().tobytes())
        return hashed.hexdigest()[:16]

    def with_rank_record(self, trial: Trial, weights: str | None) -> Trial:
        """Return the trial with this process's own record in `ranks`; a single process's trial stays as it is."""
        if self.world == 1:
            return trial
        shared = {name: getattr(trial, name) for name in Rank.model_fields.keys() & Trial.model_fields}
        node = self.rank * self.nodes // self.world
        own = Rank(rank=self.rank, node=node, place=self.place, weights=weights, **shared)
        return trial.model_copy(update={"ranks": (own,)})


SINGLE = ProcessGroup()


def join(job: Job, local: int, place: str) -> ProcessGroup:
    """Join the others through torch's process group, whose address the launcher left in the environment.

    Raises UnsupportedError for a kind of device without a backend that exchanges gradients.
    """
    vendor = backend(job.device)
    kind, exchange = vendor.kind, vendor.exchange
    if exchange is None:
        only = "only CPUs (gloo) and CUDA devices (NCCL) can work together"
        raise UnsupportedError(f"{job.processes} processes on {kind}: {only}")
    if exchange != CONTROL and job.world > 1:
        if not distributed.is_backend_available(exchange):
            built = f"torch {torch.__version__} was built without {exchange.upper()}"
            raise UnsupportedError(f"{built}, which exchanges gradients of GPUs")
        distributed.init_process_group(exchange, timeout=TIMEOUT, device_id=torch.device(kind, local))
        control = distributed.new_group(backend=CONTROL, timeout=TIMEOUT)
    else:
        distributed.init_process_group(CONTROL, timeout=TIMEOUT)
        control = distributed.group.WORLD
    rank, world = distributed.get_rank(), distributed.get_world_size()
    return ProcessGroup(rank, local, world, job.nodes, place, control, together=job.world > 1)


SEED_STRIDE = 2**31
"""Distance between the seeds of two ranks; above every seed of a plan, so that no rank has another round's numbers."""
PAIRS = 8
"""Blocks with the exchange and as many without, alternating, so that a slow moment affects both alike."""


class DdpTraining(Training):
    """A rank's network, optimiser and shard of the batches."""

    def __init__(self, setup: TrainingSetup, group: ProcessGroup) -> None:
        self._rank, self.sync_gradients = group.rank, True
        super().__init__(replace(setup, shard=group.share))
        ids = None if setup.device.type == "cpu" else [setup.device.index]
        self._ddp = DistributedDataParallel(self.network, device_ids=ids)
        self.compute_mode.forward = self._ddp

    def step(self) -> None:
        """Do one optimiser step by the mean gradients of all ranks, or by this rank's if `sync_gradients` is false."""
        with contextlib.nullcontext() if self.sync_gradients else self._ddp.no_sync():
            super().step()

    def reset(self) -> None:
        """Restore the first weights, the same on all ranks, and seed this rank's own random numbers."""
        super().reset()
        torch.manual_seed(self._seed + self._rank * SEED_STRIDE)
        self.sync_gradients = True


def measure_allreduce(training: DdpTraining, synchronize: Callable[[], None], block_steps: int) -> Communication:
    """Time blocks with and without the exchange of gradients, in turn. Leaves the network in its initial state.

    Without the exchange ranks diverge, since each follows its own gradients, but a step computes the same operations.
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
