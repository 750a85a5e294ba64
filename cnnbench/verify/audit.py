"""Printed against raw, and raw against itself: every disagreement by file, place, what is there and what should be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cnnbench import store
from cnnbench.errors import ComparisonError, UsageError
from cnnbench.schema import PublishedRow, digest
from cnnbench.store import Ledger
from cnnbench.verify import documents, drawings, ledgers, origins, pages, raw_rows, values
from cnnbench.verify.documents import DRAWING, MARK, OPEN, SEAL
from cnnbench.verify.origins import Options
from cnnbench.verify.view import PageView

LEDGER = ".jsonl"
KINDS = {".md", ".html", ".htm", ".svg", ".png", ".csv", ".json"}
SCRIPTED = '<script type="module">'
"""What an HTML page has where the reader's browser draws its charts."""
_DIGEST_CHARACTERS = 16
_OF_A_LINE = {"table", "group", "kind", "notes", "row_notes", "clock_rule", "report_notes"}
"""What a table file says of a line beside its cells."""


class Rendering(Protocol):
    """What a command makes of ledgers, made again."""

    @property
    def values(self) -> Mapping[str, Any]:
        """All that it says, as data."""

    @property
    def shown(self) -> Mapping[str, Any]:
        """What of it a page shows."""

    def file(self, name: str, *, static: bool) -> str | None:
        """One of its files, drawings left empty."""

    def first_screen(self, charts_at: str, rest_at: str) -> str:
        """What of it stands in another page."""


Render = Callable[[Sequence[Ledger], Sequence[PublishedRow], Options], Rendering]


@dataclass(frozen=True)
class Disagreement:
    """One thing that does not hold."""

    where: str
    what: str


@dataclass
class Findings:
    """What was looked at so far, and what does not hold."""

    cells: int = 0
    marks: int = 0
    skipped: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)

    def add(self, where: object, messages: Iterable[str]) -> bool:
        """These things do not hold there; whether there are any."""
        found = [Disagreement(str(where), message) for message in messages]
        self.disagreements += found
        return bool(found)


@dataclass(frozen=True)
class Audited:
    """What was looked at, and what does not hold."""

    ledgers: int
    records: int
    cells: int
    marks: int
    """Of charts."""
    skipped: int
    """Tables of kinds that there are no rules for, none of them with a column of processors."""
    disagreements: tuple[Disagreement, ...]


def audit(paths: Sequence[Path], published_rows: Sequence[PublishedRow], render: Render) -> Audited:
    """Check every ledger, page, chart and table file under the paths. Raises UsageError for a path that is not there."""
    files = _files(paths)
    ledger_files = [file for file in files if file.suffix == LEDGER]
    loaded = store.load_tree(ledger_files) if ledger_files else store.LoadedLedgers((), (), ())
    found = [Disagreement(*_split(problem)) for problem in loaded.problems]
    for ledger in loaded.ledgers:
        found += [Disagreement(where, what) for where, what in ledgers.check_ledger(ledger)]
    read = {file: read_document(file) for file in files if file.suffix in KINDS}
    auditor = Auditor(loaded.ledgers, (*published_rows, *loaded.published_rows), render, loaded.problems)
    printed = auditor.check(read)
    records = sum(len(ledger.records) for ledger in loaded.ledgers)
    counts = (printed.cells, printed.marks, printed.skipped)
    return Audited(len(loaded.ledgers), records, *counts, (*found, *printed.disagreements))


def read_document(path: Path) -> str:
    """The document's text; a PNG's bytes one by one."""
    if path.suffix == ".png":
        return path.read_bytes().decode("latin-1")
    return path.read_text(encoding="utf-8", errors="replace")


def _files(paths: Sequence[Path]) -> list[Path]:
    files: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or directory to audit")
        files |= {file for file in (path.rglob("*") if path.is_dir() else (path,)) if file.is_file()}
    return sorted(files)


def _split(problem: str) -> tuple[str, str]:
    where, separator, what = problem.partition(": ")
    return (where, what) if separator else ("", problem)


