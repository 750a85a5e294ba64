"""The report of two sides: what is printed of a pair, what is said below, and that no format loses a figure."""

from __future__ import annotations

import csv
import io
import json
import random

import builders as b
import pytest
from side_builders import HERE, LECTURE, compared, lines, new_run, old_run, side, words

from cnnbench.analysis.ratio import describe_place
from cnnbench.errors import ComparisonError, ExitCode
from cnnbench.report import comparison
from cnnbench.report.render import text

FORMATS = ("table", "markdown", "csv", "json")


def whole_report(**options):
    return comparison.build(side(old_run(), name="old"), side(new_run(), name="new"), **options)


def test_half_the_time_is_twice_as_fast_and_the_raw_values_say_so():
    document = json.loads(text.render(whole_report(), "json"))
    row = next(row for row in compared(document) if row["workload"] == "mnist-cnn" and row["new_threads"] == 8)
    assert row["ratio"] == pytest.approx(row["base_seconds"] / row["new_seconds"]) == pytest.approx(2, rel=0.01)
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
    assert (row["verdict"], row["ratio_n"], row["ratio_by_round"], row["base_seconds_of"]) == (
        "FASTER",
        3,
        False,
        "step",
    )
    assert (row["base_torch"], row["new_torch"]) == ("2.13.0 (cpu)", "2.14.0 (cpu)")
    assert row["base_text"] == "", "the base's place is said where it is another"
    assert row["base_time_text"] == "71 ms (n=3)"


def test_faster_at_worse_learning_is_said():
    report = whole_report()
    assert "new learns worse, so its speed does not count" in words(report)
    assert "97.00 %" in words(report)
    assert any("learns worse" in note for row in lines(report) for note in row.notes)


def test_a_failed_row_stays_and_says_which_side_failed():
    report = whole_report()
    failed = next(line for line in lines(report) if line.kind == "failed")
    shown = [cell.one_line for cell in failed.cells]
    assert "n/a (new: oom)" in shown
    assert "tried to allocate 2 GiB" in words(report)
    assert "Not in it: 1 failed, 2 only in base." in words(report)


def test_what_only_one_side_has_stands_in_a_table_of_its_own():
    rows = compared(json.loads(text.render(whole_report(), "json")), "unpaired")
    assert {(row["side"], row["batch_size"], row["threads"], row["why"]) for row in rows} == {
        ("base", 64, 8, "work"),
        ("base", 128, 2, "place"),
    }
    assert "batch size (64 in base, 128 in new)" in " ".join(row["reason_text"] for row in rows)


def test_training_and_products_are_summed_up_apart():
    summaries = [note.text for note in whole_report().notes if note.kind == "summary"]
    assert [text.partition(":")[0] for text in summaries] == ["Training", "GEMM"]


def test_the_notes_name_what_differs_and_only_that():
    said = words(whole_report())
    assert "different runs, not interleaved" in said
    assert "Different torch: 2.13.0 in base, 2.14.0 in new;" in said
    assert said.count("Different ") == 1
    assert "By chance, of 2 intervals at 95 %, about 0.05 read FASTER" in said
    assert "0.9091–1.1 (tolerance 10 %)" in words(whole_report(tolerance=0.1))
    itself = words(comparison.build(side(old_run(), name="old"), side(old_run(), name="old")))
    assert "interleaved" not in itself
    assert "Different" not in itself


def test_every_field_that_may_differ_has_its_words():
    assert set(comparison.DIFFERENCE_TEXTS) == set(describe_place(side(old_run()).rows[0]))


def test_doubts_of_both_sides_are_said_with_their_side():
    lone = b.ledger(b.repeats(b.cnn_job(), [0.07]), run_id="r2", machine=HERE)
    said = words(comparison.build(side(old_run(), name="old"), side(lone, name="lone")))
    assert "Doubt (new mnist-cnn b128 fp32): n=1" in said
    assert "projected" not in said, "a ratio of steps projects nothing"


