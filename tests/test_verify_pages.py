"""Pages of `cnnbench report` are audited to the last cell: every table, the claim, machines, costs, another baseline."""

from __future__ import annotations

import random
import re
from pathlib import Path

import builders as b
import pytest
import report_builders
from audit_builders import BASELINE, Made, over_another, priced, put, resealed, with_another_digit, without_drawings
from click.testing import CliRunner

from cnnbench.cli.audit import Rendered
from cnnbench.cli.main import cli
from cnnbench.verify import audit

CELL = re.compile(r"(?<=>)[^<>]*(?=</td>)|(?<=<small>).*?(?=</small>)")
CLAIM = re.compile(r'(?<=<div class="claim">).*?(?=</div>)', re.DOTALL)


PAGE, DOCUMENT = "report/index.html", "report/report.md"


@pytest.fixture(scope="module")
def made() -> Made:
    return priced()


@pytest.fixture(scope="module")
def html(made: Made) -> str:
    return without_drawings(made.text(PAGE))


def test_a_whole_folder_agrees_with_the_records(made: Made) -> None:
    """Page, document, tables and drawings, costs included."""
    assert {path.suffix for path in made.files} == {".html", ".md", ".csv", ".json", ".svg"}
    assert "| price an hour" in made.text(DOCUMENT)
    assert made.findings() == []


def test_a_report_over_another_baseline_agrees_too() -> None:
    """CSV and JSON do not name the baseline's place: it is the one that their speed-ups fit."""
    made = over_another()
    assert f"speed-up over {BASELINE}" in made.text("page.md")
    assert made.findings() == []


def test_one_digit_changed_in_any_cell_of_a_page_is_named(made: Made, html: str) -> None:
    """A sample of the digits of every kind of table, with the page's own digest put right."""
    assert made.findings({PAGE: html}) == []
    figures = html[: html.index('id="table-method"')]
    rest = html.removeprefix(figures)
    changed = ((resealed(text + rest), where) for text, where in with_another_digit(figures, CELL, 70))
    assert [where for text, where in changed if not made.findings({PAGE: text})] == []


def test_one_digit_changed_in_what_a_column_sorts_by_is_named(made: Made, html: str) -> None:
    """To nine digits: beyond, the order of a sum decides."""
    keys = re.compile(r'(?<=data-value=")\d{2,6}(?=[."])')
    missed = [where for text, where in with_another_digit(html, keys, 30) if not made.findings({PAGE: text})]
    assert missed == []


def test_one_digit_changed_in_a_claim_is_named(made: Made, html: str) -> None:
    """Every digit of it, those of names too."""
    said = re.compile(r"^\*\*.*\bby the published time; .*$", re.MULTILINE)
    for source, name, text, within in (
        (made, PAGE, html, CLAIM),
        (made, DOCUMENT, made.text(DOCUMENT), said),
        (over_another(), "page.md", over_another().text("page.md"), said),
    ):
        changed = list(with_another_digit(text, within, 200))
        assert len(changed) > 20, name
        assert [where for each, where in changed if not source.findings({name: each})] == [], name


@pytest.mark.parametrize(
    ("ledgers", "change"),
    [
        ([b.ledger(b.repeats(b.gemm_job(1000), [0.02, 0.021, 0.022]))], ("GFLOP/s (", "GFLOP/s (1")),
        ([b.ledger([b.record(b.cnn_job(epochs=None, steps_per_epoch=None))])], ("batch 128.", "batch 129.")),
        ([b.ledger([b.record(b.cnn_job(), status="oom")])], ("1 oom", "2 oom")),
    ],
)
def test_claims_without_a_speed_up_are_audited(tmp_path: Path, ledgers: list, change: tuple[str, str]) -> None:
    results, page = report_builders.write(tmp_path / "results", ledgers), tmp_path / "page.md"
    done = CliRunner().invoke(cli, ["report", str(results), "-o", str(page)])
    assert done.exit_code == 0, done.output
    assert audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements == []
    page.write_text(put(page.read_text(), *change))
    found = audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements
    assert any("is not what these ledgers give" in each.what for each in found)


