"""Stand-ins at the library's edge: a pynvml module that answers, fails or hangs, and trees that look like /proc and /sys."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    pass


@dataclass
class FakeGpu:
    """One GPU's answers by question; an exception in place of an answer is raised."""

    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    answers: dict[str, Any] = field(default_factory=dict)


def h200(uuid: str = "GPU-00000000-0000-0000-0000-000000000000", **answers: Any) -> FakeGpu:
    """A quiet H200 in NVML's units (MHz, mW, mJ); an answer replaces the question's, named without nvmlDeviceGet."""
    quiet: dict[str, Any] = {
        "Name": "NVIDIA H200",
        "UUID": uuid,
        "CudaComputeCapability": [9, 0],
        "NumGpuCores": 132 * 128,
        "MemoryInfo": SimpleNamespace(total=150_754_820_096, used=500_000_000, free=150_254_820_096),
        "MaxClockInfo": 1980,
        "ClockInfo": 345,
        "EnforcedPowerLimit": 700_000,
        "PowerUsage": 75_000,
        "TotalEnergyConsumption": 123_456,
        "EccMode": [1, 1],
        "MigMode": [0, 0],
        "PersistenceMode": 1,
        "Temperature": 30,
        "CurrentClocksEventReasons": 0x1,
        "ComputeRunningProcesses": [],
    }
    return FakeGpu(uuid, {**quiet, **answers})


class FakeNvml:
    """The part of pynvml that is used. `start` replaces nvmlInit: let it raise, or wait, to fake denial or a hang."""

    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError

    def __init__(self, *gpus: FakeGpu, start: Callable[[], None] = lambda: None) -> None:
        self.gpus = gpus
        self.nvmlInit = start
        self.calls: list[str] = []

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.95.05"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13000

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        gpu = self.gpus[index]
        if "handle" in gpu.answers:
            raise gpu.answers["handle"]
        return gpu

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        for gpu in self.gpus:
            if gpu.uuid == uuid:
                return gpu
        raise NVMLError("Not Found")

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)
        question = name.removeprefix("nvmlDeviceGet")
        if not any(question in gpu.answers for gpu in self.gpus):
            raise AttributeError(name)

        def answer(gpu: FakeGpu, *_: object) -> Any:
            self.calls.append(question)
            value = gpu.answers[question]
            if isinstance(value, Exception):
                raise value
            return value() if callable(value) else value

        return answer


@dataclass
class Hang:
    """Called, it waits until `release` is set: a GPU that fell off the bus."""

    release: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        self.release.wait(60)


def lay_out(root: Path, files: Mapping[str, str]) -> Path:
    """Writes the files under root, and gives root back."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


CPU_INFO = """processor\t: {index}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 60
model name\t: Intel(R) Core(TM) i7-4790K CPU @ 4.00GHz
stepping\t: 3
cpu MHz\t\t: {megahertz}
physical id\t: 0
core id\t\t: {core}
flags\t\t: fpu sse4_2 avx fma f16c avx2{more}
"""


def i7_cpuinfo(more_flags: str = "", megahertz: float = 4000.0) -> str:
    """The lecture's CPU as Linux shows it: four cores, eight threads."""
    return "\n".join(
        CPU_INFO.format(index=index, core=index % 4, more=more_flags, megahertz=megahertz) for index in range(8)
    )


def quiet_proc(root: Path, **files: str) -> Path:
    """A /proc with an idle i7-4790K, 16 GiB and no control groups."""
    standard = {
        "cpuinfo": i7_cpuinfo(),
        "meminfo": "MemTotal:       16777216 kB\nMemAvailable:   15000000 kB\nSwapTotal:       2097152 kB\n"
        "SwapFree:        2097152 kB\n",
        "loadavg": "0.25 0.10 0.05 1/200 4242\n",
        "stat": "cpu  100 0 50 9000 0 0 0 300 0 0\ncpu0 100 0 50 9000 0 0 0 300 0 0\n",
        "pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n",
        "self/cgroup": "0::/\n",
    }
    return lay_out(root, {**standard, **files})
