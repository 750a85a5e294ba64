"""NVML: what it says is converted exactly, what it does not say costs one field, and it can neither lie nor hang."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes_machine import FakeNvml, Hang, NVMLError, h200

from cnnbench.devices import nvml
from cnnbench.devices.telemetry import sample

UUID = "GPU-00000000-0000-0000-0000-000000000000"
OTHER = "GPU-11111111-1111-1111-1111-111111111111"


@pytest.fixture
def hang() -> Iterator[Hang]:
    call = Hang()
    yield call
    call.release.set()
    for thread in nvml._unanswered_calls:
        thread.join(5)


def test_a_gpu_is_described_in_base_units() -> None:
    """MHz become Hz, mW become W, cores over cores a multiprocessor become multiprocessors."""
    found = nvml.list_gpus(library=FakeNvml(h200()))
    (gpu,) = found.devices
    assert (gpu.id, gpu.kind, gpu.name, gpu.uuid) == ("cuda:0", "cuda", "NVIDIA H200", UUID)
    assert (gpu.max_clock_hertz, gpu.power_limit_watts) == (1.98e9, 700.0)
    assert (gpu.capability, gpu.multiprocessors, gpu.memory_bytes) == ("9.0", 132, 150_754_820_096)
    assert (gpu.ecc, gpu.mig, gpu.driver, gpu.usable) == (True, False, "580.95.05", True)
    assert (found.reason, found.driver_cuda) == (None, "13.0")
    assert found.persistence == {"cuda:0": True}


def test_two_gpus_keep_their_order_and_their_own_values() -> None:
    """Each GPU is read by its own handle."""
    found = nvml.list_gpus(library=FakeNvml(h200(), h200(OTHER, EnforcedPowerLimit=350_000)))
    assert [(gpu.id, gpu.uuid, gpu.power_limit_watts) for gpu in found.devices] == [
        ("cuda:0", UUID, 700.0),
        ("cuda:1", OTHER, 350.0),
    ]
    assert sample(OTHER, library=FakeNvml(h200(), h200(OTHER, PowerUsage=50_000))).device_power_watts == 50.0


def test_an_absent_library_is_a_reason_not_an_error() -> None:
    """No driver, no list, and the reason in NVML's words."""

    def start() -> None:
        raise NVMLError("NVML Shared Library Not Found")

    found = nvml.list_gpus(library=FakeNvml(start=start))
    assert found.devices == ()
    assert found.reason == "NVML: NVML Shared Library Not Found"
    assert found.reason in sample(UUID, library=FakeNvml(start=start)).missing["device_power_watts"]


def test_without_the_python_package_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing nvidia-ml-py is told apart from a missing driver."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.list_gpus().reason == "the Python package nvidia-ml-py is not installed"


def test_permission_denied_is_a_reason() -> None:
    """A container that may not ask gets no list and says why."""

    def start() -> None:
        raise NVMLError("Insufficient Permissions")

    assert "Insufficient Permissions" in (nvml.list_gpus(library=FakeNvml(start=start)).reason or "")


@pytest.mark.parametrize(
    "question", ["Name", "UUID", "MemoryInfo", "EccMode", "EnforcedPowerLimit", "MaxClockInfo", "CudaComputeCapability"]
)
def test_one_failing_question_costs_one_field(question: str) -> None:
    """Whatever raises half-way, every other field of the GPU is still there, and the next GPU whole."""
    broken = h200(**{question: NVMLError("Unknown Error")})
    found = nvml.list_gpus(library=FakeNvml(broken, h200(OTHER)))
    whole = nvml.list_gpus(library=FakeNvml(h200(), h200(OTHER)))
    lost = [name for name, value in found.devices[0].model_dump().items() if value != getattr(whole.devices[0], name)]
    assert len(lost) == (2 if question == "CudaComputeCapability" else 1)
    assert found.devices[1] == whole.devices[1]


def test_a_lost_gpu_is_listed_as_unusable() -> None:
    """A GPU that is there and answers nothing is never silently missing."""
    found = nvml.list_gpus(library=FakeNvml(h200(handle=NVMLError("GPU is lost")), h200(OTHER)))
    assert (found.devices[0].usable, found.devices[0].unusable_reason) == (False, "NVML: GPU is lost")
    assert found.devices[1].usable


def test_mig_is_seen_and_an_instance_has_no_power_of_its_own() -> None:
    """In MIG mode the board's energy counter is everybody's, so an instance's is n/a with that reason."""
    instance = "MIG-22222222-2222-2222-2222-222222222222"
    board = h200(MigMode=[1, 1])
    slice_ = h200(instance, DeviceHandleFromMigDeviceHandle=board, MemoryInfo=SimpleNamespace(total=10, used=7))
    library = FakeNvml(board, slice_)
    assert nvml.list_gpus(library=library).devices[0].mig is True
    state = sample(instance, library=library)
    assert state.device_used_bytes == 7
    assert state.device_clock_hertz == 345e6
    assert state.device_energy_joules is None
    assert "MIG" in state.missing["device_energy_joules"]


