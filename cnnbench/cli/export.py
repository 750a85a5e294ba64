"""`cnnbench export`: what was measured, in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cnnbench.cli import completion
from cnnbench.cli import output as out
from cnnbench.cli.sides import default_results
from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnbench.analysis.process_table import Process
    from cnnbench.store import Ledger

ExportFormat = Literal["pytest-benchmark", "github-action-benchmark", "csv"]


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["pytest-benchmark", "github-action-benchmark", "csv"]),
    help="pytest-benchmark and github-action-benchmark take one run; csv any number.",
)
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
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
def export(
    paths: tuple[Path, ...],
    target: ExportFormat,
    machine_id: str | None,
    run_id: str | None,
    last: bool,
    output: Path | None,
) -> None:
    """Write the results under PATHS (default: $CNNBENCH_RESULTS, else ./results) in another tool's format.

    A round of theirs is a process of ours: its datum is the process's median step time. csv has a line for each process.
    """
    from cnnbench import store
    from cnnbench.analysis import process_table
    from cnnbench.cli.load_results import Selection, select_ledgers
    from cnnbench.report.escaping import plain

    roots = list(paths) or [default_results()]
    loaded = store.load_tree(roots)
    ledgers = select_ledgers(loaded.ledgers, Selection(machine_id, run_id, last))
    if not ledgers:
        where = ", ".join(map(str, roots))
        raise UsageError(f"no results in {where}; measure first with `cnnbench run quick`")
    processes, doubles = process_table.read_processes(ledgers)
    text = _render(target, ledgers, processes)
    for line in (*loaded.problems, *doubles):
        click.echo(plain(line), err=True)
    if output is None:
        click.echo(out.printable(text), nl=False)
    else:
        out.save_file(output, text)
        click.echo(f"wrote {output}", err=True)


def _render(target: ExportFormat, ledgers: Sequence[Ledger], processes: Sequence[Process]) -> str:
    from cnnbench.bridges import exports
    from cnnbench.report import escaping

    if target == "csv":
        return exports.tidy_csv(processes)
    runs = sorted({ledger.header.run_id for ledger in ledgers})
    if len(runs) > 1:
        raise UsageError(f"{target} holds one run and there are {len(runs)}: --last, or --run {' | '.join(runs)}")
    if not exports.group_jobs(processes):
        raise UsageError(f"run {runs[0]} has no process that ended ok, so there is nothing to export")
    for line in exports.list_left_out(processes):
        click.echo(escaping.plain(line), err=True)
    if target == "github-action-benchmark":
        return escaping.as_json(exports.github_action(processes), indent=2) + "\n"
    longest = max(ledgers, key=lambda ledger: len(ledger.records))
    return escaping.as_json(exports.pytest_benchmark(longest.header, processes, longest.final_digest), indent=4) + "\n"
