"""How many processes a job of several can have here, and on which devices: what is refused before anything runs.

A rank of a CPU job has cores of its own, of a GPU job a GPU of its own, of the same name as the others'. Such a job is planned
once, for the first of those GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence

from cnnbench.devices import backend
from cnnbench.schema import Device, Job, Machine

ALL = "all"


def find_same_devices(device: Device, devices: Sequence[Device]) -> tuple[Device, ...]:
    """The usable ones of the same kind and name, in order; a CPU is alone."""
    return tuple(
        each
        for each in devices
        if (each.kind, each.name) == (device.kind, device.name) and (each.usable or each is device)
    )


def count_capacity(device: Device, devices: Sequence[Device], machine: Machine) -> int:
    """The most processes of one job on one machine; 1 where only one can be, and 0 for a GPU that is not the first of its kind:
    jobs of several are planned for that.
    """
    if backend(device.id).exchange is None:
        return 1
    if device.kind == "cpu":
        return machine.cores_allowed
    same = find_same_devices(device, devices)
    return len(same) if same[0] is device else 0


def select_devices(job: Job, devices: Sequence[Device]) -> tuple[Device, ...]:
    """The devices of this machine that the processes of a job run on, the job's own first; of a CPU job none is named."""
    lead = next((device for device in devices if device.id == job.device), None)
    if lead is None or lead.kind == "cpu":
        return ()
    same = find_same_devices(lead, devices)
    return same[same.index(lead) :][: job.processes // job.nodes]


def resolve_copies(
    wanted: str, job: Job, capacity: int, machine: Machine, threads: int | None
) -> tuple[int, int | None]:
    """(copies, threads of each) for `--copies`: of `all` one on each GPU of the kind, on a CPU one on each group of cores.

    `threads` are those that were asked for; else a CPU's copy has a core, or its share of the cores where the number is given.
    """
    if job.device != "cpu":
        return (capacity if wanted == ALL else int(wanted)), job.threads
    if wanted == ALL:
        each = threads or 1
        return max(1, machine.cores_allowed // each), each
    return int(wanted), threads or max(1, machine.cores_allowed // int(wanted))


def find_capacity_error(job: Job, capacity: int, machine: Machine) -> str | None:
    """Why so many processes cannot be, or None: too few devices or cores, or a batch that cannot be dealt out evenly."""
    what = "ranks" if job.world > 1 else "copies"
    here = job.processes // job.nodes
    if job.processes % job.nodes:
        return f"{job.processes} {what} cannot be dealt out evenly over {job.nodes} nodes"
    cores = here * (job.threads or 1)
    if job.device == "cpu" and (here > capacity or cores > machine.cores_allowed):
        each = "" if not job.threads or job.threads == 1 else f" of {job.threads} threads"
        return f"{here} {what}{each} on cpu need {cores} cores, this process may use {machine.cores_allowed}"
    if here > capacity:
        there = "is" if capacity == 1 else "are"
        return f"{here} {what} on {job.device} need as many devices of one name, there {there} {capacity}"
    if job.batch_size % job.world:
        return f"batch_size {job.batch_size} cannot be dealt out evenly to {job.world} ranks"
    if job.full_epoch == 0:
        return (
            f"batch_size {job.batch_size} of {job.world} ranks together is more than the images of split {job.split!r}"
        )
    return None
