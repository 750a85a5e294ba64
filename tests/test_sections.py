"""The page as a value: its claim is true, its sections are those there are records for, its order does not matter."""

from __future__ import annotations

import dataclasses
import random
import re

import builders as b
import pytest
import report_builders

from cnnbench.report import sections, tables
from cnnbench.report.model import Cell, Column, Line, RowGroup, Table
from cnnbench.report.report_files import render_folder

ALL = [
    "lecture",
    "training",
    "why",
    "ladder",
    "sweeps",
    "resources",
    "learning",
    "convergence",
    "noise",
    "doubts",
    "machines",
    "method",
    "files",
]


def keys(page):
    return [section.key for section in page.sections]


def test_every_kind_of_record_has_its_section():
    page = report_builders.page()
    assert keys(page) == ALL
    assert {chart.key for chart in page.charts} == {
        *("speedup", "flops", "speedup-cpu", "roofline", "ladder", "threads", "batches", "memory", "energy"),
        *("learning", "noise"),
    }


def test_a_section_without_records_is_left_out():
    page = report_builders.page([b.ledger(b.repeats(b.gemm_job(), [0.01] * 3))], references=False)
    assert keys(page) == ["why", "noise", "machines", "method", "files"]
    assert page.tables[0].key == "gemm"


def test_the_same_records_in_any_order_give_the_same_files():
    """Shuffled ledgers and records: every text, and the data of every picture, byte by byte."""

    def made(ledgers):
        page = report_builders.page(ledgers)
        files = render_folder(page, static=True)
        return {name: text for name, text in files.items() if not name.endswith((".svg", ".html"))}, page.charts

    ledgers = report_builders.everything()
    shuffled = []
    rng = random.Random(7)
    for ledger in ledgers:
        records = list(ledger.records)
        rng.shuffle(records)
        shuffled.append(dataclasses.replace(ledger, records=tuple(records)))
    rng.shuffle(shuffled)
    assert made(shuffled) == made(ledgers)


class TestClaim:
    """The first sentence: the fastest processor of the published job, its ratio as the table prints it."""

    def test_a_gpu_is_held_against_the_cpu_beside_it_and_the_published_one(self):
        page = report_builders.page()
        text = " ".join(page.headline)
        assert "NVIDIA Testla T9 (cuda:0) trains mnist-cnn" in text
        ratio = (0.05 * 0.051 * 0.052 / (0.0005 * 0.00051 * 0.00052)) ** (1 / 3)
        assert f"{ratio:.0f}x" in text
        assert "Intel i7-4790K" in text

    def test_every_number_of_it_stands_in_a_table(self):
        page = report_builders.page()
        cells = " ".join(
            cell.one_line for table in page.tables for g in table.groups for li in g.lines for cell in li.cells
        )
        for number in re.findall(r"~?\d[\d.,:]*\d(?:x| %)", " ".join(page.headline)):
            assert number in cells

    def test_of_several_runs_on_one_processor_the_one_that_knows_most_speaks_not_the_luckiest(self):
        lucky = b.repeats(b.cnn_job(blocks=10), [0.05, 0.05, 0.05])
        thorough = b.repeats(b.cnn_job(blocks=40, init="normal-0.01"), [0.08, 0.081, 0.079], start=3)
        page = report_builders.page([b.ledger([*lucky, *thorough])])
        assert "0:57:1" in page.headline[0]  # 0.08 s x 42,900

    @pytest.mark.parametrize(
        ("ledgers", "said"),
        [
            ([], "Nothing was measured here"),
            ([b.ledger([b.record(b.cnn_job(), status="oom")])], "No process ended well: 1 oom"),
            ([b.ledger(b.repeats(b.gemm_job(1000), [0.02] * 3))], "reaches 100.0 GFLOP/s"),
            ([b.ledger([b.record(b.cnn_job(epochs=None, steps_per_epoch=None))])], "takes 10 ms for a training step"),
        ],
    )
    def test_there_is_always_something_true_to_say(self, ledgers, said):
        assert said in report_builders.page(ledgers).headline[0]

    def test_with_one_process_no_interval_is_claimed(self):
        page = report_builders.page([b.ledger([b.record(b.lecture_job(), 0.05)])])
        assert "n=1" in page.headline[0]
        assert "–" not in page.headline[0]


class TestBaseline:
    """Where a baseline is asked for, nothing on the page says that a speed-up is over a CPU."""

    KEY = "gpubox-9f9f/cuda:0"

    def test_headings_claim_chart_and_rule_name_it(self):
        page = report_builders.page(baseline=self.KEY)
        headings = {" ".join(column.title.split()) for table in page.tables for column in table.columns}
        assert f"speed-up over {self.KEY}" in headings
        assert "speed-up over CPU" not in headings
        chart = next(chart for chart in page.charts if chart.key == "speedup-cpu")
        assert self.KEY in chart.title
        assert f"{self.KEY} (NVIDIA Testla T9)" in chart.caption
        assert any(note.text.startswith(f"Speed-up: time of {self.KEY} (NVIDIA Testla T9)") for note in page.notes)
        said = " ".join(page.headline) + " ".join(note.text for note in page.notes if note.kind == "rule")
        assert "CPU b" not in said + chart.title + chart.caption

    def test_the_claim_is_over_it(self):
        page = report_builders.page(baseline="gpubox-9f9f/cpu/8")
        assert "as fast as gpubox-9f9f/cpu/8 (Test CPU 9000, 8 threads)." in page.headline[0]


