"""The commands that read what was measured: `show`, `report`, `compare`, `history` and `export`."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.exceptions import Exit

from cnnbench.cli.load_results import LoadedResults, Selection, load_processes, load_results, load_sides
from cnnbench.cli.options import (
    ALL_RUNS,
    ANY_PATH,
    FILE,
    LAST,
    MACHINE,
    OUTPUT,
    PATHS,
    RUN,
    TABLE_FORMATS,
    OptionValues,
    filter_option,
    format_option,
    gather_values,
    make_flag,
    make_option,
    results_option,
    tolerance_option,
)
from cnnbench.cli.output import Destination, draw_chart, emit_text, print_warnings, write_output
from cnnbench.cli.settings import was_typed
from cnnbench.errors import ExitCode, UsageError
from cnnbench.files import save_file

if TYPE_CHECKING:
    from cnnbench.report.model import Page, Report
    from cnnbench.report.render.text import Format
    from cnnbench.report.report_files import Extension
    from cnnbench.report.sections import Price

CHART_ENDINGS = (".svg", ".png", ".html")
ENDING_FORMATS: dict[str, Format] = {".md": "markdown", ".csv": "csv", ".json": "json", ".tex": "latex"}
TABLE_BEGIN, TABLE_END = "<!-- table: ", "<!-- table end -->"


@click.command
@PATHS
@results_option("The results tree, instead of PATHS")
@format_option()
@make_flag("--with-lecture", "Show the lecture's rows of 2017 above the measured ones.")
@MACHINE
@RUN
@LAST
@ALL_RUNS
@make_flag("--all every_table", "Every table and every row, not just the newest run's training.")
@make_option(
    "--only",
    "This table alone, with the rows of every run.",
    click.Choice(["training", "resources", "tta", "seeds", "bounds", "ladder", "scaling", "copies", "gemm"]),
)
@make_option(
    "--columns",
    "Only these columns, after the first one; a wrong KEY lists those there are.",
    check=lambda text: tuple(filter(None, map(str.strip, (text or "").split(",")))),
    metavar="KEY,KEY,...",
)
@make_option("--sort", "Sort rows by this column, smallest first; -KEY: largest first.", metavar="KEY")
@OUTPUT
@gather_values
def show(selection: Selection, destination: Destination, every_table: bool, **chosen: Any) -> None:
    """Print the newest run under PATHS (ledgers or folders of them; default: $CNNBENCH_RESULTS, else the settings', else
    ./results) on one screen: its training, the doubts about it, and what else was measured. Or print pytest-benchmark's JSON
    files as a table.

    --all prints every table, --only TABLE one of them, with the newest run of each job on each processor; --all-runs implies
    --all, with every run. Formats other than table always have everything.
    """
    if any(map(is_json, selection.paths)):
        return show_benchmark_files(selection, destination)
    only = chosen["only"]
    if every_table and only is not None and was_typed("every_table"):
        if was_typed("only"):
            raise UsageError(f"--all prints every table and --only {only} one; give one of them")
        only = chosen["only"] = None
    if every_table or only or selection.all_runs or destination.format_ != "table":
        destination.emit(make_report(selection, **chosen))
    else:
        destination.emit(make_screen(selection, **{name: chosen[name] for name in chosen if name != "only"}))


def make_report(
    selection: Selection,
    *,
    with_lecture: bool = False,
    only: str | None = None,
    columns: tuple[str, ...] = (),
    sort: str | None = None,
) -> Report:
    """Make the report of the chosen ledgers.

    Raises UsageError if there is nothing to show or no such column, LedgerError for a path that does not exist.
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
        columns=columns,
        sort=sort,
    )


def make_screen(
    selection: Selection, *, with_lecture: bool = False, columns: tuple[str, ...] = (), sort: str | None = None
) -> Report:
    """One screen about the newest run of the ledgers chosen. Raises as `make_report` does."""
    from cnnbench.report import screen

    loaded = load_results(selection, published_suffice=with_lecture)
    return screen.build(
        loaded.comparison,
        suites={ledger.header.run_id: ", ".join(ledger.header.suites) for ledger in loaded.ledgers},
        with_published=with_lecture,
        problems=loaded.problems,
        columns=columns,
        sort=sort,
    )


