"""What a rank of a test does: `python ranks_script.py FOLDER LOCAL`, started by torch's elastic launcher."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from cnnbench import data, workloads
from cnnbench.engine.replica import Replica
from cnnbench.engine.team import Ranks, join
from cnnbench.schema import Job

JOB = Job(
    workload="mnist-cnn",
    workload_version=workloads.get("mnist-cnn").version,
    optimizer="sgd",
    init="truncated-0.1",
    data="synthetic",
    split="train-55000",
    order="shuffled",
    batch_size=32,
    threads=1,
    seed=7,
    world=2,
    scaling="strong",
    final_evaluation=False,
)
STEPS = 3


def gradients(replica: Replica) -> list[torch.Tensor]:
    """Of its share of the next batch, dropout off, averaged over ranks by the backward pass itself."""
    return replica.gradients(*replica.draw())


def main(folder: Path, local: int) -> None:
    torch.set_num_threads(1)
    team = join(JOB, local, f"cores {local}")
    assert isinstance(team, Ranks)
    dataset = data.load("synthetic", "train-55000", None)
    replica = Replica(JOB, workloads.get(JOB.workload), dataset, torch.device("cpu"), team)
    found: dict[str, Any] = {"gradients": gradients(replica)}
    replica.reset()
    found["masks"] = torch.rand(4)
    replica.reset()
    for _ in range(STEPS):
        replica.step()
    found["images"] = replica.images_drawn
    found["digests"] = team.gather(str(team.digest(replica)))
    replica.exchanging = False
    replica.step()
    found["apart"] = team.gather(str(team.digest(replica)))
    replica.reset()
    found["again"] = team.gather(str(team.digest(replica)))
    found["word"] = team.agree(local == 0)
    torch.save(found, folder / f"found-{local}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
