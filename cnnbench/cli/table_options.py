"""What commands that make one table of chosen records share: their arguments, the rows, and the error where there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cnnbench.cli import completion
from cnnbench.cli.load_results import MAX_REASONS, LoadedResults, Selection, load_results
from cnnbench.cli.sides import default_results
from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from cnnbench.analysis.rows import Row
    from cnnbench.report.model import Cell

_TableCommand = TypeVar("_TableCommand", bound=Callable[..., Any])


def result_options(command: _TableCommand) -> _TableCommand:
    """The arguments and options that say which records, and where the table goes."""
    for option in reversed(
        (
            click.argument("paths", nargs=-1, type=click.Path(path_type=Path)),
            click.option(
                "--format",
                "format_",
                type=click.Choice(["table", "markdown", "latex", "csv", "json"]),
                default="table",
            ),
            click.option(
                "--machine",
                "machine_id",
                metavar="ID",
                shell_complete=completion.complete_machines,
                help="Only this machine (its id or the id's beginning).",
            ),
            click.option(
                "--run",
                "run_id",
                metavar="ID",
                shell_complete=completion.complete_runs,
                help="Only this run (its id or the id's beginning).",
            ),
            click.option("--last", is_flag=True, help="Only the newest run."),
            click.option(
                "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead."
            ),
        )
    ):
        command = option(command)
    return command


def load_rows(paths: Sequence[Path], selection: Selection, command: str) -> LoadedResults:
    """The rows chosen, maybe none. Raises UsageError where there is no results directory, or a name fits nothing."""
    roots = list(paths) or [default_results(command)]
    return load_results(roots, selection, published_suffice=True)


def no_results_error(what: str, remedy: str, paths: Sequence[Path], problems: Sequence[str]) -> UsageError:
    """What is not there, the first reasons one a line, and what to do."""
    from cnnbench.report.escaping import plain

    where = ", ".join(map(str, paths)) or "the results"
    reasons = [plain(problem) for problem in problems[:MAX_REASONS]]
    reasons += [f"and {len(problems) - MAX_REASONS} more"] if len(problems) > MAX_REASONS else []
    return UsageError("\n  ".join((f"{what} in {where}; {remedy}", *reasons)))


def processor_cell(rows: Sequence[Row]) -> Callable[[Row], Cell]:
    """How a processor is named beside these rows: with its machine where there are several."""
    from cnnbench.report import cells

    several = len({row.machine.id for row in rows}) > 1
    return lambda row: cells.processor(row, several_machines=several, all_runs=False)
