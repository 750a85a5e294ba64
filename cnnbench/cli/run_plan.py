"""What a run will do: suites, machine and options to a plan and the ledger it is written to, new or gone on with."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console

from cnnbench import store, workloads
from cnnbench.cli import output
from cnnbench.cli.data_source import MnistSource
from cnnbench.cli.options import OptionValues
from cnnbench.errors import UsageError
from cnnbench.files import make_output_folder
from cnnbench.machine.fingerprint import boot_id
from cnnbench.machine.inventory import Inventory, select
from cnnbench.naming import name_plan
from cnnbench.plan.matrix import make_plan
from cnnbench.plan.suite import Suite
from cnnbench.report.escaping import plain
from cnnbench.runner.run import PendingJob, find_unfinished, list_pending_jobs
from cnnbench.schema import Job, RunHeader
from cnnbench.store import Writer, new_run_id

PLAN_OPTIONS = ("name_filter", "repeats", "threads", "project", "copies", "nodes")
"""Options of `make_plan` by the same names."""
SHAPING_OPTIONS = ("device", *PLAN_OPTIONS, "energy", "timeout", "no_progress")
"""Options that shape a run, which its header keeps."""


class OpenedRun(NamedTuple):
    """A run about to be measured: its ledger, open; its header; what is to be done; where its MNIST lies, if it needs any."""

    writer: Writer
    header: RunHeader
    todo: tuple[PendingJob, ...]
    data_dir: Path | None


def open_run(
    loaded: Sequence[Suite], inventory: Inventory, options: OptionValues, console: Console, mnist_source: MnistSource
) -> OpenedRun:
    """The ledger to write, and what is to be done; a new run or the rest of an old one."""

    digests = {suite.name: suite.digest for suite in loaded}
    if not options["resume"]:
        header = new_header(loaded, inventory, options, mnist_source)
        if not header.plan:
            raise UsageError(f"no job is left to run: -k {options['name_filter']!r} matches none of the plan's")
        directory = mnist_source.directory_for(header.plan)
        return OpenedRun(store.create(options["output"], header), header, list_pending_jobs(header, ()), directory)
    found = find_unfinished(options["output"], inventory.machine.id, digests, options["run_id"])
    writer, ledger = store.reopen(found.path)
    for problem in ledger.problems:
        console.print(f"warning: {plain(problem)}")
    try:
        _require_same_workloads(ledger.header)
        directory = mnist_source.directory_for(ledger.header.plan)
    except BaseException:
        writer.close()
        raise
    return OpenedRun(writer, ledger.header, list_pending_jobs(ledger.header, ledger.records), directory)


def _require_same_workloads(header: RunHeader) -> None:
    """Raises UsageError where a workload is another now than when the run was planned."""

    for job in header.plan:
        now, source = workloads.get(job.workload), workloads.source_of(job.workload)
        if now.version != job.workload_version:
            raise UsageError(
                f"{job.workload} ({source}) changed since run {header.run_id} began; start one without --resume"
            )


def new_header(
    loaded: Sequence[Suite], inventory: Inventory, options: OptionValues, mnist_source: MnistSource
) -> RunHeader:
    """The plan and all it rests on."""

    if options["nodes"] > 1 and options["seed"] is None and all(suite.seed is None for suite in loaded):
        raise UsageError(
            f"--nodes {options['nodes']} needs --seed, the same on every machine, so that all make the same plan"
        )
    seed = _choose_seed(loaded, options["seed"])
    devices = select(inventory.devices, options["device"])
    plan = make_plan(
        loaded,
        inventory.machine,
        devices,
        data_kind=mnist_source.kind,
        seed=seed,
        **{name: options[name] for name in PLAN_OPTIONS},
    )
    return RunHeader(
        run_id=new_run_id(),
        created_at=store.format_now(),
        boot_id=boot_id(),
        suites={suite.name: suite.digest for suite in loaded},
        seed=seed,
        options={
            name: str(options[name])
            for name in SHAPING_OPTIONS
            if options[name] not in (None, False) and (name, options[name]) != ("nodes", 1)
        },
        machine=inventory.machine,
        software=inventory.software,
        plan=plan,
        workloads=workloads.collect_header_facts(job.workload for job in plan),
    )


def _choose_seed(loaded: Sequence[Suite], wanted: int | None) -> int:
    """The flag's, else the one the suites name, else a random one. Raises UsageError where two suites name different ones."""
    named = {suite.seed for suite in loaded if suite.seed is not None}
    if wanted is not None:
        return wanted
    if len(named) > 1:
        seeds = ", ".join(map(str, sorted(named)))
        raise UsageError(f"the suites name different seeds ({seeds}); choose one with --seed, or run them one by one")
    return named.pop() if named else secrets.randbelow(2**31)


def make_tensorboard_folder(wanted: Path, *, make: bool) -> Path:
    """The folder below which workers write TensorBoard runs, absolute, made where wanted.

    Raises UsageError where the package that writes them is not installed, or the folder cannot be made or written.
    """
    found = importlib.util.find_spec("tensorboard")
    if found is None or found.origin is None:  # without origin: a mere folder of that name on the path
        raise UsageError("--tensorboard needs the package tensorboard, which is not installed: pip install tensorboard")
    if make:
        make_output_folder("--tensorboard", wanted)
    return wanted.resolve()


def print_plan(plan: Sequence[Job], *, as_json: bool) -> None:
    """The plan on standard output, a line a job, or as JSON."""

    if as_json:
        output.print_json([job.model_dump() for job in plan])
        return
    name = name_plan(plan)
    for index, job in enumerate(plan, start=1):
        clock = (
            f"{job.blocks} x {job.block_steps} steps"
            if job.clock == "steady"
            else f"{'at most ' if job.clock == 'accuracy' else ''}{job.epochs} x {job.steps_per_epoch} steps"
        )
        click.echo(f"{index:3d}  {name(job)}: {job.clock} clock, {clock}, data {job.data}")
