"""The tuned division: the reference's mathematics on every rung, dropout that is random as it should be, and its fallbacks."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import builders as b
import numpy as np
import pytest
import torch

from cnnbench import validity, workloads
from cnnbench.data import Dataset
from cnnbench.engine import tuned
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.optim import make_optimizer
from cnnbench.engine.training import Training
from cnnbench.engine.tuned import native
from cnnbench.engine.tuned.layers import FlatOptimizer, FlatParameters
from cnnbench.engine.tuned.native import group_layers
from cnnbench.engine.tuned.native_training import NativeStep
from cnnbench.errors import UnsupportedError
from cnnbench.plan.suite import load_suite
from cnnbench.schema import TUNED_ERROR, TUNED_RUNG, Job
from cnnbench.workloads import flops

CPU = torch.device("cpu")
NETWORKS = ("mnist-cnn", "mnist-cnn-2048", "softmax", "mlp-1", "mlp-5", "mlp-5-xavier-dropout")
ROUNDING = 2e-5
"""Of float32 against float64, relative 2-norm: 1e-6 is seen; a maximum that rounding decides otherwise adds some."""


def available() -> bool:
    try:
        native.load()
    except UnsupportedError:
        return False
    return True


needs_native = pytest.mark.skipif(not available(), reason="no native kernels here: " + "no compiler, or not Linux")


def digits(train: int = 320, test: int = 200) -> Dataset:
    """Blobs that differ by class: something to learn, with many zeros as in MNIST."""
    draw = np.random.default_rng(3)

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = np.zeros((n, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            at = 2 * int(label) + 3
            image[at : at + 6, 6:22] = draw.integers(1, 256, (6, 16))
        return images, labels

    return Dataset("synthetic", *part(train), *part(test), source="blobs")


def job(name: str = "mnist-cnn", execution: str = "native", **fields: object) -> Job:
    own = workloads.get(name)
    known = {
        "workload": name, "workload_version": own.version, "division": "tuned", "execution": execution, "batch_size": 32,
        "optimizer": own.default_optimizer, "init": own.default_init, "data": "synthetic", "split": "train-60000", "seed": 5,
    }  # fmt: skip
    return Job.model_validate(known | fields)


def training(name: str = "mnist-cnn", execution: str = "native", **fields: object) -> Training:
    it = job(name, execution, **fields)
    return tuned.make(TrainingSetup(it, workloads.get(name).with_variant(it.pool, it.activation), digits(), CPU))


def native_step(network: torch.nn.Sequential, workload: workloads.Workload, batch: int, seed: int = 1) -> NativeStep:
    kernels = native.load()
    stages = group_layers(workload.layers, workload.input_shape, kernels.lanes)
    return NativeStep(kernels, stages, network, batch, optimizer="sgd", rate=0.1, seed=seed)


@needs_native
class TestSameMathematics:
    @pytest.mark.parametrize("name", NETWORKS)
    @pytest.mark.parametrize("rung", tuned.list_variants(torch.device("cpu")))
    def test_gradients_are_those_of_float64(self, name: str, rung: str) -> None:
        error = tuned.gradient_error(TrainingSetup(job(name, rung), workloads.get(name), digits(), CPU), rung)
        assert error < ROUNDING

    @pytest.mark.parametrize("batch", [1, 3, 32, 130])
    def test_of_any_batch_on_random_images(self, batch: int) -> None:
        own = workloads.get("mnist-cnn")
        images, labels = torch.rand(batch, 1, 28, 28), torch.randint(10, (batch,))
        oracle = own.build(own.default_init or "", 7).double().eval()
        loss = torch.nn.functional.cross_entropy(oracle(images.double()), labels)
        loss.backward()
        network = own.build(own.default_init or "", 7)
        step = native_step(network, own, batch)
        step.forward(images, dropout=False)
        assert step.loss(labels) == pytest.approx(loss.item(), rel=1e-5)
        step.backward(images)
        for parameter, true in zip(network.parameters(), oracle.parameters(), strict=True):
            got = step.flat.gradient(parameter)
            assert torch.linalg.vector_norm(got - true.grad) <= ROUNDING * torch.linalg.vector_norm(true.grad)

    def test_a_single_convolution_is_refused_with_the_reason(self) -> None:
        """It would be the first, which writes a border, and the last, which leaves flat rows."""
        layers = (flops.Conv2d(32), flops.Relu(), flops.MaxPool2d(), flops.Flatten(), flops.Dense(10))
        with pytest.raises(UnsupportedError, match="do not support a single convolution"):
            group_layers(layers, (1, 28, 28), native.load().lanes)

    def test_gradients_that_are_not_numbers_are_no_small_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a rung asked for by name the record says nan, which the gate refuses; `auto` takes the next, and says why."""

        def wrong(self: Training, *_: torch.Tensor) -> list[torch.Tensor]:
            return [torch.full_like(each, math.nan) for each in self.network.parameters()]

        monkeypatch.setattr(tuned.NativeTraining, "gradients", wrong)
        run = training()
        assert run.recorded_settings[TUNED_ERROR] == "nan"
        chosen = training(execution="auto")
        assert chosen.recorded_settings[TUNED_RUNG] == "fused"
        assert "native: its gradients are off by nan, the limit is" in chosen.recorded_settings[tuned.TRIED_SETTING]

    @pytest.mark.parametrize("rung", tuned.list_variants(torch.device("cpu")))
    def test_dropout_can_be_held_still(self, rung: str) -> None:
        """As a paired check does to compare the first losses of two arms: equal weights and batches then give equal losses."""
        found = []
        for seed in (5, 6):
            run = training(execution=rung, init="normal-0.01")
            run.disable_dropout()
            torch.manual_seed(seed)
            if isinstance(run, tuned.NativeTraining):
                run._native._seed = seed
            run.step()
            found.append(run.loss())
            run.reset()
            run.step()
            assert run.loss() != found[-1]
        assert found[0] == pytest.approx(found[1], rel=1e-6)

    @pytest.mark.parametrize("side", [27, 28])
    def test_of_sides_that_pooling_does_not_divide(self, side: int) -> None:
        """27 -> 14 -> 7: every stage but one has a window that hangs over the edge."""
        layers = (
            *(flops.Conv2d(32), flops.Relu(), flops.MaxPool2d(), flops.Conv2d(64), flops.Relu(), flops.MaxPool2d()),
            *(flops.Flatten(), flops.Dense(10)),
        )
        own = dataclasses.replace(workloads.get("mnist-cnn"), layers=layers, input_shape=(1, side, side))
        images, labels = torch.rand(4, 1, side, side), torch.randint(10, (4,))
        oracle = own.build("xavier", 7).double()
        torch.nn.functional.cross_entropy(oracle(images.double()), labels).backward()
        network = own.build("xavier", 7)
        step = native_step(network, own, 4)
        step.forward(images)
        step.loss(labels)
        step.backward(images)
        for parameter, true in zip(network.parameters(), oracle.parameters(), strict=True):
            got = step.flat.gradient(parameter)
            assert torch.linalg.vector_norm(got - true.grad) <= ROUNDING * torch.linalg.vector_norm(true.grad)

    @pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "rmsprop-tf1", "adam"])
    def test_updates_are_torchs(self, name: str) -> None:
        """Five updates with the same gradients from the same weights."""
        network = torch.nn.Sequential(torch.nn.Linear(37, 11))
        twin = torch.nn.Sequential(torch.nn.Linear(37, 11))
        twin.load_state_dict(network.state_dict())
        flat, optimizer = FlatParameters(network), make_optimizer(name, twin.parameters(), 0.01)
        update = FlatOptimizer(name, native.load(), flat, 0.01)
        for _ in range(5):
            flat.gradients.normal_()
            for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
                theirs.grad = flat.gradient(mine).clone()
            update.step()
            optimizer.step()
        for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)

    def test_without_dropout_it_trains_as_the_reference_does(self) -> None:
        """The same weights, batches and rule: the losses of 20 steps agree."""
        own = workloads.get("mlp-5")
        reference = Training(
            TrainingSetup(
                job("mlp-5").model_copy(update={"division": "reference", "execution": "eager"}), own, digits(), CPU
            )
        )
        fast = training("mlp-5")
        for _ in range(20):
            reference.step()
            fast.step()
            assert fast.loss() == pytest.approx(reference.loss(), rel=2e-3)

    @pytest.mark.parametrize("rung", tuned.list_variants(torch.device("cpu")))
    @pytest.mark.parametrize("name", ["mnist-cnn", "mlp-5-xavier-dropout"])
    def test_it_learns_and_evaluates_with_the_networks_own_weights(self, name: str, rung: str) -> None:
        run = training(name, rung)
        first = run.count_correct()[0]
        for _ in range(60):
            run.step()
        correct, images = run.count_correct()
        assert images == 200
        assert correct > max(first, 150)

    @pytest.mark.parametrize("rung", tuned.list_variants(torch.device("cpu")))
    def test_warm_up_leaves_no_trace(self, rung: str) -> None:
        ends = []
        for warm_steps in (0, 5):
            run = training(execution=rung, order="shuffled", optimizer="adam")
            for _ in range(warm_steps):
                run.step()
            run.reset()
            for _ in range(3):
                run.step()
            ends.append(torch.cat([p.detach().flatten() for p in run.network.parameters()]))
            assert run.images_drawn == 3 * 32
        assert torch.equal(*ends)

    def test_threads_change_rounding_at_most(self) -> None:
        """Each image has its own random numbers, so the masks are the same whoever computes it."""
        losses = []
        before = torch.get_num_threads()
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                run = training()
                run.step()
                run.step()
                losses.append(run.loss())
        finally:
            torch.set_num_threads(before)
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)

    def test_a_weight_that_is_not_a_number_shows_in_the_loss(self) -> None:
        run = training()
        with torch.no_grad():
            next(run.network.parameters())[3, 0, 1, 1] = math.nan
        run.step()
        assert math.isnan(run.loss() or 0.0)


