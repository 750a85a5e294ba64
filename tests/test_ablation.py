"""The ladder: rows that differ only in how a step is computed, in a fixed order, each against the one before and the first."""

from __future__ import annotations

import random

import builders as b
import pytest
import variant_records as modes

from cnnbench import naming
from cnnbench.analysis import process_table, speedup, stats
from cnnbench.analysis.ratio import find_ladders
from cnnbench.report import tables


def rows_of(*ledgers):
    processes, _ = process_table.read_processes(ledgers)
    return speedup.compute_speedups(processes).rows


def of(*jobs, seconds=(0.08, 0.04), **header):
    records = []
    for job, step in zip(jobs, seconds, strict=True):
        records += b.repeats(job, [step] * 3, start=len(records))
    return find_ladders(rows_of(b.ledger(records, **header)))


def training():
    (found,) = [each for each in find_ladders(rows_of(modes.ladder())) if each[0].job.task == "training"]
    return found


def test_rungs_stand_in_the_stated_order_what_failed_in_its_place():
    assert [naming.step_label(rung.job) for rung in training()] == [
        "fp32, nchw, eager",
        "fp32, nchw, eager, dataloader, 2 workers",
        "fp32, nchw, compiled",
        "fp32, nhwc, eager",
        "tf32, nchw, eager",
        "bf16, nchw, eager",
        "bf16, nhwc, eager",
        "fp16, nchw, eager",
    ]


def test_each_rung_is_divided_by_round_by_the_measured_one_before_and_by_the_first():
    first, *_, nhwc, tf32, bf16, last, _ = training()
    assert first.values["speed_over_first_rung"] is first.values["speed_over_rung_before"] is None
    assert tf32.values["speed_over_first_rung"] is tf32.values["speed_over_rung_before"] is None
    before = stats.paired_ratio(nhwc.costs, bf16.costs)
    assert bf16.values["speed_over_rung_before"] == before
    assert before.value == pytest.approx((70 * 71 * 69) ** (1 / 3) / (50 * 52 * 51) ** (1 / 3))
    assert (before.n, before.low is not None) == (3, True)
    assert last.values["speed_over_first_rung"].value == pytest.approx(
        (80 * 82 * 81) ** (1 / 3) / (40 * 40.5 * 41) ** (1 / 3)
    )


def test_ratios_from_the_first_are_the_product_of_the_steps():
    measured = [rung for rung in training() if rung.costs]
    product = 1.0
    for rung in measured[1:]:
        product *= rung.values["speed_over_rung_before"].value
        assert rung.values["speed_over_first_rung"].value == pytest.approx(product)


@pytest.mark.parametrize(
    "other",
    [
        {"batch_size": 64},
        {"optimizer": "adam"},
        {"init": "normal-0.01"},
        {"pool": "average"},
        {"activation": "sigmoid"},
        {"task": "inference"},
        {"data": "synthetic"},
        {"threads": 4},
        {"allocator": "system"},
        {"extra_forwards": 1},
        {"order": "shuffled"},
    ],
    ids=str,
)
def test_what_is_other_work_or_elsewhere_is_no_rung(other):
    assert of(b.cnn_job(), b.cnn_job(precision="bf16", **other)) == ()


@pytest.mark.parametrize(
    "way",
    [
        {"precision": "bf16"},
        {"layout": "nhwc"},
        {"execution": "compiled"},
        {"loader": "dataloader", "loader_workers": 1},
        {"division": "tuned"},
    ],
    ids=str,
)
def test_what_computes_the_same_work_another_way_is_one(way):
    ((first, second),) = of(b.cnn_job(), b.cnn_job(**way))
    assert first.job == b.cnn_job()
    assert (
        second.values["speed_over_rung_before"].value
        == second.values["speed_over_first_rung"].value
        == pytest.approx(2.0)
    )


def test_rows_of_two_runs_are_no_ladder():
    slow = b.ledger(b.repeats(b.cnn_job(), [0.08] * 3), run_id="r1")
    fast = b.ledger(b.repeats(b.cnn_job(precision="bf16"), [0.04] * 3), run_id="r2")
    assert find_ladders(rows_of(slow, fast)) == ()


def test_one_measured_rung_is_no_ladder_and_products_are_none():
    failed = b.record(b.cnn_job(precision="tf32"), index=3, status="unsupported")
    assert find_ladders(rows_of(b.ledger([*b.repeats(b.cnn_job(), [0.08] * 3), failed]))) == ()
    assert of(b.gemm_job(), b.gemm_job(precision="bf16")) == ()


def test_the_order_of_records_changes_nothing():
    run = modes.ladder()
    shuffled = list(run.records)
    random.Random(1).shuffle(shuffled)
    assert find_ladders(rows_of(b.Ledger(run.path, run.header, tuple(shuffled)))) == find_ladders(rows_of(run))


def lines():
    processes, _ = process_table.read_processes([modes.ladder()])
    (table,) = [each for each in tables.build(speedup.compute_speedups(processes)).tables if each.key == "ladder"]
    keys = [column.key for column in table.columns]
    return table, [dict(zip(keys, line.cells, strict=True)) for group in table.groups for line in group.lines]


def test_the_table_says_what_a_device_cannot_do_and_why():
    _, found = lines()
    (tf32,) = [line for line in found if line["rung"].text == "tf32, nchw, eager"]
    assert (tf32["step"].text, tf32["over_first"].text) == ("n/a", "n/a")
    assert (tf32["outcome"].text, tf32["why_not"].text) == ("unsupported 3 of 3", "needs tensor cores")
    assert {line["why_not"].text for line in found if line["step"].text != "n/a"} == {""}


def test_a_rungs_peak_is_that_of_its_own_precision():
    """2 x 2048^3 FLOP in 41 ms bf16 and 91 ms fp32: the share falls although the step is faster."""
    _, found = lines()
    shares = {line["rung"].text: line["of_ceiling"].values["share_of_measured_peak"] for line in found}
    flops, product = 128 * 51_972_732, 2 * 2048**3
    fp32 = (90 * 91 * 92) ** (1 / 3) / 1e3
    bf16 = (40 * 41 * 42) ** (1 / 3) / 1e3
    assert shares["fp32, nhwc, eager"] == pytest.approx(flops / ((70 * 71 * 69) ** (1 / 3) / 1e3) / (product / fp32))
    assert shares["bf16, nhwc, eager"] == pytest.approx(flops / ((40 * 40.5 * 41) ** (1 / 3) / 1e3) / (product / bf16))


def test_it_says_that_it_divides_what_is_divided_nowhere_else():
    table, _ = lines()
    assert "rows of different precision are divided here on purpose" in table.clock
    titles = [group.title for group in table.groups]
    assert len(titles) == 2
    assert any("inference" in title for title in titles)
    assert all(title.endswith("on cpu, 8 threads") for title in titles)
