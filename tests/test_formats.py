"""No format loses a figure, and each keeps its own promises."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from typing import get_args

import builders as b
import pytest
from format_readers import github, read_latex, seen
from table_builders import a_bit_of_everything, lines_of, report

from cnnbench.cli.read import show
from cnnbench.report.render import text
from cnnbench.schema import Device

READERS = {
    "table": str,
    "markdown": lambda page: seen(github(page)),
    "latex": lambda page: re.sub(r"\\[a-z]+", " ", read_latex(page, strict=False)),
    "csv": lambda page: " ".join(cell for row in csv.reader(io.StringIO(page)) for cell in row),
    "json": lambda page: page.replace('\\"', '"'),
}
"""What somebody sees who reads the format: `text.Format`, each with its reader."""
FORMATS = tuple(READERS)
PUNCTUATION = str.maketrans(dict.fromkeys('(){}[];,:"', " "))
"""What stands between words: a format may set a cell's parts apart by brackets, columns or lines."""


@pytest.mark.parametrize("form", FORMATS)
def test_shuffling_the_records_leaves_every_format_byte_identical(form):
    run, other = a_bit_of_everything(), b.ledger(b.repeats(b.cnn_job(threads=2), [0.1] * 3), run_id="r2")
    expected = text.render(report(run, other, with_references=True), form, width=100)
    rng = random.Random(0)
    for _ in range(3):
        shuffled = b.Ledger(run.path, run.header, tuple(rng.sample(run.records, len(run.records))))
        assert text.render(report(other, shuffled, with_references=True), form, width=100) == expected


@pytest.mark.parametrize("form", FORMATS)
def test_every_figure_shown_stands_in_every_format(form):
    """What a reader of the format sees has each word of each cell, with its interval, its n and what else is beside it."""
    found = report(a_bit_of_everything(), with_references=True)
    seen = set(READERS[form](text.render(found, form)).translate(PUNCTUATION).split())
    assert [table.key for table in found.tables] == ["training", "resources", "bounds", "gemm"]
    cells = [cell for table in found.tables for line in lines_of(found, table.key) for cell in line.values()]
    said = [part for cell in cells for part in (cell.text, *cell.details)]
    assert sum(any(map(str.isdigit, part)) for part in said) > 100
    for part in (*said, *(group.title for table in found.tables for group in table.groups)):
        assert set(part.translate(PUNCTUATION).split()) <= seen
    for note in found.notes:
        assert set(note.text.translate(PUNCTUATION).split()) <= seen


@pytest.mark.parametrize("form", FORMATS)
def test_every_table_prints_its_clock_rule(form):
    found = report(a_bit_of_everything())
    seen = " ".join(READERS[form](text.render(found, form)).split())
    assert all(table.clock in seen for table in found.tables)


@pytest.mark.parametrize("form", FORMATS)
def test_synthetic_digits_are_said_loudly(form):
    assert "SYNTHETIC" in text.render(report(a_bit_of_everything("synthetic")), form)
    assert "SYNTHETIC" not in text.render(report(a_bit_of_everything()), form)


@pytest.mark.parametrize("form", FORMATS)
def test_a_torn_line_is_said(form):
    assert "torn last line" in text.render(
        report(a_bit_of_everything(), problems=["run.jsonl:9: torn last line"]), form
    )


def test_color_changes_no_letter():
    found = report(a_bit_of_everything(), with_references=True)
    colored = text.render(found, "table", width=100, color=True)
    assert "\x1b[" in colored
    plain = re.sub(r"\x1b\[[0-9;]*m", "", colored)
    assert [line.rstrip() for line in plain.splitlines()] == text.render(found, "table", width=100).splitlines()


def test_no_color_is_honoured(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    colored = text.render(report(a_bit_of_everything(), with_references=True), "table", width=100, color=True)
    assert "\x1b[31m" not in colored
    assert "\x1b[36m" not in colored


def test_these_are_all_formats():
    assert set(FORMATS) == set(get_args(text.Format))
    (option,) = (each for each in show.params if each.name == "format_")
    assert set(FORMATS) == set(option.type.choices)


def test_json_parses_carries_units_in_its_keys_and_holds_no_nan():
    def refuse(name):
        raise AssertionError(name)

    document = json.loads(
        text.render(report(a_bit_of_everything(), with_references=True), "json"), parse_constant=refuse
    )
    rows = document["tables"][0]["rows"]
    gpu = next(row for row in rows if row.get("device") == "cuda:0" and row["precision"] == "fp32")
    assert gpu["job_seconds_low"] < gpu["job_seconds"] < gpu["job_seconds_high"]
    assert gpu["achieved_flops_per_second"] == pytest.approx(128 * 51_972_732 * 42_900 / gpu["job_seconds"])
    assert gpu["peak_origin"] == "4 x 5; a datasheet"
    assert gpu["baseline"] == "Test CPU 9000, 8 threads"
    assert rows[0]["year"] == 2017


def test_csv_has_one_line_a_row_and_raw_seconds():
    found = report(a_bit_of_everything(), with_references=True)
    rows = list(csv.DictReader(io.StringIO(text.render(found, "csv"))))
    assert len(rows) == sum(len(lines_of(found, table)) for table in ("training", "resources", "bounds", "gemm"))
    assert [float(row["job_seconds"]) for row in rows[:3] if row["job_seconds"]] == [6331.0, 1324.0]
    assert all(row["clock_rule"] for row in rows)


def test_markdown_rows_have_a_cell_a_column():
    lines = text.render(report(a_bit_of_everything(), with_references=True), "markdown").splitlines()
    counts = {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}
    assert counts == {16, 9, 11}


def test_markdown_cannot_be_broken_by_a_name():
    """A device called `a|b*c` stays one cell."""
    odd = Device(id="cpu", kind="cpu", name="a|b*c")
    run = b.ledger(b.repeats(b.cnn_job(), [0.01] * 3), machine=b.machine().model_copy(update={"devices": (odd,)}))
    line = next(line for line in text.render(report(run), "markdown").splitlines() if "fp32" in line)
    assert "a\\|b\\*c" in line


def test_nothing_to_show_is_an_empty_report():
    assert report().tables == ()
    for form in ("table", "markdown"):
        assert text.render(report(), form).strip() == ""
