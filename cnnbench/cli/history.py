"""`cnnbench history`: each row over all recorded runs, as a table or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from cnnbench.cli import completion
from cnnbench.cli import output as out
from cnnbench.cli.load_results import Selection, select_ledgers
from cnnbench.cli.sides import default_results
from cnnbench.errors import UsageError
from cnnbench.report.render.text import Format

if TYPE_CHECKING:
    from cnnbench.analysis.history import Series
    from cnnbench.analysis.process_table import Process
    from cnnbench.report.model import Report

CHART_ENDINGS = (".svg", ".png", ".html")
TABLE_FORMATS: dict[str, str] = {".md": "markdown", ".csv": "csv", ".json": "json", ".tex": "latex"}


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-k", "name_filter", metavar="FILTER", help="Only rows whose text contains FILTER, as for `cnnbench run`."
)  # fmt: skip
@click.option("--job", "workloads", metavar="WORKLOAD", multiple=True, help="Only this workload, such as mnist-cnn.")
@click.option(
    "--machine",
    "machine_id",
    metavar="ID",
    shell_complete=completion.complete_machines,
    help="Only this machine (its id or the id's beginning).",
)
@click.option("--format", "format_", type=click.Choice(get_args(Format)), help="Of the table.  [default: table]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write to a file instead: .svg or .png is the picture, .html both, any other the table.",
)  # fmt: skip
def history(
    paths: tuple[Path, ...],
    name_filter: str | None,
    workloads: tuple[str, ...],
    machine_id: str | None,
    format_: Format | None,
    output: Path | None,
) -> None:
    """Show each row under PATHS (default: $CNNBENCH_RESULTS, else ./results) over all its runs, oldest first.

    Each run has its step time with its interval, the change against the run before, and from the ninth on whether it fell
    where the eight or more before it predict. Machines, work and timing rules are never mixed.
    """
    ending = "" if output is None else output.suffix.lower()
    if ending in CHART_ENDINGS and format_ is not None:
        raise UsageError(f"-o {output} is a picture or page, --format {format_} a table; give one of them")
    from cnnbench.report import history as tables

    series, problems = _load_series(list(paths) or [default_results()], name_filter, workloads, machine_id)
    report = tables.build(series, problems)
    if output is not None and ending in CHART_ENDINGS:
        out.save_file(output, _draw(report, series, output))
        click.echo(f"wrote {output}", err=True)
        return
    out.emit_report(report, format_ or _format_for_ending(ending), output)


def _format_for_ending(ending: str) -> Format:
    """The format that a file's ending names, the terminal's for any other."""
    formats: tuple[Format, ...] = get_args(Format)
    return next((name for name in formats if name == TABLE_FORMATS.get(ending)), "table")


def _load_series(
    roots: Sequence[Path], name_filter: str | None, workloads: Sequence[str], machine_id: str | None
) -> tuple[Sequence[Series], tuple[str, ...]]:
    """The series asked for, and what could not be read. Raises UsageError, with what there is, where nothing is left."""
    from cnnbench import store
    from cnnbench.analysis import process_table
    from cnnbench.analysis.history import build_history as over_runs
    from cnnbench.plan.matrix import compile_filter, describe_job

    loaded = store.load_tree(roots)
    if not loaded.ledgers:
        reasons = "".join(f"\n  {problem}" for problem in loaded.problems)
        raise UsageError(
            f"no results in {', '.join(map(str, roots))}; measure first with `cnnbench run quick`{reasons}"
        )
    processes, doubles = process_table.read_processes(select_ledgers(loaded.ledgers, Selection(machine_id)))
    wanted = compile_filter(name_filter)
    there = sorted({process.job.workload for process in processes})
    unknown = [name for name in workloads if name not in there]
    if unknown:
        raise UsageError(f"--job {unknown[0]}: no such workload there; there are: {', '.join(there)}")

    def is_chosen(process: Process) -> bool:
        return (not workloads or process.job.workload in workloads) and wanted(describe_job(process.job))

    found = over_runs(filter(is_chosen, processes))
    if not found:
        raise UsageError(f"-k {name_filter!r} matches no row there; workloads: {', '.join(there)}")
    return found, (*loaded.problems, *doubles)


def _draw(report: Report, series: Sequence[Series], output: Path) -> str | bytes:
    from cnnbench.report import history as tables
    from cnnbench.report.charts.history import history as chart_of
    from cnnbench.report.render import html

    chart = chart_of(series)
    if output.suffix.lower() == ".html":
        return html.render(tables.page(report, chart), static=True)
    if chart is None:
        raise UsageError(
            f"-o {output}: no row was timed in two runs, so there is nothing to draw; the table has what there is"
        )
    return out.draw_chart(chart, output.suffix.lower())
