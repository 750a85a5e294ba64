"""The machines side by side: what a result depends on, and where they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnnbench import naming, units
from cnnbench.analysis.speedup import Row
from cnnbench.report.model import Cell, Column, Line, RowGroup, Table
from cnnbench.schema import Device, Machine, Software

MOST_COLUMNS = 6
"""Machines side by side; more of them stand below one another, a line each."""
Fact = tuple[str, Callable[[Machine, Software], str]]


def _text(value: object) -> str:
    return units.NOT_AVAILABLE if value in (None, "", ()) else str(value)


def _yes_or_no(value: bool | None) -> str:
    return units.NOT_AVAILABLE if value is None else "yes" if value else "no"


def _clock(hertz: float | None) -> str:
    return units.NOT_AVAILABLE if hertz is None else f"{hertz / 1e9:.2f} GHz"


def _cores(machine: Machine) -> str:
    quota = "" if machine.cgroup_cpu_limit is None else f", quota {machine.cgroup_cpu_limit:g}"
    return f"{machine.cores_allowed} of {machine.cores_logical}{quota}"


def _accelerators(machine: Machine) -> str:
    found = [_accelerator(device) for device in machine.devices if device.kind != "cpu"]
    return "; ".join(found) or "none"


def _accelerator(device: Device) -> str:
    parts = [naming.processor_name(device)]
    parts += [] if device.memory_bytes is None else [units.data_size(device.memory_bytes)]
    parts += [] if device.power_limit_watts is None else [f"{device.power_limit_watts:.0f} W limit"]
    parts += [] if device.driver is None else [f"driver {device.driver}"]
    parts += ["MIG"] if device.mig else []
    parts += [] if device.ecc is None else [f"ECC {'on' if device.ecc else 'off'}"]
    parts += [] if device.usable else [f"not usable: {device.unusable_reason}"]
    return ", ".join(parts)


FACTS: tuple[Fact, ...] = (
    ("CPU", lambda m, s: m.cpu_name),
    ("cores allowed", lambda m, s: _cores(m)),
    ("largest clock", lambda m, s: _clock(m.cpu_max_clock_hertz)),
    ("governor", lambda m, s: _text(m.governor)),
    ("turbo", lambda m, s: _yes_or_no(m.turbo)),
    ("hypervisor", lambda m, s: m.hypervisor or "none"),
    ("memory", lambda m, s: units.data_size(m.memory_bytes)),
    ("memory limit", lambda m, s: units.data_size(m.memory_limit_bytes)),
    ("accelerators", lambda m, s: _accelerators(m)),
    ("system", lambda m, s: f"{m.os}, kernel {m.kernel}"),
    ("C library", lambda m, s: _text(m.libc)),
    ("torch", lambda m, s: f"{s.torch} ({s.torch_build})"),
    ("BLAS", lambda m, s: _text(s.blas)),
    ("oneDNN", lambda m, s: _text(s.onednn)),
    ("cuDNN", lambda m, s: _text(s.cudnn)),
    ("CPU capability", lambda m, s: _text(s.cpu_capability)),
    ("Python", lambda m, s: s.python),
    ("cnnbench", lambda m, s: s.cnnbench),
)


def table(rows: Sequence[Row]) -> Table | None:
    """A column a machine with its software, a line a fact, `differs` where they are not all alike; None without rows.

    Of several runs on one machine the newest speaks. More than six machines stand a line each.
    """
    newest: dict[str, Row] = {}
    for row in sorted(rows, key=lambda each: (each.created_at, each.run_id)):
        newest[row.machine.id] = row
    seen = [newest[name] for name in sorted(newest)]
    if not seen:
        return None
    if len(seen) > MOST_COLUMNS:
        return _one_below_the_other(seen)
    columns = [Column("fact", "fact", "", 1, "left")]
    columns += [Column(f"machine_{n}", row.machine.id, "", 1, "left") for n, row in enumerate(seen)]
    columns += [Column("differs", "", "", 1, "left")] if len(seen) > 1 else []
    lines = []
    for name, fact in FACTS:
        texts = [fact(row.machine, row.software) for row in seen]
        differs = len(set(texts)) > 1
        cells = [Cell(name, (), {"fact": name})]
        cells += [Cell(text, (), {f"machine_{n}": text}) for n, text in enumerate(texts)]
        cells += [Cell("differs" if differs else "", (), {"differs": differs})] if len(seen) > 1 else []
        lines.append(Line(tuple(cells)))
    return Table("machines", "Machines", "", tuple(columns), (RowGroup("What the results depend on", tuple(lines)),))


def _one_below_the_other(seen: Sequence[Row]) -> Table:
    """Of many machines only the facts that differ, a line a machine; what they share is said in the group's title."""
    texts_by_fact = {name: [fact(row.machine, row.software) for row in seen] for name, fact in FACTS}
    differing = [name for name, texts in texts_by_fact.items() if len(set(texts)) > 1]
    shared = "; ".join(f"{name} {texts[0]}" for name, texts in texts_by_fact.items() if name not in differing)
    columns = [Column("machine", "machine", "", 1, "left")]
    columns += [Column(name, name, "", 2, "left") for name in differing]
    lines = [
        Line(
            (
                Cell(row.machine.id, (), {"machine_id": row.machine.id}),
                *(Cell(texts_by_fact[name][n]) for name in differing),
            )
        )
        for n, row in enumerate(seen)
    ]
    return Table("machines", "Machines", "", tuple(columns), (RowGroup(f"All share: {shared}", tuple(lines)),))
