"""What `check`, `calibrate` and `selftest` share: their options, the ground they stand on, workers, header."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cnnbench import __version__
from cnnbench.cli import completion
from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.machine.inventory import Inventory
    from cnnbench.paired_protocol import Arm
    from cnnbench.plan.suite import Suite
    from cnnbench.regression.arms import ArmSpec, PairedJobs, Workers
    from cnnbench.regression.check_record import ArmRecord, CheckHeader
    from cnnbench.regression.design import CheckPlan
    from cnnbench.regression.noise_profile import NoiseProfile
    from cnnbench.schema import Device, Job

ROUNDS = 60
STEPS_PER_TURN = 5
MIN_PERCENT = 0.2
_PairedCommand = TypeVar("_PairedCommand", bound=Callable[..., Any])


def pair_options(command: _PairedCommand) -> _PairedCommand:
    """The suite and the options that say what is measured, where and how."""
    for option in reversed(
        (
            click.argument("suite", metavar="SUITE", shell_complete=completion.complete_suites, required=False),
            click.option("-d", "--device", default="cpu", show_default=True, help="The one device to measure on."),
            click.option("-k", "name_filter", metavar="FILTER", help="Only jobs whose text contains FILTER."),
            click.option("--rounds", type=click.IntRange(min=2), help="Turns of each arm a block."),
            click.option("--steps-per-turn", type=click.IntRange(min=2), help="Steps a turn; the first is not timed."),
            click.option(
                "--sequential/--turns",
                default=False,
                help="One process after the other, or both alive and taking turns.  [default: turns]",
            ),
            click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: the cores allowed]"),
            click.option("--seed", type=click.IntRange(min=0), help="Of every coin.  [default: random, recorded]"),
            click.option(
                "--keep-disturbed", is_flag=True, help="Drop no block for what the machine's counters say (busy CI)."
            ),
            click.option(
                "--data-dir",
                type=click.Path(path_type=Path),
                envvar="CNNBENCH_DATA",
                show_envvar=True,
                help="Directory of MNIST's four files.",
            ),
            click.option(
                "--results",
                type=click.Path(path_type=Path, file_okay=False),
                default=Path("results"),
                envvar="CNNBENCH_RESULTS",
                show_envvar=True,
                show_default=True,
                help="Where noise profiles are: <machine>/noise/<suite>.json.",
            ),
        )
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class CheckSetup:
    """A suite on a device of this machine, with the data its jobs train on."""

    suite: Suite
    inventory: Inventory
    device: Device
    jobs: tuple[Job, ...]
    names: Mapping[Job, str]
    data_dir: Path | None
    seed: int


def prepare_check(
    context: click.Context, options: Mapping[str, Any], console: Console, old: CheckHeader | None = None
) -> CheckSetup:
    """Find out all that does not depend on the arms. A check that goes on keeps the jobs and the seed of its header."""
    from cnnbench import workloads
    from cnnbench.cli.data_source import MnistSource
    from cnnbench.machine.inventory import select, take_inventory
    from cnnbench.naming import describe_job, name_jobs
    from cnnbench.plan.matrix import make_plan
    from cnnbench.plan.suite import find_suite, load_suite

    if options["suite"] is None:
        raise UsageError("no suite; name one, such as regression")
    signal.signal(signal.SIGTERM, _interrupt)
    suite = load_suite(find_suite(options["suite"]))
    for job in suite.jobs:
        if (file := workloads.file_of(job.workload)) is not None:
            raise UsageError(
                f"{suite.path}: {job.place}: workload {file.path.name}: a paired check knows workloads by name alone, since "
                "each arm has its own; make it a package (docs/own-workload.md)"
            )
    inventory = take_inventory(visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"))
    devices = select(inventory.devices, options["device"])
    if len(devices) != 1 or not devices[0].usable:
        raise UsageError(f"--device {options['device']}: one usable device at a time takes part in a paired check")
    mnist_source = MnistSource(context, options["data_dir"], console)
    if old is not None:
        jobs = tuple(old.jobs.values())
        return CheckSetup(suite, inventory, devices[0], jobs, {}, mnist_source.directory_for(jobs), old.seed)
    seed = next(each for each in (options["seed"], suite.seed, secrets.randbelow(2**31)) if each is not None)

    def planned(name_filter: str | None) -> list[Job]:
        jobs = make_plan(
            (suite,),
            inventory.machine,
            devices,
            data_kind=mnist_source.kind,
            seed=seed,
            repeats=1,
            threads=options["threads"],
            name_filter=name_filter,
        )
        return sorted(jobs, key=describe_job)

    everything, wanted = planned(None), planned(options["name_filter"])
    names = dict(zip(everything, name_jobs(everything), strict=True))
    return CheckSetup(suite, inventory, devices[0], tuple(wanted), names, mnist_source.directory_for(wanted), seed)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def cache_folder() -> Path:
    """cnnbench's folder in the user's cache."""
    from cnnbench.data import default_cache_dir

    return default_cache_dir(os.environ).parent


def make_same_code_arms(python: str = sys.executable) -> dict[Arm, ArmSpec]:
    """Both arms this cnnbench in this Python."""
    from cnnbench.regression.arms import ArmSpec

    return {"base": ArmSpec(python, None, {}), "head": ArmSpec(python, None, {})}


def read_requested_arms(options: Mapping[str, Any]) -> dict[Arm, ArmSpec]:
    """What the options ask of each arm. Raises UsageError where they name no difference at all."""
    from cnnbench.regression.arms import ArmSpec, read_settings
    from cnnbench.runner.revisions import find_repository, resolve, snapshot

    named = ("base", "head", "base_python", "head_python", "base_set", "head_set")
    if not any(options[name] for name in named):
        raise UsageError("nothing to compare: give --base REF, --base-python PATH or --base-set KEY=VALUE")
    if options["head"] and not options["base"]:
        raise UsageError("--head names a revision; it needs --base, the revision to hold it against")
    revisions: dict[Arm, Any] = {"base": None, "head": None}
    if options["base"]:
        repository = find_repository(Path.cwd())
        revisions["base"] = resolve(repository, "base", options["base"])
        if options["head"]:
            revisions["head"] = resolve(repository, "head", options["head"])
        else:
            with tempfile.TemporaryDirectory(prefix="cnnbench-") as scratch:
                revisions["head"] = snapshot(repository, Path(scratch))
    return {
        arm: ArmSpec(
            _find_executable(arm, options[f"{arm}_python"]), revisions[arm], read_settings(arm, options[f"{arm}_set"])
        )
        for arm in revisions
    }


def _find_executable(arm: Arm, text: str | None) -> str:
    if text is None:
        return sys.executable
    path = Path(text).expanduser().absolute()
    if path.is_dir() and (path / "bin" / "python").exists():
        path = path / "bin" / "python"
    if not os.access(path, os.X_OK) or path.is_dir():
        raise UsageError(f"--{arm}-python {text}: no program that can be run; give the path of a Python")
    return str(path)


def read_recorded_arms(header: CheckHeader) -> dict[Arm, ArmSpec]:
    """What a check that goes on was asked for."""
    from cnnbench.regression.arms import ArmSpec
    from cnnbench.runner.revisions import Revision

    def make_spec(side: ArmRecord) -> ArmSpec:
        revision = None if side.commit is None else Revision(side.ref or side.commit, side.commit)
        return ArmSpec(side.python or sys.executable, revision, side.settings)

    return {"base": make_spec(header.base), "head": make_spec(header.head)}


@contextmanager
def prepare_workers(setup: CheckSetup, specs: Mapping[Arm, ArmSpec], pair: PairedJobs) -> Iterator[Workers]:
    """The arms' folders, laid out, and removed again whatever happens."""
    from cnnbench.regression.arms import Workers
    from cnnbench.runner.revisions import find_repository, open_checkouts

    revisions = {arm: wish.revision for arm, wish in specs.items() if wish.revision is not None}
    repository = find_repository(Path.cwd()) if revisions else None
    with open_checkouts(cache_folder() / "arms", repository, revisions) as places:
        pythons = {arm: wish.python for arm, wish in specs.items()}
        yield Workers(places, pythons, {"base": pair.base, "head": pair.head}, setup.device)


