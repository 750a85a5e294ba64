"""What a person sees while jobs run: a line a job, and on a terminal one live line, redrawn only when a worker speaks.
In a log a long job adds a line every five minutes.

There is no refresh timer: between messages (at most one a second) this process sleeps, so that it does not disturb
what is being timed. Everything goes to standard error.
"""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console

from cnnbench import units
from cnnbench.report.safe import plain, printable
from cnnbench.runner.run import Todo
from cnnbench.schema import Record

LINE_EVERY_SECONDS = 300.0
"""Where there is no terminal (a log), a long job says this often how far it is."""


class Display:
    """Shows a run on a console; verbosity below 0 says nothing but failures."""

    def __init__(self, console: Console, verbosity: int = 0) -> None:
        self._console, self._verbosity = console, verbosity
        self._live = console.is_terminal and verbosity >= 0
        self._spent: dict[str, list[float]] = {}
        self._queue: list[str] = []
        self._phase, self._phase_started = "", 0.0
        self._prefix = ""
        self._next_line = 0.0
        self._line_shown = False

    def plan(self, keys: list[str]) -> None:
        """The row keys of the jobs to come, for the time left."""
        self._queue = list(keys)

    def begins(self, todo: Todo, position: int, of: int) -> None:
        """A job starts."""
        self._prefix = f"[{position + 1}/{of}] {todo.job.label}"
        self._phase, self._phase_started = "start", time.monotonic()
        self._next_line = time.monotonic() + LINE_EVERY_SECONDS
        self._draw("start")

    def hears(self, message: dict[str, Any]) -> None:
        """Redraw from one message of the worker."""
        if "phase" in message:
            self._phase, self._phase_started = str(message["phase"]), time.monotonic()
        done, total = int(message.get("done", 0)), int(message.get("total", 0))
        if total and done:
            elapsed = time.monotonic() - self._phase_started
            left = elapsed / done * (total - done)
            rate = done / elapsed if elapsed > 0 else 0.0
            text = f"{done:,}/{total:,} steps, {rate:.1f} steps/s, job {_clock(left)} left{self._plan_left(left)}"
        else:
            text = self._phase
        self._draw(text)
        if not self._live and self._verbosity >= 0 and done and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_SECONDS
            self._console.print(f"{self._prefix}: {text}", highlight=False, markup=False)

    def ends(self, record: Record) -> None:
        """A job is on disk."""
        self._spent.setdefault(record.job.row_key, []).append(record.process_seconds)
        if self._queue:
            self._queue.pop(0)
        self._wipe()
        outcome = record.outcome
        if outcome.status == "ok":
            if self._verbosity >= 0:
                self._console.print(f"{self._prefix}: {_summary(record)}", highlight=False, markup=False)
            return
        message = plain(outcome.message or "no message")
        self._console.print(f"{self._prefix}: {outcome.status.upper()}: {message}", highlight=False, markup=False)
        if self._verbosity > 0 and outcome.stderr_tail:
            self._console.print(printable(outcome.stderr_tail), highlight=False, markup=False)

    def close(self) -> None:
        """Leave no half-drawn line behind."""
        self._wipe()

    def _plan_left(self, job_left: float) -> str:
        later = self._queue[1:]
        known = [sum(self._spent[key]) / len(self._spent[key]) for key in later if key in self._spent]
        if not later or len(known) < len(later):
            return ""
        return f", plan {_clock(job_left + sum(known))} left"

    def _draw(self, text: str) -> None:
        if self._live:
            line = f"{self._prefix}: {text}"[: self._console.width - 1]
            self._console.file.write(f"\r\x1b[2K{line}")
            self._console.file.flush()
            self._line_shown = True

    def _wipe(self) -> None:
        if self._line_shown:
            self._console.file.write("\r\x1b[2K")
            self._console.file.flush()
            self._line_shown = False


def _summary(record: Record) -> str:
    trial = record.outcome.trial
    if trial is None or not trial.steps:
        return "ok"
    step = sum(trial.block_seconds) / trial.steps
    parts = [f"{units.short_seconds(step)} a step"]
    if trial.job_seconds is not None:
        parts.append(f"job {units.duration(trial.job_seconds)}")
    if trial.test is not None:
        share = trial.test.correct / trial.test.images
        parts.append(f"{units.percent(share)} right after {trial.test.after_steps:,} steps")
    parts.append(f"{record.process_seconds:.0f} s in all")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
