"""Make a whole page of the comparison: the sections of a template, each with its charts, tables and notes.

A section without records is left out. The result is independent of any format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, Literal, NamedTuple

from cnnbench import naming, units
from cnnbench.analysis import metrics
from cnnbench.analysis.doubts import UNFIT
from cnnbench.analysis.metrics import Metric, get_metric, mark_projected, name_baseline
from cnnbench.analysis.ratio import group_by
from cnnbench.analysis.rows import Row
from cnnbench.analysis.same_host import identify_boot
from cnnbench.analysis.seed_accuracy import compare_with_plain
from cnnbench.analysis.speedup import Comparison
from cnnbench.analysis.stats import Estimate
from cnnbench.machine_facts import Fact, Host, list_facts
from cnnbench.plain_text import plain
from cnnbench.report import cells, footnotes, learning, tables
from cnnbench.report.cells import ProcessorCell
from cnnbench.report.charts import processes, rows, sweeps
from cnnbench.report.charts.chart_data import ChartData
from cnnbench.report.charts.kinds import draw_chart
from cnnbench.report.charts.rows import describe_point
from cnnbench.report.model import Cell, Chart, Note, Page, Report, RowGroup, Section, Table, keep_notes, make_notes
from cnnbench.report.table_builder import (
    PROCESSOR,
    ColumnSpec,
    TableSpec,
    build_table,
    figure,
    left_column,
    make_cell,
    metric_cell,
    metric_column,
    wording,
)

MOST_MEASURED = 4
"""Rows measured here in the table that `--into` puts into a page that says more below."""


CHARTS = (*rows.CHARTS, *sweeps.CHARTS, *processes.CHARTS)
"""All charts of the page; each names its section, and a section shows its charts in this order."""


class Price(NamedTuple):
    """A price per hour for every row whose `MACHINE/DEVICE` begins with `key`; an empty key applies to all rows."""

    key: str
    per_hour: float


@dataclass(frozen=True)
class PageRequest:
    """The reader's options for a page."""

    template: Literal["lecture", "full", "first screen"] = "full"
    title: str | None = None
    all_runs: bool = False
    prices: tuple[Price, ...] = ()
    currency: str = ""
    problems: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    """Final digest of each ledger by run."""


SECTIONS = (
    (
        "training",
        "Every row",
        "Ratios compare rows of one group only: the same work, timed the same way.",
        ("training",),
    ),
    (
        "why",
        "Why not N times faster",
        "Each step is compared with the floors measured beside it; the largest floor limits it.",
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
        "One job on several ranks and on one process: the ranks share its batch (strong) or each has one of its size (weak).",
        ("scaling", "copies"),
    ),
    ("sweeps", "Threads and batch sizes", "One thing varied, all else equal.", ()),
    (
        "resources",
        "Memory, energy, cost",
        "Memory is a high-water mark, never polled; energy needs a counter that could be read.",
        ("resources", "cost"),
    ),
    ("learning", "Accuracy over time", "Speed without learning is worth nothing.", ("tta", "seeds")),
    ("stopping", 'What "100 %" means', "", ("stopping", "stopped")),
    (
        "convergence",
        "Whether the faster modes learn as well",
        "A mode must not buy speed with worse learning: the rows of one that does carry a doubt in every table.",
        ("convergence", "learned_seeds"),
    ),
    ("noise", "How sure", "How far another process, or another minute, would have differed.", ()),
)
"""The sections of figures of a full page: anchor, title, lead, and the keys of the tables. Charts name their section."""


