"""One screen: what `show`, and `run` at its end, print where nothing else is asked for; and which columns and order a reader asks
for.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import builders as b
import pytest
import report_builders
from click.testing import CliRunner, Result

from cnnbench import store
from cnnbench.cli.audit import Rendered
from cnnbench.cli.read import show
from cnnbench.errors import UsageError
from cnnbench.report.model import Cell, Column, Line, RowGroup, Table
from cnnbench.report.arrangement import arrange_tables
from cnnbench.verify.audit import audit

COMMITTED = Path(__file__).parents[1] / "results"
BOX = b.machine(gpus=[b.GPU])


def call(*arguments: object, width: int = 100) -> Result:
    return CliRunner().invoke(show, list(map(str, arguments)), env={"COLUMNS": str(width)})


def screen(*arguments: object, width: int = 100) -> str:
    result = call(*arguments, width=width)
    assert result.exit_code == 0, result.output
    return result.stdout


def words(text: str) -> str:
    """The text without line ends."""
    return " ".join(text.split())


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """An older run on a CPU and a GPU with whole jobs, and the newest: projected on the CPU at two numbers of threads."""
    whole = [*b.repeats(b.lecture_job(), [0.066] * 3), *b.repeats(b.lecture_job(device="cuda:0"), [0.001] * 3, start=3)]
    b.write(tmp_path, b.ledger(whole, run_id="r1", created_at="2026-03-01T10:00:00+00:00", machine=BOX))
    steady = [*b.repeats(b.cnn_job(), [0.07, 0.071, 0.072]), *b.repeats(b.cnn_job(threads=1), [0.13] * 3, start=3)]
    b.write(tmp_path, b.ledger(steady, run_id="r2", created_at="2026-04-01T11:30:00+00:00", machine=BOX))
    return tmp_path


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_committed_results_are_one_screen(width: int) -> None:
    """At most 40 lines, the table within 100 columns, and none of its columns left out."""
    lines = screen(COMMITTED, width=width).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= width
    assert max(len(line) for line in lines if line.startswith("─")) <= 100
    assert "Left out" not in "\n".join(lines)


@pytest.mark.parametrize("path", sorted(COMMITTED.rglob("*.jsonl")), ids=lambda path: path.stem)
def test_each_committed_run_is_a_screen_with_every_doubt_of_its_rows_by_number(path: Path) -> None:
    if path.parent.name == "reference":
        return
    shown = screen(path)
    assert len(shown.splitlines()) <= 55
    listed = re.findall(r"^- Doubt (\d+): \S", shown, re.MULTILINE)
    table = shown[: shown.index("\nClock: ")]
    used = {n for line in table.splitlines() if (found := re.search(r"  ?([\d,]+)$", line)) for n in found[1].split(",")}
    assert listed == sorted(used, key=int) == [str(n) for n in range(1, len(listed) + 1)]


def test_the_newest_runs_rows_are_shown_and_the_others_counted(results: Path) -> None:
    shown = screen(results)
    assert "Newest run: 2026-04-01 11:30 UTC, testbox-0a1b (r2)" in shown
    table = shown[shown.index("Newest run") :]
    assert table.count("Test CPU") == 3, "two rows, and the baseline's name"
    assert "cuda:0" not in table
    assert "Also measured: 2 rows of 1 older run; resources" in words(shown)
    assert "`cnnbench show --all` prints everything" in words(shown)


def test_the_first_sentence_says_what_how_fast_against_what_and_how_sure(results: Path) -> None:
    """The lecture's job took 6,331 s in 2017: against 0.001 s x 42,900 steps = 42.9 s that is 147.6 times."""
    first = words(screen(results)).partition(" Newest run")[0]
    assert first.startswith("Test GPU") or "cuda:0" in first
    assert "for 100 epochs in" in first
    assert "as fast as the CPU (Test CPU 9000, 2 threads)" in first
    assert "as fast as 2017's Intel i7-4790K by the published time, 1:45:31" in first
    assert "n=3" in first
    assert first.endswith("(run r1).")
