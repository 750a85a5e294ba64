"""What is shown while jobs run: never more than a worker said, nothing cut in two, every failure even when quiet."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pytest
from builders import cnn_job, gemm_job, record
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from cnnbench import workloads
from cnnbench.cli import progress
from cnnbench.cli.progress import Display, JobProgress, LinePart, PlanEta, StepRate, TimeLeft, fit_and_cut
from cnnbench.naming import name_plan, process_label
from cnnbench.runner.run import PendingJob
from cnnbench.schema import Job

MIB = 2**20
TWO = (cnn_job(), cnn_job(round=1))


class Watch:
    """A display, what it wrote, and the clock it reads."""

    def __init__(self, jobs: Sequence[Job], *, terminal: bool, verbosity: int = 0, width: int = 80) -> None:
        self.out = io.StringIO()
        self.todo = [PendingJob(index, 1, job) for index, job in enumerate(jobs)]
        self.now = 0.0
        console = Console(file=self.out, force_terminal=terminal, width=width, soft_wrap=True, no_color=True)
        self.display = Display(console, verbosity, self.todo, jobs)

    def begin(self, position: int = 0) -> None:
        self.display.on_start(self.todo[position], position, len(self.todo))

    def lines(self) -> list[str]:
        """What stands below everything now, as a terminal shows it."""
        last = self.out.getvalue().rpartition("\x1b[2K")[2]
        return re.sub(r"\x1b\[[0-9;]*m", "", last).splitlines()

    def kept(self) -> list[str]:
        """What stays: the lines that were not erased."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.out.getvalue())
        rows: list[str] = [""]
        for piece in re.split(r"(\n|\r\x1b\[2K|\x1b\[1A\x1b\[2K)", text):
            if piece == "\n":
                rows.append("")
            elif piece.startswith("\x1b[1A"):
                rows.pop()
                rows[-1] = ""
            elif piece.startswith("\r"):
                rows[-1] = ""
            else:
                rows[-1] += piece
        return rows


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch):
    made: list[Watch] = []

    def make(jobs: Sequence[Job] = TWO, **options) -> Watch:
        made.append(watch := Watch.__new__(Watch))
        watch.now = 0.0
        watch.__init__(jobs, **options)
        return watch

    monkeypatch.setattr(progress.time, "monotonic", lambda: made[-1].now if made else 0.0)
    return make


def test_a_log_has_a_line_a_job_and_a_long_job_one_every_five_minutes(watch) -> None:
    log = watch([cnn_job()], terminal=False)
    log.begin()
    log.display.on_message({"phase": "timed", "done": 0, "total": 1000})
    for done in range(1, 1000):
        log.now += 1.0
        log.display.on_message({"done": done, "total": 1000})
    assert [line.split(": ", 1)[1].split(" steps")[0] for line in log.out.getvalue().splitlines()] == [
        "300/1,000",
        "600/1,000",
        "900/1,000",
    ]
    log.display.on_finish(record(cnn_job()))
    assert len(log.out.getvalue().splitlines()) == 4
    assert "10 ms per step" in log.out.getvalue().splitlines()[-1]
    assert "\x1b" not in log.out.getvalue()


def test_a_terminal_shows_steps_rate_time_left_flops_and_memory_below_the_plan(watch) -> None:
    """5 steps/s of 128 x 51,972,732 FLOPs are 33.3 GFLOP/s; the repeat will take what this one does: 20 s."""
    screen = watch(terminal=True)
    screen.begin()
    screen.display.on_message({"phase": "timed", "done": 0, "total": 100})
    screen.now = 10.0
    screen.display.on_message({"done": 50, "total": 100, "host_bytes": 650 * MIB})
    assert screen.lines() == [
        "[1/2] mnist-cnn b128 fp32 on cpu, round 1 | plan 0:10, ~0:30 left",
        "  50/100 steps, 5 steps/s, 0:10 left, 33.3 GFLOP/s, host 650 MiB",
    ]
    screen.display.on_finish(record(cnn_job()))
    assert len(screen.kept()) == 2, "the job's line and the empty one after it"


