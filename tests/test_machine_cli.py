"""`devices`, `doctor` and `schema` on the machine at hand, and the file of measured peaks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from builders import CPU, gemm_job, machine, record
from click.testing import CliRunner
from pydantic import TypeAdapter

from cnnbench.cli.main import cli
from cnnbench.errors import LedgerError
from cnnbench.machine import measured_peaks
from cnnbench.machine.doctor import DoctorFinding
from cnnbench.machine.measured_peaks import DevicesReport


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.slow("measured peaks")
@pytest.mark.parametrize("name", ["devices", "doctor"])
def test_json_is_what_the_published_schema_says(name: str, home: Path) -> None:
    """The schema printed is the model's that reads the answer back, unknown fields forbidden."""
    answer = CliRunner().invoke(cli, [name, "--json"])
    assert answer.exit_code in (0, 3), answer.output
    model: TypeAdapter[object] = TypeAdapter(DevicesReport if name == "devices" else list[DoctorFinding])
    assert model.validate_json(answer.stdout)
    assert json.loads(CliRunner().invoke(cli, ["schema", name]).stdout) == model.json_schema()


@pytest.mark.parametrize("name", ["devices", "doctor", "record", "run"])
def test_every_schema_is_json(name: str) -> None:
    printed = json.loads(CliRunner().invoke(cli, ["schema", name]).stdout)
    assert printed["type"] == ("array" if name == "doctor" else "object")
    assert CliRunner().invoke(cli, ["schema", "nosuch"]).exit_code == 2


def test_the_best_of_the_sweep_is_the_peak() -> None:
    """2 x 2048^3 in 0.1 s is 171.8 GFLOP/s; failed products do not count; precisions stand apart."""
    records = [
        record(gemm_job(1024, threads=2), 0.1),
        record(gemm_job(2048, threads=2), 0.1),
        record(gemm_job(4096, threads=2), 0.1, status="oom"),
        record(gemm_job(512, threads=2, precision="bf16"), 0.1),
    ]
    peaks = {peak.precision: peak for peak in measured_peaks.select_best_peaks(records, "2.13.0")}
    assert peaks["fp32"].flops_per_second == pytest.approx(2 * 2048**3 / 0.1)
    assert (peaks["fp32"].size, peaks["fp32"].threads, peaks["bf16"].size) == (2048, 2, 512)


def test_measured_peaks_are_kept_by_torch_and_thread_count(tmp_path: Path) -> None:
    """A new measurement replaces its own entry and no other; another torch's is not shown."""
    path = measured_peaks.cache_path(tmp_path, machine())
    assert measured_peaks.read(path) == ()
    for threads, torch, seconds in ((1, "2.13", 0.2), (2, "2.13", 0.1), (2, "2.14", 0.05), (2, "2.13", 0.4)):
        measured_peaks.write(
            path, measured_peaks.select_best_peaks([record(gemm_job(1024, threads=threads), seconds)], torch)
        )
    kept = measured_peaks.read(path)
    assert len(kept) == 3
    found = measured_peaks.select_newest(kept, "cpu", "fp32", "2.13")
    assert found is not None
    assert found.threads == 1
    assert measured_peaks.select_newest(kept, "cpu", "bf16", "2.13") is None
    now = datetime(2026, 3, 1, 13, tzinfo=UTC)
    assert measured_peaks.age_seconds(found, now) == 3600


def test_a_broken_file_of_peaks_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "peaks.json"
    path.write_text("{")
    with pytest.raises(LedgerError, match="delete the file"):
        measured_peaks.read(path)


def test_bf16_is_measured_only_where_the_cpu_has_it() -> None:
    """Emulated bf16 is no peak of anything."""
    assert measured_peaks.precisions(CPU, machine()) == ("fp32",)
    assert measured_peaks.precisions(CPU, machine(cpu_isa=("avx512_bf16",))) == ("fp32", "bf16")
    assert {job.precision for job in measured_peaks.sweep(CPU, machine())} == {"fp32"}