def build(chart_data: ChartData, request: PageRequest) -> Page:
    """Build the page of these rows. The same rows in any order give an equal page."""
    comparison = chart_data.comparison
    page_notes = footnotes.build(
        comparison, comparison.published_rows, problems=request.problems, digests=request.digests
    )
    if request.template == "first screen":
        page_notes = keep_notes(page_notes, "warning", "doubt", "problem")  # the others explain what is not there
    sections = _list_sections(chart_data, request, page_notes)
    best = find_headline_row(comparison)
    options = {
        **{name: getattr(request, name) for name in ("template", "title", "all_runs", "currency")},
        "baseline": comparison.baseline,
        "prices": list(map(list, request.prices)),
        **footnotes.name_sources(request.problems, request.digests),
    }
    return Page(
        request.title or "The lecture's CNN, then and now",
        write_headline(comparison),
        _drop_empty(replace(section, charts=_draw_charts(section.key, chart_data)) for section in sections),
        page_notes,
        cells.name_raw_rows(best) if best else (),
        options,
    )


def _list_sections(chart_data: ChartData, request: PageRequest, page_notes: Sequence[Note]) -> Iterator[Section]:
    """Yield the sections of the template, without their charts."""
    comparison = chart_data.comparison
    rows, published = comparison.rows, comparison.published_rows
    processor = cells.name_processors(rows, all_runs=request.all_runs)
    lecture = tables.build_lecture_table(comparison, processor)
    notes = tuple(footnotes.build_published_notes(published))
    if request.template == "first screen":
        short = tables.build_first_screen(comparison, processor, _choose_rows(rows))
        yield Section("first_screen", "", tables=(short,) if short.groups[0].lines else ())
        return
    yield Section("lecture", "Then and now", describe_point(published), (), (lecture,) if lecture else (), notes)
    full = request.template == "full"
    row_tables = tables.build_tables(comparison, processor) if full else []
    if full:
        yield from _build_figures(chart_data, request, processor, row_tables)
    yield _doubts(page_notes)
    if full:
        yield _machines(rows)
    if rows:
        untested = footnotes.list_untested(compare_with_plain(chart_data.training)[1])  # in a section of their own
        shown = {column.key for table in row_tables for column in table.columns}
        clocks = sorted({row.job.clock for row in rows})
        notes = (
            *make_notes("clock", (f"Clock: {footnotes.CLOCKS[name]}." for name in clocks)),
            METHOD,
            *(note for note in keep_notes(page_notes, "rule", "missing") if note not in untested),
        )
        method = build_table(FORMULAS, _list_formulas(shown))
        yield Section("method", "How it was timed, and how to derive it again", tables=(method,), notes=notes)
    yield from _files(page_notes)


def build_comparison_page(compared: Report, rows: Sequence[Row], title: str) -> Page:
    """Build the page of a comparison of two sides: summary, row by row, other differences, and both sides' machines."""
    notes = compared.notes
    summary = tuple(note.text for note in keep_notes(notes, "summary"))
    others = keep_notes(notes, "rule", "missing", "reference", "problem")
    by_row = Section("compare", "Row by row", tables=compared.tables, notes=others)
    sections = (by_row, _doubts(notes), _machines(rows), *_files(notes))
    claim = summary or ("Nothing could be summed up: no two rows have an interval.",)
    return Page(title, claim, _drop_empty(sections), notes, options={"template": "compare", "title": title})


def _build_figures(
    chart_data: ChartData, request: PageRequest, processor: ProcessorCell, row_tables: Sequence[Table]
) -> Iterator[Section]:
    """Yield the sections of figures with the tables that these rows have."""
    rows = chart_data.training
    conclusions, stopping = learning.build_stopping_tables(rows, processor)
    results, left_out = compare_with_plain(rows)
    tested, untested = learning.build_convergence_tables(results, processor), footnotes.list_untested(left_out)
    costs = _build_costs(processor, rows, request)
    by_key = {table.key: table for table in (*row_tables, *costs, *stopping, *tested)}
    rules = {"stopping": learning.write_stopping_rules(), "convergence": learning.CONVERGENCE_RULES}
    for key, title, lead, wanted in SECTIONS:
        found = tuple(by_key[name] for name in wanted if name in by_key)
        said = conclusions[0] if key == "stopping" and conclusions else lead
        notes = rules.get(key, ()) if found else ()
        yield Section(key, title, said, tables=found, notes=notes + (untested if key == "convergence" else ()))


