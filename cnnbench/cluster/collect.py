"""A fleet looked at, what was cut off written down as interrupted, and every node's ledger brought into the results.

In the ledger of a node whose job ended too early, the process that was under way is `interrupted`, with the node, Slurm's state
and its reason: so the number started equals the number recorded, and `--resume` repeats it. The node's own outcome (timeout,
crashed, oom, interrupted) is `View.outcome`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnnbench import store
from cnnbench.cluster import node_job, node_status, slurm, state
from cnnbench.cluster.node_status import NodeStatus
from cnnbench.cluster.state import ClusterRun
from cnnbench.errors import LedgerError
from cnnbench.merge import MergeResult, merge
from cnnbench.runner.run import list_pending_jobs
from cnnbench.schema import Outcome, Record


def refresh(folder: Path) -> ClusterRun:
    """The fleet with what Slurm says now, on disk. Raises FleetError where Slurm does not answer."""
    with state.locked(folder):
        fleet = state.read(folder)
        # Slurm may have something new to say of these jobs; one it does not know now, its accounting may know later.
        over = slurm.ENDED - {slurm.UNKNOWN}
        newest = {cell.node: cell.last for cell in fleet.cells if cell.last and cell.last.job_id}
        asked = {node: last for node, last in newest.items() if last.said is None or last.said.state not in over}
        slurm_states = slurm.states(str(last.job_id) for last in asked.values())
        now = {node: last.model_copy(update={"said": slurm_states[str(last.job_id)]}) for node, last in asked.items()}
        if now != asked:
            attempts = {cell.node: cell.attempts[:-1] for cell in fleet.cells}
            fleet = fleet.with_submissions({node: (*attempts[node], last) for node, last in now.items()})
            state.write(folder, fleet)
        return fleet


def record_interrupted(folder: Path, status: NodeStatus) -> bool:
    """Write down the process that was under way when the node's job ended; whether there was one to write down.

    Raises LedgerError where the ledger cannot be written. A run that is still alive, whatever Slurm says, is left alone.
    """
    last = status.entry.last
    if status.state != "failed" or not (status.outcome and status.ledger and last and last.job_id):
        return False
    before = node_status.count_lines_before(folder / status.node, last.job_id)
    if before is None:
        return False
    writer, ledger = store.reopen(status.ledger.path)
    with writer:
        todo = list_pending_jobs(ledger.header, ledger.records)
        ended = ledger.records[-1].outcome.status if ledger.records else None
        recorded = ended == "interrupted" and ledger.path.read_bytes().count(b"\n") > before
        if not todo or recorded:
            return False
        first = todo[0]
        writer.append(
            Record(
                run_id=ledger.header.run_id,
                machine_id=ledger.header.machine.id,
                index=first.index,
                attempt=first.attempt,
                started_at=store.format_now(),
                process_seconds=0.0,  # its parent is gone, and nobody else timed it
                job=first.job,
                outcome=Outcome(status="interrupted", message=status.outcome.message),
            )
        )
    return True


def collect(
    folder: Path, fleet: ClusterRun, *, results: Path | None = None
) -> tuple[tuple[NodeStatus, ...], MergeResult | None, list[str]]:
    """How each node did, what became of its records in the results, and what could not be written down.

    Nodes that still run are brought next time. None where there is nothing to bring yet. Raises LedgerError where the
    results cannot be written.
    """
    problems, found = [], []
    for status in node_status.read_node_statuses(folder, fleet):
        try:
            written = record_interrupted(folder, status)
        except LedgerError as error:
            written = False
            problems.append(f"node {status.node}: {error}")
        found.append(node_status.read_node_status(folder / status.node, status.entry) if written else status)
    ended = (folder / view.node / node_job.RESULTS for view in found if view.state in ("done", "failed"))
    sources = [path for path in ended if path.is_dir()]
    merged = merge(sources, results or Path(fleet.results)) if sources else None
    return tuple(found), merged, problems


def cancel(folder: Path) -> list[str]:
    """Ask Slurm to end every job of the fleet that is not over; returns their nodes. Raises FleetError in scancel's words."""
    fleet = refresh(folder)
    newest = {cell.node: cell.last for cell in fleet.cells if cell.last and cell.last.job_id}
    active = {node: str(last.job_id) for node, last in newest.items() if not node_status.is_over(last)}
    slurm.cancel([*active.values()])
    return [*active]


def list_missing_nodes(found: Sequence[NodeStatus]) -> list[str]:
    """Nodes that a resume submits again."""
    return [view.node for view in found if view.state == "failed"]
