"""`cnnbench devices`, `doctor` and `schema`: what is here, what is wrong with it, and the shape of what is printed."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from cnnbench.errors import DeviceError, ExitCode, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cnnbench.machine.inventory import Inventory
    from cnnbench.machine.measured_peaks import DevicesReport, MeasuredPeak, PeakView
    from cnnbench.schema import Device, Machine, Precision

SCHEMAS = ("check", "devices", "doctor", "noise", "record", "run")
MARKS = {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "unfit": "UNFIT  "}


@click.command()
@click.option(
    "--measure", is_flag=True, help="Measure the peaks now (matrix products, one process a size) and keep them."
)
@click.option("--threads", type=click.IntRange(min=1), help="With --measure: CPU threads. [default: the cores allowed]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (its schema: cnnbench schema devices).")
def devices(measure: bool, threads: int | None, as_json: bool) -> None:
    """Show each processor with its theoretical dense peak per precision and its measured one (GEMM), and the peak's age."""
    from cnnbench.data import default_cache_dir
    from cnnbench.machine import measured_peaks
    from cnnbench.machine.inventory import take_inventory

    inventory = take_inventory(visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"))
    path = measured_peaks.cache_path(default_cache_dir(os.environ).parent, inventory.machine)
    if measure:
        measured_peaks.write(path, _measure(inventory, threads))
    report = _make_report(inventory, measured_peaks.read(path))
    if as_json:
        click.echo(report.model_dump_json(indent=2))
        return
    _print_devices(report)


def _measure(inventory: Inventory, threads: int | None) -> tuple[MeasuredPeak, ...]:
    from cnnbench.machine import measured_peaks
    from cnnbench.naming import process_label
    from cnnbench.runner.launch import LaunchOptions, launch
    from cnnbench.schema import Record

    records: list[Record] = []
    for device in (each for each in inventory.devices if each.usable):
        for job in measured_peaks.sweep(device, inventory.machine, threads):
            started = datetime.now(UTC).isoformat(timespec="seconds")
            ended = launch(job, LaunchOptions(device=device))
            click.echo(f"{process_label(job)}: {ended.outcome.status}", err=True)
            records.append(
                Record(
                    run_id="peaks", machine_id=inventory.machine.id, index=len(records), started_at=started,
                    process_seconds=ended.process_seconds, job=job, outcome=ended.outcome,
                )
            )  # fmt: skip
    return measured_peaks.select_best_peaks(records, inventory.software.torch)


def _make_report(inventory: Inventory, kept: tuple[MeasuredPeak, ...]) -> DevicesReport:
    from cnnbench.machine.measured_peaks import DevicesReport, DeviceView, precisions

    views = tuple(
        DeviceView(
            device=device,
            peaks=tuple(
                _make_peak_view(device, inventory.machine, precision, kept, inventory.software.torch)
                for precision in precisions(device, inventory.machine)
            ),
        )
        for device in inventory.devices
    )
    return DevicesReport(machine=inventory.machine, devices=views)


def _make_peak_view(
    device: Device, machine: Machine, precision: Precision, kept: tuple[MeasuredPeak, ...], torch: str
) -> PeakView:
    from cnnbench.machine import measured_peaks, peaks

    theory = peaks.theoretical_peak(device, machine, precision)
    found = measured_peaks.select_newest(kept, device.id, precision, torch)
    return measured_peaks.PeakView(
        precision=precision,
        theoretical_flops_per_second=theory.flops_per_second,
        theoretical_source="; ".join(part for part in (theory.formula, theory.source) if part) or None,
        theoretical_reason=theory.reason,
        measured_flops_per_second=found.flops_per_second if found else None,
        measured_size=found.size if found else None,
        measured_threads=found.threads if found else None,
        measured_age_seconds=measured_peaks.age_seconds(found, datetime.now(UTC)) if found else None,
        measured_reason=None if found else f"not measured yet with torch {torch}: cnnbench devices --measure",
    )


def _print_devices(report: DevicesReport) -> None:
    from cnnbench import units

    machine = report.machine
    click.echo(f"{machine.id}: {machine.cpu_name}, {machine.cores_allowed} of {machine.cores_logical} cores allowed")
    for view in report.devices:
        device = view.device
        memory = f", {units.data_size(device.memory_bytes)}" if device.memory_bytes else ""
        click.echo(
            f"\n{device.id}  {device.name}{memory}{'' if device.usable else f'  UNUSABLE: {device.unusable_reason}'}"
        )
        for peak in view.peaks:
            theory = f"theoretical {units.giga(peak.theoretical_flops_per_second):>9} GFLOP/s"
            found = f"measured {units.giga(peak.measured_flops_per_second):>9} GFLOP/s"
            click.echo(f"  {peak.precision}  {theory}  {found}")
            for name, text in (
                ("theoretical", peak.theoretical_source or peak.theoretical_reason),
                ("measured", _describe_measurement(peak)),
            ):
                click.echo(f"        {name}: {text}")


def _describe_measurement(peak: PeakView) -> str:
    if peak.measured_age_seconds is None:
        return peak.measured_reason or "n/a"
    hours = peak.measured_age_seconds / 3600
    age = f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} hours"
    threads = "" if peak.measured_threads is None else f", {peak.measured_threads} threads"
    return f"GEMM of side {peak.measured_size:,}{threads}, {age} ago"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON (its schema: cnnbench schema doctor).")
