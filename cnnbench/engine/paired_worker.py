"""An arm's worker in a paired measurement: builds the jobs, and takes its turns when the parent grants them.

One process a block. Messages come on standard input, a JSON object a line (`cnnbench.paired_protocol`); answers go to a pipe of
their own, so nothing that a library prints is taken for one. Between turns the process sleeps in a read; when the
parent is gone the read ends, and so does the process. Jobs are built one at a time, each in both arms before its turns
begin: the pair stays together in time whatever the number of jobs, and no worker holds more than one network.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from pydantic import ValidationError

from cnnbench.engine.process import exit_with_parent, status_of
from cnnbench.errors import DataError, DeviceError, DivergedError, UnsupportedError, WorkloadError
from cnnbench.paired_protocol import (
    PROTOCOL_VERSION,
    Handshake,
    HandshakeRequest,
    Injection,
    Setup,
    Turn,
    WorkerFailure,
    WorkerRequest,
    WorkerResponse,
)

CONTROL_BYTES = 65_536
CONTROL_ROUNDS = 128
"""8 MiB hashed out of a block that stays in the first two cache levels: 4.7 ms with SHA instructions. So long, because the
helper threads of a CPU step spin for a few milliseconds after it before they sleep, and would do so in the other arm's turn."""


def control_loop(clock: Callable[[], int] = time.perf_counter_ns) -> float:
    """Seconds of fixed work that is neither torch's nor the arm's, to see the machine alone."""
    block, hashed = bytes(CONTROL_BYTES), hashlib.sha256()
    start = clock()
    for _ in range(CONTROL_ROUNDS):
        hashed.update(block)
    return round((clock() - start) * 1e-9, 9)


class _PairedJob:
    """The job being measured in this process, from its build to the work it shows."""

    def __init__(self, setup: Setup, number: int) -> None:
        from cnnbench.devices import backend
        from cnnbench.engine.build import apply_settings, build
        from cnnbench.engine.paired_job import first_losses, make_injected_work
        from cnnbench.engine.timing import disable_gc, warm_up
        from cnnbench.engine.training import Training

        self._job = job = setup.jobs[number]
        self._attached = backend(job.device).attach(threads=job.threads)
        apply_settings(job, self._attached)
        self._timed = build(job, None if setup.data_dir is None else Path(setup.data_dir), self._attached)
        self._first_losses = first_losses(self._timed)
        amount = setup.again.get(number, 0.0)
        self._step = self._add_injected_work(make_injected_work(self._timed, amount))
        self._many = self._timed.steps if isinstance(self._timed, Training) and not amount else None
        warm_up(self._step, self._attached.synchronize, job.warmup_steps)
        self._timed.reset()
        self._attached.synchronize()
        self._steps = 0
        self._gc_disabled = ExitStack()
        self._gc_disabled.enter_context(disable_gc())
        self._faults = _minor_faults()

    def _add_injected_work(self, injected: Callable[[], None]) -> Callable[[], None]:
        step = self._timed.step

        def both() -> None:
            step()
            injected()

        return both

    def turn(self, steps: int) -> Turn:
        """Take a turn, then run the control loop."""
        from cnnbench.engine.timing import time_paired_turn

        each = self._attached.kind == "cpu"
        seconds = time_paired_turn(self._step, self._attached.synchronize, steps, each_step=each, many=self._many)
        self._steps += steps
        return Turn(step_seconds=seconds, control_seconds=control_loop())

    def calibrate_injection(self, slowdown: float) -> Injection:
        """How much of the step must run again to make it longer by `share`."""
        from cnnbench.engine.paired_job import calibrate_injection

        amount, measured = calibrate_injection(self._timed, self._attached.synchronize, slowdown)
        return Injection(again=amount, measured=measured)

    def finish(self) -> WorkerResponse:
        """The work done, and the end of this job."""
        from cnnbench.engine.paired_job import count_work

        faults = _minor_faults() - self._faults
        self._gc_disabled.close()
        return WorkerResponse(work=count_work(self._job, self._timed, self._steps, self._first_losses, faults))


def _minor_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def serve(lines: Iterator[bytes], answer: Callable[[WorkerResponse], None]) -> None:
    """Answer one message after another until the parent says end, or is gone."""
    setup, paired_job = Setup(jobs={}), None
    for line in lines:
        if b'"do"' not in line:
            setup = Setup.model_validate_json(line)
            continue
        request = WorkerRequest.model_validate_json(line)
        if request.do == "end":
            return
        if request.do == "build":
            paired_job = None  # the network before it goes first: one at a time
            paired_job = _PairedJob(setup, request.job)
            answer(WorkerResponse(ready=True))
        elif paired_job is None:
            raise WorkloadError(f"{request.do} was asked for before a job was built")
        elif request.do == "turn":
            answer(WorkerResponse(turn=paired_job.turn(request.steps)))
        elif request.do == "share":
            answer(WorkerResponse(share=paired_job.calibrate_injection(request.share)))
        else:
            answer(paired_job.finish())
            paired_job = None


def make_handshake() -> WorkerResponse:
    """Who answers: importing torch is part of it."""
    import cnnbench
    from cnnbench.engine.torch_info import collect_torch_info

    package = str(Path(cnnbench.__file__).resolve().parent)
    return WorkerResponse(hello=Handshake(spoken=PROTOCOL_VERSION, package=package, software=collect_torch_info()[0]))


def classify_failure(error: Exception) -> WorkerFailure:
    """What went wrong, typed."""
    if isinstance(error, UnsupportedError | DeviceError):
        return WorkerFailure(status="unsupported", message=str(error))
    if isinstance(error, DivergedError):
        return WorkerFailure(status="diverged", message=str(error))
    if isinstance(error, WorkloadError | DataError):
        return WorkerFailure(status="crashed", message=f"{type(error).__name__}: {error}")
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return WorkerFailure(status="outdated", message=f"its cnnbench does not understand {where}: {first['msg']}")
    return WorkerFailure(status=status_of(error), message=f"{type(error).__name__}: {str(error)[:500]}")


def main() -> None:
    """Greet, work, go."""
    lines = iter(sys.stdin.buffer.readline, b"")
    handshake = HandshakeRequest.model_validate_json(next(lines))
    exit_with_parent(handshake.parent_pid)

    def answer(message: WorkerResponse) -> None:
        os.write(handshake.answer_fd, message.model_dump_json(exclude_none=True).encode() + b"\n")

    try:
        answer(make_handshake())
        serve(lines, answer)
    except Exception as error:  # noqa: BLE001  the worker's one broad door: what is unforeseen is typed and told
        traceback.print_exc()
        answer(WorkerResponse(failed=classify_failure(error)))
    sys.stderr.flush()
    os._exit(0)  # nothing is left to do, and an interpreter's shutdown can hang in a driver


if __name__ == "__main__":
    main()
