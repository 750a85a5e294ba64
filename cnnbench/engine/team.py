"""The processes that do one job together: none beside this one, the ranks of a data-parallel job, or concurrent copies.

A trial asks its team to wait for all, to agree on what only a clock can decide, and for its part of every batch. Alone that
costs nothing, so one process is timed exactly as it was before there were teams. Ranks wait for one another at both ends of a
block; copies only before the timed steps and after them, for each is timed by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from cnnbench.devices import Attached
from cnnbench.engine.feed import WHOLE, Share
from cnnbench.engine.loop import Timed, Training
from cnnbench.errors import UnsupportedError
from cnnbench.schema import Job, Rank, Trial

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
"""Who exchanges gradients, by the kind in the device's name. Waiting and agreeing always go through gloo, on the host."""
PATIENCE = timedelta(minutes=30)
"""For one exchange: torch's own default. A job that makes no progress is ended long before by its runner."""


@dataclass(frozen=True)
class Team:
    """This process alone; `Ranks` and `Copies` are several."""

    rank: int = 0
    local: int = 0
    """Which of this machine's processes it is: the index of its device."""
    world: int = 1
    nodes: int = 1
    place: str = ""
    """Its device, or the cores it is held to."""
    control: Any = None
    """The process group that waits and agrees."""

    @property
    def share(self) -> Share:
        """This process's part of every batch."""
        return WHOLE

    def synchronizer(self, attached: Attached) -> Callable[[], None]:
        """What ends a block: the device is idle, and of ranks every other one too."""
        return attached.synchronize

    def wait(self) -> None:
        """Return when all have come here."""

    def agree(self, yes: bool) -> bool:
        """The first one's word, on all."""
        return yes

    def everyone(self, yes: bool) -> bool:
        """Whether all that step together say yes, on each of them."""
        return yes

    def gather(self, text: str) -> list[str]:
        """The texts of all, in order, on all."""
        return [text]

    def digest(self, timed: Timed) -> str | None:
        """Of the parameters as they are now, to hold ranks against one another; None where there is nobody to compare with."""
        return None

    def account(self, trial: Trial, weights: str | None) -> Trial:
        """The trial with what this process has to say for itself."""
        return trial


SOLO = Team()


@dataclass(frozen=True)
class Copies(Team):
    """Processes that do the same job at the same time, each whole, on devices or cores of their own."""

    def wait(self) -> None:
        """All are here."""
        distributed.barrier(group=self.control)

    def gather(self, text: str) -> list[str]:
        """By torch's own pickled exchange."""
        texts: list[Any] = [None] * self.world
        distributed.all_gather_object(texts, text, group=self.control)
        return texts

    def account(self, trial: Trial, weights: str | None) -> Trial:
        """What the others will not know of it."""
        own = Rank(
            rank=self.rank,
            node=self.rank * self.nodes // self.world,
            place=self.place,
            block_seconds=trial.block_seconds,
            images=trial.images,
            cold_start_seconds=trial.cold_start_seconds,
            minor_faults=trial.minor_faults,
            cpu_seconds=trial.cpu_seconds,
            memory=trial.memory,
            energy=trial.energy,
            communication=trial.communication,
            weights=weights,
        )
        return trial.model_copy(update={"ranks": (own,)})


@dataclass(frozen=True)
class Ranks(Copies):
    """The ranks of one data-parallel job."""

    @property
    def share(self) -> Share:
        """Each an equal part, in order, so that together they have the batch that one process would draw."""
        return Share(self.rank, self.world)

    def synchronizer(self, attached: Attached) -> Callable[[], None]:
        """Its device is idle, then all others' are: a block is as long as on the slowest."""

        def idle_everywhere() -> None:
            attached.synchronize()
            self.wait()

        return idle_everywhere

    def agree(self, yes: bool) -> bool:
        """Rank 0's word."""
        word = torch.tensor([int(yes)])
        distributed.broadcast(word, src=0, group=self.control)
        return bool(word.item())

    def everyone(self, yes: bool) -> bool:
        """Every rank's word."""
        return "" not in self.gather("yes" if yes else "")

    def digest(self, timed: Timed) -> str | None:
        """The same bytes give the same digest."""
        if not isinstance(timed, Training):
            return None
        hashed = hashlib.sha256()
        for each in timed.network.parameters():
            hashed.update(each.detach().cpu().contiguous().numpy().tobytes())
        return hashed.hexdigest()[:16]


def join(job: Job, local: int, place: str) -> Team:
    """Meet the others through torch's process group, whose address the launcher left in the environment.

    Raises UnsupportedError where nothing exchanges gradients on this kind of device.
    """
    kind = job.device.partition(":")[0]
    backend = BACKENDS.get(kind)
    if backend is None:
        raise UnsupportedError(
            f"{job.processes} processes on {kind}: only CPUs (gloo) and CUDA devices (NCCL) can work together"
        )
    if backend == "nccl" and job.world > 1:
        if not distributed.is_nccl_available():
            raise UnsupportedError(
                f"torch {torch.__version__} was built without NCCL, which exchanges gradients of GPUs"
            )
        device = torch.device("cuda", local)
        distributed.init_process_group("nccl", timeout=PATIENCE, device_id=device)
        control = distributed.new_group(backend="gloo", timeout=PATIENCE)
    else:
        distributed.init_process_group("gloo", timeout=PATIENCE)
        control = distributed.group.WORLD
    team = Ranks if job.world > 1 else Copies
    rank, world = distributed.get_rank(), distributed.get_world_size()
    return team(rank=rank, local=local, world=world, nodes=job.nodes, place=place, control=control)
