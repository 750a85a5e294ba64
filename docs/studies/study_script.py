"""What the studies' scripts share: errors as one line with an exit code, and files written with a clear error."""

from __future__ import annotations

from pathlib import Path

import click

from cnnbench.errors import CnnbenchError, UsageError


def run_script(command: click.Command) -> int:
    """Run the command line of a script; return its exit code. An error is one line on standard error."""
    try:
        return int(command.main(standalone_mode=False) or 0)
    except CnnbenchError as error:
        click.echo(f"error: {error}", err=True)
        return int(error.exit_code)
    except click.ClickException as error:
        error.show()
        return error.exit_code


def save_text(path: Path, text: str) -> None:
    """Write the file. Raises UsageError where that cannot be done."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot write: {error.strerror}; choose another place with -o") from error
