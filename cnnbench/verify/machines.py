"""The table of machines: every fact again from the headers of the ledgers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from cnnbench.schema import Device, Machine, RunHeader
from cnnbench.verify import formats
from cnnbench.verify.raw_rows import is_same_text, may_be_called, to_page_text
from cnnbench.verify.view import PageView

FactText = Callable[[RunHeader], object]
FACTS: Mapping[str, FactText] = {
    "CPU": attrgetter("machine.cpu_name"),
    "cores allowed": lambda header: _cores(header.machine),
    "largest clock": lambda header: (
        header.machine.cpu_max_clock_hertz and f"{header.machine.cpu_max_clock_hertz / 1e9:.2f} GHz"
    ),
    "governor": attrgetter("machine.governor"),
    "turbo": lambda header: {None: None, True: "yes", False: "no"}[header.machine.turbo],
    "hypervisor": lambda header: header.machine.hypervisor or "none",
    "memory": lambda header: header.machine.memory_bytes and formats.size(header.machine.memory_bytes),
    "memory limit": lambda header: (
        header.machine.memory_limit_bytes and formats.size(header.machine.memory_limit_bytes)
    ),
    "accelerators": lambda header: (
        "; ".join(_accelerator(each) for each in header.machine.devices if each.kind != "cpu") or "none"
    ),
    "system": lambda header: f"{header.machine.os}, kernel {header.machine.kernel}",
    "C library": attrgetter("machine.libc"),
    "torch": lambda header: f"{header.software.torch} ({header.software.torch_build})",
    "BLAS": attrgetter("software.blas"),
    "oneDNN": attrgetter("software.onednn"),
    "cuDNN": attrgetter("software.cudnn"),
    "CPU capability": attrgetter("software.cpu_capability"),
    "Python": attrgetter("software.python"),
    "cnnbench": attrgetter("software.cnnbench"),
}


def _cores(machine: Machine) -> str:
    quota = "" if machine.cgroup_cpu_limit is None else f", quota {machine.cgroup_cpu_limit:g}"
    return f"{machine.cores_allowed} of {machine.cores_logical}{quota}"


def _accelerator(device: Device) -> str:
    parts = [device.name]
    parts += [] if device.memory_bytes is None else [formats.size(device.memory_bytes)]
    parts += [] if device.power_limit_watts is None else [f"{device.power_limit_watts:.0f} W limit"]
    parts += [] if device.driver is None else [f"driver {device.driver}"]
    parts += ["MIG"] if device.mig else []
    parts += [] if device.ecc is None else [f"ECC {'on' if device.ecc else 'off'}"]
    return ", ".join(parts + ([] if device.usable else [f"not usable: {device.unusable_reason}"]))


def _is_fact(name: str, header: RunHeader, printed: str | None, shared: str) -> bool:
    """Whether a machine may be said to be so, by itself or with the others; a device's name may be a shorter one."""
    expected = FACTS[name](header)
    text = formats.UNKNOWN if expected in (None, "", ()) else str(expected)
    if printed is None:
        numbers = formats.find_numbers(shared)
        listed = name == "accelerators" and all(each in numbers for each in formats.find_numbers(text))
        return f"{name} {text}" in shared or listed
    shortened = name == "accelerators" and may_be_called(text, printed.replace("…,", "…"))
    return is_same_text(printed, text) or (shortened and formats.find_numbers(printed) == formats.find_numbers(text))


def find_errors(view: PageView, table: Mapping[str, Any]) -> Iterator[str]:
    """What the table says that the headers do not: side by side, or one machine below the other."""
    columns, (group,) = table["columns"], table["groups"]
    beside = columns[0]["key"] != "machine"
    facts: dict[tuple[str, str], str] = {}
    for first, *cells in ([to_page_text(cell["text"]) for cell in line["cells"]] for line in group["lines"]):
        for column, text in zip(columns[1:], cells, strict=True):
            facts[(first, to_page_text(column["title"])) if beside else (column["key"], first)] = text
    for name in FACTS if ("CPU", "") in facts else ():
        marked, texts = facts.pop((name, "")), {text for (fact, _), text in facts.items() if fact == name}
        if (marked == "differs") != (len(texts) > 1):
            yield f"{name} is marked {marked!r}, the machines' texts say otherwise"
    machines = {to_page_text(name): header for name, header in sorted(view.machines.items())}
    if (printed := dict.fromkeys(machine for _, machine in facts)).keys() != machines.keys():
        yield f"the machines are {', '.join(printed)}, the records are of {', '.join(machines)}"
    for name in FACTS:
        for machine, header in machines.items():
            there = facts.get((name, machine))
            if not _is_fact(name, header, there, "" if beside else group["title"]):
                yield f"{name} of {machine}: {there!r} is not what the header of run {header.run_id} says"
