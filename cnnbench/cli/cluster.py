"""The commands for many machines: `cluster` (submit, look, cancel, collect, compare nodes) and `merge`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import Exit

from cnnbench.cli import completion, load_results
from cnnbench.cli.command_group import CommandGroup
from cnnbench.cli.options import (
    ANY_PATH,
    COUNT,
    OUTPUT,
    PATHS,
    format_option,
    gather_values,
    json_option,
    make_flag,
    make_option,
    results_option,
    tree_option,
)
from cnnbench.cli.output import Destination, print_json, printable
from cnnbench.cli.verbosity import verbosity as verbosity_of
from cnnbench.errors import ClusterError, ExitCode, UsageError

if TYPE_CHECKING:
    from cnnbench.cluster import collect, state
    from cnnbench.merge import MergeResult, MergeStatus

DONE: dict[MergeStatus, str] = {"brought": "brought", "longer": "longer", "there": "already there"}
PLANNED: dict[MergeStatus, str] = {"brought": "to bring", "longer": "to replace by longer", "there": "already there"}
LEFT_OUT: tuple[MergeStatus, ...] = ("conflict", "alive", "refused")

_results_option = tree_option(
    "Results directory, on a file system that all nodes share; what cluster runs need themselves is in DIR-fleet beside it."
)
_fleet_id_option = make_option(
    "--id fleet_id", "This cluster run (its id or the id's beginning) instead of the newest.", metavar="ID"
)
_json_option = json_option("Print JSON.")
_wait_option = make_flag("--wait", "Wait until every job is over, then collect.")
_poll_option = make_option(
    "--poll",
    "With --wait: seconds between two questions to Slurm.",
    click.FloatRange(min=0.1),
    default=10.0,
    metavar="SECONDS",
)


@click.group(cls=CommandGroup)
def cluster() -> None:
    """Run suites on the nodes of a Slurm cluster, one exclusive job on each, and bring all records into one results tree.

    Submitted through the package submitit: pip install 'cnnbench[cluster]'.
    """


@cluster.command
@click.argument("suites", nargs=-1, metavar="SUITE...", shell_complete=completion.complete_suites)
@make_option("-p --partition", "Slurm's partition; required without --resume.", metavar="P")
@make_option("--constraint", "Only nodes with these features: a, a&b, a|b.", metavar="FEATURES")
@make_option("--gres", "Only nodes with this, and request it: gpu, gpu:4, gpu:a100:4.", metavar="GRES")
@make_option("--nodes count", "This many nodes, the idle ones first.", COUNT, metavar="N")
@make_flag("--each-node", "Every node.  [default: one node of each kind]")
@make_option("--exclusive/--shared", "Whether a job has its node to itself.", default=True)
@make_option("--time time_limit", "Limit for a node's job, as in Slurm.  [default: 2:00:00]", metavar="TIME")
@make_option("--sbatch more", "A further option of sbatch: account=lab.", multiple=True, metavar="NAME[=VALUE]")
@make_option("--run-options", "Options for each node's `cnnbench run`, such as '--device cpu -r 3'.", metavar="TEXT")
@make_flag("--resume", "Submit again what is missing of the newest cluster run, repeating nothing.")
@_fleet_id_option
@_results_option
@_wait_option
@_poll_option
@make_flag("--dry-run", "Print each node's sbatch script and submit nothing.")
@click.pass_context
def run_command(context: click.Context, /, suites: tuple[str, ...], results: Path, **given: Any) -> None:
    """Submit a job for each node that runs each SUITE there (a shipped name, or a TOML file that the nodes can read).

    Exit 0 once submitted; 5 if Slurm refused a job (with --wait: or a node, or a job on it, failed; else what `cnnbench
    merge` would exit with).
    """
    from cnnbench.cli.cluster_plan import new_fleet, resume_fleet, submit_jobs
    from cnnbench.cluster import submit

    submit.require()
    if given["resume"]:
        folder, made, names = resume_fleet(context, suites, results, given)
    else:
        folder, made, names = new_fleet(suites, results, given)
    if given["dry_run"]:
        for name in names:
            click.echo(f"# {name}\n{submit.make_script(folder, made, name)}")
        return
    refused = submit_jobs(folder, made, names)
    if not given["wait"]:
        where = f" --results {shlex.quote(str(results))}"
        click.echo(
            f"now: cnnbench cluster status{where}; when they are done: cnnbench cluster collect{where}", err=True
        )
        raise Exit(ExitCode.JOB_FAILED if refused else ExitCode.DONE)
    _collect(folder, results, wait=True, poll=given["poll"], as_json=False)


@cluster.command
@_results_option
@_fleet_id_option
@_json_option
def status_command(results: Path, fleet_id: str | None, as_json: bool) -> None:
    """Print the state of each node: waiting, running, done, or failed and why. Exit 5 if one failed."""
    from cnnbench.cluster import collect

    folder = _find_fleet(results, fleet_id)
    made = collect.refresh(folder)
    found = collect.read_node_statuses(folder, made)
    _print_status(made, found, as_json=as_json)
    bad = any(view.state == "failed" or (view.state == "done" and view.bad_jobs) for view in found)
    raise Exit(ExitCode.JOB_FAILED if bad else ExitCode.DONE)


@cluster.command
@_results_option
@_fleet_id_option
def cancel_command(results: Path, fleet_id: str | None) -> None:
    """Cancel the jobs that are not over; what was measured stays, and `cluster run --resume` continues."""
    from cnnbench.cluster import collect

    nodes = collect.cancel(_find_fleet(results, fleet_id))
    click.echo(f"cancelled: {', '.join(nodes)}" if nodes else "no job of this cluster run is waiting or running")


@cluster.command
@_results_option
@_fleet_id_option
@_wait_option
@_poll_option
@_json_option
def collect_command(results: Path, fleet_id: str | None, wait: bool, poll: float, as_json: bool) -> None:
    """Copy the records of the nodes that are done or failed into the results directory.

    A process that was running when its node's job ended is recorded as interrupted, with Slurm's state and reason. Exit 5
    if a node failed or still runs, or a job on one failed; else what `cnnbench merge` would exit with.
    """
    _collect(_find_fleet(results, fleet_id), results, wait=wait, poll=poll, as_json=as_json)


def _find_fleet(results: Path, fleet_id: str | None) -> Path:
    """Find the folder of the fleet. Raises UsageError for an unknown fleet, or without Slurm."""
    from cnnbench.cluster import slurm, state

    folder = state.find(results, fleet_id)
    slurm.require()
    return folder


def _collect(folder: Path, results: Path, *, wait: bool, poll: float, as_json: bool) -> None:
    from cnnbench.cluster import collect

    made = _wait_for(folder, poll) if wait else collect.refresh(folder)
    found, merged, problems = collect.collect(folder, made, results)
    _print_status(made, found, as_json=as_json)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    bad = any(view.state != "done" or view.bad_jobs for view in found)
    if merged is None:
        click.echo("no records to bring yet", err=True)
        raise Exit(ExitCode.JOB_FAILED)
    for entry in merged.entries:
        if entry.status in LEFT_OUT:
            click.echo(f"{entry.status}: {'; '.join(entry.notes)}", err=True)
    new = merged.count("brought", "longer", kind="run")
    click.echo(
        f"{new} ledgers brought to {results}; {merged.records:,} records of this cluster run there\n"
        f"now: cnnbench show {results} --all; cnnbench cluster report {results}",
        err=True,
    )
    raise Exit(ExitCode.JOB_FAILED if bad else merged.exit_code)


def _wait_for(folder: Path, poll: float) -> state.ClusterRun:
    """Wait until none of the fleet's jobs waits or runs, and print a line per change.

    Slurm may not answer for a while, even at first: the last known states then stay valid, except failures, which Slurm
    might explain.
    """
    from cnnbench.cluster import collect, state

    told: dict[str, str] = {}
    made = state.read(folder)
    while True:
        unsettled = ["waiting", "running"]
        try:
            made = collect.refresh(folder)
        except ClusterError as error:
            unsettled.append("failed")
            click.echo(f"warning: {error}; still waiting", err=True)
        found = collect.read_node_statuses(folder, made)
        for view in found:
            text = " ".join(filter(None, (view.state, _describe_state(view))))
            if told.get(view.node) != text:
                click.echo(f"{view.node}: {text}", err=True)
            told[view.node] = text
        if not any(view.state in unsettled for view in found):
            return made
        time.sleep(poll)


def _print_status(made: state.ClusterRun, found: Sequence[collect.NodeStatus], *, as_json: bool) -> None:
    if as_json:
        nodes = [
            {
                "node": view.node,
                "kind": view.entry.kind,
                "standing": view.state,
                "outcome": view.outcome and view.outcome.status,
                "message": view.outcome and view.outcome.message,
                "finished": view.finished,
                "planned": view.planned,
                "statuses": view.statuses,
                "run": view.ledger and view.ledger.header.run_id,
                "attempts": [each.model_dump(exclude_none=True) for each in view.entry.attempts],
            }
            for view in found
        ]
        print_json({"fleet": made.fleet_id, "suites": list(made.suites), "results": made.results, "nodes": nodes})
        return
    lines = [("node", "job", "standing", "jobs done", "")]
    for view in found:
        last = view.entry.last
        done = f"{view.finished} of {'?' if view.planned is None else view.planned}"
        lines.append((view.node, (last and last.job_id) or "-", view.state, done, _describe_state(view)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    click.echo(f"fleet {made.fleet_id}: {' '.join(made.suites)} on {made.request.partition}")
    for line in lines:
        click.echo("  ".join(map(str.ljust, line, widths)).rstrip())


def _describe_state(view: collect.NodeStatus) -> str:
    """Describe why the node failed, how many of its jobs did, or what it waits for."""
    if view.outcome is not None:
        return f"{view.outcome.status}: {view.outcome.message}"
    if view.bad_jobs:
        return view.bad_jobs
    said = view.entry.last.said if view.entry.last is not None else None
    return f"Slurm: {said.state.lower()} ({said.reason})" if said and said.reason and view.state != "done" else ""


@cluster.command
@PATHS
@results_option("The results tree, instead of PATHS")
@format_option()
@OUTPUT
@gather_values
def report_command(selection: load_results.Selection, destination: Destination) -> None:
    """Print each kind of node with its median and spread, and name the outliers among equal nodes.

    From the results under PATHS (default: $CNNBENCH_RESULTS, else the settings', else ./results). A run's node is the one that
    `cluster run` ran it on; for other runs and several PATHS it is the path (a folder for each host); else the run itself. Exit
    1 if there is an outlier, 5 if a node of the newest cluster run failed or a job on one did, or a job of a host's newest run.
    """
    from cnnbench.analysis import node_outliers
    from cnnbench.cluster import collect
    from cnnbench.report import cluster as tables

    command = "cnnbench cluster collect"
    roots = selection.find_roots(command)
    loaded, processes = load_results.load_processes(selection, command, required=False)
    named = collect.name_nodes(loaded.ledgers, roots)
    found = node_outliers.group_equal_nodes(processes, lambda each: named.names[each.machine.id, each.run_id])
    failed = collect.list_failures(named, roots)
    if not found and not failed:
        raise UsageError(
            f"no results of a node in {', '.join(map(str, roots))}; bring them with `cnnbench cluster collect`"
        )
    destination.emit(
        tables.build(found, failed=failed, warnings=collect.list_warnings(named), problems=loaded.problems)
    )
    if any(each.outliers for each in found):
        raise Exit(ExitCode.FINDING)
    raise Exit(ExitCode.JOB_FAILED if failed else ExitCode.DONE)


@click.command
@click.argument("sources", nargs=-1, required=True, metavar="DIR...", type=ANY_PATH)
@tree_option("Results directory that they are copied to.")
@make_flag("--dry-run", "Say what would happen and write nothing.")
@json_option("Print what became of each run as JSON.")
@click.pass_context
def merge(context: click.Context, /, sources: tuple[Path, ...], results: Path, dry_run: bool, as_json: bool) -> None:
    """Copy the ledgers under each DIR (folders of *.jsonl, or single files) into one results directory.

    Copies are byte for byte, and the DIRs are only read. A run that is there already is not copied again; if one copy
    continues another, the longer one is kept. If two copies of a run differ, neither is touched and the exit code is 1. Exit
    2 if a file was left out because it is no ledger, cannot be read or has no place in the tree, 5 if a ledger was left out
    because its run is still going on; the rest is merged all the same.
    """
    from cnnbench.merge import merge as merge_trees

    merged = merge_trees(sources, results, dry_run=dry_run)
    if as_json:
        print_json(
            {
                "results": merged.results,
                "dry_run": dry_run,
                "records": merged.records,
                **{str(status): merged.count(status) for status in (*DONE, *LEFT_OUT)},
                "entries": [asdict(each) for each in merged.entries],
                "without_ledgers": merged.empty,
            }
        )
    else:
        _print_merge(merged, dry_run, verbosity_of(context))
    raise Exit(merged.exit_code)


def _print_merge(merged: MergeResult, dry_run: bool, verbosity: int) -> None:
    """Print the outcome on standard output and warnings about it on standard error."""
    words = PLANNED if dry_run else DONE
    for path in merged.empty:
        _print_line(f"warning: {path}: no *.jsonl under it", err=True)
    for entry in merged.entries:
        for problem in entry.problems:
            _print_line(f"warning: {problem}", err=True)
        if entry.status in LEFT_OUT:
            why = "; ".join(entry.notes)
            if entry.status == "conflict":
                why = f"{entry.target}: {why}; neither was overwritten; set the wrong one aside and merge again"
            _print_line(f"{entry.status.upper()}  {why}")
        elif verbosity > 0 or (verbosity == 0 and (entry.status != "there" or entry.notes)):
            size = _format_count(entry.records, "row" if entry.kind == "reference" else "record")
            origin = f" from {entry.sources[0]}" if entry.status != "there" else ""
            _print_line(f"{words[entry.status]}  {entry.target}: {'; '.join((size + origin, *entry.notes))}")
    if verbosity < 0:
        return
    parts = [  # `3 ledgers brought, 2 already there, 1 longer, 0 conflicts; 120 records in all`, and what else there was
        f"{_format_count(merged.count('brought', kind='run'), 'ledger')} {words['brought']}",
        f"{merged.count('there', kind='run')} already there",
        f"{merged.count('longer', kind='run')} longer",
        _format_count(merged.count("conflict"), "conflict"),
    ]
    if left_out := merged.count("alive", "refused"):
        parts.append(f"{left_out} left out")
    if rows := merged.count("brought", "longer", kind="reference"):
        parts.append(f"{_format_count(rows, 'file')} of published rows {words['brought']}")
    _print_line(f"{', '.join(parts)}; {_format_count(merged.records, 'record')} in all")
    if merged.records and not dry_run:
        _print_line(f"now: cnnbench report {merged.results} -o report.html", err=True)


def _format_count(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def _print_line(text: str, *, err: bool = False) -> None:
    """Print one line with unprintable characters as codes, since names come from other people's files and folders."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    click.echo(printable(shown, err=err), err=err)
