"""A profiling worker: a worker that takes its job from its input as any other, and a request from its command line.

Its outcome carries no trial: what it found goes to the place that the request names.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cnnbench.engine.process import ProgressWriter, exit_with_parent, run_typed, write_outcome_and_exit
from cnnbench.profile_model import ProfileRequest
from cnnbench.schema import Outcome, WorkerInput


def main() -> None:
    """Profile one job."""
    request = ProfileRequest.model_validate_json(sys.argv[1])
    worker_input = WorkerInput.model_validate_json(sys.stdin.buffer.read())
    exit_with_parent(worker_input.parent_pid)
    progress = ProgressWriter(worker_input.progress_fd)

    def work() -> Outcome:
        progress.phase("import torch")
        from cnnbench.engine.profile.profiler import profile_job

        return profile_job(worker_input, progress, request)

    write_outcome_and_exit(Path(worker_input.outcome_path), run_typed(worker_input, work))


if __name__ == "__main__":
    main()
