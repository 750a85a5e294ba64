"""What a command line says: its output where it is done, its one error where it makes no sense."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cnnbench.cli.main import run_cli
from cnnbench.errors import ExitCode


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run_cli(list(arguments)) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert err == ""
    return out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(printed(capsys, *arguments, "--format", "json"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run_cli(list(arguments)) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("error: ") == 1
    return err
