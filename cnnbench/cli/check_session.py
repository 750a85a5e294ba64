"""What `check` and `check calibrate` share: the suite on this machine, the arms' workers, the header, and the recording.

A recording is blocks measured one after the other and stored on disk, until there are enough for their purpose.
"""

from __future__ import annotations

import math
import os
import secrets
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cnnbench import __version__, workloads
from cnnbench.cli.options import OptionValues
from cnnbench.cli.this_process import MnistSource, find_data_cache, find_inventory, interrupt_on_sigterm, make_console
from cnnbench.cli.verbosity import verbosity
from cnnbench.errors import ComparisonError, UsageError
from cnnbench.machine import inventory
from cnnbench.machine_facts import announce_machine
from cnnbench.naming import describe_job, name_jobs
from cnnbench.paired_protocol import ARMS, Arm, PairRecord
from cnnbench.plan.matrix import compile_filter, make_plan
from cnnbench.plan.suite import Suite, find_suite, load_suite
from cnnbench.regression.arms import (
    ArmSpec,
    PairedJobs,
    Workers,
    identify_arms,
    make_block_design,
    read_settings,
    require_same_software,
)
from cnnbench.regression.blocks import control_ratio, explain_drop, median_ratio
from cnnbench.regression.check_record import ArmRecord, CheckHeader, DropLimits, begin_journal, reopen_journal
from cnnbench.regression.design import CheckPlan, make_check_plan
from cnnbench.regression.noise_profile import NoiseProfile, load_profile, stored_profile_path
from cnnbench.regression.sequential import BlockFinder, NextBlock, find_answer, measure_blocks
from cnnbench.report.escaping import plain
from cnnbench.runner.paired import measure_pair
from cnnbench.runner.revisions import Revision, find_repository, open_checkouts, resolve, snapshot
from cnnbench.schema import Device, Job
from cnnbench.store import Writer, format_now, new_run_id

ROUNDS = 60
STEPS_PER_TURN = 5


# ------------------------------------------------------------------------------------------------------------- what a person sees


class CheckDisplay:
    """Prints a line per block on standard error; nothing is drawn while a block is being measured."""

    def __init__(self, context: click.Context) -> None:
        self.console, self.verbosity, self.prefix = make_console(), verbosity(context), ""

    def print(self, text: str, *, always: bool = False) -> None:
        """Print a line as it is, unless quiet was asked for and the line is not important."""
        if self.verbosity >= 0 or always:
            self.console.print(text)

    def announce(self, header: CheckHeader, lines: Sequence[str]) -> None:
        """Print what is compared, where and how, before it begins."""
        how = "taking turns" if header.mode == "turns" else "one after the other"
        looks = ", ".join(str(blocks) for blocks, *_ in header.plan.looks)
        base, head = (
            f"{side.label}; torch {side.software.torch}, Python {side.software.python}"
            for side in (header.base, header.head)
        )
        for line in (
            f"machine   {announce_machine(header.machine)}",
            f"base      {base}",
            f"head      {head}",
            f"jobs      {', '.join(header.names.values())}",
            f"blocks    two fresh processes {how}, {header.rounds} rounds of {header.steps_per_turn} steps, seed {header.seed}",
            f"plan      tolerance {100 * header.plan.tolerance:g} %, looks after {looks} blocks, "
            f"{header.plan.confirm_blocks} more to confirm",
            *lines,
        ):
            self.print(line)

    def print_block(self, header: CheckHeader, wanted: NextBlock, block: PairRecord) -> None:
        """Print what a block on disk found, `mnist-cnn/cpu +0.42 %, control -0.05 %, 19 s`, or why it does not count."""
        where = f"{self.prefix}block {block.number + 1} ({wanted.stage} {wanted.valid + 1} of {wanted.blocks})"
        if (failure := block.failure) is not None:
            text = f"{failure.status.upper()}: {failure.arm or 'an arm'}: {plain(failure.message)}"
            self.print(f"{where}: {text}", always=True)
            return
        parts, control = [], []
        for job in sorted(block.base):
            pair = block.base[job], block.head[job]
            parts.append(f"{header.names[job]} {100 * math.expm1(median_ratio(*pair, header.mode)):+.2f} %")
            control.append(control_ratio(*pair, header.mode))
        parts.append(f"control {100 * math.expm1(statistics.median(control)):+.2f} %")
        dropped = f"; DROPPED: {reason}" if (reason := explain_drop(header, block)) is not None else ""
        self.print(f"{where}: {', '.join(parts)}, {block.wall_seconds:.0f} s{dropped}")


