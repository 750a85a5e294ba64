"""The commands that measure, or ask what there is to measure on: `run`, `devices`, `doctor` and `profile`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import Exit

from cnnbench.cli import completion, output
from cnnbench.cli.options import (
    COUNT,
    DATA_DIR,
    DEVICE,
    EXPORT_OPTIONS,
    FOLDER,
    OUTPUT,
    SETTINGS,
    THREADS,
    filter_option,
    format_option,
    json_option,
    make_flag,
    make_option,
    tree_option,
)
from cnnbench.cli.this_process import MnistSource, find_data_cache, find_inventory, interrupt_on_sigterm, make_console
from cnnbench.cli.verbosity import verbosity as verbosity_of
from cnnbench.errors import DeviceError, ExitCode, UsageError
from cnnbench.files import make_output_folder

if TYPE_CHECKING:
    from cnnbench.machine.inventory import Inventory
    from cnnbench.machine.measured_peaks import DevicesReport, MeasuredPeak

DEFAULT_SUITE = "quick"
MARKS = {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "unfit": "UNFIT  "}


def _parse_copies(value: str | None) -> str | None:
    if value in (None, "all") or (value.isdecimal() and int(value) >= 2):
        return value
    raise click.BadParameter(f"{value!r} is neither 'all' nor a number from 2 on")


def _parse_until(value: str | None) -> str | None:
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]{1,3})?)%", value)
    if found is None or not 0.1 <= float(found[1]) <= 50:
        raise click.BadParameter(f"{value!r} is not a half-width from 0.1% to 50%, such as 5%")
    return f"{float(found[1]):g}%"


def _default_suites(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return value or (DEFAULT_SUITE,)


def _refuse_output(value: str | None) -> None:
    """Name the option that was meant by `run -o`, by the ending of what was given."""
    if value is None:
        return
    stem, _, ending = value.rpartition(".")
    formats = {"json": "json", "csv": "csv", "md": "markdown", "tex": "latex"}
    meant = f"--results {value} is where results are stored"
    if stem and ending in formats:
        meant = f"--export-{formats[ending]} {value} writes the table"
    elif stem and ending == "html":
        meant = f"`cnnbench report -o {value}` makes the page when the run is over"
    raise UsageError(f"`cnnbench run` has no -o; {meant}")


@click.command
@click.argument(
    "suites", nargs=-1, metavar="[SUITE]...", shell_complete=completion.complete_suites, callback=_default_suites
)
@DEVICE
@filter_option("Only jobs whose text contains FILTER (`not FILTER` for the rest).")
@make_option("-r --repeats", "Processes for each job, instead of the suite's number.", COUNT)
@make_option(
    "--until",
    "Add rounds until the interval of each row's time is at most so far to each side, as in 5%.",
    check=_parse_until,
    metavar="WIDTH",
)
@make_option(
    "--max-minutes",
    "With --until: start no further round after this many minutes.",
    click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
)
@SETTINGS
@make_option(
    "-L --sweep sweeps",
    "Measure with each of these values, as a list in a suite: -L batch_size 64,128.",
    click.Tuple([str, str]),
    multiple=True,
    metavar="KEY V1,V2",
)
@make_option("--warmup", "Warm-up steps, not timed, instead of the suite's number.", click.IntRange(0, 1_000_000))
@make_option("--seed", "Seed of the plan's order and of every job. [default: random, recorded]", click.IntRange(min=0))
@THREADS
@make_option("--timeout", "Time limit for each process.", click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@make_flag("--project", "Project whole jobs from steady steps instead of running them to the end.")
@make_option(
    "--copies",
    "Each job as N copies at once, one on each GPU (all: every GPU of a kind) or on each group of cores: which one is slow?",
    check=_parse_copies,
    metavar="N|all",
)
@make_option(
    "--nodes",
    "Machines over which jobs of several ranks are sharded; start the same command on each.",
    COUNT,
    default=1,
)
@make_option("--node-rank", "Which of them this one is.", click.IntRange(min=0), default=0)
@make_option("--rdzv", "Their rendezvous: a free port of machine 0, as the others reach it.", metavar="HOST:PORT")
@make_option(
    "--rdzv-timeout", "How long a machine waits for the others, for each job.", COUNT, metavar="SECONDS", default=600
)
@make_flag("--energy", "Measure energy too, where a counter is readable (adds 15 s per process).")
@DATA_DIR
@tree_option("Results directory.")
@make_option("-o --output", None, hidden=True, expose_value=False, check=_refuse_output)
@make_option(
    "--tensorboard",
    "Also write a TensorBoard run of each process below DIR, after it has measured.",
    FOLDER,
    metavar="DIR",
)
@make_flag("--resume", "Continue the newest unfinished run of these suites, repeating nothing.")
@make_option("--run-id", "With --resume: this run rather than the newest.", metavar="ID")
@make_flag("--fail-fast", "Stop at the first job that is not ok.")
@make_flag("--strict", "Measure nothing (exit 3) if `cnnbench doctor` finds this machine unfit.")
@make_flag("--no-progress", "Do not report progress (to measure its cost). Disables the hang timeout.")
@make_flag("--dry-run --list dry_run", "Print the plan and measure nothing.")
@json_option("Print the plan or the results as JSON.")
@EXPORT_OPTIONS
@click.pass_context
def run(context: click.Context, /, **_: Any) -> None:
    """Measure the jobs of each SUITE (a shipped name or a TOML file; default: quick) and print their table.

    Every result is saved in the results directory before the next job starts; Ctrl-C keeps what was measured.
    """
    from cnnbench.cli.run_session import run_suites

    context.exit(run_suites(context))


@click.command
@make_flag("--measure", "Measure the peaks now (matrix products, one process for each size) and store them.")
@THREADS
@json_option("Print JSON (its schema: cnnbench schema devices).")
def devices(measure: bool, threads: int | None, as_json: bool) -> None:
    """Show each processor with its theoretical dense peak per precision and its measured one (GEMM), and the peak's age."""
    from cnnbench.machine import measured_peaks

    inventory = find_inventory()
    path = measured_peaks.cache_path(find_data_cache().parent, inventory.machine)
    if measure:
        measured_peaks.write(path, _measure_peaks(inventory, threads))
    report = _make_report(inventory, measured_peaks.read(path))
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        _print_devices(report)


