"""Recipes on the recorded rungs: each step's rate and the opened digits reach a recording. Fake recorder on the CPU, whole."""

from __future__ import annotations

import dataclasses
import os
import time

import builders as b
import numpy as np
import pytest
import torch
from fake_graph_recorder import FakeRecorder, NotPermittedError, nothing_waits
from test_graph_training import RECORDED, needs_gpu, recorders, weights  # noqa: F401  (a fixture)
from test_graph_trial import SANG
from test_open_division import open_job
from test_tuned import CPU, digits, job, needs_native

from cnnbench import data, validity, workloads
from cnnbench.data import Dataset
from cnnbench.engine import canary, tuned, worker
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.process import ProgressWriter
from cnnbench.engine.training import Training
from cnnbench.engine.trial import follow_recipe
from cnnbench.engine.tuned import graph_training
from cnnbench.errors import UnsupportedError, WorkloadError
from cnnbench.plan.suite import load_suite
from cnnbench.schema import TUNED_ERROR, TUNED_RUNG, WorkerInput
from cnnbench.workloads import flops, recipes

STEPS = 12
RULES = ("sgd", "momentum", "rmsprop", "rmsprop-tf1", "adam")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> recipes.Recipe:
    """12 steps of 20 of the smallest network, rates from 1e-3 up to 4e-3 and down to 8e-5."""
    made = dataclasses.replace(
        recipes.get("cnn-99-adam"), name="small", workload="softmax", steps=STEPS, batch_size=20, warmup_share=0.35
    )
    monkeypatch.setattr(recipes, "RECIPES", {"small": made})
    return made


SMALL_CNN = dataclasses.replace(
    workloads.get("mnist-cnn"),
    layers=(flops.Conv2d(4), flops.Relu(), flops.MaxPool2d(), flops.Flatten(), flops.Dense(10, bias=True)),
)
"""Its batches lie with channels last."""


def run(
    recipe: recipes.Recipe,
    rung: str,
    dataset: Dataset | None = None,
    device: torch.device = CPU,
    own: workloads.Workload | None = None,
) -> Training:
    """A training of this recipe, its rates not yet told."""
    asked = open_job(recipe, execution=rung)
    return tuned.make(
        TrainingSetup(asked, recipe.apply_dropout(own or workloads.get(recipe.workload)), dataset or digits(), device)
    )


def other_digits() -> Dataset:
    """Of the same shapes: other images of the same kind, in another order."""
    known = digits()
    train, test = (np.random.default_rng(9).permutation(n) for n in (320, 200))
    return dataclasses.replace(
        known,
        train_images=255 - known.train_images[train],
        train_labels=known.train_labels[train],
        test_images=255 - known.test_images[test],
        test_labels=known.test_labels[test],
    )


