"""`cnnbench compare`: two sides, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench.cli import output as out
from cnnbench.cli.sides import load_sides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnbench.cli.sides import LoadedSide
    from cnnbench.report.model import Report
    from cnnbench.report.render.text import Format


def parse_tolerance(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """`5%` or `0.05` as a fraction. A bare 5 could mean either, and is refused."""
    text = value.strip()
    try:
        tolerance = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        tolerance = -1.0
    if not 0 <= tolerance < 1:
        raise click.BadParameter(f"{value!r} is no share from 0 to below 1; write 5% or 0.05", context, parameter)
    return tolerance


@click.command()
@click.argument("base")
@click.argument("new")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where names are looked up (default: $CNNBENCH_RESULTS, else the settings, else ./results).",
)
@click.option(
    "--tolerance",
    callback=parse_tolerance,
    default="5%",
    show_default=True,
    metavar="SHARE",
    help="Two times are the SAME where the whole interval of their ratio lies within this.",
)
@click.option("--format", "format_", type=click.Choice(["table", "markdown", "latex", "csv", "json"]), default="table")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
def compare(base: str, new: str, results: Path | None, tolerance: float, format_: Format, output: Path | None) -> None:
    """Divide the times of BASE by those of NEW, row by row: above 1, NEW is faster.

    A side is a path (a ledger, or a folder of them) or a name: a machine's id or a run's, the beginning of one, or a key
    MACHINE/DEVICE[/THREADS] such as box/cuda:0 or box/cpu/2. `reference` and results/reference are the published rows.

    Only equal work is divided. Of several runs of a row the newest counts. A verdict is of these measurements alone: the
    exit code is 0 whatever it is, and 3 where nothing can be divided.
    """
    out.emit_report(report_sides((base, new), results=results, tolerance=tolerance), format_, output)


def report_sides(names: Sequence[str], *, tolerance: float, results: Path | None = None) -> Report:
    """The report of two named sides, the base first.

    Raises UsageError for names that stand for nothing, ComparisonError where nothing can be divided.
    """
    base, new = load_sides(names, results)
    return compare_sides(base, new, tolerance)


def compare_sides(base: LoadedSide, new: LoadedSide, tolerance: float) -> Report:
    """The report of two sides found. Raises ComparisonError where nothing can be divided."""
    from cnnbench.report import comparison

    return comparison.build(
        base.side,
        new.side,
        tolerance=tolerance,
        problems=(*base.problems, *new.problems),
        digests={**base.digests, **new.digests},
    )
