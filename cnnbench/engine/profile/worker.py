"""A profiling worker: a worker that takes its job from its input as any other, and a request from its command line.

Its outcome carries no trial: what it found goes to the place that the request names.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cnnbench.engine.process import exit_with_parent, run_typed, write_outcome_and_exit
from cnnbench.engine.progress import Progress
from cnnbench.profiling import Request
from cnnbench.schema import Envelope, Outcome


def main() -> None:
    """Profile one job."""
    request = Request.model_validate_json(sys.argv[1])
    envelope = Envelope.model_validate_json(sys.stdin.buffer.read())
    exit_with_parent(envelope.parent_pid)
    progress = Progress(envelope.progress_fd)

    def work() -> Outcome:
        progress.phase("import torch")
        from cnnbench.engine.profile.session import profile_job

        return profile_job(envelope, progress, request)

    write_outcome_and_exit(Path(envelope.outcome_path), run_typed(envelope, work))


if __name__ == "__main__":
    main()
