"""The messages of a profile: where the time of one training step goes, as the profiling worker reports it to its
parent.

A profile does not count as a measurement: its times are taken under a profiler, which takes time itself. It is shown
and not stored in any ledger. All times are seconds per step; shares are of the whole step under the profiler and add up
to 1.
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
"""Kinds of work, the last two for the time in which no operator runs on the host or on the device."""
StepPhase = Literal["draw", "forward", "backward", "optimiser", "between"]
"""Parts of a step; `between` is what belongs to none of the others."""


class Part(Frozen):
    """A group or a phase."""

    name: str
    seconds: float
    share: float


class Operator(Frozen):
    """An operator (or a kernel of the device) with its own time, without that of the operators it called."""

    name: str
    group: Group
    phase: StepPhase
    seconds: float
    share: float
    calls: float
    """Calls per step."""


class Breakdown(Frozen):
    """A step broken down. `groups` and `phases` are complete and each sum to the step; `operators` are sorted, longest
    first.
    """

    view: Literal["host", "device"]
    """Whose time is broken down: the host's, which runs (or queues) operators, or the device's, which computes what was
    queued.
    """
    step_seconds: float
    """The mean, which the parts add up to."""
    each_seconds: tuple[float, ...]
    """The time of each step; on an accelerator, where steps are queued, the mean alone."""
    groups: tuple[Part, ...]
    phases: tuple[Part, ...]
    operators: tuple[Operator, ...]
    kernels: tuple[Operator, ...] = ()
    """The kernels of an accelerator, by their own names."""
    device_idle_share: float | None = None
    """Share of the steps' time in which nothing ran on the device; None if the profiler sees no device."""


class Profile(Frozen):
    """One rung's profile."""

    plain_seconds: tuple[float, ...]
    """Seconds of a step without the profiler, half before it and half after: each step, on accelerators each block's
    mean.
    """
    profiled_steps: int
    breakdown: Breakdown
    tuned_rung: str | None = None
    """The rung that ran, if the job left it open."""
    notes: tuple[str, ...] = ()


class ProfileRequest(Frozen):
    """What the profiling worker is asked for besides the job: the path of its answer, and of its trace."""

    answer_path: str
    trace_path: str | None = None


class ProfileJob(Frozen):
    """One way to compute a job's step on one device."""

    name: str
    """`reference`, `reference nhwc compiled`, or a tuned rung such as `native`."""
    job: Job

    @property
    def place(self) -> str:
        """The name with the device: `native on cpu`."""
        return f"{self.name} on {self.job.device}"


class ProfileResult(Frozen):
    """A rung and its result; `profile` is None if the outcome is not ok."""

    rung: ProfileJob
    outcome: Outcome
    profile: Profile | None
    trace: str | None
    environment: dict[str, str]
    """The variables set for the worker."""
