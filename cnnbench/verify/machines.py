"""Tables of machines against the headers of the ledgers: every fact, side by side or one machine below the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from cnnbench.schema import Device, RunHeader
from cnnbench.verify import number_parser
from cnnbench.verify.expectations import Expectations
from cnnbench.verify.number_parser import NumberKind
from cnnbench.verify.pages import PrintedRow, PrintedTable
from cnnbench.verify.raw_rows import is_same_text, may_be_called, to_page_text

FactCheck = Callable[[str, RunHeader], bool]
"""Whether a machine may be said to be so."""
SIDE_BY_SIDE, BELOW = "fact", "machine"
_SHARED = "All share: "


def _equals_field(field: Callable[[RunHeader], object]) -> FactCheck:
    """The field's own text; n/a where it is unknown."""
    return lambda said, header: is_same_text(said, "n/a" if field(header) in (None, "", ()) else str(field(header)))


def _reads_as(kind: NumberKind, value: float | None, reported: str) -> bool:
    if value is None or reported == "n/a":
        return value is None and reported == "n/a"
    try:
        return number_parser.parse_number(kind, reported).fits(value)
    except ValueError:
        return False


def _equals_measure(kind: NumberKind, field: Callable[[RunHeader], float | None]) -> FactCheck:
    """The field as a number with its unit."""
    return lambda said, header: _reads_as(kind, field(header), said)


def _turbo(header: RunHeader) -> str | None:
    turbo = header.machine.turbo
    return None if turbo is None else "yes" if turbo else "no"


def _cores(header: RunHeader) -> str:
    machine = header.machine
    quota = "" if machine.cgroup_cpu_limit is None else f", quota {machine.cgroup_cpu_limit:g}"
    return f"{machine.cores_allowed} of {machine.cores_logical}{quota}"


def _accelerators(reported: str, header: RunHeader) -> bool:
    devices = [device for device in header.machine.devices if device.kind != "cpu"]
    if not devices:
        return reported == "none"
    parts = re.fullmatch("; ".join(_accelerator(device) for device in devices), reported)
    if parts is None:
        return reported.endswith("…")  # cut where a page cuts
    texts = iter(parts.groups())
    return all(
        may_be_called(device.name, next(texts))
        and (device.memory_bytes is None or _reads_as("size", device.memory_bytes, next(texts)))
        and (device.power_limit_watts is None or _reads_as("watts", device.power_limit_watts, next(texts)))
        for device in devices
    )


def _accelerator(device: Device) -> str:
    """A pattern for how a device is described, with its name and each measure as a group."""
    parts = ["(.+?)"]
    parts += [] if device.memory_bytes is None else ["([^,;]+)"]
    parts += [] if device.power_limit_watts is None else ["([^,;]+) limit"]
    parts += [] if device.driver is None else [re.escape(to_page_text(f"driver {device.driver}"))]
    parts += ["MIG"] if device.mig else []
    parts += [] if device.ecc is None else [f"ECC {'on' if device.ecc else 'off'}"]
    parts += [] if device.usable else [re.escape(to_page_text(f"not usable: {device.unusable_reason}"))]
    return ", ".join(parts)


FACTS: dict[str, FactCheck] = {
    "CPU": _equals_field(lambda header: header.machine.cpu_name),
    "cores allowed": _equals_field(_cores),
    "largest clock": _equals_measure("clock", lambda header: header.machine.cpu_max_clock_hertz),
    "governor": _equals_field(lambda header: header.machine.governor),
    "turbo": _equals_field(_turbo),
    "hypervisor": _equals_field(lambda header: header.machine.hypervisor or "none"),
    "memory": _equals_measure("size", lambda header: header.machine.memory_bytes),
    "memory limit": _equals_measure("size", lambda header: header.machine.memory_limit_bytes),
    "accelerators": _accelerators,
    "system": _equals_field(lambda header: f"{header.machine.os}, kernel {header.machine.kernel}"),
    "C library": _equals_field(lambda header: header.machine.libc),
    "torch": _equals_field(lambda header: f"{header.software.torch} ({header.software.torch_build})"),
    "BLAS": _equals_field(lambda header: header.software.blas),
    "oneDNN": _equals_field(lambda header: header.software.onednn),
    "cuDNN": _equals_field(lambda header: header.software.cudnn),
    "CPU capability": _equals_field(lambda header: header.software.cpu_capability),
    "Python": _equals_field(lambda header: header.software.python),
    "cnnbench": _equals_field(lambda header: header.software.cnnbench),
}


def is_machines_table(headings: Sequence[str]) -> bool:
    """Whether a table with these headings is one of machines."""
    below = headings[:1] == [BELOW] and set(headings[1:]) <= set(FACTS)
    return headings[:1] == [SIDE_BY_SIDE] or below


def check_table(table: PrintedTable, view: Expectations) -> tuple[int, tuple[tuple[int, str], ...]]:
    """How many facts were held against the headers, and those that are not so, with their lines."""
    read = _check_side_by_side if table.headings[0] == SIDE_BY_SIDE else _check_below
    found = [(row.line, [*read(row, table.headings, view), *_find_key_errors(row)]) for row in table.rows]
    wrong = [(line, message) for line, messages in found for message in messages]
    if table.headings[0] == BELOW and table.rows:
        first = table.rows[0]
        wrong += [(first.line, message) for message in _find_shared_errors(first.group, table.headings, view)]
    return sum(len(row.cells) - 1 for row in table.rows), tuple(wrong)


def _find_key_errors(row: PrintedRow) -> Iterator[str]:
    for text, key in zip(row.cells, row.keys, strict=False):
        if key and key != text:
            yield f"{text!r} sorts by {key!r}"


def find_fact_errors(name: str, machine: str, reported: str, view: Expectations) -> Iterator[str]:
    """What is wrong with a machine said to be so."""
    header, fact = view.machines.get(machine), FACTS.get(name)
    if header is None:
        yield f"no ledger is of machine {machine!r}"
    elif fact is None:
        yield f"no rule to check the fact {name!r}"
    elif not fact(reported, header):
        yield f"{name} of {machine}: {reported!r} is not what the header of run {header.run_id} says"


def _check_side_by_side(row: PrintedRow, headings: Sequence[str], view: Expectations) -> Iterator[str]:
    name, reported = row.cells[0], dict(zip(headings[1:], row.cells[1:], strict=False))
    mark = next((reported.pop(empty) for empty in ("", "mark") if empty in reported), None)
    for machine, text in reported.items():
        yield from find_fact_errors(name, machine, text, view)
    if mark is not None and mark != ("differs" if len(set(reported.values())) > 1 else ""):
        yield f"{name}: marked {mark!r}, the machines' texts say otherwise"


def _check_below(row: PrintedRow, headings: Sequence[str], view: Expectations) -> Iterator[str]:
    for name, text in zip(headings[1:], row.cells[1:], strict=False):
        yield from find_fact_errors(name, row.cells[0], text, view)


def _find_shared_errors(title: str, headings: Sequence[str], view: Expectations) -> Iterator[str]:
    """`All share: CPU ...; memory ...`: each fact that has no column holds for every machine."""
    names = [name for name in FACTS if name not in headings]
    pattern = "; ".join(f"{re.escape(name)} (.*)" for name in names)
    found = re.fullmatch(re.escape(_SHARED) + pattern, title)
    if found is None:
        yield f"the title does not say what the machines share: {', '.join(names)}"
        return
    for name, text in zip(names, found.groups(), strict=True):
        for machine in view.machines:
            yield from find_fact_errors(name, machine, text, view)
