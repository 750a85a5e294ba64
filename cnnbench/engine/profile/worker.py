"""A profiling worker: a worker that takes its job from its input as any other, and a request from its command line.

Its outcome carries no trial: what it found goes to the place that the request names.
"""

from __future__ import annotations

import sys

from cnnbench.engine.process import ProgressWriter, run_typed, serve_parent
from cnnbench.profile_model import ProfileRequest
from cnnbench.schema import Outcome, WorkerInput


def profile(worker_input: WorkerInput, progress: ProgressWriter) -> Outcome:
    """Profile one job as the request on the command line says."""
    request = ProfileRequest.model_validate_json(sys.argv[1])

    def work() -> Outcome:
        progress.phase("import torch")
        from cnnbench.engine.profile.profiler import profile_job

        return profile_job(worker_input, progress, request)

    return run_typed(work)


if __name__ == "__main__":
    serve_parent(profile)
