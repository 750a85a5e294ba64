"""Settings: options written down once, in `cnnbench.toml` or under `[tool.cnnbench]` of a pyproject.toml, the nearest upward.

```toml
results = "measured"                  # of every command that has a results directory
[run]                                 # [tool.cnnbench.run] in a pyproject.toml
device = "cpu"
```

Keys are the long names of a command's options, with - or _; a relative path is relative to the file. What there is to
set is asked of the commands themselves. They become click's `default_map`, so a flag beats its environment variable,
which beats the settings, which beat the default. A file is read when the first option asks for its default: help and
version never fail for a mistake in it, and all its mistakes are one error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click

from cnnbench.errors import UsageError
from cnnbench.plain_text import format_value, suggest_choices, suggest_nearest

FILE, PROJECT = "cnnbench.toml", "pyproject.toml"
RESULTS = "results"
RESULTS_VARIABLE = "CNNBENCH_RESULTS"
"""An option that this variable gives is a command's results directory."""


@dataclass(frozen=True)
class Settings:
    """A file's settings, checked: values by parameter under each command, results directory; nothing where there is no file."""

    path: Path | None = None
    results: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def for_command(self, names: tuple[str, ...]) -> Mapping[str, Any]:
        """A command's values by its path, such as `("data", "fetch")`."""
        found: Mapping[str, Any] = self.values
        for name in names:
            found = found.get(name, {})
        return found


