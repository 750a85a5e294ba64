"""`cnnbench check` and `check calibrate` as a user sees them, with workers whose times are made up."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import machine, software
from interrupts import interrupt_in_a_turn
from processes import lives
from test_paired import FAKE, events

from cnnbench.cli.main import run_cli
from cnnbench.devices import telemetry
from cnnbench.devices.nvml import NvmlResult
from cnnbench.machine import inventory
from cnnbench.regression import arms, check_record
from cnnbench.regression.noise_profile import NoiseProfile
from cnnbench.schema import Telemetry

SUITE = """
description = "one job"
[[job]]
workload = "mnist-cnn"
data = "synthetic"
batch_size = 32
"""
Command = Callable[..., int]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "one.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture
def command(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs cnnbench with fake workers, on a machine that has one CPU, in a folder of its own."""
    here = inventory.Inventory(machine(), software(), NvmlResult((), None), ())
    monkeypatch.setattr(inventory, "take_inventory", lambda **_: here)
    monkeypatch.setattr(arms, "MODULE", (str(FAKE),))
    monkeypatch.setattr(telemetry, "sample", lambda uuid: Telemetry())  # the load of whatever runs the tests
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_cli([*map(str, arguments)])


SHORT = ("--rounds", 2, "--steps-per-turn", 2, "--keep-disturbed", "--seed", 1)
SETTINGS = ("--base-set", "threads=2", "--head-set", "threads=1")


