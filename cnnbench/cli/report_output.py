"""What `cnnbench report` leaves on disk: its files, a Markdown page with the first screen in it, and whether both are current."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench.errors import ExitCode, UsageError
from cnnbench.files import save_file

if TYPE_CHECKING:
    from cnnbench.report.model import Page
    from cnnbench.report.report_files import StaleFile

TABLE_BEGIN, TABLE_END = "<!-- table: ", "<!-- table end -->"


def split_at_marks(target: Path) -> tuple[str, str]:
    """Split the Markdown page at its two marks, which stay. Raises UsageError where they are not there exactly once."""
    parts = re.split(
        rf"(?m)^({re.escape(TABLE_BEGIN)}.*-->\n|{re.escape(TABLE_END)}$)", target.read_text(encoding="utf-8")
    )
    if len(parts) != 5 or not parts[1].startswith(TABLE_BEGIN) or parts[3] != TABLE_END:
        raise UsageError(f"{target}: needs one line `{TABLE_BEGIN}... -->` and below it one `{TABLE_END}`")
    return parts[0] + parts[1], parts[3] + parts[4]


def fill_page(around: tuple[str, str], target: Path, page: Page, folder: Path) -> str:
    """Put the first screen between the marks of the Markdown page `target`."""
    from cnnbench.report import report_files
    from cnnbench.report.render import markdown

    def link(path: Path) -> str:
        return Path(os.path.relpath(path, target.parent)).as_posix()

    made = markdown.render_first_screen(
        page, charts_at=link(folder / report_files.CHARTS), rest_at=link(folder / report_files.DOCUMENT)
    )
    return made.join(around)


def print_stale(root: Path | None, wanted: Mapping[Path, str | bytes]) -> ExitCode:
    """Print which files on disk are not what they would be, and why; returns the exit code."""
    found = _find_stale(root, wanted)
    for each in found:
        click.echo(f"{each.path}: {each.reason}")
    click.echo(f"{len(found)} not current: run the same command without --check" if found else "all current", err=True)
    return ExitCode.FINDING if found else ExitCode.DONE


def _find_stale(root: Path | None, wanted: Mapping[Path, str | bytes]) -> list[StaleFile]:
    from cnnbench.report import report_files

    inside = {} if root is None else {str(p.relative_to(root)): c for p, c in wanted.items() if p.is_relative_to(root)}
    single = {path: content for path, content in wanted.items() if root is None or not path.is_relative_to(root)}
    found = [] if root is None else report_files.find_stale(root, inside)
    return [
        *found,
        *(
            report_files.StaleFile(path, why)
            for path, text in single.items()
            if (why := report_files.explain_difference(path, text))
        ),
    ]


def write_files(root: Path | None, wanted: Mapping[Path, str | bytes]) -> None:
    """Write the files, and remove charts of ours that this report no longer has. Raises FileError."""
    for path, content in wanted.items():
        save_file(path, content, make_folder=root is not None)
        click.echo(f"wrote {path}", err=True)
    for path in _find_removed_charts(root, wanted):
        path.unlink()
        click.echo(f"removed {path}: no chart of this report any more", err=True)


def _find_removed_charts(root: Path | None, wanted: Mapping[Path, str | bytes]) -> list[Path]:
    """Charts of ours (they carry their data) that this report no longer has."""
    from cnnbench.report import chart_images, report_files

    if root is None:
        return []
    found = sorted(path for path in (root / report_files.CHARTS).glob("*.svg") if path not in wanted)
    return [path for path in found if chart_images.stored_digest(path.read_text(encoding="utf-8", errors="replace"))]
