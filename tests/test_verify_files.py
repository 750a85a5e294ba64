"""CSV and JSON files are audited: raw values and printed texts of every line, by the row that it names."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import builders as b
import pytest
import report_builders
from audit_builders import BASELINE, FOLDER, Made, over_another, priced, resealed
from click.testing import CliRunner

from cnnbench.cli.audit import Rendered
from cnnbench.cli.main import cli
from cnnbench.verify import audit

CSV, JSON = f"{FOLDER}/report.csv", f"{FOLDER}/report.json"
PROSE = {"row_notes", "report_notes", "clock_rule", "notes", "kind"}


@pytest.fixture(scope="module")
def made() -> Made:
    return priced()


def rows_of(text: str) -> tuple[list[str], list[dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text))
    return list(reader.fieldnames or ()), list(reader)


def written(names: list[str], rows: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def with_another_digit(text: str) -> str | None:
    """One of the first nine digits changed; None where there is none."""
    found = re.search(r"[1-9]", text[:9])
    if found is None:
        return None
    return text[: found.start()] + str(int(found.group()) % 9 + 1) + text[found.end() :]


def test_they_agree(made: Made) -> None:
    assert made.findings({CSV: made.text(CSV), JSON: made.text(JSON)}) == []


def test_one_digit_changed_in_any_column_of_the_csv_is_named(made: Made) -> None:
    """In each column of each table the first line that has a digit there."""
    names, rows = rows_of(made.text(CSV))
    tried: set[tuple[str, str]] = set()
    missed = []
    for row in rows:
        for name in names:
            changed = None if name in PROSE else with_another_digit(row[name])
            if changed is None or (row["table"], name) in tried:
                continue
            tried.add((row["table"], name))
            good, row[name] = row[name], changed
            if not made.findings({CSV: written(names, rows)}):
                missed.append((row["table"], name, good, changed))
            row[name] = good
    assert len(tried) > 150
    assert missed == []


def test_one_value_changed_in_the_json_is_named(made: Made) -> None:
    """Every number of one line of every table, null where there was a number, and a name that there is no rule for."""
    document = json.loads(made.text(JSON))
    missed = []
    for table in document["tables"]:
        row = table["rows"][-1]
        for name, good in list(row.items()):
            if isinstance(good, bool) or not isinstance(good, int | float):
                continue
            for changed in (good + 1 if isinstance(good, int) else good * 1.00001, None):
                row[name] = changed
                if not any(f": {name} is " in each for each in made.findings({JSON: json.dumps(document)})):
                    missed.append((table["key"], name, good, changed))
            row[name] = good
        row["surprise"] = 1
        assert any("no second derivation of surprise" in each for each in made.findings({JSON: json.dumps(document)}))
        del row["surprise"]
    assert missed == []


def test_a_line_of_no_row_and_a_published_row_of_another_name_are_named(made: Made) -> None:
    names, rows = rows_of(made.text(CSV))
    for name in ("run_id", "work_key_sha256", "device", "processor"):
        changed = [{**row, name: f"{row[name]}0" if row["table"] == "lecture" else row[name]} for row in rows]
        assert any(f": {name} is " in each for each in made.findings({CSV: written(names, changed)}))


def test_a_baseline_of_one_thread_is_named_so_and_another_count_is_none(tmp_path: Path) -> None:
    rows = [*b.repeats(b.cnn_job(threads=1), [0.02] * 3), *b.repeats(b.cnn_job(threads=2), [0.03] * 3, start=3)]
    results, made = report_builders.write(tmp_path / "results", [b.ledger(rows)]), tmp_path / "made.csv"
    assert CliRunner().invoke(cli, ["report", str(results), "-o", str(made)]).exit_code == 0
    assert audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements == []
    made.write_text(made.read_text().replace('9000, 1 thread"', '9000, 2 threads"', 1))
    assert any(
        "baseline is" in each.what for each in audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements
    )


def test_the_digests_that_they_name_are_the_ledgers(made: Made) -> None:
    text = made.text(JSON)
    said = re.search(r"sha256:([0-9a-f]{16})", text)
    assert said is not None
    found = made.findings({JSON: text.replace(said.group(1), "0" * 16)})
    assert any("lines were changed, added or removed" in each for each in found)


def test_a_broken_file_of_ours_is_named_and_others_are_left_alone(made: Made) -> None:
    assert any("cannot be read" in each for each in made.findings({JSON: made.text(JSON)[:-9]}))
    twice = made.text(JSON).replace('"machine_1": "', '"machine_0": "', 1)
    assert any("a name is repeated" in each for each in made.findings({JSON: twice}))
    assert made.findings({"package.json": "{}", "broken.json": "{", "list.json": "[1]", "x.csv": "a,b\n1,2\n"}) == []


@pytest.mark.parametrize("ending", ["html", "md", "csv", "json"])
def test_options_that_are_broken_or_give_nothing_are_named(ending: str) -> None:
    """What a document says that it was made of is JSON, and these ledgers must give it."""
    name = f"page.{ending}"
    text = over_another().text(name)
    elsewhere = resealed(re.sub(rf'(baseline"+: "+){BASELINE}', r"\1nowhere", text, count=1))
    assert any("cannot be made of these ledgers" in each for each in over_another().findings({name: elsewhere}))
    twice = resealed(re.sub(r'(runs"+: )\[', r"\1[[", text, count=1))
    assert any("cannot be read" in each for each in over_another().findings({name: twice}))


def test_a_table_of_a_kind_without_rules_is_counted_and_no_finding(made: Made) -> None:
    lines = "table,group,processor_text,clock_rule\ncompare,steps,x,steady\n"
    found = made.auditor.check([(Path("compared.csv"), lines)])
    assert (found.disagreements, found.skipped) == ([], 1)
    document = {"cnnbench": "0.1.0", "tables": [{"key": "compare", "rows": []}]}
    found = made.auditor.check([(Path("compared.json"), json.dumps(document))])
    assert (found.disagreements, found.skipped) == ([], 1)


def test_a_file_of_known_tables_that_does_not_say_what_it_was_made_of_is_named(made: Made) -> None:
    document = json.loads(made.text(JSON))
    del document["options"]
    assert any("the ledgers it was made from" in each for each in made.findings({JSON: json.dumps(document)}))
    names, rows = rows_of(made.text(CSV))
    without = [{**row, "options": ""} for row in rows]
    assert any("the ledgers it was made from" in each for each in made.findings({CSV: written(names, without)}))


def test_options_longer_than_a_csv_reader_takes_are_read(made: Made) -> None:
    names, rows = rows_of(made.text(CSV))
    rows[0]["options"] = json.dumps(json.loads(rows[0]["options"]) | {"problems": ["x" * 200_000]})
    assert not any("cannot be read" in each for each in made.findings({CSV: written(names, rows)}))


def test_many_machines_that_are_all_alike_are_no_finding(tmp_path: Path) -> None:
    """From seven on the table has a line a machine, and no column where no fact differs."""
    ledgers = [
        b.ledger(b.repeats(b.cnn_job(), [0.02] * 3), run_id=f"20260301T120000Z-{n:04x}", machine=b.machine(f"box-{n}"))
        for n in range(8)
    ]
    results, page = report_builders.write(tmp_path / "results", ledgers), tmp_path / "page.md"
    assert CliRunner().invoke(cli, ["report", str(results), "-o", str(page)]).exit_code == 0
    assert audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements == []


def test_a_mark_of_the_digest_inside_a_line_is_part_of_the_file(made: Made) -> None:
    """The digest's own line is left out of the comparison of whole files, and nothing else; the last line end counts."""
    text, mark = made.text(CSV), f"<!-- cnnbench page sha256:{'0' * 64} -->"
    rule = "warm-up"
    assert rule in text
    assert made.findings({CSV: text.replace(rule, rule + mark, 1)}) != []
    assert made.findings({CSV: text[:-1]}) != []
