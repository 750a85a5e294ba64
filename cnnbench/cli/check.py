"""`cnnbench check`, `calibrate` and `selftest`: two arms side by side, this machine's noise, and the check's own test.

What they do is in `check_run`, `calibrate` and `selftest`, imported when they are called.
"""

from __future__ import annotations

from typing import Any

import click

from cnnbench.cli.check_options import (
    DEFAULT_TOLERANCE,
    output_options,
    pair_options,
    plan_options,
    plot_option,
    profile_options,
    validate_extensions,
)
from cnnbench.cli.options import COUNT, FILE, FOLDER, json_option, make_flag, make_option
from cnnbench.errors import ExitCode, UsageError


@click.command()
@pair_options
@make_option("--base", "The git revision to hold against.", metavar="REF")
@make_option("--head", "The git revision to check.  [default: the working tree]", metavar="REF")
@make_option("--base-python", "Base's Python, or its virtual environment.", metavar="PATH")
@make_option("--head-python", "Head's Python, or its virtual environment.", metavar="PATH")
@make_option("--base-set", "A setting of base's jobs, such as threads=1.", multiple=True, metavar="KEY=VALUE")
@make_option("--head-set", "A setting of head's jobs.", multiple=True, metavar="KEY=VALUE")
@plan_options
@make_option("--max-minutes", "Stop at the first look after these.", click.FloatRange(min=0, min_open=True))
@make_option("--inconclusive", "Exit 4 or 0 where nothing is decided.  [default: fail]", click.Choice(["fail", "warn"]))
@make_option("--metric", "Which step time decides.", click.Choice(["median", "mean"]), default="median")
@profile_options
@make_option("-o --output", "The record, replayable JSON.  [default: the cache]", FILE)
@make_flag("--resume", "Go on with the check interrupted before, repeating nothing.")
@make_option("--replay", "Decide anew from a record; measures nothing.", FILE)
@output_options
@click.pass_context
def check(context: click.Context, /, **options: Any) -> None:
    """Hold head against base on the jobs of SUITE: pass, improved, regressed or inconclusive, never by a single number.

    Blocks of two fresh processes are measured until a look decides. Every block is saved before the next one starts.
    Exit 0 passed or improved, 1 regressed, 3 not comparable, 4 inconclusive, 5 a worker failed.
    """
    validate_extensions(options)
    from cnnbench.cli.check_run import measure_check, replay_record

    if options["replay"] is not None:
        context.exit(replay_record(options))
    if options["suite"] is None:
        raise UsageError("no suite; name one, such as regression")
    context.exit(measure_check(context, options).ending.exit_code)


@click.command()
@pair_options
@make_option("--blocks", "Valid A/A blocks to measure.", click.IntRange(min=6), default=20)
@make_option("--expires", "How long it holds.", COUNT, default=30, metavar="DAYS")
@make_option(
    "--tau",
    f"Tolerance to say what is seen at.  [default: {DEFAULT_TOLERANCE}; with --from the recording's]",
    metavar="PERCENT",
)
@make_option("--set settings", "A setting of both arms' jobs.", multiple=True, metavar="KEY=VALUE")
@make_option("-o --output", "The profile.  [default: RESULTS/<machine>/noise/<suite>.json; with --from none]", FILE)
@plot_option("The slowdown that would be found, over the spread of d, with each job on the curve.")
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
    validate_extensions(options)
    from cnnbench.cli.calibrate import run_calibration

    run_calibration(context, options)


@click.command()
@pair_options
@make_option("--inject", "How much longer a step is to take.", default="0,10", metavar="PERCENTS")
@plan_options
@profile_options
@make_option("-o --output", "Folder for the records.  [default: the cache]", FOLDER)
@json_option("Print JSON instead of the table.")
@click.pass_context
def selftest(context: click.Context, /, **options: Any) -> None:
    """Check SUITE (default regression) against itself, once for each injected share of real work, and print what came of it.

    The work is part of the step itself, run again inside the timed region of head. Nothing injected must not be
    REGRESSED, twice the tolerance or more must be; the tolerance itself is expected INCONCLUSIVE. Exit 1 if one fails.
    """
    from cnnbench.cli.selftest import run_selftest

    options["suite"] = options["suite"] or "regression"
    if not run_selftest(context, options):
        context.exit(ExitCode.FINDING)
