"""A whole page out of the comparison: which sections a template has, each with its charts, tables and notes.

A section whose records do not exist is left out. Nothing here knows a format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter, itemgetter
from typing import Any, Literal

from cnnbench import naming, units
from cnnbench.analysis import metrics
from cnnbench.analysis.metrics import Metric, get_metric, name_baseline
from cnnbench.analysis.rows import Row
from cnnbench.analysis.seed_accuracy import compare_with_plain
from cnnbench.analysis.speedup import Comparison
from cnnbench.analysis.stats import Estimate
from cnnbench.machine_facts import Host, list_facts
from cnnbench.report import cells, cost, footnotes, learning, tables
from cnnbench.report.cells import ProcessorCell
from cnnbench.report.charts import processes, rows, sweeps
from cnnbench.report.charts.chart_data import ChartData
from cnnbench.report.charts.kinds import ChartSpec, draw_chart
from cnnbench.report.charts.rows import describe_point
from cnnbench.report.model import Chart, Note, Page, Report, RowGroup, Section, Table
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, make_cell, metric_cell, wording

Template = Literal["lecture", "full"]
TITLE = "The lecture's CNN, then and now"


CHARTS: tuple[ChartSpec, ...] = (*rows.CHARTS, *sweeps.CHARTS, *processes.CHARTS)
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
            **{name: getattr(self, name) for name in ("template", "title", "all_runs", "currency")},
            "baseline": comparison.baseline,
            "prices": [[price.key, price.per_hour] for price in self.prices],
            "runs": sorted(self.digests),
            "problems": list(self.problems),
        }


SECTIONS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "training",
        "Every row",
        "Rows divide one another only within a group: the same work, timed the same way.",
        ("training",),
    ),
    (
        "why",
        "Why not N times faster",
        "Each step against the floors measured beside it; the largest floor is what binds.",
        ("bounds", "gemm"),
    ),
    (
        "ladder",
        "The ladder",
        "The same work on the same device, computed another way on each rung: what layout, number format and compiler bring.",
        ("ladder",),
    ),
    (
        "scaling",
        "More than one device",
        "One job dealt out to ranks, against one process: the same batch shared (strong) or the same batch on each (weak).",
        ("scaling", "copies"),
    ),
    ("sweeps", "Threads and batch sizes", "One thing varied, all else equal.", ()),
    (
        "resources",
        "Memory, energy, cost",
        "High-water marks, never polls; energy only where a counter could be read.",
        ("resources", "cost"),
    ),
    ("learning", "Accuracy over time", "Speed without learning is worth nothing.", ("tta", "seeds")),
    ("stopping", 'What "100 %" means', "", ("stopping", "stopped")),
    (
        "convergence",
        "Whether the faster modes learn as well",
        "A mode may not buy speed with worse learning: one that does is doubted wherever its row stands.",
        ("convergence",),
    ),
    ("noise", "How sure", "What another process, or another minute, would have said.", ()),
)
"""The sections of figures of the whole page: anchor, title, lead, and the keys of the tables. Charts name their section."""


def build(chart_data: ChartData, request: PageRequest) -> Page:
    """The page of these rows. The same rows in any order give an equal page."""
    comparison = chart_data.comparison
    page_notes = footnotes.build(
        comparison, comparison.published_rows, problems=request.problems, digests=request.digests
    )
    sections = _list_sections(chart_data, request, page_notes)
    best = find_headline_row(comparison)
    return Page(
        request.title or TITLE,
        write_headline(comparison),
        _drop_empty(replace(section, charts=_draw_charts(section.key, chart_data)) for section in sections),
        page_notes,
        () if best is None else cells.name_raw_rows(best),
        request.options(comparison),
    )


def _list_sections(chart_data: ChartData, request: PageRequest, page_notes: Sequence[Note]) -> Iterator[Section]:
    """Yield the sections of the template, without their charts."""
    comparison = chart_data.comparison
    rows, published = comparison.rows, comparison.published_rows
    processor = tables.name_processors(rows, all_runs=request.all_runs)
    lecture = tables.build_lecture_table(comparison, processor)
    lead, notes = describe_point(published), tuple(footnotes.build_published_notes(published))
    yield Section("lecture", "Then and now", lead, (), () if lecture is None else (lecture,), notes)
    row_tables = tables.build_tables(comparison, processor) if request.template == "full" else []
    if request.template == "full":
        yield from _build_figures(chart_data, request, processor, row_tables)
    yield _doubts(page_notes)
    if request.template == "full":
        yield _machines(rows)
    if rows:
        shown = {column.key for table in row_tables for column in table.columns}
        rules = (note for note in page_notes if note.kind in ("rule", "missing"))
        title = "How it was timed, and how to derive it again"
        method = build_table(FORMULAS, _list_formulas(shown))
        yield Section("method", title, "", (), (method,), (*_list_clocks(rows), *rules))
    yield from _files(page_notes)


def build_comparison_page(compared: Report, rows: Sequence[Row], title: str) -> Page:
    """The page of a comparison of two sides: what it comes to, row by row, what else differs, and the machines of both."""
    summary = tuple(note.text for note in compared.notes if note.kind == "summary")
    others = tuple(note for note in compared.notes if note.kind in ("rule", "missing", "reference", "problem"))
    by_row = Section("compare", "Row by row", "", (), compared.tables, others)
    sections = (by_row, _doubts(compared.notes), _machines(rows), *_files(compared.notes))
    claim = summary or ("Nothing could be summed up: no two rows have an interval.",)
    return Page(title, claim, _drop_empty(sections), compared.notes, options={"template": "compare", "title": title})


def _build_figures(
    chart_data: ChartData, request: PageRequest, processor: ProcessorCell, row_tables: Sequence[Table]
) -> Iterator[Section]:
    """Yield the sections of figures with the tables that these rows have."""
    rows = chart_data.training
    conclusions, stopping = learning.build_stopping_tables(rows, processor)
    tested = learning.build_convergence_tables(compare_with_plain(rows)[0], processor)
    costs = cost.build_tables(processor, rows, request.prices, request.currency)
    by_key = {table.key: table for table in (*row_tables, *costs, *stopping, *tested)}
    leads = {"stopping": conclusions[0] if conclusions else ""}
    notes = {
        "stopping": learning.write_stopping_rules() if stopping else (),
        "convergence": learning.CONVERGENCE_RULES if tested else (),
    }
    for key, title, lead, wanted in SECTIONS:
        found = tuple(by_key[name] for name in wanted if name in by_key)
        yield Section(key, title, leads.get(key, lead), tables=found, notes=notes.get(key, ()))


def _draw_charts(section: str, chart_data: ChartData) -> tuple[Chart, ...]:
    """The section's charts that have something to show."""
    found = ((spec, spec.select(chart_data)) for spec in CHARTS if spec.section == section)
    return tuple(draw_chart(spec, shown) for spec, shown in found if shown.data)