@click.command
@click.argument("paths", nargs=-1)
@make_option(
    "-o --output",
    "FILE.html, .md, .tex, .csv or .json; or a folder, which gets all of them and the charts.",
    ANY_PATH,
    default=Path("report.html"),
    metavar="FILE|DIR",
)
@make_flag("--open open_page", "Open the HTML page in the browser when it is written.")
@make_option(
    "--template",
    "full: everything; lecture: the lecture's table alone; compare: two sides (BASE NEW instead of PATHS).",
    click.Choice(["full", "lecture", "compare"]),
    default="full",
)
@make_option("--title", "The page's title.")
@make_option(
    "--relative-to baseline",
    "Speed-ups over the rows of MACHINE[/DEVICE[/THREADS]] instead of over each machine's own CPU.",
    metavar="KEY",
)
@make_flag("--static", "Charts as SVG alone: no script draws them, nothing bundled.")
@make_option(
    "--price-per-hour prices",
    "Price per hour, to compute the cost of the job; KEY is MACHINE[/DEVICE], without it the price is for all.",
    multiple=True,
    metavar="[KEY=]PRICE",
)
@make_option("--currency", "What the prices are in, such as USD.", default="", show_default=False)
@tolerance_option("With --template compare: what counts as the same.")
@MACHINE
@RUN
@LAST
@ALL_RUNS
@make_option(
    "--into",
    "With a folder: also put a short table with its conditions between the lines <!-- table: ... --> and "
    "<!-- table end --> of this Markdown page.",
    click.Path(path_type=Path, dir_okay=False, exists=True),
)
@make_flag("--check", "Write nothing; exit 1 if the report is out of date.")
@gather_values
def report(selection: Selection, output: Path, into: Path | None, check: bool, open_page: bool, **given: Any) -> None:
    """Make a report of the results under PATHS (ledgers or folders of them; default: $CNNBENCH_RESULTS, else the settings',
    else ./results).

    One HTML file has everything it needs and loads nothing from a network. The newest run of each row is shown.
    """
    from cnnbench.report import report_files
    from cnnbench.report.render import markdown

    ending = _find_ending(output)
    if open_page and was_typed("open_page"):
        check = check and was_typed("check")
    else:
        open_page = open_page and not check and ending in (None, "html")
    if ending is not None or given["template"] == "compare":
        into = into if was_typed("into") else None
    if open_page and (check or ending not in (None, "html")):
        why = "--check writes nothing" if check else f"{output} is no HTML page; give -o FILE.html or a folder"
        raise UsageError(f"--open: {why}")
    if into is not None and ending is not None:
        raise UsageError(f"--into {into} links to the charts of a folder; give -o DIR, not {output}")
    if into is not None and given["template"] == "compare":
        raise UsageError("--into takes the lecture's table, which --template compare does not have")
    around = _split_at_marks(into) if into else None  # errors come before anything is drawn
    page, static = _make_page(selection, given["template"], given), given["static"]
    wanted: dict[Path, str | bytes]
    if ending is not None:
        wanted = {output: report_files.render_file(page, ending, static=static)}
    else:
        wanted = {output / name: made for name, made in report_files.render_folder(page, static=static).items()}
    if into is not None and around is not None:
        rest = Path(os.path.relpath(output / report_files.DOCUMENT, into.parent)).as_posix()
        first = _make_page(selection, "first screen", given)
        wanted[into] = markdown.render_first_screen(first, rest_at=rest).join(around)
    root = output if ending is None else None
    if check:
        raise Exit(_print_stale(root, wanted))
    _write_files(root, wanted)
    if open_page:
        _open_page(output if ending else output / "index.html")


