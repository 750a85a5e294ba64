"""`cnnbench check --base REF` in a toy repository, with workers whose times each commit makes up: verdicts, faults, remains."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from interrupts import interrupt_in_a_turn
from junitparser import Failure, JUnitXml
from processes import lives
from revision_builders import BROKEN, SAME, SUITE, git, repository, worktrees
from test_check_command import SHORT, command, log  # noqa: F401 (fixtures)
from test_paired import FAKE, ROOT, events

from cnnbench.regression import arms, check_record
from cnnbench.runner.arm_process import MODULE

Command = Callable[..., int]
SLOWER = "mnist-cnn 1.0\ngemm 1.08\n"
"""Above 5 % in one job of two, below it in their geometric mean: sqrt(1.08) is 1.039."""
STARTED = """
import sys
from builders import machine, software
from cnnbench.cli.main import run_cli
from cnnbench.devices import telemetry
from cnnbench.devices.nvml import NvmlResult
from cnnbench.regression import arms
from cnnbench.machine import inventory
from cnnbench.schema import Telemetry

here = inventory.Inventory(machine(), software(), NvmlResult((), None), ())
inventory.take_inventory = lambda **_: here
arms.MODULE = (sys.argv[1],)
telemetry.sample = lambda uuid: Telemetry()
sys.exit(run_cli(sys.argv[2:]))
"""
"""The fixture `command` as a process of its own, to be killed."""


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    path = tmp_path / "pair.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def toy(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:  # noqa: F811
    """Makes a repository of the commits given and goes into it."""

    def make(*commits: object) -> Path:
        folder = tmp_path / "toy"
        repository(folder, *({"fake-arm": each} if isinstance(each, str) else each for each in commits))  # type: ignore[misc]
        monkeypatch.chdir(folder)
        return folder

    return make


def left_behind(tmp_path: Path) -> list[Path]:
    arms = tmp_path / "cache" / "cnnbench" / "arms"
    return list(arms.iterdir()) if arms.exists() else []


def test_two_commits_that_differ_in_one_job_name_that_job_and_no_other(
    toy: Callable[..., Path], pair: Path, command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    """On every surface: the verdict's series, the words, the exit code, and JUnit read back by another reader."""
    folder = toy(SAME, SLOWER)
    path, junit = tmp_path / "check.json", tmp_path / "check.xml"
    assert command("check", pair, "--base", "HEAD~1", "--head", "HEAD", *SHORT, "-o", path, "--junit", junit) == 1
    findings = check_record.load_record(path).ending.verdict["findings"]  # type: ignore[index]
    regressed = [each["series"]["job"] for each in findings if each["decision"] == "regressed"]
    assert regressed == ["gemm/cpu"]
    confirmed = [line.partition(":")[0] for line in capfd.readouterr().out.splitlines() if "confirmed" in line]
    assert confirmed == ["REGRESSED", "gemm/cpu"]
    suites = list(JUnitXml.fromfile(str(junit)))
    failing = [suite.name for suite in suites for case in suite if any(isinstance(r, Failure) for r in case.result)]
    assert failing == ["gemm/cpu: median step"]
    assert sum(suite.tests for suite in suites) == len(findings)
    assert (worktrees(folder), left_behind(tmp_path)) == (0, [])


