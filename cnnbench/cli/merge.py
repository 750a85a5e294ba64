"""`cnnbench merge`: the ledgers of many machines in one tree."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cnnbench.merge import Entry, MergeResult, MergeStatus

DONE: dict[MergeStatus, str] = {"brought": "brought", "longer": "longer", "there": "already there"}
PLANNED: dict[MergeStatus, str] = {"brought": "to bring", "longer": "to replace by longer", "there": "already there"}
LEFT_OUT: dict[MergeStatus, str] = {"conflict": "CONFLICT", "alive": "ALIVE", "refused": "REFUSED"}


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    envvar="CNNBENCH_RESULTS",
    show_envvar=True,
    show_default=True,
    help="Results directory they are brought to.",
)
@click.option("--dry-run", is_flag=True, help="Say what would happen and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of each run as JSON.")
@click.pass_context
def merge(context: click.Context, /, sources: tuple[Path, ...], output: Path, dry_run: bool, as_json: bool) -> None:
    """Bring the ledgers under each DIR (folders of *.jsonl, or single files) into one results directory.

    Copies are byte for byte, and the DIRs are only read. A run that is there already is not brought twice; of two copies
    where one goes on from the other the longer one is kept. Where two copies of a run differ, neither is touched and the
    exit code is 1. Exit 2 where a file was left out because it is no ledger, cannot be read or has no place in the tree,
    5 where a ledger was left out because its run is still going on; the rest is merged all the same.
    """
    from cnnbench.cli.verbosity import verbosity
    from cnnbench.merge import merge as merge_trees

    merged = merge_trees(sources, output, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(_document(merged, dry_run), indent=2))
    else:
        _print(merged, dry_run, verbosity(context))
    context.exit(merged.exit_code)


def _document(merged: MergeResult, dry_run: bool) -> dict[str, Any]:
    return {
        "results": str(merged.results),
        "dry_run": dry_run,
        "records": merged.records,
        **{status: merged.count(status) for status in (*DONE, *LEFT_OUT)},
        "entries": [_entry(each) for each in merged.entries],
        "without_ledgers": [str(path) for path in merged.empty],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "status": entry.status,
        "kind": entry.kind,
        "target": None if entry.target is None else str(entry.target),
        "sources": [str(path) for path in entry.sources],
        "records": entry.records,
        "notes": list(entry.notes),
        "problems": list(entry.problems),
    }


def _print(merged: MergeResult, dry_run: bool, verbosity: int) -> None:
    """The outcome on standard output; on standard error what to know about it."""
    for path in merged.empty:
        _print_line(f"warning: {path}: no *.jsonl under it", err=True)
    for entry in merged.entries:
        for problem in entry.problems:
            _print_line(f"warning: {problem}", err=True)
        if entry.status in LEFT_OUT:
            _print_line(f"{LEFT_OUT[entry.status]}  {_explain_left_out(entry)}")
        elif verbosity > 0 or (verbosity == 0 and (entry.status != "there" or entry.notes)):
            _print_line(f"{(PLANNED if dry_run else DONE)[entry.status]}  {_describe_entry(entry)}")
    if verbosity < 0:
        return
    _print_line(_summary(merged, dry_run))
    if merged.records and not dry_run:
        _print_line(_next_command(merged.results), err=True)


def _explain_left_out(entry: Entry) -> str:
    why = "; ".join(entry.notes)
    if entry.status != "conflict":
        return why
    return f"{entry.target}: {why}; neither was overwritten; set the wrong one aside and merge again"


def _describe_entry(entry: Entry) -> str:
    one = {"run": "record", "reference": "row"}[entry.kind or "run"]
    origin = f" from {entry.sources[0]}" if entry.status != "there" else ""
    notes = "".join(f"; {note}" for note in entry.notes)
    return f"{entry.target}: {_format_count(entry.records, one)}{origin}{notes}"


def _summary(merged: MergeResult, dry_run: bool) -> str:
    """`3 ledgers brought, 2 already there, 1 longer, 0 conflicts; 120 records in all`, and what else there was."""
    brought = "to bring" if dry_run else "brought"
    parts = [
        f"{_format_count(merged.count('brought', kind='run'), 'ledger')} {brought}",
        f"{merged.count('there', kind='run')} already there",
        f"{merged.count('longer', kind='run')} longer",
        _format_count(merged.count("conflict"), "conflict"),
    ]
    if left_out := merged.count("alive", "refused"):
        parts.append(f"{left_out} left out")
    if rows := merged.count("brought", "longer", kind="reference"):
        parts.append(f"{_format_count(rows, 'file')} of published rows {brought}")
    return f"{', '.join(parts)}; {_format_count(merged.records, 'record')} in all"


def _format_count(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def _next_command(results: Path) -> str:
    return f"now: cnnbench report {results} -o report.html"


def _print_line(text: str, *, err: bool = False) -> None:
    """One line: names come out of other people's files and folders, so what is no letter is shown by its code."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    click.echo(shown.encode(encoding, errors="replace").decode(encoding), err=err)
