"""The words of the pipeline: what a job is, what a worker measured, what a ledger holds.

All values are frozen, in SI base units, with the unit in the name; unknown is None. Nothing derived is stored:
speed-up, FLOP/s, MFU and intervals are computed from these when they are read. A ledger (`results/<machine>/<run>.jsonl`)
is one `RunHeader` line followed by `Record` lines, each carrying the SHA-256 of the line before it.

Versions. `SCHEMA` counts changes of shape, each with an entry in `UPGRADES`; `PROTOCOL` counts changes of a timing rule,
and records of two protocols never share a row.
  schema 1: first published.
  schema 2: a job may be inference, compiled, have another pooling or activation, or run until a target accuracy; a trial
    may have a part before the timed steps that is timed too (pre-training); an outcome may be `missed`.
  schema 3: a job may be data-parallel (world, scaling, nodes) or run as concurrent copies; its trial then has `ranks`. A job may
    be one of the open division, by a recipe under the recipe clock, or on one of the tuned division's rungs.
  protocol 1: first published.
"""

from cnnbench.schema.base import Frozen
from cnnbench.schema.job import (
    AUTO,
    EVERY,
    MAX_IMAGES,
    SPLIT_IMAGES,
    Activation,
    DataKind,
    Execution,
    Job,
    Layout,
    Loader,
    Order,
    Pool,
    Precision,
    Scaling,
    Split,
    Task,
)
from cnnbench.schema.ledger import (
    PROTOCOL,
    RENAMED_SUITES,
    SCHEMA,
    UPGRADES,
    PublishedRow,
    Record,
    RunHeader,
    WorkloadFacts,
    current_suite_name,
    digest,
    upgrade,
)
from cnnbench.schema.machine import Device, DeviceKind, Machine, Software
from cnnbench.schema.trial import (
    PACKAGE_COUNTER,
    TENSORBOARD_NOTE,
    TUNED_ERROR,
    Canary,
    Communication,
    Energy,
    Evaluation,
    Memory,
    Outcome,
    Rank,
    Status,
    Telemetry,
    Trial,
)
from cnnbench.schema.worker_input import RENDEZVOUS_DONE, Rendezvous, WorkerInput

__all__ = [
    "AUTO",
    "EVERY",
    "MAX_IMAGES",
    "PACKAGE_COUNTER",
    "PROTOCOL",
    "RENAMED_SUITES",
    "RENDEZVOUS_DONE",
    "SCHEMA",
    "SPLIT_IMAGES",
    "TENSORBOARD_NOTE",
    "TUNED_ERROR",
    "UPGRADES",
    "Activation",
    "Canary",
    "Communication",
    "DataKind",
    "Device",
    "DeviceKind",
    "Energy",
    "Evaluation",
    "Execution",
    "Frozen",
    "Job",
    "Layout",
    "Loader",
    "Machine",
    "Memory",
    "Order",
    "Outcome",
    "Pool",
    "Precision",
    "PublishedRow",
    "Rank",
    "Record",
    "Rendezvous",
    "RunHeader",
    "Scaling",
    "Software",
    "Split",
    "Status",
    "Task",
    "Telemetry",
    "Trial",
    "WorkerInput",
    "WorkloadFacts",
    "current_suite_name",
    "digest",
    "upgrade",
]