class SettingsDefaults(Mapping[str, Any]):
    """What click asks for an option's default: the settings of one command, read when the first option asks."""

    def __init__(self, command: click.Command, read: Callable[[], Settings], names: tuple[str, ...] = ()) -> None:
        self._command, self._read, self._names = command, read, names

    def __getitem__(self, name: str) -> Any:
        if isinstance(self._command, click.Group):
            command = self._command.get_command(click.Context(self._command), name)
            if command is not None:
                return SettingsDefaults(command, self._read, (*self._names, name))
        option = next((each for each in _list_settable_options(self._command) if each.name == name), None)
        if option is None:
            raise KeyError(name)
        settings = self.settings()
        values = settings.for_command(self._names)
        if name not in values and _is_results_option(option) and settings.results is not None:
            return str(settings.results)
        return values[name]

    def __iter__(self) -> Iterator[str]:
        return (str(option.name) for option in _list_settable_options(self._command) if option.name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def settings(self) -> Settings:
        """The settings. Raises UsageError for a file with mistakes; help, which only shows defaults, goes on without it."""
        try:
            return self._read()
        except UsageError:
            context = click.get_current_context(silent=True)
            if context is not None and context.resilient_parsing:
                return Settings()
            raise


def make_defaults(root: click.Group, start: Callable[[], Path] = Path.cwd) -> SettingsDefaults:
    """The `default_map` of the whole command line, from the nearest settings at or above `start`; nothing is read yet."""
    return SettingsDefaults(root, functools.cache(lambda: load_settings(root, start())))


def results_directory() -> tuple[Path, Path] | None:
    """The results directory of the settings of the command now running, and the file that names it."""
    context = click.get_current_context(silent=True)
    defaults: object = None if context is None else context.find_root().default_map
    settings = defaults.settings() if isinstance(defaults, SettingsDefaults) else Settings()
    return None if settings.results is None or settings.path is None else (settings.results, settings.path)


def load_settings(root: click.Group, start: Path) -> Settings:
    """The nearest settings at or above a folder, checked. Raises UsageError with every mistake in them, one a line."""
    for folder in (start, *start.parents):
        for name in (FILE, PROJECT):
            table = _read_table(folder / name)
            if table is not None:
                return _check_table(root, folder / name, table)
    return Settings()


def _read_table(path: Path) -> Mapping[str, Any] | None:
    """The settings of a file; None where it is not there, or is a pyproject.toml that says nothing of cnnbench."""
    if not path.is_file():
        return None
    import tomllib

    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; {_NO_SETTINGS_HINT}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError with line and column, or bytes that are no UTF-8
        raise UsageError(f"{path}: not TOML: {error}; {_NO_SETTINGS_HINT}") from error
    if path.name == FILE:
        return table  # type: ignore[no-any-return]
    tool = table.get("tool")
    found = tool.get("cnnbench") if isinstance(tool, dict) else None
    if found is not None and not isinstance(found, dict):
        raise UsageError(f"{path}: tool.cnnbench must be a table, [tool.cnnbench]; {_NO_SETTINGS_HINT}")
    return found


_NO_SETTINGS_HINT = "`cnnbench --no-settings ...` leaves it aside"


class _SettingsTable(NamedTuple):
    """A table of the file: where a relative path starts, and what its heading is."""

    folder: Path
    heading: tuple[str, ...]

    def inside(self, name: str) -> _SettingsTable:
        return self._replace(heading=(*self.heading, name))

    def __str__(self) -> str:
        return f"[{'.'.join(self.heading)}] " if self.heading else ""


class _InvalidValue(Exception):
    """A value that will not do; the text is read after `key value`."""


def _check_table(root: click.Group, path: Path, table: Mapping[str, Any]) -> Settings:
    problems: list[str] = []
    place = _SettingsTable(path.parent, () if path.name == FILE else ("tool", "cnnbench"))
    results = None
    if RESULTS in table:
        if isinstance(table[RESULTS], str):
            results = Path(_resolve_path(table[RESULTS], place.folder))
        else:
            problems.append(f"{place}{RESULTS} {format_value(table[RESULTS])} must be text, a directory")
    rest = {key: value for key, value in table.items() if key != RESULTS}
    values = _check_commands(root, rest, place, problems, more=(RESULTS,))
    if problems:
        raise UsageError("\n".join((*(f"{path}: {problem}" for problem in problems), _NO_SETTINGS_HINT)))
    return Settings(path, results, values)


def _check_commands(
    group: click.Group, table: Mapping[str, Any], place: _SettingsTable, problems: list[str], more: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A group's tables, one a command."""
    context = click.Context(group)
    names = group.list_commands(context)
    values: dict[str, Any] = {}
    for name, inner in table.items():
        command = group.get_command(context, name) if name in names else None
        if command is None:
            said = "" if isinstance(inner, dict) else f" {format_value(inner)}"
            problems.append(f"{place}{name}{said}: no such command{suggest_choices(name, (*names, *more))}")
        elif not isinstance(inner, dict):
            problems.append(f"{place}{name} {format_value(inner)} must be a table, {str(place.inside(name)).strip()}")
        elif isinstance(command, click.Group):
            values[name] = _check_commands(command, inner, place.inside(name), problems)
        else:
            values[name] = _check_options(command, inner, place.inside(name), problems)
    return values


def _check_options(
    command: click.Command, table: Mapping[str, Any], place: _SettingsTable, problems: list[str]
) -> dict[str, Any]:
    """A command's values by parameter."""
    options = {key: option for option in _list_settable_options(command) for key in _list_keys(option)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            problems.append(f"{place}{key} {format_value(value)}: no such option{suggest_choices(key, options)}")
        elif option.name in values:
            problems.append(f"{place}{key} {format_value(value)}: the same option stands there twice")
        else:
            try:
                values[str(option.name)] = _convert_value(option, value, place.folder)
            except _InvalidValue as wrong:
                problems.append(f"{place}{key} {format_value(value)} {wrong}")
    return values


def _list_settable_options(command: click.Command) -> tuple[click.Option, ...]:
    """The options that settings may give: those whose value the command is handed."""
    return tuple(each for each in command.params if isinstance(each, click.Option) and each.expose_value)


def _list_keys(option: click.Option) -> tuple[str, ...]:
    """Its long names without dashes in front, or its letter where it has none."""
    long = tuple(name.removeprefix("--") for name in option.opts if name.startswith("--"))
    return long or tuple(name.lstrip("-") for name in option.opts)


def _is_results_option(option: click.Option) -> bool:
    variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
    return RESULTS_VARIABLE in variables


def _convert_value(option: click.Option, value: Any, folder: Path) -> Any:
    """The value as click takes it. Raises _Wrong."""
    if not option.multiple and option.nargs == 1:
        return _convert_single_value(option, value, folder)
    if not isinstance(value, list):
        raise _InvalidValue("must be a list")
    return [_convert_single_value(option, each, folder) for each in value]


def _convert_single_value(option: click.Option, value: Any, folder: Path) -> Any:
    kind = option.type
    if isinstance(kind, click.types.BoolParamType):
        if not isinstance(value, bool):
            raise _InvalidValue("must be true or false")
        return value
    for number, types, words in (
        (click.types.IntParamType, (int,), "a whole number"),
        (click.types.FloatParamType, (int, float), "a number"),
        (click.ParamType, (str,), "text"),
    ):
        if isinstance(kind, number):
            if not isinstance(value, types) or isinstance(value, bool):
                raise _InvalidValue(f"must be {words}")
            break
    if isinstance(kind, click.Path | click.File) and isinstance(value, str):
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
    """A path as seen from the settings' folder; `-`, standard output, stays."""
    return text if text == "-" else str(folder / Path(text).expanduser())
