"""How each node of a fleet did, which node each run belongs to, and how the nodes' ledgers are collected into the
results.

How a node did is derived whenever it is asked for: from what Slurm last reported of its job and from the files in its
folder. A run that has a final record for every job of its plan is done, whatever Slurm reports. Otherwise the newest
job counts: it is waiting, it is running, or it ended too early, and then there is an outcome with the node, Slurm's
state and its reason (timeout, crashed, oom, interrupted). In the ledger of such a node the process that was under way
is `interrupted`, with the same message: so the number started equals the number recorded, and `--resume` repeats it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cnnbench import store
from cnnbench.cluster import node_job, slurm, state
from cnnbench.cluster.state import ClusterRun, NodeEntry, SlurmState
from cnnbench.errors import ClusterError, LedgerError, UsageError
from cnnbench.merge import MergeResult, merge
from cnnbench.runner.run import list_pending_jobs
from cnnbench.schema import Outcome, Record, Status
from cnnbench.store import Ledger

_BY_STATE: dict[str, Status] = {
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "OUT_OF_MEMORY": "oom",
    "CANCELLED": "interrupted",
    "PREEMPTED": "interrupted",
    "REVOKED": "interrupted",
}
"""The kind of an early end, by Slurm's state; any other state is a crash of the node, of the job, or of unknown cause.
"""
RESUME_HINT = "`cnnbench cluster run --resume` goes on"


@dataclass(frozen=True)
class NodeStatus:
    """One node of a fleet as it is now."""

    entry: NodeEntry
    state: Literal["waiting", "running", "done", "failed"]
    outcome: Outcome | None = None
    """Why it failed; None in every other state."""
    ledger: Ledger | None = None
    pending: int = 0
    """Jobs of the ledger's plan without a final record."""

    @property
    def planned(self) -> int | None:
        """Jobs of the plan; None if there is no plan yet."""
        return None if self.ledger is None else len(self.ledger.header.plan)

    @property
    def finished(self) -> int:
        """Jobs of the plan with a final record, failed ones too."""
        return (self.planned or 0) - self.pending

    @property
    def statuses(self) -> dict[str, int]:
        """Final records by how they ended."""
        return statuses_of(self.ledger)

    @property
    def node(self) -> str:
        """The node's name."""
        return self.entry.node

    @property
    def bad_jobs(self) -> str:
        """Jobs of the plan that ended badly, by how: `1 crashed, 3 oom`."""
        return describe_bad_jobs(self.ledger)


def read_node_statuses(folder: Path, fleet: ClusterRun) -> tuple[NodeStatus, ...]:
    """Read the state of every node of the fleet."""
    return tuple(read_node_status(folder / cell.node, cell) for cell in fleet.cells)


def read_node_status(place: Path, entry: NodeEntry) -> NodeStatus:
    """Read the state of one node from its folder."""
    ledger = node_job.newest_ledger(place)
    todo = () if ledger is None else list_pending_jobs(ledger.header, ledger.records)

    make_status = partial(NodeStatus, entry, ledger=ledger, pending=len(todo))
    last = entry.last
    if ledger is not None and not todo:
        return make_status("done")
    if last is None or last.job_id is None:
        why = "nothing was submitted" if last is None else last.refused or describe_lost_submission(entry.node)
        message = f"node {entry.node}: {why}; {RESUME_HINT}"
        return make_status("failed", Outcome(status="interrupted", message=message))
    if last.said is None or last.said.state in slurm.WAITING:
        return make_status("waiting")
    if last.said.state not in slurm.ENDED:  # also while Slurm cleans up and does not report yet how the job ended
        return make_status("running")
    return make_status("failed", _explain_failure(place, entry.node, last.job_id, last.said))


def statuses_of(ledger: Ledger | None) -> dict[str, int]:
    """Count the run's final records by how they ended."""
    ended = (each.outcome.status for each in (ledger.records if ledger else ()))
    return dict(Counter(status for status in ended if status != "interrupted"))


def describe_bad_jobs(ledger: Ledger | None) -> str:
    """Describe the records that did not end well: `1 crashed, 3 oom`; empty if all did."""
    return ", ".join(f"{many} {status}" for status, many in sorted(statuses_of(ledger).items()) if status != "ok")


def describe_lost_submission(name: str) -> str:
    """Explain that sbatch was called for a node and its answer was lost, by an interrupt or a full disk."""
    job = node_job.job_name(name)
    return (
        f"it is not known whether its job was submitted: `squeue --me --name {job}` would show it; end it (`scancel`) "
        "before another one"
    )


