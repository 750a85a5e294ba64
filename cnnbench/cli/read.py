"""The commands that read what was measured: `show`, `report`, `compare`, `history`, `export` and `ingest`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cnnbench.cli import options, report_output
from cnnbench.cli.load_results import LoadedProcesses, Selection, load_processes, load_results
from cnnbench.cli.options import OptionValues, make_flag, make_option
from cnnbench.cli.output import Destination, draw_chart, emit_report, emit_text, print_warnings, write_output
from cnnbench.cli.sides import load_sides
from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from cnnbench.analysis.history import Series
    from cnnbench.analysis.process_table import Process
    from cnnbench.cli.sides import LoadedSide
    from cnnbench.report.cost import Price
    from cnnbench.report.model import Page, Report
    from cnnbench.report.render.text import Format
    from cnnbench.report.report_files import Extension

ExportFormat = Literal["pytest-benchmark", "github-action-benchmark", "csv"]
CHART_ENDINGS = (".svg", ".png", ".html")
ENDING_FORMATS: dict[str, Format] = {".md": "markdown", ".csv": "csv", ".json": "json", ".tex": "latex"}


@click.command()
@options.PATHS
@options.format_option()
@make_flag("--with-lecture", "Show the lecture's rows of 2017 above the measured ones.")
@options.MACHINE
@options.RUN
@options.LAST
@options.ALL_RUNS
@make_option(
    "--only",
    "One table instead of all.",
    click.Choice(["training", "resources", "tta", "seeds", "bounds", "ladder", "scaling", "copies", "gemm"]),
)
@options.OUTPUT
@options.gather_values
def show(selection: Selection, destination: Destination, with_lecture: bool, only: str | None) -> None:
    """Print the table of the results under PATHS (ledgers or folders of them; default: $CNNBENCH_RESULTS, else the settings',
    else ./results).

    Of several runs of the same job on the same processor the newest is shown.
    """
    destination.emit(make_report(selection, with_lecture=with_lecture, only=only))


def make_report(selection: Selection, *, with_lecture: bool = False, only: str | None = None) -> Report:
    """The report of the ledgers chosen.

    Raises UsageError where there is nothing to show, LedgerError where a path does not exist.
    """
    from cnnbench.report import tables

    loaded = load_results(selection, published_suffice=with_lecture)
    return tables.build(
        loaded.comparison,
        with_published=with_lecture,
        all_runs=selection.all_runs,
        problems=loaded.problems,
        digests=loaded.digests,
        only=only,
    )


@click.command()
@click.argument("paths", nargs=-1)
@make_option(
    "-o --output",
    "FILE.html, .md, .tex, .csv or .json; or a folder, which gets all of them and the charts.",
    options.ANY_PATH,
    required=True,
    metavar="FILE|DIR",
)
@make_option(
    "--template",
    "All there is; the lecture's table alone; or two sides (give BASE NEW instead of PATHS, as for compare).",
    click.Choice(["full", "lecture", "compare"]),
    default="full",
)
@make_option("--title", "The page's title.")
@make_option(
    "--baseline",
    "Speed-ups over the rows of MACHINE[/DEVICE[/THREADS]] instead of over each machine's own CPU.",
    metavar="KEY",
)
@make_flag("--static", "Charts as SVG alone: no script draws them, nothing bundled.")
@make_option(
    "--price-per-hour prices",
    "Cost of the job at that price an hour; KEY is MACHINE[/DEVICE], without it the price holds for all.",
    multiple=True,
    metavar="[KEY=]PRICE",
)
@make_option("--currency", "What the prices are in, such as USD.", default="", show_default=False)
@options.tolerance_option("With --template compare: what counts as the same.")
@options.MACHINE
@options.RUN
@options.LAST
@options.ALL_RUNS
@make_option(
    "--into",
    "With a folder: also put claim, table and picture between the lines <!-- table: ... --> and <!-- table end --> "
    "of this Markdown page.",
    click.Path(path_type=Path, dir_okay=False, exists=True),
)
@make_flag("--check", "Write nothing; exit 1 where what is there is not what these ledgers give.")
@click.pass_context
@options.gather_values
def report(
    context: click.Context, /, selection: Selection, output: Path, into: Path | None, check: bool, **given: Any
) -> None:
    """Make a report of the results under PATHS (ledgers or folders of them; default: $CNNBENCH_RESULTS, else the settings',
    else ./results).

    One HTML file holds everything it needs and asks nothing of a network. Of several runs of one row the newest is shown.
    """
    ending = _find_ending(output)
    if into is not None and ending is not None:
        raise UsageError(f"--into {into} links to the charts of a folder; give -o DIR, not {output}")
    if into is not None and given["template"] == "compare":
        raise UsageError("--into takes the lecture's table, which --template compare does not have")
    around = None if into is None else report_output.split_at_marks(into)  # refused before anything is drawn
    page = _make_page(selection, given["template"], given)
    wanted = _render_files(page, output, ending, static=given["static"])
    if into is not None and around is not None:
        first = page if given["template"] == "lecture" else _make_page(selection, "lecture", given)
        wanted[into] = report_output.fill_page(around, into, first, output)
    root = output if ending is None else None
    if check:
        context.exit(report_output.print_stale(root, wanted))
    report_output.write_files(root, wanted)


def _find_ending(output: Path) -> Extension | None:
    """The kind of file, None for a folder. Raises UsageError for a kind there is none of."""
    from cnnbench.report.report_files import EXTENSIONS

    suffix = output.suffix.removeprefix(".").lower()
    if output.is_dir() or not suffix:
        return None
    for ending in EXTENSIONS:
        if ending == suffix:
            return ending
    raise UsageError(f"-o {output}: no such format; choose FILE.{', FILE.'.join(EXTENSIONS)}, or a folder")


def _make_page(selection: Selection, template: str, given: OptionValues) -> Page:
    """Make the page of these results. Raises UsageError, LedgerError, and ComparisonError as `compute_speedups` does."""
    from cnnbench.report import sections
    from cnnbench.report.charts import chart_data

    if template == "compare":
        return _make_comparison_page(list(map(str, selection.paths)), given)
    loaded = load_results(selection)
    request = sections.PageRequest(
        template=template,  # type: ignore[arg-type]
        title=given["title"],
        all_runs=selection.all_runs,
        prices=_parse_prices(given["prices"]),
        currency=given["currency"],
        problems=loaded.problems,
        digests=loaded.digests,
    )
    found = loaded.comparison
    return sections.build(chart_data.collect_chart_data(found, loaded.ledgers), request)


def _make_comparison_page(names: Sequence[str], given: OptionValues) -> Page:
    """The page of two sides. Raises UsageError and ComparisonError as `cnnbench compare` does."""
    from cnnbench.report import sections

    if len(names) != 2:
        raise UsageError(f"--template compare takes two sides, BASE and NEW; {len(names)} given")
    base, new = load_sides(names)
    compared = compare_sides(base, new, given["tolerance"])
    return sections.build_comparison_page(
        compared, (*base.side.rows, *new.side.rows), given["title"] or f"{names[1]} against {names[0]}"
    )


def _parse_prices(given: Sequence[str]) -> tuple[Price, ...]:
    """`2.5` or `box/cuda:0=2.5`. Raises UsageError for anything else."""
    from cnnbench.report.cost import Price

    found = []
    for text in given:
        key, _, number = text.rpartition("=")
        try:
            price = float(number)
        except ValueError:
            price = -1.0
        if not 0 <= price < float("inf"):
            raise UsageError(f"--price-per-hour {text}: {number!r} is no price; give PRICE or MACHINE[/DEVICE]=PRICE")
        found.append(Price(key, price))
    return tuple(found)


def _render_files(page: Page, output: Path, ending: Extension | None, *, static: bool) -> dict[Path, str | bytes]:
    from cnnbench.report import report_files

    if ending is not None:
        return {output: report_files.render_file(page, ending, static=static)}
    return {output / name: content for name, content in report_files.render_folder(page, static=static).items()}


@click.command()
@click.argument("base")
@click.argument("new")
@options.results_option("Where names are looked up")
@options.tolerance_option("Two times are the SAME where the whole interval of their ratio lies within this.")
@options.format_option()
@options.OUTPUT
@options.gather_values
def compare(base: str, new: str, results: Path | None, tolerance: float, destination: Destination) -> None:
    """Divide the times of BASE by those of NEW, row by row: above 1, NEW is faster.

    A side is a path (a ledger, or a folder of them) or a name: a machine's id or a run's, the beginning of one, or a key
    MACHINE/DEVICE[/THREADS] such as box/cuda:0 or box/cpu/2. `reference` and results/reference are the published rows.

    Only equal work is divided. Of several runs of a row the newest counts. A verdict is of these measurements alone: the
    exit code is 0 whatever it is, and 3 where nothing can be divided.
    """
    first, second = load_sides((base, new), results)
    destination.emit(compare_sides(first, second, tolerance))


def compare_sides(base: LoadedSide, new: LoadedSide, tolerance: float) -> Report:
    """The report of two sides found. Raises ComparisonError where nothing can be divided."""
    from cnnbench.report import comparison

    return comparison.build(
        base.side,
        new.side,
        tolerance=tolerance,
        problems=(*base.problems, *new.problems),
        digests={**base.digests, **new.digests},
    )


@click.command()
@options.PATHS
@options.filter_option("Only rows whose text contains FILTER, as for `cnnbench run`.")
@make_option("--job workloads", "Only this workload, such as mnist-cnn.", metavar="WORKLOAD", multiple=True)
@options.MACHINE
@make_option("--format format_", "Of the table.  [default: table]", click.Choice(options.TABLE_FORMATS))
@make_option(
    "-o --output",
    "Write to a file instead: .svg or .png is the picture, .html both, any other the table.",
    options.FILE,
    metavar="FILE",
)
@options.gather_values
def history(
    selection: Selection, destination: Destination, name_filter: str | None, workloads: tuple[str, ...]
) -> None:
    """Show each row under PATHS (default: $CNNBENCH_RESULTS, else ./results) over all its runs, oldest first.

    Each run has its step time with its interval, the change against the run before, and from the ninth on whether it fell
    where the eight or more before it predict. Machines, work and timing rules are never mixed.
    """
    output, format_ = destination.output, destination.format_
    ending = "" if output is None else output.suffix.lower()
    if ending in CHART_ENDINGS and format_ is not None:
        raise UsageError(f"-o {output} is a picture or page, --format {format_} a table; give one of them")
    from cnnbench.report import history as tables

    found = load_processes(selection)
    series = _build_series(found.processes, name_filter, workloads)
    report = tables.build(series, found.problems)
    if output is not None and ending in CHART_ENDINGS:
        write_output(output, _draw_history(report, series, output))
        return
    emit_report(report, format_ or ENDING_FORMATS.get(ending, "table"), output)


def _build_series(processes: Sequence[Process], name_filter: str | None, workloads: Sequence[str]) -> Sequence[Series]:
    """The series asked for. Raises UsageError, with what there is, where nothing is left."""
    from cnnbench.analysis.history import build_history
    from cnnbench.naming import describe_job
    from cnnbench.plan.matrix import compile_filter

    wanted = compile_filter(name_filter)
    there = sorted({process.job.workload for process in processes})
    unknown = [name for name in workloads if name not in there]
    if unknown:
        raise UsageError(f"--job {unknown[0]}: no such workload there; there are: {', '.join(there)}")
    found = build_history(
        process
        for process in processes
        if process.job.workload in (workloads or there) and wanted(describe_job(process.job))
    )
    if not found:
        raise UsageError(f"-k {name_filter!r} matches no row there; workloads: {', '.join(there)}")
    return found


def _draw_history(report: Report, series: Sequence[Series], output: Path) -> str | bytes:
    from cnnbench.report import history as tables
    from cnnbench.report.charts.history import draw_history
    from cnnbench.report.render import html

    chart = draw_history(series)
    if output.suffix.lower() == ".html":
        return html.render(tables.page(report, chart), static=True)
    if chart is None:
        raise UsageError(
            f"-o {output}: no row was timed in two runs, so there is nothing to draw; the table has what there is"
        )
    return draw_chart(chart, output.suffix.lower())


@click.command()
@options.PATHS
@make_option(
    "--to target",
    "pytest-benchmark and github-action-benchmark take one run; csv any number.",
    click.Choice(["pytest-benchmark", "github-action-benchmark", "csv"]),
    required=True,
)
@options.MACHINE
@options.RUN
@options.LAST
@options.OUTPUT
@options.gather_values
def export(target: ExportFormat, selection: Selection, destination: Destination) -> None:
    """Write the results under PATHS (default: $CNNBENCH_RESULTS, else ./results) in another tool's format.

    A round of theirs is a process of ours: its datum is the process's median step time. csv has a line for each process.
    """
    found = load_processes(selection)
    text = _export(target, found)
    print_warnings(found.problems)
    emit_text(lambda **shape: text, destination.output)


def _export(target: ExportFormat, found: LoadedProcesses) -> str:
    from cnnbench.bridges import exports
    from cnnbench.report import escaping

    if target == "csv":
        return exports.tidy_csv(found.processes)
    runs = sorted({ledger.header.run_id for ledger in found.ledgers})
    if len(runs) > 1:
        raise UsageError(f"{target} holds one run and there are {len(runs)}: --last, or --run {' | '.join(runs)}")
    if not exports.group_jobs(found.processes):
        raise UsageError(f"run {runs[0]} has no process that ended ok, so there is nothing to export")
    print_warnings(tuple(exports.list_left_out(found.processes)))
    if target == "github-action-benchmark":
        return escaping.as_json(exports.github_action(found.processes), indent=2) + "\n"
    longest = max(found.ledgers, key=lambda ledger: len(ledger.records))
    document = exports.pytest_benchmark(longest.header, found.processes, longest.final_digest)
    return escaping.as_json(document, indent=4) + "\n"


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=options.ANY_PATH)
@make_option(
    "-o --output", "Write all columns to a file that ends in .csv or .json instead of printing a table.", options.FILE
)
def ingest(files: tuple[Path, ...], output: Path | None) -> None:
    """Read pytest-benchmark's JSON (`--benchmark-json FILE`, or a run it saved) as a table, CSV or JSON.

    A file is one process, n=1, whatever rounds it has. It becomes no ledger: neither `compare` nor any table of results
    mixes it with processes that cnnbench measured.
    """
    from cnnbench.bridges import pytest_benchmark

    if output is not None and output.suffix not in (".csv", ".json"):
        raise UsageError(f"{output}: the ending says the format; end it in .csv or .json")
    if output in files:
        raise UsageError(f"{output}: that is the file to be read; choose another name with -o")
    found, problems = pytest_benchmark.read_files(files)
    report = pytest_benchmark.build(found, problems)
    if output is None:
        emit_report(report, "table", None)
        return
    print_warnings(problems)
    if output.suffix == ".json":
        emit_report(report, "json", output)
    else:
        write_output(output, pytest_benchmark.as_csv(found))
