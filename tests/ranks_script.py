"""What a rank of a test does: `python ranks_script.py FOLDER LOCAL`, started by torch's elastic launcher."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from cnnbench import data, workloads
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.distributed.group import DdpTraining, join
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


def gradients(training: DdpTraining) -> list[torch.Tensor]:
    """Compute them on its shard of the next batch, dropout off; the backward pass itself averages them over ranks."""
    return training.gradients(*training.draw())


def main(folder: Path, local: int) -> None:
    torch.set_num_threads(1)
    group = join(JOB, local, f"cores {local}")
    assert group.together
    dataset = data.load("synthetic", "train-55000", None)
    training = DdpTraining(TrainingSetup(JOB, workloads.get(JOB.workload), dataset, torch.device("cpu")), group)
    found: dict[str, Any] = {"gradients": gradients(training)}
    training.reset()
    found["masks"] = torch.rand(4)
    training.reset()
    for _ in range(STEPS):
        training.step()
    found["images"] = training.images_drawn
    found["digests"] = group.all_gather(str(group.weights_digest(training)))
    training.sync_gradients = False
    training.step()
    found["apart"] = group.all_gather(str(group.weights_digest(training)))
    training.reset()
    found["again"] = group.all_gather(str(group.weights_digest(training)))
    found["word"] = group.broadcast_flag(local == 0)
    torch.save(found, folder / f"found-{local}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
