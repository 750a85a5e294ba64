"""The audit derives the stopping rule's tables, its conclusion and the modes' verdicts again, in every format."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import builders as b
import learning_builders as lb
import pytest
import report_builders
from audit_builders import put, resealed, without_drawings
from click.testing import CliRunner

from cnnbench import store
from cnnbench.analysis import seed_accuracy
from cnnbench.cli.audit import Rendered
from cnnbench.cli.main import cli
from cnnbench.verify import audit, learning
from cnnbench.verify.audit import KINDS, Auditor, read_document
from cnnbench.verify.raw_rows import PageView, build_rows

CLOSED = ["--accuracy", "0.97", "--epochs", "7", "--sample", "100"]
TABLES = {"stopping", "stopped", "convergence"}


class Made:
    """Pages of the whole report, and what the two commands write, by name; `curves` are of records of their own."""

    def __init__(self) -> None:
        with TemporaryDirectory() as place:
            root = Path(place)
            results = report_builders.write(root / "results", lb.everything())
            for ending in ("html", "md", "csv", "json"):
                arguments = ["report", str(results), "-o", str(root / f"page.{ending}"), "--static"]
                assert CliRunner().invoke(cli, arguments).exit_code == 0
            for name, format_ in (("md", "markdown"), ("csv", "csv"), ("json", "json")):
                for command, options in (("stopping", []), ("convergence", []), ("convergence", ["--margin", "0.45"])):
                    target = root / f"{command}{len(options)}.{name}"
                    arguments = ["learning", command, str(results), "--format", format_, "-o", str(target), *options]
                    assert CliRunner().invoke(cli, arguments).exit_code in (0, 1, 4)
                arguments = ["learning", "stopping", *CLOSED, "--format", format_, "-o", str(root / f"closed.{name}")]
                assert CliRunner().invoke(cli, arguments).exit_code == 0
            whole_jobs = report_builders.write(root / "whole", [lb.curved()])
            for name, format_ in (("md", "markdown"), ("csv", "csv"), ("json", "json")):
                arguments = [
                    "learning",
                    "convergence",
                    str(whole_jobs),
                    "--format",
                    format_,
                    "-o",
                    str(root / f"curves.{name}"),
                ]
                assert CliRunner().invoke(cli, arguments).exit_code == 0
            arguments = ["report", str(whole_jobs), "-o", str(root / "curves.html"), "--static"]
            assert CliRunner().invoke(cli, arguments).exit_code == 0
            found = [path for path in root.iterdir() if path.suffix in KINDS]
            self.files = {path.name: read_document(path) for path in sorted(found)}
            self.auditor = Auditor(store.load_tree([results]).ledgers, report_builders.REFERENCES, Rendered)
            self.of_curves = Auditor(store.load_tree([whole_jobs]).ledgers, report_builders.REFERENCES, Rendered)

    def findings(self, name: str, text: str) -> list[str]:
        """What does not hold in that file, were this its text."""
        auditor = self.of_curves if name.startswith("curves") else self.auditor
        return [each.what for each in auditor.check([(Path(name), text)]).disagreements]


@cache
def made() -> Made:
    return Made()


def test_what_was_printed_agrees() -> None:
    assert len(made().files) == 4 + 3 * 3 + 3 + 4
    assert {name: found for name, text in made().files.items() if (found := made().findings(name, text))} == {}


@pytest.mark.parametrize(
    "name", ["page.md", "stopping0.md", "convergence0.md", "convergence2.md", "closed.md", "curves.md"]
)
def test_one_digit_changed_anywhere_in_the_tables_and_conclusions_of_a_document_is_named(name: str) -> None:
    """Cells, headings, titles of groups and the sentence, the page's own digest put right."""
    whole = made().files[name]
    begin = whole.index("What") if name == "page.md" else 0
    end = whole.index("## How sure") if name == "page.md" else len(whole)
    missed = []
    for found in re.finditer(r"\d", whole[begin:end]):
        place = begin + found.start()
        line = whole[whole.rfind("\n", 0, place) + 1 : whole.find("\n", place)]
        counts = line.startswith(("| ", "**", "A training", "- A training"))
        text = whole[:place] + str((int(found.group()) + 3) % 10) + whole[place + 1 :]
        if counts and not made().findings(name, resealed(text)):
            missed.append(whole[place - 30 : place + 10])
    assert missed == []


