"""What the benchmark files share: the lecture's CNN, digits that need no file, a job of it.

One round of theirs is one epoch of these few digits (or as many calls of a part), synchronised at its end, through the
same public pieces the worker uses. pytest-benchmark's own statistics treat rounds as independent, which steps of one
process are not: use these to look, and `cnnbench run` (fresh processes) to claim.
"""

from __future__ import annotations

import numpy as np
import torch

from cnnbench import workloads
from cnnbench.data import Dataset
from cnnbench.schema import Job, Loader

DEVICES = ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]
CNN = workloads.get("mnist-cnn")
BATCH = 128
EPOCH_STEPS = 5
"""Steps of an epoch, and calls of a part in a round: 5 x 128 = 640 images."""


def random_digits(images: int = EPOCH_STEPS * BATCH) -> Dataset:
    """Noise of MNIST's shape: what a step costs does not depend on what it learns."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, size=(images, 28, 28), dtype=np.uint8)
    labels = draw.integers(0, 10, size=images, dtype=np.uint8)
    return Dataset("synthetic", pixels, labels, pixels[:1000], labels[:1000], source="noise")


def cnn_job(device: str, loader: Loader = "resident", **fields: object) -> Job:
    """The reference training step, batch 128, float32."""
    known = {
        "workload": CNN.name, "workload_version": CNN.version, "optimizer": CNN.default_optimizer,
        "init": CNN.default_init, "data": "synthetic", "split": "train-60000", "batch_size": BATCH,
    }  # fmt: skip
    return Job.model_validate({**known, "device": device, "loader": loader, **fields})
