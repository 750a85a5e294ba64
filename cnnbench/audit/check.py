"""Printed against raw, and raw against itself: every disagreement by file, place, what is there and what should be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cnnbench import gates, store
from cnnbench.audit import printed
from cnnbench.audit.printed import Kind, Number, PrintedTable
from cnnbench.audit.raw import RawRow, Wanted, expected, expected_reference, newest, parts, rows, words
from cnnbench.errors import UsageError
from cnnbench.schema import ReferenceRow, digest

KINDS: dict[str, Kind] = {
    "theoretical": "giga",
    "measured peak": "giga",
    "achieved": "giga",
    "measured": "giga",
    "MFU": "percent",
    "of peak": "percent",
    "time of the job": "duration",
    "speed-up over CPU": "ratio",
    "over": "ratio",
    "images": "number",
    "host peak": "size",
    "device peak": "size",
    "test accuracy": "percent",
    "device reserved": "size",
    "device used": "size",
    "activations an image": "size",
    "parameters": "size",
    "energy an image": "energy",
    "cold start": "time",
    "size": "number",
    "one step": "time",
    "compute floor": "time",
    "bandwidth floor": "time",
    "launch floor": "time",
    "input floor": "time",
}
"""Every column of figures by its heading, and how its cells are printed. A column that is not here is words."""
WORDS = {"outcome", "blocks x products after warm-up"}
"""Columns of words with numbers in them, held letter by letter."""
SHOWN = 400
"""A page shows at least so many characters of a name before it cuts it."""
PAGES = {".md", ".html", ".htm"}


@dataclass(frozen=True)
class Disagreement:
    """One thing that does not hold."""

    where: str
    what: str


@dataclass(frozen=True)
class Audited:
    """What was looked at, and what does not hold."""

    ledgers: int
    records: int
    cells: int
    disagreements: tuple[Disagreement, ...]


def audit(paths: Sequence[Path], references: Sequence[ReferenceRow]) -> Audited:
    """Check every ledger and every page under the paths. Raises UsageError for a path that is not there."""
    ledger_files, pages = _sort_out(paths)
    loaded = store.load_tree(ledger_files) if ledger_files else store.Loaded((), (), ())
    found = [Disagreement(*_split(problem)) for problem in loaded.problems]
    for ledger in loaded.ledgers:
        found.extend(_ledger(ledger))
    known = tuple(dict.fromkeys((*loaded.references, *references)))
    raw = _Raw(rows(loaded.ledgers), known)
    cells = 0
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for table in printed.tables(text):
            checked, wrong = _table(page, table, raw)
            cells += checked
            found.extend(wrong)
        found.extend(_digests(page, printed.unescape(text), loaded.ledgers))
        found.extend(_own_digest(page, text))
    records = sum(len(ledger.records) for ledger in loaded.ledgers)
    return Audited(len(loaded.ledgers), records, cells, tuple(found))


def _sort_out(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    ledgers: set[Path] = set()
    pages: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or directory to audit")
        for file in path.rglob("*") if path.is_dir() else (path,):
            if file.suffix == ".jsonl":
                ledgers.add(file)
            elif file.suffix in PAGES:
                pages.add(file)
    return sorted(ledgers), sorted(pages)


def _split(problem: str) -> tuple[str, str]:
    where, separator, what = problem.partition(": ")
    return (where, what) if separator else ("", problem)


def _ledger(ledger: store.Ledger) -> Iterator[Disagreement]:
    """Started = reported, one record a job, distinct seeds, one machine, and the gates again."""
    path, header = ledger.path, ledger.header
    if path.stem != header.run_id or path.parent.name != header.machine.id:
        yield Disagreement(str(path), f"the file is not where run {header.run_id} of {header.machine.id} belongs")
    final = [record for record in ledger.records if record.outcome.status != "interrupted"]
    indexes = [record.index for record in final]
    missing = sorted(set(range(len(header.plan))) - set(indexes))
    if missing:
        yield Disagreement(
            str(path), f"{len(header.plan)} jobs were planned, {len(missing)} have no record: {missing[:10]}"
        )
    for index in sorted({index for index in indexes if indexes.count(index) > 1}):
        yield Disagreement(str(path), f"job {index} has {indexes.count(index)} records")
    seeds: dict[tuple[str, int], int] = {}
    for record in ledger.records:
        place = f"{path}: record {record.index}"
        if (record.run_id, record.machine_id) != (header.run_id, header.machine.id):
            yield Disagreement(place, f"says run {record.run_id} on {record.machine_id}, its file is of another")
        if record.index < len(header.plan) and record.job != header.plan[record.index]:
            yield Disagreement(place, "its job is not the planned one")
        other = seeds.setdefault((record.job.row_key, record.job.seed), record.job.round)
        if other != record.job.round:
            yield Disagreement(place, f"rounds {other + 1} and {record.job.round + 1} share seed {record.job.seed}")
        trial, device = (
            record.outcome.trial,
            next((d for d in header.machine.devices if d.id == record.job.device), None),
        )
        if record.outcome.status == "ok" and trial is None:
            yield Disagreement(place, "it is ok and measured nothing")
        if record.outcome.status == "ok" and trial is not None:
            for violation in gates.check(record.job, trial, record.process_seconds, device, header.machine):
                if violation.severity == "invalid":
                    yield Disagreement(place, f"{violation.gate} gate: {violation.message}")


def _digests(page: Path, text: str, ledgers: Sequence[store.Ledger]) -> Iterator[Disagreement]:
    """A page that names a run's final digest must name the ledger's own."""
    for ledger in ledgers:
        marker = f"{ledger.header.run_id} sha256:"
        for part in text.split(marker)[1:]:
            said = part.strip("` \\")[:16].strip()
            if not ledger.final_digest.startswith(said) or len(said) < 16:
                what = f"run {ledger.header.run_id} ended in sha256:{said}, its ledger now ends in {ledger.final_digest[:16]}"
                yield Disagreement(str(page), f"{what}: lines were changed, added or removed since")


def _own_digest(page: Path, text: str) -> Iterator[Disagreement]:
    """A generated page (or the part of a page between the marks of `show --into`) ends with the digest of itself."""
    position = 0
    for found in re.finditer(r"(?m)^<!-- cnnbench page sha256:([0-9a-f]{64}) -->$", text):
        start = text.rfind("<!-- table: ", position, found.start())
        begin = position if start < 0 else text.index("\n", start) + 1
        if digest(text[begin : found.start() - 1]) != found.group(1):
            line = text.count("\n", 0, begin) + 1
            yield Disagreement(f"{page}:{line}", "the text from here to its digest was changed after it was generated")
        position = found.end() + 1


class _Raw:
    """The raw rows, and what each should say: worked out once, however many printed rows might be it."""

    def __init__(self, every: Sequence[RawRow], references: Sequence[ReferenceRow]) -> None:
        self.every, self.references = every, references
        self._shown = newest(every)
        cpus = [row for row in references if row.device_kind == "cpu" and row.job_seconds]
        self._baseline = max(cpus, key=lambda row: row.job_seconds or 0.0, default=None)
        self._known: dict[int, Wanted] = {}

    def wanted(self, row: RawRow) -> Wanted:
        """What a table should say of a raw row."""
        if id(row) not in self._known:
            figures = expected(row, self._shown, self._baseline)
            self._known[id(row)] = Wanted(figures, words(row), parts(row, figures))
        return self._known[id(row)]

    def published(self, processor: str) -> list[Wanted]:
        """What a table should say of the published rows of that name."""
        named = [row for row in self.references if row.processor == processor]
        return [Wanted(expected_reference(row, self._baseline), {}, {}) for row in named]


def _table(page: Path, table: PrintedTable, raw: _Raw) -> tuple[int, list[Disagreement]]:
    """How many cells were checked, and those that disagree; a table without a processor column is none of ours."""
    columns = [_known(heading) for heading in table.headings]
    if not table.headings or table.headings[0] != "processor":
        return 0, []
    found: list[Disagreement] = []
    checked = 0
    for line, cells in table.rows:
        where = f"{page}:{line}"
        figures = {column: cell for column, cell in zip(columns, cells, strict=False) if column is not None}
        candidates = _candidates(cells, table.headings, raw)
        if not candidates:
            found.append(Disagreement(where, f"no raw record is a row {cells[0]!r}"))
            continue
        checked += len(figures)
        compared = [list(_compare(where, figures, wanted)) for wanted in candidates]
        nearest: list[Disagreement] = min(compared, key=len)
        found.extend(nearest)
    return checked, found


def _known(heading: str) -> str | None:
    if heading.startswith("over "):
        return "over"
    return heading if heading in KINDS or heading in WORDS else None


def _candidates(cells: Sequence[str], headings: Sequence[str], raw: _Raw) -> list[Wanted]:
    """What the row could say: as a published row, or as any raw row of that processor, place and precision."""
    published = raw.published(cells[0])
    if published:
        return published
    name, _, place = cells[0].partition(" (")
    precision = cells[headings.index("precision")] if "precision" in headings else None
    return [
        raw.wanted(row) for row in raw.every if _could_be(row, name, place) and precision in (None, row.job.precision)
    ]


def _could_be(row: RawRow, name: str, place: str) -> bool:
    """Whether a row printed under this name and place can be this raw row: a shortened name is part of the full one."""
    job, device = row.job, row.device
    full = device.name if device is not None else row.header.machine.cpu_name
    threads = "" if job.threads is None else f"{job.threads} thread"
    known = all(word.removesuffix("…") in _as_shown(full) for word in name.split())
    return known and _as_shown(job.device)[:SHOWN] in place and threads in place


@lru_cache(maxsize=1024)
def _as_shown(text: str) -> str:
    """A record's text as a page can show it: blanks folded, U+FFFD for controls, direction overrides and half characters."""
    folded = re.sub(r"[^\S\x1c-\x1f]+", " ", text)
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "\ufffd", folded).strip(" ")


