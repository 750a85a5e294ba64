"""Submits a node's job through submitit (an optional dependency, the extra `cluster`), or shows its sbatch script."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from pathlib import Path
from typing import Any

from cnnbench.cluster import node_job
from cnnbench.cluster.state import ClusterRun, Submission
from cnnbench.errors import FileError, UsageError
from cnnbench.files import explain_refusal

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


def parse_minutes(text: str) -> int:
    """Convert Slurm's time (`90`, `1:30:00`, `2-0`, `1-12:30`) to minutes, rounded up.

    Raises UsageError for anything else.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--time {text!r}: not minutes, [hours:]minutes:seconds or days-hours[:minutes[:seconds]]")
    days, *parts = (int(each or 0) for each in match.group("days", "first", "second", "third"))
    if match["days"] is None and match["third"] is None:
        parts = [0, *parts]  # minutes[:seconds]
    seconds = ((days * 24 + parts[0]) * 60 + parts[1]) * 60 + parts[2]
    if seconds <= 0:
        raise UsageError(f"--time {text}: must be more than 0")
    return -(-seconds // 60)


def require() -> Any:
    """Import submitit. Raises UsageError if it is not installed."""
    try:
        import submitit
    except ImportError as error:
        raise UsageError(
            "fleets are submitted through the package submitit, which is not installed: pip install 'cnnbench[cluster]'"
        ) from error
    return submitit


def make_script(folder: Path, fleet: ClusterRun, name: str) -> str:
    """Make the script that sbatch would be given for this node.

    Raises UsageError if submitit is missing.
    """
    executor = _executor(folder, fleet, name)
    return str(executor._make_submission_file_text(executor._submitit_command_str, "dry-run"))


def submit(folder: Path, fleet: ClusterRun, name: str, submission: Submission) -> Submission:
    """Submit this node's job; returns the submission with the job's id, or with the reason why Slurm refused it.

    It is returned unchanged if sbatch reported neither. Raises UsageError if submitit is missing, and FileError if its
    files cannot be written (sbatch may have been called by then).
    """
    submitit = require()
    executor = _executor(folder, fleet, name)
    place = folder / name
    refused = explain_refusal(FileError, f"{place}: cannot write", "choose another place with --results DIR")
    try:
        with refused, contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it then raises
            (place / node_job.SLURM_FOLDER).mkdir(parents=True, exist_ok=True)
            job = executor.submit(node_job.run_here, str(place), fleet.suites, fleet.run_options)
    except submitit.core.utils.FailedSubmissionError:  # sbatch took the job, but its answer has no id
        return submission
    except submitit.core.utils.FailedJobError as error:
        if not isinstance(error.__cause__, subprocess.CalledProcessError):  # sbatch's answer is incomplete
            return submission
        words = "; ".join(line.removeprefix("sbatch: error: ") for line in str(error).splitlines() if line.strip())
        return submission.model_copy(update={"refused": f"sbatch refused: {words or 'it gives no reason'}"})
    return submission.model_copy(update={"job_id": str(job.job_id)})


def make_refusal(why: str) -> Submission:
    """Make the submission for a node that takes no jobs: nothing is submitted, because it would wait for ever."""
    return Submission(refused=f"Slurm reports it as {why}; nothing was submitted")


def _executor(folder: Path, fleet: ClusterRun, name: str) -> Any:
    """Make the executor that submits one whole node, once: Slurm must not restart a measurement.

    `--resume` restarts it. The job does without srun: the batch step has all of the allocation, and nothing binds it to
    a core. bash is to outlive a SIGTERM, so that `cnnbench run`, which gets it too, has time to record what was
    interrupted.
    """
    executor = require().SlurmExecutor(folder=folder / name / node_job.SLURM_FOLDER)
    asked = fleet.request
    more: dict[str, object] = {"no-requeue": True} | ({"mem": "0"} if asked.exclusive else {})
    executor.update_parameters(
        job_name=node_job.job_name(name),
        partition=asked.partition,
        nodelist=name,
        nodes=1,
        constraint=asked.constraint,
        gres=asked.gres,
        exclusive=True if asked.exclusive else None,
        time=asked.minutes,
        setup=["trap : TERM"],
        use_srun=False,
        wckey=None,
        additional_parameters=more | {key: value or True for key, value in asked.more.items()},
    )
    return executor
