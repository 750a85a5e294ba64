"""The options that `check`, `calibrate` and `selftest` share, and what is wrong in them before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from cnnbench.cli import completion
from cnnbench.cli.options import FILE, combine_options
from cnnbench.errors import UsageError

DEFAULT_TOLERANCE = "5%"
MIN_PERCENT = 0.2
OUTPUT_FILES = ("markdown", "junit", "plot")
_Command = TypeVar("_Command", bound=Callable[..., Any])

pair_options = combine_options(
    click.argument("suite", metavar="SUITE", shell_complete=completion.complete_suites, required=False),
    click.option("-d", "--device", default="cpu", show_default=True, help="The one device to measure on."),
    click.option("-k", "name_filter", metavar="FILTER", help="Only jobs whose text contains FILTER."),
    click.option("--rounds", type=click.IntRange(min=2), help="Turns of each arm a block."),
    click.option("--steps-per-turn", type=click.IntRange(min=2), help="Steps a turn; the first is not timed."),
    click.option(
        "--sequential/--turns",
        default=False,
        help="One process after the other, or both alive and taking turns.  [default: turns]",
    ),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: the cores allowed]"),
    click.option("--seed", type=click.IntRange(min=0), help="Of every coin.  [default: random, recorded]"),
    click.option("--keep-disturbed", is_flag=True, help="Drop no block for what the machine's counters say (busy CI)."),
    click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        envvar="CNNBENCH_DATA",
        show_envvar=True,
        help="Directory of MNIST's four files.",
    ),
    click.option(
        "--results",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("results"),
        envvar="CNNBENCH_RESULTS",
        show_envvar=True,
        show_default=True,
        help="Where noise profiles are: <machine>/noise/<suite>.json.",
    ),
)
"""The suite and the options that say what is measured, where and how."""
plan_options = combine_options(
    click.option(
        "--tau",
        default=DEFAULT_TOLERANCE,
        show_default=True,
        metavar="PERCENT",
        help="Slowdown tolerated, or auto (calibrated).",
    ),
    click.option("--max-blocks", type=click.IntRange(min=1), help="Blocks of the first stage at most.  [default: 16]"),
)
profile_options = combine_options(
    click.option("--profile", type=FILE, help="The noise profile to use."),
    click.option("--no-profile", is_flag=True, help="Use no noise profile."),
)


def plot_option(shown: str) -> Callable[[_Command], _Command]:
    """`--plot`, with what the picture shows; `validate_extensions` holds it to the kinds there are."""
    return click.option("--plot", type=FILE, metavar="FILE.svg|png", help=shown)


output_options = combine_options(
    click.option("--markdown", type=FILE, metavar="FILE.md", help="The verdict as a table with its conditions."),
    click.option("--junit", type=FILE, metavar="FILE.xml", help="A test case a job and metric; failed: regressed."),
    plot_option("A forest plot of the ratios."),
    click.option("--github", is_flag=True, help="Annotations on standard output, the table in the job's summary."),
)
"""For a command that ends with a record."""


def validate_extensions(options: Mapping[str, Any]) -> None:
    """Raise UsageError for a plot of a kind there is none of, before anything is measured."""
    plot = options["plot"]
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise UsageError(f"--plot {plot}: a plot is FILE.svg or FILE.png")


def parse_percent(text: str, flag: str) -> float:
    """`5%`, `5 %` or `5` as the fraction 0.05. Raises UsageError."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}: write a percentage, such as 5%") from error
    if value and value < MIN_PERCENT:
        raise UsageError(f"{flag} {text!r} is {value:g} %, less than any machine shows; for 5 % write 5%")
    return value / 100
