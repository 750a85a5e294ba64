"""What `cnnbench calibrate` does: pairs of one and the same code, to learn what this machine's noise lets a check see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import click
from click.core import ParameterSource

from cnnbench.cli.check_options import DEFAULT_TOLERANCE, parse_percent
from cnnbench.cli.check_session import (
    CheckDisplay,
    Recording,
    make_header,
    make_same_code_arms,
    open_recording,
    prepare_check,
    record_blocks,
    reopen_recording,
    require_same_conditions,
)
from cnnbench.cli.options import OptionValues
from cnnbench.cli.output import draw_chart
from cnnbench.errors import LedgerError, UsageError
from cnnbench.files import save_file
from cnnbench.paired_protocol import Arm, PairRecord
from cnnbench.regression import check_record
from cnnbench.regression.arms import PairedJobs, pair_jobs, read_settings
from cnnbench.regression.check_record import ArmRecord, CheckHeader
from cnnbench.regression.design import CheckPlan, make_check_plan
from cnnbench.regression.noise_profile import (
    NoiseProfile,
    conclude_calibration,
    profile_path,
    profile_recording,
)
from cnnbench.regression.sequential import NextBlock, sort_blocks
from cnnbench.report.charts.check import draw_detectable_effect
from cnnbench.report.model import Chart
from cnnbench.units import percent

OPTIONS_WITH_RECORDING = ("recorded", "tau", "expires", "output", "plot", "as_json")
"""Options that --from leaves to be given: all others say what is measured."""


class Calibration(NamedTuple):
    """A/A blocks; where their profile goes, if anywhere, and where they are, if they were measured just now."""

    header: CheckHeader
    blocks: tuple[PairRecord, ...]
    profile_path: Path | None
    blocks_path: Path | None = None


def run_calibration(context: click.Context, options: OptionValues) -> None:
    """Measure or read the blocks; write and print their profile, and draw it."""
    display = CheckDisplay(context)
    if options["recorded"] is not None:
        found = _read_recording(context, options)
    else:
        found = _measure_recording(context, options, display)
    profile = profile_recording(found.header, found.blocks, options["expires"])
    if found.profile_path is not None:
        save_file(found.profile_path, profile.model_dump_json(indent=1) + "\n", make_folder=True)
    if options["plot"] is not None:
        save_file(options["plot"], draw_chart(make_curve(profile), options["plot"].suffix))
    for line in [profile.model_dump_json(indent=1)] if options["as_json"] else format_profile(profile):
        click.echo(line)
    written = (("profile", found.profile_path), ("blocks", found.blocks_path), ("picture", options["plot"]))
    for name, path in written:
        if path is not None:
            display.print(f"{name:<9} {path}", always=True)


def _read_recording(context: click.Context, options: OptionValues) -> Calibration:
    """The recording of --from. Raises UsageError for an option that only measuring takes, LedgerError for another record."""
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
        header = header.model_copy(update={"plan": _make_plan(options["tau"])})
    return Calibration(header, record.blocks, options["output"])


def _measure_recording(context: click.Context, options: OptionValues, display: CheckDisplay) -> Calibration:
    """Measure, and store the blocks. Raises WorkerError or UnfitError where they cannot be had."""
    setup = prepare_check(context, options, display)
    path = options["output"] or profile_path(options["results"], setup.inventory.machine.id, setup.suite.name)
    raw = path.with_name(f"{path.stem}-blocks.json")
    settings = read_settings("base", options["settings"])
    pair = pair_jobs(setup.jobs, settings, settings, setup.inventory.machine.cores_allowed)
    plan, specs = _make_plan(options["tau"] or DEFAULT_TOLERANCE), make_same_code_arms()

    def begin(sides: Mapping[Arm, ArmRecord]) -> tuple[Path, CheckHeader, tuple[str, ...]]:
        return raw, make_header(setup, pair, sides, plan, options, purpose="calibrate"), ()

    def find_next(header: CheckHeader, blocks: Sequence[PairRecord]) -> NextBlock | None:
        valid, wanted = len(sort_blocks(header, blocks)[0]), options["blocks"]
        return NextBlock("screening", tuple(sorted(header.jobs)), wanted, valid) if valid < wanted else None

    with reopen_recording(raw) if options["resume"] else nullcontext() as old:
        if old is not None:
            require_same_conditions(old.header, setup)
            _require_same_jobs(old, pair)
        with open_recording(setup, specs, pair, display, old, begin) as (workers, recording):
            resume = "the same command and --resume"
            blocks = record_blocks(setup, workers, recording, display, find_next, lambda _: resume)
    check_record.save_record(raw, conclude_calibration(recording.header, blocks))
    return Calibration(recording.header, blocks, path, raw)


def _require_same_jobs(old: Recording, pair: PairedJobs) -> None:
    """Raises UsageError for other jobs than the calibration began with."""
    now, before = ([job.row_key for _, job in sorted(jobs.items())] for jobs in (pair.base, old.header.jobs))
    if now != before:
        raise UsageError(
            "the calibration began with other jobs or settings: give the -k, -d, --threads and --set it had"
        )


def _make_plan(tolerance: str) -> CheckPlan:
    return make_check_plan(parse_percent(tolerance, "--tau"))


def make_curve(profile: NoiseProfile) -> Chart:
    """The slowdown that a check at the profile's tolerance finds, over the spread of d, with the profile's jobs on it."""
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