def test_one_digit_changed_in_a_page_s_cells_and_sort_keys_is_named() -> None:
    html = without_drawings(made().files["page.html"])
    assert made().findings("page.html", html) == []
    begin, end = html.index('id="table-stopping"'), html.index('id="noise"')
    pattern = re.compile(
        r'(?<=data-value=")\d{1,8}|(?<=>)[^<>]*\d[^<>]*(?=</t[dh]>)|(?<=<span>)[^<>]*\d[^<>]*(?=</span>)'
    )
    missed, tried = [], 0
    for found in pattern.finditer(html, begin, end):
        digit = re.search(r"[1-9]", found.group())
        if digit is None:
            continue
        tried += 1
        place = found.start() + digit.start()
        text = html[:place] + str(int(html[place]) % 9 + 1) + html[place + 1 :]
        if not made().findings("page.html", resealed(text)):
            missed.append(html[place - 60 : place + 20])
    assert tried > 40
    assert missed == []


@pytest.mark.parametrize(
    "name", ["page.csv", "stopping0.csv", "convergence0.csv", "convergence2.csv", "closed.csv", "curves.csv"]
)
def test_one_digit_changed_in_any_column_of_the_csv_is_named(name: str) -> None:
    reader = csv.DictReader(io.StringIO(made().files[name]))
    names, rows = list(reader.fieldnames or ()), list(reader)
    prose = {"row_notes", "report_notes", "clock_rule"}
    tried: set[tuple[str, str]] = set()
    missed = []
    for row in (row for row in rows if row["table"] in TABLES):
        for column in names:
            found = re.search(r"[1-9]", row[column][:9])
            if column in prose or found is None or (row["table"], column) in tried:
                continue
            tried.add((row["table"], column))
            good = row[column]
            row[column] = good[: found.start()] + str(int(found.group()) % 9 + 1) + good[found.end() :]
            if not made().findings(name, written(names, rows)):
                missed.append((row["table"], column, good, row[column]))
            row[column] = good
    assert len(tried) >= (60 if name == "page.csv" else 5)
    assert missed == []


def written(names: list[str], rows: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize("name", ["page.json", "stopping0.json", "convergence0.json", "closed.json", "curves.json"])
def test_one_value_changed_in_the_json_is_named(name: str) -> None:
    """Every number, word and truth of one line of each table, its absence, and a name that there is no rule for."""
    document = json.loads(made().files[name])
    missed = []
    for table in document["tables"]:
        if table["key"] not in TABLES:
            continue
        row = table["rows"][-1]
        for key, good in list(row.items()):
            if key in ("kind", "notes") or good is None:
                continue
            changes = (
                [not good] if isinstance(good, bool) else [f"{good} 9"] if isinstance(good, str) else [good * 1.001 + 1]
            )
            for changed in (*changes, None):
                row[key] = changed
                found = made().findings(name, json.dumps(document))
                if not any(f": {key} is " in each for each in found) and key != "group":
                    missed.append((table["key"], key, good, changed))
            row[key] = good
        row["surprise"] = 1
        assert any("no second derivation of surprise" in each for each in made().findings(name, json.dumps(document)))
        del row["surprise"]
    assert missed == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("convergence0.md", "learns worse", "learns as well"),
        ("convergence0.md", "learns as well |", "undecided (about 7 seeds would tell) |"),
        ("convergence0.md", "| bf16 |", "| fp16 |"),
        ("convergence0.md", "(the same)", ""),
        ("convergence2.md", "a loss of 0.450 pp", "a loss of 0.350 pp"),
        ("stopping0.md", "(its last; never all right)", ""),
        ("stopping0.md", "| accuracy on all 10,000 |", "| accuracy on all 1,000 |"),
        ("stopping0.md", "Test CPU 9000 (cpu, 8 threads) · fp32", "Best CPU 9001 (cpu, 8 threads) · fp32"),
        (
            "stopping0.md",
            "on Test CPU 9000 (cpu, 8 threads; mnist-cnn, batch 125)",
            "on Test CPU 9000 (cpu, 8 threads; mnist-cnn, batch 126)",
        ),
        ("closed.md", "a network right on 9,700 of 10,000", "a network right on 9,701 of 10,000"),
    ],
)
def test_a_changed_word_is_named(name: str, old: str, new: str) -> None:
    assert made().findings(name, put(made().files[name], old, new))