def test_what_the_worker_does_not_say_is_left_out(watch) -> None:
    """A workload nobody knows has no FLOP/s; a phase without steps no rate; a plan of one job no overview."""
    screen = watch([gemm_job(64, workload="elsewhere")], terminal=True)
    screen.begin()
    assert screen.lines() == ["[1/1] elsewhere 64 fp32 on cpu, round 1", "  start"]
    screen.display.on_message({"phase": "warm-up", "device_bytes": 3 * MIB, "host_bytes": 1})
    assert screen.lines()[1] == "  warm-up, device 3 MiB, host 1 B"
    screen.display.on_message({"phase": "timed", "total": 10})
    assert screen.lines()[1] == "  0/10 steps"
    screen.now = 1.0
    screen.display.on_message({"done": 2, "total": 10})
    assert screen.lines()[1] == "  2/10 steps, 2 steps/s, 0:04 left"


@pytest.mark.parametrize("width", [80, 60, 40, 20])
def test_no_line_reaches_the_edge_and_no_number_is_cut(watch, width: int) -> None:
    """Whatever goes, goes whole: memory first, then FLOP/s; steps and time left stay the longest. Six jobs of 3,700 s x
    429,000 / 123,456 are 77,143 s, of which 3,700 are gone: 20:24:03.
    """
    jobs = [cnn_job(threads=threads, round=n) for n in range(3) for threads in (1, 16)]
    screen = watch(jobs, terminal=True, width=width)
    screen.begin()
    screen.display.on_message({"phase": "timed", "total": 429_000})
    screen.now = 3_700.0
    screen.display.on_message({"done": 123_456, "total": 429_000, "host_bytes": 1234 * MIB, "device_bytes": 987 * MIB})
    plan, figures = screen.lines()
    assert max(len(plan), len(figures)) < width
    whole = {
        "123,456/429,000 steps", "33.4 steps/s", "2:32:37 left", "222.0 GFLOP/s", "device 987 MiB", "host 1.21 GiB"
    }  # fmt: skip
    shown = figures.strip().split(", ")
    assert set(shown) <= whole if width > 20 else "123,456/429,000".startswith(figures.strip())
    assert shown == [part for part in shown if part in whole][: len(shown)] or width == 20
    assert plan.startswith("[1/6] mnist-cnn")
    if width >= 60:
        assert plan.startswith("[1/6] mnist-cnn b128 fp32 on cpu, 1 thread, round 1")
        assert "2:32:37 left" in figures
    if width == 80:
        assert plan.endswith("| ~20:24:03 left")
        assert "222.0 GFLOP/s" in figures


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-z0-9,./]{1,12}( [a-z]{1,6})?", fullmatch=True), st.integers(0, 5)), max_size=6
    ),
    st.integers(0, 60),
)
def test_fitting_keeps_whole_words_in_their_order(given_parts: list[tuple[str, int]], room: int) -> None:
    parts = [LinePart(text, rank) for text, rank in given_parts]
    text = fit_and_cut(parts, room).plain
    assert len(text) <= room
    words = ", ".join(part.text for part in parts).replace(",", " ").split()
    rest = iter(words)
    assert all(word in rest for word in text.replace(",", " ").split())


def test_the_live_lines_are_erased_whole_even_where_they_have_wrapped(watch) -> None:
    """Four rows where two lines of 60 stand in a window that became 40 wide."""
    screen = watch(terminal=True, width=80)
    screen.begin()
    screen.display.on_message({"phase": "timed", "total": 100})
    screen.now = 10.0
    screen.display.on_message({"done": 50, "total": 100, "host_bytes": 650 * MIB})
    assert [len(line) for line in screen.lines()] == [65, 64]
    screen.display._console.width = 40
    before = len(screen.out.getvalue())
    screen.display.close()
    assert screen.out.getvalue()[before:].count("\x1b[2K") == 4


