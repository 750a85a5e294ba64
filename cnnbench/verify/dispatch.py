"""Documents against the evidence: pages, drawings and table files, each by the rules of its format."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench.schema import PublishedRow, digest
from cnnbench.store import Ledger
from cnnbench.verify import ceilings, charts, headline, html_parser, pages, raw_rows, stopping_rule, table_files, tables
from cnnbench.verify.expectations import Expectations, Scope
from cnnbench.verify.pages import PrintedChart, PrintedPage
from cnnbench.verify.raw_rows import RawRow
from cnnbench.verify.tables import Checked

MARKDOWN, HTML, SVG, PNG, CSV, JSON = ".md", ".html", ".svg", ".png", ".csv", ".json"
KINDS = {MARKDOWN, HTML, ".htm", SVG, PNG, CSV, JSON}
VEGA = ".vl.json"
_RUN_NAMED = re.compile(r"; run \S+[;)]")
_OVER = "speed-up over "
_DIGEST_CHARACTERS = 16


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
    disagreements: list[Disagreement] = dataclasses.field(default_factory=list)

    def add(self, where: object, messages: Iterable[str]) -> None:
        """These things do not hold there."""
        self.disagreements += [Disagreement(str(where), message) for message in messages]

    def add_table(self, path: Path, checked: Checked | None) -> None:
        """A table was checked; one of another kind is counted as passed over."""
        if checked is None:
            self.skipped += 1
            return
        self.cells += checked.figures
        for line, message in checked.errors:
            self.add(f"{path}:{line}", [message])

    def add_chart(self, path: Path, checked: Checked) -> None:
        """A chart was checked."""
        self.marks += checked.figures
        for line, message in checked.errors:
            self.add(f"{path}:{line}", [message])


class Evidence:
    """The ledgers, and what pages made of them should say."""

    def __init__(self, found: Sequence[Ledger], published_rows: Sequence[PublishedRow]) -> None:
        self.ledgers = {ledger.header.run_id: ledger for ledger in found}
        self.references = tuple(dict.fromkeys(published_rows))
        self._rows = raw_rows.build_rows(found)
        self._views: dict[Scope, Expectations] = {}

    def view(self, scope: Scope) -> Expectations:
        """The rows of that scope, worked out once however many pages share it."""
        if scope not in self._views:
            self._views[scope] = Expectations(self._rows, self.references, scope)
        return self._views[scope]

    def fit_baseline(self, scope: Scope, speedups: Sequence[tuple[RawRow, float]]) -> Expectations:
        """The scope with the baseline that fits most of these speed-ups, for a file that does not name its own."""
        best = self.view(scope)
        most = sum(best.divides(row, value) for row, value in speedups)
        if most < len(speedups):
            for view in (self.view(dataclasses.replace(scope, baseline=key)) for key in sorted(best.places)):
                fitting = sum(view.divides(row, value) for row, value in speedups)
                if fitting > most:
                    most, best = fitting, view
        return best


def read_document(path: Path) -> str:
    """The document's text; a PNG's bytes one by one."""
    if path.suffix == PNG:
        return path.read_bytes().decode("latin-1")
    return path.read_text(encoding="utf-8", errors="replace")


def check_documents(documents: Mapping[Path, str], evidence: Evidence) -> Findings:
    """Every document, pages first: the charts in files beside a page are of the runs that the page names."""
    findings, scopes = Findings(), dict[Path, Scope]()
    for path, text in documents.items():
        if path.suffix in (MARKDOWN, HTML, ".htm"):
            scope = _check_page(path, text, evidence, findings, documents)
            if scope.runs is not None:
                scopes.setdefault(path.parent, scope)
    for path, text in documents.items():
        scope = scopes.get(path.parent) or scopes.get(path.parent.parent) or Scope()
        if path.suffix in (CSV, JSON) and not path.name.endswith(VEGA):
            _check_table_file(path, text, evidence, findings)
        elif (chart := _read_stored(path, text)) is not None and chart.stored:
            data = charts.read_data(chart)
            stated_speedups = [pair for mark in data.marks for pair in _find_speedups(mark, evidence.view(scope))]
            view = evidence.fit_baseline(dataclasses.replace(scope, baseline=None), stated_speedups)
            findings.add_chart(path, charts.check_chart(chart, data, view))
    return findings


def _read_stored(path: Path, text: str) -> PrintedChart | None:
    """The chart that a file of its own holds; its `stored` is empty where it is none of ours."""
    if path.suffix == SVG:
        return html_parser.read_svg(text)
    if path.suffix == PNG:
        return html_parser.read_png(text)
    if path.name.endswith(VEGA):
        return html_parser.read_vega(path.name.removesuffix(VEGA), text)
    return None


def _find_speedups(mark: Mapping[str, object], view: Expectations) -> list[tuple[RawRow, float]]:
    value = mark.get("speedup")
    rows = [wanted.row for wanted in charts.find_rows(mark, view)]
    return [(row, float(value)) for row in rows if isinstance(row, RawRow) and isinstance(value, int | float)][:1]


def _check_page(path: Path, text: str, evidence: Evidence, findings: Findings, others: Mapping[Path, str]) -> Scope:
    """A page, and what it is made of."""
    page = html_parser.read_html(path, text) if path.suffix != MARKDOWN else pages.read_markdown(path, text)
    if path.suffix == MARKDOWN and re.search(r"<table[\s>]", text):
        page.tables += html_parser.read_html(path, text).tables
    scope = _find_scope(page, evidence)
    view = evidence.view(scope)
    for table in page.tables:
        findings.add_table(path, tables.check_table(table, view))
    for line, printed in page.headlines:
        findings.add(f"{path}:{line}", (f"the claim {message}" for message in headline.check_headline(printed, view)))
    for chart in page.charts:
        findings.add_chart(path, charts.check_chart(chart, charts.read_data(chart), view))
    for picture in page.linked_charts:
        target = path.parent / picture.target
        if target.suffix == SVG and (target in others or target.is_file()):
            drawn = html_parser.read_svg(others.get(target) or read_document(target))
            own = [(picture.title or each.title, picture.words) for each in drawn.drawings]
            if drawn.stored and own != [(each.title, each.description) for each in drawn.drawings]:
                findings.add(f"{path}:{picture.line}", [f"describes {picture.target} otherwise than it does itself"])
    findings.add(path, headline.find_point_errors(page.prose, view))
    findings.add(path, stopping_rule.find_conclusion_errors(page.prose, view))
    findings.add(path, _find_peak_errors(page, view))
    findings.add(path, _find_digest_errors(page.runs, evidence))
    for begin, seal in pages.find_parts(text):
        if digest(text[begin : seal.start() - 1]) != seal.group(1):
            line = text.count("\n", 0, begin) + 1
            changed = "the text from here to its digest was changed after it was generated"
            findings.add(f"{path}:{line}", [changed])
    for mark in pages.MARK.finditer(text):
        if not pages.SEAL.fullmatch(mark.group()):
            findings.add(
                f"{path}:{text.count(chr(10), 0, mark.start()) + 1}", ["the mark of the page's digest is broken"]
            )
    return scope


def _find_peak_errors(page: PrintedPage, view: Expectations) -> Iterable[str]:
    """Notes on measured peaks; a page with shares of them and with the list of ledgers has the notes of all its rows."""
    shares = any("of peak" in table.headings for table in page.tables)
    best = [(row, view.products.best(row)) for row in view.shown]
    return ceilings.find_page_errors(page.notes, best, complete=shares and "\n- Ledger " in page.notes)


def _find_scope(page: PrintedPage, evidence: Evidence) -> Scope:
    runs = frozenset(run for run, _ in page.runs if run in evidence.ledgers)
    every = [table for table in page.tables if "processor" in table.headings]
    all_runs = any(
        _RUN_NAMED.search(row.cells[table.headings.index("processor")])
        for table in every
        for row in table.rows
        if len(row.cells) == len(table.headings)
    )
    over = {name.removeprefix(_OVER) for table in every for name in table.headings if name.startswith(_OVER)}
    return Scope(runs or None, all_runs, next(iter(sorted(over - {"CPU"})), None))


def _find_digest_errors(runs: Iterable[tuple[str, str]], evidence: Evidence) -> Iterable[str]:
    """A document that names a run's final digest must name the ledger's own."""
    for run, printed in runs:
        ledger = evidence.ledgers.get(run)
        if ledger is None:
            yield f"is made of run {run}, no ledger of it is among the paths"
        elif len(printed) < _DIGEST_CHARACTERS or not ledger.final_digest.startswith(printed):
            what = f"run {run} ended in sha256:{printed}, its ledger now ends in {ledger.final_digest[:_DIGEST_CHARACTERS]}"
            yield f"{what}: lines were changed, added or removed since"


def _check_table_file(path: Path, text: str, evidence: Evidence, findings: Findings) -> None:
    """A CSV or JSON file; one that is none of ours is no business of the audit."""
    try:
        lines = table_files.read_csv(text) if path.suffix == CSV else table_files.read_json(text)
    except ValueError as error:
        findings.add(path, [f"cannot be read: {error}"])
        return
    if not lines:
        return
    all_runs = any(_RUN_NAMED.search(str(line.values.get("processor_text", ""))) for line in lines)
    named = {run for run, _ in pages.find_runs(text) if run in evidence.ledgers}
    scope = Scope(frozenset(named | {line.run for line in lines if line.run}) or None, all_runs)
    view = evidence.fit_baseline(scope, list(table_files.find_speedups(lines, evidence.view(scope))))
    by_table: dict[str, list[table_files.FileLine]] = {}
    for line in lines:
        by_table.setdefault(line.table, []).append(line)
    for of_one in by_table.values():
        findings.add_table(path, table_files.check_lines(of_one, view))
    findings.add(path, _find_digest_errors(pages.find_runs(text), evidence))
