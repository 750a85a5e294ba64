"""What `cnnbench selftest` does: the whole check against itself, with real work injected, to see that it finds what it should."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import click

from cnnbench.cli.check_options import parse_percent
from cnnbench.cli.check_session import (
    CheckDisplay,
    CheckSetup,
    Recording,
    announce_check,
    cache_folder,
    choose_plan,
    find_noise_profile,
    make_header,
    make_same_code_arms,
    open_arms,
    prepare_check,
    record_blocks,
)
from cnnbench.cli.options import OptionValues
from cnnbench.errors import UsageError, WorkerError
from cnnbench.paired_protocol import Injection
from cnnbench.regression.arms import Workers, make_block_design, pair_jobs
from cnnbench.regression.blocks import compute_differences
from cnnbench.regression.check_record import CheckHeader, CheckRecord, begin_journal, save_record
from cnnbench.regression.sequential import conclude
from cnnbench.runner.arm_process import ArmError
from cnnbench.runner.paired import calibrate_injections

MAX_INJECTED_SHARE = 2.0


def run_selftest(context: click.Context, options: OptionValues) -> bool:
    """Run the checks and print what came of them; whether all did what is demanded."""
    shares, display = _parse_shares(options["inject"]), CheckDisplay(context)
    tested = _run_checks(prepare_check(context, options, display), shares, options, display)
    for line in [json.dumps(tested, indent=1)] if options["as_json"] else format_table(tested):
        click.echo(line)
    return all(each["holds"] for each in tested)


def _parse_shares(text: str) -> tuple[float, ...]:
    shares = tuple(parse_percent(part, "--inject") for part in text.split(","))
    wrong = [share for share in shares if not 0 <= share <= MAX_INJECTED_SHARE]
    if wrong:
        raise UsageError(f"--inject {text!r}: from 0 to {100 * MAX_INJECTED_SHARE:.0f} %")
    return shares


def _run_checks(
    setup: CheckSetup, shares: tuple[float, ...], options: OptionValues, display: CheckDisplay
) -> list[dict[str, Any]]:
    """What came of the check of each injected share, as plain values."""
    pair = pair_jobs(setup.jobs, {}, {}, setup.inventory.machine.cores_allowed)
    profile, note = find_noise_profile(setup, options)
    plan = choose_plan(options, profile)
    specs, tested = make_same_code_arms(), []
    folder = options["output"] or cache_folder() / "checks"
    with open_arms(setup, specs, pair) as (workers, sides):
        for number, share in enumerate(shares):
            header = make_header(setup, pair, sides, plan, options, profile, purpose="selftest")
            found = _find_injected_work(header, workers, setup, share)
            again = {job: each.again for job, each in found.items()}
            seed = (header.seed + number) % 2**31
            header = header.model_copy(update={"seed": seed, "again": {"head": again} if share else {}})
            announce_check(display, header, (note, f"injected  {100 * share:g} % of the step, again"))
            display.prefix = f"{100 * share:g} %: "
            path = folder / f"selftest-{header.suite}-{100 * share:g}-{header.check_id}.json"
            recording = Recording(path, begin_journal(path, header), header)
            record = conclude(header, record_blocks(setup, workers, recording, display))
            save_record(path, record)
            measured = max((each.measured for each in found.values()), default=0.0)
            about = {"injected": share, "injected_as_measured": measured, "tolerance": plan.tolerance}
            tested.append({**about, **_describe_ending(record, share), "record": str(path)})
    return tested


def _find_injected_work(header: CheckHeader, workers: Workers, setup: CheckSetup, share: float) -> dict[int, Injection]:
    """The work to run again, by job. Raises WorkerError where none takes so long, or the worker fails."""
    if not share:
        return {}
    try:
        return calibrate_injections(make_block_design(header, setup.data_dir, setup.device.uuid), workers.start, share)
    except ArmError as error:
        raise WorkerError(f"the work to inject cannot be found: {error.failed.message}") from error


def compute_spread(record: CheckRecord) -> float | None:
    """sigma_d of the noisiest job over the blocks of the first stage; None for fewer than two."""
    header = record.header
    counted = [
        block
        for block in record.blocks
        if block.failure is None and block.stage == "screening" and block.number not in record.ending.dropped
    ]
    if len(counted) < 2:
        return None
    found = compute_differences(header, counted, tuple(sorted(header.jobs)))
    return max(statistics.stdev(d) for series, d in found.items() if series.gated)


def _describe_ending(record: CheckRecord, share: float) -> dict[str, Any]:
    """How the check ended, and whether it did what is demanded: no alarm for nothing, one for twice the tolerance or more."""
    ending, expected = record.ending, "inconclusive, likely"
    decided = ending.outcome in ("pass", "improved", "regressed", "inconclusive")
    if share == 0:
        expected, decided = "not regressed", decided and ending.outcome != "regressed"
    elif share >= 2 * record.header.plan.tolerance - 1e-9:
        expected, decided = "regressed", ending.outcome == "regressed"
    return {
        "expected": expected,
        "outcome": ending.outcome,
        "holds": decided,
        "blocks": len(record.blocks),
        "dropped": len(ending.dropped),
        "sigma_d": compute_spread(record),
        "minutes": sum(block.wall_seconds for block in record.blocks) / 60,
        "lines": list(ending.lines),
        "problem": ending.problem,
    }


def format_table(tested: Sequence[Mapping[str, Any]]) -> list[str]:
    """The checks as a Markdown table, and their verdicts in words below it."""
    rows = [
        "| injected | tolerance | expected | outcome | holds | sigma_d | blocks | minutes |",
        "| ---: | ---: | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for values in tested:
        spread = "n/a" if values["sigma_d"] is None else f"{100 * values['sigma_d']:.2f} %"
        cells = (
            f"{100 * values['injected']:g} %",
            f"{100 * values['tolerance']:g} %",
            values["expected"],
            values["outcome"],
            "yes" if values["holds"] else "NO",
            spread,
            f"{values['blocks']}",
            f"{values['minutes']:.1f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    for values in tested:
        words = values["lines"] or (values["problem"] or "no reason given",)
        rows += ["", f"{100 * values['injected']:g} %: {words[0]}", *words[1:]]
    return rows
