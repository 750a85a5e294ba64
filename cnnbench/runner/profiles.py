"""One rung's profile: a worker started, limited and watched as one that measures is, which answers with a profile instead."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from cnnbench.profile_model import Profile, ProfileJob, ProfileRequest, ProfileResult
from cnnbench.runner.launch import LaunchOptions, launch
from cnnbench.schema import Outcome

PROFILER = (sys.executable, "-m", "cnnbench.engine.profile.worker")


def run_profile(
    profile_job: ProfileJob,
    options: LaunchOptions,
    trace: Path | None,
    command: Sequence[str] = PROFILER,
) -> ProfileResult:
    """Profile one rung in a fresh process, allocator and threads set as in measurements; write a Chrome trace where wanted."""
    with tempfile.TemporaryDirectory(prefix="cnnbench-") as folder:
        answer = Path(folder) / "profile.json"
        request = ProfileRequest(answer_path=str(answer), trace_path=None if trace is None else str(trace))
        ended = launch(profile_job.job, replace(options, command=(*command, request.model_dump_json())))
        outcome, found = ended.outcome, None
        if outcome.status == "ok":
            try:
                found = Profile.model_validate_json(answer.read_bytes())
            except (OSError, ValidationError) as error:
                message = f"the profiling worker's answer cannot be read: {type(error).__name__}"
                outcome = Outcome(status="crashed", message=message, stderr_tail=outcome.stderr_tail)
        return ProfileResult(
            rung=profile_job,
            outcome=outcome,
            profile=found,
            trace=None if found is None else request.trace_path,
            environment=ended.environment,
        )
