"""What accuracy a recipe ends with: the band that seeds make, seeds held to a known one, the recording, the command."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path

import builders as b
import learning_builders as lb
import pytest
import report_builders
from click.testing import CliRunner

from cnnbench import workloads
from cnnbench.analysis import doubts, seed_accuracy
from cnnbench.cli.learning import bands as command
from cnnbench.errors import ExitCode, FileError, UsageError
from cnnbench.workloads import Band

TEN = (9910, 9915, 9908, 9921, 9912, 9905, 9918, 9911, 9909, 9914)
"""Mean 9912.3, standard deviation 4.808557."""


def call(*arguments):
    return CliRunner().invoke(command, [str(each) for each in arguments], env={"COLUMNS": "200"})


def spreads_of(records):
    return seed_accuracy.collect_spreads(lb.rows_of(records))


@pytest.fixture
def known(monkeypatch):
    """Gives mnist-cnn a band for one epoch of 128."""

    def give(low, high):
        own = dataclasses.replace(workloads.get("mnist-cnn"), bands=(Band(429, 128, low, high),))
        monkeypatch.setattr(doubts.workloads, "get", lambda *_: own)

    return give


class TestBand:
    def test_a_worked_example(self):
        """9912.3 -+ 4 x 4.808557 = 9893.066 and 9931.534, outwards to whole images."""
        assert statistics.stdev(TEN) == pytest.approx(4.808557, rel=1e-6)
        (found,), left_out = spreads_of(lb.trained(TEN))
        assert (found.steps, found.accuracy, left_out) == (429, pytest.approx(0.99123), [])
        assert found.observed_band == Band(429, 128, 0.9893, 0.9932, order="sequential")

    def test_nine_seeds_make_none(self):
        (found,), _ = spreads_of(lb.trained(TEN[:9]))
        assert found.observed_band is None

    def test_nor_do_ten_of_which_one_diverged(self):
        (found,), _ = spreads_of(lb.trained(TEN, diverged=1))
        assert (found.failed, found.observed_band) == (1, None)

    def test_a_share_above_one_is_none(self):
        assert seed_accuracy.make_band(429, 128, "shuffled", [10_000 - n * 40 for n in range(10)]).high == 1.0

    def test_what_says_nothing_is_left_out_with_the_reason(self):
        stopped = [lb.stopped([199, 200], 9906)]
        synthetic = lb.trained(TEN[:2], start=1, data="synthetic")
        found, left_out = spreads_of([*stopped, *synthetic])
        assert found == []
        assert len(left_out) == 2
        assert any("synthetic" in each for each in left_out)
        assert any("until it is good enough" in each for each in left_out)


class TestHeld:
    def test_every_seed_must_be_inside(self, known):
        known(0.9906, 0.9920)
        (found,), _ = spreads_of(lb.trained(TEN))
        assert found.outside_seeds == (3, 5)  # 9921 and 9905

    def test_the_ends_of_a_band_are_inside(self, known):
        known(0.9905, 0.9921)
        (found,), _ = spreads_of(lb.trained(TEN))
        assert found.outside_seeds == ()

    def test_a_row_above_its_band_gets_a_doubt_too(self, known):
        known(0.98, 0.9914)
        (found,), _ = spreads_of(lb.trained((9915,)))
        (doubt,) = [each for each in found.row.doubts if "accuracy" in each.code]
        assert doubt.code == "high-accuracy"
        assert "99.15 %" in doubt.message
        assert "99.14 % or less" in doubt.message

    def test_another_order_is_another_recipe(self):
        band = Band(429, 128, 0.9, 1.0, order="shuffled")
        assert band.holds_for(429, 128, "shuffled")
        assert not band.holds_for(429, 128, "sequential")


class TestCommand:
    @pytest.fixture
    def results(self, tmp_path):
        return report_builders.write(tmp_path / "results", [b.ledger(lb.trained(TEN))])

    def test_it_says_mean_spread_and_band(self, results):
        done = call(results)
        assert done.exit_code == 0, done.output
        for text in ("99.123 %", "SD 0.048 pp", "98.93 % to 99.32 %", "held to no band", "429 steps of 128"):
            assert text in done.stdout

    def test_a_seed_outside_is_a_finding_with_its_number(self, results, known):
        known(0.9906, 0.9925)
        done = call(results)
        assert done.exit_code == ExitCode.FINDING
        assert "outside" in done.stdout
        assert "seed 5" in done.stdout

    def test_all_inside_is_none(self, results, known):
        known(0.98, 0.995)
        done = call(results)
        assert done.exit_code == 0
        assert "1 with a known band, 1 inside it" in done.stdout

    @pytest.mark.parametrize("format_", ["markdown", "latex", "csv", "json"])
    def test_every_format_has_the_figures(self, results, format_):
        shown = call(results, "--format", format_).stdout
        assert "99.123" in shown or "0.99123" in shown

    def test_the_recording_has_every_count_and_makes_the_same_band(self, results, tmp_path):
        path = tmp_path / "seeds.json"
        assert call(results, "--record", path).exit_code == 0
        recording = json.loads(path.read_text())
        (recipe,) = recording["recipes"]
        assert list(recipe["right_by_seed"].values()) == list(TEN)
        made = seed_accuracy.make_band(
            recipe["steps"], recipe["batch_size"], recipe["order"], tuple(recipe["right_by_seed"].values())
        )
        assert (made.low, made.high) == (recipe["band"]["low"], recipe["band"]["high"])
        (run,) = recording["runs"].values()
        assert len(run["sha256"]) == 64

    def test_a_place_that_cannot_be_written_is_one_clear_error(self, results, tmp_path):
        error = call(results, "--record", tmp_path / "no" / "seeds.json").exception
        assert isinstance(error, FileError)
        assert "cannot write" in str(error)

    def test_nothing_to_show_says_what_to_measure(self, tmp_path):
        few = report_builders.write(tmp_path / "few", [b.ledger([lb.stopped([200], 9900)])])
        error = call(few).exception
        assert isinstance(error, UsageError)
        assert "cnnbench run models" in str(error)
        assert "until it is good enough" in str(error)


RECORDINGS = sorted(Path(__file__).parents[1].glob("results/*/seeds/*.json"))


def recorded_recipes():
    for path in RECORDINGS:
        yield from json.loads(path.read_text())["recipes"]


def test_the_bands_of_the_workloads_are_those_of_the_recorded_seeds():
    """A constant in the code is what the committed counts make, neither rounded nor remembered."""
    recipes = {(each["workload"], each["steps"]): each for each in recorded_recipes()}
    assert recipes
    of_code = {
        (name, band.steps): band
        for name in workloads.names()
        for band in workloads.get(name).bands
        if not band.at_least
    }
    assert of_code.keys() == recipes.keys()
    for key, band in of_code.items():
        recipe = recipes[key]
        right = tuple(recipe["right_by_seed"].values())
        assert len(right) >= seed_accuracy.BAND_SEEDS
        assert band == seed_accuracy.make_band(recipe["steps"], recipe["batch_size"], recipe["order"], right)
        own = workloads.get(recipe["workload"])
        assert (recipe["workload_version"], recipe["optimizer"], recipe["init"]) == (
            own.version, own.default_optimizer, own.default_init,
        )  # fmt: skip
