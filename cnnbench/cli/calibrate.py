"""`cnnbench calibrate`: pairs of one and the same code, to learn what this machine's noise lets a check see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from cnnbench.cli.pairs import (
    Ground,
    alike,
    make_header,
    open_workers,
    pair_options,
    read_percent,
    survey,
)
from cnnbench.cli.surfaces import check_endings, plot_option
from cnnbench.errors import ComparisonError, LedgerError, UsageError
from cnnbench.units import percent

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.cli.blocks import PairDisplay
    from cnnbench.gate.plan import Plan
    from cnnbench.gate.prepare import Pair, Workers
    from cnnbench.gate.profile import NoiseProfile
    from cnnbench.gate.recording import CheckHeader, Journal
    from cnnbench.pairing import Block
    from cnnbench.report.model import Chart

DEFAULT_TAU = "5%"
OF_A_RECORDING = ("recorded", "tau", "expires", "output", "plot", "as_json")
"""Options that --from leaves to be given: all others say what is measured."""


class Recorded(NamedTuple):
    """A recording; where its profile goes, if anywhere, and where its blocks are, if they were measured just now."""

    header: CheckHeader
    blocks: tuple[Block, ...]
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
    help=f"Tolerance to say what is seen at.  [default: {DEFAULT_TAU}; with --from the recording's]",
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
    check_endings(options)
    from rich.console import Console

    from cnnbench.cli.output import draw, save
    from cnnbench.cli.verbosity import verbosity as verbosity_of
    from cnnbench.gate.calibration import profile_of

    console = Console(stderr=True, soft_wrap=True)
    if options["recorded"] is not None:
        found = _read(context, options)
    else:
        found = _record(context, options, console, verbosity_of(context))
    profile = profile_of(found.header, found.blocks, options["expires"])
    if found.profile_path is not None:
        save(found.profile_path, profile.model_dump_json(indent=1) + "\n", make_folder=True)
    if options["plot"] is not None:
        save(options["plot"], draw(curve(profile), options["plot"].suffix))
    if options["as_json"]:
        click.echo(profile.model_dump_json(indent=1))
    else:
        for line in profile_lines(profile):
            click.echo(line)
    written = (("profile", found.profile_path), ("blocks", found.blocks_path), ("picture", options["plot"]))
    for name, path in written:
        if path is not None:
            console.print(f"{name:<9} {path}", highlight=False, markup=False)


def _read(context: click.Context, options: dict[str, Any]) -> Recorded:
    """The recording of --from. Raises UsageError for an option that only measuring takes, LedgerError for another record."""
    from cnnbench.gate import recording
    from cnnbench.gate.recording import PlanSide

    for each in context.command.params:
        given = context.get_parameter_source(each.name or "") is ParameterSource.COMMANDLINE
        if given and each.expose_value and each.name not in OF_A_RECORDING:
            flag = each.opts[-1] if isinstance(each, click.Option) else each.human_readable_name
            raise UsageError(f"--from reads blocks and measures nothing: leave out {flag}")
    path = options["recorded"]
    record = recording.load(path)
    header = record.header
    if header.purpose != "calibrate":
        raise LedgerError(f"{path}: the record of a {header.purpose}, not of `cnnbench calibrate`: its arms may differ")
    if options["tau"] is not None:
        header = header.model_copy(update={"plan": PlanSide.of(_plan(options["tau"]))})
    return Recorded(header, record.blocks, options["output"])


def _record(context: click.Context, options: dict[str, Any], console: Console, verbosity: int) -> Recorded:
    """Measure, and store the blocks. Raises WorkerError or UnfitError where they cannot be had."""
    from cnnbench.cli.blocks import PairDisplay, announce
    from cnnbench.gate import recording
    from cnnbench.gate.calibration import conclude_calibration
    from cnnbench.gate.prepare import introduce, pair_jobs, read_settings, same_software
    from cnnbench.gate.profile import profile_path

    ground = survey(context, options, console)
    path = options["output"] or profile_path(options["results"], ground.inventory.machine.id, ground.suite.name)
    raw = path.with_name(f"{path.stem}-blocks.json")
    settings = read_settings("base", options["settings"])
    pair = pair_jobs(ground.jobs, settings, settings, ground.inventory.machine.cores_allowed)
    plan, wishes = _plan(options["tau"] or DEFAULT_TAU), alike()
    old = recording.reopen(raw) if options["resume"] else None
    blocks: tuple[Block, ...] = () if old is None else old[2]
    try:
        if old is not None:
            _hold_same(old[1], ground, pair)
        with open_workers(ground, wishes, pair) as workers:
            sides = introduce(workers, wishes)
            if old is None:
                header = make_header(ground, pair, sides, plan, options, purpose="calibrate")
                journal = recording.begin(raw, header)
            else:
                journal, header, _ = old
                same_software(header, sides)
            if verbosity >= 0:
                announce(console, header, () if old is None else (f"resumed   after {len(blocks)} blocks",))
            with journal:
                display = PairDisplay(console, verbosity)
                try:
                    blocks = _measure(journal, header, blocks, workers, ground, options["blocks"], display)
                except KeyboardInterrupt:
                    kept = f"{journal.path} holds every block measured; go on with the same command and --resume"
                    console.print(kept, highlight=False, markup=False)
                    raise
    finally:
        if old is not None:
            old[0].close()
    recording.save(raw, conclude_calibration(header, blocks))
    return Recorded(header, blocks, path, raw)


def _hold_same(old: CheckHeader, ground: Ground, pair: Pair) -> None:
    """Raises ComparisonError where machine or suite changed since the first block, UsageError for other jobs."""
    here = ground.inventory.machine.id
    if here != old.machine.id:
        raise ComparisonError(
            f"this machine is {here}, the calibration began on {old.machine.id}: start a new one here"
        )
    if old.suite_digest != ground.suite.digest:
        raise ComparisonError(f"the suite {old.suite} changed since the calibration began: start a new one")
    now, before = ([job.row_key for _, job in sorted(jobs.items())] for jobs in (pair.base, old.jobs))
    if now != before:
        raise UsageError(
            "the calibration began with other jobs or settings: give the -k, -d, --threads and --set it had"
        )


def _measure(
    journal: Journal,
    header: CheckHeader,
    blocks: Sequence[Block],
    workers: Workers,
    ground: Ground,
    wanted: int,
    display: PairDisplay,
) -> tuple[Block, ...]:
    from cnnbench.gate.calibration import counted_blocks
    from cnnbench.gate.course import Next
    from cnnbench.gate.prepare import design_of
    from cnnbench.runner.paired import measure_block

    design, jobs, done = (
        design_of(header, ground.data_dir, ground.device.uuid),
        tuple(sorted(header.jobs)),
        list(blocks),
    )
    while (valid := len(counted_blocks(header, done))) < wanted:
        display.begins(len(done), Next("screening", jobs, wanted, valid))
        block = measure_block(design, workers.start, len(done), "screening", jobs)
        journal.append(block)
        done.append(block)
        display.ends(header, block)
    return tuple(done)


def _plan(tau: str) -> Plan:
    from cnnbench.gate.plan import make_plan

    return make_plan(read_percent(tau, "--tau"))


def curve(profile: NoiseProfile) -> Chart:
    """The slowdown that a check at the profile's tolerance finds, over the spread of d, with the profile's jobs on it."""
    from cnnbench.gate.plan import make_plan
    from cnnbench.report.charts.mde import detectable_curve

    spreads = {name: noise.spread for name, noise in profile.jobs.items()}
    return detectable_curve(spreads, make_plan(profile.tolerance))


def profile_lines(profile: NoiseProfile) -> list[str]:
    """The profile in words: a line a job, then what a check can see with it."""
    lines = [_job_line(name, profile) for name in profile.jobs]
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


def _job_line(name: str, profile: NoiseProfile) -> str:
    noise = profile.jobs[name]
    text = f"{name}: sigma_d {percent(noise.spread)} (mean steps {percent(noise.mean_spread)})"
    if noise.within_error is not None and noise.between_spread is not None:
        text += f", of which rounds explain {percent(noise.within_error)} and pairs {percent(noise.between_spread)}"
    return f"{text}; control {percent(noise.control_spread)}; {1e3 * noise.step_seconds:.2f} ms a step"
