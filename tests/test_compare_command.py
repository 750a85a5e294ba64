"""The command `compare`: how a side is named, choices, failures, and what it must not import."""

from __future__ import annotations

import json
import subprocess
import sys

import builders as b
import pytest
from click.testing import CliRunner
from side_builders import LECTURE, compared, new_run, old_run

from cnnbench import store
from cnnbench.cli.load_results import load_sides
from cnnbench.cli.main import run_cli
from cnnbench.cli.read import compare
from cnnbench.errors import ExitCode, UsageError


@pytest.fixture
def results(tmp_path):
    """Two runs of one machine and one of another."""
    b.write(tmp_path, old_run())
    b.write(tmp_path, new_run())
    elsewhere = b.machine("boxer-2c3d", cpu_name="Another CPU")
    b.write(tmp_path, b.ledger(b.repeats(b.cnn_job(), [0.03] * 3), run_id="20260201T120000Z-else", machine=elsewhere))
    return tmp_path


def call(results, *arguments, **environment):
    command = [*map(str, arguments), "--results", str(results)]
    return CliRunner().invoke(compare, command, env={"COLUMNS": "120", **environment})


def as_json(results, *arguments):
    result = call(results, *arguments, "--format", "json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("20260301T120000Z-old1", {"20260301T120000Z-old1"}),
        ("20260401", {"20260401T120000Z-new1"}),
        ("boxer", {"20260201T120000Z-else"}),
        ("box-0a1b", {"20260301T120000Z-old1", "20260401T120000Z-new1"}),
    ],
)
def test_a_machine_or_a_run_is_named_by_its_id_or_its_beginning(results, name, runs):
    rows = compared(as_json(results, name, name))
    assert {row["base_run_id"] for row in rows} == {row["new_run_id"] for row in rows} == runs


@pytest.mark.parametrize(
    ("key", "places"),
    [
        ("box-0a1b/cpu/2", {("cpu", 2)}),
        ("box-/cpu", {("cpu", 2), ("cpu", 8)}),
        ("box-0a1b/cuda:0", {("cuda:0", None)}),
    ],
)
def test_a_key_is_a_machine_a_device_and_perhaps_its_threads(results, key, places):
    (source,) = load_sides([key], results)
    assert {(row.machine.id, row.job.device, row.job.threads) for row in source.side.rows} == {
        ("box-0a1b", *place) for place in places
    }


def test_a_path_is_a_ledger_or_a_folder_and_comes_before_a_name(results, monkeypatch):
    old = results / "box-0a1b" / "20260301T120000Z-old1.jsonl"
    assert {row["base_run_id"] for row in compared(as_json(results, old, results / "boxer-2c3d"))} == {old.stem}
    monkeypatch.chdir(results)
    assert call("nosuch", "box-0a1b", "boxer-2c3d").exit_code == 0


def test_the_default_place_is_the_environments_then_here(results, tmp_path_factory, monkeypatch):
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(empty)
    names = ["20260301", "20260401"]
    assert CliRunner().invoke(compare, names, env={"CNNBENCH_RESULTS": str(results)}).exit_code == 0
    (empty / "results").symlink_to(results)
    assert CliRunner().invoke(compare, names).exit_code == 0


def test_all_wrong_names_come_in_one_error_with_those_there_are(results):
    """`box` is the beginning of two machines, `2026` of every run."""
    error = call(results, "nosuch", "box/cuda:0").exception
    assert isinstance(error, UsageError)
    assert error.exit_code == ExitCode.USAGE
    message = str(error)
    for part in (
        "nosuch: no such",
        "box/cuda:0: ambiguous",
        "box-0a1b, boxer-2c3d",
        "box-0a1b/cpu/2",
        "-else",
        "reference",
    ):
        assert part in message
    assert "ambiguous" in str(call(results, "2026", "boxer").exception)
    assert "no such device" in str(call(results, "boxer/cuda:0", "boxer").exception)
    assert "no such device" in str(call(results, "boxer/cpu/3", "boxer").exception)
    assert isinstance(call(results, "", "boxer").exception, UsageError)


