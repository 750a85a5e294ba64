"""Several processes for one job, through torchrun's own machinery: its elastic launch starts, watches and ends the ranks.

This runs in the worker that the runner started, so the runner's time limit and its end of a worker apply to all ranks:
each dies with the launcher. An envelope whose job has several processes gives one outcome: what they measured together,
or the failure of the first to fail, by name.

The measurements of several processes become one trial (`reduce_outcomes`). Ranks: a block is as long as on the slowest,
images and energy are added up, memory is that of the rank that used most, and what is the same on all is rank 0's.
Copies: the slowest copy's whole trial, with all of them in `ranks`. A process that failed decides how the job ended.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsDest, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError, RendezvousError
from torch.distributed.elastic.utils.api import macros
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cnnbench.engine.distributed.rank import ENVELOPE_FILE, OUTCOME_FILE, OUTCOMES_FILE, PROGRESS_PIPE
from cnnbench.engine.process import ProgressWriter
from cnnbench.files import write_file
from cnnbench.schema import (
    PACKAGE_COUNTER,
    RENDEZVOUS_DONE,
    Communication,
    Energy,
    Job,
    Memory,
    Outcome,
    Rendezvous,
    Telemetry,
    Trial,
    WorkerInput,
)

WORKER = ("-m", "cnnbench.engine.worker")
"""Starts a rank: a worker with a folder and its number there. The worker imports this module, never the reverse."""
TAIL_CHARACTERS = 2000
MONITOR_SECONDS = 0.25
"""How often the launcher checks whether a rank has ended: two system calls per rank, from the core of rank 0."""
RETRY_SECONDS = 0.5
SINGLE_NODE = Rendezvous(endpoint="127.0.0.1:0", seconds=60)
"""The rendezvous of a single machine: on a free port."""


def run_ranks(envelope: WorkerInput, progress: ProgressWriter, started_ns: int) -> Outcome:
    """Start this machine's ranks and return all ranks' measurements as one trial, or the first failure."""
    job, folder = envelope.job, Path(envelope.outcome_path).parent / "ranks"
    folder.mkdir()
    here = job.processes // job.nodes
    for local in range(here):
        text = _rank_envelope(envelope, local, started_ns).model_dump_json()
        write_file(folder / ENVELOPE_FILE.format(local), text, durable=False)
    if envelope.progress_fd is not None:
        _relay(folder / PROGRESS_PIPE, envelope.progress_fd)
    progress.phase("launch")
    rendezvous, done = envelope.rendezvous or SINGLE_NODE, Path(envelope.outcome_path).with_name(RENDEZVOUS_DONE)
    try:
        _launch(job, folder, rendezvous, done)
    except ChildFailedError as error:
        return _failure(job, error.failures, folder)
    except RendezvousError as error:
        if not done.exists():
            return _rendezvous_failed(job, rendezvous, error)
        # The others were lost while these ranks worked (they are ended too): a crash, not a failed rendezvous.
        message = "machine 0 was lost while the job ran; see what it printed there"
        if rendezvous.node_rank == 0:
            message = f"torch's launcher failed while the job ran: {type(error).__name__}"
        return Outcome(status="crashed", message=message, stderr_tail=_log_tail(folder, 0))
    outcomes = [Outcome.model_validate_json(line) for line in (folder / OUTCOMES_FILE).read_text().splitlines()]
    # Their own files tell which of all ranks ran on this machine: torch decides the order of machines.
    files = [folder / OUTCOME_FILE.format(local) for local in range(here)]
    own = [Outcome.model_validate_json(file.read_bytes()).trial for file in files]
    return reduce_outcomes(job, outcomes, [trial.ranks[0].rank for trial in own if trial is not None])


class _Logs(DefaultLogsSpecs):
    """Where ranks print. torch asks for it between the rendezvous and the start of the ranks: this marks that."""

    def __init__(self, folder: Path, done: Path) -> None:
        super().__init__(log_dir=str(folder), redirects=Std.ALL)
        self._done = done

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Mark the rendezvous as done, then answer as torch does; called once per start of the ranks."""
        write_file(self._done, b"", durable=False)
        return super().reify(envs)


def _launch(job: Job, folder: Path, rendezvous: Rendezvous, done: Path) -> None:
    """Start the ranks and wait for them.

    Machines other than the first try again until the first one listens: between two jobs it does not for a moment.
    They never try again after the rendezvous: the first one's next rendezvous has another name.
    """
    config = LaunchConfig(
        min_nodes=job.nodes,
        max_nodes=job.nodes,
        nproc_per_node=job.processes // job.nodes,
        run_id=rendezvous.name or "cnnbench",
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous.endpoint,
        rdzv_configs={
            "join_timeout": rendezvous.seconds,
            "read_timeout": rendezvous.seconds,
            "is_host": rendezvous.node_rank == 0,
        },
        max_restarts=0,  # a job that lost a rank has lost its measurement
        monitor_interval=MONITOR_SECONDS,
        local_addr=_address_towards(rendezvous.endpoint),
        logs_specs=_Logs(folder, done),
    )
    deadline = time.monotonic() + rendezvous.seconds
    while True:
        try:
            elastic_launch(config, sys.executable)(*WORKER, str(folder), macros.local_rank)
            return
        except RendezvousConnectionError:
            if done.exists() or rendezvous.node_rank == 0 or time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_SECONDS)


