"""The audit finds a fault in what makes a page, though the page is rendered, sealed and stored as any other."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import producer_faults
import pytest
import report_builders
from click.testing import CliRunner, Result
from producer_faults import FAULTS, PRODUCER, Fault

from cnnbench.cli.main import cli
from cnnbench.report.model import Page

PRICES = ("--price-per-hour", "2.5", "--price-per-hour", "gpubox-9f9f=12.34567", "--currency", "USD")


NOT_YET_FOUND = {
    "a column's unit is a thousand times too large",
    "a row is left out",
    "a row is printed twice",
    "a figure is n/a though its records have it",
    "a note gives another reason's number",
}
"""By the rules that read a page's sentences: units of headings, rows that are missing or twice, columns that are n/a throughout
and most notes have none.
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of ledgers by name."""
    root = tmp_path_factory.mktemp("faults")
    for name, ledgers in producer_faults.trees().items():
        report_builders.write(root / name, ledgers)
    return root


def publish_and_audit(ledgers: Path, page: Path) -> Result:
    """Make the page of these ledgers as anybody would, and audit it."""
    made = CliRunner().invoke(cli, ["report", str(ledgers), "-o", str(page), *PRICES])
    assert made.exit_code == 0, made.output
    return CliRunner().invoke(cli, ["audit", str(ledgers), str(page)])


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fault], list[bool]]:
    """Plant a fault in the producer; the list says of each page made whether the fault changed it."""

    def planted(fault: Fault) -> list[bool]:
        module, name = PRODUCER.rsplit(".", 1)
        build, changed = getattr(importlib.import_module(module), name), list[bool]()

        def build_faulty(*given: object, **named: object) -> Page:
            page = build(*given, **named)
            faulty = fault(page)
            changed.append(faulty != page)
            return faulty

        monkeypatch.setattr(PRODUCER, build_faulty)
        return changed

    return planted


@pytest.mark.parametrize("tree", producer_faults.trees())
def test_the_audit_finds_nothing_where_no_fault_is_planted(tree: str, results: Path, tmp_path: Path) -> None:
    found = publish_and_audit(results / tree, tmp_path / "page.html")
    assert (found.exit_code, found.output.count("all agree")) == (0, 1), found.output


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.xfail(strict=True)] * (name in NOT_YET_FOUND)) for name in FAULTS]
)
def test_the_audit_finds_a_fault_in_what_makes_a_page(
    name: str, results: Path, tmp_path: Path, plant: Callable[[Fault], list[bool]]
) -> None:
    tree, fault = FAULTS[name]
    changed = plant(fault)
    found = publish_and_audit(results / tree, tmp_path / "page.html")
    assert all(changed)
    assert changed
    assert found.exit_code == 1, found.output