def _drop_empty(sections: Iterable[Section]) -> tuple[Section, ...]:
    """The sections that have something to show."""
    return tuple(each for each in sections if each.charts or each.tables or each.notes)


def _doubts(page_notes: Sequence[Note]) -> Section:
    doubted = tuple(note for note in page_notes if note.kind in ("doubt", "problem"))
    lead = "Reasons to believe a figure less, each with what to do about it. A doubt never changes a figure."
    return Section("doubts", "Doubts", lead, notes=doubted)


def _machines(rows: Sequence[Row]) -> Section:
    found = build_machine_table(rows)
    return Section("machines", "Machines", "What the results depend on.", tables=(found,) if found is not None else ())


def _files(page_notes: Sequence[Note]) -> list[Section]:
    """The ledgers, with how to audit the page; nothing where it is made of none."""
    runs = tuple(note for note in page_notes if note.kind == "run")
    lead = "Everything above is made of these ledgers and nothing else."
    return [Section("files", "Raw files", lead, notes=(*runs, AUDIT_NOTE))] if runs else []


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
        return tables.abridge(_drop_columns(table, elsewhere), most)

    sections = (replace(section, tables=tuple(map(shown, section.tables))) for section in page.sections)
    return replace(page, sections=tuple(sections))


IN_RESOURCES = {"host_peak", "device_peak"}
"""Columns that the page's table of resources has too."""