def _compare_words(where: str, column: str, text: str, wanted: Wanted) -> Iterator[Disagreement]:
    right = wanted.words.get(column, "")
    if text.strip() != right:
        yield Disagreement(where, f"{column}: printed {text!r}, from the records it is {right!r}")


def _compare(where: str, cells: dict[str, str], wanted: Wanted) -> Iterator[Disagreement]:
    for column, text in cells.items():
        if column in WORDS:
            yield from _compare_words(where, column, text, wanted)
            continue
        figure = wanted.figures.get(column)
        try:
            said = printed.read(KINDS[column], text)
        except ValueError as error:
            yield Disagreement(where, f"{column}: {error}")
            continue
        if said.number is None or figure is None:
            if (said.number is None) != (figure is None):
                raw = "unknown" if figure is None else f"{figure.value:.6g}"
                yield Disagreement(where, f"{column}: printed {text!r}, from the records it is {raw}")
            continue
        pairs = (
            ("", said.number, figure.value),
            ("lower end ", said.low, figure.low),
            ("upper end ", said.high, figure.high),
        )
        for part, number, value in pairs:
            if number is not None and not _fits(number, value):
                yield Disagreement(
                    where, f"{column}: {part}printed {text!r}, from the records it is {_say(value, number)}"
                )
        for part in wanted.parts.get(column, ()):
            if part not in text:
                yield Disagreement(where, f"{column}: printed {text!r}, it should say {part!r}")
        if said.n is not None and figure.n is not None and said.n != figure.n:
            yield Disagreement(where, f"{column}: printed {text!r}, there are n={figure.n} processes")


def _fits(number: Number, value: float | None) -> bool:
    return value is not None and number.fits(value)


def _say(value: float | None, number: Number) -> str:
    if value is None:
        return "unknown"
    return f"{value:.6g} (in SI units; printed to within {number.tolerance:.1g})"
