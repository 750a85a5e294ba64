"""The machines side by side: what a result depends on, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence

from cnnbench.analysis.speedup import Row
from cnnbench.machine_facts import Host, list_facts
from cnnbench.report.model import Cell, Column, Line, RowGroup, Table

MOST_COLUMNS = 6
"""Machines side by side; more of them stand below one another, a line each."""


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
    lines, hosts = [], [Host(row.machine, row.software, row.device) for row in seen]
    for fact in list_facts("table"):
        name, texts = fact.heading or fact.words, [fact.describe(host) for host in hosts]
        differs = len(set(texts)) > 1
        cells = [Cell(name, (), {"fact": name})]
        cells += [Cell(text, (), {f"machine_{n}": text}) for n, text in enumerate(texts)]
        cells += [Cell("differs" if differs else "", (), {"differs": differs})] if len(seen) > 1 else []
        lines.append(Line(tuple(cells)))
    return Table("machines", "Machines", "", tuple(columns), (RowGroup("What the results depend on", tuple(lines)),))


def _one_below_the_other(seen: Sequence[Row]) -> Table:
    """Of many machines only the facts that differ, a line a machine; what they share is said in the group's title."""
    hosts = [Host(row.machine, row.software, row.device) for row in seen]
    texts_by_fact = {
        fact.heading or fact.words: [fact.describe(host) for host in hosts] for fact in list_facts("table")
    }
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
