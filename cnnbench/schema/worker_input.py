"""What the runner writes to a worker."""

from __future__ import annotations

from cnnbench.schema.base import Frozen
from cnnbench.schema.job import Job
from cnnbench.schema.machine import Machine, Software

RENDEZVOUS_DONE = "rendezvous-done"
"""File beside the outcome: a launcher of several processes makes it when all machines are there, just before the ranks start."""


class Rendezvous(Frozen):
    """Where the launchers of one data-parallel job meet. One machine alone meets itself on a free port of its own."""

    endpoint: str
    """HOST:PORT of the first node"""
    node_rank: int = 0
    name: str = ""
    """of the job: launchers of two different jobs never meet"""
    seconds: int
    """how long to wait for the others"""


class WorkerInput(Frozen):
    """What the runner writes to a worker's standard input: the job and where to answer."""

    job: Job
    outcome_path: str
    progress_fd: int | None = None
    parent_pid: int
    spawn_monotonic_ns: int
    data_dir: str | None = None
    device_uuid: str | None = None
    device_uuids: tuple[str | None, ...] = ()
    """of several processes: each one's on this node"""
    device_ids: tuple[str, ...] = ()
    """the same devices as the machine calls them"""
    rendezvous: Rendezvous | None = None
    launcher_ns: int | None = None
    """of a rank: when its launcher began, by the same clock"""
    energy: bool = False
    memory_limit_bytes: int | None = None
    workload_file: str | None = None
    """`path:value` of a workload in a file of the user's"""
    tensorboard_dir: str | None = None
    """folder of this job's TensorBoard run; None writes none"""
    machine: Machine | None = None
    """only with tensorboard_dir, to be shown there"""
    software: Software | None = None
    """only with tensorboard_dir, to be shown there"""
