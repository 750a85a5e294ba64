"""Published times against measured rows: what is divided, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import builders as b
import pytest
import report_builders
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from side_builders import HERE, LECTURE, OPPOSITE, PUBLISHED, cnn, lines, run, same_numbers, side, some_rows, words

from cnnbench.analysis.comparison import compare_sides
from cnnbench.cli.main import cli
from cnnbench.report import comparison as reporting
from cnnbench.report.render import markdown


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
    differ = "cannot separate hardware from software; software differs too: TensorFlow 1 of 2017"
    for part in ("is assumed", differ, "one run without a spread", "~ means projected", "n < 3", "No mean"):
        assert part in said
    assert "interleaved" not in said
    assert "By chance" not in said
    measured, projected = ([cell.one_line for cell in line.cells[3:7]] for line in (lines(report)[0], lines(report)[4]))
    assert measured == ["1:45:31 (published)", "0:07:09.0 (measured; n=1)", "14.76x (n=1)", "UNCLEAR (only n=1)"]
    assert projected[1] == "~0:07:09.0 (projected; n=3)"
    assert projected[2] == "~14.76x (14.76–14.76x; n=3)"
    assert projected[3] == "FASTER"


def test_wherever_a_published_time_is_divided_the_software_is_named(tmp_path):
    """Screen, claim, rules and first screen of a report, and a comparison either way."""
    text = "software differs too: TensorFlow 1 of 2017 there, today's torch here"
    results = report_builders.write(tmp_path / "results", [b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))])
    call = CliRunner().invoke
    shown = [call(cli, ["show", str(results)]).stdout, call(cli, ["show", "--all", str(results)]).stdout]
    sides = [str(results), "reference"]
    shown += [call(cli, ["compare", *each, "--format", "markdown"]).stdout for each in (sides, sides[::-1])]
    page = report_builders.page([b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))])
    first = report_builders.page([b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))], template="first screen")
    shown += [page.headline[0], markdown.render_first_screen(first, rest_at="report.md")]
    assert [text in " ".join(each.split()) for each in shown] == [True] * len(shown)


def test_a_ledger_of_published_rows_is_either_side(tmp_path):
    """Its path means what `reference` means; the ratio one way is the inverse of the other."""
    results = report_builders.write(tmp_path / "results", [b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))])
    path = next((Path(__file__).parents[1] / "results" / "reference").glob("*.jsonl"))
    ratios = []
    for sides in ((path, results), ("reference", results), (results, path)):
        done = CliRunner().invoke(cli, ["compare", *map(str, sides), "--format", "json"])
        assert done.exit_code == 0, done.output
        rows = json.loads(done.stdout)["tables"][0]["rows"]
        ratios.append(sorted(row["ratio"] for row in rows))
    assert ratios[0] == ratios[1]
    assert ratios[0] == pytest.approx(sorted(1 / each for each in ratios[2]))
