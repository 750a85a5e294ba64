"""`cnnbench ingest`: what pytest-benchmark measured, in cnnbench's columns."""

from __future__ import annotations

from pathlib import Path

import click

from cnnbench.cli import output as out
from cnnbench.errors import UsageError


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all columns to a file that ends in .csv or .json instead of printing a table.",
)
def ingest(files: tuple[Path, ...], output: Path | None) -> None:
    """Read pytest-benchmark's JSON (`--benchmark-json FILE`, or a run it saved) as a table, CSV or JSON.

    A file is one process, n=1, whatever rounds it has. It becomes no ledger: neither `compare` nor any table of results
    mixes it with processes that cnnbench measured.
    """
    from cnnbench.bridges import pytest_benchmark
    from cnnbench.report import escaping

    if output is not None and output.suffix not in (".csv", ".json"):
        raise UsageError(f"{output}: the ending says the format; end it in .csv or .json")
    if output in files:
        raise UsageError(f"{output}: that is the file to be read; choose another name with -o")
    found, problems = pytest_benchmark.read_files(files)
    report = pytest_benchmark.build(found, problems)
    if output is None:
        out.emit_report(report, "table", None)
        return
    for line in problems:
        click.echo(escaping.plain(line), err=True)
    if output.suffix == ".json":
        out.emit_report(report, "json", output)
        return
    out.save_file(output, pytest_benchmark.as_csv(found))
    click.echo(f"wrote {output}", err=True)
