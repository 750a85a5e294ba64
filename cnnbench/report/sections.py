"""A whole page out of the comparison: which sections a template has, each with its charts, tables and notes.

A section whose records do not exist is left out. Nothing here knows a format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cnnbench import units
from cnnbench.analysis.rows import Row
from cnnbench.analysis.speedup import Comparison
from cnnbench.report import cells, convergence, cost, footnotes, formulas, machines, stopping_rule, tables
from cnnbench.report.charts import processes, resources, roofline, speed, sweeps
from cnnbench.report.charts.chart_data import ChartData
from cnnbench.report.charts.kinds import ChartSpec, draw_chart
from cnnbench.report.headline import find_headline_row, write_headline
from cnnbench.report.model import Cell, Chart, Note, Page, Report, Section, Table

Template = Literal["lecture", "full"]
TITLE = "The lecture's CNN, then and now"


CHARTS: tuple[ChartSpec[ChartData], ...] = (
    *(*speed.CHARTS, *roofline.CHARTS, *sweeps.CHARTS, *resources.CHARTS, *processes.CHARTS),
)
"""All charts of the page; each says in which section it is, and those of one section are in this order."""


@dataclass(frozen=True)
class PageRequest:
    """What the reader asked for, beside the rows."""

    template: Template = "full"
    title: str | None = None
    all_runs: bool = False
    prices: tuple[cost.Price, ...] = ()
    currency: str = ""
    problems: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    """Final digest of each ledger by run."""

    def options(self, comparison: Comparison) -> dict[str, object]:
        """What the page can be made of again, beside the ledgers themselves."""
        return {
            **{"template": self.template, "title": self.title, "all_runs": self.all_runs, "currency": self.currency},
            "baseline": comparison.baseline,
            "prices": [[price.key, price.per_hour] for price in self.prices],
            "runs": sorted(self.digests),
            "problems": list(self.problems),
        }


def build(chart_data: ChartData, request: PageRequest) -> Page:
    """The page of these rows. The same rows in any order give an equal page."""
    rows = chart_data.comparison.rows
    page_notes = footnotes.build(
        chart_data.comparison, chart_data.comparison.published_rows, request.problems, request.digests
    )
    processor = tables.name_processors(rows, all_runs=request.all_runs)

    makers: dict[Template, Callable[[], list[Section | None]]] = {
        "lecture": lambda: [
            _lecture_section(chart_data, processor),
            _doubts(page_notes),
            _method(rows, page_notes, ()),
            _files(page_notes),
        ],
        "full": lambda: _full(chart_data, request, page_notes, processor),
    }
    sections = (section for section in makers[request.template]() if section is not None)
    drawn = [dataclasses.replace(section, charts=_draw_charts(section.key, chart_data)) for section in sections]
    best = find_headline_row(chart_data.comparison)
    return Page(
        request.title or TITLE,
        write_headline(chart_data.comparison),
        _drop_empty(drawn),
        page_notes,
        () if best is None else cells.name_raw_rows(best),
        request.options(chart_data.comparison),
    )


def build_comparison_page(compared: Report, rows: Sequence[Row], title: str) -> Page:
    """The page of a comparison of two sides: what it comes to, row by row, what else differs, and the machines of both."""
    summary = tuple(note.text for note in compared.notes if note.kind == "summary")
    others = [note for note in compared.notes if note.kind in ("rule", "missing", "reference", "problem")]
    sections = (
        Section("compare", "Row by row", "", (), compared.tables, tuple(others)),
        _doubts(compared.notes),
        _machines(rows),
        _files(compared.notes),
    )
    claim = summary or ("Nothing could be summed up: no two rows have an interval.",)
    options: dict[str, object] = {"template": "compare", "title": title}
    return Page(title, claim, _drop_empty(sections), compared.notes, options=options)


def _full(
    chart_data: ChartData, request: PageRequest, page_notes: Sequence[Note], processor: Callable[[Row], Cell]
) -> list[Section | None]:
    rows = chart_data.comparison.rows
    by_key = {table.key: table for table in tables.build_tables(chart_data.comparison, processor)}
    costs = cost.table(processor, chart_data.training, request.prices, request.currency)
    return [
        _lecture_section(chart_data, processor),
        _section(
            "training",
            "Every row",
            "Rows divide one another only within a group: the same work, timed the same way.",
            [by_key.get("training")],
        ),
        _section(
            "why",
            "Why not N times faster",
            "Each step against the floors measured beside it; the largest floor is what binds.",
            [by_key.get("bounds"), by_key.get("gemm")],
        ),
        _section(
            "ladder",
            "The ladder",
            "The same work on the same device, computed another way on each rung: what layout, number format and compiler bring.",
            [by_key.get("ladder")],
        ),
        _section(
            "scaling",
            "More than one device",
            "One job dealt out to ranks, against one process: the same batch shared (strong) or the same batch on each (weak).",
            [by_key.get("scaling"), by_key.get("copies")],
        ),
        _section(
            "sweeps",
            "Threads and batch sizes",
            "One thing varied, all else equal.",
            [],
        ),
        _section(
            "resources",
            "Memory, energy, cost",
            "High-water marks, never polls; energy only where a counter could be read.",
            [by_key.get("resources"), costs],
        ),
        _section(
            "learning",
            "Accuracy over time",
            "Speed without learning is worth nothing.",
            [by_key.get("tta"), by_key.get("seeds")],
        ),
        _stopping(chart_data.training, processor),
        _convergence(chart_data.training, processor),
        _section(
            "noise",
            "How sure",
            "What another process, or another minute, would have said.",
            [],
        ),
        _doubts(page_notes),
        _machines(rows),
        _method(rows, page_notes, [column.key for table in by_key.values() for column in table.columns]),
        _files(page_notes),
    ]


def _section(
    key: str, title: str, lead: str, found: Sequence[Table | None], section_notes: Sequence[Note] = ()
) -> Section:
    """The section with the tables that exist. Its charts are those that are declared for its key (`CHARTS`)."""
    return Section(key, title, lead, (), tuple(table for table in found if table is not None), tuple(section_notes))


def _draw_charts(section: str, chart_data: ChartData) -> tuple[Chart, ...]:
    """The section's charts that have something to show."""
    charts = (draw_chart(spec, chart_data) for spec in CHARTS if spec.section == section)
    return tuple(chart for chart in charts if chart is not None)


