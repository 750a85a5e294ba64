"""Whatever a ledger says is shown as text: in every format, in error messages, and to the audit."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import hostile_ledgers
import pytest
from format_readers import COMMANDS, STEERING, github, read_latex, seen
from ledger_formats import SHOWN, shown

from cnnbench.cli.audit import Rendered
from cnnbench.cli.main import run_cli
from cnnbench.store import find_published_dir, load_tree
from cnnbench.verify import audit

Check = Callable[[str, str], None]


def as_page(page: str, decent: str) -> None:
    """The tags of a page whose names are decent, and each text among what is seen."""
    assert tags(page) == tags(decent)
    visible = seen(re.sub(r"(?s)<(script|style)\b.*?</\1>", "", page))
    for text in hostile_ledgers.TEXTS.values():
        wanted = STEERING.sub("\ufffd", re.sub(r"[^\S\x1c-\x1f]+", " ", text)).strip()
        assert wanted[:200] in visible


def tags(page: str) -> Counter[str]:
    found = Counter(re.findall(r"<(/?[a-zA-Z][\w-]*)", re.sub(r"(?s)<(script|style)\b.*?</\1>", r"<\1></\1>", page)))
    del found["span"], found["/span"]
    return found


def as_markdown(page: str, decent: str) -> None:
    as_page(github(page), github(decent))
    marks = re.findall(r"(?m)^<!-- cnnbench (made of|page)?", page)
    assert (marks, page.count("\n<!-- ")) == (["made of", "page"], 2), "the page's own marks, and no name's"


def as_latex(page: str, decent: str) -> None:
    """No command that a page with decent names lacks, but those that show a character."""

    def commands(source: str) -> set[str]:
        return set(re.findall(r"\\[a-zA-Z]+", re.sub(r"\\[{}$&%#_]", "", source)))

    assert "\\input{/" not in page
    assert commands(page) <= commands(decent) | CHARACTERS
    for line in page.splitlines():
        bare = re.sub(r"\\[{}]", "", line)
        assert line.startswith(("%", "\\providecommand", "  \\ifdim", "\\noindent{", "\\end{tabular}")) or bare.count(
            "{"
        ) == bare.count("}")
        if line.startswith(r"\item "):
            read_latex(line.removeprefix(r"\item "))


CHARACTERS = {"\\" + name for name in (*COMMANDS, "texttt", "char", "ensuremath", "sim")}
"""Commands that show a character and do nothing else."""


def as_sheet(page: str, decent: str) -> None:
    """As many rows and columns as with decent names, and no cell that a spreadsheet calculates."""
    rows, others = (list(csv.reader(io.StringIO(each))) for each in (page, decent))
    assert [len(row) for row in rows] == [len(row) for row in others]
    assert rows[0] == others[0]
    assert not [cell for row in rows for cell in row if re.match(r"[\s\"]*[=+\-@]|[\t\r]", cell)]


def as_json(page: str, decent: str) -> None:
    """The name whole, for machines; half a character was none when the ledger was read."""
    names = {row["processor"] for table in json.loads(page)["tables"] for row in table["rows"]}
    assert names >= {text.replace("\ud800", "\ufffd") for text in hostile_ledgers.TEXTS.values()}


def as_terminal(page: str, decent: str) -> None:
    assert max(map(len, page.splitlines())) <= 120


CHECKS: dict[str, Check] = {
    "screen": as_terminal,
    "table": as_terminal,
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_sheet,
    "json": as_json,
    "md page": as_markdown,
    "html page": as_page,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


@pytest.mark.parametrize("form", SHOWN)
def test_every_format_shows_the_words_of_a_ledger_as_text(
    form: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against the page of as many ledgers whose names are decent."""
    decent = shown(
        form,
        hostile_ledgers.write_all(here / "decent", [f"Decent {n}" for n in range(len(hostile_ledgers.TEXTS))]),
        capsys,
    )
    page = shown(form, hostile_ledgers.write_all(here / "hostile", hostile_ledgers.TEXTS.values()), capsys)
    assert not STEERING.search(page)
    CHECKS[form](page, decent)


MESSAGES = {
    "an unknown machine": ["show", "LEDGER", "--machine", "nosuch"],
    "an unknown run": ["show", "LEDGER", "--run", "nosuch"],
    "a wrong place": ["audit", "LEDGER"],
    "a broken line": ["show", "BROKEN"],
    "nothing but a broken line": ["audit", "BROKEN"],
    "an unknown side": ["report", "-o", "page.md", "--relative-to", "nosuch", "LEDGER"],
}
"""Commands whose messages quote a ledger."""


@pytest.mark.parametrize("arguments", MESSAGES.values(), ids=MESSAGES)
def test_a_message_that_quotes_a_ledger_steers_nothing(
    arguments: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ansi", "lines", "direction", "half a character"):
        text = hostile_ledgers.TEXTS[name]
        ledger = hostile_ledgers.write(here / "ledger.jsonl", text)
        broken = here / "broken.jsonl"
        broken.write_text(json.dumps({"kind": text}) + "\n" + json.dumps({"kind": "run", "schema_version": 1, text: 1}))
        places = {"LEDGER": str(ledger), "BROKEN": str(broken)}
        assert run_cli([places.get(each, each) for each in arguments]) in (1, 2, 3)
        said = "".join(capsys.readouterr())
        assert said
        assert not STEERING.search(said)


PAGES = ("markdown", "md page")
REFERENCES = load_tree([find_published_dir() / "lecture-2017.jsonl"]).published_rows


@pytest.mark.parametrize("form", PAGES)
def test_the_audit_agrees_with_a_page_of_any_names(form: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledgers = hostile_ledgers.write_all(here / "results", hostile_ledgers.TEXTS.values(), named=False)
    page = here / "page.md"
    page.write_text(shown(form, ledgers, capsys))
    result = audit([ledgers, page], REFERENCES, Rendered)
    assert result.disagreements == []
    assert result.cells > 50 * len(hostile_ledgers.TEXTS)
