"""One arm of a paired block: its process is started, exchanges messages, and ends with the block.

The parent sleeps in the kernel until the worker answers or ends. Any early end (a reported error, a signal, silence) is
one typed `WorkerFailure` inside `ArmError`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from cnnbench.paired_protocol import (
    Arm,
    Handshake,
    HandshakeRequest,
    Injection,
    Setup,
    Turn,
    WorkDone,
    WorkerFailure,
    WorkerRequest,
    WorkerResponse,
)
from cnnbench.runner.launch import (
    GRACE_SECONDS,
    complete_environment,
    count_oom_kills,
    explain_signal,
    kill_tree,
    read_tail,
    watch_process,
)

MODULE = ("-P", "-m", "cnnbench.engine.turns")
"""-P keeps the worker's working folder off its search path, so that its package comes from the arm's folder alone."""
_Part = TypeVar("_Part")


class ArmError(Exception):
    """An arm's worker cannot continue; the block it belonged to is invalid."""

    def __init__(self, failed: WorkerFailure) -> None:
        super().__init__(failed.message)
        self.failed = failed


@dataclass(frozen=True)
class ArmCommand:
    """How to start an arm's worker: the command, the variables set for it, its working folder."""

    arm: Arm
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    hang_seconds: float = 300.0


class ArmProcess:
    """A running worker. Every method that waits raises ArmError if no valid answer comes."""

    def __init__(self, start: ArmCommand) -> None:
        self._start = start
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._answers, answer_fd = os.pipe()
        self._pending = b""
        self._oom_kills = count_oom_kills()
        try:
            self._process = subprocess.Popen(
                list(start.command),
                stdin=subprocess.PIPE,
                stdout=self._stderr,
                stderr=self._stderr,
                env=complete_environment(start.environment),
                cwd=start.folder,
                pass_fds=(answer_fd,),
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._answers)
            raise self._make_error("crashed", f"{start.command[0]}: cannot be started: {error.strerror}") from error
        finally:
            os.close(answer_fd)
        with contextlib.suppress(ArmError):  # a worker that died at once is classified when its answer is awaited
            self.send(HandshakeRequest(parent_pid=os.getpid(), answer_fd=answer_fd))

    def send(self, message: BaseModel) -> None:
        """Write one message. Raises ArmError if the worker no longer reads."""
        # Default values of jobs are left out, since an older arm does not know later fields.
        line = message.model_dump_json(exclude_defaults=isinstance(message, Setup))
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._classify_exit() from None

    def receive_handshake(self) -> Handshake:
        """Wait for the worker's identity, its first answer."""
        return self._receive("hello", Handshake)

    def build(self, job: int) -> None:
        """Build and warm up one job of the setup sent before."""
        self.send(WorkerRequest(do="build", job=job))
        self._receive("ready", bool)

    def turn(self, steps: int) -> Turn:
        """Grant a turn and sleep until it is over."""
        self.send(WorkerRequest(do="turn", steps=steps))
        return self._receive("turn", Turn)

    def calibrate_injection(self, slowdown: float) -> Injection:
        """Find the extra work that makes a step longer by the share `slowdown`."""
        self.send(WorkerRequest(do="share", share=slowdown))
        return self._receive("share", Injection)

    def finish(self) -> WorkDone:
        """Receive the work done for the job built last, which the worker then discards."""
        self.send(WorkerRequest(do="finish"))
        return self._receive("work", WorkDone)

    def close(self) -> None:
        """End the process and all it started."""
        with contextlib.suppress(ArmError):
            self.send(WorkerRequest(do="end"))
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the process and everything it started at once."""
        kill_tree(self._process.pid)
        self._process.wait()
        with contextlib.suppress(OSError):
            os.close(self._answers)
        self._answers = -1
        self._stderr.close()

    def _receive(self, part: str, kind: type[_Part]) -> _Part:
        """Wait for the answer and return the named part of it.

        Raises ArmError if the worker failed or misunderstood.
        """
        line = self._read_line()
        try:
            answer = WorkerResponse.model_validate_json(line)
        except ValidationError as error:
            what = f"its answer is not understood: {error.errors()[0]['msg']}"
            raise self._make_error("outdated", what) from error
        if answer.failed is not None:
            raise self._make_error(answer.failed.status, answer.failed.message)
        if not isinstance(found := getattr(answer, part), kind):
            raise self._make_error("outdated", f"it answered something other than {part}")
        return found

    def _read_line(self) -> bytes:
        with watch_process(self._process.pid, self._answers) as selector:
            deadline = time.monotonic() + self._start.hang_seconds
            while b"\n" not in self._pending:
                events = selector.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    raise self._make_error("hang", f"no answer for {self._start.hang_seconds:.0f} s")
                answered = any(key.fd == self._answers for key, _ in events)
                chunk = os.read(self._answers, 1 << 16) if answered else b""
                if not chunk:
                    raise self._classify_exit()
                self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _classify_exit(self) -> ArmError:
        """Classify how a process that no longer answers ended."""
        kill_tree(self._process.pid)
        code = self._process.wait()
        if code >= 0:
            tail = read_tail(self._stderr) or ""
            if f"No module named {MODULE[-1]}" in tail:
                what = "its cnnbench is older than the paired measurement and cannot take part in one"
                return self._make_error("outdated", what)
            last = tail.splitlines()[-1] if tail else "it printed nothing"
            return self._make_error("crashed", f"the worker exited with {code}: {last}")
        status, message = explain_signal(-code, count_oom_kills() > self._oom_kills)
        return self._make_error(status, message + ("; lower batch_size or free memory" if status == "oom" else ""))

    def _make_error(self, status: str, message: str) -> ArmError:
        known = {"status": status, "message": message, "arm": self._start.arm, "stderr_tail": read_tail(self._stderr)}
        return ArmError(WorkerFailure.model_validate(known))