def test_one_digit_changed_in_a_first_screen_is_named(made: Made) -> None:
    """Every digit of its title, its table and its conditions."""
    text = made.text("README.md")
    within = re.compile(r"^(?:\*\*The same|\||\\~).*$", re.MULTILINE)
    assert made.findings({"README.md": text}) == []
    changed = list(with_another_digit(text, within, 200))
    assert len(changed) > 100
    assert [where for each, where in changed if not made.findings({"README.md": each})] == []


def test_the_rows_of_a_first_screen_are_those_of_the_fastest_processors(made: Made) -> None:
    """A row that was taken out, and one in another's place, are named."""
    text = made.text("README.md")
    *_, before, last = re.findall(r"^\| .*$", text, re.MULTILINE)
    for old, new in ((f"{last}\n", ""), (last, before)):
        assert made.findings({"README.md": put(text, old, new)})


def test_the_lectures_point_is_audited(made: Made, html: str) -> None:
    for name, text in ((PAGE, html), (DOCUMENT, made.text(DOCUMENT))):
        assert made.findings({name: put(text, "264 times the FLOPS", "265 times the FLOPS")})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("16 of 16", "18 of 16", "printed '18 of 16'"),
        ("32 GiB", "33 GiB", "printed '33 GiB'"),
        ("NVIDIA Testla T9, 16 GiB", "NVIDIA Testla T9, 17 GiB", "gpubox-9f9f: printed 'NVIDIA Testla T9, 17 GiB"),
        (
            "2.12.0 (cpu) | 2.13.0 (cpu) | differs",
            "2.12.0 (cpu) | 2.12.0 (cpu) | differs",
            "testbox-0a1b: printed '2.12.0",
        ),
    ],
)
def test_a_changed_fact_of_a_machine_is_named(made: Made, old: str, new: str, said: str) -> None:
    text = made.text(DOCUMENT)
    start = text.index("| fact |")
    found = made.findings({DOCUMENT: resealed(text[:start] + text[start:].replace(old, new, 1))})
    assert any(said in each for each in found)


def test_many_machines_a_line_each_and_what_they_share_are_audited(tmp_path: Path) -> None:
    ledgers = [
        b.ledger(
            b.repeats(b.cnn_job(), [0.02 + n / 1e4] * 3),
            run_id=f"2026030{n + 1}T120000Z-0001",
            machine=b.machine(f"node-{n:02}", cores_allowed=n % 3 + 1),
        )
        for n in range(8)
    ]
    results, page = report_builders.write(tmp_path / "results", ledgers), tmp_path / "page.md"
    assert CliRunner().invoke(cli, ["report", str(results), "-o", str(page)]).exit_code == 0
    assert audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements == []
    good = page.read_text()
    for old, new in (("| node-07 | 2 of 8 |", "| node-07 | 3 of 8 |"), ("memory 32 GiB", "memory 34 GiB")):
        page.write_text(put(good, old, new))
        assert audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements


def test_a_price_that_does_not_make_the_cost_is_named(made: Made, html: str) -> None:
    assert any("printed '12.34568'" in each for each in made.findings({PAGE: put(html, ">12.34567<", ">12.34568<")}))


def test_a_column_of_another_heading_is_named_and_not_skipped(made: Made) -> None:
    text = made.text(DOCUMENT)
    found = made.findings({DOCUMENT: resealed(text.replace("| host peak |", "| host beak |"))})
    assert any("printed 'host beak'" in each for each in found)


def test_a_detail_without_a_rule_is_named(made: Made) -> None:
    claim, _, tables = made.text(DOCUMENT).partition("| processor")
    text = resealed(f"{claim}| processor{tables.replace('projected, n=3)', 'projected; 17 % better, n=3)', 1)}")
    assert any("17 % better" in each for each in made.findings({DOCUMENT: text}))


def test_a_projection_without_its_mark_and_a_measured_time_with_it_are_named(made: Made) -> None:
    text = made.text(DOCUMENT)
    assert any("it is '~0:" in each for each in made.findings({DOCUMENT: put(text, r"| \~0:", "| 0:")}))
    measured = re.search(r"\| 0:\d\d:\d\d \(measured", text)
    assert measured is not None
    marked = put(text, measured.group(), measured.group().replace("| ", r"| \~"))
    assert any("printed '~0:" in each for each in made.findings({DOCUMENT: marked}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("15 blocks of 10 steps", "15 blocks of 20 steps"),
        ("5,491,200 images", "5,491,201 images"),
        ("mnist-cnn v1 · batch 256", "mnist-cnn v1 · batch 512"),
        ("over 2017's i7-4790K", "over 2017's i7-4790X"),
    ],
)
def test_a_changed_heading_is_named(made: Made, old: str, new: str) -> None:
    assert made.findings({DOCUMENT: put(made.text(DOCUMENT), old, new)})