# -------------------------------------------------------------------------------------------------------- the suite and its arms


@dataclass(frozen=True)
class CheckSetup:
    """A suite on a device of this machine, with the data its jobs train on, and the command's options."""

    options: OptionValues
    display: CheckDisplay
    suite: Suite
    inventory: inventory.Inventory
    device: Device
    jobs: tuple[Job, ...]
    names: Mapping[Job, str]
    data_dir: Path | None
    seed: int


def prepare_check(context: click.Context, options: OptionValues, old: CheckHeader | None = None) -> CheckSetup:
    """Find all that does not depend on the arms. A resumed check keeps the jobs and the seed of its header."""
    if options["suite"] is None:
        raise UsageError("no suite; name one, such as regression")
    interrupt_on_sigterm()
    suite = load_suite(find_suite(options["suite"]))
    for job in suite.jobs:
        if (file := workloads.file_of(job.workload)) is not None:
            raise UsageError(
                f"{suite.path}: {job.place}: workload {file.path.name}: a paired check knows workloads by name alone, since "
                "each arm has its own; make it a package (docs/own-workload.md)"
            )
    here = find_inventory()
    devices = inventory.select(here.devices, options["device"])
    if len(devices) != 1 or not devices[0].usable:
        raise UsageError(f"--device {options['device']}: one usable device at a time takes part in a paired check")
    display = CheckDisplay(context)
    mnist_source = MnistSource(context, display.console)
    names = {}
    if old is not None:
        jobs, seed = tuple(old.jobs.values()), old.seed
    else:
        seed = next(each for each in (options["seed"], suite.seed, secrets.randbelow(2**31)) if each is not None)
        plan = make_plan(
            (suite,),
            here.machine,
            devices,
            data_kind=mnist_source.kind,
            seed=seed,
            repeats=1,
            threads=options["threads"],
        )
        everything, wanted = sorted(plan, key=describe_job), compile_filter(options["name_filter"])
        names = dict(zip(everything, name_jobs(everything), strict=True))
        jobs = tuple(job for job in everything if wanted(describe_job(job)))
    directory = mnist_source.directory_for(jobs)
    return CheckSetup(options, display, suite, here, devices[0], jobs, names, directory, seed)


def cache_folder() -> Path:
    """Return cnnbench's folder in the user's cache."""
    return find_data_cache().parent


def make_same_code_arms() -> dict[Arm, ArmSpec]:
    """Make both arms from this cnnbench in this Python."""
    return dict.fromkeys(ARMS, ArmSpec(sys.executable, None, {}))


def read_requested_arms(options: OptionValues) -> dict[Arm, ArmSpec]:
    """Read each arm's request from the options. Raises UsageError if they name no difference."""
    named = ("base", "head", "base_python", "head_python", "base_set", "head_set")
    if not any(options[name] for name in named):
        raise UsageError("nothing to compare: give --base REF, --base-python PATH or --base-set KEY=VALUE")
    if options["head"] and not options["base"]:
        raise UsageError("--head names a revision; it needs --base, the revision to compare it with")
    revisions = dict.fromkeys(ARMS)
    if options["base"]:
        repository = find_repository(Path.cwd())
        revisions["base"] = resolve(repository, "base", options["base"])
        if options["head"]:
            revisions["head"] = resolve(repository, "head", options["head"])
        else:
            with tempfile.TemporaryDirectory(prefix="cnnbench-") as scratch:
                revisions["head"] = snapshot(repository, Path(scratch))
    specs = {}
    for arm, revision in revisions.items():
        python = sys.executable
        if (named := options[f"{arm}_python"]) is not None:
            path = Path(named).expanduser().absolute()
            inside = path / "bin" / "python"  # of a virtual environment
            path = inside if inside.exists() else path
            if not os.access(path, os.X_OK) or path.is_dir():
                raise UsageError(f"--{arm}-python {named}: no program that can be run; give the path of a Python")
            python = str(path)
        specs[arm] = ArmSpec(python, revision, read_settings(arm, options[f"{arm}_set"]))
    return specs


