"""The commands to learn with: what accuracies are worth (`learning stopping`, `convergence`, `open`, `bands`), and networks by
the lecture's own arithmetic (`explain`, `explain output-size`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.exceptions import Exit

from cnnbench.cli import completion
from cnnbench.cli.load_results import Selection, load_processes, load_results, no_results_error, results_or_none
from cnnbench.cli.options import (
    FILE,
    OUTPUT,
    RESULT_OPTIONS,
    format_option,
    gather_values,
    json_option,
    make_flag,
    make_option,
    results_option,
)
from cnnbench.cli.output import Destination
from cnnbench.errors import ExitCode, UsageError
from cnnbench.files import save_file

if TYPE_CHECKING:
    from cnnbench.report.model import Report
    from cnnbench.workloads import Workload

CONVERGENCE_COMMAND = "cnnbench run convergence"
MAX_SIDE = 2**31 - 1
"""The largest side that `explain output-size` takes: what a tensor's side may be in any framework."""
_SIDE_TYPE = click.IntRange(min=1, max=MAX_SIDE)


def _reject_nan(value: float | None) -> float | None:
    """Refuse NaN, which comparisons with a range's ends do not find."""
    if value is not None and math.isnan(value):
        raise click.BadParameter(f"{value} is no number")
    return value


@click.command
@RESULT_OPTIONS
@make_option("--sample", "Test images drawn after each epoch.", click.IntRange(1, 10_000), default=200)
@make_option(
    "--accuracy",
    "Compute from this true accuracy of a network, such as 0.992, instead of reading records.",
    click.FloatRange(0, 1),
    check=_reject_nan,
    metavar="SHARE",
)
@make_option("--epochs", "With --accuracy: number of epochs.  [default: 20]", click.IntRange(1, 1000))
@gather_values
def stopping(
    selection: Selection, destination: Destination, sample: int, accuracy: float | None, epochs: int | None
) -> None:
    """Explain the lecture's "100 %": it stops training as soon as 200 random test images are all classified right.

    Reads the results under PATHS (default: $CNNBENCH_RESULTS, else the settings', else ./results) that evaluated all 10,000
    test images after every epoch. Prints the true accuracy by epoch, the chance that a sample is all right, and the chance of
    having stopped by then; and for runs that follow the rule, when they stopped and how accurate they were then.
    """
    from cnnbench.report import learning as tables

    if accuracy is not None:
        if selection != Selection():
            raise UsageError(
                "--accuracy is the closed form, made of no records; leave out PATHS, --machine, --run, --last"
            )
        destination.emit(tables.build_stopping_from_accuracy(accuracy, epochs or 20, sample))
        return
    if epochs is not None:
        raise UsageError(f"--epochs {epochs} needs --accuracy; of records all epochs are shown")
    found = load_results(selection, command="cnnbench run lecture-stopping")
    report = tables.build_stopping(
        found.comparison.rows,
        found.processor_cell,
        sample=sample,
        problems=found.problems,
        digests=found.digests,
    )
    if not report.tables:
        raise no_results_error(
            selection.paths,
            found.problems,
            "no process that looked at all 10,000 test images after every epoch",
            "make some with `cnnbench run lecture-stopping`, or give --accuracy",
        )
    destination.emit(report)


@click.command
@RESULT_OPTIONS
@make_option(
    "--margin",
    "Loss of accuracy allowed, in percentage points.  [default: 0.1 with convolutions, 0.2 without]",
    click.FloatRange(0, 100, min_open=True),
    check=_reject_nan,
    metavar="POINTS",
)
@gather_values
def convergence(selection: Selection, destination: Destination, margin: float | None) -> None:
    """Test whether each mode (precision, layout, compiled, DataLoader, tuned) learns as well as the plain one.

    Compares rows of the same job on the same device under PATHS (default: $CNNBENCH_RESULTS, else the settings', else
    ./results), with at least 5 seeds each, by their accuracy on all 10,000 test images. Exit 1 if a mode learns worse, 4 if
    none does and one is undecided.
    """
    from cnnbench.analysis.seed_accuracy import compare_with_plain
    from cnnbench.report import learning as tables
    from cnnbench.report.footnotes import list_untested

    found = load_results(selection, command=CONVERGENCE_COMMAND)
    rows, share, processor = found.comparison.rows, None if margin is None else margin / 100, found.processor_cell
    tested, untested = compare_with_plain(rows, share)
    if not tested:
        raise no_results_error(
            selection.paths,
            (*(note.text for note in list_untested(untested)), *found.problems),
            "no mode that could be tested",
            f"measure modes beside the plain one: {CONVERGENCE_COMMAND}",
        )
    destination.emit(
        tables.build_convergence(rows, processor, margin=share, problems=found.problems, digests=found.digests)
    )
    exit_by_verdict({each.verdict for each in tested}, finding="learns worse", inconclusive="undecided")


