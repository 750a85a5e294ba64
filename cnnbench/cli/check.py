"""`cnnbench check`: two revisions, environments or settings measured side by side until there is a verdict."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnbench.cli.calibrated import find_profile, plan_of
from cnnbench.cli.pairs import (
    Ground,
    cache_folder,
    make_header,
    open_workers,
    pair_options,
    survey,
    wishes_again,
    wishes_of,
)
from cnnbench.cli.surfaces import check_endings, emit, surface_options
from cnnbench.errors import ComparisonError, LedgerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from cnnbench.cli.blocks import PairDisplay
    from cnnbench.gate.prepare import Pair, Workers
    from cnnbench.gate.recording import CheckHeader, CheckRecord, Journal
    from cnnbench.pairing import Block

Narrow = Callable[[Ground], Ground]
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
@surface_options
@click.pass_context
def check(context: click.Context, /, **options: Any) -> None:
    """Hold head against base on the jobs of SUITE: pass, improved, regressed or inconclusive, never by a single number.

    Blocks of two fresh processes are measured until a look decides. Every block is saved before the next one starts.
    Exit 0 passed or improved, 1 regressed, 3 not comparable, 4 inconclusive, 5 a worker failed.
    """
    check_endings(options)
    if options["replay"] is not None:
        context.exit(_replay(options))
    if options["suite"] is None:
        raise UsageError("no suite; name one, such as gate")
    context.exit(measured(context, options).ending.exit_code)


def measured(
    context: click.Context, options: dict[str, Any], narrow: Narrow = lambda ground: ground, *, err: bool = False
) -> CheckRecord:
    """Measure to the end and put it everywhere it is asked for: the record, the words, each surface.

    `narrow` may leave jobs of the ground out, or refuse it by an error. With `err` the words go to standard error. Raises
    what hinders a check from beginning; one that has begun ends with a record, or with KeyboardInterrupt.
    """
    from rich.console import Console

    from cnnbench.cli.verbosity import verbosity as verbosity_of
    from cnnbench.gate import recording

    console, verbosity = Console(stderr=True, soft_wrap=True), verbosity_of(context)
    going = _reopened(options) if options["resume"] else None
    try:
        path, record = _measure(context, options, console, verbosity, going, narrow)
    finally:
        if going is not None:
            going[1].close()
    recording.save(path, record)
    print_record(record, err=err or options["github"])
    if verbosity >= 0:
        console.print(f"record    {path}", highlight=False, markup=False)
    emit(record, path, options)
    return record


def _replay(options: Mapping[str, Any]) -> int:
    """The verdict of a record, decided anew; written again where asked for. Raises LedgerError where it is another one."""
    from cnnbench.gate import recording
    from cnnbench.gate.drive import replay

    path, output = options["replay"], options["output"]
    old = recording.load(path)
    record = replay(old) if old.header.purpose != "calibrate" else old
    if record.ending != old.ending:
        raise LedgerError(
            f"{path}: its blocks lead to another ending than it holds; it was edited, or made by another cnnbench"
        )
    if output is not None:
        recording.write(output, recording.with_ending(path.read_bytes(), record))
    print_record(record, err=options["github"])
    emit(record, path, options)
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
    context: click.Context, options: dict[str, Any], console: Console, verbosity: int, going: Any, narrow: Narrow
) -> tuple[Path, CheckRecord]:
    from cnnbench.cli.blocks import PairDisplay, announce
    from cnnbench.gate import recording
    from cnnbench.gate.prepare import Pair, introduce, pair_jobs, same_software

    old: CheckHeader | None = None if going is None else going[2]
    if old is not None:
        options = {**options, "device": old.jobs[min(old.jobs)].device}
    wishes = wishes_of(options) if old is None else wishes_again(old)
    ground = narrow(survey(context, options, console, old))
    if old is None:
        cores = ground.inventory.machine.cores_allowed
        pair = pair_jobs(ground.jobs, wishes["base"].settings, wishes["head"].settings, cores)
    else:
        _hold_same(old, ground)
        pair = Pair(old.jobs, old.head_jobs, old.declared)
    with open_workers(ground, wishes, pair) as workers:
        sides = introduce(workers, wishes)
        if going is None:
            header, lines = _new_header(ground, pair, sides, options)
            path = options["output"] or _default_path(header)
            journal, blocks = recording.begin(path, header), ()
        else:
            path, journal, header, blocks = going
            same_software(header, sides)
            lines = (f"resumed   after {len(blocks)} blocks",)
        if verbosity >= 0:
            announce(console, header, lines)
        with journal:
            try:
                return path, _drive(journal, header, blocks, workers, ground, PairDisplay(console, verbosity))
            except KeyboardInterrupt:
                again = shlex.join(["cnnbench", "check", str(options["suite"]), "--resume", "-o", str(path)])
                console.print(
                    f"{journal.path} holds every block measured; go on with `{again}`", highlight=False, markup=False
                )
                raise


def _drive(
    journal: Journal,
    header: CheckHeader,
    blocks: tuple[Block, ...],
    workers: Workers,
    ground: Ground,
    display: PairDisplay,
) -> CheckRecord:
    from cnnbench.gate.drive import drive
    from cnnbench.gate.prepare import design_of
    from cnnbench.runner.paired import measure_block

    design = design_of(header, ground.data_dir, ground.device.uuid)
    return drive(
        journal,
        header,
        blocks,
        lambda number, stage, jobs: measure_block(design, workers.start, number, stage, jobs),
        display,
    )


def _new_header(
    ground: Ground, pair: Pair, sides: Any, options: Mapping[str, Any]
) -> tuple[CheckHeader, tuple[str, ...]]:
    from cnnbench.gate.profile import cannot_see

    profile, note = find_profile(ground, options)
    plan = plan_of(options, profile)
    advisory = None if profile is None else cannot_see(profile, plan)
    asked = options["inconclusive"]
    header = make_header(
        ground,
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


def _reopened(options: Mapping[str, Any]) -> tuple[Path, Journal, CheckHeader, tuple[Block, ...]]:
    from cnnbench.gate import recording

    path = options["output"]
    if path is None:
        stem = Path(options["suite"]).stem
        parts = sorted((cache_folder() / "checks").glob(f"{stem}-*.json.part"), key=os.path.getmtime)
        if not parts:
            raise LedgerError(
                f"no unfinished check of {stem} in {cache_folder() / 'checks'}; start it without --resume"
            )
        path = parts[-1].with_suffix("")
    return (path, *recording.reopen(path))


def _hold_same(old: CheckHeader, ground: Ground) -> None:
    """Raises ComparisonError where the machine or the suite is no longer what the first blocks were measured on."""
    here = ground.inventory.machine.id
    if here != old.machine.id:
        raise ComparisonError(f"this machine is {here}, the check began on {old.machine.id}: start a new one here")
    if ground.suite.digest != old.suite_digest:
        raise ComparisonError(f"the suite {old.suite} changed since the check began: start a new one")
