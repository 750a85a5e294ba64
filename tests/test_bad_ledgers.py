"""A ledger may be empty, broken, torn, old, new or hold failures alone: a page that says so, or one clear refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders as b
import pytest
from format_readers import read_latex
from ledger_formats import SHOWN, attempted

from cnnbench import schema
from cnnbench.store import Ledger

Make = Callable[[Path], object]
GOOD = b.ledger(b.repeats(b.cnn_job(), [0.07, 0.071, 0.072]))
HEADER, *RECORDS = b.lines(GOOD)


def of(run: Ledger) -> Make:
    """A tree of that one run."""
    return lambda folder: b.write(folder, run)


def file_of(*lines: str | bytes, end: bytes = b"\n") -> Make:
    """A tree of one file of those lines."""
    content = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines) + end
    return lambda folder: (folder / "run.jsonl").write_bytes(content)


def changed(line: str, **changes: Any) -> str:
    return json.dumps(json.loads(line) | changes)


def with_trial(line: str, **changes: Any) -> str:
    """The record with another trial, as Python writes it: NaN and all."""
    record = json.loads(line)
    record["outcome"]["trial"] |= changes
    return json.dumps(record)


def as_schema_0(line: str) -> str:
    """A line as an earlier version would have written it: the run's id had another name."""
    old = json.loads(line) | {"schema_version": 0}
    old["run"] = old.pop("run_id")
    return json.dumps(old)


def from_schema_0(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "run"} | {"run_id": line["run"], "schema_version": 1}


FAILED = [
    b.record(b.cnn_job(), status="oom", message="3 GiB too much"),
    b.record(b.gemm_job(), index=1, status="crashed", message="signal 11"),
]
OTHER_PROTOCOL = [b.record(b.cnn_job(), 0.07), b.record(b.cnn_job(seed=1, round=1), 0.05, index=1, protocol=2)]
PAGES: dict[str, tuple[Make, str]] = {
    "a header and no record": (of(b.ledger([], unstarted=[b.cnn_job()])), "not run"),
    "one record": (of(b.ledger([b.record(b.cnn_job())])), "ok 1/1"),
    "failures alone": (of(b.ledger(FAILED)), "oom"),
    "two protocols": (of(b.ledger(OTHER_PROTOCOL)), "protocol 2"),
    "a torn last line": (file_of(HEADER, *RECORDS, RECORDS[-1][:99], end=b""), "torn last line"),
    "a torn line between": (file_of(HEADER, RECORDS[0][:99], *RECORDS[1:]), "not a JSON line"),
    "a record of a newer schema": (
        file_of(HEADER, *RECORDS, changed(RECORDS[0], schema_version=99)),
        "newer than this",
    ),
    "a record of an unknown kind": (
        file_of(HEADER, *RECORDS, changed(RECORDS[0], kind="x" * 5000)),
        "neither a run nor",
    ),
    "a record twice": (file_of(HEADER, RECORDS[0], RECORDS[0], *RECORDS[1:]), "digest chain broken"),
    "records and no chain": (file_of(HEADER, *reversed(RECORDS)), "digest chain broken"),
    "the header twice": (file_of(HEADER, HEADER, *RECORDS), "ok 3/3"),
    "the header last": (file_of(*RECORDS, HEADER), "ok 3/3"),
    "not a number": (file_of(HEADER, with_trial(RECORDS[0], final_loss=float("nan"))), "not a JSON line"),
    "an endless number": (
        file_of(HEADER, RECORDS[0].replace('"steps":150', '"steps":' + "9" * 400)),
        "not a JSON line",
    ),
    "no time": (file_of(HEADER, with_trial(RECORDS[0], block_seconds=[0.0] * 15)), "not a positive number"),
    "no block": (file_of(HEADER, with_trial(RECORDS[0], block_seconds=[], steps=0, images=0)), "invalid"),
    "a field too many": (file_of(HEADER, *RECORDS[1:], changed(RECORDS[0], odd=1)), "field odd"),
    "bytes among lines": (file_of(HEADER, *RECORDS, b"\x00\xff\x1b[2J"), "not a JSON line"),
    "an older schema": (file_of(*map(as_schema_0, b.lines(GOOD))), "ok 3/3"),
}
"""Ledgers that make a page, and words that it must have."""
ON_SCREEN = {"ok 1/1": "n=1", "ok 3/3": "n=3"}
"""Where all processes ended well, the screen has their number below the time."""
REFUSALS: dict[str, tuple[Make, str]] = {
    "an empty directory": (lambda folder: folder, "no results in"),
    "an empty file": (file_of(end=b""), "no readable run header"),
    "an empty line": (file_of(), "no readable run header"),
    "a header and no job": (of(b.ledger([])), "planned no job"),
    "a newer schema": (
        file_of(*(changed(line, schema_version=99) for line in b.lines(GOOD))),
        "newer than this cnnbench",
    ),
    "a schema too old": (file_of(*(changed(line, schema_version=-1) for line in b.lines(GOOD))), "too old"),
    "an older schema, broken": (
        file_of(*(changed(line, schema_version=0) for line in b.lines(GOOD))),
        "not a line of schema 0",
    ),
    "a torn header": (file_of(HEADER[:99], end=b""), "torn last line"),
    "records alone": (file_of(*RECORDS), "no readable run header"),
    "something else": (file_of("hello"), "not a JSON line"),
    "a list": (file_of("[1, 2]"), "not a JSON line"),
    "bytes": (file_of(b"\x00\xff\x1b[2J"), "not a JSON line"),
    "many bad files": (
        lambda folder: [(folder / f"{n}.jsonl").write_text(f"bad {'x' * 5000}") for n in range(50)],
        "and 38 more",
    ),
}
"""Trees with nothing to show, and words of the refusal."""