class TestCost:
    """Price x time of the job; the longest key that fits decides."""

    def rows(self, **request):
        page = report_builders.page(**request)
        table = next(table for table in page.tables if table.key == "cost")
        return {
            (
                line.cells[0].values["machine_id"],
                line.cells[0].values["device"],
                line.cells[0].values["threads"],
            ): line.cells
            for line in table.groups[0].lines
        }

    def test_an_hour_at_two_costs_two(self):
        job = b.cnn_job(epochs=1, steps_per_epoch=429)
        page = report_builders.page(
            [b.ledger(b.repeats(job, [3600 / 429] * 3))], references=False, prices=(sections.Price("", 2.0),)
        )
        cells = page.tables[[table.key for table in page.tables].index("cost")].groups[0].lines[0].cells
        assert cells[4].values["job_cost"] == pytest.approx(2.0)
        assert cells[4].text == "~2"

    def test_the_longest_key_wins_and_rows_without_a_price_say_so(self):
        prices = (sections.Price("gpubox-9f9f", 1.0), sections.Price("gpubox-9f9f/cuda:0", 3.0))
        rows = self.rows(prices=prices)
        assert rows["gpubox-9f9f", "cuda:0", None][3].text == "3"
        assert rows["gpubox-9f9f", "cpu", 8][3].text == "1"
        assert rows[b.MACHINE_ID, "cuda:0", None][3].text == "n/a"

    def test_a_price_is_printed_as_it_was_given(self):
        """Not rounded like a figure: whoever reads the table can multiply it out."""
        rows = self.rows(prices=(sections.Price("", 1234.5678),))
        assert {cells[3].text for cells in rows.values()} == {"1,234.5678"}

    def test_energy_of_the_job_is_watts_times_its_time(self):
        """250 W for a window of 1.02 ms steps, scaled to the job's 42,900."""
        cell = self.rows()[b.MACHINE_ID, "cuda:0", None][2]
        per_step = report_builders.WATTS * 10.0 / round(10.0 / 0.00102)
        assert cell.values["job_energy_joules"] == pytest.approx(per_step * 42_900)


class TestForReaders:
    """What a page leaves out is elsewhere or empty, and is said; the files keep all."""

    def table(self, groups, columns=("processor", "a", "b")):
        made = tuple(Column(name, name, "", 1 if name == "processor" else 2) for name in columns)
        return Table(
            "training", "t", "c", made, tuple(RowGroup(f"g{n}", tuple(lines)) for n, lines in enumerate(groups))
        )

    def test_a_long_group_keeps_its_ends_and_says_how_many_it_has(self):
        lines = [Line((Cell(str(n)), Cell("1"), Cell("2"))) for n in range(1000)]
        thin = tables.abridge(self.table([lines]), 50)
        texts = [line.cells[0].text for line in thin.groups[0].lines]
        assert (texts[0], texts[-1], len(texts)) == ("0", "999", 50)
        assert "50 of 1,000 rows" in thin.groups[0].title

    def test_many_groups_are_cut_and_counted(self):
        groups = [[Line((Cell("x"), Cell("1"), Cell("2")))] for _ in range(500)]
        thin = tables.abridge(self.table(groups), 100)
        assert len(thin.groups) == 100
        assert "400 more groups" in thin.groups[-1].title

    def test_a_short_table_is_left_alone(self):
        table = self.table([[Line((Cell("x"), Cell("1"), Cell("2")))]])
        assert tables.abridge(table, 50) is table

    def test_columns_that_say_nothing_are_named_once(self):
        page = sections.abridge(report_builders.page([b.ledger(b.repeats(b.cnn_job(), [0.02] * 3))]))
        training = next(table for table in page.tables if table.key == "training")
        assert "mfu" not in {column.key for column in training.columns}
        assert re.search(r"n/a in every row: .*MFU", training.clock)


def test_machines_that_differ_are_marked():
    table = next(table for table in report_builders.page().tables if table.key == "machines")
    lines = {line.cells[0].text: [cell.text for cell in line.cells[1:]] for line in table.groups[0].lines}
    assert lines["torch"][-1] == "differs"
    assert lines["Python"][-1] == ""
    assert lines["cores allowed"][:2] == ["16 of 16", "8 of 8"]


def test_many_machines_stand_a_line_each_and_what_they_share_is_said_once():
    ledgers = [
        b.ledger(
            b.repeats(b.cnn_job(), [0.02] * 3),
            run_id=f"r{n}",
            machine=b.machine(f"node-{n:02}", cores_allowed=n % 3 + 1),
        )
        for n in range(9)
    ]
    table = next(table for table in report_builders.page(ledgers).tables if table.key == "machines")
    assert [column.key for column in table.columns] == ["machine", "cores allowed"]
    assert len(table.groups[0].lines) == 9
    assert "torch 2.13.0" in table.groups[0].title


def test_what_a_device_cannot_do_is_said_below_and_what_failed_above():
    """A rung without tensor cores is an answer; a process that crashed could mislead."""
    plain = b.repeats(b.cnn_job(), [0.08] * 3)
    cannot = [b.record(b.cnn_job(precision="tf32", round=n), index=3 + n, status="unsupported") for n in range(3)]
    crashed = [b.record(b.cnn_job(layout="nhwc", round=n), index=6 + n, status="crashed") for n in range(3)]
    page = report_builders.page([b.ledger([*plain, *cannot, *crashed])])
    above = [note.text for note in page.warnings]
    assert len(above) == 1
    assert "nhwc" in above[0]
    assert any(note.kind == "missing" and "tf32: unsupported in rounds 1, 2, 3" in note.text for note in page.notes)