def exit_by_verdict(verdicts: Collection[str], *, finding: str, inconclusive: str) -> None:
    """End with the exit code of the gravest verdict; return if all are good."""
    if finding in verdicts:
        raise Exit(ExitCode.FINDING)
    if inconclusive in verdicts:
        raise Exit(ExitCode.INCONCLUSIVE)


@click.command
@RESULT_OPTIONS
@make_option("--record", "Also write the count of each seed and the bands.", FILE, metavar="FILE.json")
@gather_values
def bands(selection: Selection, destination: Destination, record: Path | None) -> None:
    """Show the final test accuracy of each recipe: mean and spread over seeds, and the band of 4 standard deviations.

    Reads the results under PATHS (default: $CNNBENCH_RESULTS, else the settings', else ./results). Ten seeds or more make a
    band. Rows whose workload has a band already are checked against it, seed by seed: exit 1 if a seed is outside.
    """
    from cnnbench.analysis.seed_accuracy import collect_spreads, to_json
    from cnnbench.report import learning as tables

    found = load_results(selection, command="cnnbench run models")
    made, left_out = collect_spreads(found.comparison.rows)
    problems = (*left_out, *found.problems)
    if not made:
        raise no_results_error(
            selection.paths,
            problems,
            "no row that trained on MNIST and looked at all test images",
            "measure some with `cnnbench run models`",
        )
    if record is not None:
        save_file(record, to_json(made, found.digests))
    destination.emit(tables.build_bands(made, found.processor_cell, problems=problems, digests=found.digests))
    if any(each.outside_seeds or (each.known_band is not None and each.failed) for each in made):
        raise Exit(ExitCode.FINDING)


@click.command
@RESULT_OPTIONS
@gather_values
def open_claims(selection: Selection, destination: Destination) -> None:
    """Show what each fixed recipe of the open division reaches, in what time, and whether its claim holds.

    Reads the results under PATHS (default: $CNNBENCH_RESULTS, else the settings', else ./results). A claim is about the mean
    of 30 seeds or more. Exit 1 if one fails, 4 if none does and one has too few seeds.
    """
    from cnnbench.analysis.seed_accuracy import collect_claims
    from cnnbench.report import learning as tables

    found = load_results(selection, command="cnnbench run open")
    made = collect_claims(found.comparison.rows)
    if not made:
        raise no_results_error(
            selection.paths,
            found.problems,
            "no recipe of the open class trained on MNIST",
            "measure one with `cnnbench run open`",
        )
    destination.emit(tables.build_claims(made, found.processor_cell, problems=found.problems, digests=found.digests))
    exit_by_verdict({each.outcome for each in made}, finding="fails", inconclusive="too few seeds")


