"""A profiling worker: it takes its job from standard input like any worker, and a request from its command line.

Its outcome carries no trial: the profile goes to the file that the request names.
"""

from __future__ import annotations

import sys

from cnnbench.engine.process import ProgressWriter, run_typed, serve_parent
from cnnbench.profile_model import ProfileRequest
from cnnbench.schema import Outcome, WorkerInput


def profile(worker_input: WorkerInput, progress: ProgressWriter) -> Outcome:
    """Profile one job by the request on the command line."""
    request = ProfileRequest.model_validate_json(sys.argv[1])

    def work() -> Outcome:
        progress.phase("import torch")
        from cnnbench.engine.profile.profiler import profile_job

        return profile_job(worker_input, progress, request)

    return run_typed(work)


if __name__ == "__main__":
    serve_parent(profile)
