"""The machines side by side: what a result depends on, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from cnnbench.analysis.speedup import Row
from cnnbench.machine_facts import Host, list_facts
from cnnbench.report.model import Table
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, wording

MOST_COLUMNS = 6
"""Machines side by side; more of them stand below one another, a line each."""


def table(rows: Sequence[Row]) -> Table | None:
    """Build a column a machine with its software, a line a fact, `differs` where they are not all alike; None without rows.

    Of several runs on one machine the newest speaks. More than six machines stand a line each, with the facts that differ
    alone: what they share is said in the group's title.
    """
    newest = {row.machine.id: row for row in sorted(rows, key=lambda each: (each.created_at, each.run_id))}
    names = sorted(newest)
    if not names:
        return None
    hosts = [Host(newest[name].machine, newest[name].software, newest[name].device) for name in names]
    facts = [(each.heading or each.words, *map(each.describe, hosts)) for each in list_facts("table")]
    if len(names) > MOST_COLUMNS:
        shared = "; ".join(f"{fact[0]} {fact[1]}" for fact in facts if not _differs(fact))
        differing = [fact for fact in facts if _differs(fact)]
        columns: list[ColumnSpec[Any]] = [wording("machine", "machine", 1, itemgetter(0), name="machine_id")]
        columns += [wording(fact[0], fact[0], 2, itemgetter(n + 1), name="") for n, fact in enumerate(differing)]
        lines = [(name, *(fact[n + 1] for fact in differing)) for n, name in enumerate(names)]
        return build_table(TableSpec("machines", "Machines", tuple(columns)), groups=[(f"All share: {shared}", lines)])
    columns = [wording("fact", "fact", 1, itemgetter(0))]
    columns += [wording(f"machine_{n}", name, 1, itemgetter(n + 1)) for n, name in enumerate(names)]
    if len(names) > 1:
        columns.append(wording("differs", "", 1, _differs, lambda found: "differs" if found else ""))
    return build_table(
        TableSpec("machines", "Machines", tuple(columns)), groups=[("What the results depend on", facts)]
    )


def _differs(fact: tuple[str, ...]) -> bool:
    """Whether the fact, behind its name, is not the same on all machines."""
    return len(set(fact[1:])) > 1
