"""A profiling worker: a worker that takes its job from its input as any other, and a request from its command line.

Its outcome carries no trial: what it found goes to the place that the request names.
"""

from __future__ import annotations

import sys

from cnnbench.engine.progress import Progress
from cnnbench.engine.worker import serve, typed
from cnnbench.profiling import Request
from cnnbench.schema import Envelope, Outcome


def main() -> None:
    """Profile one job."""
    request = Request.model_validate_json(sys.argv[1])

    def work(envelope: Envelope, progress: Progress) -> Outcome:
        progress.phase("import torch")
        from cnnbench.engine.profile.session import profile_job

        return profile_job(envelope, progress, request)

    serve(lambda envelope, progress: typed(lambda: work(envelope, progress)))


if __name__ == "__main__":
    main()
