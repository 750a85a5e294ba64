"""What a person sees while jobs run: a line a job, and on a terminal two live ones below, redrawn only when a worker speaks.

    [3/18] mnist-cnn b128 fp32 on cpu, 2 threads, round 1 | plan 1:20, ~4:00 left
      120/150 steps, 12.3 steps/s, 0:03 left, 81.7 GFLOP/s, host 650 MiB

The first is the plan: which job of how many, how many failed, time gone and left. The second is the job: steps, present
rate, time left, model FLOP/s, memory held. Where the terminal is too narrow the least important parts go first. In a log
a long job adds a line every five minutes.

There is no refresh timer: between messages (at most one a second) this process sleeps, so that it does not disturb
what is being timed. Everything goes to standard error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from cnnbench import units, workloads
from cnnbench.cli.pace import Outlook, Pace, Stage
from cnnbench.errors import WorkloadError
from cnnbench.report.safe import plain, printable
from cnnbench.runner.run import Todo
from cnnbench.schema import BOARD_NOTE, Job, Record

LINE_EVERY_SECONDS = 300.0
"""Where there is no terminal (a log), a long job says this often how far it is."""
FAILURE, WARNING = "bold red", "bold yellow"
BESIDE, BELOW = " | ", "  "
"""Between the job's name and the plan's figures; before the job's, on the line below."""
HANG = 6


class Part(NamedTuple):
    """A part of a line: 0 stays, the highest rank goes first where there is no room."""

    text: str
    rank: int = 0
    style: str = ""


def chosen(parts: Sequence[Part], room: int | None) -> list[Part]:
    """The parts in their order, as few left out as fit; None is room enough. Those of rank 0 stay whether they fit or not."""
    shown = [part for part in parts if part.text]
    while room is not None and len(_joined(shown)) > room and any(part.rank for part in shown):
        shown.remove(max(shown, key=lambda part: part.rank))
    return shown


def fitted(parts: Sequence[Part], room: int) -> list[Part]:
    """As `chosen`, and what still does not fit is cut between words, never in a number."""
    shown = chosen(parts, room)
    if len(_joined(shown)) > room:
        return [Part(_joined(shown).plain[: max(0, room + 1)].rpartition(" ")[0].rstrip(" ,"))]
    return shown


def _joined(parts: Sequence[Part]) -> Text:
    return Text(", ").join([Text(part.text, style=part.style) for part in parts])


def hanging(console: Console, text: Text, indent: int, *, before: int = 0) -> Text:
    """The text wrapped between words on a terminal, all lines but the first indented; a long word, such as a path, stays
    whole, so that it can be copied. `before` columns of the first line are taken. In a log it stays one line.
    """
    if not console.is_terminal:
        return text
    breaks: list[int] = []
    start, taken = 0, before
    for word in re.finditer(r"\S+", text.plain):
        if word.end() - start > console.width - taken and word.start() > start:
            breaks.append(word.start())
            start, taken = word.start(), indent
    lines = text.divide(breaks)
    for line in lines:
        line.rstrip()
    return Text("\n" + " " * indent).join(lines)


def namer(plan: Sequence[Job]) -> Callable[[Job], str]:
    """What to call the plan's jobs: their label, with the thread count in it where the plan has several, and what tells jobs
    apart whose labels are alike: `mnist-cnn b128 fp32 on cpu, dataloader, round 1`.
    """
    several = len({job.threads for job in plan} - {None}) > 1
    by_label: dict[str, dict[str, Job]] = {}
    for job in plan:
        label = job.label_with(threads=several).rpartition(",")[0]
        by_label.setdefault(label, {})[job.row_key] = job
    apart = {key: words for alike in by_label.values() for key, words in _apart(alike).items()}

    def name(job: Job) -> str:
        head, comma, last = job.label_with(threads=several).rpartition(",")
        return ", ".join((head, *apart.get(job.row_key, ()))) + comma + last

    return name


APART = ("loader", "optimizer", "init", "clock", "division", "loader_workers", "order", "split", "data", "epochs")
"""What may tell jobs apart whose labels are alike, in the order in which it is tried."""


