"""`python -m cnnbench` and the `cnnbench` command."""

from __future__ import annotations

import sys

from cnnbench.cli.main import run_cli


def main() -> None:
    """Run the command line on this process's arguments and exit with its code."""
    sys.exit(run_cli())


if __name__ == "__main__":
    main()
