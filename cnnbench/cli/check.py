"""`cnnbench check`, `calibrate` and `selftest`: two arms side by side, this machine's noise, and the check's own test.

What they do is in `check_run` and `calibrate`, imported when they are called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cnnbench.cli import completion
from cnnbench.cli.options import (
    ANY_PATH,
    COUNT,
    DEFAULT_TOLERANCE,
    FILE,
    FOLDER,
    combine_options,
    filter_option,
    json_option,
    make_flag,
    make_option,
    tree_option,
)
from cnnbench.errors import ExitCode, UsageError

MIN_PERCENT = 0.2
MAX_INJECTED_SHARE = 2.0


def _parse_percent(text: str, flag: str) -> float:
    """Read `5%`, `5 %` or `5` as the fraction 0.05. Raises UsageError."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}: write a percentage, such as 5%") from error
    if value and value < MIN_PERCENT:
        raise UsageError(f"{flag} {text!r} is {value:g} %, less than any machine shows; for 5 % write 5%")
    return value / 100


def _parse_tau(value: str | None) -> float | str | None:
    return _parse_percent(value, "--tau") if value not in (None, "auto") else value


def _parse_shares(value: str) -> tuple[float, ...]:
    shares = tuple(_parse_percent(part, "--inject") for part in value.split(","))
    if any(not 0 <= share <= MAX_INJECTED_SHARE for share in shares):
        raise UsageError(f"--inject {value!r}: from 0 to {100 * MAX_INJECTED_SHARE:.0f} %")
    return shares


def _require_picture(value: Path | None) -> Path | None:
    if value is not None and value.suffix not in (".svg", ".png"):
        raise UsageError(f"--plot {value}: a plot is FILE.svg or FILE.png")
    return value


_pair_options = combine_options(
    click.argument("suite", metavar="SUITE", shell_complete=completion.complete_suites, required=False),
    make_option("-d --device", "The one device to measure on.", default="cpu"),
    filter_option("Only jobs whose text contains FILTER."),
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
_plan_options = combine_options(
    make_option(
        "--tau",
        "Slowdown tolerated, or auto (calibrated).",
        default=f"{DEFAULT_TOLERANCE:.0%}",
        metavar="PERCENT",
        check=_parse_tau,
    ),
    make_option("--max-blocks", "Blocks of the first stage at most.  [default: 16]", COUNT),
)
_profile_options = combine_options(
    make_option("--profile", "The noise profile to use.", FILE),
    make_flag("--no-profile", "Use no noise profile."),
)


@click.command
@_pair_options
@make_option("--base", "The git revision to hold against.", metavar="REF")
@make_option("--head", "The git revision to check.  [default: the working tree]", metavar="REF")
@make_option("--base-python", "Base's Python, or its virtual environment.", metavar="PATH")
@make_option("--head-python", "Head's Python, or its virtual environment.", metavar="PATH")
@make_option("--base-set", "A setting of base's jobs, such as threads=1.", multiple=True, metavar="KEY=VALUE")
@make_option("--head-set", "A setting of head's jobs.", multiple=True, metavar="KEY=VALUE")
@_plan_options
@make_option("--max-minutes", "Stop at the first look after these.", click.FloatRange(min=0, min_open=True))
@make_option("--inconclusive", "Exit 4 or 0 where nothing is decided.  [default: fail]", click.Choice(["fail", "warn"]))
@make_option("--metric", "Which step time decides.", click.Choice(["median", "mean"]), default="median")
@_profile_options
@make_option("-o --output", "The record, replayable JSON.  [default: the cache]", FILE)
@make_flag("--resume", "Go on with the check interrupted before, repeating nothing.")
@make_option("--replay", "Decide anew from a record; measures nothing.", FILE)
@make_option("--markdown", "The verdict as a table with its conditions.", FILE, metavar="FILE.md")
@make_option("--junit", "A test case a job and metric; failed: regressed.", FILE, metavar="FILE.xml")
@make_option("--plot", "A forest plot of the ratios.", FILE, metavar="FILE.svg|png", check=_require_picture)
@make_flag("--github", "Annotations on standard output, the table in the job's summary.")
@click.pass_context
def check(context: click.Context, /, **options: Any) -> None:
    """Hold head against base on the jobs of SUITE: pass, improved, regressed or inconclusive, never by a single number.

    Blocks of two fresh processes are measured until a look decides. Every block is saved before the next one starts.
    Exit 0 passed or improved, 1 regressed, 3 not comparable, 4 inconclusive, 5 a worker failed.
    """
    from cnnbench.cli.check_run import measure_check, replay_record

    if options["replay"] is not None:
        context.exit(replay_record(options))
    if options["suite"] is None:
        raise UsageError("no suite; name one, such as regression")
    context.exit(measure_check(context, options).ending.exit_code)


@click.command
@_pair_options
@make_option("--blocks", "Valid A/A blocks to measure.", click.IntRange(min=6), default=20)
@make_option("--expires", "How long it holds.", COUNT, default=30, metavar="DAYS")
@make_option(
    "--tau",
    f"Tolerance to say what is seen at.  [default: {DEFAULT_TOLERANCE:.0%}; with --from the recording's]",
    metavar="PERCENT",
    check=lambda value: None if value is None else _parse_percent(value, "--tau"),
)
@make_option("--set settings", "A setting of both arms' jobs.", multiple=True, metavar="KEY=VALUE")
@make_option("-o --output", "The profile.  [default: RESULTS/<machine>/noise/<suite>.json; with --from none]", FILE)
@make_option(
    "--plot",
    "The slowdown that would be found, over the spread of d, with each job on the curve.",
    FILE,
    metavar="FILE.svg|png",
    check=_require_picture,
)
@make_option(
    "--from recorded",
    "Profile and picture of blocks recorded before; measures nothing.",
    FILE,
    metavar="FILE-blocks.json",
)
@make_flag("--resume", "Go on with the calibration interrupted before.")
@json_option("Print the profile as JSON.")
@click.pass_context
def calibrate(context: click.Context, /, **options: Any) -> None:
    """Measure A/A blocks of SUITE and store the noise profile that `cnnbench check` then uses on this machine.

    The profile has the spread of d a job, within and between blocks, bands for the control loop and the final loss, the
    tolerance and rounds to take, and what would be found; the raw blocks are beside it as <suite>-blocks.json.
    """
    from cnnbench.cli.calibrate import run_calibration

    run_calibration(context, options)


@click.command
@_pair_options
@make_option("--inject", "How much longer a step is to take.", default="0,10", metavar="PERCENTS", check=_parse_shares)
@_plan_options
@_profile_options
@make_option("-o --output", "Folder for the records.  [default: the cache]", FOLDER)
@json_option("Print JSON instead of the table.")
@click.pass_context
def selftest(context: click.Context, /, **options: Any) -> None:
    """Check SUITE (default regression) against itself, once for each injected share of real work, and print what came of it.

    The work is part of the step itself, run again inside the timed region of head. Nothing injected must not be
    REGRESSED, twice the tolerance or more must be; the tolerance itself is expected INCONCLUSIVE. Exit 1 if one fails.
    """
    from cnnbench.cli.calibrate import run_selftest

    options["suite"] = options["suite"] or "regression"
    if not run_selftest(context, options):
        context.exit(ExitCode.FINDING)
