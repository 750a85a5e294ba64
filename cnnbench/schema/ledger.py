"""The lines of a ledger, and how those of older schemas are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from cnnbench.schema.base import Frozen
from cnnbench.schema.job import Job
from cnnbench.schema.machine import DeviceKind, Machine, Software
from cnnbench.schema.trial import Outcome

RENAMED_SUITES: Mapping[str, str] = MappingProxyType({"gate": "regression"})
"""Shipped suites by the names they had: ledgers, checks, noise profiles and cluster runs made before still hold those."""

SCHEMA = 4
PROTOCOL = 1


class Record(Frozen):
    """One line of a ledger: one process, its job and its outcome."""

    kind: Literal["record"] = "record"
    schema_version: int = SCHEMA
    protocol: int = PROTOCOL
    run_id: str
    machine_id: str
    index: int
    """place in the run's plan"""
    attempt: int = 1
    """> 1 where a resumed run repeats an interrupted job"""
    started_at: str
    process_seconds: float
    """the worker's lifetime by the parent's clock"""
    parent_cpu_seconds: float | None = None
    """CPU the parent used meanwhile"""
    environment: dict[str, str] = Field(default_factory=dict)
    """variables the runner set for the worker"""
    job: Job
    outcome: Outcome
    prev: str | None = None
    """SHA-256 of the line before this one"""


class WorkloadFacts(Frozen):
    """A workload that is not cnnbench's own, for a reader who does not have it: its counts are those every figure rests on."""

    version: int
    title: str
    dataset: Literal["mnist", "random"] = "mnist"
    input_shape: tuple[int, ...]
    classes: int
    parameters: int
    flops_forward_per_image: int
    flops_training_per_image: int
    activations_per_image: int
    convolves: bool = True
    source: str
    """the file's name, or the package with its version"""
    sha256: str | None = None
    """of the file; None for a package"""


class RunHeader(Frozen):
    """First line of a ledger: the machine, the software and the whole plan."""

    kind: Literal["run"] = "run"
    schema_version: int = SCHEMA
    protocol: int = PROTOCOL
    run_id: str
    created_at: str
    boot_id: str | None = None
    """the kernel's random id of the boot in which the run began; None where there is none"""
    suites: dict[str, str]
    """suite name to SHA-256 of its file"""
    seed: int
    options: dict[str, str] = Field(default_factory=dict)
    """command-line choices that shaped the plan"""
    machine: Machine
    software: Software
    plan: tuple[Job, ...]
    workloads: dict[str, WorkloadFacts] = Field(default_factory=dict)
    """of the plan, those not cnnbench's own"""


class PublishedRow(Frozen):
    """A result published elsewhere, never mixed into local speed-ups."""

    kind: Literal["reference"] = "reference"
    schema_version: int = SCHEMA
    source: str
    year: int
    processor: str
    device_kind: DeviceKind
    printed_flops_per_second: float | None
    printed_flops_text: str | None
    job_seconds: float | None
    printed_speedup: float | None
    theoretical_note: str | None = None
    job_images: int | None = None
    """assumed: the source does not say what was timed"""
    job_flops: int | None = None
    note: str | None = None


def _keep_line(line: dict[str, Any]) -> dict[str, Any]:
    return line


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _keep_line, 2: _keep_line, 3: _keep_line}
"""`UPGRADES[n]` turns a line of schema n into one of schema n + 1."""


def current_suite_name(name: str) -> str:
    """Return the name that a shipped suite has today; any other name as it is."""
    return RENAMED_SUITES.get(name, name)


def upgrade(line: dict[str, Any]) -> dict[str, Any]:
    """The line in today's schema. Raises ValueError for a line of a later schema, of one no upgrade leads from, or broken."""
    version = line.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA:
        raise ValueError(f"schema {version!r} is newer than this cnnbench reads ({SCHEMA}); upgrade cnnbench")
    while version < SCHEMA:
        if version not in UPGRADES:
            raise ValueError(f"schema {version} is too old: no upgrade leads from it")
        try:
            line = UPGRADES[version](line)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"not a line of schema {version}: {type(error).__name__} {error}") from error
        version += 1
    return line


def digest(text: str) -> str:
    """SHA-256 of the text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
