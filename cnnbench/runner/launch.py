"""One worker from spawn to outcome. The parent sleeps in the kernel on the progress pipe while the child works.

However the child ends there is an outcome: its own, read from a file, or one decided here (crashed with its signal and
the end of its stderr, timeout, hang, out of memory if the kernel's killer ended it). A timeout or an interrupt ends the
whole process tree.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import ValidationError

from cnnbench import workloads
from cnnbench.devices import backend
from cnnbench.errors import WorkloadError
from cnnbench.profile_model import Profile, ProfileJob, ProfileRequest, ProfileResult
from cnnbench.schema import RENDEZVOUS_DONE, Device, Job, Machine, Outcome, Rendezvous, Software, WorkerInput

WORKER = (sys.executable, "-m", "cnnbench.engine.worker")
PROFILER = (sys.executable, "-m", "cnnbench.engine.profile.worker")
HELD_ALLOCATOR = {
    # glibc gives freed tensors back to the kernel and faults them in again every step, 5-10 % that differ between
    # identical processes. These keep what was freed: no mmap under 1 GiB, no trim under 4 GiB, grow by 256 MiB.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}
STDERR_TAIL_CHARACTERS = 2000
GRACE_SECONDS = 5.0

OnProgress = Callable[[dict[str, Any]], None]
"""Called with each message of the worker: `phase` where one begins, `done` and `total` timed steps, `host_bytes` and
`device_bytes` in use then, if they can be read.
"""


@dataclass(frozen=True)
class LaunchOptions:
    """Everything about one start except the job."""

    data_dir: Path | None = None
    device: Device | None = None
    """The device as found; None uses whatever `job.device` names, for a caller that does not know the device."""
    devices: tuple[Device, ...] = ()
    """The devices of a job's several processes, one each, unless they run on the CPU."""
    rendezvous: Rendezvous | None = None
    """Where the launchers of a job on several machines rendezvous."""
    energy: bool = False
    tensorboard_dir: Path | None = None
    """The folder for the worker's TensorBoard run, which shows this machine and software."""
    machine: Machine | None = None
    software: Software | None = None
    timeout_seconds: float | None = None
    hang_seconds: float = 600.0
    """When to give up the worker: after this long in total, or without a message. Without progress messages there is no
    limit on silence.
    """
    progress: bool = True
    inherit: tuple[int, ...] = ()
    """Descriptors the worker keeps open while it runs: the ledger's lock."""
    command: Sequence[str] = WORKER


@dataclass(frozen=True)
class WorkerExit:
    """A worker that has ended: its outcome, its lifetime by this process's clock, and the CPU time of this process
    meanwhile.
    """

    outcome: Outcome
    process_seconds: float
    parent_cpu_seconds: float
    environment: dict[str, str]
    met: bool = True
    """Whether the machines of a job on several joined. Those that did not may be one job apart from now on."""


def build_environment(job: Job, device: Device | None, devices: Sequence[Device] = ()) -> dict[str, str]:
    """Build the variables set for a job's worker, which are recorded with its result.

    Several `devices` are all visible, in this order.
    """
    chosen = dict(HELD_ALLOCATOR) if job.allocator == "held" else {}
    if job.threads is not None:
        chosen |= {"OMP_NUM_THREADS": str(job.threads), "MKL_NUM_THREADS": str(job.threads)}
    if device is not None:
        each = [backend(device.id).environment(one) for one in devices or (device,)]
        chosen |= {name: ",".join(values[name] for values in each) for name in each[0]}
    return chosen