def _draw_charts(section: str, chart_data: ChartData) -> tuple[Chart, ...]:
    """Draw the charts of a section that have data."""
    own = (spec for spec in CHARTS if spec.section == section)
    return tuple(draw_chart(spec, shown) for spec in own if (shown := spec.select(chart_data)).data)


def _drop_empty(sections: Iterable[Section]) -> tuple[Section, ...]:
    """Keep the sections that have charts, tables or notes."""
    return tuple(each for each in sections if each.charts or each.tables or each.notes)


def _doubts(page_notes: Sequence[Note]) -> Section:
    lead = "Reasons to believe a figure less, each with what to do about it. A doubt never changes a figure."
    return Section("doubts", "Doubts", lead, notes=keep_notes(page_notes, "doubt", "problem"))


def _machines(rows: Sequence[Row]) -> Section:
    found = (build_machine_table(rows), build_boot_table(rows))
    return Section("machines", "Machines", "What the results depend on.", tables=tuple(filter(None, found)))


def _files(page_notes: Sequence[Note]) -> list[Section]:
    """List the ledgers, with the command that audits the page; empty without ledgers."""
    runs = keep_notes(page_notes, "run")
    lead = "Everything above is made of these ledgers and nothing else."
    how = "cnnbench audit RESULTS PAGE derives every figure on a page again, with other code, and compares."
    return [Section("files", "Raw files", lead, notes=(*runs, Note("rule", how)))] if runs else []


MOST_LINES = 300
"""Lines of one table in a page: nobody reads more, they slow the page down, and GitHub cuts a page off at 512 KB."""


def abridge(page: Page) -> Page:
    """Shorten a page for people: tables lose empty columns and lines beyond about `MOST_LINES`; CSV and JSON keep all.

    A long group keeps its first lines (slowest first, as tables are ordered), its last, and some evenly between; the group's
    title has their number.
    """
    has_resources = any(table.key == "resources" for table in page.tables)

    def shown(table: Table) -> Table:
        # The page's table of resources repeats these columns.
        elsewhere = {"host_peak", "device_peak"} if has_resources and table.key == "training" else set()
        return tables.abridge(_drop_columns(table, elsewhere), MOST_LINES)

    sections = (replace(section, tables=tuple(map(shown, section.tables))) for section in page.sections)
    return replace(page, sections=tuple(sections))


def _drop_columns(table: Table, elsewhere: set[str]) -> Table:
    """Drop the columns that are elsewhere, and those that are n/a in every row, which the clock rule then names."""
    kept, unknown = [], []
    for n, column in enumerate(table.columns):
        texts = {line.cells[n].text for _, line in table.lines}
        if column.key in elsewhere:
            continue
        if column.priority > 1 and texts and texts <= {"", units.NOT_AVAILABLE}:
            unknown.append(column.one_line)
        else:
            kept.append(n)
    groups = (
        RowGroup(group.title, tuple(replace(line, cells=tuple(line.cells[n] for n in kept)) for line in group.lines))
        for group in table.groups
    )
    names = ", ".join(filter(None, unknown))
    clock = table.clock + (f"; n/a in every row: {names}" if names else "")
    return replace(table, columns=tuple(table.columns[n] for n in kept), groups=tuple(groups), clock=clock)


# How each figure is derived: the clocks, and the raw fields from which every column can be derived again by hand.

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
    # Some are listed only if their column is shown.
    explained = [metric for metric in metrics.METRICS if metric.formula]
    yield from (metric for metric in explained if metric.always_explained)
    yield Metric(
        "interval",
        formula="mean of the logs ± Student's t(n - 1) x standard deviation / sqrt(n), from n = 3",
        explained_as="interval",
    )
    yield from (metric for metric in explained if not metric.always_explained and metric.column_key in shown)


