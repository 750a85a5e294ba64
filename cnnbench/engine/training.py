"""The reference step, training or inference: plain PyTorch, the same on every device, so that devices compare.

A network that asks for it is pre-trained first, greedily, layer by layer, as the lecture's slides call it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import mse_loss

from cnnbench.data import Dataset
from cnnbench.engine.batches import Batch, BatchSource, Shard, TrainingSetup, make_batches, to_tensors
from cnnbench.engine.compute_mode import AUTOCAST_DTYPES, ComputeMode
from cnnbench.engine.optim import make_optimizer, reset_state
from cnnbench.errors import UnsupportedError, WorkloadError
from cnnbench.schema import Job
from cnnbench.workloads.base import Pretraining

EVALUATION_BATCH = 500


def steps_per_block(job: Job) -> int:
    """Count the optimiser steps of one block: an epoch (job clock), or between two evaluations (accuracy clock)."""
    return {"steady": job.block_steps, "accuracy": job.evaluate_every}.get(job.clock, job.steps_per_epoch) or 0


class TimedStep(ABC):
    """What the clocks time: a repeated step. The defaults here are those of a step without a network."""

    steps_per_launch = 1
    """Steps that one launch can do, see `steps`."""
    runs_eagerly = True
    """Whether a step dispatches its operators one by one, so that counting them says something."""
    trains = False
    """Whether a step is an optimiser step."""
    parameters = 0
    """Trainable values, counted on the network."""
    _last_loss: torch.Tensor | None = None

    def __init__(self) -> None:
        self.recorded_settings: dict[str, str] = {}
        """Details of the build for the record's settings."""

    @abstractmethod
    def step(self) -> None:
        """Do one optimiser step (or one product), queued or done but never synchronised here."""

    def steps(self, count: int) -> None:
        """Do `count` steps; a variant that can do several in one launch does so."""
        step = self.step
        for _ in range(count):
            step()

    def reset(self) -> None:  # noqa: B027  a step without weights has no state to go back to
        """Restore the state before the first step, so that warm-up leaves no trace in the result."""

    def loss(self) -> float | None:
        """Read the last step's loss; synchronises, so it is never called between start and stop."""
        return None if self._last_loss is None else float(self._last_loss.detach().item())

    def last_loss(self) -> torch.Tensor | None:
        """Return the last step's loss as a tensor on the device, for reading later: nothing waits for it."""
        return None if self._last_loss is None else self._last_loss.detach()

    @property
    def images_drawn(self) -> int:
        """Images that the sampler drew since the last reset."""
        return 0


