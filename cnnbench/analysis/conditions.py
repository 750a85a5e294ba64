"""What must be equal before the times of two runs are one sample: the machine, the software that matters, the timing rule.

Which facts those are is declared in `machine_facts`. cnnbench's own version and commit are not among them: they are what a check
of runs is to judge.
"""

from __future__ import annotations

from collections.abc import Mapping

from cnnbench.analysis.process_table import Process
from cnnbench.analysis.ratio import FieldDifference, FieldValue
from cnnbench.machine_facts import Host, list_facts

Conditions = Mapping[str, FieldValue]
"""Those of one row of one run, by name. None is unknown, or not there; it equals only itself."""


def read_conditions(process: Process) -> Conditions:
    """The conditions under which this process was measured."""
    host = Host(process.machine, process.software, process.device)
    facts = {fact.name: fact.read(host) for fact in list_facts("condition")}
    return {"machine_id": process.machine_id, "protocol": process.protocol, **facts}


def find_differences(base: Conditions, new: Conditions) -> tuple[FieldDifference, ...]:
    """Every field that is not equal, with both values."""
    pairs = ((name, base.get(name), new.get(name)) for name in dict.fromkeys((*base, *new)))
    return tuple(FieldDifference(name, its, ours) for name, its, ours in pairs if its != ours)
