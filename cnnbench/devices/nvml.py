"""What NVIDIA's management library says about the GPUs, without torch and without trusting it.

NVML may be absent, forbid the question, fail at one field of many, or never return (a GPU that fell off the bus). So
every conversation runs in a daemon thread with a time limit: the answer is partial or a reason, never an exception and
never a wait, and a thread that hangs for good does not hold up the end of the process. Enters: the `pynvml` module (of
the package nvidia-ml-py), or a stand-in. Leaves: `schema.Device` values and telemetry readings in SI units.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cnnbench.devices.plausibility import require_plausible
from cnnbench.schema import Device, Telemetry

T = TypeVar("T")

CORES_PER_MULTIPROCESSOR: Mapping[str, int] = {
    "3.0": 192, "3.5": 192, "3.7": 192, "5.0": 128, "5.2": 128, "6.0": 64, "6.1": 128, "7.0": 64, "7.5": 64,
    "8.0": 64, "8.6": 128, "8.9": 128, "9.0": 128, "10.0": 128, "12.0": 128,
}  # fmt: skip
"""FP32 cores a multiprocessor, by compute capability (CUDA C++ Programming Guide, "Compute Capabilities")."""

THROTTLE_WORDS: Mapping[int, str] = {
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
"""The words that mean the GPU ran slower than it was asked to."""

HIGHEST_CLOCK_MEGAHERTZ = 20_000
HIGHEST_POWER_WATTS = 10_000
"""No GPU comes near these; a reading beyond them is the all-ones pattern of a lost device."""

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of Linux's proc_ns.h: outside any container, so NVML's host PIDs are ours too."""

_unanswered_calls: list[threading.Thread] = []
"""The conversation that never ended, if there is one: a second would wait behind NVML's lock."""


class NvmlTimeoutError(Exception):
    """NVML did not answer in time."""


@dataclass(frozen=True)
class NvmlResult:
    """The GPUs NVML lists, in PCI bus order; torch may number them otherwise, so match them by UUID.

    `reason` says why there is no list at all; `missing` why one field of one GPU is unknown (`cuda:0 ecc`).
    `persistence` holds the mode by device id, `driver_cuda` the newest CUDA the driver supports, such as `13.0`.
    """

    devices: tuple[Device, ...] = ()
    reason: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    persistence: Mapping[str, bool] = field(default_factory=dict)
    driver_cuda: str | None = None


@dataclass(frozen=True)
class GpuReading:
    """The `device_*` fields of `schema.Telemetry` that could be read, and why the others could not."""

    values: Mapping[str, float | int | tuple[str, ...]]
    missing: Mapping[str, str]


TELEMETRY_FIELDS = tuple(name for name in Telemetry.model_fields if name.startswith("device_"))


def list_gpus(timeout_seconds: float = 5.0, *, library: Any = None) -> NvmlResult:
    """Every NVIDIA GPU with what NVML tells of it. `library` stands in for the `pynvml` module. Never raises.

    A GPU that answers nothing is listed as unusable, with its reason; in MIG mode the whole GPU is listed, `mig` true.
    """
    return _converse(library, timeout_seconds, _list, lambda reason: NvmlResult(reason=reason))


def read_gpu(uuid: str, timeout_seconds: float = 2.0, *, library: Any = None, proc: Path = Path("/proc")) -> GpuReading:
    """Clocks, heat, power, energy and users of the GPU with this UUID (`GPU-` may be left off). Never raises.

    For a MIG instance the memory is the instance's, the clocks and temperature the whole GPU's; power and energy are
    left out, since the other instances draw from the same counter.
    """
    return _converse(
        library,
        timeout_seconds,
        lambda module: _read(module, uuid, proc),
        lambda reason: GpuReading({}, dict.fromkeys(TELEMETRY_FIELDS, reason)),
    )


def _converse(library: Any, seconds: float, work: Callable[[Any], T], refuse: Callable[[str], T]) -> T:
    """What `work` makes of `library`, or of pynvml, once NVML has started; what `refuse` makes of the reason where it cannot."""
    try:
        module = library or importlib.import_module("pynvml")
    except ImportError:
        return refuse("the Python package nvidia-ml-py is not installed")

    def begin() -> T:
        try:
            module.nvmlInit()  # for good: NVML counts its users, and later readings are cheap
        except (module.NVMLError, AttributeError, OSError) as error:
            return refuse(_reason(error))
        return work(module)

    try:
        return _call_with_timeout(seconds, begin)
    except NvmlTimeoutError as error:
        return refuse(str(error))


