"""The audit derives time to accuracy, ladders and pre-training again, on pages, in table files and in charts."""

from __future__ import annotations

import csv
import io
import json
import re

import builders as b
import pytest
import report_builders
from audit_builders import FOLDER, Made, put, resealed, varied, with_another_digit, without_drawings
from click.testing import CliRunner

from cnnbench.cli.audit import Rendered
from cnnbench.cli.main import cli
from cnnbench.verify import audit
from cnnbench.verify.raw_rows import PageView, build_rows
from cnnbench.verify.values import ValueSubject, derive

PAGE, DOCUMENT, CSV, JSON = (f"{FOLDER}/{name}" for name in ("index.html", "report.md", "report.csv", "report.json"))
CELL = re.compile(r"(?<=>)[^<>]*(?=</td>)|(?<=<small>).*?(?=</small>)")
NEW = ("tta", "seeds", "ladder")
PROSE = {"row_notes", "report_notes", "clock_rule", "notes", "kind"}


@pytest.fixture(scope="module")
def made() -> Made:
    return varied()


@pytest.fixture(scope="module")
def html(made: Made) -> str:
    return without_drawings(made.text(PAGE))


def test_a_whole_folder_agrees_with_the_records(made: Made) -> None:
    assert made.findings() == []
    for key in NEW:
        assert f'id="table-{key}"' in made.text(PAGE)


@pytest.mark.parametrize("key", NEW)
def test_one_digit_changed_in_any_cell_of_a_page_is_named(made: Made, html: str, key: str) -> None:
    start = html.index(f'id="table-{key}"')
    end = html.index("</table>", start)
    table = html[start:end]
    changed = (
        (resealed(html[:start] + each + html[end:]), where) for each, where in with_another_digit(table, CELL, 50)
    )
    assert [where for text, where in changed if not made.findings({PAGE: text})] == []


@pytest.mark.parametrize("key", NEW)
def test_one_digit_changed_in_what_a_column_sorts_by_is_named(made: Made, html: str, key: str) -> None:
    start = html.index(f'id="table-{key}"')
    end = html.index("</table>", start)
    keys = re.compile(r'(?<=data-value=")\d{1,6}(?=[."])')
    changed = with_another_digit(html[start:end], keys, 20)
    assert [w for each, w in changed if not made.findings({PAGE: resealed(html[:start] + each + html[end:])})] == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("5 of 6 (1 missed)", "6 of 6", "seeds that reached it"),
        ("5 of 6 (1 missed)", "5 of 6 (1 crashed)", "seeds that reached it"),
        ("57.5 (from 43.1 on; n=6)", "57.5 (n=6)", "it is '57.5 (from 43.1 on"),
        ("57.5 (from 43.1 on; n=6)", "57.5 (from 43.2 on; n=6)", "it is '57.5 (from 43.1 on"),
        ("57.5 (from 43.1 on; n=6)", "57.5 (43.1–71.8; n=6)", "it is '57.5 (from 43.1 on"),
        ("126 (94.6–189; n=6)", "126 (126–158; n=6)", "it is '126 (94.6"),
        ("126 (94.6–189; n=6)", "126 (94.6–189; n=5)", "n=6)'"),
        ("| missed | n/a |", "| reached | n/a |", "ended"),
        ("| missed | n/a |", "| missed | 288 |", "time to target [s]"),
        ("| bf16, nhwc, compiled, rmsprop", "| bf16, nchw, compiled, rmsprop", "mode"),
        ("| needs tensor cores |", "| needs no tensor cores |", "why not"),
        ("30 s (20.4 GFLOP/s; n=3)", "30 s (20.5 GFLOP/s; n=3)", "GFLOP"),
        ("to 99 % of test images", "to 98 % of test images", "99"),
        ("evaluated every 429 steps", "evaluated every 428 steps", "429"),
        ("at most 20 x 429 = 8,580 steps", "at most 20 x 429 = 8,581 steps", "8,580"),
    ],
)
def test_what_is_said_of_seeds_and_rungs_is_held_against_the_records(made: Made, old: str, new: str, said: str) -> None:
    found = made.findings({DOCUMENT: put(made.text(DOCUMENT), old, new)})
    assert any(said in each for each in found), found


def test_a_seed_of_another_row_is_named(made: Made) -> None:
    """Its number is all that tells it apart: 8 missed, 9 did not."""
    text = made.text(DOCUMENT)
    line = next(line for line in text.splitlines() if "| 8 | missed |" in line)
    found = made.findings({DOCUMENT: put(text, line, line.replace("| 8 | missed |", "| 9 | missed |"))})
    assert any("seed: printed '9', from the records it is '8'" in each for each in found)
    found = made.findings({DOCUMENT: put(text, line, line.replace("| 8 | missed |", "| 77 | missed |"))})
    assert any("77" in each for each in found)


