"""An arm's worker in a paired measurement: builds the jobs, and takes its turns when the parent grants them.

One process a block. Messages come on standard input, a JSON object a line (`cnnbench.pairing`); answers go to a pipe of
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
from cnnbench.pairing import SPOKEN, Answer, Ask, Failed, Greeting, Hello, Setup, Share, Turn

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


class _Bench:
    """The job being measured in this process, from its build to the work it shows."""

    def __init__(self, setup: Setup, number: int) -> None:
        from cnnbench.devices import backend
        from cnnbench.engine.again import make_again
        from cnnbench.engine.build import apply_settings, build
        from cnnbench.engine.evidence import first_losses
        from cnnbench.engine.loop import Training
        from cnnbench.engine.measure import collector_off, warm_up

        self._job = job = setup.jobs[number]
        self._attached = backend(job.device).attach(threads=job.threads)
        apply_settings(job, self._attached)
        self._timed = build(job, None if setup.data_dir is None else Path(setup.data_dir), self._attached)
        self._first_losses = first_losses(self._timed)
        amount = setup.again.get(number, 0.0)
        self._step = self._with(make_again(self._timed, amount))
        self._many = self._timed.steps if isinstance(self._timed, Training) and not amount else None
        warm_up(self._step, self._attached.synchronize, job.warmup_steps)
        self._timed.reset()
        self._attached.synchronize()
        self._steps = 0
        self._quiet = ExitStack()
        self._quiet.enter_context(collector_off())
        self._faults = _minor_faults()

    def _with(self, again: Callable[[], None]) -> Callable[[], None]:
        step = self._timed.step

        def both() -> None:
            step()
            again()

        return both

    def turn(self, steps: int) -> Turn:
        """Take a turn, then run the control loop."""
        from cnnbench.engine.measure import time_turn

        each = self._attached.kind == "cpu"
        seconds = time_turn(self._step, self._attached.synchronize, steps, each_step=each, many=self._many)
        self._steps += steps
        return Turn(step_seconds=seconds, control_seconds=control_loop())

    def share(self, share: float) -> Share:
        """How much of the step must run again to make it longer by `share`."""
        from cnnbench.engine.again import find_share

        amount, measured = find_share(self._timed, self._attached.synchronize, share)
        return Share(again=amount, measured=measured)

    def finish(self) -> Answer:
        """The work done, and the end of this job."""
        from cnnbench.engine.evidence import work_done

        faults = _minor_faults() - self._faults
        self._quiet.close()
        return Answer(work=work_done(self._job, self._timed, self._steps, self._first_losses, faults))


def _minor_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def serve(lines: Iterator[bytes], answer: Callable[[Answer], None]) -> None:
    """Answer one message after another until the parent says end, or is gone."""
    setup, bench = Setup(jobs={}), None
    for line in lines:
        if b'"do"' not in line:
            setup = Setup.model_validate_json(line)
            continue
        ask = Ask.model_validate_json(line)
        if ask.do == "end":
            return
        if ask.do == "build":
            bench = None  # the network before it goes first: one at a time
            bench = _Bench(setup, ask.job)
            answer(Answer(ready=True))
        elif bench is None:
            raise WorkloadError(f"{ask.do} was asked for before a job was built")
        elif ask.do == "turn":
            answer(Answer(turn=bench.turn(ask.steps)))
        elif ask.do == "share":
            answer(Answer(share=bench.share(ask.share)))
        else:
            answer(bench.finish())
            bench = None


def say_hello() -> Answer:
    """Who answers: importing torch is part of it."""
    import cnnbench
    from cnnbench.engine.probe import look

    package = str(Path(cnnbench.__file__).resolve().parent)
    return Answer(hello=Hello(spoken=SPOKEN, package=package, software=look()[0]))


def failure_of(error: Exception) -> Failed:
    """What went wrong, typed."""
    if isinstance(error, UnsupportedError | DeviceError):
        return Failed(status="unsupported", message=str(error))
    if isinstance(error, DivergedError):
        return Failed(status="diverged", message=str(error))
    if isinstance(error, WorkloadError | DataError):
        return Failed(status="crashed", message=f"{type(error).__name__}: {error}")
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return Failed(status="outdated", message=f"its cnnbench does not understand {where}: {first['msg']}")
    return Failed(status=status_of(error), message=f"{type(error).__name__}: {str(error)[:500]}")


def main() -> None:
    """Greet, work, go."""
    lines = iter(sys.stdin.buffer.readline, b"")
    greeting = Greeting.model_validate_json(next(lines))
    exit_with_parent(greeting.parent_pid)

    def answer(message: Answer) -> None:
        os.write(greeting.answer_fd, message.model_dump_json(exclude_none=True).encode() + b"\n")

    try:
        answer(say_hello())
        serve(lines, answer)
    except Exception as error:  # noqa: BLE001  the worker's one broad door: what is unforeseen is typed and told
        traceback.print_exc()
        answer(Answer(failed=failure_of(error)))
    sys.stderr.flush()
    os._exit(0)  # nothing is left to do, and an interpreter's shutdown can hang in a driver


if __name__ == "__main__":
    main()
