"""`cnnbench fleet report`: nodes of many kinds in one table, and which of equal nodes is not like the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from cnnbench.cli import output as out
from cnnbench.cli.sides import default_results
from cnnbench.errors import ClusterError, ExitCode, UsageError

if TYPE_CHECKING:
    from cnnbench.report.render.text import Format
    from cnnbench.store import Ledger

RunKey = tuple[str, str]
"""A run's machine and its id: together they are its place in a results tree."""


class NodeNames(NamedTuple):
    """Which node each run is of; the runs of each host that has a folder of its own; how many runs are their own node."""

    names: dict[RunKey, str]
    hosts: dict[str, list[Ledger]]
    unnamed: int


@click.command("report")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(["table", "markdown", "latex", "csv", "json"]), default="table")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
@click.pass_context
def report(context: click.Context, /, paths: tuple[Path, ...], format_: Format, output: Path | None) -> None:
    """Print every kind of node with its median and spread, and name the outliers among equal nodes.

    From the results under PATHS (default: $CNNBENCH_RESULTS, else the settings', else ./results). A run's node is the one the
    fleet ran it on; where no fleet did and several PATHS are given, the path (a folder a host); else the run itself. Exit 1
    where there is an outlier, 5 where a node of the newest fleet failed or a job on one did, or a job of a host's newest run.
    """
    from cnnbench import store
    from cnnbench.analysis import node_outliers, process_table
    from cnnbench.report import cluster as tables

    roots = list(paths) or [default_results("cnnbench fleet collect")]
    loaded = store.load_tree(roots)
    named = name_nodes(loaded.ledgers, roots)
    processes, doubles = process_table.read_processes(loaded.ledgers)
    found = node_outliers.group_equal_nodes(processes, lambda each: named.names[each.machine.id, each.run_id])
    hosts = sorted(named.hosts.items())
    failed = [text for root in roots for text in list_failures(root)]
    failed += [text for name, own in hosts if (text := explain_failed_host(name, own))]
    if not found and not failed:
        raise UsageError(
            f"no results of a node in {', '.join(map(str, roots))}; bring them with `cnnbench fleet collect`"
        )
    warnings = [f"{named.unnamed} runs belong to no fleet: each counts as a node of its own"] if named.unnamed else []
    warnings += [text for name, own in hosts if (text := explain_mixed_folder(name, own))]
    made = tables.build(found, failed=failed, warnings=warnings, problems=(*loaded.problems, *doubles))
    out.emit_report(made, format_, output)
    if any(each.outliers for each in found):
        context.exit(ExitCode.FINDING)
    context.exit(ExitCode.JOB_FAILED if failed else ExitCode.DONE)


def name_nodes(ledgers: Sequence[Ledger], roots: Sequence[Path]) -> NodeNames:
    """Each run's node: by its fleet, else by the path that it lies under where several are given, else its own."""
    from cnnbench.cluster.collect import map_runs_to_nodes

    by_fleet = {run: node for root in roots for run, node in map_runs_to_nodes(root).items()}
    by_path = name_paths(roots)
    several = len(set(by_path.values())) > 1
    names: dict[RunKey, str] = {}
    hosts: dict[str, list[Ledger]] = {}
    unnamed = 0
    for run, ledger in keep_longest(ledgers).items():
        above = [root for root in by_path if ledger.path.is_relative_to(root)] if several else []
        if run in by_fleet:
            names[run] = by_fleet[run]
        elif above:
            names[run] = by_path[max(above, key=lambda root: len(root.parts))]
            hosts.setdefault(names[run], []).append(ledger)
        else:
            names[run] = f"run {ledger.header.run_id}"
            unnamed += 1
    return NodeNames(names, hosts, unnamed)


def keep_longest(ledgers: Sequence[Ledger]) -> dict[RunKey, Ledger]:
    """Every run once: of its copies the one with most records."""
    ordered = sorted(ledgers, key=lambda ledger: (-len(ledger.records), str(ledger.path)))
    return {(ledger.header.machine.id, ledger.header.run_id): ledger for ledger in reversed(ordered)}


def name_paths(roots: Sequence[Path]) -> dict[Path, str]:
    """A name for each path: its last part (`.` has one too), or all of it where two share that."""
    whole = {root: root.resolve() for root in roots}
    short = {path: path.stem if path.is_file() else path.name for path in whole.values()}
    many = Counter(short.values())
    return {root: short[path] if many[short[path]] == 1 else str(path) for root, path in whole.items()}


def explain_mixed_folder(name: str, own: Sequence[Ledger]) -> str | None:
    """What speaks against one host having measured all that lies in its folder; None where nothing does."""
    from cnnbench.runner.run import list_pending_jobs

    remedy = "if it holds several hosts, give the folder of each"
    machines = {ledger.header.machine.id for ledger in own}
    if len(machines) > 1:
        return f"{name}: runs of {len(machines)} machines lie there and count as one node; {remedy}"
    plans = [ledger.header.plan for ledger in own if not list_pending_jobs(ledger.header, ledger.records)]
    same = Counter(row for plan in plans for row in {job.row_key for job in plan})
    most = max(same.values(), default=1)
    if most == 1:
        return None
    return f"{name}: {most} complete runs of the same work lie there and count as one node, by the newest; {remedy}"


def explain_failed_host(name: str, own: Sequence[Ledger]) -> str | None:
    """What failed of a host's newest run: it may be in no row. None where nothing did."""
    from cnnbench.cluster import node_status

    newest = max(own, key=lambda ledger: (ledger.header.created_at, ledger.header.run_id))
    bad = node_status.describe_bad_jobs(node_status.statuses_of(newest))
    return f"node {name}: {bad}" if bad else None


def list_failures(results: Path) -> list[str]:
    """What became of the nodes of the newest fleet that failed, as far as was known when somebody last asked Slurm, and of those
    that are done but for jobs that failed.
    """
    from cnnbench.cluster import node_status, state

    try:
        folder = state.find(results)
        found = node_status.read_node_statuses(folder, state.read(folder))
    except UsageError:  # no fleet: results of hosts that were gone to by hand
        return []
    except ClusterError as error:
        return [str(error)]
    failed = [f"{view.outcome.status}: {view.outcome.message}" for view in found if view.outcome is not None]
    return failed + [f"node {view.node}: {view.bad_jobs}" for view in found if view.state == "done" and view.not_ok]
