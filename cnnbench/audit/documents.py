"""Documents against the evidence: pages, drawings and table files, each by the rules of its format."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench.audit import ceilings, charts, claim, files, pages, raw, stopping, tables, web
from cnnbench.audit.pages import Chart, Page
from cnnbench.audit.raw import RawRow
from cnnbench.audit.tables import Checked
from cnnbench.audit.views import Scope, View
from cnnbench.schema import ReferenceRow, digest
from cnnbench.store import Ledger

MARKDOWN, HTML, SVG, PNG, CSV, JSON = ".md", ".html", ".svg", ".png", ".csv", ".json"
KINDS = {MARKDOWN, HTML, ".htm", SVG, PNG, CSV, JSON}
VEGA = ".vl.json"
_RUN_TOLD = re.compile(r"; run \S+[;)]")
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
    passed_over: int = 0
    disagreements: list[Disagreement] = dataclasses.field(default_factory=list)

    def say(self, where: object, messages: Iterable[str]) -> None:
        """These things do not hold there."""
        self.disagreements += [Disagreement(str(where), message) for message in messages]

    def table(self, path: Path, checked: Checked | None) -> None:
        """A table was checked; one of another kind is counted as passed over."""
        if checked is None:
            self.passed_over += 1
            return
        self.cells += checked.figures
        for line, message in checked.wrong:
            self.say(f"{path}:{line}", [message])

    def chart(self, path: Path, checked: Checked) -> None:
        """A chart was checked."""
        self.marks += checked.figures
        for line, message in checked.wrong:
            self.say(f"{path}:{line}", [message])


class Evidence:
    """The ledgers, and what pages made of them should say."""

    def __init__(self, found: Sequence[Ledger], references: Sequence[ReferenceRow]) -> None:
        self.ledgers = {ledger.header.run_id: ledger for ledger in found}
        self.references = tuple(dict.fromkeys(references))
        self._rows = raw.rows(found)
        self._views: dict[Scope, View] = {}

    def view(self, scope: Scope) -> View:
        """The rows of that scope, worked out once however many pages share it."""
        if scope not in self._views:
            self._views[scope] = View(self._rows, self.references, scope)
        return self._views[scope]

    def over(self, scope: Scope, said: Sequence[tuple[RawRow, float]]) -> View:
        """The scope with the baseline that fits most of these speed-ups, for a file that does not name its own."""
        best = self.view(scope)
        most = sum(best.divides(row, value) for row, value in said)
        if most < len(said):
            for view in (self.view(dataclasses.replace(scope, baseline=key)) for key in sorted(best.places)):
                fitting = sum(view.divides(row, value) for row, value in said)
                if fitting > most:
                    most, best = fitting, view
        return best


def read(path: Path) -> str:
    """The document's text; a PNG's bytes one by one."""
    if path.suffix == PNG:
        return path.read_bytes().decode("latin-1")
    return path.read_text(encoding="utf-8", errors="replace")


def check(documents: Mapping[Path, str], evidence: Evidence) -> Findings:
    """Every document, pages first: the charts in files beside a page are of the runs that the page names."""
    findings, scopes = Findings(), dict[Path, Scope]()
    for path, text in documents.items():
        if path.suffix in (MARKDOWN, HTML, ".htm"):
            scope = _page(path, text, evidence, findings, documents)
            if scope.runs is not None:
                scopes.setdefault(path.parent, scope)
    for path, text in documents.items():
        scope = scopes.get(path.parent) or scopes.get(path.parent.parent) or Scope()
        if path.suffix in (CSV, JSON) and not path.name.endswith(VEGA):
            _table_file(path, text, evidence, findings)
        elif (chart := _stored(path, text)) is not None and chart.stored:
            data = charts.data_of(chart)
            said = [pair for mark in data.marks for pair in _speedups(mark, evidence.view(scope))]
            view = evidence.over(dataclasses.replace(scope, baseline=None), said)
            findings.chart(path, charts.check(chart, data, view))
    return findings


def _stored(path: Path, text: str) -> Chart | None:
    """The chart that a file of its own holds; its `stored` is empty where it is none of ours."""
    if path.suffix == SVG:
        return web.svg(text)
    if path.suffix == PNG:
        return web.png(text)
    if path.name.endswith(VEGA):
        return web.vega(path.name.removesuffix(VEGA), text)
    return None


def _speedups(mark: Mapping[str, object], view: View) -> list[tuple[RawRow, float]]:
    value = mark.get("speedup")
    rows = [wanted.row for wanted in charts.rows_of(mark, view)]
    return [(row, float(value)) for row in rows if isinstance(row, RawRow) and isinstance(value, int | float)][:1]


def _page(path: Path, text: str, evidence: Evidence, findings: Findings, others: Mapping[Path, str]) -> Scope:
    """A page, and what it is made of."""
    page = web.html(path, text) if path.suffix != MARKDOWN else pages.markdown(path, text)
    if path.suffix == MARKDOWN and re.search(r"<table[\s>]", text):
        page.tables += web.html(path, text).tables
    scope = _scope_of(page, evidence)
    view = evidence.view(scope)
    for table in page.tables:
        findings.table(path, tables.check(table, view))
    for line, said in page.claims:
        findings.say(f"{path}:{line}", (f"the claim {message}" for message in claim.check(said, view)))
    for chart in page.charts:
        findings.chart(path, charts.check(chart, charts.data_of(chart), view))
    for picture in page.pictures:
        target = path.parent / picture.target
        if target.suffix == SVG and (target in others or target.is_file()):
            drawn = web.svg(others.get(target) or read(target))
            own = [(picture.title or each.title, picture.words) for each in drawn.drawings]
            if drawn.stored and own != [(each.title, each.description) for each in drawn.drawings]:
                findings.say(f"{path}:{picture.line}", [f"describes {picture.target} otherwise than it does itself"])
    findings.say(path, claim.wrong_point(page.prose, view))
    findings.say(path, stopping.wrong_conclusions(page.prose, view))
    findings.say(path, _wrong_peaks(page, view))
    findings.say(path, _wrong_digests(page.runs, evidence))
    for begin, seal in pages.parts(text):
        if digest(text[begin : seal.start() - 1]) != seal.group(1):
            line = text.count("\n", 0, begin) + 1
            changed = "the text from here to its digest was changed after it was generated"
            findings.say(f"{path}:{line}", [changed])
    for mark in pages.MARK.finditer(text):
        if not pages.SEAL.fullmatch(mark.group()):
            findings.say(
                f"{path}:{text.count(chr(10), 0, mark.start()) + 1}", ["the mark of the page's digest is broken"]
            )
    return scope


def _wrong_peaks(page: Page, view: View) -> Iterable[str]:
    """Notes on measured peaks; a page with shares of them and with the list of ledgers has the notes of all its rows."""
    shares = any("of peak" in table.headings for table in page.tables)
    best = [(row, view.products.best(row)) for row in view.shown]
    return ceilings.wrong_page(page.notes, best, complete=shares and "\n- Ledger " in page.notes)


def _scope_of(page: Page, evidence: Evidence) -> Scope:
    runs = frozenset(run for run, _ in page.runs if run in evidence.ledgers)
    every = [table for table in page.tables if "processor" in table.headings]
    told = any(
        _RUN_TOLD.search(row.cells[table.headings.index("processor")])
        for table in every
        for row in table.rows
        if len(row.cells) == len(table.headings)
    )
    over = {name.removeprefix(_OVER) for table in every for name in table.headings if name.startswith(_OVER)}
    return Scope(runs or None, told, next(iter(sorted(over - {"CPU"})), None))


def _wrong_digests(runs: Iterable[tuple[str, str]], evidence: Evidence) -> Iterable[str]:
    """A document that names a run's final digest must name the ledger's own."""
    for run, said in runs:
        ledger = evidence.ledgers.get(run)
        if ledger is None:
            yield f"is made of run {run}, no ledger of it is among the paths"
        elif len(said) < _DIGEST_CHARACTERS or not ledger.final_digest.startswith(said):
            what = (
                f"run {run} ended in sha256:{said}, its ledger now ends in {ledger.final_digest[:_DIGEST_CHARACTERS]}"
            )
            yield f"{what}: lines were changed, added or removed since"


def _table_file(path: Path, text: str, evidence: Evidence, findings: Findings) -> None:
    """A CSV or JSON file; one that is none of ours is no business of the audit."""
    try:
        lines = files.comma_separated(text) if path.suffix == CSV else files.as_json(text)
    except ValueError as error:
        findings.say(path, [f"cannot be read: {error}"])
        return
    if not lines:
        return
    told = any(_RUN_TOLD.search(str(line.said.get("processor_text", ""))) for line in lines)
    named = {run for run, _ in pages.runs_of(text) if run in evidence.ledgers}
    scope = Scope(frozenset(named | {line.run for line in lines if line.run}) or None, told)
    view = evidence.over(scope, list(files.speedups(lines, evidence.view(scope))))
    by_table: dict[str, list[files.Line]] = {}
    for line in lines:
        by_table.setdefault(line.table, []).append(line)
    for of_one in by_table.values():
        findings.table(path, files.check(of_one, view))
    findings.say(path, _wrong_digests(pages.runs_of(text), evidence))
