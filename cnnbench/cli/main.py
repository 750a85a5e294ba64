"""The `cnnbench` command: which commands there are, and how every error becomes one message and an exit code.

Commands are imported when they are called, so `cnnbench --help` needs click alone. A flag beats its environment
variable (`CNNBENCH_<COMMAND>_<OPTION>`, or the one its help names), which beats the settings (see `cli.settings`), which
beat the default. Data goes to standard output, messages to standard error.
"""

from __future__ import annotations

import copy
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cnnbench import __version__
from cnnbench.cli import completion, verbosity
from cnnbench.errors import CnnbenchError, ExitCode
from cnnbench.plain_text import printable, suggest_choices

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


COMMANDS = {
    "run": ("cnnbench.cli.measure:run", "Measure the jobs of a suite and print their table."),
    "show": ("cnnbench.cli.read:show", "Print the table of results measured before."),
    "report": ("cnnbench.cli.read:report", "Make a page, document or tables of results, with charts."),
    "compare": ("cnnbench.cli.read:compare", "Divide the times of two machines, runs or ledgers, row by row."),
    "stopping": ("cnnbench.cli.learning:stopping", "Say what the lecture's 100 % means, epoch by epoch."),
    "bands": ("cnnbench.cli.learning:bands", "Say what accuracy a recipe ends with, over seeds."),
    "converge": ("cnnbench.cli.learning:converge", "Test whether each faster mode learns as well."),
    "claims": ("cnnbench.cli.learning:claims", "Say whether the open class keeps its claims."),
    "devices": ("cnnbench.cli.measure:devices", "Show each processor with its theoretical and measured peaks."),
    "doctor": ("cnnbench.cli.measure:doctor", "Say what is wrong for benchmarking here, and what to do."),
    "fleet": ("cnnbench.cli.cluster:cluster", "Run suites on the nodes of a Slurm cluster, one table of all."),
    "merge": ("cnnbench.cli.cluster:merge", "Bring the ledgers of many machines into one tree."),
    "ingest": ("cnnbench.cli.read:ingest", "Read pytest-benchmark's files as a table, CSV or JSON."),
    "export": ("cnnbench.cli.read:export", "Write results in the formats of other tools, or CSV."),
    "audit": ("cnnbench.cli.audit:audit", "Re-derive every printed figure from the raw records."),
    "history": ("cnnbench.cli.read:history", "Show each row over all recorded runs, as a table or a picture."),
    "baseline": ("cnnbench.cli.baseline:baseline", "Store figures of runs under a name, and hold later runs to them."),
    "check": ("cnnbench.cli.check:check", "Hold two revisions, environments or settings against each other."),
    "calibrate": ("cnnbench.cli.check:calibrate", "Measure this machine's noise for a suite, and what shows in it."),
    "selftest": ("cnnbench.cli.check:selftest", "Inject real work and see the regression check find it."),
    "profile": ("cnnbench.cli.measure:profile", "Show where a training step's time goes, rung by rung."),
    "explain": ("cnnbench.cli.learning:explain", "Work out a network layer by layer, or beside its slide."),
    "outsize": ("cnnbench.cli.learning:outsize", "Work out the output size of a convolution or pooling."),
    "list": ("cnnbench.cli.support:list_command", "List the suites and workloads there are."),
    "validate": ("cnnbench.cli.support:validate", "Check suite files, naming every mistake."),
    "schema": ("cnnbench.cli.support:schema", "Print the JSON schema of what cnnbench writes."),
    "data": ("cnnbench.cli.support:data", "Fetch, verify and find MNIST."),
    "completion": ("cnnbench.cli.support:completion_command", "Print the script that completes words in your shell."),
}
"""By name: `module:attribute` of the command, which is imported when it is called, and its line in the list of commands."""


