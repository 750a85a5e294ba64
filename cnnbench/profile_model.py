"""The words of a profile: where the time of one training step goes, as the profiling worker tells it to its parent.

A profile is no measurement: its times are taken under a profiler, which costs some itself. It is shown and forgotten; no
ledger holds one. All times are seconds a step, shares are of the whole step under the profiler, and add up to 1.
"""

from __future__ import annotations

from typing import Literal

from cnnbench.schema import Frozen, Job, Outcome

Group = Literal[
    "convolution",
    "matrix product",
    "pooling",
    "random numbers",
    "elementwise",
    "optimiser",
    "data and copies",
    "allocation",
    "bookkeeping",
    "compiled code",
    "other",
    "python and gaps",
    "device idle",
]
"""Kinds of work, the last two for the time in which no operator runs, of the host or of the device."""
StepPhase = Literal["draw", "forward", "backward", "optimiser", "between"]
"""Parts of a step; `between` is what stands in none of the others."""


class Part(Frozen):
    """A group or a phase."""

    name: str
    seconds: float
    share: float


class Operator(Frozen):
    """An operator (or a kernel of the device) with the time it took itself, without that of the operators it called."""

    name: str
    group: Group
    phase: StepPhase
    seconds: float
    share: float
    calls: float
    """In one step."""


class Breakdown(Frozen):
    """A step taken apart. `groups` and `phases` are complete and each sum to the step; `operators` begin with the longest."""

    view: Literal["host", "device"]
    """Whose time is told apart: the host's that runs (or queues) operators, or the device's that computes what was queued."""
    step_seconds: float
    """The mean, which is what parts add up to."""
    each_seconds: tuple[float, ...]
    """Of each step; on an accelerator, where steps are queued, the mean alone."""
    groups: tuple[Part, ...]
    phases: tuple[Part, ...]
    operators: tuple[Operator, ...]
    kernels: tuple[Operator, ...] = ()
    """Of an accelerator, by their own names."""
    device_idle_share: float | None = None
    """Share of the steps' time in which nothing ran on the device; None where the profiler does not see one."""


class Profile(Frozen):
    """One rung's profile."""

    plain_seconds: tuple[float, ...]
    """Seconds of a step without the profiler, half before it and half after: each step, on accelerators each block's mean."""
    profiled_steps: int
    breakdown: Breakdown
    tuned_rung: str | None = None
    """The one that ran, where the job left it open."""
    notes: tuple[str, ...] = ()


class ProfileRequest(Frozen):
    """What the profiling worker is asked for besides the job: where its answer goes, and its trace."""

    answer_path: str
    trace_path: str | None = None


class ProfileJob(Frozen):
    """One way to compute a job's step on one device."""

    name: str
    """`reference`, `reference nhwc compiled`, or a tuned rung such as `native`."""
    job: Job

    @property
    def place(self) -> str:
        """`native on cpu`."""
        return f"{self.name} on {self.job.device}"


class ProfileResult(Frozen):
    """A rung and what came of it; `profile` is None where the outcome is not ok."""

    rung: ProfileJob
    outcome: Outcome
    profile: Profile | None
    trace: str | None
    environment: dict[str, str]
    """The variables set for the worker."""
