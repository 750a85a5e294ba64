#!/usr/bin/env python3
"""Write what is generated in docs/: the page of commands, and the tables of figures in the other pages (`doc_figures.py`).

    python tools/write_docs.py            # write them
    python tools/write_docs.py --check    # write nothing; exit 1 if a page is out of date

docs/commands.md has every command with its options, as the command line declares them, and every exit code.
`tests/test_written_docs.py` fails while a page is out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]  # the commands of this tree, whichever is installed

from doc_figures import BLOCK, fill_blocks  # noqa: E402

from cnnbench.cli.main import COMMANDS, cli  # noqa: E402
from cnnbench.errors import ExitCode  # noqa: E402

PAGE, COMMAND = "docs/commands.md", "python tools/write_docs.py"
EVERYWHERE = {"--verbose", "--quiet", "--help"}
"""Options of every command, listed once."""


def render_page() -> str:
    """Render the whole page."""
    root = click.Context(cli, info_name="cnnbench", **cli.context_settings)
    commands = list(_walk(root))
    parts = [
        "# Commands and exit codes",
        f"Written by `{COMMAND}` from what the command line declares; a change by hand is lost.",
        "\n".join(_list_commands(commands)),
        "## Options of every command",
        _escape(cli.epilog or ""),
        "\n".join(_list_options(root, cli, everywhere=True)),
        *(part for context, command in commands for part in _describe(context, command)),
        "## Exit codes",
        "The same for every command. 70 and 141 are what sysexits.h and a shell call these; 1 and 2 would claim a finding or a "
        "mistake of the caller's.",
        "\n".join(
            ("| code | meaning |", "|---|---|", *(f"| {code.value} | {code.meaning} |" for code in sorted(ExitCode)))
        ),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _walk(context: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    """Yield every command below that of the context, a group before its own, in the order of the help."""
    group = context.command
    for name in group.list_commands(context) if isinstance(group, click.Group) else ():
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            inner = click.Context(command, info_name=name, parent=context)
            yield inner, command
            yield from _walk(inner)


def _list_commands(commands: list[tuple[click.Context, click.Command]]) -> Iterator[str]:
    yield from ("| command | what it does |", "|---|---|")
    for context, command in commands:
        path = context.command_path
        _, line = COMMANDS.get(path.removeprefix("cnnbench "), ("", ""))
        shown = _escape(line or command.get_short_help_str(limit=200))
        yield f"| [`{path}`](#{path.replace(' ', '-')}) | {shown} |"


def _describe(context: click.Context, command: click.Command) -> Iterator[str]:
    """Yield the command's heading, its usage, its help and its options."""
    yield f"{'#' * context.command_path.count(' ')}# {context.command_path}"
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    yield f"    {usage}"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        _, kept, lines = paragraph.rpartition("\b\n")  # what click leaves in its lines
        yield f"```text\n{lines}\n```" if kept else _escape(" ".join(lines.split()))
    yield "\n".join(_list_options(context, command))


def _list_options(context: click.Context, command: click.Command, *, everywhere: bool = False) -> Iterator[str]:
    options = (each for each in command.get_params(context) if isinstance(each, click.Option))
    own = (each for each in options if everywhere or EVERYWHERE.isdisjoint(each.opts))
    records = [record for each in own if (record := each.get_help_record(context)) is not None]
    if records:
        yield from ("| option | what it does |", "|---|---|")
    for names, text in records:
        code = names.replace("|", "\\|")
        yield f"| `{code}` | {_escape(' '.join(text.split()))} |"


def _escape(text: str) -> str:
    """Escape what Markdown would take for its own outside code, and what would end a table's cell."""
    parts = re.split(r"(`[^`]*`)", text)
    shown = (part if part.startswith("`") else re.sub(r"([*<~\\])", r"\\\1", part) for part in parts)
    return "".join(shown).replace("|", "\\|")


def render_pages() -> Iterator[tuple[Path, str]]:
    """Render the page of commands, and every page that has tables of figures with these written again."""
    yield ROOT / PAGE, render_page()
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if BLOCK.search(text):
            yield path, fill_blocks(text, ROOT / "results")


def main() -> int:
    """Write the pages, or with --check compare them; return the exit code."""
    if sys.argv[1:] not in ([], ["--check"]):
        print(__doc__)
        return 0 if sys.argv[1:] == ["--help"] else 2
    old = []
    for path, page in render_pages():
        if path.is_file() and path.read_text(encoding="utf-8") == page:
            continue
        old.append(path.relative_to(ROOT).as_posix())
        if not sys.argv[1:]:
            path.write_text(page, encoding="utf-8")
    if sys.argv[1:]:
        print(*(f"{name} is out of date; run: {COMMAND}" for name in old), *["current"] * (not old), sep="\n")
        return 1 if old else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