def test_thread_counts_are_named_where_the_plan_has_several(watch) -> None:
    """Of a resumed run too, where only one count may be left to do; a record's own label stays as it is."""
    one, two = cnn_job(threads=1), cnn_job(threads=2)
    names = name_plan([one, two, cnn_job(device="cuda:0")])
    assert [names(job) for job in (one, two, cnn_job(device="cuda:0"))] == [
        "mnist-cnn b128 fp32 on cpu, 1 thread, round 1",
        "mnist-cnn b128 fp32 on cpu, 2 threads, round 1",
        "mnist-cnn b128 fp32 on cuda:0, round 1",
    ]
    assert name_plan([two, gemm_job(threads=2)])(two) == process_label(two) == "mnist-cnn b128 fp32 on cpu, round 1"


@pytest.mark.parametrize("verbosity", [-1, 0, 1])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_failure_is_said_however_quiet_and_stays(watch, verbosity: int, terminal: bool) -> None:
    screen = watch(terminal=terminal, verbosity=verbosity)
    screen.begin()
    screen.display.on_finish(record(cnn_job(), status="oom", message="3 GiB too much"))
    screen.begin(1)
    screen.display.on_message({"phase": "build"})
    assert "[1/2] mnist-cnn b128 fp32 on cpu, round 1: OOM: 3 GiB too much" in screen.kept()
    if terminal and verbosity >= 0:
        assert "| 1 failed, plan 0:00" in screen.lines()[0]


def test_a_failure_is_red_on_a_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", width=80, soft_wrap=True)
    todo = [PendingJob(0, 1, cnn_job())]
    display = Display(console, 0, todo, [cnn_job()])
    display.on_start(todo[0], 0, 1)
    display.on_finish(record(cnn_job(), status="crashed", message="gone"))
    assert "\x1b[1;31mCRASHED: gone" in out.getvalue()


def test_a_long_line_wraps_between_words_on_a_terminal_and_not_in_a_log() -> None:
    """A path longer than the terminal stays whole: what is copied must be the path."""
    path = "/results/" + "x" * 40
    text = Text("gone: ").append(f"{path} is not there and so on", style="red")
    for terminal, lines in ((True, ["gone:", f"   {path}", "   is not there and", "   so on"]), (False, [text.plain])):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=20)
        assert progress.wrap_indented(console, text, 3).plain.split("\n") == lines
    console = Console(file=io.StringIO(), force_terminal=True, width=20)
    assert progress.wrap_indented(console, Text("twenty columns are 1 x"), 3).plain == "twenty columns are 1\n   x"
    assert (
        progress.wrap_indented(console, Text("twenty columns are 1 x"), 3, before=3).plain
        == "twenty columns\n   are 1 x"
    )


@pytest.mark.parametrize("width", range(60, 110, 7))
def test_a_job_that_went_well_is_one_line_where_its_step_time_fits(watch, width: int) -> None:
    """What does not fit is left out whole; the step time stays, wrapped where it must be."""
    screen = watch([cnn_job()], terminal=True, width=width)
    screen.begin()
    screen.display.on_finish(record(cnn_job()))
    (line, last) = screen.kept()
    assert line.startswith("[1/1] mnist-cnn b128 fp32 on cpu, round 1: 10 ms per step")
    assert len(line) <= width
    assert last == ""
    narrow = watch([cnn_job()], terminal=True, width=50)
    narrow.begin()
    narrow.display.on_finish(record(cnn_job()))
    assert narrow.kept() == ["[1/1] mnist-cnn b128 fp32 on cpu, round 1: 10 ms", "      per step", ""]


def test_quiet_says_nothing_of_what_went_well(watch) -> None:
    screen = watch(terminal=True, verbosity=-1)
    screen.begin()
    screen.display.on_message({"phase": "timed", "done": 5, "total": 10})
    screen.display.on_finish(record(cnn_job()))
    assert screen.out.getvalue() == ""