def _rank_envelope(envelope: WorkerInput, local: int, started_ns: int) -> WorkerInput:
    """Make the envelope of one rank: its own device, this process as its parent, TensorBoard for the first alone."""
    own = envelope.device_uuids[local] if local < len(envelope.device_uuids) else envelope.device_uuid
    update = {"device_uuid": own, "parent_pid": os.getpid(), "launcher_ns": started_ns}
    return envelope.model_copy(update=update if local == 0 else update | {"tensorboard_dir": None})


def _address_towards(endpoint: str) -> str | None:
    """Find this machine's address on the route to the endpoint, by which others reach it, without asking a name server.

    None leaves the choice to torch and this machine's name: if the route cannot be found, or if a name other than
    localhost leads to this machine's own loopback (Debian's 127.0.1.1), where each of the others would find itself.
    """
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            found = str(probe.getsockname()[0])
    except (OSError, UnicodeError):  # no such host, or an impossible name
        return None
    return None if _loops_back(found) and not (host == "localhost" or _loops_back(host)) else found


def _loops_back(host: str) -> bool:
    """Tell whether the host is a loopback address."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _relay(path: Path, descriptor: int) -> None:
    """Forward what the first rank writes into `path` to the runner through this process's `descriptor`."""
    os.mkfifo(path)
    # Opened for both, so that neither end waits for the other to open.
    source = os.open(path, os.O_RDWR)

    def forward() -> None:
        while chunk := os.read(source, 65536):
            try:
                os.write(descriptor, chunk)
            except OSError:  # a reader that is gone must not hold up the work
                return

    threading.Thread(target=forward, daemon=True).start()


def _rendezvous_failed(job: Job, rendezvous: Rendezvous, error: RendezvousError) -> Outcome:
    """Describe why no rank was started. Only the first machine listens; if it cannot, torch reports that at once."""
    cause = error.__cause__ or error
    reason = next(iter(str(cause).strip().splitlines()), "")[:300] or type(cause).__name__
    if job.nodes == 1:
        message = f"torch's launcher did not come up within {rendezvous.seconds} s: {reason}"
    elif rendezvous.node_rank == 0 and isinstance(error, RendezvousConnectionError):
        message = f"cannot listen at {rendezvous.endpoint}: {reason}; choose a free port of this machine with --rdzv"
        return Outcome(status="crashed", message=message)
    else:
        who = f"{job.nodes} nodes did not meet at {rendezvous.endpoint} within {rendezvous.seconds} s"
        message = f"{who}: {reason}; start the same command on every node, each with its --node-rank"
    return Outcome(status="timeout", message=message)


def _failure(job: Job, failures: Mapping[int, ProcessFailure], folder: Path) -> Outcome:
    """Make the outcome of the first rank that failed; one that a signal ended comes first."""

    def order(failure: ProcessFailure) -> tuple[int, int]:
        if failure.exitcode < 0:
            ended_by_launcher = failure.signal_name() == "SIGTERM"
            return (2 if ended_by_launcher else 0), failure.local_rank
        left = folder / OUTCOME_FILE.format(failure.local_rank)
        return (1, left.stat().st_mtime_ns) if left.exists() else (0, failure.local_rank)

    number, first = min(failures.items(), key=lambda each: order(each[1]))
    name = f"{'rank' if job.world > 1 else 'copy'} {number} of {job.processes}"
    tail = _log_tail(folder, first.local_rank)
    if first.exitcode < 0:
        message = f"{name} was ended by {first.signal_name()}"
        return Outcome(status="crashed", message=message, signal=-first.exitcode, stderr_tail=tail)
    own = folder / OUTCOME_FILE.format(first.local_rank)
    if not own.exists():
        message = f"{name} exited with {first.exitcode} and left no outcome"
        return Outcome(status="crashed", message=message, exit_code=first.exitcode, stderr_tail=tail)
    outcome = Outcome.model_validate_json(own.read_bytes())
    message = f"{name}: {outcome.message}"
    if job.nodes > 1 and outcome.status == "crashed":
        message += "; a rank of another machine may have ended first: see what that one printed"
    return outcome.model_copy(update={"message": message, "stderr_tail": tail, "trial": None})


def _log_tail(folder: Path, local: int) -> str | None:
    """Read the end of what the rank printed."""
    texts = [path.read_text(errors="replace") for path in sorted(folder.glob(f"**/{local}/std*.log"))]
    return "\n".join(text.strip() for text in texts if text.strip())[-TAIL_CHARACTERS:] or None


