"""The audit finds one changed digit anywhere, one changed or missing line, and nothing where all is well."""

from __future__ import annotations

import json
import re
from pathlib import Path

import builders as b
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cnnbench import store, units
from cnnbench.cli.load_results import Selection
from cnnbench.cli.main import cli
from cnnbench.cli.read import make_report
from cnnbench.errors import UsageError
from cnnbench.report.render import text
from cnnbench.store import find_published_dir, load_tree
from cnnbench.verify import audit, dispatch, number_parser, pages
from cnnbench.verify.dispatch import Evidence

REFERENCES = load_tree([find_published_dir() / "lecture-2017.jsonl"]).published_rows
FLOORS = {"launch_seconds": 2.5e-6, "copy_bytes_per_second": 4.1e10, "draw_seconds": 3.1e-6}


def tree(directory: Path) -> Path:
    """A results tree and a page made of it: CPU and GPU, projected and whole jobs, GEMMs, one failure."""
    gpu = b.machine(gpus=[b.GPU])
    measured = {"floors": FLOORS, "operators_per_step": 85}
    runs = [
        [
            *b.repeats(b.cnn_job(), [0.0671, 0.0684, 0.0702], **measured),
            *b.repeats(b.cnn_job(device="cuda:0"), [0.00102, 0.00107, 0.00101], start=3, **measured),
            *b.repeats(b.gemm_job(2048), [0.0913, 0.0955, 0.0921], start=6),
            b.record(b.gemm_job(4096), index=9, status="oom"),
        ],
        [b.record(b.lecture_job(), 0.0655, **measured)],
    ]
    results = directory / "results"
    for number, records in enumerate(runs):
        created = f"2026-03-0{number + 1}T12:00:00Z"
        b.write(results, b.ledger(records, run_id=f"2026030{number + 1}T120000Z-0001", created_at=created, machine=gpu))
    page = directory / "table.md"
    page.write_text(text.render(make_report(Selection(paths=(results,)), with_lecture=True), "markdown"))
    return page


def findings(page: Path) -> list[str]:
    found = audit([page.parent / "results", page], REFERENCES)
    return [f"{each.where}: {each.what}" for each in found.disagreements]


def test_what_was_printed_from_the_records_agrees_with_them(tmp_path: Path) -> None:
    """Every table, the lecture's rows included."""
    page = tree(tmp_path)
    assert findings(page) == []
    result = audit([tmp_path], REFERENCES)
    assert result.ledgers == 2
    assert result.records == 11
    assert result.cells > 100


def test_one_digit_changed_anywhere_on_the_page_is_named(tmp_path: Path) -> None:
    """Every digit of the tables, headings and names included, without the page's own digest to help; then of the
    rest with it.
    """
    page = tree(tmp_path)
    evidence = Evidence(store.load_tree([tmp_path / "results"]).ledgers, REFERENCES)
    whole = page.read_text()
    bare = re.sub(r"\n<!-- cnnbench page sha256:.*", "\n", whole)
    assert dispatch.check_documents({page: bare}, evidence).disagreements == []
    missed = []
    for found in re.finditer(r"\d", bare):
        line = bare[bare.rfind("\n", 0, found.start()) + 1 : bare.find("\n", found.start())]
        other = str((int(found.group()) + 3) % 10)
        text_ = bare[: found.start()] + other + bare[found.end() :]
        if line.startswith("| ") and not dispatch.check_documents({page: text_}, evidence).disagreements:
            missed.append((bare[found.start() - 20 : found.start()], found.group(), other))
    assert missed == []
    for found in list(re.finditer(r"\d", whole))[::7]:
        text_ = whole[: found.start()] + str((int(found.group()) + 1) % 10) + whole[found.end() :]
        assert dispatch.check_documents({page: text_}, evidence).disagreements, whole[found.start() - 20 : found.end()]


@pytest.mark.parametrize("line", [0, 1, 5, -1])
def test_one_digit_changed_in_a_ledger_is_named(tmp_path: Path, line: int) -> None:
    page = tree(tmp_path)
    path = sorted((tmp_path / "results").rglob("*.jsonl"))[0]
    lines = path.read_text().splitlines()
    place = re.search(r"\d(?=\d*,\"|\.)", lines[line])
    assert place is not None
    lines[line] = lines[line][: place.start()] + str((int(place.group()) + 1) % 10) + lines[line][place.end() :]
    path.write_text("\n".join(lines) + "\n")
    assert findings(page)


def test_a_missing_last_line_is_named_twice(tmp_path: Path) -> None:
    """The plan misses a record, and the page names another final digest."""
    page = tree(tmp_path)
    path = sorted((tmp_path / "results").rglob("*.jsonl"))[0]
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    found = findings(page)
    assert any("1 have no record" in each for each in found)
    assert any("lines were changed, added or removed" in each for each in found)


