"""`cnnbench claims`: whether the fixed recipes of the open class keep what they claim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench.cli import output as out
from cnnbench.cli.load_results import Selection
from cnnbench.cli.table_options import load_rows, no_results_error, processor_cell, result_options
from cnnbench.errors import ExitCode

if TYPE_CHECKING:
    from cnnbench.report.render.text import Format


@click.command()
@result_options
@click.pass_context
def claims(
    context: click.Context,
    /,
    paths: tuple[Path, ...],
    format_: Format,
    machine_id: str | None,
    run_id: str | None,
    last: bool,
    output: Path | None,
) -> None:
    """Say what each fixed recipe of the open class reaches, in what time, and whether its claim holds.

    From the results under PATHS (default: $CNNBENCH_RESULTS, else the settings', else ./results). A claim is about the mean of
    30 seeds or more. Exit 1 where one fails, 4 where none does and one has too few seeds.
    """
    from cnnbench.analysis import open_division as analysis
    from cnnbench.report import open_division as tables

    found = load_rows(paths, Selection(machine_id, run_id, last), "cnnbench run open")
    made = analysis.collect_claims(found.comparison.rows)
    if not made:
        raise no_results_error(
            "no recipe of the open class trained on MNIST",
            "measure one with `cnnbench run open`",
            paths,
            found.problems,
        )
    report = tables.build(made, processor_cell(found.comparison.rows), problems=found.problems, digests=found.digests)
    out.emit_report(report, format_, output)
    verdicts = {each.outcome for each in made}
    if "fails" in verdicts:
        context.exit(ExitCode.FINDING)
    if "too few seeds" in verdicts:
        context.exit(ExitCode.INCONCLUSIVE)