@needs_native
class TestDropout:
    """All weights positive and all pixels one: nothing is rectified away, so every zero is a dropped value."""

    BATCH = 64

    @pytest.fixture
    def masks(self) -> dict[str, torch.Tensor]:
        own = workloads.get("mnist-cnn")
        network = own.build(own.default_init or "", 7)
        step = native_step(network, own, self.BATCH)
        step.flat.weights.abs_().add_(0.01)
        images = torch.ones(self.BATCH, 1, 28, 28)
        step.forward(images, dropout=False)
        plain = [step.convolutions[1].out.clone(), step.dense[0].out.clone()]
        found = {}
        for name in ("first", "second"):
            step.forward(images)
            found[f"{name} conv"] = step.convolutions[1].out[:, 1:-1, 1:-1].ne(0).clone()
            found[f"{name} first"] = step.convolutions[0].out[:, 1:-1, 1:-1].ne(0).clone()
            found[f"{name} flat"] = step.convolutions[2].out.ne(0).clone()
            found[f"{name} dense"] = step.dense[0].out.ne(0).clone()
        assert all(bool(each.ne(0).any()) for each in plain)
        return found

    @pytest.mark.parametrize(("name", "keep"), [("first", 0.8), ("conv", 0.8), ("flat", 0.8), ("dense", 0.5)])
    def test_the_rate_is_exact(self, masks: dict[str, torch.Tensor], name: str, keep: float) -> None:
        """The share kept within 4.5 standard errors of the binomial."""
        kept = masks[f"first {name}"].double()
        error = math.sqrt(keep * (1 - keep) / kept.numel())
        assert abs(kept.mean().item() - keep) < 4.5 * error

    @pytest.mark.parametrize("name", ["first", "conv", "flat", "dense"])
    def test_neighbours_images_and_steps_are_independent(self, masks: dict[str, torch.Tensor], name: str) -> None:
        """Correlations of neighbouring values, of images and of steps: each below 4.5 / sqrt(n)."""
        kept = masks[f"first {name}"].double().flatten(1)
        pairs = {
            **{f"lag {lag}": (kept[:, :-lag], kept[:, lag:]) for lag in (1, 2, 8, 16, 32, 64)},
            **{f"image {lag}": (kept[:-lag], kept[lag:]) for lag in (1, 2, 32)},
            "step": (kept, masks[f"second {name}"].double().flatten(1)),
        }
        for what, (a, c) in pairs.items():
            correlation = torch.corrcoef(torch.stack((a.flatten(), c.flatten())))[0, 1].item()
            assert abs(correlation) < 4.5 / math.sqrt(a.numel()), what

    def test_what_is_kept_is_scaled_exactly(self) -> None:
        own = workloads.get("mnist-cnn")
        network = own.build(own.default_init or "", 7)
        step = native_step(network, own, 8)
        step.flat.weights.abs_()
        images = torch.rand(8, 1, 28, 28)
        step.forward(images, dropout=False)
        plain = step.convolutions[0].out.clone()
        step.forward(images)
        thinned = step.convolutions[0].out
        kept = thinned.ne(0)
        torch.testing.assert_close(thinned[kept], plain[kept] / 0.8)

    def test_masks_differ_between_seeds_and_return_after_reset(self) -> None:
        own = workloads.get("mnist-cnn")
        outs = []
        for seed in (1, 2):
            network = own.build(own.default_init or "", 7)
            step = native_step(network, own, 8, seed)
            images = torch.ones(8, 1, 28, 28)
            first = step.forward(images).clone()
            step.reset()
            assert torch.equal(first, step.forward(images))
            outs.append(first)
        assert not torch.equal(*outs)

    def test_bulk_dropout_has_its_rate_and_its_scale(self) -> None:
        from cnnbench.engine.tuned.fused import BulkDropout

        torch.manual_seed(0)
        x = torch.ones(500, 32, 7, 7).to(memory_format=torch.channels_last)
        y = BulkDropout(0.2)(x)
        kept = y.ne(0).double().mean().item()
        assert abs(kept - 0.8) < 4.5 * math.sqrt(0.16 / x.numel())
        assert torch.allclose(y[y != 0], torch.tensor(1.25))
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert BulkDropout(0.2).eval()(x) is x


