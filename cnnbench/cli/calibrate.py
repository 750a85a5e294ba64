"""`cnnbench calibrate`: pairs of one and the same code, to learn what this machine's noise lets a check see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnbench.cli.pairs import (
    Ground,
    alike,
    make_header,
    open_workers,
    pair_options,
    read_percent,
    survey,
)
from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from cnnbench.cli.blocks import PairDisplay
    from cnnbench.gate.prepare import Workers
    from cnnbench.gate.profile import NoiseProfile
    from cnnbench.gate.recording import CheckHeader, Journal
    from cnnbench.pairing import Block


@click.command()
@pair_options
@click.option(
    "--blocks", type=click.IntRange(min=6), default=20, show_default=True, help="Valid A/A blocks to measure."
)
@click.option(
    "--expires", type=click.IntRange(min=1), default=30, show_default=True, metavar="DAYS", help="How long it holds."
)
@click.option("--tau", default="5%", show_default=True, metavar="PERCENT", help="Tolerance to say what is seen at.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of both arms' jobs.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The profile.  [default: RESULTS/<machine>/noise/<suite>.json]",
)
@click.option("--resume", is_flag=True, help="Go on with the calibration interrupted before.")
@click.option("--json", "as_json", is_flag=True, help="Print the profile as JSON.")
@click.pass_context
def calibrate(context: click.Context, /, **options: Any) -> None:
    """Measure A/A blocks of SUITE and store the noise profile that `cnnbench check` then uses on this machine.

    The profile has the spread of d a job, within and between blocks, bands for the control loop and the final loss, the
    tolerance and rounds to take, and what would be found; the raw blocks are beside it as <suite>-blocks.json.
    """
    from rich.console import Console

    from cnnbench.cli.blocks import PairDisplay
    from cnnbench.cli.main import verbosity as verbosity_of
    from cnnbench.cli.output import save
    from cnnbench.gate import recording
    from cnnbench.gate.calibration import conclude_calibration, counted_blocks
    from cnnbench.gate.profile import make_profile, profile_path

    console, verbosity = Console(stderr=True, soft_wrap=True), verbosity_of(context)
    ground = survey(context, options, console)
    path = options["output"] or profile_path(options["results"], ground.inventory.machine.id, ground.suite.name)
    raw = path.with_name(f"{path.stem}-blocks.json")
    header, blocks = _record(ground, options, raw, PairDisplay(console, verbosity), console, verbosity)
    now = datetime.now(UTC)
    until = now + timedelta(days=options["expires"])
    stamps = [moment.isoformat(timespec="seconds") for moment in (now, until)]
    profile = make_profile(header, blocks, counted_blocks(header, blocks), *stamps)
    recording.save(raw, conclude_calibration(header, blocks))
    save(path, profile.model_dump_json(indent=1) + "\n", make_folder=True)
    if options["as_json"]:
        click.echo(profile.model_dump_json(indent=1))
    else:
        for line in profile_lines(profile):
            click.echo(line)
    console.print(f"profile   {path}\nblocks    {raw}", highlight=False, markup=False)


def _record(
    ground: Ground, options: dict[str, Any], raw: Path, display: PairDisplay, console: Any, verbosity: int
) -> tuple[CheckHeader, tuple[Block, ...]]:
    """All blocks of the recording. Raises WorkerError or UnfitError where they cannot be had."""
    from cnnbench.cli.blocks import announce
    from cnnbench.gate import recording
    from cnnbench.gate.plan import make_plan
    from cnnbench.gate.prepare import introduce, pair_jobs, read_settings

    settings = read_settings("base", options["settings"])
    old = recording.reopen(raw) if options["resume"] else None
    blocks: tuple[Block, ...] = () if old is None else old[2]
    pair = pair_jobs(ground.jobs, settings, settings, ground.inventory.machine.cores_allowed)
    wishes = alike()
    with open_workers(ground, wishes, pair) as workers:
        sides = introduce(workers, wishes)
        if old is None:
            plan = make_plan(read_percent(options["tau"], "--tau"))
            header = make_header(ground, pair, sides, plan, options, purpose="calibrate")
            journal = recording.begin(raw, header)
        else:
            journal, header, _ = old
            if header.machine.id != ground.inventory.machine.id or header.suite_digest != ground.suite.digest:
                raise UsageError(f"{journal.path}: of another machine or an older suite; delete it and start anew")
        if verbosity >= 0:
            announce(console, header)
        with journal:
            return header, _measure(journal, header, blocks, workers, ground, options["blocks"], display)


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


def profile_lines(profile: NoiseProfile) -> list[str]:
    """The profile in words: a line a job, then what a check can see with it."""
    lines = [_job_line(name, profile) for name in profile.jobs]
    if profile.geometric_mean_spread is not None:
        lines.append(f"geometric mean: sigma_d {_percent(profile.geometric_mean_spread)}")
    minutes = profile.wall_seconds / 60
    blocks = f"{profile.blocks} blocks counted, {profile.dropped} did not, {minutes:.1f} minutes"
    rounds = "no number of rounds" if profile.recommended_rounds is None else f"{profile.recommended_rounds} rounds"
    lines += [
        f"{blocks}: {profile.wall_seconds / (profile.blocks + profile.dropped):.1f} s a block",
        f"tolerance: as low as {_percent(profile.recommended_tolerance)} (3 sigma_d); {rounds} a block bring sigma_d to a "
        f"third of {_percent(profile.tolerance)}",
        f"control loop: blocks count where its ratio is within {_percent(profile.control_band)}",
    ]
    for found in profile.detectable:
        seen = "nothing" if found.effect is None else f"a slowdown of {_percent(found.effect)}"
        lines.append(
            f"at most {found.blocks} blocks: {seen} is found in 80 % of checks at {_percent(profile.tolerance)}"
        )
    for again in profile.replayed:
        lines.append(
            f"{again.checks} checks replayed from these blocks with fresh signs, {_percent(again.effect)} slower: "
            f"{again.regressed} regressed, {again.passed} passed, a median of {again.median_blocks:g} blocks"
        )
    return lines


def _job_line(name: str, profile: NoiseProfile) -> str:
    noise = profile.jobs[name]
    text = f"{name}: sigma_d {_percent(noise.spread)} (mean steps {_percent(noise.mean_spread)})"
    if noise.within_error is not None and noise.between_spread is not None:
        text += f", of which rounds explain {_percent(noise.within_error)} and pairs {_percent(noise.between_spread)}"
    return f"{text}; control {_percent(noise.control_spread)}; {1e3 * noise.step_seconds:.2f} ms a step"


def _percent(log_ratio: float) -> str:
    value = 100 * (math.expm1(log_ratio) if abs(log_ratio) < 1 else log_ratio)
    return f"{value:.2f} %"
