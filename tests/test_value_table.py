"""Reports of values that no ledger holds: their tables by columns, their own JSON, and no digest to be audited by."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from cnnbench import __version__, units
from cnnbench.report.model import Cell, Note, Report
from cnnbench.report.render import markdown, text
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure, wording


@dataclass(frozen=True)
class Fruit:
    name: str
    seeds: int


FRUIT_TABLE = TableSpec[Fruit](
    "fruits",
    "Fruits",
    (
        wording("name", "name of\nthe fruit", 1, "name"),
        figure("seeds", "seeds", 2, "seeds", units.count, unit="each"),
        ColumnSpec("half", "half", 3, lambda fruit: Cell(str(fruit.seeds / 2), details=("of them",))),
    ),
    "none",
)
FRUITS = [("soft", [Fruit("fig", 1500), Fruit("a|b", 0)]), ("hard", [Fruit("nut", 1)])]


def report(**options: object) -> Report:
    table = build_table(FRUIT_TABLE, groups=FRUITS)
    return Report((table,), (Note("rule", "Ripe ones."),), **options)  # type: ignore[arg-type]


def test_each_value_is_a_line_under_its_groups_title_and_each_column_a_cell() -> None:
    (table,) = report().tables
    assert [(title, [cell.text for cell in line.cells]) for title, line in table.lines] == [
        ("soft", ["fig", "1,500", "750.0"]),
        ("soft", ["a|b", "0", "0.0"]),
        ("hard", ["nut", "1", "0.5"]),
    ]
    assert [column.one_line for column in table.columns] == ["name of the fruit", "seeds", "half"]
    assert [column.heading for column in table.columns] == [("name of", "the fruit"), ("seeds", "each"), ("half",)]


def test_a_report_with_a_document_prints_it_as_json_behind_the_version() -> None:
    found = text.render(report(document={"fruits": [1, None]}), "json")
    assert json.loads(found) == {"cnnbench": __version__, "fruits": [1, None]}
    assert list(json.loads(text.render(report(), "json"))) == ["cnnbench", "tables", "notes"]


def test_only_what_is_made_of_ledgers_ends_in_a_digest() -> None:
    with_document = text.render(report(document={}), "markdown")
    assert markdown.PAGE_DIGEST not in with_document
    assert text.render(report(), "markdown") == markdown.seal(with_document)


def test_the_grid_is_the_same_where_it_is_drawn_alone() -> None:
    grid = list(markdown.draw_grid([["name", "n"], ["fig", "1"]], ["left", "right"]))
    assert grid == ["| name | n |", "| --- | ---: |", "| fig | 1 |"]
    assert "| a\\|b | 0 | 0.0 (of them) |" in text.render(report(), "markdown")


@pytest.mark.parametrize("others", ["markdown or json", "markdown, latex, csv or json"])
def test_a_narrow_terminal_names_the_formats_that_the_command_has(others: str) -> None:
    found = " ".join(text.render(report(other_formats=others), "table", width=20).split())
    assert f"so does --format {others}." in found