TABLES = [form for form, arguments in SHOWN.items() if arguments[0] == "show"]
PAGED = [pytest.param("html page", marks=pytest.mark.slow("pages with charts"))]
"""Whole pages draw charts, a second each; the others are made of the same."""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory of results; the reader knows schema 0."""
    monkeypatch.setitem(schema.UPGRADES, 0, from_schema_0)
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    results.mkdir()
    return results


def words(form: str, page: str) -> str:
    """The page with nothing between its words that only its format needs."""
    text = read_latex(page, strict=False) if form == "latex" else page
    return " ".join(text.replace("\\", "").split())


@pytest.mark.parametrize("form", [*TABLES, *PAGED])
@pytest.mark.parametrize(("make", "wanted"), PAGES.values(), ids=PAGES)
def test_what_can_be_shown_is_and_what_is_wrong_is_said(
    make: Make, wanted: str, form: str, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tree)
    code, page, messages = attempted(form, tree, capsys)
    assert code == 0, messages
    assert (ON_SCREEN.get(wanted, wanted) if form == "screen" else wanted) in words(form, page)
    assert "Traceback" not in page + messages


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize(("make", "wanted"), REFUSALS.values(), ids=REFUSALS)
def test_nothing_to_show_is_one_clear_refusal(
    make: Make, wanted: str, form: str, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tree)
    code, page, messages = attempted(form, tree, capsys)
    assert (code, page) == (2, "")
    assert messages.startswith("error: no results in")
    assert "cnnbench run quick" in messages
    assert wanted in messages
    assert len(messages.splitlines()) <= 14
    assert "Traceback" not in messages


@pytest.mark.parametrize("form", PAGED)
@pytest.mark.parametrize(("make", "wanted"), REFUSALS.values(), ids=REFUSALS)
def test_a_page_of_nothing_has_the_published_rows(
    make: Make, wanted: str, form: str, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tree)
    code, page, messages = attempted(form, tree, capsys)
    assert code == 0, messages
    assert "1:45:31" in page
