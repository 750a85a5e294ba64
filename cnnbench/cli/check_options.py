"""The options that `check`, `calibrate` and `selftest` share, and what is wrong in them before anything is measured."""

from __future__ import annotations

import click

from cnnbench.cli import completion
from cnnbench.cli.options import (
    ANY_PATH,
    COUNT,
    FILE,
    CommandDecorator,
    OptionValues,
    combine_options,
    make_flag,
    make_option,
    tree_option,
)
from cnnbench.errors import UsageError

DEFAULT_TOLERANCE = "5%"
MIN_PERCENT = 0.2
OUTPUT_FILES = ("markdown", "junit", "plot")

pair_options = combine_options(
    click.argument("suite", metavar="SUITE", shell_complete=completion.complete_suites, required=False),
    make_option("-d --device", "The one device to measure on.", default="cpu"),
    make_option("-k name_filter", "Only jobs whose text contains FILTER.", metavar="FILTER"),
    make_option("--rounds", "Turns of each arm a block.", click.IntRange(min=2)),
    make_option("--steps-per-turn", "Steps a turn; the first is not timed.", click.IntRange(min=2)),
    make_option(
        "--sequential/--turns",
        "One process after the other, or both alive and taking turns.  [default: turns]",
        default=False,
        show_default=False,
    ),
    make_option("--threads", "CPU threads.  [default: the cores allowed]", COUNT),
    make_option("--seed", "Of every coin.  [default: random, recorded]", click.IntRange(min=0)),
    make_flag("--keep-disturbed", "Drop no block for what the machine's counters say (busy CI)."),
    make_option("--data-dir", "Directory of MNIST's four files.", ANY_PATH, envvar="CNNBENCH_DATA", show_envvar=True),
    tree_option("Where noise profiles are: <machine>/noise/<suite>.json.", "--results"),
)
"""The suite and the options that say what is measured, where and how."""
plan_options = combine_options(
    make_option("--tau", "Slowdown tolerated, or auto (calibrated).", default=DEFAULT_TOLERANCE, metavar="PERCENT"),
    make_option("--max-blocks", "Blocks of the first stage at most.  [default: 16]", COUNT),
)
profile_options = combine_options(
    make_option("--profile", "The noise profile to use.", FILE),
    make_flag("--no-profile", "Use no noise profile."),
)


def plot_option(shown: str) -> CommandDecorator:
    """`--plot`, with what the picture shows; `validate_extensions` holds it to the kinds there are."""
    return make_option("--plot", shown, FILE, metavar="FILE.svg|png")


output_options = combine_options(
    make_option("--markdown", "The verdict as a table with its conditions.", FILE, metavar="FILE.md"),
    make_option("--junit", "A test case a job and metric; failed: regressed.", FILE, metavar="FILE.xml"),
    plot_option("A forest plot of the ratios."),
    make_flag("--github", "Annotations on standard output, the table in the job's summary."),
)
"""For a command that ends with a record."""


def validate_extensions(options: OptionValues) -> None:
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
