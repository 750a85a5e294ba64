"""How every worker process lives, reports and ends: it dies with its parent, types what fails in it, and writes one outcome.

On the way it reports to its parent which phase begins, how many timed steps are done, and how much memory is in use:
never more than one message per second while steps are counted, and only between steps or blocks, so that progress does
not disturb what it reports. Memory is read only when a message is sent: two small reads that wait for no device.

Imported by everything in the engine that is started as a process, and by what those import, so it imports nothing of the engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cnnbench.errors import DataError, DeviceError, DivergedError, UnsupportedError, WorkloadError, is_out_of_memory
from cnnbench.files import write_file
from cnnbench.schema import Memory, Outcome, Status, WorkerInput


def exit_with_parent(parent_pid: int) -> None:
    """End this process when the parent dies: by the kernel where it offers that (Linux), else by checking twice a second."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(0.5)
        os._exit(1)

    if not die_with_parent_process():
        threading.Thread(target=watch, daemon=True).start()
    if os.getppid() != parent_pid:  # it died before the kernel was asked
        os._exit(1)


def die_with_parent_process(_worker: int = 0) -> bool:
    """Ask the kernel to kill this process when its parent dies; False where the kernel has no such service.

    A DataLoader calls it in each of its workers, with the worker's number.
    """
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(1, int(signal.SIGKILL)) == 0)  # PR_SET_PDEATHSIG of linux/prctl.h
    return False


def run_typed(measure: Callable[[], Outcome]) -> Outcome:
    """Return what `measure` returns, or what it raised as a typed outcome."""
    try:
        return measure()
    except Exception as error:  # noqa: BLE001  the worker's one broad catch: the unforeseen becomes a record
        status, message = type_error(error)
        return Outcome(status=status, message=message)


def type_error(error: Exception) -> tuple[Status, str]:
    """Return an error's status and its message; print the traceback of an unforeseen one."""
    match error:
        case UnsupportedError() | DeviceError():
            return "unsupported", str(error)
        case DivergedError():
            return "diverged", str(error)
        case WorkloadError() | DataError():
            return "crashed", f"{type(error).__name__}: {error}"
    traceback.print_exc()
    first = next(iter(str(error).splitlines()), "")[:500]  # some have no text, MemoryError among them
    return "oom" if is_out_of_memory(error) else "crashed", f"{type(error).__name__}: {first}".removesuffix(": ")


def serve_parent(work: Callable[[WorkerInput, ProgressWriter], Outcome]) -> NoReturn:
    """Do the work described on standard input, write its outcome for the parent and end the process."""
    worker_input = WorkerInput.model_validate_json(sys.stdin.buffer.read())
    exit_with_parent(worker_input.parent_pid)
    outcome = work(worker_input, ProgressWriter(worker_input.progress_fd))
    write_outcome_and_exit(Path(worker_input.outcome_path), outcome)


def write_outcome_and_exit(target: Path, outcome: Outcome, code: int = 0) -> NoReturn:
    """Write the outcome, whole or not at all, and end the process."""
    write_file(target, outcome.model_dump_json(), durable=False)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the outcome is on disk; interpreter shutdown has nothing left to do and can hang in a driver


INTERVAL_NS = 1_000_000_000


class ProgressWriter:
    """Messages to the parent, one JSON line each, at most one per second while counting steps."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor, self._due_ns, self._total = descriptor, 0, 0
        self.wanted = descriptor is not None
        """Whether a parent reads the messages."""
        self.sizes: dict[str, Callable[[], int | None]] = {"host_bytes": resident_bytes}
        """Memory sizes reported in each message; these calls must not synchronise (see devices.base.Attached)."""

    def phase(self, name: str, total: int = 0) -> None:
        """Report that a phase begins; `total` timed steps will be counted in it."""
        self._total = total
        self._send({"phase": name, "done": 0, "total": total})

    def count(self, done: int) -> None:
        """Report how many steps are done, if a second has passed since the last report."""
        now = time.perf_counter_ns()
        if now >= self._due_ns or done == self._total:
            self._due_ns = now + INTERVAL_NS
            self._send({"done": done, "total": self._total})

    def _send(self, message: dict[str, object]) -> None:
        if self._descriptor is None:
            return
        sizes = {name: size for name, read in self.sizes.items() if (size := read()) is not None}
        # A reader that is gone or slow must not hold up the work; the parent's death is noticed elsewhere.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, json.dumps(message | sizes).encode() + b"\n")


def reset_host_peak(proc: Path = Path("/proc/self")) -> Memory:
    """Begin a new high-water mark; if the kernel refuses, the mark covers the whole life of the process.

    The mark is VmHWM from /proc/self/status, reset through /proc/self/clear_refs. Not `ru_maxrss`: it is inherited through fork
    and exec, so a small child of a large parent reports the parent's peak.
    """
    before = _status_bytes("VmRSS", proc)
    if before is None:
        return Memory(host_method=f"n/a: no /proc/self/status on {sys.platform}")
    method = "VmHWM, reset before the timed part"
    try:
        (proc / "clear_refs").write_text("5")
    except OSError as error:
        method = f"VmHWM of the whole process (reset refused: {error.strerror})"
    return Memory(host_before_bytes=before, host_method=method)


def host_peak_bytes(proc: Path = Path("/proc/self")) -> int | None:
    """Read the highest resident size in bytes since the mark was reset; None without /proc."""
    return _status_bytes("VmHWM", proc)


def resident_bytes(proc: Path = Path("/proc/self")) -> int | None:
    """Read the resident bytes now, from one short line (statm, second field, in pages); None without /proc."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((proc / "statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def _status_bytes(key: str, proc: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # the kernel may cut the process's name inside a letter
        found = re.search(rf"^{key}:\s*(\d+)", (proc / "status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None


SILENT = ProgressWriter(None)
"""A writer without a reader."""