def _explain_failure(place: Path, node: str, job_id: str, slurm_state: SlurmState) -> Outcome:
    """Explain why a job ended before its run did."""
    token, ended = _read_facts(place, job_id)
    where = token.get("node") or slurm_state.node or node
    status = _BY_STATE.get(slurm_state.state, "crashed")
    if ended:
        code = ended.get("exit_code")
        words = _read_last_line(node_job.log_path(place, job_id))
        explanation = f"`cnnbench run` ended with {code}" + (f": {words}" if words else "")
        status = "interrupted" if code == 130 and status == "crashed" else status
    elif token:
        explanation = "it began and was ended from outside"
    elif status == "interrupted" and slurm_state.node is None:
        explanation = "it was ended before it began"
    elif slurm_state.state in ("NODE_FAIL", "BOOT_FAIL"):
        explanation = "it never began"
    else:
        explanation = _explain_never_began(place, job_id)
    end = "is no longer known to Slurm"
    if slurm_state.state != slurm.UNKNOWN:
        exit_code = slurm_state.exit_code and f"exit {slurm_state.exit_code}"
        details = ", ".join(filter(None, (slurm_state.reason, exit_code)))
        end = f"ended as {slurm_state.state}" + (f" ({details})" if details else "")
    message = f"node {where}: Slurm job {job_id} {end}: {explanation}; {RESUME_HINT}"
    return Outcome(status=status, message=message)


def _explain_never_began(place: Path, job_id: str) -> str:
    """Explain why a job left no token: if Slurm's own log exists, Python failed to start.

    Otherwise the folder is not shared.
    """
    logs = sorted((place / node_job.SLURM_FOLDER).glob(f"{job_id}_*_log.*"))
    if not logs:
        return (
            f"neither its token nor its log is in {place}: that folder is not shared with the node (or is slow to show new "
            "files: ask again in a minute); choose a results directory on a file system that all nodes share"
        )
    words = next(filter(None, map(_read_last_line, reversed(logs))), "")
    return f"it did not reach `cnnbench run`; see {logs[0].parent}" + (f": {words}" if words else "")