def _drop_columns(table: Table, elsewhere: set[str]) -> Table:
    """The table without the columns that are elsewhere, and without those that say n/a in every row, which are named."""
    lines = [line for _, line in table.lines]
    silent = {"", units.NOT_AVAILABLE}
    kept: list[int] = []
    gone: list[int] = []
    for n, column in enumerate(table.columns):
        if column.key in elsewhere:
            continue
        empty = bool(lines) and {line.cells[n].text for line in lines} <= silent and column.priority > 1
        (gone if empty else kept).append(n)
    groups = (
        RowGroup(group.title, tuple(replace(line, cells=tuple(line.cells[n] for n in kept)) for line in group.lines))
        for group in table.groups
    )
    names = ", ".join(filter(None, (table.columns[n].one_line for n in gone)))
    clock = table.clock + (f"; n/a in every row: {names}" if names else "")
    return replace(table, columns=tuple(table.columns[n] for n in kept), groups=tuple(groups), clock=clock)


# How each figure came about: the clocks, and from which raw fields every column can be derived again by hand.

INTERVAL = Metric(
    "interval",
    formula="mean of the logs ± Student's t(n - 1) x standard deviation / sqrt(n), from n = 3",
    explained_as="interval",
)
FORMULAS = TableSpec[Metric](
    "method",
    "How to derive each figure again",
    (
        wording(
            "figure", "figure", 1, lambda each: each.explained_as or " ".join(each.heading.replace("-\n", "").split())
        ),
        wording("formula", "how to derive it", 1, "formula"),
        wording("fields", "from the record's fields", 1, "reads", name=""),
    ),
    group=lambda each: "Formulas",
)


def _list_formulas(shown: set[str]) -> Iterator[Metric]:
    # Some are listed only where their column is shown.
    explained = [metric for metric in metrics.METRICS if metric.formula]
    yield from (metric for metric in explained if metric.always_explained)
    yield INTERVAL
    yield from (metric for metric in explained if not metric.always_explained and metric.column_key in shown)


def _list_clocks(rows: Iterable[Row]) -> tuple[Note, ...]:
    """List the clock rules of the rows shown, and what holds for all of them."""
    clocks = sorted({row.job.clock for row in rows})
    return (
        *(Note("clock", f"Clock: {footnotes.CLOCKS[name]}.") for name in clocks),
        Note(
            "rule",
            "n counts fresh processes, never steps: steps inside one process are not independent. Jobs ran in shuffled, "
            "interleaved rounds with the seed in the ledger; warm-up steps are run and undone; the allocator is held, and "
            "every worker first proved that its synchronise waits.",
        ),
    )


# The machines side by side: what a result depends on, and where they differ.

MOST_COLUMNS = 6
"""Machines side by side; more of them stand below one another, a line each."""


def build_machine_table(rows: Sequence[Row]) -> Table | None:
    """Build a column a machine with its software, a line a fact, `differs` where they are not all alike; None without rows.

    Of several runs on one machine the newest speaks. More than six machines stand a line each, with the facts that differ
    alone: what they share is said in the group's title.
    """
    newest = {row.machine.id: row for row in sorted(rows, key=lambda each: (each.created_at, each.run_id))}
    names = sorted(newest)
    if not names:
        return None
    hosts = [Host(newest[name].machine, newest[name].software, newest[name].device) for name in names]
    facts = [(each.heading or each.words, *map(each.describe, hosts)) for each in list_facts("table")]
    if len(names) > MOST_COLUMNS:
        shared = "; ".join(f"{fact[0]} {fact[1]}" for fact in facts if not _differs(fact))
        differing = [fact for fact in facts if _differs(fact)]
        columns: list[ColumnSpec[Any]] = [wording("machine", "machine", 1, itemgetter(0), name="machine_id")]
        columns += [wording(fact[0], fact[0], 2, itemgetter(n), name="") for n, fact in enumerate(differing, 1)]
        lines = zip(names, *(fact[1:] for fact in differing), strict=True)
        return build_table(TableSpec("machines", "Machines", tuple(columns)), groups=[(f"All share: {shared}", lines)])
    columns = [wording("fact", "fact", 1, itemgetter(0))]
    columns += [wording(f"machine_{n}", name, 1, itemgetter(n + 1)) for n, name in enumerate(names)]
    if len(names) > 1:
        columns.append(wording("differs", "", 1, _differs, lambda found: "differs" if found else ""))
    return build_table(
        TableSpec("machines", "Machines", tuple(columns)), groups=[("What the results depend on", facts)]
    )


