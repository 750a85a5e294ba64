"""What is shown while jobs run: never more than a worker said, nothing on standard output, every failure even when quiet."""

from __future__ import annotations

import io

import pytest
from builders import cnn_job, record
from rich.console import Console

from cnnbench.cli import progress
from cnnbench.cli.progress import Display
from cnnbench.runner.run import Todo


def display(*, terminal: bool, verbosity: int = 0) -> tuple[Display, io.StringIO]:
    out = io.StringIO()
    return Display(Console(file=out, force_terminal=terminal, width=100, soft_wrap=True), verbosity), out


def test_a_log_has_a_line_a_job_and_a_long_job_one_every_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown, out = display(terminal=False)
    shown.plan([cnn_job().row_key])
    shown.begins(Todo(0, 1, cnn_job()), 0, 1)
    shown.hears({"phase": "timed", "done": 0, "total": 1000})
    for done in range(1, 1000):
        now[0] += 1.0
        shown.hears({"done": done, "total": 1000})
    assert [line.split(": ")[1].split(" steps")[0] for line in out.getvalue().splitlines()] == [
        "300/1,000",
        "600/1,000",
        "900/1,000",
    ]
    shown.ends(record(cnn_job()))
    assert len(out.getvalue().splitlines()) == 4
    assert "10 ms a step" in out.getvalue().splitlines()[-1]


def test_a_terminal_shows_rate_and_time_left_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown, out = display(terminal=True)
    shown.plan([cnn_job().row_key] * 2)
    shown.begins(Todo(0, 1, cnn_job()), 0, 2)
    shown.hears({"phase": "timed", "done": 0, "total": 100})
    now[0] = 10.0
    shown.hears({"done": 50, "total": 100})
    assert "50/100 steps, 5.0 steps/s, job 0:10 left" in out.getvalue()
    assert "\n" not in out.getvalue()


@pytest.mark.parametrize("verbosity", [-1, 0, 1])
def test_a_failure_is_said_however_quiet(verbosity: int) -> None:
    shown, out = display(terminal=False, verbosity=verbosity)
    shown.begins(Todo(0, 1, cnn_job()), 0, 1)
    shown.ends(record(cnn_job(), status="oom", message="3 GiB too much"))
    assert "OOM: 3 GiB too much" in out.getvalue()


def test_quiet_says_nothing_of_what_went_well() -> None:
    shown, out = display(terminal=True, verbosity=-1)
    shown.begins(Todo(0, 1, cnn_job()), 0, 1)
    shown.hears({"phase": "timed", "done": 5, "total": 10})
    shown.ends(record(cnn_job()))
    assert out.getvalue() == ""


def test_what_a_worker_says_does_not_steer_the_terminal() -> None:
    shown, out = display(terminal=False, verbosity=1)
    shown.begins(Todo(0, 1, cnn_job()), 0, 1)
    failed = record(cnn_job(), status="oom", message="\x1b[2J3 GiB\n\ttoo much")
    shown.ends(failed.model_copy(update={"outcome": failed.outcome.model_copy(update={"stderr_tail": "\x1b[31ma\nb"})}))
    assert "OOM: \ufffd[2J3 GiB too much\n\ufffd[31ma\nb\n" in out.getvalue()
