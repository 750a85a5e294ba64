"""`cnnbench run` from command line to last word, with faked workers on a faked machine: what is said, saved and done next."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path

import builders as b
import pytest

from cnnbench import store
from cnnbench.cli.main import run_cli
from cnnbench.devices.nvml import NvmlResult
from cnnbench.errors import ExitCode, LedgerError
from cnnbench.machine import doctor, inventory
from cnnbench.runner import run as room
from cnnbench.runner.launch import WorkerExit
from cnnbench.schema import Job, Outcome

SUITE = """
description = "three jobs"
repeats = 3
[[job]]
workload = "gemm"
size = 256
"""
STATUSES: list[str] = []


def launch(job: Job, options: object, on_progress: object) -> WorkerExit:
    status = STATUSES.pop(0)
    if status == "ctrl-c":
        raise KeyboardInterrupt
    if status == "ok":
        return WorkerExit(Outcome(status="ok", trial=b.trial(job)), 100.0, 0.0, {})
    return WorkerExit(Outcome(status=status, message="a worker of a test"), 1.0, 0.0, {})  # type: ignore[arg-type]


def host_is(monkeypatch: pytest.MonkeyPatch, *busy_shares: float) -> None:
    """Let each look find that share of the CPU in use by others; the last one from then on."""
    found = list(busy_shares)

    def probe(*_: object, **__: object) -> doctor.HostState:
        return doctor.HostState(load_1min=2.0, busy_share=found.pop(0) if len(found) > 1 else found[0])

    monkeypatch.setattr(doctor, "probe_host", probe)


@pytest.fixture(autouse=True)
def _faked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = inventory.Inventory(b.machine(), b.software(), NvmlResult(), ())
    monkeypatch.setattr(inventory, "take_inventory", lambda **_: found)
    host_is(monkeypatch, 0.0)
    monkeypatch.setattr(doctor, "GLANCE_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(room, "execute", functools.partial(room.execute, launcher=launch))
    (tmp_path / "s.toml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Run with workers that end so; returns exit code, standard output and the lines of standard error."""

    def run_(*statuses: str, more: tuple[str, ...] = (), before: tuple[str, ...] = ()):
        STATUSES[:] = statuses
        code = run_cli([*before, "run", "s.toml", "--results", "results", *more])
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run_


def ledger() -> store.Ledger:
    (path,) = Path("results").rglob("*.jsonl")
    return store.load(path)


def test_a_run_that_went_well_says_what_is_saved_and_what_to_do_next(run) -> None:
    code, out, err = run("ok", "ok", "ok", more=("--export-csv", "t.csv", "--export-markdown", "t.md"))
    path = ledger().path
    assert code == 0
    assert "Ceiling" in out
    blank, done, *rest = err[-6:]
    assert blank == ""
    assert done.startswith("done      3 of 3 jobs ok, in 0:0")
    assert rest == [
        f"ledger    3 records in {path}",
        "exported  t.csv, t.md",
        f"next      cnnbench show {path} --all",
        f"          cnnbench report {path} -o report.html",
    ]
    assert Path("t.md").read_text().startswith("## ")


def test_a_busy_machine_is_reported_and_measured_all_the_same_and_its_rows_are_marked(run, monkeypatch) -> None:
    """What is wrong and what to do, in the doctor's words; the exit code is that of the jobs."""
    host_is(monkeypatch, 1.0)
    code, out, err = run("ok", "ok", "ok")
    assert code == 0
    assert any(line.startswith("unfit     other programs use 100 % of the CPU now. Stop") for line in err)
    assert any(line.startswith("unfit     3 of 3 processes started on an unfit machine") for line in err)
    assert [record.unfit for record in ledger().records] == [("other programs use 100 % of the CPU now",)] * 3
    assert "No figure is quoted: 3 of 3 processes" in " ".join(out.split())


