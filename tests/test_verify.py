"""The audit finds one changed digit anywhere, one changed or missing line, and nothing where all is well."""

from __future__ import annotations

import json
import re
from pathlib import Path

import builders as b
import pytest
from audit_builders import resealed
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cnnbench import store, units
from cnnbench.cli.audit import Rendered
from cnnbench.cli.load_results import Selection
from cnnbench.cli.main import cli
from cnnbench.cli.read import make_report
from cnnbench.errors import UsageError
from cnnbench.report.render import text
from cnnbench.store import find_published_dir, load_tree
from cnnbench.verify import audit, formats
from cnnbench.verify.audit import Auditor

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
    found = audit([page.parent / "results", page], REFERENCES, Rendered)
    return [f"{each.where}: {each.what}" for each in found.disagreements]


def test_what_was_printed_from_the_records_agrees_with_them(tmp_path: Path) -> None:
    """Every table, the lecture's rows included."""
    page = tree(tmp_path)
    assert findings(page) == []
    result = audit([tmp_path], REFERENCES, Rendered)
    assert result.ledgers == 2
    assert result.records == 11
    assert result.cells > 100


def test_one_digit_changed_anywhere_on_the_page_is_named(tmp_path: Path) -> None:
    """Every digit, of names and sentences too, the page's own digest put right as whoever changed it on purpose would."""
    page = tree(tmp_path)
    auditor = Auditor(store.load_tree([tmp_path / "results"]).ledgers, REFERENCES, Rendered)
    whole = page.read_text()
    assert auditor.check([(page, whole)]).disagreements == []
    missed = []
    for found in re.finditer(r"\d", whole[: whole.rindex("<!-- cnnbench page")]):
        other = str((int(found.group()) + 3) % 10)
        text_ = resealed(whole[: found.start()] + other + whole[found.end() :])
        if not auditor.check([(page, text_)]).disagreements:
            missed.append((whole[found.start() - 20 : found.start()], found.group(), other))
    assert missed == []


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
    found = [each.what for each in audit([tmp_path], (), Rendered).disagreements]
    assert any("physics gate" in what for what in found)
    assert any("share seed 0" in what for what in found)


def test_a_row_nobody_measured_is_named(tmp_path: Path) -> None:
    page = tree(tmp_path)
    page.write_text(page.read_text().replace("Test CPU 9000", "Best CPU 9001"))
    assert any("printed 'Best CPU 9001" in each for each in findings(page))


def test_a_table_of_processors_that_no_command_made_is_named(tmp_path: Path) -> None:
    """It has no ledger's digest, and nobody can make it again."""
    page = tree(tmp_path)
    table = "".join(line + "\n" for line in page.read_text().splitlines() if line.startswith("| "))
    (tmp_path / "copied.md").write_text(table)
    (only,) = audit([tmp_path / "results", tmp_path / "copied.md"], REFERENCES, Rendered).disagreements[:1]
    assert "no command made the table" in only.what


@given(st.floats(-9.0, 12.0), st.floats(0.0, 1.0))
def test_its_own_numbers_to_text_agree_with_the_pages(exponent: float, share: float) -> None:
    """Written a second time, so that a rounding or a unit that changes is a finding."""
    value = 10**exponent
    for theirs, ours in (
        *((units.short_seconds, formats.seconds), (units.joules, formats.joules), (units.duration, formats.duration)),
        *((units.giga, formats.giga), (units.ratio, formats.ratio), (units.rate, formats.rate)),
        *((units.number, formats.number), (units.count, formats.count)),
    ):
        assert theirs(value) == ours(value)
    assert units.data_size(int(value)) == formats.size(int(value))
    assert units.chance(share) == formats.chance(share)
    assert units.points(share - 0.5) == formats.points(share - 0.5)
    assert units.span(share, 2 * share, units.percent) == formats.span(share, 2 * share, formats.percent(2))


def test_the_command_exits_1_at_a_disagreement_and_0_without(tmp_path: Path) -> None:
    page = tree(tmp_path)
    arguments = ["audit", str(tmp_path), "--json"]
    good = CliRunner().invoke(cli, arguments)
    assert good.exit_code == 0, good.output
    assert json.loads(good.stdout)["disagreements"] == []
    page.write_text(page.read_text().replace("1:45:31", "1:45:13"))
    assert CliRunner().invoke(cli, arguments).exit_code == 1
    with pytest.raises(UsageError, match="no such file"):
        audit([tmp_path / "nothing"], (), Rendered)


def test_the_audit_shares_no_code_with_what_it_audits() -> None:
    """Neither analysis nor report is imported."""
    sources = Path(formats.__file__).parent.glob("*.py")
    assert not any(re.search(r"cnnbench\.(analysis|report)", source.read_text()) for source in sources)
