"""Where a command's text goes: to standard output as wide as the terminal, or whole into a file."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench.files import save_file

if TYPE_CHECKING:
    from cnnbench.report.model import Chart, Report
    from cnnbench.report.render.text import Format


@dataclass(frozen=True)
class Destination:
    """The choice of `--format` and `-o`."""

    format_: Format | None = "table"
    """None if a command chooses it by the file's ending."""
    output: Path | None = None

    def emit(self, report: Report) -> None:
        """Print the report, or write it to the file and report that. Raises FileError if that fails."""
        from cnnbench.report.render import text

        emit_text(functools.partial(text.render, report, self.format_ or "table"), self.output)


def emit_text(render: Callable[..., str], path: Path | None) -> None:
    """Print what `render` makes of the terminal's `width` and `color`, or write what it makes without them to the path."""
    if path is not None:
        write_output(path, render())
        return
    # COLUMNS, else the terminal's width; None (all columns) where the output is neither
    width = shutil.get_terminal_size(fallback=(0, 0)).columns or None
    click.echo(printable(render(width=width, color=sys.stdout.isatty())), nl=False)


def write_output(path: Path, content: str | bytes) -> None:
    """Write a file that was asked for and report it. Raises FileError if it cannot be written."""
    save_file(path, content)
    click.echo(f"wrote {path}", err=True)


def print_json(value: object) -> None:
    """Print a value made of plain ones as JSON."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_warnings(lines: tuple[str, ...]) -> None:
    """Print lines from other people's files on standard error."""
    from cnnbench.report.escaping import plain

    for line in lines:
        click.echo(plain(line), err=True)


def printable(text: str, *, err: bool = False) -> str:
    """Replace what the output (standard error with `err`) cannot encode: an en dash gives ? rather than a traceback."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)


def draw_chart(chart: Chart, ending: str) -> str | bytes:
    """Draw the chart for a file's ending: a PNG for `.png`, else an SVG."""
    from cnnbench.report import chart_images

    return chart_images.png(chart) if ending == ".png" else chart_images.svg(chart)
