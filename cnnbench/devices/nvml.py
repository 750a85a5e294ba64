"""Facts and readings of NVIDIA GPUs by the management library NVML, without torch and without trusting it.

NVML may be absent, refuse a query, fail at one field of many, or never return (a GPU that fell off the bus). So all
queries run in a daemon thread with a time limit: the result is partial or a reason, never an exception and never an
endless wait, and a thread that hangs forever does not delay the end of the process. The `pynvml` module (of the package
nvidia-ml-py), or a fake, gives `schema.Device` values and telemetry readings in SI units.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cnnbench.devices.plausibility import require_plausible
from cnnbench.schema import Device, Telemetry

T = TypeVar("T")

CORES_PER_MULTIPROCESSOR = {
    "3.0": 192, "3.5": 192, "3.7": 192, "5.0": 128, "5.2": 128, "6.0": 64, "6.1": 128, "7.0": 64, "7.5": 64,
    "8.0": 64, "8.6": 128, "8.9": 128, "9.0": 128, "10.0": 128, "12.0": 128,
}  # fmt: skip
"""FP32 cores per multiprocessor, by compute capability (CUDA C++ Programming Guide, "Compute Capabilities")."""

THROTTLE_WORDS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
    0x100: "display clocks",
}
"""Bits of nvmlClocksEventReasons (nvml.h). `idle` and the clock settings lower a clock without being a fault."""

SLOWED = frozenset({"power cap", "hardware slowdown", "software thermal", "hardware thermal", "power brake"})
"""The words for a GPU that ran slower than its clock settings."""

HIGHEST_CLOCK_MEGAHERTZ = 20_000
HIGHEST_POWER_WATTS = 10_000
"""Limits far above any GPU's values; a reading beyond them is the all-ones pattern of a lost device."""

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of Linux's proc_ns.h: outside any container, so NVML's host PIDs are ours too."""

_unanswered_calls: list[threading.Thread] = []
"""The query that never returned, if any: a second would wait behind NVML's lock."""


@dataclass(frozen=True)
class NvmlResult:
    """The GPUs that NVML lists, in PCI bus order; torch may number them differently, so match them by UUID.

    `reason` says why the list is missing. `persistence` holds the mode by device id, `driver_cuda` the newest CUDA the
    driver supports, such as `13.0`.
    """

    devices: tuple[Device, ...] = ()
    reason: str | None = None
    persistence: Mapping[str, bool] = field(default_factory=dict)
    driver_cuda: str | None = None


def list_gpus(timeout_seconds: float = 5.0, *, library: Any = None) -> NvmlResult:
    """List every NVIDIA GPU with NVML's facts about it. `library` replaces the `pynvml` module. Never raises.

    A GPU that answers nothing is listed as unusable, with its reason; in MIG mode the whole GPU is listed, `mig` true.
    """
    found, reason = _converse(library, timeout_seconds, _list)
    return found or NvmlResult(reason=reason)


