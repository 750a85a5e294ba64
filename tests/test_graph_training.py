"""The recorded rungs: with a fake recorder on the CPU, whole; what only a GPU can show is skipped without one."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable

import pytest
import test_tuned
import torch
from fake_graph_recorder import FakeRecorder, NotPermittedError, nothing_waits
from test_tuned import ROUNDING, digits

from cnnbench import workloads
from cnnbench.engine import tuned
from cnnbench.engine.batches import TrainingSetup, make_batches
from cnnbench.engine.training import Training
from cnnbench.engine.tuned import graph_training
from cnnbench.errors import UnsupportedError
from cnnbench.schema import TUNED_ERROR, TUNED_RUNG, Job
from cnnbench.workloads import Workload, flops

CPU = torch.device("cpu")
RECORDED = ("graph", "compiled-graph")
ON_GPU = (*RECORDED, "fused")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")

SMALL = dataclasses.replace(
    workloads.get("vgg16"),
    layers=(
        *(flops.Conv2d(8, bias=True), flops.Relu(), flops.Conv2d(8, bias=True), flops.Relu(), flops.MaxPool2d()),
        *(flops.Flatten(), flops.Dense(32, bias=True), flops.Relu(), flops.Dropout(0.5), flops.Dense(10, bias=True)),
    ),
    input_shape=(3, 16, 16),
    classes=10,
)
"""VGG-16's kind of network: three channels, biases, random images that lie on the device."""


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[FakeRecorder]:
    """Every recorder that was asked for; nothing is compiled."""
    made: list[FakeRecorder] = []

    def make(device: torch.device) -> FakeRecorder:
        made.append(FakeRecorder())
        return made[-1]

    monkeypatch.setattr(graph_training, "CudaRecorder", make)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    return made


def job(name: str, execution: str, **fields: object) -> Job:
    return test_tuned.job(name, execution, **{"block_steps": 2, **fields})


def plain_dropout_off(own: Workload) -> Workload:
    return dataclasses.replace(own, layers=tuple(each for each in own.layers if not isinstance(each, flops.Dropout)))


def both(own: Workload, rung: str = "graph", **fields: object) -> tuple[Training, Training]:
    """The reference and the rung, of the same job."""
    asked = job(own.name, rung, **fields) if own.dataset == "mnist" else small_job(rung, **fields)
    data = digits() if own.dataset == "mnist" else None
    reference = Training(
        TrainingSetup(asked.model_copy(update={"division": "reference", "execution": "eager"}), own, data, CPU)
    )
    return reference, tuned.make(TrainingSetup(asked, own, data, CPU))


def small_job(execution: str = "graph", **fields: object) -> Job:
    known = {
        "workload": "vgg16", "workload_version": SMALL.version, "division": "tuned", "execution": execution,
        "batch_size": 8, "optimizer": "momentum", "init": SMALL.default_init, "data": "random", "seed": 5,
        "final_evaluation": False,
    }  # fmt: skip
    return Job.model_validate(known | fields)


def weights(training: Training) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in training.network.parameters()])