def test_strict_refuses_an_unfit_machine_and_measures_nothing(run, monkeypatch) -> None:
    host_is(monkeypatch, 1.0)
    code, out, err = run(more=("--strict",))
    assert (code, out) == (ExitCode.UNFIT, "")
    assert "--strict refuses" in err[-1] + err[-2]
    assert not Path("results").exists()


def test_strict_goes_on_where_only_the_load_average_remembers_the_last_run(run) -> None:
    """The average of the fixture is 2, and nothing runs now."""
    code, out, err = run("ok", "ok", "ok", more=("--strict",))
    assert code == 0
    assert "!" not in out
    assert not any(line.startswith(("unfit", "warning")) for line in err)
    assert [record.unfit for record in ledger().records] == [()] * 3


def test_a_dry_run_only_reports_the_machine(run, monkeypatch) -> None:
    host_is(monkeypatch, 1.0)
    code, out, err = run(more=("--strict", "--dry-run"))
    assert code == 0
    assert out.count("gemm 256") == 3
    assert any(line.startswith("unfit     other programs") for line in err)


def test_only_the_processes_that_start_while_it_is_busy_are_marked(run, monkeypatch) -> None:
    host_is(monkeypatch, 0.0, 0.0, *[0.9] * doctor.GLANCES, 0.0)
    run("ok", "ok", "ok")
    assert [bool(record.unfit) for record in ledger().records] == [False, True, False]


def test_a_program_that_ends_before_the_process_starts_marks_nothing(run, monkeypatch) -> None:
    """It is waited for, as long as it is looked for."""
    host_is(monkeypatch, 0.0, 0.9, 0.0, *[0.9] * (doctor.GLANCES - 1), 0.0)
    run("ok", "ok", "ok")
    assert [record.unfit for record in ledger().records] == [()] * 3


def test_failures_are_said_again_at_the_end_with_what_resume_does_not_do(run) -> None:
    code, _, err = run("ok", "crashed", "oom")
    assert code == ExitCode.JOB_FAILED
    tail = err[err.index("") + 1 :]
    assert tail[0].startswith("done      1 of 3 jobs ok, 2 failed, in ")
    assert tail[1:3] == [
        "failed    gemm 256 fp32 on cpu, round 2: CRASHED: a worker of a test",
        "          gemm 256 fp32 on cpu, round 3: OOM: a worker of a test",
    ]
    assert "--resume does not repeat them" in tail[3]
    assert not any(line.endswith("--resume") for line in tail)


def test_settings_of_the_command_line_are_in_the_record_and_in_the_command_that_resumes(run) -> None:
    """Without them nothing is resumed: the suite is another one."""
    changed = ("-s", "block_steps=3", "-L", "size", "128, 256", "--warmup", "2")
    code, _, err = run("ok", "ctrl-c", more=changed)
    going_on = next(line for line in err if line.startswith("next"))
    words = "run s.toml --results results --set block_steps=3 --sweep size '128, 256' --warmup 2 --resume"
    assert going_on == f"next      cnnbench {words}"
    header = ledger().header
    assert header.options["set"] == "block_steps=3 size=128,256 warmup_steps=2"
    assert {(job.size, job.block_steps, job.warmup_steps) for job in header.plan} == {(128, 3, 2), (256, 3, 2)}
    assert code == ExitCode.INTERRUPTED
    assert run("ok", more=("--resume",))[0] == ExitCode.USAGE
    STATUSES[:] = ["ok"] * (len(header.plan) - 1)
    assert run_cli(shlex.split(words)) == 0
    assert len(ledger().records) == len(header.plan) + 1


