"""The `cnnbench` command: which commands there are, and how every error becomes one message and an exit code.

Commands are imported when they are called, so `cnnbench --help` needs click alone. A flag beats its environment
variable (`CNNBENCH_<COMMAND>_<OPTION>`, or the one its help names), which beats the settings (see `cli.settings`), which
beat the default. Data goes to standard output, messages to standard error.
"""

from __future__ import annotations

import copy
import itertools
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cnnbench import __version__
from cnnbench.cli import completion, verbosity
from cnnbench.cli.command_group import CommandGroup
from cnnbench.cli.foreign_words import answer_option
from cnnbench.errors import CnnbenchError, ExitCode
from cnnbench.plain_text import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


COMMANDS = {
    "run": ("cnnbench.cli.measure:run", "Measure the jobs of a suite and print their table."),
    "devices": ("cnnbench.cli.measure:devices", "Show each processor with its theoretical and measured peaks."),
    "doctor": ("cnnbench.cli.measure:doctor", "Say what disturbs measurements here, and what to do."),
    "profile": ("cnnbench.cli.measure:profile", "Show where a training step's time goes, variant by variant."),
    "show": ("cnnbench.cli.read:show", "Print the table of results, or of pytest-benchmark's files."),
    "report": ("cnnbench.cli.read:report", "Make a page, document or tables of results, with charts."),
    "compare": ("cnnbench.cli.read:compare", "Divide the times of two machines, runs or ledgers, row by row."),
    "history": ("cnnbench.cli.read:history", "Show each row over all recorded runs, as a table or a picture."),
    "export": ("cnnbench.cli.read:export", "Write results in the formats of other tools, or CSV."),
    "check": ("cnnbench.cli.check:check", "Compare two revisions, environments or settings in pairs."),
    "check calibrate": ("cnnbench.cli.check:calibrate", "Measure the noise here, and which slowdowns a check finds."),
    "check replay": ("cnnbench.cli.check:replay", "Decide a recorded check again, without measuring."),
    "check baseline": ("cnnbench.cli.baseline:baseline", "Save names for runs, and judge later runs by them."),
    "learning": ("", "Ask what accuracies are worth, and whether faster modes learn as well."),
    "learning stopping": ("cnnbench.cli.learning:stopping", "Explain the lecture's 100 %, epoch by epoch."),
    "learning convergence": ("cnnbench.cli.learning:convergence", "Test whether each faster mode learns as well."),
    "learning open": ("cnnbench.cli.learning:open_claims", "Test the claims of the open division's recipes."),
    "learning bands": ("cnnbench.cli.learning:bands", "Show which accuracy a recipe reaches, over seeds."),
    "explain": ("cnnbench.cli.learning:explain", "Compute a network layer by layer, or beside its slide."),
    "explain output-size": (
        "cnnbench.cli.learning:output_size",
        "Compute the output size of a convolution or pooling.",
    ),
    "cluster": ("cnnbench.cli.cluster:cluster", "Run suites on the nodes of a Slurm cluster, and compare them."),
    "merge": ("cnnbench.cli.cluster:merge", "Copy the ledgers of many machines into one tree."),
    "audit": ("cnnbench.cli.audit:audit", "Derive every printed figure again from the raw records."),
    "list": ("cnnbench.cli.support:list_command", "List the suites and workloads there are."),
    "validate": ("cnnbench.cli.support:validate", "Check suite files, naming every mistake."),
    "schema": ("cnnbench.cli.support:schema", "Print the JSON schema of what cnnbench writes."),
    "data": ("cnnbench.cli.support:data", "Fetch, verify and find MNIST."),
    "completion": ("cnnbench.cli.support:completion_command", "Print the script that completes words in your shell."),
}
"""By name: `module:attribute` of the command, which is imported when it is called, and its line in the list of commands.

A name of two words is a command below another; one without a module only has others below it.
"""
SAME_COMMAND = ("check run",)
"""Names that are another way to write the command they begin with."""
HEADINGS = {
    "run": "Measure",
    "show": "Read",
    "check": "Regression",
    "learning": "Learn",
    "cluster": "Many machines",
    "audit": "Support",
}
"""Headings of the list of commands, by the command that each is above."""


