"""`cnnbench run`: suites and the machine to a plan, the plan to records, the records to the table."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnbench.cli import completion
from cnnbench.errors import ExitCode, LedgerError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.cli.run_plan import OpenedRun
    from cnnbench.schema import Record


def _parse_copies(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value in (None, "all") or (value.isdecimal() and int(value) >= 2):
        return value
    raise click.BadParameter(f"{value!r} is neither 'all' nor a number from 2 on", context, option)


@click.command()
@click.argument("suites", nargs=-1, required=True, metavar="SUITE...", shell_complete=completion.complete_suites)
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
@click.option(
    "--copies",
    callback=_parse_copies,
    metavar="N|all",
    help="Each job as N copies at once, one a GPU (all: every GPU of a kind) or one a group of cores: which one is slow?",
)
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Machines that jobs of several ranks are dealt out to; start the same command on each.",
)
@click.option(
    "--node-rank", type=click.IntRange(min=0), default=0, show_default=True, help="Which of them this one is."
)
@click.option("--rdzv", metavar="HOST:PORT", help="Where they meet: a free port of machine 0, as the others reach it.")
@click.option(
    "--rdzv-timeout",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    default=600,
    show_default=True,
    help="How long a machine waits for the others, at every job.",
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
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write a TensorBoard run of each process below DIR, after it has measured.",
)
@click.option("--resume", is_flag=True, help="Go on with the newest unfinished run of these suites, repeating nothing.")
@click.option("--run-id", metavar="ID", help="With --resume: this run rather than the newest.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first job that is not ok.")
@click.option(
    "--no-progress",
    is_flag=True,
    help="Workers write no progress (shows what progress costs); none is taken for hanging then.",
)
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
@click.option("--export-latex", type=click.Path(allow_dash=True), metavar="FILE", help="Also write the table as LaTeX.")
@click.pass_context
def run(context: click.Context, /, suites: tuple[str, ...], **options: Any) -> None:
    """Measure the jobs of each SUITE (a shipped name such as quick, or a TOML file) and print their table.

    Every result is saved in the results directory before the next job starts; Ctrl-C keeps what was measured.
    """
    from rich.console import Console

    from cnnbench.cli import run_multinode, run_plan, run_summary
    from cnnbench.cli.data import split_by_origin
    from cnnbench.cli.verbosity import verbosity as verbosity_of
    from cnnbench.machine.inventory import take_inventory
    from cnnbench.plan.suite import find_suite, load_suite

    console = Console(stderr=True, soft_wrap=True)
    verbosity = verbosity_of(context)
    options["directories"] = split_by_origin(context, options["data_dir"])
    options["meeting"] = run_multinode.rendezvous_option(options)
    if options["run_id"] and not options["resume"]:
        raise UsageError("--run-id names a run to go on with; it needs --resume")
    loaded = [load_suite(find_suite(name)) for name in suites]
    if options["tensorboard"] is not None:
        options["tensorboard"] = run_plan.make_tensorboard_folder(options["tensorboard"], make=not options["dry_run"])
    inventory = take_inventory(visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"))
    mnist_source = run_plan.MnistSource(options, console, download=not options["dry_run"])
    if options["dry_run"]:
        header = run_plan.new_header(loaded, inventory, options, mnist_source)
        run_plan.print_plan(header.plan, as_json=options["as_json"])
        return
    signal.signal(signal.SIGTERM, _interrupt)
    if options["node_rank"] > 0:
        context.exit(run_multinode.run_secondary_node(loaded, inventory, options, console, mnist_source))
    opened = run_plan.open_run(loaded, inventory, options, console, mnist_source)
    summary = run_summary.RunSummary(console, context, opened.writer.path, verbosity)
    try:
        with opened.writer:
            if verbosity >= 0:
                run_summary.announce_run(console, opened.header, opened.todo, opened.writer.path)
            records = _measure(opened, options, console, verbosity)
    except (KeyboardInterrupt, LedgerError):
        with contextlib.suppress(LedgerError):  # a ledger that cannot even be read has said so already
            summary.print_summary(interrupted=True)
        raise
    summary.stop_clock()
    summary.print_summary(run_summary.report_run(opened.writer.path, options, verbosity))
    if len(records) < len(opened.todo) or any(record.outcome.status != "ok" for record in records):
        context.exit(ExitCode.JOB_FAILED)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _measure(opened: OpenedRun, options: dict[str, Any], console: Console, verbosity: int) -> tuple[Record, ...]:
    from cnnbench.cli.progress import Display
    from cnnbench.runner.launch import LaunchOptions, WorkerLimits
    from cnnbench.runner.run import execute

    patience = WorkerLimits.hang_seconds + (options["rdzv_timeout"] if options["nodes"] > 1 else 0)
    display = Display(console, verbosity, opened.todo, opened.header.plan)
    launch = LaunchOptions(
        data_dir=opened.data_dir,
        rendezvous=options["meeting"],
        energy=options["energy"],
        limits=WorkerLimits(timeout_seconds=options["timeout"], hang_seconds=patience),
        progress=not options["no_progress"],
    )
    try:
        return execute(
            opened.writer,
            opened.header,
            opened.todo,
            launch,
            display,
            fail_fast=options["fail_fast"],
            tensorboard_root=options["tensorboard"],
        )
    finally:
        display.close()
