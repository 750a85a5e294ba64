"""`cnnbench profile`: where the time of a training step goes, rung by rung, each in a process of its own. Keeps nothing."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnbench.cli import completion
from cnnbench.cli import output as out
from cnnbench.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.machine.inventory import Inventory
    from cnnbench.profile_model import ProfileJob, ProfileResult


@click.command()
@click.argument("name", metavar="WORKLOAD", shell_complete=completion.complete_workloads)
@click.option(
    "-s",
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the job, named as in a suite: batch_size=512, precision=bf16, execution=native.",
)
@click.option(
    "-d",
    "--device",
    default="auto",
    show_default=True,
    envvar="CNNBENCH_DEVICE",
    show_envvar=True,
    help="auto (the CPU and every usable GPU), all, or a list such as cpu,cuda:0.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. [default: the cores this process may use]")
@click.option(
    "--steps", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Steps timed, and then profiled."
)
@click.option(
    "--warmup", type=click.IntRange(0, 10_000), default=5, show_default=True, help="Steps before, neither of the two."
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    help="Operators shown of each rung; JSON has all.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write a Chrome trace of each rung into DIR (for ui.perfetto.dev or chrome://tracing).",
)
@click.option("--format", "format_", type=click.Choice(["table", "markdown", "json"]), default="table")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="CNNBENCH_DATA",
    show_envvar=True,
    help="Directory of MNIST's four files.",
)
@click.pass_context
def profile(context: click.Context, /, name: str, **options: Any) -> None:
    """Show where a step of WORKLOAD spends its time: the reference step and every tuned rung, operator by operator.

    WORKLOAD is a name (`cnnbench list workloads`) or a Python file. Each rung runs in a fresh process, first without the
    profiler, then with it. With execution=... or division=... only that is profiled. A profile is no measurement, and none of
    it is kept. Exit 5 where a rung failed, or none could be profiled.
    """
    from rich.console import Console

    from cnnbench import workloads
    from cnnbench.cli.verbosity import verbosity
    from cnnbench.machine.inventory import take_inventory
    from cnnbench.plan import profile_jobs as planning
    from cnnbench.report import profile as words

    workload = workloads.find(name)
    settings = planning.parse_settings(options["settings"], workload)
    folder = None if options["trace"] is None else _make_trace_folder(options["trace"])
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=True, soft_wrap=True)
    inventory = take_inventory(visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"))
    variants, directory = _plan_profiles(context, options, workload, settings, inventory, console)
    shown = _run_profiles(variants, inventory, directory, folder, console if verbosity(context) >= 0 else None)
    out.emit_report(words.report(shown, options["top"]), options["format_"], options["output"])
    statuses = [each.outcome.status for each in shown]
    if "ok" not in statuses or set(statuses) - {"ok", "unsupported"}:
        context.exit(ExitCode.JOB_FAILED)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _make_trace_folder(wanted: Path) -> Path:
    """The traces' folder, made where it is not there. Raises UsageError where nothing can be written in it."""
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--trace {wanted}: cannot be made: {error.strerror}; choose another place") from error
    if not os.access(wanted, os.W_OK | os.X_OK):
        raise UsageError(f"--trace {wanted}: cannot be written; choose another place")
    return wanted


def _plan_profiles(
    context: click.Context,
    options: dict[str, Any],
    workload: Any,
    settings: Any,
    inventory: Inventory,
    console: Console,
) -> tuple[tuple[ProfileJob, ...], Path | None]:
    """The rungs, and where their MNIST lies. Raises UsageError, DeviceError, DataError."""
    from cnnbench.cli.data import split_by_origin
    from cnnbench.cli.run_plan import MnistSource
    from cnnbench.machine.inventory import select
    from cnnbench.plan import profile_jobs as planning

    given = {**options, "directories": split_by_origin(context, options["data_dir"])}
    mnist_source = MnistSource(given, console, download=True)
    found = planning.make_profile_jobs(
        workload,
        settings,
        inventory.machine,
        select(inventory.devices, options["device"]),
        data_kind=mnist_source.kind,
        steps=options["steps"],
        warmup_steps=options["warmup"],
        threads=options["threads"],
    )
    return found, mnist_source.directory_for([each.job for each in found])


def _run_profiles(
    variants: Sequence[ProfileJob],
    inventory: Inventory,
    directory: Path | None,
    folder: Path | None,
    console: Console | None,
) -> list[ProfileResult]:
    from cnnbench.runner.launch import LaunchOptions
    from cnnbench.runner.profiles import run_profile as profile_rung

    by_id = {device.id: device for device in inventory.devices}
    shown: list[ProfileResult] = []
    for variant in variants:
        if console is not None:
            console.print(f"profiling {variant.title}: {variant.name}", highlight=False, markup=False)
        options = LaunchOptions(data_dir=directory, device=by_id[variant.job.device])
        trace = None if folder is None else folder / trace_file_name(variant)
        shown.append(profile_rung(variant, options, trace))
    return shown


def trace_file_name(variant: ProfileJob) -> str:
    """`mnist-cnn-b128-fp32-on-cpu-2-threads-native.json`: a trace of the same rung and settings is written over."""
    return re.sub(r"[^a-z0-9.]+", "-", f"{variant.title} {variant.name}".lower()).strip("-.") + ".json"
