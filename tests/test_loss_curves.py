"""The test of loss curves: worked examples, how often it errs and what it sees by simulation, and curves that are not whole."""

from __future__ import annotations

import math
import random
from pathlib import Path
from unittest.mock import patch

import learning_builders as lb
import loss_curve_oracle as losses
import loss_curves
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_curves import FLOOR, can_reject, collect_log_losses, compare_curves, format_spans
from scipy.stats import permutation_test

from cnnbench.analysis.rows import TrainingOutcome
from cnnbench.analysis.seed_accuracy import compare_with_plain

LEARNING = Path(__file__).parent.parent / "docs" / "learning.md"
SIMULATED = 600


def side(values, first=0):
    return {first + n: tuple(curve) for n, curve in enumerate(values)}


def drawn(stream, seeds, epochs=3, shift=0.0, first=0):
    """Normal log losses, those of one seed correlated by 0.5."""
    own = [[stream.gauss(0, 0.7) + shift for _ in range(epochs)] for _ in range(seeds)]
    return side([[each + common for each in curve] for curve in own for common in [stream.gauss(0, 0.7)]], first)


def without_power():
    """The ratio it would see costs most of the time and says nothing about the verdict."""
    return patch.object(loss_curves, "_find_detectable", lambda sample: None)


class TestWorkedExamples:
    def test_pairs(self):
        """Differences 1 1 1 1 1 -1: the sum is 4, as large in 7 of the 32 sign vectors and their mirror images (6 have one
        sign turned, one none), so p = 14/64.
        """
        found = compare_curves(side([[1.0]] * 5 + [[-1.0]]), side([[0.0]] * 6))
        assert (found.p, found.verdict, found.paired) == (14 / 64, "indistinguishable", True)
        assert found.ratio == pytest.approx(math.exp(4 / 6))
        assert (found.higher, found.lower) == ((), ())

    def test_two_groups(self):
        """1 2 3 4 against 5 6 7 8: of 70 divisions only it and its mirror image are that far apart."""
        found = compare_curves(side([[1.0], [2.0], [3.0], [4.0]]), side([[5.0], [6.0], [7.0], [8.0]], first=10))
        assert (found.p, found.verdict, found.paired) == (pytest.approx(2 / 70), "differs", False)
        assert (found.higher, found.lower) == ((), (1,))

    def test_one_epoch_is_scipy_s_permutation_test_of_means(self):
        """In one epoch the statistic orders relabellings as the squared difference of means does."""
        stream = random.Random(5)
        for a, b_, kind in ((8, 8, "samples"), (6, 5, "independent"), (3, 6, "independent")):
            mode, plain = drawn(stream, a, 1, 0.8), drawn(stream, b_, 1, first=0 if a == b_ else 50)
            samples = [[curve[0] for curve in each.values()] for each in (mode, plain)]
            oracle = permutation_test(
                samples,
                lambda x, y: (np.mean(x) - np.mean(y)) ** 2,
                permutation_type=kind,
                alternative="greater",
                n_resamples=np.inf,
            )
            with without_power():
                assert compare_curves(mode, plain).p == pytest.approx(oracle.pvalue)

    def test_an_epoch_far_off_does_not_drown_another(self):
        """Each epoch is measured by its own spread: scaling one changes nothing."""
        stream = random.Random(6)
        mode, plain = drawn(stream, 7), drawn(stream, 7)
        scaled = [{seed: (*curve[:2], 50 * curve[2]) for seed, curve in each.items()} for each in (mode, plain)]
        with without_power():
            assert compare_curves(*scaled).p == compare_curves(mode, plain).p

    def test_directions_and_epochs_are_named(self):
        stream = random.Random(7)
        mode, plain = drawn(stream, 10, 5), drawn(stream, 10, 5)
        moved = {seed: (curve[0], curve[1] + 9, curve[2] + 9, curve[3], curve[4] - 9) for seed, curve in mode.items()}
        found = compare_curves(moved, plain)
        assert (found.verdict, found.higher, found.lower) == ("differs", (2, 3), (5,))
        back = compare_curves(plain, moved)
        assert (back.higher, back.lower, back.p) == ((5,), (2, 3), found.p)
        assert back.ratio == pytest.approx(1 / found.ratio)


