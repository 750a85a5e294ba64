"""`cnnbench check calibrate`: its picture, what is made of a recording without measuring, and what --resume refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import machine, software
from interrupts import interrupt_in_a_turn
from pair_builders import block, header
from test_check_command import SETTINGS, SHORT, SUITE, command, log, suite  # noqa: F401 (fixtures)

from cnnbench.cli.calibrate import make_curve
from cnnbench.cli.main import run_cli
from cnnbench.devices.nvml import NvmlResult
from cnnbench.machine import inventory
from cnnbench.regression import check_record
from cnnbench.regression.design import make_check_plan
from cnnbench.regression.noise_profile import NoiseProfile, conclude_calibration
from cnnbench.report import chart_images

ROOT = Path(__file__).parents[1]
Command = Callable[..., int]
BLOCKS = ("--blocks", 6)


@pytest.fixture
def measured(command: Command, suite: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:  # noqa: F811
    """The profile of six blocks, with its picture; its blocks are beside it."""
    path = tmp_path / "noise.json"
    assert command("check", "calibrate", suite, *BLOCKS, *SHORT, "-o", path, "--plot", tmp_path / "noise.svg") == 0
    capfd.readouterr()
    return path


def test_the_picture_shows_the_profiles_jobs_at_its_tolerance(measured: Path) -> None:
    made = NoiseProfile.model_validate_json(measured.read_bytes())
    chart = make_curve(made, make_check_plan(made.tolerance))
    assert [datum["name"] for datum in chart.data if datum["role"] == "job"] == list(made.jobs)
    assert chart_images.stored_digest(measured.with_name("noise.svg").read_text()) == chart_images.data_digest(chart)


def test_a_recording_gives_the_same_profile_and_picture_bytes_whenever_it_is_read(
    measured: Path, command: Command, log: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    """Nothing is measured: no worker starts, on whatever machine."""
    log.unlink()
    blocks = measured.with_name("noise-blocks.json")
    again = ("check", "calibrate", "--from", blocks, "-o", tmp_path / "again.json", "--plot", tmp_path / "again.svg")
    assert command(*again) == 0
    said = capfd.readouterr().out
    assert "mnist-cnn/cpu: sigma_d" in said
    for name in ("json", "svg"):
        assert (tmp_path / f"again.{name}").read_bytes() == (tmp_path / f"noise.{name}").read_bytes()
    assert not log.exists()
    before = sorted(tmp_path.rglob("*"))
    assert command("check", "calibrate", "--from", blocks) == 0
    assert capfd.readouterr().out == said
    assert sorted(tmp_path.rglob("*")) == before, "without -o and --plot nothing is written"


def test_the_block_that_the_page_shows_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "regression-check.md").read_text(encoding="utf-8")
    ((recording, shown),) = re.findall(
        r"`cnnbench check calibrate --from (\S+)`,\nprints\n\n```\n(.*?)```", page, re.DOTALL
    )
    assert run_cli(["check", "calibrate", "--from", str(ROOT / recording)]) == 0
    assert capsys.readouterr().out == shown


def test_another_tolerance_sees_other_slowdowns_in_the_same_noise(
    measured: Path, command: Command, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    blocks = measured.with_name("noise-blocks.json")
    assert (
        command(
            "check", "calibrate", "--from", blocks, "--tolerance", "10%", "--expires", 7, "-o", tmp_path / "ten.json"
        )
        == 0
    )
    five, ten = (
        NoiseProfile.model_validate_json((tmp_path / name).read_bytes()) for name in ("noise.json", "ten.json")
    )
    assert (five.tolerance, ten.tolerance) == (0.05, 0.1)
    assert five.jobs == ten.jobs
    assert five.created_at == ten.created_at
    assert five.expires_at > ten.expires_at


def test_a_picture_of_another_kind_is_refused_before_anything_is_measured(
    command: Command, suite: Path, log: Path, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    assert command("check", "calibrate", suite, *BLOCKS, *SHORT, "--plot", "noise.pdf") == 2
    assert "FILE.svg or FILE.png" in capfd.readouterr().err
    assert not log.exists()


def test_what_cannot_be_read_is_one_clear_error_each(
    measured: Path, command: Command, suite: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    check, short, undated = (tmp_path / f"{name}.json" for name in ("check", "short", "undated"))
    assert command("check", suite, *SETTINGS, *SHORT, "-o", check) == 0
    calibration = header(purpose="calibrate")
    check_record.save_record(short, conclude_calibration(calibration, [block(number) for number in range(5)]))
    odd = [block(number).model_copy(update={"started_at": "today"}) for number in range(6)]
    check_record.save_record(undated, conclude_calibration(calibration, odd))
    blocks = measured.with_name("noise-blocks.json")
    cases = [
        (("--from", check), "the record of a check, not of `cnnbench check calibrate`"),
        (("--from", short), "5 of 5 blocks count, a noise profile needs 6"),
        (("--from", undated), "'today' is not a date"),
        (("--from", tmp_path / "nosuch.json"), "cannot be read"),
        (("--from", suite), "not the record of a check"),
        (("--from", blocks, suite), "leave out SUITE"),
        (("--from", blocks, "--blocks", 6), "leave out --blocks"),
        (("--from", blocks, "--resume"), "leave out --resume"),
        (("--from", blocks, "-k", "gemm"), "leave out -k"),
        (("--from", blocks, "--tolerance", "wide"), "write a percentage"),
        (("--from", blocks, "--tolerance", "auto"), "write a percentage"),
        (("--inject", "5", "--blocks", 6), "--blocks makes no sense with --inject"),
        (("--inject", "--from", blocks), "--from makes no sense with --inject"),
        (("--inject", "wide"), "write a percentage"),
        (("--inject", "-o", blocks), "the records need a folder"),
        ((suite, "-o", tmp_path), "a folder; the profile is one file"),
        ((suite, "--max-blocks", 8), "--max-blocks needs --inject"),
        ((suite, "--no-profile"), "--no-profile needs --inject"),
        ((suite, "--tolerance", "auto"), "auto needs --inject"),
    ]
    capfd.readouterr()
    for arguments, words in cases:
        assert command("check", "calibrate", *arguments) == 2, arguments
        said = capfd.readouterr().err
        assert words in said, (arguments, said)
        assert "Traceback" not in said


def test_an_interrupted_calibration_goes_on_with_the_blocks_it_has_and_only_with_the_same(
    command: Command, suite: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE_SLEEP", "0.05")
    path = tmp_path / "noise.json"
    part = check_record.journal_path(tmp_path / "noise-blocks.json")

    interrupt_in_a_turn(part, log, 2)
    start = ("check", "calibrate", suite, *BLOCKS, "-o", path)
    assert command(*start, *SHORT) == 130
    assert "--resume" in capfd.readouterr().err
    kept = part.read_bytes().splitlines()[1:]
    monkeypatch.delenv("FAKE_SLEEP")

    def refused(*more: object) -> tuple[int, str]:
        code = command(*start, "--resume", *more)
        return code, capfd.readouterr().err

    code, said = refused("--threads", 1)
    assert (code, "with other jobs or settings" in said) == (2, True)
    suite.write_text(SUITE + "warmup_steps = 3\n")
    code, said = refused()
    assert (code, "suite one changed" in said) == (3, True)
    suite.write_text(SUITE)
    with monkeypatch.context() as changed:
        changed.setenv("FAKE_TORCH", "2.14.0")
        code, said = refused()
        assert (code, "torch: 2.13.0 then, 2.14.0 now" in said) == (3, True)
    with monkeypatch.context() as changed:
        there = inventory.Inventory(machine("other"), software(), NvmlResult((), None), ())
        changed.setattr(inventory, "take_inventory", lambda **_: there)
        code, said = refused()
        assert (code, "this machine is other" in said) == (3, True)
    assert command(*start, "--resume") == 0
    saved = [
        each.model_dump_json().encode() for each in check_record.load_record(tmp_path / "noise-blocks.json").blocks
    ]
    assert saved[: len(kept)] == kept
    assert len(saved) == 6
