"""The messages of a paired measurement between the parent and an arm's worker, and the raw record of one block of two
arms.

A block is two fresh processes, base and head, alive together. Each job is built in both, and then they take turns: the
parent grants a few steps to one arm while the other sleeps in the kernel. Standard input carries the parent's messages
and a separate pipe the answers, one JSON object per line. All values are frozen, seconds have nanosecond resolution.

`PROTOCOL_VERSION` counts changes of the messages: an arm's code may be older than the parent's, and reports its version
before it is given any work.
  1: first published.
"""

from __future__ import annotations

import statistics
from itertools import chain
from typing import Literal

from pydantic import Field

from cnnbench.schema import Frozen, Job, Precision, Software, Status, Telemetry

PROTOCOL_VERSION = 1
Arm = Literal["base", "head"]
ARMS: tuple[Arm, Arm] = ("base", "head")
Schedule = Literal["turns", "sequential"]
PhaseName = Literal["screening", "confirming"]


class HandshakeRequest(Frozen):
    """The first line to a worker, without anything that an older version of cnnbench might not understand."""

    spoken: int = PROTOCOL_VERSION
    parent_pid: int
    answer_fd: int


class Handshake(Frozen):
    """The worker's first answer: which messages it understands, which package it is, and what it runs on."""

    spoken: int
    package: str
    """folder of the cnnbench it imported"""
    software: Software


class Setup(Frozen):
    """The work of a block, by the numbers of its jobs; `again` is the share of a batch that each step runs once more."""

    jobs: dict[int, Job]
    again: dict[int, float] = Field(default_factory=dict)
    data_dir: str | None = None
    device_uuid: str | None = None


class WorkerRequest(Frozen):
    """One request: build a job, take a turn of `steps` (the first is not timed), report the work done, or end."""

    do: Literal["build", "turn", "finish", "share", "end"]
    job: int = 0
    steps: int = 0
    share: float = 0.0
    """for `share`: how much longer a step is to take, as a fraction"""


class Turn(Frozen):
    """Seconds of each kept step (one value, their mean, if work is queued) and of the control loop after them."""

    step_seconds: tuple[float, ...]
    control_seconds: float
    injected_seconds: tuple[float, ...] | None = None
    """the part of each kept step that was injected on purpose; None if there is none, or work is queued"""


class Injection(Frozen):
    """The amount of extra work in each step, and the measured share by which it makes the step longer."""

    again: float
    measured: float


class WorkDone(Frozen):
    """What one arm did for one job, counted by its worker; `regression.blocks` compares two of these."""

    images: int
    batches: int
    order_digest: str
    """SHA-256 of the labels of every batch in the order drawn"""
    parameters: int
    flops: int
    optimizer_steps: int
    precision: Precision
    first_losses: tuple[float, ...] | None = None
    """dropout off, before the turns"""
    final_loss: float | None = None
    minor_faults: int = 0
    """page faults without I/O from the first turn to the last"""


class WorkerFailure(Frozen):
    """Why a worker cannot continue; `arm` is set by the parent, which also classifies signals that end a process."""

    status: Status | Literal["outdated"]
    message: str
    arm: Arm | None = None
    stderr_tail: str | None = None


class WorkerResponse(Frozen):
    """One line from a worker, with exactly one of these fields."""

    hello: Handshake | None = None
    ready: bool | None = None
    turn: Turn | None = None
    share: Injection | None = None
    work: WorkDone | None = None
    failed: WorkerFailure | None = None


class JobRun(Frozen):
    """One arm's share of one job in one block: `step_seconds[round][step]` of the kept steps, the control's by round."""

    step_seconds: tuple[tuple[float, ...], ...]
    control_seconds: tuple[float, ...]
    work: WorkDone
    injected_seconds: tuple[tuple[float, ...], ...] | None = None
    """like `step_seconds`, the part of each step that was injected; None if it was not timed"""

    @property
    def injected_share(self) -> float | None:
        """The median share by which the injected work made a step longer, in the very steps that were timed."""
        if self.injected_seconds is None:
            return None
        pairs = zip(chain(*self.step_seconds), chain(*self.injected_seconds), strict=True)
        return statistics.median(extra / (step - extra) for step, extra in pairs)

    @property
    def turn_seconds(self) -> list[float]:
        """The median step of each turn."""
        return list(map(statistics.median, self.step_seconds))


class Span(Frozen):
    """The machine's sensors at both ends of a stretch of time."""

    wall_seconds: float
    before: Telemetry
    after: Telemetry


class PairRecord(Frozen):
    """Two fresh processes and all they did, or how one of them failed. Jobs are identified by their number in the
    check's plan.

    `first` is the arm whose process was started first and uses the first of two equal folders, by a fair coin; `orders`
    has for each job one letter per round, b if base had the first turn and h if head had it.
    """

    kind: Literal["block"] = "block"
    number: int
    stage: PhaseName
    started_at: str
    wall_seconds: float
    first: Arm
    job_order: tuple[int, ...]
    orders: dict[int, str] = Field(default_factory=dict)
    base: dict[int, JobRun] = Field(default_factory=dict)
    head: dict[int, JobRun] = Field(default_factory=dict)
    spans: dict[str, Span] = Field(default_factory=dict)
    """by arm if they ran one after the other, else under `both`"""
    failure: WorkerFailure | None = None


def other_arm(arm: Arm) -> Arm:
    """Return the other arm."""
    return "head" if arm == "base" else "base"