def read_recorded_arms(header: CheckHeader) -> dict[Arm, ArmSpec]:
    """Read each arm's request from a resumed check's header."""
    return {
        arm: ArmSpec(
            side.python or sys.executable,
            None if side.commit is None else Revision(side.ref or side.commit, side.commit),
            side.settings,
        )
        for arm, side in zip(ARMS, (header.base, header.head), strict=True)
    }


@contextmanager
def open_arms(
    setup: CheckSetup, specs: Mapping[Arm, ArmSpec], pair: PairedJobs
) -> Iterator[tuple[Workers, Mapping[Arm, ArmRecord]]]:
    """Open the arms' workers, and identify what each runs on. Their folders are made, and removed in any case."""
    revisions = {arm: wish.revision for arm, wish in specs.items() if wish.revision is not None}
    pythons = {arm: wish.python for arm, wish in specs.items()}
    repository = find_repository(Path.cwd()) if revisions else None
    with open_checkouts(cache_folder() / "arms", repository, revisions) as places:
        workers = Workers(places, pythons, {"base": pair.base, "head": pair.head}, setup.device)
        yield workers, identify_arms(workers, specs)


# ------------------------------------------------------------------------------------------------------- what is settled before


def choose_plan(setup: CheckSetup) -> tuple[CheckPlan, NoiseProfile | None, str]:
    """Choose the plan by the tolerance asked for (`auto` is the noise profile's); return the valid profile and a note
    too.

    Raises UsageError for `auto` without a profile, ComparisonError for a profile that does not fit.
    """
    (profile, note), tolerance = _find_noise_profile(setup), setup.options["tolerance"]
    if tolerance == "auto":
        if profile is None:
            raise UsageError(
                "--tolerance auto needs a noise profile of this machine; run `cnnbench check calibrate`, or write a percentage"
            )
        tolerance = profile.recommended_tolerance
    return make_check_plan(tolerance, setup.options["max_blocks"], setup.options["min_blocks"]), profile, note


def _find_noise_profile(setup: CheckSetup) -> tuple[NoiseProfile | None, str]:
    options = setup.options
    path = options["profile"] or stored_profile_path(options["results"], setup.inventory.machine.id, setup.suite.name)
    if options["no_profile"] or (options["profile"] is None and not path.exists()):
        return None, (
            f"noise     not calibrated: `cnnbench check calibrate {options['suite']}` tells what can be seen here, "
            "and in how many blocks"
        )
    profile = load_profile(path, setup.inventory.machine, setup.suite.digest, datetime.now(UTC))
    if (profile.mode == "sequential") != options["sequential"] or profile.device != setup.device.id:
        return None, f"noise     {path} is of another way of measuring ({profile.mode}, {profile.device}): not used"
    if unknown := [setup.names[job] for job in setup.jobs if setup.names[job] not in profile.jobs]:
        return None, f"noise     {path} knows nothing of {unknown[0]}: not used; calibrate all jobs of the suite"
    return profile, (
        f"noise     {path}: d spreads by {100 * profile.worst_spread:.2f} % over {profile.blocks} blocks; "
        f"from {profile.created_at[:10]}, holds to {profile.expires_at[:10]}"
    )


