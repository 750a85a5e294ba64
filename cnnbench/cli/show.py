"""`cnnbench show`: the table of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench.cli import completion
from cnnbench.cli import output as out
from cnnbench.cli.sides import default_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnbench.report.model import Report
    from cnnbench.report.render.text import Format


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(["table", "markdown", "latex", "csv", "json"]), default="table")
@click.option("--with-lecture", is_flag=True, help="Show the lecture's rows of 2017 above the measured ones.")
@click.option(
    "--machine",
    "machine_id",
    metavar="ID",
    shell_complete=completion.complete_machines,
    help="Only this machine (its id or the id's beginning).",
)
@click.option(
    "--run",
    "run_id",
    metavar="ID",
    shell_complete=completion.complete_runs,
    help="Only this run (its id or the id's beginning).",
)
@click.option("--last", is_flag=True, help="Only the newest run.")
@click.option("--all-runs", is_flag=True, help="Every run of a row, not just the newest.")
@click.option(
    "--only",
    type=click.Choice(["training", "resources", "tta", "seeds", "bounds", "ladder", "scaling", "copies", "gemm"]),
    help="One table instead of all.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
def show(
    paths: tuple[Path, ...],
    format_: Format,
    with_lecture: bool,
    machine_id: str | None,
    run_id: str | None,
    last: bool,
    all_runs: bool,
    only: str | None,
    output: Path | None,
) -> None:
    """Print the table of the results under PATHS (ledgers or folders of them; default: $CNNBENCH_RESULTS, else the settings',
    else ./results).

    Of several runs of the same job on the same processor the newest is shown.
    """
    report = report_paths(
        paths,
        with_lecture=with_lecture,
        machine_id=machine_id,
        run_id=run_id,
        last=last,
        all_runs=all_runs,
        only=only,
    )
    out.emit_report(report, format_, output)


def report_paths(
    paths: Sequence[Path],
    *,
    with_lecture: bool = False,
    machine_id: str | None = None,
    run_id: str | None = None,
    last: bool = False,
    all_runs: bool = False,
    only: str | None = None,
) -> Report:
    """The report of the ledgers under the paths, or of the default results where there are none.

    Raises UsageError where there is nothing to show, LedgerError where a path does not exist.
    """
    from cnnbench.cli.load_results import Selection, load_results
    from cnnbench.report import tables

    selection = Selection(machine_id, run_id, last, all_runs)
    loaded = load_results(list(paths) or [default_results()], selection, published_suffice=with_lecture)
    return tables.build(
        loaded.comparison,
        with_published=with_lecture,
        all_runs=all_runs,
        problems=loaded.problems,
        digests=loaded.digests,
        only=only,
    )
