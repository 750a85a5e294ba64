"""The doctor: each fault gives its finding with a number and a remedy, and a healthy machine gives none."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes_machine import FakeNvml, h200, quiet_proc

from cnnbench.devices import nvml
from cnnbench.machine.doctor import DoctorFinding, HostState, diagnose, is_unfit, probe_host
from cnnbench.schema import Device, Machine, Software, Telemetry

GPU = Device(
    id="cuda:0", kind="cuda", name="NVIDIA H200", uuid="GPU-aa", driver="580.1", ecc=True, mig=False,
)  # fmt: skip
NO_GPUS = nvml.NvmlResult(reason="NVML: NVML Shared Library Not Found")
ONE_GPU = nvml.NvmlResult(devices=(GPU,), persistence={"cuda:0": True}, driver_cuda="13.0")
QUIET = HostState(
    load_1min=0.1, steal_share=0.0, swap_used_bytes=0, memory_available_bytes=8 << 30, compiler="/usr/bin/g++",
    gpu_states={"cuda:0": Telemetry(device_throttle_reasons=("idle",), device_temperature_celsius=30)},
)  # fmt: skip


def machine(**fields: object) -> Machine:
    standard: dict[str, object] = {
        "id": "m", "cpu_name": "CPU", "cores_logical": 8, "cores_allowed": 8, "memory_bytes": 16 << 30, "os": "Linux",
        "kernel": "6", "governor": "performance", "devices": (GPU,),
    }  # fmt: skip
    return Machine.model_validate({**standard, **fields})


def software(build: str = "cuda 13.0") -> Software:
    return Software(cnnbench="0", python="3.11", torch="2.13.0", torch_build=build, numpy="2")


def faults(findings: tuple[DoctorFinding, ...]) -> dict[str, str]:
    """Code to severity, of everything but `ok`."""
    return {finding.code: finding.severity for finding in findings if finding.severity != "ok"}


def surroundings(**fields: object) -> HostState:
    return HostState(**{**vars(QUIET), **fields})  # type: ignore[arg-type]


def test_a_healthy_machine_is_not_accused() -> None:
    """Idle, bare metal, torch sees the GPU under NVML's UUID without its prefix: nothing but ok."""
    seen = [GPU.model_copy(update={"uuid": "aa"})]
    findings = diagnose(machine(), software(), ONE_GPU, seen, QUIET)
    assert faults(findings) == {}
    assert {"torch", "load", "gpu"} <= {finding.code for finding in findings}
    assert not is_unfit(findings)


def test_a_machine_without_a_gpu_is_not_accused_of_it() -> None:
    """No NVML and a CPU build of torch is a fine CPU machine."""
    assert faults(diagnose(machine(devices=()), software("cpu"), NO_GPUS, [], QUIET)) == {}


@pytest.mark.parametrize(
    ("build", "driver_cuda", "code"),
    [
        ("cpu", "13.0", "torch-cpu-build"),
        ("cuda 13.0", "12.4", "driver-too-old"),
        ("cuda 12.6", "12.4", "gpu-unusable"),
    ],
)
def test_a_gpu_torch_cannot_use_makes_the_machine_unfit(build: str, driver_cuda: str, code: str) -> None:
    """CPU build, old driver, or unknown: each its own code, never a silent fall back to the CPU."""
    gpus = nvml.NvmlResult(devices=(GPU,), persistence={"cuda:0": True}, driver_cuda=driver_cuda)
    findings = diagnose(machine(), software(build), gpus, [], QUIET)
    assert faults(findings) == {code: "unfit"}
    assert is_unfit(findings)
    assert findings[0].message.startswith("1 of 1 GPUs (NVIDIA H200)")


def test_one_of_two_gpus_missing_in_torch_is_seen() -> None:
    """The lists are compared by UUID, not by length alone."""
    other = GPU.model_copy(update={"id": "cuda:1", "uuid": "GPU-bb"})
    gpus = nvml.NvmlResult(devices=(GPU, other), driver_cuda="13.0")
    assert faults(diagnose(machine(), software(), gpus, [GPU], QUIET)) == {"gpu-unusable": "unfit"}


def test_a_hidden_gpu_is_the_users_wish() -> None:
    """CUDA_VISIBLE_DEVICES is no fault."""
    hidden = GPU.model_copy(update={"usable": False, "unusable_reason": "hidden by CUDA_VISIBLE_DEVICES"})
    assert faults(diagnose(machine(devices=(hidden,)), software(), ONE_GPU, [], QUIET)) == {}


def test_a_gpu_split_by_mig_is_not_called_unusable() -> None:
    """torch lists the instance under a UUID of its own; the finding is `mig`."""
    split = GPU.model_copy(update={"mig": True})
    gpus = nvml.NvmlResult(devices=(split,), persistence={"cuda:0": True}, driver_cuda="13.0")
    instance = GPU.model_copy(update={"uuid": "MIG-cc"})
    assert faults(diagnose(machine(), software(), gpus, [instance], QUIET)) == {"mig": "warning"}


