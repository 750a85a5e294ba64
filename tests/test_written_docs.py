"""docs/commands.md is what the command line declares: every command, every option, every exit code."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from cnnbench.cli.main import COMMANDS, cli
from cnnbench.errors import ExitCode

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "commands.md"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "tools" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_current(writer: ModuleType) -> None:
    there = PAGE.read_text(encoding="utf-8").splitlines()
    assert there == writer.render_page().splitlines(), (
        "docs/commands.md is out of date; run: python tools/write_docs.py"
    )


def test_it_has_every_command_and_every_exit_code(writer: ModuleType) -> None:
    page = writer.render_page()
    for name in COMMANDS:
        assert re.search(rf"^##+ cnnbench {name}$", page, re.MULTILINE)
    codes = re.findall(r"^\| (\d+) \| (.+) \|$", page.partition("## Exit codes")[2], re.MULTILINE)
    assert codes == [(str(code.value), code.meaning) for code in sorted(ExitCode)]


def test_an_option_that_a_command_gains_is_on_the_page(writer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its help; a hidden command is not, and what Markdown would take for its own is escaped."""

    @click.command
    @click.option("--kind", type=click.Choice(["a", "b"]), default="a", show_default=True, help="Which *one* of <two>.")
    @click.argument("path")
    def gained(path: str, kind: str) -> None:
        """Gain an option."""

    @click.command(hidden=True)
    def unseen() -> None:
        """Answer a word of another tool."""

    group = click.Group("cnnbench", commands={"gained": gained, "unseen": unseen})
    monkeypatch.setattr(writer, "cli", group)
    page = writer.render_page()
    assert "\n## cnnbench gained\n\n    cnnbench gained [OPTIONS] PATH\n\nGain an option.\n" in page
    assert "\n| `--kind [a\\|b]` | Which \\*one\\* of \\<two>. [default: a] |\n" in page
    assert "unseen" not in page


def test_the_command_that_writes_it_says_when_it_is_out_of_date(
    writer: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(writer, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["write_docs.py", "--check"])
    assert writer.main() == 1
    assert capsys.readouterr().out == "docs/commands.md is out of date; run: python tools/write_docs.py\n"
    monkeypatch.setattr(sys, "argv", ["write_docs.py"])
    assert writer.main() == 0
    assert (tmp_path / "docs" / "commands.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["write_docs.py", "--check"])
    assert writer.main() == 0


def test_every_command_has_a_line_of_help() -> None:
    context = click.Context(cli)
    commands = (cli.get_command(context, name) for name in cli.list_commands(context))
    assert all(command is not None and command.get_short_help_str() for command in commands)
