"""Groups of commands: how a name leads to a command, and what is answered to a name that is none."""

from __future__ import annotations

import click

from cnnbench.plain_text import suggest_choices


class CommandGroup(click.Group):
    """A group that answers an unknown name with the nearest one, or with all."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command as click does. Raises UsageError for a name that is not there, with what was meant."""
        names = self.list_commands(ctx)
        if args[0] in names or args[0].startswith("-") or ctx.resilient_parsing:  # resilient: the shell completes
            return super().resolve_command(ctx, args)
        what = " ".join((*ctx.command_path.split()[1:], args[0]))
        raise click.UsageError(f"no command {what!r}{suggest_choices(args[0], names)}", ctx)
