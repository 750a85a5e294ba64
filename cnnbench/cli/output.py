"""Where a report goes: to standard output as wide as the terminal, or whole into a file."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from cnnbench.report.model import Chart, Report
    from cnnbench.report.render.text import Format


def emit_report(report: Report, format: Format, path: Path | None) -> None:
    """Print the report, or write it to the path and say so. Raises UsageError where that cannot be written."""
    from cnnbench.report.render import text

    if path is not None:
        save_file(path, text.render(report, format))
        click.echo(f"wrote {path}", err=True)
        return
    rendered = text.render(report, format, width=terminal_width(), color=sys.stdout.isatty())
    click.echo(printable(rendered), nl=False)


def terminal_width() -> int | None:
    """COLUMNS, else the terminal's width; None (all columns) where the output is neither."""
    columns = shutil.get_terminal_size(fallback=(0, 0)).columns
    return columns or None


def printable(text: str) -> str:
    """The text in what the output can encode: an en dash becomes ? rather than a traceback."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)


def draw_chart(chart: Chart, ending: str) -> str | bytes:
    """The picture for a file of that ending: a PNG for `.png`, else an SVG."""
    from cnnbench.report import chart_images

    return chart_images.png(chart) if ending == ".png" else chart_images.svg(chart)


def save_file(path: Path, content: str | bytes, *, make_folder: bool = False) -> None:
    """Write the file whole: what was there stays until all of the new is written. Raises UsageError where it cannot be."""
    special = path.exists() and not path.is_file()  # /dev/stdout, a pipe: nothing to replace
    target = path if special else path.with_name(f".{path.name}.part")
    data = content.encode() if isinstance(content, str) else content
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        if target != path:
            target.replace(path)
    except OSError as error:
        if target != path:
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot write: {error.strerror}; choose another place with -o") from error