def reduce_outcomes(job: Job, outcomes: Sequence[Outcome], local_ranks: Collection[int] = ()) -> Outcome:
    """Reduce the ranks' outcomes, in order of ranks and each with a trial, to one.

    `local_ranks` are this machine's, all by default: the cold start is theirs, without the time that other machines
    waited for the rendezvous.
    """
    trials = [outcome.trial for outcome in outcomes if outcome.trial is not None]
    if job.world > 1:
        trial = _reduce_ranks(trials, local_ranks or range(len(trials)))
    else:  # the slowest copy's; a package's counter counts all copies together, so it is left out
        slowest = max(trials, key=lambda trial: sum(trial.block_seconds))
        energy = None if slowest.energy and slowest.energy.source == PACKAGE_COUNTER else slowest.energy
        ranks = tuple(rank for trial in trials for rank in trial.ranks)
        trial = slowest.model_copy(update={"ranks": ranks, "energy": energy})
    for number, outcome in enumerate(outcomes):
        if outcome.status != "ok":
            name = f"{'rank' if job.world > 1 else 'copy'} {number} of {job.processes}"
            return outcome.model_copy(update={"message": f"{name}: {outcome.message}", "trial": trial})
    return Outcome(status="ok", trial=trial)


def _reduce_ranks(trials: Sequence[Trial], local_ranks: Collection[int]) -> Trial:
    """Reduce the ranks' trials to the trial of the whole job."""
    first = trials[0]
    last = max((trials[rank] for rank in local_ranks), key=lambda trial: trial.cold_start_seconds or 0.0)
    update = {
        **{name: rule([getattr(trial, name) for trial in trials]) for name, rule in RULES.items()},
        "cold_start_seconds": last.cold_start_seconds,
        "phases": last.phases,
        "energy": _reduce_energy(trials),
        "canary": next((each.canary for each in trials if each.canary and not each.canary.passed), first.canary),
        "settings": first.settings | {"affinity": "; ".join(trial.settings.get("affinity", "n/a") for trial in trials)},
    }
    return first.model_copy(update=update)


def _find_longest(found: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(map(max, zip(*found, strict=True)))


def _find_most(found: Sequence[int | None]) -> int | None:
    return max((value for value in found if value is not None), default=None)


def _reduce_memory(found: Sequence[Memory]) -> Memory:
    """Take each mark from the rank that used most; how it was read is the same on all."""
    marks = (name for name in Memory.model_fields if name.endswith("_bytes"))
    return found[0].model_copy(update={name: _find_most([getattr(each, name) for each in found]) for name in marks})


def _reduce_telemetry(found: Sequence[Telemetry | None]) -> Telemetry | None:
    """Take rank 0's telemetry, with the throttle reasons of every device."""
    first = found[0]
    reasons = dict.fromkeys(reason for each in found if each for reason in each.device_throttle_reasons or ())
    if first is None or not reasons:
        return first
    return first.model_copy(update={"device_throttle_reasons": tuple(reasons)})


def _reduce_energy(trials: Sequence[Trial]) -> Energy | None:
    """Add up energy over devices; take a package's counter, which all ranks of a machine read, once per machine.

    The window is rank 0's: ranks agree on its steps and wait for one another at its end. None if a rank has no reading
    or one from another counter: the joules of some ranks over the images of all would be too few.
    """
    read = [trial.energy for trial in trials if trial.energy is not None]
    if len(read) < len(trials) or len({each.source for each in read}) != 1:
        return None
    if read[0].source == PACKAGE_COUNTER:
        nodes = [trial.ranks[0].node for trial in trials]
        read = [each for number, each in enumerate(read) if number == nodes.index(nodes[number])]
    together = {
        "window_joules": sum(each.window_joules for each in read),
        "idle_joules": sum(each.idle_joules * read[0].idle_seconds / each.idle_seconds for each in read),
    }
    return read[0].model_copy(update=together)


def _reduce_communication(found: Sequence[Communication | None]) -> Communication | None:
    known = [each for each in found if each is not None]
    both = ("with_seconds", "without_seconds")
    longest = {name: _find_longest([getattr(each, name) for each in known]) for name in both}
    return known[0].model_copy(update=longest) if known else None


RULES: Mapping[str, Callable[[Any], Any]] = {
    "block_seconds": _find_longest,
    "warmup_seconds": _find_longest,
    "images": sum,
    "losses": lambda found: tuple(map(statistics.fmean, zip(*found, strict=False))),
    "minor_faults": _find_most,
    "cpu_seconds": lambda found: sum(seconds or 0.0 for seconds in found),
    "memory": _reduce_memory,
    "telemetry_after": _reduce_telemetry,
    "ranks": lambda found: tuple(itertools.chain(*found)),
    "communication": _reduce_communication,
}
"""How a field of all ranks' trials becomes the whole job's; all other fields are the same on every rank."""
