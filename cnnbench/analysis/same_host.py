"""Whether two runs were measured on one host.

A machine's id names a model: processor, cores, memory. Two hosts bought alike share it, and so do two virtual machines
of one kind on different hosts. The kernel's boot id is random, so equal ones are one boot, unless a running machine was
cloned: everything else known of the machine must be equal too. A host identity is made from the system's machine-id,
which images carry to every copy: different ones are different hosts, equal ones prove nothing. Runs of different boots
are therefore never known to be of one host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, Protocol, get_args

from cnnbench.schema import Machine

HostRelation = Literal["one run", "one boot", "unknown", "another boot", "another host", "another model"]
"""From the nearest to the farthest. `another boot`: perhaps another host of the same model. `unknown`: a run has no boot
id, so it may be the same boot.
"""
RELATION_WORDS: Mapping[HostRelation, str] = {
    "one run": "",
    "one boot": "",
    "unknown": "boot unknown, perhaps another host of the same model",
    "another boot": "another boot, perhaps another host of the same model",
    "another host": "another host of the same model",
    "another model": "",
}
"""What is printed beside two values that are compared; empty for one host, and for another machine, which is named by its id."""


class MeasuredPlace(Protocol):
    """What a row or a header knows of where it was measured."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def boot_id(self) -> str | None:
        """The boot in which the run began."""

    @property
    def host_id(self) -> str | None:
        """The identity of the host."""

    @property
    def machine(self) -> Machine:
        """The fingerprint; its id names the model."""


def relate_hosts(base: MeasuredPlace, new: MeasuredPlace) -> HostRelation:
    """Find out how the hosts of two runs are related."""
    if base.machine.id != new.machine.id:
        return "another model"
    if base.run_id == new.run_id:
        return "one run"
    if base.boot_id is not None and base.boot_id == new.boot_id and base.machine == new.machine:
        return "one boot"
    if None not in (base.host_id, new.host_id) and base.host_id != new.host_id:
        return "another host"
    # A kernel or a size of memory never changes while a machine runs.
    same = (base.machine.kernel, base.machine.memory_bytes) == (new.machine.kernel, new.machine.memory_bytes)
    return "unknown" if same and None in (base.boot_id, new.boot_id) else "another boot"


def relate_all(bases: Iterable[MeasuredPlace], new: MeasuredPlace) -> HostRelation:
    """Find out how the host of a run is related to the farthest of others; `one run` without others."""
    order = get_args(HostRelation)
    return max((relate_hosts(base, new) for base in bases), key=order.index, default="one run")


def is_one_host(relation: HostRelation) -> bool:
    """Tell whether both runs are known to be of one host."""
    return relation in ("one run", "one boot")


class Boot(NamedTuple):
    """A boot of a host, as far as a ledger tells it from others of the same model. Old ledgers have only kernel and memory."""

    machine_id: str
    boot_id: str | None
    host_id: str | None
    kernel: str
    memory_bytes: int

    @property
    def label(self) -> str:
        """A short name for cells: the beginnings of both ids, and what else is known of a boot without an id."""
        host = "host unknown" if self.host_id is None else f"host {self.host_id[:HOST_DIGITS]}"
        if self.boot_id is None:
            return f"boot unknown, {host}, kernel {self.kernel}, {self.memory_bytes:,} bytes"
        return f"boot {self.boot_id[:BOOT_DIGITS]}, {host}"


BOOT_DIGITS, HOST_DIGITS = 8, 4
"""Digits of ids that a label shows; the table of boots and the raw values have all."""


def identify_boot(run: MeasuredPlace) -> Boot:
    """Identify the boot in which something was measured."""
    return Boot(run.machine.id, run.boot_id, run.host_id, run.machine.kernel, run.machine.memory_bytes)


def find_mixed_models(runs: Iterable[MeasuredPlace]) -> frozenset[str]:
    """Find the machine ids under which there are several boots, so that rows must name theirs."""
    models = [boot.machine_id for boot in {identify_boot(run) for run in runs}]
    return frozenset(model for model in models if models.count(model) > 1)
