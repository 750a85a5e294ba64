"""Tables made of declarations: lines in their groups, figures as cells, words put into headings alone."""

from __future__ import annotations

from typing import NamedTuple

from cnnbench import units
from cnnbench.analysis.stats import Estimate, MedianEstimate
from cnnbench.report.model import Cell, Table
from cnnbench.report.table_builder import TableSpec, build_table, figure, wording


class Run(NamedTuple):
    """A line of these tests."""

    place: str
    share: Estimate | MedianEstimate | None = None


SHARE = figure(
    "share", "of\n{whole}", 1, "share", units.percent, name="share_of_all", estimated=True, details="interval and n"
)
SPEC = TableSpec[Run](
    "runs", "Runs of {whole}", (wording("place", "place", 1, "place"), SHARE), group=lambda run: run.place[0]
)


def build(*runs: Run, **options: object) -> Table:
    return build_table(SPEC, runs, words={"whole": "{all}"}, **options)  # type: ignore[arg-type]


def share_cell(share: Estimate | MedianEstimate | None) -> Cell:
    return build(Run("here", share)).groups[0].lines[0].cells[1]


def test_an_estimate_is_printed_with_its_interval_and_n_and_has_four_raw_values() -> None:
    cell = share_cell(Estimate(0.5, 0.25, 0.75, 4))
    assert cell == Cell(
        "50.00 %",
        {"share_of_all": 0.5, "share_of_all_low": 0.25, "share_of_all_high": 0.75, "share_of_all_n": 4},
        ("25.00–75.00 %", "n=4"),
    )


def test_what_is_unknown_is_na_and_its_raw_values_are_none() -> None:
    """So is a median that is infinite; an interval that ends there says from where on."""
    names = ("share_of_all", "share_of_all_low", "share_of_all_high", "share_of_all_n")
    unknown = Cell(units.NOT_AVAILABLE, dict.fromkeys(names))
    assert share_cell(None) == share_cell(MedianEstimate(None, None, None, 4)) == unknown
    assert share_cell(MedianEstimate(0.5, 0.25, None, 8)).details == ("from 25.00 % on", "n=8")


def test_words_fill_what_is_declared_and_never_what_was_recorded() -> None:
    table = build(Run("{all}"))
    assert (table.title, table.columns[1].title) == ("Runs of {all}", "of\n{all}")
    assert table.groups[0].lines[0].cells[0].text == "{all}"
    recorded = TableSpec[Run]("runs", "Runs of {whole}", (wording("place", "{whole}", 1, "place"),))
    assert build_table(recorded, [Run("here")]).columns[0].title == "{whole}"


def test_lines_of_equal_titles_are_one_group_in_the_order_they_come() -> None:
    table = build(Run("north"), Run("south"), Run("near"))
    assert [(group.title, [line.cells[0].text for line in group.lines]) for group in table.groups] == [
        ("n", ["north", "near"]),
        ("s", ["south"]),
    ]


def test_a_hidden_column_is_left_out_with_its_cells() -> None:
    table = build(Run("here"), hidden=("share",))
    assert [column.key for column in table.columns] == ["place"]
    assert [len(line.cells) for group in table.groups for line in group.lines] == [1]
