"""The display of running jobs: a line per job, and on a terminal two live ones below, redrawn at each worker's message.

    [3/18] mnist-cnn b128 fp32 on cpu, 2 threads, round 1 | plan 1:20, ~4:00 left
      120/150 steps, 12.3 steps/s, 0:03 left, 81.7 GFLOP/s, host 650 MiB

The first is the plan: which job of how many, how many failed, time elapsed and left. The second is the job: steps,
present rate, time left, model FLOP/s, memory in use. On a narrow terminal the least important parts are dropped first.
In a log a long job adds a line every five minutes.

The rate shown is the present one, over the last ten seconds; time left is by the mean since the timed steps began,
including evaluations and pauses, plus the time that its kind took after them. A kind's time is the median of its jobs,
so that one unlucky process does not change it. Times of unseen kinds are marked: `~` is guessed from similar jobs, `>`
leaves out jobs that resemble none so far.

There is no refresh timer: between messages (at most one per second) this process sleeps, so that it does not disturb
what is being timed. Everything goes to standard error.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from cnnbench import units, workloads
from cnnbench.errors import WorkloadError
from cnnbench.naming import name_plan
from cnnbench.report.escaping import plain, printable
from cnnbench.runner.run import PendingJob
from cnnbench.schema import TENSORBOARD_NOTE, Job, Record

WINDOW_SECONDS = 10.0
"""Window of the present rate: ten messages, so one late message changes it by a tenth."""

SEEN, GUESSED, AT_LEAST = "", "~", ">"
LINE_EVERY_SECONDS = 300.0
"""Time between a long job's lines in a log."""
FAILURE, WARNING = "bold red", "bold yellow"
BESIDE, BELOW = " | ", "  "
"""Between the job's name and the plan's figures; before the job's, on the line below."""
CONTINUATION_INDENT = 6


class StepRate:
    """The timed steps of one job: fed with (now, done), it knows the present rate and the time left."""

    def __init__(self, now: float, total: int) -> None:
        self.total, self.done = total, 0
        self._points = deque([(now, 0)])
        self._began = now

    def update(self, now: float, done: int) -> None:
        """Take the number of steps done now."""
        self.done = done
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[1][0] >= WINDOW_SECONDS:
            self._points.popleft()

    @property
    def steps_per_second(self) -> float | None:
        """Rate over the last ten seconds, or since an older last message; None before the second message."""
        (begin, before), (end, after) = self._points[0], self._points[-1]
        return (after - before) / (end - begin) if end > begin and after > before else None

    def seconds_left(self, now: float) -> float | None:
        """Estimate the seconds left of the timed steps by their mean pace so far; None before the first are done."""
        return (now - self._began) / self.done * (self.total - self.done) if self.done and self.total else None


class JobProgress(NamedTuple):
    """State of the running job: seconds since it began, seconds of its timed steps left, seconds since they ended."""

    elapsed: float
    timed_left: float | None = None
    since_timed: float | None = None


class TimeLeft(NamedTuple):
    """A time left, and how it is known: seen, guessed or at least."""

    seconds: float
    mark: str = SEEN


class PlanEta:
    """The plan's time left, from what its finished jobs took; kinds of jobs are distinguished by their row keys."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._queue = list(jobs)
        self._totals: defaultdict[str, list[float]] = defaultdict(list)
        self._tails: defaultdict[str, list[float]] = defaultdict(list)
        """Seconds of each kind's jobs: altogether, and of that after their timed steps."""
        self._workloads: dict[str, str] = {}
        self.several = len(self._queue) > 1

    def on_finish(self, job: Job, seconds: float, tail: float | None = None) -> None:
        """Take the first job off the queue, `tail` seconds after its timed steps if it had any."""
        self._workloads[job.row_key] = job.workload
        self._totals[job.row_key].append(seconds)
        if tail is not None:
            self._tails[job.row_key].append(tail)
        del self._queue[:1]

    def job_left(self, progress: JobProgress) -> float | None:
        """Estimate the running job's seconds left; None before its timed steps if no job of its kind has ended."""
        kind = self._queue[0].row_key if self._queue else ""
        tail = median(self._tails.get(kind, [0.0]))
        if progress.timed_left is not None:
            return progress.timed_left + tail
        if kind not in self._totals:
            return None
        if progress.since_timed is not None:
            return max(tail - progress.since_timed, 0.0)
        return max(median(self._totals[kind]) - progress.elapsed, 0.0)

    def plan_left(self, progress: JobProgress) -> TimeLeft | None:
        """Estimate the seconds left of this job and all later ones; None if nothing is known."""
        if not self._queue:
            return None
        now, *later = self._queue
        left, own = self.job_left(progress), None
        if left is None and progress.since_timed is None:
            kind = self._expect(now, None)
            first = TimeLeft(max(kind.seconds - progress.elapsed, 0.0), kind.mark)
        else:
            left = left or 0.0
            first = TimeLeft(left)
            if now.row_key not in self._totals:
                first, own = TimeLeft(left, GUESSED), progress.elapsed + left
        parts = [first, *(self._expect(job, own) for job in later)]
        seconds = sum(part.seconds for part in parts)
        mark = max((part.mark for part in parts), key=(SEEN, GUESSED, AT_LEAST).index)
        return TimeLeft(seconds, mark) if seconds or mark == SEEN else None

    def _expect(self, job: Job, own: float | None) -> TimeLeft:
        """Estimate a job's time by its kind, else by the running job (`own`), else by its workload's other kinds."""
        if job.row_key in self._totals:
            return TimeLeft(median(self._totals[job.row_key]))
        now = self._queue[0]
        if own is not None and job.row_key == now.row_key:
            return TimeLeft(own, GUESSED)
        kin = [median(self._totals[kind]) for kind, name in self._workloads.items() if name == job.workload]
        if not kin and own is not None and now.workload == job.workload:
            kin = [own]
        return TimeLeft(sum(kin) / len(kin), GUESSED) if kin else TimeLeft(0.0, AT_LEAST)