def launch(job: Job, options: LaunchOptions, on_progress: OnProgress = lambda message: None) -> WorkerExit:
    """Run one job in a fresh process and return when its whole tree is gone.

    KeyboardInterrupt ends the tree and passes on.
    """
    chosen = build_environment(job, options.device, options.devices)
    with tempfile.TemporaryDirectory(prefix="cnnbench-") as folder, contextlib.ExitStack() as stack:
        outcome_path = Path(folder) / "outcome.json"
        read_end, write_end = os.pipe()
        stack.callback(os.close, read_end)
        stderr = stack.enter_context(open(Path(folder) / "stderr", "w+b"))
        started, cpu = time.monotonic_ns(), time.process_time()
        worker_input = WorkerInput(
            job=job,
            outcome_path=str(outcome_path),
            progress_fd=write_end if options.progress else None,
            parent_pid=os.getpid(),
            spawn_monotonic_ns=started,
            data_dir=None if options.data_dir is None else str(options.data_dir),
            device_uuid=None if options.device is None else options.device.uuid,
            device_uuids=tuple(device.uuid for device in options.devices),
            device_ids=tuple(device.id for device in options.devices),
            rendezvous=options.rendezvous,
            energy=options.energy,
            workload_file=None if (file := workloads.file_of(job.workload)) is None else file.text,
            tensorboard_dir=None if options.tensorboard_dir is None else str(options.tensorboard_dir),
            machine=options.machine,
            software=options.software,
        )
        oom_kills = count_oom_kills()
        process = subprocess.Popen(
            list(options.command),
            stdin=subprocess.PIPE,
            stdout=stderr,
            stderr=stderr,
            env=complete_environment(chosen),
            pass_fds=(write_end, *options.inherit),
            start_new_session=True,
        )
        os.close(write_end)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # a worker that died at once is classified by its exit
                process.stdin.write(worker_input.model_dump_json().encode())
                process.stdin.close()
            given_up = _wait(process, read_end, started, options, on_progress)
        finally:
            kill_tree(process.pid)
            code = process.wait()
        seconds = (time.monotonic_ns() - started) * 1e-9
        outcome = given_up or _outcome(outcome_path, code, count_oom_kills() > oom_kills, job)
        if outcome.status != "ok" and outcome.stderr_tail is None:
            outcome = outcome.model_copy(update={"stderr_tail": read_tail(stderr)})
        met = job.nodes == 1 or outcome_path.with_name(RENDEZVOUS_DONE).exists()
        return WorkerExit(outcome, seconds, time.process_time() - cpu, chosen, met)


def run_profile(
    profile_job: ProfileJob,
    options: LaunchOptions,
    trace: Path | None,
    command: Sequence[str] = PROFILER,
) -> ProfileResult:
    """Profile one rung in a worker that is started, limited and watched like one that measures.

    Writes a Chrome trace if a path is given.
    """
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