@pytest.mark.usefixtures("recorders")
class TestSameMathematics:
    @pytest.mark.parametrize("rung", RECORDED)
    @pytest.mark.parametrize("name", ["mnist-cnn", "softmax", "mlp-5-xavier-dropout"])
    def test_gradients_are_those_of_float64(self, name: str, rung: str) -> None:
        assert tuned.gradient_error(TrainingSetup(job(name, rung), workloads.get(name), digits(), CPU), rung) < ROUNDING

    @pytest.mark.parametrize("rung", [*RECORDED, "fused"])
    def test_gradients_of_random_images_too(self, rung: str) -> None:
        assert tuned.gradient_error(TrainingSetup(small_job(rung), SMALL, None, CPU), rung) < ROUNDING

    @pytest.mark.parametrize(
        ("optimizer", "order"),
        [
            *((each, "shuffled") for each in ("sgd", "momentum", "rmsprop", "rmsprop-tf1", "adam")),
            ("rmsprop", "sequential"),
        ],
    )
    def test_it_trains_as_the_reference_does(self, optimizer: str, order: str) -> None:
        """Dropout left out: the same weights after 25 steps, which is two epochs and a half of 10 steps each."""
        own = plain_dropout_off(workloads.get("mlp-1"))
        reference, fast = both(own, optimizer=optimizer, order=order, block_steps=4)
        reference.steps(25)
        fast.steps(25)
        torch.testing.assert_close(weights(fast), weights(reference), rtol=1e-3, atol=1e-4)
        assert fast.loss() == pytest.approx(reference.loss(), rel=1e-3)
        assert fast.images_drawn == reference.images_drawn == 25 * 32

    def test_random_images_come_in_the_references_turn(self) -> None:
        reference, fast = both(plain_dropout_off(SMALL), block_steps=2)
        reference.steps(5)
        fast.steps(5)
        torch.testing.assert_close(weights(fast), weights(reference), rtol=1e-4, atol=1e-5)
        assert fast.images_drawn == 5 * 8

    def test_a_cnn_trains_as_the_reference_does(self) -> None:
        """Pooling before ReLU, channels last: a few steps, for small differences grow."""
        own = plain_dropout_off(workloads.get("mnist-cnn"))
        reference, fast = both(own, optimizer="sgd", batch_size=16, block_steps=2)
        reference.steps(3)
        fast.steps(3)
        torch.testing.assert_close(weights(fast), weights(reference), rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize("order", ["sequential", "shuffled"])
    def test_many_steps_at_once_are_single_steps(self, order: str) -> None:
        """With dropout: the same random numbers in the same turn, whatever the launches."""
        own = workloads.get("mlp-5-xavier-dropout")
        ends = []
        for block in (1, 7):
            run = tuned.make(TrainingSetup(job(own.name, "graph", order=order, block_steps=block), own, digits(), CPU))
            assert run.steps_per_launch == block
            run.steps(23)
            ends.append(weights(run))
        torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)

    def test_warm_up_leaves_no_trace(self) -> None:
        own = workloads.get("mlp-5-xavier-dropout")
        ends = []
        for warm_steps in (0, 5):
            run = tuned.make(
                TrainingSetup(job(own.name, "graph", order="shuffled", optimizer="adam"), own, digits(), CPU)
            )
            run.steps(warm_steps)
            run.reset()
            run.steps(3)
            ends.append(weights(run))
            assert run.images_drawn == 3 * 32
        assert torch.equal(*ends)

    @pytest.mark.parametrize("images", [None, 64, 10_000])
    def test_evaluation_is_the_references(self, images: int | None, recorders: list[FakeRecorder]) -> None:
        """The same count with the same weights: of all test images, and of the sample that the job prescribes."""
        own = workloads.get("mlp-1")
        fields = {"clock": "job", "epochs": 1, "steps_per_epoch": 5, "epoch_eval_images": 64}
        reference, fast = both(own, **fields)
        fast.steps(12)
        with torch.no_grad():
            for mine, theirs in zip(reference.network.parameters(), fast.network.parameters(), strict=True):
                mine.copy_(theirs)
        before = sum(recorders[-1].replays)
        assert fast.count_correct(images) == reference.count_correct(images)
        assert fast.count_correct(images)[0] > 20
        assert sum(recorders[-1].replays) == before + 2

    def test_a_sample_that_nobody_prescribed_is_counted_all_the_same(self) -> None:
        own = workloads.get("mlp-1")
        reference, fast = both(own)
        assert fast.count_correct(50) == reference.count_correct(50)

    def test_losses_of_blocks_stay_what_they_were(self) -> None:
        """Each is kept on the device; the next block must not write over it."""
        own = workloads.get("mlp-1")
        run = tuned.make(TrainingSetup(job(own.name, "graph", block_steps=5), own, digits(), CPU))
        kept = []
        for _ in range(3):
            run.steps(5)
            kept.append((run.last_loss(), run.loss()))
        assert [float(tensor) for tensor, _ in kept] == [read for _, read in kept]
        assert len({read for _, read in kept}) == 3

    def test_further_forward_passes_change_no_update(self) -> None:
        own = plain_dropout_off(workloads.get("mlp-1"))
        ends = []
        for forwards in (0, 2):
            run = tuned.make(TrainingSetup(job(own.name, "graph", extra_forwards=forwards), own, digits(), CPU))
            run.steps(3)
            ends.append(weights(run))
        assert torch.equal(*ends)

    def test_bf16_is_what_its_products_come_out_in(self) -> None:
        own = workloads.get("mlp-1")
        run = tuned.make(TrainingSetup(job(own.name, "graph", precision="bf16"), own, digits(), CPU))
        run.steps(3)
        assert run.compute_mode.logits(run.draw()[0]).dtype == torch.bfloat16
        assert 1e-4 < float(run.recorded_settings[TUNED_ERROR]) < 0.2