def _call_with_timeout(seconds: float, work: Callable[[], T]) -> T:
    """The work's result, its exception, or NvmlSilentError after that long; the thread is left to its fate."""
    if any(thread.is_alive() for thread in _unanswered_calls):
        raise NvmlTimeoutError("NVML has not answered an earlier question; it is not asked again")
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, where it is raised
            errors.append(error)

    thread = threading.Thread(target=run, name="nvml", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if results:
        return results[0]
    _unanswered_calls[:] = [thread]
    raise NvmlTimeoutError(f"NVML did not answer in {seconds:g} s")


class _FieldReader:
    """Asks one field at a time; a failure costs that field and leaves its reason in `missing`."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.missing: dict[str, str] = {}
        # What pynvml and a driver of another age raise; ValueError is `require_plausible`'s and that of undecodable text.
        self.errors: tuple[type[Exception], ...] = (
            library.NVMLError, AttributeError, OSError, TypeError, ValueError, IndexError,
        )  # fmt: skip

    def read_field(self, name: str, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except self.errors as error:
            self.missing[name] = _reason(error)
            return None


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return f"NVML: {text}" if not isinstance(error, ValueError) else text


def _list(library: Any) -> NvmlResult:
    questions = _FieldReader(library)
    count = questions.read_field("count", lambda: int(library.nvmlDeviceGetCount()))
    if count is None:
        return NvmlResult(reason=questions.missing["count"])
    driver = questions.read_field("driver", lambda: _text(library.nvmlSystemGetDriverVersion()))
    cuda = questions.read_field("driver_cuda", lambda: _cuda_version(library.nvmlSystemGetCudaDriverVersion()))
    devices: list[Device] = []
    persistence: dict[str, bool] = {}
    for index in range(count):
        device, mode = _describe(questions, index, driver)
        devices.append(device)
        if mode is not None:
            persistence[device.id] = mode
    return NvmlResult(tuple(devices), None, questions.missing, persistence, cuda)


def _describe(reader: _FieldReader, index: int, driver: str | None) -> tuple[Device, bool | None]:
    """GPU `index` and its persistence mode."""
    library = reader.library
    key = f"cuda:{index}"
    handle = reader.read_field(f"{key} handle", lambda: library.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        reason = reader.missing[f"{key} handle"]
        lost = Device(id=key, kind="cuda", name="unknown GPU", driver=driver, usable=False, unusable_reason=reason)
        return lost, None

    calls: dict[str, Callable[[], Any]] = {
        "name": lambda: _text(library.nvmlDeviceGetName(handle)),
        "capability": lambda: _pair(library.nvmlDeviceGetCudaComputeCapability(handle)),
        "multiprocessors": lambda: int(library.nvmlDeviceGetNumGpuCores(handle)),
        "uuid": lambda: _text(library.nvmlDeviceGetUUID(handle)),
        "memory_bytes": lambda: _bytes(library.nvmlDeviceGetMemoryInfo(handle).total),
        "max_clock_hertz": lambda: _hertz(library.nvmlDeviceGetMaxClockInfo(handle, library.NVML_CLOCK_SM)),
        "power_limit_watts": lambda: _watts(library.nvmlDeviceGetEnforcedPowerLimit(handle)),
        "ecc": lambda: bool(library.nvmlDeviceGetEccMode(handle)[0]),
        "mig": lambda: bool(library.nvmlDeviceGetMigMode(handle)[0]),
        "persistence": lambda: bool(library.nvmlDeviceGetPersistenceMode(handle)),
    }
    found: dict[str, Any] = {name: reader.read_field(f"{key} {name}", call) for name, call in calls.items()}
    found["name"] = found["name"] or "unknown GPU"
    found["multiprocessors"] = multiprocessors(found["multiprocessors"], found["capability"])
    persistence = found.pop("persistence")
    return Device(id=key, kind="cuda", driver=driver, **found), persistence


def multiprocessors(cores: int | None, capability: str | None) -> int | None:
    """Multiprocessors from the count of FP32 cores; None where the capability is unknown or does not divide it."""
    per_unit = CORES_PER_MULTIPROCESSOR.get(capability or "")
    if not cores or cores < 0 or per_unit is None or cores % per_unit:
        return None
    return cores // per_unit


def _read(library: Any, uuid: str, proc: Path) -> GpuReading:
    questions = _FieldReader(library)
    full = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    handle = questions.read_field("handle", lambda: library.nvmlDeviceGetHandleByUUID(full))
    instance = full.startswith("MIG-")
    board = handle
    if handle is not None and instance:
        board = questions.read_field("handle", lambda: library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle))
    if handle is None or board is None:
        return GpuReading({}, dict.fromkeys(TELEMETRY_FIELDS, questions.missing["handle"]))
    calls = _telemetry_calls(library, board, handle, proc)
    if instance:
        for name in ("device_power_watts", "device_energy_joules"):
            del calls[name]
            questions.missing[name] = "a MIG instance shares the whole GPU's power sensor with the others"
    answers = {name: questions.read_field(name, call) for name, call in calls.items()}
    return GpuReading({name: value for name, value in answers.items() if value is not None}, questions.missing)


def _telemetry_calls(
    library: Any, board: Any, handle: Any, proc: Path
) -> dict[str, Callable[[], float | int | tuple[str, ...]]]:
    """One question a telemetry field; `board` is the whole GPU, `handle` it or the MIG instance."""
    return {
        "device_clock_hertz": lambda: _hertz(library.nvmlDeviceGetClockInfo(board, library.NVML_CLOCK_SM)),
        "device_memory_clock_hertz": lambda: _hertz(library.nvmlDeviceGetClockInfo(board, library.NVML_CLOCK_MEM)),
        "device_temperature_celsius": lambda: require_plausible(
            float(library.nvmlDeviceGetTemperature(board, library.NVML_TEMPERATURE_GPU)), 1, 150, "degrees Celsius"
        ),
        "device_power_watts": lambda: _watts(library.nvmlDeviceGetPowerUsage(board)),
        "device_power_limit_watts": lambda: _watts(library.nvmlDeviceGetEnforcedPowerLimit(board)),
        "device_energy_joules": lambda: require_plausible(
            library.nvmlDeviceGetTotalEnergyConsumption(board) / 1e3, 0, 1e15, "J"
        ),
        "device_throttle_reasons": lambda: throttle_words(_throttle_mask(library, board)),
        "device_used_bytes": lambda: _bytes(library.nvmlDeviceGetMemoryInfo(handle).used, empty_allowed=True),
        "device_other_processes": lambda: _other_processes(library, handle, proc),
    }


def _throttle_mask(library: Any, board: Any) -> int:
    """NVML renamed the question in driver 535; older bindings know only the second name."""
    ask = getattr(library, "nvmlDeviceGetCurrentClocksEventReasons", None)
    if ask is None:
        ask = library.nvmlDeviceGetCurrentClocksThrottleReasons
    return int(ask(board))


def throttle_words(mask: int) -> tuple[str, ...]:
    """The reasons in a mask as words, lowest bit first; a bit without a word shows as `unknown 0x200`."""
    bits = (1 << place for place in range(mask.bit_length()))
    return tuple(THROTTLE_WORDS.get(bit, f"unknown {bit:#x}") for bit in bits if mask & bit)


def _other_processes(library: Any, handle: Any, proc: Path) -> int:
    """Compute processes on the GPU beside this one.

    NVML gives host PIDs, so inside a container our own is known only by luck: then a list that is not empty cannot be
    judged. Raises ValueError in that case.
    """
    pids = {int(process.pid) for process in library.nvmlDeviceGetComputeRunningProcesses(handle)}
    if os.getpid() in pids or not pids or _in_initial_namespace(proc):
        return len(pids - {os.getpid()})
    raise ValueError(f"{len(pids)} compute processes by host PID; in a container our own cannot be told from others")


def _in_initial_namespace(proc: Path) -> bool:
    try:
        return str((proc / "self/ns/pid").readlink()) == _INITIAL_PID_NAMESPACE
    except OSError:
        return False


def _text(value: str | bytes) -> str:
    """Older bindings answer in bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _pair(value: Any) -> str:
    return f"{int(value[0])}.{int(value[1])}"


def _cuda_version(value: int) -> str:
    """13020 is CUDA 13.2 (nvml.h: major * 1000 + minor * 10)."""
    return f"{value // 1000}.{value % 1000 // 10}"


def _hertz(megahertz: float) -> float:
    return require_plausible(float(megahertz), 0, HIGHEST_CLOCK_MEGAHERTZ, "MHz") * 1e6


def _watts(milliwatts: float) -> float:
    return require_plausible(milliwatts / 1e3, 0, HIGHEST_POWER_WATTS, "W")


def _bytes(value: int, *, empty_allowed: bool = False) -> int:
    return int(require_plausible(int(value), 0 if empty_allowed else 1, 1 << 50, "bytes"))
