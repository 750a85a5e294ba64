"""A worker: one process, one job in on standard input, one outcome out into a file, progress on a pipe.

A job of several processes is done by ranks that this one starts and watches (`launcher`); each of them is a `rank`.

Everything that can go wrong inside becomes a typed outcome; what kills the process itself (signals, the kernel's
out-of-memory killer) is typed by the parent, `runner.launch`.
"""

from __future__ import annotations

import time

_STARTED_NS = time.monotonic_ns()  # before torch is imported: cold start is told apart into its parts

import os  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import NoReturn  # noqa: E402

from cnnbench.engine.orphan import die_with_parent_process  # noqa: E402
from cnnbench.engine.progress import Progress  # noqa: E402
from cnnbench.errors import DataError, DeviceError, DivergedError, UnsupportedError, WorkloadError  # noqa: E402
from cnnbench.schema import Envelope, Outcome, Status  # noqa: E402

PARENT_CHECK_SECONDS = 0.5


def outlive_no_parent(parent_pid: int) -> None:
    """End this process when the parent dies: by the kernel where it offers that (Linux), else by looking twice a second."""
    if not die_with_parent_process():
        threading.Thread(target=_watch_parent, args=(parent_pid,), daemon=True).start()
    if os.getppid() != parent_pid:
        os._exit(1)


def _watch_parent(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


def run(envelope: Envelope, progress: Progress) -> Outcome:
    """Do the job; every failure of the work itself comes back as a typed outcome, one of memory with the size that fits."""
    outcome = _attempt(envelope, progress)
    if outcome.status != "oom":
        return outcome
    progress.phase("looking for the size that fits")
    try:  # here, where the failed attempt's frames and their tensors are gone
        from cnnbench.engine.fit import advice

        return outcome.model_copy(update={"message": f"{outcome.message}; {advice(envelope)}"})
    except Exception:  # noqa: BLE001  no memory even for that: the outcome stands as it is
        return outcome


def _attempt(envelope: Envelope, progress: Progress) -> Outcome:
    return attempt(envelope, lambda: _measure(envelope, progress))


def _measure(envelope: Envelope, progress: Progress) -> Outcome:
    progress.phase("import torch")
    if envelope.job.processes > 1:
        from cnnbench.engine.launcher import measure_together

        return measure_together(envelope, progress, _STARTED_NS)
    from cnnbench.engine.trial import measure_trial

    return measure_trial(envelope, progress, _STARTED_NS)


def attempt(envelope: Envelope, measure: Callable[[], Outcome]) -> Outcome:
    """What `measure` returns, or what it raised as a typed outcome."""
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
    """Out of memory, by torch's and the allocators' own words, or crashed."""
    text = str(error)
    memory = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")
    if isinstance(error, MemoryError) or any(words in text.lower() for words in memory):
        return "oom"
    return "crashed"


def main() -> None:
    """Read the envelope, work, write the outcome beside its final name and rename it."""
    envelope = Envelope.model_validate_json(sys.stdin.buffer.read())
    outlive_no_parent(envelope.parent_pid)
    outcome = run(envelope, Progress(envelope.progress_fd))
    leave(Path(envelope.outcome_path), outcome)


def leave(target: Path, outcome: Outcome, code: int = 0) -> NoReturn:
    """Write the outcome, whole or not at all, and end the process."""
    partial = target.with_suffix(".partial")
    partial.write_text(outcome.model_dump_json())
    partial.replace(target)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the outcome is on disk; interpreter shutdown has nothing left to do and can hang in a driver


if __name__ == "__main__":
    main()
