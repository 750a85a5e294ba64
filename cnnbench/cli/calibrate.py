"""What `cnnbench check calibrate` does: measure the noise here, and with --inject see whether a check finds real work.

A calibration measures pairs of one and the same code. A selftest is the whole check of this code against itself, with work
injected into head.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cnnbench.cli.check_session import (
    CheckDisplay,
    OpenedRecording,
    Recording,
    cache_folder,
    choose_plan,
    make_header,
    make_same_code_arms,
    measure_recording,
    open_arms,
    prepare_check,
    record_blocks,
    reopen_recording,
    require_same_conditions,
)
from cnnbench.cli.options import DEFAULT_TOLERANCE, OptionValues
from cnnbench.cli.output import draw_chart
from cnnbench.errors import LedgerError, UsageError, WorkerError
from cnnbench.files import save_file
from cnnbench.paired_protocol import Arm, PairRecord
from cnnbench.regression import arms, check_record, noise_profile, sequential
from cnnbench.regression.blocks import compute_differences
from cnnbench.regression.design import CheckPlan, make_check_plan
from cnnbench.report.charts.check import draw_detectable_effect
from cnnbench.report.model import Chart
from cnnbench.runner import arm_process, paired
from cnnbench.units import percent

OPTIONS_WITH_RECORDING = ("recorded", "tolerance", "expires", "output", "plot", "as_json")
"""Options that may be given with --from: all others choose what is measured."""


def run_calibration(context: click.Context, options: OptionValues) -> None:
    """Measure or read the blocks; write and print their profile, and draw it."""
    profile_at, blocks_at, plot = options["output"], None, options["plot"]
    if options["recorded"] is not None:
        header, blocks = _read_recording(context, options)
    else:
        profile_at, found = _measure_recording(context, options)
        blocks_at, header, blocks = found.path, found.header, found.blocks
    profile = noise_profile.profile_recording(header, blocks, options["expires"])
    document = profile.model_dump_json(indent=1)
    if profile_at is not None:
        save_file(profile_at, f"{document}\n", make_folder=True)
    if plot is not None:
        save_file(plot, draw_chart(make_curve(profile, header.plan), plot.suffix))
    click.echo(document if options["as_json"] else "\n".join(format_profile(profile)))
    for name, path in (("profile", profile_at), ("blocks", blocks_at), ("picture", plot)):
        if path is not None:
            CheckDisplay(context).print(f"{name:<9} {path}", always=True)


def _read_recording(
    context: click.Context, options: OptionValues
) -> tuple[check_record.CheckHeader, tuple[PairRecord, ...]]:
    """Read the recording of --from. Raises UsageError for an option of measuring, LedgerError for another record."""
    for each in context.command.params:
        given = context.get_parameter_source(each.name or "") is ParameterSource.COMMANDLINE
        if given and each.expose_value and each.name not in OPTIONS_WITH_RECORDING:
            flag = each.opts[-1] if isinstance(each, click.Option) else each.human_readable_name
            raise UsageError(f"--from reads blocks and measures nothing: leave out {flag}")
    path = options["recorded"]
    record = check_record.load_record(path)
    header = record.header
    if header.purpose != "calibrate":
        raise LedgerError(
            f"{path}: the record of a {header.purpose}, not of `cnnbench check calibrate`: its arms may differ"
        )
    if options["tolerance"] is not None:
        header = header.model_copy(update={"plan": make_check_plan(options["tolerance"])})
    return header, record.blocks


def _measure_recording(context: click.Context, options: OptionValues) -> tuple[Path, Recording]:
    """Measure and store the blocks; return the profile's path and the blocks. Raises WorkerError or UnfitError."""
    setup = prepare_check(context, options)
    path = options["output"] or noise_profile.profile_path(
        options["results"], setup.inventory.machine.id, setup.suite.name
    )
    raw = path.with_name(f"{path.stem}-blocks.json")
    settings = arms.read_settings("base", options["settings"])
    pair = arms.pair_jobs(setup.jobs, settings, settings, setup.inventory.machine.cores_allowed)

    # Before any process is started, and with --resume too: a tolerance out of range is refused.
    plan = make_check_plan(DEFAULT_TOLERANCE if options["tolerance"] is None else options["tolerance"])

    def begin(sides: Mapping[Arm, check_record.ArmRecord]) -> OpenedRecording:
        return raw, make_header(setup, pair, sides, plan, purpose="calibrate"), ()

    def find_next(header: check_record.CheckHeader, blocks: Sequence[PairRecord]) -> sequential.NextBlock | None:
        valid, wanted = len(sequential.sort_blocks(header, blocks)[0]), options["blocks"]
        return sequential.NextBlock("screening", tuple(sorted(header.jobs)), wanted, valid) if valid < wanted else None

    with reopen_recording(raw) if options["resume"] else nullcontext() as old:
        if old is not None:
            require_same_conditions(old.header, setup)
            now, before = ([job.row_key for _, job in sorted(jobs.items())] for jobs in (pair.base, old.header.jobs))
            if now != before:
                raise UsageError(
                    "the calibration began with other jobs or settings: give the -k, -d, --threads and --set it had"
                )
        recording = measure_recording(
            setup, make_same_code_arms(), pair, old or begin, lambda _: "the same command and --resume", find_next
        )
    check_record.save_record(raw, noise_profile.conclude_calibration(recording.header, recording.blocks))
    return path, recording