def _open_page(path: Path) -> None:
    """Open the page in the user's browser, or say where it is if there is no browser."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        click.echo(f"no browser could be started; open {path} yourself", err=True)


def _find_ending(output: Path) -> Extension | None:
    """Find the file's format; None for a folder. Raises UsageError for an unknown format."""
    from cnnbench.report.report_files import EXTENSIONS

    suffix = output.suffix.removeprefix(".").lower()
    if output.is_dir() or not suffix:
        return None
    if suffix not in EXTENSIONS:
        raise UsageError(f"-o {output}: no such format; choose FILE.{', FILE.'.join(EXTENSIONS)}, or a folder")
    return suffix


def _split_at_marks(target: Path) -> tuple[str, str]:
    """Split the Markdown page at its two marks, which stay. Raises UsageError unless each is there exactly once."""
    parts = re.split(
        rf"(?m)^({re.escape(TABLE_BEGIN)}.*-->\n|{re.escape(TABLE_END)}$)", target.read_text(encoding="utf-8")
    )
    if len(parts) != 5 or not parts[1].startswith(TABLE_BEGIN) or parts[3] != TABLE_END:
        raise UsageError(f"{target}: needs one line `{TABLE_BEGIN}... -->` and below it one `{TABLE_END}`")
    return parts[0] + parts[1], parts[3] + parts[4]


def _print_stale(root: Path | None, wanted: Mapping[Path, str | bytes]) -> ExitCode:
    """Print which files on disk are out of date, and why; return the exit code."""
    from cnnbench.report import report_files

    inside = {} if root is None else {str(p.relative_to(root)): c for p, c in wanted.items() if p.is_relative_to(root)}
    found = [] if root is None else report_files.find_stale(root, inside)
    for path, content in wanted.items():
        single = root is None or not path.is_relative_to(root)
        if single and (why := report_files.explain_difference(path, content)):
            found.append((path, why))
    for path, why in found:
        click.echo(f"{path}: {why}")
    click.echo(f"{len(found)} not current: run the same command without --check" if found else "all current", err=True)
    return ExitCode.FINDING if found else ExitCode.DONE


def _write_files(root: Path | None, wanted: Mapping[Path, str | bytes]) -> None:
    """Write the files, and remove charts of ours (they carry their data) that this report no longer has. Raises FileError."""
    from cnnbench.report import chart_images, report_files

    for path, content in wanted.items():
        save_file(path, content, make_folder=root is not None)
        click.echo(f"wrote {path}", err=True)
    for path in [] if root is None else sorted((root / report_files.CHARTS).glob("*.svg")):
        drawn = path not in wanted and path.read_text(encoding="utf-8", errors="replace")
        if drawn and chart_images.stored_digest(drawn):
            path.unlink()
            click.echo(f"removed {path}: no chart of this report any more", err=True)


def _make_page(selection: Selection, template: str, given: OptionValues) -> Page:
    """Make the page of these results, or of two sides.

    Raises UsageError, LedgerError, and ComparisonError if nothing can be divided.
    """
    from cnnbench.report import sections
    from cnnbench.report.charts import chart_data

    if template == "compare":
        names = list(map(str, selection.paths))
        if len(names) != 2:
            raise UsageError(f"--template compare takes two sides, BASE and NEW; {len(names)} given")
        base, new = load_sides(names)
        compared, rows = compare_sides(base, new, given["tolerance"]), (*base.side.rows, *new.side.rows)
        return sections.build_comparison_page(compared, rows, given["title"] or f"{names[1]} against {names[0]}")
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
    return sections.build(chart_data.collect_chart_data(loaded.comparison, loaded.ledgers), request)


def _parse_prices(given: Sequence[str]) -> tuple[Price, ...]:
    """Parse `2.5` or `box/cuda:0=2.5`. Raises UsageError for anything else."""
    from cnnbench.report.sections import Price

    found = []
    for text in given:
        key, _, number = text.rpartition("=")
        try:
            price = float(number)
        except ValueError:
            price = -1.0
        if not 0 <= price < float("inf"):
            raise UsageError(
                f"--price-per-hour {text}: {number!r} is not a price; give PRICE or MACHINE[/DEVICE]=PRICE"
            )
        found.append(Price(key, price))
    return tuple(found)