def test_an_interrupted_run_names_what_is_saved_and_the_command_that_goes_on(run) -> None:
    """Word for word: the command said is run, and does the rest."""
    code, out, err = run("ok", "ctrl-c", more=("--timeout", "60", "--no-progress"))
    assert (code, out) == (ExitCode.INTERRUPTED, "")
    stopped, saved, going_on, show, _, last = err[-6:]
    assert stopped.startswith("stopped   1 of 3 jobs ok, 2 missing, in ")
    assert saved == f"ledger    2 records in {ledger().path}"
    assert going_on == "next      cnnbench run s.toml --results results --timeout 60.0 --no-progress --resume"
    assert show.strip() == f"cnnbench show {ledger().path}"
    assert last == "interrupted"
    STATUSES[:] = ["ok", "ok"]
    assert run_cli(shlex.split(going_on.removeprefix("next"))[1:]) == 0
    assert [record.outcome.status for record in ledger().records] == ["ok", "interrupted", "ok", "ok"]


def test_a_run_gone_on_with_counts_the_whole_plan(run) -> None:
    run("crashed", "ok", "ctrl-c")
    code, _, err = run("ok", more=("--resume",))
    assert code == 0, "what failed before is not this command's"
    (done,) = (line for line in err if line.startswith("done"))
    assert done.startswith("done      2 of 3 jobs ok, 1 failed, 0:0")
    assert done.endswith(" this time")


def test_fail_fast_names_what_is_missing_and_how_to_go_on(run) -> None:
    code, _, err = run("crashed", more=("--fail-fast",))
    assert code == ExitCode.JOB_FAILED
    assert any(line.startswith("done      0 of 3 jobs ok, 1 failed, 2 missing") for line in err)
    assert "next      cnnbench run s.toml --results results --resume" in err


def test_quiet_says_only_what_went_wrong(run) -> None:
    assert run("ok", "ok", "ok", more=("-q",)) == (0, "", [])
    _, _, err = run("ok", "oom", "ok", before=("-q",))
    assert err == ["[2/3] gemm 256 fp32 on cpu, round 2: OOM: a worker of a test"]
    _, _, err = run("ok", "ctrl-c", before=("--no-settings",), more=("-q",))
    again = "cnnbench --no-settings run s.toml --results results --resume"
    assert err[-2:] == [f"2 of the plan's jobs are left; resume with {again}", "interrupted"]


def test_a_full_disk_says_what_is_saved_and_where_the_last_record_is(run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.Writer.append

    def append(self: store.Writer, record: object) -> object:
        if STATUSES:
            return real(self, record)  # type: ignore[arg-type]
        raise LedgerError("disk full")

    monkeypatch.setattr(store.Writer, "append", append)
    code, _, err = run("ok", "ok")
    assert code == ExitCode.USAGE
    assert any(line.startswith("ledger    1 record in ") for line in err)
    assert err[-2].startswith("error: disk full")
    rescued = Path(err[-1].split("saved as ")[1])
    rescued.unlink()


def test_a_dry_run_names_thread_counts_where_the_plan_has_several(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.toml").write_text(SUITE + "threads = [1, 2]\n")
    assert run_cli(["run", "s.toml", "--dry-run", "-r", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split("  ")[-1].split(": ")[0] for line in sorted(out.splitlines(), key=lambda line: line[5:])] == [
        "gemm 256 fp32 on cpu, 1 thread, round 1",
        "gemm 256 fp32 on cpu, 2 threads, round 1",
    ]


def test_a_missed_target_is_no_crash_and_no_success(run) -> None:
    """It ends as other jobs do that are not ok, and is counted under its own name."""
    code, _, err = run("ok", "missed", "crashed")
    assert code == ExitCode.JOB_FAILED
    tail = err[err.index("") + 1 :]
    assert tail[0].startswith("done      1 of 3 jobs ok, 1 failed, 1 missed the target, in ")
    assert tail[1] == "failed    gemm 256 fp32 on cpu, round 2: MISSED: a worker of a test"
    code, _, err = run("ok", "missed", "ok", more=("--results", "others"))
    assert code == ExitCode.JOB_FAILED
    assert any(line.startswith("missed    gemm 256 fp32 on cpu, round 2: MISSED") for line in err)
