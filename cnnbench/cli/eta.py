"""How fast a job goes and how long what is left will take: worker's messages and finished jobs in, seconds out.

The rate shown is the present one, over the last ten seconds; time left is by the mean since the timed steps began, which
evaluations and pauses are part of, and what its kind took after them. What a kind took is the median of its jobs, which
one unlucky process does not move. What no job has shown yet is marked: `~` is guessed from what was seen, `>` leaves out what
nothing seen resembles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from cnnbench.schema import Job

WINDOW_SECONDS = 10.0
"""The present rate is over this long: ten messages, so one late message moves it by a tenth."""

SEEN, GUESSED, AT_LEAST = "", "~", ">"


class StepRate:
    """The timed steps of one job: fed with (now, done), it knows the present rate and the time left."""

    def __init__(self, now: float, total: int) -> None:
        self.total, self.done = total, 0
        self._points: deque[tuple[float, int]] = deque([(now, 0)])
        self._began = now

    def update(self, now: float, done: int) -> None:
        """So many steps are done now."""
        self.done = done
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[1][0] >= WINDOW_SECONDS:
            self._points.popleft()

    @property
    def steps_per_second(self) -> float | None:
        """Over the last ten seconds (or since the last message, where that is longer ago); None before the second message."""
        (begin, before), (end, after) = self._points[0], self._points[-1]
        return (after - before) / (end - begin) if end > begin and after > before else None

    def seconds_left(self, now: float) -> float | None:
        """Of the timed steps, by their mean pace so far; None before the first are done."""
        return (now - self._began) / self.done * (self.total - self.done) if self.done and self.total else None


@dataclass(frozen=True)
class JobProgress:
    """Where the running job is: seconds since it began, seconds of its timed steps left, seconds since they ended."""

    elapsed: float
    timed_left: float | None = None
    since_timed: float | None = None


@dataclass(frozen=True)
class TimeLeft:
    """A time left, and how it is known: seen, guessed or at least."""

    seconds: float
    mark: str = SEEN


class _RowTimes:
    """What the finished jobs of one row took: altogether, and of that after their timed steps."""

    def __init__(self, workload: str) -> None:
        self.workload = workload
        self.totals: list[float] = []
        self.tails: list[float] = []

    @property
    def total(self) -> float:
        return median(self.totals)

    @property
    def tail(self) -> float:
        return median(self.tails) if self.tails else 0.0


class PlanEta:
    """The plan's time left, from what its finished jobs took; kinds of jobs are told apart by their row keys."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._queue = list(jobs)
        self._seen: dict[str, _RowTimes] = {}
        self.several = len(self._queue) > 1

    def on_finish(self, job: Job, seconds: float, tail: float | None = None) -> None:
        """The first job of the queue is over, `tail` seconds after its timed steps, where it came to them."""
        kind = self._seen.setdefault(job.row_key, _RowTimes(job.workload))
        kind.totals.append(seconds)
        kind.tails += [] if tail is None else [tail]
        del self._queue[:1]

    def job_left(self, progress: JobProgress) -> float | None:
        """Of the job now running; None before its timed steps where no job of its kind has ended."""
        kind = self._seen.get(self._queue[0].row_key) if self._queue else None
        if progress.timed_left is not None:
            return progress.timed_left + (kind.tail if kind else 0.0)
        if progress.since_timed is not None:
            return max(kind.tail - progress.since_timed, 0.0) if kind else None
        return max(kind.total - progress.elapsed, 0.0) if kind else None

    def plan_left(self, progress: JobProgress) -> TimeLeft | None:
        """Of this job and all later ones; None where nothing is known."""
        if not self._queue:
            return None
        now, *later = self._queue
        left, own = self.job_left(progress), None
        if left is None and progress.since_timed is not None:
            left = 0.0
        if now.row_key in self._seen and left is not None:
            first = TimeLeft(left)
        elif left is not None:
            first, own = TimeLeft(left, GUESSED), progress.elapsed + left
        else:
            kind = self._expect(now, None)
            first = TimeLeft(max(kind.seconds - progress.elapsed, 0.0), kind.mark)
        parts = [first, *(self._expect(job, own) for job in later)]
        seconds, marks = sum(part.seconds for part in parts), {part.mark for part in parts}
        mark = next((mark for mark in (AT_LEAST, GUESSED) if mark in marks), SEEN)
        return TimeLeft(seconds, mark) if seconds or mark == SEEN else None

    def _expect(self, job: Job, own: float | None) -> TimeLeft:
        """What a job will take: as its kind did, else as the running job of its kind will (`own`), else as other kinds of its
        workload did, else unknown.
        """
        if job.row_key in self._seen:
            return TimeLeft(self._seen[job.row_key].total)
        now = self._queue[0]
        if own is not None and job.row_key == now.row_key:
            return TimeLeft(own, GUESSED)
        kin = [kind.total for kind in self._seen.values() if kind.workload == job.workload]
        if not kin and own is not None and now.workload == job.workload:
            kin = [own]
        return TimeLeft(sum(kin) / len(kin), GUESSED) if kin else TimeLeft(0.0, AT_LEAST)