def make_curve(profile: noise_profile.NoiseProfile, plan: CheckPlan) -> Chart:
    """Draw the slowdown that a check by the recording's plan finds over the spread of d, with the profile's jobs."""
    return draw_detectable_effect({name: noise.spread for name, noise in profile.jobs.items()}, plan)


def format_profile(profile: noise_profile.NoiseProfile) -> list[str]:
    """Describe the profile: one line per job, then what a check can see with it."""
    lines = []
    for name, noise in profile.jobs.items():
        parts = ""
        if noise.within_error is not None and noise.between_spread is not None:
            parts = f", of which rounds explain {percent(noise.within_error)} and pairs {percent(noise.between_spread)}"
        lines.append(
            f"{name}: sigma_d {percent(noise.spread)} (mean steps {percent(noise.mean_spread)}){parts}; "
            f"control {percent(noise.control_spread)}; {1e3 * noise.step_seconds:.2f} ms per step"
        )
    if profile.geometric_mean_spread is not None:
        lines.append(f"geometric mean: sigma_d {percent(profile.geometric_mean_spread)}")
    known = profile.recommended_rounds
    rounds = "no number of rounds per block brings" if known is None else f"{known} rounds per block bring"
    tolerance = percent(profile.tolerance, 1)
    lines += [
        f"{profile.blocks} blocks counted, {profile.dropped} did not, {profile.wall_seconds / 60:.1f} minutes: "
        f"{profile.wall_seconds / (profile.blocks + profile.dropped):.1f} s per block",
        f"tolerance: as low as {percent(profile.recommended_tolerance, 1)} (3 sigma_d); {rounds} sigma_d to a "
        f"third of {tolerance}",
        f"control loop: blocks count where its ratio is within {percent(profile.control_band)}",
    ]
    for found in profile.detectable:
        seen = "nothing" if found.effect is None else f"a slowdown of {percent(found.effect)}"
        lines.append(f"at most {found.blocks} blocks: {seen} is found in 80 % of checks at {tolerance}")
    for again in profile.replayed:
        lines.append(
            f"{again.checks} checks replayed from these blocks with fresh signs, {percent(again.effect, 1)} slower: "
            f"{again.regressed} regressed, {again.passed} passed, a median of {again.median_blocks:g} blocks"
        )
    return lines