def test_a_terminal_that_cannot_move_its_cursor_is_a_log(watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = watch(terminal=True)
    screen.begin()
    screen.display.on_message({"phase": "build"})
    assert screen.out.getvalue() == ""


def test_the_rate_is_the_present_one_and_the_time_left_by_the_mean() -> None:
    """60 s at 10 steps/s, then 20 s at 1: the rate is 1, the mean 620 steps in 80 s, so 380 take 49 s more."""
    pace = StepRate(0.0, 1000)
    for second in range(1, 81):
        pace.update(float(second), 10 * second if second <= 60 else 600 + second - 60)
    assert pace.steps_per_second == pytest.approx(1.0)
    assert pace.seconds_left(80.0) == pytest.approx(80 / 620 * 380)


def test_a_pace_without_steps_says_nothing() -> None:
    pace = StepRate(5.0, 100)
    assert (pace.steps_per_second, pace.seconds_left(9.0)) == (None, None)
    pace.update(5.0, 0)
    assert pace.steps_per_second is None


def test_the_plans_time_left_says_how_far_it_is_known() -> None:
    """Nothing seen: none. Another workload unseen: at least. Its kin seen: guessed. All seen: neither."""
    cnn, other, gemm = cnn_job(), cnn_job(batch_size=64), gemm_job()
    outlook = PlanEta([cnn, gemm, other, cnn, other, gemm])
    assert outlook.plan_left(JobProgress(1.0)) is None
    assert outlook.job_left(JobProgress(1.0)) is None
    assert outlook.plan_left(JobProgress(10.0, timed_left=20.0)) == TimeLeft(20 + 3 * 30, ">")
    assert outlook.plan_left(JobProgress(35.0, since_timed=5.0)) == TimeLeft(3 * 35, ">"), (
        "what is over so far, at least"
    )
    outlook.on_finish(cnn, 40.0, tail=8.0)
    assert outlook.plan_left(JobProgress(0.0)) == TimeLeft(40 + 40 + 40, ">"), (
        "gemm is unknown, the other batch is like the first"
    )
    assert outlook.plan_left(JobProgress(1.0, timed_left=2.0)) == TimeLeft(2 + 3 + 120, "~"), (
        "this gemm tells of the last one"
    )
    outlook.on_finish(gemm, 5.0)
    assert outlook.plan_left(JobProgress(0.0)) == TimeLeft(40 + 40 + 40 + 5, "~")
    outlook.on_finish(other, 10.0)
    assert outlook.plan_left(JobProgress(10.0)) == TimeLeft(30 + 10 + 5)


def test_a_jobs_time_left_is_its_own_pace_and_what_its_kind_took_after() -> None:
    """Before the timed steps 40 s less what is gone; in them its own pace and 8 s; after them 8 s less what is gone."""
    outlook = PlanEta([cnn_job(round=n) for n in range(5)])
    for seconds, tail in ((40.0, 8.0), (39.0, 8.0), (900.0, 500.0)):
        outlook.on_finish(cnn_job(), seconds, tail)
    assert outlook.job_left(JobProgress(10.0)) == 30.0, "the median: the one of 900 s was unlucky"
    assert outlook.job_left(JobProgress(50.0)) == 0.0
    assert outlook.job_left(JobProgress(50.0, timed_left=60.0)) == 68.0, "slower than ever before, and it says so"
    assert outlook.job_left(JobProgress(120.0, since_timed=3.0)) == 5.0


def test_model_flops_of_the_live_line_are_the_workloads(watch) -> None:
    """Two steps a second of 2 x 1024^3 FLOPs; a job of a workload that is not installed here has none."""
    assert workloads.flops_per_step(gemm_job(1024)) == 2 * 1024**3
    for job, figure in ((gemm_job(1024), ", 4.29 GFLOP/s"), (gemm_job(8, workload="elsewhere"), "")):
        screen = watch([job], terminal=True)
        screen.begin()
        screen.display.on_message({"phase": "timed", "total": 10})
        screen.now = 1.0
        screen.display.on_message({"done": 2, "total": 10})
        assert screen.lines()[1] == f"  2/10 steps, 2 steps/s, 0:04 left{figure}"


def test_what_a_worker_says_does_not_steer_the_terminal(watch) -> None:
    log = watch([cnn_job()], terminal=False, verbosity=1)
    log.begin()
    failed = record(cnn_job(), status="oom", message="\x1b[2J3 GiB\n\ttoo much")
    tail = failed.outcome.model_copy(update={"stderr_tail": "\x1b[31ma\nb"})
    log.display.on_finish(failed.model_copy(update={"outcome": tail}))
    assert "OOM: \ufffd[2J3 GiB too much\n\ufffd[31ma\nb\n" in log.out.getvalue()
