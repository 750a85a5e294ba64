"""Compare printed figures with ledgers, and ledgers with themselves; disagreements name file, place, found and expected."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonprefix
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from cnnbench import store, validity
from cnnbench.errors import ComparisonError, UsageError
from cnnbench.schema import PublishedRow, Record, RunHeader, digest
from cnnbench.store import Ledger
from cnnbench.verify import blocks, charts, documents, pages, raw_rows, values
from cnnbench.verify.documents import APART, DRAWING, MARK, SEAL, Options
from cnnbench.verify.intervals import NoFigure
from cnnbench.verify.raw_rows import PageValues, PageView

KINDS = {".md", ".html", ".htm", ".svg", ".png", ".csv", ".json"}
SCRIPTED = '<script type="module">'
"""The tag in an HTML page whose charts the reader's browser draws."""
CHARTS, VALUES = "charts", "page.json"
LINKS = ("charts_at", "rest_at")
"""Options that only a Markdown page has: the place of its pictures, and of the whole report if it is the first screen of one."""
FULL_REPORT: Options = MappingProxyType(
    {"template": "full", "title": None, "all_runs": False, "currency": "", "baseline": None}
)
"""The options of a report whose reader asked for nothing."""
_DIGEST_CHARACTERS = 16
_OF_A_LINE = {"table", "group", "kind", "notes", "row_notes", "clock_rule", "report_notes", "options"}
"""What a table file stores with each line beside its cells; the comparison of the whole file covers it."""
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, csv.Error)
"""The errors that reading a broken or hand-written file raises."""
_TABLE = re.compile(r"(?m)^\|(?:\s*:?-+:?\s*\|)+\s*$")
"""The rule under a table's headings in Markdown."""


class Rendering(Protocol):
    """A page rendered again from the ledgers."""

    @property
    def values(self) -> PageValues:
        """The whole page as data."""

    @property
    def shown(self) -> PageValues:
        """The part of the values that a page shows."""

    def file(self, name: str, *, static: bool, links: Mapping[str, str | None]) -> str | None:
        """Render one file of a page, drawings left empty; `name` is its ending, or its name in the page's folder."""


Render = Callable[[Sequence[Ledger], Sequence[PublishedRow], Options], Rendering]


@dataclass(frozen=True)
class Disagreement:
    """One place that differs from the ledgers, or a ledger that contradicts itself."""

    where: str
    what: str


@dataclass
class Audited:
    """How much was compared, and every disagreement."""

    ledgers: int = 0
    records: int = 0
    cells: int = 0
    marks: int = 0
    """Marks of charts."""
    skipped: int = 0
    """Tables that do not name their ledgers and options; none of them has a column of processors."""
    disagreements: list[Disagreement] = field(default_factory=list)

    def add(self, where: object, messages: Iterable[str]) -> None:
        """Add disagreements at one place."""
        self.disagreements += (Disagreement(str(where), message) for message in messages)


@dataclass(frozen=True)
class DocumentPart:
    """A generated part of a document."""

    path: Path
    begin: int
    """Lines of the document before the part."""
    name: str
    """The name to ask `Rendering.file` for."""
    text: str
    options: Options


def audit(paths: Sequence[Path], published_rows: Sequence[PublishedRow], render: Render) -> Audited:
    """Check every ledger, page, chart and table file under the paths. Raises UsageError for a missing path."""
    if missing := [path for path in paths if not path.exists()]:
        raise UsageError(f"{missing[0]}: no such file or directory to audit")
    files = {file for path in paths for file in (path, *path.rglob("*")) if file.is_file()}
    loaded = store.load_tree([file for file in files if file.suffix == ".jsonl"])
    found = Audited(len(loaded.ledgers), sum(len(ledger.records) for ledger in loaded.ledgers))
    for problem in loaded.problems:
        where, _, what = problem.partition(": ")
        found.add(where, [what])
    for ledger in loaded.ledgers:
        found.disagreements += check_ledger(ledger)
    stored = {
        file: read_document(file) for file in files if file.suffix == ".json" and file.parent.name in blocks.STORED
    }
    auditor = Auditor(loaded.ledgers, (*published_rows, *loaded.published_rows), render, stored)
    # One at a time: a report's files are a large part of the memory that an audit takes.
    documents = ((file, read_document(file)) for file in sorted(files) if file.suffix in KINDS)
    return auditor.check(documents, found=found)


