"""The ways to show a ledger. A new format is a line here, and a line of what must hold of it in test_injection.CHECKS."""

from __future__ import annotations

from pathlib import Path

import pytest
from format_readers import STEERING

from cnnbench.cli.main import run_cli

SHOWN = {
    "screen": ["show"],
    "table": ["show", "--all", "--format", "table"],
    "markdown": ["show", "--format", "markdown"],
    "latex": ["show", "--format", "latex"],
    "csv": ["show", "--format", "csv"],
    "json": ["show", "--format", "json"],
    "md page": ["report", "-o", "page.md"],
    "html page": ["report", "-o", "page.html"],
}
"""Arguments of cnnbench by format; what goes into a file is read from there."""


def attempted(form: str, path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """(exit code, page, messages) of showing what lies under the path. Messages never steer a terminal."""
    arguments = SHOWN[form]
    code = run_cli([*arguments, str(path)])
    said = capsys.readouterr()
    assert not STEERING.search(said.err)
    if code or "-o" not in arguments:
        return code, said.out, said.err
    return code, Path(arguments[-1]).read_text(encoding="utf-8"), said.err


def shown(form: str, path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The page; it must be one."""
    code, page, messages = attempted(form, path, capsys)
    assert code == 0, messages
    return page
