"""The options -v and -q, which every command takes before and after its name: how often they were given in all."""

from __future__ import annotations

import re

import click

SAY_MORE = "Say more; -v shows internal errors' tracebacks, -vv all."
SAY_LESS = "Say only what went wrong."


def verbosity(context: click.Context) -> int:
    """Return how often -v was given, minus how often -q."""
    parameters = context.find_root().params
    return int(parameters.get("verbose") or 0) - int(parameters.get("quiet") or 0)


def is_flag(word: str) -> bool:
    """Whether a word of the command line is -v or -q, once or several times."""
    return re.fullmatch("-v+|-q+|--verbose|--quiet", word) is not None


def make_options() -> list[click.Option]:
    """Make -v and -q for a command, which add to those of the root."""
    return [
        click.Option(
            flags, count=True, expose_value=False, allow_from_autoenv=False, callback=_add_to_root, help=help_text
        )
        for flags, help_text in ((["-v", "--verbose"], SAY_MORE), (["-q", "--quiet"], SAY_LESS))
    ]


def _add_to_root(context: click.Context, parameter: click.Parameter, value: int) -> None:
    name, root = str(parameter.name), context.find_root()
    root.params[name] = int(root.params.get(name) or 0) + value
