"""A worker: one process that reads one job from standard input, writes one outcome to a file and progress to a pipe.

A job of several processes is done by ranks, which this one starts and watches (`distributed.launcher`). They are workers too:
each is started with a folder and its number on this machine, and finds its job there (`distributed.rank`).

Every failure inside becomes a typed outcome (`process`); the parent, `runner.launch`, types the death of the process
itself (signals, the kernel's out-of-memory killer).
"""

from __future__ import annotations

import time

_STARTED_NS = time.monotonic_ns()  # before torch is imported: cold start is broken down into its parts

import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from cnnbench.engine.process import ProgressWriter, run_typed, serve_parent  # noqa: E402
from cnnbench.schema import Outcome, WorkerInput  # noqa: E402

if TYPE_CHECKING:
    from cnnbench.engine.distributed.rank import Join


def run(worker_input: WorkerInput, progress: ProgressWriter) -> Outcome:
    """Do the job; return every failure of its work as a typed outcome, out-of-memory with the size that fits."""
    outcome = run_typed(lambda: _measure(worker_input, progress))
    if outcome.status != "oom":
        return outcome
    progress.phase("looking for the size that fits")
    try:  # here, where the failed attempt's frames and their tensors are gone
        from cnnbench.engine.outcome import make_oom_hint

        return outcome.model_copy(update={"message": f"{outcome.message}; {make_oom_hint(worker_input)}"})
    except Exception:  # noqa: BLE001  no memory even for that: the outcome is returned as it is
        return outcome


def _measure(worker_input: WorkerInput, progress: ProgressWriter, join: Join | None = None) -> Outcome:
    """Measure the trial in this process (the job's only one, or a rank with its `join`), or else start the ranks."""
    progress.phase("import torch")
    if worker_input.job.processes > 1 and join is None:
        from cnnbench.engine.distributed.launcher import run_ranks

        return run_ranks(worker_input, progress, _STARTED_NS)
    from cnnbench.engine.trial import measure_trial

    return measure_trial(worker_input, progress, _STARTED_NS, join)


def main() -> None:
    """Do the job on standard input; with two arguments, FOLDER and N, a rank's part of the job in that folder."""
    if len(sys.argv) > 1:
        from cnnbench.engine.distributed import rank

        rank.run(Path(sys.argv[1]), int(sys.argv[2]), _measure)
    serve_parent(run)


if __name__ == "__main__":
    main()
