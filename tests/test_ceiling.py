"""A share of the measured peak compares with a product of the same run, else of the same boot and host, else with none."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import builders as b
import pytest
import report_builders
from audit_builders import Made
from scipy.stats import t as student

from cnnbench import store
from cnnbench.analysis import ceiling, process_table, speedup
from cnnbench.analysis.rows import Row
from cnnbench.analysis.run_spread import PRIORS
from cnnbench.report import tables
from cnnbench.report.render import text
from cnnbench.report.sections import write_headline
from cnnbench.schema import RunHeader
from cnnbench.store import Ledger

RESULTS = Path(__file__).parents[1] / "results"
FLOPS = 128 * 51_972_732
"""Of a training step of the lecture's CNN at batch 128 (`cnnbench explain mnist-cnn`)."""
STEPS = (0.070, 0.072, 0.071)
T_2 = 4.302652729911275
"""Student's t at 97.5 % with 2 degrees of freedom."""
BOOT = "0d9c5a54-8ad0-4e4c-a5b9-2f6d0f6d3a51"


def product_seconds(size: int, gflops: Sequence[float]) -> list[float]:
    """Seconds of one product of that side at each of these rates."""
    return [2 * size**3 / (each * 1e9) for each in gflops]


def run(number: int, gflops: Sequence[float] = (), *, training: bool = True, **header: object) -> Ledger:
    """A run of one machine id: the lecture's CNN, and a product of side 2,048 at these rates beside one that is slower."""
    records = b.repeats(b.cnn_job(), STEPS, **report_builders.MEASURED) if training else []
    if gflops:
        records += b.repeats(b.gemm_job(2048), product_seconds(2048, gflops), start=len(records))
        records += b.repeats(b.gemm_job(1024), product_seconds(1024, [each / 2 for each in gflops]), start=len(records))
    run_id, created = f"2026030{number}T120000Z-000{number}", f"2026-03-0{number}T12:00:00Z"
    made = b.ledger(records, run_id=run_id, created_at=created, machine=header.pop("machine", None))  # type: ignore[arg-type]
    return Ledger(made.path, RunHeader.model_validate(made.header.model_dump() | header), made.records)


def comparison(*ledgers: Ledger, all_runs: bool = True) -> speedup.Comparison:
    processes, _ = process_table.read_processes(ledgers)
    return speedup.compute_speedups(processes, all_runs=all_runs)


def trained(*ledgers: Ledger, all_runs: bool = True) -> dict[str, Row]:
    """The training rows by the last digit of their run."""
    found = comparison(*ledgers, all_runs=all_runs).rows
    return {row.run_id[-1]: row for row in found if row.job.workload == "mnist-cnn"}


def mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def share(row: Row) -> float:
    assert row.ceiling_share is not None
    return row.ceiling_share.value


def test_each_row_is_a_share_of_the_product_of_its_own_run() -> None:
    """Two virtual machines share the id, one of them is a third faster: neither run borrows from the other."""
    slow, fast = (150.0, 160.0, 155.0), (190.0, 200.0, 210.0)
    rows = trained(run(1, slow), run(2, fast))
    assert share(rows["1"]) == pytest.approx(FLOPS / mean(STEPS) / (mean(slow) * 1e9))
    assert share(rows["2"]) == pytest.approx(FLOPS / mean(STEPS) / (mean(fast) * 1e9))
    assert [rows[n].ceiling_run_id for n in "12"] == [rows[n].run_id for n in "12"]


def test_a_product_that_a_newer_run_hides_is_still_the_peak_of_its_own_run() -> None:
    """The table shows the newer run's product only; the older run's row is the newest of its kind."""
    older, newer = run(1, (150.0, 160.0, 155.0)), run(2, (190.0, 200.0, 210.0), training=False)
    (row,) = trained(older, newer, all_runs=False).values()
    assert row.ceiling_flops_per_second is not None
    assert row.ceiling_flops_per_second.value == pytest.approx(mean((150e9, 160e9, 155e9)))