def test_tables_of_other_kinds_are_counted_and_those_of_formulas_are_not(made: Made, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("| code | meaning |\n| --- | --- |\n| 0 | done |\n")
    assert audit([page], report_builders.REFERENCES, Rendered).skipped == 1
    (tmp_path / "report.md").write_text(made.text(DOCUMENT))
    done = CliRunner().invoke(cli, ["audit", str(tmp_path)])
    assert "passed over: 1" in done.output


def test_a_page_of_one_run_or_of_every_run_is_held_against_those(tmp_path: Path) -> None:
    """Two runs of one row: the newest, either alone, and both with their own baselines."""
    ledgers = [
        b.ledger(
            [*b.repeats(b.cnn_job(), [0.05 * n] * 3), *b.repeats(b.cnn_job(threads=2), [0.2, 0.3 / n, 0.4], start=3)],
            run_id=f"2026030{n}T120000Z-0001",
            created_at=f"2026-03-0{n}T12:00:00Z",
        )
        for n in (1, 2)
    ]
    results = report_builders.write(tmp_path / "results", ledgers)
    for number, options in enumerate(([], ["--run", ledgers[0].header.run_id], ["--all-runs"])):
        page = tmp_path / f"{number}.md"
        assert CliRunner().invoke(cli, ["report", str(results), "-o", str(page), *options]).exit_code == 0
    assert audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements == []
    (tmp_path / "results" / b.MACHINE_ID / f"{ledgers[0].header.run_id}.jsonl").unlink()
    found = [each.what for each in audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements]
    assert any("whose ledger is not among the paths" in each for each in found)


def test_names_that_do_harm_are_read_back_from_every_format(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", "a | b (c; d) ~x", '=HYPERLINK("x")', "\x1b[31mred", "x" * 2000)
    ledgers = [
        b.ledger(
            b.repeats(b.cnn_job(), [0.02, 0.021, 0.023]),
            run_id=f"2026030{n}T120000Z-0001",
            machine=b.machine(f"box-{n}", cpu_name=name),
        )
        for n, name in enumerate(names)
    ]
    results = report_builders.write(tmp_path / "results", ledgers)
    for ending in ("html", "md", "csv", "json"):
        assert CliRunner().invoke(cli, ["report", str(results), "-o", str(tmp_path / f"x.{ending}")]).exit_code == 0
    assert audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements == []


def sample_places(text: str, start: int, end: int, each: int) -> list[int]:
    """Places of digits, `each` at random of every kind: by the word before it, which is an attribute, a tag, a name."""
    kinds: dict[str, list[int]] = {}
    for found in re.finditer(r"([A-Za-z_][\w-]*)?[^A-Za-z]*?(?<!&#)(?<!&#\d)(\d)", text[:end]):
        kinds.setdefault(found.group(1) or "", []).append(found.start(2))
    rng = random.Random(0)
    chosen = (rng.sample(places, min(each, len(places))) for places in kinds.values())
    return sorted(place for places in chosen for place in places if place > start)


@pytest.mark.slow("an audit a digit")
@pytest.mark.parametrize(("name", "each"), [(PAGE, 2), (DOCUMENT, 4), ("README.md", 60)])
def test_one_digit_of_every_kind_of_place_of_a_page_changed_is_named(
    made: Made, html: str, name: str, each: int
) -> None:
    """Of what a reader sees and of the data inside, the page's own digest put right; not of its style and its scripts."""
    text = html if name == PAGE else made.text(name)
    end = text.rindex("<footer>") if name == PAGE else text.rindex("<!-- cnnbench page")
    start = text.index("<body>") if name == PAGE else text.index("\n") if name == DOCUMENT else text.index("<!-- table")
    places = sample_places(text, start, end, each)
    assert len(places) > 100
    missed = []
    for place in places:
        other = resealed(f"{text[:place]}{(int(text[place]) + 3) % 10}{text[place + 1 :]}")
        if other != text and not made.findings({name: other}):  # a digit of a digest is put right
            missed.append(text[place - 40 : place + 20])
    assert missed == []