class TestTiesAndTooFew:
    def test_the_same_curves_are_indistinguishable_and_have_no_spread(self):
        same = drawn(random.Random(1), 8)
        found = compare_curves(same, dict(reversed(same.items())))
        assert (found.p, found.verdict, found.ratio, found.detectable) == (1.0, "indistinguishable", 1.0, None)
        alike = compare_curves(side([[-2.3, -3.1]] * 5), side([[-2.3, -3.1]] * 6, first=10))
        assert (alike.p, alike.detectable) == (1.0, None)

    def test_a_constant_difference_without_any_spread_differs(self):
        found = compare_curves(side([[-2.0, -3.0]] * 6), side([[-2.1, -3.0]] * 6))
        assert (found.verdict, found.higher, found.detectable) == ("differs", (1,), None)

    def test_ties_count_against_a_difference(self):
        """Two differences of 1 and -1 in equal numbers: half of them each way is as near as can be, and p is 1."""
        assert compare_curves(side([[1.0]] * 4 + [[-1.0]] * 4), side([[0.0]] * 8)).p == 1.0

    @pytest.mark.parametrize(
        ("mode", "plain", "paired", "can"),
        [
            *[(5, 5, True, False), (6, 6, True, True), (1, 1, True, False), (30, 30, True, True)],
            *[
                (3, 3, False, False),
                (4, 4, False, True),
                (1, 99, False, False),
                (2, 4, False, False),
                (2, 5, False, True),
            ],
        ],
    )
    def test_seeds_that_could_never_tell_are_too_few(self, mode, plain, paired, can):
        """5 pairs have 32 sign vectors: p is 2/32 = 6.25 % at least. 2 and 5 curves have 21 divisions, 1/21 = 4.8 %."""
        assert can_reject(mode, plain, paired=paired) == can
        far = compare_curves(side([[9.0]] * mode), side([[0.0]] * plain, first=0 if paired else 500))
        assert far.verdict == ("differs" if can else "too few seeds")

    def test_no_curves_on_one_side(self):
        for mode, plain in (({}, {}), ({}, side([[1.0]] * 6)), (side([[1.0]] * 6), {})):
            assert compare_curves(mode, plain).verdict == "no losses"


class TestWholeCurves:
    def learned(self, seed, losses, status="ok"):
        return TrainingOutcome(0, seed, status, None, (), losses)

    def test_an_epoch_missing_a_number_missing_a_failed_seed_are_left_out(self):
        seen = collect_log_losses(
            [
                self.learned(1, (0.5, 0.25)),
                self.learned(2, (0.5,)),
                self.learned(3, (0.5, math.nan)),
                self.learned(4, (math.inf, 0.5)),
                self.learned(5, (-0.5, 0.5)),
                self.learned(6, (0.5, 0.5), "diverged"),
                self.learned(7, ()),
            ],
            2,
        )
        assert seen == {1: (math.log(0.5), math.log(0.25))}
        assert collect_log_losses([self.learned(1, (0.5, 0.25))], None) == {}

    def test_a_loss_of_zero_has_a_log(self):
        assert collect_log_losses([self.learned(1, (0.0, 1e-30))], 2) == {1: (math.log(FLOOR),) * 2}

    def test_steady_steps_have_no_curve(self):
        (found, *_), _ = compare_with_plain(lb.rows_of(lb.modes()))
        assert loss_curves.compare_rows(found.variant.row, found.plain.row).verdict == "no losses"


