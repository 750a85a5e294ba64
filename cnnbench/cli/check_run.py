"""What `cnnbench check` does: measure two arms to a verdict, or decide a record again, and put it everywhere it is asked for."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import click

from cnnbench.cli.check_outputs import write_outputs
from cnnbench.cli.check_session import (
    CheckDisplay,
    CheckSetup,
    Recording,
    cache_folder,
    choose_plan,
    find_noise_profile,
    make_header,
    open_recording,
    prepare_check,
    read_recorded_arms,
    read_requested_arms,
    record_blocks,
    reopen_recording,
    require_same_conditions,
)
from cnnbench.cli.options import OptionValues
from cnnbench.cli.output import printable
from cnnbench.errors import LedgerError
from cnnbench.files import save_file
from cnnbench.paired_protocol import Arm
from cnnbench.regression import check_record
from cnnbench.regression.arms import PairedJobs, pair_jobs
from cnnbench.regression.check_record import ArmRecord, CheckHeader, CheckRecord
from cnnbench.regression.noise_profile import explain_insensitivity
from cnnbench.regression.sequential import conclude

SetupFilter = Callable[[CheckSetup], CheckSetup]
TITLES = {"incomparable": "INCOMPARABLE", "unfit": "UNFIT", "failed": "FAILED"}


def measure_check(
    context: click.Context, options: OptionValues, narrow: SetupFilter = lambda setup: setup, *, err: bool = False
) -> CheckRecord:
    """Measure to the end and put it everywhere it is asked for: the record, the words, each surface.

    `narrow` may leave jobs of the ground out, or refuse it by an error. With `err` the words go to standard error. Raises
    what hinders a check from beginning; one that has begun ends with a record, or with KeyboardInterrupt.
    """
    display = CheckDisplay(context)
    with reopen_recording(_find_unfinished(options)) if options["resume"] else nullcontext() as old:
        path, record = _measure(context, options, display, old, narrow)
    check_record.save_record(path, record)
    print_record(record, err=err or options["github"])
    display.print(f"record    {path}")
    write_outputs(record, path, options)
    return record


def replay_record(options: OptionValues) -> int:
    """Decide a record again; write it where asked for. Raises LedgerError where the verdict is not the stored one."""
    path, output = options["replay"], options["output"]
    old = check_record.load_record(path)
    record = conclude(old.header, old.blocks) if old.header.purpose != "calibrate" else old
    if record.ending != old.ending:
        raise LedgerError(
            f"{path}: its blocks lead to another ending than it holds; it was edited, or made by another cnnbench"
        )
    if output is not None:
        save_file(output, check_record.replace_ending(path.read_bytes(), record), make_folder=True)
    print_record(record, err=options["github"])
    write_outputs(record, path, options)
    return record.ending.exit_code


def print_record(record: CheckRecord, *, err: bool = False) -> None:
    """How a check ended, in words, or the reason why there is no verdict. On standard output; with `err` on standard error,
    since GitHub obeys what stands on the other.
    """
    ending = record.ending
    lines = ending.lines if ending.problem is None else (f"{TITLES[ending.outcome]}: {ending.problem}",)
    for line in lines:
        click.echo(printable(line), err=err)


def _measure(
    context: click.Context, options: OptionValues, display: CheckDisplay, old: Recording | None, narrow: SetupFilter
) -> tuple[Path, CheckRecord]:
    if old is None:
        specs = read_requested_arms(options)
        setup = narrow(prepare_check(context, options, display))
        cores = setup.inventory.machine.cores_allowed
        pair = pair_jobs(setup.jobs, specs["base"].settings, specs["head"].settings, cores)
    else:
        header = old.header
        specs = read_recorded_arms(header)
        options = {**options, "device": header.jobs[min(header.jobs)].device}
        setup = narrow(prepare_check(context, options, display, header))
        require_same_conditions(header, setup)
        pair = PairedJobs(header.jobs, header.head_jobs, header.declared)

    def begin(sides: Mapping[Arm, ArmRecord]) -> tuple[Path, CheckHeader, tuple[str, ...]]:
        header, lines = _make_header(setup, pair, sides, options)
        path = cache_folder() / "checks" / f"{header.suite}-{header.check_id}.json"
        return options["output"] or path, header, lines

    def resume(path: Path) -> str:
        return f"`{shlex.join(['cnnbench', 'check', str(options['suite']), '--resume', '-o', str(path)])}`"

    with open_recording(setup, specs, pair, display, old, begin) as (workers, recording):
        blocks = record_blocks(setup, workers, recording, display, resume=resume)
    return recording.path, conclude(recording.header, blocks)


def _make_header(
    setup: CheckSetup, pair: PairedJobs, sides: Mapping[Arm, ArmRecord], options: OptionValues
) -> tuple[CheckHeader, tuple[str, ...]]:
    """The header, and what to say of the noise profile."""
    profile, note = find_noise_profile(setup, options)
    plan = choose_plan(options, profile)
    advisory = None if profile is None else explain_insensitivity(profile, plan)
    more = {
        "metric": options["metric"],
        "max_minutes": options["max_minutes"],
        "advisory": advisory,
        "on_inconclusive": options["inconclusive"] or ("fail" if advisory is None else "warn"),
    }
    header = make_header(setup, pair, sides, plan, options, profile, **more)
    return header, (note, *([] if advisory is None else [f"ADVISORY  {advisory}"]))


def _find_unfinished(options: OptionValues) -> Path:
    """The record that --resume goes on to: the one named, else of the suite's newest unfinished check. Raises LedgerError."""
    if options["output"] is not None:
        return Path(options["output"])
    stem, folder = Path(options["suite"]).stem, cache_folder() / "checks"
    parts = sorted(folder.glob(f"{stem}-*.json.part"), key=os.path.getmtime)
    if not parts:
        raise LedgerError(f"no unfinished check of {stem} in {folder}; start it without --resume")
    return parts[-1].with_suffix("")
