"""The lecture's "100 %": exact chances, what records make of them, and what the command says where there are none."""

from __future__ import annotations

import json
import math
import random
import textwrap
from fractions import Fraction
from pathlib import Path

import builders as b
import learning_builders as lb
import pytest
import report_builders
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.analysis import stats, stopping_rule
from cnnbench.analysis.rows import TEST_IMAGES
from cnnbench.cli.learning import stopping as command
from cnnbench.errors import ExitCode, UsageError
from cnnbench.plan.suite import find_suite, load_suite


def exact(right: int, sample: int) -> Fraction:
    return Fraction(math.comb(right, sample), math.comb(TEST_IMAGES, sample))


def call(*arguments, **environment):
    return CliRunner().invoke(command, [str(each) for each in arguments], env={"COLUMNS": "160", **environment})


def as_json(*arguments):
    done = call(*arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


class TestChance:
    """C(right, sample) / C(10,000, sample)."""

    @given(st.integers(0, TEST_IMAGES), st.integers(1, 400))
    def test_it_is_the_ratio_of_two_binomial_coefficients(self, right, sample):
        assert stopping_rule.chance_all_right(right, sample=sample) == pytest.approx(
            float(exact(right, sample)), rel=1e-12
        )

    def test_the_lectures_figure(self):
        """0.992^200 is 20.06 % (lecture.md); without replacement it is a little less, 19.74 %."""
        assert pytest.approx(0.2006, abs=5e-5) == 0.992**200
        assert stopping_rule.chance_all_right(9920) == pytest.approx(0.1974, abs=5e-5)

    def test_all_right_is_certain_and_too_few_right_are_hopeless(self):
        assert stopping_rule.chance_all_right(TEST_IMAGES) == 1.0
        assert stopping_rule.chance_all_right(199) == 0.0

    @pytest.mark.parametrize(("right", "sample"), [(10_001, 200), (-1, 200), (9900, 0), (9900, 10_001)])
    def test_what_is_no_draw_is_refused(self, right, sample):
        with pytest.raises(ValueError, match="no sample of"):
            stopping_rule.chance_all_right(right, sample=sample)

    def test_drawing_agrees(self):
        """20,000 real draws of 200; 3.5 standard errors."""
        rng, draws = random.Random(2), 20_000
        hits = sum(max(rng.sample(range(TEST_IMAGES), 200)) < 9920 for _ in range(draws))
        chance = stopping_rule.chance_all_right(9920)
        assert abs(hits / draws - chance) < 3.5 * math.sqrt(chance * (1 - chance) / draws)


class TestStopped:
    def test_independent_draws_multiply(self):
        assert stopping_rule.chances_stopped([0.5, 0.0, 0.5]) == [0.5, 0.5, 0.75]
        assert stopping_rule.chances_stopped([]) == []

    def test_at_one_accuracy_it_is_the_closed_form(self):
        """Within 20 epochs a network of 99.2 % nearly always stops: 98.77 %."""
        epochs = stopping_rule.predict_from_accuracy(0.992, 20)
        assert epochs[-1].stopped == pytest.approx(1 - (1 - float(exact(9920, 200))) ** 20)
        assert epochs[-1].stopped == pytest.approx(0.9877, abs=5e-5)
        assert [each.number for each in epochs] == list(range(1, 21))

    @given(st.lists(st.integers(9000, TEST_IMAGES), min_size=1, max_size=8))
    def test_it_only_grows(self, curve):
        stopped = [each.stopped for each in stopping_rule.predict_by_epoch([curve])]
        assert stopped == sorted(stopped)
        assert all(0 <= each <= 1 for each in stopped)

    def test_several_seeds_are_the_mean_of_their_own_chances(self):
        one, two = (stopping_rule.predict_by_epoch([curve]) for curve in ((9000, 9950), (9990, 9990)))
        both = stopping_rule.predict_by_epoch([(9000, 9950), (9990, 9990)])
        for number in range(2):
            for name in ("all_right", "stopped"):
                mean = (getattr(one[number], name) + getattr(two[number], name)) / 2
                assert getattr(both[number], name) == pytest.approx(mean)
        at_the_mean_accuracy = stopping_rule.chance_all_right((9000 + 9990) // 2)
        assert both[0].all_right > 100 * at_the_mean_accuracy, "the mean accuracy's chance is another figure"

    def test_the_interval_is_wilsons_for_one_seed_and_students_for_three(self):
        assert stopping_rule.predict_by_epoch([(9920,)])[0].accuracy == stats.wilson(9920, TEST_IMAGES)
        three = stopping_rule.predict_by_epoch([(9920,), (9910,), (9930,)])[0].accuracy
        assert three == stats.mean_share([0.992, 0.991, 0.993])

    def test_seeds_that_ended_sooner_end_the_table(self):
        assert len(stopping_rule.predict_by_epoch([(9900, 9910, 9920), (9900, 9910)])) == 2
        assert stopping_rule.predict_by_epoch([]) == ()


class TestRecords:
    def test_each_epoch_of_each_process_is_read(self):
        (found,) = stopping_rule.predict_rows(lb.rows_of(lb.looked_at()))
        assert found.epochs == stopping_rule.predict_by_epoch(lb.CURVES)

    def test_an_accuracy_job_that_looks_every_epoch_serves_too_and_a_missed_target_is_no_reason_to_leave_it_out(self):
        job = lb.notebook_job(clock="accuracy", target=0.9999, evaluate_every=440, final_evaluation=False, epochs=4)
        record = b.record(
            job,
            blocks=4,
            job_seconds=90.0,
            job_evaluation_seconds=8.0,
            test=lb.evaluations(lb.CURVES[0])[-1],
            block_seconds=(20.0,) * 4,
            steps_per_block=440,
            steps=1760,
            images=1760 * 125,
            epoch_evaluations=lb.evaluations(lb.CURVES[0]),
        )
        outcome = record.outcome.model_copy(update={"status": "missed", "message": "99.20 % after 4 epochs"})
        (row,) = lb.rows_of([record.model_copy(update={"outcome": outcome})])
        assert row.ok == 0
        (found,) = stopping_rule.predict_rows([row])
        assert found.epochs == stopping_rule.predict_by_epoch([lb.CURVES[0]])

    def test_half_epochs_in_between_are_passed_over_and_a_gap_ends_it(self):
        (record,) = lb.looked_at([lb.CURVES[0]], epochs=4)
        both = (*lb.evaluations([9000] * 8, steps_per_epoch=220)[::2], *lb.evaluations(lb.CURVES[0]))
        trial = record.outcome.trial.model_copy(update={"epoch_evaluations": both})
        between = record.model_copy(update={"outcome": record.outcome.model_copy(update={"trial": trial})})
        assert stopping_rule.predict_rows(lb.rows_of([between]))[0].epochs == stopping_rule.predict_by_epoch(
            [lb.CURVES[0]]
        )
        gap = trial.model_copy(update={"epoch_evaluations": lb.evaluations(lb.CURVES[0])[1:]})
        without = record.model_copy(update={"outcome": record.outcome.model_copy(update={"trial": gap})})
        assert stopping_rule.predict_rows(lb.rows_of([without])) == []

    def test_samples_are_no_accuracy(self):
        assert stopping_rule.predict_rows(lb.rows_of([lb.stopped([198, 200], 9900)])) == []

    def test_where_the_rule_ran_it_says_when_it_stopped_and_how_good_it_was(self):
        first, last = stopping_rule.find_stops(
            lb.rows_of([lb.stopped([190, 200], 9906), lb.stopped([199] * 20, 9931, start=1)])
        )
        assert (first.epoch, first.by_rule, first.accuracy) == (2, True, stats.wilson(9906, TEST_IMAGES))
        assert (last.epoch, last.by_rule, last.accuracy) == (20, False, stats.wilson(9931, TEST_IMAGES))

    def test_all_right_in_the_last_epoch_is_by_the_rule_too(self):
        (found,) = stopping_rule.find_stops(lb.rows_of([lb.stopped([199, 200], 9931, epochs=2)]))
        assert (found.epoch, found.by_rule) == (2, True)

    def test_a_diverged_process_has_no_curve(self):
        diverged = b.record(lb.notebook_job(epoch_eval_images=10_000), index=9, status="diverged")
        (found,) = stopping_rule.predict_rows(lb.rows_of([*lb.looked_at(), diverged]))
        assert found.epochs == stopping_rule.predict_by_epoch(lb.CURVES)


class TestLandmarks:
    def test_the_first_epoch_more_likely_than_not_and_the_last(self):
        found = stopping_rule.select_landmarks(stopping_rule.predict_from_accuracy(0.992, 20))
        assert [each.number for each in found] == [4, 20]
        assert 1 - (1 - 0.1974) ** 3 < 0.5 < 1 - (1 - 0.1974) ** 4

    def test_the_last_alone_where_it_is_unlikely_or_the_same(self):
        assert [
            each.number for each in stopping_rule.select_landmarks(stopping_rule.predict_from_accuracy(0.97, 20))
        ] == [20]
        assert [
            each.number for each in stopping_rule.select_landmarks(stopping_rule.predict_from_accuracy(1.0, 1))
        ] == [1]


class TestCommand:
    @pytest.fixture
    def results(self, tmp_path):
        return report_builders.write(tmp_path / "results", lb.everything())

    def test_both_tables_and_a_conclusion_from_the_figures(self, results):
        document = as_json(results)
        predicted, ran = document["tables"]
        assert [row["chance_stopped"] for row in predicted["rows"]] == [
            each.stopped for each in stopping_rule.predict_by_epoch(lb.CURVES)
        ]
        assert {row["true_accuracy_n"] for row in predicted["rows"]} == {3}
        assert [(row["stopped_epoch"], row["stopped_by_rule"]) for row in ran["rows"]] == [(3, True), (20, False)]
        last = predicted["rows"][-1]
        said = document["notes"][0]["text"]
        assert said.startswith(
            "A training that stops when 200 random test images are all right has stopped, on Test CPU"
        )
        assert f"by epoch 4 with probability {100 * last['chance_stopped']:.2f} %" in said
        assert f"at a true accuracy of {100 * last['true_accuracy']:.2f} %." in said

    @pytest.mark.parametrize("format_", ["table", "markdown", "latex", "csv"])
    def test_every_format_has_the_figures(self, results, format_):
        done = call(results, "--format", format_)
        assert done.exit_code == 0
        for text in ("98.50", "46.43", "its last; never all right", "199 of 200"):
            assert text in done.stdout

    def test_another_sample_has_another_chance(self, results):
        row = as_json(results, "--sample", 50)["tables"][0]["rows"][0]
        expected = sum(float(exact(curve[0], 50)) for curve in lb.CURVES) / 3
        assert (row["sample_images"], row["chance_all_right"]) == (50, pytest.approx(expected))

    def test_the_closed_form_needs_no_records(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        document = as_json("--accuracy", 0.992, "--epochs", 3)
        assert [row["chance_all_right"] for row in document["tables"][0]["rows"]] == [
            pytest.approx(0.1974, abs=5e-5)
        ] * 3
        assert len(as_json("--accuracy", 1)["tables"][0]["rows"]) == 20
        assert "right on 9,920 of 10,000" in call("--accuracy", 0.99204).stdout

    def test_certainty_is_never_printed_where_there_is_none(self):
        assert ">99.99 %" in call("--accuracy", 0.999, "--epochs", 20).stdout
        assert "<0.01 %" in call("--accuracy", 0.9, "--epochs", 2).stdout
        assert "100.00 %" in call("--accuracy", 1, "--epochs", 1).stdout

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--accuracy", "0.9", "results"], "closed form"),
            (["--accuracy", "0.9", "--last"], "closed form"),
            (["--epochs", "3"], "--epochs 3 needs --accuracy"),
        ],
    )
    def test_what_makes_no_sense_together_is_refused(self, arguments, said):
        error = call(*arguments).exception
        assert isinstance(error, UsageError)
        assert said in str(error)

    @pytest.mark.parametrize("accuracy", ["1.1", "-0.1", "99.2", "nan"])
    def test_a_share_is_between_0_and_1(self, accuracy):
        assert call("--accuracy", accuracy).exit_code == ExitCode.USAGE

    def test_without_such_records_it_says_what_makes_them(self, tmp_path, monkeypatch):
        """No results at all, an empty folder, other rows, and a damaged file, which is named."""
        monkeypatch.chdir(tmp_path)
        other = report_builders.write(tmp_path / "other", [b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))])
        (tmp_path / "empty").mkdir()
        damaged = tmp_path / "damaged"
        damaged.mkdir()
        (damaged / "x.jsonl").write_text("hello\n")
        for arguments in ([], ["empty"], [other], ["damaged"]):
            error = call(*arguments, CNNBENCH_RESULTS=None).exception
            assert isinstance(error, UsageError), arguments
            assert error.exit_code == ExitCode.USAGE
            assert "`cnnbench run lecture-stopping`" in str(error)
        assert "x.jsonl" in str(error)