class TestHowOftenItErrs:
    """Of curves of one distribution it says `differs` in at most 5 % of sets, and nearly so often."""

    @pytest.mark.parametrize(
        ("mode", "plain", "paired"), [(10, 10, True), (8, 8, True), (5, 5, False), (4, 7, False), (6, 6, False)]
    )
    @pytest.mark.parametrize("skewed", [False, True])
    def test_level(self, mode, plain, paired, skewed):
        stream = random.Random(f"{mode} {plain} {paired} {skewed}")

        def curves_of(seeds, first):
            made = drawn(stream, seeds, first=first)
            return {seed: tuple(map(math.exp, curve)) for seed, curve in made.items()} if skewed else made

        with without_power():
            found = [
                compare_curves(curves_of(mode, 0), curves_of(plain, 0 if paired else 50)) for _ in range(SIMULATED)
            ]
        share = sum(each.verdict == "differs" for each in found) / SIMULATED
        assert 0.02 < share < 0.08  # 5 % less what few relabellings cannot reach, and three standard errors of 0.9 %

    def test_naming_an_epoch_errs_no_more(self):
        """Curves that differ in epoch 1 alone, far: it is named in nearly all sets, epochs 2 and 3 in few."""
        stream, named, right = random.Random(3), 0, 0
        with without_power():
            for _ in range(SIMULATED):
                far = {seed: (curve[0] + 9, *curve[1:]) for seed, curve in drawn(stream, 8).items()}
                found = compare_curves(far, drawn(stream, 8))
                right += 1 in found.higher
                named += bool({2, 3} & {*found.higher, *found.lower})
        assert right / SIMULATED > 0.95
        assert named / SIMULATED < 0.08

    @pytest.mark.parametrize(("seeds", "paired"), [(10, True), (6, False), (20, True)])
    def test_the_ratio_it_would_see_is_found_in_about_80_percent(self, seeds, paired):
        stream, first = random.Random(11), 0 if paired else 50
        seen = [compare_curves(drawn(stream, seeds), drawn(stream, seeds, first=first)).detectable for _ in range(12)]
        shift = sum(map(math.log, seen)) / len(seen)
        tries = 60 if seeds > 12 else 400
        with without_power():
            found = [
                compare_curves(drawn(stream, seeds, shift=shift), drawn(stream, seeds, first=first))
                for _ in range(tries)
            ]
        share = sum(each.verdict == "differs" for each in found) / tries
        assert 0.66 < share < 0.92

    @pytest.mark.parametrize(
        ("seeds", "documented", "tries"), [(6, 2.2, 30), (10, 1.6, 20), (20, 1.4, 4), (30, 1.3, 2)]
    )
    def test_the_table_of_docs_learning(self, seeds, documented, tries):
        """Three epochs, pairs, independent, a standard deviation of 0.5."""
        stream, seen = random.Random(2), []
        for _ in range(tries):
            mode, plain = (side([[stream.gauss(0, 0.5) for _ in range(3)] for _ in range(seeds)]) for _ in range(2))
            seen.append(compare_curves(mode, plain).detectable)
        assert math.exp(np.log(seen).mean()) == pytest.approx(documented, rel=0.07)
        assert f"| {seeds} | {documented}x |" in LEARNING.read_text(encoding="utf-8")

    def test_many_seeds_are_relabelled_by_a_stated_stream(self):
        """10,000 of 2^20 and of C(24, 12): p is the same whenever it is asked, and of one epoch that of scipy's test but
        for the draws, a standard error of at most 0.005 in either.
        """
        stream = random.Random(4)
        with without_power():
            for mode, plain, kind in (
                (drawn(stream, 20, 1, 0.5), drawn(stream, 20, 1), "samples"),
                (drawn(stream, 12, 1, 0.3), drawn(stream, 12, 1, first=50), "independent"),
            ):
                found = compare_curves(mode, plain)
                assert found.p == compare_curves(mode, plain).p
                assert (found.p * 10_000) % 1 == pytest.approx(0, abs=1e-6)
                oracle = permutation_test(
                    [np.array([curve[0] for curve in each.values()]) for each in (mode, plain)],
                    lambda x, y, axis: x.mean(axis) - y.mean(axis),
                    permutation_type=kind,
                    n_resamples=9999,
                    vectorized=True,
                    random_state=1,
                )
                assert found.p == pytest.approx(oracle.pvalue, abs=0.025)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([(6, 6, True), (7, 7, True), (4, 4, False), (3, 6, False)]), st.booleans()
)
def test_arithmetic_of_another_form_agrees(seed, sizes, rounded):
    """Tied and constant losses too, with few decimals."""
    stream, (a, b_, paired) = random.Random(seed), sizes
    both = drawn(stream, a, 4, 0.4), drawn(stream, b_, 4, first=0 if paired else 50)
    if rounded:
        both = tuple({key: tuple(round(each) for each in curve) for key, curve in one.items()} for one in both)
    agree(*both)


@pytest.mark.parametrize(("seeds", "first"), [(15, 0), (9, 50)])
def test_another_program_draws_the_same_relabellings(seeds, first):
    stream = random.Random(8)
    agree(drawn(stream, seeds, 3, 0.3), drawn(stream, seeds, 3, first=first))


def agree(mode, plain):
    ours = compare_curves(mode, plain)
    theirs = losses.expect_values(*(tuple(sorted(each.items())) for each in (mode, plain)))
    assert (theirs["verdict"], theirs["p"]) == (ours.verdict, pytest.approx(ours.p))
    assert theirs["ratio"] == pytest.approx(ours.ratio)
    assert theirs["detectable"] == (None if ours.detectable is None else pytest.approx(ours.detectable))
    spans = (format_spans(ours.higher) or None, format_spans(ours.lower) or None)
    assert (theirs["higher"], theirs["lower"]) == spans


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((3,), "3"), ((1, 2), "1 to 2"), ((1, 3, 4, 5, 9), "1, 3 to 5, 9")]
)
def test_spans_of_epochs(numbers, text):
    assert format_spans(numbers) == text
    assert (losses._join_epochs([*numbers]) or "") == text