def check_ledger(ledger: Ledger) -> Iterator[Disagreement]:
    """Check a ledger by itself: one record per job, distinct seeds, one machine, and the validity gates again."""
    path, header = str(ledger.path), ledger.header
    if ledger.path.stem != header.run_id or ledger.path.parent.name != header.machine.id:
        yield Disagreement(path, f"the file is not where run {header.run_id} of {header.machine.id} belongs")
    final = Counter(record.index for record in ledger.records if record.outcome.status != "interrupted")
    if missing := sorted(set(range(len(header.plan))) - final.keys()):
        planned = f"{len(header.plan)} jobs were planned"
        yield Disagreement(path, f"{planned}, {len(missing)} have no record: {missing[:10]}")
    yield from (Disagreement(path, f"job {index} has {n} records") for index, n in sorted(final.items()) if n > 1)
    seeds: dict[tuple[str, int], int] = {}
    for record in ledger.records:
        first = seeds.setdefault((record.job.row_key, record.job.seed), record.job.round)
        place = f"{path}: record {record.index}"
        yield from (Disagreement(place, what) for what in _find_record_errors(header, record, first))


def _find_record_errors(header: RunHeader, record: Record, first: int) -> Iterator[str]:
    """Find what is impossible in one record; `first` is the round that had its seed first."""
    status = record.outcome.status
    if (record.run_id, record.machine_id) != (header.run_id, header.machine.id):
        yield f"it names run {record.run_id} on {record.machine_id}, its file belongs to another"
    if record.index < len(header.plan) and record.job != header.plan[record.index]:
        yield "its job is not the planned one"
    if record.index >= len(header.plan):
        yield from _find_unplanned_errors(header, record)
    if first != record.job.round:
        yield f"rounds {first + 1} and {record.job.round + 1} share seed {record.job.seed}"
    if status in validity.CHECKED_STATUSES and record.outcome.trial is None:
        yield f"it is {status} and measured nothing"
    for violation in raw_rows.find_violations(header, record):
        if violation.severity == "invalid":
            yield f"{violation.gate} gate: {violation.message}"


def _find_unplanned_errors(header: RunHeader, record: Record) -> Iterator[str]:
    """Find why a process beyond the plan cannot be of a second stage: no width was asked for, or its row is not planned."""
    if "until" not in header.options:
        yield "it was not planned, and the run was to reach no width"
    if record.job.row_key not in {job.row_key for job in header.plan}:
        yield "its row was not planned"
    if record.job.round <= max((job.round for job in header.plan), default=-1):
        yield f"it was not planned, and round {record.job.round + 1} is one of the plan's"


def read_document(path: Path) -> str:
    """Read a document's text; each byte of a PNG becomes one character."""
    if path.suffix == ".png":
        return path.read_bytes().decode("latin-1")
    return path.read_text(encoding="utf-8", errors="replace")