def test_one_value_changed_in_the_json_is_named(made: Made) -> None:
    """Raw values changed or gone, texts changed, of the first and the last row of each table."""
    document = json.loads(made.text(JSON))
    missed, tried = [], 0
    for table in document["tables"]:
        for row in (table["rows"][0], table["rows"][-1]) if table["key"] in (*NEW, "training") else ():
            for name, good in list(row.items()):
                if name in PROSE or name == "group" or good is None:
                    continue
                for changed in others(name, good):
                    row[name] = changed
                    tried += 1
                    if not any(f": {name} is " in each for each in made.findings({JSON: json.dumps(document)})):
                        missed.append((table["key"], name, good, changed))
                row[name] = good
    assert tried > 300
    assert missed == []


def others(name: str, good: object) -> tuple[object, ...]:
    if isinstance(good, bool):
        return (not good, None)
    if isinstance(good, int | float):
        return (good * 1.001 + 1e-6, None)
    return (f"7{good}",) if name.endswith("_text") else (f"{good}1", None)


def test_one_digit_changed_in_any_new_column_of_the_csv_is_named(made: Made) -> None:
    text = made.text(CSV)
    reader = csv.DictReader(io.StringIO(text))
    names, every = list(reader.fieldnames or ()), list(reader)
    found = [row for key in NEW for row in [row for row in every if row["table"] == key][:3]]
    tried: set[tuple[str, str]] = set()
    missed = []
    for row in found:
        for name in names:
            digit = re.search(r"[1-9]", row[name][:9])
            if name in PROSE or digit is None or (row["table"], name) in tried:
                continue
            tried.add((row["table"], name))
            good = row[name]
            row[name] = good[: digit.start()] + str(int(digit.group()) % 9 + 1) + good[digit.end() :]
            out = io.StringIO()
            writer = csv.DictWriter(out, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(every)
            if not any(f": {name} is " in each for each in made.findings({CSV: out.getvalue()})) and name != "group":
                missed.append((row["table"], name, good, row[name]))
            row[name] = good
    assert len(tried) > 60
    assert missed == []


@pytest.mark.parametrize("key", ["learning", "ladder", "roofline", "noise"])
def test_one_digit_changed_in_the_data_of_a_chart_is_named(made: Made, key: str) -> None:
    name = f"{FOLDER}/charts/{key}.svg"
    text = made.text(name)
    data = re.search(r'(?<="rows":\[).*(?=\]\}</metadata>)', text)
    assert data is not None
    before, after = text[: data.start()], text[data.end() :]
    digits = re.compile(r'(?<=":)\d[\d.]{0,8}')
    changed = with_another_digit(data.group(), digits, 25)
    assert [where for each, where in changed if not made.findings({name: resealed(before + each + after)})] == []


def test_the_claims_of_pages_about_inference_and_missed_targets_are_audited(tmp_path) -> None:
    forward = b.cnn_job(task="inference", optimizer=None, final_evaluation=False, epochs=None, steps_per_epoch=None)
    for number, (records, old, new) in enumerate(
        (
            (b.repeats(forward, [0.02] * 3), "takes 20 ms", "takes 21 ms"),
            (b.crossings(b.target_job(), [None, None]), "2 missed", "3 missed"),
        )
    ):
        place = tmp_path / str(number)
        results, page = report_builders.write(place / "results", [b.ledger(records)]), place / "page.md"
        assert CliRunner().invoke(cli, ["report", str(results), "-o", str(page)]).exit_code == 0
        assert audit([place], report_builders.REFERENCES, Rendered).disagreements == []
        page.write_text(put(page.read_text(), old, new))
        found = audit([place], report_builders.REFERENCES, Rendered).disagreements
        assert any("is not what these ledgers give" in each.what for each in found)


def test_a_missed_record_that_cannot_be_is_named_in_the_ledger(tmp_path) -> None:
    record = b.crossing(b.target_job(), None)
    outcome = record.outcome.model_copy(update={"status": "ok", "message": None})
    b.write(tmp_path, b.ledger([record.model_copy(update={"outcome": outcome})]))
    found = [each.what for each in audit([tmp_path], (), Rendered).disagreements]
    assert any("identity gate: the last evaluation has 9019 of 10000 right" in what for what in found)


def test_the_second_opinion_has_the_intervals_of_the_tables() -> None:
    """3, 3, 4, 5 and 6 evaluations and one missed: of six the smallest and, at infinity, the largest."""
    (row,) = build_rows([b.ledger(b.crossings(b.target_job(), [4, 3, 6, None, 3, 5]))])
    subject = ValueSubject(PageView([row], (), {"runs": [row.header.run_id]}), "tta", row)
    median = "median_seconds_to_target"
    value, low, high, n = (derive(f"{median}{end}", subject) for end in ("", "_low", "_high", "_n"))
    each = 429 * 0.01 + 1.0
    assert (value, low, high, n) == (pytest.approx(4.5 * each), pytest.approx(3 * each), None, 6)
    assert derive("mean_seconds_to_target", subject) is None
    assert derive("slowest_seconds_to_target", subject) is None
