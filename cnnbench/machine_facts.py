"""What is known of a machine and its software: each fact declared once, with how it is read and why it matters.

The declarations determine the table of machines, what makes two runs comparable (`analysis.process_table`), the
differences that `compare` names, the table that TensorBoard shows, and the `machine_info` of pytest-benchmark. A new
fact is a line here and the field that the fingerprint (`machine.fingerprint`) or the probe of torch
(`engine.torch_info`) fills.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from cnnbench import units
from cnnbench.naming import processor_name
from cnnbench.schema import Device, Machine, Software

KEY = "cnnbench"
"""The facts' key in a `machine_info`."""
VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_PROC_BIND",
    "KMP_AFFINITY",
    "CUDA_VISIBLE_DEVICES",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "LD_PRELOAD",
)
"""The environment variables that set threads, hide devices or change the allocator (worth 5 to 10 % of a step on a
CPU).
"""


FactUse = Literal["table", "boot", "condition", "info"]
"""Where a fact is used: in the table of machines; in that of boots and hosts, which may share a machine's id; as a
condition that must be equal for two runs to be one sample; and in `machine_info`, if it is equal in every run on the
machine.
"""


class Host(NamedTuple):
    """Where something was measured: `device` is the processor that did the work, if that matters."""

    machine: Machine
    software: Software
    device: Device | None = None
    boot_id: str | None = None
    host_id: str | None = None


@dataclass(frozen=True)
class Fact:
    """One fact. Its value is what `path` leads to from a `Host`, or what the function returns."""

    name: str
    words: str
    path: str | Callable[[Host], Any]
    uses: tuple[FactUse, ...] = ()
    text: Callable[[Host], str] | None = None
    """The text in the table of machines, if it is more than the value."""
    why: str = ""
    """Why a difference in it matters when two times are divided; empty if it does not."""
    heading: str = ""
    """Its heading in a table, if `words` are too long."""

    def read(self, host: Host) -> Any:
        """Read the value; None if it is unknown."""
        return attrgetter(self.path)(host) if isinstance(self.path, str) else self.path(host)

    def describe(self, host: Host) -> str:
        """Format the value: `n/a`, `yes`, `no`, else as it is."""
        if self.text is not None:
            return self.text(host)
        value = self.read(host)
        if isinstance(value, bool):
            return "yes" if value else "no"
        return units.NOT_AVAILABLE if value in (None, "", ()) else str(value)


def _describe_cores(host: Host) -> str:
    quota = "" if host.machine.cgroup_cpu_limit is None else f", quota {host.machine.cgroup_cpu_limit:g}"
    return f"{host.machine.cores_allowed} of {host.machine.cores_logical}{quota}"


def _describe_accelerators(host: Host) -> str:
    found = []
    for device in host.machine.devices:
        parts = (
            processor_name(device),
            "" if device.memory_bytes is None else units.data_size(device.memory_bytes),
            "" if device.power_limit_watts is None else f"{device.power_limit_watts:.0f} W limit",
            "" if device.driver is None else f"driver {device.driver}",
            "MIG" if device.mig else "",
            "" if device.ecc is None else f"ECC {'on' if device.ecc else 'off'}",
            "" if device.usable else f"not usable: {device.unusable_reason}",
        )
        found += [", ".join(filter(None, parts))] if device.kind != "cpu" else []
    return "; ".join(found) or "none"


def _list_devices(host: Host) -> list[dict[str, Any]]:
    return [
        {
            **device.model_dump(include={"id", "kind", "name", "driver", "power_limit_watts", "mig"}),
            "memory_gib": None if device.memory_bytes is None else _to_gib(device.memory_bytes),
        }
        for device in host.machine.devices
    ]


def _to_gib(size: int) -> int:
    """Round to whole GiB, since an update of the system leaves a little less memory."""
    return round(size / 2**30)