class TestChoice:
    @needs_native
    def test_auto_takes_a_rung_and_says_what_the_others_took(self) -> None:
        run = training(execution="auto")
        assert run.recorded_settings[TUNED_RUNG] in tuned.VARIANTS
        assert all(
            f"{name} " in run.recorded_settings[tuned.TRIED_SETTING]
            for name in tuned.list_variants(torch.device("cpu"))
        )
        assert float(run.recorded_settings[TUNED_ERROR]) < ROUNDING

    def test_without_a_compiler_the_next_rung_runs_and_the_record_says_why(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CXX", "no-such-compiler")
        native.load.cache_clear()
        try:
            run = training(execution="auto")
            assert run.recorded_settings[TUNED_RUNG] == "fused"
            assert (
                "native: native kernels need a C++ compiler, no-such-compiler was not found"
                in run.recorded_settings[tuned.TRIED_SETTING]
            )
            with pytest.raises(UnsupportedError, match="need a C\\+\\+ compiler"):
                training(execution="native")
        finally:
            native.load.cache_clear()

    def test_a_network_that_no_kernel_knows_falls_back_with_the_layer_named(self) -> None:
        run = training(execution="auto", pool="average")
        assert run.recorded_settings[TUNED_RUNG] == "fused"
        if available():
            assert "without max pooling of 2" in run.recorded_settings[tuned.TRIED_SETTING]

    def test_a_source_that_does_not_compile_is_a_reason(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        bad = tmp_path / "kernels.cpp"
        bad.write_text("int f( {\n")
        monkeypatch.setattr(native, "SOURCE", bad)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        native.load.cache_clear()
        try:
            with pytest.raises(UnsupportedError, match="error"):
                native.load()
            assert list((tmp_path / "cnnbench/native").iterdir()) == []
        finally:
            native.load.cache_clear()

    @needs_native
    def test_a_library_that_is_broken_is_a_reason(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "whole"))
        native.load.cache_clear()
        try:
            native.load()
            native.load.cache_clear()
            (built,) = (tmp_path / "whole/cnnbench/native").glob("*.so")
            broken = tmp_path / "broken/cnnbench/native" / built.name
            broken.parent.mkdir(parents=True)
            broken.write_bytes(b"nonsense")
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "broken"))
            with pytest.raises(UnsupportedError, match="delete it to build it again"):
                native.load()
        finally:
            native.load.cache_clear()

    def test_a_cache_that_cannot_be_written_is_a_reason(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        native.load.cache_clear()
        try:
            with pytest.raises(UnsupportedError, match=r"need a folder|Linux|compiler"):
                native.load()
        finally:
            native.load.cache_clear()

    @needs_native
    def test_one_openmp_runtime_is_in_the_process(self) -> None:
        """Torch's own: a second would keep its threads spinning on the same cores."""
        program = (
            "import torch; from cnnbench.engine.tuned import native; native.load()\n"
            "names = {line.split('/')[-1].strip() for line in open('/proc/self/maps') if 'omp' in line and '.so' in line}\n"
            "print(*sorted(each for each in names if each.startswith(('libgomp', 'libomp', 'libiomp'))))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
        )
        assert len(done.stdout.split()) == 1


class TestPlan:
    def suite(self, tmp_path: Path, text: str) -> object:
        path = tmp_path / "own.toml"
        path.write_text(f'description = "d"\n[[job]]\nworkload = "mnist-cnn"\n{text}\n')
        return load_suite(path)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('execution = "native"', "execution 'native' is a rung of division 'tuned'"),
            ('division = "tuned"\nexecution = "compiled"', "execution 'compiled' is the reference division's"),
            ('division = "tuned"\nlayout = "nhwc"', "layout 'nhwc' cannot be chosen in division 'tuned'"),
            ('division = "tuned"\ntask = "inference"', "task 'inference' needs division 'reference'"),
            ('division = "tuned"\nexecution = "graph"\nprecision = "fp16"', "execution 'graph' cannot be fp16"),
            (
                'division = "tuned"\nexecution = "graph"\nloader = "dataloader"',
                "execution 'graph' needs loader 'resident'",
            ),
            ('execution = "compiled-graph"', "execution 'compiled-graph' is a rung of division 'tuned'"),
        ],
    )
    def test_what_cannot_be_is_named_before_anything_runs(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(Exception, match=said.replace("'", ".")):
            self.suite(tmp_path, text)

    def test_a_silent_suite_means_the_fastest_rung(self, tmp_path: Path) -> None:
        self.suite(tmp_path, 'division = ["reference", "tuned"]')


class TestGate:
    @pytest.mark.parametrize(("said", "whole"), [("1.2e-06", True), ("0.5", False), ("nan", False), (None, False)])
    def test_other_mathematics_is_invalid_and_never_fast(self, said: str | None, whole: bool) -> None:
        settings = {} if said is None else {TUNED_ERROR: said}
        record = b.record(b.cnn_job(division="tuned", execution="native"), 0.01, settings=settings)
        found = validity.find_violations(
            record.job, record.outcome.trial, record.process_seconds, None, b.machine(), "ok"
        )  # fmt: skip
        assert (not found) is whole
        if not whole:
            assert found[0].severity == "invalid"