def _drop_empty(sections: Iterable[Section | None]) -> tuple[Section, ...]:
    """The sections that have something to show."""
    return tuple(each for each in sections if each is not None and (each.charts or each.tables or each.notes))


def _lecture_section(chart_data: ChartData, processor: Callable[[Row], Cell]) -> Section:
    """The lecture's table with the measured rows of the same job under it, and its two charts."""
    comparison = chart_data.comparison
    table = tables.build_lecture_table(processor, chart_data.training, chart_data.comparison.published_rows, comparison)
    lead = speed.describe_point(chart_data.comparison.published_rows)
    section_notes = footnotes.build_published_notes(chart_data.comparison.published_rows)
    return _section("lecture", "Then and now", lead, [table], section_notes)


def _stopping(rows: Sequence[Row], processor: Callable[[Row], Cell]) -> Section | None:
    """The lecture's stopping rule; left out where no row looked at all test images after every epoch."""
    found = stopping_rule.tables(rows, processor)
    if not found:
        return None
    lead = stopping_rule.write_lead(rows, processor)
    return _section("stopping", 'What "100 %" means', lead, found, stopping_rule.rules())


def _convergence(rows: Sequence[Row], processor: Callable[[Row], Cell]) -> Section | None:
    """The modes that could be tested."""
    found = convergence.table(rows, processor)
    if found is None:
        return None
    lead = "A mode may not buy speed with worse learning: one that does is doubted wherever its row stands."
    return _section("convergence", "Whether the faster modes learn as well", lead, [found], convergence.RULES)


def _doubts(page_notes: Sequence[Note]) -> Section:
    doubted = [note for note in page_notes if note.kind in ("doubt", "problem")]
    lead = "Reasons to believe a figure less, each with what to do about it. A doubt never changes a figure."
    return _section("doubts", "Doubts", lead, [], doubted)


def _machines(rows: Sequence[Row]) -> Section:
    return _section("machines", "Machines", "What the results depend on.", [machines.table(rows)])


def _method(rows: Sequence[Row], page_notes: Sequence[Note], shown: Iterable[str]) -> Section | None:
    if not rows:
        return None
    section_notes = [*formulas.clock_notes(rows), *(note for note in page_notes if note.kind in ("rule", "missing"))]
    title = "How it was timed, and how to derive it again"
    return _section("method", title, "", [formulas.table(shown)], section_notes)


def _files(page_notes: Sequence[Note]) -> Section | None:
    section_notes = [note for note in page_notes if note.kind == "run"]
    if not section_notes:
        return None
    return _section(
        "files",
        "Raw files",
        "Everything above is made of these ledgers and nothing else.",
        [],
        [*section_notes, AUDIT_NOTE],
    )


AUDIT_NOTE = Note(
    "rule", "cnnbench audit RESULTS PAGE derives every figure on a page again, with other code, and compares."
)


def abridge(page: Page, most: int) -> Page:
    """The page as people read it: tables without empty columns and with at most about `most` lines; the files keep all.

    Of each long group the first lines stay (slowest first, as tables are ordered), the last, and evenly some between; the
    group's title says how many it has.
    """
    has_resources = any(table.key == "resources" for table in page.tables)

    def shown(table: Table) -> Table:
        elsewhere = IN_RESOURCES if has_resources and table.key == "training" else set()
        return tables.abridge(_drop_empty_columns(table, elsewhere), most)

    sections = tuple(
        dataclasses.replace(section, tables=tuple(shown(table) for table in section.tables))
        for section in page.sections
    )
    return dataclasses.replace(page, sections=sections)


IN_RESOURCES = {"host_peak", "device_peak"}
"""Columns that the page's table of resources has too."""


def _drop_empty_columns(table: Table, elsewhere: set[str]) -> Table:
    """The table without the columns that are elsewhere, and without those that say n/a in every row, which are named."""
    lines = [line for _, line in table.lines]
    silent = {"", units.NOT_AVAILABLE}
    empty = [
        bool(lines) and {line.cells[n].text for line in lines} <= silent and table.columns[n].priority > 1
        for n in range(len(table.columns))
    ]
    kept = [n for n, column in enumerate(table.columns) if column.key not in elsewhere and not empty[n]]
    gone = [column.one_line for n, column in enumerate(table.columns) if empty[n] and column.key not in elsewhere]
    groups = tuple(
        dataclasses.replace(
            group,
            lines=tuple(dataclasses.replace(line, cells=tuple(line.cells[n] for n in kept)) for line in group.lines),
        )
        for group in table.groups
    )
    clock = table.clock + (f"; n/a in every row: {', '.join(name for name in gone if name)}" if any(gone) else "")
    return dataclasses.replace(table, columns=tuple(table.columns[n] for n in kept), groups=groups, clock=clock)