FACTS = (
    Fact("machine", "machine", "machine.id", why="everything about it differs, not just what is compared"),
    Fact("processor", "processor", "device.name", why="the ratio is of two processors"),
    Fact("cpu", "CPU", "machine.cpu_name", ("table", "info")),
    Fact(
        "cores_allowed", "cores allowed", "machine.cores_allowed", ("table", "info"), _describe_cores,
        why="threads without a free core wait for one",
    ),
    Fact("cores_logical", "logical cores", "machine.cores_logical", ("info",)),
    Fact(
        "clock_hertz", "largest clock", "machine.cpu_max_clock_hertz", ("table",),
        lambda host: f"{hertz / 1e9:.2f} GHz" if (hertz := host.machine.cpu_max_clock_hertz) else units.NOT_AVAILABLE,
    ),
    Fact(
        "governor", "CPU frequency governor", "machine.governor", ("table", "condition", "info"), why="it sets the clock",
        heading="governor",
    ),
    Fact("turbo", "turbo", "machine.turbo", ("table", "condition", "info")),
    Fact(
        "hypervisor", "hypervisor", "machine.hypervisor", ("table", "info"), lambda host: host.machine.hypervisor or "none",
        why="a virtual machine has neighbours that cannot be seen",
    ),
    Fact(
        "memory_gib", "memory", lambda host: _to_gib(host.machine.memory_bytes), ("table", "info"),
        lambda host: units.data_size(host.machine.memory_bytes),
    ),
    Fact(
        "memory_limit_bytes", "memory limit", "machine.memory_limit_bytes", ("table",),
        lambda host: units.data_size(host.machine.memory_limit_bytes),
    ),
    Fact("devices", "accelerators", _list_devices, ("table", "info"), _describe_accelerators),
    Fact("os", "system", "machine.os", ("table", "info")),
    Fact("boot_id", "boot", "boot_id", ("boot",), lambda host: host.boot_id or "unknown"),
    Fact("host_id", "host", "host_id", ("boot",), lambda host: host.host_id or "unknown"),
    Fact("kernel", "kernel", "machine.kernel", ("boot", "info")),
    Fact(
        "memory_bytes", "memory", "machine.memory_bytes", ("boot",), lambda host: f"{host.machine.memory_bytes:,} bytes",
    ),
    Fact("libc", "C library", "machine.libc", ("table",)),
    Fact(
        "torch", "torch", "software.torch", ("table", "condition"), lambda host: host.software.torch_text,
        why="its kernels change from version to version",
    ),
    Fact("torch_build", "torch build", "software.torch_build", ("condition",), why="it brings other libraries"),
    Fact("blas", "BLAS", "software.blas", ("table", "condition")),
    Fact("onednn", "oneDNN", "software.onednn", ("table", "condition")),
    Fact("cudnn", "cuDNN", "software.cudnn", ("table", "condition")),
    Fact("cpu_capability", "CPU capability", "software.cpu_capability", ("table", "condition")),
    Fact(
        # Major and minor version: patches do not change how fast a step is launched.
        "python", "Python", lambda host: ".".join(host.software.python.split(".")[:2]), ("table", "condition"),
        lambda host: host.software.python,
    ),
    Fact("cnnbench", "cnnbench", "software.cnnbench", ("table",)),
    Fact("driver", "driver", "device.driver", ("condition",), why="it launches and schedules what is timed"),
    Fact(
        "power_limit_watts", "power limit [W]", "device.power_limit_watts", ("condition",),
        why="a device slows down to stay below it",
    ),
    Fact("ecc", "ECC", "device.ecc", ("condition",)),
    Fact("mig", "MIG", "device.mig", ("condition",)),
)  # fmt: skip
"""The facts in the order of the table of machines."""


def list_facts(use: FactUse) -> tuple[Fact, ...]:
    """List the facts with one use."""
    return tuple(fact for fact in FACTS if use in fact.uses)


def announce_machine(machine: Machine) -> str:
    """Describe a machine before something is measured on it."""
    return f"{machine.id}: {machine.cpu_name}, {machine.cores_allowed} cores allowed"


def describe_boot(machine: Machine, boot_id: str | None, host_id: str | None) -> str:
    """Describe a boot and its host by every fact about them: `boot 0d9c5a54-..., host unknown, kernel 6.1, memory ...`."""
    host = Host(machine, _NO_SOFTWARE, None, boot_id, host_id)
    return ", ".join(f"{fact.words} {fact.describe(host)}" for fact in list_facts("boot"))


_NO_SOFTWARE = Software(cnnbench="", python="", torch="", torch_build="", numpy="")


def announce_software(software: Software) -> str:
    """Describe the software before something is measured with it."""
    return f"torch {software.torch_text}, Python {software.python}"


def describe_machine(
    machine: Machine, *, python: str, torch: str | None, environment: Mapping[str, str] | None
) -> dict[str, Any]:
    """Build the content of `machine_info`, as JSON values.

    Without `environment` if that is not known (None).
    """
    host = Host(machine, Software(cnnbench="", python=python, torch=torch or "", torch_build="", numpy=""))
    known = {"machine_id": machine.id, **{fact.name: fact.read(host) for fact in list_facts("info")}}
    known |= {"python": python, "torch": torch}
    if environment is not None:
        known["environment"] = {name: environment[name] for name in VARIABLES if name in environment}
    return known


def list_differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> tuple[str, ...]:
    """Describe each fact that differs: `CPU: AMD EPYC here, Intel i7 there`.

    Facts missing on either side are left out.
    """
    words = {fact.name: fact.words for fact in FACTS if fact.name != "machine"} | {"environment": "environment"}
    found = [name for name in words if name in here and name in there and _text(here[name]) != _text(there[name])]
    if not found and here.get("machine_id") != there.get("machine_id"):
        found, words = ["machine_id"], {"machine_id": "machine"}
    return tuple(f"{words[name]}: {_text(here.get(name))} here, {_text(there.get(name))} there" for name in found)


def _text(value: object) -> str:
    """Format a value of `machine_info`."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={each}" for name, each in sorted(value.items())) or "none set"
    if isinstance(value, str) or not isinstance(value, Sequence):
        return units.NOT_AVAILABLE if value is None else str(value)
    found = []
    for device in value:
        if not isinstance(device, Mapping):
            found.append(str(device))
        elif device.get("kind") == "cpu":
            found.append("cpu")  # its name is a separate fact
        else:
            driver, limit = device.get("driver"), device.get("power_limit_watts")
            parts = (
                f"{device.get('id')} {device.get('name')}",
                f"driver {driver}" if driver else "",
                f"{limit:g} W" if isinstance(limit, int | float) else "",
                "MIG" if device.get("mig") else "",
            )
            found.append(", ".join(filter(None, parts)))
    return "; ".join(found) or "none"