def _read_last_line(path: Path) -> str:
    """Read the last non-blank line of a log, preferably an error; empty if there is none."""
    try:
        lines = path.read_bytes()[-4000:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    texts = [line.strip() for line in lines if line.strip()]
    errors = [line for line in texts if line.startswith("error:")]
    return (errors or texts or [""])[-1][:300]


def _read_facts(place: Path, job_id: str) -> Iterator[dict[str, Any]]:
    """Read what the job wrote as it began and as it ended; empty if it did not."""
    for path in (node_job.token_path(place, job_id), node_job.end_path(place, job_id)):
        text = ""
        with suppress(OSError):
            text = path.read_bytes().decode(errors="replace")
        yield store.parse_line(text) or {}


def refresh(folder: Path) -> ClusterRun:
    """Update the fleet on disk with what Slurm reports now.

    Raises ClusterError if Slurm does not answer.
    """
    with state.locked(folder):
        fleet = state.read(folder)
        # Slurm may report something new of these jobs; its accounting may know later of a job that is unknown now.
        over = slurm.ENDED - {slurm.UNKNOWN}
        asked = {
            cell.node: cell.attempts
            for cell in fleet.cells
            if (last := cell.last) and last.job_id and (last.said is None or last.said.state not in over)
        }
        said = slurm.states(str(attempts[-1].job_id) for attempts in asked.values())
        now = {
            node: (*before, last.model_copy(update={"said": said[str(last.job_id)]}))
            for node, (*before, last) in asked.items()
        }
        if now != asked:
            fleet = fleet.with_submissions(now)
            state.write(folder, fleet)
        return fleet


def record_interrupted(folder: Path, status: NodeStatus) -> None:
    """Record the process that was under way when the node's job ended, if there was one.

    Raises LedgerError if the ledger cannot be written. A run that is still alive, whatever Slurm reports, is left
    alone.
    """
    last = status.entry.last
    if status.state != "failed" or not (status.outcome and status.ledger and last and last.job_id):
        return
    token, ended = _read_facts(folder / status.node, last.job_id)
    # If `cnnbench run` never began, or ended by itself (below 0: by a signal), no process was cut off unrecorded.
    if not token or (ended and int(ended.get("exit_code", 0)) >= 0):
        return
    writer, ledger = store.reopen(status.ledger.path)
    with writer:
        todo = list_pending_jobs(ledger.header, ledger.records)
        newest = ledger.records[-1].outcome.status if ledger.records else None
        lines_before = token.get("lines")
        lines = ledger.path.read_bytes().count(b"\n")
        recorded = newest == "interrupted" and lines > (lines_before if isinstance(lines_before, int) else 0)
        if todo and not recorded:
            interrupted = Record(
                run_id=ledger.header.run_id,
                machine_id=ledger.header.machine.id,
                index=todo[0].index,
                attempt=todo[0].attempt,
                started_at=store.format_now(),
                process_seconds=0.0,  # its parent is gone, and nobody else timed it
                job=todo[0].job,
                outcome=Outcome(status="interrupted", message=status.outcome.message),
            )
            writer.append(interrupted)


def collect(
    folder: Path, fleet: ClusterRun, results: Path
) -> tuple[tuple[NodeStatus, ...], MergeResult | None, list[str]]:
    """Collect the records of the nodes that have ended into the results.

    Returns how each node did, the merge (None if there is nothing to collect yet), and what could not be recorded.
    Nodes that still run are collected next time. Raises LedgerError if the results cannot be written.
    """
    problems = []
    for status in read_node_statuses(folder, fleet):
        try:
            record_interrupted(folder, status)
        except LedgerError as error:
            problems.append(f"node {status.node}: {error}")
    found = read_node_statuses(folder, fleet)
    ended = (folder / view.node / node_job.RESULTS for view in found if view.state in ("done", "failed"))
    sources = [path for path in ended if path.is_dir()]
    return found, merge(sources, results) if sources else None, problems


def cancel(folder: Path) -> list[str]:
    """Ask Slurm to end every job of the fleet that is not over; returns their nodes.

    Raises ClusterError, quoting scancel.
    """
    active = {
        cell.node: last.job_id
        for cell in refresh(folder).cells
        if (last := cell.last) and last.job_id and (last.said is None or last.said.state not in slurm.ENDED)
    }
    slurm.cancel([*active.values()])
    return [*active]


class NodeNames(NamedTuple):
    """The node of each run, by its machine and its id; the runs of each host that has a separate folder; and the number
    of runs that count as a node each.
    """

    names: dict[tuple[str, str], str]
    hosts: dict[str, list[Ledger]]
    unnamed: int


def name_nodes(ledgers: Sequence[Ledger], roots: Sequence[Path]) -> NodeNames:
    """Name each run's node.

    The name is that of its fleet's node, else the path it is under if several are given, else the run's id.
    """
    by_fleet = {
        (path.parent.name, path.stem): path.parents[2].name
        for root in roots
        for path in sorted(state.find_root(root).glob(f"*/*/{node_job.RESULTS}/*/*.jsonl"))
    }
    by_path = name_paths(roots)
    several = len(set(by_path.values())) > 1
    # Every run once: the copy with most records.
    ordered = sorted(ledgers, key=lambda ledger: (-len(ledger.records), str(ledger.path)), reverse=True)
    longest = {(ledger.header.machine.id, ledger.header.run_id): ledger for ledger in ordered}
    names = {}
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
    """Name each path by its last part (`.` has one too), or by all of it if two share that."""
    whole = {root: root.resolve() for root in roots}
    short = {path: path.stem if path.is_file() else path.name for path in whole.values()}
    many = Counter(short.values())
    return {root: short[path] if many[short[path]] == 1 else str(path) for root, path in whole.items()}


def list_warnings(named: NodeNames) -> list[str]:
    """List what a reader of the nodes' table must know about their names.

    This includes signs that a folder holds several hosts.
    """
    warnings = [f"{named.unnamed} runs belong to no fleet: each counts as a separate node"] if named.unnamed else []
    remedy = "if it holds several hosts, give the folder of each"
    for name, own in sorted(named.hosts.items()):
        # Hosts of one model have the same machine id; different identities are different hosts.
        machines = {ledger.header.machine.id for ledger in own}
        hosts = {ledger.header.host_id for ledger in own} - {None}
        many = max(len(machines), len(hosts))
        plans = [ledger.header.plan for ledger in own if not list_pending_jobs(ledger.header, ledger.records)]
        same = Counter(row for plan in plans for row in {job.row_key for job in plan})
        most = max(same.values(), default=1)
        if many > 1:
            warnings.append(f"{name}: runs of {many} machines are there and count as one node; {remedy}")
        elif most > 1:
            what = f"{most} complete runs of the same work are there and count as one node, by the newest"
            warnings.append(f"{name}: {what}; {remedy}")
    return warnings


def list_failures(named: NodeNames, roots: Sequence[Path]) -> list[str]:
    """List what failed on nodes of the newest fleet under each root, as far as Slurm was asked, and in hosts' newest
    runs.

    Failed jobs of a node that is done count too. A host with a separate folder may be in no row of the table.
    """
    failures = []
    for root in roots:
        try:
            folder = state.find(root)
            found = read_node_statuses(folder, state.read(folder))
        except UsageError:  # no fleet: the hosts were measured by hand
            continue
        except ClusterError as error:
            failures.append(str(error))
            continue
        failures += [f"{view.outcome.status}: {view.outcome.message}" for view in found if view.outcome is not None]
        failures += [f"node {view.node}: {view.bad_jobs}" for view in found if view.state == "done" and view.bad_jobs]
    for name, own in sorted(named.hosts.items()):
        newest = max(own, key=lambda ledger: (ledger.header.created_at, ledger.header.run_id))
        if bad := describe_bad_jobs(newest):
            failures.append(f"node {name}: {bad}")
    return failures
