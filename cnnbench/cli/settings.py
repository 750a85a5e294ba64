"""Settings: options stored in `cnnbench.toml` or under `[tool.cnnbench]` of a pyproject.toml, the nearest upward.

```toml
results = "measured"                  # of every command that has a results directory
[run]                                 # [tool.cnnbench.run] in a pyproject.toml
device = "cpu"
[check.calibrate]                     # a command below another
blocks = 40
```

Keys are the long names of a command's options, with - or _; a relative path is relative to the file. The commands
themselves declare what can be set. They become click's `default_map`, so a flag beats its environment variable,
which beats the settings, which beat the default. A file is read when the first option asks for its default: help and
version never fail for a mistake in it, and all its mistakes are one error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cnnbench.cli.foreign_words import answer_command
from cnnbench.errors import UsageError
from cnnbench.plain_text import format_value, suggest_choices, suggest_nearest

FILE, PROJECT = "cnnbench.toml", "pyproject.toml"
RESULTS = "results"
RESULTS_VARIABLE = "CNNBENCH_RESULTS"
"""Environment variable that names a command's results directory."""


@dataclass(frozen=True)
class Settings:
    """A file's settings, checked: values by parameter under each command, results directory; empty without a file."""

    path: Path | None = None
    results: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


class SettingsDefaults(Mapping[str, Any]):
    """A command's settings, where click looks up an option's default, read when the first option asks.

    `names` are the command's path, such as `("data", "fetch")`.
    """

    def __init__(self, command: click.Command, read: Callable[[], Settings], names: tuple[str, ...] = ()) -> None:
        self._command, self._read, self._names = command, read, names

    def __getitem__(self, name: str) -> Any:
        group = self._command
        if isinstance(group, click.Group) and (command := group.get_command(click.Context(group), name)):
            return SettingsDefaults(command, self._read, (*self._names, name))
        option = {each.name: each for each in _list_settable_options(self._command)}[name]
        settings = self.settings()
        values = functools.reduce(lambda table, key: table.get(key, {}), self._names, settings.values)
        if name not in values and RESULTS_VARIABLE in (option.envvar or ()) and settings.results is not None:
            return str(settings.results)
        return values[name]

    def __iter__(self) -> Iterator[str]:
        return (str(option.name) for option in _list_settable_options(self._command) if option.name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def settings(self) -> Settings:
        """Return the settings. Raises UsageError for a file with mistakes, except for the defaults in help."""
        try:
            return self._read()
        except UsageError:
            if (context := click.get_current_context(silent=True)) and context.resilient_parsing:
                return Settings()
            raise


def make_defaults(root: click.Group) -> SettingsDefaults:
    """Make the whole command line's `default_map` from the nearest settings upward; nothing is read yet."""
    return SettingsDefaults(root, functools.cache(lambda: load_settings(root, Path.cwd())))


def was_typed(name: str) -> bool:
    """Whether the running command's parameter was typed, rather than set by a variable, the settings or its default.

    Without a running command whoever calls gave it.
    """
    context = click.get_current_context(silent=True)
    return context is None or context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def results_directory() -> tuple[Path, Path] | None:
    """Find the results directory in the running command's settings, and the file that names it."""
    context = click.get_current_context(silent=True)
    defaults: object = context and context.find_root().default_map
    settings = defaults.settings() if isinstance(defaults, SettingsDefaults) else Settings()
    return (settings.results, settings.path) if settings.results and settings.path else None


def load_settings(root: click.Group, start: Path) -> Settings:
    """Load and check the nearest settings at or above a folder. Raises UsageError with all mistakes, one per line."""
    for path in (folder / name for folder in (start, *start.parents) for name in (FILE, PROJECT)):
        if (table := _read_table(path)) is None:
            continue
        problems = []
        heading = () if path.name == FILE else ("tool", "cnnbench")
        named = table.pop(RESULTS, None)
        results = Path(_resolve_path(named, path.parent)) if isinstance(named, str) else None
        if named is not None and results is None:
            problems.append(f"{_format_heading(heading)}{RESULTS} {format_value(named)} must be text, a directory")
        values = _check_command(root, table, heading, path.parent, problems, more=(RESULTS,))
        if problems:
            raise UsageError("\n".join((*(f"{path}: {problem}" for problem in problems), _NO_SETTINGS_HINT)))
        return Settings(path, results, values)
    return Settings()


def _read_table(path: Path) -> dict[str, Any] | None:
    """Read a file's settings; None if it does not exist, or is a pyproject.toml without a table for cnnbench."""
    if not path.is_file():
        return None
    import tomllib

    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; {_NO_SETTINGS_HINT}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError with line and column, or bytes that are no UTF-8
        raise UsageError(f"{path}: not TOML: {error}; {_NO_SETTINGS_HINT}") from error
    if path.name == PROJECT:
        tool = table.get("tool")
        table = tool.get("cnnbench") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageError(f"{path}: tool.cnnbench must be a table, [tool.cnnbench]; {_NO_SETTINGS_HINT}")
    return table


_NO_SETTINGS_HINT = "`cnnbench --no-settings ...` leaves it aside"


class _InvalidValue(Exception):
    """A value that is not allowed; the text follows `key value`."""


def _format_heading(heading: tuple[str, ...]) -> str:
    return f"[{'.'.join(heading)}] " if heading else ""


def _check_command(
    command: click.Command,
    table: Mapping[str, Any],
    heading: tuple[str, ...],
    folder: Path,
    problems: list[str],
    more: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Check a command's values by parameter, a group's by command; add mistakes to `problems`, suggest `more` too."""
    place, values = _format_heading(heading), {}
    settable = () if more else _list_settable_options(command)  # the root's own options have no table
    if isinstance(command, click.Group):
        context, table = click.Context(command), dict(table)
        names = (*command.list_commands(context), *more)
        for name, inner in list(table.items()):
            below = (*heading, name)
            shown = f"{place}{name}" if isinstance(inner, dict) else f"{place}{name} {format_value(inner)}"
            found = command.get_command(context, name)
            if found is None and settable and not isinstance(inner, dict):
                continue  # an option of a command that has others below it
            del table[name]
            if found is None:
                meant = answer_command((name,)) if more else None  # the root's: a command of another name
                problems.append(f"{shown}: no such command{meant or suggest_choices(name, names)}")
            elif not isinstance(inner, dict):
                problems.append(f"{shown} must be a table, {_format_heading(below).strip()}")
            else:
                values[name] = _check_command(found, inner, below, folder, problems)
    options = {}  # by their long names without dashes in front, or by the letter of one that has none
    for option in settable:
        long = [name.removeprefix("--") for name in option.opts if name.startswith("--")]
        options.update(dict.fromkeys(long or [name.lstrip("-") for name in option.opts], option))
    for key, value in table.items():
        shown, known = f"{place}{key} {format_value(value)}", options.get(key.replace("_", "-"))
        if known is None:
            problems.append(f"{shown}: no such option{suggest_choices(key, options)}")
        elif known.name in values:
            problems.append(f"{shown}: the same option is there twice")
        else:
            try:
                values[str(known.name)] = _convert_value(known, value, folder)
            except _InvalidValue as wrong:
                problems.append(f"{shown} {wrong}")
    return values


def _list_settable_options(command: click.Command) -> tuple[click.Option, ...]:
    """List the options that settings may give: those whose value is passed to the command."""
    return tuple(each for each in command.params if isinstance(each, click.Option) and each.expose_value)


def _convert_value(option: click.Option, value: Any, folder: Path) -> Any:
    """Convert the value to what click takes. Raises _InvalidValue."""
    if not option.multiple and option.nargs == 1:
        return _convert_single_value(option, value, folder)
    if not isinstance(value, list):
        raise _InvalidValue("must be a list")
    if isinstance(option.type, click.Tuple):
        if any(not isinstance(each, list) or list(map(type, each)) != [str] * option.nargs for each in value):
            raise _InvalidValue(f"must be a list of lists of {option.nargs} texts")
        return value
    return [_convert_single_value(option, each, folder) for each in value]


def _convert_single_value(option: click.Option, value: Any, folder: Path) -> Any:
    kind = option.type
    for types, accepted, words in (
        (click.types.BoolParamType, bool, "true or false"),
        (click.types.IntParamType, int, "a whole number"),
        (click.types.FloatParamType, int | float, "a number"),
        (click.ParamType, str, "text"),
    ):
        if isinstance(kind, types):
            if not isinstance(value, accepted) or (isinstance(value, bool) and accepted is not bool):
                raise _InvalidValue(f"must be {words}")
            break
    if isinstance(kind, click.Path | click.File):
        value = _resolve_path(value, folder)
    try:
        kind.convert(value, option, None)
    except click.BadParameter as error:
        if isinstance(kind, click.Choice):
            choices = tuple(map(str, kind.choices))
            raise _InvalidValue(f"is not one of {', '.join(choices)}{suggest_nearest(str(value), choices)}") from error
        raise _InvalidValue(f"will not do: {error.message.rstrip('.')}") from error
    return value


def _resolve_path(text: str, folder: Path) -> str:
    """Resolve a path relative to the settings' folder; `-`, standard output, stays."""
    return text if text == "-" else str(folder / Path(text).expanduser())