def test_the_committed_headline_row_reaches_52_percent_of_its_own_run() -> None:
    """Recomputed apart from this code: run 4b57 reaches 52 % of 162.8 GFLOP/s, not 44 % of another machine's 191.2."""
    folder = RESULTS / "amd-epyc-74ec4b79"
    ledgers = store.load_tree([folder]).ledgers
    processes, _ = process_table.read_processes(ledgers)
    rows = [row for row in speedup.compute_speedups(processes).rows if row.job.workload == "mnist-cnn"]
    (row,) = [row for row in rows if row.run_id.endswith("4b57") and row.job.job_steps == 42_900]
    assert row.ceiling_flops_per_second is not None
    assert row.ceiling_flops_per_second.value / 1e9 == pytest.approx(162.8, abs=0.05)
    assert share(row) == pytest.approx(0.52, abs=0.005)


def test_a_run_without_a_product_has_no_share_and_says_what_to_run() -> None:
    rows = trained(run(1), run(2, (190.0, 200.0, 210.0)))
    alone = rows["1"]
    assert (alone.ceiling_share, alone.ceiling_flops_per_second, alone.ceiling_run_id) == (None, None, None)
    assert "add a suite that has one to the command (as in cnnbench run " in alone.missing["ceiling"]
    assert alone.bottleneck is not None
    assert alone.bottleneck.floor("compute") is None


def test_runs_of_one_boot_of_one_host_share_their_products() -> None:
    rows = trained(run(1, boot_id=BOOT), run(2, (190.0, 200.0, 210.0), boot_id=BOOT))
    assert share(rows["1"]) == pytest.approx(share(rows["2"]))
    assert rows["1"].ceiling_run_id == rows["2"].run_id
    assert write_headline(comparison(run(1, boot_id=BOOT), run(2, (200.0,), training=False, boot_id=BOOT)))[
        -1
    ].endswith("in the same boot.")


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({"boot_id": None}, {"boot_id": None}),
        ({"boot_id": BOOT}, {"boot_id": None}),
        ({"boot_id": BOOT}, {"boot_id": BOOT.replace("0", "1")}),
        ({"boot_id": BOOT}, {"boot_id": BOOT, "machine": b.machine(kernel="6.2")}),
    ],
    ids=["both unknown", "one unknown", "two boots", "two hosts cloned from one boot"],
)
def test_runs_that_are_not_known_to_be_of_one_boot_share_nothing(
    here: dict[str, object], there: dict[str, object]
) -> None:
    assert trained(run(1, **here), run(2, (190.0, 200.0, 210.0), **there))["1"].ceiling_share is None


def test_the_interval_of_a_share_is_students_t_on_the_log_ratio_of_each_round() -> None:
    rates = (150.0, 160.0, 155.0)
    logs = [math.log(FLOPS / step / (rate * 1e9)) for step, rate in zip(STEPS, rates, strict=True)]
    middle = sum(logs) / 3
    half = T_2 * math.sqrt(sum((each - middle) ** 2 for each in logs) / 2 / 3)
    found = trained(run(1, rates))["1"].ceiling_share
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx(
        (math.exp(middle), math.exp(middle - half), math.exp(middle + half))
    )
    assert found.n == 3


def test_the_interval_across_runs_of_one_boot_also_covers_how_much_runs_differ() -> None:
    """Welch's variances and those of a training run and of a product's, with Satterthwaite's degrees of freedom."""
    rates = [200.0 * each / STEPS[0] for each in STEPS]
    logs = [math.log(each) for each in STEPS]
    variance = sum((each - sum(logs) / 3) ** 2 for each in logs) / 2
    found = trained(run(1, boot_id=BOOT), run(2, rates, training=False, boot_id=BOOT))["1"].ceiling_share
    assert found is not None
    assert found.low is not None
    priors = [(PRIORS[kind, True].variance, PRIORS[kind, True].degrees) for kind in ("training", "gemm")]
    parts = [(variance / 3, 2), (variance / 3, 2), *priors]
    total = sum(part for part, _ in parts)
    degrees = total**2 / sum(part**2 / freedom for part, freedom in parts)
    half = float(student.ppf(0.975, degrees)) * math.sqrt(total)
    assert math.log(found.value / found.low) == pytest.approx(half)