def build_paired_environment(jobs: Sequence[Job], device: Device | None, folders: Sequence[Path]) -> dict[str, str]:
    """Build the variables set for an arm's worker, which does all jobs in turn.

    `folders` are searched for packages first. OMP_NUM_THREADS is the most that a job asks for; each job then sets its
    own number. Strings hash alike in both arms.
    """
    threads = max(job.threads or 0 for job in jobs) or None
    chosen = build_environment(jobs[0].model_copy(update={"threads": threads}), device)
    search = [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return chosen | {"PYTHONPATH": os.pathsep.join(search), "PYTHONHASHSEED": "0"}


def complete_environment(chosen: Mapping[str, str]) -> dict[str, str]:
    """Build the complete environment of a worker.

    It is the user's, without what would silently change the measurement, plus `chosen`.
    """
    dropped = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONPROFILEIMPORTTIME", *HELD_ALLOCATOR}
    return {name: value for name, value in os.environ.items() if name not in dropped} | dict(chosen)


def _wait(
    process: subprocess.Popen[bytes], pipe: int, started_ns: int, options: LaunchOptions, on_progress: OnProgress
) -> Outcome | None:
    """Sleep until the worker ends (None) or a limit is passed (the outcome).

    Passes on its messages meanwhile.
    """
    with watch_process(process.pid, pipe) as selector:
        last_word, pending = time.monotonic_ns(), b""
        timeout = math.inf if options.timeout_seconds is None else options.timeout_seconds
        longest_silence = options.hang_seconds if options.progress else math.inf
        while True:
            now = time.monotonic_ns()
            alive, silent = (now - started_ns) * 1e-9, (now - last_word) * 1e-9
            if alive >= timeout:
                return Outcome(status="timeout", message=f"ended after {alive:.0f} s, its limit; raise --timeout")
            if silent >= longest_silence:
                return Outcome(status="hang", message=f"no progress for {silent:.0f} s; ended")
            left = min(longest_silence - silent, timeout - alive)
            events = selector.select(None if left == math.inf else left)
            if any(key.fd == pipe for key, _ in events):
                chunk = os.read(pipe, 65536)
                if not chunk:
                    selector.unregister(pipe)
                    if not selector.get_map():  # the process's end cannot be watched
                        return None
                *lines, pending = (pending + chunk).split(b"\n")
                if chunk:
                    last_word = time.monotonic_ns()
                for message in _messages(lines):
                    on_progress(message)
            elif events:
                return None


def _messages(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(ValueError):  # skip junk that a worker writes to the pipe
            message = json.loads(line)
            if isinstance(message, dict):
                yield message


@contextlib.contextmanager
def watch_process(pid: int, pipe: int) -> Iterator[selectors.BaseSelector]:
    """Select the pipe and the process's end (Linux).

    Elsewhere select only the pipe, whose end of file a child may delay.
    """
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        selector.register(pipe, selectors.EVENT_READ)
        with contextlib.suppress(AttributeError, OSError):
            ended = os.pidfd_open(pid)
            stack.callback(os.close, ended)
            selector.register(ended, selectors.EVENT_READ)
        yield selector


def kill_tree(pid: int) -> None:
    """Kill the process, its process group (it leads one) and every descendant that left the group."""
    family = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
    psutil.wait_procs(family, timeout=GRACE_SECONDS)


def _outcome(path: Path, code: int, oom_killed: bool, job: Job) -> Outcome:
    if code < 0:
        status, message = explain_signal(-code, oom_killed)
        remedy = f"; {_suggest_smaller(job)}" if status == "oom" else ""
        return Outcome(status=status, message=message + remedy, signal=-code)
    try:
        outcome = Outcome.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Outcome(status="crashed", message=f"the worker exited with {code} and left no outcome", exit_code=code)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        return Outcome(status="crashed", message=f"the worker's outcome cannot be read: {problem}", exit_code=code)
    if outcome.status == "crashed" and outcome.signal == signal.SIGKILL and oom_killed:
        # The killer ended a rank, or a copy.
        message = f"{outcome.message}, the kernel's out-of-memory killer; {_suggest_smaller(job)}"
        return outcome.model_copy(update={"status": "oom", "message": message})
    if outcome.exit_code is None and outcome.signal is None:  # else they belong to the rank that failed
        return outcome.model_copy(update={"exit_code": code})
    return outcome


def explain_signal(number: int, oom_killed: bool) -> tuple[Literal["oom", "crashed"], str]:
    """Classify the signal that ended a worker, and describe it."""
    if number == signal.SIGKILL and oom_killed:
        return "oom", "killed by the kernel's out-of-memory killer"
    return "crashed", f"the worker was ended by {signal.Signals(number).name}"


def _suggest_smaller(job: Job) -> str:
    """Suggest what to try after an out-of-memory kill: the batch that fits what is free now, by the closed form.

    For several processes it is each one's batch, in its part of the machine's memory.
    """
    free = psutil.virtual_memory().available // (job.processes // job.nodes)
    with contextlib.suppress(WorkloadError):
        if job.size is None:
            fits = min(workloads.batch_that_fits(job, free), max(1, job.rank_batch // 2))
            return f"batch_size {fits}{' per rank' if job.world > 1 else ''} would fit by the closed form"
    return "lower the size or free memory"


def read_tail(stream: Any) -> str | None:
    """Read the end of what a worker printed; None if it printed nothing."""
    stream.flush()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - STDERR_TAIL_CHARACTERS))
    text = stream.read().decode(errors="replace").strip()
    return text or None


def count_oom_kills() -> int:
    """Count the processes that the kernel's out-of-memory killer has ended since boot.

    It is 0 if the kernel does not report it.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
