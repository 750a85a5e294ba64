"""Published times against measured rows: what is divided, and what is said of it."""

from __future__ import annotations

import builders as b
import pytest
from hypothesis import given
from hypothesis import strategies as st
from side_builders import HERE, LECTURE, OPPOSITE, PUBLISHED, cnn, lines, run, same_numbers, side, some_rows, words

from cnnbench.analysis.comparison import compare_sides
from cnnbench.report import comparison as reporting


def test_then_and_now_by_hand():
    """42,900 steps at 10 ms are 429 s: 6331 / 429 = 14.76 for the i7, 327 / 429 = 0.762 for the GTX-1080; bounds likewise."""
    now = side(cnn(0.0099, 0.01, 0.0101), references=LECTURE)
    found = compare_sides(PUBLISHED, now)
    ratios = {pair.base.published.processor: pair for pair in found.pairs}
    assert sorted(ratios) == ["AWS EC2 K520", "GTX-1080", "GTX-970", "Intel i7-4790K"]
    assert ratios["Intel i7-4790K"].ratio == now.rows[0].speedup_over_published
    assert ratios["GTX-1080"].ratio.value == pytest.approx(327 / 429, rel=1e-3)
    assert (ratios["Intel i7-4790K"].verdict, ratios["GTX-1080"].verdict) == ("FASTER", "SLOWER")
    assert [(each.side, each.entry.published.processor, each.reason) for each in found.unpaired] == [
        ("base", "GTX-745", "no-published-time")
    ]
    assert found.summaries[0].mean is None


@given(times=some_rows, tolerance=st.floats(0, 0.5))
def test_then_and_now_swapped_is_inverted(times, tolerance):
    now = side(run(times))
    forward, backward = compare_sides(PUBLISHED, now, tolerance), compare_sides(now, PUBLISHED, tolerance)
    assert len(forward.pairs) == len(backward.pairs)
    for one, other in zip(forward.pairs, backward.pairs, strict=True):
        same_numbers(one.ratio, other.ratio)
        assert one.verdict == OPPOSITE[other.verdict]
        assert (one.base, one.new) == (other.new, other.base)


def test_only_the_published_job_stands_against_a_published_time():
    """Another batch size, a product, a projection from too little and a failed row are listed, each with why."""
    failed = b.record(b.lecture_job(), index=7, status="oom")
    records = [
        *b.repeats(b.cnn_job(), [0.01] * 3),
        *b.repeats(b.cnn_job(batch_size=64), [0.01], start=3),
        *b.repeats(b.gemm_job(), [0.01], start=4),
        *b.repeats(b.cnn_job(blocks=9), [0.01], start=5),
        failed,
    ]
    found = compare_sides(PUBLISHED, side(b.ledger(records)))
    assert {id(pair.new) for pair in found.pairs} == {id(found.pairs[0].new)}
    assert len(found.pairs) == 4
    whys = {(each.entry.job.workload, each.reason) for each in found.unpaired if each.side == "new"}
    assert whys == {
        ("mnist-cnn", "other-job"),
        ("gemm", "other-job"),
        ("mnist-cnn", "no-job-time"),
        ("mnist-cnn", "failed"),
    }


def test_published_rows_beside_measured_ones_take_no_part():
    mixed = side(cnn(0.01, 0.01, 0.01), references=LECTURE)
    assert len(compare_sides(mixed, mixed).pairs) == 1
    assert compare_sides(PUBLISHED, PUBLISHED).pairs == ()


def then_and_now(**options):
    return reporting.build(side(name="2017", references=LECTURE), side(lecture_run(), name="now"), **options)


def lecture_run():
    return b.ledger([*b.repeats(b.cnn_job(), [0.01] * 3), *b.repeats(b.lecture_job(), [0.01], start=3)], machine=HERE)


def test_then_and_now_says_what_is_assumed_and_what_is_projected():
    report = then_and_now()
    said = words(report)
    differ = "Hardware and software both differ from 2017"
    for part in ("is assumed", differ, "one run without a spread", "~ means projected", "n < 3", "No mean"):
        assert part in said
    assert "interleaved" not in said
    assert "By chance" not in said
    measured, projected = ([cell.one_line for cell in line.cells[3:7]] for line in (lines(report)[0], lines(report)[4]))
    assert measured == ["1:45:31 (published)", "0:07:09.0 (measured; n=1)", "14.76x (n=1)", "UNCLEAR (only n=1)"]
    assert projected[1] == "~0:07:09.0 (projected; n=3)"
    assert projected[2] == "~14.76x (14.76–14.76x; n=3)"
    assert projected[3] == "FASTER"
