"""The options -v and -q, which every command takes before and after its name: how often they were given, added up."""

from __future__ import annotations

from dataclasses import dataclass

import click

SAY_MORE = "Say more; -v shows internal errors' tracebacks, -vv all."
SAY_LESS = "Say only what went wrong."


@dataclass
class Verbosity:
    """How often -v was given less how often -q, filled in while the command line is read."""

    level: int = 0


def verbosity(context: click.Context) -> int:
    """Return how often -v was given less how often -q."""
    parameters = context.find_root().params
    return int(parameters.get("verbose") or 0) - int(parameters.get("quiet") or 0)


def make_options() -> tuple[click.Option, click.Option]:
    """Make -v and -q for a command, which add to those of the root."""
    return _option("-v", "--verbose", SAY_MORE), _option("-q", "--quiet", SAY_LESS)


def _option(short: str, long: str, help_text: str) -> click.Option:
    return click.Option(
        [short, long], count=True, expose_value=False, allow_from_autoenv=False, callback=_add_to_root, help=help_text
    )


def _add_to_root(context: click.Context, parameter: click.Parameter, value: int) -> None:
    name = str(parameter.name)
    root = context.find_root()
    root.params[name] = int(root.params.get(name) or 0) + value
    remember(root)


def remember(root: click.Context) -> None:
    """Keep the level where `main.run_cli` finds it after the context is gone."""
    if isinstance(root.obj, Verbosity):
        root.obj.level = verbosity(root)
