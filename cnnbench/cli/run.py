"""`cnnbench run`: suites and the machine to a plan, the plan to records, the records to the table."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cnnbench.cli import completion
from cnnbench.errors import ExitCode, LedgerError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.data import Resolved
    from cnnbench.machine.inventory import Inventory
    from cnnbench.plan.suite import Suite
    from cnnbench.runner.run import Todo
    from cnnbench.schema import DataKind, Job, Record, RunHeader
    from cnnbench.store import Writer

EXPORTS = {"json": "json", "csv": "csv", "markdown": "markdown"}


@click.command()
@click.argument("suites", nargs=-1, required=True, metavar="SUITE...", shell_complete=completion.suites)
@click.option(
    "-d",
    "--device",
    default="auto",
    show_default=True,
    envvar="CNNBENCH_DEVICE",
    show_envvar=True,
    help="auto (the CPU and every usable GPU), all, or a list such as cpu,cuda:0.",
)
@click.option(
    "-k", "name_filter", metavar="FILTER", help="Only jobs whose text contains FILTER (`not FILTER` for the rest)."
)
@click.option("-r", "--repeats", type=click.IntRange(min=1), help="Processes a job, instead of the suite's number.")
@click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of the plan's order and of every job. [default: random, recorded]"
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. [default: the cores this process may use]")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Limit for each process."
)
@click.option(
    "--project", is_flag=True, help="Project whole jobs from steady steps instead of running them to the end."
)
@click.option("--energy", is_flag=True, help="Measure energy too, where a counter is readable (adds 15 s a process).")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="CNNBENCH_DATA",
    show_envvar=True,
    help="Directory of MNIST's four files.",
)
@click.option(
    "-o",
    "--output",
    "output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    envvar="CNNBENCH_RESULTS",
    show_envvar=True,
    show_default=True,
    help="Results directory.",
)
@click.option("--resume", is_flag=True, help="Go on with the newest unfinished run of these suites, repeating nothing.")
@click.option("--run-id", metavar="ID", help="With --resume: this run rather than the newest.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first job that is not ok.")
@click.option("--no-progress", is_flag=True, help="Workers write no progress (shows what progress costs).")
@click.option("--dry-run", "--list", "dry_run", is_flag=True, help="Print the plan and measure nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan or the results as JSON.")
@click.option(
    "--export-json",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Also write the table as JSON (- for stdout).",
)
@click.option("--export-csv", type=click.Path(allow_dash=True), metavar="FILE", help="Also write the table as CSV.")
@click.option(
    "--export-markdown", type=click.Path(allow_dash=True), metavar="FILE", help="Also write the table as Markdown."
)
@click.pass_context
def run(context: click.Context, /, suites: tuple[str, ...], **options: Any) -> None:
    """Measure the jobs of each SUITE (a shipped name such as quick, or a TOML file) and print their table.

    Every result is saved in the results directory before the next job starts; Ctrl-C keeps what was measured.
    """
    from rich.console import Console

    from cnnbench.cli.data import split_by_origin
    from cnnbench.cli.main import verbosity as verbosity_of
    from cnnbench.machine.inventory import take_inventory
    from cnnbench.plan.suite import find_suite, load_suite

    console = Console(stderr=True, soft_wrap=True)
    verbosity = verbosity_of(context)
    options["suites"] = suites
    options["data_dir"], options["env_dir"] = split_by_origin(context, options["data_dir"])
    if options["run_id"] and not options["resume"]:
        raise UsageError("--run-id names a run to go on with; it needs --resume")
    loaded = [load_suite(find_suite(name)) for name in suites]
    inventory = take_inventory(visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"))
    digits = Digits(options, console, download=not options["dry_run"])
    if options["dry_run"]:
        header = _new_header(loaded, inventory, options, digits)
        _print_plan(header.plan, as_json=options["as_json"])
        return
    signal.signal(signal.SIGTERM, _interrupt)
    writer, header, todo, directory = _open(loaded, inventory, options, console, digits)
    with writer:
        if verbosity >= 0:
            _announce(console, header, todo, writer.path)
        records = _measure(writer, header, todo, directory, options, console, verbosity)
    _report(writer.path, options, verbosity)
    failed = [record for record in records if record.outcome.status != "ok"]
    missing = len(todo) - len(records)
    if failed or missing:
        console.print(
            f"{len(failed)} of {len(todo)} jobs failed, {missing} not started; see `cnnbench show {writer.path}`"
        )
        context.exit(ExitCode.JOB_FAILED)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _open(
    loaded: Sequence[Suite], inventory: Inventory, options: dict[str, Any], console: Console, digits: Digits
) -> tuple[Writer, RunHeader, tuple[Todo, ...], Path | None]:
    """The ledger to write, and what is to be done; a new run or the rest of an old one."""
    from cnnbench import store
    from cnnbench.report.safe import plain
    from cnnbench.runner.run import find_unfinished, remaining

    digests = {suite.name: suite.digest for suite in loaded}
    if not options["resume"]:
        header = _new_header(loaded, inventory, options, digits)
        if not header.plan:
            raise UsageError(f"no job is left to run: -k {options['name_filter']!r} matches none of the plan's")
        directory = digits.directory_for(header.plan)
        return store.create(options["output"], header), header, remaining(header, ()), directory
    found = find_unfinished(options["output"], inventory.machine.id, digests, options["run_id"])
    writer, ledger = store.reopen(found.path)
    for problem in ledger.problems:
        console.print(f"warning: {plain(problem)}", highlight=False, markup=False)
    try:
        directory = digits.directory_for(ledger.header.plan)
    except BaseException:
        writer.close()
        raise
    return writer, ledger.header, remaining(ledger.header, ledger.records), directory


def _new_header(loaded: Sequence[Suite], inventory: Inventory, options: dict[str, Any], digits: Digits) -> RunHeader:
    """The plan and all it rests on."""
    from cnnbench.machine.inventory import select
    from cnnbench.plan.matrix import make_plan
    from cnnbench.schema import RunHeader
    from cnnbench.store import new_run_id

    seed = _seed(loaded, options["seed"])
    devices = select(inventory.devices, options["device"])
    plan = make_plan(
        loaded,
        inventory.machine,
        devices,
        data_kind=digits.kind,
        seed=seed,
        repeats=options["repeats"],
        threads=options["threads"],
        name_filter=options["name_filter"],
        project=options["project"],
    )
    shaping = ("device", "name_filter", "repeats", "threads", "project", "energy", "timeout", "no_progress")
    return RunHeader(
        run_id=new_run_id(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        suites={suite.name: suite.digest for suite in loaded},
        seed=seed,
        options={name: str(options[name]) for name in shaping if options[name] not in (None, False)},
        machine=inventory.machine,
        software=inventory.software,
        plan=plan,
    )


def _seed(loaded: Sequence[Suite], wanted: int | None) -> int:
    """The flag's, else the one the suites name, else a random one. Raises UsageError where two suites name different ones."""
    named = {suite.seed for suite in loaded if suite.seed is not None}
    if wanted is not None:
        return wanted
    if len(named) > 1:
        seeds = ", ".join(map(str, sorted(named)))
        raise UsageError(f"the suites name different seeds ({seeds}); choose one with --seed, or run them one by one")
    return named.pop() if named else secrets.randbelow(2**31)


