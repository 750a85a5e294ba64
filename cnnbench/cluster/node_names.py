"""Which node each run is of, by its fleet or by the folder that its ledger is in, and which nodes failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cnnbench.cluster import collect, node_job, state
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


def name_nodes(ledgers: Sequence[Ledger], roots: Sequence[Path]) -> NodeNames:
    """Each run's node: by its fleet, else by the path that it lies under where several are given, else its own."""
    by_fleet = {
        (path.parent.name, path.stem): path.parents[2].name
        for root in roots
        for path in sorted(state.find_root(root).glob(f"*/*/{node_job.RESULTS}/*/*.jsonl"))
    }
    by_path = name_paths(roots)
    several = len(set(by_path.values())) > 1
    # Every run once: of its copies the one with most records.
    ordered = sorted(ledgers, key=lambda ledger: (-len(ledger.records), str(ledger.path)), reverse=True)
    longest = {(ledger.header.machine.id, ledger.header.run_id): ledger for ledger in ordered}
    names: dict[RunKey, str] = {}
    hosts: dict[str, list[Ledger]] = {}
    unnamed = 0
    for run, ledger in longest.items():
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


def name_paths(roots: Sequence[Path]) -> dict[Path, str]:
    """A name for each path: its last part (`.` has one too), or all of it where two share that."""
    whole = {root: root.resolve() for root in roots}
    short = {path: path.stem if path.is_file() else path.name for path in whole.values()}
    many = Counter(short.values())
    return {root: short[path] if many[short[path]] == 1 else str(path) for root, path in whole.items()}


def list_warnings(named: NodeNames) -> list[str]:
    """What a reader of the nodes' table must know of their names, and what speaks against one host having measured all that
    lies in its folder.
    """
    warnings = [f"{named.unnamed} runs belong to no fleet: each counts as a node of its own"] if named.unnamed else []
    remedy = "if it holds several hosts, give the folder of each"
    for name, own in sorted(named.hosts.items()):
        machines = {ledger.header.machine.id for ledger in own}
        plans = [ledger.header.plan for ledger in own if not list_pending_jobs(ledger.header, ledger.records)]
        same = Counter(row for plan in plans for row in {job.row_key for job in plan})
        most = max(same.values(), default=1)
        if len(machines) > 1:
            warnings.append(f"{name}: runs of {len(machines)} machines lie there and count as one node; {remedy}")
        elif most > 1:
            what = f"{most} complete runs of the same work lie there and count as one node, by the newest"
            warnings.append(f"{name}: {what}; {remedy}")
    return warnings


def list_failures(named: NodeNames, roots: Sequence[Path]) -> list[str]:
    """What failed on a node of the newest fleet under each root, as far as was known when somebody last asked Slurm, a job of a
    node that is done too; or in the newest run of a host that has its own folder, which may be in no row.
    """
    failures = []
    for root in roots:
        try:
            folder = state.find(root)
            found = collect.read_node_statuses(folder, state.read(folder))
        except UsageError:  # no fleet: results of hosts that were gone to by hand
            continue
        except ClusterError as error:
            failures.append(str(error))
            continue
        failures += [f"{view.outcome.status}: {view.outcome.message}" for view in found if view.outcome is not None]
        failures += [f"node {view.node}: {view.bad_jobs}" for view in found if view.state == "done" and view.bad_jobs]
    for name, own in sorted(named.hosts.items()):
        newest = max(own, key=lambda ledger: (ledger.header.created_at, ledger.header.run_id))
        if bad := collect.describe_bad_jobs(newest):
            failures.append(f"node {name}: {bad}")
    return failures
