"""The tuned step for GPUs: batch, forward, loss, backward and update recorded once, and replayed many steps per launch.

A step of a small network is dozens of small kernels, and launching them one by one can take longer than they run.
Recorded, they are one launch; with a graph of several steps an epoch is a few launches, between which the host waits
for nothing. Under a recipe each step takes its learning rate from a table on the device. Evaluation is recorded too.
The network is the reference's with pooling before ReLU and channels last; `compiled-graph` has forward, loss and
backward compiled by torch before they are recorded.

`CudaRecorder` does all that is peculiar to recording (the side stream, the memory pool, cleaning up after a failed
recording): CUDA graphs, and HIP graphs on ROCm by the same torch calls. A test passes a fake one.

The input of a recorded step is gathered on the device by operators alone. Images, labels, the epoch's order and the
number of images drawn are on the device. That number gives the place of the next batch in the order, and a replay
raises it by itself, so the host passes nothing. The host only knows how many steps it has asked for: at the end of an
epoch it draws the next order, with the reference's own generator, so that both train on the same batches, and queues
its copy. A learning rate set by the host would be recorded as a constant: the recording reads a table instead, and a
replay raises the index of its next entry as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cnnbench.data import Dataset
from cnnbench.engine.batches import (
    DISTINCT_RANDOM_BATCHES,
    Batch,
    BatchSource,
    RandomBatches,
    TrainingSetup,
    count_batches,
    to_tensors,
)
from cnnbench.engine.compute_mode import explain_compiler_failure
from cnnbench.engine.optim import make_optimizer
from cnnbench.engine.training import EVALUATION_BATCH, Training, steps_per_block
from cnnbench.engine.tuned.fused import reorder_layers
from cnnbench.errors import UnsupportedError, WorkloadError, is_out_of_memory, summarize_error
from cnnbench.schema import Job

Work = Callable[[], None]
"""Only launches operators: no reading of results, no copy from the host, no choice that depends on values."""


class RecordingError(UnsupportedError):
    """A recording failed. Graphs recorded before it draw random numbers from a generator that was replaced."""


class CudaRecorder:
    """`torch.cuda.graph` on one side stream and one memory pool for all of a training's graphs.

    They share the pool because they never run at the same time and carry values to each other only in tensors made outside.
    Raises UnsupportedError for a device without graphs.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda":
            raise UnsupportedError(f"recorded steps need CUDA's (or ROCm's) graphs; {device.type} has none")
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work, times: int) -> None:
        """Do the work, so that libraries choose their algorithms and allocate what they do at first use.

        On the side stream: autograd remembers the stream on which a weight was first used, and recording is done there.
        """
        with self._use_side_stream(), _search_algorithms():
            for _ in range(times):
                work()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def record(self, work: Work) -> Work:
        """Record the work, without doing it, and return it as one launch, queued like any other when called.

        Its tensors keep their places in memory: what it reads must be written in place, what it wrote is overwritten by
        the next replay. Random numbers are new in each replay. Another thread of this process may continue to call CUDA
        (`thread_local`), as in torch's own compiler. Raises RecordingError with the reason; out-of-memory errors are
        raised unchanged.
        """
        graph, cause = torch.cuda.CUDAGraph(), None
        try:
            # The outer stream context is ours: torch's own leaves the side stream current where the recording cannot be ended.
            with (
                self._use_side_stream(),
                _search_algorithms(),
                torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
            ):
                try:
                    work()
                except Exception as error:
                    cause = error  # ending the recording will fail too, and hide it
                    raise
        except Exception as error:
            self._replace_generator_state()
            cause = cause or error
            if is_out_of_memory(cause):
                raise cause from None
            raise RecordingError(f"the step could not be recorded: {summarize_error(cause)}") from error
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return graph.replay

    @contextmanager
    def _use_side_stream(self) -> Iterator[None]:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield

    def _replace_generator_state(self) -> None:
        """Give the generator a new state like its own: older torch leaves it as if it were still being recorded."""
        torch.cuda.synchronize(self._device)
        generator = torch.cuda.default_generators[self._device.index or 0]
        generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def _search_algorithms() -> Iterator[None]:
    """Let cuDNN try its algorithms in the warm-up, and use the best in the recording."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


WARMUP_STEPS = 3
"""torch asks for three or more: algorithms are chosen, optimiser state is made, the allocator has settled."""
MAX_STEPS_PER_LAUNCH = 64
"""Limit of one graph: enough that launches cost nothing, few enough for a quick recording."""


class GraphTraining(Training):
    """A training whose steps are replayed graphs.

    Raises UnsupportedError with the reason if the device has no graphs, or the job cannot be recorded.
    """

    runs_eagerly = False

    def __init__(self, setup: TrainingSetup) -> None:
        job, device = setup.job, setup.device
        if job.precision == "fp16":
            raise UnsupportedError("fp16 cannot be recorded: its loss scale is decided on the host after each step")
        if job.loader != "resident":
            raise UnsupportedError(f"loader {job.loader!r} cannot be recorded: its batches come from the host")
        self._schedule: LrTable | None = None
        self._recorder = CudaRecorder(device)
        self._replay: Work | None = None
        self._evaluations: dict[int, _RecordedEvaluation] = {}
        super().__init__(setup)
        self.compute_mode.weight_cache = False
        self._kept_loss = torch.zeros((), device=device)
        self.steps_per_launch = choose_steps_per_launch(job)
        self.recorded_settings["steps_per_launch"] = str(self.steps_per_launch)
        self.recorded_settings["cudnn.benchmark"] = "True in the recorded step"

    def prepare(self) -> None:
        """Warm up and record one step, several, and the job's evaluations; end at the first weights."""
        for steps in {1, self.steps_per_launch}:
            self._batches.prepare(steps)
        self._warm_up(lambda: self._run_steps(1), WARMUP_STEPS)
        one = self._record(lambda: self._run_steps(1))
        self._replay = self._replay_many = one
        if self.steps_per_launch > 1:
            self._warm_up(lambda: self._run_steps(self.steps_per_launch), 1)
            self._replay_many = self._record(lambda: self._run_steps(self.steps_per_launch))
        self._optimizer.zero_grad(set_to_none=True)
        if self._test is not None:
            for images in dict.fromkeys((None, self._job.epoch_eval_images or None)):
                found = _RecordedEvaluation(self, self._test, images)
                self._evaluations[found.size] = found
        self.reset()
        self.steps(self.steps_per_launch + 1)  # the first replay of a graph also brings it to the device
        self.reset()

    def steps(self, count: int) -> None:
        """Queue `count` steps in as few launches as the order of the epoch allows."""
        if self._replay is None:
            self.prepare()
        assert self._replay is not None
        while count > 0:
            queued = self._batches.take(count)
            many, single = divmod(queued, self.steps_per_launch)
            for _ in range(many):
                self._replay_many()
            for _ in range(single):
                self._replay()
            count -= queued
        self._last_loss = self._kept_loss

    def step(self) -> None:
        """Do one step in a separate launch."""
        self.steps(1)

    def reset(self) -> None:
        """Reset as the reference does, and restart the table of rates."""
        super().reset()
        if self._schedule is not None:
            self._schedule.restart()

    def set_lr(self, rate: float) -> None:
        """Set the rate of the following steps. Raises UnsupportedError without a recipe: the rate is recorded."""
        self._find_lr_table().fill(rate)

    def set_lr_schedule(self, rates: Sequence[float]) -> None:
        """Set the rates as the reference does, in the table on the device; a single `step` reads its rate there too."""
        self._find_lr_table().write(rates)

    def replace_dataset(self, dataset: Dataset) -> None:
        """Replace the digits as the reference does, in the tensors that the recording reads."""
        if self._test is None:
            raise WorkloadError("a training on random images has no place for digits")
        write_digits(self._test, dataset.test_images, dataset.test_labels)
        self._batches.refill(dataset.train_images, dataset.train_labels)
        self.setup = replace(self.setup, dataset=dataset)

    def last_loss(self) -> torch.Tensor | None:
        """Copy the last step's loss: the next replay overwrites it."""
        return None if self._last_loss is None else self._last_loss.clone()

    def count_correct(self, images: int | None = None) -> tuple[int, int]:
        """Count right answers by replay; for a number of images outside the job's, count as the reference does."""
        all_images = 0 if self._test is None else len(self._test[1])
        size = all_images if images is None else min(images, all_images)
        found = self._evaluations.get(size)
        return super().count_correct(images) if found is None else (found.count(self._sample_generator), size)

    def _run_once(self, work: Work) -> None:
        """Do the work by a recording, as the step does."""
        self._warm_up(work, WARMUP_STEPS)
        self._record(work)()

    def _run_steps(self, steps: int) -> None:
        """Do `steps` whole steps and keep the last one's loss: the work that is recorded."""
        rates = None if self._schedule is None else self._schedule.take(steps)
        for number, (images, labels) in enumerate(self._batches.batches(steps)):
            self._optimizer.zero_grad(set_to_none=True)
            loss = self._loss_of(images, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            if rates is not None:
                for group in self._optimizer.param_groups:
                    group["lr"] = rates[number]
            self._optimizer.step()
            with torch.no_grad():
                for _ in range(self._extra_forwards):
                    self.compute_mode.logits(images)
        self._kept_loss.copy_(loss.detach())

    def _warm_up(self, work: Work, times: int) -> None:
        self._recorder.warm_up(work, times)

    def _record(self, work: Work) -> Work:
        """Record the work, with earlier gradients freed: the recording makes its own in the graph's memory."""
        self._optimizer.zero_grad(set_to_none=True)
        return self._recorder.record(work)

    def _reorder(self, network: nn.Module) -> nn.Module:
        """Reorder the layers, but keep torch's dropout: one kernel on a GPU, with new random numbers per replay."""
        return reorder_layers(network, bulk=False)

    def _make_batches(self) -> BatchSource:
        self._batches: DeviceBatches = DeviceBatches(self.setup)
        return self._batches

    def _make_optimizer(self, name: str, rate: float) -> torch.optim.Optimizer:
        """Make the optimiser; a recipe's rates come from a table with the workload's rate until `set_lr_schedule`."""
        first: float | torch.Tensor = rate
        if self._job.clock == "recipe":
            self._schedule = LrTable(self._job.steps_per_epoch or 1, rate, self._device)
            first = torch.tensor(rate, device=self._device)
        return make_optimizer(name, self.network.parameters(), first, recordable=True)

    def _find_lr_table(self) -> LrTable:
        if self._schedule is None:
            raise UnsupportedError(
                "a recorded step keeps the learning rate that it was recorded with, except under a recipe"
            )
        return self._schedule


class CompiledGraphTraining(GraphTraining):
    """A graph training with forward, loss and backward compiled by torch (its own graphs off) before the recording."""

    def __init__(self, setup: TrainingSetup) -> None:
        super().__init__(setup)
        network = self.network

        def loss_of(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return cross_entropy(network(images), labels)

        # One shape per training: the gradient check's small batch must not make the compiler think that sizes vary.
        compiled = torch.compile(loss_of, mode="max-autotune-no-cudagraphs", dynamic=False)

        def compiled_loss_of(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            with self.compute_mode.autocast():
                return compiled(images, labels)

        self._loss_of = compiled_loss_of

    def _warm_up(self, work: Work, times: int) -> None:
        """Warm up; the first warm-up compiles."""
        with explain_compiler_failure():
            super()._warm_up(work, times)


class _RecordedEvaluation:
    """A recorded count of right answers among all test images in order, or in a sample of `images`."""

    def __init__(self, training: GraphTraining, test: tuple[torch.Tensor, torch.Tensor], images: int | None) -> None:
        inputs, labels = test
        self._of = len(labels)
        self.size = self._of if images is None else min(images, self._of)
        self._correct = torch.zeros((), dtype=torch.int64, device=labels.device)
        self._chosen = torch.arange(self.size, device=labels.device)
        network, mode = training.network, training.compute_mode

        def work() -> None:
            self._correct.zero_()
            with torch.no_grad(), mode.autocast():
                for begin in range(0, self.size, EVALUATION_BATCH):
                    chosen = self._chosen[begin : begin + EVALUATION_BATCH]
                    answers = network(inputs.index_select(0, chosen)).argmax(1)
                    self._correct.add_((answers == labels.index_select(0, chosen)).sum())

        network.eval()
        training._recorder.warm_up(work, WARMUP_STEPS)
        self._replay = training._recorder.record(work)
        network.train()

    def count(self, generator: torch.Generator) -> int:
        """Count the right answers now, with a sample drawn as the reference draws it. Waits for the device."""
        if self.size < self._of:
            upload(self._chosen, torch.randperm(self._of, generator=generator)[: self.size])
        self._replay()
        return int(self._correct.item())


def choose_steps_per_launch(job: Job) -> int:
    """Choose the steps of one graph: the largest divisor of a block's steps up to `MAX_STEPS_PER_LAUNCH`."""
    block = steps_per_block(job) or 1
    return max(each for each in range(1, MAX_STEPS_PER_LAUNCH + 1) if block % each == 0)


GATHER_BYTES = 64 * 2**20
"""Images of several steps are gathered at once up to this size; above it the saved launches are negligible compared
with the copies."""


class DeviceBatches:
    """A `BatchSource` whose batches can be recorded. Images are float32 `(n, channels, height, width)`, labels int64
    `(n,)`.

    In the layout `nhwc` batches have channels last in memory. Random images are the reference's, in the same order.
    """

    def __init__(self, setup: TrainingSetup) -> None:
        job, dataset = setup.job, setup.dataset
        if dataset is None:
            source = RandomBatches(replace(setup, job=job.model_copy(update={"layout": "nchw"})))
            drawn = [source.draw() for _ in range(DISTINCT_RANDOM_BATCHES)]
            images, labels = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        else:
            images, labels = to_tensors(dataset.train_images, dataset.train_labels, setup.device)
        self._batch_size, self._seed = job.batch_size, job.seed
        self._shuffled = dataset is not None and job.order == "shuffled"
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
        """Replace the digits as `write_digits` does, and restart at their first batch."""
        write_digits((self._images, self._labels), images, labels)
        self.restart()

    def restart(self) -> None:
        """Go back to the first batch of the first epoch, with the same orders and the count at zero."""
        self._generator = torch.Generator().manual_seed(self._seed)
        self._position.zero_()
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._left = self._epoch
        if self._shuffled:
            order = torch.randperm(len(self._labels), generator=self._generator)
            upload(self._order, order[: len(self._order)])

    def take(self, most: int) -> int:
        """Take at least one and up to `most` steps that may be queued before the next call; return their number.

        Draws the next epoch's order when this one's is used up. Nothing waits for the device.
        """
        if not self._shuffled:
            return most
        if self._left == 0:
            self._begin_epoch()
        taken = min(most, self._left)
        self._left -= taken
        return taken

    def prepare(self, steps: int) -> None:
        """Allocate what `batches(steps)` needs beside the data. Never called while recording."""
        if steps not in self._offsets:
            count = steps * self._batch_size
            self._offsets[steps] = torch.arange(count, device=self._labels.device)

    def batches(self, steps: int) -> list[Batch]:
        """Gather the next batches by operators alone: recorded, and replayed as often as `take` allows."""
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
        """Draw the next batch now."""
        self.take(1)
        self.prepare(1)
        return self.batches(1)[0]

    @property
    def images_drawn(self) -> int:
        """Images drawn since the last restart, counted on the device where they are gathered; waits for it."""
        return int(self._position.item())


def write_digits(into: Batch, images: object, labels: object) -> None:
    """Convert uint8 arrays as `to_tensors` does into tensors that a recording reads, whose addresses must stay.

    Raises WorkloadError for another number or size of images.
    """
    pixels, digits = torch.as_tensor(images), torch.as_tensor(labels)
    if pixels.numel() != into[0].numel() or digits.shape != into[1].shape:
        given = f"{tuple(pixels.shape)} with {len(digits)} labels"
        raise WorkloadError(f"images {given} do not fit where {tuple(into[0].shape)} were recorded")
    into[0].copy_(pixels.to(into[0].device).view_as(into[0])).div_(255.0)
    into[1].copy_(digits.to(into[1].device))


def upload(target: torch.Tensor, values: torch.Tensor) -> None:
    """Queue a copy from the host, without waiting, from pinned memory that torch keeps until it is done."""
    pinned = values.pin_memory() if target.device.type == "cuda" else values
    target.copy_(pinned, non_blocking=True)


class LrTable:
    """A rate for each of `steps` steps, all the same at first; float32."""

    def __init__(self, steps: int, rate: float, device: torch.device) -> None:
        self._table = torch.full((steps,), rate, device=device)
        self._done = torch.zeros((), dtype=torch.int64, device=device)

    def write(self, rates: Sequence[float]) -> None:
        """Replace the rates in place, since the recording holds the table's address, and restart at the first step.

        Raises WorkloadError for another number of rates.
        """
        if len(rates) != len(self._table):
            raise WorkloadError(f"{len(rates)} rates for a recording of {len(self._table)} steps")
        self._table.copy_(torch.tensor(rates, dtype=torch.float32))
        self.restart()

    def fill(self, rate: float) -> None:
        """Set the same rate for every step."""
        self._table.fill_(rate)

    def restart(self) -> None:
        """Restart at the first step."""
        self._done.zero_()

    def take(self, steps: int) -> tuple[torch.Tensor, ...]:
        """Read the next steps' rates by operators alone, each a tensor of no dimension; the last rate then stays."""
        at = torch.arange(steps, device=self._table.device).add_(self._done).clamp_(max=len(self._table) - 1)
        self._done.add_(steps)
        return self._table.index_select(0, at).unbind()