@pytest.mark.parametrize("n", [1, 2])
def test_two_processes_have_a_share_and_no_interval(n: int) -> None:
    found = trained(run(1, (150.0, 160.0)[:n]))["1"].ceiling_share
    assert found is not None
    assert (found.low, found.high, found.n) == (None, None, n)


@pytest.mark.parametrize(("slowest", "doubted"), [(201.0 / 1.5, False), (199.0 / 1.5, True)])
def test_a_product_whose_processes_differ_by_more_than_half_is_no_peak(slowest: float, doubted: bool) -> None:
    """Fastest over slowest is 200 over `slowest`: just below 1.5 and just above."""
    found = comparison(run(1, (200.0, slowest, 180.0)))
    row = next(row for row in found.rows if row.job.workload == "mnist-cnn")
    best = next(row for row in found.rows if row.job.size == 2048)
    (other,) = [row for row in found.rows if row.job.size == 1024]
    for each in (row, best):
        assert ("ceiling-spread" in {doubt.code for doubt in each.doubts}) is doubted
    assert "ceiling-spread" not in {doubt.code for doubt in other.doubts}
    assert (row.ceiling_share is None) is (row.ceiling_flops_per_second is None) is doubted
    assert (best.is_ceiling, other.is_ceiling) == (not doubted, False)
    assert row.bottleneck is not None
    assert (row.bottleneck.floor("compute") is None) is doubted
    assert (row.bottleneck.summary == "n/a") is doubted
    if doubted:
        assert "size 2,048, differ by 1.51x, more than 1.5x" in row.missing["ceiling"]


def test_the_doubt_has_a_number_and_a_remedy_that_starts_with_a_verb() -> None:
    (row,) = trained(run(1, (200.0, 100.0, 180.0))).values()
    (doubt,) = [each for each in row.doubts if each.code == "ceiling-spread"]
    assert "differ by 2.00x" in doubt.message
    assert doubt.remedy.startswith("Stop ")


def test_the_table_marks_the_best_product_of_each_run() -> None:
    report = tables.build(comparison(run(1, (150.0, 160.0, 155.0)), run(2, (190.0, 200.0, 210.0))), all_runs=True)
    (table,) = [table for table in report.tables if table.key == "gemm"]
    column = [column.key for column in table.columns].index("ceiling")
    marks = [line.cells[column].text for group in table.groups for line in group.lines]
    assert sorted(marks) == ["", "", "ceiling", "ceiling"]


def test_every_format_prints_the_interval_of_a_share() -> None:
    found = comparison(run(1, (150.0, 160.0, 155.0)))
    (row,) = [row for row in found.rows if row.job.workload == "mnist-cnn"]
    assert row.ceiling_share is not None
    assert row.ceiling_share.low is not None
    assert row.ceiling_share.high is not None
    low, high = (f"{100 * each:.0f}" for each in (row.ceiling_share.low, row.ceiling_share.high))
    report = tables.build(found)
    printed = {name: text.render(report, name, width=220) for name in ("table", "markdown", "latex", "csv", "json")}
    for name, page in printed.items():
        dash = r"\textendash{}" if name == "latex" else "–"
        assert f"{low}{dash}{high}" in page, name
    lines = list(csv.DictReader(io.StringIO(printed["csv"])))
    (line,) = [line for line in lines if line["table"] == "training"]
    assert float(line["share_of_measured_peak_low"]) == pytest.approx(row.ceiling_share.low)
    assert line["measured_peak_run_id"] == row.run_id
    assert f"({low}–{high} %; n=3) of the best matrix product" in write_headline(found)[-1]


