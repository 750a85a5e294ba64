"""Outliers among equal nodes: the same work on nodes of one kind, compared with the median node and the spread.

A kind is a CPU model with the models of its GPUs. What is compared is a processor of a node (its CPU, or each of its
GPUs) by the median of its processes; the seconds are those of the whole job if it has a fixed length, else those of a
step. Figures are taken as logarithms, because what goes wrong with a node multiplies its times.

The rule, declared before anything is looked at: an outlier is `ROBUST_SDS` robust standard deviations (1.4826 times the
median absolute deviation, which a few bad nodes do not move) from the median *and* at least `LEAST_SHARE` from it,
among at least `LEAST_NODES`. 3.5 is the cut of Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993); the
second condition keeps nodes that are alike to a thousandth from being called bad for two thousandths. How often it
names a good node in one row, and so in a table of several: docs/cluster.md, held by `tests/test_cluster_report.py`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from cnnbench.analysis.process_table import Process
from cnnbench.analysis.ratio import group_by
from cnnbench.schema import Device, Job, Machine

ROBUST_SDS = 3.5
LEAST_SHARE = 0.05
LEAST_NODES = 5
TO_SIGMA = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation: 1 / 0.6745."""


@dataclass(frozen=True)
class NodeProcessor:
    """One processor of one node on one piece of work."""

    node: str
    device: Device
    seconds: float
    processes: int
    run_id: str


@dataclass(frozen=True)
class Outlier:
    """A unit far from the others: its seconds over the median, and how many robust standard deviations that is."""

    processor: NodeProcessor
    ratio: float
    robust_sds: float | None
    """None where more than half of the nodes agree to the last digit."""


@dataclass(frozen=True)
class EqualNodes:
    """The same work on processors of one model in nodes of one kind."""

    job: Job
    machine: Machine
    """The fingerprint of one of the machines."""
    device: Device
    torch: str
    protocol: int
    processors: tuple[NodeProcessor, ...]
    """The units sorted by seconds, fastest first."""

    @cached_property
    def median_seconds(self) -> float:
        """Median over the units, of a whole job or of a step; see `Job.divided_whole`."""
        return statistics.median(unit.seconds for unit in self.processors)

    @property
    def nodes(self) -> int:
        """How many nodes have such a unit."""
        return len({unit.node for unit in self.processors})

    @cached_property
    def spread(self) -> float | None:
        """Robust standard deviation of the log seconds (0.01 is about 1 %).

        None for fewer than 3 units.
        """
        if len(self.processors) < 3:
            return None
        return TO_SIGMA * statistics.median(abs(self._log_ratio(unit)) for unit in self.processors)

    @property
    def outliers(self) -> tuple[Outlier, ...]:
        """Units that are outliers by the rule above; empty if there are too few units."""
        if len(self.processors) < LEAST_NODES or self.spread is None:
            return ()
        found = []
        for unit in self.processors:
            away, ratio = abs(self._log_ratio(unit)), unit.seconds / self.median_seconds
            if away > ROBUST_SDS * self.spread and abs(ratio - 1) >= LEAST_SHARE:
                found.append(Outlier(unit, ratio, away / self.spread if self.spread else None))
        return tuple(found)

    def _log_ratio(self, unit: NodeProcessor) -> float:
        return math.log(unit.seconds / self.median_seconds)


def describe_hardware(machine: Machine) -> tuple[str, ...]:
    """List the CPU's name, then each GPU's, repeated as often as it is present: what nodes of one kind share."""
    return (machine.cpu_name, *sorted(device.name for device in machine.devices if device.kind != "cpu"))


def group_equal_nodes(processes: Iterable[Process], node_of: Callable[[Process], str]) -> tuple[EqualNodes, ...]:
    """Group the processes by piece of work and kind of node, in an order that does not depend on the records'.

    `node_of` gives the node that a process ran on. If a node did the same work in several runs, the newest with a
    finished process counts. Records of two protocols or two builds of torch are not comparable.
    """
    # Processes of equal nodes share work, hardware, place and timing rule.
    alike = group_by(
        filter(_measure, processes),
        lambda each: (
            each.work_key,
            describe_hardware(each.machine),
            each.device.name,
            each.job.threads,
            each.job.allocator,
            each.protocol,
            each.software.torch_text,
        ),
    )
    found = []
    for members in alike.values():
        newest = {}
        for unit, own in group_by(members, lambda each: (node_of(each), each.job.device)).items():
            runs = group_by(own, lambda each: (each.run.created_at, each.run_id, each.machine.id))
            newest[unit] = runs[max(runs)]
        made = [
            NodeProcessor(node, own[0].device, statistics.median(map(_measure, own)), len(own), own[0].run_id)
            for (node, _), own in newest.items()
        ]
        made.sort(key=lambda unit: (unit.seconds, unit.node, unit.device.id))
        first = newest[min(newest)][0]
        torch = first.software.torch_text
        found.append(EqualNodes(first.job, first.machine, first.device, torch, first.protocol, tuple(made)))
    return tuple(sorted(found, key=_order))


def _measure(process: Process) -> float:
    """Read the seconds of the whole job if it has a fixed length, else of a step.

    It is 0 where it was not measured.
    """
    if process.metrics is None:
        return 0.0
    return (process.metrics.job_seconds if process.job.divided_whole else process.metrics.step_seconds) or 0.0


def _order(each: EqualNodes) -> tuple[object, ...]:
    job = each.job
    place = (each.device.name, job.threads or 0, describe_hardware(each.machine), each.torch, each.protocol)
    return (job.work_key, each.median_seconds, *place)