class LinePart(NamedTuple):
    """A part of a line: rank 0 stays, the highest rank is dropped first if the line is too long."""

    text: str
    rank: int = 0
    style: str = ""


def fit_parts(parts: Sequence[LinePart], room: float = math.inf) -> Text:
    """Join the parts in order, and drop as few as necessary. Parts of rank 0 stay whether they fit or not."""
    shown = [part for part in parts if part.text]
    while True:
        line = Text(", ").join(Text(part.text, style=part.style) for part in shown)
        if len(line) <= room or not any(part.rank for part in shown):
            return line
        shown.remove(max(shown, key=lambda part: part.rank))


def fit_and_cut(parts: Sequence[LinePart], room: int) -> Text:
    """Join the parts as `fit_parts` does, and cut the rest between words, never in a number."""
    line = fit_parts(parts, room)
    return line if len(line) <= room else Text(line.plain[: max(0, room + 1)].rpartition(" ")[0].rstrip(" ,"))


def wrap_indented(console: Console, text: Text, indent: int, *, before: int = 0) -> Text:
    """Wrap the text between words on a terminal, with all lines but the first indented.

    A long word, such as a path, stays whole, so that it can be copied. `before` columns of the first line are taken. In
    a log the text stays one line.
    """
    if not console.is_terminal:
        return text
    breaks, start, taken = [], 0, before
    for word in re.finditer(r"\S+", text.plain):
        if word.end() - start > console.width - taken and word.start() > start:
            breaks.append(word.start())
            start, taken = word.start(), indent
    lines = text.divide(breaks)
    for line in lines:
        line.rstrip()
    return Text("\n" + " " * indent).join(lines)


