"""One block: base and head alive together, taking turns, or one after the other. The arms and a coin go in; a block
comes out.

The parent grants a turn over a pipe and sleeps until it is over, so at any time at most one of the two works. On CPUs
both use the same cores, as each would alone. Everything random (which arm is started first and uses the first folder,
the order of the jobs, which arm has the first turn in each round) is drawn from the check's seed and the block's
number, so a record can be checked against its seed.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cnnbench.devices import telemetry
from cnnbench.paired_protocol import (
    ARMS,
    Arm,
    Handshake,
    Injection,
    JobRun,
    PairRecord,
    PhaseName,
    Schedule,
    Setup,
    Span,
    Turn,
    WorkerFailure,
    other_arm,
)
from cnnbench.runner.arm_process import ArmCommand, ArmError, ArmProcess
from cnnbench.schema import Job
from cnnbench.store import format_now

MakeArmCommand = Callable[[Arm, Arm], ArmCommand]
"""Makes the command of an arm's worker from (arm, the arm that uses the first folder)."""


@dataclass(frozen=True)
class PairDesign:
    """What is the same for every block of a check."""

    jobs: Mapping[Arm, Mapping[int, Job]]
    seed: int
    rounds: int
    steps_per_turn: int
    schedule: Schedule = "turns"
    data_dir: str | None = None
    device_uuid: str | None = None
    injected: Mapping[Arm, Mapping[int, float]] = field(default_factory=dict)

    def setup(self, arm: Arm) -> Setup:
        """Make the setup message of an arm's worker."""
        return Setup(
            jobs=dict(self.jobs[arm]),
            again=dict(self.injected.get(arm, {})),
            data_dir=self.data_dir,
            device_uuid=self.device_uuid,
        )


@dataclass(frozen=True)
class Coins:
    """Everything random about one block."""

    first: Arm
    job_order: tuple[int, ...]
    orders: dict[int, str]


def draw_coins(seed: int, number: int, jobs: Sequence[int], rounds: int) -> Coins:
    """Draw the coins of block `number`: fair, independent, and the same whenever they are drawn again."""
    source, order = random.Random(f"cnnbench block {seed} {number}"), sorted(jobs)
    first = ARMS[source.getrandbits(1)]
    source.shuffle(order)
    return Coins(first, tuple(order), {job: "".join(source.choices("bh", k=rounds)) for job in sorted(jobs)})


def measure_pair(
    design: PairDesign,
    start: MakeArmCommand,
    number: int,
    stage: PhaseName,
    jobs: Sequence[int],
    *,
    starting: Callable[[ArmCommand], ArmProcess] = ArmProcess,
) -> PairRecord:
    """Measure one block of these jobs.

    If an arm fails, the block is invalid and has the failure; both processes end. KeyboardInterrupt ends both processes
    and passes on.
    """
    coins = draw_coins(design.seed, number, jobs, design.rounds)
    started_at, began = format_now(), time.monotonic()
    runs: dict[Arm, dict[int, JobRun]] = {"base": {}, "head": {}}
    spans: dict[str, Span] = {}
    failure: WorkerFailure | None = None
    try:
        apart = (coins.first,), (other_arm(coins.first),)
        for arms in (ARMS,) if design.schedule == "turns" else apart:
            with _run_arms(coins.first, arms, start, starting) as (alive, _):
                before, ready = telemetry.sample(design.device_uuid), time.monotonic()
                _measure_turns(design, coins, alive, runs)
                wall = round(time.monotonic() - ready, 3)
                after = telemetry.sample(design.device_uuid)
                spans["both" if len(arms) > 1 else arms[0]] = Span(wall_seconds=wall, before=before, after=after)
    except ArmError as error:
        failure = error.failed
    return PairRecord(
        number=number,
        stage=stage,
        started_at=started_at,
        wall_seconds=round(time.monotonic() - began, 3),
        first=coins.first,
        job_order=coins.job_order,
        orders=coins.orders,
        base=runs["base"] if failure is None else {},
        head=runs["head"] if failure is None else {},
        spans=spans,
        failure=failure,
    )


def perform_handshakes(start: MakeArmCommand) -> dict[Arm, Handshake]:
    """Start both arms, read who they are, and end them.

    Raises ArmError if one cannot start or does not understand.
    """
    with _run_arms("base", ARMS, start) as (_, heard):
        return heard


def calibrate_injections(design: PairDesign, start: MakeArmCommand, slowdown: float) -> dict[int, Injection]:
    """Find, for each job, the extra work that makes its step longer by the share `slowdown`, once for all blocks.

    Raises ArmError if a worker cannot continue.
    """
    found = {}
    with _run_arms("head", ("head",), start) as (arms, _):
        arms["head"].send(design.setup("head"))
        for job in sorted(design.jobs["head"]):
            arms["head"].build(job)
            found[job] = arms["head"].calibrate_injection(slowdown)
    return found


@contextlib.contextmanager
def _run_arms(
    first: Arm,
    arms: Sequence[Arm],
    start: MakeArmCommand,
    starting: Callable[[ArmCommand], ArmProcess] = ArmProcess,
) -> Iterator[tuple[dict[Arm, ArmProcess], dict[Arm, Handshake]]]:
    """Run the processes of these arms, the arm `first` started first, and yield them with their identities.

    They import torch at the same time, untimed.
    """
    alive = {}
    ended = False
    try:
        for arm in (first, other_arm(first)):
            if arm in arms:
                alive[arm] = starting(start(arm, first))
        yield alive, {arm: process.receive_handshake() for arm, process in alive.items()}
        ended = True
    finally:
        for process in alive.values():
            (process.close if ended else process.kill)()


def _measure_turns(
    design: PairDesign, coins: Coins, arms: Mapping[Arm, ArmProcess], runs: Mapping[Arm, dict[int, JobRun]]
) -> None:
    """Let these arms, both or one alone, do all jobs.

    In each round the coin decides which arm is first.
    """
    for arm, process in arms.items():
        process.send(design.setup(arm))
    for job in coins.job_order:
        turns: dict[Arm, list[Turn]] = {"base": [], "head": []}
        for process in arms.values():
            process.build(job)
        for letter in coins.orders[job]:
            first: Arm = "base" if letter == "b" else "head"
            for arm in (first, other_arm(first)):
                if arm in arms:
                    turns[arm].append(arms[arm].turn(design.steps_per_turn))
        for arm, process in arms.items():
            runs[arm][job] = JobRun(
                step_seconds=tuple(turn.step_seconds for turn in turns[arm]),
                control_seconds=tuple(turn.control_seconds for turn in turns[arm]),
                work=process.finish(),
                injected_seconds=_join_injected(turns[arm]),
            )


def _join_injected(turns: Sequence[Turn]) -> tuple[tuple[float, ...], ...] | None:
    """Join the injected seconds of all turns; None if one did not time them."""
    timed = [turn.injected_seconds for turn in turns if turn.injected_seconds is not None]
    return tuple(timed) if timed and len(timed) == len(turns) else None