def test_torch_that_does_not_start_is_unfit() -> None:
    """Without torch nothing can be measured."""
    assert faults(diagnose(machine(), None, ONE_GPU, None, QUIET)) == {"torch": "unfit"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"load_1min": 0.79}, {}),
        ({"load_1min": 2.0}, {"load": "warning"}),
        ({"load_1min": 8.0}, {"load": "unfit"}),
        ({"load_1min": 8.0, "busy_share": 0.02}, {}),  # left over by what has ended
        ({"load_1min": 0.1, "busy_share": 0.12}, {"busy": "warning"}),
        ({"load_1min": 0.1, "busy_share": 0.25}, {"busy": "unfit"}),
        ({"steal_share": 0.05}, {"steal": "warning"}),
        ({"swap_used_bytes": 1 << 30}, {"swap": "warning"}),
        ({"memory_available_bytes": 1 << 30}, {"memory": "warning"}),
        ({"memory_available_bytes": 1 << 28}, {"memory": "unfit"}),
        ({"compiler": None}, {"compiler": "note"}),
        ({"gpu_states": {"cuda:0": Telemetry(device_throttle_reasons=("power cap",))}}, {"throttled": "warning"}),
        ({"gpu_states": {"cuda:0": Telemetry(device_temperature_celsius=91)}}, {"heat": "warning"}),
        ({"gpu_states": {"cuda:0": Telemetry(device_other_processes=2)}}, {"gpu-shared": "warning"}),
        (dict.fromkeys(vars(QUIET)) | {"compiler": "g++", "gpu_states": {}}, {}),
    ],
)
def test_each_disturbance_gives_its_finding(fields: dict[str, object], expected: dict[str, str]) -> None:
    """One change, one finding; what cannot be read gives none."""
    assert faults(diagnose(machine(), software(), ONE_GPU, [GPU], surroundings(**fields))) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"governor": "powersave"}, {"governor": "warning"}),
        ({"governor": None}, {}),
        ({"turbo": True, "cpu_max_clock_hertz": 4.4e9}, {"turbo": "note"}),
        ({"turbo": False}, {"turbo": "note"}),
        ({"cgroup_cpu_limit": 1.5}, {"cgroup": "warning"}),
        ({"cgroup_cpu_limit": 0.5}, {"cgroup": "unfit"}),
        ({"cgroup_cpu_limit": 8.0}, {}),
        ({"hypervisor": "KVM"}, {"hypervisor": "note"}),
        ({"memory_limit_bytes": 1 << 30}, {"memory": "warning"}),
    ],
)
def test_each_setting_of_the_machine_gives_its_finding(fields: dict[str, object], expected: dict[str, str]) -> None:
    """One setting, one finding."""
    assert faults(diagnose(machine(**fields), software(), ONE_GPU, [GPU], QUIET)) == expected


def test_gpu_settings_give_their_findings() -> None:
    """Persistence off, ECC off and MIG on are said of the GPU that has them."""
    odd = GPU.model_copy(update={"ecc": False, "mig": True})
    gpus = nvml.NvmlResult(devices=(odd,), persistence={"cuda:0": False})
    findings = diagnose(machine(), software(), gpus, [odd], QUIET)
    assert faults(findings) == {"persistence": "note", "ecc": "note", "mig": "warning"}


def test_torch_with_gpus_but_without_nvml_is_warned() -> None:
    """Then no throttling would ever be seen."""
    assert faults(diagnose(machine(), software(), NO_GPUS, [GPU], QUIET)) == {"nvml": "warning"}


def test_every_fault_has_a_number_and_a_remedy_and_the_gravest_stand_first() -> None:
    """A message without a number or a remedy without a verb helps nobody."""
    ill = machine(governor="powersave", turbo=True, cgroup_cpu_limit=0.5, hypervisor="KVM")
    state = Telemetry(device_throttle_reasons=("power cap",), device_temperature_celsius=91, device_other_processes=1)
    around = HostState(9.0, 0.2, 1 << 30, 1 << 28, None, {"cuda:0": state}, 0.5)
    split, whole = (GPU.model_copy(update={"ecc": False, "mig": True}), GPU.model_copy(update={"id": "cuda:1"}))
    odd = nvml.NvmlResult(devices=(split, whole), persistence={"cuda:0": False})
    findings = diagnose(ill, software("cpu"), odd, [], around)
    bad = [finding for finding in findings if finding.severity != "ok"]
    assert len(bad) == 17
    for finding in bad:
        assert any(letter.isdigit() for letter in finding.message), finding
        assert finding.remedy.split()[0] in {
            "Install", "Check", "Stop", "Raise", "Close", "Set", "Leave", "Turn", "Use", "Compare", "Let", "Make",
        }, finding  # fmt: skip
    ranks = [("unfit", "warning", "note", "ok").index(finding.severity) for finding in findings]
    assert ranks == sorted(ranks)


def test_looking_around_reads_and_does_not_judge(tmp_path: Path) -> None:
    """Load, steal, swap and memory from /proc, the compiler from the path, each GPU's state from NVML."""
    proc = quiet_proc(tmp_path)
    library = FakeNvml(h200(Temperature=44))
    found = probe_host(
        nvml.list_gpus(library=library), proc=proc, sys=tmp_path, which=lambda name: None, library=library
    )
    assert found.load_1min == 0.25
    assert found.steal_share == pytest.approx(300 / 9450)
    assert (found.swap_used_bytes, found.memory_available_bytes, found.compiler) == (0, 15_000_000 * 1024, None)
    assert found.gpu_states["cuda:0"].device_temperature_celsius == 44
    empty = probe_host(NO_GPUS, proc=tmp_path / "none", sys=tmp_path)
    assert (empty.load_1min, empty.steal_share, empty.swap_used_bytes, empty.memory_available_bytes) == (None,) * 4