LEDGERS = (run(1, (150.0, 160.0, 155.0)), run(2, (190.0, 200.0, 210.0), training=False), run(3, training=False))
DOUBTED = (run(1, (200.0, 100.0, 180.0)),)
OUTPUTS = ("page.html", "page.md", "page.csv", "page.json")


def test_the_audit_derives_the_same_peaks_shares_reasons_and_doubts() -> None:
    lone = run(4, machine=b.machine("elsewhere-0001"))
    assert Made(outputs=OUTPUTS, ledgers=[*LEDGERS[:2], lone]).findings() == []
    assert Made(outputs=OUTPUTS, ledgers=list(DOUBTED)).findings() == []
    assert Made("--all-runs", outputs=OUTPUTS, ledgers=[run(1), *LEDGERS[1:2]]).findings() == []


def test_the_audit_follows_a_peak_into_a_run_of_the_same_boot_that_has_no_row_of_its_own() -> None:
    """The newest product is of another boot and hides the one that is the peak."""
    here, beside = run(1, boot_id=BOOT), run(2, (150.0, 160.0, 155.0), training=False, boot_id=BOOT)
    newer = run(3, (190.0, 200.0, 210.0), training=False)
    made = Made(outputs=OUTPUTS, ledgers=[here, beside, newer])
    assert made.findings() == []
    assert "20260302T120000Z-0002" in made.text("page.md")


def test_the_audit_finds_a_peak_taken_from_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best product of a machine id over all its runs, as pages once had it."""
    monkeypatch.setattr(ceiling, "_run_key", ceiling._place_key)
    found = Made(outputs=OUTPUTS, ledgers=[run(1, (150.0, 160.0, 155.0)), LEDGERS[1]]).findings()
    for name in OUTPUTS:
        assert any(name in each and "of peak" in each for each in found), name
        assert any(name in each and "measured peak" in each for each in found), name
    assert any("page.json" in each and "measured_peak_run_id" in each for each in found)
    assert any("the claim" in each for each in found)


def test_the_audit_finds_a_share_of_a_product_whose_processes_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "MOST_SPREAD", 3.0)
    found = Made(outputs=OUTPUTS, ledgers=list(DOUBTED)).findings()
    for name in OUTPUTS:
        assert any(name in each and "of peak" in each for each in found), name
        assert any(name in each and "lack" in each and "doubt" in each for each in found), name


def test_the_audit_finds_a_reason_left_out_or_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    lone = [run(1)]
    monkeypatch.setattr(ceiling, "NO_PRODUCT", "it was late")
    found = Made(outputs=OUTPUTS, ledgers=lone).findings()
    for name in OUTPUTS:
        assert any(name in each and "reason" in each for each in found), name


def test_the_audit_finds_a_share_without_its_interval() -> None:
    made = Made(outputs=["page.md"], ledgers=[LEDGERS[0]])
    page = made.text("page.md")
    (row,) = trained(LEDGERS[0]).values()
    assert row.ceiling_share is not None
    cell = f"{100 * row.ceiling_share.value:.0f} %"
    line = next(line for line in page.splitlines() if line.startswith("| ") and f"| {cell} (" in line)
    start = line.index(f"| {cell} (") + len(f"| {cell}")
    bare = line[:start] + line[line.index(")", start) + 1 :]
    assert any("of peak" in each for each in made.findings({"page.md": page.replace(line, bare, 1)}))


def test_a_share_without_an_interval_is_the_achieved_rate_over_the_peak_beside_it() -> None:
    """One process of training, three of the product: the rate of one round's product is not the peak that is printed."""
    records = b.repeats(b.cnn_job(), STEPS[:1]) + b.repeats(
        b.gemm_job(2048), product_seconds(2048, (190.0, 140.0, 145.0)), start=1
    )
    row = next(row for row in comparison(b.ledger(records)).rows if row.job.workload == "mnist-cnn")
    assert row.flops_per_second is not None
    assert row.ceiling_flops_per_second is not None
    assert share(row) == pytest.approx(row.flops_per_second.value / row.ceiling_flops_per_second.value)
