"""Answers to the shell's script of `cnnbench completion`: the words that fit at the cursor.

The script sets `_CNNBENCH_COMPLETE` and calls cnnbench, which answers from the options' own words, the shipped suites and
the names of files, and starts nothing: neither torch nor pandas, and no ledger is read.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem, shell_complete

from cnnbench.errors import UsageError

COMPLETE_VARIABLE = "_CNNBENCH_COMPLETE"
"""Set by the shell's script when it asks for words instead of running a command."""
SHELLS = ("bash", "zsh", "fish")
SHELL_VARIABLES = ("COMP_WORDS", "COMP_CWORD")
"""The script's other variables: the words so far, and the number of the one being typed."""


def answer_shell(command: click.Command, request: str) -> int:
    """Answer the shell's script, whose `request` is such as `bash_complete`; returns the exit code.

    Raises UsageError where the variable was set by something else.
    """
    shell, _, what = request.partition("_")
    if shell not in SHELLS or what not in ("complete", "source"):
        choices = ", ".join(f"{each}_complete" for each in SHELLS)
        raise UsageError(f"{COMPLETE_VARIABLE}={request}: not one of {choices}; unset it to run commands")
    missing = [name for name in SHELL_VARIABLES if what == "complete" and name not in os.environ]
    if missing:
        raise UsageError(f"{COMPLETE_VARIABLE}={request} without {' and '.join(missing)}; unset it to run commands")
    return shell_complete(command, {}, "cnnbench", COMPLETE_VARIABLE, request)


def complete_suites(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete to commands below this one, shipped suites and TOML files, or to folders if none fits.

    Never to both: bash would drop the names for the folders, and cannot leave out the space after some of them.
    """
    from cnnbench.plan.suite import suite_names

    words = (*_list_commands_below(context), *suite_names())
    found = [name for name in words if name.startswith(incomplete)]
    folder, slash, start = incomplete.rpartition("/")  # paths as typed
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the home of nobody
        place = Path(folder + slash).expanduser()
        names = sorted(each.name for each in place.glob("*.toml") if each.is_file())
        found += [folder + slash + name for name in names if name.startswith(start) and (start or name[0] != ".")]
    return [CompletionItem(each) for each in found] or [CompletionItem(incomplete, type="dir")]


def complete_workloads(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete to commands below this one and names of workloads, other packages' too."""
    from cnnbench import workloads

    names = (*_list_commands_below(context), *workloads.names())
    return [name for name in names if name.startswith(incomplete)]


def _list_commands_below(context: click.Context) -> list[str]:
    """List the commands that may be the first word, instead of an argument."""
    command = context.command
    first = not any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params)
    return command.list_commands(context) if first and isinstance(command, click.Group) else []


def complete_machines(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete to ids of machines that have results."""
    found = {path.parent.name for path in _find_ledgers(context)}
    return sorted(name for name in found if name.startswith(incomplete))


def complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete to ids of runs that have results, only those of the machine of a preceding `--machine`."""
    machine = context.params.get("machine_id") or ""
    found = {path.stem for path in _find_ledgers(context) if path.parent.name.startswith(machine)}
    return sorted(name for name in found if name.startswith(incomplete))


def _find_ledgers(context: click.Context) -> list[Path]:
    """Find every `<machine>/<run>.jsonl` under the PATHS given before, or under the default results.

    The PATHS are in `context.args` if the line ends with an option without its value: click stops there.
    """
    from cnnbench.cli import load_results, settings

    named = context.params.get("results")
    roots = (
        context.params.get("paths") or [Path(each) for each in context.args] or [Path(each) for each in [named] if each]
    )
    if not roots:  # by the environment, else by the settings where they are good, else ./results
        named, root = os.environ.get(settings.RESULTS_VARIABLE), context.find_root()
        roots = [Path(named or load_results.DEFAULT_RESULTS)]
        if not named and isinstance(root.command, click.Group) and not root.params.get("no_settings"):
            with contextlib.suppress(UsageError):  # the command itself will report what is wrong
                roots = [settings.load_settings(root.command, Path.cwd()).results or load_results.DEFAULT_RESULTS]
    found = [
        path.absolute()
        for place in roots
        for path in ([place] if place.is_file() else [*place.glob("*.jsonl"), *place.glob("*/*.jsonl")])
    ]
    return [path for path in found if path.parent.name != "reference"]