class Auditor:
    """Checks documents against ledgers; what several documents share is derived and rendered once."""

    def __init__(
        self,
        found: Sequence[Ledger],
        published_rows: Sequence[PublishedRow],
        render: Render,
        stored: blocks.Stored = MappingProxyType({}),
    ) -> None:
        self._stored = stored
        self.ledgers = {ledger.header.run_id: ledger for ledger in found}
        self._ledgers, self._published_rows, self._render = found, published_rows, render
        self._rows = raw_rows.build_rows(found)
        self._made: dict[str, tuple[Rendering | None, list[str]]] = {}
        self._found = Audited()
        self._beside: dict[Path, str] = {}
        """The text of `page.json` by path: charts in the folder beside it are made from these values."""

    def check(self, read: Iterable[tuple[Path, str]], found: Audited | None = None) -> Audited:
        """Check every document, adding to what was found; a `page.json` comes before its charts, or is read from disk."""
        self._found, self._beside, reported = found or Audited(), {}, set[tuple[Path, str]]()
        for path, text in read:
            if path.name == VALUES:
                self._beside[path] = text
            for part in self._find_parts(path, text):
                options = {name: value for name, value in part.options.items() if name not in LINKS}
                rendering, errors = self._make(options, key := json.dumps(options, sort_keys=True))
                # All charts of a folder belong to one page.
                where = path.parent.parent if part.name.startswith(CHARTS) else path
                self._found.add(path, () if (where, key) in reported else errors)
                reported.add((where, key))
                if rendering is not None:
                    self._check_part(part, rendering)
            self._check_marks(path, text)
            documents.read_csv.cache_clear()
        return self._found

    def _make(self, options: Options, key: str) -> tuple[Rendering | None, list[str]]:
        """Render a page with these options, None if the ledgers lack its runs, and list its errors by the records."""
        if key not in self._made:
            try:
                own = [ledger for ledger in self._ledgers if ledger.header.run_id in options["runs"]]
                rendering = self._render(own, self._published_rows, options)
                full, shown = rendering.values, rendering.shown
                view = PageView(self._rows, self._published_rows, options)
            except (ComparisonError, UsageError, *_MALFORMED) as error:
                # Hand-written options may hold anything.
                self._made[key] = None, [f"cannot be made of these ledgers: {error}"]
            else:
                errors = [*pages.find_errors(view, full), *pages.find_shown_errors(full, shown)]
                self._made[key] = rendering, list(dict.fromkeys(errors))
        return self._made[key]

    def _find_parts(self, path: Path, text: str) -> Iterator[DocumentPart]:
        """Find the generated parts: in a Markdown page each that ends in its digest, in other files the whole text."""
        name, stored, tables_there = ".html" if path.suffix == ".htm" else path.suffix, text, set[str]()
        try:
            if path.parent.name == CHARTS and path.name.endswith((".svg", ".png", ".vl.json")):
                beside = path.parent.parent / VALUES
                if beside not in self._beside:
                    self._beside[beside] = read_document(beside) if beside.is_file() else ""
                stored = self._beside[beside]
                name = f"{CHARTS}/{path.name}"
            elif path.suffix == ".csv":
                lines = documents.read_csv(text)
                tables_there, own = {line["table"] for line in lines}, lines[0].get("options") if lines else ""
                stored = f"<!-- cnnbench made of {own}" if own else ""
            elif text.startswith(f'{{"{documents.VALUES}"'):
                name = VALUES
            if path.suffix == ".md":
                yield from self._find_markdown_parts(path, text)
            elif options := documents.read_options(stored):
                yield DocumentPart(path, 0, name, text, options)
            else:
                if name == ".json" and re.match(r'\s*\{\s*"cnnbench":', text):
                    tables_there = {table["key"] for table in documents.read_json(text).get("tables", ())}
                # Tables without rules of their own may lack options: they are only counted.
                ruled = tables_there & pages.TABLES.keys()
                self._found.skipped += len(tables_there - ruled)
                self._found.add(path, ["does not name the ledgers it was made from"] * bool(ruled))
        except _MALFORMED as error:
            self._found.add(path, [f"cannot be read: {error}"])

    def _find_markdown_parts(self, path: Path, text: str) -> Iterator[DocumentPart]:
        """Find the parts that name their ledgers and options; count the tables outside them as skipped."""
        outside, position = "", 0
        for begin, seal in documents.find_parts(text):
            part = text[begin : seal.end() + 1]
            outside, position = outside + text[position:begin], seal.end()
            if options := documents.read_options(part):
                yield DocumentPart(path, text.count("\n", 0, begin), ".md", part, options)
            else:
                self._found.skipped += len(_TABLE.findall(part))
        outside = self._check_blocks(path, outside + text[position:], text)
        self._found.skipped += len(_TABLE.findall(outside))
        copied = re.findall(r"(?m)^\| *processor\b.{,50}", outside)
        self._found.add(path, (f"no command made the table {each!r}" for each in copied))

    def _check_blocks(self, path: Path, outside: str, text: str) -> str:
        """Check the blocks of figures in a page, and return what is outside them."""
        for block in blocks.BLOCK.finditer(outside):
            name, begin = block.group(1), 1 + text.count("\n", 0, text.find(block.group()))
            try:
                errors = list(blocks.find_errors(name, block.group(2), self._stored, self._rows, self._read_report))
            except (NoFigure, *_MALFORMED) as error:
                errors = [(0, f"its files cannot be read: {error!r}")]
            for line, message in errors:
                self._found.add(f"{path}:{begin + max(0, line - 1)}", [f"figures {name}: {message}"])
            self._found.cells += len(re.findall(r"(?m)(?<!^)\|", block.group(2)))
        return blocks.BLOCK.sub("", outside)

    def _read_report(self) -> PageValues:
        """Render the report of all ledgers, whose values are derived again on the way."""
        options = {**FULL_REPORT, "runs": sorted(self.ledgers), "prices": [], "problems": []}
        rendering, errors = self._make(options, json.dumps(options, sort_keys=True))
        if rendering is None or errors:
            raise ValueError("; ".join(errors))
        return rendering.values

    def _check_part(self, part: DocumentPart, rendering: Rendering) -> None:
        """Check a part cell by cell, then as a whole."""
        text, links = part.text, {name: part.options.get(name) for name in LINKS}
        before = len(self._found.disagreements)
        if part.name.startswith(CHARTS):
            self._check_picture(part, rendering)
            text = text if part.path.suffix == ".json" else documents.read_stored(text)
        elif part.name in (".md", ".html"):
            self._check_tables(part, rendering)
        elif part.name != VALUES:
            self._check_lines(part, rendering)
        if len(self._found.disagreements) == before:
            expected = rendering.file(part.name, static=SCRIPTED not in text, links=links)
            self._found.add(*_compare_whole(part, text, expected))

    def _check_tables(self, part: DocumentPart, rendering: Rendering) -> None:
        """Check the tables and drawings of a page."""
        html, shown = part.name == ".html", pages.each_table(rendering.shown)
        grid = documents.read_html(part.text) if html else documents.read_markdown(part.text)
        expected = [cells for table in shown for cells in documents.shown_grid(table, html=html)]
        self._found.cells += sum(len(cells) for _, cells in grid)
        self._found.add(*_compare_grids(part, grid, expected))
        known = {chart["key"]: chart for chart in pages.each_chart(rendering.values)} if html else {}
        self._found.marks += sum(len(chart["data"]) for chart in known.values())
        for figure in re.finditer(r'<figure class="chart" id="chart-([^"]+)".*?</figure>', part.text, re.DOTALL):
            chart = known.get(figure.group(1), {})
            for drawn in DRAWING.findall(figure.group()) if chart else ():
                found = (f"chart {chart['key']}: {each}" for each in charts.find_drawing_errors(chart, drawn))
                self._found.add(part.path, found)

    def _check_lines(self, part: DocumentPart, rendering: Rendering) -> None:
        """Check each value and each text in the lines of a table file."""
        try:
            lines = (
                documents.read_csv(part.text)
                if part.name == ".csv"
                else [row for table in documents.read_json(part.text)["tables"] for row in table["rows"]]
            )
        except _MALFORMED as error:
            self._found.add(part.path, [f"cannot be read: {error}"])
            return
        expected = list(_list_lines(rendering.values, in_text=part.name == ".csv"))
        self._found.cells += sum(value not in ("", None) for line in lines for value in line.values())
        if len(lines) != len(expected):
            self._found.add(part.path, [f"it has {len(lines)} lines, there should be {len(expected)}"])
        for number, (line, (key, right)) in enumerate(zip(lines, expected, strict=False), 1):
            there = {name: value for name, value in line.items() if value not in ("", None) and name not in _OF_A_LINE}
            found = values.find_value_errors({name: line.get(name) for name in {**right, **there}}, right.__getitem__)
            self._found.add(f"{part.path}:{number}", (f"{key}: {each}" for each in found))

    def _check_picture(self, part: DocumentPart, rendering: Rendering) -> None:
        """Check the texts of a drawing, and the marks that a picture stores."""
        key = part.path.name.partition(".")[0]
        chart = next((each for each in pages.each_chart(rendering.values) if each["key"] == key), None)
        if chart is None or part.path.suffix == ".json":
            self._found.add(part.path, [] if chart else ["not a chart of this report"])
            return
        self._found.marks += len(chart["data"])
        found = list(charts.find_drawing_errors(chart, part.text)) if part.path.suffix == ".svg" else []
        try:
            stored = json.loads(documents.read_stored(part.text))["rows"]
            for number, (mark, right) in enumerate(zip(stored, chart["data"], strict=False), 1):
                there = {name: mark.get(name) for name in {**right, **mark}}
                found += (f"mark {number}: {each}" for each in values.find_value_errors(there, right.get))
        except _MALFORMED:
            found.append("the data stored in it cannot be read")
        self._found.add(part.path, found)

    def _check_marks(self, path: Path, text: str) -> None:
        """Check the digests in a document: its own, and those of the ledgers it names."""
        if path.suffix in (".svg", ".png"):
            return
        for run, printed in documents.find_runs(text):
            ledger = self.ledgers.get(run)
            if ledger is None:
                self._found.add(path, [f"is made from run {run}, whose ledger is not among the paths"])
            elif len(printed) < _DIGEST_CHARACTERS or not ledger.final_digest.startswith(printed):
                now = ledger.final_digest[:_DIGEST_CHARACTERS]
                what = f"run {run} ended in sha256:{printed}, its ledger now ends in {now}"
                self._found.add(path, [f"{what}: lines were changed, added or removed since"])
        marked = text if documents.PAGE in text else ""
        for begin, seal in documents.find_parts(marked):
            if digest(text[begin : seal.start() - 1]) != seal.group(1):
                changed = "the text from here to its digest was changed after it was generated"
                self._found.add(f"{path}:{text.count(chr(10), 0, begin) + 1}", [changed])
        for mark in MARK.finditer(marked):
            if not SEAL.fullmatch(mark.group()):
                line = text.count("\n", 0, mark.start()) + 1
                self._found.add(f"{path}:{line}", ["the mark of the page's digest is broken"])