class Auditor:
    """Checks documents against ledgers; what several documents are made of is derived and rendered once."""

    def __init__(
        self,
        found: Sequence[Ledger],
        published_rows: Sequence[PublishedRow],
        render: Render,
        problems: Sequence[str] = (),
    ) -> None:
        self.ledgers = {ledger.header.run_id: ledger for ledger in found}
        self._found, self._published_rows, self._render, self._problems = found, published_rows, render, problems
        self._rows = raw_rows.build_rows(found)
        self._made: dict[str, tuple[Rendering | None, list[str]]] = {}
        self._views: dict[str, PageView] = {}
        self._renderings: dict[str, Rendering] = {}
        self._findings = Findings()
        self._read: Mapping[Path, str] = {}

    def check(self, read: Mapping[Path, str], beside: Mapping[Path, str] | None = None) -> Findings:
        """Check every document. What they were made of may be recorded in files that are beside them."""
        self._findings, self._read, reported = Findings(), {**(beside or {}), **read}, set[str]()
        for path, text in read.items():
            for part, name, options, made in self._find_origin(path, text):
                rendering, errors = self._make(options)
                key = str(path) if name.startswith((".", "first")) else _key(options)
                if key not in reported:  # the files of a folder are all made of one page
                    reported.add(key)
                    self._findings.add(path, errors)
                if rendering is not None:
                    self._check_document(path, part, name, rendering, made)
            self._check_marks(path, text)
        return self._findings

    def _make(self, options: Options) -> tuple[Rendering | None, list[str]]:
        """What the options give, None where these ledgers give nothing, and what in it the records say otherwise."""
        key = _key(options)
        if key not in self._made:
            rendering, view = self._rendering(options), self._view({**options, "runs": sorted(set(options["runs"]))})
            try:
                full = rendering.values
            except (
                ComparisonError,
                UsageError,
                LookupError,
                TypeError,
                ValueError,
            ) as error:  # recorded options may be anything
                self._made[key] = None, [f"cannot be made of these ledgers: {error}"]
            else:
                errors = [*pages.find_errors(view, full), *pages.find_shown_errors(full, rendering.shown)]
                self._made[key] = rendering, list(dict.fromkeys(errors))
        return self._made[key]

    def _rendering(self, options: Options) -> Rendering:
        """What the options give, rendered once."""
        key = _key(options)
        if key not in self._renderings:
            own = [ledger for ledger in self._found if ledger.header.run_id in options["runs"]]
            self._renderings[key] = self._render(own, self._published_rows, options)
        return self._renderings[key]

    def _view(self, options: Options) -> PageView:
        """The rows of a page; pages of one selection share them, and what was derived of them."""
        kept = {name: value for name, value in options.items() if name not in ("template", "title")}
        view = self._views.get(_key(kept)) or PageView(self._rows, self._published_rows, kept)
        view.options = options
        return self._views.setdefault(_key(kept), view)

    def _lookup(self, path: Path) -> str | None:
        """A document's text, of those under the paths or beside them."""
        if path in self._read:
            return self._read[path]
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    def _find_origin(self, path: Path, text: str) -> Iterator[tuple[tuple[int, str], str, Options, str | None]]:
        """Each generated part of a document with its line, the name of the file it is, and what it was made of."""
        folder = path.parent.parent if path.parent.name == "charts" else path.parent
        options = origins.embedded_options(text) if path.suffix in (".html", ".htm") else None
        own_folder = origins.folder_options(folder, self._lookup)
        name = path.relative_to(folder).as_posix()
        if own_folder is not None and own_folder["template"] != "compare" and self._is_of_folder(name):
            yield (0, text), name, own_folder, None
        elif options is not None and options["template"] != "compare":
            yield (0, text), ".html", options, None
        elif path.suffix == ".md":
            yield from self._find_parts(path, text)
        elif self._is_tables(path, text) and self._has_rules(path, text):
            yield (0, text), path.suffix, self._guess(path, text), None

    def _is_of_folder(self, name: str) -> bool:
        return name in ("index.html", "page.json") or name.startswith(("report.", "charts/"))

    def _has_rules(self, path: Path, text: str) -> bool:
        """Whether a table of it is of a kind that there are rules for; the others are counted."""
        if path.suffix == ".md":
            tables, known = re.findall(r"(?m)^\| *(.*?) *\|.*\n\|(?: *:?-+:? *\|)+$", text), pages.FIRST_HEADINGS
        elif path.suffix == ".csv":
            tables, known = sorted({line["table"] for line in documents.read_csv(text) or ()}), pages.RULED
        else:
            listed, known = documents.read_json(text)["tables"], pages.RULED
            tables = [str(each.get("key")) for each in listed if isinstance(each, dict)] if listed else []
        found = not tables or any(each in known for each in tables)
        self._findings.skipped += 0 if found else len(tables)
        return found

    def _is_tables(self, path: Path, text: str) -> bool:
        """Whether it is a CSV or JSON file of tables; one of ours that is broken is a finding."""
        if path.suffix != ".json":
            return path.suffix == ".csv" and bool(documents.read_csv(text))
        try:
            found = documents.read_json(text)
        except ValueError as error:
            if re.match(r'\s*\{\s*"cnnbench":', text):
                self._findings.add(path, [f"cannot be read: {error}"])
            return False
        return isinstance(found, dict) and {"cnnbench", "tables"} <= found.keys()

    def _find_parts(self, path: Path, text: str) -> Iterator[tuple[tuple[int, str], str, Options, str | None]]:
        """The generated parts of a Markdown page; tables outside them are passed over."""
        outside, position = "", 0
        for begin, seal in documents.find_parts(text):
            part, line = text[begin : seal.end() + 1], text.count("\n", 0, begin)
            outside, position = outside + text[position:begin], seal.end()
            links = origins.first_screen_links(part)
            if links is None:
                if self._has_rules(path, part):
                    yield (line, part), ".md", self._guess(path, part), None
                continue
            options = origins.folder_options((path.parent / links[1]).parent, self._lookup)
            if options is None:
                self._findings.add(
                    f"{path}:{line + 1}", [f"there is no report at {links[1]} whose first screen this is"]
                )
                continue
            lecture = {**options, "template": "lecture"}
            made = self._make(lecture)[0]
            yield (line, part), "first screen", lecture, made.first_screen(*links) if made else None
        outside += text[position:]
        self._findings.skipped += len(re.findall(r"(?m)^\|(?:\s*:?-+:?\s*\|)+\s*$", outside))
        for found in re.finditer(r"(?m)^\| *processor\b", outside):
            self._findings.add(
                path, [f"the table {outside[found.start() : found.start() + 60]!r} was made by no command"]
            )

    def _guess(self, path: Path, text: str) -> Options:
        """The options that give this text, else those that come nearest."""
        places = sorted({"/".join(row.key.split("/")[:parts]) for row in self._rows for parts in (1, 2, 3)}, key=len)
        best: tuple[int, Options] | None = None
        named = sorted(run for run, _ in origins.find_runs(text) if run in self.ledgers)
        machines = {self.ledgers[run].header.machine.id for run in named}
        near = sorted(run for run, ledger in self.ledgers.items() if ledger.header.machine.id in machines)
        runs = list(dict.fromkeys(map(tuple, (sorted(self.ledgers), near, named))))
        asked = {"prices": self._find_prices(path, text), "currency": origins.find_currency(text)}
        for guessed in origins.guess_options(path, text, places, self._problems, runs):
            options = {**guessed, **asked}
            wrong = self._count_differences(options, path.suffix, text)
            if best is None or wrong < best[0]:
                best = wrong, options
            if wrong == 0:
                break
        assert best is not None
        return best[1]

    def _find_prices(self, path: Path, text: str) -> list[tuple[str, float]]:
        """The prices an hour that a file by itself names, each by the machine and the device of its row."""
        if path.suffix == ".md":
            grid = [cells for _, cells in documents.read_markdown(text)]
            head = next((cells for cells in grid if any(each.startswith("price an hour") for each in cells)), [])
            place = next((n for n, each in enumerate(head) if each.startswith("price an hour")), 0)
            named = [(cells[0], cells[place]) for cells in grid if head and len(cells) == len(head)]
        else:
            lines = _read_lines(path, text)
            named = [(str(line.get("processor_text")), str(line.get("price_text") or "")) for line in lines]
        found: dict[str, float] = {}
        for cell, price in named:
            if re.fullmatch(r"[\d,.]+(e[+-]?\d+)?", price):
                rows = [row for row in self._rows if row.printed_as(cell)]
                found |= {f"{row.header.machine.id}/{row.job.device}": float(price.replace(",", "")) for row in rows}
        return sorted(found.items())

    def _count_differences(self, options: Options, name: str, text: str) -> int:
        try:
            made = self._rendering(options).file(name, static=True) or ""
        except (ComparisonError, UsageError):
            return len(text)
        ours, theirs = (_split_lines(name, each) for each in (made, text))
        return len(set(ours) ^ set(theirs)) + abs(len(ours) - len(theirs))

    def _check_document(
        self, path: Path, part: tuple[int, str], name: str, rendering: Rendering, made: str | None
    ) -> None:
        """A document cell by cell, then as a whole."""
        begin, text = part
        static = SCRIPTED not in text
        wrong = False
        if path.suffix in (".html", ".htm"):
            wrong = self._check_html(path, text, rendering)
        elif path.suffix == ".md":
            wrong = self._check_grid(path, begin, documents.read_markdown(text), rendering, name)
        elif path.suffix == ".csv" or name in (".json", "report.json"):
            wrong = self._check_lines(path, text, rendering)
        elif path.suffix in (".svg", ".png"):
            wrong, text = self._check_picture(path, text, name, rendering), documents.read_stored(path.name, text)
        expected = made if made is not None else rendering.file(name, static=static)
        if not wrong:
            self._findings.add(*_compare_whole(path, begin, text, expected))

    def _check_html(self, path: Path, text: str, rendering: Rendering) -> bool:
        read, wrong = documents.read_html(text), False
        for table in pages.each_table(rendering.shown):
            grid = read.tables.get(table["key"], [])
            self._findings.cells += sum(len(cells) for _, cells in grid)
            expected = list(documents.shown_grid(table, html=True))
            wrong |= self._findings.add(*_compare_grids(path, 0, table["key"], grid, expected))
        for chart in pages.each_chart(rendering.values):
            self._findings.marks += len(chart["data"])
            for drawn in read.drawings.get(chart["key"], []):
                found = (f"chart {chart['key']}: {each}" for each in drawings.find_errors(chart, drawn))
                wrong |= self._findings.add(path, found)
        return wrong

    def _check_grid(self, path: Path, begin: int, grid: documents.Grid, rendering: Rendering, name: str) -> bool:
        tables = list(pages.each_table(rendering.shown))
        if name == "first screen":
            tables = [table for table in tables if table["key"] == "lecture"]
        expected = [cells for table in tables for cells in documents.shown_grid(table, html=False)]
        self._findings.cells += sum(len(cells) for _, cells in grid)
        self._findings.skipped += pages.count_skipped(rendering.shown)
        return self._findings.add(*_compare_grids(path, begin, "tables", grid, expected))

    def _check_lines(self, path: Path, text: str, rendering: Rendering) -> bool:
        """A table file's lines, each value and each text."""
        try:
            lines = _read_lines(path, text)
        except (ValueError, KeyError, TypeError) as error:
            return self._findings.add(path, [f"cannot be read: {error}"])
        expected = [
            (table, line)
            for table in pages.each_table(rendering.values)
            for group in table["groups"]
            for line in group["lines"]
            if table["key"] != "method"
        ]
        self._findings.cells += sum(value not in ("", None) for line in lines for value in line.values())
        wrong = len(lines) != len(expected)
        self._findings.add(path, [f"it has {len(lines)} lines, there should be {len(expected)}"] * wrong)
        for number, (line, (table, right)) in enumerate(zip(lines, expected, strict=False), 1):
            known = {f"{column['key']}_text" for column in table["columns"]} | _OF_A_LINE
            known.update(name for cell in right["cells"] for name in cell["values"])
            unknown = [name for name, value in line.items() if value not in ("", None) and name not in known]
            wrong |= self._findings.add(path, (f"{table['key']}: no second derivation of {name}" for name in unknown))
            for column, cell in zip(table["columns"], right["cells"], strict=True):
                named = {**cell["values"], f"{column['key']}_text": cell["text"]}
                differing = {name: value for name, value in named.items() if not _is_in_file(line.get(name), value)}
                found = (
                    f"{name} is {line.get(name)!r}, from the records it is {value!r}"
                    for name, value in differing.items()
                )
                wrong |= self._findings.add(f"{path}:{number}", (f"{table['key']}: {each}" for each in found))
        return wrong

    def _check_picture(self, path: Path, text: str, name: str, rendering: Rendering) -> bool:
        key = path.name.partition(".")[0]
        chart = next((each for each in pages.each_chart(rendering.values) if each["key"] == key), None)
        if chart is None:
            return self._findings.add(path, ["no chart of this report"])
        self._findings.marks += len(chart["data"])
        drawn = documents.read_html(text).drawings.get("", []) if path.suffix == ".svg" else []
        found = [each for texts in drawn for each in drawings.find_errors(chart, texts)]
        found += drawings.find_data_errors(chart, documents.read_stored(path.name, text))
        return self._findings.add(path, found)

    def _check_marks(self, path: Path, text: str) -> None:
        """The digests in a document: of itself, and of the ledgers it names."""
        if path.suffix in (".svg", ".png"):
            return
        for run, printed in origins.find_runs(text):
            ledger = self.ledgers.get(run)
            if ledger is None:
                self._findings.add(path, [f"is made of run {run}, no ledger of it is among the paths"])
            elif len(printed) < _DIGEST_CHARACTERS or not ledger.final_digest.startswith(printed):
                now = ledger.final_digest[:_DIGEST_CHARACTERS]
                what = f"run {run} ended in sha256:{printed}, its ledger now ends in {now}"
                self._findings.add(path, [f"{what}: lines were changed, added or removed since"])
        for begin, seal in documents.find_parts(text):
            if digest(text[begin : seal.start() - 1]) != seal.group(1):
                changed = "the text from here to its digest was changed after it was generated"
                self._findings.add(f"{path}:{text.count(chr(10), 0, begin) + 1}", [changed])
        for mark in MARK.finditer(text):
            if not SEAL.fullmatch(mark.group()):
                line = text.count("\n", 0, mark.start()) + 1
                self._findings.add(f"{path}:{line}", ["the mark of the page's digest is broken"])