class LazyGroup(CommandGroup):
    """Commands of the table below one name, imported when they are called."""

    path = ""
    """The name, with a blank after it; empty for the root."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names, in the order of the table."""
        below = (name.removeprefix(self.path) for name in COMMANDS if name.startswith(self.path))
        return [name for name in below if " " not in name]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command and give it `-v` and `-q`, so that they may come before or after its name."""
        name = f"{self.path}{cmd_name}"
        if " " in cmd_name or name not in COMMANDS:
            return None
        place, line = COMMANDS[name]
        command: click.Command | None = copy.copy(pkgutil.resolve_name(place)) if place else None
        if any(other.startswith(f"{name} ") for other in COMMANDS):
            command = CommandWithOthers(name, command, line)
        # On a copy: the module's own command stays as it is.
        assert command is not None, f"{name} has neither a module nor commands below it"
        command.params = [*command.params, *verbosity.make_options()]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Format the list of commands from the table alone; the root's under headings, with the commands below others."""
        sections: dict[str, list[tuple[str, str]]] = {}
        heading = "Commands"
        for name, (_, line) in COMMANDS.items():
            if name.startswith(self.path):
                heading = HEADINGS.get(name, heading) if not self.path else heading
                sections.setdefault(heading, []).append((name.removeprefix(self.path), line))
        for heading, lines in sections.items():
            with formatter.section(heading):
                formatter.write_dl(lines)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete to commands, from the table alone, and options."""
        from click.shell_completion import CompletionItem

        lines = {name: COMMANDS[f"{self.path}{name}"][1] for name in self.list_commands(ctx)}
        found = [CompletionItem(name, help=line) for name, line in lines.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)


class CommandWithOthers(LazyGroup):
    """A command with others below its name, such as `check` and `check replay`; or, without an `own`, only these.

    The name of a command below wins over an argument of the same spelling.
    """

    allow_extra_args = False
    allow_interspersed_args = True

    def __init__(self, name: str, own: click.Command | None, line: str) -> None:
        super().__init__(
            name,
            params=list(own.params) if own else [],
            callback=own.callback if own else None,
            help=own.help if own else line,
            no_args_is_help=own is None,
            invoke_without_command=own is not None,
        )
        self.path = f"{name} "
        self._own = own

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave everything to a command below, if the first word (but for -v and -q) names one."""
        flags = list(itertools.takewhile(verbosity.is_flag, args))
        words = args[len(flags) :]
        if words and f"{self.path}{words[0]}" in SAME_COMMAND:
            return click.Command.parse_args(self, ctx, [*flags, *words[1:]])
        if words and (words[0] in self.list_commands(ctx) or (self._own is None and not words[0].startswith("-"))):
            ctx.args = [words[0], *flags, *words[1:]]
            return ctx.args
        return click.Command.parse_args(self, ctx, args if self._own or words else [])  # [] gives the help

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command below that was named, else this one."""
        if not ctx.args:
            return click.Command.invoke(self, ctx)
        name, command, rest = self.resolve_command(ctx, ctx.args)
        assert command is not None  # resolve_command raises for an unknown name
        with command.make_context(name, rest, parent=ctx) as below:
            return below.command.invoke(below)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """List the parameters; for the usage of a command below, those that may come before that command."""
        found = super().get_params(ctx)
        return found if ctx.command is self else [each for each in found if isinstance(each, click.Option)]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Collect the command's own usage; its help ends with the list of the commands below."""
        return click.Command.collect_usage_pieces(self, ctx) if self._own else super().collect_usage_pieces(ctx)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CNNBENCH"},
    epilog="An option's environment variable is CNNBENCH_<COMMAND>_<OPTION>, such as CNNBENCH_RUN_SEED or "
    "CNNBENCH_CHECK_CALIBRATE_BLOCKS. Options may also be written in cnnbench.toml under [<command>], or in pyproject.toml "
    "under [tool.cnnbench.<command>], such as [tool.cnnbench.check.calibrate], in this folder or one above it. A flag beats "
    "the variable, which beats the file.",
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
        if isinstance(error, click.NoSuchOption):
            message = _answer_option(error) or message
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


def _answer_option(error: click.NoSuchOption) -> str | None:
    """Say what to type for an option of another tool, or of `run` written before its name; None if nothing is known."""
    names = error.ctx.command_path.split()[1:] if error.ctx else []
    if meant := answer_option(names, error.option_name):
        return f"no option {error.option_name}{meant}"
    run = cli.get_command(click.Context(cli), "run") if not names else None
    if run and any(error.option_name in each.opts for each in run.params):
        return f"no option {error.option_name} before a command; write it after one: `cnnbench run {error.option_name} ...`"
    return None


def _describe(error: OSError) -> str:
    """`results/x: Read-only file system; check that the place ...`."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}; check that the place exists, may be written and has room"


def _print_error(message: str, code: int, *, prefix: str = "error: ") -> int:
    click.echo(printable(f"{prefix}{message}"), err=True)
    return int(code)