@click.command
@click.argument("base")
@click.argument("new")
@results_option("Where names are looked up")
@tolerance_option("Two times are the SAME if the whole interval of their ratio is within this.")
@format_option()
@OUTPUT
@gather_values
def compare(base: str, new: str, results: Path | None, tolerance: float, destination: Destination) -> None:
    """Divide the times of BASE by those of NEW, row by row: above 1, NEW is faster.

    A side is a path (a ledger, or a folder of them) or a name: a machine's id or a run's, the beginning of one, or a key
    MACHINE/DEVICE[/THREADS] such as box/cuda:0 or box/cpu/2. `reference` and results/reference are the published rows.

    Only equal work is divided, and the newest run of each row counts. A verdict is about these measurements alone: the exit
    code is 0 for every verdict, and 3 if nothing can be divided.
    """
    if is_json(base) and is_json(new) and Path(base).is_file():
        raise UsageError(
            f"{base}, {new}: files of another tool, one process each, whose difference may be noise. "
            f"`cnnbench show {shlex.join((base, new))}` prints pytest-benchmark's side by side, `pytest-benchmark compare` "
            "divides them, and `cnnbench check --base REF` says whether code became slower"
        )
    first, second = load_sides((base, new), results)
    destination.emit(compare_sides(first, second, tolerance))


def compare_sides(base: LoadedResults, new: LoadedResults, tolerance: float) -> Report:
    """Make the report of two sides. Raises ComparisonError if nothing can be divided."""
    from cnnbench.report import comparison

    return comparison.build(
        base.side,
        new.side,
        tolerance=tolerance,
        problems=(*base.problems, *new.problems),
        digests={**base.digests, **new.digests},
    )


@click.command
@PATHS
@filter_option("Only rows whose text contains FILTER, as for `cnnbench run`.")
@make_option("--job workloads", "Only this workload, such as mnist-cnn.", metavar="WORKLOAD", multiple=True)
@MACHINE
@make_option("--format format_", "Format of the table.  [default: table]", click.Choice(TABLE_FORMATS))
@make_option(
    "-o --output",
    "Write to a file instead: .svg or .png is the picture, .html both, any other the table.",
    FILE,
)
@gather_values
def history(
    selection: Selection, destination: Destination, name_filter: str | None, workloads: tuple[str, ...]
) -> None:
    """Show each row under PATHS (default: $CNNBENCH_RESULTS, else ./results) over all its runs, oldest first.

    Prints for each run its step time with its interval, the change from the run before, and from the ninth on whether it is
    where the eight or more before it predict. Machines, work and timing rules are never mixed.
    """
    from cnnbench.analysis.history import build_history
    from cnnbench.naming import describe_job
    from cnnbench.plan.matrix import compile_filter
    from cnnbench.report import history as tables

    output, format_ = destination.output, destination.format_
    ending = "" if output is None else output.suffix.lower()
    if ending in CHART_ENDINGS and format_ is not None:
        raise UsageError(f"-o {output} is a picture or page, --format {format_} a table; give one of them")
    (found, processes), wanted = load_processes(selection), compile_filter(name_filter)
    there = sorted({process.job.workload for process in processes})
    for name in workloads:
        if name not in there:
            raise UsageError(f"--job {name}: no such workload there; there are: {', '.join(there)}")
    series = build_history(
        process
        for process in processes
        if process.job.workload in (workloads or there) and wanted(describe_job(process.job))
    )
    if not series:
        raise UsageError(f"-k {name_filter!r} matches no row there; workloads: {', '.join(there)}")
    report = tables.build(series, found.problems)
    if output is None or ending not in CHART_ENDINGS:
        return Destination(format_ or ENDING_FORMATS.get(ending, "table"), output).emit(report)
    from cnnbench.report.charts.history import draw_history
    from cnnbench.report.render import html

    chart = draw_history(series)
    if ending == ".html":
        write_output(output, html.render(tables.page(report, chart), static=True))
    elif chart is None:
        raise UsageError(
            f"-o {output}: no row was timed in two runs, so there is nothing to draw; the table has what there is"
        )
    else:
        write_output(output, draw_chart(chart, ending))