class Display:
    """Shows a run on a console; verbosity below 0 shows failures only. `plan` is the whole plan, for the names."""

    def __init__(self, console: Console, verbosity: int, todo: Sequence[PendingJob], plan: Sequence[Job]) -> None:
        self._console, self._verbosity = console, verbosity
        self._live = console.is_terminal and not console.is_dumb_terminal and verbosity >= 0
        self._name, self._eta = name_plan(plan), PlanEta([each.job for each in todo])
        self._began = self._job_began = self._next_line = time.monotonic()
        self._prefix, self._phase, self._failed, self._missed = "", "", 0, 0
        self._pace: StepRate | None = None
        self._timed_ended: float | None = None
        self._flops: int | None = None
        self._memory: list[LinePart] = []
        self._drawn: list[int] = []

    def on_start(self, todo: PendingJob, position: int, total: int) -> None:
        """Show a job that starts."""
        self._prefix = f"[{position + 1}/{total}] {self._name(todo.job)}"
        self._phase, self._pace, self._timed_ended, self._memory = "start", None, None, []
        self._flops = None
        with contextlib.suppress(WorkloadError):  # a workload that is not installed here
            self._flops = workloads.flops_per_step(todo.job)
        self._job_began = time.monotonic()
        self._next_line = self._job_began + LINE_EVERY_SECONDS
        self._draw()

    def on_message(self, message: dict[str, Any]) -> None:
        """Redraw from one message of the worker's."""
        now = time.monotonic()
        done, total = int(message.get("done", 0)), int(message.get("total", 0))
        if "phase" in message:
            if self._pace is not None:
                self._timed_ended = now
            self._phase, self._pace = str(message["phase"]), StepRate(now, total) if total else None
        if self._pace is not None and done:
            self._pace.update(now, done)
        self._memory = [
            LinePart(f"{name} {units.data_size(int(message[f'{name}_bytes']))}", rank)
            for name, rank in (("device", 4), ("host", 5))
            if f"{name}_bytes" in message
        ]
        self._draw()
        if not self._live and self._verbosity >= 0 and done and now >= self._next_line:
            self._next_line = now + LINE_EVERY_SECONDS
            figures, overview = fit_parts(self._job_parts()), fit_parts(self._plan_parts())
            self._say(f"{figures}{'; ' if overview else ''}{overview}")

    def on_finish(self, record: Record) -> None:
        """Show a job whose record is on disk."""
        self._eta.on_finish(record.job, record.process_seconds, self._job_progress().since_timed)
        self.close()
        outcome = record.outcome
        # The record is saved; its TensorBoard run may not be, or not whole.
        if outcome.trial is not None and (note := outcome.trial.settings.get(TENSORBOARD_NOTE)) is not None:
            self._say(f"warning: TensorBoard run: {plain(note)}; the record is saved all the same", WARNING)
        if record.unfit:
            self._say(f"the machine was unfit as it started: {plain('; '.join(record.unfit))}", WARNING)
        if outcome.status == "ok":
            if self._verbosity >= 0:
                room = self._console.width - len(self._prefix) - 2 if self._live else math.inf
                self._say(fit_parts(_summary_parts(record), room).plain)
            return
        self._failed += outcome.status not in ("interrupted", "missed")
        self._missed += outcome.status == "missed"
        self._say(describe_failure(record), FAILURE)
        if self._verbosity > 0 and outcome.stderr_tail:
            self._console.print(Text(printable(outcome.stderr_tail)))

    def _job_progress(self) -> JobProgress:
        now = time.monotonic()
        since_timed = None if self._timed_ended is None else now - self._timed_ended
        return JobProgress(now - self._job_began, self._pace.seconds_left(now) if self._pace else None, since_timed)

    def _job_parts(self) -> list[LinePart]:
        """Make the parts of the job's line."""
        pace = self._pace
        rate = pace.steps_per_second if pace else None
        left = self._eta.job_left(self._job_progress())
        flops = self._flops * rate if rate and self._flops is not None else None
        return [
            LinePart(self._phase if pace is None else f"{pace.done:,}/{pace.total:,} steps"),
            LinePart("" if rate is None else f"{units.rate(rate)} steps/s", 2),
            LinePart("" if left is None else f"{format_clock(left)} left", 1),
            LinePart("" if flops is None else f"{units.giga(flops)} GFLOP/s", 3),
            *self._memory,
        ]

    def _plan_parts(self) -> list[LinePart]:
        """Make the parts of the plan's line: failures, time elapsed and time left; empty for a single job."""
        if not self._eta.several:
            return []
        left = self._eta.plan_left(self._job_progress())
        return [
            LinePart(f"{self._failed} failed" if self._failed else "", 1, FAILURE),
            LinePart(f"{self._missed} missed the target" if self._missed else "", 1, FAILURE),
            LinePart(f"plan {format_clock(time.monotonic() - self._began)}", 3),
            LinePart("" if left is None else f"{left.mark}{format_clock(left.seconds)} left", 2),
        ]

    def _draw(self) -> None:
        if not self._live:
            return
        room = self._console.width - 1
        plan = fit_and_cut([LinePart(self._prefix)], room)
        overview = fit_and_cut(self._plan_parts(), room - len(plan) - len(BESIDE))
        figures = fit_and_cut(self._job_parts(), room - len(BELOW))
        lines = (plan.append(BESIDE if overview else "").append_text(overview), Text(BELOW).append_text(figures))
        self.close()
        self._console.print(lines[0])
        self._console.print(lines[1], end="")
        self._console.file.flush()
        self._drawn = [len(line) for line in lines]

    def close(self) -> None:
        """Erase the live lines, so that none stays half-drawn; after the terminal became narrower, lines too long for
        it have wrapped into more of them.
        """
        if not self._drawn:
            return
        rows = sum(max(1, math.ceil(length / max(1, self._console.width))) for length in self._drawn)
        self._console.file.write("\r\x1b[2K" + "\x1b[1A\x1b[2K" * (rows - 1))
        self._console.file.flush()
        self._drawn = []

    def _say(self, what: str, style: str = "") -> None:
        text = Text(f"{self._prefix}: ").append(what, style=style)
        self._console.print(wrap_indented(self._console, text, CONTINUATION_INDENT))


def describe_failure(record: Record) -> str:
    """Describe how a job failed: `CRASHED: the worker was ended by SIGKILL`."""
    return f"{record.outcome.status.upper()}: {plain(record.outcome.message or 'no message')}"


def _summary_parts(record: Record) -> list[LinePart]:
    trial = record.outcome.trial
    if trial is None or not trial.steps:
        return [LinePart("ok")]
    parts = [LinePart(f"{units.short_seconds(sum(trial.block_seconds) / trial.steps)} per step")]
    if trial.job_seconds is not None:
        what = "target reached in" if record.job.clock == "accuracy" else "job"
        parts.append(LinePart(f"{what} {units.duration(trial.job_seconds)}", 1))
    if trial.test is not None:
        right = units.percent(trial.test.correct / trial.test.images)
        parts.append(LinePart(f"{right} right after {trial.test.after_steps:,} steps", 3))
    parts.append(LinePart(f"{record.process_seconds:.0f} s in all", 2))
    return parts


def format_clock(seconds: float) -> str:
    """Format seconds as `1:05` or `2:00:00`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
