"""What runs on a node: a token that it came that far, `cnnbench run`, and how that ended. submitit pickles `run_here` by name.

The token is also how a results directory that is not shared shows: a job that ended and left none where it should be.
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
"""submitit's: the job's script, its pickle, and what the job wrote before and after `cnnbench run`."""


def job_name(name: str) -> str:
    """What Slurm shows a node's job as."""
    return f"cnnbench-{name}"


def token_path(place: Path, job_id: str) -> Path:
    """Written by the job as its first act: `{"node", "at", "lines"}`, lines of the ledger it goes on with."""
    return place / f"started-{job_id}.json"


def end_path(place: Path, job_id: str) -> Path:
    """Written as its last: `{"exit_code", "at"}` of `cnnbench run`."""
    return place / f"ended-{job_id}.json"


def log_path(place: Path, job_id: str) -> Path:
    """What `cnnbench run` printed."""
    return place / f"run-{job_id}.log"


def newest_ledger(place: Path) -> Ledger | None:
    """The node's newest run; None where none has begun, or none so far that its plan is on disk."""
    for path in sorted((place / RESULTS).glob("*/*.jsonl"), key=lambda path: path.name, reverse=True):
        with suppress(LedgerError):
            return load(path)
    return None


def run_here(place: str, suites: Sequence[str], options: Sequence[str]) -> int:
    """Run the suites on this node into its folder, going on with this machine's run that is there; returns the exit code."""
    import submitit

    environment = submitit.JobEnvironment()
    return run_suites(Path(place), environment.job_id, environment.hostnames[0], suites, options)


def run_suites(place: Path, job_id: str, node: str, suites: Sequence[str], options: Sequence[str]) -> int:
    """`run_here` for a job whose id and node are known.

    A run is one machine's: where the node has another fingerprint than when its run began (more memory, fewer cores for the
    job, a GPU less), a new run begins, and the log says so.
    """
    begun = newest_ledger(place)
    lines = 0 if begun is None else begun.path.read_bytes().count(b"\n")
    _write_facts(token_path(place, job_id), node=node, lines=lines)  # before anything that takes time
    resume_options, reason = [], None
    if begun is not None:
        was, now = begun.path.parent.name, _machine_id()
        if now in (was, None):  # where it cannot be found out, the run will say
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
    """This machine's id, found as `cnnbench run` finds it: the GPUs that torch can use are part of it."""
    command = [sys.executable, "-m", "cnnbench", "--no-settings", "devices", "--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        return str(json.loads(done.stdout)["machine"]["id"])
    except (ValueError, LookupError, TypeError):
        return None


def _write_facts(path: Path, **facts: object) -> None:
    """Whole or not at all: somebody may be looking."""
    write_file(path, json.dumps(facts | {"at": format_now()}) + "\n")