def _measure_peaks(inventory: Inventory, threads: int | None) -> tuple[MeasuredPeak, ...]:
    from cnnbench.machine import measured_peaks
    from cnnbench.naming import process_label
    from cnnbench.runner.launch import LaunchOptions, launch
    from cnnbench.schema import Record
    from cnnbench.store import format_now

    records: list[Record] = []
    for device in (each for each in inventory.devices if each.usable):
        for job in measured_peaks.sweep(device, inventory.machine, threads):
            started, ended = format_now(), launch(job, LaunchOptions(device=device))
            click.echo(f"{process_label(job)}: {ended.outcome.status}", err=True)
            records.append(
                Record(
                    run_id="peaks", machine_id=inventory.machine.id, index=len(records), started_at=started,
                    process_seconds=ended.process_seconds, job=job, outcome=ended.outcome,
                )
            )  # fmt: skip
    return measured_peaks.select_best_peaks(records, inventory.software.torch)


def _make_report(inventory: Inventory, kept: tuple[MeasuredPeak, ...]) -> DevicesReport:
    from cnnbench.machine import measured_peaks, peaks
    from cnnbench.machine.fingerprint import boot_id
    from cnnbench.machine.host_identity import host_id

    torch, views = inventory.software.torch, []
    for device in inventory.devices:
        shown = []
        for precision in measured_peaks.precisions(device, inventory.machine):
            theory = peaks.theoretical_peak(device, inventory.machine, precision)
            found = measured_peaks.select_newest(kept, device.id, precision, torch)
            shown.append(
                measured_peaks.PeakView(
                    precision=precision,
                    theoretical_flops_per_second=theory.flops_per_second,
                    theoretical_source="; ".join(filter(None, (theory.formula, theory.source))) or None,
                    theoretical_reason=theory.reason,
                    measured_flops_per_second=found.flops_per_second if found else None,
                    measured_size=found.size if found else None,
                    measured_threads=found.threads if found else None,
                    measured_age_seconds=measured_peaks.age_seconds(found, datetime.now(UTC)) if found else None,
                    measured_reason=None
                    if found
                    else f"not measured yet with torch {torch}: cnnbench devices --measure",
                )
            )
        views.append(measured_peaks.DeviceView(device=device, peaks=tuple(shown)))
    return measured_peaks.DevicesReport(
        machine=inventory.machine, boot_id=boot_id(), host_id=host_id(), devices=tuple(views)
    )


def _print_devices(report: DevicesReport) -> None:
    from cnnbench import units
    from cnnbench.machine_facts import describe_boot

    machine = report.machine
    click.echo(f"{machine.id}: {machine.cpu_name}, {machine.cores_allowed} of {machine.cores_logical} cores allowed")
    click.echo(describe_boot(machine, report.boot_id, report.host_id))
    for view in report.devices:
        device = view.device
        memory = f", {units.data_size(device.memory_bytes)}" if device.memory_bytes else ""
        unusable = "" if device.usable else f"  UNUSABLE: {device.unusable_reason}"
        click.echo(f"\n{device.id}  {device.name}{memory}{unusable}")
        for peak in view.peaks:
            click.echo(
                f"  {peak.precision}  theoretical {units.giga(peak.theoretical_flops_per_second):>9} GFLOP/s"
                f"  measured {units.giga(peak.measured_flops_per_second):>9} GFLOP/s\n"
                f"        theoretical: {peak.theoretical_source or peak.theoretical_reason}"
            )
            how = peak.measured_reason or "n/a"
            if peak.measured_age_seconds is not None:
                hours = peak.measured_age_seconds / 3600
                age = f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} hours"
                threads = "" if peak.measured_threads is None else f", {peak.measured_threads} threads"
                how = f"GEMM of side {peak.measured_size:,}{threads}, {age} ago"
            click.echo(f"        measured: {how}")