def run_selftest(context: click.Context, options: OptionValues) -> bool:
    """Run the checks and print their results; return whether all did what is demanded."""
    setup = prepare_check(context, options)
    pair = arms.pair_jobs(setup.jobs, {}, {}, setup.inventory.machine.cores_allowed)
    plan, profile, note = choose_plan(setup)
    folder, tested = options["output"] or cache_folder() / "checks", []
    with open_arms(setup, make_same_code_arms(), pair) as (workers, sides):
        for number, share in enumerate(options["inject"]):
            header = make_header(setup, pair, sides, plan, profile, purpose="selftest")
            work = {}
            if share:
                design = arms.make_block_design(header, setup.data_dir, setup.device.uuid)
                try:
                    work = paired.calibrate_injections(design, workers.start, share)
                except arm_process.ArmError as error:
                    raise WorkerError(f"the work to inject cannot be found: {error.failed.message}") from error
            again = {"head": {job: each.again for job, each in work.items()}} if share else {}
            header = header.model_copy(update={"seed": (header.seed + number) % 2**31, "again": again})
            setup.display.announce(header, (note, f"injected  {100 * share:g} % of the step, again"))
            setup.display.prefix = f"{100 * share:g} %: "
            path = folder / f"selftest-{header.suite}-{100 * share:g}-{header.check_id}.json"
            blocks = record_blocks(setup, workers, Recording(path, check_record.begin_journal(path, header), header))
            record = sequential.conclude(header, blocks)
            check_record.save_record(path, record)
            measured = max((each.measured for each in work.values()), default=0.0)
            tested.append(_describe_ending(record, share, measured) | {"record": str(path)})
    click.echo(json.dumps(tested, indent=1) if options["as_json"] else "\n".join(_format_table(tested)))
    return all(each["holds"] for each in tested)


def _describe_ending(record: check_record.CheckRecord, share: float, measured: float) -> dict[str, Any]:
    """Describe how the check ended, and whether as demanded: an alarm from twice the tolerance on, no false one."""
    header, ending, expected = record.header, record.ending, "inconclusive, likely"
    decided = ending.outcome in ("pass", "improved", "regressed", "inconclusive")
    if share == 0:
        expected, decided = "not regressed", decided and ending.outcome != "regressed"
    elif share >= 2 * header.plan.tolerance - 1e-9:
        expected, decided = "regressed", ending.outcome == "regressed"
    counted = [
        block
        for block in record.blocks
        if block.failure is None and block.stage == "screening" and block.number not in ending.dropped
    ]
    as_run = [known for block in counted for run in block.head.values() if (known := run.injected_share) is not None]
    spread = None  # sigma_d of the noisiest job over the blocks of the first stage
    if len(counted) >= 2:
        found = compute_differences(header, counted, tuple(sorted(header.jobs)))
        spread = max(statistics.stdev(d) for series, d in found.items() if series.gated)
    return {
        "injected": share,
        "injected_as_measured": measured,
        "injected_as_run": statistics.median(as_run) if as_run else None,
        "estimate": _find_estimate(ending),
        "tolerance": header.plan.tolerance,
        "expected": expected,
        "outcome": ending.outcome,
        "holds": decided,
        "blocks": len(record.blocks),
        "dropped": len(ending.dropped),
        "sigma_d": spread,
        "minutes": sum(block.wall_seconds for block in record.blocks) / 60,
        "lines": list(ending.lines),
        "problem": ending.problem,
    }


def _find_estimate(ending: check_record.CheckEnding) -> float | None:
    """Find the estimated slowdown of the slowest gated job, as a fraction; None without a verdict."""
    findings = [] if ending.verdict is None else ending.verdict["findings"]
    return max((math.expm1(each["estimate"]) for each in findings if each["series"]["gated"]), default=None)


def _format_table(tested: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format the checks as a Markdown table, with their verdicts in words below it."""
    rows = [
        "| injected | as run | estimate | tolerance | expected | outcome | holds | sigma_d | blocks | minutes |",
        "| ---: | ---: | ---: | ---: | --- | --- | --- | ---: | ---: | ---: |",
    ]
    words = []
    for values in tested:
        as_run, estimate, spread = (
            "n/a" if values[name] is None else f"{100 * values[name]:.{digits}f} %"
            for name, digits in (("injected_as_run", 1), ("estimate", 1), ("sigma_d", 2))
        )
        share = f"{100 * values['injected']:g} %"
        rows.append(
            f"| {share} | {as_run} | {estimate} | {100 * values['tolerance']:g} % | {values['expected']} | {values['outcome']} "
            f"| {'yes' if values['holds'] else 'NO'} | {spread} | {values['blocks']} | {values['minutes']:.1f} |"
        )
        first, *more = values["lines"] or (values["problem"] or "no reason given",)
        words += ["", f"{share}: {first}", *more]
    return rows + words
