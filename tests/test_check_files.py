"""What `cnnbench check` writes besides its record: each surface, from a measurement and from a replay alike."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from junitparser import JUnitXml
from test_check_command import SETTINGS, SHORT, command, log, suite  # noqa: F401 (fixtures)

from cnnbench.errors import ExitCode

Command = Callable[..., int]
SURFACES = ("--markdown", "v.md", "--junit", "v.xml", "--plot", "v.svg", "--github")


@pytest.mark.parametrize(
    ("head", "code", "failures", "annotation"),
    [("1.0", 0, 0, ""), ("1.2", 1, 1, "::error"), ("less-work", 3, 0, "::error")],
)
def test_every_surface_says_how_it_ended(
    head: str, code: int, failures: int, annotation: str, command: Command, suite: Path, tmp_path: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """JUnit fails exactly where a job regressed; only workflow commands stand on standard output."""
    monkeypatch.setenv("FAKE_HEAD", head)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    assert command("check", suite, *SETTINGS, *SHORT, "-o", "check.json", *SURFACES) == code
    out = capfd.readouterr().out
    assert all(line.startswith("::") for line in out.splitlines())
    assert out.startswith(annotation)
    read = JUnitXml.fromfile("v.xml")
    assert (read.failures > 0) == (failures > 0)
    assert read.errors == (1 if head == "less-work" else 0)
    assert (tmp_path / "summary.md").read_text().startswith("before\n")
    assert "mnist-cnn" in (tmp_path / "summary.md").read_text()
    assert "mnist-cnn" in Path("v.md").read_text()
    ET.parse("v.svg")
    made = {name: Path(name).read_bytes() for name in ("v.md", "v.xml", "v.svg")}
    assert command("check", "replay", "check.json", *SURFACES) == code
    assert {name: Path(name).read_bytes() for name in made} == made


def test_a_plot_of_another_kind_is_refused_before_anything_is_measured(
    command: Command, suite: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    assert command("check", suite, *SETTINGS, *SHORT, "-o", "check.json", "--plot", "v.pdf") == ExitCode.USAGE
    assert "FILE.svg or FILE.png" in capfd.readouterr().err
    assert not (tmp_path / "check.json").exists()
