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
from cnnbench.cli.options import FILE, FOLDER
from cnnbench.errors import ExitCode, UsageError


@click.command()
@pair_options
@click.option("--base", metavar="REF", help="The git revision to hold against.")
@click.option("--head", metavar="REF", help="The git revision to check.  [default: the working tree]")
@click.option("--base-python", metavar="PATH", help="Base's Python, or its virtual environment.")
@click.option("--head-python", metavar="PATH", help="Head's Python, or its virtual environment.")
@click.option("--base-set", multiple=True, metavar="KEY=VALUE", help="A setting of base's jobs, such as threads=1.")
@click.option("--head-set", multiple=True, metavar="KEY=VALUE", help="A setting of head's jobs.")
@plan_options
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Stop at the first look after these.")
@click.option(
    "--inconclusive", type=click.Choice(["fail", "warn"]), help="Exit 4 or 0 where nothing is decided.  [default: fail]"
)
@click.option(
    "--metric",
    type=click.Choice(["median", "mean"]),
    default="median",
    show_default=True,
    help="Which step time decides.",
)
@profile_options
@click.option("-o", "--output", type=FILE, help="The record, replayable JSON.  [default: the cache]")
@click.option("--resume", is_flag=True, help="Go on with the check interrupted before, repeating nothing.")
@click.option("--replay", type=FILE, help="Decide anew from a record; measures nothing.")
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
@click.option(
    "--blocks", type=click.IntRange(min=6), default=20, show_default=True, help="Valid A/A blocks to measure."
)
@click.option(
    "--expires", type=click.IntRange(min=1), default=30, show_default=True, metavar="DAYS", help="How long it holds."
)
@click.option(
    "--tau",
    metavar="PERCENT",
    help=f"Tolerance to say what is seen at.  [default: {DEFAULT_TOLERANCE}; with --from the recording's]",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of both arms' jobs.")
@click.option(
    "-o",
    "--output",
    type=FILE,
    help="The profile.  [default: RESULTS/<machine>/noise/<suite>.json; with --from none]",
)
@plot_option("The slowdown that would be found, over the spread of d, with each job on the curve.")
@click.option(
    "--from",
    "recorded",
    type=FILE,
    metavar="FILE-blocks.json",
    help="Profile and picture of blocks recorded before; measures nothing.",
)
@click.option("--resume", is_flag=True, help="Go on with the calibration interrupted before.")
@click.option("--json", "as_json", is_flag=True, help="Print the profile as JSON.")
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
@click.option(
    "--inject", default="0,10", show_default=True, metavar="PERCENTS", help="How much longer a step is to take."
)
@plan_options
@profile_options
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    help="Folder for the records.  [default: the cache]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
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
