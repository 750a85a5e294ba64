"""Measured peaks, stored: the best matrix product per device, precision and thread count, with its date.

The file is in the user's cache, one per machine fingerprint; an entry is valid only for the torch that measured it.
The runner measures (`cnnbench devices --measure`); this module has the values, the jobs to measure, and the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cnnbench.errors import FileError, LedgerError
from cnnbench.files import explain_refusal, write_file
from cnnbench.schema import Device, Frozen, Job, Machine, Precision, Record

SIDES, GPU_SIDES = (512, 1024, 2048), (2048, 4096, 8192, 16384)
GPU_PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16")
BF16_ISA = {"avx512_bf16", "amx_bf16"}
"""Without one of these a CPU converts bf16 to float32 and back: 4 to 16 times slower, and not a peak."""


class MeasuredPeak(Frozen):
    """The best of a sweep over sides."""

    device: str
    precision: Precision
    threads: int | None
    torch: str
    flops_per_second: float
    size: int
    measured_at: str


class PeakView(Frozen):
    """One precision of one device, as `cnnbench devices` shows it; what is unknown has its reason."""

    precision: Precision
    theoretical_flops_per_second: float | None
    theoretical_source: str | None
    theoretical_reason: str | None
    measured_flops_per_second: float | None
    measured_size: int | None
    measured_threads: int | None
    measured_age_seconds: float | None
    measured_reason: str | None


class DeviceView(Frozen):
    """One device with its peaks."""

    device: Device
    peaks: tuple[PeakView, ...]


class DevicesReport(Frozen):
    """What `cnnbench devices --json` prints."""

    machine: Machine
    boot_id: str | None = None
    """the kernel's random id of this boot"""
    host_id: str | None = None
    """the identity of this host; None where it is unknown, as in a container"""
    devices: tuple[DeviceView, ...]


_FILE = TypeAdapter(list[MeasuredPeak])


def precisions(device: Device, machine: Machine) -> tuple[Precision, ...]:
    """List the precisions worth measuring on the device."""
    if device.kind != "cpu":
        return GPU_PRECISIONS
    return ("fp32", "bf16") if BF16_ISA & set(machine.cpu_isa) else ("fp32",)


def sweep(device: Device, machine: Machine, threads: int | None = None) -> tuple[Job, ...]:
    """List the GEMM jobs whose best is the device's measured peak, one process each."""
    sides, used = (SIDES, threads or machine.cores_allowed) if device.kind == "cpu" else (GPU_SIDES, None)
    return tuple(
        Job(
            workload="gemm", workload_version=1, precision=precision, size=side, data="random", device=device.id,
            threads=used, warmup_steps=3, blocks=10, block_steps=2, final_evaluation=False,
        )
        for precision in precisions(device, machine)
        for side in sides
    )  # fmt: skip


def select_best_peaks(records: Iterable[Record], torch: str) -> tuple[MeasuredPeak, ...]:
    """Select the best median block per device, precision and thread count among finished GEMM records."""
    best: dict[tuple[str, str, int | None], MeasuredPeak] = {}
    for record in records:
        job, trial = record.job, record.outcome.trial
        if record.outcome.status != "ok" or trial is None or job.size is None or not trial.block_seconds:
            continue
        middle = sorted(trial.block_seconds)[len(trial.block_seconds) // 2]
        peak = MeasuredPeak(
            device=job.device, precision=job.precision, threads=job.threads, torch=torch, size=job.size,
            flops_per_second=2 * job.size**3 * trial.steps_per_block / middle, measured_at=record.started_at,
        )  # fmt: skip
        key = (job.device, job.precision, job.threads)
        best[key] = max(best.get(key, peak), peak, key=attrgetter("flops_per_second"))
    return tuple(best.values())


def cache_path(cache_dir: Path, machine: Machine) -> Path:
    """Return the path of a machine's measured peaks."""
    return cache_dir / "peaks" / f"{machine.id}.json"


def read(path: Path) -> tuple[MeasuredPeak, ...]:
    """Read the stored peaks; empty without a file. Raises LedgerError for a file that cannot be read."""
    try:
        return tuple(_FILE.validate_json(path.read_bytes()))
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        raise LedgerError(
            f"{path}: measured peaks cannot be read; delete the file and run `cnnbench devices --measure`"
        ) from error


def write(path: Path, new: Sequence[MeasuredPeak]) -> None:
    """Replace the entries of the same device, precision, threads and torch; keep the others."""
    kept = {(p.device, p.precision, p.threads, p.torch): p for p in (*read(path), *new)}
    with explain_refusal(FileError, f"{path}: cannot store the measured peaks"):
        write_file(path, _FILE.dump_json(list(kept.values()), indent=1), make_folder=True)


def select_newest(peaks: Iterable[MeasuredPeak], device: str, precision: str, torch: str) -> MeasuredPeak | None:
    """Select the fastest entry for this device, precision and torch over the measured thread counts."""
    fitting = [p for p in peaks if (p.device, p.precision, p.torch) == (device, precision, torch)]
    return max(fitting, key=attrgetter("flops_per_second"), default=None)


def age_seconds(peak: MeasuredPeak, now: datetime) -> float:
    """Compute the seconds since the peak was measured."""
    return (now - datetime.fromisoformat(peak.measured_at)).total_seconds()