class Digits:
    """Which digits this run trains on: asked at most once, when the plan first needs any."""

    def __init__(self, options: dict[str, Any], console: Console, *, download: bool) -> None:
        self._options, self._console, self._download = options, console, download
        self._resolved: Resolved | None = None

    def kind(self) -> DataKind:
        """For a suite's `data = "auto"`: MNIST where it is or can be had, else synthetic, said loudly."""
        return self._resolve("auto").kind

    def directory_for(self, plan: Sequence[Job]) -> Path | None:
        """Where the plan's MNIST lies; None where it trains on none. Raises DataError where it is not to be had."""
        if not any(job.data == "mnist" for job in plan):
            return None
        if self._resolved is None or self._resolved.kind != "mnist":
            self._resolved = None
            self._resolve("mnist")
        return self._resolved.directory if self._resolved else None

    def _resolve(self, kind: Literal["auto", "mnist"]) -> Resolved:
        from cnnbench.cli.data import show_download
        from cnnbench.data import default_cache_dir, resolve

        if self._resolved is None:
            with show_download(self._console, quiet=not self._download) as on_progress:
                self._resolved = resolve(
                    kind,
                    data_dir=self._options["data_dir"],
                    env_dir=self._options["env_dir"],
                    cache_dir=default_cache_dir(os.environ),
                    on_progress=on_progress,
                    download=self._download,
                )
            if self._resolved.note:
                note = f"WARNING: {self._resolved.note}"
                self._console.print(note, style="bold yellow", highlight=False, markup=False)
        return self._resolved


