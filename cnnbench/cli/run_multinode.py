"""A run on several machines: the first of them runs the plan and writes the ledger, the others take part in its jobs of ranks.

Every machine is given the same suites, options and seed, so all make the same plan and meet job by job. Two that plan different
jobs never meet: each job's meeting has a name of its own, and who waits in vain gets a typed timeout. After one that did not come
about two machines may be a job apart for good, so each of them starts no further job on several.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console

from cnnbench.cli.options import OptionValues
from cnnbench.errors import ExitCode, UsageError
from cnnbench.naming import name_plan
from cnnbench.report.escaping import plain
from cnnbench.runner.launch import LaunchOptions, WorkerLimits, launch
from cnnbench.runner.run import PendingJob, list_devices, list_pending_jobs, make_rendezvous
from cnnbench.schema import Rendezvous, RunHeader


def find_rendezvous(options: OptionValues) -> Rendezvous | None:
    """Where the machines meet; None of one alone. Raises UsageError for options that do not make a meeting."""

    nodes, rank, endpoint = options["nodes"], options["node_rank"], options["rdzv"]
    if nodes == 1:
        if rank or endpoint:
            raise UsageError("--node-rank and --rdzv are for several machines; say how many with --nodes")
        return None
    if endpoint is None:
        raise UsageError(f"--nodes {nodes} needs --rdzv HOST:PORT, where the machines meet: a free port of machine 0")
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--rdzv {endpoint}: write HOST:PORT with a port from 1 to 65535, such as 10.0.0.1:29400")
    if rank >= nodes:
        raise UsageError(f"--node-rank {rank}: of {nodes} machines the ranks are 0 to {nodes - 1}")
    if options["copies"]:
        raise UsageError(f"--copies {options['copies']} are one machine's; leave --nodes out")
    if options["resume"]:
        raise UsageError("--resume cannot go on with a run of several machines: the others do not know what is left")
    return Rendezvous(endpoint=endpoint, node_rank=rank, seconds=options["rdzv_timeout"])


def run_secondary_node(
    header: RunHeader, data_dir: Path | None, rendezvous: Rendezvous, options: OptionValues, console: Console
) -> ExitCode:
    """Do this machine's part of every job that is on several, until a meeting fails; nothing is recorded here, for machine 0
    records it all.
    """

    todo = list(jobs_after_local(list_pending_jobs(header, ())))
    name, failed, timeout = name_plan(header.plan), 0, options["timeout"]
    devices = {device.id: device for device in header.machine.devices}
    where = f"machine {rendezvous.node_rank} of {options['nodes']}, {len(todo)} jobs; machine 0 records them"
    console.print(where)
    for number, (item, alone) in enumerate(todo, start=1):
        sitting = alone * max(rendezvous.seconds, math.ceil(timeout or 0))
        patient = rendezvous.model_copy(update={"seconds": rendezvous.seconds + sitting})
        limits = WorkerLimits(
            timeout_seconds=None if timeout is None else timeout + sitting,
            hang_seconds=WorkerLimits.hang_seconds + patient.seconds,
        )
        here = LaunchOptions(
            data_dir=data_dir,
            device=devices.get(item.job.device),
            devices=list_devices(item.job, header),
            rendezvous=make_rendezvous(item, patient),
            energy=options["energy"],
            limits=limits,
            progress=not options["no_progress"],
        )
        ended = launch(item.job, here)
        outcome = ended.outcome
        failed += outcome.status != "ok"
        said = "took part" if outcome.status == "ok" else f"{outcome.status.upper()}: {plain(outcome.message or '')}"
        console.print(f"[{number}/{len(todo)}] {name(item.job)}: {said}")
        if not ended.met:
            left = f"; {len(todo) - number} jobs are left undone" if number < len(todo) else ""
            console.print(f"out of step with machine 0; start all again{left}")
            break
    return ExitCode.JOB_FAILED if failed else ExitCode.DONE


def jobs_after_local(plan: Iterable[PendingJob]) -> Iterator[tuple[PendingJob, int]]:
    """The jobs on several machines, each with how many machine 0 does alone before it: the others sit through those."""
    alone = 0
    for item in plan:
        if item.job.nodes == 1:
            alone += 1
            continue
        yield item, alone
        alone = 0