def test_the_same_work_in_two_commits_passes_and_the_working_tree_is_checked_as_it_is(
    toy: Callable[..., Path], pair: Path, command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    folder = toy(SAME, {"fake-arm": SAME, "README": "changed"})
    assert command("check", pair, "--base", "HEAD~1", *SHORT) == 0
    (folder / "fake-arm").write_text(SLOWER)
    status = git(folder, "status", "--porcelain")
    assert command("check", pair, "--base", "HEAD~1", *SHORT) == 1
    assert "head      working tree" in capfd.readouterr().err
    assert git(folder, "status", "--porcelain") == status
    assert (worktrees(folder), left_behind(tmp_path)) == (0, [])


def test_less_work_in_a_commit_is_no_improvement(
    toy: Callable[..., Path], pair: Path, command: Command, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    toy(SAME, "mnist-cnn less-work\ngemm 1.0\n")
    assert command("check", pair, "--base", "HEAD~1", *SHORT) == 3
    said = capfd.readouterr().out
    assert said.startswith("INCOMPARABLE: mnist-cnn/cpu: the arms did not do the same work: images: head 96, base 128")


@pytest.mark.parametrize("arm", ["base", "head"])
def test_an_unknown_revision_is_named_with_its_arm(
    arm: str, toy: Callable[..., Path], pair: Path, command: Command, tmp_path: Path, log: Path,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = toy(SAME)
    refs = {"base": "HEAD", "head": "HEAD", arm: "nosuch"}
    assert command("check", pair, "--base", refs["base"], "--head", refs["head"], *SHORT) == 2
    assert f"error: --{arm} 'nosuch' is not a revision of {folder}" in capfd.readouterr().err
    assert not log.exists()
    assert left_behind(tmp_path) == []


def test_a_base_that_does_not_start_ends_the_check_with_its_last_line(
    toy: Callable[..., Path], pair: Path, command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    folder = toy(BROKEN, SAME)
    assert command("check", pair, "--base", "HEAD~1", "--head", "HEAD", *SHORT, "-o", tmp_path / "check.json") == 5
    said = capfd.readouterr().err
    assert "error: base (HEAD~1 (" in said
    assert "does not start: the worker exited with 1: ImportError: deliberate: no such symbol" in said
    assert not (tmp_path / "check.json").exists()
    assert (worktrees(folder), left_behind(tmp_path)) == (0, [])


def test_a_base_from_before_the_paired_measurement_is_not_comparable(
    toy: Callable[..., Path], pair: Path, command: Command, tmp_path: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The real command finds no such module in base's package, and never this one's in its place."""
    monkeypatch.setattr(arms, "MODULE", MODULE)
    folder = toy({"cnnbench/__init__.py": "", "cnnbench/engine/__init__.py": ""}, SAME)
    assert command("check", pair, "--base", "HEAD~1", "--head", "HEAD", *SHORT) == 3
    said = capfd.readouterr().err
    assert "error: base (HEAD~1 (" in said
    assert "its cnnbench is older than the paired measurement" in said
    assert (worktrees(folder), left_behind(tmp_path)) == (0, [])


def test_an_interrupt_leaves_no_worktree(
    toy: Callable[..., Path], pair: Path, command: Command, tmp_path: Path, log: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = toy(SAME, SLOWER)
    monkeypatch.setenv("FAKE_SLEEP", "0.05")
    path = tmp_path / "check.json"
    part = check_record.journal_path(path)

    interrupt_in_a_turn(part, log, 1)
    assert command("check", pair, "--base", "HEAD~1", "--head", "HEAD", *SHORT, "-o", path) == 130
    assert f"resume with `cnnbench check {pair} --resume -o {path}`" in capfd.readouterr().err
    assert not any(lives(event.pid) for event in events(log))
    assert (worktrees(folder), left_behind(tmp_path)) == (0, [])
    monkeypatch.setenv("FAKE_SLEEP", "0")
    assert command("check", pair, "--resume", "-o", path) == 1


def test_a_worker_that_crashes_in_one_commit_ends_the_check_and_leaves_nothing(
    toy: Callable[..., Path], pair: Path, command: Command, tmp_path: Path, log: Path,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = toy(SAME, "mnist-cnn 1.0\ngemm segfault\n")
    assert command("check", pair, "--base", "HEAD~1", "--head", "HEAD", *SHORT) == 5
    assert "the last, head: crashed: the worker was ended by SIGSEGV" in capfd.readouterr().out
    assert not any(lives(event.pid) for event in events(log))
    assert (worktrees(folder), left_behind(tmp_path)) == (0, [])


def test_after_kill_9_the_next_start_cleans_up_and_resume_goes_on(
    toy: Callable[..., Path], pair: Path, command: Command, tmp_path: Path, log: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The blocks measured before are the first of the verdict's, byte for byte."""
    folder = toy(SAME, {"fake-arm": SAME, "README": "changed"})
    path = tmp_path / "check.json"
    part = check_record.journal_path(path)
    monkeypatch.setenv("FAKE_SLEEP", "0.02")
    search = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    words = ["check", pair, "--base", "HEAD~1", "--head", "HEAD", *SHORT, "-o", path]
    killed = subprocess.Popen(
        [sys.executable, "-c", STARTED, str(FAKE), *map(str, words)],
        cwd=folder, env={**os.environ, "PYTHONPATH": search}, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (part.exists() and part.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.stderr.read().decode()  # type: ignore[union-attr]
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    deadline = time.monotonic() + 10
    while any(lives(event.pid) for event in events(log)):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.02)
    assert (worktrees(folder), len(left_behind(tmp_path))) == (2, 1)
    kept = [line for line in part.read_bytes().splitlines(keepends=True)[1:] if line.endswith(b"\n")]
    monkeypatch.setenv("FAKE_SLEEP", "0")
    assert command("check", pair, "--resume", "-o", path) == 0
    assert f"resumed   after {len(kept)} blocks" in capfd.readouterr().err
    saved = [each.model_dump_json().encode() + b"\n" for each in check_record.load_record(path).blocks]
    assert (saved[: len(kept)], len(saved)) == (kept, 6)
    assert (worktrees(folder), left_behind(tmp_path)) == (0, [])


def test_what_a_killed_check_left_is_removed_by_a_calibration_too(
    toy: Callable[..., Path], pair: Path, command: Command, tmp_path: Path, log: Path,  # noqa: F811
) -> None:  # fmt: skip
    """Any command that starts arms sweeps: here the folder of a process that is gone, with a worktree in it."""
    folder = toy(SAME)
    gone = tmp_path / "cache" / "cnnbench" / "arms" / "0badcafe"
    gone.mkdir(parents=True)
    (gone / "lock").write_text(f'{{"repository": "{folder}"}}')
    git(folder, "worktree", "add", "-q", "--detach", str(gone / "tree-base"), "HEAD")
    assert worktrees(folder) == 1
    assert command("check", "calibrate", pair, "--blocks", 6, *SHORT, "-o", tmp_path / "noise.json") == 0
    assert (worktrees(folder), left_behind(tmp_path)) == (0, [])
