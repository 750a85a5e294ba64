"""Groups of commands: how a name leads to a command, and what is answered to a name that is none."""

from __future__ import annotations

import copy

import click

from cnnbench.cli import verbosity
from cnnbench.cli.foreign_words import answer_command
from cnnbench.plain_text import suggest_choices


class CommandGroup(click.Group):
    """A group that answers an unknown name with the nearest one, or with all, and whose commands take -v and -q."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find the command, with `-v` and `-q`, so that they may come before or after its name."""
        command = copy.copy(super().get_command(ctx, cmd_name))  # a copy: the module's own command stays as it is
        if command is not None:
            command.params = [*command.params, *verbosity.make_options()]
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Print the help where no command is named, with or without `-v` and `-q`."""
        named = not all(map(verbosity.is_flag, args)) or self.invoke_without_command
        return super().parse_args(ctx, args if named else [])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command as click does. Raises UsageError for a name that is not there, with what was meant."""
        names = self.list_commands(ctx)
        if args[0] in names or args[0].startswith("-") or ctx.resilient_parsing:  # resilient: the shell completes
            return super().resolve_command(ctx, args)
        words = (*ctx.command_path.split()[1:], args[0])
        meant = answer_command(words) or (_answer_name(args[0]) if len(words) == 1 else None)
        raise click.UsageError(f"no command {' '.join(words)!r}{meant or suggest_choices(args[0], names)}", ctx)


def _answer_name(word: str) -> str | None:
    """Say what to type for the name of a suite or workload; return None for any other word."""
    from cnnbench.plan.suite import list_suites_with, suite_names

    if word in suite_names():
        return f"; it is a suite: `cnnbench run {word}`"
    if having := list_suites_with(word):
        return f"; it is a workload: `cnnbench explain {word}`, or run a suite that has it: {', '.join(having)}"
    return None