def test_the_documented_example_is_what_the_command_prints():
    text = (Path(__file__).parents[1] / "docs" / "learning.md").read_text()
    block = text.partition("    $ cnnbench learning stopping --accuracy 0.992 --epochs 5\n")[2].partition("\n\n")[0]
    assert textwrap.dedent(block).splitlines() == call("--accuracy", 0.992, "--epochs", 5).stdout.splitlines()[:10]


def test_a_page_has_the_table_where_the_records_are_and_no_section_where_not():
    section = next(each for each in report_builders.page(lb.everything()).sections if each.key == "stopping")
    assert [table.key for table in section.tables] == ["stopping", "stopped"]
    assert "by epoch 4 with probability 46.43 %" in section.lead
    assert "stopping" not in {each.key for each in report_builders.page().sections}


def test_the_suite_is_the_notebooks_recipe_without_the_stop_and_all_images_after_every_epoch():
    (cell,) = load_suite(find_suite("lecture-stopping")).combinations("cpu")
    (notebook,) = load_suite(find_suite("lecture-notebook")).combinations("cpu")
    differs = {name for name in cell if cell[name] != notebook[name]}
    assert differs == {"epochs", "extra_forwards", "epoch_eval_images", "stop_when_all_right"}
    assert (cell["epochs"], cell["epoch_eval_images"], cell["stop_when_all_right"]) == (10, TEST_IMAGES, False)
