"""`cnnbench check`, `check replay` and `check calibrate`: two arms side by side, a recorded check decided again, this machine's
noise and the check's own test.

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
    combine_options,
    filter_option,
    json_option,
    make_flag,
    make_option,
    tree_option,
)
from cnnbench.cli.settings import was_typed
from cnnbench.errors import ExitCode, UsageError

DEFAULT_SUITE = "regression"
CALIBRATION_ONLY = ("blocks", "expires", "settings", "plot", "recorded", "resume")
INJECTION_ONLY = ("max_blocks", "min_blocks", "profile", "no_profile")
"""Options of `check calibrate` that make no sense with --inject, and that need it."""
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


def _parse_tolerance(value: str | None) -> float | str | None:
    return value if value is None or value == "auto" else _parse_percent(value, "--tolerance")


def _parse_shares(value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    shares = tuple(_parse_percent(part, "--inject") for part in value.split(","))
    if any(not 0 <= share <= MAX_INJECTED_SHARE for share in shares):
        raise UsageError(f"--inject {value!r}: from 0 to {100 * MAX_INJECTED_SHARE:.0f} %")
    return shares


def _require_picture(value: Path | None) -> Path | None:
    if value is not None and value.suffix not in (".svg", ".png"):
        raise UsageError(f"--plot {value}: a plot is FILE.svg or FILE.png")
    return value


_pair_options = combine_options(
    click.argument("suite", shell_complete=completion.complete_suites, required=False, default=DEFAULT_SUITE),
    make_option("-d --device", "The one device to measure on.", default="cpu"),
    filter_option("Only jobs whose text contains FILTER."),
    make_option("--rounds", "Turns of each arm in a pair.", click.IntRange(min=2)),
    make_option("--steps-per-turn", "Steps in a turn; the first is not timed.", click.IntRange(min=2)),
    make_option(
        "--sequential/--turns",
        "One process after the other, or both alive and taking turns.  [default: turns]",
        default=False,
        show_default=False,
    ),
    make_option("--threads", "CPU threads.  [default: the cores allowed]", COUNT),
    make_option(
        "--seed",
        "Seed for the random order of the two arms; saved in the record.  [default: random]",
        click.IntRange(min=0),
    ),
    make_flag("--keep-disturbed", "Keep pairs that the machine's counters show as disturbed (for a busy CI)."),
    make_option("--data-dir", "Directory of MNIST's four files.", ANY_PATH, envvar="CNNBENCH_DATA", show_envvar=True),
    tree_option("Where noise profiles are stored: DIR/<machine>/noise/<suite>.json."),
)
"""The suite and the options that say what is measured, where and how."""
_surface_options = combine_options(
    make_option("--markdown", "The verdict as a table with its conditions.", FILE, metavar="FILE.md"),
    make_option("--junit", "A test case for each job and metric; failed: regressed.", FILE, metavar="FILE.xml"),
    make_option("--plot", "A forest plot of the ratios.", FILE, metavar="FILE.svg|png", check=_require_picture),
    make_flag("--github", "Annotations on standard output, the table in the job's summary."),
)
"""Where a verdict is written besides the terminal."""
_blocks_options = combine_options(
    make_option("--max-blocks", "Pairs in the first stage at most.  [default: 16]", COUNT),
    make_option(
        "--min-blocks", "Pairs that a PASS needs: more of them miss a rare slowdown less often.  [default: 6]", COUNT
    ),
)
_profile_options = combine_options(
    make_option("--profile", "The noise profile to use.", FILE),
    make_flag("--no-profile", "Use no noise profile."),
)


@click.command
@_pair_options
@make_option("--base", "The git revision to compare with.", metavar="REF")
@make_option("--head", "The git revision to check.  [default: the working tree]", metavar="REF")
@make_option("--base-python", "Base's Python, or its virtual environment.", metavar="PATH")
@make_option("--head-python", "Head's Python, or its virtual environment.", metavar="PATH")
@make_option("--base-set", "A setting of base's jobs, such as threads=1.", multiple=True, metavar="KEY=VALUE")
@make_option("--head-set", "A setting of head's jobs.", multiple=True, metavar="KEY=VALUE")
@make_option(
    "--tolerance",
    "Slowdown tolerated, or auto (as calibrated).",
    default=f"{DEFAULT_TOLERANCE:.0%}",
    metavar="PERCENT",
    check=_parse_tolerance,
)
@_blocks_options
@make_option("--max-minutes", "Stop at the first look after these.", click.FloatRange(min=0, min_open=True))
@make_option("--inconclusive", "Exit 4 or 0 if nothing is decided.  [default: fail]", click.Choice(["fail", "warn"]))
@make_option("--metric", "Which step time decides.", click.Choice(["median", "mean"]), default="median")
@_profile_options
@make_option("-o --output", "The record, a JSON file for `check replay`.  [default: in the cache]", FILE)
@make_flag("--resume", "Continue the interrupted check, repeating nothing.")
@_surface_options
@click.pass_context
def check(context: click.Context, /, **options: Any) -> None:
    """Compare head with base on the jobs of SUITE (default: regression): pass, improved, regressed or inconclusive.

    Pairs of fresh processes are measured until a look decides. Every pair is saved before the next one starts. `cnnbench
    check run` is the same.

    Exit 0 passed or improved, 1 regressed, 3 not comparable, 4 inconclusive, 5 a worker failed.
    """
    from cnnbench.cli.check_run import measure_check

    context.exit(measure_check(context, options).ending.exit_code)


@click.command
@click.argument("record", metavar="FILE.json", type=FILE)
@make_option("-o --output", "Write the record again, with the same bytes.", FILE)
@_surface_options
@click.pass_context
def replay(context: click.Context, /, record: Path, **options: Any) -> None:
    """Decide a recorded check again and print its verdict; nothing is measured.

    Exits as the check did; 2 if the record's pairs do not lead to the verdict that it holds.
    """
    from cnnbench.cli.check_run import replay_record

    context.exit(replay_record(record, options))


@click.command
@_pair_options
@make_option("--blocks", "Valid A/A pairs to measure.  [default: 20]", click.IntRange(min=6))
@make_option("--expires", "How long the profile is valid.  [default: 30]", COUNT, metavar="DAYS")
@make_option(
    "--inject",
    "Check this code against itself instead, with a step made so much longer; once for each share. Without a value: 0,10.",
    is_flag=False,
    flag_value="0,10",
    metavar="PERCENTS",
    check=_parse_shares,
)
@make_option(
    "--tolerance",
    f"Tolerance to plan for.  [default: {DEFAULT_TOLERANCE:.0%}; with --from the recording's]",
    metavar="PERCENT",
    check=_parse_tolerance,
)
@make_option("--set settings", "A setting of both arms' jobs.", multiple=True, metavar="KEY=VALUE")
@make_option(
    "-o --output",
    "The profile (default: RESULTS/<machine>/noise/<suite>.json; with --from none); with --inject a folder for the records "
    "(default: in the cache).",
    ANY_PATH,
    metavar="FILE|DIR",
)
@make_option(
    "--plot",
    "The slowdown that would be found, over the spread of d, with each job on the curve.",
    FILE,
    metavar="FILE.svg|png",
    check=_require_picture,
)
@make_option(
    "--from recorded",
    "Profile and picture of pairs recorded before; measures nothing.",
    FILE,
    metavar="FILE-blocks.json",
)
@make_flag("--resume", "Continue the interrupted calibration.")
@_blocks_options
@_profile_options
@json_option("Print JSON.")
@click.pass_context
def calibrate(context: click.Context, /, **options: Any) -> None:
    """Measure the noise of SUITE (default: regression) here, and store the profile that `cnnbench check` then uses.

    Pairs of the same code (A/A) give the spread of d for each job, within and between pairs, bands for the control loop and
    the final loss, the tolerance and rounds to take, and which slowdowns would be found; the raw pairs are stored beside it as
    <suite>-blocks.json.

    With --inject the whole check runs on this code against itself, with real work run again inside head's timed region.
    Nothing injected must not be REGRESSED, twice the tolerance or more must be; the tolerance itself is expected
    INCONCLUSIVE. Exit 1 if one fails.
    """
    from cnnbench.cli.calibrate import run_calibration, run_selftest

    injected = options["inject"] is not None and (was_typed("inject") or not any(map(was_typed, CALIBRATION_ONLY)))
    for name in CALIBRATION_ONLY if injected else INJECTION_ONLY:
        if options[name] and was_typed(name):
            flag = next(each.opts[-1] for each in context.command.params if each.name == name)
            raise UsageError(f"{flag} {'makes no sense with' if injected else 'needs'} --inject")
    output = options["output"]
    if output is not None and output.exists() and output.is_dir() != injected:
        raise UsageError(
            f"-o {output}: {'the records need a folder' if injected else 'a folder; the profile is one file'}"
        )
    if not injected:
        if options["tolerance"] == "auto":
            raise UsageError("--tolerance auto needs --inject: without it write a percentage, such as 5%")
        run_calibration(context, {**options, "blocks": options["blocks"] or 20, "expires": options["expires"] or 30})
    elif not run_selftest(context, {**options, "tolerance": options["tolerance"] or DEFAULT_TOLERANCE}):
        context.exit(ExitCode.FINDING)
