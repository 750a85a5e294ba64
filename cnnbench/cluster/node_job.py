"""What runs on a node: it writes a token when it starts, runs `cnnbench run`, and records how that ended. submitit
pickles `run_here` by name.

A missing token also reveals a results directory that is not shared: the job ended and left none there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cnnbench.errors import LedgerError
from cnnbench.files import write_file
from cnnbench.store import Ledger, format_now, load

RESULTS = "results"
SLURM_FOLDER = "slurm"
"""submitit's folder: the job's script, its pickle, and what the job wrote before and after `cnnbench run`."""


def job_name(name: str) -> str:
    """Name the Slurm job of a node."""
    return f"cnnbench-{name}"


def token_path(place: Path, job_id: str) -> Path:
    """Name the file that the job writes first: `{"node", "at", "lines"}`, with the lines of the ledger it resumes."""
    return place / f"started-{job_id}.json"


def end_path(place: Path, job_id: str) -> Path:
    """Name the file that the job writes last: `{"exit_code", "at"}` of `cnnbench run`."""
    return place / f"ended-{job_id}.json"


def log_path(place: Path, job_id: str) -> Path:
    """Name the file with the output of `cnnbench run`."""
    return place / f"run-{job_id}.log"


def newest_ledger(place: Path) -> Ledger | None:
    """Load the node's newest run; None if none has begun, or none has its plan on disk yet."""
    for path in sorted((place / RESULTS).glob("*/*.jsonl"), key=lambda path: path.name, reverse=True):
        with suppress(LedgerError):
            return load(path)
    return None


def run_here(place: str, suites: Sequence[str], options: Sequence[str]) -> int:
    """Run the suites on this node into its folder, resuming this machine's run if there is one.

    Returns the exit code.
    """
    import submitit

    environment = submitit.JobEnvironment()
    return run_suites(Path(place), environment.job_id, environment.hostnames[0], suites, options)


def run_suites(place: Path, job_id: str, node: str, suites: Sequence[str], options: Sequence[str]) -> int:
    """Run the suites as `run_here` does, for a job whose id and node are known.

    A run belongs to one machine: if the node's fingerprint has changed since its run began (more memory, fewer cores
    for the job, a GPU less), a new run begins, and the log records it.
    """
    begun = newest_ledger(place)
    lines = 0 if begun is None else begun.path.read_bytes().count(b"\n")
    _write_facts(token_path(place, job_id), node=node, lines=lines)  # before anything that takes time
    resume_options, reason = [], None
    if begun is not None:
        was, now = begun.path.parent.name, _machine_id()
        if now in (was, None):  # if it cannot be found out, the run will report why
            resume_options = ["--resume", "--run-id", begun.header.run_id]
        else:
            reason = f"run {begun.header.run_id} was begun on {was}, and this node is {now} now: a new run begins"
            _write_facts(token_path(place, job_id), node=node, lines=0)
    command = [
        sys.executable,
        "-m",
        "cnnbench",
        "run",
        *suites,
        "--results",
        str(place / RESULTS),
        *options,
        *resume_options,
    ]
    with log_path(place, job_id).open("ab") as log:
        if reason is not None:
            log.write(f"{reason}\n".encode())
            log.flush()
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
    _write_facts(end_path(place, job_id), exit_code=code)
    return code


def _machine_id() -> str | None:
    """Read this machine's id as `cnnbench run` finds it, since the GPUs that torch can use are part of it."""
    command = [sys.executable, "-m", "cnnbench", "--no-settings", "devices", "--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        return str(json.loads(done.stdout)["machine"]["id"])
    except (ValueError, LookupError, TypeError):
        return None


def _write_facts(path: Path, **facts: object) -> None:
    """Write the facts whole or not at all, because they may be read at any time."""
    write_file(path, json.dumps(facts | {"at": format_now()}) + "\n")