def make_header(
    setup: CheckSetup,
    pair: PairedJobs,
    sides: Mapping[Arm, ArmRecord],
    plan: CheckPlan,
    options: Mapping[str, Any],
    profile: NoiseProfile | None = None,
    **more: Any,
) -> CheckHeader:
    """All that is settled before the first block; `more` are further fields."""
    from cnnbench.regression.check_record import CheckHeader, LimitsRecord, PlanRecord
    from cnnbench.regression.exclusion import DropLimits
    from cnnbench.store import new_run_id

    machine = setup.inventory.machine
    same_python = sides["base"].software.python == sides["head"].software.python
    band = profile.control_band if profile is not None and same_python else None
    limits = (
        None
        if options["keep_disturbed"]
        else LimitsRecord.from_limits(DropLimits(machine.cores_allowed, control_band=band))
    )
    names = {number: setup.names[job] for number, job in enumerate(setup.jobs)}
    bands = {} if profile is None else {number: profile.jobs[name].final_loss_band for number, name in names.items()}
    known_rounds = (ROUNDS, STEPS_PER_TURN) if profile is None else (profile.rounds, profile.steps_per_turn)
    return CheckHeader(
        check_id=new_run_id(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
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
        rounds=options["rounds"] or known_rounds[0],
        steps_per_turn=options["steps_per_turn"] or known_rounds[1],
        seed=setup.seed,
        plan=PlanRecord.from_plan(plan),
        limits=limits,
        profile=None if profile is None else profile.digest,
        final_loss_bands={number: band for number, band in bands.items() if band is not None},
        **more,
    )


def parse_percent(text: str, flag: str) -> float:
    """`5%`, `5 %` or `5` as the fraction 0.05. Raises UsageError."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}: write a percentage, such as 5%") from error
    if value and value < MIN_PERCENT:
        raise UsageError(f"{flag} {text!r} is {value:g} %, less than any machine shows; for 5 % write 5%")
    return value / 100