@pytest.mark.parametrize(
    ("head", "code", "title"),
    [("1.0", 0, "PASS"), ("0.8", 0, "IMPROVED"), ("1.2", 1, "REGRESSED"), ("less-work", 3, "INCOMPARABLE")],
)
def test_every_ending_has_its_exit_code_and_its_record(
    head: str, code: int, title: str, command: Command, suite: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """And the record replays: the same words, the same bytes, the same exit code."""
    monkeypatch.setenv("FAKE_HEAD", head)
    path, again = tmp_path / "check.json", tmp_path / "again.json"
    assert command("check", suite, *SETTINGS, *SHORT, "-o", path) == code
    said = capfd.readouterr().out
    assert said.startswith(title)
    assert command("check", "replay", path, "-o", again) == code
    assert capfd.readouterr().out == said
    assert again.read_bytes() == path.read_bytes()
    assert "declared different" in said or title == "INCOMPARABLE"
    assert list((tmp_path / "cache" / "cnnbench" / "arms").iterdir()) == []


def test_a_replay_keeps_the_bytes_of_a_record_that_an_older_version_wrote(
    command: Command, suite: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A field that jobs have had only since is not there and does not come; an edited verdict is no replay."""
    path, again = tmp_path / "check.json", tmp_path / "again.json"
    assert command("check", suite, *SETTINGS, *SHORT, "-o", path) == 0
    old = path.read_text().replace('\n   "division": "reference",', "")
    assert '"division"' not in old
    path.write_text(old)
    assert command("check", "replay", path, "-o", again) == 0
    assert again.read_text() == old
    path.write_text(json.dumps(json.loads(old)))
    assert command("check", "replay", path, "-o", again) == 0
    assert check_record.load_record(again) == check_record.load_record(path)
    path.write_text(old.replace('"outcome": "pass"', '"outcome": "improved"'))
    assert command("check", "replay", path, "-o", again) == 2
    assert "lead to another ending than it holds" in capfd.readouterr().err


def test_a_worker_that_crashes_once_costs_a_block_and_one_that_always_does_ends_the_check(
    command: Command, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_HEAD", "crash-once")
    assert command("check", suite, *SETTINGS, *SHORT, "-o", tmp_path / "once.json") == 0
    blocks = check_record.load_record(tmp_path / "once.json").blocks
    assert [block.failure is not None for block in blocks] == [True] + [False] * 6
    monkeypatch.setenv("FAKE_HEAD", "crash")
    assert command("check", suite, *SETTINGS, *SHORT, "-o", tmp_path / "always.json") == 5
    assert "3 of 3 blocks failed; the last, head: crashed" in capfd.readouterr().out


@pytest.mark.parametrize(("mode", "code", "words"), [("old", 3, "older"), ("broken", 5, "does not start")])
def test_an_arm_that_cannot_take_part_ends_the_check_before_it_begins(
    mode: str, code: int, words: str, command: Command, suite: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE_BOTH", mode)
    assert command("check", suite, *SETTINGS, *SHORT) == code
    assert words in capfd.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_ctrl_c_keeps_every_block_and_resume_goes_on(
    sent: signal.Signals, command: Command, suite: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """SIGTERM, as a cancelled CI job gets it, does the same."""
    monkeypatch.setenv("FAKE_SLEEP", "0.05")
    path = tmp_path / "check.json"
    part = check_record.journal_path(path)

    interrupt_in_a_turn(part, log, 2, sent)
    assert command("check", suite, *SETTINGS, *SHORT, "-o", path) == 130
    assert "--resume" in capfd.readouterr().err
    assert not any(lives(event.pid) for event in events(log))
    assert not path.exists()
    before = part.read_bytes()
    assert command("check", suite, "--resume", "-o", path) == 0
    saved = [block.model_dump_json().encode() for block in check_record.load_record(path).blocks]
    assert before.splitlines()[1:] == saved[: before.count(b"\n") - 1]
    assert len(saved) == 6
    assert command("check", suite, "--resume", "-o", path) == 2
    assert "no unfinished check" in capfd.readouterr().err


def test_resume_is_refused_on_another_machine_with_other_software_and_for_another_suite(
    command: Command, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "check.json"
    assert command("check", suite, *SETTINGS, *SHORT, "-o", path) == 0
    record = check_record.load_record(path)
    with check_record.begin_journal(path, record.header) as journal:
        journal.append(record.blocks[0])
    suite.write_text(SUITE + "warmup_steps = 3\n")
    assert command("check", suite, "--resume", "-o", path) == 3
    assert "suite one changed" in capfd.readouterr().err
    suite.write_text(SUITE)
    with monkeypatch.context() as changed:
        changed.setenv("FAKE_TORCH", "2.14.0")
        assert command("check", suite, "--resume", "-o", path) == 3
        assert (
            "base: its software changed since the first block (torch: 2.13.0 then, 2.14.0 now)"
            in capfd.readouterr().err
        )
    there = inventory.Inventory(machine("other"), software(), NvmlResult((), None), ())
    monkeypatch.setattr(inventory, "take_inventory", lambda **_: there)
    assert command("check", suite, "--resume", "-o", path) == 3
    assert "this machine is other" in capfd.readouterr().err


def test_wrong_usage_is_one_clear_error_each(command: Command, suite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cases = [
        ((suite,), 2, "nothing to compare"),
        ((suite, "--head", "HEAD"), 2, "needs --base"),
        ((suite, "--base", "HEAD"), 2, "not in a git repository"),
        ((suite, "--base-set", "batch_size=1"), 2, "changes the work itself"),
        ((suite, "--base-set", "thread=1"), 2, "did you mean 'threads'"),
        ((suite, "--base-set", "threads"), 2, "write key=value"),
        ((suite, "--base-set", "threads=0"), 2, "must be a whole number"),
        ((suite, "--base-set", "threads=--5"), 2, "must be a whole number"),
        ((suite, "--base-python", "/no/such"), 2, "no program that can be run"),
        ((suite, *SETTINGS, "--tolerance", "0.05"), 2, "for 5 % write 5%"),
        ((suite, *SETTINGS, "--tolerance", "wide"), 2, "write a percentage"),
        ((suite, *SETTINGS, "--tolerance", "auto"), 2, "needs a noise profile"),
        ((suite, *SETTINGS, "--max-blocks", "5"), 2, "first look needs 6"),
        ((suite, *SETTINGS, "--min-blocks", "17"), 2, "the last look is after 16"),
        ((suite, *SETTINGS, "-k", "nothing-like-it"), 2, "-k matches none"),
        ((suite, *SETTINGS, "-d", "cuda:0"), 3, "cuda:0"),
        (("nosuch", *SETTINGS), 2, "no suite 'nosuch'"),
        ((), 2, "nothing to compare"),
        (("replay", suite), 2, "not the record of a check"),
        ((suite, "--resume"), 2, "no unfinished check"),
    ]
    for arguments, code, words in cases:
        assert command("check", *arguments) == code, arguments
        said = capfd.readouterr().err
        assert words in said, (arguments, said)
        assert "Traceback" not in said


def test_calibrate_stores_a_profile_that_check_uses_and_shows(
    command: Command, suite: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = ("--results", tmp_path / "results")
    assert command("check", "calibrate", suite, "--blocks", 6, *SHORT, *results) == 0
    path = tmp_path / "results" / machine().id / "noise" / "one.json"
    made = NoiseProfile.model_validate_json(path.read_bytes())
    assert (made.blocks, made.rounds, made.steps_per_turn) == (6, 2, 2)
    raw = check_record.load_record(path.with_name("one-blocks.json"))
    assert (len(raw.blocks), raw.ending.outcome) == (6, "calibrated")
    capfd.readouterr()
    check = ("check", suite, *SETTINGS, "--seed", 1, *results)
    assert command(*check, "-o", tmp_path / "check.json", "--tolerance", "auto") == 0
    record = check_record.load_record(tmp_path / "check.json")
    assert (record.header.rounds, record.header.profile) == (2, made.digest)
    assert record.header.plan.tolerance == made.recommended_tolerance
    assert record.header.limits is not None
    assert record.header.limits.control_band == made.control_band
    assert f"noise     {path}" in capfd.readouterr().err
    refused = (
        ({"expires_at": "2026-03-01T12:00:00+00:00"}, "expired on 2026-03-01"),
        ({"machine_id": "other-1f2e"}, f"the noise of another machine, other-1f2e; this is {machine().id}"),
        ({"suite_digest": "0" * 64}, "of the suite one before it was changed"),
    )
    for change, words in refused:
        path.write_text(made.model_copy(update=change).model_dump_json())
        assert command(*check) == 3
        assert command(*check, "--profile", path) == 3
        said = capfd.readouterr().err
        assert said.count(words) == said.count("--no-profile") == 2, said
    assert command(*check, "--no-profile", "-o", tmp_path / "without.json") == 0
    path.write_text(made.model_copy(update={"jobs": {"gemm/cpu": made.jobs["mnist-cnn/cpu"]}}).model_dump_json())
    assert command(*check, "-o", tmp_path / "unknown.json") == 0
    assert "knows nothing of mnist-cnn/cpu: not used" in capfd.readouterr().err


def test_selftest_demands_no_alarm_for_nothing_and_one_for_twice_the_tolerance(
    command: Command, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The fakes add what is injected; one that adds nothing, or always a fifth, fails the test with exit 1."""
    arguments = ("check", "calibrate", suite, "--inject", "0,10", *SHORT, "-o", tmp_path / "records", "--json")
    monkeypatch.setenv("FAKE_SHARE", "1")
    assert command(*arguments) == 0
    none, twice = json.loads(capfd.readouterr().out)
    assert (none["outcome"], none["holds"]) == ("pass", True)
    assert (twice["outcome"], twice["holds"], twice["injected_as_measured"]) == ("regressed", True, 0.1)
    assert (none["injected_as_run"], none["estimate"]) == (None, pytest.approx(0, abs=1e-9))
    assert (twice["injected_as_run"], twice["estimate"]) == (pytest.approx(0.1), pytest.approx(0.1))
    assert len(list((tmp_path / "records").glob("*.json"))) == 2
    monkeypatch.setenv("FAKE_SHARE", "0")
    assert command(*arguments) == 1
    assert [each["holds"] for each in json.loads(capfd.readouterr().out)] == [True, False]
