"""The open class: recipes fixed beforehand, their clock, and claims about the mean of many seeds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import builders as b
import learning_builders as lb
import numpy as np
import pytest
import report_builders
import torch
from click.testing import CliRunner
from test_tuned import CPU, digits, needs_native, training

from cnnbench import data, validity, workloads
from cnnbench.analysis import seed_accuracy
from cnnbench.cli.audit import audit
from cnnbench.cli.learning import open_claims as command
from cnnbench.cli.read import report
from cnnbench.engine import build, timing, tuned
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.trial import follow_recipe
from cnnbench.errors import ExitCode, UsageError, WorkloadError
from cnnbench.plan.suite import load_suite
from cnnbench.schema import TUNED_ERROR, Job
from cnnbench.workloads import flops, recipes

OWN = recipes.get("cnn-99-adam")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> recipes.Recipe:
    """A recipe of 12 steps of 20."""
    made = dataclasses.replace(OWN, name="small", steps=12, batch_size=20)
    monkeypatch.setattr(recipes, "RECIPES", {"small": made})
    return made


def open_job(recipe: recipes.Recipe, **fields: object) -> Job:
    own = workloads.get(recipe.workload)
    known = {
        "workload": own.name, "workload_version": own.version, "division": "open", "recipe": recipe.name, "seed": 5,
        "execution": "fused", "data": "synthetic", **recipe.fixed_fields,
    }  # fmt: skip
    return Job.model_validate(known | fields)


class TestRecipe:
    def test_the_rate_rises_to_its_peak_and_falls_to_its_end(self) -> None:
        recipe = dataclasses.replace(OWN, steps=10, peak_rate=1.0, warmup_share=0.2, end_share=0.1)
        rates = [recipe.rate(step) for step in range(10)]
        assert rates[:2] == pytest.approx([0.5, 1.0])
        assert rates[-1] == pytest.approx(0.1)
        falls = np.diff(rates[1:])
        assert falls == pytest.approx([falls[0]] * 8)

    def test_without_warm_up_it_falls_from_the_first(self) -> None:
        recipe = dataclasses.replace(OWN, steps=4, peak_rate=1.0, warmup_share=0.0, end_share=0.0)
        assert [recipe.rate(step) for step in range(4)] == pytest.approx([0.75, 0.5, 0.25, 0.0])

    @pytest.mark.parametrize("name", recipes.RECIPES)
    def test_the_network_is_the_workloads_with_the_recipes_dropout(self, name: str) -> None:
        recipe = recipes.get(name)
        own = workloads.get(recipe.workload)
        changed = recipe.apply_dropout(own)
        assert changed.parameters == own.parameters
        assert changed.flops_training_per_image == own.flops_training_per_image
        assert {each.keep for each in changed.layers if isinstance(each, flops.Dropout)} == {recipe.keep}
        assert [type(each) for each in changed.layers] == [type(each) for each in own.layers]

    @pytest.mark.parametrize("name", recipes.RECIPES)
    def test_it_says_only_what_a_job_can_be(self, name: str) -> None:
        recipe = recipes.get(name)
        job = open_job(recipe)
        own = workloads.get(recipe.workload)
        assert job.optimizer in own.optimizers
        assert job.init in own.inits
        assert job.job_steps == recipe.steps <= (job.full_epoch or 0)

    def test_another_workload_and_another_name_are_refused(self) -> None:
        with pytest.raises(WorkloadError, match="is for mnist-cnn, not for mlp-1"):
            OWN.apply_dropout(workloads.get("mlp-1"))
        with pytest.raises(WorkloadError, match="no recipe 'nothing'; there are cnn-99-adam"):
            recipes.get("nothing")


class TestPlan:
    def cells(self, tmp_path: Path, text: str, workload: str = "mnist-cnn") -> object:
        path = tmp_path / "own.toml"
        path.write_text(f'description = "d"\n[[job]]\nworkload = "{workload}"\n{text}\n')
        return load_suite(path).combinations("cpu")

    def test_a_silent_suite_follows_the_first_recipe_whole(self, tmp_path: Path) -> None:
        (cell,) = self.cells(tmp_path, 'division = "open"')
        assert cell["recipe"] == OWN.name
        assert cell["execution"] == "auto"
        assert {name: cell[name] for name in OWN.fixed_fields} == dict(OWN.fixed_fields)

    @pytest.mark.parametrize(
        ("text", "workload", "said"),
        [
            ('recipe = "cnn-99-adam"', "mnist-cnn", "recipe 'cnn-99-adam' needs division 'open', not 'reference'"),
            ('clock = "recipe"\nepochs = 1', "mnist-cnn", "clock 'recipe' needs division 'open'"),
            ('division = "open"', "mlp-1", "division 'open' has no recipe for mlp-1"),
            (
                'division = "open"\nbatch_size = 32',
                "mnist-cnn",
                "batch_size 32 is not the recipe's: cnn-99-adam has 64",
            ),
            ('division = "open"\noptimizer = "momentum"', "mnist-cnn", "optimizer 'momentum' is not the recipe's"),
            ('division = "open"\nclock = "job"\nepochs = 3', "mnist-cnn", "clock 'job' is not the recipe's"),
            ('division = "open"\ntask = "inference"', "mnist-cnn", "task 'inference' needs division 'reference'"),
            ('division = "open"\nexecution = "compiled"', "mnist-cnn", "execution 'compiled' is the reference"),
            ('division = "open"\nrecipe = "other"', "mnist-cnn", "recipe 'other' is not one of cnn-99-adam"),
        ],
    )
    def test_what_cannot_be_is_named_before_anything_runs(
        self, tmp_path: Path, text: str, workload: str, said: str
    ) -> None:
        with pytest.raises(Exception, match=said.replace("'", ".")):
            self.cells(tmp_path, text, workload)

    def test_keys_of_other_divisions_stay_what_they_were(self) -> None:
        assert "recipe" not in b.cnn_job().work_key
        assert '"recipe":"cnn-99-adam"' in open_job(OWN).work_key


class TestClock:
    def test_opened_digits_are_those_that_were_unpacked(self) -> None:
        given = digits()
        file = data.write_decompressed(given)
        for _ in range(2):
            again = data.read_decompressed(file, given)
            for name in ("train_images", "train_labels", "test_images", "test_labels"):
                np.testing.assert_array_equal(getattr(again, name), getattr(given, name))

    def test_it_times_the_opening_every_step_at_its_rate_and_one_evaluation(self, small: recipes.Recipe) -> None:
        job = open_job(small)
        training = tuned.make(TrainingSetup(job, small.apply_dropout(workloads.get("mnist-cnn")), digits(), CPU))
        rates: list[float] = []
        told = training.set_lr
        training.set_lr = lambda rate: (rates.append(rate), told(rate))[0]  # type: ignore[method-assign, func-returns-value]
        read_dataset = follow_recipe(job, training)
        fed = training._batches
        job_timing = timing.time_job(
            training.step, lambda: None, epochs=1, steps_per_epoch=small.steps, steps=training.steps,
            evaluate=lambda: training.count_correct(10_000), pretrain=read_dataset,
        )  # fmt: skip
        assert training._batches is not fed
        assert rates == [small.rate(step) for step in range(12)]
        assert training.images_drawn == 240
        assert job_timing.before_steps == 0
        assert job_timing.before_seconds > 0
        parts = job_timing.before_seconds + sum(job_timing.epoch_seconds) + job_timing.evaluation_seconds
        assert job_timing.job_seconds == pytest.approx(parts, rel=1e-6)
        ((evaluation),) = job_timing.evaluations
        assert (evaluation.after_steps, evaluation.images) == (12, 200)

    def test_the_rate_reaches_the_optimiser(self) -> None:
        for rung in ("fused", *(["native"] if build.tuned.VARIANTS and available() else [])):
            run = training(execution=rung, optimizer="sgd")
            before = torch.cat([p.detach().flatten() for p in run.network.parameters()])
            run.set_lr(0.0)
            run.step()
            assert torch.equal(before, torch.cat([p.detach().flatten() for p in run.network.parameters()]))
            run.set_lr(0.1)
            run.step()
            assert not torch.equal(before, torch.cat([p.detach().flatten() for p in run.network.parameters()]))

    @needs_native
    @pytest.mark.parametrize("name", ["mnist-cnn", "mlp-5-xavier-dropout"])
    def test_the_kernels_evaluate_as_the_network_does(self, name: str) -> None:
        """200 images in batches of 32: the last is filled up."""
        run = training(name)
        for _ in range(20):
            run.step()
        correct, images = run.count_correct()
        test_images, labels = run._test
        run.network.eval()
        with torch.no_grad():
            assert correct == int((run.network(test_images).argmax(1) == labels).sum())
        assert images == 200

    def test_a_record_without_its_proof_is_invalid(self) -> None:
        record = b.record(open_job(OWN, batch_size=128), 0.01, settings={TUNED_ERROR: "0.9"})
        found = validity.find_violations(
            record.job, record.outcome.trial, record.process_seconds, None, b.machine(), "ok"
        )
        assert any("gradients are off" in each.message for each in found)


FORMATS = ("table", "markdown", "latex", "csv")


def available() -> bool:
    from test_tuned import available as known

    return known()


def recorded(right: list[int], *, seconds: float = 6.0, diverged: int = 0):
    job = {"division": "open", "recipe": OWN.name, "execution": "auto", "split": "train-60000", **OWN.fixed_fields}
    found = lb.trained(right, diverged=diverged, **(job | {"blocks": 15, "block_steps": 10}))
    made = []
    for n, record in enumerate(found):
        trial = record.outcome.trial
        if trial is not None and record.outcome.status == "ok":
            update = {
                "job_seconds": seconds + 0.1 * (n % 3), "block_seconds": (5.0,), "steps_per_block": OWN.steps, "steps": OWN.steps,
                "images": OWN.steps * OWN.batch_size, "settings": {TUNED_ERROR: "1e-6"},
            }  # fmt: skip
            outcome = record.outcome.model_copy(update={"trial": trial.model_copy(update=update)})
            record = record.model_copy(update={"outcome": outcome})
        made.append(record)
    return made


GOOD = [9908 + n % 5 for n in range(30)]
"""Mean 9910, standard deviation 1.438."""


class TestClaims:
    def claim(self, *arguments, **fields):
        (found,) = seed_accuracy.collect_claims(lb.rows_of(recorded(*arguments, **fields)))
        return found

    def test_a_worked_example(self) -> None:
        """Lower bound 0.9910 - 1.699 x 0.00014384 / sqrt(30); times 6.0, 6.1, 6.2 in turn."""
        found = self.claim(GOOD)
        assert found.accuracy == pytest.approx(0.9910)
        assert found.lower_bound == pytest.approx(0.9910 - 1.69913 * 1.43840e-4 / 30**0.5, abs=1e-8)
        assert found.mean_seconds.value == pytest.approx(6.1)
        interval = (found.mean_seconds.low, found.mean_seconds.high)
        assert interval == pytest.approx((6.1 - 2.04523 * 0.0830455 / 30**0.5, 6.1310098), abs=1e-5)
        assert found.epochs == pytest.approx(OWN.steps * 64 / 60_000)
        assert found.outcome == "holds"

    def test_a_mean_at_the_target_with_any_spread_does_not_hold(self) -> None:
        assert self.claim([9899, 9901] * 15).outcome == "fails"

    def test_twenty_nine_seeds_claim_nothing(self) -> None:
        assert self.claim(GOOD[:29]).outcome == "too few seeds"

    def test_a_seed_that_diverged_breaks_it(self) -> None:
        found = self.claim(GOOD, diverged=1)
        assert (found.outcome, found.lost, found.failed) == ("fails", 1, 1)

    def test_a_planned_seed_that_did_not_end_leaves_it_open(self) -> None:
        """Stopping at a good moment would choose the seeds."""
        planned = recorded([*GOOD, 9910])
        (found,) = seed_accuracy.collect_claims(lb.rows_of(b.ledger(planned[:-1], unstarted=[planned[-1].job])))
        assert found.lower_bound >= 0.99
        assert (found.outcome, found.lost) == ("too few seeds", 1)

    def test_other_divisions_claim_nothing(self) -> None:
        assert seed_accuracy.collect_claims(lb.rows_of(lb.trained(GOOD))) == []

    @pytest.mark.parametrize(
        ("right", "code"), [(GOOD, 0), ([9899, 9901] * 15, ExitCode.FINDING), (GOOD[:3], ExitCode.INCONCLUSIVE)]
    )
    def test_the_command_says_so(self, tmp_path: Path, right: list[int], code: int) -> None:
        results = report_builders.write(tmp_path / "results", [b.ledger(recorded(right))])
        done = CliRunner().invoke(command, [str(results)], env={"COLUMNS": "200"})
        assert done.exit_code == code, done.output
        for text in ("cnn-99-adam", "99 %", "fixed recipe, the decompressed and verified digits opened"):
            assert text in done.stdout
        told = CliRunner().invoke(command, [str(results), "--format", "json"]).stdout
        assert ('"verdict": "holds"' in told) == (code == 0)
        assert '"recipe_chosen_on": "test images"' in told
        for printed in (
            told,
            *(CliRunner().invoke(command, [str(results), "--format", each]).stdout for each in FORMATS),
        ):
            assert "chosen by accuracy on the same test images" in " ".join(printed.split())

    def test_nothing_to_show_says_what_to_measure(self, tmp_path: Path) -> None:
        few = report_builders.write(tmp_path / "few", [b.ledger(lb.trained(GOOD[:2]))])
        error = CliRunner().invoke(command, [str(few)]).exception
        assert isinstance(error, UsageError)
        assert "cnnbench run open" in str(error)


def test_a_page_of_a_recipe_says_what_it_is_and_the_audit_derives_it_again(tmp_path: Path) -> None:
    results = report_builders.write(tmp_path / "results", [b.ledger(recorded(GOOD[:3]))])
    page = tmp_path / "page.md"
    assert CliRunner().invoke(report, [str(results), "-o", str(page)]).exit_code == 0
    assert "recipe cnn-99-adam \u00b7 1 x 690 = 690 steps and one evaluation, measured" in page.read_text()
    done = CliRunner().invoke(audit, [str(results), str(page)])
    assert done.exit_code == 0, done.output
    page.write_text(page.read_text().replace("1 x 690 = 690 steps", "1 x 691 = 691 steps"))
    assert CliRunner().invoke(audit, [str(results), str(page)]).exit_code == ExitCode.FINDING