def read_gpu(uuid: str, timeout_seconds: float, *, library: Any, proc: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read clocks, temperature, power, energy and processes of the GPU with this UUID (`GPU-` optional). Never raises.

    Returns the `device_*` fields of `schema.Telemetry` that could be read, and why the others could not. For a MIG instance the
    memory is the instance's, the clocks and temperature the whole GPU's; power and energy are left out, since the other
    instances draw from the same counter.
    """
    found, reason = _converse(library, timeout_seconds, lambda module: _read(module, uuid, proc))
    return found or ({}, {name: reason for name in Telemetry.model_fields if name.startswith("device_")})


def _converse(library: Any, seconds: float, work: Callable[[Any], T]) -> tuple[T | None, str]:
    """Do `work` on `library`, or on pynvml, in a thread that is abandoned after `seconds`.

    Returns its result, or None and the reason: NVML is missing, refuses, or did not answer in time.
    """
    try:
        module = library or importlib.import_module("pynvml")
    except ImportError:
        return None, "the Python package nvidia-ml-py is not installed"
    if any(thread.is_alive() for thread in _unanswered_calls):
        return None, "NVML has not answered an earlier question; it is not asked again"
    answer: Future[T] = Future()

    def run() -> None:
        try:
            module.nvmlInit()  # for good: NVML counts its users, and later readings are cheap
            answer.set_result(work(module))
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, where it is raised
            answer.set_exception(error)

    thread = threading.Thread(target=run, name="nvml", daemon=True)
    thread.start()
    try:
        return answer.result(seconds), ""
    except TimeoutError:
        _unanswered_calls[:] = [thread]
        return None, f"NVML did not answer in {seconds:g} s"
    except _list_failures(module) as error:
        return None, _reason(error)


def _ask(
    library: Any, missing: dict[str, str], questions: Mapping[str, tuple[Any, ...]], *handle: Any
) -> dict[str, Any]:
    """Ask NVML every question, about this GPU if one is given; a failed answer is None, with its reason in `missing`.

    A question is the name of NVML's function without `nvml`, a function that converts its answer, and further
    arguments.
    """
    answers = dict.fromkeys(questions)
    for name, (question, convert, *arguments) in questions.items():
        try:
            answers[name] = convert(getattr(library, f"nvml{question}")(*handle, *arguments))
        except _list_failures(library) as error:
            missing[name] = _reason(error)
    return answers


def _list_failures(library: Any) -> tuple[type[Exception], ...]:
    """List the errors of pynvml and of older or newer drivers; ValueError is for implausible values and broken text."""
    return (library.NVMLError, AttributeError, OSError, TypeError, ValueError, IndexError)


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return f"NVML: {text}" if not isinstance(error, ValueError) else text


def _list(library: Any) -> NvmlResult:
    questions = {
        "driver": ("SystemGetDriverVersion", _text),
        # 13020 is CUDA 13.2 (nvml.h: major * 1000 + minor * 10).
        "cuda": ("SystemGetCudaDriverVersion", lambda value: f"{value // 1000}.{value % 1000 // 10}"),
    }
    found = _ask(library, {}, questions)
    described = [_describe(library, index, found["driver"]) for index in range(library.nvmlDeviceGetCount())]
    persistence = {device.id: mode for device, mode in described if mode is not None}
    return NvmlResult(tuple(device for device, _ in described), None, persistence, found["cuda"])


def _describe(library: Any, index: int, driver: str | None) -> tuple[Device, bool | None]:
    """Describe GPU `index`, with its persistence mode."""
    known = Device(id=f"cuda:{index}", kind="cuda", name="unknown GPU", driver=driver)
    try:
        handle = library.nvmlDeviceGetHandleByIndex(index)
    except _list_failures(library) as error:
        return known.model_copy(update={"usable": False, "unusable_reason": _reason(error)}), None
    questions = {
        "name": ("DeviceGetName", _text),
        "capability": ("DeviceGetCudaComputeCapability", lambda found: "{}.{}".format(*map(int, found))),
        "multiprocessors": ("DeviceGetNumGpuCores", int),
        "uuid": ("DeviceGetUUID", _text),
        "memory_bytes": ("DeviceGetMemoryInfo", lambda memory: _bytes(memory.total)),
        "max_clock_hertz": ("DeviceGetMaxClockInfo", _hertz, library.NVML_CLOCK_SM),
        "power_limit_watts": ("DeviceGetEnforcedPowerLimit", _watts),
        "ecc": ("DeviceGetEccMode", lambda modes: bool(modes[0])),
        "mig": ("DeviceGetMigMode", lambda modes: bool(modes[0])),
        "persistence": ("DeviceGetPersistenceMode", bool),
    }
    found = _ask(library, {}, questions, handle)
    found["name"] = found["name"] or known.name
    cores, per_unit = found["multiprocessors"] or 0, CORES_PER_MULTIPROCESSOR.get(found["capability"] or "", 0)
    # Unknown where the capability is, or does not divide the count of FP32 cores.
    found["multiprocessors"] = cores // per_unit if cores > 0 and per_unit and cores % per_unit == 0 else None
    persistence = found.pop("persistence")
    return known.model_copy(update=found), persistence


def _read(library: Any, uuid: str, proc: Path) -> tuple[dict[str, Any], dict[str, str]]:
    missing: dict[str, str] = {}
    full = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    handle = board = library.nvmlDeviceGetHandleByUUID(full)
    if full.startswith("MIG-"):
        board = library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    # NVML renamed the question in driver 535; older bindings know only the second name.
    kind = "Event" if hasattr(library, "nvmlDeviceGetCurrentClocksEventReasons") else "Throttle"
    of_board = {
        "device_clock_hertz": ("DeviceGetClockInfo", _hertz, library.NVML_CLOCK_SM),
        "device_memory_clock_hertz": ("DeviceGetClockInfo", _hertz, library.NVML_CLOCK_MEM),
        "device_temperature_celsius": (
            "DeviceGetTemperature",
            lambda degrees: require_plausible(float(degrees), 1, 150, "degrees Celsius"),
            library.NVML_TEMPERATURE_GPU,
        ),
        "device_power_watts": ("DeviceGetPowerUsage", _watts),
        "device_power_limit_watts": ("DeviceGetEnforcedPowerLimit", _watts),
        "device_energy_joules": (
            "DeviceGetTotalEnergyConsumption",
            lambda millijoules: require_plausible(millijoules / 1e3, 0, 1e15, "J"),
        ),
        "device_throttle_reasons": (f"DeviceGetCurrentClocks{kind}Reasons", throttle_words),
    }
    of_instance = {
        "device_used_bytes": ("DeviceGetMemoryInfo", lambda memory: _bytes(memory.used, least=0)),
        "device_other_processes": ("DeviceGetComputeRunningProcesses", lambda found: _count_others(found, proc)),
    }
    if handle is not board:
        for name in ("device_power_watts", "device_energy_joules"):
            del of_board[name]
            missing[name] = "a MIG instance shares the whole GPU's power sensor with the others"
    answers = _ask(library, missing, of_board, board) | _ask(library, missing, of_instance, handle)
    return {name: value for name, value in answers.items() if value is not None}, missing


def throttle_words(mask: int) -> tuple[str, ...]:
    """Translate the reasons in a mask to words, lowest bit first; a bit without a word gives `unknown 0x200`."""
    bits = (1 << place for place in range(mask.bit_length()))
    return tuple(THROTTLE_WORDS.get(bit, f"unknown {bit:#x}") for bit in bits if mask & bit)


def _count_others(processes: Iterable[Any], proc: Path) -> int:
    """Count the compute processes on the GPU except this one.

    NVML gives host PIDs, so in a container our own is known only by luck. Raises ValueError for a list that is not
    empty there, since it cannot be judged.
    """
    pids = {int(process.pid) for process in processes}
    if os.getpid() in pids or not pids or (proc / "self/ns/pid").resolve().name == _INITIAL_PID_NAMESPACE:
        return len(pids - {os.getpid()})
    raise ValueError(
        f"{len(pids)} compute processes by host PID; in a container our own cannot be distinguished from others"
    )


def _text(value: str | bytes) -> str:
    """Decode a text; older bindings answer in bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _hertz(megahertz: float) -> float:
    return require_plausible(float(megahertz), 0, HIGHEST_CLOCK_MEGAHERTZ, "MHz") * 1e6


def _watts(milliwatts: float) -> float:
    return require_plausible(milliwatts / 1e3, 0, HIGHEST_POWER_WATTS, "W")


def _bytes(value: int, least: int = 1) -> int:
    return int(require_plausible(int(value), least, 1 << 50, "bytes"))