METHOD = Note(
    "rule",
    "n counts fresh processes, never steps: steps inside one process are not independent. Jobs ran in shuffled, "
    "interleaved rounds with the seed in the ledger; warm-up steps are run and undone; the allocator is held, and "
    "every worker first proved that its synchronise waits.",
)
"""Rules for all rows, whatever their clock."""


# What a job costs: its energy from the counter, its price from the reader's rates per hour.


def _job_energy(row: Row) -> Estimate | None:
    """Compute joules of the whole job; None with pre-training, whose steps the energy counter did not cover."""
    steps = None if row.pretraining_seconds else row.job.job_steps
    return None if row.energy is None or steps is None else row.energy.gross_joules.scaled(steps * row.job.batch_size)


def _cost(row: Row) -> Estimate | None:
    price, seconds = row.values["price_per_hour"], row.job_seconds
    return None if price is None or seconds is None else seconds.scaled(price / 3600)


COST = TableSpec[Row](
    "cost",
    "Energy and cost of the job",
    (
        PROCESSOR,
        metric_column("job_seconds", 1),
        figure(
            "job_energy",
            "energy\nof the job",
            1,
            _job_energy,
            units.joules,
            name="job_energy_joules",
            estimated=True,
            timed=True,
        ),
        figure(
            "price",
            "price\nan hour",
            1,
            lambda row: row.values["price_per_hour"],
            "{:,.12g}".format,
            name="price_per_hour",
            unit="{currency}",
        ),
        figure(
            "cost",
            "cost\nof the job",
            1,
            _cost,
            "{:,.4g}".format,
            name="job_cost",
            unit="{currency}",
            estimated=True,
            details="interval and n",
            mark=mark_projected,
            timed=True,
        ),
    ),
    "energy is joules per image, gross, times the job's images; cost is the time of the job at the given price per hour",
    group=lambda row: "The whole job of each row",
)


def _build_costs(processor: ProcessorCell, rows: Sequence[Row], request: PageRequest) -> list[Table]:
    """Build the table of energy and price per whole job, with a line per row that has either; empty if none has.

    The price per hour comes from the longest key that fits.
    """
    kept = []
    for row in rows:
        place = f"{row.machine.id}/{row.job.device}"
        fitting = [price for price in request.prices if place.startswith(price.key)]
        price = max(fitting, key=lambda price: len(price.key)).per_hour if fitting else None
        if row.job_seconds and (row.energy or price is not None):
            kept.append(row.with_values(price_per_hour=price))
    several = len({(row.job.workload, row.job.batch_size, naming.deviations(row.job)) for row in kept}) > 1

    def named(row: Row) -> Cell:
        """Name the processor, and the job if the table has several."""
        job = (f"{plain(row.job.workload)}, batch {row.job.batch_size}", ", ".join(naming.deviations(row.job)))
        return processor(row).add_details(*job) if several else processor(row)

    return [build_table(COST, kept, named=named, words={"currency": request.currency})] if kept else []


# The machines side by side: the facts that a result depends on, and where they differ.

MOST_COLUMNS = 6
"""Most machines that are shown side by side; more of them get one line each."""


