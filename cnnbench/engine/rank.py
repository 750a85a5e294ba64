"""One of several processes of a job: a rank of a data-parallel job, or a concurrent copy. Started by torch's elastic launcher.

`python -m cnnbench.engine.rank FOLDER N` does what the envelope `FOLDER/rank-N.json` says as this machine's N-th process. All
exchange their outcomes at the end, and the first of each machine writes them down; one that fails writes its own and ends, so
that the launcher ends the others, which wait for it.
"""

from __future__ import annotations

import time

_STARTED_NS = time.monotonic_ns()

import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from cnnbench.engine import cores  # noqa: E402
from cnnbench.engine.progress import Progress  # noqa: E402
from cnnbench.engine.worker import attempt, leave, outlive_no_parent  # noqa: E402
from cnnbench.schema import Envelope, Job, Outcome  # noqa: E402

if TYPE_CHECKING:
    from cnnbench.engine.team import Team

FAILED = 1
ENVELOPE, OWN, ALL, PIPE = "rank-{}.json", "outcome-{}.json", "outcomes.jsonl", "progress"
"""Names in the folder: what to do, how one failed, how all ended (a line each), and where the first one's progress goes."""


class _Meeting:
    """Joins the team once, and knows it afterwards."""

    def __init__(self, local: int, place: str) -> None:
        self._local, self._place = local, place
        self.team: Team | None = None

    def __call__(self, job: Job) -> Team:
        from cnnbench.engine.team import join

        self.team = join(job, self._local, self._place)
        return self.team


def take_place(envelope: Envelope, local: int) -> str:
    """What this process has to itself, by a name that no other on this machine has: its device, or the cores it now holds to."""
    job = envelope.job
    if job.device == "cpu":
        return cores.hold(local, job.processes // job.nodes) or f"cpu, number {local}"
    return envelope.device_ids[local] if local < len(envelope.device_ids) else f"{job.device} and on, number {local}"


def do(envelope: Envelope, folder: Path, local: int) -> None:
    """The whole of it; ends the process."""
    place = take_place(envelope, local)
    progress = Progress(os.open(folder / PIPE, os.O_WRONLY) if local == 0 and envelope.progress_fd else None)
    meeting = _Meeting(local, place)

    def measure() -> Outcome:
        progress.phase("import torch")
        from cnnbench.engine.trial import measure_trial

        return measure_trial(envelope, progress, _STARTED_NS, meeting)

    outcome = attempt(envelope, measure)
    if outcome.trial is None or meeting.team is None:
        leave(folder / OWN.format(local), outcome, FAILED)
    texts = meeting.team.gather(outcome.model_dump_json())
    if local == 0:
        (folder / ALL).write_text("\n".join(texts))
    meeting.team.wait()
    leave(folder / OWN.format(local), outcome)


def main() -> None:
    """Read the envelope, never outlive the launcher, work."""
    folder, local = Path(sys.argv[1]), int(sys.argv[2])
    envelope = Envelope.model_validate_json((folder / ENVELOPE.format(local)).read_bytes())
    outlive_no_parent(envelope.parent_pid)
    do(envelope, folder, local)


if __name__ == "__main__":
    main()
