"""An arm's worker in a paired measurement: builds the jobs, and takes its turns when the parent grants them.

One process per block. Messages come on standard input, one JSON object per line (`cnnbench.paired_protocol`); answers
go to a separate pipe, so nothing that a library prints is taken for one. Between turns the process sleeps in a read;
when the parent is gone the read ends, and so does the process. Jobs are built one at a time, each in both arms before
its turns begin: the pair stays together in time whatever the number of jobs, and no worker holds more than one network.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from cnnbench.engine.process import exit_with_parent, type_error
from cnnbench.errors import WorkloadError
from cnnbench.paired_protocol import (
    PROTOCOL_VERSION,
    Handshake,
    HandshakeRequest,
    Setup,
    Turn,
    WorkerFailure,
    WorkerRequest,
    WorkerResponse,
)
from cnnbench.schema import describe_first_problem

CONTROL_BYTES = 65_536
CONTROL_ROUNDS = 128
"""8 MiB hashed out of a block that stays in the first two cache levels: 4.7 ms with SHA instructions. It is that long
because the helper threads of a CPU step spin for a few milliseconds after it before they sleep, and would do so in the
other arm's turn."""


def control_loop(clock: Callable[[], int] = time.perf_counter_ns) -> float:
    """Time fixed work that uses neither torch nor the arm's code, in seconds, to observe the machine alone."""
    block, hashed = bytes(CONTROL_BYTES), hashlib.sha256()
    start = clock()
    for _ in range(CONTROL_ROUNDS):
        hashed.update(block)
    return round((clock() - start) * 1e-9, 9)


def serve(lines: Iterator[bytes], answer: Callable[[WorkerResponse], None]) -> None:
    """Answer one message after another until the parent asks to end, or is gone."""
    setup, paired_job = Setup(jobs={}), None
    for line in lines:
        if b'"do"' not in line:
            setup = Setup.model_validate_json(line)
            continue
        request = WorkerRequest.model_validate_json(line)
        if request.do == "end":
            return
        if request.do == "build":
            from cnnbench.engine.paired_job import PairedJob  # imports torch: the handshake reports its version

            paired_job = None  # the network before it goes first: one at a time
            paired_job = PairedJob(setup, request.job)
            answer(WorkerResponse(ready=True))
        elif paired_job is None:
            raise WorkloadError(f"{request.do} was asked for before a job was built")
        elif request.do == "turn":
            seconds, injected = paired_job.turn(request.steps)
            turn = Turn(step_seconds=seconds, control_seconds=control_loop(), injected_seconds=injected)
            answer(WorkerResponse(turn=turn))
        elif request.do == "share":
            answer(WorkerResponse(share=paired_job.calibrate_injection(request.share)))
        else:
            answer(WorkerResponse(work=paired_job.finish()))
            paired_job = None


def classify_failure(error: Exception) -> WorkerFailure:
    """Type what went wrong."""
    if isinstance(error, ValidationError):
        message = f"its cnnbench does not understand {describe_first_problem(error)}"
        return WorkerFailure(status="outdated", message=message)
    status, message = type_error(error)
    return WorkerFailure(status=status, message=message)


def main() -> None:
    """Do the handshake, serve the parent's requests, and end the process."""
    lines = iter(sys.stdin.buffer.readline, b"")
    handshake = HandshakeRequest.model_validate_json(next(lines))
    exit_with_parent(handshake.parent_pid)

    def answer(message: WorkerResponse) -> None:
        os.write(handshake.answer_fd, message.model_dump_json(exclude_none=True).encode() + b"\n")

    try:
        from cnnbench.engine.torch_info import collect_torch_info  # importing torch is part of the handshake

        package, software = str(Path(__file__).resolve().parents[1]), collect_torch_info()[0]
        answer(WorkerResponse(hello=Handshake(spoken=PROTOCOL_VERSION, package=package, software=software)))
        serve(lines, answer)
    except Exception as error:  # noqa: BLE001  the worker's one broad catch: the unforeseen is typed and reported
        answer(WorkerResponse(failed=classify_failure(error)))
    sys.stderr.flush()
    os._exit(0)  # nothing is left to do, and an interpreter's shutdown can hang in a driver


if __name__ == "__main__":
    main()