class Training(TimedStep):
    """One network, its optimiser and its batches."""

    trains = True

    def __init__(self, setup: TrainingSetup) -> None:
        super().__init__()
        job, device, dataset, workload = setup.job, setup.device, setup.dataset, setup.workload
        if job.layout == "nhwc" and not workload.convolves:
            why = f"{workload.name} has no convolutions, so its data have no channels to put last"
            raise UnsupportedError(f"layout 'nhwc': {why}")
        if job.optimizer not in workload.optimizers:
            raise WorkloadError(f"optimizer {job.optimizer!r} is not one of {', '.join(workload.optimizers)}")
        if job.batch_size < 1:
            raise WorkloadError(f"batch_size {job.batch_size} is below 1")
        self._job, self._device, self._seed, self._extra_forwards = job, device, job.seed, job.extra_forwards
        self.setup = setup
        network = workload.build(job.init, job.seed).to(device)
        self.compute_mode = ComputeMode(job, self._reorder(network), device, workload.loss)
        self.network, self._loss_of = self.compute_mode.network, self.compute_mode.loss
        self.parameters = sum(parameter.numel() for parameter in self.network.parameters())
        self._initial_state = [each.detach().clone() for each in self._list_state()]
        self._batches: BatchSource = self._make_batches()
        self._test = None if dataset is None else to_tensors(dataset.test_images, dataset.test_labels, device)
        self.has_test_images = self.trains and dataset is not None
        """Whether test accuracy, or a regression's fit, can be measured."""
        self._optimizer = self._make_optimizer(job.optimizer, workload.learning_rate(job.optimizer))
        self.pretrain: LayerwisePretraining | None = None
        if workload.pretraining is not None and dataset is not None and isinstance(self.network, nn.Sequential):
            self.pretrain = LayerwisePretraining(workload.pretraining, self.network, replace(setup, shard=Shard()))
        self._lr_schedule: Sequence[float] = ()
        self._sample_generator = torch.Generator()
        self.reset()

    def step(self) -> None:
        """Draw, forward, backward, update; then the job's extra forward passes, dropout on as in training."""
        images, labels = self._batches.draw()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self.compute_mode.loss(images, labels)
        self.compute_mode.update(loss, self._optimizer)
        if self._extra_forwards:
            with torch.no_grad():
                for _ in range(self._extra_forwards):
                    self.compute_mode.logits(images)
        self._last_loss = loss

    def steps(self, count: int) -> None:
        """Do `count` steps, each at its scheduled rate if there is a schedule."""
        if not self._lr_schedule:
            super().steps(count)
            return
        for _ in range(count):
            self.set_lr(self._lr_schedule[min(self._schedule_position, len(self._lr_schedule) - 1)])
            self._schedule_position += 1
            self.step()

    def prepare(self) -> None:
        """Prepare once before the first step; nothing here. Raises UnsupportedError if a rung fails here after all."""

    def reset(self) -> None:
        """Restore the first weights, optimiser state, batch and random numbers."""
        with torch.no_grad():
            for each, start in zip(self._list_state(), self._initial_state, strict=True):
                each.copy_(start)
        reset_state(self._optimizer)
        self.compute_mode.reset()
        self._batches.restart()
        self._schedule_position = 0
        self._sample_generator.manual_seed(self._seed + 1)
        torch.manual_seed(self._seed)
        self.network.train()

    def disable_dropout(self) -> None:
        """Turn dropout off until the next reset, so that two ways of computing a step can be compared."""
        for module in self.network.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()

    def set_lr(self, rate: float) -> None:
        """Set the learning rate of the following steps."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def set_lr_schedule(self, rates: Sequence[float]) -> None:
        """Set the learning rate of each step of `steps`, from the first after a reset on; the last rate then stays."""
        self._lr_schedule, self._schedule_position = tuple(rates), 0

    def replace_dataset(self, dataset: Dataset) -> None:
        """Train and test on these digits from their first image on; the previous ones are dropped."""
        self.setup = replace(self.setup, dataset=dataset)
        self._batches = self._make_batches()
        self._test = to_tensors(dataset.test_images, dataset.test_labels, self._device)

    def _make_batches(self) -> BatchSource:
        """Make the source of batches; a tuned rung may draw the same batches in another way."""
        return make_batches(self.setup)

    def _make_optimizer(self, name: str, rate: float) -> torch.optim.Optimizer:
        """Make the update rule; a tuned rung may compute the same rule in another way."""
        return make_optimizer(name, self.network.parameters(), rate)

    def _reorder(self, network: nn.Module) -> nn.Module:
        """Return the network as it is; a tuned rung may put the same modules in another order."""
        return network

    def gradients(self, images: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """Compute every parameter's gradient for one batch, dropout off, to compare ways of computing them."""

        def work() -> None:
            self._optimizer.zero_grad(set_to_none=True)
            self._loss_of(images, labels).backward()  # type: ignore[no-untyped-call]

        self.network.eval()
        self._run_once(work)
        found = [each.grad.clone() for each in self.network.parameters() if each.grad is not None]
        self._optimizer.zero_grad(set_to_none=True)
        self.network.train()
        return found

    def _list_state(self) -> list[torch.Tensor]:
        """List what a step changes in the network: parameters and buffers (a module may replace a buffer in a step)."""
        return [*self.network.parameters(), *self.network.buffers()]

    def _run_once(self, work: Callable[[], None]) -> None:
        work()

    def compile(self) -> None:
        """Compile the network's forward and backward. Raises UnsupportedError if that fails."""
        images, labels = self._batches.draw()
        self.compute_mode.compile(images, labels, training=self.trains)
        self.reset()

    def draw(self) -> Batch:
        """Draw the next batch and do nothing else, to measure the cost of drawing."""
        return self._batches.draw()

    @property
    def images_drawn(self) -> int:
        """Images that the sampler drew since the last reset."""
        return self._batches.images_drawn

    def count_correct(self, images: int | None = None) -> tuple[int, int]:
        """Count (correct, images) on `images` random test images or all in order, dropout off; restore training mode.

        Computed as the training is, but never compiled: another batch would be another compilation inside a clock.
        """
        inputs, labels = self._select_test_images(images)
        if self.setup.workload.loss == "squared-error":
            raise WorkloadError(f"{self.setup.workload.name} has no classes that could be right; it has a fit")
        choose: Callable[[torch.Tensor], torch.Tensor] = lambda outputs: outputs.argmax(1)  # noqa: E731
        if (
            self.setup.workload.loss == "binary-cross-entropy"
        ):  # the sigmoid is above one half where its input is above 0
            choose = lambda outputs: outputs.squeeze(1) > 0  # noqa: E731
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        for outputs, right in self._predict(inputs, labels):
            correct += (choose(outputs) == right).sum()
        return int(correct.item()), len(labels)

    def measure_fit(self) -> tuple[float, float]:
        """Measure (mean squared error, variance of the targets) of a regression on all test examples, in float64."""
        inputs, targets = self._select_test_images(None)
        squares = sum(
            (outputs.squeeze(1).double() - wanted.double()).square().sum().item()
            for outputs, wanted in self._predict(inputs, targets)
        )
        return squares / len(targets), targets.double().var(correction=0).item()

    def _predict(self, inputs: torch.Tensor, labels: torch.Tensor) -> Iterator[Batch]:
        """Yield the outputs for these examples, batch by batch, dropout off, and their labels; restore training mode."""
        self.network.eval()
        with torch.no_grad(), self.compute_mode.autocast():
            for begin in range(0, len(labels), EVALUATION_BATCH):
                end = begin + EVALUATION_BATCH
                yield self.network(inputs[begin:end]), labels[begin:end]
        self.network.train()

    def _select_test_images(self, images: int | None) -> Batch:
        if self._test is None:
            raise WorkloadError("random images have no right answers")
        inputs, labels = self._test
        if images is None or images >= len(labels):
            return self._test
        chosen = torch.randperm(len(labels), generator=self._sample_generator)[:images].to(self._device)
        return inputs[chosen], labels[chosen]


