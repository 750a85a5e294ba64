"""`cnnbench stopping`, `bands` and `converge`: what accuracies are worth; the lecture's "100 %", a recipe's, a mode's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench.cli import output as out
from cnnbench.cli.load_results import Selection
from cnnbench.cli.table_options import load_rows, no_results_error, processor_cell, result_options
from cnnbench.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from cnnbench.report.render.text import Format

MAX_EPOCHS = 1000


def _reject_nan(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """NaN is in no range and outside none."""
    if value is not None and math.isnan(value):
        raise click.BadParameter(f"{value} is no number", context, parameter)
    return value


@click.command()
@result_options
@click.option(
    "--sample",
    type=click.IntRange(1, 10_000),
    default=200,
    show_default=True,
    help="Test images drawn after each epoch.",
)
@click.option(
    "--accuracy",
    type=click.FloatRange(0, 1),
    callback=_reject_nan,
    metavar="SHARE",
    help="Of no records, but of a network of this true accuracy, such as 0.992.",
)
@click.option(
    "--epochs", type=click.IntRange(1, MAX_EPOCHS), help="With --accuracy: how many are drawn after.  [default: 20]"
)
def stopping(
    paths: tuple[Path, ...],
    format_: Format,
    machine_id: str | None,
    run_id: str | None,
    last: bool,
    output: Path | None,
    sample: int,
    accuracy: float | None,
    epochs: int | None,
) -> None:
    """Say what the lecture's "100 %" means: it stops training as soon as 200 random test images are all right.

    From the results under PATHS (default: $CNNBENCH_RESULTS, else the settings', else ./results) that looked at all 10,000
    test images after every epoch: the true accuracy by epoch, the chance that a sample is all right, and the chance of having
    stopped by then. Beside it, where runs that follow the rule are there, when they stopped and how good they were then.
    """
    from cnnbench.report import stopping_rule as tables

    selection = Selection(machine_id, run_id, last)
    if accuracy is not None:
        if paths or selection != Selection():
            raise UsageError(
                "--accuracy is the closed form, made of no records; leave out PATHS, --machine, --run, --last"
            )
        out.emit_report(tables.build_from_accuracy(accuracy, epochs or 20, sample), format_, output)
        return
    if epochs is not None:
        raise UsageError(f"--epochs {epochs} needs --accuracy; of records all epochs are shown")
    found = load_rows(paths, selection, "cnnbench run lecture-stopping")
    report = tables.build(
        found.comparison.rows,
        processor_cell(found.comparison.rows),
        sample=sample,
        problems=found.problems,
        digests=found.digests,
    )
    if not report.tables:
        raise no_results_error(
            "no process that looked at all 10,000 test images after every epoch",
            "make some with `cnnbench run lecture-stopping`, or give --accuracy",
            paths,
            found.problems,
        )
    out.emit_report(report, format_, output)


@click.command()
@result_options
@click.option(
    "--margin",
    type=click.FloatRange(0, 100, min_open=True),
    callback=_reject_nan,
    metavar="POINTS",
    help="Loss of accuracy that is allowed, in percentage points.  [default: 0.1 with convolutions, 0.2 without]",
)
@click.pass_context
def converge(
    context: click.Context,
    /,
    paths: tuple[Path, ...],
    format_: Format,
    machine_id: str | None,
    run_id: str | None,
    last: bool,
    output: Path | None,
    margin: float | None,
) -> None:
    """Test whether each mode (precision, layout, compiled, DataLoader, tuned) learns as well as the plain one.

    From the results under PATHS (default: $CNNBENCH_RESULTS, else the settings', else ./results): rows of the same job in the
    same place with at least 5 seeds each, by their accuracy on all 10,000 test images. Exit 1 where a mode learns worse, 4
    where none does and one is undecided. Of whole jobs the loss curves are compared too; they change no exit code.
    """
    from cnnbench.analysis.convergence import compare_with_plain
    from cnnbench.report import convergence as tables

    found = load_rows(paths, Selection(machine_id, run_id, last), _REMEDY)
    rows, share = found.comparison.rows, None if margin is None else margin / 100
    processor = processor_cell(rows)
    report = tables.build(rows, processor, margin=share, problems=found.problems, digests=found.digests)
    tested, untested = compare_with_plain(rows, share)
    if not tested:
        why = (*(note.text for note in tables.list_untested(untested, processor)), *found.problems)
        raise no_results_error(
            "no mode that could be tested", f"measure modes beside the plain one: {_REMEDY}", paths, why
        )
    out.emit_report(report, format_, output)
    verdicts = {each.verdict for each in tested}
    if "learns worse" in verdicts:
        context.exit(ExitCode.FINDING)
    if "undecided" in verdicts:
        context.exit(ExitCode.INCONCLUSIVE)


_REMEDY = "cnnbench run convergence"


@click.command()
@result_options
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.json",
    help="Also write every seed's own count, with the bands they make.",
)
@click.pass_context
def bands(
    context: click.Context,
    /,
    paths: tuple[Path, ...],
    format_: Format,
    machine_id: str | None,
    run_id: str | None,
    last: bool,
    output: Path | None,
    record: Path | None,
) -> None:
    """Say what test accuracy each recipe ends with: mean and spread over seeds, and the band of 4 standard deviations.

    From the results under PATHS (default: $CNNBENCH_RESULTS, else the settings', else ./results). Ten seeds or more make a
    band. Rows whose workload has a band already are held to it, seed by seed: exit 1 where a seed lies outside.
    """
    from cnnbench.analysis.accuracy_bands import collect_spreads, to_json
    from cnnbench.report import accuracy_bands as tables

    found = load_rows(paths, Selection(machine_id, run_id, last), "cnnbench run models")
    made, left_out = collect_spreads(found.comparison.rows)
    problems = (*left_out, *found.problems)
    if not made:
        raise no_results_error(
            "no row that trained on MNIST and looked at all test images",
            "measure some with `cnnbench run models`",
            paths,
            problems,
        )
    if record is not None:
        out.save_file(record, to_json(made, found.digests))
    report = tables.build(made, processor_cell(found.comparison.rows), problems=problems, digests=found.digests)
    out.emit_report(report, format_, output)
    if any(each.outside_seeds or (each.known_band is not None and each.failed) for each in made):
        context.exit(ExitCode.FINDING)