def build_machine_table(rows: Sequence[Row]) -> Table | None:
    """Build the table of machines, one column per machine, one line per fact, `differs` marked; None without rows.

    The newest run on a machine supplies its facts. More than six machines get one line each, with only the facts that differ:
    the group's title has those they share.
    """
    newest = {row.machine.id: row for row in sorted(rows, key=attrgetter("created_at", "run_id"))}
    names = sorted(newest)
    if not names:
        return None
    hosts = [Host(row.machine, row.software, row.device) for row in map(newest.__getitem__, names)]
    facts = [(each.heading or each.words, *map(each.describe, hosts)) for each in list_facts("table")]
    if len(names) > MOST_COLUMNS:
        shared = "; ".join(f"{fact[0]} {fact[1]}" for fact in facts if not _differs(fact))
        differing = [fact for fact in facts if _differs(fact)]
        columns: list[ColumnSpec[Any]] = [wording("machine", "machine", 1, itemgetter(0), name="machine_id")]
        columns += [wording(fact[0], fact[0], 2, itemgetter(n), name="") for n, fact in enumerate(differing, 1)]
        lines = list(zip(names, *(fact[1:] for fact in differing), strict=True))
        groups = [(f"All share: {shared}", lines)]
    else:
        columns = [wording("fact", "fact", 1, itemgetter(0))]
        columns += [wording(f"machine_{n}", name, 1, itemgetter(n + 1)) for n, name in enumerate(names)]
        if len(names) > 1:
            columns.append(wording("differs", "", 1, _differs, lambda found: "differs" if found else ""))
        groups = [("What the results depend on", facts)]
    return build_table(TableSpec("machines", "Machines", tuple(columns)), groups=groups)


def build_boot_table(rows: Sequence[Row]) -> Table | None:
    """Build the table of boots and hosts, a group per machine id and a line per boot, oldest first; None without rows.

    An id names a model, so several hosts may share it. Runs without a boot id differ by kernel and memory alone.
    """
    boots = group_by(sorted(rows, key=attrgetter("machine.id", "created_at", "run_id")), identify_boot)
    groups = group_by(boots.values(), lambda own: own[0].machine.id)
    return build_table(BOOTS, groups=((plain(machine), own) for machine, own in groups.items())) if boots else None


def _describe_fact(fact: Fact, own: Sequence[Row]) -> Cell:
    first = own[0]
    host = Host(first.machine, first.software, first.device, first.boot_id, first.host_id)
    return Cell(plain(fact.describe(host)), {fact.name: fact.read(host)})


def _list_runs(own: Sequence[Row]) -> Cell:
    """Count the runs of a boot and name them."""
    runs = list(dict.fromkeys(row.run_id for row in own))
    return Cell(
        units.count(len(runs)), {"runs": len(runs)}, (plain(footnotes.join_names(runs, most=8, separator=", ")),)
    )


BOOTS = TableSpec[Sequence[Row]](
    "boots",
    "Boots and hosts: a machine's id names a model, which several hosts may share",
    (
        *(left_column(fact.name, fact.words, 1, partial(_describe_fact, fact)) for fact in list_facts("boot")),
        left_column("runs", "runs", 1, _list_runs),
    ),
)


def _differs(fact: tuple[str, ...]) -> bool:
    """Check whether a fact, given behind its name, differs between machines."""
    return len(set(fact[1:])) > 1


# The first thing a reader sees: which processor is how much faster at what, how sure that is, and what limits it. Each
# sentence is made from cells of the page's own tables, so that every claim is also printed with its interval and n.


def write_headline(comparison: Comparison) -> tuple[str, ...]:
    """Write one to three sentences, the best that the rows allow, down to "no process ended well"."""
    best = find_headline_row(comparison)
    if unfit := describe_unfit(list(filter(tables.trains, comparison.rows)) or comparison.rows):
        return (unfit,)
    if best and tables.trains(best):
        return tuple(_compare(best, comparison))
    if best:
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


def describe_unfit(rows: Sequence[Row]) -> str:
    """Say that no row is worth a headline because the machine was unfit for all that ended well; empty if one is."""
    timed = [row for row in rows if row.ok]
    if not timed or not all(row.unfit for row in timed):
        return ""
    processes = f"{sum(row.unfit for row in timed)} of {sum(row.ok for row in timed)} processes"
    why = next(doubt.message for doubt in timed[0].doubts if doubt.code == UNFIT)
    return f"No figure is quoted: {processes} were measured while the machine was unfit ({plain(why)})."


