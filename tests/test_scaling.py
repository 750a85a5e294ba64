"""Scaling: speed is images a second over one process's, efficiency is that over the processors used; the audit agrees."""

from __future__ import annotations

import json
import random

import builders as b
import pytest
import report_builders
import scaling_records
from audit_builders import Made, resealed
from click.testing import CliRunner

from cnnbench.analysis import metrics, process_table, speedup, stats
from cnnbench.analysis.ratio import ScalingSet, find_scaling_sets
from cnnbench.analysis.rows import Row
from cnnbench.cli.main import cli
from cnnbench.machine.peaks import Peak
from cnnbench.report import tables
from cnnbench.report.model import Table
from cnnbench.store import Ledger

LEDGER = scaling_records.ledger()


def rows_of(*ledgers: Ledger) -> tuple[Row, ...]:
    processes, _ = process_table.read_processes(ledgers)
    return speedup.compute_speedups(processes).rows


ROWS = rows_of(LEDGER)


def on(device: str, kind: str) -> ScalingSet:
    (found,) = [each for each in find_scaling_sets(ROWS) if (each.points[0].job.device, each.scaling) == (device, kind)]
    return found


def table() -> Table:
    processes, _ = process_table.read_processes([LEDGER])
    (found,) = tables.build(speedup.compute_speedups(processes), only="scaling").tables
    return found


def test_a_set_holds_one_process_at_every_thread_count_and_the_ranks() -> None:
    """Fewest processors first; strong and weak apart, each with the rows of one process."""
    told = [[(s.job.world, s.job.threads) for s in on("cpu", kind).points] for kind in ("strong", "weak")]
    assert told == [[(1, 1), (1, 2), (2, 1)]] * 2
    assert [step.job.world for step in on("cuda:0", "strong").points] == [1, 2, 4]
    assert [step.job.world for step in on("cuda:0", "weak").points] == [1, 4]


def test_strong_scaling_is_the_ratio_of_step_times_by_round() -> None:
    one, threads, ranks = on("cpu", "strong").points
    assert one.values["scaling_speedup"] is not None
    assert ranks.values["scaling_speedup"] is not None
    assert threads.values["scaling_efficiency"] is not None
    assert one.values["scaling_speedup"].value == pytest.approx(1.0)
    expected = stats.paired_ratio(one.costs, ranks.costs)
    assert ranks.values["scaling_speedup"] == expected
    assert ranks.values["scaling_efficiency"] is not None
    assert ranks.values["scaling_efficiency"].value == pytest.approx(ranks.values["scaling_speedup"].value / 2)
    assert ranks.values["scaling_efficiency"].low == pytest.approx((ranks.values["scaling_speedup"].low or 0) / 2)
    assert threads.values["scaling_efficiency"].value == pytest.approx(
        (0.160 * 0.161 * 0.162 / (0.090 * 0.0905 * 0.091)) ** (1 / 3) / 2
    )


def test_weak_scaling_counts_the_images_of_all_ranks() -> None:
    """Four times the images in a quarter more time are 3.2 times the speed, efficiency 0.8."""
    last = on("cuda:0", "weak").points[-1]
    assert last.values["scaling_speedup"] is not None
    assert last.values["scaling_efficiency"] is not None
    assert last.values["scaling_speedup"].value == pytest.approx(
        4 * (0.001 * 0.00101 * 0.00102 / (0.00125 * 0.00126 * 0.00127)) ** (1 / 3)
    )
    assert last.values["scaling_efficiency"].value == pytest.approx(last.values["scaling_speedup"].value / 4)
    images = last.images_per_second
    assert images is not None
    assert images.value == pytest.approx(512 / (0.00125 * 0.00126 * 0.00127) ** (1 / 3))


def test_what_failed_stands_in_its_place_without_a_figure() -> None:
    lost = on("cuda:0", "strong").points[-1]
    assert (lost.values["scaling_speedup"], lost.values["scaling_efficiency"]) == (None, None)
    text = json.dumps([[cell.one_line for cell in line.cells] for group in table().groups for line in group.lines])
    assert "crashed 1 of 1" in text


def test_an_ideal_job_is_fully_efficient_and_without_one_process_there_is_no_figure() -> None:
    jobs = [b.cnn_job(**scaling_records.PLAIN, threads=1, world=w, scaling="strong" if w > 1 else None) for w in (1, 2)]
    records = [
        each for n, job in enumerate(jobs) for each in scaling_records.repeats(job, [0.1 / job.world] * 3, 3 * n)
    ]
    (found,) = [each for each in find_scaling_sets(rows_of(b.ledger(records))) if each.scaling == "strong"]
    assert [
        step.values["scaling_efficiency"].value for step in found.points if step.values["scaling_efficiency"]
    ] == pytest.approx([1.0, 1.0])
    (alone,) = find_scaling_sets(
        rows_of(b.ledger([each.model_copy(update={"index": n}) for n, each in enumerate(records[3:])]))
    )
    assert [step.values["scaling_speedup"] for step in alone.points] == [None]


