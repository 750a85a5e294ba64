"""`cnnbench explain` and `cnnbench outsize`: a network by the lecture's own arithmetic. Neither torch nor pandas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnbench import workloads
from cnnbench.cli import completion
from cnnbench.cli import output as out
from cnnbench.errors import UsageError
from cnnbench.report import escaping
from cnnbench.report import explain as words
from cnnbench.workloads import explanation, lecture_slides

if TYPE_CHECKING:
    from cnnbench.analysis.process_table import Process
    from cnnbench.report.model import Report
    from cnnbench.report.render.text import Format

MAX_SIDE = 2**31 - 1
"""The largest side `outsize` takes: what a tensor's side may be in any framework, and no more digits than a line has."""
_SIDE_TYPE = click.IntRange(min=1, max=MAX_SIDE)


@click.command()
@click.argument("names", metavar="WORKLOAD...", nargs=-1, required=True, shell_complete=completion.complete_workloads)
@click.option("--format", "format_", type=click.Choice(["table", "markdown", "json", "latex"]), default="table")
@click.option(
    "--slide", is_flag=True, help="What the lecture's slide prints beside what is right, each mistake marked."
)
@click.option("--compare", is_flag=True, help="Several workloads side by side, each figure over the first one's.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where --compare looks for accuracies (default: $CNNBENCH_RESULTS, else the settings, else ./results).",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
def explain(
    names: tuple[str, ...],
    format_: Format,
    slide: bool,
    compare: bool,
    results: Path | None,
    output: Path | None,
) -> None:
    """Work out a WORKLOAD layer by layer: output shapes, activations, weights, biases, bytes, FLOPs forward and training.

    `cnnbench list workloads` has the names; a Python file with a workload in it, which is run, will do too. Nothing is
    measured; only --compare reads results, for the best accuracy recorded of each workload.
    """
    if slide and compare:
        raise UsageError("--slide is of one workload and --compare of several: choose one of them")
    if compare:
        report = _compare_several(names, results)
    elif len(names) == 1:
        report = _explain_one(names[0], slide=slide)
    else:
        raise UsageError(f"explain takes one workload, not {len(names)}; --compare puts several side by side")
    out.emit_report(report, format_, output)


def _explain_one(name: str, *, slide: bool) -> Report:
    workload = workloads.find(name)
    found = explanation.explain(workload)
    if not slide:
        return words.build(found)
    from cnnbench.report import slide as beside

    printed = lecture_slides.slide_of(workload.name)
    also = None if printed.also is None else explanation.explain(workloads.get(printed.also))
    return beside.build(found, printed, also)


def _compare_several(names: Sequence[str], results: Path | None) -> Report:
    if len(set(names)) != len(names) or len(names) < 2:
        raise UsageError("--compare takes two or more different workloads, such as mlp-1 mnist-cnn-2048")
    chosen = [workloads.find(name) for name in names]
    for workload in chosen:
        explanation.explain(workload)  # refuses a GEMM before any ledger is read
    from cnnbench.analysis import tradeoff
    from cnnbench.report import tradeoff as side_by_side

    processes, problems = _load_processes(results)
    contenders = tradeoff.compare_workloads(chosen, processes)
    missing = {each.workload.name: _how_to_measure(each.workload) for each in contenders if each.best is None}
    return side_by_side.build(contenders, missing, problems)


def _load_processes(results: Path | None) -> tuple[tuple[Process, ...], tuple[str, ...]]:
    """Every process recorded there, and what was odd; none where no results directory was named and there is no ./results.

    Raises LedgerError or UsageError where the directory that a flag, the environment or the settings name is not there.
    """
    from cnnbench import store
    from cnnbench.analysis import process_table
    from cnnbench.cli.sides import results_or_none

    place = results or results_or_none()
    if place is None:
        return (), ()
    loaded = store.load_tree([place])
    processes, doubles = process_table.read_processes(loaded.ledgers)
    return processes, (*loaded.problems, *doubles)


def _how_to_measure(workload: workloads.Workload) -> str:
    """`not measured here; run ...`, with the first shipped suite that ends a job of it with its accuracy."""
    if workload.dataset == "random":
        return "trained on random images, which nothing can be right about"
    from cnnbench.plan.suite import find_suite, load_suite, suite_names

    for name in sorted(suite_names(), key=lambda each: (each != "models", each)):
        cells = load_suite(find_suite(name)).combinations("cpu")
        if any(cell["workload"] == workload.name and cell["final_evaluation"] for cell in cells):
            return f"not measured here; run `cnnbench run {name}`"
    return "not measured here; run it in a suite of your own"


@click.command()
@click.option("-i", "--input", "input_", type=_SIDE_TYPE, required=True, metavar="I", help="Side of the input.")
@click.option(
    "-f", "--filter", "filter_", type=_SIDE_TYPE, required=True, metavar="F", help="Side of the filter or pool."
)
@click.option(
    "-p",
    "--padding",
    type=click.IntRange(min=0, max=MAX_SIDE),
    metavar="P",
    help="Values added on each side of the input (default: 0).",
)
@click.option(
    "-s", "--stride", type=_SIDE_TYPE, default=1, show_default=True, metavar="S", help="How far the filter moves."
)
@click.option("--same", is_flag=True, help="SAME padding instead: ceil(I / S), and the padding that takes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def outsize(input_: int, filter_: int, padding: int | None, stride: int, same: bool, as_json: bool) -> None:
    """Work out a convolution's or pooling's output side, o = floor((i - f + 2p) / s) + 1; the first line is o alone."""
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
