"""Concurrent copies: the same job everywhere at once, planned apart from solo ones, and the slow device named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builders as b
import pytest
import report_builders
from audit_builders import Made
from click.testing import CliRunner
from concurrent_records import CARDS, SLOW, ledger

from cnnbench.analysis import process_table, speedup
from cnnbench.analysis.ratio import compare_copies
from cnnbench.analysis.rows import Row
from cnnbench.cli.main import cli
from cnnbench.errors import UsageError
from cnnbench.plan.matrix import make_plan
from cnnbench.plan.suite import load_suite
from cnnbench.schema import Job

LEDGER = ledger()


def rows() -> list[Row]:
    processes, _ = process_table.read_processes([LEDGER])
    return list(speedup.compute_speedups(processes).rows)


def test_the_slow_card_is_named_with_its_ratio_to_the_median() -> None:
    """By launch, so that a slow moment of all of them is in both."""
    (row,) = [compare_copies(row) for row in rows() if row.job.copies > 1 and row.job.workload != "gemm"]
    assert (row.job.copies, row.values["slowest_copy"]) == (5, "cuda:3")
    assert row.values["slowest_over_median"].value == pytest.approx(SLOW * 1.003 / 1.002)
    assert row.values["slowest_over_median"].n == 3
    assert row.values["median_copy_seconds"].value == pytest.approx(0.001002 * (1.0 * 1.01 * 1.02) ** (1 / 3))


def test_copies_are_another_row_than_one_alone_and_no_ceiling() -> None:
    plain = next(row for row in rows() if row.job.copies == 1)
    copied = next(row for row in rows() if row.job.copies > 1 and row.job.workload == plain.job.workload)
    assert plain.work_key != copied.work_key
    assert plain.ceiling_flops_per_second is None
    assert compare_copies(plain).values == {**plain.values, "slowest_copy": "n/a"}
    assert copied.images_per_second is not None
    assert copied.images_per_second.value == pytest.approx(128 / (0.001003 * SLOW * (1.0 * 1.01 * 1.02) ** (1 / 3)))


def test_the_table_is_shown_and_the_audit_finds_the_slow_one_again(tmp_path: Path) -> None:
    made = Made(outputs=["page.md", "page.json"], ledgers=[LEDGER])
    assert made.findings() == []
    text = made.text("page.md")
    line = next(line for line in text.splitlines() if "| cuda:3 |" in line)
    assert "1.25x" in line
    wrong = made.findings({"page.md": text.replace("| cuda:3 |", "| cuda:2 |", 1)})
    assert any("slowest copy" in found for found in wrong)
    done = CliRunner().invoke(cli, ["show", str(report_builders.write(tmp_path, [LEDGER])), "--only", "copies"])
    assert done.exit_code == 0
    assert "cuda:3" in done.output


def plan(folder: Path, text: str, copies: str, **options: Any) -> tuple[Job, ...]:
    path = folder / "x.toml"
    path.write_text(f'repeats = 1\n[[job]]\nworkload = "mnist-cnn"\n{text}')
    known = {"devices": (b.CPU,), "data_kind": "mnist", "seed": 1} | options
    return make_plan([load_suite(path)], b.machine(cores_allowed=6, gpus=CARDS), copies=copies, **known)


@pytest.mark.parametrize(
    ("text", "copies", "options", "expected"),
    [
        ("", "all", {}, {("cpu", 6, 1)}),
        ("", "2", {}, {("cpu", 2, 3)}),
        ("", "all", {"threads": 2}, {("cpu", 3, 2)}),
        ("threads = 3\n", "all", {}, {("cpu", 2, 3)}),
        ('world = [1, 2, "all"]\n', "all", {}, {("cpu", 6, 1)}),
        ("", "all", {"devices": CARDS}, {("cuda:0", 5, None)}),
        ("", "3", {"devices": CARDS[1:]}, {("cuda:1", 3, None)}),
    ],
)
def test_a_copy_has_a_card_or_a_group_of_cores(
    tmp_path: Path, text: str, copies: str, options: dict[str, Any], expected: set[tuple[str, int, int | None]]
) -> None:
    jobs = plan(tmp_path, text, copies, **options)
    assert {(job.device, job.copies, job.threads) for job in jobs} == expected


@pytest.mark.parametrize(
    ("text", "copies", "options", "words"),
    [
        ("", "7", {}, "--copies 7: 7 copies on cpu need 7 cores, this process may use 6"),
        ("", "6", {"devices": CARDS}, "6 copies on cuda:0 need as many devices of one name, there are 5"),
        ("", "all", {"devices": CARDS[:1]}, "cuda:0 has room for one copy"),
        ('clock = "job"\nepochs = 1\n', "all", {}, "is timed by the job clock; copies need steady steps"),
    ],
)
def test_copies_that_there_is_no_room_for_are_refused(
    tmp_path: Path, text: str, copies: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        plan(tmp_path, text, copies, **options)


@pytest.mark.parametrize("value", ["1", "0", "some", "-2"])
def test_the_option_takes_a_number_from_two_on_or_all(value: str) -> None:
    done = CliRunner().invoke(cli, ["run", "quick", "--copies", value, "--dry-run"])
    assert done.exit_code == 2
    assert "neither 'all' nor a number from 2 on" in done.output