def test_the_order_of_the_records_changes_nothing() -> None:
    rows = list(ROWS)
    random.Random(1).shuffle(rows)
    assert find_scaling_sets(rows) == find_scaling_sets(ROWS)


def test_the_exchange_is_the_share_of_a_step_that_goes_without_it() -> None:
    """A tenth here; where noise makes a step without it the slower one, nothing rather than less than nothing."""
    ranks = on("cpu", "strong").points[-1]
    found = metrics.exchange_share(ranks.exchange_ratio)
    assert found is not None
    assert found.value == pytest.approx(0.1)
    slower = stats.geometric([0.98, 0.99, 0.985])
    assert metrics.exchange_share(slower) == stats.Estimate(0.0, 0.0, 0.0, 3)


def test_flops_and_peaks_are_of_all_devices_and_no_speed_up_over_a_cpu_is_claimed() -> None:
    """Two ranks of one thread are held against products of two threads; four GPUs against four peaks."""
    processes, _ = process_table.read_processes([LEDGER])
    rows = speedup.compute_speedups(processes, peak_of=lambda device, machine, precision: Peak(1e12)).rows
    kept = [row for row in rows if row.job.workload != "gemm" and row.job.scaling != "weak"]
    by_world = {(row.job.device, row.job.world, row.job.threads): row for row in kept}
    ranks, threads = by_world["cpu", 2, 1], by_world["cpu", 1, 2]
    assert ranks.ceiling_flops_per_second == threads.ceiling_flops_per_second is not None
    assert ranks.peak_flops_per_second == threads.peak_flops_per_second == 1e12
    assert by_world["cuda:0", 2, None].peak_flops_per_second == 2e12
    assert threads.speedup is not None
    assert ranks.speedup is None
    assert "several processes" in ranks.missing["speedup"]
    assert ranks.bottleneck is None


def test_show_prints_the_table_and_the_audit_derives_every_figure_again() -> None:
    """On a page, in a document and in files of values; a changed digit is found."""
    made = Made(outputs=["page.html", "page.md", "page.csv", "page.json"], ledgers=[LEDGER])
    assert made.findings() == []
    text = made.text("page.md")
    line = next(line for line in text.splitlines() if "2 ranks" in line and "| strong |" in line and "cpu" in line)
    efficiency = line.split("|")[6].strip()
    assert efficiency.startswith("84.")
    changed = text.replace(efficiency, efficiency.replace("84.", "94.", 1), 1)
    assert any("efficiency" in found for found in made.findings({"page.md": changed}))


def test_show_has_it_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    results = report_builders.write(tmp_path_factory.mktemp("scaling"), [LEDGER])
    done = CliRunner().invoke(cli, ["show", str(results), "--only", "scaling", "--format", "markdown"])
    assert done.exit_code == 0, done.output
    assert "Scaling: one job on more than one device" in done.output
    assert "weak: mnist-cnn v1 · 128 per rank" in done.output


def test_the_chart_has_a_line_a_kind_of_scaling_and_the_audit_knows_each_point() -> None:
    """Ranks strong and weak, threads of one process, all over the same process; dashed: as fast as there are processors."""
    (chart,) = [each for each in report_builders.page([LEDGER], references=False).charts if each.key == "scaling"]
    series = {str(datum["series"]) for datum in chart.data}
    assert {name.split(", ")[2] for name in series} == {"strong", "weak", "one process"}
    for name in series:
        first, *others = [datum for datum in chart.data if datum["series"] == name]
        assert first["ideal"] == first["scaling_speedup"] == pytest.approx(1.0)
        assert others
        for each in others:
            assert each["ideal"] == pytest.approx(first["ideal"] * each["varied"] / first["varied"])  # type: ignore[operator]


def test_a_point_of_the_chart_that_is_moved_is_found() -> None:
    made = Made(outputs=["page.html"], ledgers=[LEDGER])
    text = made.text("page.html")
    start = text.index('{"chart":"scaling"')
    place = text.index('"ideal":', start) + len('"ideal":')
    moved = resealed(f"{text[:place]}9{text[place:]}")
    assert any("is not what these ledgers give" in found for found in made.findings({"page.html": moved}))
