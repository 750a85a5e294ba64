"""Kernels that leave out products with zeros compute fewer FLOPs than the model has: no row of theirs is a share of a peak."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import builders as b
import pytest
import report_builders
from audit_builders import Made
from test_ceiling import FLOPS, OUTPUTS, STEPS, comparison, mean, product_seconds

from cnnbench import store
from cnnbench.analysis import process_table, speedup
from cnnbench.analysis.rows import Row
from cnnbench.bridges.exports import extra_info, group_jobs
from cnnbench.report import tables
from cnnbench.report.render import text
from cnnbench.report.sections import write_headline
from cnnbench.schema import TUNED_ERROR, TUNED_RUNG
from cnnbench.store import Ledger

RESULTS = Path(__file__).parents[1] / "results"
TUNED = {"division": "tuned", "execution": "auto", "layout": "nchw"}


def run(*rungs: str | None) -> Ledger:
    """The tuned CNN in one process per rung that ran (None: not recorded), and a product of side 2,048 at 100 GFLOP/s.

    The model's FLOPs over the step are 94 GFLOP/s at 70 ms and twice that at 35 ms.
    """
    records = []
    for number, rung in enumerate(rungs):
        settings = {TUNED_ERROR: "1e-06"} | ({} if rung is None else {TUNED_RUNG: rung})
        job = b.cnn_job(**TUNED, round=number, seed=number)
        fields = {**report_builders.MEASURED, "settings": settings}
        records.append(b.record(job, STEPS[number] / 2, index=number, **fields))
    records += b.repeats(b.gemm_job(2048), product_seconds(2048, (100.0,) * 3), start=len(records))
    return b.ledger(records)


def trained(ledger: Ledger) -> Row:
    (row,) = [row for row in comparison(ledger).rows if row.job.workload == "mnist-cnn"]
    return row


@pytest.mark.parametrize("rungs", [("native",) * 3, (None,) * 3, ("native", "fused", "native")])
def test_a_row_that_leaves_out_zeros_has_model_flops_and_no_share_of_a_peak(rungs: tuple[str | None, ...]) -> None:
    """One process of the native kernels is enough; a choice that was not recorded may have been them."""
    row = trained(run(*rungs))
    skipping = [step / 2 for step, rung in zip(STEPS, rungs, strict=True) if rung != "fused"]
    assert row.model_flops_per_second is not None
    assert row.model_flops_per_second.value == pytest.approx(FLOPS / mean(skipping))
    assert (row.flops_per_second, row.ceiling_share, row.mfu, row.rates) == (None, None, None, {})
    assert row.ceiling_flops_per_second is not None
    assert row.bottleneck is not None
    assert (row.bottleneck.floor("compute"), row.bottleneck.summary) == (None, "n/a")
    assert "leave out products with zeros" in row.missing["achieved"]
    assert not {"zeros-left-out", "above-ceiling"} & {doubt.code for doubt in row.doubts}


def test_a_tuned_row_that_computes_every_product_keeps_its_share() -> None:
    row = trained(run("fused", "fused", "fused"))
    assert row.model_flops_per_second is None
    assert row.flops_per_second is not None
    assert row.ceiling_share is not None
    assert row.ceiling_share.value == pytest.approx(2 * FLOPS / mean(STEPS) / 100e9)
    assert "above-ceiling" in {doubt.code for doubt in row.doubts}


def test_every_format_has_the_column_and_none_a_share() -> None:
    found = comparison(run("native", "native", "native"))
    report = tables.build(found)
    rate = f"{2 * FLOPS / mean(STEPS) / 1e9:.1f}"
    printed = {name: text.render(report, name, width=250) for name in ("table", "markdown", "latex", "csv", "json")}
    for name, page in printed.items():
        assert rate in page, name
        assert "leave out products with zeros" in page, name
    (line,) = [row for row in csv.DictReader(io.StringIO(printed["csv"])) if row["table"] == "training"]
    assert (line["achieved_flops_per_second"], line["share_of_measured_peak"], line["mfu"]) == ("", "", "")
    assert float(line["model_flops_per_second"]) == pytest.approx(2 * FLOPS / mean(STEPS))
    training = json.loads(printed["json"])["tables"][0]
    assert training["rows"][0]["achieved_flops_per_second"] is None
    assert training["rows"][0]["model_flops_per_second_n"] == 3
    assert "best matrix product" not in " ".join(write_headline(found))


def test_a_report_without_such_rows_lacks_the_column() -> None:
    (table, *_) = tables.build(comparison(run("fused", "fused", "fused"))).tables
    assert "model" not in {column.key for column in table.columns}


def test_charts_of_flops_leave_such_rows_out_and_say_so() -> None:
    ledger = run("native", "native", "native")
    plain = b.repeats(b.cnn_job(), STEPS, start=len(ledger.records), **report_builders.MEASURED)
    charts = {chart.key: chart for chart in report_builders.page([b.ledger([*ledger.records, *plain])]).charts}
    measured = {mark["row"] for mark in charts["speedup"].data if mark["run"]}
    assert len(measured) == 2
    for key in ("flops", "roofline"):
        drawn = {mark["row"] for mark in charts[key].data if mark.get("row") and "gemm" not in mark.get("name", "")}
        assert len(drawn & measured) == 1, key
        assert "leave out products with zeros are not drawn" in charts[key].caption, key


def test_exports_name_the_rate_for_what_it_is() -> None:
    processes, _ = process_table.read_processes([run("native", "native", "native")])
    info = {each.processes[0].job.workload: extra_info(each) for each in group_jobs(processes)}
    assert info["mnist-cnn"]["flops_per_second"] is None
    assert info["mnist-cnn"]["model_flops_per_second"] > 150e9
    assert info["gemm"]["flops_per_second"] == pytest.approx(100e9)
    assert info["gemm"]["model_flops_per_second"] is None


@pytest.mark.parametrize("rungs", [("native",) * 3, ("native", "fused", "native"), ("fused",) * 3])
def test_the_audit_derives_the_same(rungs: tuple[str, ...]) -> None:
    assert Made(outputs=OUTPUTS, ledgers=[run(*rungs)]).findings() == []


def test_the_audit_finds_a_share_printed_for_such_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnbench.analysis.metrics.ProcessMetrics.leaves_out_zeros", False)
    found = Made(outputs=OUTPUTS, ledgers=[run("native", "native", "native")]).findings()
    for name in OUTPUTS:
        assert any(name in each and "achieved" in each for each in found), name
        assert any(name in each and "of peak" in each for each in found), name


def test_no_committed_tuned_row_is_above_its_measured_peak() -> None:
    """Up to 154 % were printed for the native kernels."""
    processes, _ = process_table.read_processes(store.load_tree([RESULTS]).ledgers)
    rows = speedup.compute_speedups(processes, all_runs=True).rows
    tuned = [row for row in rows if row.job.division != "reference"]
    shares = [row.ceiling_share.value for row in tuned if row.ceiling_share is not None]
    assert shares
    assert max(shares) < 1
    native = [row for row in rows if row.job.execution == "native" and row.ok]
    assert native
    assert all(row.model_flops_per_second and row.ceiling_share is None for row in native)