@click.command
@json_option("Print JSON (its schema: cnnbench schema doctor).")
def doctor(as_json: bool) -> None:
    """Look for what disturbs measurements here and say what to do; exit 3 if a run would be worthless."""
    from cnnbench.devices import nvml
    from cnnbench.machine.doctor import DoctorFinding, diagnose, is_unfit, probe_host
    from cnnbench.machine.fingerprint import boot_id, fingerprint
    from cnnbench.machine.host_identity import host_id
    from cnnbench.machine_facts import describe_boot

    try:
        inventory = find_inventory()
        machine, software = inventory.machine, inventory.software
        gpus, torch_gpus = inventory.nvml, inventory.torch_devices
    except DeviceError as error:
        click.echo(f"warning: {error}", err=True)
        gpus, software, torch_gpus = nvml.list_gpus(), None, None
        machine = fingerprint(gpus.devices)
    who = f"{machine.id}: {describe_boot(machine, boot_id(), host_id())}"
    findings = (
        *diagnose(machine, software, gpus, torch_gpus, probe_host(gpus)),
        DoctorFinding(code="host", severity="ok", message=who),
    )
    if as_json:
        output.print_json([finding.model_dump() for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{MARKS[finding.severity]}  {finding.message}")
            if finding.remedy:
                click.echo(f"         {finding.remedy}")
    if is_unfit(findings):
        raise Exit(ExitCode.UNFIT)


@click.command
@click.argument("name", metavar="WORKLOAD", shell_complete=completion.complete_workloads)
@SETTINGS
@DEVICE
@THREADS
@make_option("--steps", "Steps timed, and then profiled.", click.IntRange(1, 10_000), default=20)
@make_option("--warmup", "Warm-up steps, neither timed nor profiled.", click.IntRange(0, 10_000), default=5)
@make_option("--top", "Operators shown for each variant; JSON has all.", COUNT, default=12)
@make_option(
    "--trace",
    "Also write a Chrome trace of each variant into DIR (for ui.perfetto.dev or chrome://tracing).",
    FOLDER,
    metavar="DIR",
)
@format_option("table", "markdown", "json")
@OUTPUT
@DATA_DIR
@click.pass_context
def profile(context: click.Context, /, name: str, **given: Any) -> None:
    """Show where a step of WORKLOAD spends its time: the reference step and every tuned variant, operator by operator.

    WORKLOAD is a name (`cnnbench list workloads`) or a Python file. Each variant runs in a fresh process, first without the
    profiler, then with it. With execution=... or division=... only that is profiled. A profile is not a measurement and is
    not stored. Exit 5 if a variant failed, or none could be profiled.
    """
    from cnnbench import naming, workloads
    from cnnbench.machine.inventory import select
    from cnnbench.plan import matrix
    from cnnbench.report import profile as words
    from cnnbench.runner.launch import LaunchOptions, run_profile

    folder, workload = given["trace"], workloads.find(name)
    settings = matrix.parse_settings(given["settings"], workload)
    if folder is not None:
        make_output_folder("--trace", folder)
    interrupt_on_sigterm()
    console, inventory = make_console(), find_inventory()
    mnist_source = MnistSource(context, console)
    variants = matrix.make_profile_jobs(
        workload,
        settings,
        inventory.machine,
        select(inventory.devices, given["device"]),
        data_kind=mnist_source.kind,
        steps=given["steps"],
        warmup_steps=given["warmup"],
        threads=given["threads"],
    )
    directory = mnist_source.directory_for([each.job for each in variants])
    by_id = {device.id: device for device in inventory.devices}
    shown = []
    for each in variants:
        if verbosity_of(context) >= 0:
            console.print(f"profiling {naming.profile_title(each.job)}: {each.name}")
        trace = folder and folder / naming.trace_file_name(each.job, each.name)
        shown.append(run_profile(each, LaunchOptions(data_dir=directory, device=by_id[each.job.device]), trace))
    output.Destination(given["format_"], given["output"]).emit(words.report(shown, given["top"]))
    statuses = [each.outcome.status for each in shown]
    if "ok" not in statuses or set(statuses) - {"ok", "unsupported"}:
        raise Exit(ExitCode.JOB_FAILED)