def off(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.usefixtures("recorders")
class TestRates:
    @pytest.mark.parametrize("optimizer", RULES)
    def test_it_trains_as_rates_set_step_by_step_do(self, small: recipes.Recipe, optimizer: str) -> None:
        """Within rounding, and a hundred times nearer than one rate for all steps would be."""
        recipe = dataclasses.replace(small, optimizer=optimizer)
        recipes.RECIPES["small"] = recipe  # type: ignore[index]
        recorded, fused, constant = run(recipe, "graph"), run(recipe, "fused"), run(recipe, "fused")
        mean = sum(recipe.rates) / STEPS
        for each, rates in ((recorded, recipe.rates), (fused, recipe.rates), (constant, [mean] * STEPS)):
            each.set_lr_schedule(rates)
            each.steps(STEPS)
        far = off(weights(constant), weights(fused))
        assert far > 1e-5
        assert off(weights(recorded), weights(fused)) < min(1e-4, far / 100)
        assert recorded.images_drawn == fused.images_drawn == STEPS * 20

    @pytest.mark.parametrize("optimizer", RULES)
    @pytest.mark.parametrize("rung", ["graph", "fused", pytest.param("native", marks=needs_native)])
    def test_a_step_at_rate_0_changes_nothing_and_any_other_does(
        self, small: recipes.Recipe, rung: str, optimizer: str
    ) -> None:
        recipe = dataclasses.replace(small, optimizer=optimizer)
        recipes.RECIPES["small"] = recipe  # type: ignore[index]
        training = run(recipe, rung)
        rates = [0.0, 1e-3, 0.0, 0.0, 1e-2, *[0.0] * (STEPS - 5)]
        training.set_lr_schedule(rates)
        changed = []
        for _ in rates:
            before = weights(training)
            training.steps(1)
            assert torch.isfinite(weights(training)).all()
            changed.append(not torch.equal(before, weights(training)))
        assert changed == [rate > 0 for rate in rates]

    @pytest.mark.parametrize("rung", RECORDED)
    def test_a_launch_of_all_steps_is_as_many_single_steps(self, small: recipes.Recipe, rung: str) -> None:
        ends = []
        for single in (False, True):
            training = run(small, rung)
            assert training.steps_per_launch == STEPS
            training.set_lr_schedule(small.rates)
            for count in [1] * STEPS if single else [STEPS]:
                training.steps(count)
            ends.append(weights(training))
        torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("rung", ["graph", "fused"])
    def test_after_a_reset_the_first_rate_is_next(self, small: recipes.Recipe, rung: str) -> None:
        ends = []
        for warm in (0, 5):
            training = run(small, rung)
            training.set_lr_schedule(small.rates)
            training.steps(warm)
            training.reset()
            training.steps(3)
            ends.append(weights(training))
        assert torch.equal(*ends)

    @pytest.mark.parametrize("rung", ["graph", "fused"])
    def test_after_the_last_step_its_rate_stays(self, small: recipes.Recipe, rung: str) -> None:
        training = run(small, rung)
        training.set_lr_schedule([0.0] * (STEPS - 1) + [1e-3])
        training.steps(STEPS)
        before = weights(training)
        training.steps(1)
        assert not torch.equal(before, weights(training))

    def test_one_rate_for_all_can_be_set_too(self, small: recipes.Recipe) -> None:
        training = run(small, "graph")
        before = weights(training)
        training.set_lr(0.0)
        training.steps(2)
        assert torch.equal(before, weights(training))

    def test_a_recipe_of_another_length_and_a_job_without_one_are_refused(self, small: recipes.Recipe) -> None:
        with pytest.raises(WorkloadError, match="3 rates for a recording of 12 steps"):
            run(small, "graph").set_lr_schedule([0.1] * 3)
        plain = tuned.make(TrainingSetup(job("mlp-1", "graph", block_steps=2), workloads.get("mlp-1"), digits(), CPU))
        for change in (lambda: plain.set_lr(0.1), lambda: plain.set_lr_schedule([0.1])):
            with pytest.raises(UnsupportedError, match="keeps the learning rate"):
                change()

    def test_a_whole_recipe_is_few_launches_and_waits_for_nothing(
        self,
        small: recipes.Recipe,
        recorders: list[FakeRecorder],  # noqa: F811
    ) -> None:
        training = run(small, "graph")
        follow_recipe(open_job(small, execution="graph"), training)
        before = list(recorders[-1].replays)
        with nothing_waits():
            training.steps(STEPS)
        assert [now - then for now, then in zip(recorders[-1].replays, before, strict=True)] == [0, 1, 0]

    def test_a_rate_set_by_the_host_in_a_recording_would_be_seen(self) -> None:
        """The check checks: the updates that are not fit for a rate on the device read it, and the recorder refuses."""
        parameter = torch.nn.Parameter(torch.ones(3))
        parameter.grad = torch.ones(3)
        reading = torch.optim.RMSprop([parameter], lr=torch.tensor(0.1))
        reading.step()
        with pytest.raises(NotPermittedError):
            FakeRecorder().record(reading.step)

    def test_the_longest_graph_divides_the_recipe(self) -> None:
        asked = open_job(recipes.get("cnn-99-adam"))
        assert asked.steps_per_epoch == 690
        assert graph_training.choose_steps_per_launch(asked) == 46


@pytest.mark.usefixtures("recorders")
class TestOpenedDigits:
    @pytest.mark.parametrize("own", [workloads.get("softmax"), SMALL_CNN], ids=["softmax", "cnn"])
    def test_the_next_replay_sees_them(self, small: recipes.Recipe, own: workloads.Workload) -> None:
        """Trained and tested as if they had been there from the start; with what was there before it is another result."""
        recipe = dataclasses.replace(small, workload=own.name)
        recipes.RECIPES["small"] = recipe  # type: ignore[index]
        opened, before = (run(recipe, "graph", own=own) for _ in range(2))
        from_start = run(recipe, "graph", other_digits(), own=own)
        opened.steps(3)
        opened.reset()
        opened.replace_dataset(other_digits())
        results = []
        for each in (opened, from_start, before):
            each.set_lr_schedule(recipe.rates)
            each.steps(4)
            results.append((weights(each), each.count_correct(10_000), each.images_drawn))
        assert torch.equal(results[0][0], results[1][0])
        assert results[0][1:] == results[1][1:]
        assert not torch.equal(results[0][0], results[2][0])

    def test_the_test_images_too(self, small: recipes.Recipe) -> None:
        """The same weights, each label in turn for all test images: every image is right once."""
        training = run(small, "graph")
        training.steps(STEPS)
        known, found = digits(), []
        for label in range(10):
            training.replace_dataset(dataclasses.replace(known, test_labels=np.full_like(known.test_labels, label)))
            right, of = training.count_correct(10_000)
            found.append(right)
        assert sum(found) == of == 200
        assert max(found) < 200

    def test_nothing_is_allocated_anew(self, small: recipes.Recipe) -> None:
        training = run(small, "graph")

        def places() -> list[int]:
            assert training._test is not None
            feed = training._batches
            return [each.data_ptr() for each in (*training._test, feed._images, feed._labels, feed._order)]  # type: ignore[attr-defined]

        before = places()
        training.replace_dataset(other_digits())
        assert places() == before

    def test_digits_of_another_number_are_refused(self, small: recipes.Recipe) -> None:
        training = run(small, "graph")
        for given in (digits(300), digits(320, 100)):
            with pytest.raises(WorkloadError, match="do not fit where"):
                training.replace_dataset(given)


@pytest.mark.usefixtures("recorders")
class TestWhole:
    def test_a_trial_under_the_recipe_clock(self, small: recipes.Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(data, "load", lambda *_: digits())
        monkeypatch.setattr(canary, "run", lambda probe: SANG)
        asked = open_job(small, execution="graph", warmup_steps=2)
        envelope = WorkerInput(
            job=asked, outcome_path="x", parent_pid=os.getpid(), spawn_monotonic_ns=time.monotonic_ns()
        )
        found = worker.run(envelope, ProgressWriter(None))
        assert found.status == "ok", found.message
        trial = found.trial
        assert trial is not None
        assert (trial.steps, trial.images, len(trial.block_seconds)) == (STEPS, STEPS * 20, 1)
        assert trial.settings[TUNED_RUNG] == "graph"
        assert trial.settings["steps_per_launch"] == str(STEPS)
        assert float(trial.settings[TUNED_ERROR]) < 2e-5
        assert trial.test is not None
        assert (trial.test.after_steps, trial.test.images) == (STEPS, 200)
        assert validity.find_violations(asked, trial, 1e6, None, b.machine(), found.status) == ()
        fused = run(small, "fused")
        fused.set_lr_schedule(small.rates)
        fused.steps(STEPS)
        assert trial.final_loss == pytest.approx(fused.loss(), rel=1e-3)

    @pytest.mark.parametrize("rung", RECORDED)
    def test_a_suite_may_ask_for_it(self, tmp_path: object, rung: str) -> None:
        path = tmp_path / "own.toml"  # type: ignore[operator]
        path.write_text(
            f'description = "d"\n[[job]]\nworkload = "mnist-cnn"\ndivision = "open"\nexecution = "{rung}"\n'
        )
        (cell,) = load_suite(path).combinations("cuda")
        assert (cell["execution"], cell["clock"]) == (rung, "recipe")


@needs_gpu
@pytest.mark.gpu
class TestOnTheDevice:
    """The real recorder. None of this has run on a GPU so far."""

    CUDA = torch.device("cuda", 0)

    @pytest.mark.parametrize("optimizer", RULES)
    @pytest.mark.parametrize("rung", RECORDED)
    def test_it_trains_as_rates_set_step_by_step_do(self, small: recipes.Recipe, rung: str, optimizer: str) -> None:
        recipe = dataclasses.replace(small, optimizer=optimizer)
        recipes.RECIPES["small"] = recipe  # type: ignore[index]
        recorded, fused = (run(recipe, each, device=self.CUDA) for each in (rung, "fused"))
        recorded.replace_dataset(other_digits())
        fused.replace_dataset(other_digits())
        for each in (recorded, fused):
            each.set_lr_schedule(recipe.rates)
            each.steps(STEPS)
        torch.testing.assert_close(weights(recorded), weights(fused), rtol=1e-3, atol=1e-4)
        assert abs(recorded.count_correct()[0] - fused.count_correct()[0]) <= 2

    @pytest.mark.parametrize("optimizer", RULES)
    def test_a_step_at_rate_0_changes_nothing_and_any_other_does(self, small: recipes.Recipe, optimizer: str) -> None:
        recipe = dataclasses.replace(small, optimizer=optimizer)
        recipes.RECIPES["small"] = recipe  # type: ignore[index]
        training = run(recipe, "graph", device=self.CUDA)
        rates = [0.0, 1e-3, 0.0, 0.0, 1e-2, *[0.0] * (STEPS - 5)]
        training.set_lr_schedule(rates)
        for rate in rates:
            before = weights(training)
            training.steps(1)
            assert torch.equal(before, weights(training)) == (rate == 0.0)

    def test_a_whole_recipe_waits_for_nothing(self, small: recipes.Recipe) -> None:
        training = run(small, "graph", device=self.CUDA)
        follow_recipe(open_job(small, execution="graph"), training)()
        torch.cuda.set_sync_debug_mode("error")
        try:
            training.steps(STEPS)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert training.images_drawn == STEPS * 20