def _read_lines(path: Path, text: str) -> list[Mapping[str, Any]]:
    """The lines of a table file. Raises ValueError, KeyError or TypeError where it is broken."""
    if path.suffix == ".csv":
        return list(documents.read_csv(text) or ())
    return [row for table in documents.read_json(text)["tables"] for row in table["rows"]]


def _split_lines(name: str, text: str) -> list[str]:
    """The lines of a file by itself; of JSON a line each value, however it was spaced."""
    return (json.dumps(json.loads(text), indent=0) if name == ".json" and text else text).splitlines()


def _key(options: Options) -> str:
    return json.dumps(options, sort_keys=True, default=sorted)


def _is_in_file(printed: Any, value: Any) -> bool:
    """Whether a file that says this means that: CSV has numbers as text, and a ' before what a sheet would calculate."""
    if value in (None, ""):
        return printed in (None, "")
    if isinstance(printed, str) and not isinstance(value, str):
        return printed == str(value)
    text = printed.removeprefix("'") if isinstance(printed, str) and printed != value else printed
    return values.is_same(text, value) or text == raw_rows.to_page_text(str(value))


def _compare_grids(
    path: Path, begin: int, name: str, grid: documents.Grid, expected: Sequence[Sequence[str]]
) -> tuple[object, list[str]]:
    """The first row of a page's table that is not what it should be."""
    headings: Sequence[str] = ()
    for n, ((line, cells), right) in enumerate(zip(grid, expected, strict=False)):
        if len(right) > 1 and (n == 0 or len(headings) != len(right)):
            headings = right
        if len(cells) != len(right) or not all(map(raw_rows.is_same_text, cells, right)):
            both = [each for each in zip(headings, cells, right, strict=False) if not raw_rows.is_same_text(*each[1:])]
            both = both if len(cells) == len(right) and both else [("a row", " | ".join(cells), " | ".join(right))]
            found = [f"{name}: {head}: printed {a!r}, from the records it is {b!r}" for head, a, b in both]
            return f"{path}:{begin + line}", found
    if len(grid) != len(expected):
        return path, [f"{name}: it has {len(grid)} rows, from the records there are {len(expected)}"]
    return path, []


def _compare_whole(path: Path, begin: int, text: str, expected: str | None) -> tuple[object, list[str]]:
    """Where a file is not the one that the ledgers give."""
    if expected is None:
        return path, ["is no file of this report"]
    ours, theirs = (_comparable(each).splitlines() for each in (expected, text))
    if ours == theirs:
        return path, []
    n = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    right, printed = (lines[n] if n < len(lines) else "" for lines in (ours, theirs))
    start = next((k for k, (a, b) in enumerate(zip(right, printed, strict=False)) if a != b), 0)
    excerpt = printed[max(0, start - 60) : start + 60]
    return f"{path}:{begin + n + 1}", [f"is not what these ledgers give from this line on: {excerpt!r}"]


def _comparable(text: str) -> str:
    """A page without drawings, and without its seal, which covers them and is checked by itself."""
    return SEAL.sub("", DRAWING.sub("", text))


__all__ = ["OPEN", "Audited", "Auditor", "Disagreement", "Render", "Rendering", "audit"]