class TestRecording:
    @pytest.mark.parametrize("order", ["sequential", "shuffled"])
    def test_an_epoch_waits_for_nothing_and_is_a_few_launches(self, order: str, recorders: list[FakeRecorder]) -> None:
        own = workloads.get("mnist-cnn")
        run = tuned.make(
            TrainingSetup(job(own.name, "graph", order=order, block_steps=3, batch_size=4), own, digits(24, 20), CPU)
        )
        before = list(recorders[-1].replays)
        with nothing_waits():
            run.steps(6)
            loss = run.last_loss()
            run.steps(6)
        launches = [now - then for now, then in zip(recorders[-1].replays, before, strict=True)]
        assert launches == [0, 4, 0]  # no single step, 12 steps in threes, no evaluation
        assert loss is not None
        assert run.images_drawn == 12 * 4

    def test_the_reference_step_with_a_reading_in_it_would_be_seen(self) -> None:
        """The checks check: what brings a value to the host raises, in a recording and in an epoch."""
        value = torch.ones(3)
        readings: tuple[Callable[[], object], ...] = (
            *(lambda: value[0].item(), lambda: value.cpu(), lambda: value.nonzero()),
            *(lambda: bool(value[0]), lambda: float(value[0]), lambda: torch.equal(value, value)),
        )
        for reading in readings:
            with pytest.raises(NotPermittedError), nothing_waits():
                reading()
            with pytest.raises(NotPermittedError):
                FakeRecorder().record(reading)
        with pytest.raises(NotPermittedError):
            FakeRecorder().record(lambda: torch.tensor([1.0]))

    def test_recorded_work_has_not_been_done_and_python_around_it_never_again(self) -> None:
        """What the fake must be like for the tests above to say anything."""
        value, count = torch.zeros(2), []

        def work() -> None:
            count.append(1)
            value.add_(torch.rand(2))

        replay = FakeRecorder().record(work)
        assert value.tolist() == [0.0, 0.0]
        replay()
        once = value.clone()
        replay()
        assert len(count) == 1
        assert not torch.equal(value - once, once)

    @pytest.mark.parametrize("rung", RECORDED)
    def test_everything_is_warmed_up_before_it_is_recorded(self, rung: str, recorders: list[FakeRecorder]) -> None:
        """Three times: gradients, the single step and the evaluation; the step of several has the single one's shapes."""
        own = workloads.get("mlp-1")
        tuned.make(TrainingSetup(job(own.name, rung, block_steps=5), own, digits(), CPU))
        checked, trained = recorders
        assert checked.recorded == [3]
        assert trained.recorded == [3, 1, 3]

    @pytest.mark.parametrize("order", ["sequential", "shuffled"])
    @pytest.mark.parametrize("batch", [32, 48])
    def test_an_epoch_sees_each_image_once_and_the_batches_of_the_reference(self, order: str, batch: int) -> None:
        """320 images in batches of 48: six full ones, the rest is left out."""
        asked = job("mlp-1", "graph", order=order, batch_size=batch)
        mine = graph_training.DeviceBatches(TrainingSetup(asked, workloads.get("mlp-1"), digits(), CPU))
        theirs = make_batches(TrainingSetup(asked, workloads.get("mlp-1"), digits(), CPU))
        for _ in range(2):
            seen = []
            for _ in range(320 // batch):
                (images, labels), (true_images, true_labels) = mine.draw(), theirs.draw()
                assert torch.equal(images, true_images)
                assert torch.equal(labels, true_labels)
                seen += [image.numpy().tobytes() for image in images]
            assert len(set(seen)) == 320 // batch * batch
        assert mine.images_drawn == theirs.images_drawn

    def test_images_are_counted_where_they_are_gathered(self, recorders: list[FakeRecorder]) -> None:
        """Independent of what was asked for: a launch that is lost is missing in the count."""
        own = workloads.get("mlp-1")
        run = tuned.make(TrainingSetup(job(own.name, "graph", block_steps=5), own, digits(), CPU))
        run._replay_many = lambda: None  # type: ignore[attr-defined]
        run.steps(7)
        assert run.images_drawn == 2 * 32

    def test_masks_are_new_in_each_replay_and_return_after_reset(self, recorders: list[FakeRecorder]) -> None:
        own = workloads.get("mlp-5-xavier-dropout")
        run = tuned.make(TrainingSetup(job(own.name, "graph", optimizer="sgd"), own, digits(32), CPU))
        check_masks(run)

    @pytest.mark.parametrize(("block", "steps"), [(10, 10), (1, 1), (429, 39), (128, 64), (67, 1)])
    def test_a_graph_has_as_many_steps_as_divide_a_block(self, block: int, steps: int) -> None:
        assert graph_training.choose_steps_per_launch(job("mlp-1", "graph", block_steps=block)) == steps


def check_masks(run: Training) -> None:
    """32 images are one batch, the same in every step. With the weights put back, only masks tell two losses apart."""

    def losses() -> list[float]:
        found = []
        start = [each.detach().clone() for each in run.network.parameters()]
        for _ in range(4):
            run.step()
            found.append(run.loss() or 0.0)
            with torch.no_grad():
                for each, first in zip(run.network.parameters(), start, strict=True):
                    each.copy_(first)
        return found

    run.reset()
    first = losses()
    assert len(set(first)) == 4
    run.reset()
    assert losses() == pytest.approx(first, rel=1e-5)


class TestFallback:
    @pytest.mark.parametrize("rung", RECORDED)
    def test_a_cpu_has_none_and_says_so(self, rung: str) -> None:
        with pytest.raises(UnsupportedError, match="recorded steps need CUDA's"):
            tuned.make(TrainingSetup(job("mlp-1", rung), workloads.get("mlp-1"), digits(), CPU))

    @pytest.mark.parametrize(
        ("fields", "said"),
        [({"precision": "fp16"}, "fp16 cannot be recorded"), ({"loader": "dataloader"}, "'dataloader' cannot be recorded")],
    )  # fmt: skip
    def test_what_needs_the_host_in_each_step_is_refused(
        self, recorders: list[FakeRecorder], fields: dict[str, object], said: str
    ) -> None:
        asked = job("mlp-1", "graph", **fields).model_copy(update={"division": "reference", "execution": "eager"})
        with pytest.raises(UnsupportedError, match=said):
            graph_training.GraphTraining(TrainingSetup(asked, workloads.get("mlp-1"), digits(), CPU))

    def test_auto_tries_them_where_they_are_and_names_what_each_took(
        self, recorders: list[FakeRecorder], on_gpu: None
    ) -> None:
        run = tuned.make(TrainingSetup(job("mlp-1", "auto"), workloads.get("mlp-1"), digits(), CPU))
        assert run.recorded_settings[TUNED_RUNG] in ON_GPU
        for name in ON_GPU:
            assert f"{name} " in run.recorded_settings[tuned.TRIED_SETTING]

    def test_a_recording_that_fails_is_a_reason_and_the_next_rung_runs(
        self, recorders: list[FakeRecorder], on_gpu: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: FakeRecorder, work: Callable[[], None]) -> Callable[[], None]:
            raise graph_training.RecordingError("the step could not be recorded: RuntimeError: why")

        monkeypatch.setattr(FakeRecorder, "record", fail)
        run = tuned.make(TrainingSetup(job("mlp-1", "auto"), workloads.get("mlp-1"), digits(), CPU))
        assert run.recorded_settings[TUNED_RUNG] == "fused"
        for rung in RECORDED:
            assert (
                f"{rung}: the step could not be recorded: RuntimeError: why"
                in run.recorded_settings[tuned.TRIED_SETTING]
            )
            with pytest.raises(UnsupportedError, match="RuntimeError: why"):
                tuned.make(TrainingSetup(job("mlp-1", rung), workloads.get("mlp-1"), digits(), CPU))

    def test_a_compiler_that_fails_leaves_the_plain_graph(
        self, recorders: list[FakeRecorder], on_gpu: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(function: object, **options: object) -> Callable[..., object]:
            def call(*args: object) -> object:
                raise RuntimeError("no triton here\nand more")

            return call

        monkeypatch.setattr(torch, "compile", broken)
        run = tuned.make(TrainingSetup(job("mlp-1", "auto"), workloads.get("mlp-1"), digits(), CPU))
        assert run.recorded_settings[TUNED_RUNG] in ("graph", "fused")
        assert (
            "compiled-graph: torch.compile failed: RuntimeError: no triton here"
            in run.recorded_settings[tuned.TRIED_SETTING]
        )
        assert "and more" not in run.recorded_settings[tuned.TRIED_SETTING]

    @pytest.mark.slow("compilers")
    @pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs g++ on a CPU")
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_torchs_real_compiler_takes_the_loss_and_its_backward(
        self, monkeypatch: pytest.MonkeyPatch, precision: str
    ) -> None:
        """Compiled for this CPU and run step by step: what is recorded on a GPU."""

        class StepByStep(FakeRecorder):
            def record(self, work: Callable[[], None]) -> Callable[[], None]:
                return work

        monkeypatch.setattr(graph_training, "CudaRecorder", lambda device: StepByStep())
        own = workloads.get("mlp-1")
        run = tuned.make(TrainingSetup(job(own.name, "compiled-graph", precision=precision), own, digits(), CPU))
        assert float(run.recorded_settings[TUNED_ERROR]) < {"fp32": ROUNDING, "bf16": 0.2}[precision]
        run.steps(60)
        assert run.count_correct()[0] > 150

    @pytest.fixture
    def on_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`auto` tries what it tries on a GPU."""
        monkeypatch.setattr(tuned, "list_variants", lambda device: ON_GPU)


@needs_gpu
@pytest.mark.gpu
class TestOnTheDevice:
    """The real recorder. None of this has run on a GPU so far."""

    CUDA = torch.device("cuda", 0)

    @pytest.mark.parametrize("rung", RECORDED)
    def test_it_trains_as_the_reference_does(self, rung: str) -> None:
        own = plain_dropout_off(workloads.get("mlp-1"))
        asked = job(own.name, rung, optimizer="sgd", order="shuffled", block_steps=4)
        plain = asked.model_copy(update={"division": "reference", "execution": "eager"})
        reference, fast = (
            Training(TrainingSetup(plain, own, digits(), self.CUDA)),
            tuned.make(TrainingSetup(asked, own, digits(), self.CUDA)),
        )
        for run in (reference, fast):
            run.steps(25)
        torch.testing.assert_close(weights(fast), weights(reference), rtol=1e-3, atol=1e-4)
        assert fast.images_drawn == 25 * 32
        assert abs(fast.count_correct()[0] - reference.count_correct()[0]) <= 2  # of images on the border

    @pytest.mark.parametrize("rung", RECORDED)
    def test_masks_are_new_in_each_replay_and_return_after_reset(self, rung: str) -> None:
        own = workloads.get("mlp-5-xavier-dropout")
        check_masks(tuned.make(TrainingSetup(job(own.name, rung, optimizer="sgd"), own, digits(32), self.CUDA)))

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_the_cnn_is_recorded_in_every_format_and_learns(self, precision: str) -> None:
        own = workloads.get("mnist-cnn")
        run = tuned.make(TrainingSetup(job(own.name, "graph", precision=precision), own, digits(), self.CUDA))
        run.steps(60)
        assert run.count_correct()[0] > 150

    def test_an_epoch_waits_for_nothing(self) -> None:
        own = workloads.get("mnist-cnn")
        run = tuned.make(
            TrainingSetup(job(own.name, "graph", order="shuffled", block_steps=5), own, digits(), self.CUDA)
        )
        run.steps(20)
        torch.cuda.set_sync_debug_mode("error")
        try:
            run.steps(20)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_after_a_recording_that_failed_random_numbers_go_on(self) -> None:
        value = torch.ones(4, device=self.CUDA)

        def work() -> None:
            torch.rand(4, device=self.CUDA)
            value.sum().item()

        with pytest.raises(graph_training.RecordingError):
            graph_training.CudaRecorder(self.CUDA).record(work)
        assert torch.rand(4, device=self.CUDA).unique().numel() == 4