@click.pass_context
def doctor(context: click.Context, /, as_json: bool) -> None:
    """Look for what spoils measurements here and say what to do; exit 3 where a run would be worthless."""
    from cnnbench.devices import nvml
    from cnnbench.machine.doctor import diagnose, is_unfit, probe_host
    from cnnbench.machine.fingerprint import cpu_device, fingerprint
    from cnnbench.machine.inventory import take_inventory

    try:
        inventory = take_inventory(visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"))
        machine, software = inventory.machine, inventory.software
        gpus, torch_gpus = inventory.nvml, inventory.torch_devices
    except DeviceError as error:
        click.echo(f"warning: {error}", err=True)
        gpus, software, torch_gpus = nvml.list_gpus(), None, None
        machine = fingerprint((cpu_device(), *gpus.devices))
    findings = diagnose(machine, software, gpus, torch_gpus, probe_host(gpus))
    if as_json:
        click.echo(json.dumps([finding.model_dump() for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{MARKS[finding.severity]}  {finding.message}")
            if finding.remedy:
                click.echo(f"         {finding.remedy}")
    if is_unfit(findings):
        context.exit(ExitCode.UNFIT)


@click.command()
@click.argument("name", type=click.Choice(SCHEMAS), required=False)
def schema(name: str | None) -> None:
    """Print the JSON schema of NAME: devices and doctor (their --json), record and run (a ledger's lines), check and noise
    (what `check -o` and `calibrate` write)."""
    if name is None:
        raise UsageError(f"which schema? one of {', '.join(SCHEMAS)}")
    click.echo(json.dumps(_schema(name), indent=2))


def _schema(name: str) -> dict[str, object]:
    from pydantic import TypeAdapter

    from cnnbench.machine.doctor import DoctorFinding
    from cnnbench.machine.measured_peaks import DevicesReport
    from cnnbench.regression.check_record import CheckRecord
    from cnnbench.regression.noise_profile import NoiseProfile
    from cnnbench.schema import Record, RunHeader

    if name == "doctor":
        return TypeAdapter(list[DoctorFinding]).json_schema()
    models: dict[str, type[BaseModel]] = {
        "check": CheckRecord,
        "devices": DevicesReport,
        "noise": NoiseProfile,
        "record": Record,
        "run": RunHeader,
    }
    return models[name].model_json_schema()
