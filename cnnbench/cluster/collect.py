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
from cnnbench.cluster.state import ClusterRun, NodeEntry, Submission
from cnnbench.errors import LedgerError
from cnnbench.merge import MergeResult, merge
from cnnbench.runner.run import list_pending_jobs
from cnnbench.schema import Outcome, Record


def refresh(folder: Path) -> ClusterRun:
    """The fleet with what Slurm says now, on disk. Raises FleetError where Slurm does not answer."""
    with state.locked(folder):
        fleet = state.read(folder)
        open_ = [cell for cell in fleet.cells if _needs_refresh(cell)]
        slurm_states = slurm.states(str(cell.last.job_id) for cell in open_ if cell.last is not None)
        changed: dict[str, tuple[Submission, ...]] = {}
        for entry in open_:
            last = entry.attempts[-1]
            now = last.model_copy(update={"said": slurm_states[str(last.job_id)]})
            if now != last:
                changed[entry.node] = (*entry.attempts[:-1], now)
        if changed:
            fleet = fleet.with_submissions(changed)
            state.write(folder, fleet)
        return fleet


def _needs_refresh(entry: NodeEntry) -> bool:
    """Whether Slurm may have something new to say of the node's job; one it does not know now, its accounting may know later."""
    last = entry.last
    over = slurm.ENDED - {slurm.UNKNOWN}
    return last is not None and last.job_id is not None and (last.said is None or last.said.state not in over)


def record_interrupted(folder: Path, status: NodeStatus) -> bool:
    """Write down the process that was under way when the node's job ended; whether there was one to write down.

    Raises LedgerError where the ledger cannot be written. A run that is still alive, whatever Slurm says, is left alone.
    """
    last = status.entry.last
    if (
        status.state != "failed"
        or status.outcome is None
        or status.ledger is None
        or last is None
        or last.job_id is None
    ):
        return False
    before = node_status.count_lines_before(folder / status.node, last.job_id)
    if before is None:
        return False
    writer, ledger = store.reopen(status.ledger.path)
    with writer:
        todo = list_pending_jobs(ledger.header, ledger.records)
        lines = ledger.path.read_bytes().count(b"\n")
        already_recorded = (
            bool(ledger.records) and ledger.records[-1].outcome.status == "interrupted" and lines > before
        )
        if not todo or already_recorded:
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
    problems: list[str] = []
    found: list[NodeStatus] = []
    for status in node_status.read_node_statuses(folder, fleet):
        try:
            written = record_interrupted(folder, status)
        except LedgerError as error:
            written = False
            problems.append(f"node {status.node}: {error}")
        found.append(node_status.read_node_status(folder / status.node, status.entry) if written else status)
    sources = [folder / view.node / node_job.RESULTS for view in found if view.state in ("done", "failed")]
    sources = [path for path in sources if path.is_dir()]
    merged = merge(sources, results or Path(fleet.results)) if sources else None
    return tuple(found), merged, problems


def cancel(folder: Path) -> list[str]:
    """Ask Slurm to end every job of the fleet that is not over; returns their nodes. Raises FleetError in scancel's words."""
    fleet = refresh(folder)
    active = [view for view in node_status.read_node_statuses(folder, fleet) if view.is_active]
    slurm.cancel([str(view.entry.last.job_id) for view in active if view.entry.last is not None])
    return [view.node for view in active]


def list_missing_nodes(found: Sequence[NodeStatus]) -> list[str]:
    """Nodes that a resume submits again."""
    return [view.node for view in found if view.state == "failed"]