@click.command
@PATHS
@make_option(
    "--to target",
    "Format: pytest-benchmark and github-action-benchmark take one run, csv any number.",
    click.Choice(["pytest-benchmark", "github-action-benchmark", "csv"]),
    required=True,
)
@MACHINE
@RUN
@LAST
@OUTPUT
@gather_values
def export(target: str, selection: Selection, destination: Destination) -> None:
    """Write the results under PATHS (default: $CNNBENCH_RESULTS, else ./results) in another tool's format.

    A process becomes a round in pytest-benchmark's sense: its datum is the process's median step time. csv has a line for each
    process.
    """
    from cnnbench.bridges import exports
    from cnnbench.report import escaping

    found, processes = load_processes(selection)
    if target == "csv":
        text = exports.tidy_csv(processes)
    else:
        runs = sorted({ledger.header.run_id for ledger in found.ledgers})
        if len(runs) > 1:
            raise UsageError(f"{target} holds one run and there are {len(runs)}: --last, or --run {' | '.join(runs)}")
        if not exports.group_jobs(processes):
            raise UsageError(f"run {runs[0]} has no process that ended ok, so there is nothing to export")
        print_warnings(exports.list_left_out(processes))
        if target == "pytest-benchmark":
            longest = max(found.ledgers, key=lambda ledger: len(ledger.records))
            document = exports.pytest_benchmark(longest.header, processes, longest.final_digest)
            text = escaping.as_json(document, indent=4) + "\n"
        else:
            text = escaping.as_json(exports.github_action(processes), indent=2) + "\n"
    print_warnings(found.problems)
    emit_text(lambda **shape: text, destination.output)


def show_benchmark_files(selection: Selection, destination: Destination) -> None:
    """Print what pytest-benchmark's files say (`--benchmark-json FILE`, or a run it saved), or write it in another format.

    A file is one process, n=1, whatever rounds it has. It becomes no ledger: neither `compare` nor any table of results
    mixes it with processes that cnnbench measured. Raises UsageError for anything beside such files, and for a file whose
    ending does not name a format.
    """
    from cnnbench.bridges import pytest_benchmark

    files, output, format_ = tuple(map(Path, selection.paths)), destination.output, destination.format_
    others = [str(path) for path in files if not is_json(path)]
    if others or any(map(was_typed, ("results", "machine_id", "run_id", "last", "all_runs"))):
        what = ", ".join(others) or "--results, --machine, --run, --last and --all-runs"
        raise UsageError(f"{what}: of ledgers; show pytest-benchmark's files (.json) by themselves")
    if output in files:
        raise UsageError(f"{output}: that is the file to be read; choose another name with -o")
    if output is not None and not was_typed("format_"):
        unset = click.get_current_context().get_parameter_source("format_") is ParameterSource.DEFAULT
        if unset and output.suffix not in ENDING_FORMATS:
            raise UsageError(
                f"{output}: the ending says the format; end it in {', '.join(ENDING_FORMATS)}, or give --format"
            )
        if unset or was_typed("output"):
            format_ = ENDING_FORMATS.get(output.suffix, format_)
    found, problems = pytest_benchmark.read_files(files)
    if output is not None:
        print_warnings(problems)
    if format_ == "csv":
        emit_text(lambda **shape: pytest_benchmark.as_csv(found), output)
    else:
        Destination(format_, output).emit(pytest_benchmark.build(found, problems))


def is_json(path: Path | str) -> bool:
    """Whether it is a file of another tool's: ledgers end in .jsonl, and folders may be called anything."""
    return Path(path).suffix == ".json" and not Path(path).is_dir()