def test_rounds_that_share_a_seed_and_a_gemm_above_its_peak_are_named(tmp_path: Path) -> None:
    h200 = b.GPU.model_copy(update={"name": "NVIDIA H200", "max_clock_hertz": 1.98e9, "multiprocessors": 132})
    job = b.gemm_job(8192, device="cuda:0")
    records = [b.record(job, 1e-3, index=0), b.record(job.model_copy(update={"round": 1}), 0.1, index=1)]
    b.write(tmp_path, b.ledger(records, machine=b.machine(gpus=[h200])))
    found = [each.what for each in audit([tmp_path], ()).disagreements]
    assert any("physics gate" in what for what in found)
    assert any("share seed 0" in what for what in found)


def test_a_row_nobody_measured_is_named(tmp_path: Path) -> None:
    page = tree(tmp_path)
    page.write_text(page.read_text().replace("Test CPU 9000", "Best CPU 9001"))
    assert any("no raw record is a row" in each for each in findings(page))


def test_html_tables_are_read_like_markdown(tmp_path: Path) -> None:
    page = tree(tmp_path)
    table = next(pages.read_tables(page.read_text()))
    cells = "".join(f"<td>{cell}</td>" for cell in table.rows[0].cells)
    heads = "".join(f"<th>{heading}</th>" for heading in table.headings)
    html = tmp_path / "table.html"
    html.write_text(f"<table>\n<tr>{heads}</tr>\n<tr>{cells}</tr>\n</table>")
    assert audit([tmp_path / "results", html], REFERENCES).disagreements == ()
    html.write_text(html.read_text().replace("1:45:31", "1:45:32"))
    (only,) = audit([tmp_path / "results", html], REFERENCES).disagreements
    assert "time of the job" in only.what


@pytest.mark.parametrize(
    ("kind", "text_", "value", "low", "high", "n"),
    [
        ("duration", "~0:48:27 (0:47:06–0:49:50; projected, n=3)", 2907, 2826, 2990, 3),
        ("duration", "0:00:43.2 (0:00:41.6–44.8; projected, n=3)", 43.2, 41.6, 44.8, 3),
        ("ratio", "72.77x (70.08–75.55x; n=3)", 72.77, 70.08, 75.55, 3),
        ("percent", "95.89 % (95.20–96.59 %; after 150 steps)", 0.9589, 0.9520, 0.9659, None),
        ("giga", "66,908", 66_908e9, None, None, None),
        ("size", "1.5 GiB", 1.5 * 2**30, None, None, None),
        ("time", "215 us (allows 315x)", 215e-6, None, None, None),
        ("ratio", "43,442x (41,007–46,021x; n=3)", 43_442, 41_007, 46_021, 3),
        ("ratio", "1,027x (998–1,056x; n=3)", 1027, 998, 1056, 3),
        ("number", "~1.235e+04 (1.2e+04–1.3e+04; n=3)", 12350, 12000, 13000, 3),
    ],
)
def test_cells_are_read_back(kind: str, text_: str, value: float, low: float, high: float, n: int) -> None:
    cell = number_parser.parse_cell(kind, text_)  # type: ignore[arg-type]
    assert cell.number is not None
    assert cell.number.value == pytest.approx(value)
    assert (cell.low.value if cell.low else None) == pytest.approx(low)
    assert (cell.high.value if cell.high else None) == pytest.approx(high)
    assert cell.n == n
    assert cell.marked == text_.startswith("~")
    assert number_parser.parse_cell(kind, "n/a").number is None  # type: ignore[arg-type]


@given(st.floats(1e-4, 1e7))
def test_a_printed_ratio_is_read_as_what_it_was(value: float) -> None:
    """A floor that allows 0.05x or 43,442x must not look like an edit."""
    read = number_parser.parse_cell("ratio", units.ratio(value))
    assert read.number is not None
    assert read.number.fits(value)


def test_the_command_exits_1_at_a_disagreement_and_0_without(tmp_path: Path) -> None:
    page = tree(tmp_path)
    arguments = ["audit", str(tmp_path), "--json"]
    good = CliRunner().invoke(cli, arguments)
    assert good.exit_code == 0, good.output
    assert json.loads(good.stdout)["disagreements"] == []
    page.write_text(page.read_text().replace("1:45:31", "1:45:13"))
    assert CliRunner().invoke(cli, arguments).exit_code == 1
    with pytest.raises(UsageError, match="no such file"):
        audit([tmp_path / "nothing"], ())


def test_the_audit_shares_no_code_with_what_it_audits() -> None:
    """Neither analysis nor report is imported."""
    sources = Path(number_parser.__file__).parent.glob("*.py")
    assert not any(re.search(r"cnnbench\.(analysis|report)", source.read_text()) for source in sources)