def _measure(
    writer: Writer,
    header: RunHeader,
    todo: tuple[Todo, ...],
    directory: Path | None,
    options: dict[str, Any],
    console: Console,
    verbosity: int,
) -> tuple[Record, ...]:
    from cnnbench.cli.progress import Display
    from cnnbench.runner.launch import Launch, Limits
    from cnnbench.runner.run import execute

    display = Display(console, verbosity)
    display.plan([item.job.row_key for item in todo])
    launch = Launch(
        data_dir=directory,
        energy=options["energy"],
        limits=Limits(timeout_seconds=options["timeout"]),
        progress=not options["no_progress"],
    )
    try:
        return execute(writer, header, todo, launch, display, fail_fast=options["fail_fast"])
    except KeyboardInterrupt:
        display.close()
        again = shlex.join(["cnnbench", "run", *options["suites"], "-o", str(options["output"]), "--resume"])
        console.print(f"what was measured is in {writer.path}; go on with `{again}`", highlight=False, markup=False)
        raise
    finally:
        display.close()


def _announce(console: Console, header: RunHeader, todo: Sequence[Todo], path: Path) -> None:
    machine, software = header.machine, header.software
    names = ", ".join(sorted({f"{device.id} ({device.name})" for device in machine.devices}))
    lines = (
        f"machine   {machine.id}: {machine.cpu_name}, {machine.cores_allowed} cores allowed; {names}",
        f"software  torch {software.torch} ({software.torch_build}), Python {software.python}",
        f"plan      {len(todo)} of {len(header.plan)} jobs, seed {header.seed}, one process each",
        f"ledger    {path}",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False)


def _print_plan(plan: Sequence[Job], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([job.model_dump() for job in plan], indent=2))
        return
    for index, job in enumerate(plan, start=1):
        clock = (
            f"{job.blocks} x {job.block_steps} steps"
            if job.clock == "steady"
            else f"{job.epochs} x {job.steps_per_epoch} steps"
        )
        click.echo(f"{index:3d}  {job.label}: {job.clock} clock, {clock}, data {job.data}")


def _report(path: Path, options: dict[str, Any], verbosity: int) -> None:
    """Print this run's table and write the exports asked for."""
    from cnnbench.cli.output import terminal_width
    from cnnbench.cli.show import report_paths
    from cnnbench.report import text

    report = report_paths([path])
    for name, format_ in EXPORTS.items():
        target = options[f"export_{name}"]
        if target is None:
            continue
        rendered = text.render(report, format_)  # type: ignore[arg-type]
        if target == "-":
            click.echo(rendered, nl=False)
            continue
        try:
            Path(target).write_text(rendered, encoding="utf-8")
        except OSError as error:
            raise LedgerError(f"--export-{name} {target}: {error.strerror}; the results are in {path}") from error
    to_stdout = any(options[f"export_{name}"] == "-" for name in EXPORTS)
    if options["as_json"] and not to_stdout:
        click.echo(text.render(report, "json"), nl=False)
    elif verbosity >= 0 and not to_stdout:
        click.echo(text.render(report, "table", width=terminal_width(), color=sys.stdout.isatty()), nl=False)