def _list_lines(page: PageValues, *, in_text: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """List each line of a table file with its table: raw values by name, each column's printed text as `<column>_text`.

    In CSV all are text, and a ' comes before what a spreadsheet would take for a formula.
    """
    for table in (each for each in pages.each_table(page) if each["key"] not in pages.UNRULED):
        for line in pages.each_line(table):
            found: dict[str, Any] = {}
            for column, cell in zip(table["columns"], line["cells"], strict=True):
                found |= {**cell["values"], f"{column['key']}_text": cell["text"]}
            for name, value in found.items() if in_text else ():
                found[name] = "" if value is None else raw_rows.to_page_text(str(value)).lstrip("'")
            yield table["key"], found


def _compare_grids(
    part: DocumentPart, grid: documents.Grid, expected: Sequence[Sequence[str]]
) -> tuple[object, list[str]]:
    """Find the first row of a page's tables that differs from the expected one."""
    headings: Sequence[str] = ["a row"]
    for (line, cells), right in zip(grid, expected, strict=False):
        if len(headings) != len(right) > 1:
            headings = right
        both = zip(headings, cells, right, strict=False)
        differ = [each for each in both if not raw_rows.is_same_text(*each[1:])]
        if len(cells) != len(right):
            differ = [("a row", " | ".join(cells), " | ".join(right))]
        if differ:
            found = [f"{head}: printed {a!r}, from the records it is {b!r}" for head, a, b in differ]
            return f"{part.path}:{part.begin + line}", found
    wrong = len(grid) != len(expected)
    return part.path, [f"its tables have {len(grid)} rows, from the records there are {len(expected)}"] * wrong


def _compare_whole(part: DocumentPart, text: str, expected: str | None) -> tuple[object, list[str]]:
    """Find where a file differs from the rendered one, without drawings and without the digest that covers them."""
    if expected is None:
        return part.path, ["is not a file of this report"]
    bare = [APART.sub("", each) for each in (expected, text)]
    if bare[0] == bare[1]:
        return part.path, []
    ours, theirs = (each.split("\n") for each in bare)
    n = len(commonprefix([ours, theirs]))  # noqa: RUF071 - of lines, not of paths
    right, printed = (lines[n] if n < len(lines) else "" for lines in (ours, theirs))
    start = len(commonprefix([right, printed]))  # noqa: RUF071 - of a text, not of paths
    excerpt = printed[max(0, start - 60) : start + 60]
    return f"{part.path}:{part.begin + n + 1}", [f"is not what these ledgers give from this line on: {excerpt!r}"]
