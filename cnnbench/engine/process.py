"""How every worker process lives and ends: it dies with its parent, types what fails in it, and writes one outcome.

Imported by everything in the engine that is started as a process, and by what those import, so it imports nothing of the engine.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cnnbench.errors import DataError, DeviceError, DivergedError, UnsupportedError, WorkloadError
from cnnbench.files import write_file
from cnnbench.schema import Outcome, Status, WorkerInput

PARENT_CHECK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def exit_with_parent(parent_pid: int) -> None:
    """End this process when the parent dies: by the kernel where it offers that (Linux), else by checking twice a second."""
    if not die_with_parent_process():
        threading.Thread(target=_watch_parent, args=(parent_pid,), daemon=True).start()
    if os.getppid() != parent_pid:  # it died before the kernel was asked
        os._exit(1)


def _watch_parent(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


def die_with_parent_process() -> bool:
    """Ask the kernel to kill this process when its parent dies; False where the kernel has no such service."""
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)) == 0)
    except (OSError, AttributeError):
        return False


def run_typed(envelope: WorkerInput, measure: Callable[[], Outcome]) -> Outcome:
    """Return what `measure` returns, or what it raised as a typed outcome."""
    try:
        if envelope.memory_limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (envelope.memory_limit_bytes, envelope.memory_limit_bytes))
        return measure()
    except (UnsupportedError, DeviceError) as error:
        return Outcome(status="unsupported", message=str(error))
    except DivergedError as error:
        return Outcome(status="diverged", message=str(error))
    except (WorkloadError, DataError) as error:
        return Outcome(status="crashed", message=f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001  the one broad door of the worker: what is unforeseen becomes a record
        traceback.print_exc()
        first = next(iter(str(error).splitlines()), "")[:500]  # some have no text, MemoryError among them
        return Outcome(status=status_of(error), message=f"{type(error).__name__}: {first}".removesuffix(": "))


def status_of(error: Exception) -> Status:
    """Return `oom` for an error that torch's or the allocators' own words call out of memory, else `crashed`."""
    text = str(error)
    memory = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")
    if isinstance(error, MemoryError) or any(words in text.lower() for words in memory):
        return "oom"
    return "crashed"


def write_outcome_and_exit(target: Path, outcome: Outcome, code: int = 0) -> NoReturn:
    """Write the outcome, whole or not at all, and end the process."""
    write_file(target, outcome.model_dump_json(), durable=False)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the outcome is on disk; interpreter shutdown has nothing left to do and can hang in a driver
