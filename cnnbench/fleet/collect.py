"""A fleet looked at, what was cut off written down as interrupted, and every node's ledger brought into the results.

In the ledger of a node whose job ended too early, the process that was under way is `interrupted`, with the node, Slurm's state
and its reason: so the number started equals the number recorded, and `--resume` repeats it. The node's own outcome (timeout,
crashed, oom, interrupted) is `View.outcome`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cnnbench import store
from cnnbench.errors import LedgerError
from cnnbench.fleet import cells, node, slurm, state
from cnnbench.fleet.cells import View
from cnnbench.fleet.state import Attempt, Cell, Fleet
from cnnbench.merge import Merged, merge
from cnnbench.runner.run import remaining
from cnnbench.schema import Outcome, Record


def refresh(folder: Path) -> Fleet:
    """The fleet with what Slurm says now, on disk. Raises FleetError where Slurm does not answer."""
    with state.locked(folder):
        fleet = state.read(folder)
        open_ = [cell for cell in fleet.cells if _asks(cell)]
        said = slurm.states(str(cell.last.job_id) for cell in open_ if cell.last is not None)
        changed: dict[str, tuple[Attempt, ...]] = {}
        for cell in open_:
            last = cell.attempts[-1]
            now = last.model_copy(update={"said": said[str(last.job_id)]})
            if now != last:
                changed[cell.node] = (*cell.attempts[:-1], now)
        if changed:
            fleet = fleet.with_attempts(changed)
            state.write(folder, fleet)
        return fleet


def _asks(cell: Cell) -> bool:
    """Whether Slurm may have something new to say of the node's job; one it does not know now, its accounting may know later."""
    last = cell.last
    over = slurm.ENDED - {slurm.UNKNOWN}
    return last is not None and last.job_id is not None and (last.said is None or last.said.state not in over)


def close_off(folder: Path, view: View) -> bool:
    """Write down the process that was under way when the node's job ended; whether there was one to write down.

    Raises LedgerError where the ledger cannot be written. A run that is still alive, whatever Slurm says, is left alone.
    """
    last = view.cell.last
    if view.standing != "failed" or view.outcome is None or view.ledger is None or last is None or last.job_id is None:
        return False
    before = cells.under_way(folder / view.node, last.job_id)
    if before is None:
        return False
    writer, ledger = store.reopen(view.ledger.path)
    with writer:
        todo = remaining(ledger.header, ledger.records)
        lines = ledger.path.read_bytes().count(b"\n")
        said_so = bool(ledger.records) and ledger.records[-1].outcome.status == "interrupted" and lines > before
        if not todo or said_so:
            return False
        first = todo[0]
        writer.append(
            Record(
                run_id=ledger.header.run_id,
                machine_id=ledger.header.machine.id,
                index=first.index,
                attempt=first.attempt,
                started_at=datetime.now(UTC).isoformat(timespec="seconds"),
                process_seconds=0.0,  # its parent is gone, and nobody else timed it
                job=first.job,
                outcome=Outcome(status="interrupted", message=view.outcome.message),
            )
        )
    return True


def collect(
    folder: Path, fleet: Fleet, *, results: Path | None = None
) -> tuple[tuple[View, ...], Merged | None, list[str]]:
    """How each node did, what became of its records in the results, and what could not be written down.

    Nodes that still run are brought next time. None where there is nothing to bring yet. Raises LedgerError where the
    results cannot be written.
    """
    problems: list[str] = []
    found: list[View] = []
    for view in cells.views(folder, fleet):
        try:
            written = close_off(folder, view)
        except LedgerError as error:
            written = False
            problems.append(f"node {view.node}: {error}")
        found.append(cells.view(folder / view.node, view.cell) if written else view)
    sources = [folder / view.node / node.RESULTS for view in found if view.standing in ("done", "failed")]
    sources = [path for path in sources if path.is_dir()]
    merged = merge(sources, results or Path(fleet.results)) if sources else None
    return tuple(found), merged, problems


def cancel(folder: Path) -> list[str]:
    """Ask Slurm to end every job of the fleet that is not over; returns their nodes. Raises FleetError in scancel's words."""
    fleet = refresh(folder)
    active = [view for view in cells.views(folder, fleet) if view.active]
    slurm.cancel([str(view.cell.last.job_id) for view in active if view.cell.last is not None])
    return [view.node for view in active]


def missing(found: Sequence[View]) -> list[str]:
    """Nodes that a resume submits again."""
    return [view.node for view in found if view.standing == "failed"]


def runs_of(results: Path) -> dict[tuple[str, str], str]:
    """Which node each run was measured on, by machine id and run id, from all fleets of a results tree."""
    found: dict[tuple[str, str], str] = {}
    for ledger in sorted(state.root_of(results).glob(f"*/*/{node.RESULTS}/*/*.jsonl")):
        found[ledger.parent.name, ledger.stem] = ledger.parents[2].name
    return found
