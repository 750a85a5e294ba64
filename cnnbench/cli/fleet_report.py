"""`cnnbench fleet report`: nodes of many kinds in one table, and which of equal nodes is not like the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench.cli import output as out
from cnnbench.cli.sources import default_results
from cnnbench.errors import ExitCode, FleetError, UsageError

if TYPE_CHECKING:
    from cnnbench.report.text import Format
    from cnnbench.store import Ledger


@click.command("report")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(["table", "markdown", "latex", "csv", "json"]), default="table")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
@click.pass_context
def report(context: click.Context, /, paths: tuple[Path, ...], format_: Format, output: Path | None) -> None:
    """Print every kind of node with its median and spread, and name the outliers among equal nodes.

    From the results under PATHS (default: $CNNBENCH_RESULTS, else the settings', else ./results). A run's node is the one the
    fleet ran it on; where no fleet did and several PATHS are given, the path (a folder a host); else the run itself. Exit 1
    where there is an outlier, 5 where a node of the newest fleet failed.
    """
    from cnnbench import store
    from cnnbench.analysis import frame, nodes
    from cnnbench.report import fleet as tables

    roots = list(paths) or [default_results("cnnbench fleet collect")]
    loaded = store.load_tree(roots)
    names, unnamed = node_names(loaded.ledgers, roots)
    processes, doubles = frame.processes(loaded.ledgers)
    found = nodes.alike(processes, names.__getitem__)
    failed = [text for root in roots for text in failures(root)]
    if not found and not failed:
        raise UsageError(
            f"no results of a node in {', '.join(map(str, roots))}; bring them with `cnnbench fleet collect`"
        )
    warnings = [f"{unnamed} runs belong to no fleet: each counts as a node of its own"] if unnamed else []
    made = tables.build(found, failed=failed, warnings=warnings, problems=(*loaded.problems, *doubles))
    out.emit(made, format_, output)
    if any(each.outliers for each in found):
        context.exit(ExitCode.FINDING)
    context.exit(ExitCode.JOB_FAILED if failed else ExitCode.DONE)


def node_names(ledgers: Sequence[Ledger], roots: Sequence[Path]) -> tuple[dict[str, str], int]:
    """Each run's node, and how many runs are their own for want of a better name."""
    from cnnbench.fleet.collect import runs_of

    by_fleet = {run_id: node for root in roots for run_id, node in runs_of(root).items()}
    names, unnamed = {}, 0
    for ledger in ledgers:
        run_id = ledger.header.run_id
        root = next((root for root in roots if ledger.path.is_relative_to(root)), None)
        if run_id in by_fleet:
            names[run_id] = by_fleet[run_id]
        elif len(roots) > 1 and root is not None:
            names[run_id] = root.name if root.is_dir() else root.stem
        else:
            names[run_id] = f"run {run_id}"
            unnamed += 1
    return names, unnamed


def failures(results: Path) -> list[str]:
    """What became of the nodes of the newest fleet that failed, as far as was known when somebody last asked Slurm."""
    from cnnbench.fleet import cells, state

    try:
        folder = state.find(results)
        found = cells.views(folder, state.read(folder))
    except UsageError:  # no fleet: results of hosts that were gone to by hand
        return []
    except FleetError as error:
        return [str(error)]
    return [f"{view.outcome.status}: {view.outcome.message}" for view in found if view.outcome is not None]
