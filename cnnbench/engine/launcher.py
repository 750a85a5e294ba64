"""Several processes for one job, through torchrun's own machinery: its elastic launch starts, watches and ends the ranks.

This runs in the worker that the runner started, so what the runner does to a worker (its limits of time, its end) it does to all
ranks: each dies with the launcher. Enters an envelope whose job has several processes, leaves one outcome: what they measured
together, or how the first of them to fail did, by name.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsDest, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError, RendezvousError
from torch.distributed.elastic.utils.api import macros
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cnnbench.engine.progress import Progress
from cnnbench.engine.rank import ALL, ENVELOPE, OWN, PIPE
from cnnbench.engine.together import combine
from cnnbench.schema import MET, Envelope, Job, Outcome, Rendezvous

TAIL_CHARACTERS = 2000
MONITOR_SECONDS = 0.25
"""How often the launcher looks whether a rank has ended: two system calls a rank, from the core of rank 0."""
JOIN_SECONDS = 60
AGAIN_SECONDS = 0.5
ALONE = Rendezvous(endpoint="127.0.0.1:0", seconds=JOIN_SECONDS)
"""One machine meets itself, on a free port."""
ENDED_BY_US = ("SIGTERM",)


def measure_together(envelope: Envelope, progress: Progress, started_ns: int) -> Outcome:
    """What all of them measured, as one trial; or the first failure."""
    job, folder = envelope.job, Path(envelope.outcome_path).parent / "ranks"
    folder.mkdir()
    here = job.processes // job.nodes
    for local in range(here):
        text = _of_rank(envelope, local, started_ns).model_dump_json()
        (folder / ENVELOPE.format(local)).write_text(text)
    if envelope.progress_fd is not None:
        _relay(folder / PIPE, envelope.progress_fd)
    progress.phase("launch")
    meeting, met = envelope.rendezvous or ALONE, Path(envelope.outcome_path).with_name(MET)
    try:
        _launch(_config(job, here, meeting, _Logs(folder, met)), folder, meeting, met)
    except ChildFailedError as error:
        return _failure(job, error.failures, folder)
    except RendezvousError as error:
        return _lost(meeting, folder, error) if met.exists() else _not_met(job, meeting, error)
    outcomes = [Outcome.model_validate_json(line) for line in (folder / ALL).read_text().splitlines()]
    return combine(job, outcomes, _numbers(folder, here))


class _Logs(DefaultLogsSpecs):
    """Where ranks print to. torch asks for it between the meeting and the start of the ranks: from then on all have `met`."""

    def __init__(self, folder: Path, met: Path) -> None:
        super().__init__(log_dir=str(folder), redirects=Std.ALL)
        self._met = met

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """By torch's own rule, once a start."""
        self._met.touch()
        return super().reify(envs)


def _launch(config: LaunchConfig, folder: Path, meeting: Rendezvous, met: Path) -> None:
    """Start the ranks and wait for them. A machine that is not the first tries again until the first one is there: between two
    jobs the first is away for a moment. Once they have met there is no second try: the first one's next meeting has another name.
    """
    deadline = time.monotonic() + meeting.seconds
    while True:
        try:
            elastic_launch(config, sys.executable)(*("-m", "cnnbench.engine.rank", str(folder), macros.local_rank))
            return
        except RendezvousConnectionError:
            if met.exists() or meeting.node_rank == 0 or time.monotonic() >= deadline:
                raise
            time.sleep(AGAIN_SECONDS)


def _numbers(folder: Path, here: int) -> list[int]:
    """The ranks of this machine by their numbers among all: torch numbers machines in an order of its own."""
    own = [Outcome.model_validate_json((folder / OWN.format(local)).read_bytes()).trial for local in range(here)]
    return [trial.ranks[0].rank for trial in own if trial is not None]


def _of_rank(envelope: Envelope, local: int, started_ns: int) -> Envelope:
    """The envelope as one rank gets it: its own device, this process as its parent, and only the first writes for TensorBoard."""
    own = envelope.device_uuids[local] if local < len(envelope.device_uuids) else envelope.device_uuid
    update = {"device_uuid": own, "parent_pid": os.getpid(), "launcher_ns": started_ns}
    return envelope.model_copy(update=update if local == 0 else update | {"tensorboard_dir": None})


def _config(job: Job, here: int, meeting: Rendezvous, logs: _Logs) -> LaunchConfig:
    """No rank is started anew: a job that lost one has lost its measurement."""
    return LaunchConfig(
        min_nodes=job.nodes,
        max_nodes=job.nodes,
        nproc_per_node=here,
        run_id=meeting.name or "cnnbench",
        rdzv_backend="c10d",
        rdzv_endpoint=meeting.endpoint,
        rdzv_configs={
            "join_timeout": meeting.seconds,
            "read_timeout": meeting.seconds,
            "is_host": meeting.node_rank == 0,
        },
        max_restarts=0,
        monitor_interval=MONITOR_SECONDS,
        local_addr=_address_towards(meeting.endpoint),
        logs_specs=logs,
    )


