"""The table of machines: every fact again from the headers of the ledgers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cnnbench.schema import Device, RunHeader
from cnnbench.verify import formats
from cnnbench.verify.raw_rows import is_same_text, may_be_called, to_page_text
from cnnbench.verify.view import PageView

FactText = Callable[[RunHeader], object]
FACTS: Mapping[str, FactText] = {
    "CPU": lambda header: header.machine.cpu_name,
    "cores allowed": lambda header: _cores(header),
    "largest clock": lambda header: (
        header.machine.cpu_max_clock_hertz and f"{header.machine.cpu_max_clock_hertz / 1e9:.2f} GHz"
    ),
    "governor": lambda header: header.machine.governor,
    "turbo": lambda header: {None: None, True: "yes", False: "no"}[header.machine.turbo],
    "hypervisor": lambda header: header.machine.hypervisor or "none",
    "memory": lambda header: header.machine.memory_bytes and formats.size(header.machine.memory_bytes),
    "memory limit": lambda header: (
        header.machine.memory_limit_bytes and formats.size(header.machine.memory_limit_bytes)
    ),
    "accelerators": lambda header: "; ".join(_accelerator(each) for each in _accelerators(header)) or "none",
    "system": lambda header: f"{header.machine.os}, kernel {header.machine.kernel}",
    "C library": lambda header: header.machine.libc,
    "torch": lambda header: f"{header.software.torch} ({header.software.torch_build})",
    "BLAS": lambda header: header.software.blas,
    "oneDNN": lambda header: header.software.onednn,
    "cuDNN": lambda header: header.software.cudnn,
    "CPU capability": lambda header: header.software.cpu_capability,
    "Python": lambda header: header.software.python,
    "cnnbench": lambda header: header.software.cnnbench,
}


def _cores(header: RunHeader) -> str:
    machine = header.machine
    quota = "" if machine.cgroup_cpu_limit is None else f", quota {machine.cgroup_cpu_limit:g}"
    return f"{machine.cores_allowed} of {machine.cores_logical}{quota}"


def _accelerators(header: RunHeader) -> list[Device]:
    return [device for device in header.machine.devices if device.kind != "cpu"]


def _accelerator(device: Device) -> str:
    parts = [device.name]
    parts += [] if device.memory_bytes is None else [formats.size(device.memory_bytes)]
    parts += [] if device.power_limit_watts is None else [f"{device.power_limit_watts:.0f} W limit"]
    parts += [] if device.driver is None else [f"driver {device.driver}"]
    parts += ["MIG"] if device.mig else []
    parts += [] if device.ecc is None else [f"ECC {'on' if device.ecc else 'off'}"]
    return ", ".join(parts + ([] if device.usable else [f"not usable: {device.unusable_reason}"]))


def is_fact(name: str, header: RunHeader, printed: str) -> bool:
    """Whether a machine may be said to be so; a device's name may be a shorter one of its own words."""
    expected = FACTS[name](header)
    text = formats.UNKNOWN if expected in (None, "", ()) else str(expected)
    shortened = name == "accelerators" and may_be_called(text, printed.replace("…,", "…"))
    numbers = [[each for each in formats.find_numbers(words) if not shortened] for words in (printed, text)]
    return is_same_text(printed, text) or (shortened and numbers[0] == numbers[1])


def _read_shared(title: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """What all machines share, from the title over their table: `All share: CPU ...; memory ...`."""
    rest = title.removeprefix("All share: ")
    for name, following in zip(names, [*names[1:], ""], strict=True):
        text, _, after = rest.partition(f"; {following} ") if following else (rest, "", "")
        yield name, text.removeprefix(f"{name} ")
        rest = f"{following} {after}"


def find_errors(table: Mapping[str, Any], view: PageView) -> Iterator[str]:
    """What the table says that the headers do not: side by side, or one machine below the other."""
    headers = [view.machines[name] for name in sorted(view.machines)]
    columns, (group,) = table["columns"], table["groups"]
    lines = [[cell["text"] for cell in line["cells"]] for line in group["lines"]]
    if columns[0]["key"] == "machine":
        facts = {column["key"]: [line[n] for line in lines] for n, column in enumerate(columns) if n}
        shared = _read_shared(group["title"], [name for name in FACTS if name not in facts])
        facts |= {name: [text] * len(headers) for name, text in shared}
        machines = [line[0] for line in lines]
    else:
        facts = {line[0]: line[1 : 1 + len(headers)] for line in lines}
        machines = [column["title"] for column in columns[1 : 1 + len(headers)]]
        marks = {line[0]: line[-1] for line in lines if len(line) > 1 + len(headers)}
        wrong = {name for name, mark in marks.items() if (mark == "differs") != (len(set(facts[name])) > 1)}
        yield from (f"{name} is marked {marks[name]!r}, the machines' texts say otherwise" for name in wrong)
    if list(map(to_page_text, machines)) != [to_page_text(header.machine.id) for header in headers]:
        yield f"the machines are {', '.join(machines)}, the records are of {', '.join(view.machines)}"
        return
    for name in FACTS:
        for header, printed in zip(headers, facts.get(name, [""] * len(headers)), strict=True):
            if not is_fact(name, header, to_page_text(printed)):
                yield f"{name} of {header.machine.id}: {printed!r} is not what the header of run {header.run_id} says"