_read_processor = attrgetter("machine.id", "job.device", "job.threads", "job.precision", "job.workload")


def _read_speed(row: Row) -> tuple[float, str, str]:
    found = row.speedup_over_published or row.flops_per_second or row.model_flops_per_second
    return found.value if found else 0.0, row.row_key, row.run_id


def _weigh_evidence(row: Row) -> tuple[bool, int, str, str]:
    """Rank a row with an interval above one without, then by its timed steps over all processes."""
    sure = row.step_seconds is not None and row.step_seconds.low is not None
    return sure, row.ok * (row.steps or 0), row.row_key, row.run_id


def _choose_rows(rows: Sequence[Row]) -> list[Row]:
    """Choose the fit row that knows most on each of the fastest processors, of the published job where one is, as given."""
    trained = [row for row in rows if tables.trains(row) and row.ok and not row.unfit]
    same = [row for row in trained if row.speedup_over_published] or trained
    best = {_read_processor(row): row for row in sorted(same, key=_weigh_evidence)}
    chosen = sorted(best.values(), key=_read_speed)[-MOST_MEASURED:]
    return [row for row in rows if row in chosen]


def find_headline_row(comparison: Comparison) -> Row | None:
    """Find the headline's row: the one with the most evidence on the fastest processor.

    Rows of the published job come first if there are any. Evidence is an interval, then the most timed steps over all processes:
    the fastest of several runs on one processor would be the luckiest. Rows of an unfit machine do not count.
    Without training rows it is the fastest product; None without either.
    """

    rows = [row for row in comparison.rows if row.ok and not row.unfit]
    steps = [row for row in rows if tables.trains(row) and row.costs]
    training = [row for row in steps if row.job.task == "training"] or steps
    same = [row for row in training if row.speedup_over_published] or training
    if not same:
        return max((row for row in rows if row.flops_per_second), key=_read_speed, default=None)
    fastest = _read_processor(max(same, key=_read_speed))
    return max((row for row in same if _read_processor(row) == fastest), key=_weigh_evidence)


def _compare(row: Row, comparison: Comparison) -> Iterator[str]:
    """Compare the row with its baseline and the published time, else give its step time; then name what limits it."""
    name, job = cells.name_place(row), " ".join((row.job.workload, *naming.deviations(row.job)))
    found, base = row.speedup, comparison.published_cpu
    has_baseline = found and not found.is_baseline
    if has_baseline:
        whom = comparison.baseline or "the CPU beside it"
        verb = "trains" if row.job.task == "training" else "runs"
        versus = metric_cell(row, "speedup").one_line
        named = ", ".join((name_baseline(row) or "", *footnotes.describe_other_host(row)))
        yield f"{name} {verb} {job} {versus} as fast as {whom} ({named})."
    if row.speedup_over_published and base:
        network = " ".join(("the lecture's CNN", *naming.deviations(row.job)))
        time, ratio = (metric_cell(row, each).one_line for each in ("job_seconds", "speedup_over_reference"))
        published = f"{base.year}'s {base.processor} by the published time; {cells.explain_software(base.year)}"
        yield f"{name} trains {network} in {time}: {ratio} as fast as {published}."
    elif not has_baseline:
        step = metric_cell(row, "step_seconds").text
        article = {"training": "a training", "inference": "an inference"}[row.job.task]
        yield f"{name} takes {step} for {article} step of {job} at batch {row.job.batch_size}."
    if row.bottleneck and row.bottleneck.floors and row.ceiling_share:
        share = metric_cell(row, "share_of_measured_peak").one_line
        where = "run" if row.ceiling_run_id == row.run_id else "boot"
        summary = row.bottleneck.summary
        limit = summary.replace("nearest", "Nearest limit")
        if summary.endswith("-bound"):
            limit = f"Limited by: {summary.removesuffix('-bound')}"
        yield f"{limit}; the step reaches {share} of the best matrix product on the same cores in the same {where}."
