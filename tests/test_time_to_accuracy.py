"""Time to accuracy: a missed target is counted and enters no mean, medians have exact intervals, and the gates hold the clock."""

from __future__ import annotations

import itertools
import math
import random

import builders as b
import pytest
import variant_records as modes
from hypothesis import given
from hypothesis import strategies as st

from cnnbench import validity, workloads
from cnnbench.analysis import process_table, speedup, stats
from cnnbench.analysis.metrics import job_flops, step_flops
from cnnbench.schema import Evaluation, Record


def rows_of(*ledgers):
    processes, _ = process_table.read_processes(ledgers)
    return speedup.compute_speedups(processes).rows


def only(records, **header):
    (row,) = rows_of(b.ledger(records, **header))
    return row


def violations(record: Record) -> list[str]:
    trial, job = record.outcome.trial, record.job
    assert trial is not None
    found = validity.find_violations(job, trial, record.process_seconds, None, b.machine(), record.outcome.status)
    return [each.message for each in found]


def seconds(after: int, step: float = 0.01, evaluation: float = 1.0, every: int = 429) -> float:
    """The closed form of the builder's clock."""
    return after * (every * step + evaluation)


class TestRow:
    def test_seconds_run_to_the_end_of_the_evaluation_that_reached_it(self):
        row = only(b.crossings(b.target_job(), [3, 5, 4]))
        seeds = row.time_to_accuracy
        assert [each.seconds for each in seeds.seed_results] == pytest.approx([seconds(3), seconds(5), seconds(4)])
        assert seeds.seconds.value == pytest.approx(seconds(4))
        assert seeds.mean_seconds == pytest.approx(seconds(4))
        assert (seeds.fastest_seconds, seeds.slowest_seconds) == pytest.approx((seconds(3), seconds(5)))
        assert (seeds.steps.value, seeds.epochs.value) == (4 * 429, 4)
        assert row.step_seconds.value == pytest.approx(0.01)

    def test_it_is_no_whole_job_of_fixed_length_and_never_projected(self):
        row = only(b.crossings(b.target_job(), [3, 5, 4]))
        assert row.job_kind == "to target"
        assert row.job_seconds is None
        assert "no fixed length" in row.missing["job"]
        assert [doubt.code for doubt in row.doubts if doubt.code == "projected"] == []

    def test_a_missed_seed_is_counted_named_and_in_no_mean(self):
        row = only(b.crossings(b.target_job(), [3, None, 4, 5]))
        seeds = row.time_to_accuracy
        assert row.outcomes == {"missed": 1, "ok": 3}
        assert row.failures == ("missed in round 2: 9019 of 10000 right after 8580 steps, the limit",)
        assert (seeds.mean_seconds, seeds.slowest_seconds) == (None, None)
        assert seeds.fastest_seconds == pytest.approx(seconds(3))
        assert "1 of 4 seeds missed" in row.missing["mean"]
        assert row.step_seconds.n == row.accuracy.share.n == 3

    def test_it_is_later_than_all_others_in_the_median(self):
        """Of five seeds the third stays in the middle whether the last one took long or never came."""
        late = only(b.crossings(b.target_job(), [3, 4, 5, 6, 20])).time_to_accuracy.seconds
        never = only(b.crossings(b.target_job(), [3, 4, 5, 6, None])).time_to_accuracy.seconds
        assert never.value == late.value == pytest.approx(seconds(5))
        assert never.n == 5

    @pytest.mark.parametrize("after", [[3, None], [None, None, 3], [None]])
    def test_where_half_missed_it_there_is_no_median(self, after):
        row = only(b.crossings(b.target_job(), after))
        assert row.time_to_accuracy.seconds.value is None
        assert "beyond the epoch limit" in row.missing["median"]

    def test_a_crash_says_nothing_about_learning(self):
        crashed = b.record(b.target_job(round=2, seed=2), index=2, status="crashed")
        row = only([*b.crossings(b.target_job(), [3, 4]), crashed])
        assert [each.seed for each in row.time_to_accuracy.seed_results] == [0, 1]
        assert row.time_to_accuracy.seconds.n == 2
        assert row.outcomes == {"crashed": 1, "ok": 2}

    def test_all_missed_is_a_row_without_a_time(self):
        row = only(b.crossings(b.target_job(), [None, None]))
        assert (row.ok, row.step_seconds, row.costs) == (0, None, {})
        assert len(row.time_to_accuracy.missed) == 2

    def test_the_order_of_records_changes_nothing(self):
        records = b.crossings(b.target_job(), [3, None, 4, 5, 6, 3])
        expected = only(records)
        shuffled = records[:]
        random.Random(3).shuffle(shuffled)
        assert only(shuffled) == expected

    def test_devices_are_divided_by_their_step_not_by_the_seeds_luck(self):
        """Twice as fast a step is twice the speed, whoever needed how many epochs."""
        cpu = b.crossings(b.target_job(), [3, 4, 5], step_seconds=0.02)
        gpu = b.crossings(b.target_job(device="cuda:0"), [9, 8, 7], start=3, step_seconds=0.01)
        rows = rows_of(b.ledger([*cpu, *gpu], machine=b.machine(gpus=[b.GPU])))
        (fast,) = [row for row in rows if row.device.kind == "cuda"]
        assert fast.speedup.ratio.value == pytest.approx(2.0)

    def test_another_target_or_another_interval_of_evaluations_is_other_work(self):
        plain = b.target_job()
        others = [b.target_job(0.98), b.target_job(evaluate_every=100), b.cnn_job()]
        assert len({job.work_key for job in (plain, *others)}) == 4

    def test_the_frame_has_the_missed_ones_labelled(self):
        processes, _ = process_table.read_processes([b.ledger(b.crossings(b.target_job(), [3, None]))])
        table = process_table.to_frame(processes)
        assert list(table["job_kind"]) == ["to target"] * 2
        assert list(table["reached_target"]) == [True, False]
        assert table["job_seconds"][0] == pytest.approx(seconds(3))
        assert table["job_seconds"].isna()[1]
        assert table["seconds_to_limit"][1] == pytest.approx(seconds(20))