def _address_towards(endpoint: str) -> str | None:
    """This machine's address on the way to the meeting place: what the others can reach it by, without asking any name server.

    None, which leaves it to torch and this machine's name, where the way cannot be told: also where a name that is not
    localhost's leads to this machine's own loopback (Debian's 127.0.1.1), for there each of the others would find itself.
    """
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            found = str(probe.getsockname()[0])
    except (OSError, UnicodeError):  # no such host; no host can have that name
        return None
    return None if _loops_back(found) and not (host == "localhost" or _loops_back(host)) else found


def _loops_back(host: str) -> bool:
    """Whether it is an address, and one that every machine has for itself."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _relay(path: Path, descriptor: int) -> None:
    """Hand what the first rank writes into `path` on to the runner, which reads the descriptor that only this process has."""
    os.mkfifo(path)
    # Opened for both, so that neither end waits for the other to open.
    source = os.open(path, os.O_RDWR)

    def hand_on() -> None:
        while chunk := os.read(source, 65536):
            try:
                os.write(descriptor, chunk)
            except OSError:  # a reader that is gone must not hold up the work
                return

    threading.Thread(target=hand_on, daemon=True).start()


def _not_met(job: Job, meeting: Rendezvous, error: RendezvousError) -> Outcome:
    """No rank was started. Only the first machine listens, and where it cannot, torch says so at once."""
    cause = error.__cause__ or error
    reason = next(iter(str(cause).strip().splitlines()), "")[:300] or type(cause).__name__
    if job.nodes == 1:
        message = f"torch's launcher did not come up within {meeting.seconds} s: {reason}"
        return Outcome(status="timeout", message=message)
    if meeting.node_rank == 0 and isinstance(error, RendezvousConnectionError):
        message = f"cannot listen at {meeting.endpoint}: {reason}; choose a free port of this machine with --rdzv"
        return Outcome(status="crashed", message=message)
    who = f"{job.nodes} nodes did not meet at {meeting.endpoint} within {meeting.seconds} s"
    message = f"{who}: {reason}; start the same command on every node, each with its --node-rank"
    return Outcome(status="timeout", message=message)


def _lost(meeting: Rendezvous, folder: Path, error: RendezvousError) -> Outcome:
    """Ranks were at work when their launcher lost the others: they are ended, and it is not a meeting that failed."""
    message = "machine 0 was lost while the job ran; see what it said there"
    if meeting.node_rank == 0:
        message = f"torch's launcher failed while the job ran: {type(error).__name__}"
    return Outcome(status="crashed", message=message, stderr_tail=_tail(folder, 0))


def _failure(job: Job, failures: Mapping[int, ProcessFailure], folder: Path) -> Outcome:
    """The first of them to fail, by name: one that a signal ended before one that fell over because of it."""
    number, first = min(failures.items(), key=lambda each: _order(each[1], folder))
    name = f"{'rank' if job.world > 1 else 'copy'} {number} of {job.processes}"
    tail = _tail(folder, first.local_rank)
    if first.exitcode < 0:
        message = f"{name} was ended by {first.signal_name()}"
        return Outcome(status="crashed", message=message, signal=-first.exitcode, stderr_tail=tail)
    own = folder / OWN.format(first.local_rank)
    if not own.exists():
        message = f"{name} exited with {first.exitcode} and left no outcome"
        return Outcome(status="crashed", message=message, exit_code=first.exitcode, stderr_tail=tail)
    outcome = Outcome.model_validate_json(own.read_bytes())
    message = f"{name}: {outcome.message}"
    if job.nodes > 1 and outcome.status == "crashed":
        message += "; a rank of another machine may have ended first: see what that one said"
    return outcome.model_copy(update={"message": message, "stderr_tail": tail, "trial": None})


def _order(failure: ProcessFailure, folder: Path) -> tuple[int, int]:
    if failure.exitcode < 0:
        return (2 if failure.signal_name() in ENDED_BY_US else 0), failure.local_rank
    own = folder / OWN.format(failure.local_rank)
    return (1, own.stat().st_mtime_ns) if own.exists() else (0, failure.local_rank)


def _tail(folder: Path, local: int) -> str | None:
    """The end of what the rank printed."""
    texts = [path.read_text(errors="replace") for path in sorted(folder.glob(f"**/{local}/std*.log"))]
    return "\n".join(text.strip() for text in texts if text.strip())[-TAIL_CHARACTERS:] or None