class Inference(Training):
    """One network and its batches, forward only: dropout off, no gradients."""

    trains = False
    _last: Batch | None = None

    def __init__(self, setup: TrainingSetup) -> None:
        job = setup.job.model_copy(update={"optimizer": setup.workload.default_optimizer})
        super().__init__(replace(setup, job=job))

    def step(self) -> None:
        """Draw a batch and do its forward pass."""
        images, labels = self._batches.draw()
        with torch.inference_mode():
            self._last = self.compute_mode.logits(images), labels

    def reset(self) -> None:
        """Restart at the first batch."""
        super().reset()
        self.network.eval()

    def loss(self) -> float | None:
        """Compute the last batch's loss, to compare two ways of computing it."""
        if self._last is None:
            return None
        logits, labels = self._last
        return float(self.compute_mode.compute_loss(logits.float(), labels).item())


class GemmStep(TimedStep):
    """The GEMM workload: one product of random square operands into an existing result."""

    def __init__(self, job: Job, device: torch.device) -> None:
        super().__init__()
        if job.size is None:
            raise WorkloadError("a gemm job needs a size, the side of its operands")
        dtype = AUTOCAST_DTYPES.get(job.precision, torch.float32)
        generator, shape = torch.Generator().manual_seed(job.seed), (job.size, job.size)
        self._left, self._right = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(2))
        self._out = torch.empty(shape, device=device, dtype=dtype)

    def step(self) -> None:
        """Compute one product."""
        torch.mm(self._left, self._right, out=self._out)

    def repeat(self, amount: float) -> None:
        """Repeat the product `amount` times: whole ones, then a part of its rows."""
        whole, part = divmod(amount, 1.0)
        for _ in range(int(whole)):
            self.step()
        if rows := round(part * len(self._left)):
            torch.mm(self._left[:rows], self._right, out=self._out[:rows])


class LayerwisePretraining:
    """The autoencoders of one network's hidden layers, trained one after the other when called."""

    def __init__(self, plan: Pretraining, network: nn.Sequential, setup: TrainingSetup) -> None:
        self._network, self._batches, self._plan = network, make_batches(setup), plan
        self._seed, self._steps = setup.job.seed, plan.epochs * (setup.job.full_epoch or 0)
        self._hidden = [index for index, module in enumerate(network) if isinstance(module, nn.Linear)][:-1]
        if not self._hidden:
            raise WorkloadError("pre-training needs a hidden dense layer")
        self.losses: list[torch.Tensor] = []
        """Mean squared error of each layer's last step."""

    def __call__(self) -> int:
        """Train all layers and return the steps done. Leaves the batches at the first one."""
        self.losses = []
        for index in self._hidden:
            self._batches.restart()
            self.losses.append(self._train(index))
        self._batches.restart()
        return self._steps * len(self._hidden)

    def _train(self, index: int) -> torch.Tensor:
        below, layer = self._network[:index], self._network[index]
        encoder = self._network[index : index + 2]  # the dense layer and its activation
        assert isinstance(layer, nn.Linear)
        decoder = nn.Linear(layer.out_features, layer.in_features, device=layer.weight.device)
        generator = torch.Generator().manual_seed(self._seed + index)
        with torch.no_grad():
            decoder.weight.copy_(nn.init.xavier_uniform_(torch.empty(decoder.weight.shape), generator=generator))
            nn.init.zeros_(decoder.bias)
        optimizer = torch.optim.Adam([*layer.parameters(), *decoder.parameters()], lr=self._plan.learning_rate)
        loss = torch.zeros(())
        for _ in range(self._steps):
            images, _ = self._batches.draw()
            with torch.no_grad():
                given = below(images)
            optimizer.zero_grad(set_to_none=True)
            loss = mse_loss(decoder(encoder(given)), given)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        layer.zero_grad(set_to_none=True)
        return loss.detach()