def test_the_fastest_against_the_fastest_is_said():
    gpu = b.ledger(b.repeats(b.cnn_job(device="cuda:0"), [0.001] * 3), run_id="r2", machine=HERE)
    cpu = b.ledger(b.repeats(b.cnn_job(), [0.01] * 3), run_id="r1", machine=HERE)
    report = comparison.build(side(cpu, name="cpu"), side(gpu, name="gpu"))
    assert "Test CPU 9000 (cpu, 8 threads) in base, NVIDIA Testla T1 (cuda:0) in new" in words(report)
    new, base = lines(report)[0].cells[:2]
    assert (new.text, base.text) == ("NVIDIA Testla T1", "Test CPU 9000")


@pytest.mark.parametrize("form", FORMATS)
def test_shuffling_the_records_leaves_every_format_byte_identical(form):
    expected = text.render(whole_report(), form, width=100)
    rng = random.Random(0)
    for _ in range(3):
        mixed = [
            b.Ledger(r.path, r.header, tuple(rng.sample(r.records, len(r.records)))) for r in (old_run(), new_run())
        ]
        shuffled = comparison.build(side(mixed[0], name="old"), side(mixed[1], name="new"))
        assert text.render(shuffled, form, width=100) == expected


@pytest.mark.parametrize("form", FORMATS)
def test_every_figure_shown_stands_in_every_format(form):
    report = whole_report()
    rendered = text.render(report, form).replace("\\", "")
    for line in (*lines(report), *lines(report, "unpaired")):
        for cell in line.cells:
            assert all(word in rendered for word in cell.text.split())


def test_csv_has_a_line_a_pair_and_a_line_for_each_row_left_over():
    rows = list(csv.DictReader(io.StringIO(text.render(whole_report(), "csv"))))
    assert [row["table"] for row in rows] == ["compare"] * 3 + ["unpaired"] * 2
    assert all(row["clock_rule"] for row in rows)


@pytest.mark.parametrize("width", [80, 100, 150])
def test_no_line_is_wider_than_the_terminal_and_the_ratio_is_always_there(width):
    then = comparison.build(side(name="2017", references=LECTURE), side(b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))))
    for report in (whole_report(), then):
        rendered = text.render(report, "table", width=width)
        assert max(map(len, rendered.splitlines())) <= width
        assert "new time" in rendered
        assert "FASTER" in rendered


def test_the_column_keys_are_what_others_build_on():
    table = whole_report().tables[0]
    assert (table.key, [column.key for column in table.columns]) == (
        "compare",
        [
            "new",
            "base",
            "precision",
            "size",
            "base_time",
            "new_time",
            "ratio",
            "verdict",
            "base_accuracy",
            "new_accuracy",
        ],
    )


def test_nothing_in_common_says_which_works_each_side_has():
    one = side(b.ledger(b.repeats(b.cnn_job(), [0.01] * 3)), name="one")
    other = side(b.ledger(b.repeats(b.gemm_job(), [0.01] * 3)), name="other")
    with pytest.raises(
        ComparisonError, match=r"(?s)one.*mnist-cnn v1 · batch 128.*other.*gemm v1.*size 1,024"
    ) as caught:
        comparison.build(one, other)
    assert caught.value.exit_code == ExitCode.UNFIT
    with pytest.raises(ComparisonError, match="both sides are published"):
        comparison.build(side(name="a", references=LECTURE), side(name="b", references=LECTURE))
    with pytest.raises(ComparisonError, match=r"5,491,200 images"):
        comparison.build(side(name="a", references=LECTURE), other)


def test_work_that_failed_wherever_it_could_be_divided_is_nothing_in_common():
    failed = side(b.ledger(b.repeats(b.cnn_job(), [0.0], status="crashed")), name="failed")
    with pytest.raises(ComparisonError, match=r"\(failed\)"):
        comparison.build(side(b.ledger(b.repeats(b.cnn_job(), [0.01])), name="ok"), failed)