class TestMedian:
    """The interval's ends are order statistics; what they miss is a binomial's tail."""

    @pytest.mark.parametrize(
        ("n", "rank"), [(1, None), (5, None), (6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6), (30, 10)]
    )
    def test_ranks_are_those_of_the_tables(self, n, rank):
        """H. A. David and H. N. Nagaraja, Order Statistics, 2003; W. J. Conover, Practical Nonparametric Statistics."""
        assert stats.median_rank(n) == rank

    @pytest.mark.parametrize("n", range(6, 40))
    def test_it_covers_at_least_95_per_cent_and_the_next_one_in_does_not(self, n):
        def covered(rank: int) -> float:
            return 1 - 2 * sum(math.comb(n, k) for k in range(rank)) / 2**n

        rank = stats.median_rank(n)
        assert covered(rank) >= 0.95
        assert rank == n // 2 or covered(rank + 1) < 0.95

    def test_six_orders_of_seven_values_cover_it_as_often_as_said(self):
        """Every way in which 6 values can lie around the median, each as likely: the ends miss it twice in 64."""
        missed = 0
        for sides in itertools.product((-1.0, 1.0), repeat=6):
            found = stats.median_interval([side * (1 + n / 10) for n, side in enumerate(sides)])
            missed += not found.low <= 0 <= found.high
        assert missed == 2

    def test_five_values_have_none_and_say_so(self):
        found = stats.median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
        assert (found.value, found.low, found.high) == (3.0, None, None)

    def test_an_end_that_was_never_reached_is_open(self):
        found = stats.median_interval([1.0, 2.0, 3.0, 4.0, 5.0, None])
        assert (found.value, found.low, found.high) == (3.5, 1.0, None)

    @given(st.lists(st.one_of(st.none(), st.floats(0.1, 1e6)), min_size=1, max_size=40))
    def test_the_median_lies_within_its_interval(self, values):
        found = stats.median_interval(values)
        low = math.inf if found.low is None else found.low
        value, high = (math.inf if each is None else each for each in (found.value, found.high))
        if found.n >= stats.MINIMUM_FOR_MEDIAN:
            assert low <= value <= high
        reached = sorted(each for each in values if each is not None)
        assert found.value is None or min(reached) <= found.value <= max(reached)

    def test_no_values_have_no_median(self):
        with pytest.raises(ValueError, match="no values"):
            stats.median_interval([])