def make_header(
    setup: CheckSetup,
    pair: PairedJobs,
    sides: Mapping[Arm, ArmRecord],
    plan: CheckPlan,
    profile: NoiseProfile | None = None,
    **more: Any,
) -> CheckHeader:
    """Make the header: all that is decided before the first block; `more` are further fields."""
    options, machine = setup.options, setup.inventory.machine
    same_python = sides["base"].software.python == sides["head"].software.python
    band = profile.control_band if profile and same_python else None
    names = {number: setup.names[job] for number, job in enumerate(setup.jobs)}
    bands = {} if profile is None else {number: profile.jobs[name].final_loss_band for number, name in names.items()}
    rounds, steps = (ROUNDS, STEPS_PER_TURN) if profile is None else (profile.rounds, profile.steps_per_turn)
    return CheckHeader(
        check_id=new_run_id(),
        created_at=format_now(),
        cnnbench=__version__,
        suite=setup.suite.name,
        suite_digest=setup.suite.digest,
        machine=machine,
        base=sides["base"],
        head=sides["head"],
        jobs=pair.base,
        head_jobs=pair.head,
        names=names,
        declared=pair.declared,
        mode="sequential" if options["sequential"] else "turns",
        rounds=options["rounds"] or rounds,
        steps_per_turn=options["steps_per_turn"] or steps,
        seed=setup.seed,
        plan=plan,
        limits=None if options["keep_disturbed"] else DropLimits(machine.cores_allowed, control_band=band),
        profile=profile.digest if profile else None,
        final_loss_bands={number: band for number, band in bands.items() if band is not None},
        **more,
    )


# ------------------------------------------------------------------------------------------------------------------ the recording


@dataclass(frozen=True)
class Recording:
    """An unfinished recording: its record's path, its journal, its header and the blocks so far."""

    path: Path
    journal: Writer
    header: CheckHeader
    blocks: tuple[PairRecord, ...] = ()


OpenedRecording = tuple[Path, CheckHeader, tuple[str, ...]]
"""A new recording's path and header, and the lines to print before the first block."""


@contextmanager
def reopen_recording(path: Path) -> Iterator[Recording]:
    """Reopen the unfinished recording of the record `path`, locked until left. Raises LedgerError without one."""
    recording = Recording(path, *reopen_journal(path))
    with recording.journal:
        yield recording


def require_same_conditions(old: CheckHeader, setup: CheckSetup) -> None:
    """Require the machine and the suite of the first blocks. Raises ComparisonError if one has changed."""
    here, what = setup.inventory.machine.id, "calibration" if old.purpose == "calibrate" else old.purpose
    if here != old.machine.id:
        raise ComparisonError(f"this machine is {here}, the {what} began on {old.machine.id}: start a new one here")
    if setup.suite.digest != old.suite_digest:
        raise ComparisonError(f"the suite {old.suite} changed since the {what} began: start a new one")


def measure_recording(
    setup: CheckSetup,
    specs: Mapping[Arm, ArmSpec],
    pair: PairedJobs,
    opened: Recording | Callable[[Mapping[Arm, ArmRecord]], OpenedRecording],
    resume: Callable[[Path], str],
    find_next: BlockFinder = find_answer,
) -> Recording:
    """Continue an old recording, or a new one that `opened` begins, to its end; return it with all blocks.

    Raises ComparisonError if an arm's software has changed since the old one was measured. An interrupt prints how to
    resume (`resume`) and is raised again.
    """
    with open_arms(setup, specs, pair) as (workers, sides):
        if isinstance(opened, Recording):
            require_same_software(opened.header, sides)
            recording = opened
            setup.display.announce(opened.header, (f"resumed   after {len(opened.blocks)} blocks",))
        else:
            path, header, lines = opened(sides)
            recording = Recording(path, begin_journal(path, header), header)
            setup.display.announce(header, lines)
        try:
            return replace(recording, blocks=record_blocks(setup, workers, recording, find_next))
        except KeyboardInterrupt:
            setup.display.print(
                f"{recording.journal.path} has every block measured; resume with {resume(recording.path)}", always=True
            )
            raise


def record_blocks(
    setup: CheckSetup, workers: Workers, recording: Recording, find_next: BlockFinder = find_answer
) -> tuple[PairRecord, ...]:
    """Measure until no job is left to measure; return all blocks."""
    header, journal = recording.header, recording.journal
    design = make_block_design(header, setup.data_dir, setup.device.uuid)

    def measure(number: int, wanted: NextBlock) -> PairRecord:
        return measure_pair(design, workers.start, number, wanted.stage, wanted.jobs)

    with journal:
        return measure_blocks(journal, header, recording.blocks, measure, setup.display.print_block, find_next)
