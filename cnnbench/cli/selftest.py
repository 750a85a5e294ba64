"""`cnnbench selftest`: the whole check against itself, with real work injected, to see that it finds what it should."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cnnbench.cli.check_options import choose_plan, find_noise_profile
from cnnbench.cli.check_setup import (
    CheckSetup,
    cache_folder,
    make_header,
    make_same_code_arms,
    pair_options,
    parse_percent,
    prepare_check,
    prepare_workers,
)
from cnnbench.errors import ExitCode, UsageError, WorkerError

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.paired_protocol import Injection
    from cnnbench.regression.arms import Workers
    from cnnbench.regression.check_record import CheckHeader, CheckRecord

MAX_INJECTED_SHARE = 2.0


class SelftestResult(NamedTuple):
    """One check of the test: how much work was injected, what was expected, and how it ended."""

    share: float
    measured_share: float
    expected: str
    record: CheckRecord
    path: Path

    @property
    def holds(self) -> bool:
        """Whether the check did what is demanded: no alarm for nothing, an alarm for twice the tolerance or more."""
        outcome = self.record.ending.outcome
        if outcome not in ("pass", "improved", "regressed", "inconclusive"):
            return False
        if self.share == 0:
            return outcome != "regressed"
        return outcome == "regressed" if self.expected == "regressed" else True


@click.command()
@pair_options
@click.option(
    "--inject", default="0,10", show_default=True, metavar="PERCENTS", help="How much longer a step is to take."
)
@click.option(
    "--tau", default="5%", show_default=True, metavar="PERCENT", help="Slowdown tolerated, or auto (calibrated)."
)
@click.option("--max-blocks", type=click.IntRange(min=1), help="Blocks of the first stage at most.  [default: 16]")
@click.option("--profile", type=click.Path(path_type=Path, dir_okay=False), help="The noise profile to use.")
@click.option("--no-profile", is_flag=True, help="Use no noise profile.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the records.  [default: the cache]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.pass_context
def selftest(context: click.Context, /, **options: Any) -> None:
    """Check SUITE (default regression) against itself, once for each injected share of real work, and print what came of it.

    The work is part of the step itself, run again inside the timed region of head. Nothing injected must not be
    REGRESSED, twice the tolerance or more must be; the tolerance itself is expected INCONCLUSIVE. Exit 1 if one fails.
    """
    from rich.console import Console

    from cnnbench.cli.verbosity import verbosity as verbosity_of

    options["suite"] = options["suite"] or "regression"
    shares = _parse_shares(options["inject"])
    console, verbosity = Console(stderr=True, soft_wrap=True), verbosity_of(context)
    setup = prepare_check(context, options, console)
    tested = _run_checks(setup, shares, options, console, verbosity)
    if as_json := options["as_json"]:
        click.echo(json.dumps([_result_values(each) for each in tested], indent=1))
    for line in () if as_json else format_table(tested):
        click.echo(line)
    if not all(each.holds for each in tested):
        context.exit(ExitCode.FINDING)


def _parse_shares(text: str) -> tuple[float, ...]:
    shares = tuple(parse_percent(part, "--inject") for part in text.split(","))
    wrong = [share for share in shares if not 0 <= share <= MAX_INJECTED_SHARE]
    if wrong:
        raise UsageError(f"--inject {text!r}: from 0 to {100 * MAX_INJECTED_SHARE:.0f} %")
    return shares


def _run_checks(
    setup: CheckSetup, shares: tuple[float, ...], options: dict[str, Any], console: Console, verbosity: int
) -> list[SelftestResult]:
    from cnnbench.cli.check_progress import announce_check
    from cnnbench.regression.arms import identify_arms, pair_jobs

    pair = pair_jobs(setup.jobs, {}, {}, setup.inventory.machine.cores_allowed)
    profile, note = find_noise_profile(setup, options)
    plan = choose_plan(options, profile)
    specs, tested = make_same_code_arms(), []
    with prepare_workers(setup, specs, pair) as workers:
        sides = identify_arms(workers, specs)
        for number, share in enumerate(shares):
            header = make_header(setup, pair, sides, plan, options, profile, purpose="selftest")
            found = _find_injected_work(header, workers, setup, share)
            header = header.model_copy(
                update={
                    "seed": (header.seed + number) % 2**31,
                    "again": {"head": {job: each.again for job, each in found.items()}} if share else {},
                }
            )
            if verbosity >= 0:
                announce_check(console, header, (note, f"injected  {100 * share:g} % of the step, again"))
            tested.append(_run_one_check(header, workers, setup, share, found, options, console, verbosity))
    return tested


def _find_injected_work(header: CheckHeader, workers: Workers, setup: CheckSetup, share: float) -> dict[int, Injection]:
    """The work to run again, by job. Raises WorkerError where none takes so long, or the worker fails."""
    from cnnbench.regression.arms import make_block_design
    from cnnbench.runner.arm_process import ArmError
    from cnnbench.runner.paired import calibrate_injections

    if not share:
        return {}
    try:
        return calibrate_injections(make_block_design(header, setup.data_dir, setup.device.uuid), workers.start, share)
    except ArmError as error:
        raise WorkerError(f"the work to inject cannot be found: {error.failed.message}") from error


def _run_one_check(
    header: CheckHeader,
    workers: Workers,
    setup: CheckSetup,
    share: float,
    found: dict[int, Injection],
    options: dict[str, Any],
    console: Console,
    verbosity: int,
) -> SelftestResult:
    from cnnbench.cli.check_progress import CheckDisplay
    from cnnbench.regression import check_record
    from cnnbench.regression.arms import make_block_design
    from cnnbench.regression.loop import run_check
    from cnnbench.runner.paired import measure_pair

    design = make_block_design(header, setup.data_dir, setup.device.uuid)
    folder = options["output"] or cache_folder() / "checks"
    path = folder / f"selftest-{header.suite}-{100 * share:g}-{header.check_id}.json"
    with check_record.begin_journal(path, header) as journal:
        record = run_check(
            journal,
            header,
            (),
            lambda number, stage, jobs: measure_pair(design, workers.start, number, stage, jobs),
            CheckDisplay(console, verbosity, f"{100 * share:g} %: "),
        )
    check_record.save_record(path, record)
    measured = max((each.measured for each in found.values()), default=0.0)
    return SelftestResult(share, measured, _expected_outcome(share, header.plan.tolerance), record, path)


def _expected_outcome(share: float, tolerance: float) -> str:
    if share == 0:
        return "not regressed"
    return "regressed" if share >= 2 * tolerance - 1e-9 else "inconclusive, likely"


def compute_spread(record: CheckRecord) -> float | None:
    """sigma_d of the noisiest job over the blocks of the first stage; None for fewer than two."""
    from cnnbench.regression.differences import compute_differences

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


def _result_values(each: SelftestResult) -> dict[str, Any]:
    record = each.record
    return {
        "injected": each.share,
        "injected_as_measured": each.measured_share,
        "tolerance": record.header.plan.tolerance,
        "expected": each.expected,
        "outcome": record.ending.outcome,
        "holds": each.holds,
        "blocks": len(record.blocks),
        "dropped": len(record.ending.dropped),
        "sigma_d": compute_spread(record),
        "minutes": sum(block.wall_seconds for block in record.blocks) / 60,
        "lines": list(record.ending.lines),
        "problem": record.ending.problem,
        "record": str(each.path),
    }


def format_table(tested: list[SelftestResult]) -> list[str]:
    """The checks as a Markdown table, and their verdicts in words below it."""
    rows = [
        "| injected | tolerance | expected | outcome | holds | sigma_d | blocks | minutes |",
        "| ---: | ---: | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for values in map(_result_values, tested):
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
    for each in tested:
        words = each.record.ending.lines or (each.record.ending.problem or "no reason given",)
        rows += ["", f"{100 * each.share:g} %: {words[0]}", *words[1:]]
    return rows
