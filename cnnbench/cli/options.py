"""Every option that several commands take, declared once, and the values that commands are handed in their place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from cnnbench.cli import completion
from cnnbench.cli.load_results import Selection
from cnnbench.cli.output import Destination

CommandDecorator = Callable[[Callable[..., Any]], Callable[..., Any]]
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
ANY_PATH = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)
TABLE_FORMATS = ("table", "markdown", "latex", "csv", "json")
VALUES: Mapping[str, type[Selection | Destination]] = {"selection": Selection, "destination": Destination}
RESULTS_DEFAULT = "(default: $CNNBENCH_RESULTS, else the settings, else ./results)"


def combine_options(*options: CommandDecorator) -> CommandDecorator:
    """Join options into one decorator; the first is the first in the help."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        return functools.reduce(lambda made, option: option(made), reversed(options), command)

    return add


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
MACHINE = click.option(
    "--machine",
    "machine_id",
    metavar="ID",
    shell_complete=completion.complete_machines,
    help="Only this machine (its id or the id's beginning).",
)
RUN = click.option(
    "--run",
    "run_id",
    metavar="ID",
    shell_complete=completion.complete_runs,
    help="Only this run (its id or the id's beginning).",
)
LAST = click.option("--last", is_flag=True, help="Only the newest run.")
ALL_RUNS = click.option("--all-runs", is_flag=True, help="Every run of a row, not just the newest.")
OUTPUT = click.option("-o", "--output", type=FILE, help="Write to a file instead.")
DEVICE = click.option(
    "-d",
    "--device",
    default="auto",
    show_default=True,
    envvar="CNNBENCH_DEVICE",
    show_envvar=True,
    help="auto (the CPU and every usable GPU), all, or a list such as cpu,cuda:0.",
)
THREADS = click.option("--threads", type=COUNT, help="CPU threads. [default: the cores this process may use]")
DATA_DIR = click.option(
    "--data-dir",
    type=ANY_PATH,
    envvar="CNNBENCH_DATA",
    show_envvar=True,
    help="Directory of MNIST's four IDX files.  [default: the user's cache]",
)
"""It beats CNNBENCH_DATA, which beats the settings, which beat the user's cache; see `data_source.split_by_origin`."""


def format_option(*formats: str) -> CommandDecorator:
    """Make `--format` with these choices, or with every format of a table."""
    return click.option("--format", "format_", type=click.Choice(formats or TABLE_FORMATS), default="table")


def json_option(help_text: str = "Print JSON.") -> CommandDecorator:
    """Make `--json`."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def filter_option(help_text: str) -> CommandDecorator:
    """Make `-k`."""
    return click.option("-k", "name_filter", metavar="FILTER", help=help_text)


def results_option(help_text: str) -> CommandDecorator:
    """Make `--results`, a tree of results to read."""
    return click.option("--results", type=ANY_PATH, metavar="DIR", help=f"{help_text} {RESULTS_DEFAULT}.")


def tree_option(help_text: str, *names: str) -> CommandDecorator:
    """Make the option for the tree of results to write, `-o` where it has no other names."""
    return click.option(
        *(names or ("-o", "--output")),
        type=FOLDER,
        default=Path("results"),
        envvar="CNNBENCH_RESULTS",
        show_envvar=True,
        show_default=True,
        help=help_text,
    )


def tolerance_option(help_text: str) -> CommandDecorator:
    """Make `--tolerance`, as a fraction."""
    return click.option(
        "--tolerance", callback=_parse_tolerance, default="5%", show_default=True, metavar="SHARE", help=help_text
    )


def _parse_tolerance(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """`5%` or `0.05` as a fraction. A bare 5 could mean either, and is refused."""
    text = value.strip()
    try:
        tolerance = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        tolerance = -1.0
    if not 0 <= tolerance < 1:
        raise click.BadParameter(f"{value!r} is no share from 0 to below 1; write 5% or 0.05", context, parameter)
    return tolerance


RESULT_OPTIONS = combine_options(PATHS, format_option(), MACHINE, RUN, LAST, OUTPUT)
"""What a command takes that makes one table of chosen records."""