def test_a_place_without_results_is_said(results, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    assert "no results" in str(call(results, empty, "boxer").exception)
    assert isinstance(call(empty, "box", "boxer").exception, UsageError)


@pytest.mark.parametrize(("said", "share"), [("5%", 0.05), ("0.05", 0.05), ("2.5 %", 0.025), ("0", 0.0)])
def test_a_tolerance_is_a_share(results, said, share):
    rows = compared(as_json(results, "20260301", "20260401", "--tolerance", said))
    assert [row["tolerance"] for row in rows] == pytest.approx([share] * len(rows))


@pytest.mark.parametrize("said", ["5", "-1%", "100%", "much", "nan"])
def test_another_tolerance_is_refused(results, said):
    result = call(results, "20260301", "20260401", "--tolerance", said)
    assert result.exit_code == 2
    assert "write 5% or 0.05" in result.output


def test_a_side_may_be_the_published_rows_by_path_or_name(results):
    b.write(results, b.ledger(b.repeats(b.lecture_job(), [0.01] * 3), run_id="r9", machine=b.machine("lecturer")))
    by_path, by_name = (as_json(results, name, "lecturer") for name in (store.find_published_dir(), "reference"))
    assert [row["ratio"] for row in compared(by_path)] == [row["ratio"] for row in compared(by_name)]
    forward = {row["base_processor"]: row["ratio"] for row in compared(by_name)}
    backward = {row["new_processor"]: row["ratio"] for row in compared(as_json(results, "lecturer", "reference"))}
    assert forward["Intel i7-4790K"] == pytest.approx(6331 / 429)
    assert {name: 1 / ratio for name, ratio in backward.items()} == pytest.approx(forward)


def test_the_exit_code_is_0_for_any_verdict_and_3_where_nothing_can_be_divided(results, capsys):
    assert run_cli(["compare", "20260401", "20260301", "--results", str(results)]) == ExitCode.DONE
    assert "SLOWER" in capsys.readouterr().out
    assert run_cli(["compare", "reference", "reference"]) == ExitCode.UNFIT
    assert run_cli(["compare", "nosuch", "boxer", "--results", str(results)]) == ExitCode.USAGE


def test_published_rows_beside_measured_ones_are_said_to_take_no_part(results):
    (results / "reference").mkdir()
    shipped = store.find_published_dir() / "lecture-2017.jsonl"
    (results / "reference" / shipped.name).write_text(shipped.read_text())
    notes = as_json(results, results, "boxer")["notes"]
    assert any("5 published rows of base are left out" in note["text"] for note in notes)


def test_a_torn_line_is_said_of_the_side_that_has_it(results):
    torn = results / "box-0a1b" / "20260301T120000Z-old1.jsonl"
    torn.open("a").write('{"kind": "rec')
    assert "torn last line" in " ".join(call(results, "20260301", "20260401").output.split())
    assert "torn last line" not in call(results, "20260401", "boxer").output


def test_output_goes_to_a_file_whole(results, tmp_path):
    target = tmp_path / "page.md"
    result = call(results, "20260301", "20260401", "--format", "markdown", "-o", target)
    assert (result.exit_code, result.stdout) == (0, "")
    assert target.read_text().startswith("## Comparison: 20260301 (base) and 20260401 (new)")


def test_a_page_of_it_passes_the_audit(results, tmp_path):
    """The ledgers' digests and the page's own hold; its figures are of two rows each and none of the audit's."""
    from cnnbench.cli.audit import Rendered
    from cnnbench.verify import audit

    page = tmp_path / "page.md"
    call(results, "20260301", "20260401", "--format", "markdown", "-o", page)
    assert "sha256:" in page.read_text()
    found = audit([results, page], LECTURE, Rendered).disagreements
    assert [each for each in found if str(page) in each.where] == []


def test_comparing_needs_no_torch_and_no_pandas(results):
    code = (
        "import sys\n"
        "from cnnbench.cli import load_results, read\n"
        "assert not {'torch', 'pandas', 'scipy', 'rich'} & set(sys.modules)\n"
        "from pathlib import Path\n"
        "read.compare_sides(*load_results.load_sides(('20260301', '20260401'), Path(sys.argv[1])), 0.05)\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(results)], check=True)