def _differs(fact: tuple[str, ...]) -> bool:
    """Whether the fact, behind its name, is not the same on all machines."""
    return len(set(fact[1:])) > 1


# The first thing a reader sees: which processor is how much faster at what, how sure that is, and what holds it back. Each
# sentence is made of cells of the page's own tables, so that what is claimed is printed, with its interval and n.


def write_headline(comparison: Comparison) -> tuple[str, ...]:
    """One to three sentences; the best that the rows allow, down to "no process ended well"."""
    best = find_headline_row(comparison)
    if best is not None and best.job.workload != "gemm":
        return (*_compare(best, comparison), *_describe_bottleneck(best))
    if best is not None:
        rate = make_cell(best, replace(get_metric("flops_per_second"), details="interval and n"))
        return (
            f"{cells.name_place(best)} reaches {rate.text} GFLOP/s ({'; '.join(rate.details)}) in {best.job.precision} matrix "
            f"products of side {units.count(best.job.size)}.",
        )
    if comparison.rows:
        ended = sum((Counter(row.outcomes) for row in comparison.rows), Counter())
        none = "reached its target" if "missed" in ended else "ended well"
        return (f"No process {none}: {', '.join(f'{n} {status}' for status, n in sorted(ended.items()))}.",)
    return ("Nothing was measured here: only published rows are shown.",)


_read_processor = attrgetter("machine.id", "job.device", "job.threads", "job.precision", "job.workload")


def find_headline_row(comparison: Comparison) -> Row | None:
    """The row that the headline is about: on the fastest processor (at the published job, where one is), the row that knows
    most; without a training the fastest product; None where there is neither.

    Not the fastest row: of several runs on one processor that would be the luckiest. With an interval before without, then
    the most timed steps over all processes.
    """

    def speed(row: Row) -> tuple[float, str, str]:
        return _value(row.speedup_over_published or row.flops_per_second), row.row_key, row.run_id

    def evidence(row: Row) -> tuple[bool, int, str, str]:
        sure = row.step_seconds is not None and row.step_seconds.low is not None
        return sure, row.ok * (row.timed_steps or 0), row.row_key, row.run_id

    rows = [row for row in comparison.rows if row.ok]
    steps = [row for row in rows if tables.trains(row) and row.costs]
    training = [row for row in steps if row.job.task == "training"] or steps
    same = [row for row in training if row.speedup_over_published is not None] or training
    if not same:
        return max((row for row in rows if row.flops_per_second is not None), key=speed, default=None)
    fastest = _read_processor(max(same, key=speed))
    return max((row for row in same if _read_processor(row) == fastest), key=evidence)


def _compare(row: Row, comparison: Comparison) -> Iterator[str]:
    """Compare the row with its baseline and with what was published; where there is neither, say what a step takes."""
    name, job = cells.name_place(row), " ".join((row.job.workload, *naming.deviations(row.job)))
    found, base = row.speedup, comparison.published_cpu
    has_baseline = found is not None and not found.is_baseline
    if has_baseline:
        whom = comparison.baseline or "the CPU beside it"
        verb = "trains" if row.job.task == "training" else "runs"
        versus = metric_cell(row, "speedup").one_line
        yield f"{name} {verb} {job} {versus} as fast as {whom} ({name_baseline(row)})."
    if row.speedup_over_published is not None and base is not None:
        network = " ".join(("the lecture's CNN", *naming.deviations(row.job)))
        time, ratio = (metric_cell(row, each).one_line for each in ("job_seconds", "speedup_over_reference"))
        yield f"{name} trains {network} in {time}: {ratio} the speed of {base.year}'s {base.processor}."
    elif not has_baseline:
        step = metric_cell(row, "step_seconds").text
        article = {"training": "a training", "inference": "an inference"}[row.job.task]
        yield f"{name} takes {step} for {article} step of {job} at batch {row.job.batch_size}."


def _describe_bottleneck(row: Row) -> Iterator[str]:
    if row.bottleneck is not None and row.bottleneck.floors and row.ceiling_share is not None:
        share = metric_cell(row, "share_of_measured_peak").one_line
        where = "run" if row.ceiling_run_id == row.run_id else "boot"
        yield (
            f"What binds the step: {row.bottleneck.summary}; it reaches {share} of the best matrix product on the same cores "
            f"in the same {where}."
        )


def _value(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None else estimate.value
