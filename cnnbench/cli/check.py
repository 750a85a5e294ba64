"""`cnnbench check`: two revisions, environments or settings measured side by side until there is a verdict."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnbench.cli.check_options import choose_plan, find_noise_profile
from cnnbench.cli.check_outputs import output_options, validate_extensions, write_outputs
from cnnbench.cli.check_setup import (
    CheckSetup,
    cache_folder,
    make_header,
    pair_options,
    prepare_check,
    prepare_workers,
    read_recorded_arms,
    read_requested_arms,
)
from cnnbench.errors import ComparisonError, LedgerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from cnnbench.cli.check_progress import CheckDisplay
    from cnnbench.paired_protocol import PairRecord
    from cnnbench.regression.arms import PairedJobs, Workers
    from cnnbench.regression.check_record import CheckHeader, CheckRecord
    from cnnbench.store import Writer

SetupFilter = Callable[[CheckSetup], CheckSetup]
TITLES = {"incomparable": "INCOMPARABLE", "unfit": "UNFIT", "failed": "FAILED"}


@click.command()
@pair_options
@click.option("--base", metavar="REF", help="The git revision to hold against.")
@click.option("--head", metavar="REF", help="The git revision to check.  [default: the working tree]")
@click.option("--base-python", metavar="PATH", help="Base's Python, or its virtual environment.")
@click.option("--head-python", metavar="PATH", help="Head's Python, or its virtual environment.")
@click.option("--base-set", multiple=True, metavar="KEY=VALUE", help="A setting of base's jobs, such as threads=1.")
@click.option("--head-set", multiple=True, metavar="KEY=VALUE", help="A setting of head's jobs.")
@click.option(
    "--tau", default="5%", show_default=True, metavar="PERCENT", help="Slowdown tolerated, or auto (calibrated)."
)
@click.option("--max-blocks", type=click.IntRange(min=1), help="Blocks of the first stage at most.  [default: 16]")
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
@click.option("--profile", type=click.Path(path_type=Path, dir_okay=False), help="The noise profile to use.")
@click.option("--no-profile", is_flag=True, help="Use no noise profile.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The record, replayable JSON.  [default: the cache]",
)
@click.option("--resume", is_flag=True, help="Go on with the check interrupted before, repeating nothing.")
@click.option(
    "--replay", type=click.Path(path_type=Path, dir_okay=False), help="Decide anew from a record; measures nothing."
)
@output_options
@click.pass_context
def check(context: click.Context, /, **options: Any) -> None:
    """Hold head against base on the jobs of SUITE: pass, improved, regressed or inconclusive, never by a single number.

    Blocks of two fresh processes are measured until a look decides. Every block is saved before the next one starts.
    Exit 0 passed or improved, 1 regressed, 3 not comparable, 4 inconclusive, 5 a worker failed.
    """
    validate_extensions(options)
    if options["replay"] is not None:
        context.exit(_replay(options))
    if options["suite"] is None:
        raise UsageError("no suite; name one, such as regression")
    context.exit(measure_check(context, options).ending.exit_code)


def measure_check(
    context: click.Context, options: dict[str, Any], narrow: SetupFilter = lambda setup: setup, *, err: bool = False
) -> CheckRecord:
    """Measure to the end and put it everywhere it is asked for: the record, the words, each surface.

    `narrow` may leave jobs of the ground out, or refuse it by an error. With `err` the words go to standard error. Raises
    what hinders a check from beginning; one that has begun ends with a record, or with KeyboardInterrupt.
    """
    from rich.console import Console

    from cnnbench.cli.verbosity import verbosity as verbosity_of
    from cnnbench.regression import check_record

    console, verbosity = Console(stderr=True, soft_wrap=True), verbosity_of(context)
    going = _reopen(options) if options["resume"] else None
    try:
        path, record = _measure(context, options, console, verbosity, going, narrow)
    finally:
        if going is not None:
            going[1].close()
    check_record.save_record(path, record)
    print_record(record, err=err or options["github"])
    if verbosity >= 0:
        console.print(f"record    {path}", highlight=False, markup=False)
    write_outputs(record, path, options)
    return record


def _replay(options: Mapping[str, Any]) -> int:
    """The verdict of a record, decided anew; written again where asked for. Raises LedgerError where it is another one."""
    from cnnbench.regression import check_record
    from cnnbench.regression.loop import replay_check

    path, output = options["replay"], options["output"]
    old = check_record.load_record(path)
    record = replay_check(old) if old.header.purpose != "calibrate" else old
    if record.ending != old.ending:
        raise LedgerError(
            f"{path}: its blocks lead to another ending than it holds; it was edited, or made by another cnnbench"
        )
    if output is not None:
        check_record.write_document(output, check_record.replace_ending(path.read_bytes(), record))
    print_record(record, err=options["github"])
    write_outputs(record, path, options)
    return record.ending.exit_code


def print_record(record: CheckRecord, *, err: bool = False) -> None:
    """How a check ended, in words, or the reason why there is no verdict. On standard output; with `err` on standard error,
    since GitHub obeys what stands on the other.
    """
    from cnnbench.cli.output import printable

    ending = record.ending
    lines = ending.lines if ending.problem is None else (f"{TITLES[ending.outcome]}: {ending.problem}",)
    for line in lines:
        click.echo(printable(line), err=err)


def _measure(
    context: click.Context, options: dict[str, Any], console: Console, verbosity: int, going: Any, narrow: SetupFilter
) -> tuple[Path, CheckRecord]:
    from cnnbench.cli.check_progress import CheckDisplay, announce_check
    from cnnbench.regression import check_record
    from cnnbench.regression.arms import PairedJobs, identify_arms, pair_jobs, require_same_software

    old: CheckHeader | None = None if going is None else going[2]
    if old is not None:
        options = {**options, "device": old.jobs[min(old.jobs)].device}
    specs = read_requested_arms(options) if old is None else read_recorded_arms(old)
    setup = narrow(prepare_check(context, options, console, old))
    if old is None:
        cores = setup.inventory.machine.cores_allowed
        pair = pair_jobs(setup.jobs, specs["base"].settings, specs["head"].settings, cores)
    else:
        _require_same_conditions(old, setup)
        pair = PairedJobs(old.jobs, old.head_jobs, old.declared)
    with prepare_workers(setup, specs, pair) as workers:
        sides = identify_arms(workers, specs)
        if going is None:
            header, lines = _new_header(setup, pair, sides, options)
            path = options["output"] or _default_path(header)
            journal, blocks = check_record.begin_journal(path, header), ()
        else:
            path, journal, header, blocks = going
            require_same_software(header, sides)
            lines = (f"resumed   after {len(blocks)} blocks",)
        if verbosity >= 0:
            announce_check(console, header, lines)
        with journal:
            try:
                return path, _measure_blocks(journal, header, blocks, workers, setup, CheckDisplay(console, verbosity))
            except KeyboardInterrupt:
                again = shlex.join(["cnnbench", "check", str(options["suite"]), "--resume", "-o", str(path)])
                console.print(
                    f"{journal.path} holds every block measured; go on with `{again}`", highlight=False, markup=False
                )
                raise


def _measure_blocks(
    journal: Writer,
    header: CheckHeader,
    blocks: tuple[PairRecord, ...],
    workers: Workers,
    setup: CheckSetup,
    display: CheckDisplay,
) -> CheckRecord:
    from cnnbench.regression.arms import make_block_design
    from cnnbench.regression.loop import run_check
    from cnnbench.runner.paired import measure_pair

    design = make_block_design(header, setup.data_dir, setup.device.uuid)
    return run_check(
        journal,
        header,
        blocks,
        lambda number, stage, jobs: measure_pair(design, workers.start, number, stage, jobs),
        display,
    )


def _new_header(
    setup: CheckSetup, pair: PairedJobs, sides: Any, options: Mapping[str, Any]
) -> tuple[CheckHeader, tuple[str, ...]]:
    from cnnbench.regression.noise_profile import explain_insensitivity

    profile, note = find_noise_profile(setup, options)
    plan = choose_plan(options, profile)
    advisory = None if profile is None else explain_insensitivity(profile, plan)
    asked = options["inconclusive"]
    header = make_header(
        setup,
        pair,
        sides,
        plan,
        options,
        profile,
        metric=options["metric"],
        max_minutes=options["max_minutes"],
        advisory=advisory,
        on_inconclusive=asked or ("fail" if advisory is None else "warn"),
    )
    lines = [note]
    if advisory is not None:
        lines.append(f"ADVISORY  {advisory}")
    return header, tuple(lines)


def _default_path(header: CheckHeader) -> Path:
    return cache_folder() / "checks" / f"{header.suite}-{header.check_id}.json"


def _reopen(options: Mapping[str, Any]) -> tuple[Path, Writer, CheckHeader, tuple[PairRecord, ...]]:
    from cnnbench.regression import check_record

    path = options["output"]
    if path is None:
        stem = Path(options["suite"]).stem
        parts = sorted((cache_folder() / "checks").glob(f"{stem}-*.json.part"), key=os.path.getmtime)
        if not parts:
            raise LedgerError(
                f"no unfinished check of {stem} in {cache_folder() / 'checks'}; start it without --resume"
            )
        path = parts[-1].with_suffix("")
    return (path, *check_record.reopen_journal(path))


def _require_same_conditions(old: CheckHeader, setup: CheckSetup) -> None:
    """Raises ComparisonError where the machine or the suite is no longer what the first blocks were measured on."""
    here = setup.inventory.machine.id
    if here != old.machine.id:
        raise ComparisonError(f"this machine is {here}, the check began on {old.machine.id}: start a new one here")
    if setup.suite.digest != old.suite_digest:
        raise ComparisonError(f"the suite {old.suite} changed since the check began: start a new one")