@click.command
@click.argument("names", metavar="WORKLOAD...", nargs=-1, required=True, shell_complete=completion.complete_workloads)
@format_option("table", "markdown", "json", "latex")
@make_flag("--slide", "Compare with what the lecture's slide prints, each mistake marked.")
@make_flag("--compare", "Put several workloads side by side, each figure divided by the first one's.")
@results_option("Where --compare looks for accuracies")
@OUTPUT
@gather_values
def explain(names: tuple[str, ...], slide: bool, compare: bool, results: Path | None, destination: Destination) -> None:
    """Compute a WORKLOAD layer by layer: output shapes, activations, weights, biases, bytes, FLOPs forward and training.

    `cnnbench list workloads` has the names; a Python file with a workload in it, which is run, will do too. Nothing is
    measured; only --compare reads results, for the best accuracy recorded of each workload.
    """
    from cnnbench import workloads
    from cnnbench.report import explain as words
    from cnnbench.workloads import explanation, lecture_slides

    if slide and compare:
        raise UsageError("--slide is of one workload and --compare of several: choose one of them")
    if compare:
        return destination.emit(_compare_several(names, results))
    if len(names) > 1:
        raise UsageError(f"explain takes one workload, not {len(names)}; --compare puts several side by side")
    workload = workloads.find(names[0])
    found = explanation.explain(workload)
    if not slide:
        return destination.emit(words.build(found))
    if statement := lecture_slides.STATEMENTS.get(workload.name):
        return destination.emit(words.build_statement(found, statement))
    printed = lecture_slides.slide_of(workload.name)
    also = explanation.explain(workloads.get(printed.also)) if printed.also else None
    destination.emit(words.build_slide(found, printed, also))


def _compare_several(names: Sequence[str], results: Path | None) -> Report:
    """Compare the workloads side by side, with their recorded results if there is a results directory.

    Raises LedgerError or UsageError if the directory named by a flag, the environment or the settings does not exist.
    """
    from cnnbench import workloads
    from cnnbench.workloads import explanation

    if len(set(names)) != len(names) or len(names) < 2:
        raise UsageError("--compare takes two or more different workloads, such as mlp-1 mnist-cnn-2048")
    chosen = [workloads.find(name) for name in names]
    for workload in chosen:
        explanation.explain(workload)  # refuses a GEMM before any ledger is read
    from cnnbench.analysis import tradeoff
    from cnnbench.report import explain as words

    place = results or results_or_none()
    found, processes = load_processes(Selection(paths=(place,)), required=False) if place else (None, ())
    contenders = tradeoff.compare_workloads(chosen, processes)
    missing = {each.workload.name: _how_to_measure(each.workload) for each in contenders if each.best is None}
    return words.build_tradeoff(contenders, missing, found.problems if found else ())


def _how_to_measure(workload: Workload) -> str:
    """`not measured here; run ...`, with the first shipped suite that measures its accuracy."""
    if workload.loss == "squared-error":
        return "a regression has no classes; run `cnnbench run first-day` for its R²"
    if workload.dataset == "random":
        return "trained on random images, which nothing can be right about"
    from cnnbench.plan.suite import find_suite, load_suite, suite_names

    for name in sorted(suite_names(), key=lambda each: (each != "models", each)):
        cells = load_suite(find_suite(name)).combinations("cpu")
        if any(cell["workload"] == workload.name and cell["final_evaluation"] for cell in cells):
            return f"not measured here; run `cnnbench run {name}`"
    return "not measured here; run it in a suite of your own"


@click.command
@make_option("-i --input input_", "Side of the input.", _SIDE_TYPE, required=True, metavar="I")
@make_option("-f --filter filter_", "Side of the filter or pool.", _SIDE_TYPE, required=True, metavar="F")
@make_option(
    "-p --padding",
    "Values added on each side of the input (default: 0).",
    click.IntRange(min=0, max=MAX_SIDE),
    metavar="P",
)
@make_option("-s --stride", "How far the filter moves.", _SIDE_TYPE, default=1, metavar="S")
@make_flag("--same", "SAME padding instead: the output is ceil(I / S); prints the padding this needs.")
@json_option()
def output_size(input_: int, filter_: int, padding: int | None, stride: int, same: bool, as_json: bool) -> None:
    """Compute a convolution's or pooling's output side, o = floor((i - f + 2p) / s) + 1; the first line is o alone."""
    from cnnbench.report import escaping
    from cnnbench.report import explain as words
    from cnnbench.workloads import explanation

    if same and padding is not None:
        raise UsageError("--same chooses the padding itself: leave out -p or --same")
    side = (
        explanation.same_side(input_, filter_, stride)
        if same
        else explanation.padded_side(input_, filter_, stride, padding or 0)
    )
    if as_json:
        click.echo(escaping.as_json(words.side_document(side), indent=2))
        return
    click.echo("\n".join((str(side.output), *words.side_lines(side))))