class TestGates:
    """Each identity of the accuracy clock, broken alone, is named; a sound record passes, missed or not."""

    @pytest.mark.parametrize("after", [1, 3, 20, None])
    def test_a_sound_record_passes(self, after):
        assert violations(b.crossing(b.target_job(), after)) == []

    def test_evaluations_that_do_not_divide_the_limit_end_at_the_last_whole_one(self):
        """20 epochs of 429 steps are 8,580; looked at every 1,000 the last evaluation is after 8,000."""
        assert violations(b.crossing(b.target_job(evaluate_every=1000), None)) == []

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"epoch_evaluations": ()}, "without an evaluation"),
            ({"job_seconds": None}, "recorded no time"),
            ({"job_seconds": seconds(3) - 0.1}, "blocks and evaluations add up to"),
            ({"steps_per_block": 400, "steps": 1200, "images": 153_600}, "are not one every 429"),
            (
                {"test": Evaluation(after_steps=1287, images=10_000, correct=9_950, seconds=1.0)},
                "not the last evaluation's",
            ),
        ],
        ids=["none", "no time", "clock", "interval", "test"],
    )
    def test_each_broken_identity_is_named(self, change, words):
        record = b.crossing(b.target_job(), 3)
        broken = record.model_copy(update={"outcome": self.changed(record, **change)})
        assert any(words in message for message in violations(broken)), violations(broken)

    @staticmethod
    def changed(record, *, status=None, **change):
        trial = record.outcome.trial.model_copy(update=change)
        return record.outcome.model_copy(update={"trial": trial} | ({"status": status} if status else {}))

    def with_correct(self, record, *correct, status=None):
        evaluations = tuple(
            each.model_copy(update={"correct": right})
            for each, right in zip(record.outcome.trial.epoch_evaluations, correct, strict=True)
        )
        change = {"epoch_evaluations": evaluations, "test": evaluations[-1]}
        return record.model_copy(update={"outcome": self.changed(record, status=status, **change)})

    def test_training_does_not_go_on_once_the_target_is_reached(self):
        found = violations(self.with_correct(b.crossing(b.target_job(), 3), 9_000, 9_900, 9_910))
        assert found == ["evaluation 2 of 3 reached the target, but training continued"]

    @pytest.mark.parametrize(("right", "status"), [(9_899, "ok"), (9_900, "missed")])
    def test_the_last_evaluation_reaches_it_exactly_where_the_outcome_says_so(self, right, status):
        record = b.crossing(b.target_job(), 20)
        assert violations(self.with_correct(record, *[9_000] * 19, 9_900)) == []
        found = violations(self.with_correct(record, *[9_000] * 19, right, status=status))
        assert found == [
            f"the last evaluation has {right} of 10000 right against a target of 0.99, the outcome is {status}"
        ]

    def test_missed_is_only_what_trained_to_its_limit(self):
        record = self.with_correct(b.crossing(b.target_job(), 3), 9_000, 9_001, 9_002, status="missed")
        assert violations(record) == ["the target was missed after 1287 steps, the epoch limit is 8580"]

    def test_no_training_goes_beyond_its_limit(self):
        job = b.target_job()
        beyond = b.crossing(job, 20).model_copy(update={"job": job.model_copy(update={"epochs": 10})})
        assert "8580 steps were timed, the epoch limit is 4290" in violations(beyond)

    def test_a_closed_gate_makes_a_missed_record_invalid(self):
        record = self.with_correct(b.crossing(b.target_job(), 3), 9_000, 9_001, 9_002, status="missed")
        row = only([record])
        assert row.outcomes == {"invalid": 1}
        assert row.time_to_accuracy is None

    @given(st.integers(1, 10_000), st.integers(1, 10_000))
    def test_a_share_reaches_itself_and_nothing_above(self, correct, of):
        """Of 10,000 images a target with four digits is reached exactly, whatever the product rounds to."""
        evaluation = Evaluation(after_steps=1, images=10_000, correct=correct, seconds=1.0)
        assert evaluation.reaches(of / 10_000) == (correct >= of)


class TestPretraining:
    def test_its_seconds_are_in_the_clock_and_its_flops_in_the_job(self):
        """mlp-5-pretrained: hidden layers of 784-256 and thrice 256-256, two epochs of 550 batches of 100 each."""
        job = modes.mlp_job("mlp-5-pretrained", clock="job", epochs=2)
        per_image = (
            10 * 784 * 256
            + (10 * 256 * 256 + 2 * 784 * 256)
            + (10 * 256 * 256 + 2 * (784 + 256) * 256)
            + (10 * 256 * 256 + 2 * (784 + 2 * 256) * 256)
        )
        before = 100 * 2 * 550 * per_image
        assert workloads.pretraining_flops(job) == before
        assert job_flops(job) == before + 1100 * 100 * 1_997_824
        assert step_flops(job) == 100 * 1_997_824
        known = {"job_seconds": 30.0 + 1100 * 0.004, **modes.pretrained(job)}
        row = only(b.repeats(job, [0.004] * 3, **known))
        assert row.job_seconds.value == pytest.approx(34.4)
        assert row.pretraining_seconds.value == pytest.approx(30.0)
        assert row.pretraining_flops_per_second.value == pytest.approx(before / 30.0)
        assert row.flops_per_second.value == pytest.approx(100 * 1_997_824 / 0.004)

    def test_the_clock_holds_all_three_parts(self):
        job = modes.mlp_job("mlp-5-pretrained", clock="job", epochs=2)
        short = b.record(job, 0.004, job_seconds=34.0, **modes.pretrained(job))
        assert any(
            text.startswith("pre-training, blocks and evaluations add up to 34.400") for text in violations(short)
        )

    def test_its_steps_are_those_the_job_asks_for(self):
        job = modes.mlp_job("mlp-5-pretrained", clock="job", epochs=2)
        known = {"job_seconds": 40.0, **modes.pretrained(job)}
        assert violations(b.record(job, 0.004, **known)) == []
        found = violations(b.record(job, 0.004, **(known | {"pretraining_steps": 4399})))
        assert found == ["4,399 steps of pre-training were done, the job asks for 4,400"]
        assert violations(b.record(b.lecture_job(), **modes.pretrained(job), job_seconds=1e5)) == [
            "4,400 steps of pre-training were done, the job asks for 0"
        ]


def test_inference_is_counted_forward_alone():
    """17,474,772 FLOPs an image against 51,972,732 in training (lecture.md)."""
    forward = b.cnn_job(task="inference", optimizer=None, final_evaluation=False)
    assert step_flops(forward) == 128 * 17_474_772
    assert step_flops(b.cnn_job()) == 128 * 51_972_732