def test_diverged_seeds_are_derived_again_too(tmp_path: Path) -> None:
    """Both rules on seeds that fail: worse where the plain row has none, undecided where both have."""
    for number, plain_diverged in enumerate((0, 1)):
        plain = lb.trained(lb.PLAIN, diverged=plain_diverged)
        mode = lb.trained([], start=len(plain), diverged=5, precision="bf16")
        more = lb.trained(lb.EQUAL, start=len(plain) + 5, diverged=2, layout="nhwc")
        run = f"2026030{number + 1}T120000Z-0001"
        results = report_builders.write(tmp_path / run / "results", [b.ledger([*plain, *mode, *more], run_id=run)])
        page = tmp_path / run / "page.md"
        assert CliRunner().invoke(cli, ["report", str(results), "-o", str(page)]).exit_code == 0
        assert "by the seeds that did not learn" in page.read_text()
        assert audit([tmp_path / run], report_builders.REFERENCES, Rendered).disagreements == []
        page.write_text(put(page.read_text(), "5 did not", "4 did not"))
        assert audit([tmp_path / run], report_builders.REFERENCES, Rendered).disagreements


def test_every_run_of_a_mode_with_its_own_plain_row_is_audited(tmp_path: Path) -> None:
    """Runs with other seeds, unpaired too, and all of them on one page."""
    ledgers = []
    for number in (1, 2):
        plain = lb.trained([right - number for right in lb.PLAIN])
        mode = lb.trained(dict(zip(range(number - 1, 9), lb.EQUAL, strict=False)), start=5, precision="bf16")
        created = f"2026-03-0{number}T12:00:00Z"
        ledgers.append(b.ledger([*plain, *mode], run_id=f"2026030{number}T120000Z-0001", created_at=created))
    results = report_builders.write(tmp_path / "results", ledgers)
    for name, options in (("all.md", ["--all-runs"]), ("newest.md", []), ("all.csv", ["--all-runs"])):
        assert CliRunner().invoke(cli, ["report", str(results), "-o", str(tmp_path / name), *options]).exit_code == 0
    assert "5 and 5 |" in (tmp_path / "newest.md").read_text()
    assert audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements == []


def test_its_own_arithmetic_agrees_with_whole_numbers_and_with_the_reports() -> None:
    """Binomial coefficients against the images drawn one by one; the seeds that would tell against the report's."""
    for right, sample in ((9920, 200), (9999, 200), (5000, 100), (300, 250), (100, 200)):
        drawn = math.prod((right - n) / (10_000 - n) for n in range(sample))
        assert learning.chance_all_right(right, sample) == pytest.approx(drawn, rel=1e-9)
    for mode, plain in ((lb.UNSURE, lb.PLAIN), (lb.WORSE, lb.PLAIN), (lb.EQUAL, lb.UNSURE)):
        for first in (0, 50):
            sides = [
                lb.trained(dict(enumerate(plain))),
                lb.trained(dict(enumerate(mode, first)), start=5, layout="nhwc"),
            ]
            other, row = build_rows([b.ledger([*sides[0], *sides[1]])])
            view = PageView([row, other], (), {"runs": [row.header.run_id], "margin": 12.0 / learning.IMAGES})
            ours = learning.compare(row, other)
            theirs = seed_accuracy.estimate_difference(dict(enumerate(mode, first)), dict(enumerate(plain)))
            assert ours is not None
            assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))
            if learning.classify(view, row, other) == "undecided":
                assert learning.seeds_needed(view, row, other) == seed_accuracy.seeds_to_decide(theirs, 12.0)


def test_a_table_of_another_kind_that_begins_alike_is_passed_over(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("| mode | meaning |\n| --- | --- |\n| 5 | done |\n\n| epoch | loss |\n| --- | --- |\n| 1 | 0.5 |\n")
    assert audit([page], report_builders.REFERENCES, Rendered).skipped == 2
