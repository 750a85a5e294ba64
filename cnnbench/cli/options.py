"""Every option that several commands take, declared once, and the values that commands get in their place."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnbench.cli import completion
from cnnbench.cli.load_results import Selection
from cnnbench.cli.output import Destination

EXPORTS: Mapping[Format, str] = {"json": "JSON (- for stdout)", "csv": "CSV", "markdown": "Markdown", "latex": "LaTeX"}
"""Other formats of a run's table, by `--export-...`."""
OptionValues = Mapping[str, Any]
"""The values of a command's options, by parameter."""
if TYPE_CHECKING:
    from click.types import OptionHelpExtra

    from cnnbench.report.render.text import Format

CommandDecorator = Callable[[Callable[..., Any]], Callable[..., Any]]
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
ANY_PATH = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)
TABLE_FORMATS = ("table", "markdown", "latex", "csv", "json")
VALUES: Mapping[str, type[Selection | Destination]] = {"selection": Selection, "destination": Destination}
DEFAULT_TOLERANCE = 0.05


class Option(click.Option):
    """An option whose own environment variable is spelled as its flag is, CNNBENCH_RUN_SET for `run --set`."""

    def find_variable(self, context: click.Context) -> str | None:
        """Find the variable's name: after the command's, the long flag's words, or the letter where there is no word."""
        if not self.allow_from_autoenv or context.auto_envvar_prefix is None:
            return None
        flag = next((flag for flag in self.opts if flag.startswith("--")), self.opts[0])
        return f"{context.auto_envvar_prefix}_{flag.lstrip('-').replace('-', '_').upper()}"

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the value of the variable that was declared, else of the option's own; None for an empty one."""
        declared = click.Parameter.resolve_envvar_value(self, ctx)
        own = self.find_variable(ctx)
        return declared if declared is not None or own is None else os.environ.get(own) or None

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        """Return what the help adds in brackets, with the same variable."""
        extra = super().get_help_extra(ctx)
        if "envvars" in extra and not self.envvar and (own := self.find_variable(ctx)):
            extra["envvars"] = (own,)
        return extra


def combine_options(*options: CommandDecorator) -> CommandDecorator:
    """Join options into one decorator; the first is the first in the help."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        return functools.reduce(lambda made, option: option(made), reversed(options), command)

    return add


def make_option(
    flags: str,
    help_text: str | None,
    takes: click.ParamType[Any] | type | None = None,
    *,
    check: Callable[[Any], Any] | None = None,
    **more: Any,
) -> CommandDecorator:
    """Make an option from its flags, with its parameter's name after them if that differs: `-k name_filter`.

    A default that is given is shown in the help, unless `show_default` says otherwise. `check` makes the parameter of the
    value that was given, or refuses it.
    """
    shown = {"show_default": True} if "default" in more else {}
    if check is not None:
        more["callback"] = lambda _context, _option, value: check(value)
    return click.option(*flags.split(), cls=Option, type=takes, help=help_text, **(shown | more))


def make_flag(flags: str, help_text: str, **more: Any) -> CommandDecorator:
    """Make an option without a value."""
    return make_option(flags, help_text, is_flag=True, **more)


def gather_values(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hand the command one `selection` and one `destination`, where it takes them, in place of the options that make them."""
    wanted = [(name, kind) for name, kind in VALUES.items() if name in inspect.signature(command).parameters]

    @functools.wraps(command)
    def gathered(*arguments: Any, **options: Any) -> Any:
        for name, kind in wanted:
            given = {each.name: options.pop(each.name) for each in fields(kind) if each.name in options}
            options[name] = kind(**given)
        return command(*arguments, **options)

    return gathered


PATHS = click.argument("paths", nargs=-1, type=ANY_PATH)
SUITES = click.argument(
    "suites", nargs=-1, required=True, metavar="SUITE...", shell_complete=completion.complete_suites
)
SETTINGS = make_option(
    "-s --set settings",
    "A setting of the job, named as in a suite: precision=bf16, optimizer=adam.",
    multiple=True,
    metavar="KEY=VALUE",
)
MACHINE = make_option(
    "--machine machine_id",
    "Only this machine (its id or the id's beginning).",
    metavar="ID",
    shell_complete=completion.complete_machines,
)


def run_option(flags: str, help_text: str, **more: Any) -> CommandDecorator:
    """Make an option that names runs by their ids or the ids' beginnings."""
    return make_option(flags, help_text, metavar="ID", shell_complete=completion.complete_runs, **more)


RUN = run_option("--run run_id", "Only this run (its id or the id's beginning).")
LAST = make_flag("--last", "Only the newest run.")
ALL_RUNS = make_flag("--all-runs", "Every run of a row, not just the newest.")
OUTPUT = make_option("-o --output", "Write to a file instead.", FILE)
DEVICE = make_option(
    "-d --device",
    "auto (the CPU and every usable GPU), all, gpu (every GPU), or a list such as cpu,cuda:0.",
    default="auto",
    envvar="CNNBENCH_DEVICE",
    show_envvar=True,
)
THREADS = make_option("--threads", "CPU threads. [default: the cores this process may use]", COUNT)
DATA_DIR = make_option(
    "--data-dir",
    "Directory of MNIST's four IDX files.  [default: the user's cache]",
    ANY_PATH,
    envvar="CNNBENCH_DATA",
    show_envvar=True,
)
"""It beats CNNBENCH_DATA, which beats the settings, which beat the user's cache; see `this_process.find_named`."""


def format_option(*formats: str) -> CommandDecorator:
    """Make `--format` with these choices, or with every format of a table."""
    return make_option(
        "--format format_", None, click.Choice(formats or TABLE_FORMATS), default="table", show_default=False
    )


def json_option(help_text: str = "Print JSON.") -> CommandDecorator:
    """Make `--json`."""
    return make_flag("--json as_json", help_text)


def filter_option(help_text: str) -> CommandDecorator:
    """Make `-k`."""
    return make_option("-k name_filter", help_text, metavar="FILTER")


def results_option(help_text: str) -> CommandDecorator:
    """Make `--results`, a tree of results to read."""
    text = f"{help_text} (default: $CNNBENCH_RESULTS, else the settings, else ./results)."
    return make_option("--results", text, ANY_PATH, metavar="DIR")


def tree_option(help_text: str) -> CommandDecorator:
    """Make `--results`, the tree of results to write."""
    return make_option(
        "--results",
        help_text,
        FOLDER,
        default=Path("results"),
        envvar="CNNBENCH_RESULTS",
        show_envvar=True,
        metavar="DIR",
    )


def tolerance_option(help_text: str) -> CommandDecorator:
    """Make `--tolerance`, as a fraction."""
    return make_option("--tolerance", help_text, check=_parse_tolerance, default="5%", metavar="SHARE")


def _parse_tolerance(value: str) -> float:
    """Parse `5%` or `0.05` as a fraction; refuse a bare 5, which could mean either."""
    text = value.strip()
    try:
        tolerance = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        tolerance = -1.0
    if not 0 <= tolerance < 1:
        raise click.BadParameter(f"{value!r} is not a share from 0 to below 1; write 5% or 0.05")
    return tolerance


RESULT_OPTIONS = combine_options(PATHS, format_option(), MACHINE, RUN, LAST, OUTPUT)
"""Options of a command that makes one table of chosen records."""
EXPORT_OPTIONS = combine_options(
    *(
        make_option(f"--export-{name}", f"Also write the table as {what}.", click.Path(allow_dash=True), metavar="FILE")
        for name, what in EXPORTS.items()
    )
)
"""Options for other formats of a run's table."""