def _apart(alike: Mapping[str, Job]) -> dict[str, tuple[str, ...]]:
    """The first fields that tell the jobs apart, by row key; nothing for one job alone."""
    chosen: list[str] = []
    for field in APART:
        seen = {tuple(getattr(job, name) for name in chosen) for job in alike.values()}
        if len(seen) == len(alike):
            break
        if len({getattr(job, field) for job in alike.values()}) > 1:
            chosen.append(field)
    return {key: tuple(str(getattr(job, name)) for name in chosen) for key, job in alike.items()}


class Display:
    """Shows a run on a console; verbosity below 0 says nothing but failures. `plan` is the whole plan, for the names."""

    def __init__(self, console: Console, verbosity: int, todo: Sequence[Todo], plan: Sequence[Job]) -> None:
        self._console, self._verbosity = console, verbosity
        self._live = console.is_terminal and not console.is_dumb_terminal and verbosity >= 0
        self._name, self._outlook = namer(plan), Outlook([each.job for each in todo])
        self._began = self._job_began = self._next_line = time.monotonic()
        self._prefix, self._phase, self._failed, self._missed = "", "", 0, 0
        self._pace: Pace | None = None
        self._timed_ended: float | None = None
        self._flops: int | None = None
        self._memory: tuple[Part, ...] = ()
        self._drawn: list[int] = []

    def begins(self, todo: Todo, position: int, of: int) -> None:
        """A job starts."""
        self._prefix = f"[{position + 1}/{of}] {self._name(todo.job)}"
        self._phase, self._pace, self._timed_ended, self._memory = "start", None, None, ()
        self._flops = _flops(todo.job)
        self._job_began = time.monotonic()
        self._next_line = self._job_began + LINE_EVERY_SECONDS
        self._draw()

    def hears(self, message: dict[str, Any]) -> None:
        """Redraw from one message of the worker."""
        now = time.monotonic()
        done, total = int(message.get("done", 0)), int(message.get("total", 0))
        if "phase" in message:
            if self._pace is not None:
                self._timed_ended = now
            self._phase, self._pace = str(message["phase"]), Pace(now, total) if total else None
        if self._pace is not None and done:
            self._pace.counts(now, done)
        self._memory = _memory(message)
        self._draw()
        if not self._live and self._verbosity >= 0 and done and now >= self._next_line:
            self._next_line = now + LINE_EVERY_SECONDS
            figures, overview = (_joined(chosen(parts, None)) for parts in (self._figures(), self._overview()))
            self._say(Text(f"{self._prefix}: {figures}{'; ' if overview else ''}{overview}"))

    def ends(self, record: Record) -> None:
        """A job is on disk."""
        self._outlook.ends(record.job, record.process_seconds, self._stage().since_timed)
        self._wipe()
        self._warn(record)
        outcome = record.outcome
        if outcome.status == "ok":
            if self._verbosity >= 0:
                room = self._console.width - len(self._prefix) - 2 if self._live else None
                self._say(Text(f"{self._prefix}: {_joined(chosen(_summary(record), room))}"))
            return
        self._failed += outcome.status not in ("interrupted", "missed")
        self._missed += outcome.status == "missed"
        self._say(Text(f"{self._prefix}: ").append(verdict(record), style=FAILURE))
        if self._verbosity > 0 and outcome.stderr_tail:
            self._console.print(Text(printable(outcome.stderr_tail)), highlight=False)

    def _warn(self, record: Record) -> None:
        """What was measured is saved, its TensorBoard run is not, or not whole."""
        note = record.outcome.trial.settings.get(BOARD_NOTE) if record.outcome.trial is not None else None
        if note is not None:
            text = f"warning: TensorBoard run: {plain(note)}; the record is saved all the same"
            self._say(Text(f"{self._prefix}: ").append(text, style=WARNING))

    def close(self) -> None:
        """Leave no half-drawn line behind."""
        self._wipe()

    def _stage(self) -> Stage:
        now = time.monotonic()
        timed_left = None if self._pace is None else self._pace.seconds_left(now)
        since_timed = None if self._timed_ended is None else now - self._timed_ended
        return Stage(now - self._job_began, timed_left, since_timed)

    def _figures(self) -> list[Part]:
        """The job's line."""
        pace = self._pace
        rate = None if pace is None else pace.steps_per_second
        left = self._outlook.job_left(self._stage())
        flops = None if rate is None or self._flops is None else self._flops * rate
        return [
            Part(self._phase if pace is None else f"{pace.done:,}/{pace.total:,} steps"),
            Part("" if rate is None else f"{units.rate(rate)} steps/s", 2),
            Part("" if left is None else f"{clock(left)} left", 1),
            Part("" if flops is None else f"{units.giga(flops)} GFLOP/s", 3),
            *self._memory,
        ]

    def _overview(self) -> list[Part]:
        """The plan's failures, time gone and time left; nothing where it is one job."""
        if not self._outlook.several:
            return []
        left = self._outlook.plan_left(self._stage())
        return [
            Part(f"{self._failed} failed" if self._failed else "", 1, FAILURE),
            Part(f"{self._missed} missed the target" if self._missed else "", 1, FAILURE),
            Part(f"plan {clock(time.monotonic() - self._began)}", 3),
            Part("" if left is None else f"{left.mark}{clock(left.seconds)} left", 2),
        ]

    def _draw(self) -> None:
        if not self._live:
            return
        room = self._console.width - 1
        plan = _joined(fitted([Part(self._prefix)], room))
        overview = _joined(fitted(self._overview(), room - len(plan) - len(BESIDE)))
        figures = _joined(fitted(self._figures(), room - len(BELOW)))
        lines = (plan.append(BESIDE if overview else "").append_text(overview), Text(BELOW).append_text(figures))
        self._wipe()
        self._console.print(lines[0], highlight=False)
        self._console.print(lines[1], highlight=False, end="")
        self._console.file.flush()
        self._drawn = [len(line) for line in lines]

    def _wipe(self) -> None:
        """Erase the live lines; what no longer fits since the terminal became narrower has wrapped into more of them."""
        if not self._drawn:
            return
        rows = sum(max(1, -(-length // max(1, self._console.width))) for length in self._drawn)
        self._console.file.write("\r\x1b[2K" + "\x1b[1A\x1b[2K" * (rows - 1))
        self._console.file.flush()
        self._drawn = []

    def _say(self, text: Text) -> None:
        self._console.print(hanging(self._console, text, HANG), highlight=False)


def verdict(record: Record) -> str:
    """How a job failed: `CRASHED: the worker was ended by SIGKILL`."""
    return f"{record.outcome.status.upper()}: {plain(record.outcome.message or 'no message')}"


def _flops(job: Job) -> int | None:
    """Model FLOPs of a step; None for a workload that is not installed here."""
    try:
        return workloads.flops_per_step(job)
    except WorkloadError:
        return None


def _memory(message: dict[str, Any]) -> tuple[Part, ...]:
    sizes = (("device", "device_bytes", 4), ("host", "host_bytes", 5))
    return tuple(
        Part(f"{name} {units.data_size(int(message[key]))}", rank) for name, key, rank in sizes if key in message
    )


def _summary(record: Record) -> list[Part]:
    trial = record.outcome.trial
    if trial is None or not trial.steps:
        return [Part("ok")]
    step = sum(trial.block_seconds) / trial.steps
    parts = [Part(f"{units.short_seconds(step)} a step")]
    if trial.job_seconds is not None:
        what = "target reached in" if record.job.clock == "accuracy" else "job"
        parts.append(Part(f"{what} {units.duration(trial.job_seconds)}", 1))
    if trial.test is not None:
        share = trial.test.correct / trial.test.images
        parts.append(Part(f"{units.percent(share)} right after {trial.test.after_steps:,} steps", 3))
    parts.append(Part(f"{record.process_seconds:.0f} s in all", 2))
    return parts


def clock(seconds: float) -> str:
    """`1:05`, `2:00:00`."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
