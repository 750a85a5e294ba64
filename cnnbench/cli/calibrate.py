"""`cnnbench calibrate`: pairs of one and the same code, to learn what this machine's noise lets a check see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from cnnbench.cli.check_outputs import plot_option, validate_extensions
from cnnbench.cli.check_setup import (
    CheckSetup,
    make_header,
    make_same_code_arms,
    pair_options,
    parse_percent,
    prepare_check,
    prepare_workers,
)
from cnnbench.errors import ComparisonError, LedgerError, UsageError
from cnnbench.units import percent

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.cli.check_progress import CheckDisplay
    from cnnbench.paired_protocol import PairRecord
    from cnnbench.regression.arms import PairedJobs, Workers
    from cnnbench.regression.check_record import CheckHeader, Journal
    from cnnbench.regression.design import CheckPlan
    from cnnbench.regression.noise_profile import NoiseProfile
    from cnnbench.report.model import Chart

DEFAULT_TOLERANCE = "5%"
OPTIONS_WITH_RECORDING = ("recorded", "tau", "expires", "output", "plot", "as_json")
"""Options that --from leaves to be given: all others say what is measured."""


class Recording(NamedTuple):
    """A recording; where its profile goes, if anywhere, and where its blocks are, if they were measured just now."""

    header: CheckHeader
    blocks: tuple[PairRecord, ...]
    profile_path: Path | None
    blocks_path: Path | None = None


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
    type=click.Path(path_type=Path, dir_okay=False),
    help="The profile.  [default: RESULTS/<machine>/noise/<suite>.json; with --from none]",
)
@plot_option("The slowdown that would be found, over the spread of d, with each job on the curve.")
@click.option(
    "--from",
    "recorded",
    type=click.Path(path_type=Path, dir_okay=False),
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
    from rich.console import Console

    from cnnbench.cli.output import draw_chart
    from cnnbench.cli.verbosity import verbosity as verbosity_of
    from cnnbench.files import save_file
    from cnnbench.regression.calibration import profile_recording

    console = Console(stderr=True, soft_wrap=True)
    if options["recorded"] is not None:
        found = _read_recording(context, options)
    else:
        found = _measure_recording(context, options, console, verbosity_of(context))
    profile = profile_recording(found.header, found.blocks, options["expires"])
    if found.profile_path is not None:
        save_file(found.profile_path, profile.model_dump_json(indent=1) + "\n", make_folder=True)
    if options["plot"] is not None:
        save_file(options["plot"], draw_chart(make_curve(profile), options["plot"].suffix))
    if options["as_json"]:
        click.echo(profile.model_dump_json(indent=1))
    else:
        for line in format_profile(profile):
            click.echo(line)
    written = (("profile", found.profile_path), ("blocks", found.blocks_path), ("picture", options["plot"]))
    for name, path in written:
        if path is not None:
            console.print(f"{name:<9} {path}", highlight=False, markup=False)


def _read_recording(context: click.Context, options: dict[str, Any]) -> Recording:
    """The recording of --from. Raises UsageError for an option that only measuring takes, LedgerError for another record."""
    from cnnbench.regression import check_record
    from cnnbench.regression.check_record import PlanRecord

    for each in context.command.params:
        given = context.get_parameter_source(each.name or "") is ParameterSource.COMMANDLINE
        if given and each.expose_value and each.name not in OPTIONS_WITH_RECORDING:
            flag = each.opts[-1] if isinstance(each, click.Option) else each.human_readable_name
            raise UsageError(f"--from reads blocks and measures nothing: leave out {flag}")
    path = options["recorded"]
    record = check_record.load_record(path)
    header = record.header
    if header.purpose != "calibrate":
        raise LedgerError(f"{path}: the record of a {header.purpose}, not of `cnnbench calibrate`: its arms may differ")
    if options["tau"] is not None:
        header = header.model_copy(update={"plan": PlanRecord.from_plan(_make_plan(options["tau"]))})
    return Recording(header, record.blocks, options["output"])


def _measure_recording(context: click.Context, options: dict[str, Any], console: Console, verbosity: int) -> Recording:
    """Measure, and store the blocks. Raises WorkerError or UnfitError where they cannot be had."""
    from cnnbench.cli.check_progress import CheckDisplay, announce_check
    from cnnbench.regression import check_record
    from cnnbench.regression.arms import identify_arms, pair_jobs, read_settings, require_same_software
    from cnnbench.regression.calibration import conclude_calibration
    from cnnbench.regression.noise_profile import profile_path

    setup = prepare_check(context, options, console)
    path = options["output"] or profile_path(options["results"], setup.inventory.machine.id, setup.suite.name)
    raw = path.with_name(f"{path.stem}-blocks.json")
    settings = read_settings("base", options["settings"])
    pair = pair_jobs(setup.jobs, settings, settings, setup.inventory.machine.cores_allowed)
    plan, specs = _make_plan(options["tau"] or DEFAULT_TOLERANCE), make_same_code_arms()
    old = check_record.reopen_journal(raw) if options["resume"] else None
    blocks: tuple[PairRecord, ...] = () if old is None else old[2]
    try:
        if old is not None:
            _require_same_conditions(old[1], setup, pair)
        with prepare_workers(setup, specs, pair) as workers:
            sides = identify_arms(workers, specs)
            if old is None:
                header = make_header(setup, pair, sides, plan, options, purpose="calibrate")
                journal = check_record.begin_journal(raw, header)
            else:
                journal, header, _ = old
                require_same_software(header, sides)
            if verbosity >= 0:
                announce_check(console, header, () if old is None else (f"resumed   after {len(blocks)} blocks",))
            with journal:
                display = CheckDisplay(console, verbosity)
                try:
                    blocks = _measure_blocks(journal, header, blocks, workers, setup, options["blocks"], display)
                except KeyboardInterrupt:
                    kept = f"{journal.path} holds every block measured; go on with the same command and --resume"
                    console.print(kept, highlight=False, markup=False)
                    raise
    finally:
        if old is not None:
            old[0].close()
    check_record.save_record(raw, conclude_calibration(header, blocks))
    return Recording(header, blocks, path, raw)


def _require_same_conditions(old: CheckHeader, setup: CheckSetup, pair: PairedJobs) -> None:
    """Raises ComparisonError where machine or suite changed since the first block, UsageError for other jobs."""
    here = setup.inventory.machine.id
    if here != old.machine.id:
        raise ComparisonError(
            f"this machine is {here}, the calibration began on {old.machine.id}: start a new one here"
        )
    if old.suite_digest != setup.suite.digest:
        raise ComparisonError(f"the suite {old.suite} changed since the calibration began: start a new one")
    now, before = ([job.row_key for _, job in sorted(jobs.items())] for jobs in (pair.base, old.jobs))
    if now != before:
        raise UsageError(
            "the calibration began with other jobs or settings: give the -k, -d, --threads and --set it had"
        )


def _measure_blocks(
    journal: Journal,
    header: CheckHeader,
    blocks: Sequence[PairRecord],
    workers: Workers,
    setup: CheckSetup,
    wanted: int,
    display: CheckDisplay,
) -> tuple[PairRecord, ...]:
    from cnnbench.regression.arms import make_block_design
    from cnnbench.regression.calibration import keep_counted_blocks
    from cnnbench.regression.sequential import NextBlock
    from cnnbench.runner.paired import measure_pair

    design, jobs, done = (
        make_block_design(header, setup.data_dir, setup.device.uuid),
        tuple(sorted(header.jobs)),
        list(blocks),
    )
    while (valid := len(keep_counted_blocks(header, done))) < wanted:
        display.on_start(len(done), NextBlock("screening", jobs, wanted, valid))
        block = measure_pair(design, workers.start, len(done), "screening", jobs)
        journal.append(block)
        done.append(block)
        display.on_finish(header, block)
    return tuple(done)


def _make_plan(tolerance: str) -> CheckPlan:
    from cnnbench.regression.design import make_check_plan

    return make_check_plan(parse_percent(tolerance, "--tau"))


def make_curve(profile: NoiseProfile) -> Chart:
    """The slowdown that a check at the profile's tolerance finds, over the spread of d, with the profile's jobs on it."""
    from cnnbench.regression.design import make_check_plan
    from cnnbench.report.charts.check import draw_detectable_effect

    spreads = {name: noise.spread for name, noise in profile.jobs.items()}
    return draw_detectable_effect(spreads, make_check_plan(profile.tolerance))


def format_profile(profile: NoiseProfile) -> list[str]:
    """The profile in words: a line a job, then what a check can see with it."""
    lines = [_format_job(name, profile) for name in profile.jobs]
    if profile.geometric_mean_spread is not None:
        lines.append(f"geometric mean: sigma_d {percent(profile.geometric_mean_spread)}")
    minutes = profile.wall_seconds / 60
    blocks = f"{profile.blocks} blocks counted, {profile.dropped} did not, {minutes:.1f} minutes"
    known = profile.recommended_rounds
    rounds = "no number of rounds a block brings" if known is None else f"{known} rounds a block bring"
    lines += [
        f"{blocks}: {profile.wall_seconds / (profile.blocks + profile.dropped):.1f} s a block",
        f"tolerance: as low as {percent(profile.recommended_tolerance, 1)} (3 sigma_d); {rounds} sigma_d to a "
        f"third of {percent(profile.tolerance, 1)}",
        f"control loop: blocks count where its ratio is within {percent(profile.control_band)}",
    ]
    for found in profile.detectable:
        seen = "nothing" if found.effect is None else f"a slowdown of {percent(found.effect)}"
        lines.append(
            f"at most {found.blocks} blocks: {seen} is found in 80 % of checks at {percent(profile.tolerance, 1)}"
        )
    for again in profile.replayed:
        lines.append(
            f"{again.checks} checks replayed from these blocks with fresh signs, {percent(again.effect, 1)} slower: "
            f"{again.regressed} regressed, {again.passed} passed, a median of {again.median_blocks:g} blocks"
        )
    return lines


def _format_job(name: str, profile: NoiseProfile) -> str:
    noise = profile.jobs[name]
    text = f"{name}: sigma_d {percent(noise.spread)} (mean steps {percent(noise.mean_spread)})"
    if noise.within_error is not None and noise.between_spread is not None:
        text += f", of which rounds explain {percent(noise.within_error)} and pairs {percent(noise.between_spread)}"
    return f"{text}; control {percent(noise.control_spread)}; {1e3 * noise.step_seconds:.2f} ms a step"
