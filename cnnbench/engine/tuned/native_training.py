"""The native rung as a training: batches, weights, evaluation as the reference has them, the step by the kernels."""

from __future__ import annotations

import torch
from torch import nn

from cnnbench.data import Dataset
from cnnbench.engine.training import Training
from cnnbench.engine.tuned import native
from cnnbench.engine.tuned.native_stages import group_layers
from cnnbench.engine.tuned.native_step import NativeStep
from cnnbench.errors import UnsupportedError
from cnnbench.schema import Job
from cnnbench.workloads import Workload

PRODUCTS = "tuned_products"
"""Name in a record's settings: which of the processor's products the kernels took."""


class NativeTraining(Training):
    """On a CPU, float32, or bfloat16 where the processor multiplies it.

    Raises UnsupportedError with the reason for what the kernels cannot do.
    """

    _native: NativeStep | None = None
    _dropout_disabled = False

    def __init__(self, job: Job, workload: Workload, dataset: Dataset | None, device: torch.device) -> None:
        if device.type != "cpu":
            raise UnsupportedError(f"native kernels run on CPUs, not on {device.type}")
        if job.precision not in ("fp32", "bf16"):
            raise UnsupportedError(f"native kernels compute in fp32 and bf16, not in {job.precision}")
        if dataset is None:
            raise UnsupportedError("native kernels train on digits")
        kernels = native.load()
        half = job.precision == "bf16"
        if half and not kernels.bf16:
            raise UnsupportedError("native kernels compute in bf16 on processors with AVX512-BF16 only")
        varied = workload.with_variant(job.pool, job.activation)
        stages = group_layers(varied.layers, varied.input_shape, kernels.lanes)
        super().__init__(job, workload, dataset, device)
        network = self.network
        if not isinstance(network, nn.Sequential):
            raise UnsupportedError("native kernels need a network of known layers")
        self._batch = job.batch_size
        rate = workload.learning_rate(job.optimizer or "")
        self._native = NativeStep(
            kernels,
            stages,
            network,
            job.batch_size,
            optimizer=job.optimizer or "",
            rate=rate,
            seed=job.seed,
            half=half,
        )
        by = "tiles of bfloat16 (AMX)" if self._native.tiled else "pairs of bfloat16 (AVX512-BF16)"
        self.recorded_settings[PRODUCTS] = by if half else f"vectors of {kernels.lanes} float32"
        self.reset()

    def step(self) -> None:
        """Draw, and the whole step in the kernels."""
        assert self._native is not None
        images, labels = self._batches.draw()
        loss = self._native.step(images, labels, dropout=not self._dropout_disabled)
        for _ in range(self._extra_forwards):
            self._native.forward(images)
        self._last_loss = torch.tensor(loss)

    def disable_dropout(self) -> None:
        """As the reference's: the kernels drop whatever the modules say."""
        self._dropout_disabled = True

    def set_lr(self, rate: float) -> None:
        """The learning rate of the steps to come."""
        assert self._native is not None
        self._native.set_lr(rate)

    def count_correct(self, images: int | None = None) -> tuple[int, int]:
        """As the reference's, by the kernels: batches of the training's size, the last filled up with its first image."""
        assert self._native is not None
        inputs, labels = self._select_test_images(images)
        batch, correct = self._batch, 0
        for begin in range(0, len(labels), batch):
            part, truth = inputs[begin : begin + batch], labels[begin : begin + batch]
            if (missing := batch - len(part)) > 0:
                part = torch.cat((part, part[:1].expand(missing, *part.shape[1:])))
            logits = self._native.forward(part.contiguous(), dropout=False)[: len(truth)]
            correct += int((logits.argmax(1) == truth).sum())
        return correct, len(labels)

    def reset(self) -> None:
        """As the reference's, and the kernels' own random numbers and optimiser state."""
        super().reset()
        self._dropout_disabled = False
        if self._native is not None:
            self._native.reset()

    def gradients(self, images: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """Of every parameter in its own shape, dropout off."""
        assert self._native is not None
        self._native.forward(images, dropout=False)
        self._native.loss(labels)
        self._native.backward(images)
        return [self._native.flat.gradient(parameter).clone() for parameter in self.network.parameters()]
