"""What the studies' scripts share: errors as one line with an exit code, and files written with a clear error."""

from __future__ import annotations

import click

from cnnbench.errors import CnnbenchError


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