class LazyGroup(click.Group):
    """A group whose commands are listed without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command and give it `-v` and `-q`, so that they may come before or after its name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = copy.copy(pkgutil.resolve_name(COMMANDS[cmd_name][0]))
        # On a copy: the module's own command stays as it is.
        command.params = [*command.params, *verbosity.make_options()]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve the command as click does; answer an unknown name with the nearest, or with all."""
        if args[0] in COMMANDS or args[0].startswith("-") or ctx.resilient_parsing:  # resilient: the shell completes
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"no command {args[0]!r}{suggest_choices(args[0], COMMANDS)}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete to commands, from the table alone, and options."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Format the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CNNBENCH"},
    epilog="An option's environment variable is CNNBENCH_<COMMAND>_<OPTION>, such as CNNBENCH_RUN_SEED. Options may also "
    "stand in cnnbench.toml, or in pyproject.toml under [tool.cnnbench.<command>], in this folder or one above it. A flag "
    "beats the variable, which beats the file.",
)
@click.version_option(__version__, prog_name="cnnbench", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", count=True, help=verbosity.SAY_MORE)
@click.option("-q", "--quiet", count=True, help=verbosity.SAY_LESS)
@click.option(
    "--no-settings", is_flag=True, help="Ignore cnnbench.toml and pyproject.toml (or CNNBENCH_NO_SETTINGS=1)."
)
@click.pass_context
def cli(context: click.Context, verbose: int, quiet: int, no_settings: bool) -> None:
    """Time the training of a small MNIST CNN on every processor present, and say how far to believe the result.

    Begin with `cnnbench run quick`.
    """
    if not no_settings:
        from cnnbench.cli.settings import make_defaults

        # A mapping that reads the files when a command first asks it; click looks things up in it and never writes.
        context.default_map = make_defaults(cli)  # type: ignore[assignment]


def run_cli(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (this process's if None is given) and return its exit code; nothing is raised."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = _exit_code(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes standard output once more as it ends, and would complain; let it flush into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        return _print_error(_describe(error), ExitCode.USAGE)
    except KeyboardInterrupt:  # a second Ctrl-C, while the first was being answered
        return ExitCode.INTERRUPTED
    return code


def _exit_code(arguments: Sequence[str]) -> int:
    context = None
    try:
        if request := os.environ.get(completion.COMPLETE_VARIABLE):
            return completion.answer_shell(cli, request)
        # Not cli.main(): it ends a broken pipe with 1, which here means a finding.
        with cli.make_context("cnnbench", list(arguments)) as context:
            cli.invoke(context)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        return _print_error(error.format_message(), ExitCode.USAGE, prefix="")
    except click.ClickException as error:
        message = error.format_message()
        if isinstance(error, click.UsageError):
            message += f"\ntry `{error.ctx.command_path if error.ctx else 'cnnbench'} --help`"
        return _print_error(message, ExitCode.USAGE)
    except (KeyboardInterrupt, click.Abort):
        return _print_error("interrupted", ExitCode.INTERRUPTED, prefix="")
    except BrokenPipeError:
        raise
    except Exception as error:  # the one broad catch of the command line
        # An error raised on purpose explains itself: its traceback takes -vv.
        least = 2 if isinstance(error, CnnbenchError | OSError) else 1
        if context is not None and verbosity.verbosity(context) >= least:
            traceback.print_exc()
        if isinstance(error, CnnbenchError):
            return _print_error(str(error), error.exit_code)
        if isinstance(error, OSError):
            return _print_error(_describe(error), ExitCode.USAGE)
        hint = "run again with -v for the traceback, and report it with the command"
        return _print_error(f"internal error, {type(error).__name__}: {error}; {hint}", ExitCode.INTERNAL_ERROR)
    return ExitCode.DONE


def _describe(error: OSError) -> str:
    """`results/x: Read-only file system; check that the place ...`."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}; check that the place exists, may be written and has room"


def _print_error(message: str, code: int, *, prefix: str = "error: ") -> int:
    click.echo(printable(f"{prefix}{message}"), err=True)
    return int(code)
