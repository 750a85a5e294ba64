"""Whether two runs were measured on one host.

A machine's id names a model: processor, cores, memory. Two hosts bought alike share it, and so do two virtual machines
of one kind on different hosts. The kernel's boot id is random, so equal ones are one boot, unless a running machine was
cloned: everything else known of the machine must be equal too. A host identity
is made from the system's machine-id, which images carry to every copy: different ones are different hosts, equal ones
prove nothing. Runs of different boots are therefore never known to be of one host.
"""

from __future__ import annotations

from typing import Literal, Protocol

from cnnbench.schema import Machine

HostRelation = Literal["one run", "one boot", "another boot", "another host", "another model", "unknown"]
"""`another boot`: perhaps another host of the same model. `unknown`: a run has no boot id, so it may be the same boot."""


class Measured(Protocol):
    """What a row of results knows of where it was measured."""

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


def relate_hosts(base: Measured, new: Measured) -> HostRelation:
    """Find out how the hosts of two runs are related."""
    if base.machine.id != new.machine.id:
        return "another model"
    if base.run_id == new.run_id:
        return "one run"
    if base.boot_id is not None and base.boot_id == new.boot_id and base.machine == new.machine:
        return "one boot"
    if None not in (base.host_id, new.host_id) and base.host_id != new.host_id:
        return "another host"
    return "unknown" if None in (base.boot_id, new.boot_id) else "another boot"


def is_one_host(relation: HostRelation) -> bool:
    """Tell whether both runs are known to be of one host."""
    return relation in ("one run", "one boot")
