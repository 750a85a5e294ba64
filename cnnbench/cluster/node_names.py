"""Which node each run is of, by its fleet or by the folder that its ledger is in, and which nodes failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cnnbench.cluster import node_job, node_status, state
from cnnbench.errors import ClusterError, UsageError
from cnnbench.runner.run import list_pending_jobs
from cnnbench.store import Ledger

RunKey = tuple[str, str]
"""A run's machine and its id: together they are its place in a results tree."""


class NodeNames(NamedTuple):
    """Which node each run is of; the runs of each host that has a folder of its own; how many runs are their own node."""

    names: dict[RunKey, str]
    hosts: dict[str, list[Ledger]]
    unnamed: int


def map_runs_to_nodes(results: Path) -> dict[RunKey, str]:
    """Which node each run was measured on, by machine id and run id, from all fleets of a results tree."""
    found: dict[RunKey, str] = {}
    for ledger in sorted(state.find_root(results).glob(f"*/*/{node_job.RESULTS}/*/*.jsonl")):
        found[ledger.parent.name, ledger.stem] = ledger.parents[2].name
    return found


def name_nodes(ledgers: Sequence[Ledger], roots: Sequence[Path]) -> NodeNames:
    """Each run's node: by its fleet, else by the path that it lies under where several are given, else its own."""
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
    newest = max(own, key=lambda ledger: (ledger.header.created_at, ledger.header.run_id))
    bad = node_status.describe_bad_jobs(node_status.statuses_of(newest))
    return f"node {name}: {bad}" if bad else None


def list_warnings(named: NodeNames) -> list[str]:
    """What a reader of the nodes' table must know of their names."""
    warnings = [f"{named.unnamed} runs belong to no fleet: each counts as a node of its own"] if named.unnamed else []
    found = (explain_mixed_folder(name, own) for name, own in sorted(named.hosts.items()))
    return warnings + [text for text in found if text]


def list_failures(named: NodeNames, roots: Sequence[Path]) -> list[str]:
    """What failed on a node of the newest fleet under each root, or in the newest run of a host that has its own folder."""
    hosts = (explain_failed_host(name, own) for name, own in sorted(named.hosts.items()))
    return [text for root in roots for text in _list_fleet_failures(root)] + [text for text in hosts if text]


def _list_fleet_failures(results: Path) -> list[str]:
    """What became of the nodes of the newest fleet that failed, as far as was known when somebody last asked Slurm, and of those
    that are done but for jobs that failed.
    """
    try:
        folder = state.find(results)
        found = node_status.read_node_statuses(folder, state.read(folder))
    except UsageError:  # no fleet: results of hosts that were gone to by hand
        return []
    except ClusterError as error:
        return [str(error)]
    failed = [f"{view.outcome.status}: {view.outcome.message}" for view in found if view.outcome is not None]
    return failed + [f"node {view.node}: {view.bad_jobs}" for view in found if view.state == "done" and view.not_ok]
