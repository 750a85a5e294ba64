"""The machines side by side: what a result depends on, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from cnnbench.analysis.rows import Row
from cnnbench.machine_facts import Host, list_facts
from cnnbench.report.model import Table
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure, wording

MOST_COLUMNS = 6
"""Machines side by side; more of them stand below one another, a line each."""


class FactLine(NamedTuple):
    """A fact, and what it is on each machine."""

    name: str
    texts: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the machines are not all alike."""
        return len(set(self.texts)) > 1


def table(rows: Sequence[Row]) -> Table | None:
    """Build a column a machine with its software, a line a fact, `differs` where they are not all alike; None without rows.

    Of several runs on one machine the newest speaks. More than six machines stand a line each.
    """
    newest: dict[str, Row] = {}
    for row in sorted(rows, key=lambda each: (each.created_at, each.run_id)):
        newest[row.machine.id] = row
    seen = [newest[name] for name in sorted(newest)]
    if not seen:
        return None
    hosts = [Host(row.machine, row.software, row.device) for row in seen]
    facts = [FactLine(each.heading or each.words, tuple(map(each.describe, hosts))) for each in list_facts("table")]
    machines = [row.machine.id for row in seen]
    return _one_below_the_other(machines, facts) if len(seen) > MOST_COLUMNS else _side_by_side(machines, facts)


def _read_text(fact: FactLine, number: int) -> str:
    return fact.texts[number]


def _side_by_side(machines: Sequence[str], facts: Sequence[FactLine]) -> Table:
    columns: list[ColumnSpec[FactLine]] = [wording("fact", "fact", 1, "name")]
    columns += [wording(f"machine_{n}", name, 1, partial(_read_text, number=n)) for n, name in enumerate(machines)]
    if len(machines) > 1:
        columns.append(figure("differs", "", 1, "differs", lambda found: "differs" if found else "", align="left"))
    return build_table(
        TableSpec("machines", "Machines", tuple(columns), group=lambda fact: "What the results depend on"), facts
    )


def _one_below_the_other(machines: Sequence[str], facts: Sequence[FactLine]) -> Table:
    """Of many machines only the facts that differ, a line a machine; what they share is said in the group's title."""
    shared = "; ".join(f"{each.name} {each.texts[0]}" for each in facts if not each.differs)
    columns: list[ColumnSpec[int]] = [wording("machine", "machine", 1, machines.__getitem__, name="machine_id")]
    columns += [wording(each.name, each.name, 2, each.texts.__getitem__, name="") for each in facts if each.differs]
    spec = TableSpec[int]("machines", "Machines", tuple(columns))
    return build_table(spec, groups=[(f"All share: {shared}", range(len(machines)))])