def test_a_call_that_hangs_costs_the_time_limit_once(hang: Hang) -> None:
    """NVML silent for ever: a reason, though it still hangs, and no second wait of an hour behind its lock."""
    library = FakeNvml(h200(), start=hang)
    assert nvml.list_gpus(0.1, library=library).reason == "NVML did not answer in 0.1 s"
    begun = time.perf_counter()
    assert sample(UUID, library=library, timeout_seconds=3600.0).device_power_watts is None
    assert time.perf_counter() - begun < 30


def test_a_field_that_hangs_does_not_hang_the_reading(hang: Hang) -> None:
    """The limit holds in the middle of a conversation too; the host's values are still there."""
    state = sample(UUID, library=FakeNvml(h200(TotalEnergyConsumption=hang)), timeout_seconds=0.1)
    assert state.device_energy_joules is None
    assert "did not answer" in state.missing["device_energy_joules"]


def test_a_hanging_call_does_not_hold_up_the_end_of_the_process() -> None:
    """The interpreter exits while NVML still hangs."""
    code = (
        "import time, types\n"
        "from cnnbench.devices import nvml\n"
        "library = types.SimpleNamespace(NVMLError=OSError, nvmlInit=lambda: time.sleep(60))\n"
        "print(nvml.list_gpus(0.05, library=library).reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "NVML did not answer in 0.05 s\n"


def test_telemetry_of_a_gpu_is_in_base_units() -> None:
    """mJ become J, mW become W, the mask becomes words; a UUID as torch writes it, without GPU-, is the same GPU."""
    for uuid in (UUID, UUID.removeprefix("GPU-")):
        state = sample(uuid, library=FakeNvml(h200()))
        assert state.device_energy_joules == 123.456
        assert (state.device_power_watts, state.device_power_limit_watts) == (75.0, 700.0)
        assert (state.device_clock_hertz, state.device_temperature_celsius) == (345e6, 30.0)
        assert state.device_throttle_reasons == ("idle",)
        assert (state.device_used_bytes, state.device_other_processes) == (500_000_000, 0)


@pytest.mark.parametrize(
    ("question", "lie", "field"),
    [
        ("PowerUsage", -1, "device_power_watts"),
        ("PowerUsage", 0xFFFFFFFF, "device_power_watts"),
        ("TotalEnergyConsumption", -5, "device_energy_joules"),
        ("Temperature", -40, "device_temperature_celsius"),
        ("ClockInfo", 4_294_967_295, "device_clock_hertz"),
        ("MemoryInfo", SimpleNamespace(total=1, used=-1), "device_used_bytes"),
    ],
)
def test_an_impossible_reading_is_unknown_with_its_value(question: str, lie: object, field: str) -> None:
    """A negative or all-ones reading is never stored; the reason shows it."""
    state = sample(UUID, library=FakeNvml(h200(**{question: lie})))
    assert getattr(state, field) is None
    assert "the sensor reads" in state.missing[field]


def test_throttle_bits_are_words() -> None:
    """Every bit set is named, an unknown one by its number."""
    assert nvml.throttle_words(0) == ()
    assert nvml.throttle_words(0x4 | 0x20) == ("power cap", "software thermal")
    assert nvml.throttle_words(0x200) == ("unknown 0x200",)


def test_other_processes_leave_our_own_out() -> None:
    """Three compute processes, one of them ours: two others."""
    pids = [SimpleNamespace(pid=pid) for pid in (os.getpid(), 7, 8)]
    assert sample(UUID, library=FakeNvml(h200(ComputeRunningProcesses=pids))).device_other_processes == 2


def test_in_a_container_foreign_pids_are_not_counted_as_others(tmp_path: Path) -> None:
    """NVML gives host PIDs: where ours cannot be found among them, the count of others is unknown."""
    namespace = tmp_path / "self/ns/pid"
    namespace.parent.mkdir(parents=True)
    namespace.symlink_to("pid:[4026532999]")
    library = FakeNvml(h200(ComputeRunningProcesses=[SimpleNamespace(pid=7)]))
    assert sample(UUID, proc=tmp_path, library=library).device_other_processes is None
    namespace.unlink()
    namespace.symlink_to("pid:[4026531836]")
    assert sample(UUID, proc=tmp_path, library=library).device_other_processes == 1


def test_older_bindings_are_understood() -> None:
    """Text in bytes, and the throttle question under its old name."""
    gpu = h200(Name=b"Tesla K80", CudaComputeCapability=[3, 7], NumGpuCores=2496, CurrentClocksThrottleReasons=0x4)
    del gpu.answers["CurrentClocksEventReasons"]
    library = FakeNvml(gpu)
    assert nvml.list_gpus(library=library).devices[0].name == "Tesla K80"
    assert nvml.list_gpus(library=library).devices[0].multiprocessors == 13
    assert sample(UUID, library=library).device_throttle_reasons == ("power cap",)
